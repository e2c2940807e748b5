//! Keeps secret values out of everything that is written about an object: log lines, events, status.
//!
//! Types protect secrets in our own code (`SecretString` has no `Display`, and a `Debug` without
//! the value). This is the second line of defence: text from elsewhere, such as the last output of
//! a machine or the message of an error, may quote a value in any encoding. A [`Redactor`] knows the
//! values of one object and replaces each of them, in every encoding of `forms.rs`, also when only
//! its beginning occurs. What is escaped in another way is found in the text without its escapes
//! (`decode.rs`). Uses nothing of the crate. Start reading at [`Redactor::redact`].
//!
//! - **Whose value it is.** Each object has a redactor of its own. [`scope`] makes it the one of a
//!   task; [`guard`] adds to it, and [`redact`] and the log use it. So no value of one tenant
//!   changes a text about another. What has no owner goes to the redactor of the process.
//! - **No value is kept.** A redactor holds keyed hashes of the beginnings and of the whole of each
//!   encoding. It may outlive the pass that read the values.
//! - **Linear time.** The hash of any part of a text follows from two of its prefix hashes, so that
//!   a comparison costs the same whatever the length of the value.
//! - **Common values stay.** `production` in a Secret is no secret ([`hideable`]).

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use self::forms::{lines, password_in_url};
use self::known::Known;
pub use self::known::MOST_PARTS;
pub use self::strength::{SHORTEST, Shown, hideable};

mod decode;
mod forms;
mod hash;
mod known;
mod strength;

/// How much a redactor would know of this value: itself, each of its lines, and a password in it.
#[must_use]
pub fn parts(value: &[u8]) -> usize {
    forms::parts(value.trim_ascii())
}

/// The replacement for a secret.
pub const REDACTED: &str = "[redacted]";

/// What is known of the secret values of one object. Cheap to clone; clones share it.
#[derive(Clone, Default)]
pub struct Redactor {
    known: Arc<RwLock<Known>>,
}

/// A secret value that is redacted from the texts of its object.
#[derive(Clone)]
pub struct Guarded(SecretString);

impl Guarded {
    /// The value. Do not log it, and do not put it into an error.
    pub fn expose_secret(&self) -> &str {
        self.0.expose_secret()
    }

    /// The value, to pass on.
    pub fn secret(&self) -> &SecretString {
        &self.0
    }
}

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

tokio::task_local! {
    static SCOPE: Redactor;
}

/// The redactor of this process, for what has no owner.
pub fn global() -> &'static Redactor {
    static GLOBAL: LazyLock<Redactor> = LazyLock::new(Redactor::default);
    &GLOBAL
}

/// Runs `work` about the object whose redactor this is.
pub async fn scope<W: Future>(redactor: Redactor, work: W) -> W::Output {
    SCOPE.scope(redactor, work).await
}

/// As [`scope`], for what does not wait.
pub fn in_scope<T>(redactor: Redactor, work: impl FnOnce() -> T) -> T {
    SCOPE.sync_scope(redactor, work)
}

/// The redactor of the object that this task works for; that of the process outside of [`scope`].
pub fn current() -> Redactor {
    SCOPE
        .try_with(Clone::clone)
        .unwrap_or_else(|_| global().clone())
}

/// `work` for a task of its own, about the same object as this task.
pub fn carry<W: Future>(work: W) -> impl Future<Output = W::Output> {
    scope(current(), work)
}

/// Has the value redacted from the texts of this task's object from now on.
pub fn guard(value: SecretString) -> Guarded {
    current().guard(value)
}

/// The text without the values of this task's object.
pub fn redact(text: &str) -> Cow<'_, str> {
    let own = SCOPE.try_with(|redactor| redactor.find(text));
    match own {
        Ok(found) if !found.is_empty() => {
            let text = replaced(text, found);
            let rest = global().find(&text);
            Cow::Owned(replaced(&text, rest))
        }
        _ => global().redact(text),
    }
}

/// As [`redact`], in place.
pub fn in_place(text: &mut String) {
    let redacted = match redact(text) {
        Cow::Borrowed(_) => return,
        Cow::Owned(redacted) => redacted,
    };
    *text = redacted;
}

