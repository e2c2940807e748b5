//! The secrets of the app at Fly.io: pushing them, and comparing them with what was pushed.
//!
//! Fly.io never returns a value, only a digest that changes with it. For every secret that was
//! pushed, Fly.io's digest and our own fingerprint are recorded. When the record is lost or wrong,
//! the same value is pushed once more, which changes nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use secrecy::SecretString;
use sha2::{Digest, Sha256};

use super::app_overview;
use crate::{
    api::status::SecretStatus,
    error::Error,
    fly::secrets::AppSecret,
    pipeline::{Cx, Note, step::Result},
    plan::fingerprint,
    redact,
};

/// How long several steps share one list of the app's secrets. Fly.io answers one such list a
/// second; only this process writes there, and a write ends the sharing.
const SHARED_FOR: Duration = Duration::from_secs(3);

/// The app's secrets at Fly.io, and when they were read. A fact when a step observed it; in the
/// journal when it was read after a push.
#[derive(Clone, Debug)]
struct SecretList {
    read: Instant,
    secrets: Vec<AppSecret>,
}

/// Journal: when this process last wrote secrets. A list that was read before is outdated.
#[derive(Debug)]
struct LastWrite(Instant);

/// Journal: what this process has pushed, by name; `None`: it has removed it.
#[derive(Clone, Debug, Default)]
struct Pushed(BTreeMap<String, Option<SecretStatus>>);

/// Fact: names on record that are neither requested nor at Fly.io. The status lists them until the spec
/// is live.
#[derive(Debug)]
struct Gone(BTreeSet<String>);

/// Journal: the version of the app's secrets that machines must see.
#[derive(Debug)]
struct SecretsVersion(u64);

/// Journal: by name, whether the first push by this process left Fly.io's digest as it was.
#[derive(Clone, Debug, Default)]
struct SameValues(BTreeMap<String, bool>);

/// The version of the app's secrets that machines must see, if this process has written any.
pub fn version(cx: &Cx) -> Option<u64> {
    cx.journal.get::<SecretsVersion>().map(|version| version.0)
}

/// How the wanted secrets compare with those at Fly.io.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// Names to push: missing, changed, or not what was pushed.
    pub stale: BTreeSet<String>,
    /// Secrets that match.
    pub current: Vec<SecretStatus>,
}

impl Comparison {
    /// The notes for the status.
    pub fn notes(&self) -> Vec<Note> {
        self.current.iter().cloned().map(Note::Secret).collect()
    }
}

/// Forgets what this process has pushed: it was pushed to an app that no longer exists.
pub fn forget(cx: &Cx) {
    cx.journal.clear::<SecretsVersion>();
    cx.journal.clear::<Pushed>();
    cx.journal.clear::<SecretList>();
    cx.facts.clear::<SecretList>();
    cx.facts.clear::<Gone>();
}

/// Whether everything that was pushed to the app was found by this process to have the same value
/// before: Fly.io's digest did not change.
pub fn had_same_values(cx: &Cx) -> bool {
    let same = cx.journal.get::<SameValues>();
    let is_same = |name: &String| same.as_ref().and_then(|same| same.0.get(name).copied());
    records(cx).keys().all(|name| is_same(name) == Some(true))
}

/// Compares wanted secrets (name to fingerprint) with what Fly.io has and what was pushed. Pure.
fn comparison(
    wanted: &BTreeMap<String, String>,
    at_fly: &[AppSecret],
    pushed: &BTreeMap<String, SecretStatus>,
) -> Comparison {
    let mut compared = Comparison::default();
    for (name, fingerprint) in wanted {
        let found = at_fly.iter().find(|secret| secret.name == *name);
        let record = pushed.get(name);
        match (found, record) {
            (Some(found), Some(record))
                if record.fingerprint == *fingerprint && record.digest == found.digest =>
            {
                compared.current.push(record.clone());
            }
            _ => {
                compared.stale.insert(name.clone());
            }
        }
    }
    compared
}

/// What was pushed and not removed, by name: the record of this process before the one in the status.
pub fn records(cx: &Cx) -> BTreeMap<String, SecretStatus> {
    let (pushed, gone) = (cx.journal.get::<Pushed>(), cx.facts.get::<Gone>());
    let pushed = pushed.as_ref().map(|pushed| &pushed.0);
    let gone = gone.as_ref().map(|gone| &gone.0);
    on_record(cx.recorded.secrets.clone(), pushed, gone)
}

