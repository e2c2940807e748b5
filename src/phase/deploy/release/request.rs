//! The decision on a request for a rollback: it is carried out, refused or must wait. Pure.
//!
//! No rollback goes back over an irreversible migration, whichever release ran it since the one that
//! is to be restored.

use jiff::SignedDuration;

use super::{
    pull::{Pull, gone},
    record::{Outcome, Record},
    records::Records,
    wanted::WantedRelease,
};
use crate::{
    flytoml,
    plan::{Target, refs::RollbackRequest},
};

/// How much older than the latest release a request may be: the clock of the API server dates
/// requests, and ours dates releases.
const SKEW: SignedDuration = SignedDuration::from_secs(60);

/// The decision on a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It is carried out.
    Accept,
    /// It has to wait, for this reason.
    Wait(String),
    /// It is refused, for this reason.
    Refuse(String),
}

/// Decides a request.
pub fn judge(
    target: &Target,
    records: &Records,
    wanted: &WantedRelease,
    request: &RollbackRequest,
    pull: &Pull,
) -> Judgement {
    let refuse = |why: String| Judgement::Refuse(why);
    let Some(to) = records.of(request.to) else {
        let known: Vec<String> = records
            .list
            .iter()
            .filter(|record| record.is_good())
            .map(|record| record.number.to_string())
            .collect();
        let known = if known.is_empty() {
            "none has succeeded yet".to_owned()
        } else {
            format!("those that succeeded are {}", known.join(", "))
        };
        return refuse(format!(
            "there is no release {} on record; {known}",
            request.to
        ));
    };
    if !to.is_good() {
        return refuse(format!("{} {}; choose another", to.name(), to.ending()));
    }
    // A failed release that was left as it is may run on some machines.
    let recorded = records.latest().filter(|last| last.key == wanted.key);
    if recorded.is_some_and(|last| last.outcome != Outcome::Begun && !last.is_left())
        && records
            .serving_record()
            .is_some_and(|serving| serving.number == to.number)
    {
        return refuse(format!("{} already serves", to.name()));
    }
    if let Some(latest) = records.ended()
        && request.created.duration_since(latest.time) < -SKEW
    {
        return refuse(format!(
            "{} ended after this rollback was requested; review it and request the rollback again",
            latest.name()
        ));
    }
    // The spec may declare its own migration reversible by now; earlier declarations stay.
    let own = wanted.migrates && !target.deploy.migrations.reversible;
    let own = own.then(|| format!("release {} ({})", wanted.number, wanted.image.reference));
    let earlier = records.irreversible_after(to.number, &wanted.key);
    if let Some(name) = own.or_else(|| earlier.map(Record::name)) {
        return refuse(format!(
            "{name} ran its release command, and its `migrations.reversible` is false: {} may not run on that database; deploy a release that works instead, or declare the present one reversible in the spec",
            to.name()
        ));
    }
    if let Some(Err(error)) = to.content.config.as_deref().map(flytoml::parse) {
        return refuse(format!(
            "the fly.toml of {} is no longer valid: {error}",
            to.name()
        ));
    }
    match pull {
        Pull::Possible => Judgement::Accept,
        Pull::Gone => refuse(gone(to)),
        Pull::Unknown(why) => Judgement::Wait(format!(
            "it is unknown whether the image of {} can still be pulled: {why}",
            to.name()
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use jiff::Timestamp;

    use super::{
        super::records::tests::{records, with_left},
        *,
    };
    use crate::{pipeline::facts, plan::testing::target};

    fn wanted(key: &str) -> WantedRelease {
        WantedRelease {
            number: 3,
            key: key.to_owned(),
            image: facts::Image {
                asked: String::new(),
                reference: "registry.fly.io/a:3".to_owned(),
                pinned: "registry.fly.io/a@sha256:3".to_owned(),
                digest: "sha256:3".to_owned(),
                runs_on_fly: None,
            },
            config_hash: String::new(),
            env: Vec::new(),
            migrates: false,
        }
    }

    fn request(to: u64) -> RollbackRequest {
        RollbackRequest {
            uid: "u".to_owned(),
            name: "r".to_owned(),
            created: Timestamp::UNIX_EPOCH,
            digest: String::new(),
            to,
            by: "ana".to_owned(),
            message: None,
        }
    }

    fn refusal(records: &Records, wanted: &WantedRelease, to: u64) -> String {
        match judge(&target(""), records, wanted, &request(to), &Pull::Possible) {
            Judgement::Refuse(why) => why,
            other => format!("{other:?}"),
        }
    }

    fn three() -> Records {
        records(&[
            ("a", Outcome::Succeeded),
            ("b", Outcome::Failed),
            ("c", Outcome::Succeeded),
        ])
    }

    #[test]
    fn only_a_release_that_succeeded_and_does_not_serve_can_be_restored() {
        let (records, wanted) = (three(), wanted("c"));
        assert_eq!(refusal(&records, &wanted, 1), "Accept");
        let none = refusal(&records, &wanted, 7);
        assert!(
            none.contains("no release 7") && none.contains("1, 3"),
            "{none}"
        );
        assert!(refusal(&records, &wanted, 2).contains("failed"));
        assert!(refusal(&records, &wanted, 3).contains("already serves"));
    }

    #[test]
    fn a_rollout_can_be_rolled_back_to_the_release_that_served_before() {
        assert_eq!(refusal(&three(), &wanted("d"), 3), "Accept");
    }

    #[test]
    fn a_begun_release_neither_serves_nor_has_ended() {
        let mut records = records(&[("a", Outcome::Succeeded), ("b", Outcome::Begun)]);
        records.list[1].time = Timestamp::from_second(3600).unwrap();
        assert_eq!(refusal(&records, &wanted("b"), 1), "Accept");
        assert!(refusal(&records, &wanted("b"), 2).contains("has not ended"));
        records.list[1].migration.migrated = true;
        let why = refusal(&records, &wanted("c"), 1);
        assert!(why.contains("release 2"), "{why}");
    }

    #[test]
    fn a_failed_release_that_was_left_can_be_rolled_back_unless_its_migration_is_irreversible() {
        let mut records = with_left(&[("a", Outcome::Succeeded)], "b");
        assert_eq!(refusal(&records, &wanted("b"), 1), "Accept");
        assert!(refusal(&records, &wanted("b"), 2).contains("failed"));
        records.list[1].migration.migrated = true;
        let why = refusal(&records, &wanted("c"), 1);
        assert!(why.contains("release 2"), "{why}");
    }

    #[test]
    fn no_request_rolls_back_over_an_irreversible_migration() {
        let (mut records, mut wanted) = (three(), wanted("c"));
        records.list[1].migration.migrated = true;
        let why = refusal(&records, &wanted, 1);
        assert!(
            why.contains("release 2") && why.contains("reversible"),
            "{why}"
        );
        records.list[1].migration.reversible = true;
        assert_eq!(refusal(&records, &wanted, 1), "Accept");
        wanted.migrates = true;
        assert!(refusal(&records, &wanted, 1).contains("release 3"));
        let reversible = target("deploy: {migrations: {reversible: true}}");
        let verdict = judge(&reversible, &records, &wanted, &request(1), &Pull::Possible);
        assert_eq!(verdict, Judgement::Accept);
    }

    #[test]
    fn a_request_is_refused_when_the_image_is_gone_and_waits_when_the_registry_does_not_answer() {
        let (records, wanted) = (three(), wanted("c"));
        let judged = |pull: Pull| judge(&target(""), &records, &wanted, &request(1), &pull);
        assert!(
            matches!(judged(Pull::Gone), Judgement::Refuse(why) if why.contains("cannot be pulled"))
        );
        assert!(matches!(
            judged(Pull::Unknown("503".into())),
            Judgement::Wait(_)
        ));
    }

    #[test]
    fn a_request_that_is_older_than_the_latest_release_is_refused() {
        let (mut records, wanted) = (three(), wanted("c"));
        records.list[2].time = Timestamp::from_second(3600).unwrap();
        assert!(refusal(&records, &wanted, 1).contains("request the rollback again"));
    }
}
