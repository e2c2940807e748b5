//! The secrets of the release that serves, and those of the spec that wait until Deploy may begin.
//!
//! Secrets belong to the app and not to a release: a machine gets the values that are set when it starts.
//! What the spec asks for otherwise than the release that serves is therefore set by the first change of
//! Deploy, behind its gate, and not by Provision: a machine that has to be created again before that
//! starts with the secrets of the release that serves. A new address of the same data is no other secret but a
//! repair, and is set at once.

use std::collections::{BTreeMap, BTreeSet};

use secrecy::SecretString;

use super::{
    app_secrets::{self, Comparison},
    names::{DATABASE_URL, REDIS_URL},
    releases::{record::Content, store},
    wanted_secrets::Push,
};
use crate::{
    api::status::SecretStatus,
    pipeline::{Cx, StepId, step::Result},
    plan::{ServedSpec, fingerprint},
};

/// The fingerprints of a secret of the release; empty: not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prints {
    /// Of the value with which the release went live.
    pub given: String,
    /// Of the value that Golive set last: a release that failed may have got another one, which the
    /// machines of the restored one have since.
    pub last: String,
}

/// The fingerprints by the name of the secret; `None`: no release serves.
///
/// # Errors
/// When the records of the releases cannot be read.
pub async fn prints(cx: &Cx) -> Result<Option<BTreeMap<String, Prints>>> {
    let records = store::load(cx).await?;
    let serving = records.serving_record();
    Ok(serving.map(|serving| prints_of(&serving.content, &app_secrets::records(cx))))
}

/// The same from the record of the release; one of an older version has Fly.io's digests alone.
fn prints_of(
    content: &Content,
    pushed: &BTreeMap<String, SecretStatus>,
) -> BTreeMap<String, Prints> {
    let of = |name: &String| {
        let given = content.fingerprints.get(name).cloned();
        let last = pushed.get(name).map(|pushed| pushed.fingerprint.clone());
        let prints = Prints {
            given: given.unwrap_or_default(),
            last: last.unwrap_or_default(),
        };
        (name.clone(), prints)
    };
    content.secrets.keys().map(of).collect()
}

/// Fact: what waits until Deploy may begin.
#[derive(Clone, Debug, Default)]
struct Waiting {
    /// Secrets of the step `Secrets`.
    secrets: bool,
    /// Addresses that the steps `Attach` and `Redis` would set.
    addresses: BTreeMap<String, SecretString>,
}

/// Fact: what Deploy has found to set (the fingerprint) and to remove (`None`), by name.
#[derive(Debug)]
struct Pending(BTreeMap<String, Option<String>>);

/// Whether this push waits until Deploy may begin: a release serves, and it has had another value, has the
/// secret that is removed, or lacks the one that is set. What is only set again does not wait, nor does
/// what is only planned.
///
/// # Errors
/// When the records of the releases cannot be read.
pub async fn waits(cx: &Cx, push: &Push, values: &BTreeMap<String, SecretString>) -> Result<bool> {
    if push.is_empty() || !cx.may_act() {
        return Ok(false);
    }
    Ok(prints(cx).await?.is_some_and(|serving| {
        let key = &cx.installation.fingerprint_key;
        differs(push, &fingerprints(values, key), &serving)
    }))
}

fn fingerprints(values: &BTreeMap<String, SecretString>, key: &[u8]) -> BTreeMap<String, String> {
    let values = values.iter();
    let print = |(name, value): (&String, &SecretString)| (name.clone(), fingerprint(key, value));
    values.map(print).collect()
}

/// Whether the push makes the app's secrets others than those of the release that serves. Pure.
fn differs(
    push: &Push,
    wanted: &BTreeMap<String, String>,
    serving: &BTreeMap<String, Prints>,
) -> bool {
    let has_had = |name: &String| {
        let (Some(print), Some(had)) = (wanted.get(name), serving.get(name)) else {
            return false;
        };
        [&had.given, &had.last].contains(&print)
    };
    !push.unset.is_empty() || !push.set.iter().all(has_had)
}

