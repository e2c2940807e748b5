//! The release becomes the one that serves: it is rolled out, and it has passed all checks. The
//! record keeps the spec that it went live with, so that it can be kept and proven again whatever
//! the spec says later. From then on no release needs the secrets that this one is without: they are removed.
//! The removal is no part of the proof: while it fails, the release serves all the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use crate::{
    api::Reason,
    clock::{Timing, backoff},
    error::{Error, Retry},
    phase::{
        app_secrets, release_secrets,
        releases::{
            record::{Outcome, Record},
            records::Records,
            store,
        },
        wanted_secrets::Push,
    },
    pipeline::{
        ChangeKind, ChangeVerb, Cx, Note, PlannedChange, Step, StepChange, StepId, Verdict, Why,
        step::{Result, warn_of},
    },
    plan::{ServedSpec, Target},
};

/// Records that the release passed its SmokeTest, and removes the secrets that it is without.
pub struct Promote;

/// Journal: the last removal of secrets has failed.
#[derive(Clone, Copy, Debug)]
struct NotRemoved {
    reason: Reason,
    /// How often in a row.
    tries: u32,
    /// When it is tried again.
    again: Instant,
}

impl NotRemoved {
    /// After this error, which follows an earlier one or not. Pure.
    fn after(error: &Error, before: Option<&Self>, timing: &Timing, now: Instant) -> Self {
        let tries = before.map_or(0, |before| before.tries).saturating_add(1);
        let pause = match error.retry() {
            Retry::After(time) => time.max(timing.backoff_min),
            Retry::Backoff | Retry::OnChange => backoff(timing, tries),
        };
        Self {
            reason: error.reason(),
            tries,
            again: now + pause,
        }
    }

    /// How long it is left alone yet; `None`: it is tried now. Pure.
    fn rests(&self, now: Instant) -> Option<Duration> {
        let left = self.again.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }
}

/// The record of the newest release, and the history.
#[derive(Debug)]
pub struct Observed {
    latest: Option<Record>,
    notes: Vec<Note>,
    /// Secrets that the release is without.
    surplus: BTreeSet<String>,
    /// Their removal has failed for this reason, and is tried again after this time.
    not_removed: Option<(Reason, Duration)>,
    /// Whether this pass may write. Other integrations alone are no drift that is only reported.
    may_act: bool,
}

/// What a proven release leads to, one after the other: what serves is on record before anything of the
/// release before it goes.
#[derive(Debug)]
pub enum Promotion {
    /// The record, as it is to be written.
    Record(Box<Record>),
    /// Remove these secrets.
    Remove(Push),
}

impl fmt::Display for Promotion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record(record) => write!(f, "record that release {} serves", record.number),
            Self::Remove(push) => push.fmt(f),
        }
    }
}

/// Neither is drift: the machines of the release were made for it.
impl StepChange for Promotion {
    fn planned(&self) -> Vec<PlannedChange> {
        match self {
            Self::Record(record) => {
                let name = record.number.to_string();
                let record = PlannedChange::new(ChangeVerb::Record, "Release", name);
                vec![record.set("outcome", "Serves")]
            }
            Self::Remove(push) => push.planned(""),
        }
    }

    fn kind(&self) -> ChangeKind {
        ChangeKind::Housekeeping
    }

    /// The secrets are those of the release before it, which Golive has set.
    fn ends_release(&self) -> bool {
        matches!(self, Self::Remove(_))
    }
}

impl Step for Promote {
    type Observed = Observed;
    type Change = Promotion;

    fn id(&self) -> StepId {
        StepId::Promote
    }

