//! What the outcomes of the checks mean for the status and for the step. Pure.

use std::{convert::Infallible, time::Duration};

use super::{
    ask::{Asked, Lack},
    life::{Known, Subject, is_verified, stands},
    outcome::{Ended, Outcome},
};
use crate::{
    api::{
        Reason,
        status::{
            IntegrationCheck, IntegrationResult, IntegrationState, IntegrationStatus, MAX_MESSAGE,
            one_line,
        },
    },
    pipeline::{Verdict, Wake, Why},
};

/// Longest evidence, change and next action in the status, in bytes.
const LONGEST: usize = 512;

/// What an entry of the status is made of, beside the integration itself.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Who is responsible.
    pub owner: Option<&'a str>,
    /// Namespace of the object, for commands.
    pub namespace: &'a str,
    /// What the status says so far.
    pub told: Option<&'a IntegrationStatus>,
}

/// The entry of an integration, without times. What is known counts when it belongs to the subject;
/// until then a failure on record stands, and a verification does not.
pub fn entry(
    asked: &Asked,
    known: Option<&Known>,
    subject: &Subject,
    context: Context<'_>,
) -> IntegrationStatus {
    let stands = stands(context.told, subject);
    let standing = |told: &IntegrationStatus| IntegrationStatus {
        owner: context.owner.map(str::to_owned),
        ..told.clone()
    };
    let outcomes = known
        .filter(|known| known.subject.fingerprint == subject.fingerprint && known.is_believed())
        .and_then(|known| known.outcomes.as_deref());
    let forged = |told: &&IntegrationStatus| told.reason == Reason::ForgeryAccepted.as_str();
    let found = match (outcomes, stands) {
        // A missing Secret is no proof that a forgery is refused now.
        (None, Some(told)) if asked.set.is_some() => return standing(told),
        (None, told) if asked.set.is_none() => match told.filter(forged) {
            Some(told) => return standing(told),
            None => Vec::new(),
        },
        (outcomes, _) => outcomes.unwrap_or_default().to_vec(),
    };
    let made = !found.is_empty();
    let release = i64::try_from(subject.release).unwrap_or(i64::MAX);
    let asked_before = context
        .told
        .is_some_and(|told| told.release == Some(release));
    let waiting = missing(&asked.lacks, context.namespace);
    let all: Vec<Outcome> = found.into_iter().chain(waiting).collect();
    let told = conclusion(&all, made, subject);
    if told.state == IntegrationState::Unknown
        && let Some(before) = stands
        && (known.is_some_and(Known::may_miss) && is_missed(before, &all)
            || forged(&before) && is_unanswered(before, &all))
    {
        return standing(before);
    }
    IntegrationStatus {
        name: asked.name.clone(),
        state: told.state,
        reason: told.reason.to_string(),
        message: one_line(&told.message, MAX_MESSAGE),
        next_action: one_line(&told.action, LONGEST),
        owner: context.owner.map(str::to_owned),
        // That checks were made on this release stays told while they are made again.
        release: (made || asked_before).then_some(release),
        fingerprint: subject.fingerprint.clone(),
        checks: checks(&all),
        ..IntegrationStatus::default()
    }
}

/// The checks of forged requests.
const OF_FORGERIES: [&str; 10] = ["W2", "W4", "W5", "W6", "M2", "M3", "M4", "G2", "G3", "G4"];

/// Whether a check of forged requests that failed on record has no answer now: silence mends nothing.
fn is_unanswered(before: &IntegrationStatus, now: &[Outcome]) -> bool {
    failed(before).any(|id| OF_FORGERIES.contains(&id) && !is_answered(id, now))
}

/// Whether nothing that the record says was answered otherwise now: what passed or what failed has no answer.
fn is_missed(before: &IntegrationStatus, now: &[Outcome]) -> bool {
    failed(before).all(|id| !is_answered(id, now))
}

/// The checks that failed on record.
fn failed(before: &IntegrationStatus) -> impl Iterator<Item = &str> {
    let failed = before.checks.iter();
    let failed = failed.filter(|check| check.result == IntegrationResult::Failed);
    failed.map(|check| check.id.as_str())
}

fn is_answered(id: &str, now: &[Outcome]) -> bool {
    let mut same = now.iter().filter(|outcome| outcome.id == id);
    same.any(|outcome| outcome.ended != Ended::Unknown)
}

