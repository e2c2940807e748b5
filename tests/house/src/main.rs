//! Prints the measure of a crate's structure: `house [ROOT] [--arrows]`.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut root = PathBuf::from(".");
    let mut all_arrows = false;
    for argument in std::env::args_os().skip(1) {
        if argument == "--arrows" {
            all_arrows = true;
        } else {
            root = PathBuf::from(argument);
        }
    }
    match house::House::read(&root) {
        Ok(house) => {
            print!("{}", house::report::text(&house, all_arrows));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("house: {error}");
            ExitCode::FAILURE
        }
    }
}
