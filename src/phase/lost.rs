//! What is on record, held data, and is not found any more. Nothing of the kind is made anew in
//! silence: two observations have to agree that it is gone, and then a person decides.
//!
//! The decision is an annotation with the mark of what was lost. A mark names one thing, such as the
//! id of a cluster, or a value by its fingerprint. So a decision counts once: what is made anew has
//! another mark.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::{app_secrets, incident};
use crate::{
    api::{
        ANNOTATION_REPLACE_LOST, Reason,
        status::{ExternalObject, SecretStatus},
    },
    pipeline::{Cx, Note, StepId, Verdict, Wake, Why},
    plan::Target,
};

/// Something that is on record and was not found.
#[derive(Clone, Debug, PartialEq)]
pub struct Lost {
    /// What is lost, for people.
    what: String,
    /// What a person names in order to have it made anew.
    marks: Vec<String>,
    /// What the status has on record of it, and keeps.
    records: Vec<Note>,
    /// The command of that decision.
    command: String,
    /// Until two observations agree: the pause before the next one.
    again: Option<Duration>,
    /// This process has seen it there. Otherwise nobody knows since when it is missing.
    was_seen: bool,
}

/// Journal: what each step has missed, and since when.
#[derive(Clone, Debug, Default)]
struct Missed(BTreeMap<StepId, (Vec<String>, Instant)>);

/// Journal: the steps that have found everything that is on record.
#[derive(Clone, Debug, Default)]
struct Found(BTreeSet<StepId>);

impl Lost {
    /// What `step` has not found now: its marks, and what the status has on record of it.
    pub fn new(
        cx: &Cx,
        step: StepId,
        what: String,
        (marks, records): (Vec<String>, Vec<Note>),
    ) -> Self {
        let mut since = Instant::now();
        cx.journal.change_or_default::<Missed>(|missed| {
            match missed.0.get(&step) {
                Some((known, before)) if *known == marks => since = *before,
                _ => drop(missed.0.insert(step, (marks.clone(), since))),
            };
        });
        let settle = cx.installation.timing.settle;
        let again = settle.checked_sub(since.elapsed());
        let again = again.filter(|pause| !pause.is_zero());
        if again.is_none() {
            incident::lost(cx, step, &what);
        }
        Self {
            what,
            records,
            command: command(cx, &marks),
            marks,
            was_seen: cx
                .journal
                .get::<Found>()
                .is_some_and(|found| found.0.contains(&step)),
            again,
        }
    }

    /// The same for what needs no second observation, because Kubernetes was read.
    #[must_use]
    pub fn surely(self) -> Self {
        Self {
            again: None,
            ..self
        }
    }

    /// Pause before the observation that has to agree that it is gone; `None`: it is gone.
    pub fn again(&self) -> Option<Duration> {
        self.again
    }

    /// Whether two observations agree that it is gone.
    pub fn is_sure(&self) -> bool {
        self.again.is_none()
    }

    /// What the status keeps on record: without it, nobody would know that something is lost.
    pub fn notes(&self) -> Vec<Note> {
        self.records.clone()
    }

    /// What follows: another observation, the question `why` to a person, or `anew` once the person
    /// has decided. `why` gets what is lost, and the command of the decision. Pure.
    pub fn verdict<C>(
        &self,
        target: &Target,
        why: impl FnOnce(&str, &str) -> Why,
        anew: impl FnOnce() -> Verdict<C>,
    ) -> Verdict<C> {
        match self.again {
            Some(again) if self.was_seen => Verdict::Holds(again),
            // It is not claimed to be there by a process that has never seen it.
            Some(again) => Verdict::Wait {
                why: Why::new(
                    Reason::ObservationUnknown,
                    format!(
                        "{}, which is on record, was not found; Golive checks again before it treats it as gone",
                        self.what
                    ),
                ),
                wake: Wake::After(again),
            },
            None if self.is_decided(target) => anew(),
            None => Verdict::Blocked(why(&self.what, &self.command)),
        }
    }

