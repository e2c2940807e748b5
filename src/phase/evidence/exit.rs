//! Why a program ended, where its exit code or its command line shows that. Pure.

/// Why a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExitCause {
    /// Its command line is written for a shell, and there is none: what only a shell understands, and
    /// the program that got it as an argument.
    NoShell {
        /// Such as `&&` or `$PORT`.
        word: String,
        /// The first word of the command line.
        program: String,
    },
    /// There is no such program in the image (127).
    NotFound,
    /// The file is no program, or is not executable (126).
    NotExecutable,
    /// It read or wrote memory that it may not (139).
    Segfault,
}

/// Programs that read a command line of their own.
const SHELLS: [&str; 8] = [
    "sh", "bash", "ash", "dash", "zsh", "busybox", "eval", "perl",
];

/// Words that only a shell understands.
const OPERATORS: [&str; 10] = ["&&", "||", "|", ";", "&", ">", ">>", "<", "2>&1", "2>"];

/// The builtins of a shell that images have no program for.
const BUILTINS: [&str; 5] = ["cd", "export", "source", "exec", "set"];

/// Why a program with this command line ended with this code, if that shows it.
pub fn cause(code: i64, argv: &[String]) -> Option<ExitCause> {
    if code == 0 {
        return None;
    }
    let needs_shell = needs_shell(argv).map(|word| ExitCause::NoShell {
        word,
        program: name(argv.first().map_or("", String::as_str)),
    });
    needs_shell.or(match code {
        // The exit codes of a shell; Fly.io's init uses 127 too.
        126 => Some(ExitCause::NotExecutable),
        127 => Some(ExitCause::NotFound),
        139 => Some(ExitCause::Segfault),
        _ => None,
    })
}

/// What in a command line only a shell understands, unless a shell runs it.
fn needs_shell(argv: &[String]) -> Option<String> {
    let first = argv.first()?;
    if argv.iter().any(|word| SHELLS.contains(&last_part(word))) {
        return None;
    }
    if let Some((variable, _)) = first.split_once('=').filter(|(name, _)| is_name(name)) {
        return Some(format!("{variable}=…"));
    }
    if BUILTINS.contains(&first.as_str()) {
        return Some(first.clone());
    }
    argv.iter().skip(1).find_map(|word| {
        if OPERATORS.contains(&word.as_str()) {
            return Some(word.clone());
        }
        let (_, after) = word.split_once('$')?;
        let (open, after) = match after.strip_prefix('{') {
            Some(after) => ("${", after),
            None => ("$", after),
        };
        let end = after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let variable = after.get(..end.unwrap_or(after.len())).unwrap_or_default();
        let close = if open == "${" { "}" } else { "" };
        is_name(variable).then(|| format!("{open}{variable}{close}"))
    })
}

/// Whether this can be the name of an environment variable.
fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && word
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The name of a program for a message: without its folder, bounded.
fn name(path: &str) -> String {
    last_part(path).chars().take(40).collect()
}

impl ExitCause {
    /// What it is and what to do; `key` is where fly.toml has the command line.
    pub fn advice(&self, key: &str) -> String {
        match self {
            Self::NoShell { word, program } if *word == *program => format!(
                "Fly.io runs the command without a shell, and `{word}` is a part of one: write `{key} = \"sh -c '…'\"` in fly.toml"
            ),
            Self::NoShell { word, program } => format!(
                "Fly.io runs the command without a shell, so `{program}` gets `{word}` as it is written: write `{key} = \"sh -c '…'\"` in fly.toml"
            ),
            Self::NotFound => {
                format!("code 127 means that the image has no such program: correct `{key}` in fly.toml, or add the program to the image")
            }
            Self::NotExecutable => {
                format!("code 126 means that the file is not executable: `chmod +x` it in the image, or correct `{key}` in fly.toml")
            }
            Self::Segfault => {
                "code 139 means that it read or wrote memory that it may not: look for a native library built for another system".to_owned()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::flytoml::split;

    fn advice(code: i64, command: &str) -> Option<String> {
        cause(code, &split(command).unwrap()).map(|cause| cause.advice("release_command"))
    }

    #[test]
    fn what_only_a_shell_understands_is_named() {
        for (command, word) in [
            ("cabanas ical-token x && touch x", "&&"),
            ("rails db:migrate | tee out", "|"),
            ("migrate --port $PORT", "$PORT"),
            ("migrate --url=${DATABASE_URL}?ssl", "${DATABASE_URL}"),
            ("migrate > out", ">"),
            ("cd app", "cd"),
            ("RAILS_ENV=production rails db:migrate", "RAILS_ENV=…"),
        ] {
            let message = advice(2, command).unwrap();
            assert!(message.contains(&format!("`{word}`")), "{message}");
            assert!(
                message.contains("`release_command = \"sh -c '…'\"`"),
                "{message}"
            );
        }
        for plain in [
            "sh -c 'cabanas migrate && touch x'",
            "/bin/bash -lc 'echo $HOME'",
            "env X=1 sh -c 'a | b'",
            "cabanas migrate --price 5$ --each $1",
            "cabanas migrate",
        ] {
            assert_eq!(advice(2, plain), None, "{plain}");
        }
        assert_eq!(advice(0, "a && b"), None);
    }

    #[test]
    fn the_codes_of_a_missing_program_and_of_a_file_that_is_none_are_explained() {
        assert!(
            advice(127, "sh -c nothing")
                .unwrap()
                .contains("no such program")
        );
        assert!(advice(126, "./migrate").unwrap().contains("chmod +x"));
        assert!(advice(139, "./migrate").unwrap().contains("memory"));
        assert_eq!(advice(1, "./migrate"), None);
    }
}
