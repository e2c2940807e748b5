//! Texts as they read without their escapes. There are too many ways to escape a value to know them all
//! beforehand: `%2D` and `%2d`, `+` or `%20`, `\u002d`, `\x2d`, `\u{2d}`, and any mixture. So the text is
//! searched once more without its escapes. Takes linear time, and none where there is no escape.

/// A text without its escapes.
pub(super) struct Decoded {
    pub(super) text: Vec<u8>,
    /// Where each byte begins in the original, and where the last one ends.
    at: Vec<usize>,
}

impl Decoded {
    /// Decodes with `escape`, which returns the bytes that stand for the beginning of a rest, and how many
    /// bytes of it they take. `None`: there is no escape.
    fn of(text: &[u8], escape: impl Fn(&[u8]) -> Option<(Utf8, usize)>) -> Option<Self> {
        let mut decoded = Self {
            text: Vec::with_capacity(text.len()),
            at: Vec::with_capacity(text.len() + 1),
        };
        let (mut place, mut any) = (0, false);
        while let Some(byte) = text.get(place) {
            let (bytes, taken) = match escape(&text[place..]) {
                Some((bytes, taken)) => {
                    any = true;
                    (bytes, taken)
                }
                None => (Utf8::of(*byte), 1),
            };
            for byte in bytes.as_slice() {
                decoded.text.push(*byte);
                decoded.at.push(place);
            }
            place += taken;
        }
        decoded.at.push(place);
        any.then_some(decoded)
    }

    /// The range of the original that this range stands for.
    pub(super) fn original(&self, (start, end): (usize, usize)) -> (usize, usize) {
        let last = self.at.last().copied().unwrap_or_default();
        let at = |index: usize| self.at.get(index).copied().unwrap_or(last);
        let from = at(start);
        // A character of several bytes ends where the next one begins.
        let rest = self.at.get(end..).unwrap_or_default();
        let to = match end.checked_sub(1).map(at) {
            Some(before) => rest.iter().copied().find(|to| *to > before),
            None => None,
        };
        (from, to.unwrap_or(last))
    }
}

/// A few bytes.
struct Utf8([u8; 4], usize);

impl Utf8 {
    fn of(byte: u8) -> Self {
        Self([byte, 0, 0, 0], 1)
    }

    fn of_char(char: char) -> Self {
        let mut bytes = [0; 4];
        let length = char.encode_utf8(&mut bytes).len();
        Self(bytes, length)
    }

    fn as_slice(&self) -> &[u8] {
        self.0.get(..self.1).unwrap_or_default()
    }
}

/// Every way in which the text can be read without escapes.
pub(super) fn all(original: &[u8]) -> impl Iterator<Item = Decoded> {
    let has = |byte: u8| original.contains(&byte);
    let percent = has(b'%').then(|| Decoded::of(original, percent)).flatten();
    let plus = has(b'+').then(|| Decoded::of(original, plus)).flatten();
    let once = has(b'\\')
        .then(|| Decoded::of(original, backslash))
        .flatten();
    // JSON within JSON.
    let twice = once.as_ref().and_then(|once| {
        let inner = Decoded::of(&once.text, backslash)?;
        let at = inner.at.iter().map(|place| once.at.get(*place).copied());
        Some(Decoded {
            at: at.map(Option::unwrap_or_default).collect(),
            text: inner.text,
        })
    });
    [percent, plus, once, twice].into_iter().flatten()
}

/// `%2d`, in whatever case (RFC 3986, 2.1).
fn percent(rest: &[u8]) -> Option<(Utf8, usize)> {
    let [b'%', high, low, ..] = rest else {
        return None;
    };
    let byte = digit(*high)? * 16 + digit(*low)?;
    Some((Utf8::of(u8::try_from(byte).ok()?), 3))
}