    fn needs(&self) -> &'static [StepId] {
        &[
            StepId::EdgeChecks,
            StepId::DatabaseCheck,
            StepId::SteadyMachines,
        ]
    }

    fn reads(&self) -> u32 {
        0
    }

    /// A record stays.
    fn rechecked(&self) -> bool {
        false
    }

    async fn observe(&self, cx: &Cx) -> Result<Observed> {
        let records = store::load(cx).await?;
        let mut notes = vec![Note::History(records.history())];
        let serving = records.serving_record();
        notes.extend(serving.map(|record| Note::Release(record.status())));
        let failed = cx.journal.get::<NotRemoved>();
        let rests = |failed: &NotRemoved| Some((failed.reason, failed.rests(Instant::now())?));
        Ok(Observed {
            not_removed: failed.as_deref().and_then(rests),
            latest: records.latest().map(|latest| with_since(&records, latest)),
            notes,
            surplus: release_secrets::surplus(cx),
            may_act: cx.may_act(),
        })
    }

    fn diff(&self, target: &Target, observed: &Observed, _now: Timestamp) -> Verdict<Promotion> {
        let served = ServedSpec::of(target);
        let is_recorded = |record: &Record| {
            let then = record.content.served.as_ref();
            let same = |then: &ServedSpec| match observed.may_act {
                true => *then == served,
                false => then.is_proven_as(&served),
            };
            record.proven && then.is_some_and(same)
        };
        let rolled_out = observed.latest.as_ref();
        match rolled_out.filter(|record| record.outcome == Outcome::Succeeded) {
            Some(record) if !is_recorded(record) => {
                let mut record = record.clone();
                record.proven = true;
                record.content.served = Some(served);
                Verdict::Change(Promotion::Record(Box::new(record)))
            }
            Some(_) if !observed.surplus.is_empty() => match observed.not_removed {
                Some((_, again)) => Verdict::Holds(again),
                None => Verdict::Change(Promotion::Remove(Push {
                    unset: observed.surplus.clone(),
                    ..Push::default()
                })),
            },
            _ => Verdict::Done,
        }
    }

    fn notes(&self, _target: &Target, observed: &Observed) -> Vec<Note> {
        let mut notes = observed.notes.clone();
        let failed = observed
            .not_removed
            .filter(|_| !observed.surplus.is_empty());
        notes
            .extend(failed.map(|(reason, _)| Note::Remark(not_removed(reason, &observed.surplus))));
        notes
    }

    async fn act(&self, cx: &Cx, change: Promotion) -> Result<()> {
        match change {
            Promotion::Record(record) => {
                store::save(cx, *record).await?;
                release_secrets::take_up_what_rests(cx);
                Ok(())
            }
            Promotion::Remove(push) => {
                match app_secrets::push(cx, push.send(BTreeMap::new())).await {
                    Ok(()) => cx.journal.clear::<NotRemoved>(),
                    // The release is proven and on record: it serves, whatever becomes of these.
                    Err(error) => {
                        warn_of(&error);
                        let before = cx.journal.get::<NotRemoved>();
                        let timing = &cx.installation.timing;
                        let now = Instant::now();
                        let failed = NotRemoved::after(&error, before.as_deref(), timing, now);
                        cx.journal.set(failed);
                    }
                }
                Ok(())
            }
        }
    }
}

/// The record with what it says of its values once the release serves. Pure.
fn with_since(records: &Records, latest: &Record) -> Record {
    let mut record = latest.clone();
    record.content.since = release_secrets::since(records, latest);
    record
}

