//! A line as a property: name, parameters, value (RFC 5545 section 3.1).

/// A property as it stands in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Property<'a> {
    /// Its name.
    pub(super) name: &'a [u8],
    /// Its parameters, from the first `;` on; empty without any.
    parameters: &'a [u8],
    /// Its value, with escapes.
    pub(super) value: &'a [u8],
}

impl<'a> Property<'a> {
    /// Splits a line; none if it is no property.
    pub(super) fn of(line: &'a [u8]) -> Option<Self> {
        let end = line.iter().position(|byte| !is_name(*byte))?;
        let (name, rest) = line.split_at(end);
        if name.is_empty() {
            return None;
        }
        let colon = match rest.first() {
            Some(b':') => 0,
            Some(b';') => {
                let mut quoted = false;
                rest.iter().position(|byte| {
                    quoted ^= *byte == b'"';
                    *byte == b':' && !quoted
                })?
            }
            _ => return None,
        };
        Some(Self {
            name,
            parameters: &rest[..colon],
            value: &rest[colon + 1..],
        })
    }

    /// The value of a parameter, without quotes.
    pub(super) fn parameter(&self, name: &[u8]) -> Option<&'a [u8]> {
        let mut rest = self.parameters;
        while let [b';', parameter @ ..] = rest {
            let mut quoted = false;
            let end = parameter.iter().position(|byte| {
                quoted ^= *byte == b'"';
                *byte == b';' && !quoted
            });
            let (this, after) = parameter.split_at(end.unwrap_or(parameter.len()));
            rest = after;
            let equals = this.iter().position(|byte| *byte == b'=');
            let Some(equals) = equals else { continue };
            if this[..equals].eq_ignore_ascii_case(name) {
                let value = &this[equals + 1..];
                let inner = value.strip_prefix(b"\"");
                return Some(inner.and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value));
            }
        }
        None
    }
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-'
}