fn on_record(
    mut records: BTreeMap<String, SecretStatus>,
    pushed: Option<&BTreeMap<String, Option<SecretStatus>>>,
    gone: Option<&BTreeSet<String>>,
) -> BTreeMap<String, SecretStatus> {
    for (name, status) in pushed.into_iter().flatten() {
        match status {
            Some(status) => records.insert(name.clone(), status.clone()),
            None => records.remove(name),
        };
    }
    records.retain(|name, _| gone.is_none_or(|gone| !gone.contains(name)));
    records
}

/// Takes note of names on record that are neither requested nor at Fly.io. One that was noted before
/// stays, until it is requested again.
pub fn note_gone(cx: &Cx, names: BTreeSet<String>, is_requested: impl Fn(&str) -> bool) {
    let before = cx.facts.get::<Gone>();
    let before = before.iter().flat_map(|gone| gone.0.iter().cloned());
    let mut names: BTreeSet<String> = before.chain(names).collect();
    names.retain(|name| !is_requested(name));
    cx.facts.set(Gone(names));
}

/// Takes note of names that were gone and that Fly.io has again as Golive set them last: the release that serves
/// has got them back.
pub fn note_back(cx: &Cx, at_fly: &[AppSecret]) {
    let Some(gone) = cx.facts.get::<Gone>() else {
        return;
    };
    let pushed = cx.journal.get::<Pushed>();
    let pushed = pushed.as_ref().map(|pushed| &pushed.0);
    let set = on_record(cx.recorded.secrets.clone(), pushed, None);
    cx.facts.set(Gone(still_gone(&gone.0, at_fly, &set)));
}

/// Those that Fly.io does not have as they were set last. Pure.
fn still_gone(
    gone: &BTreeSet<String>,
    at_fly: &[AppSecret],
    set: &BTreeMap<String, SecretStatus>,
) -> BTreeSet<String> {
    let is_back = |name: &String| {
        let found = at_fly.iter().find(|secret| secret.name == *name);
        let last = set.get(name);
        found
            .zip(last)
            .is_some_and(|(found, last)| found.digest == last.digest)
    };
    let gone = gone.iter().filter(|name| !is_back(name));
    gone.cloned().collect()
}

/// The app's secrets at Fly.io. Steps of one pass share one list.
///
/// # Errors
/// When Fly.io does not answer.
pub async fn list(cx: &Cx) -> Result<Vec<AppSecret>> {
    if let Some(secrets) = shared(cx) {
        return Ok(secrets);
    }
    let secrets = app_overview::read(cx, read(cx)).await?;
    cx.facts.set(SecretList {
        read: Instant::now(),
        secrets: secrets.clone(),
    });
    Ok(secrets)
}

/// The newest list, unless it is too old or outdated by a write.
fn shared(cx: &Cx) -> Option<Vec<AppSecret>> {
    let lists = [cx.facts.get::<SecretList>(), cx.journal.get::<SecretList>()];
    let newest = lists.into_iter().flatten().max_by_key(|list| list.read)?;
    let write = cx.journal.get::<LastWrite>();
    let outdated = write.is_some_and(|write| newest.read < write.0);
    (!outdated && newest.read.elapsed() < SHARED_FOR).then(|| newest.secrets.clone())
}

async fn read(cx: &Cx) -> Result<Vec<AppSecret>> {
    let secrets = cx.fly.secrets(&cx.target.app, None).await;
    secrets.map_err(|source| Error::fly("list the secrets of the app", source))
}

/// Compares these values with what Fly.io has. The values are redacted from everything that is
/// shown from here on.
///
/// # Errors
/// When Fly.io does not answer.
pub async fn compare(cx: &Cx, values: &BTreeMap<String, SecretString>) -> Result<Comparison> {
    let mut fingerprints = BTreeMap::new();
    for (name, value) in values {
        let print = fingerprint(&cx.installation.fingerprint_key, value);
        redact::guard(value.clone());
        fingerprints.insert(name.clone(), print);
    }
    let at_fly = list(cx).await?;
    Ok(comparison(&fingerprints, &at_fly, &records(cx)))
}

