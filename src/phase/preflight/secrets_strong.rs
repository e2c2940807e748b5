//! No secret is a placeholder, too short, or meant for tests. Values are never shown.

use std::collections::BTreeMap;

use secrecy::ExposeSecret;

use super::check::{Check, Finding};
use crate::{
    api::{Reason, preflight::CheckName, status::Severity},
    pipeline::{Cx, step::Result},
    plan::{Database, Redis, Target},
};

/// No secret is a placeholder, too short, or meant for tests.
pub struct SecretsStrong;

/// Words that people put in place of a value.
const PLACEHOLDERS: [&str; 17] = [
    "changeme",
    "change-me",
    "change_me",
    "replaceme",
    "replace-me",
    "replace_me",
    "placeholder",
    "todo",
    "tbd",
    "fixme",
    "dummy",
    "secret",
    "password",
    "your-",
    "your_",
    "xxxx",
    "<",
];

/// Prefixes of test credentials: Mercado Pago, Stripe.
const TESTS: [&str; 4] = ["TEST-", "sk_test_", "pk_test_", "rk_test_"];

/// Bits of entropy below which a secret can be guessed. NIST SP 800-131A no longer accepts 64 bits
/// for keys, and it is far more than can be tried over a network.
const LEAST_BITS: f64 = 64.0;

impl Check for SecretsStrong {
    /// The places of weak values, and what is wrong with each.
    type Observed = Vec<(String, &'static str)>;
    const NAME: CheckName = CheckName::SecretsStrong;
    const SEVERITY: Severity = Severity::Warning;

    async fn observe(&self, cx: &Cx) -> Result<Vec<(String, &'static str)>> {
        let mut weak = Vec::new();
        for source in &cx.target.provision.secrets.from {
            let name = &source.secret_ref.name;
            // SecretsResolvable reports what is missing.
            for (key, value) in cx.refs.secret_values(name).unwrap_or_default() {
                if let Some(what) = weakness(key, value.expose_secret()) {
                    weak.push((format!("{key} of the Secret {name}"), what));
                }
            }
        }
        let target = &cx.target;
        let external = match target.database() {
            Some(Database::External(reference)) => Some(reference),
            _ => None,
        };
        let redis = match target.redis() {
            Some(Redis::External(reference)) => Some(reference),
            _ => None,
        };
        let urls = [external, target.database_fallback(), redis];
        for reference in urls.into_iter().flatten() {
            let (name, key) = (&reference.name, &reference.key);
            if let Ok(value) = cx.refs.secret(name, key)
                && let Some(what) = weak_password(value.expose_secret())
            {
                weak.push((format!("the password in {key} of the Secret {name}"), what));
            }
        }
        Ok(weak)
    }

    fn judge(&self, _target: &Target, weak: &Vec<(String, &'static str)>) -> Finding {
        if weak.is_empty() {
            return Finding::passed("no weak secret was found");
        }
        let texts: Vec<String> = weak
            .iter()
            .map(|(place, what)| format!("{place} {what}"))
            .collect();
        Finding::failed(
            Reason::SecretWeak,
            texts.join("; "),
            "put the real values there, or let Golive generate them (`provision.secrets.generate`)",
        )
    }
}

/// What is wrong with a value, in words that do not reveal it.
fn weakness(name: &str, value: &str) -> Option<&'static str> {
    let lower = value.to_lowercase();
    if TESTS.iter().any(|prefix| value.starts_with(prefix)) {
        return Some("is a credential for tests");
    }
    // A placeholder is short; a long value may contain such a word by chance.
    let placeholder = PLACEHOLDERS.iter().any(|word| {
        lower == *word || (lower.len() <= 40 && !looks_random(value) && lower.contains(word))
    });
    if placeholder {
        return Some("is a placeholder");
    }
    let name = name.to_ascii_uppercase();
    let is_secret = ["SECRET", "TOKEN", "PASSWORD", "KEY", "SALT"]
        .iter()
        .any(|word| name.contains(word));
    if is_secret && bits(value) < LEAST_BITS {
        return Some("can be guessed: it is too short or too regular");
    }
    None
}

/// What is wrong with the password in a URL. A URL without a password is no secret, and one that
/// cannot be parsed is reported by the step that uses it.
fn weak_password(url_text: &str) -> Option<&'static str> {
    let url = url::Url::parse(url_text).ok()?;
    let password = url.password().filter(|password| !password.is_empty())?;
    weakness("PASSWORD", password)
}

/// Whether a value appears to be random.
fn looks_random(value: &str) -> bool {
    let has = |is: fn(&char) -> bool| value.chars().any(|c| is(&c));
    has(char::is_ascii_digit) && has(|c| c.is_alphabetic()) && bits(value) >= 90.0
}

/// Shannon's entropy of the characters times their number, in bits: an upper bound of the effort to
/// guess the value.
fn bits(value: &str) -> f64 {
    let mut counts: BTreeMap<char, u32> = BTreeMap::new();
    for character in value.chars() {
        *counts.entry(character).or_default() += 1;
    }
    let all = f64::from(counts.values().sum::<u32>());
    counts
        .values()
        .map(|count| {
            let count = f64::from(*count);
            -count * (count / all).log2()
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::testing::target;

    #[test]
    fn placeholders_test_credentials_and_short_values_are_found() {
        for (name, value) in [
            ("JWT_SECRET", "changeme"),
            ("API_KEY", "your-api-key-here"),
            ("X", "<put the token here>"),
            ("MP_ACCESS_TOKEN", "TEST-4958210348-112233-abcdef0123456789"),
            ("STRIPE", "sk_test_4eC39HqLyjWDarjtT1zdp7dc"),
            ("WHATSAPP_VERIFY_TOKEN", "hunter2"),
            ("SALT", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
        ] {
            assert!(weakness(name, value).is_some(), "{name}");
        }
    }

    #[test]
    fn real_values_and_plain_settings_pass() {
        for (name, value) in [
            ("TOKEN", "ea863b245a47f4a0deed25c7faece57037cf4321d2e7379a"),
            ("WHATSAPP_APP_SECRET", "59c3330781715efd040ae625b7699406"),
            ("PASSWORD", "Zt7vQm2rKx9pLw4sNb8dHc3f"),
            ("LOG_LEVEL", "info"),
            ("PHONE_ID", "1234567890"),
            (
                "URL",
                "https://hooks.slack.example/services/T0/B0/8821e6dc7c45783e",
            ),
        ] {
            assert_eq!(weakness(name, value), None, "{name}");
        }
    }

    #[test]
    fn the_password_in_the_url_of_a_database_is_checked_too() {
        for weak in [
            "postgres://cabanas:password@db.example/x",
            "postgres://cabanas:changeme@db.example/x",
            "redis://default:<password>@redis.example:6379",
            "redis://default:hunter2@redis.example:6379",
        ] {
            assert!(weak_password(weak).is_some(), "{weak}");
        }
        for fine in [
            "postgres://cabanas:Zt7vQm2rKx9pLw4sNb8dHc3f@db.example/x",
            "postgres://cabanas@db.example/x",
            "not an address",
        ] {
            assert_eq!(weak_password(fine), None, "{fine}");
        }
    }

    #[test]
    fn the_report_names_the_place_and_never_the_value() {
        let weak = vec![("A of the Secret app".to_owned(), "is a placeholder")];
        let finding = SecretsStrong.judge(&target("", &[]), &weak);
        assert!(
            matches!(&finding, Finding::Failed { message, .. }
                if message == "A of the Secret app is a placeholder"),
            "{finding:?}"
        );
    }
}
