//! What the policy `golive-warnings` of `manifests/base` warns of, as far as one object shows it. Pure.

use jiff::Timestamp;
use serde_json::Value;

use crate::api::duration::Duration;

const REASON: &str = "`suspendReason` has no effect without `suspend: true`";
const UNTIL: &str = "`suspendUntil` has no effect without `suspend: true`";
const PAID: &str = "`provision.addresses.v4: true` costs money every month (fly.io/docs/about/pricing); a shared IPv4 address is free, and enough for HTTP on port 80 and TLS on 443";
const UNREACHABLE: &str =
    "`provision.addresses` requests no address at all: nobody reaches the app from the Internet";
const NO_GROUP: &str =
    "`deploy.scale` sets a process group to 0: it gets no machines, and nothing of it answers";
const OVERDUE: &str = "`suspendUntil` is over, so `suspend: true` has no effect: remove `suspendUntil`, or set a later time";
const NO_OBJECTIVE: &str = "`observe` sets no objective: only incidents are watched";
const NOTHING_INTEGRATED: &str = "`integrations` has no effect: it names neither `whatsapp`, `mercadoPago`, `ical` nor `webhooks`";
const INTERVAL: &str = "`deploy.source.interval` below 30s has no effect, unless the operator's flag `--source-interval-min` allows it";
const MAX_AGE: &str = "`provision.secrets.rotation.maxAge` has no effect without `provision.secrets.generate`: only generated values are replaced";

/// The shortest interval at which an operator without flags asks a registry.
const SHORTEST: std::time::Duration = std::time::Duration::from_secs(30);

/// The warnings about an Activation, in the order of the policy.
pub(super) fn warnings(object: &Value, now: Timestamp) -> Vec<&'static str> {
    let at = |path: &str| object.pointer(path).filter(|value| !value.is_null());
    let is = |path: &str, wanted: bool| at(path).and_then(Value::as_bool) == Some(wanted);
    let suspends = is("/spec/suspend", true);
    let scale = at("/spec/deploy/scale").and_then(Value::as_object);
    let none = |count: &Value| count.as_u64() == Some(0);
    let text = |path: &str| at(path).and_then(Value::as_str);
    let until = text("/spec/suspendUntil").and_then(|until| until.parse::<Timestamp>().ok());
    let interval = text("/spec/deploy/source/interval");
    let interval = interval.and_then(|interval| interval.parse::<Duration>().ok());
    let none_of = |path: &str| {
        let list = at(path).and_then(Value::as_array);
        list.is_none_or(Vec::is_empty)
    };
    let integrations = ["whatsapp", "mercadoPago", "ical"];
    let integrated = integrations.map(|name| at(&format!("/spec/integrations/{name}")).is_some());
    let rules = [
        (OVERDUE, suspends && until.is_some_and(|until| until < now)),
        (REASON, !suspends && at("/spec/suspendReason").is_some()),
        (UNTIL, !suspends && at("/spec/suspendUntil").is_some()),
        (PAID, is("/spec/provision/addresses/v4", true)),
        (
            UNREACHABLE,
            is("/spec/provision/addresses/sharedV4", false)
                && is("/spec/provision/addresses/v6", false)
                && !is("/spec/provision/addresses/v4", true),
        ),
        (
            MAX_AGE,
            at("/spec/provision/secrets/rotation/maxAge").is_some()
                && none_of("/spec/provision/secrets/generate"),
        ),
        (
            INTERVAL,
            interval.is_some_and(|interval| interval.get() < SHORTEST),
        ),
        (NO_GROUP, scale.is_some_and(|all| all.values().any(none))),
        (
            NO_OBJECTIVE,
            at("/spec/observe").is_some() && none_of("/spec/observe/objectives"),
        ),
        (
            NOTHING_INTEGRATED,
            at("/spec/integrations").is_some()
                && !integrated.contains(&true)
                && none_of("/spec/integrations/webhooks"),
        ),
    ];
    let broken = rules.into_iter().filter(|(_, broken)| *broken);
    broken.map(|(message, _)| message).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    const POLICY: &str = include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/manifests/base/warnings-policy.yaml"
    ));

    #[test]
    fn every_warning_is_one_of_the_policy_in_its_words() {
        let all = [
            OVERDUE,
            REASON,
            UNTIL,
            PAID,
            UNREACHABLE,
            MAX_AGE,
            INTERVAL,
            NO_GROUP,
            NO_OBJECTIVE,
            NOTHING_INTEGRATED,
        ];
        for message in all {
            assert!(POLICY.contains(message), "{message}");
        }
        assert_eq!(POLICY.matches("message: ").count(), all.len());
    }

    #[test]
    fn what_has_no_effect_or_costs_money_is_warned_of_and_nothing_else() {
        for (spec, wanted) in [
            (json!({"suspendReason": "x"}), vec![REASON]),
            (json!({"suspendUntil": "x"}), vec![UNTIL]),
            (json!({"suspend": true, "suspendReason": "x"}), vec![]),
            (
                json!({"provision": {"addresses": {"v4": true}}}),
                vec![PAID],
            ),
            (
                json!({"provision": {"addresses": {"v6": false, "sharedV4": false}}}),
                vec![UNREACHABLE],
            ),
            (
                json!({"provision": {"addresses": {"v6": false, "sharedV4": true}}}),
                vec![],
            ),
            (
                json!({"provision": {"secrets": {"rotation": {"maxAge": "720h"}}}}),
                vec![MAX_AGE],
            ),
            (
                json!({"provision": {"secrets": {"generate": [{"name": "A"}],
                    "rotation": {"maxAge": "720h"}}}}),
                vec![],
            ),
            (json!({"deploy": {"scale": {"web": 0}}}), vec![NO_GROUP]),
            (json!({"deploy": {"scale": {"web": 1}}}), vec![]),
            (
                json!({"suspend": true, "suspendUntil": "2026-01-01T00:00:00Z"}),
                vec![OVERDUE],
            ),
            (
                json!({"suspend": true, "suspendUntil": "2026-03-01T00:00:00Z"}),
                vec![],
            ),
            (
                json!({"deploy": {"source": {"interval": "10s"}}}),
                vec![INTERVAL],
            ),
            (json!({"deploy": {"source": {"interval": "30s"}}}), vec![]),
            (json!({"observe": {}}), vec![NO_OBJECTIVE]),
            (json!({"observe": {"objectives": [{}]}}), vec![]),
            (json!({"integrations": {}}), vec![NOTHING_INTEGRATED]),
            (json!({"integrations": {"webhooks": [{}]}}), vec![]),
        ] {
            let now = "2026-02-01T00:00:00Z".parse().unwrap();
            assert_eq!(warnings(&json!({"spec": spec}), now), wanted, "{spec}");
        }
    }
}
