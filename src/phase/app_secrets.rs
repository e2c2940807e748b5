//! Pushing secrets to the app, and telling from digests whether they are still what was pushed.
//!
//! Fly.io never gives a value back, only a digest that changes with it. What was pushed is
//! recorded as Fly's digest and our own fingerprint; the record may be lost or wrong, which costs
//! one push of the same value and changes nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use secrecy::SecretString;
use sha2::{Digest, Sha256};

use crate::{
    api::status::SecretStatus,
    error::Error,
    fly::secrets::AppSecret,
    pipeline::{Cx, Note, step::Result},
    plan::fingerprint,
};

/// How long a list of the app's secrets is good for several steps. Only this process writes there,
/// which ends it, and Fly.io lets us list once a second (fly-api.md B.1).
const SHARED_FOR: Duration = Duration::from_secs(3);

/// Fingerprints of what is wanted and what is known of it at Fly.io.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Compared {
    /// Names to push: missing, changed, or not what was pushed.
    pub stale: BTreeSet<String>,
    /// What is as it should be.
    pub settled: Vec<SecretStatus>,
}

impl Compared {
    /// What the status tells of them.
    pub fn notes(&self) -> Vec<Note> {
        self.settled.iter().cloned().map(Note::Secret).collect()
    }
}

/// Compares what is wanted (name to fingerprint) with what Fly.io has and what was pushed. Pure.
pub fn compare(
    wanted: &BTreeMap<String, String>,
    at_fly: &[AppSecret],
    pushed: &BTreeMap<String, SecretStatus>,
) -> Compared {
    let mut compared = Compared::default();
    for (name, fingerprint) in wanted {
        let there = at_fly.iter().find(|secret| secret.name == *name);
        let record = pushed.get(name);
        match (there, record) {
            (Some(there), Some(record))
                if record.fingerprint == *fingerprint && record.digest == there.digest =>
            {
                compared.settled.push(record.clone());
            }
            _ => {
                compared.stale.insert(name.clone());
            }
        }
    }
    compared
}

/// Everything that this step knows of, by name: the record in memory before the one in status.
pub fn records(cx: &Cx) -> BTreeMap<String, SecretStatus> {
    let mut records = cx.recorded.secrets.clone();
    records.extend(cx.facts.pushed());
    records
}

/// The app's secrets at Fly.io; steps of one pass share one list.
///
/// # Errors
/// When Fly.io does not answer.
pub async fn list(cx: &Cx) -> Result<Vec<AppSecret>> {
    if let Some(list) = cx.facts.secret_list.get()
        && list.0.elapsed() < SHARED_FOR
    {
        return Ok(list.1.clone());
    }
    let secrets = cx
        .fly
        .secrets(&cx.target.app, None)
        .await
        .map_err(|source| Error::fly("list the secrets of the app", source))?;
    cx.facts.secret_list.set((Instant::now(), secrets.clone()));
    Ok(secrets)
}

/// Fingerprints of values.
pub fn fingerprints<'a>(
    cx: &Cx,
    values: impl IntoIterator<Item = (&'a String, &'a SecretString)>,
) -> BTreeMap<String, String> {
    values
        .into_iter()
        .map(|(name, value)| {
            (
                name.clone(),
                fingerprint(&cx.installation.fingerprint_key, value),
            )
        })
        .collect()
}

/// Compares with Fly.io now.
///
/// # Errors
/// When Fly.io does not answer.
pub async fn look(cx: &Cx, values: &BTreeMap<String, SecretString>) -> Result<Compared> {
    let prints = fingerprints(cx, values);
    for (name, print) in &prints {
        if let Some(value) = values.get(name) {
            cx.facts.guard(print, value);
        }
    }
    let at_fly = list(cx).await?;
    Ok(compare(&prints, &at_fly, &records(cx)))
}