/// The same, with `+` for a space (WHATWG URL, application/x-www-form-urlencoded).
fn plus(rest: &[u8]) -> Option<(Utf8, usize)> {
    match rest.first() {
        Some(b'+') => Some((Utf8::of(b' '), 1)),
        _ => percent(rest),
    }
}

/// What JSON (RFC 8259, 7), Rust, Go, C and JavaScript write with a backslash.
fn backslash(rest: &[u8]) -> Option<(Utf8, usize)> {
    let [b'\\', kind, ..] = rest else {
        return None;
    };
    let plain = |byte: u8| Some((Utf8::of(byte), 2));
    match kind {
        b'n' => plain(b'\n'),
        b't' => plain(b'\t'),
        b'r' => plain(b'\r'),
        b'b' => plain(8),
        b'f' => plain(12),
        b'v' => plain(11),
        b'0' => plain(0),
        b'"' | b'\'' | b'\\' | b'/' => plain(*kind),
        b'x' => Some((Utf8::of(u8::try_from(number(rest.get(2..4)?)?).ok()?), 4)),
        b'u' if rest.get(2) == Some(&b'{') => {
            let digits = rest.get(3..rest.len().min(10))?;
            let length = digits.iter().position(|byte| *byte == b'}')?;
            let char = char::from_u32(number(digits.get(..length)?)?)?;
            Some((Utf8::of_char(char), 4 + length))
        }
        b'u' => {
            let first = number(rest.get(2..6)?)?;
            match char::from_u32(first) {
                Some(char) => Some((Utf8::of_char(char), 6)),
                None => {
                    // The first half of a pair of surrogates.
                    let [b'\\', b'u', ..] = rest.get(6..)? else {
                        return None;
                    };
                    let second = number(rest.get(8..12)?)?.checked_sub(0xdc00)?;
                    let first = first.checked_sub(0xd800)?;
                    let char = char::from_u32(0x10000 + (first << 10) + second)?;
                    Some((Utf8::of_char(char), 12))
                }
            }
        }
        _ => None,
    }
}

fn digit(byte: u8) -> Option<u32> {
    char::from(byte).to_digit(16)
}

fn number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || digits.len() > 6 {
        return None;
    }
    let mut digits = digits.iter();
    digits.try_fold(0, |number, byte| Some(number * 16 + digit(*byte)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, escape: fn(&[u8]) -> Option<(Utf8, usize)>) -> Option<String> {
        let decoded = Decoded::of(text.as_bytes(), escape)?;
        Some(String::from_utf8_lossy(&decoded.text).into_owned())
    }

    #[test]
    fn every_escape_is_read_and_what_is_none_stays() {
        let reads = |text: &str, escape, plain: &str| {
            assert_eq!(read(text, escape).as_deref(), Some(plain), "{text}");
        };
        reads("a%2Db%2dc%20d%zz%4", percent, "a-b-c d%zz%4");
        reads("a+b%2B", plus, "a b+");
        reads(
            r"a\u002db\x2D\u{2d}\u{1F511}\ud83d\udd11",
            backslash,
            "a-b--🔑🔑",
        );
        reads(
            r#"\n\"\/\q\u00zz\ud83dx"#,
            backslash,
            "\n\"/\\q\\u00zz\\ud83dx",
        );
        for (text, escape) in [("100 %", percent as fn(&[u8]) -> _), (r"\q\", backslash)] {
            assert_eq!(read(text, escape), None, "{text}");
        }
    }

    #[test]
    fn a_range_stands_for_the_whole_of_its_escapes() {
        let text = r"x=\u00e9\u002d;";
        let decoded = Decoded::of(text.as_bytes(), backslash);
        let range = decoded.map(|decoded| {
            assert_eq!(decoded.text, "x=é-;".as_bytes());
            [
                decoded.original((2, 5)),
                decoded.original((2, 3)),
                decoded.original((0, 6)),
            ]
        });
        assert_eq!(range, Some([(2, 14), (2, 8), (0, 15)]));
    }
}
