//! Every Secret and key that is named exists, and can become a secret of the app.

use std::collections::BTreeMap;

use super::check::{Check, Finding};
use crate::{
    api::{Reason, preflight::CheckName, status::Severity},
    pipeline::{Cx, step::Result},
    plan::{Target, named::RefKind},
};

/// Every Secret and key that is named exists, and can become a secret of the app.
pub struct SecretsResolvable;

impl Check for SecretsResolvable {
    /// The names of the secrets that each Kubernetes Secret would give the app.
    type Seen = BTreeMap<String, Vec<String>>;
    const NAME: CheckName = CheckName::SecretsResolvable;
    const SEVERITY: Severity = Severity::Blocking;

    async fn look(&self, cx: &Cx) -> Result<BTreeMap<String, Vec<String>>> {
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

    fn judge(&self, target: &Target, seen: &BTreeMap<String, Vec<String>>) -> Finding {
        let secrets = || {
            target
                .preflight
                .missing
                .iter()
                // A fly.toml that is missing is FlyConfigValid's.
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
                "create what is named in the namespace of the Activation; it is noticed by itself within seconds",
            );
        }
        if let Some(finding) = names(target, seen) {
            return finding;
        }
        let later: Vec<String> = secrets()
            .map(|(named, missing)| format!("{}: {missing}", named.field))
            .collect();
        if !later.is_empty() {
            return Finding::passed(format!(
                "all that is needed to go live is there; needed later: {}",
                later.join("; ")
            ));
        }
        Finding::passed("every Secret and key that is named is there")
    }
}

/// Names that no environment variable can have, and names that two sources give.
fn names(target: &Target, seen: &BTreeMap<String, Vec<String>>) -> Option<Finding> {
    let mut givers: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for wanted in &target.provision.secrets.generate {
        givers
            .entry(&wanted.name)
            .or_default()
            .push("`secrets.generate`".to_owned());
    }
    for (variable, asked) in [
        ("DATABASE_URL", target.database().is_some()),
        ("REDIS_URL", target.redis().is_some()),
    ] {
        if asked {
            let giver = "the database that is asked for".to_owned();
            givers.entry(variable).or_default().push(giver);
        }
    }
    let mut bad = Vec::new();
    for (secret, keys) in seen {
        for key in keys {
            if !is_variable(key) {
                bad.push(format!(
                    "key {key} of the Secret {secret} is no name of an environment variable"
                ));
            }
            givers
                .entry(key)
                .or_default()
                .push(format!("the Secret {secret}"));
        }
    }
    for (name, from) in givers {
        if from.len() > 1 {
            bad.push(format!("{name} is given by {}", from.join(" and ")));
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
    use crate::phase::preflight::check::target;

    const SPEC: &str = "
provision:
  postgres: {external: {urlSecretRef: {name: db, key: url}}}
  secrets: {generate: [{name: A}], from: [{secretRef: {name: app}}]}
notifications: [{webhook: {urlSecretRef: {name: slack, key: url}}}]
";

    fn judge(secrets: &[(&str, &str, &str)], keys: &[&str]) -> Finding {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        let seen = BTreeMap::from([("app".to_owned(), keys)]);
        SecretsResolvable.judge(&target(SPEC, secrets), &seen)
    }

    #[test]
    fn all_that_is_missing_is_told_at_once() {
        let finding = judge(&[("db", "other", "x")], &[]);
        assert!(
            matches!(&finding, Finding::Failed { reason: Reason::SecretKeyMissing, message, .. }
                if message.contains("no key url") && message.contains("Secret app")),
            "{finding:?}"
        );
    }

    #[test]
    fn what_is_needed_after_go_live_does_not_stop_it() {
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
            ("A", "A is given by `secrets.generate` and the Secret app"),
            ("DATABASE_URL", "DATABASE_URL is given by"),
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
