//! No secret is a placeholder, too short, meant for tests, or probably mistyped. Values are never
//! shown.

use std::collections::BTreeMap;

use secrecy::ExposeSecret;

use super::{
    address::{self, Problem, Service},
    app_values,
    check::{Check, Fault, Finding},
    secrets_resolvable::addresses,
};
use crate::{
    api::{Reason, preflight::CheckName, reference::SecretKeyRef, status::Severity},
    net::prometheus::Access,
    pipeline::{Cx, step::Result},
    plan::{Target, refs::Refs},
    redact,
};

/// No secret is a placeholder, too short, meant for tests, or probably mistyped.
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
    /// What is weak or doubtful, each with its place.
    type Observed = Vec<Fault>;
    const NAME: CheckName = CheckName::SecretsStrong;
    const SEVERITY: Severity = Severity::Warning;

    async fn observe(&self, cx: &Cx) -> Result<Vec<Fault>> {
        let mut faults = Vec::new();
        let mut shown = Vec::new();
        for source in &cx.target.provision.secrets.from {
            let name = &source.secret_ref.name;
            // SecretsResolvable reports what is missing.
            for (key, value) in cx.refs.secret_values(name).unwrap_or_default() {
                let place = format!("{key} of the Secret {name}");
                let value = value.expose_secret();
                faults.extend(weakness(key, value).map(|what| weak(&place, what)));
                if is_shown(value) {
                    shown.push(place.clone());
                }
                let doubt = app_values::doubt(key, value);
                faults.extend(doubt.map(|(what, action)| doubtful(&place, what, action)));
                let doubts = app_values::address_doubts(key, value).into_iter();
                let place = format!("the address in {place}");
                faults.extend(doubts.map(|doubt| doubtful(&place, &doubt.what, doubt.action)));
            }
        }
        for (service, reference) in addresses(&cx.target) {
            faults.extend(of_address(&cx.refs, service, reference));
        }
        for reference in &cx.target.preflight.webhooks {
            faults.extend(of_address(&cx.refs, Service::Https, reference));
        }
        let allowed = &cx.installation.prometheus;
        let asked = cx.target.preflight.prometheus.as_ref();
        let is_ours =
            |url: &&String| allowed.access(url, &cx.owner.namespace) == Access::Installation;
        // What the administrator has allowed may have any address.
        if let Some(url) = asked.filter(|url| !is_ours(url)) {
            let found = address::judge(Service::Https, url);
            for Problem { what, action } in found.unwrap_or_else(|problem| vec![problem]) {
                let place = "the address in `observe.source.prometheus.url`";
                faults.push(doubtful(place, &what, action));
            }
        }
        faults.extend(not_hidden(&shown));
        let token = &cx.target.preflight.token_secret;
        if cx
            .refs
            .ends_with_line_break(token, &cx.target.preflight.token_key)
        {
            faults.push(line_break(&cx.target.preflight.token_key, token));
        }
        Ok(faults)
    }

    fn judge(&self, _target: &Target, faults: &Vec<Fault>) -> Finding {
        // What can be guessed is the more important.
        let weak = |fault: &&Fault| fault.reason == Reason::SecretWeak;
        let rest = faults.iter().filter(|fault| !weak(fault));
        let ordered: Vec<Fault> = faults.iter().filter(weak).chain(rest).cloned().collect();
        Finding::of(&ordered)
            .unwrap_or_else(|| Finding::passed("no weak or doubtful secret was found"))
    }
}

fn weak(place: &str, what: &str) -> Fault {
    Fault::new(
        Reason::SecretWeak,
        format!("{place} {what}"),
        "put the real values there, or let Golive generate them (`provision.secrets.generate`)",
    )
}

fn doubtful(place: &str, what: &str, action: impl Into<String>) -> Fault {
    Fault::new(Reason::SecretDoubtful, format!("{place} {what}"), action)
}

/// Values in one message; the rest is counted.
const MOST_SHOWN: usize = 4;

/// Whether a value is not kept out of messages, though it might be meant as a secret. A switch, a number
/// or an empty value is not.
fn is_shown(value: &str) -> bool {
    let value = value.trim();
    let number = value.len() < 6 && value.bytes().all(|byte| byte.is_ascii_digit());
    let switch = ["true", "false", "yes", "no", "on", "off"];
    let setting = number || switch.contains(&value.to_ascii_lowercase().as_str());
    !setting && redact::hideable(value.as_bytes()).is_err()
}

