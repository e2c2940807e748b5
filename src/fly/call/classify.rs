//! From a response of Fly.io to the class of an error. Pure.
//!
//! What decides, in this order: the `status` code in the body, the HTTP status, and within one
//! HTTP status the text of the message. Fly.io gives most conflicts no code, so this is the one
//! place where its texts are parsed. Codes: fly.io/docs/machines/api/working-with-machines-api/.
//! Texts: recorded responses, all of them in the tests below.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::clock::http_date;
use crate::fly::error::{Class, Conflict, Scope};

/// A response that is not a success.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer<'a> {
    /// Whether the call was meant to change something.
    pub(crate) mutates: bool,
    /// HTTP status.
    pub(crate) status: u16,
    /// The body, as far as it was read.
    pub(crate) body: &'a [u8],
    /// The value of `Retry-After`.
    pub(crate) retry_after: Option<Duration>,
}

/// The result of the classification. `message` is still foreign text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) class: Class,
    pub(crate) code: Option<String>,
    pub(crate) message: String,
    /// Whether the change may have happened.
    pub(crate) ambiguous: bool,
}

/// Classifies an HTTP answer.
pub(crate) fn answer(answer: Answer<'_>) -> Verdict {
    let (code, message) = code_and_message(answer.body);
    let message = message.unwrap_or_else(|| format!("status {}", answer.status));
    let unknown = answer.mutates && (answer.status == 408 || answer.status >= 500);
    let class = by_code(code.as_deref())
        .unwrap_or_else(|| by_status(&answer, &message.to_lowercase(), unknown));
    let ambiguous = unknown || class == Class::Ambiguous;
    Verdict {
        class,
        code,
        message,
        ambiguous,
    }
}

fn by_code(code: Option<&str>) -> Option<Class> {
    let conflict = match code? {
        "insufficient_capacity" => Conflict::Capacity(Scope::Region),
        "volume_placement_capacity" => Conflict::Capacity(Scope::Volume),
        "name_taken" => Conflict::NameTaken { machine_id: None },
        _ => return None,
    };
    Some(Class::Conflict(conflict))
}

fn by_status(answer: &Answer<'_>, text: &str, unknown: bool) -> Class {
    let conflict = match answer.status {
        429 => {
            return Class::Throttled {
                after: answer.retry_after,
            };
        }
        401 => return Class::Auth { hard: false },
        402 => Conflict::Quota,
        403 if needs_a_person(text) => Conflict::Quota,
        403 => return Class::Auth { hard: false },
        404 | 410 => return Class::Gone,
        409 | 412 => blocked(answer.status, text),
        400..=499 if needs_a_person(text) => Conflict::Quota,
        400 | 422 => match refused(text) {
            Some(conflict) => conflict,
            None => return Class::Invalid,
        },
        _ if unknown => return Class::Ambiguous,
        408 | 425 | 500.. => return Class::Transient,
        // A redirect or an unexpected success comes from something between us and Fly.io, and says
        // nothing about the request.
        ..400 if answer.mutates => return Class::Ambiguous,
        ..400 => return Class::Transient,
        _ => return Class::Invalid,
    };
    Class::Conflict(conflict)
}

/// 409 and 412. Recorded lease conflicts are all 409; 412 is reported as well, so both are
/// treated alike.
fn blocked(status: u16, text: &str) -> Conflict {
    if text.contains("lease currently held") || text.contains("lease is held") {
        return Conflict::Lease {
            expires_at: expiry(text),
        };
    }
    if text.contains("unique machine name violation") {
        return Conflict::NameTaken {
            machine_id: machine_id(text),
        };
    }
    if text.contains("existing volume id") || text.contains("insufficient resources to create") {
        return Conflict::Capacity(Scope::Volume);
    }
    if no_room_on_host(text) {
        return Conflict::Capacity(Scope::Host);
    }
    if text.contains("no capacity") || text.contains("could not find a candidate host") {
        return Conflict::Capacity(Scope::Region);
    }
    if needs_a_person(text) {
        return Conflict::Quota;
    }
    if text.contains("concurrent update")
        || text.contains("current_version")
        || (text.contains("version") && text.contains("match"))
    {
        return Conflict::Version;
    }
    if text.contains("secret") && text.contains("version") {
        return Conflict::SecretsNotVisible;
    }
    if text.contains("volume")
        && ["in use", "claimed", "attached"]
            .iter()
            .any(|word| text.contains(word))
    {
        return Conflict::VolumeBusy;
    }
    match status {
        412 => Conflict::State,
        _ if text.contains("already") => Conflict::Exists,
        _ => Conflict::Other,
    }
}