/// Sets and (`None`) removes secrets in one call, and records what Fly.io says about them. The
/// record is only believed where the next list says the same.
///
/// # Errors
/// When Fly.io refuses or does not answer, or took the values without effect. The same values can
/// be pushed again.
pub async fn push(cx: &Cx, values: BTreeMap<String, Option<SecretString>>) -> Result<()> {
    let before = list(cx).await?;
    let written = cx
        .fly
        .set_secrets(&cx.target.app, &values)
        .await
        .map_err(|source| Error::fly("set the secrets of the app", source));
    // Also when the outcome is unknown: what was read before no longer holds.
    cx.facts.secret_list.clear();
    let written = written?;
    if let Some(version) = written.version() {
        let before = cx.facts.secrets_version.get().map_or(0, |version| *version);
        cx.facts.secrets_version.set(version.max(before));
    }
    let after = list(cx).await?;
    let mut without_effect = false;
    for (name, value) in values {
        let Some(value) = value else {
            cx.facts.forget_push(&name);
            continue;
        };
        let answered = of(&written.secrets.0, &name);
        match digest_after(of(&before, &name), answered, of(&after, &name)) {
            Some(digest) => cx.facts.record_push(SecretStatus {
                digest: digest.to_owned(),
                fingerprint: fingerprint(&cx.installation.fingerprint_key, &value),
                name,
            }),
            None => without_effect = true,
        }
    }
    if without_effect {
        return Err(Error::NotKnown("the effect of setting the secrets"));
    }
    Ok(())
}

fn of<'a>(secrets: &'a [AppSecret], name: &str) -> Option<&'a AppSecret> {
    secrets.iter().find(|secret| secret.name == name)
}

/// The digest that a pushed value has at Fly.io, from the entry before, the answer of the push,
/// and the entry after; `None` when the push had no effect. Pure.
///
/// The list is believed when it agrees with the answer, or when the entry was written since: then
/// the answer counts digests in another way, and pushing again would never end.
fn digest_after<'a>(
    before: Option<&AppSecret>,
    answered: Option<&AppSecret>,
    after: Option<&'a AppSecret>,
) -> Option<&'a str> {
    let after = after?;
    let agrees = answered.is_none_or(|answered| answered.digest == after.digest);
    let written = before.is_none_or(|before| {
        before.digest != after.digest || before.updated_at != after.updated_at
    });
    (agrees || written).then_some(after.digest.as_str())
}

/// One digest over all secrets that were pushed: machines that started with another one run
/// with old secrets.
pub fn digest_of(records: &BTreeMap<String, SecretStatus>) -> String {
    let mut hash = Sha256::new();
    for (name, record) in records {
        hash.update(name.as_bytes());
        hash.update([0]);
        hash.update(record.fingerprint.as_bytes());
        hash.update([0]);
    }
    data_encoding::HEXLOWER.encode(&hash.finalize()[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_fly(name: &str, digest: &str) -> AppSecret {
        AppSecret {
            name: name.to_owned(),
            digest: digest.to_owned(),
            ..AppSecret::default()
        }
    }

    fn record(name: &str, digest: &str, fingerprint: &str) -> (String, SecretStatus) {
        let status = SecretStatus {
            name: name.to_owned(),
            digest: digest.to_owned(),
            fingerprint: fingerprint.to_owned(),
        };
        (name.to_owned(), status)
    }

    #[test]
    fn a_secret_is_pushed_when_it_is_missing_changed_or_not_what_was_pushed() {
        let wanted = [("A", "1"), ("B", "2"), ("C", "3"), ("D", "4")]
            .map(|(name, print)| (name.to_owned(), print.to_owned()))
            .into();
        let at_fly = [at_fly("A", "da"), at_fly("B", "db"), at_fly("C", "changed")];
        let pushed = [
            record("A", "da", "1"),
            record("B", "db", "old"),
            record("C", "dc", "3"),
            record("D", "dd", "4"),
        ]
        .into();

        let compared = compare(&wanted, &at_fly, &pushed);

        let stale: Vec<&str> = compared.stale.iter().map(String::as_str).collect();
        assert_eq!(stale, ["B", "C", "D"]);
        assert_eq!(compared.settled.len(), 1);
    }

    #[test]
    fn a_push_counts_when_the_list_agrees_or_was_written_since() {
        let old = at_fly("A", "old");
        let new = at_fly("A", "new");
        let rewritten = AppSecret {
            updated_at: Some("2026-01-02T00:00:00Z".parse().unwrap_or_default()),
            ..at_fly("A", "old")
        };
        // The usual one; a digest that the answer tells in another way; a write without effect;
        // one that the list does not show.
        assert_eq!(
            digest_after(Some(&old), Some(&new), Some(&new)),
            Some("new")
        );
        assert_eq!(
            digest_after(Some(&old), Some(&new), Some(&rewritten)),
            Some("old")
        );
        assert_eq!(digest_after(Some(&old), Some(&new), Some(&old)), None);
        assert_eq!(digest_after(None, Some(&new), None), None);
        // Pushed again with the same value.
        assert_eq!(
            digest_after(Some(&new), Some(&new), Some(&new)),
            Some("new")
        );
    }
}