/// What all outcomes say together.
struct Conclusion {
    state: IntegrationState,
    reason: Reason,
    message: String,
    action: String,
}

fn conclusion(all: &[Outcome], made: bool, subject: &Subject) -> Conclusion {
    let those = |ended: Ended| -> Vec<&Outcome> {
        all.iter()
            .filter(|outcome| outcome.ended == ended)
            .collect()
    };
    let conclude = |state, reason, what: &str, about: Vec<&Outcome>| Conclusion {
        state,
        reason,
        message: format!("{what}{}", list(&about)),
        action: actions(&about),
    };
    let failed = those(Ended::Failed);
    let release = subject.release;
    if !failed.is_empty() {
        let forged: Vec<&Outcome> = failed.iter().filter(|of| of.forgery).copied().collect();
        // It stands on record while other releases follow: it names its own.
        let (reason, what, first) = match forged.is_empty() {
            false => (
                Reason::ForgeryAccepted,
                format!("release {release} of the application accepts a forged request: "),
                forged,
            ),
            true => (
                Reason::IntegrationFailed,
                format!("on release {release}: "),
                Vec::new(),
            ),
        };
        let rest = failed.into_iter().filter(|of| !first.contains(of));
        let about: Vec<&Outcome> = first.iter().copied().chain(rest).collect();
        return conclude(IntegrationState::Failed, reason, &what, about);
    }
    let waiting = those(Ended::Waiting);
    if !waiting.is_empty() {
        // What waits without a lack has the Secret, and a value in it that cannot be used.
        let reason = match waiting.iter().any(|of| of.id == LACKING) {
            true => Reason::SecretMissing,
            false => Reason::SecretInvalid,
        };
        return conclude(IntegrationState::Waiting, reason, "", waiting);
    }
    if !made {
        return Conclusion {
            state: IntegrationState::Pending,
            reason: Reason::IntegrationChecking,
            message: format!("its checks are being made on release {release}"),
            action: String::new(),
        };
    }
    let unknown = those(Ended::Unknown);
    if !unknown.is_empty() || !is_verified(all) {
        let reason = Reason::ObservationUnknown;
        return conclude(IntegrationState::Unknown, reason, "not known: ", unknown);
    }
    Conclusion {
        state: IntegrationState::Verified,
        reason: Reason::Verified,
        message: format!("{} on release {release}", counts(all)),
        action: String::new(),
    }
}

/// How many checks passed, and which did not.
fn counts(all: &[Outcome]) -> String {
    let ids = |ended: Ended| -> Vec<&str> {
        let those = all.iter().filter(|outcome| outcome.ended == ended);
        those.map(|outcome| outcome.id).collect()
    };
    let passed = ids(Ended::Passed).len();
    let mut text = match passed {
        1 => "1 check passed".to_owned(),
        _ => format!("{passed} checks passed"),
    };
    for (ended, what) in [
        (Ended::Warned, "with a warning"),
        (Ended::Unproven, "unproven"),
    ] {
        let ids = ids(ended);
        if !ids.is_empty() {
            text.push_str(&format!(", {what}: {}", ids.join(", ")));
        }
    }
    text
}

/// Each check with its evidence; of several with the same evidence the ids alone, and the evidence once.
fn list(about: &[&Outcome]) -> String {
    let mut alike: Vec<Vec<&Outcome>> = Vec::new();
    for of in about.iter().copied() {
        let mut known = alike.iter_mut();
        match known.find(|group| group[0].evidence == of.evidence) {
            Some(group) => group.push(of),
            None => alike.push(vec![of]),
        }
    }
    let line = |group: &Vec<&Outcome>| match group.as_slice() {
        [of] => format!("{} ({}): {}", of.id, of.name, of.evidence),
        several => {
            let ids: Vec<&str> = several.iter().map(|of| of.id).collect();
            format!("{}: {}", ids.join(", "), several[0].evidence)
        }
    };
    alike.iter().map(line).collect::<Vec<_>>().join("; ")
}

fn actions(about: &[&Outcome]) -> String {
    let mut actions: Vec<&str> = Vec::new();
    for of in about {
        if !of.change.is_empty() && !actions.contains(&of.change.as_str()) {
            actions.push(&of.change);
        }
    }
    match actions.as_slice() {
        [one] => (*one).to_owned(),
        several => {
            let parts = several.iter().map(|action| action.trim_end_matches('.'));
            parts.collect::<Vec<_>>().join("; ")
        }
    }
}