/// 400 and 422 with a more specific cause than an invalid request.
fn refused(text: &str) -> Option<Conflict> {
    if text.contains("could not find a candidate host") || text.contains("no capacity") {
        return Some(Conflict::Capacity(Scope::Region));
    }
    if no_room_on_host(text) {
        return Some(Conflict::Capacity(Scope::Host));
    }
    if text.contains("already been taken") || text.contains("uniqueness constraint") {
        return Some(Conflict::NameTaken { machine_id: None });
    }
    if text.contains("already exist") {
        return Some(Conflict::Exists);
    }
    None
}

fn no_room_on_host(text: &str) -> bool {
    text.contains("could not reserve resource")
        || text.contains("insufficient resources available")
        || text.contains("insufficient memory available")
        || text.contains("insufficient cpus available")
        || text.contains("insufficient ips available")
        || text.contains("deploys to this host are temporarily disabled")
}

/// Limits and billing: retrying does not help.
fn needs_a_person(text: &str) -> bool {
    text.contains("machine limit")
        || text.contains("payment method")
        || text.contains("billing")
        || text.contains("governor policy blocked")
}

/// `… expires at 2026-10-21T07:28:00Z`
fn expiry(text: &str) -> Option<Timestamp> {
    let (_, after) = text.split_once("expires at ")?;
    let word = after.split_whitespace().next()?;
    word.trim_end_matches(['.', ',', ')', '"'])
        .to_uppercase()
        .parse()
        .ok()
}

/// `… machine ID 148ed599b14d89 already exists with name "…"`
fn machine_id(text: &str) -> Option<String> {
    let (_, after) = text.split_once("machine id ")?;
    let id: String = after
        .chars()
        .take_while(char::is_ascii_alphanumeric)
        .collect();
    (!id.is_empty()).then_some(id)
}

