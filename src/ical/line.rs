//! From bytes to unfolded lines (RFC 5545 section 3.1).

use std::borrow::Cow;

use super::rule::{Class, Complaints, Rule};

/// Longest line that a writer should write, without its end.
///
/// Unit: octets.
const MAX_OCTETS: usize = 75;

/// An unfolded line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// The number of its first part in the file, from 1 on.
    pub(super) number: u32,
    /// Its bytes, without folds and end.
    pub(super) text: Cow<'a, [u8]>,
}

/// Splits a file into unfolded lines.
#[derive(Debug)]
pub(super) struct Lines<'a> {
    rest: &'a [u8],
    number: u32,
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self {
            rest: text,
            number: 0,
        }
    }

    /// The number of the last line.
    pub(super) fn number(&self) -> u32 {
        self.number.max(1)
    }

    /// The next unfolded line, with complaints about its parts.
    pub(super) fn next(&mut self, complaints: &mut Complaints) -> Option<Line<'a>> {
        let first = self.part(complaints)?;
        let number = self.number;
        let mut text = Cow::Borrowed(first);
        while let [b' ' | b'\t', ..] = self.rest {
            let Some([_, more @ ..]) = self.part(complaints) else {
                break;
            };
            // A UTF-8 character never begins with such a byte: the fold has cut one.
            if more
                .first()
                .is_some_and(|byte| byte & 0b1100_0000 == 0b1000_0000)
            {
                complaints.add(Rule::FoldedCharacter, Class::Line, self.number);
            }
            text.to_mut().extend_from_slice(more);
        }
        Some(Line { number, text })
    }

    /// The next part: a line as it stands in the file.
    fn part(&mut self, complaints: &mut Complaints) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        self.number = self.number.saturating_add(1);
        let end = self.rest.iter().position(|byte| *byte == b'\n');
        let (part, rest) = match end {
            Some(end) => (&self.rest[..end], &self.rest[end + 1..]),
            None => (self.rest, &[][..]),
        };
        self.rest = rest;
        let part = match (part, end) {
            ([part @ .., b'\r'], Some(_)) => part,
            (part, Some(_)) => {
                complaints.add(Rule::BareLf, Class::Line, self.number);
                part
            }
            (part, None) => {
                complaints.add(Rule::NoLineEnd, Class::Line, self.number);
                part
            }
        };
        if part.contains(&b'\r') {
            complaints.add(Rule::BareCr, Class::Line, self.number);
        }
        if part.len() > MAX_OCTETS {
            complaints.add(Rule::LongLine, Class::Line, self.number);
        }
        Some(part)
    }
}
