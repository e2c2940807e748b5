//! Whether a value can be hidden: one that also occurs in ordinary text cannot.
//!
//! A Secret may hold `object`, `8080` or `started`. Where such a value is replaced, messages can no
//! longer be read, and nothing is protected. So the strength of a text is estimated from what it is
//! made of: words, numbers, and what is neither.

/// Shorter values are not hidden. Unit: bytes.
pub const SHORTEST: usize = 8;

/// Values below this strength are not hidden: a single word, a word with a number, a date.
const LEAST: u32 = 20;

/// Strength of a word, however long up to [`LONG_WORD`]: a dictionary has it.
const WORD: u32 = 10;

/// A longer run of letters is no word, and each further letter counts. Unit: letters.
const LONG_WORD: usize = 14;

/// Strength of a character that nothing predicts.
const CHARACTER: u32 = 5;

/// Strength of a number of up to four digits, such as a year or a port, and of each further digit.
const NUMBER: u32 = 3;

/// Strength of a sign that is rare between words.
const SIGN: u32 = 2;

/// Why a value is not hidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shown {
    /// It has fewer than [`SHORTEST`] bytes.
    TooShort,
    /// It is a word, a number or the like, which texts contain that have nothing to do with it.
    TooCommon,
}

/// Whether a value is hidden, or why not. White space around it does not count.
///
/// # Errors
/// When it is too short or too common.
pub fn hideable(value: &[u8]) -> Result<(), Shown> {
    let value = value.trim_ascii();
    if value.len() < SHORTEST {
        return Err(Shown::TooShort);
    }
    match strong_prefix(value, SHORTEST) {
        Some(_) => Ok(()),
        None => Err(Shown::TooCommon),
    }
}

/// The length of the shortest prefix of at least `least` bytes that is strong enough to be recognized
/// by itself. `None`: not even the whole is.
pub(super) fn strong_prefix(text: &[u8], least: usize) -> Option<usize> {
    let mut strength = Strength::default();
    for (at, byte) in text.iter().enumerate() {
        strength.add(*byte);
        if at + 1 >= least && strength.total() >= LEAST {
            return Some(at + 1);
        }
    }
    None
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Lower,
    Upper,
    Digit,
    Sign,
}

#[derive(Default)]
struct Strength {
    /// Of the runs that have ended.
    before: u32,
    /// Of the present run.
    run: Option<(Kind, usize)>,
    last: u8,
}

impl Strength {
    fn add(&mut self, byte: u8) {
        let kind = match byte {
            b'a'..=b'z' => Kind::Lower,
            b'A'..=b'Z' => Kind::Upper,
            b'0'..=b'9' => Kind::Digit,
            _ => Kind::Sign,
        };
        let repeated = kind == Kind::Sign && byte == self.last;
        self.last = byte;
        self.run = match self.run {
            Some((before, length)) if before == kind && kind != Kind::Sign => {
                Some((kind, length + 1))
            }
            // `Word` is a word like `word`.
            Some((Kind::Upper, 1)) if kind == Kind::Lower => Some((Kind::Lower, 2)),
            _ => {
                self.before = self.total();
                Some((kind, usize::from(!repeated)))
            }
        };
        if kind == Kind::Sign {
            self.before += if repeated { 0 } else { sign(byte) };
            self.run = None;
        }
    }

    fn total(&self) -> u32 {
        let run = match self.run {
            Some((Kind::Lower | Kind::Upper, length)) if length <= 3 => CHARACTER,
            Some((Kind::Lower | Kind::Upper, length)) => {
                WORD + NUMBER * count(length.saturating_sub(LONG_WORD))
            }
            Some((Kind::Digit, length)) => NUMBER * count(length.saturating_sub(4) + 1),
            Some((Kind::Sign, _)) | None => 0,
        };
        self.before + run
    }
}

/// What stands between ordinary words says nothing.
fn sign(byte: u8) -> u32 {
    match byte {
        b' ' | b'-' | b'_' | b'.' | b',' | b':' | b';' | b'/' | b'"' | b'\'' | b'{' | b'}'
        | b'[' | b']' | b'(' | b')' | b'=' | b'\n' | b'\r' | b'\t' | b'\\' => 0,
        // Two of them are one letter of another alphabet.
        128.. => CHARACTER / 2,
        _ => SIGN,
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(1_000).min(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_numbers_and_dates_are_not_hidden() {
        for common in [
            "production",
            "postgres",
            "Kubernetes",
            "OBSERVED",
            "us-east-1",
            "2026-11-30",
            "server-0001",
            "10.0.0.1:8080",
            "--------------------",
            "\"message\":\"",
        ] {
            assert_eq!(
                hideable(common.as_bytes()),
                Err(Shown::TooCommon),
                "{common}"
            );
        }
        for short in ["", "yes", "8080", "object", "create", "started", "hunter2"] {
            assert_eq!(hideable(short.as_bytes()), Err(Shown::TooShort), "{short}");
        }
    }

    #[test]
    fn what_people_and_programs_make_as_secrets_is_hidden() {
        for secret in [
            "x7Kp2mQz",
            "hunter2-hunter2",
            "canary-value-123",
            "correct-horse-battery-staple",
            "59c3330781715efd040ae625b7699406",
            "ea863b245a47f4a0deed25c7",
            "postgres://app:p%40ss-w0rd!@db.internal:5432/app",
            "qhxkzvwpeoitruynmlaq",
            "481516234223",
            "Ñandú-ü-ßλ漢字",
        ] {
            assert_eq!(hideable(secret.as_bytes()), Ok(()), "{secret}");
        }
    }

    #[test]
    fn a_prefix_that_public_texts_share_does_not_count() {
        let length = |text: &str| strong_prefix(text.as_bytes(), 12);
        assert_eq!(length("{\"time\":\"2026-11-30T07:38:20Z\""), Some(20));
        assert!(length("postgres://user:x7Kp").is_some_and(|length| length > 13));
        assert_eq!(length("Zk3-correct-horse"), Some(13));
        assert_eq!(length("a2b4c6d8e0f1a2b4"), Some(12));
    }
}