/// Sets and (`None`) removes secrets in one call, and records the digests that Fly.io has for them.
///
/// # Errors
/// When Fly.io refuses or does not answer, or accepted the values without effect. The same values
/// can be pushed again.
pub async fn push(cx: &Cx, values: BTreeMap<String, Option<SecretString>>) -> Result<()> {
    let before = match shared(cx) {
        Some(secrets) => secrets,
        None => read(cx).await?,
    };
    let written = cx
        .fly
        .set_secrets(&cx.target.app, &values)
        .await
        .map_err(|source| Error::fly("set the secrets of the app", source));
    // Also when the outcome is unknown: what was read before no longer holds.
    cx.journal.set(LastWrite(Instant::now()));
    let written = written?;
    if let Some(new) = written.version() {
        let newest = version(cx).map_or(new, |known| known.max(new));
        cx.journal.set(SecretsVersion(newest));
    }
    let after = read(cx).await?;
    cx.journal.set(SecretList {
        read: Instant::now(),
        secrets: after.clone(),
    });
    let mut without_effect = false;
    for (name, value) in values {
        let Some(value) = value else {
            record(cx, name, None);
            continue;
        };
        let answered = find(&written.secrets.0, &name);
        match digest_after(find(&before, &name), answered, find(&after, &name)) {
            Some(digest) => {
                let same = find(&before, &name).is_some_and(|before| before.digest == digest);
                cx.journal.change_or_default::<SameValues>(|values| {
                    // A later push tells nothing about what was there before the first.
                    values.0.entry(name.clone()).or_insert(same);
                });
                let status = SecretStatus {
                    digest: digest.to_owned(),
                    fingerprint: fingerprint(&cx.installation.fingerprint_key, &value),
                    name: name.clone(),
                };
                record(cx, name, Some(status));
            }
            None => without_effect = true,
        }
    }
    if without_effect {
        return Err(Error::NotKnown("the effect of setting the secrets"));
    }
    Ok(())
}

fn record(cx: &Cx, name: String, status: Option<SecretStatus>) {
    cx.journal
        .change_or_default::<Pushed>(|pushed| drop(pushed.0.insert(name, status)));
}

fn find<'a>(secrets: &'a [AppSecret], name: &str) -> Option<&'a AppSecret> {
    secrets.iter().find(|secret| secret.name == name)
}

/// The digest of a pushed value at Fly.io, from the list before the push, the answer of the push,
/// and the list after it; `None` when the push had no effect. Pure.
///
/// The list after it counts when it agrees with the answer. It also counts when the entry was
/// written since: then the answer computes digests in another way, and pushing again would never
/// end.
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

/// One digest over all secrets that were pushed. A machine that was started with another digest
/// runs with outdated secrets.
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

        let compared = comparison(&wanted, &at_fly, &pushed);

        let stale: Vec<&str> = compared.stale.iter().map(String::as_str).collect();
        assert_eq!(stale, ["B", "C", "D"]);
        assert_eq!(compared.current.len(), 1);
    }

    #[test]
    fn what_was_removed_is_on_record_no_longer_though_the_status_still_lists_it() {
        let listed = [
            record("A", "da", "1"),
            record("B", "db", "2"),
            record("C", "dc", "3"),
        ];
        let pushed = [
            ("A".to_owned(), Some(record("A", "new", "4").1)),
            ("B".to_owned(), None),
        ];
        let gone = ["C".to_owned()];
        let records = on_record(listed.into(), Some(&pushed.into()), Some(&gone.into()));
        assert_eq!(records.len(), 1);
        assert_eq!(records["A"].digest, "new");
    }

    #[test]
    fn a_secret_that_was_gone_is_back_when_it_is_as_it_was_set_last() {
        let gone = ["A", "B", "C"].map(str::to_owned).into();
        let at_fly = [at_fly("A", "da"), at_fly("B", "by hand")];
        let set = [
            record("A", "da", "1"),
            record("B", "db", "2"),
            record("C", "dc", "3"),
        ];
        let still = still_gone(&gone, &at_fly, &set.into());
        assert_eq!(still, ["B", "C"].map(str::to_owned).into());
    }

    #[test]
    fn a_push_counts_when_the_list_agrees_or_was_written_since() {
        let old = at_fly("A", "old");
        let new = at_fly("A", "new");
        let rewritten = AppSecret {
            updated_at: Some("2026-01-02T00:00:00Z".parse().unwrap_or_default()),
            ..at_fly("A", "old")
        };
        // In order: the usual case; a digest that the answer computes in another way; a write
        // without effect; a secret that the list does not show.
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
        // The same value pushed again.
        assert_eq!(
            digest_after(Some(&new), Some(&new), Some(&new)),
            Some("new")
        );
    }
}
