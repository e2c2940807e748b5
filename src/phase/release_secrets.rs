//! The secrets of the release that serves, and those of the spec that wait until Deploy may begin.
//!
//! Secrets belong to the app and not to a release: a machine gets the values that are set when it starts.
//! What the spec asks for otherwise than the release that serves is therefore set by the first change of
//! Deploy, behind its gate, and not by Provision: a machine that has to be created again before that
//! starts with the secrets of the release that serves. What the spec no longer asks for stays until the
//! release without it serves: the one before it may have to be restored.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use secrecy::SecretString;

use super::{
    app_secrets::{self, Comparison},
    names::{DATABASE_URL, REDIS_URL},
    releases::{
        record::{Content, Outcome, Record},
        records::Records,
        store,
    },
    wanted_secrets::Push,
};
use crate::{
    api::{policy::Adoption, provision::Provision, status::SecretStatus},
    pipeline::{Cx, StepId, step::Result},
    plan::fingerprint,
    store::generated::{Rests, Rotation},
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

/// Fact: a change of the generated values rests.
#[derive(Debug)]
struct Resting;

/// Fact: what Deploy has found to set (the fingerprint) and to remove (`None`), by name.
#[derive(Debug)]
struct Pending(BTreeMap<String, Option<String>>);

/// Whether this push waits until Deploy may begin: a release serves, and it has had another value, has the
/// secret that is removed, or lacks the one that is set. What is only set again does not wait. While none
/// serves, everything waits if machines may run all the same.
///
/// # Errors
/// When the records of the releases cannot be read.
pub async fn waits(cx: &Cx, push: &Push, values: &BTreeMap<String, SecretString>) -> Result<bool> {
    if push.is_empty() {
        return Ok(false);
    }
    let Some(serving) = prints(cx).await? else {
        let records = store::load(cx).await?;
        return Ok(may_run(cx.target.adoption, &records));
    };
    let key = &cx.installation.fingerprint_key;
    Ok(differs(push, &fingerprints(values, key), &serving))
}

/// Whether machines may run although no release is on record as serving: the app is taken over with what runs
/// there, or a release was rolled out and is not proven yet. Pure.
fn may_run(adoption: Adoption, records: &Records) -> bool {
    adoption == Adoption::Always || records.was_any_rolled_out()
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
    let has = |name: &String| serving.contains_key(name);
    push.unset.iter().any(has) || !push.set.iter().all(has_had)
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

/// What the release that serves went live with around it; `None`: none serves, or its record is of an older
/// version.
///
/// # Errors
/// When the records of the releases cannot be read.
pub async fn served(cx: &Cx) -> Result<Option<Provision>> {
    let records = store::load(cx).await?;
    let served = records
        .serving_record()
        .and_then(|serving| serving.content.served.as_ref());
    Ok(served.map(|served| served.provision.clone()))
}

/// Fact: the database is the declared fallback.
#[derive(Debug)]
struct UsesFallback;

/// Notes whether the database is the declared fallback.
pub fn note_fallback(cx: &Cx, is_used: bool) {
    match is_used {
        true => cx.facts.set(UsesFallback),
        false => cx.facts.clear::<UsesFallback>(),
    }
}

/// Whether the database is the declared fallback, as the steps of Provision have found.
pub fn uses_fallback(cx: &Cx) -> bool {
    cx.facts.get::<UsesFallback>().is_some()
}

/// Whether the release that serves uses the declared fallback; `None`: none serves, or its record is of an older
/// version.
///
/// # Errors
/// When the records of the releases cannot be read.
pub async fn served_by_fallback(cx: &Cx) -> Result<Option<bool>> {
    let records = store::load(cx).await?;
    let serving = records.serving_record();
    Ok(serving.and_then(|serving| serving.content.fallback))
}

/// What an address leads to, compared with that of the release that serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leads {
    /// To the only object of its name, which the release that serves uses too: another address of it is a repair.
    ToTheSame,
    /// Perhaps to another object.
    Elsewhere,
}

/// Compares an address with what Fly.io has, and notes whether it waits until Deploy may begin. One that repairs
/// that of the release that serves does not wait.
///
/// # Errors
/// When Fly.io does not answer, or the records of the releases cannot be read.
pub async fn compare_address(
    cx: &Cx,
    name: &str,
    address: SecretString,
    leads: Leads,
) -> Result<(Comparison, bool)> {
    let values = BTreeMap::from([(name.to_owned(), address.clone())]);
    let compared = app_secrets::compare(cx, &values).await?;
    let push = Push {
        set: compared.stale.clone(),
        unset: BTreeSet::new(),
    };
    let waits = leads == Leads::Elsewhere && waits(cx, &push, &values).await?;
    address_waits(cx, name, waits.then_some(address));
    Ok((compared, waits))
}

/// This rotation as the releases allow it: what rests, and since when the release that serves has each value.
///
/// # Errors
/// When the records of the releases cannot be read.
pub async fn allowed(cx: &Cx, rotation: Rotation) -> Result<Rotation> {
    let records = store::load(cx).await?;
    Ok(Rotation {
        rests: rests(do_secrets_wait(cx), &records),
        used_since: used_since(&records),
        ..rotation
    })
}

/// Notes whether a change of the generated values rests.
pub fn note_resting(cx: &Cx, rests: bool) {
    match rests {
        true => cx.facts.set(Resting),
        false => cx.facts.clear::<Resting>(),
    }
}

/// Another release is on record as serving: what rested until then is taken up in the next pass, and not at the
/// next re-check.
pub fn take_up_what_rests(cx: &Cx) {
    if cx.facts.get::<Resting>().is_some() {
        cx.waker.wake(Some(StepId::Secrets));
    }
}

/// Which replacements of generated values rest. Pure.
fn rests(secrets_wait: bool, records: &Records) -> Rests {
    let latest = records.latest();
    if secrets_wait {
        Rests::All
    } else if latest.is_some_and(|latest| latest.outcome == Outcome::Failed) {
        Rests::Age
    } else {
        Rests::Nothing
    }
}

/// Since when the release that serves and those before it have had each of its values, by name. Pure.
fn used_since(records: &Records) -> BTreeMap<String, Timestamp> {
    let serving = records.serving_record();
    serving.map_or_else(BTreeMap::new, |serving| since(records, serving))
}

/// Since when this release and the good ones before it have had each of its values, by name. What they say of
/// themselves reaches further back than the records that are kept. Pure.
pub fn since(records: &Records, release: &Record) -> BTreeMap<String, Timestamp> {
    let since = |(name, print): (&String, &String)| {
        let of = |record: &Record| {
            let known = record.content.since.get(name).copied();
            known.unwrap_or(record.time)
        };
        let earlier = records.list.iter().rev();
        let earlier = earlier.filter(|record| record.is_good() && record.number < release.number);
        let same =
            earlier.take_while(|record| record.content.fingerprints.get(name) == Some(print));
        let first = same.map(of).fold(of(release), Timestamp::min);
        (name.clone(), first)
    };
    release.content.fingerprints.iter().map(since).collect()
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

/// The names of the app's secrets that the release that the spec asks for is without: they are removed as soon
/// as it serves.
pub fn surplus(cx: &Cx) -> BTreeSet<String> {
    let pending = cx.facts.get::<Pending>();
    let records = app_secrets::records(cx);
    pending.map_or_else(BTreeSet::new, |pending| surplus_of(&pending.0, &records))
}

/// Those of the pending removals that were not made yet. Pure.
fn surplus_of(
    pending: &BTreeMap<String, Option<String>>,
    records: &BTreeMap<String, SecretStatus>,
) -> BTreeSet<String> {
    let removals = pending.iter().filter(|(_, print)| print.is_none());
    let names = removals.map(|(name, _)| name);
    names
        .filter(|name| records.contains_key(*name))
        .cloned()
        .collect()
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

/// The steps of Provision whose secrets wait, and `Promote` while it has secrets to remove.
pub fn waiting_steps(cx: &Cx) -> BTreeSet<StepId> {
    let addresses = waiting_addresses(cx);
    let address = |name, step| addresses.contains_key(name).then_some(step);
    let steps = [
        do_secrets_wait(cx).then_some(StepId::Secrets),
        (!surplus(cx).is_empty()).then_some(StepId::Promote),
        address(DATABASE_URL, StepId::Attach),
        address(REDIS_URL, StepId::Redis),
    ];
    steps.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::releases::records::tests::record;

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
        // One less that the release never had.
        assert!(!waits(&[("A", "a")], &["D"]));
    }

    #[test]
    fn secrets_wait_for_deploy_as_soon_as_machines_may_run() {
        let none = Records::default();
        assert!(!may_run(Adoption::Never, &none));
        assert!(!may_run(Adoption::IfOwned, &none));
        assert!(may_run(Adoption::Always, &none), "with what runs there");
        let list = vec![Record {
            proven: false,
            ..record(1, "a", Outcome::Succeeded)
        }];
        let rolled_out = Records { list };
        assert!(rolled_out.serving_record().is_none());
        assert!(may_run(Adoption::Never, &rolled_out));
    }

    #[test]
    fn what_the_wanted_release_is_without_is_removed_once() {
        let records = [pushed("A", "da", "a"), pushed("B", "db", "b")];
        let pending = [
            ("A".to_owned(), Some("new".to_owned())),
            ("B".to_owned(), None),
            // It is removed already: one of this name that comes later is somebody's.
            ("C".to_owned(), None),
        ];
        let surplus = surplus_of(&pending.into(), &records.into());
        assert_eq!(surplus, ["B".to_owned()].into());
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
    fn replacements_rest_until_the_values_are_used_and_by_age_while_the_latest_release_failed() {
        let serves = Records {
            list: vec![record(1, "a", Outcome::Succeeded)],
        };
        let held = Records {
            list: vec![
                record(1, "a", Outcome::Succeeded),
                record(2, "b", Outcome::Failed),
            ],
        };
        assert_eq!(rests(false, &Records::default()), Rests::Nothing);
        assert_eq!(rests(false, &serves), Rests::Nothing);
        assert_eq!(rests(false, &held), Rests::Age);
        assert_eq!(rests(true, &held), Rests::All);
        assert_eq!(rests(true, &serves), Rests::All);
    }

    #[test]
    fn a_value_is_used_since_the_first_release_in_a_row_that_has_it() {
        let at = |second| Timestamp::from_second(second).unwrap_or_default();
        let with = |number, print: &str| {
            let mut record = record(number, "key", Outcome::Succeeded);
            record.time = at(i64::try_from(number).unwrap_or_default());
            record.content.fingerprints = [("A".to_owned(), print.to_owned())].into();
            record
        };
        let records = |prints: &[&str]| Records {
            list: prints
                .iter()
                .zip(1..)
                .map(|(print, n)| with(n, print))
                .collect(),
        };
        let since = |prints: &[&str]| used_since(&records(prints)).get("A").copied();
        assert_eq!(since(&["new"]), Some(at(1)));
        assert_eq!(since(&["old", "new", "new"]), Some(at(2)));
        assert_eq!(since(&["new", "old", "new"]), Some(at(3)), "once more");
        assert_eq!(used_since(&Records::default()), BTreeMap::new());
    }

    #[test]
    fn the_overlap_ends_however_many_releases_follow() {
        const HOUR: i64 = 3600;
        let at = |hour: u64| {
            Timestamp::from_second(i64::try_from(hour).unwrap_or_default() * HOUR)
                .unwrap_or_default()
        };
        let mut records = Records::default();
        // A release an hour, all with the value that the rotation made. Ten records are kept.
        for number in 1..=30 {
            let mut release = record(number, "key", Outcome::Succeeded);
            release.time = at(number);
            release.content.fingerprints = [("A".to_owned(), "new".to_owned())].into();
            release.content.since = since(&records, &release);
            records = records.with(release);
            for gone in records.superfluous() {
                records = records.without(gone);
            }
            assert_eq!(used_since(&records).get("A"), Some(&at(1)), "{number}");
        }
        assert_eq!(records.list.len(), 10);
        let mut other = record(31, "key", Outcome::Succeeded);
        other.time = at(31);
        other.content.fingerprints = [("A".to_owned(), "newer".to_owned())].into();
        assert_eq!(since(&records, &other).get("A"), Some(&at(31)));
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