    /// Whether a person has decided to have all of it made anew.
    fn is_decided(&self, target: &Target) -> bool {
        let mut marks = self.marks.iter();
        marks.all(|mark| target.replace_lost.contains(mark))
    }
}

/// Notes that `step` has found everything that is on record: it exists.
pub fn found(cx: &Cx, step: StepId) {
    not_missed(cx, step);
    if !cx
        .journal
        .get::<Found>()
        .is_some_and(|found| found.0.contains(&step))
    {
        cx.journal
            .change_or_default::<Found>(|found| found.0.extend([step]));
    }
}

/// Notes that `step` misses nothing: it was found, or none is on record.
pub fn not_missed(cx: &Cx, step: StepId) {
    if cx.journal.get::<Missed>().is_some() {
        cx.journal
            .change_or_default::<Missed>(|missed| drop(missed.0.remove(&step)));
    }
}

/// What the status has on record of this kind and the spec still asks for.
pub fn recorded<'a>(cx: &'a Cx, kind: &str) -> Option<&'a ExternalObject> {
    let mut all = cx.recorded.external.iter();
    all.find(|object| object.kind == kind && object.retained.is_none())
}

/// The record of a secret that the application has got.
pub fn pushed(cx: &Cx, name: &str) -> Option<SecretStatus> {
    app_secrets::records(cx).remove(name)
}

/// The mark of something without an id of its own.
pub fn mark(name: &str, print: &str) -> String {
    format!("{name}@{print}")
}

/// The command with which a person decides.
fn command(cx: &Cx, marks: &[String]) -> String {
    let owner = &cx.owner;
    format!(
        "kubectl -n {} annotate activation {} --overwrite {ANNOTATION_REPLACE_LOST}={}",
        owner.namespace,
        owner.name,
        marks.join(",")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::target;

    fn lost(marks: &[&str], again: Option<Duration>) -> Lost {
        Lost {
            what: "shop-db".to_owned(),
            marks: marks.iter().map(|mark| (*mark).to_owned()).collect(),
            records: Vec::new(),
            command: "kubectl annotate".to_owned(),
            again,
            was_seen: true,
        }
    }

    fn next(lost: &Lost, decided: &[&str]) -> Verdict<()> {
        let mut target = target("");
        target.replace_lost = decided.iter().map(|mark| (*mark).to_owned()).collect();
        let why = |what: &str, command: &str| Why::new(Reason::DatabaseLost, what).next(command);
        lost.verdict(&target, why, || Verdict::Change(()))
    }

    #[test]
    fn one_observation_that_misses_something_is_no_proof() {
        let pause = Duration::from_secs(1);
        let once = lost(&["c1"], Some(pause));
        assert_eq!(next(&once, &[]), Verdict::Holds(pause));
        assert_eq!(next(&once, &["c1"]), Verdict::Holds(pause));
    }

    #[test]
    fn a_process_that_has_never_seen_it_claims_neither_that_it_is_there_nor_that_it_is_gone() {
        let pause = Duration::from_secs(1);
        let unseen = Lost {
            was_seen: false,
            ..lost(&["c1"], Some(pause))
        };
        for decided in [&[] as &[&str], &["c1"]] {
            let Verdict::Wait { why, wake } = next(&unseen, decided) else {
                unreachable!("neither there nor gone")
            };
            assert_eq!(why.reason, Reason::ObservationUnknown);
            assert!(why.message.contains("shop-db"), "{}", why.message);
            assert_eq!(wake, Wake::After(pause));
        }
    }

    #[test]
    fn what_is_lost_is_made_anew_only_when_a_person_names_all_of_it() {
        let both = lost(&["a@1", "b@2"], None);
        for decided in [&[] as &[&str], &["a@1"], &["a@2", "b@2"]] {
            assert!(matches!(next(&both, decided), Verdict::Blocked(_)));
        }
        assert_eq!(next(&both, &["b@2", "a@1", "c1"]), Verdict::Change(()));
    }
}