impl Redactor {
    /// Has a value redacted. One that is not [`hideable`] is left alone. The password in a URL such
    /// as `postgres://user:password@host` is redacted as well, and so is each line of a multi-line
    /// value such as a private key.
    pub fn guard(&self, value: SecretString) -> Guarded {
        self.learn(value.expose_secret().as_bytes());
        Guarded(value)
    }

    /// As [`Redactor::guard`], for a value that may not be text. Takes time in proportion to the
    /// value: a large one should be learned where it holds up nothing.
    pub fn learn(&self, value: &[u8]) {
        // Secrets made with `echo` end with a newline that is not part of the value.
        let trimmed = value.trim_ascii();
        // What is learned again is in use: it must be the last that is forgotten.
        if trimmed.len() < SHORTEST || self.write().touch(trimmed) {
            return;
        }
        let passwords = password_in_url(trimmed).into_iter().map(Zeroizing::new);
        let passwords: Vec<Zeroizing<Vec<u8>>> = passwords.collect();
        let key = self.read().key();
        let learned: Vec<_> = std::iter::once(trimmed)
            .chain(lines(trimmed))
            .chain(passwords.iter().map(|part| part.as_slice()))
            .filter_map(|part| known::Learned::of(part, key))
            .collect();
        self.write().add(trimmed, learned);
    }

    /// The text with every known value replaced by [`REDACTED`].
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let found = self.find(text);
        if found.is_empty() {
            return Cow::Borrowed(text);
        }
        Cow::Owned(replaced(text, found))
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.read().is_empty()
    }

    fn find(&self, text: &str) -> Vec<(usize, usize)> {
        self.read().find(text.as_bytes())
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
        f.write_str("Redactor")
    }
}

