//! `kubectl golive lint`: checks manifests offline: the rules of the definitions with their CEL rules, the
//! fly.toml, and references among the given files.

mod check;
mod metadata;
mod policy;
mod print;

use std::collections::BTreeSet;
use std::error::Error;
use std::path::{Path, PathBuf};

use super::manifest;
use super::output::Output;
use crate::clock;
use check::Level;

/// Exit code when there is an error in the files.
const HAS_ERRORS: u8 = 3;

/// Arguments of `lint`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Checked are Activations and ActivationApprovals: what the API server refuses, except rules about a change
of an object that exists; the fly.toml, inline or in a ConfigMap of the files; keys of Secrets and
ConfigMaps of the files; gates and Activations that an approval names; two Activations of one app; what
the policy golive-warnings warns of. What is named and not in the files is
not checked. Files with no Activation and no ActivationApproval are an error. Needs no cluster.

Exit codes: 0 no error, 1 a file cannot be read, 2 wrong usage, 3 there are errors (with --strict: or
warnings).

Examples:
  kubectl golive lint -f deploy/
  kustomize build . | kubectl golive lint -f - -o github
  kubectl golive lint -f deploy/ --strict -o sarif > golive.sarif")]
pub(super) struct Args {
    /// File or directory; `-` is standard input. Repeatable.
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,

    /// Warnings are errors.
    #[arg(long)]
    strict: bool,

    /// How to print.
    #[arg(short, long, value_enum, default_value_t = print::Format::Text)]
    output: print::Format,
}

/// Leaves out files that are named twice, such as by a directory and by themselves.
fn once(texts: &mut Vec<(String, String)>) {
    let mut seen = BTreeSet::new();
    texts.retain(|(name, _)| {
        let path = Path::new(name);
        seen.insert(path.canonicalize().unwrap_or_else(|_| path.to_owned()))
    });
}

/// Checks and prints.
pub(super) fn run(args: &Args) -> Result<Output, Box<dyn Error>> {
    let mut texts = Vec::new();
    for path in &args.files {
        texts.extend(manifest::read_all(path)?);
    }
    once(&mut texts);
    let found = check::all(&texts, clock::wall());
    let errors = found.iter();
    let mut errors = errors.filter(|one| match one.level {
        Level::Error => true,
        Level::Warning => args.strict,
        Level::Note => false,
    });
    let code = if errors.next().is_some() {
        HAS_ERRORS
    } else {
        0
    };
    Ok(Output {
        text: print::text(args.output, &found)?,
        code,
        ..Output::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_named_twice_is_read_once() {
        let root = env!("CARGO_MANIFEST_DIR");
        let names = [
            "Cargo.toml",
            "./Cargo.toml",
            "src/../Cargo.toml",
            "src/lib.rs",
        ];
        let paths = names.map(|name| (format!("{root}/{name}"), String::new()));
        let mut texts = Vec::from(paths);
        texts.push(("-".to_owned(), String::new()));
        once(&mut texts);
        assert_eq!(texts.len(), 3, "{texts:?}");
    }
}
