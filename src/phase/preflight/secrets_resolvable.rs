//! Every Secret and key that the spec names exists, and can become a secret of the app.

use std::collections::BTreeMap;

use super::check::{Check, Finding};
use crate::{
    api::{Reason, preflight::CheckName, status::Severity},
    phase::names::{DATABASE_URL, REDIS_URL},
    pipeline::{Cx, step::Result},
    plan::{Target, named::RefKind},
};

/// Every Secret and key that the spec names exists, and can become a secret of the app.
pub struct SecretsResolvable;

impl Check for SecretsResolvable {
    /// The names of the secrets that each Kubernetes Secret would give the app.
    type Observed = BTreeMap<String, Vec<String>>;
    const NAME: CheckName = CheckName::SecretsResolvable;
    const SEVERITY: Severity = Severity::Blocking;

    async fn observe(&self, cx: &Cx) -> Result<BTreeMap<String, Vec<String>>> {
        let from = &cx.target.provision.secrets.from;
        Ok(from
            .iter()
            .map(|source| {
                let name = &source.secret_ref.name;
                let keys = cx
                    .refs
                    .secret_values(name)
                    .map(|values| values.into_keys().map(str::to_owned).collect::<Vec<_>>());
                (name.clone(), keys.unwrap_or_default())
            })
            .collect())
    }

    fn judge(&self, target: &Target, keys: &BTreeMap<String, Vec<String>>) -> Finding {
        let secrets = || {
            target
                .preflight
                .missing
                .iter()
                // FlyConfigValid reports a missing fly.toml.
                .filter(|(named, _)| named.kind == RefKind::Secret)
        };
        let needed: Vec<String> = secrets()
            .filter(|(named, _)| named.required)
            .map(|(named, missing)| format!("{}: {missing}", named.field))
            .collect();
        if let Some((_, first)) = secrets().find(|(named, _)| named.required) {
            return Finding::failed(
                first.reason(),
                needed.join("; "),
                "create what is missing in the namespace of the Activation; Golive notices it within seconds",
            );
        }
        if let Some(finding) = invalid_names(target, keys) {
            return finding;
        }
        let later: Vec<String> = secrets()
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

/// Names that no environment variable can have, and names with two sources.
fn invalid_names(target: &Target, keys: &BTreeMap<String, Vec<String>>) -> Option<Finding> {
    let mut sources: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for wanted in &target.provision.secrets.generate {
        sources
            .entry(&wanted.name)
            .or_default()
            .push("`secrets.generate`".to_owned());
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
    let mut bad = Vec::new();
    for (secret, keys) in keys {
        for key in keys {
            if !is_variable(key) {
                bad.push(format!(
                    "the key {key} of the Secret {secret} is not a valid name of an environment variable"
                ));
            }
            sources
                .entry(key)
                .or_default()
                .push(format!("the Secret {secret}"));
        }
    }
    for (name, from) in sources {
        if from.len() > 1 {
            bad.push(format!("{name} is set by {}", from.join(" and ")));
        }
    }
    (!bad.is_empty()).then(|| {
        Finding::failed(
            Reason::SecretInvalid,
            bad.join("; "),
            "rename or remove keys, so that each secret of the app has one source",
        )
    })
}

fn is_variable(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
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
        let given = BTreeMap::from([("app".to_owned(), keys)]);
        SecretsResolvable.judge(&target(SPEC, secrets), &given)
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
}