/// The text with these ranges replaced, which are in order and do not overlap.
fn replaced(text: &str, found: Vec<(usize, usize)>) -> String {
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
    out
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
        let mut tested = 0;
        for seed in 0..300 {
            let mut rng = StdRng::seed_from_u64(seed);
            let alphabet: Vec<char> = alphabets[rng.random_range(0..3)].chars().collect();
            let length = rng.random_range(14..60);
            let middle: String = (0..length)
                .map(|_| alphabet[rng.random_range(0..alphabet.len())])
                .collect();
            let value = format!("k{middle}z");
            if hideable(value.as_bytes()).is_err() {
                continue;
            }
            tested += 1;
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
        assert!(tested > 250, "only {tested} values are hidden");
    }

    /// Escapes of everything that is no letter or digit, of every character, and of every other one, as
    /// libraries write them that know no unreserved characters.
    #[test]
    fn a_value_is_found_however_its_characters_are_escaped() {
        let redactor = Redactor::default();
        let value = "k-3.x_7 Q~zé/9+W";
        let _guarded = redactor.guard(secret(value));
        let each = |every: usize, escape: &dyn Fn(char) -> String| -> String {
            let escape = |(at, char): (usize, char)| match every {
                0 if char.is_ascii_alphanumeric() => char.to_string(),
                0 => escape(char),
                every if at % every == 0 => escape(char),
                _ => char.to_string(),
            };
            value.chars().enumerate().map(escape).collect()
        };
        let bytes = |char: char| char.to_string().into_bytes();
        let upper = |char| {
            bytes(char)
                .iter()
                .map(|byte| format!("%{byte:02X}"))
                .collect()
        };
        let lower = |char| {
            bytes(char)
                .iter()
                .map(|byte| format!("%{byte:02x}"))
                .collect()
        };
        let plus = |char| {
            if char == ' ' {
                "+".to_owned()
            } else {
                lower(char)
            }
        };
        let json = |char| format!("\\u{:04x}", u32::from(char));
        let rust = |char| format!("\\u{{{:x}}}", u32::from(char));
        let nested = |char| format!("\\\\u{:04X}", u32::from(char));
        let ways: [(&str, &dyn Fn(char) -> String); 6] = [
            ("upper", &upper),
            ("lower", &lower),
            ("plus", &plus),
            ("json", &json),
            ("rust", &rust),
            ("nested", &nested),
        ];
        for (name, way) in ways {
            // A space that is left between pluses is no form encoding.
            for every in if name == "plus" { 0..2 } else { 0..4 } {
                let line = format!("é said: {};", each(every, way));
                let redacted = redactor.redact(&line);
                assert_eq!(redacted, "é said: [redacted];", "{name} {every}: {line}");
            }
        }
        // A cut one, and one beside a text with escapes of its own.
        let cut = redactor.redact("token=k%2D3%2Ex%5F7+Q%7Ez%C3%A9%2F… was refused, 100%25 sure");
        assert_eq!(cut, "token=[redacted]… was refused, 100%25 sure");
        let both = redactor.redact("a%20b k-3.x_7 Q~zé/9+W c%20d");
        assert_eq!(both, "a%20b [redacted] c%20d");
    }

    #[test]
    fn the_first_twelve_characters_are_enough_and_all_that_follow_go_too() {
        let redactor = Redactor::default();
        let _guarded = redactor.guard(secret("Zk3-correct-horse-battery-staple"));
        let line = redactor.redact("token=Zk3-correct-hor… was refused");
        assert_eq!(line, "token=[redacted]… was refused");
        assert_eq!(redactor.redact("Zk3-correct"), "Zk3-correct");
    }

    #[tokio::test]
    async fn a_value_of_one_object_changes_no_text_about_another() {
        let (ours, theirs) = (Redactor::default(), Redactor::default());
        let value = "zebra-canary-of-one-tenant-3f9a";
        scope(theirs.clone(), async {
            guard(secret(value));
            assert_eq!(redact(value), REDACTED);
            let carried = carry(async { redact(value).into_owned() });
            assert_eq!(tokio::spawn(carried).await.unwrap(), REDACTED);
        })
        .await;
        scope(ours, async { assert_eq!(redact(value), value) }).await;
        assert_eq!(redact(value), value, "outside of every object");
        assert_eq!(in_scope(theirs, || redact(value).into_owned()), REDACTED);
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
    fn short_and_common_values_do_not_make_logs_unreadable() {
        let redactor = Redactor::default();
        let common = [
            "",
            "yes",
            "8080\n",
            "   ",
            "object",
            "create",
            "started",
            "application",
        ];
        let _guarded = common.map(|value| redactor.guard(secret(value)));
        let line = "yes, port 8080: the application started, create the object";
        assert_eq!(redactor.redact(line), line);
        assert!(redactor.is_empty());
    }

    #[test]
    fn nothing_prints_the_value() {
        let redactor = Redactor::default();
        let guarded = redactor.guard(secret("hunter2-hunter2"));
        assert_eq!(format!("{guarded:?}"), REDACTED);
        assert_eq!(format!("{redactor:?}"), "Redactor");
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

    #[test]
    fn a_value_that_begins_like_public_texts_does_not_hide_them() {
        let redactor = Redactor::default();
        let _guarded = redactor.guard(secret(
            "{\"time\":\"2026-11-30T07:38:20Z\",\"key\":\"x7Kp2mQz\"}",
        ));
        let _guarded = redactor.guard(secret(
            "https://api.machines.dev/v1/apps/shop?token=x7Kp2mQz",
        ));
        for public in [
            "{\"time\":\"2026-11-29",
            "https://api.fly.io/v1",
            "https://api.",
        ] {
            assert_eq!(redactor.redact(public), public);
        }
    }

    #[test]
    fn a_value_inside_of_another_and_one_that_continues_a_shorter_one_are_hidden_whole() {
        let redactor = Redactor::default();
        let _short = redactor.guard(secret("Zk3-correct-horse"));
        let _long = redactor.guard(secret("Zk3-correct-horse-battery-staple-9fK2"));
        let line = redactor.redact("a Zk3-correct-horse-battery-stapl… b Zk3-correct-horse c");
        assert_eq!(line, "a [redacted]… b [redacted] c");
    }

    #[test]
    fn no_value_is_kept_and_what_is_kept_does_not_grow_with_it() {
        let redactor = Redactor::default();
        let small = "x7Kp2mQz".repeat(4);
        redactor.learn(small.as_bytes());
        let before = redactor.read().bytes();
        let other = Redactor::default();
        other.learn("x7Kp2mQz".repeat(8_000).as_bytes());
        let after = other.read().bytes();
        assert!(
            after < 20 * before && after < 32 * 1024,
            "{before} and {after} bytes"
        );
    }

    /// As many lines as the values of one object may have, after a token, and the same in each later pass.
    #[test]
    fn nothing_that_an_object_names_is_forgotten_while_it_is_in_use() {
        let redactor = Redactor::default();
        let token = "fo1_canary-of-a-token-x7Kp2mQz";
        let address = "postgres://app:canary-of-an-address@db.internal/app";
        let line = |of: usize, number: usize| format!("line-{of:04}-{number:04}-x7Kp2mQz");
        let bundle = |of: usize| {
            let lines: Vec<String> = (0..128).map(|number| line(of, number)).collect();
            lines.join("\n")
        };
        let all: Vec<String> = [token.to_owned(), address.to_owned()]
            .into_iter()
            .chain((0..23).map(bundle))
            .collect();
        let parts_of_all: usize = all.iter().map(|value| parts(value.as_bytes())).sum();
        assert!(parts_of_all <= MOST_PARTS && parts_of_all > MOST_PARTS - 128);
        for pass in 0..40 {
            for value in &all {
                redactor.learn(value.as_bytes());
            }
            // Values that change with every pass.
            for number in 0..500 {
                redactor.learn(format!("rotated-{pass:04}-{number:04}-x7Kp2mQz").as_bytes());
            }
            for value in [token, address, "canary-of-an-address"] {
                assert_eq!(redactor.redact(value), REDACTED, "pass {pass}");
            }
            for of in 0..23 {
                for number in [0, 64, 127] {
                    let line = line(of, number);
                    assert_eq!(redactor.redact(&line), REDACTED, "pass {pass}: {line}");
                }
            }
        }
    }

    /// A line that a value shares with one that is no longer used, whichever was learned first.
    #[test]
    fn a_line_is_known_as_long_as_one_of_its_values() {
        for used in [0, 1] {
            let redactor = Redactor::default();
            let shared = "shared-line-x7Kp2mQz-9fK2";
            let values = ["first", "other"].map(|name| format!("{name}-own-line-9fK2\n{shared}"));
            for value in &values {
                redactor.learn(value.as_bytes());
            }
            for number in 0..10_000 {
                redactor.learn(format!("rotated-{number:08}-x7Kp2mQz").as_bytes());
                if number % 500 == 0 {
                    redactor.learn(values[used].as_bytes());
                }
            }
            assert_eq!(redactor.redact(shared), REDACTED, "{used}");
        }
    }

    #[test]
    fn a_redactor_forgets_the_oldest_values_before_it_grows_without_bound() {
        let redactor = Redactor::default();
        let value = |number: usize| format!("rotated-{number:08}-x7Kp2mQz");
        for number in 0..10_000 {
            redactor.learn(value(number).as_bytes());
        }
        assert_eq!(redactor.redact(&value(9_999)), REDACTED);
        assert_eq!(redactor.redact(&value(1)), value(1));
        assert!(redactor.read().bytes() < 24 << 20);
    }

    /// Sixteen values of 64 KiB that begin like each other, and a text that consists of such beginnings.
    #[test]
    fn the_cost_does_not_depend_on_how_long_the_values_are_that_nearly_match() {
        let cost = |length: usize| {
            let redactor = Redactor::default();
            for number in 0..16 {
                let value = format!("observed-the-step-9fK2x7-{}{number}", "ab1".repeat(length));
                redactor.learn(value.as_bytes());
            }
            let text = format!("observed-the-step-9fK2x7-{}", "ab1".repeat(50)).repeat(50);
            let start = std::time::Instant::now();
            for _ in 0..5 {
                assert!(redactor.redact(&text).contains(REDACTED));
            }
            start.elapsed()
        };
        let (short, long) = (cost(60), cost(20_000));
        assert!(long < short * 20, "{short:?} and {long:?}");
    }
}
