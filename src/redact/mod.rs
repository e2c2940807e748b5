//! Keeps secret values out of everything that is written: logs, error texts, log tails.
//!
//! Types protect secrets in our own code (`SecretString` has no `Display`, and a `Debug` without
//! the value). This is the second line of defence: text from elsewhere, such as the last output of
//! a machine or the message of an error, may quote a value in any encoding. A [`Redactor`] knows
//! the values that are in use in this process and replaces each of them, in every [`Form`], also
//! when only its first twelve characters occur. Uses nothing of the crate. Start reading at
//! [`Redactor::redact`].
//!
//! An Aho-Corasick automaton over all forms of all values would have to be rebuilt whenever a
//! Secret changes, and does not extend a match of a prefix to the longest common part. So the
//! redactor keeps a hash of the first twelve bytes of each form, compares the hash of every window
//! of the text, and on a hit compares the rest. Adding and removing a value costs the same
//! whether ten or ten thousand are known.

use std::any::Any;
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use self::forms::{FORMS, Form, WINDOW, encode, lines, password_in_url, shared_character};

mod forms;

/// The replacement for a secret.
pub const REDACTED: &str = "[redacted]";

/// Shorter values are not redacted: `yes` or `8080` in a Secret would make every log unreadable.
/// Unit: bytes.
pub const SHORTEST: usize = 6;

/// A set of secret values and their search index. Cheap to clone; clones share the set.
#[derive(Clone, Default)]
pub struct Redactor {
    known: Arc<RwLock<Known>>,
}

/// A secret value that is redacted while this or a clone of it exists.
#[derive(Clone)]
pub struct Guarded {
    value: SecretString,
    _registered: Arc<Registered>,
}

impl Guarded {
    /// The value. Do not log it, and do not put it into an error.
    pub fn expose_secret(&self) -> &str {
        self.value.expose_secret()
    }

    /// The value, to pass on.
    pub fn secret(&self) -> &SecretString {
        &self.value
    }
}

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

/// The registration of a value. Dropping it removes the value, unless it is registered twice.
#[must_use = "dropping this removes the value from the redactor"]
pub struct Registered {
    redactor: Redactor,
    ids: Vec<u64>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut known = self.redactor.write();
        for id in &self.ids {
            known.forget(*id);
        }
    }
}

/// The redactor of this process, which its log uses.
pub fn global() -> &'static Redactor {
    static GLOBAL: LazyLock<Redactor> = LazyLock::new(Redactor::default);
    &GLOBAL
}

/// Registers a value with the process-wide redactor.
pub fn guard(value: SecretString) -> Guarded {
    let guarded = global().guard(value);
    keep(guarded._registered.clone());
    guarded
}

tokio::task_local! {
    static KEPT: RefCell<Vec<Arc<dyn Any + Send + Sync>>>;
}

/// Runs `work`. Its secrets stay redacted until it returns, because a panic drops them and its
/// message may still quote one.
pub async fn until_end<W: Future>(work: W) -> W::Output {
    KEPT.scope(RefCell::default(), work).await
}

/// Keeps `holder` alive until the surrounding [`until_end`] returns, if there is one.
pub fn keep(holder: Arc<dyn Any + Send + Sync>) {
    // Outside of `until_end` no panic is caught, so its message is not shown.
    let _ = KEPT.try_with(|kept| kept.borrow_mut().push(holder));
}

/// Replaces every value of the process-wide redactor.
pub fn redact(text: &str) -> Cow<'_, str> {
    global().redact(text)
}

impl Redactor {
    /// Registers a value for as long as the result exists.
    pub fn guard(&self, value: SecretString) -> Guarded {
        let registered = self.register(&value);
        Guarded {
            value,
            _registered: Arc::new(registered),
        }
    }

    /// Registers a value until the result is dropped. Values below [`SHORTEST`] are ignored. The
    /// password in a URL such as `postgres://user:password@host` is registered as well, and so is
    /// each line of a multi-line value such as a private key.
    pub fn register(&self, value: &SecretString) -> Registered {
        self.register_bytes(value.expose_secret().as_bytes())
    }

