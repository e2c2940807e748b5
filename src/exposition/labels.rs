//! The labels of a sample, and the quoted texts in them.

use std::borrow::Cow;

use super::fault::{Fault, MAX_LABELS};

/// One label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label<'a> {
    /// Its name.
    pub name: Cow<'a, str>,
    /// Its value, without escapes.
    pub value: Cow<'a, str>,
}

/// The labels of a sample, in the order of the page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Labels<'a> {
    /// What stands between the braces, after a quoted name of the metric.
    text: &'a str,
}

impl<'a> Labels<'a> {
    /// The value of a label; none if the sample does not have it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Cow<'a, str>> {
        let label = (*self).into_iter().find(|label| label.name == name)?;
        Some(label.value)
    }

    /// Whether each label of the selector has the value. As in Prometheus, an empty value also matches a
    /// sample without the label.
    #[must_use]
    pub fn match_all<N: AsRef<str>, V: AsRef<str>>(&self, selector: &[(N, V)]) -> bool {
        selector.iter().all(|(name, value)| {
            let found = self.get(name.as_ref());
            found.as_deref().unwrap_or_default() == value.as_ref()
        })
    }
}

impl<'a> IntoIterator for Labels<'a> {
    type Item = Label<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        Iter { rest: self.text }
    }
}

/// Labels one after the other. They were checked when the sample was read.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Label<'a>;

    fn next(&mut self) -> Option<Label<'a>> {
        match element(self.rest).ok()? {
            (Element::Label(name, value), rest) => {
                self.rest = rest;
                Some(Label {
                    name: name.text(),
                    value: value.text(),
                })
            }
            _ => None,
        }
    }
}

/// A text as it stands in the page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Raw<'a> {
    text: &'a str,
    escaped: bool,
}

impl<'a> Raw<'a> {
    /// A text without escapes.
    pub(super) const fn plain(text: &'a str) -> Self {
        let escaped = false;
        Self { text, escaped }
    }

    /// The text that is meant: `\\`, `\"` and `\n` stand for one character. Prometheus leaves any other
    /// backslash as it is.
    pub(super) fn text(self) -> Cow<'a, str> {
        if !self.escaped {
            return Cow::Borrowed(self.text);
        }
        let mut out = String::with_capacity(self.text.len());
        let mut chars = self.text.chars();
        while let Some(c) = chars.next() {
            if c != '\\' {
                out.push(c);
                continue;
            }
            match chars.next() {
                Some('n') => out.push('\n'),
                Some(c @ ('\\' | '"')) => out.push(c),
                Some(c) => out.extend(['\\', c]),
                None => out.push('\\'),
            }
        }
        Cow::Owned(out)
    }
}

/// What can stand between the braces of a sample.
enum Element<'a> {
    /// The name of the metric, quoted.
    Name(Raw<'a>),
    /// A label.
    Label(Raw<'a>, Raw<'a>),
    /// The closing brace, or the end of what was between the braces.
    End,
}

/// What stands between the braces, checked: the quoted name of the metric, if there is one, the labels,
/// and the rest of the line after the closing brace. `text` begins after the opening brace.
pub(super) fn braces<'a>(text: &'a str) -> Result<(Option<Raw<'a>>, Labels<'a>, &'a str), Fault> {
    let (mut name, mut begin, mut rest, mut count) = (None, text, text, 0);
    loop {
        let (found, after) = element(rest)?;
        match found {
            Element::Name(quoted) if count == 0 && name.is_none() => {
                name = Some(quoted);
                begin = after;
            }
            Element::Name(_) => return Err(Fault::Labels),
            Element::Label(..) if count == MAX_LABELS => return Err(Fault::TooManyLabels),
            Element::Label(..) => count += 1,
            Element::End => {
                let Some(line) = after.strip_prefix('}') else {
                    return Err(Fault::Labels);
                };
                let text = &begin[..begin.len() - after.len()];
                return Ok((name, Labels { text }, line));
            }
        }
        rest = after;
    }
}

/// The next element and what follows it, without the comma. At the end the closing brace is left.
fn element(text: &str) -> Result<(Element<'_>, &str), Fault> {
    let text = blanks(text);
    let bytes = text.as_bytes();
    let (name, rest) = match bytes.first() {
        None | Some(b'}') => return Ok((Element::End, text)),
        Some(b'"') => quoted(text)?,
        Some(_) => {
            let end = plain_name(bytes, false);
            if end == 0 {
                return Err(Fault::Labels);
            }
            (Raw::plain(&text[..end]), &text[end..])
        }
    };
    let rest = blanks(rest);
    let Some(value) = rest.strip_prefix('=') else {
        let is_quoted = bytes.first() == Some(&b'"');
        return match is_quoted {
            true => Ok((Element::Name(name), comma(rest)?)),
            false => Err(Fault::Labels),
        };
    };
    let (value, rest) = quoted(blanks(value))?;
    Ok((Element::Label(name, value), comma(rest)?))
}

/// What follows the comma after an element; at the end there need not be one.
fn comma(text: &str) -> Result<&str, Fault> {
    let text = blanks(text);
    match text.as_bytes().first() {
        Some(b',') => Ok(&text[1..]),
        None | Some(b'}') => Ok(text),
        Some(_) => Err(Fault::Labels),
    }
}

/// A text in quotes, and what follows it.
pub(super) fn quoted(text: &str) -> Result<(Raw<'_>, &str), Fault> {
    let bytes = text.as_bytes();
    if bytes.first() != Some(&b'"') {
        return Err(Fault::Labels);
    }
    let (mut at, mut escaped) = (1, false);
    loop {
        match bytes.get(at) {
            Some(b'"') => break,
            Some(b'\\') => {
                escaped = true;
                at += 2;
            }
            Some(_) => at += 1,
            None => return Err(Fault::Labels),
        }
    }
    // A quote and a backslash are characters of their own: the bounds are between characters.
    let inner = text.get(1..at).ok_or(Fault::Labels)?;
    let raw = Raw {
        text: inner,
        escaped,
    };
    Ok((raw, &text[at + 1..]))
}

/// Length of the name at the beginning: `[a-zA-Z_][a-zA-Z0-9_]*`, of a metric with `:`.
pub(super) fn plain_name(bytes: &[u8], of_metric: bool) -> usize {
    let fits =
        |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || (of_metric && *byte == b':');
    if bytes.first().is_none_or(u8::is_ascii_digit) {
        return 0;
    }
    bytes
        .iter()
        .position(|byte| !fits(byte))
        .unwrap_or(bytes.len())
}

/// What follows spaces and tabs.
pub(super) fn blanks(text: &str) -> &str {
    match text.as_bytes().first() {
        Some(b' ' | b'\t') => text.trim_start_matches([' ', '\t']),
        _ => text,
    }
}
