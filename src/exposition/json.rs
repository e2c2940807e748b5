//! A number in a JSON document, found by a JSON pointer (RFC 6901).

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Deepest nesting of a document.
pub const MAX_DEPTH: usize = 64;

/// Longest pointer.
///
/// Unit: bytes.
pub const MAX_POINTER: usize = 256;

/// Why a text is not a JSON pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PointerFault {
    /// It is not empty and does not begin with `/`.
    #[error("a JSON pointer begins with `/`")]
    NoSlash,
    /// A `~` is followed by something other than 0 or 1.
    #[error("in a JSON pointer `~` is written `~0`, and `/` is written `~1`")]
    Escape,
    /// It is longer than [`MAX_POINTER`], or deeper than [`MAX_DEPTH`].
    #[error("a JSON pointer has at most {MAX_POINTER} bytes and {MAX_DEPTH} parts")]
    Long,
}

/// Why a document has no number at the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonFault {
    /// It is not JSON, or a number in it is out of range.
    #[error("the body is not JSON")]
    Malformed,
    /// It is nested deeper than [`MAX_DEPTH`].
    #[error("the JSON is nested deeper than {MAX_DEPTH}")]
    Deep,
    /// There is nothing at the place.
    #[error("the JSON has nothing at the pointer")]
    Missing,
    /// Something else is there: a text is no number, even one of digits.
    #[error("the JSON has no number at the pointer")]
    NotANumber,
    /// A key on the way occurs twice in its object: readers differ in which one counts.
    #[error("the JSON has a key twice on the way to the pointer")]
    Ambiguous,
}

/// A JSON pointer, such as `/calendar/lastSync/minutes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer {
    parts: Vec<String>,
}

impl Pointer {
    /// Reads a pointer. The empty text is the whole document.
    ///
    /// # Errors
    /// When the text is not a pointer, or too long.
    pub fn parse(text: &str) -> Result<Self, PointerFault> {
        if text.len() > MAX_POINTER {
            return Err(PointerFault::Long);
        }
        if text.is_empty() {
            return Ok(Self { parts: Vec::new() });
        }
        let Some(rest) = text.strip_prefix('/') else {
            return Err(PointerFault::NoSlash);
        };
        let parts = rest.split('/').map(unescaped);
        let parts = parts.collect::<Result<Vec<String>, _>>()?;
        if parts.len() > MAX_DEPTH {
            return Err(PointerFault::Long);
        }
        Ok(Self { parts })
    }

    /// The number at this place. The whole document is read, and nothing of it is kept.
    ///
    /// # Errors
    /// When the body is not JSON, is too deep, or has no number there.
    pub fn number(&self, body: &[u8]) -> Result<f64, JsonFault> {
        match self.scalar(body)? {
            Scalar::Number(number) => Ok(number),
            Scalar::Text(_) => Err(JsonFault::NotANumber),
        }
    }

    /// The number or text at this place.
    ///
    /// # Errors
    /// When the body is not JSON, is too deep, or has neither there.
    pub fn scalar(&self, body: &[u8]) -> Result<Scalar, JsonFault> {
        if is_deep(body) {
            return Err(JsonFault::Deep);
        }
        // What is skipped is not decoded.
        if std::str::from_utf8(body).is_err() {
            return Err(JsonFault::Malformed);
        }
        let mut json = serde_json::Deserializer::from_slice(body);
        let at = At { parts: &self.parts };
        let place = at.deserialize(&mut json);
        let place = place.map_err(|_| JsonFault::Malformed)?;
        json.end().map_err(|_| JsonFault::Malformed)?;
        match place {
            Place::Number(number) => Ok(Scalar::Number(number)),
            Place::Text(text) => Ok(Scalar::Text(text)),
            Place::Missing => Err(JsonFault::Missing),
            Place::Other => Err(JsonFault::NotANumber),
            Place::Ambiguous => Err(JsonFault::Ambiguous),
        }
    }
}

fn unescaped(part: &str) -> Result<String, PointerFault> {
    let mut out = String::with_capacity(part.len());
    let mut chars = part.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '~' => match chars.next() {
                Some('0') => '~',
                Some('1') => '/',
                _ => return Err(PointerFault::Escape),
            },
            c => c,
        });
    }
    Ok(out)
}

/// Whether brackets outside of texts are nested too deep.
fn is_deep(body: &[u8]) -> bool {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in body {
        match (in_text, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_text = !in_text,
            (false, b'[' | b'{') => depth += 1,
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return true;
        }
    }
    false
}

/// A value without parts.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    /// A number.
    Number(f64),
    /// A text. It was fetched: it is never shown.
    Text(String),
}

/// What is at a place.
#[derive(Clone, Debug, PartialEq)]
enum Place {
    Number(f64),
    Text(String),
    Missing,
    Other,
    Ambiguous,
}

/// Looks for the place below the value that is read.
#[derive(Clone, Copy)]
struct At<'p> {
    parts: &'p [String],
}

impl At<'_> {
    /// What a scalar is: the place itself, or nothing that has places below it.
    fn scalar(self, value: Place) -> Place {
        match self.parts {
            [] => value,
            _ => Place::Missing,
        }
    }
}

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = Place;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Place, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = Place;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Place, E> {
        Ok(self.scalar(Place::Other))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Place, E> {
        Ok(self.scalar(Place::Number(number as f64)))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Place, E> {
        Ok(self.scalar(Place::Number(number as f64)))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Place, E> {
        Ok(self.scalar(Place::Number(number)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Place, E> {
        Ok(match self.parts {
            [] => Place::Text(text.to_owned()),
            _ => Place::Missing,
        })
    }

    fn visit_unit<E>(self) -> Result<Place, E> {
        Ok(self.scalar(Place::Other))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Place, A::Error> {
        let Some((first, parts)) = self.parts.split_first() else {
            while items.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(Place::Other);
        };
        // RFC 6901 section 4: no leading zeros; `-` is the place after the last one.
        let wanted = match first.as_str() {
            "0" => Some(0),
            text if text.starts_with(|c: char| matches!(c, '1'..='9')) => {
                text.parse::<usize>().ok()
            }
            _ => None,
        };
        let (mut at, mut place) = (0, Place::Missing);
        loop {
            if Some(at) == wanted {
                match items.next_element_seed(At { parts })? {
                    Some(found) => place = found,
                    None => return Ok(Place::Missing),
                }
            } else if items.next_element::<IgnoredAny>()?.is_none() {
                return Ok(place);
            }
            at += 1;
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Place, A::Error> {
        let Some((first, parts)) = self.parts.split_first() else {
            while fields.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(Place::Other);
        };
        let mut place = None;
        while let Some(key) = fields.next_key::<std::borrow::Cow<'_, str>>()? {
            if key != first.as_str() {
                fields.next_value::<IgnoredAny>()?;
                continue;
            }
            let found = fields.next_value_seed(At { parts })?;
            place = Some(match place {
                None => found,
                Some(_) => Place::Ambiguous,
            });
        }
        Ok(place.unwrap_or(Place::Missing))
    }
}
