//! The release becomes the one that serves: it is rolled out, and it has passed all checks. The
//! record keeps the spec that it went live with, so that it can be kept and proven again whatever
//! the spec says later.

use std::fmt;

use jiff::Timestamp;

use crate::{
    phase::releases::{
        record::{Outcome, Record},
        store,
    },
    pipeline::{ChangeKind, Cx, Note, Step, StepChange, StepId, Verdict, step::Result},
    plan::{ServedSpec, Target},
};

/// Records that the release passed its SmokeTest.
pub struct Promote;

/// The record of the newest release, and the history.
#[derive(Debug)]
pub struct Observed {
    latest: Option<Record>,
    notes: Vec<Note>,
}

/// The record, as it is to be written.
#[derive(Debug)]
pub struct RecordProof(Box<Record>);

impl fmt::Display for RecordProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record that release {} serves", self.0.number)
    }
}

impl StepChange for RecordProof {
    fn kind(&self) -> ChangeKind {
        ChangeKind::Housekeeping
    }
}

impl Step for Promote {
    type Observed = Observed;
    type Change = RecordProof;

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
        Ok(Observed {
            latest: records.latest().cloned(),
            notes,
        })
    }

    fn diff(&self, target: &Target, observed: &Observed, _now: Timestamp) -> Verdict<RecordProof> {
        let served = Some(ServedSpec::of(target));
        let rolled_out = observed.latest.as_ref();
        match rolled_out.filter(|record| record.outcome == Outcome::Succeeded) {
            Some(record) if !record.proven || record.content.served != served => {
                let mut record = record.clone();
                record.proven = true;
                record.content.served = served;
                Verdict::Change(RecordProof(Box::new(record)))
            }
            _ => Verdict::Done,
        }
    }

    fn notes(&self, _target: &Target, observed: &Observed) -> Vec<Note> {
        observed.notes.clone()
    }

    async fn act(&self, cx: &Cx, RecordProof(record): RecordProof) -> Result<()> {
        store::save(cx, *record).await
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{phase::releases::records::tests::record, phase::testing::target};

    fn verdict(record: Record, target: &Target) -> Verdict<RecordProof> {
        let observed = Observed {
            latest: Some(record),
            notes: Vec::new(),
        };
        Promote.diff(target, &observed, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_release_is_recorded_as_good_only_once_it_is_proven_and_with_the_spec_that_it_serves() {
        let one = target("deploy: {scale: {app: 2}}", &[]);
        let rolled_out = Record {
            proven: false,
            ..record(1, "a", Outcome::Succeeded)
        };
        assert!(!rolled_out.is_good());
        let Verdict::Change(RecordProof(proven)) = verdict(rolled_out, &one) else {
            unreachable!("it is not proven yet");
        };
        assert!(proven.is_good());
        assert!(matches!(verdict((*proven).clone(), &one), Verdict::Done));

        // The same release with another scale: what is kept is what went live last.
        let other = target("deploy: {scale: {app: 3}}", &[]);
        let Verdict::Change(RecordProof(again)) = verdict(*proven, &other) else {
            unreachable!("the spec differs");
        };
        assert_eq!(again.content.served.unwrap().deploy.scale["app"], 3);
    }

    #[test]
    fn a_release_that_failed_is_not_recorded_as_good() {
        let failed = record(2, "b", Outcome::Failed);
        assert!(matches!(verdict(failed, &target("", &[])), Verdict::Done));
    }
}
