//! The page as a script. Pure.

use std::collections::BTreeSet;

/// A part of the page.
#[derive(Debug, PartialEq, Eq)]
pub enum Part {
    /// Lines that stay as they are.
    Prose(String),
    /// A command that is not shown: the line, and the command in it.
    Hidden(String, String),
    /// A picture: the line, the file, and the command.
    Picture(String, String, String),
    /// A command, and what it printed.
    Command {
        /// Its lines.
        command: String,
        /// What it printed.
        output: String,
    },
}

const BLOCK: &str = "```console";

/// The parts of a page.
pub fn parse(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut lines = text.lines().peekable();
    let mut within = false;
    while let Some(line) = lines.next() {
        if within && line.starts_with("$ ") {
            let mut command = line[2..].to_owned();
            while let Some(more) = lines.next_if(|line| line.starts_with("> ")) {
                command.push('\n');
                command.push_str(&more[2..]);
            }
            let mut output = String::new();
            while let Some(said) =
                lines.next_if(|line| !line.starts_with("$ ") && !line.starts_with("```"))
            {
                output.push_str(said);
                output.push('\n');
            }
            parts.push(Part::Command { command, output });
            continue;
        }
        if line.starts_with("```") {
            within = line == BLOCK;
        }
        let inside = |begin: &str| line.strip_prefix(begin)?.strip_suffix(" -->");
        let picture = inside("<!-- picture: ").and_then(|rest| rest.split_once(": "));
        parts.push(match (inside("<!-- run: "), picture) {
            (Some(command), _) => Part::Hidden(line.to_owned(), command.to_owned()),
            (None, Some((file, command))) => {
                Part::Picture(line.to_owned(), file.to_owned(), command.to_owned())
            }
            (None, None) => Part::Prose(line.to_owned()),
        });
    }
    parts
}

/// The page again.
pub fn write(parts: &[Part]) -> String {
    let mut text = String::new();
    for part in parts {
        match part {
            Part::Prose(line) | Part::Hidden(line, _) | Part::Picture(line, ..) => {
                text.push_str(line);
            }
            Part::Command { command, output } => {
                text.push_str("$ ");
                text.push_str(&command.replace('\n', "\n> "));
                let output = output.trim_end();
                if !output.is_empty() {
                    text.push('\n');
                    // Nothing of it ends the block, or is a command.
                    let lines = output.lines().map(|line| match line {
                        line if line.starts_with("```") || line.starts_with("$ ") => {
                            format!(" {line}")
                        }
                        line => line.trim_end().to_owned(),
                    });
                    text.push_str(&lines.collect::<Vec<_>>().join("\n"));
                }
            }
        }
        text.push('\n');
    }
    text
}

/// What stays from day to day of an output: its words, without numbers, ids and times, each once. Which
/// moments of a watch are seen depends on the machine.
pub fn shape(output: &str) -> BTreeSet<String> {
    let words = output.split(|c: char| c.is_whitespace() || "(),;".contains(c));
    let words = words.filter(|word| word.len() > 2 && !word.contains(|c: char| c.is_ascii_digit()));
    words.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# A day\n\n<!-- run: true -->\n```console\n$ cat > a <<'E'\n> b: 1\n> E\n$ ls\na  b\n```\n\n<!-- picture: ../images/a.svg: ls -l -->\n```sh\n$ not run\n```\n";

    #[test]
    fn a_page_is_read_and_written_as_it_was() {
        let parts = parse(PAGE);
        assert_eq!(write(&parts), PAGE);
        let commands: Vec<&str> = parts
            .iter()
            .filter_map(|part| match part {
                Part::Command { command, .. } => Some(command.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(commands, ["cat > a <<'E'\nb: 1\nE", "ls"]);
        assert!(parts.contains(&Part::Hidden(
            "<!-- run: true -->".to_owned(),
            "true".to_owned()
        )));
    }

    #[test]
    fn the_shape_of_an_output_has_no_times_and_ids() {
        let first = shape("Live since 3m12s  release 4 (d428d7a98e64c2)");
        assert_eq!(first, shape("Live since 41s  release 5 (57307a7cd95dfe)"));
        assert_ne!(first, shape("Down since 41s  release 5"));
    }
}