/// What is said while secrets of the release before cannot be removed. Pure.
fn not_removed(reason: Reason, surplus: &BTreeSet<String>) -> Why {
    let names: Vec<&str> = surplus.iter().map(String::as_str).collect();
    Why::new(
        reason,
        format!(
            "the release serves; the secrets {}, which it is without, could not be removed yet, and Golive tries again",
            names.join(", ")
        ),
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{phase::releases::records::tests::record, phase::testing::target};

    fn verdict(record: Record, target: &Target) -> Verdict<Promotion> {
        verdict_of(record, target, true)
    }

    fn verdict_of(record: Record, target: &Target, may_act: bool) -> Verdict<Promotion> {
        verdict_with(record, target, may_act, &[])
    }

    fn verdict_with(
        record: Record,
        target: &Target,
        may_act: bool,
        surplus: &[&str],
    ) -> Verdict<Promotion> {
        let observed = Observed {
            latest: Some(record),
            notes: Vec::new(),
            surplus: surplus.iter().map(|name| (*name).to_owned()).collect(),
            not_removed: None,
            may_act,
        };
        Promote.diff(target, &observed, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn secrets_of_the_release_before_are_removed_only_once_the_one_without_them_serves() {
        let spec = target("", &[]);
        let rolled_out = Record {
            proven: false,
            ..record(2, "b", Outcome::Succeeded)
        };
        let Verdict::Change(Promotion::Record(proven)) =
            verdict_with(rolled_out, &spec, true, &["B"])
        else {
            unreachable!("what serves is recorded first");
        };
        let Verdict::Change(remove) = verdict_with(*proven, &spec, true, &["B"]) else {
            unreachable!("then they go");
        };
        assert_eq!(remove.to_string(), "remove the secrets B");
        let failed = record(2, "b", Outcome::Failed);
        let verdict = verdict_with(failed, &spec, true, &["B"]);
        assert!(
            matches!(verdict, Verdict::Done),
            "they stay with what is restored"
        );
    }

    #[test]
    fn a_release_that_is_on_record_serves_although_secrets_of_the_one_before_cannot_be_removed() {
        let spec = target("", &[]);
        let mut proven = record(4, "d", Outcome::Succeeded);
        proven.content.served = Some(ServedSpec::of(&spec));
        let observed = |not_removed| Observed {
            latest: Some(proven.clone()),
            notes: vec![Note::Release(proven.status())],
            surplus: ["B".to_owned()].into(),
            not_removed,
            may_act: true,
        };
        let again = Duration::from_secs(4);
        let failed = observed(Some((Reason::FlyUnavailable, again)));
        let verdict = |observed| Promote.diff(&spec, observed, Timestamp::UNIX_EPOCH);
        assert!(matches!(verdict(&failed), Verdict::Holds(left) if left == again));
        let notes = Promote.notes(&spec, &failed);
        let why = notes.iter().find_map(Note::remark).unwrap();
        assert_eq!(why.reason, Reason::FlyUnavailable);
        assert!(why.message.contains("the secrets B"), "{why:?}");
        // When the pause is over.
        let due = observed(None);
        assert!(matches!(verdict(&due), Verdict::Change(_)));
        assert_eq!(Promote.notes(&spec, &due).len(), 1);
    }

    #[test]
    fn a_removal_that_fails_is_tried_again_ever_more_seldom() {
        let (timing, now) = (Timing::default(), Instant::now());
        let error = Error::NotKnown("the app");
        let first = NotRemoved::after(&error, None, &timing, now);
        let left = first.rests(now).unwrap();
        assert_eq!(first.rests(now + left), None);
        let mut last = first;
        for _ in 0..5 {
            last = NotRemoved::after(&error, Some(&last), &timing, now);
        }
        assert_eq!(last.tries, 6);
        assert!(last.rests(now).unwrap() > left);
    }

    #[test]
    fn a_release_is_recorded_as_good_only_once_it_is_proven_and_with_the_spec_that_it_serves() {
        let one = target("deploy: {scale: {app: 2}}", &[]);
        let rolled_out = Record {
            proven: false,
            ..record(1, "a", Outcome::Succeeded)
        };
        assert!(!rolled_out.is_good());
        let Verdict::Change(Promotion::Record(proven)) = verdict(rolled_out, &one) else {
            unreachable!("it is not proven yet");
        };
        assert!(proven.is_good());
        assert!(matches!(verdict((*proven).clone(), &one), Verdict::Done));

        // The same release with another scale: what is kept is what went live last.
        let other = target("deploy: {scale: {app: 3}}", &[]);
        let Verdict::Change(Promotion::Record(again)) = verdict(*proven, &other) else {
            unreachable!("the spec differs");
        };
        assert_eq!(again.content.served.unwrap().deploy.scale["app"], 3);
    }

    #[test]
    fn other_integrations_of_what_serves_are_recorded_and_are_no_change_that_is_only_reported() {
        let with = |path: &str| {
            let spec = format!("integrations: {{ical: {{exportPath: {path}}}}}");
            target(&spec, &[])
        };
        let (one, other) = (with("/one.ics"), with("/other.ics"));
        let mut proven = record(1, "a", Outcome::Succeeded);
        proven.content.served = Some(ServedSpec::of(&one));
        assert!(matches!(verdict(proven.clone(), &one), Verdict::Done));
        let reported = verdict_of(proven.clone(), &other, false);
        assert!(matches!(reported, Verdict::Done));
        let Verdict::Change(Promotion::Record(again)) = verdict(proven, &other) else {
            unreachable!("the integrations differ");
        };
        assert_eq!(again.content.served, Some(ServedSpec::of(&other)));
    }

    #[test]
    fn a_release_that_failed_is_not_recorded_as_good() {
        let failed = record(2, "b", Outcome::Failed);
        assert!(matches!(verdict(failed, &target("", &[])), Verdict::Done));
    }
}