/// That these values are not kept out of messages.
fn not_hidden(places: &[String]) -> Option<Fault> {
    let named = places.get(..places.len().min(MOST_SHOWN))?.join(", ");
    let more = match places.len().saturating_sub(MOST_SHOWN) {
        _ if places.is_empty() => return None,
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(Fault::new(
        Reason::SecretNotHidden,
        format!("too short or too common to be removed from logs and messages: {named}{more}"),
        "nothing if they are settings; replace a secret by a longer, random value",
    ))
}

/// A token or an address is used without the line break at its end.
fn line_break(key: &str, secret: &str) -> Fault {
    doubtful(
        &format!("{key} of the Secret {secret}"),
        "ends with a line break, which is left out",
        "nothing; to store it without one use `--from-literal`, or `printf %s VALUE > FILE`",
    )
}

/// What is weak or doubtful in an address. One that cannot be used is reported by
/// `SecretsResolvable`, unless it is needed only later.
fn of_address(refs: &Refs, service: Service, reference: &SecretKeyRef) -> Vec<Fault> {
    let (name, key) = (&reference.name, &reference.key);
    let Ok(value) = refs.secret(name, key) else {
        return Vec::new();
    };
    let value = value.expose_secret();
    let mut faults = Vec::new();
    if let Some(what) = weak_password(value) {
        faults.push(weak(
            &format!("the password in {key} of the Secret {name}"),
            what,
        ));
    }
    let place = format!("the address in {key} of the Secret {name}");
    let doubts = match address::judge(service, value) {
        Ok(doubts) => doubts,
        Err(problem) if service == Service::Https => vec![problem],
        Err(_) => Vec::new(),
    };
    faults.extend(
        doubts
            .into_iter()
            .map(|doubt| doubtful(&place, &doubt.what, doubt.action)),
    );
    if refs.ends_with_line_break(name, key) {
        faults.push(line_break(key, name));
    }
    faults
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

/// What is wrong with the password in a URL. A URL without a password is no secret.
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

/// So many characters tell whether a value can be guessed.
const MOST_CHARACTERS: usize = 4_096;

/// Shannon's entropy of the characters times their number, in bits: an upper bound of the effort to
/// guess the value.
fn bits(value: &str) -> f64 {
    let mut counts: BTreeMap<char, u32> = BTreeMap::new();
    for character in value.chars().take(MOST_CHARACTERS) {
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
#[allow(clippy::unwrap_used)]
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
    fn a_value_that_is_not_kept_out_of_messages_is_told_and_a_setting_is_not() {
        for shown in ["object", "create", "started", "production", "hunter2"] {
            assert!(is_shown(shown), "{shown}");
        }
        for silent in [
            "",
            "true",
            "8080",
            "OFF\n",
            "59c3330781715efd040ae625b7699406",
        ] {
            assert!(!is_shown(silent), "{silent}");
        }
        let places: Vec<String> = (0..6).map(|n| format!("K{n} of the Secret app")).collect();
        let told = not_hidden(&places).unwrap().message;
        assert!(told.contains("K3 of the Secret app and 2 more"), "{told}");
        assert!(not_hidden(&[]).is_none());
    }

    #[test]
    fn the_report_names_the_place_and_what_is_weak_comes_first() {
        let faults = vec![
            doubtful("B of the Secret app", "is empty", "nothing"),
            weak("A of the Secret app", "is a placeholder"),
        ];
        let finding = SecretsStrong.judge(&target("", &[]), &faults);
        assert!(
            matches!(&finding, Finding::Failed { reason: Reason::SecretWeak, message, action }
                if message == "A of the Secret app is a placeholder; B of the Secret app is empty"
                && action.ends_with("; nothing")),
            "{finding:?}"
        );
        let finding = SecretsStrong.judge(&target("", &[]), &faults[..1].to_vec());
        assert!(
            matches!(
                &finding,
                Finding::Failed {
                    reason: Reason::SecretDoubtful,
                    ..
                }
            ),
            "{finding:?}"
        );
    }

    #[test]
    fn an_address_is_weak_or_doubtful_and_a_line_break_at_its_end_is_told() {
        let said = |service, value: &str| {
            let refs = Refs::of(&[("db", "url", value)], &[]);
            let reference = SecretKeyRef {
                name: "db".to_owned(),
                key: "url".to_owned(),
            };
            let faults = of_address(&refs, service, &reference);
            let said: Vec<String> = faults.into_iter().map(|fault| fault.message).collect();
            said.join("; ")
        };
        let strong = "postgres://u:Zt7vQm2rKx9pLw4sNb8dHc3f@db.example/x";
        assert_eq!(said(Service::Postgres, strong), "");
        let broken = said(Service::Postgres, &format!("{strong}\n"));
        assert_eq!(
            broken,
            "url of the Secret db ends with a line break, which is left out"
        );
        let local = said(Service::Postgres, "postgres://u:changeme@localhost/x");
        assert!(
            local.contains("placeholder") && local.contains("localhost"),
            "{local}"
        );
        let plain = said(Service::Https, "http://hooks.example/x");
        assert!(plain.contains("http://"), "{plain}");
    }
}