/// Id of the check that waits for Secrets.
const LACKING: &str = "S1";

/// The Secrets that are missing, as one check that waits for them.
fn missing(lacks: &[Lack], namespace: &str) -> Option<Outcome> {
    let evidence = lacks
        .iter()
        .map(|lack| format!("{}: {}", lack.field, lack.missing));
    let mut actions: Vec<String> = Vec::new();
    let all = || lacks.iter().map(|lack| &lack.missing);
    for action in all().map(|missing| missing.action_among(all(), namespace)) {
        if !actions.contains(&action) {
            actions.push(action);
        }
    }
    (!lacks.is_empty()).then(|| Outcome {
        id: LACKING,
        name: "the Secrets that the checks need are there",
        ended: Ended::Waiting,
        forgery: false,
        took: None,
        evidence: evidence.collect::<Vec<_>>().join("; "),
        change: actions.join("; "),
    })
}

/// The checks for the status, where an id stands once.
fn checks(all: &[Outcome]) -> Vec<IntegrationCheck> {
    let mut checks: Vec<IntegrationCheck> = Vec::with_capacity(all.len());
    for outcome in all {
        if !checks.iter().any(|known| known.id == outcome.id) {
            checks.push(check(outcome));
        }
    }
    checks
}

fn check(outcome: &Outcome) -> IntegrationCheck {
    IntegrationCheck {
        id: outcome.id.to_owned(),
        name: outcome.name.to_owned(),
        result: match outcome.ended {
            Ended::Passed => IntegrationResult::Passed,
            Ended::Failed => IntegrationResult::Failed,
            Ended::Warned => IntegrationResult::Warned,
            Ended::Unproven => IntegrationResult::Unproven,
            Ended::Waiting => IntegrationResult::Waiting,
            Ended::Unknown => IntegrationResult::Unknown,
        },
        duration_ms: outcome
            .took
            .and_then(|took| i64::try_from(took.as_millis()).ok()),
        evidence: one_line(&outcome.evidence, LONGEST),
        change: one_line(&outcome.change, LONGEST),
    }
}