/// Code and message of an error body. The Machines API, leases, managed Postgres and registries
/// each have their own format.
fn code_and_message(body: &[u8]) -> (Option<String>, Option<String>) {
    let Ok(json) = serde_json::from_slice::<Value>(body) else {
        let text = String::from_utf8_lossy(&body[..body.len().min(1024)])
            .trim()
            .to_owned();
        // An HTML page comes from a proxy in between and explains nothing.
        let plain = !text.is_empty() && !text.starts_with('<');
        return (None, plain.then_some(text));
    };
    let text = |value: Option<&Value>| {
        value
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    let first = json.get("errors").and_then(|errors| errors.get(0));
    let code = text(json.get("status"))
        .filter(|code| !matches!(code.as_str(), "error" | "unknown"))
        .or_else(|| text(first.and_then(|error| error.get("code"))));
    let message = text(json.get("error"))
        .or_else(|| text(json.get("message")))
        .or_else(|| text(json.get("error").and_then(|error| error.get("message"))))
        .or_else(|| text(json.get("errors").and_then(|errors| errors.get("detail"))))
        .or_else(|| text(first.and_then(|error| error.get("message"))))
        .or_else(|| text(json.as_object().is_none().then_some(&json)));
    (code, message)
}

/// Classifies an error of a GraphQL response.
pub(crate) fn graphql(mutates: bool, code: Option<&str>, message: &str) -> Verdict {
    let text = message.to_lowercase();
    let class = match code {
        Some("NOT_FOUND") => Class::Gone,
        Some("UNAUTHORIZED" | "UNAUTHENTICATED" | "FORBIDDEN") => Class::Auth { hard: false },
        _ if text.starts_with("could not find") || text.starts_with("unknown repository") => {
            Class::Gone
        }
        _ if needs_a_person(&text) => Class::Conflict(Conflict::Quota),
        _ if text.contains("rate limit") => Class::Throttled { after: None },
        Some("SERVER_ERROR" | "INTERNAL_SERVER_ERROR" | "TIMEOUT") => {
            if mutates {
                Class::Ambiguous
            } else {
                Class::Transient
            }
        }
        _ => refused(&text).map_or(Class::Invalid, Class::Conflict),
    };
    Verdict {
        ambiguous: class == Class::Ambiguous,
        class,
        code: code.map(str::to_owned),
        message: message.to_owned(),
    }
}

/// The first error in a GraphQL response, which comes with HTTP 200.
pub(crate) fn first_error(body: &[u8], changes: bool) -> Option<Verdict> {
    let json: Value = serde_json::from_slice(body).ok()?;
    let error = json.get("errors")?.as_array()?.first()?;
    let message = error
        .get("message")
        .and_then(Value::as_str)
        .unwrap_or("unspecified error");
    let code = error
        .get("extensions")
        .and_then(|extensions| extensions.get("code"))
        .and_then(Value::as_str);
    Some(graphql(changes, code, message))
}

/// Reads `Retry-After`: seconds, or a date, which is compared with the response's own `Date`, so
/// that our clock does not matter. An unreadable value is `None`; a date in the past is zero.
pub(crate) fn retry_after(value: Option<&str>, date: Option<&str>) -> Option<Duration> {
    let value = value?.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at = http_date(value)?;
    let now = http_date(date?)?;
    Some(Duration::try_from(at.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn class(status: u16, body: &str) -> Class {
        verdict(true, status, body).class
    }

    fn verdict(mutates: bool, status: u16, body: &str) -> Verdict {
        answer(Answer {
            mutates,
            status,
            body: body.as_bytes(),
            retry_after: None,
        })
    }

    #[test]
    fn every_recorded_answer_has_its_class() {
        use Class::{Ambiguous, Gone, Invalid};
        use Conflict::*;
        let expires_at = Some("2026-10-21T07:28:00Z".parse().unwrap());
        let region = || Class::Conflict(Capacity(Scope::Region));
        let host = || Class::Conflict(Capacity(Scope::Host));
        let volume = || Class::Conflict(Capacity(Scope::Volume));
        let taken = || Class::Conflict(NameTaken { machine_id: None });
        let table: Vec<(u16, &str, Class)> = vec![
            (
                408,
                r#"{"error":"deadline_exceeded: context deadline exceeded"}"#,
                Ambiguous,
            ),
            (500, "", Ambiguous),
            (502, "<html>Bad Gateway</html>", Ambiguous),
            (
                503,
                r#"{"error":"retry gave up after: Validation failed: Name has already been taken","status":"insufficient_capacity"}"#,
                region(),
            ),
            (
                503,
                r#"{"error":"retry gave up after: Validation failed: Name has already been taken"}"#,
                Ambiguous,
            ),
            (404, r#"{"error":"Could not find App \"x\""}"#, Gone),
            (404, "", Gone),
            (410, r#"{"error":"cluster is deleted"}"#, Gone),
            (
                401,
                r#"{"error":"unauthorized"}"#,
                Class::Auth { hard: false },
            ),
            (
                403,
                r#"{"errors":{"detail":"not allowed"}}"#,
                Class::Auth { hard: false },
            ),
            (
                403,
                r#"{"error":"please add a payment method"}"#,
                Class::Conflict(Quota),
            ),
            (402, "", Class::Conflict(Quota)),
            (429, "", Class::Throttled { after: None }),
            (400, r#"{"error":"invalid machine ID, 'x'"}"#, Invalid),
            (
                422,
                r#"{"error":"Validation failed: Name has already been taken","status":"name_taken"}"#,
                taken(),
            ),
            (
                422,
                r#"{"error":"uniqueness constraint violated"}"#,
                taken(),
            ),
            (
                422,
                r#"{"error":"Name under 63 chars using numbers, lowercase letters and dashes"}"#,
                Invalid,
            ),
            (
                422,
                r#"{"error":"could not find a candidate host","status":"insufficient_capacity"}"#,
                region(),
            ),
            (
                422,
                r#"{"error":"could not find a candidate host"}"#,
                region(),
            ),
            (409, r#"{"error":"aborted: no capacity"}"#, region()),
            (
                422,
                r#"{"error":"Your organization has reached its machine limit. Please contact billing@fly.io"}"#,
                Class::Conflict(Quota),
            ),
            (
                412,
                r#"{"error":"insufficient resources to create new machine with existing volume id 'vol_1'","status":"volume_placement_capacity"}"#,
                volume(),
            ),
            (
                412,
                r#"{"error":"failed_precondition: insufficient resources to create new machine with existing volume id 'vol_1'"}"#,
                volume(),
            ),
            (
                409,
                r#"{"error":"aborted: could not reserve resource for machine: insufficient memory available to fulfill request on the current host"}"#,
                host(),
            ),
            (
                409,
                r#"{"error":"aborted: insufficient resources available to fulfill request: x"}"#,
                host(),
            ),
            (
                409,
                r#"{"error":"aborted: insufficient IPs available"}"#,
                host(),
            ),
            (
                409,
                r#"{"error":"aborted: machine update failed due to concurrent update"}"#,
                Class::Conflict(Version),
            ),
            (
                409,
                r#"{"status":"error","message":"machine ID 148ed599b14d89 lease currently held by a@tokens.fly.io, expires at 2026-10-21T07:28:00Z","code":"invalid"}"#,
                Class::Conflict(Lease { expires_at }),
            ),
            (
                409,
                r#"{"error":"aborted: machine ID 148ed599b14d89 lease currently held by a, expires at 2026-10-21T07:28:00Z"}"#,
                Class::Conflict(Lease { expires_at }),
            ),
            (
                409,
                r#"{"error":"already_exists: unique machine name violation, machine ID 148ed599b14d89 already exists with name \"cabanas-app-0\""}"#,
                Class::Conflict(NameTaken {
                    machine_id: Some("148ed599b14d89".into()),
                }),
            ),
            (
                409,
                r#"{"error":"user already exists"}"#,
                Class::Conflict(Exists),
            ),
            (409, "", Class::Conflict(Other)),
            (
                412,
                r#"{"error":"failed_precondition: unable to start machine from current state: 'created'"}"#,
                Class::Conflict(State),
            ),
            (
                412,
                r#"{"error":"machine still active, refusing to start"}"#,
                Class::Conflict(State),
            ),
            (
                412,
                r#"{"error":"failed_precondition: volume vol_1 is already claimed"}"#,
                Class::Conflict(VolumeBusy),
            ),
            (
                412,
                r#"{"error":"failed_precondition: secrets version 7 is not available"}"#,
                Class::Conflict(SecretsNotVisible),
            ),
            (
                400,
                r#"{"error":"governor policy blocked start"}"#,
                Class::Conflict(Quota),
            ),
            (
                422,
                r#"{"error":"Validation failed: Hostname already exists on app"}"#,
                Class::Conflict(Exists),
            ),
            (302, "", Ambiguous),
            (418, "", Invalid),
        ];
        for (status, body, expected) in table {
            assert_eq!(class(status, body), expected, "{status} {body}");
        }
    }

    #[test]
    fn only_changes_are_ambiguous() {
        for status in [408, 500, 502, 503, 504] {
            let read = verdict(false, status, "");
            assert_eq!(
                (read.class, read.ambiguous),
                (Class::Transient, false),
                "{status}"
            );
            let change = verdict(true, status, "");
            assert_eq!(
                (change.class, change.ambiguous),
                (Class::Ambiguous, true),
                "{status}"
            );
        }
        let body = r#"{"error":"x","status":"insufficient_capacity"}"#;
        assert!(
            verdict(true, 503, body).ambiguous,
            "an earlier try may have got through"
        );
        assert!(!verdict(true, 422, body).ambiguous);
    }

    #[test]
    fn each_code_and_each_wording_decides_alone() {
        let text = |text: &str| format!(r#"{{"error":"{text}"}}"#);
        let code = |code: &str| format!(r#"{{"error":"x","status":"{code}"}}"#);
        let is = |status, body: &str, expected: Conflict| {
            assert_eq!(class(status, body), Class::Conflict(expected), "{body}");
        };
        is(
            422,
            &code("volume_placement_capacity"),
            Conflict::Capacity(Scope::Volume),
        );
        is(
            422,
            &code("name_taken"),
            Conflict::NameTaken { machine_id: None },
        );
        for volume in [
            "existing volume id vol_1",
            "insufficient resources to create it",
        ] {
            is(412, &text(volume), Conflict::Capacity(Scope::Volume));
        }
        for host in [
            "could not reserve resource",
            "insufficient resources available",
            "insufficient memory available",
            "insufficient cpus available",
            "insufficient ips available",
            "deploys to this host are temporarily disabled",
        ] {
            is(409, &text(host), Conflict::Capacity(Scope::Host));
        }
        for version in [
            "concurrent update",
            "current_version",
            "the version does not match",
        ] {
            is(409, &text(version), Conflict::Version);
        }
        is(409, &text("the secret is new"), Conflict::Other);
        is(409, &text("version 7"), Conflict::Other);
        for busy in [
            "volume is in use",
            "volume is claimed",
            "volume is attached",
        ] {
            is(409, &text(busy), Conflict::VolumeBusy);
        }
        is(409, &text("the address is attached"), Conflict::Other);
        is(409, &text("the volume is large"), Conflict::Other);
    }

    #[test]
    fn what_is_no_answer_of_fly_io_says_nothing_about_the_request() {
        assert_eq!(verdict(true, 302, "").class, Class::Ambiguous);
        assert_eq!(verdict(false, 302, "").class, Class::Transient);
        let message = |body: &str| verdict(true, 422, body).message;
        assert_eq!(message("plain text"), "plain text");
        for body in ["", "<html>Bad Gateway</html>"] {
            assert_eq!(message(body), "status 422");
        }
    }

    #[test]
    fn the_first_error_of_a_graphql_response_is_its_result() {
        let body = |code: &str| {
            format!(
                r#"{{"data":null,"errors":[{{"message":"slow down","extensions":{{"code":"{code}"}}}},{{"message":"y"}}]}}"#
            )
        };
        let found = |code: &str, changes| {
            let verdict = first_error(body(code).as_bytes(), changes).unwrap();
            (verdict.class, verdict.ambiguous, verdict.message)
        };
        let told = || "slow down".to_owned();
        assert_eq!(found("TIMEOUT", true), (Class::Ambiguous, true, told()));
        assert_eq!(found("TIMEOUT", false), (Class::Transient, false, told()));
        assert_eq!(found("NOT_FOUND", true), (Class::Gone, false, told()));
        assert_eq!(first_error(br#"{"data":{},"errors":[]}"#, true), None);
        assert_eq!(first_error(br#"{"data":{}}"#, true), None);
        let throttled = graphql(true, None, "hit the rate limit");
        assert_eq!(throttled.class, Class::Throttled { after: None });
    }

    #[test]
    fn graphql_errors_have_their_class() {
        let class = |code, text| graphql(true, code, text).class;
        assert_eq!(class(Some("NOT_FOUND"), "x"), Class::Gone);
        assert_eq!(class(None, "Could not find App \"x\""), Class::Gone);
        assert_eq!(
            class(Some("UNAUTHORIZED"), "x"),
            Class::Auth { hard: false }
        );
        assert_eq!(class(Some("UNPROCESSABLE"), "bad plan"), Class::Invalid);
        assert_eq!(class(Some("SERVER_ERROR"), "x"), Class::Ambiguous);
        assert_eq!(
            graphql(false, Some("SERVER_ERROR"), "x").class,
            Class::Transient
        );
        assert_eq!(
            class(
                Some("UNPROCESSABLE"),
                "Validation failed: Name has already been taken"
            ),
            Class::Conflict(Conflict::NameTaken { machine_id: None })
        );
        assert_eq!(
            class(None, "Please add a payment method"),
            Class::Conflict(Conflict::Quota)
        );
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_never_nonsense() {
        let date = Some("Wed, 21 Oct 2026 07:28:00 GMT");
        assert_eq!(retry_after(Some("60"), None), Some(Duration::from_secs(60)));
        assert_eq!(retry_after(Some(" 0 "), None), Some(Duration::ZERO));
        assert_eq!(
            retry_after(Some("Wed, 21 Oct 2026 07:28:30 GMT"), date),
            Some(Duration::from_secs(30))
        );
        assert_eq!(
            retry_after(Some("Wed, 21 Oct 2026 07:00:00 GMT"), date),
            Some(Duration::ZERO)
        );
        for nonsense in ["", "-1", "soon", "1.5"] {
            assert_eq!(retry_after(Some(nonsense), date), None, "{nonsense}");
        }
        assert_eq!(retry_after(None, date), None);
    }
}
