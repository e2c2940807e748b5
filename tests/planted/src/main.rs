//! Plants every bug of `bugs.toml`, or those whose names contain the argument: `planted [PART]`.

use std::{path::Path, process::ExitCode};

use planted::{Bug, Copy, Error, Outcome, list, run};

fn main() -> ExitCode {
    match all() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("planted: {error}");
            ExitCode::FAILURE
        }
    }
}

fn all() -> Result<bool, Error> {
    let root = Path::new(".");
    let part = std::env::args().nth(1).unwrap_or_default();
    let mut bugs = list(root)?;
    bugs.retain(|bug| bug.name.contains(&part));
    let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let copy = Copy::of(&root)?;
    let tell = |bug: &Bug, outcome| println!("{outcome:?}: {} ({})", bug.name, bug.caught_by);
    let outcomes = run(&copy, &bugs, tell)?;
    let caught = outcomes.iter().filter(|o| **o == Outcome::Caught).count();
    println!("{caught} of {} bugs are caught", outcomes.len());
    Ok(caught == outcomes.len())
}