/// What the step does after these entries. `pause` is the time until one of them needs a look; a set of
/// checks that ends wakes the object before that.
pub fn verdict(entries: &[&IntegrationStatus], pause: Duration) -> Verdict<Infallible> {
    // The worst first: a forgery before another failure, before what waits for a person.
    let rank = |entry: &IntegrationStatus| match entry.state {
        IntegrationState::Failed if entry.reason == Reason::ForgeryAccepted.as_str() => 0,
        IntegrationState::Failed => 1,
        IntegrationState::Waiting => 2,
        IntegrationState::Unknown => 3,
        IntegrationState::Pending => 4,
        IntegrationState::Verified => 5,
    };
    let open = entries.iter().copied();
    let mut open: Vec<&IntegrationStatus> = open.filter(|entry| rank(entry) < 5).collect();
    open.sort_by_key(|entry| rank(entry));
    let Some(first) = open.first() else {
        return Verdict::Holds(pause);
    };
    let same = open.iter().filter(|entry| rank(entry) == rank(first));
    let lines: Vec<String> = same
        .map(|entry| format!("{}: {}", entry.name, entry.message))
        .collect();
    let reason = Reason::parse(&first.reason).unwrap_or_default();
    let mut why = Why::new(reason, lines.join("; "));
    if !first.next_action.is_empty() {
        why = why.next(first.next_action.clone());
    }
    Verdict::Wait {
        why,
        wake: Wake::After(pause),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use jiff::Timestamp;

    use super::{
        super::life::tests::{outcome, subject},
        *,
    };
    use crate::plan::{missing::Missing, named::RefKind};

    fn asked(lacks: bool) -> Asked {
        let lack = Lack {
            field: "spec.integrations.whatsapp.appSecretRef".to_owned(),
            missing: Missing::Object {
                kind: RefKind::Secret,
                name: "wa".to_owned(),
                key: Some("secret".to_owned()),
            },
        };
        let lacks = match lacks {
            // Two fields that name the same Secret.
            true => vec![lack.clone(), lack],
            false => Vec::new(),
        };
        Asked {
            name: "whatsapp".to_owned(),
            digest: String::new(),
            set: None,
            lacks,
        }
    }

    fn with_set() -> Asked {
        let webhook = serde_json::json!({
            "name": "own", "path": "/h", "header": "X-S", "secretRef": {"name": "own", "key": "k"},
        });
        Asked {
            set: serde_json::from_value(webhook)
                .ok()
                .map(|spec| super::super::ask::Set::Webhook {
                    spec,
                    secret: "s".into(),
                }),
            ..asked(false)
        }
    }

    fn known(outcomes: &[Outcome]) -> Known {
        let (at, now) = (Instant::now(), Timestamp::UNIX_EPOCH);
        let first = Known::after(None, outcomes.to_vec(), subject(1), (at, now));
        Known::after(Some(&first), outcomes.to_vec(), subject(1), (at, now))
    }

    fn shown(
        asked: &Asked,
        known: Option<&Known>,
        release: u64,
        told: Option<&IntegrationStatus>,
    ) -> IntegrationStatus {
        let context = Context {
            owner: Some("Integraciones"),
            namespace: "shop",
            told,
        };
        entry(asked, known, &subject(release), context)
    }

    fn forged() -> Outcome {
        Outcome {
            forgery: true,
            ..outcome("W4", Ended::Failed)
        }
    }

    #[test]
    fn each_state_follows_from_the_worst_outcome_and_says_what_to_do() {
        let of = |outcomes: &[Outcome]| shown(&with_set(), Some(&known(outcomes)), 1, None);
        let good = of(&[outcome("W1", Ended::Passed), outcome("W8", Ended::Unproven)]);
        assert_eq!(good.state, IntegrationState::Verified);
        assert_eq!(good.message, "1 check passed, unproven: W8 on release 1");
        assert_eq!(good.release, Some(1));
        assert_eq!(good.next_action, "");
        let bad = of(&[
            outcome("W3", Ended::Failed),
            forged(),
            outcome("W1", Ended::Unknown),
        ]);
        assert_eq!(bad.state, IntegrationState::Failed);
        assert_eq!(bad.reason, "ForgeryAccepted");
        assert!(
            bad.message
                .starts_with("release 1 of the application accepts a forged request: W4")
        );
        assert_eq!(bad.next_action, "mend W4; mend W3");
        let sentence = |id, change: &str| Outcome {
            change: change.to_owned(),
            ..outcome(id, Ended::Failed)
        };
        let two = of(&[sentence("W3", "Mend this."), sentence("W9", "Mend that.")]);
        assert_eq!(two.next_action, "Mend this; Mend that");
        assert!(two.message.starts_with("on release 1: W3"), "{two:?}");
        let unknown = of(&[outcome("W1", Ended::Unknown)]);
        assert_eq!(unknown.state, IntegrationState::Unknown);
        assert_eq!(
            of(&[]).state,
            IntegrationState::Pending,
            "nothing proves nothing"
        );
    }

    #[test]
    fn a_missing_secret_is_waited_for_and_named_with_its_command() {
        let told = shown(&asked(true), None, 1, None);
        assert_eq!(told.state, IntegrationState::Waiting);
        assert_eq!(told.reason, "SecretMissing");
        assert_eq!(told.checks.len(), 1, "an id stands once in the status");
        assert!(told.next_action.contains("kubectl -n shop create secret"));
        assert_eq!(told.owner.as_deref(), Some("Integraciones"));
        let failed = IntegrationStatus {
            state: IntegrationState::Failed,
            reason: "ForgeryAccepted".to_owned(),
            ..IntegrationStatus::default()
        };
        let stands = shown(&asked(true), None, 2, Some(&failed));
        assert_eq!(
            stands.reason, "ForgeryAccepted",
            "the Secret was taken away"
        );
    }

    #[test]
    fn a_secret_that_is_no_key_is_told_once_and_is_not_called_missing() {
        let waits = |id| Outcome {
            evidence: "the secret is no key".to_owned(),
            change: "store the key".to_owned(),
            ..outcome(id, Ended::Waiting)
        };
        let known = known(&[waits("G1"), waits("G2"), waits("G3")]);
        let told = shown(&with_set(), Some(&known), 1, None);
        assert_eq!(told.state, IntegrationState::Waiting);
        assert_eq!(told.reason, "SecretInvalid");
        assert_eq!(told.message, "G1, G2, G3: the secret is no key");
        assert_eq!(told.next_action, "store the key");
    }

    #[test]
    fn after_a_new_release_a_verification_is_gone_and_a_failure_stands() {
        let good = shown(
            &with_set(),
            Some(&known(&[outcome("W1", Ended::Passed)])),
            1,
            None,
        );
        let next = shown(&with_set(), None, 2, Some(&good));
        assert_eq!(next.state, IntegrationState::Pending);
        assert_eq!(next.release, None, "no check was made on it");
        let bad = shown(&with_set(), Some(&known(&[forged()])), 1, None);
        let next = shown(&with_set(), None, 2, Some(&bad));
        assert_eq!(next, bad);
        assert_eq!(next.release, Some(1), "it says what it is about");
    }

    #[test]
    fn what_is_not_known_stays_so_over_a_restart_until_it_is_looked_at_again() {
        let silent = [outcome("W1", Ended::Unknown)];
        let told = shown(&with_set(), Some(&known(&silent)), 1, None);
        assert_eq!(told.state, IntegrationState::Unknown);
        assert_eq!(shown(&with_set(), None, 1, Some(&told)), told);
        let next = shown(&with_set(), None, 2, Some(&told));
        assert_eq!(next.state, IntegrationState::Pending, "of another release");
    }

    #[test]
    fn a_forgery_stands_until_an_answer_shows_that_it_is_refused() {
        let both = [forged(), outcome("W8", Ended::Failed)];
        let bad = shown(&with_set(), Some(&known(&both)), 1, None);
        let look = |outcomes: &[Outcome]| {
            let (at, now) = (Instant::now(), Timestamp::UNIX_EPOCH);
            let found = Known::after(None, outcomes.to_vec(), subject(2), (at, now));
            shown(&with_set(), Some(&found), 2, Some(&bad))
        };
        let silent = look(&[outcome("W4", Ended::Unknown), outcome("W1", Ended::Passed)]);
        assert_eq!(silent, bad, "silence mends nothing");
        let too_long = look(&[outcome("S2", Ended::Unknown)]);
        assert_eq!(too_long, bad, "checks that do not end mend nothing either");
        let mended = look(&[outcome("W4", Ended::Passed), outcome("W8", Ended::Unknown)]);
        assert_eq!(mended.state, IntegrationState::Unknown);
    }

    #[test]
    fn after_a_restart_one_look_without_an_answer_takes_back_nothing_that_is_on_record() {
        let passed = [outcome("W1", Ended::Passed), outcome("W11", Ended::Passed)];
        let failed = [outcome("W1", Ended::Failed), outcome("W11", Ended::Passed)];
        let open = [outcome("W1", Ended::Passed), outcome("W11", Ended::Unknown)];
        let silent = [
            outcome("W1", Ended::Unknown),
            outcome("W11", Ended::Unknown),
        ];
        for (record, found) in [(&passed, &open), (&passed, &silent), (&failed, &silent)] {
            let told = shown(&with_set(), Some(&known(record)), 1, None);
            let mut now = None;
            for look in 1..=4 {
                let at = (Instant::now(), Timestamp::UNIX_EPOCH);
                let next = Known::after(now.as_ref(), found.to_vec(), subject(1), at);
                let told_now = shown(&with_set(), Some(&next), 1, Some(&told));
                let expected = match look < 3 {
                    true => told.state,
                    false => IntegrationState::Unknown,
                };
                assert_eq!(told_now.state, expected, "look {look}: {told_now:?}");
                now = Some(next);
            }
        }
    }

    #[test]
    fn the_step_waits_with_the_worst_and_holds_when_all_are_verified() {
        let entry = |name: &str, state, reason: Reason| IntegrationStatus {
            name: name.to_owned(),
            state,
            reason: reason.to_string(),
            message: "told".to_owned(),
            next_action: "do it".to_owned(),
            ..IntegrationStatus::default()
        };
        let pause = Duration::from_secs(7);
        let good = entry("ical", IntegrationState::Verified, Reason::Verified);
        assert_eq!(verdict(&[&good], pause), Verdict::Holds(pause));
        let waits = entry("whatsapp", IntegrationState::Waiting, Reason::SecretMissing);
        let fails = entry("own", IntegrationState::Failed, Reason::ForgeryAccepted);
        let Verdict::Wait { why, wake } = verdict(&[&good, &waits, &fails], pause) else {
            unreachable!("two are not verified");
        };
        assert_eq!(why.reason, Reason::ForgeryAccepted);
        assert_eq!(why.message, "own: told");
        assert_eq!(why.action, "do it");
        assert_eq!(wake, Wake::After(pause));
    }
}
