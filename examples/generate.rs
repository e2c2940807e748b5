//! `make generate`: writes the files that follow from the API types.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    match golive::process::generate::write(Path::new(env!("CARGO_MANIFEST_DIR"))) {
        Ok(written) => {
            for path in written {
                println!("{path}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("generate: {}", golive::causes::chain(&error));
            ExitCode::FAILURE
        }
    }
}
