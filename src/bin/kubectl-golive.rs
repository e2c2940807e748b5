//! The kubectl plugin `kubectl golive`.

use std::process::ExitCode;

fn main() -> ExitCode {
    golive::cli::main()
}
