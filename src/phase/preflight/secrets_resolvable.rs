//! Every Secret and key that the spec names exists, can become a secret of the app, and has a value
//! that can be used.

use std::collections::BTreeMap;

use secrecy::ExposeSecret;

use super::{
    address::{self, Service},
    app_values::{name_fault, token_fault},
    check::{Check, Fault, Finding},
};
use crate::{
    api::{Reason, preflight::CheckName, reference::SecretKeyRef, status::Severity},
    phase::names::{DATABASE_URL, REDIS_URL},
    pipeline::{Cx, step::Result},
    plan::{
        Database, Redis, Target,
        missing::{Missing, too_much},
        named::{Named, RefKind},
    },
};

/// Every Secret and key that the spec names exists, and its value can be used.
pub struct SecretsResolvable;

/// What is known of the values, without them.
#[derive(Debug, Default)]
pub struct Values {
    /// The names of the secrets that each Kubernetes Secret would give the app.
    keys: BTreeMap<String, Vec<String>>,
    /// Values that cannot be used.
    faults: Vec<Fault>,
}

impl Check for SecretsResolvable {
    type Observed = Values;
    const NAME: CheckName = CheckName::SecretsResolvable;
    const SEVERITY: Severity = Severity::Blocking;

    async fn observe(&self, cx: &Cx) -> Result<Values> {
        let target = &cx.target;
        let mut values = Values::default();
        for source in &target.provision.secrets.from {
            let name = &source.secret_ref.name;
            let keys = cx.refs.secret_keys(name);
            values.keys.insert(name.clone(), keys);
            if *name == target.preflight.token_secret {
                // It is refused as a whole.
                continue;
            }
            // `target.preflight.missing` has what is missing.
            for (key, value) in cx.refs.secret_values(name).unwrap_or_default() {
                let fault = token_fault(&target.token, name, key, value);
                values.faults.extend(fault);
            }
        }
        for (service, reference) in addresses(target) {
            let (name, key) = (&reference.name, &reference.key);
            if let Ok(value) = cx.refs.secret(name, key)
                && let Err(problem) = address::judge(service, value.expose_secret())
            {
                values.faults.push(Fault::new(
                    Reason::SecretInvalid,
                    format!(
                        "the address in key {key} of the Secret {name} {}",
                        problem.what
                    ),
                    problem.action,
                ));
            }
        }
        Ok(values)
    }

    fn judge(&self, target: &Target, values: &Values) -> Finding {
        let missing = |required: bool| {
            let secrets = target.preflight.missing.iter();
            // FlyConfigValid reports a missing fly.toml.
            secrets.filter(move |(named, missing)| {
                // The token is in danger wherever its Secret is named, also after the go-live.
                let required_here = named.required || is_of_the_token(missing);
                named.kind == RefKind::Secret && required_here == required
            })
        };
        let all = || missing(true).map(|(_, missing)| missing);
        let namespace = &target.preflight.namespace;
        let (too_much, others): (Vec<_>, Vec<_>) =
            missing(true).partition(|(_, missing)| matches!(missing, Missing::TooMuch { .. }));
        let mut faults: Vec<Fault> = too_much_fault(&too_much, namespace).into_iter().collect();
        faults.extend(others.into_iter().map(|(named, missing)| {
            let message = format!("{}: {missing}", named.field);
            let action = missing.action_among(all(), namespace);
            Fault::new(missing.reason(), message, action)
        }));
        let token = &target.preflight.token_secret;
        faults.extend(values.faults.iter().cloned());
        for (secret, keys) in &values.keys {
            // The whole Secret is refused already.
            if secret != token {
                faults.extend(keys.iter().filter_map(|key| name_fault(secret, key)));
            }
        }
        faults.extend(two_sources(target, &values.keys));
        if let Some(finding) = Finding::of(&faults) {
            return finding;
        }
        let later: Vec<String> = missing(false)
            .map(|(named, missing)| format!("{}: {missing}", named.field))
            .collect();
        if !later.is_empty() {
            return Finding::passed(format!(
                "everything that the go-live needs exists; needed later: {}",
                later.join("; ")
            ));
        }
        Finding::passed("every Secret and key that the spec names exists")
    }
}

