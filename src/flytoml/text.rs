//! The characters of a file: those that nobody sees, and files that are not UTF-8.

/// The byte order mark that some editors write at the beginning of a UTF-8 file.
const BOM: char = '\u{feff}';

/// The text without a byte order mark, which flyctl accepts too.
pub(super) fn without_bom(file: &str) -> &str {
    file.strip_prefix(BOM).unwrap_or(file)
}

/// What is wrong with a character that looks like another one or like nothing, and what to write
/// in its place; `None` for every other character.
pub(super) fn odd(character: char) -> Option<(&'static str, &'static str)> {
    Some(match character {
        '\u{201c}' | '\u{201d}' | '\u{201e}' | '\u{201f}' | '\u{ab}' | '\u{bb}' | '\u{2033}'
        | '\u{ff02}' => ("a typographic quote", "write a plain \""),
        '\u{2018}' | '\u{2019}' | '\u{201a}' | '\u{201b}' | '\u{2032}' | '\u{b4}' | '\u{60}'
        | '\u{ff07}' => ("a typographic quote", "write a plain ' or \""),
        '\u{2010}'..='\u{2015}' | '\u{2212}' => ("a typographic dash", "write a plain -"),
        '\u{ff1d}' => ("a wide equals sign", "write a plain ="),
        _ => return unseen(character),
    })
}

/// The same for characters that cannot be seen.
pub(super) fn unseen(character: char) -> Option<(&'static str, &'static str)> {
    Some(match character {
        '\u{a0}' | '\u{202f}' | '\u{2007}' => ("a no-break space", "write a plain space"),
        '\u{1680}'
        | '\u{2000}'..='\u{2006}'
        | '\u{2008}'..='\u{200a}'
        | '\u{205f}'
        | '\u{3000}' => ("a space that is no plain space", "write a plain space"),
        '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{180e}' => {
            ("a zero-width character", "delete it")
        }
        BOM => ("a byte order mark", "delete it"),
        '\u{ad}' => ("a soft hyphen", "delete it"),
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            ("a mark of the writing direction", "delete it")
        }
        '\u{2028}' | '\u{2029}' | '\u{85}' => ("a line separator", "write a plain line break"),
        '\0' => ("NUL; the file looks like UTF-16", "save it as UTF-8"),
        '\u{fffd}' => (
            "what remains of a byte that is not UTF-8",
            "save the file as UTF-8",
        ),
        _ => return None,
    })
}

/// A character as messages name it: `U+00A0 (a no-break space)`.
pub(super) fn named(character: char, what: &str) -> String {
    let code = u32::from(character);
    if unseen(character).is_some() {
        format!("U+{code:04X} ({what})")
    } else {
        format!("{character} (U+{code:04X}, {what})")
    }
}

/// The odd character that is most likely the cause of a syntax error at this byte: there or later
/// in the same line, else before it in the line.
pub(super) fn culprit(text: &str, at: usize) -> Option<(usize, char)> {
    let at = (0..=at.min(text.len()))
        .rev()
        .find(|at| text.is_char_boundary(*at))?;
    let start = text[..at].rfind('\n').map_or(0, |line| line + 1);
    let end = text[at..].find('\n').map_or(text.len(), |line| at + line);
    let found: Vec<(usize, char)> = text[start..end]
        .char_indices()
        .map(|(offset, character)| (start + offset, character))
        // A backtick is odd only where TOML cannot read it.
        .filter(|(place, character)| {
            odd(*character).is_some() && (*character != '`' || *place == at)
        })
        .collect();
    let behind = found.iter().find(|(place, _)| *place >= at);
    behind.or(found.first()).copied()
}

/// Why bytes are no text in UTF-8, and where: for people who see the file only in their editor.
/// `None`: they are.
pub fn not_utf8(bytes: &[u8]) -> Option<String> {
    let utf16 = matches!(bytes, [0xff, 0xfe, ..] | [0xfe, 0xff, ..])
        || bytes.iter().take(64).filter(|byte| **byte == 0).count() > 8;
    if utf16 {
        return Some("it is UTF-16, as `>` of Windows PowerShell writes it".to_owned());
    }
    let error = std::str::from_utf8(bytes).err()?;
    let at = error.valid_up_to();
    let line = bytes[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
    let byte = bytes.get(at).copied().unwrap_or_default();
    Some(format!(
        "byte 0x{byte:02x} in line {line} is not UTF-8, perhaps Latin-1"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_utf8_are_told_with_their_line() {
        for (bytes, said) in [
            (&b"a = 1\n"[..], None),
            (b"a = \"caba\xc3\xb1a\"", None),
            (b"\xef\xbb\xbfa = 1", None),
            (b"a = 1\n# caba\xf1a\n", Some("byte 0xf1 in line 2")),
            (b"\xff\xfea\0 \0=\0", Some("UTF-16")),
            (b"\xfe\xff\0a", Some("UTF-16")),
            (b"a\0p\0p\0 \0=\0 \0\"\0x\0\"\0\n\0", Some("UTF-16")),
        ] {
            let found = not_utf8(bytes);
            match said {
                None => assert_eq!(found, None),
                Some(said) => assert!(
                    found.as_ref().is_some_and(|f| f.contains(said)),
                    "{found:?}"
                ),
            }
        }
    }

    #[test]
    fn the_culprit_is_looked_for_in_the_line_of_the_error() {
        let text = "# “quoted”\na = \u{201c}b\u{201d}\n\u{a0}c = 1\n";
        assert_eq!(culprit(text, 0).map(|(_, c)| c), Some('\u{201c}'));
        let at = text.find("a =").unwrap_or_default();
        assert_eq!(culprit(text, at), Some((at + 4, '\u{201c}')));
        let end = text.find("c = 1").unwrap_or_default();
        assert_eq!(culprit(text, end).map(|(_, c)| c), Some('\u{a0}'));
        assert_eq!(culprit("a = b", 4), None);
    }
}
