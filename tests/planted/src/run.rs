//! Plants the bugs one after the other and runs their tests.

use std::{collections::BTreeSet, fs, process::Command};

use crate::{Bug, Copy, Error};

/// What became of a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its test failed, as it must.
    Caught,
    /// Its test passed.
    Missed,
    /// The code with the bug does not compile: it shows nothing.
    NotCode,
}

/// Runs each bug's test with the bug in `copy`, and tells `tell` what became of it.
///
/// # Errors
/// When the tests do not pass without a bug, or a file or program cannot be used.
pub fn run(
    copy: &Copy,
    bugs: &[Bug],
    mut tell: impl FnMut(&Bug, Outcome),
) -> Result<Vec<Outcome>, Error> {
    let tests: BTreeSet<&str> = bugs.iter().map(|bug| bug.caught_by.as_str()).collect();
    let (passed, output) = test(copy, tests.iter().copied())?;
    let all = format!("test result: ok. {} passed", tests.len());
    if !passed || !output.contains(&all) {
        return Err(Error::Unsound(output));
    }
    let mut outcomes = Vec::with_capacity(bugs.len());
    for bug in bugs {
        let (clean, planted) = bug.plant_into(&copy.root)?;
        let path = copy.root.join(&bug.file);
        fs::write(&path, planted).map_err(Error::io("write", &path))?;
        let (passed, output) = test(copy, [bug.caught_by.as_str()])?;
        fs::write(&path, clean).map_err(Error::io("write", &path))?;
        let outcome = match (passed, output.contains("test result: FAILED")) {
            (true, _) => Outcome::Missed,
            (false, true) => Outcome::Caught,
            (false, false) => Outcome::NotCode,
        };
        tell(bug, outcome);
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

/// Whether these unit tests pass, and what they printed.
fn test<'a>(
    copy: &Copy,
    names: impl IntoIterator<Item = &'a str>,
) -> Result<(bool, String), Error> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // `cargo run` sets variables of this package, with which dependencies would be built anew.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    let output = command
        .current_dir(&copy.root)
        .env("CARGO_TARGET_DIR", &copy.target)
        .args(["test", "--locked", "-p", "golive", "--lib", "--", "--exact"])
        .args(names)
        .output()
        .map_err(Error::io("run cargo in", &copy.root))?;
    let text = [output.stdout, output.stderr].concat();
    Ok((
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    ))
}
