//! Replaces one value in a JSON text and leaves every other byte as it is: a body that is parsed and
//! written again is another body, and has another signature.

use std::ops::Range;

/// A value to put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'a> {
    /// Where the text has a string.
    pub text: &'a str,
    /// Where the text has a number.
    pub number: u64,
}

/// A text with another value in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spliced {
    /// The whole text.
    pub json: String,
    /// The value, as a reader of the text finds it.
    pub value: String,
}

/// The text with another value at this JSON pointer (RFC 6901): a string in the place of a string, a
/// number in the place of a number. None if the text is not JSON, or has neither there.
pub fn replace(json: &str, pointer: &str, value: Value<'_>) -> Option<Spliced> {
    let place = find(json, pointer)?;
    let (value, written) = match json.as_bytes().get(place.start)? {
        b'"' => (
            value.text.to_owned(),
            serde_json::to_string(value.text).ok()?,
        ),
        b'-' | b'0'..=b'9' => (value.number.to_string(), value.number.to_string()),
        _ => return None,
    };
    let json = [&json[..place.start], &written, &json[place.end..]].concat();
    Some(Spliced { json, value })
}

/// Where the value of a pointer stands.
fn find(json: &str, pointer: &str) -> Option<Range<usize>> {
    // From here on the text is known to be JSON of bounded depth.
    serde_json::from_str::<serde::de::IgnoredAny>(json).ok()?;
    let mut scan = Scan {
        bytes: json.as_bytes(),
        at: 0,
    };
    scan.blanks();
    for token in pointer.strip_prefix('/')?.split('/') {
        let token = token.replace("~1", "/").replace("~0", "~");
        match scan.peek()? {
            b'{' => scan.member(json, &token)?,
            b'[' => scan.item(token.parse().ok()?)?,
            _ => return None,
        }
    }
    let start = scan.at;
    scan.value();
    Some(start..scan.at)
}

/// A position in a JSON text that is known to be valid.
struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn blanks(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    /// From a quotation mark to behind the closing one.
    fn string(&mut self) {
        self.at += 1;
        while let Some(byte) = self.peek() {
            self.at += if byte == b'\\' { 2 } else { 1 };
            if byte == b'"' {
                return;
            }
        }
    }

    /// From the first byte of a value to behind the last one.
    fn value(&mut self) {
        let mut depth = 0_usize;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => self.string(),
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    depth = depth.saturating_sub(1);
                    self.at += 1;
                }
                _ if depth > 0 => self.at += 1,
                _ => self.scalar(),
            }
            if depth == 0 {
                return;
            }
        }
    }

    /// A number, `true`, `false` or `null`.
    fn scalar(&mut self) {
        let ends = |byte: u8| byte.is_ascii_whitespace() || matches!(byte, b',' | b'}' | b']');
        while self.peek().is_some_and(|byte| !ends(byte)) {
            self.at += 1;
        }
    }

    /// Behind a comma, if there is one.
    fn comma(&mut self) -> Option<()> {
        self.blanks();
        let found = self.peek()? == b',';
        self.at += 1;
        self.blanks();
        found.then_some(())
    }

    /// From the start of an object to the value of a member.
    fn member(&mut self, json: &str, name: &str) -> Option<()> {
        self.at += 1;
        self.blanks();
        while self.peek()? == b'"' {
            let start = self.at;
            self.string();
            let key: String = serde_json::from_str(json.get(start..self.at)?).ok()?;
            self.blanks();
            self.at += 1;
            self.blanks();
            if key == name {
                return Some(());
            }
            self.value();
            self.comma()?;
        }
        None
    }

    /// From the start of an array to an item.
    fn item(&mut self, number: usize) -> Option<()> {
        self.at += 1;
        self.blanks();
        for _ in 0..number {
            if self.peek()? == b']' {
                return None;
            }
            self.value();
            self.comma()?;
        }
        (self.peek()? != b']').then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: Value<'static> = Value {
        text: "golive-probe-1",
        number: 990,
    };

    fn replaced(json: &str, pointer: &str) -> Option<String> {
        replace(json, pointer, NEW).map(|spliced| spliced.json)
    }

    #[test]
    fn nothing_but_the_value_changes() {
        let body = "{ \"a\" : \"caf\\u00e9 \\\" }\",\n\t\"event\":{\"id\":\"evt_1\" ,\"n\": 17},\"b\":[1, {\"id\":\"x\"},[]]}";
        assert_eq!(
            replaced(body, "/event/id"),
            Some(body.replace("\"evt_1\"", "\"golive-probe-1\""))
        );
        assert_eq!(replaced(body, "/event/n"), Some(body.replace("17", "990")));
        assert_eq!(
            replaced(body, "/b/1/id"),
            Some(body.replace("\"x\"", "\"golive-probe-1\""))
        );
        assert_eq!(replaced(body, "/b/0"), Some(body.replace("[1,", "[990,")));
    }

    #[test]
    fn the_value_is_known_as_a_reader_finds_it() {
        let value = |json: &str| replace(json, "/id", NEW).map(|spliced| spliced.value);
        assert_eq!(value(r#"{"id":"x"}"#).as_deref(), Some("golive-probe-1"));
        assert_eq!(value(r#"{"id":-1.5e3}"#).as_deref(), Some("990"));
    }

    #[test]
    fn names_are_compared_as_json_writes_them() {
        let body = r#"{"a\/b":"1","m~n":"2","\u00f1":"3","":"4"}"#;
        for (pointer, old) in [("/a~1b", "1"), ("/m~0n", "2"), ("/ñ", "3"), ("/", "4")] {
            let expected = body.replace(&format!("\"{old}\""), "\"golive-probe-1\"");
            assert_eq!(replaced(body, pointer), Some(expected), "{pointer}");
        }
    }

    #[test]
    fn a_place_that_is_not_there_is_not_made() {
        for (body, pointer) in [
            ("{}", "/id"),
            ("", "/id"),
            ("{\"id\":1", "/id"),
            ("{\"id\":null}", "/id"),
            ("{\"id\":{}}", "/id"),
            ("{\"id\":\"x\"}", "id"),
            ("{\"id\":\"x\"}", ""),
            ("{\"id\":\"x\"}", "/id/0"),
            ("{\"other\":{\"id\":1}}", "/id"),
            ("[1,2]", "/2"),
            ("[]", "/0"),
            ("[1]", "/-"),
        ] {
            assert_eq!(replaced(body, pointer), None, "{body} {pointer}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(replaced(&deep, "/0"), None);
    }
}