/// Notes whether the secrets of the step `Secrets` wait.
pub fn secrets_wait(cx: &Cx, waits: bool) {
    cx.facts
        .change_or_default::<Waiting>(|waiting| waiting.secrets = waits);
}

/// Notes the address that waits (`None`: none does), by the name of its secret.
pub fn address_waits(cx: &Cx, name: &str, address: Option<SecretString>) {
    cx.facts.change_or_default::<Waiting>(|waiting| {
        match address {
            Some(address) => waiting.addresses.insert(name.to_owned(), address),
            None => waiting.addresses.remove(name),
        };
    });
}

/// Compares an address with what Fly.io has, and notes whether it waits until Deploy may begin. `is_same`: the
/// release that serves has the same data behind its address as the spec. Then another address is a repair,
/// such as one with another password, because the former does not work any more: it does not wait.
///
/// # Errors
/// When Fly.io does not answer, or the records of the releases cannot be read.
pub async fn compare_address(
    cx: &Cx,
    name: &str,
    address: SecretString,
    is_same: impl Fn(&ServedSpec) -> bool,
) -> Result<(Comparison, bool)> {
    let values = BTreeMap::from([(name.to_owned(), address.clone())]);
    let compared = app_secrets::compare(cx, &values).await?;
    let push = Push {
        set: compared.stale.clone(),
        unset: BTreeSet::new(),
    };
    let waits = waits(cx, &push, &values).await? && !serves(cx, is_same).await?;
    address_waits(cx, name, waits.then_some(address));
    Ok((compared, waits))
}

/// Whether a release serves of which this holds. One of an older version has no spec on record.
async fn serves(cx: &Cx, is_same: impl Fn(&ServedSpec) -> bool) -> Result<bool> {
    let records = store::load(cx).await?;
    let serving = records.serving_record();
    let served = serving.and_then(|serving| serving.content.served.as_ref());
    Ok(served.is_some_and(is_same))
}

/// Whether the secrets of the step `Secrets` wait.
pub fn do_secrets_wait(cx: &Cx) -> bool {
    let waiting = cx.facts.get::<Waiting>();
    waiting.is_some_and(|waiting| waiting.secrets)
}

/// The addresses that wait, by the name of their secret.
pub fn waiting_addresses(cx: &Cx) -> BTreeMap<String, SecretString> {
    let waiting = cx.facts.get::<Waiting>();
    waiting.map_or_else(BTreeMap::new, |waiting| waiting.addresses.clone())
}

/// Notes what Deploy has found to set and to remove.
pub fn note_pending(cx: &Cx, push: &Push, values: &BTreeMap<String, SecretString>) {
    let prints = fingerprints(values, &cx.installation.fingerprint_key);
    let set = prints.into_iter();
    let set = set.filter(|(name, _)| push.set.contains(name));
    let set = set.map(|(name, print)| (name, Some(print)));
    let unset = push.unset.iter().map(|name| (name.clone(), None));
    cx.facts.set(Pending(unset.chain(set).collect()));
}

/// The app's secrets as the release that the spec asks for gets them: what was set, and what Deploy has
/// still to set and to remove.
pub fn expected(cx: &Cx) -> BTreeMap<String, SecretStatus> {
    let records = app_secrets::records(cx);
    match cx.facts.get::<Pending>() {
        Some(pending) => with(records, &pending.0),
        None => records,
    }
}

fn with(
    mut records: BTreeMap<String, SecretStatus>,
    pending: &BTreeMap<String, Option<String>>,
) -> BTreeMap<String, SecretStatus> {
    for (name, print) in pending {
        let status = print.as_ref().map(|print| SecretStatus {
            name: name.clone(),
            digest: String::new(),
            fingerprint: print.clone(),
        });
        match status {
            Some(status) => records.insert(name.clone(), status),
            None => records.remove(name),
        };
    }
    records
}

