//! What the policy `golive-warnings` of `manifests/base` warns of, as far as one object shows it. Pure.
//! What depends on the time, or on the version or flags of the operator, is left to the API server.

use serde_json::Value;

const REASON: &str = "`suspendReason` has no effect without `suspend: true`";
const UNTIL: &str = "`suspendUntil` has no effect without `suspend: true`";
const PAID: &str = "`provision.addresses.v4: true` costs money every month (fly.io/docs/about/pricing); a shared IPv4 address is free, and enough for HTTP on port 80 and TLS on 443";
const UNREACHABLE: &str =
    "`provision.addresses` requests no address at all: nobody reaches the app from the Internet";
const NO_GROUP: &str =
    "`deploy.scale` sets a process group to 0: it gets no machines, and nothing of it answers";
const MAX_AGE: &str = "`provision.secrets.rotation.maxAge` has no effect without `provision.secrets.generate`: only generated values are replaced";

/// The warnings about an Activation.
pub(super) fn warnings(object: &Value) -> Vec<&'static str> {
    let at = |path: &str| object.pointer(path).filter(|value| !value.is_null());
    let is = |path: &str, wanted: bool| at(path).and_then(Value::as_bool) == Some(wanted);
    let suspends = is("/spec/suspend", true);
    let generated = at("/spec/provision/secrets/generate").and_then(Value::as_array);
    let scale = at("/spec/deploy/scale").and_then(Value::as_object);
    let none = |count: &Value| count.as_u64() == Some(0);
    let rules = [
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
                && generated.is_none_or(Vec::is_empty),
        ),
        (NO_GROUP, scale.is_some_and(|all| all.values().any(none))),
    ];
    let broken = rules.into_iter().filter(|(_, broken)| *broken);
    broken.map(|(message, _)| message).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const POLICY: &str = include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/manifests/base/warnings-policy.yaml"
    ));

    #[test]
    fn every_warning_is_one_of_the_policy_in_its_words() {
        for message in [REASON, UNTIL, PAID, UNREACHABLE, MAX_AGE, NO_GROUP] {
            assert!(POLICY.contains(message), "{message}");
        }
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
        ] {
            assert_eq!(warnings(&json!({"spec": spec})), wanted, "{spec}");
        }
    }
}