/// Whether the field names the Secret of the token.
fn is_of_the_token(missing: &Missing) -> bool {
    matches!(missing, Missing::HoldsToken { .. })
}

/// Secrets that are too much together are one fault. Pure.
fn too_much_fault(all: &[&(Named, Missing)], namespace: &str) -> Option<Fault> {
    let (_, first) = all.first()?;
    let names = all.iter().filter_map(|(_, missing)| match missing {
        Missing::TooMuch { name, .. } => Some(name.as_str()),
        _ => None,
    });
    let mut names: Vec<&str> = names.collect();
    names.dedup();
    let (secrets, are) = match names.as_slice() {
        [_] => ("the Secret", "is"),
        _ => ("the Secrets", "are"),
    };
    let message = format!(
        "{secrets} {} {are} not used: {}",
        names.join(", "),
        too_much()
    );
    Some(Fault::new(first.reason(), message, first.action(namespace)))
}

/// The addresses of databases and Redis that the spec names.
pub fn addresses(target: &Target) -> Vec<(Service, &SecretKeyRef)> {
    let postgres = match target.database() {
        Some(Database::External(reference)) => Some(reference),
        _ => None,
    };
    let redis = match target.redis() {
        Some(Redis::External(reference)) => Some(reference),
        _ => None,
    };
    let postgres = [postgres, target.database_fallback()].into_iter().flatten();
    postgres
        .map(|reference| (Service::Postgres, reference))
        .chain(redis.map(|reference| (Service::Redis, reference)))
        .collect()
}

