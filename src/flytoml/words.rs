//! Splits a command line into words, as flyctl does.
//!
//! The rules (google/shlex) differ from a shell's in one point: within double quotes a backslash
//! escapes any character.

/// Why a command line cannot be split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// A quote is not closed.
    #[error("a quote is not closed")]
    OpenQuote,
    /// The last character is a backslash.
    #[error("a backslash at the end has nothing to escape")]
    TrailingBackslash,
}

/// Splits a command line into words. A `#` at the beginning of a word starts a comment.
pub fn split(line: &str) -> Result<Vec<String>, SplitError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t' | '\r' | '\n' => words.extend(word.take()),
            '#' if word.is_none() => {
                for skipped in characters.by_ref() {
                    if skipped == '\n' {
                        break;
                    }
                }
            }
            '\\' => {
                let next = characters.next().ok_or(SplitError::TrailingBackslash)?;
                word.get_or_insert_default().push(next);
            }
            '\'' => {
                let quoted = word.get_or_insert_default();
                loop {
                    match characters.next().ok_or(SplitError::OpenQuote)? {
                        '\'' => break,
                        other => quoted.push(other),
                    }
                }
            }
            '"' => {
                let quoted = word.get_or_insert_default();
                loop {
                    match characters.next().ok_or(SplitError::OpenQuote)? {
                        '"' => break,
                        '\\' => {
                            quoted.push(characters.next().ok_or(SplitError::TrailingBackslash)?);
                        }
                        other => quoted.push(other),
                    }
                }
            }
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn words_are_cut_as_flyctl_cuts_them() {
        for (line, words) in [
            ("", vec![]),
            ("  ", vec![]),
            ("serve", vec!["serve"]),
            (
                "  bin/rails  server\t-p 3000\n",
                vec!["bin/rails", "server", "-p", "3000"],
            ),
            ("sh -c 'a b; c \"d\"'", vec!["sh", "-c", "a b; c \"d\""]),
            (r#"echo "a \"b\" \n c""#, vec!["echo", r#"a "b" n c"#]),
            (r"a\ b c\\d", vec!["a b", r"c\d"]),
            ("a'b'\"c\"d ''", vec!["abcd", ""]),
            ("run # all of it\nnext", vec!["run", "next"]),
            ("a#b", vec!["a#b"]),
            (
                "exec $HOME/*.rb && true",
                vec!["exec", "$HOME/*.rb", "&&", "true"],
            ),
        ] {
            assert_eq!(split(line).unwrap(), words, "{line}");
        }
    }

    #[test]
    fn an_unfinished_line_is_an_error() {
        for (line, error) in [
            ("'a", SplitError::OpenQuote),
            ("a \"b", SplitError::OpenQuote),
            ("a\\", SplitError::TrailingBackslash),
            ("\"a\\", SplitError::TrailingBackslash),
        ] {
            assert_eq!(split(line), Err(error), "{line}");
        }
    }
}
