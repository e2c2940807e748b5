//! `kubectl golive completion`, and the completion that kubectl asks for.
//!
//! kubectl completes a plugin by running `kubectl_complete-golive` with the words of the command line, the
//! last of which is being typed; it answers one candidate a line, with its description after a tab, and `:4`
//! at the end (no file names). Sources: kubernetes.io, "Extend kubectl with plugins"; cobra, "Shell
//! completion guide", ShellCompDirectiveNoFileComp.

use std::time::Duration;

use clap::{Arg, ArgAction, Command as Grammar, CommandFactory, Parser};

use super::connect::{self, Connection};
use super::explain;
use super::output::Output;
use kube::{ResourceExt, api::ListParams};

/// Longest time that the names of the cluster are waited for: somebody has pressed a key.
const PATIENCE: Duration = Duration::from_secs(3);

/// The program that kubectl runs to complete.
const FOR_KUBECTL: &str = "#!/bin/sh\n# kubectl completes `kubectl golive` with this program: save it as kubectl_complete-golive in the PATH.\nexec kubectl-golive __complete -- \"$@\"\n";

/// Candidates follow, and file names are no candidates.
const NO_FILES: &str = ":4\n";
/// The shell completes file names.
const FILES: &str = ":0\n";

/// Arguments of `completion`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
`kubectl` prints the program kubectl_complete-golive, with which kubectl's own completion (bash, zsh, fish,
PowerShell) completes `kubectl golive`, also the names of Activations in the cluster. The others print a
script that completes the program kubectl-golive in that shell.

Examples:
  kubectl golive completion kubectl | sudo tee /usr/local/bin/kubectl_complete-golive && sudo chmod +x /usr/local/bin/kubectl_complete-golive
  source <(kubectl golive completion bash)
  kubectl golive completion zsh > \"${fpath[1]}/_kubectl-golive\"
  kubectl golive completion fish > ~/.config/fish/completions/kubectl-golive.fish
  kubectl golive completion powershell | Out-String | Invoke-Expression")]
pub(super) struct Args {
    /// For whom.
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Shell {
    Kubectl,
    Bash,
    Zsh,
    Fish,
    Powershell,
}

/// The words to complete, the last of which is being typed.
#[derive(Debug, clap::Args)]
pub(super) struct CompleteArgs {
    /// The words.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

/// Prints a script.
pub(super) fn run(args: &Args, mut command: Grammar) -> Output {
    use clap_complete::{generate, shells};
    let mut script = Vec::new();
    let name = "kubectl-golive";
    match args.shell {
        Shell::Kubectl => return Output::text(FOR_KUBECTL.to_owned()),
        Shell::Bash => generate(shells::Bash, &mut command, name, &mut script),
        Shell::Zsh => generate(shells::Zsh, &mut command, name, &mut script),
        Shell::Fish => generate(shells::Fish, &mut command, name, &mut script),
        Shell::Powershell => generate(shells::PowerShell, &mut command, name, &mut script),
    }
    Output::text(String::from_utf8_lossy(&script).into_owned())
}

/// Prints the candidates. Nothing is said of what goes wrong: a person types.
pub(super) async fn complete(
    args: &CompleteArgs,
    mut command: Grammar,
) -> Result<Output, connect::Error> {
    command.build();
    let mut out = String::new();
    let end = match wanted(&command, &args.words) {
        Wanted::Files => FILES,
        Wanted::Words(words) => {
            for (word, about) in words {
                out.push_str(&format!("{word}\t{about}\n"));
            }
            NO_FILES
        }
        Wanted::Activations(partial) => {
            let names = tokio::time::timeout(PATIENCE, names(&args.words)).await;
            let names = names.ok().and_then(Result::ok).unwrap_or_default();
            for name in names.iter().filter(|name| name.starts_with(&partial)) {
                out.push_str(&format!("{name}\n"));
            }
            NO_FILES
        }
    };
    Ok(Output::text(out + end))
}

/// The connection flags alone.
#[derive(Debug, Parser)]
#[command(ignore_errors = true)]
struct Flags {
    #[command(flatten)]
    connection: Connection,
}

/// Names of the Activations in the namespace that the words say.
async fn names(words: &[String]) -> Result<Vec<String>, connect::Error> {
    let flags = Flags::command();
    let mut given = vec!["golive".to_owned()];
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let name = word.split('=').next().unwrap_or_default();
        let Some(_) = flag(&flags, name) else {
            continue;
        };
        given.push(word.clone());
        if name == word {
            given.extend(words.next().cloned());
        }
    }
    let Ok(flags) = Flags::try_parse_from(given) else {
        return Ok(Vec::new());
    };
    let connected = flags.connection.open().await?;
    // Names only: what else is in the objects does not matter.
    let list = connected.activations();
    let list = list.list_metadata(&ListParams::default()).await;
    let items = list.map(|list| list.items).unwrap_or_default();
    Ok(items.iter().map(ResourceExt::name_any).collect())
}

/// What can follow.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    /// One of these, with what it is.
    Words(Vec<(String, String)>),
    /// The name of an Activation that begins so.
    Activations(String),
    /// A file, or something that is not known.
    Files,
}