    /// As [`Redactor::register`], for a value that may not be text.
    pub fn register_bytes(&self, value: &[u8]) -> Registered {
        let mut known = self.write();
        let mut ids = Vec::new();
        // Secrets made with `echo` end with a newline that is not part of the value.
        let trimmed = value.trim_ascii();
        let parts = std::iter::once(trimmed.to_vec())
            .chain(password_in_url(trimmed))
            .chain(lines(trimmed));
        for part in parts {
            let part = Zeroizing::new(part);
            if part.len() >= SHORTEST {
                ids.push(known.learn(part));
            }
        }
        Registered {
            redactor: self.clone(),
            ids,
        }
    }

    /// The text with every known value replaced by [`REDACTED`].
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let found = self.read().find(text.as_bytes());
        if found.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut out = String::with_capacity(text.len());
        let mut done = 0;
        for (start, end) in found {
            // A truncated value may end within a character, which is then removed whole.
            let start = (0..=start).rev().find(|i| text.is_char_boundary(*i));
            let start = start.unwrap_or(0).max(done);
            let end = (end..=text.len()).find(|i| text.is_char_boundary(*i));
            out.push_str(&text[done..start]);
            out.push_str(REDACTED);
            done = end.unwrap_or(text.len());
        }
        out.push_str(&text[done..]);
        Cow::Owned(out)
    }

    /// Number of different values.
    pub fn len(&self) -> usize {
        self.read().values.len()
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redactor({} values)", self.len())
    }
}

#[derive(Default)]
struct Known {
    values: HashMap<u64, Value>,
    /// Hash of the first window of a form, and the values that have it.
    index: HashMap<u64, Vec<(u64, Form)>>,
    /// Number of index entries by length of their window.
    lengths: BTreeMap<usize, usize>,
    /// Randomly keyed, so that a hash reveals nothing about a value.
    hasher: RandomState,
}

struct Value {
    bytes: Zeroizing<Vec<u8>>,
    /// Number of registrations.
    count: usize,
}

impl Known {
    fn learn(&mut self, bytes: Zeroizing<Vec<u8>>) -> u64 {
        let mut id = self.hasher.hash_one(bytes.as_slice());
        loop {
            match self.values.get_mut(&id) {
                Some(value) if value.bytes == bytes => {
                    value.count += 1;
                    return id;
                }
                // Another value with the same hash: practically impossible, and harmless.
                Some(_) => id = id.wrapping_add(1),
                None => break,
            }
        }
        for (hash, length, form) in self.windows(&bytes) {
            self.index.entry(hash).or_default().push((id, form));
            *self.lengths.entry(length).or_default() += 1;
        }
        self.values.insert(id, Value { bytes, count: 1 });
        id
    }

    fn forget(&mut self, id: u64) {
        let Some(value) = self.values.get_mut(&id) else {
            return;
        };
        value.count -= 1;
        if value.count > 0 {
            return;
        }
        let Some(value) = self.values.remove(&id) else {
            return;
        };
        for (hash, length, form) in self.windows(&value.bytes) {
            if let Some(entries) = self.index.get_mut(&hash) {
                entries.retain(|entry| *entry != (id, form));
                if entries.is_empty() {
                    self.index.remove(&hash);
                }
            }
            if let Some(count) = self.lengths.get_mut(&length) {
                *count -= 1;
                if *count == 0 {
                    self.lengths.remove(&length);
                }
            }
        }
    }

    /// Hash and length of the first window of each distinct form.
    fn windows(&self, value: &[u8]) -> Vec<(u64, usize, Form)> {
        let mut seen: Vec<Zeroizing<Vec<u8>>> = Vec::new();
        let mut windows = Vec::new();
        for form in FORMS {
            let needle = encode(*form, value);
            if needle.len() < SHORTEST || seen.contains(&needle) {
                continue;
            }
            let window = &needle[..needle.len().min(WINDOW)];
            windows.push((self.hasher.hash_one(window), window.len(), *form));
            seen.push(needle);
        }
        windows
    }

