//! Telephone numbers in a text.

use super::hash::hash;
use super::rule::Rule;

/// Words before a telephone number. They are compared without the case of ASCII letters.
const PHONE_WORDS: [&str; 15] = [
    "phone",
    "tel",
    "telefono",
    "teléfono",
    "telÉfono",
    "movil",
    "móvil",
    "mÓvil",
    "mobile",
    "celular",
    "cel",
    "whatsapp",
    "telefone",
    "telefon",
    "handy",
];

/// Digits of a telephone number with the code of its country (ITU-T E.164: at most 15).
const INTERNATIONAL: std::ops::RangeInclusive<usize> = 8..=15;

/// Bytes before a number among which a word for it is looked for.
const BEFORE: usize = 32;

/// The worst of what a text has in digits, with the hash of a whole number.
pub(super) fn phone(text: &str) -> Option<(Rule, u64)> {
    let bytes = text.as_bytes();
    let (mut at, mut worst) = (0, None);
    while at < bytes.len() {
        let begin = match bytes[at..].iter().position(u8::is_ascii_digit) {
            Some(first) => at + first,
            None => break,
        };
        let number = Number::at(bytes, begin);
        at = number.end;
        let digits = || {
            bytes[begin..number.end]
                .iter()
                .filter(|b| b.is_ascii_digit())
        };
        match number.rule(text, begin) {
            Some(Rule::Phone) => return Some((Rule::Phone, hash(&digits().collect::<Vec<_>>()))),
            Some(rule) => worst = worst.or(Some((rule, 0))),
            None => {}
        }
    }
    worst
}

/// Where WhatsApp's links have a number (faq.whatsapp.com, "How to use click to chat").
const CHAT: &[u8] = b"://wa.me/";

/// The number in a link to a chat, with its hash.
pub(super) fn of_a_chat(text: &str) -> Option<(Rule, u64)> {
    let bytes = text.as_bytes();
    let links = bytes.windows(CHAT.len());
    let at = links
        .into_iter()
        .position(|part| part.eq_ignore_ascii_case(CHAT))?;
    let digits = bytes[at + CHAT.len()..].iter();
    let digits: Vec<&u8> = digits.take_while(|byte| byte.is_ascii_digit()).collect();
    let is_number = INTERNATIONAL.contains(&digits.len());
    is_number.then(|| (Rule::Phone, hash(&digits)))
}

/// Digits with single separators between them.
struct Number {
    digits: usize,
    /// Groups of digits, and the length of the first and last one.
    groups: usize,
    first: usize,
    last: usize,
    end: usize,
}

impl Number {
    fn at(bytes: &[u8], begin: usize) -> Self {
        let (mut digits, mut groups, mut first) = (0, 0, 0);
        let mut end = begin;
        loop {
            let run = bytes[end..].iter().take_while(|byte| byte.is_ascii_digit());
            let run = run.count();
            digits += run;
            groups += 1;
            if groups == 1 {
                first = run;
            }
            end += run;
            let between = bytes[end..].iter();
            let between =
                between.take_while(|byte| matches!(byte, b' ' | b'-' | b'(' | b')' | b'.'));
            let next = end + between.count();
            let goes_on =
                next > end && next - end <= 2 && bytes.get(next).is_some_and(u8::is_ascii_digit);
            if !goes_on {
                return Self {
                    digits,
                    groups,
                    first,
                    last: run,
                    end,
                };
            }
            end = next;
        }
    }

    fn rule(&self, text: &str, begin: usize) -> Option<Rule> {
        let bytes = text.as_bytes();
        let before = &bytes[..begin];
        let trimmed = before.strip_suffix(b"(").unwrap_or(before);
        if trimmed.ends_with(b"+") && INTERNATIONAL.contains(&self.digits) {
            // A `+` inside of a word or an address is no country code.
            let outside = &trimmed[..trimmed.len() - 1];
            let is_inside = outside
                .last()
                .is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'='));
            return (!is_inside).then_some(Rule::Phone);
        }
        if self.digits >= 3 && is_labelled(text, begin) {
            let is_whole = self.digits >= 6;
            return Some(if is_whole {
                Rule::Phone
            } else {
                Rule::PartOfPhone
            });
        }
        let link = before.len().checked_sub(CHAT.len());
        if link.is_some_and(|from| before[from..].eq_ignore_ascii_case(CHAT))
            && INTERNATIONAL.contains(&self.digits)
        {
            return Some(Rule::Phone);
        }
        let is_part_of_word = before
            .last()
            .is_some_and(|byte| byte.is_ascii_alphanumeric() || b"/=#_-.".contains(byte));
        let year = self.first == 4 && matches!(&bytes[begin..begin + 2], b"19" | b"20");
        let looks_like_one = (10..=11).contains(&self.digits)
            && (2..=3).contains(&self.groups)
            && self.last == 4
            && (2..=5).contains(&self.first);
        (looks_like_one && !year && !is_part_of_word).then_some(Rule::PartOfPhone)
    }
}

/// Whether a word for a telephone number stands before the number in its line.
fn is_labelled(text: &str, begin: usize) -> bool {
    let mut from = begin.saturating_sub(BEFORE);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let line = text[from..begin].rsplit(['\n', ';', '|']).next();
    let mut words = line.unwrap_or_default().split(|c: char| !c.is_alphabetic());
    words.any(|word| {
        PHONE_WORDS
            .iter()
            .any(|known| word.eq_ignore_ascii_case(known))
    })
}