/// The flag of this name, if the command has it.
fn flag<'a>(command: &'a Grammar, word: &str) -> Option<&'a Arg> {
    command.get_arguments().find(|arg| {
        let long = arg.get_long().map(|long| format!("--{long}"));
        let short = arg.get_short().map(|short| format!("-{short}"));
        long.as_deref() == Some(word) || short.as_deref() == Some(word)
    })
}

fn takes_value(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Set | ArgAction::Append)
}

/// What can stand in the place of the last word. Pure.
fn wanted(root: &Grammar, words: &[String]) -> Wanted {
    let (partial, before) = match words.split_last() {
        Some((last, before)) => (last.as_str(), before),
        None => ("", words),
    };
    let mut command = root;
    let mut positional = 0;
    let mut open: Option<&Arg> = None;
    for word in before {
        if open.take().is_some() {
            continue;
        }
        if word.starts_with('-') {
            open = flag(command, word).filter(|arg| takes_value(arg));
        } else if let Some(sub) = command.find_subcommand(word) {
            command = sub;
        } else {
            positional += 1;
        }
    }
    if let Some(arg) = open {
        return values(arg, partial);
    }
    if partial.starts_with('-') {
        // The shell puts what is before the `=` in front of each candidate.
        return match partial.split_once('=') {
            Some((name, value)) => match flag(command, name).filter(|arg| takes_value(arg)) {
                Some(arg) => values(arg, value),
                None => Wanted::Words(Vec::new()),
            },
            None => flags(command, partial),
        };
    }
    if command.has_subcommands() {
        let subs = command.get_subcommands().filter(|sub| !sub.is_hide_set());
        return words_of(
            subs.map(|sub| (sub.get_name().to_owned(), about(sub.get_about()))),
            partial,
        );
    }
    match command.get_positionals().nth(positional) {
        Some(arg) => values(arg, partial),
        None => Wanted::Words(Vec::new()),
    }
}

fn about(text: Option<&clap::builder::StyledStr>) -> String {
    let text = text.map(ToString::to_string).unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}

fn flags(command: &Grammar, partial: &str) -> Wanted {
    let shown = command.get_arguments().filter(|arg| !arg.is_hide_set());
    let long =
        shown.filter_map(|arg| Some((format!("--{}", arg.get_long()?), about(arg.get_help()))));
    words_of(long, partial)
}

fn values(arg: &Arg, partial: &str) -> Wanted {
    let possible = arg.get_possible_values();
    if !possible.is_empty() {
        let names = possible
            .iter()
            .map(|value| (value.get_name().to_owned(), about(value.get_help())));
        return words_of(names, partial);
    }
    match arg.get_id().as_str() {
        "name" => Wanted::Activations(partial.to_owned()),
        "reason" if arg.is_positional() => {
            let reasons = explain::reasons().into_iter();
            words_of(reasons.map(|reason| (reason, String::new())), partial)
        }
        _ => Wanted::Files,
    }
}

fn words_of(all: impl Iterator<Item = (String, String)>, partial: &str) -> Wanted {
    Wanted::Words(all.filter(|(word, _)| word.starts_with(partial)).collect())
}

#[cfg(test)]
mod tests {
    use clap::builder::PossibleValuesParser;

    use super::*;

    fn command() -> Grammar {
        let name = || Arg::new("name");
        let from = Arg::new("from")
            .long("from")
            .value_parser(PossibleValuesParser::new(["Deploy", "SmokeTest"]));
        let file = Arg::new("file").long("file");
        let yes = Arg::new("yes").long("yes").action(ArgAction::SetTrue);
        let retry = Grammar::new("retry").about("Again.");
        let retry = retry.args([name(), from, file, yes]);
        let explain = Grammar::new("explain").arg(Arg::new("reason"));
        let mut root = Grammar::new("golive").subcommands([retry, explain]);
        root.build();
        root
    }

    fn of(line: &str) -> Wanted {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        wanted(&command(), &words)
    }

    fn words(found: Wanted) -> Vec<String> {
        match found {
            Wanted::Words(words) => words.into_iter().map(|(word, _)| word).collect(),
            other => vec![format!("{other:?}")],
        }
    }

    #[test]
    fn commands_flags_values_and_names_are_completed_where_they_belong() {
        assert_eq!(words(of("re")), ["retry"]);
        assert_eq!(of("retry sh"), Wanted::Activations("sh".to_owned()));
        assert_eq!(of("retry --yes sh"), Wanted::Activations("sh".to_owned()));
        assert_eq!(words(of("retry shop --fr")), ["--from"]);
        assert_eq!(words(of("retry shop --from D")), ["Deploy"]);
        assert_eq!(words(of("retry shop --from=D")), ["Deploy"]);
        assert_eq!(of("retry --file=x"), Wanted::Files);
        assert_eq!(words(of("retry --yes=x")), [""; 0]);
        assert_eq!(of("retry --file x"), Wanted::Files);
        assert_eq!(words(of("retry shop more")), [""; 0]);
        assert_eq!(words(of("explain NotHeal")), ["NotHealthy"]);
    }
}
