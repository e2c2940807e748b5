//! Prints the measure of a crate's structure: `house [ROOT] [--arrows]`.

use std::io::Write as _;
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
            let text = house::report::text(&house, all_arrows);
            // An error means that the reader, such as `head`, has seen enough.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("house: {error}");
            ExitCode::FAILURE
        }
    }
}