/// Names that two sources set.
fn two_sources(target: &Target, keys: &BTreeMap<String, Vec<String>>) -> Vec<Fault> {
    let mut sources: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for wanted in &target.provision.secrets.generate {
        let source = "`secrets.generate`".to_owned();
        sources.entry(&wanted.name).or_default().push(source);
    }
    for (variable, requested) in [
        (DATABASE_URL, target.database().is_some()),
        (REDIS_URL, target.redis().is_some()),
    ] {
        if requested {
            let source = "the requested database".to_owned();
            sources.entry(variable).or_default().push(source);
        }
    }
    for (secret, keys) in keys {
        for key in keys {
            let source = format!("the Secret {secret}");
            sources.entry(key).or_default().push(source);
        }
    }
    sources
        .into_iter()
        .filter(|(_, from)| from.len() > 1)
        .map(|(name, from)| {
            Fault::new(
                Reason::SecretInvalid,
                format!("{name} is set by {}", from.join(" and ")),
                "rename or remove keys, so that each secret of the app has one source",
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::testing::target;

    const SPEC: &str = "
provision:
  postgres: {external: {urlSecretRef: {name: db, key: url}}}
  secrets: {generate: [{name: A}], from: [{secretRef: {name: app}}]}
notifications: [{webhook: {urlSecretRef: {name: slack, key: url}}}]
";

    fn judge(secrets: &[(&str, &str, &str)], keys: &[&str]) -> Finding {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        let values = Values {
            keys: BTreeMap::from([("app".to_owned(), keys)]),
            faults: Vec::new(),
        };
        SecretsResolvable.judge(&target(SPEC, secrets), &values)
    }

    #[test]
    fn secrets_that_are_too_much_together_are_one_fault_that_names_them() {
        let mut target = target(SPEC, &[]);
        let named = target.preflight.missing[0].0.clone();
        let too_much = |name: &str| {
            let missing = Missing::TooMuch {
                kind: RefKind::Secret,
                name: name.to_owned(),
            };
            (named.clone(), missing)
        };
        target.preflight.missing = ["big1", "big2", "big3"].map(too_much).into();
        let finding = SecretsResolvable.judge(&target, &Values::default());
        assert!(
            matches!(&finding, Finding::Failed { reason: Reason::ReferencedDataTooLarge, message, .. }
                if message.starts_with("the Secrets big1, big2, big3 are not used: the Secrets and ")
                    && message.matches("MiB").count() == 1),
            "{finding:?}"
        );
    }

    #[test]
    fn everything_that_is_missing_is_reported_at_once() {
        let finding = judge(&[("db", "other", "x")], &[]);
        assert!(
            matches!(&finding, Finding::Failed { reason: Reason::SecretKeyMissing, message, .. }
                if message.contains("no key url") && message.contains("Secret app")),
            "{finding:?}"
        );
    }

    #[test]
    fn what_is_needed_after_the_go_live_does_not_block_it() {
        let finding = judge(&[("db", "url", "x"), ("app", "B", "x")], &["B"]);
        assert!(
            matches!(&finding, Finding::Passed(message) if message.contains("slack")),
            "{finding:?}"
        );
    }

    #[test]
    fn a_secret_of_the_app_has_one_source_and_a_usable_name() {
        let here: &[(&str, &str, &str)] = &[("db", "url", "x"), ("app", "B", "x")];
        for (key, part) in [
            ("A", "A is set by `secrets.generate` and the Secret app"),
            ("DATABASE_URL", "DATABASE_URL is set by"),
            ("not-a-name", "not-a-name"),
        ] {
            let finding = judge(here, &[key]);
            assert!(
                matches!(&finding, Finding::Failed { message, .. } if message.contains(part)),
                "{finding:?}"
            );
        }
    }

    #[test]
    fn each_failure_has_the_advice_that_fits_and_no_other() {
        let here: &[(&str, &str, &str)] = &[("db", "url", "x"), ("app", "B", "x")];
        let action = |finding: Finding| match finding {
            Finding::Failed { action, .. } => action,
            other => format!("{other:?}"),
        };
        assert_eq!(
            action(judge(here, &["api-key"])),
            "rename the key to API_KEY"
        );
        let missing = action(judge(&[("db", "url", "x")], &[]));
        assert_eq!(
            missing,
            "create it with `kubectl -n ns create secret generic app --from-literal=KEY=VALUE`"
        );
        let double = action(judge(here, &["A"]));
        assert!(double.contains("one source"), "{double}");
    }

    #[test]
    fn the_secret_of_the_token_is_named_for_the_token_alone() {
        let token = "{name: fly, key: token}";
        let prometheus = |credentials: String| {
            format!(
                "observe: {{source: {{prometheus: {{url: 'https://p.example.org', {credentials}}}}}}}"
            )
        };
        for (field, spec) in [
            (
                "provision.secrets.from[0].secretRef",
                "provision: {secrets: {from: [{secretRef: {name: fly}, optional: true}]}}"
                    .to_owned(),
            ),
            (
                "observe.source.prometheus.tokenSecretRef",
                prometheus(format!("tokenSecretRef: {token}")),
            ),
            (
                "observe.source.prometheus.basicAuth.passwordSecretRef",
                prometheus(format!(
                    "basicAuth: {{usernameSecretRef: {{name: u, key: u}}, passwordSecretRef: {token}}}"
                )),
            ),
            (
                "notifications[0].webhook.urlSecretRef",
                "notifications: [{webhook: {urlSecretRef: {name: fly, key: other}}}]".to_owned(),
            ),
            (
                "provision.redis.external.urlSecretRef",
                format!("provision: {{redis: {{external: {{urlSecretRef: {token}}}}}}}"),
            ),
            (
                "integrations.mercadoPago.accessTokenSecretRef",
                format!(
                    "integrations: {{mercadoPago: {{path: /m, signingSecretRef: {{name: mp, key: s}}, accessTokenSecretRef: {token}}}}}"
                ),
            ),
        ] {
            let finding = SecretsResolvable.judge(&target(&spec, &[]), &Values::default());
            let told = format!("spec.{field}: the Secret fly holds the Fly token");
            assert!(
                matches!(&finding, Finding::Failed { message, .. } if message.contains(&told)),
                "{field}: {finding:?}"
            );
        }
    }
}
