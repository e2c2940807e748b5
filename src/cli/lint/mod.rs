//! `kubectl golive lint`: checks manifests offline: the rules of the definitions with their CEL rules, the
//! fly.toml, and references among the given files.

mod check;
mod print;

use std::error::Error;
use std::path::PathBuf;

use super::manifest;
use super::output::Output;
use check::Level;

/// Exit code when there is an error in the files.
const HAS_ERRORS: u8 = 3;

/// Arguments of `lint`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Checked are Activations and ActivationApprovals: what the API server refuses, except rules about a change
of an object that exists; the fly.toml, inline or in a ConfigMap of the files; keys of Secrets and
ConfigMaps of the files; gates and Activations that an approval names; two Activations of one app. What is
named and not in the files is not checked. Needs no cluster.

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

/// Checks and prints.
pub(super) fn run(args: &Args) -> Result<Output, Box<dyn Error>> {
    let mut texts = Vec::new();
    for path in &args.files {
        texts.extend(manifest::read_all(path)?);
    }
    let found = check::all(&texts);
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