    /// The ranges of known values in the text, in order and without overlap.
    fn find(&self, text: &[u8]) -> Vec<(usize, usize)> {
        let mut found: Vec<(usize, usize)> = Vec::new();
        for start in 0..text.len() {
            let Some(end) = self.longest_at(text, start) else {
                continue;
            };
            match found.last_mut() {
                // Adjacent or overlapping values become one range.
                Some(last) if last.1 >= start => last.1 = last.1.max(end),
                _ => found.push((start, end)),
            }
        }
        found
    }

    /// The end of the longest known value that begins at `start`.
    fn longest_at(&self, text: &[u8], start: usize) -> Option<usize> {
        let mut longest = None;
        for length in self.lengths.keys() {
            let Some(window) = text.get(start..start + length) else {
                break;
            };
            let Some(entries) = self.index.get(&self.hasher.hash_one(window)) else {
                continue;
            };
            for (id, form) in entries {
                let Some(value) = self.values.get(id) else {
                    continue;
                };
                let needle = encode(*form, &value.bytes);
                let common = common_prefix(&needle, &text[start..]);
                if common >= needle.len().min(WINDOW) {
                    let end = start + common + shared_character(*form, &needle, &text[start..]);
                    longest = longest.max(Some(end));
                }
            }
        }
        longest
    }
}

fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    fn secret(value: &str) -> SecretString {
        SecretString::from(value)
    }

    /// Every form, by other encoders than those under test.
    fn forms(value: &str, before: &str, after: &str) -> Vec<(String, String)> {
        let inner = format!("{before}{value}{after}");
        let json = serde_json::to_string(&inner).unwrap();
        let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
        let url: String = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
        let percent = |digits: fn(u8) -> String| -> String {
            let encode = |byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                    (byte as char).to_string()
                }
                _ => format!("%{}", digits(byte)),
            };
            value.bytes().map(encode).collect()
        };
        let named = |name: &str, text: String| (name.to_owned(), text);
        vec![
            named("raw", inner.clone()),
            named("debug", format!("{inner:?}")),
            named("json in json", serde_json::to_string(&json).unwrap()),
            named(
                "debug in json",
                serde_json::to_string(&format!("{inner:?}")).unwrap(),
            ),
            named("json", json),
            named("base64", STANDARD.encode(&inner)),
            named("base64 url", URL_SAFE.encode(&inner)),
            named("hex", hex.clone()),
            named("HEX", hex.to_uppercase()),
            named("form", url),
            named("percent", percent(|byte| format!("{byte:02X}"))),
            named("percent lower", percent(|byte| format!("{byte:02x}"))),
        ]
    }

    /// What may not be left of a value: the first twelve characters of each of its forms.
    fn needles(value: &str) -> Vec<String> {
        let mut needles = Vec::new();
        for (name, form) in forms(value, "", "") {
            let form = form
                .trim_matches(|c| c == '"' || c == '\\' || c == '=')
                .to_owned();
            let stable = if name.starts_with("base64") {
                value.len() * 8 / 6
            } else {
                form.len()
            };
            needles.push(form.chars().take(12.min(stable)).collect());
        }
        needles
    }

    #[test]
    fn no_value_is_left_in_any_form() {
        let alphabets = [
            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_",
            "abc ?&=+/<>'\"\\%#\n\t:@{}$",
            "áéñüßλ漢字🔑abc\u{7f}\u{1}",
        ];
        for seed in 0..300 {
            let mut rng = StdRng::seed_from_u64(seed);
            let alphabet: Vec<char> = alphabets[rng.random_range(0..3)].chars().collect();
            let length = rng.random_range(14..60);
            let middle: String = (0..length)
                .map(|_| alphabet[rng.random_range(0..alphabet.len())])
                .collect();
            let value = format!("k{middle}z");
            let redactor = Redactor::default();
            let guarded = redactor.guard(secret(&value));
            let needles = needles(&value);
            let pad = |rng: &mut StdRng| {
                "·x".repeat(rng.random_range(0..4)) + &"y".repeat(rng.random_range(0..4))
            };
            let (before, after) = (pad(&mut rng), pad(&mut rng));
            for (name, form) in forms(guarded.expose_secret(), &before, &after) {
                let line = format!("the machine said: {form} and stopped");
                let redacted = redactor.redact(&line);
                assert!(redacted.contains(REDACTED), "seed {seed}, {name}: {line}");
                assert!(
                    redacted.starts_with("the machine said: "),
                    "seed {seed}, {name}"
                );
                assert!(redacted.ends_with(" and stopped"), "seed {seed}, {name}");
                for needle in &needles {
                    assert!(
                        !redacted.contains(needle),
                        "seed {seed}, {name}: {redacted}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_first_twelve_characters_are_enough_and_all_that_follow_go_too() {
        let redactor = Redactor::default();
        let _guarded = redactor.guard(secret("Zk3-correct-horse-battery-staple"));
        let line = redactor.redact("token=Zk3-correct-hor… was refused");
        assert_eq!(line, "token=[redacted]… was refused");
        assert_eq!(redactor.redact("Zk3-correct"), "Zk3-correct");
    }

    #[test]
    fn a_value_is_forgotten_when_its_last_holder_is_gone() {
        let redactor = Redactor::default();
        let first = redactor.guard(secret("hunter2-hunter2"));
        let second = redactor.guard(secret("hunter2-hunter2"));
        let clone = first.clone();
        drop(first);
        drop(second);
        assert_eq!(redactor.redact("hunter2-hunter2"), REDACTED);
        drop(clone);
        assert_eq!(redactor.redact("hunter2-hunter2"), "hunter2-hunter2");
        assert!(redactor.is_empty());
        assert!(redactor.read().index.is_empty());
        assert!(redactor.read().lengths.is_empty());
    }

    #[test]
    fn the_password_of_a_database_url_is_a_secret_of_its_own() {
        let redactor = Redactor::default();
        let _guarded = redactor.guard(secret("postgres://app:p%40ss-w0rd!@db.internal:5432/app"));
        for said in ["p%40ss-w0rd!", "p@ss-w0rd!"] {
            let line = format!("password authentication failed for {said}");
            assert_eq!(
                redactor.redact(&line),
                "password authentication failed for [redacted]"
            );
        }
    }

    #[test]
    fn each_line_of_a_private_key_is_redacted() {
        let redactor = Redactor::default();
        let key =
            "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG\n9w0BAQEFAASCBKcwggSj\n-----END KEY-----\n";
        let _guarded = redactor.guard(secret(key));
        assert_eq!(
            redactor.redact("line 2: 9w0BAQEFAASCBKcwggSj"),
            "line 2: [redacted]"
        );
    }

    #[test]
    fn values_side_by_side_and_within_characters_leave_valid_text() {
        let redactor = Redactor::default();
        let _one = redactor.guard(secret("first-secret-value"));
        let _two = redactor.guard(secret("geheim-ñññññññññ"));
        let line = redactor.redact("first-secret-valuegeheim-ñññññññññ.");
        assert_eq!(line, "[redacted].");
        // Cut within a character, as a byte-limited tail is, and mended with a lossy conversion.
        let cut = String::from_utf8_lossy(&"geheim-ñññññ".as_bytes()[..16]).into_owned();
        assert!(!redactor.redact(&cut).contains("geheim"));
    }

    #[test]
    fn short_and_empty_values_do_not_make_logs_unreadable() {
        let redactor = Redactor::default();
        let _guarded = ["", "yes", "8080\n", "   "].map(|value| redactor.guard(secret(value)));
        assert_eq!(redactor.redact("yes, port 8080"), "yes, port 8080");
    }

    #[test]
    fn nothing_prints_the_value() {
        let redactor = Redactor::default();
        let guarded = redactor.guard(secret("hunter2-hunter2"));
        assert_eq!(format!("{guarded:?}"), REDACTED);
        assert_eq!(format!("{redactor:?}"), "Redactor(1 values)");
    }

    #[test]
    fn a_thousand_values_can_be_known() {
        let redactor = Redactor::default();
        let values: Vec<String> = (0..1_000)
            .map(|i| format!("value-{i:020}-{}", i * 7))
            .collect();
        let _guarded: Vec<Guarded> = values
            .iter()
            .map(|value| redactor.guard(secret(value)))
            .collect();
        let line = format!("a {} b {} c", values[17], values[999]);
        assert_eq!(redactor.redact(&line), "a [redacted] b [redacted] c");
    }
}