/// The names of what waits, as steps of Provision.
pub fn waiting_steps(cx: &Cx) -> BTreeSet<StepId> {
    let addresses = waiting_addresses(cx);
    let address = |name, step| addresses.contains_key(name).then_some(step);
    let steps = [
        do_secrets_wait(cx).then_some(StepId::Secrets),
        address(DATABASE_URL, StepId::Attach),
        address(REDIS_URL, StepId::Redis),
    ];
    steps.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::releases::{record::Outcome, records::tests::record};

    fn pushed(name: &str, digest: &str, print: &str) -> (String, SecretStatus) {
        let status = SecretStatus {
            name: name.to_owned(),
            digest: digest.to_owned(),
            fingerprint: print.to_owned(),
        };
        (name.to_owned(), status)
    }

    #[test]
    fn only_what_the_release_that_serves_has_not_had_waits() {
        let prints = |given: &str, last: &str| Prints {
            given: given.to_owned(),
            last: last.to_owned(),
        };
        let serving = BTreeMap::from([
            ("A".to_owned(), prints("a", "a")),
            ("B".to_owned(), prints("b", "of a failed release")),
            ("C".to_owned(), prints("", "")),
        ]);
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let waits = |set: &[(&str, &str)], unset: &[&str]| {
            let wanted = set
                .iter()
                .map(|(name, print)| ((*name).to_owned(), (*print).to_owned()));
            let push = Push {
                set: set.iter().map(|(name, _)| (*name).to_owned()).collect(),
                unset: names(unset),
            };
            differs(&push, &wanted.collect(), &serving)
        };
        // Somebody has removed or changed them at Fly.io: they are set again at once.
        assert!(!waits(&[("A", "a")], &[]));
        assert!(!waits(&[("A", "a"), ("B", "b")], &[]));
        assert!(!waits(&[("B", "of a failed release")], &[]));
        // Another value, another secret, one less, and one of which nothing is known.
        assert!(waits(&[("A", "new")], &[]));
        assert!(waits(&[("A", "a"), ("D", "d")], &[]));
        assert!(waits(&[], &["A"]));
        assert!(waits(&[("C", "c")], &[]));
    }

    #[test]
    fn a_release_is_known_by_the_secrets_that_it_will_have() {
        let records = [
            pushed("A", "da", "a"),
            pushed("B", "db", "b"),
            pushed("C", "dc", "c"),
        ];
        let pending = [
            ("A".to_owned(), Some("new".to_owned())),
            ("B".to_owned(), None),
            ("D".to_owned(), Some("d".to_owned())),
        ];
        let expected = with(records.into(), &pending.into());
        let prints: Vec<(&str, &str)> = expected
            .iter()
            .map(|(name, status)| (&**name, &*status.fingerprint))
            .collect();
        assert_eq!(prints, [("A", "new"), ("C", "c"), ("D", "d")]);
    }

    #[test]
    fn a_record_of_an_older_version_is_completed_by_what_was_set_last() {
        let mut record = record(1, "k", Outcome::Succeeded);
        record.content.secrets = [("A", "da"), ("B", "db"), ("C", "dc")]
            .map(|(name, digest)| (name.to_owned(), digest.to_owned()))
            .into();
        record.content.fingerprints = [("A".to_owned(), "pa".to_owned())].into();
        let pushed = [pushed("A", "x", "other"), pushed("B", "db", "pb")];
        let prints = prints_of(&record.content, &pushed.into());
        let of = |name: &str| (prints[name].given.as_str(), prints[name].last.as_str());
        assert_eq!(of("A"), ("pa", "other"));
        assert_eq!(of("B"), ("", "pb"));
        assert_eq!(of("C"), ("", ""), "its value is not known");
    }
}
