//! The lists of the status: checks, external objects, secrets, fallbacks, history, intents. An entry
//! that did not change keeps its time, so that a re-check changes nothing.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::{
    api::{
        ActivationStatus, PhaseName, Reason,
        condition::whole_seconds,
        status::{
            ExternalKind, ExternalObject, FallbackUsed, HistoryEntry, HistoryOutcome, Intent,
            MAX_MESSAGE, PreflightResult, ReleaseStatus, SecretStatus, SmokeTestResult,
            SourceStatus, one_line,
        },
    },
    pipeline::{
        Note, StepId,
        intent::Announcement,
        report::{PhaseProgress, PhaseReport, Report},
    },
    plan::source::decide::Followed,
};

/// Releases in the history.
const HISTORY: usize = 10;

/// Adds the notes of the steps to the lists.
pub fn merge(status: &mut ActivationStatus, report: &Report, now: Timestamp) {
    let notes: Vec<&Note> = report
        .steps()
        .flat_map(|(_, record)| record.notes.iter())
        .collect();
    // After a restart, or while a step waits for another, some steps have no notes yet: then the old
    // entries stay beside the new ones.
    let mut required = report.phases.iter().filter(|phase| phase.id.before_live());
    let done = |phase: &PhaseReport| phase.steps.iter().all(|(_, step)| step.state.satisfied());
    let complete = required.all(done);
    let lists = Merge {
        notes: &notes,
        complete,
        now,
    };
    status.preflight = lists.preflight(&status.preflight);
    status.smoke_test = lists.smoke_test(&status.smoke_test);
    status.external = lists.external(&status.external);
    drop_what_is_gone(&mut status.external, report, &lists);
    drop_former(&mut status.external, report, &lists);
    status.secrets = lists.secrets(&status.secrets);
    status.fallbacks = lists.fallbacks(&status.fallbacks);
    if provision_is_done(report) {
        // A fallback of Provision is in use as long as Provision notes it: a process that starts
        // later relies on this list.
        status.fallbacks.retain(|used| {
            used.phase() != Some(PhaseName::Provision) || lists.notes_fallback(&used.what)
        });
    }
    for note in notes {
        match note {
            Note::Release(new) => {
                let release = release(status.release.as_ref(), new, now);
                status.release = Some(release);
            }
            Note::Rollback(rollback) => status.rollback = Some(rollback.clone()),
            Note::History(history) => {
                status.history = history.iter().take(HISTORY).cloned().collect();
            }
            Note::Ended(entry) => add(&mut status.history, entry),
            _ => {}
        }
    }
}

/// Adds what was found of the release that serves, beside what the pass over the spec found.
/// Of the checks, those of the spec come first.
pub fn merge_site(
    status: &mut ActivationStatus,
    report: &Report,
    wanted: Option<&Report>,
    now: Timestamp,
) {
    let notes: Vec<&Note> = report
        .steps()
        .flat_map(|(_, record)| record.notes.iter())
        .collect();
    let lists = Merge {
        notes: &notes,
        complete: false,
        now,
    };
    let made = |phase: &PhaseReport| phase.progress != PhaseProgress::Pending;
    let smoke_test = wanted.and_then(|wanted| wanted.phase(PhaseName::SmokeTest));
    if !smoke_test.is_some_and(made) {
        status.smoke_test = lists.smoke_test(&status.smoke_test);
    }
    status.external = lists.external(&status.external);
    drop_former(&mut status.external, report, &lists);
    status.secrets = lists.secrets(&status.secrets);
    status.fallbacks = lists.fallbacks(&status.fallbacks);
}

/// Drops addresses and volumes that the app no longer has, as soon as the step that lists them all has
/// looked: an app that was deleted and made again has others.
fn drop_former(external: &mut Vec<ExternalObject>, report: &Report, lists: &Merge<'_>) {
    let has_looked = |wanted| {
        let reached = report.phases.iter().filter(|phase| phase.is_reached());
        let mut steps = reached.flat_map(|phase| &phase.steps);
        steps.any(|(id, step)| *id == wanted && step.state.satisfied())
    };
    let (addresses, volumes) = (has_looked(StepId::Addresses), has_looked(StepId::Volumes));
    external.retain(|object| {
        let listed = match ExternalKind::parse(&object.kind) {
            Some(ExternalKind::Address) => addresses,
            Some(ExternalKind::Volume) => volumes,
            _ => false,
        };
        !listed || object.retained.is_some() || lists.notes_object(object)
    });
}

/// Drops what was left behind and is not noted any more, as soon as the steps that note it have looked:
/// somebody has deleted it, or it is in use again.
fn drop_what_is_gone(external: &mut Vec<ExternalObject>, report: &Report, lists: &Merge<'_>) {
    let is_done = |wanted| {
        let mut steps = report.steps();
        steps.any(|(id, step)| *id == wanted && step.state.satisfied())
    };
    let (volumes, certificates) = (is_done(StepId::Volumes), is_done(StepId::Certificates));
    let provision = provision_is_done(report);
    let certificate = ExternalKind::Certificate.as_str();
    external.retain(|object| {
        // A hostname that the spec gave up is no longer ours, although the release that serves had it.
        if certificates && object.kind == certificate && !lists.notes_certificate(&object.name) {
            return false;
        }
        let observed = if object.region.is_empty() {
            provision
        } else {
            volumes
        };
        object.retained.is_none() || !observed || lists.notes_object(object)
    });
}

fn provision_is_done(report: &Report) -> bool {
    let provision = report.phase(PhaseName::Provision);
    provision.is_some_and(|phase| phase.steps.iter().all(|(_, step)| step.state.satisfied()))
}

/// What the lists are merged from.
struct Merge<'a> {
    notes: &'a [&'a Note],
    /// Every step has noted what it has to note: entries without a note are gone.
    complete: bool,
    now: Timestamp,
}

impl Merge<'_> {
    fn preflight(&self, old: &[PreflightResult]) -> Vec<PreflightResult> {
        let new = self.notes.iter().filter_map(|note| match note {
            Note::Preflight(result) => Some(result.clone()),
            _ => None,
        });
        let key = |result: &PreflightResult| result.check.clone();
        merged(old, new, key, |_, new| new, self.complete)
    }

    fn smoke_test(&self, old: &[SmokeTestResult]) -> Vec<SmokeTestResult> {
        let new = self.notes.iter().filter_map(|note| match note {
            Note::SmokeTest(result, _) => Some(result.clone()),
            _ => None,
        });
        let key = |result: &SmokeTestResult| result.check.clone();
        let join = |old: Option<&SmokeTestResult>, new: SmokeTestResult| match old {
            // Another duration alone is no news.
            Some(old)
                if (old.result, &old.path, &old.reason) == (new.result, &new.path, &new.reason) =>
            {
                old.clone()
            }
            _ => SmokeTestResult {
                time: Some(whole_seconds(self.now)),
                ..new
            },
        };
        merged(old, new, key, join, self.complete)
    }

    fn external(&self, old: &[ExternalObject]) -> Vec<ExternalObject> {
        let new = self.notes.iter().filter_map(|note| match note {
            Note::External(object) => Some(object.clone()),
            _ => None,
        });
        // Names of volumes are not unique: an entry with a region is known by its id.
        let key = |object: &ExternalObject| {
            let name = if object.region.is_empty() {
                &object.name
            } else {
                &object.id
            };
            format!("{}/{name}", object.kind)
        };
        let join = |old: Option<&ExternalObject>, new: ExternalObject| ExternalObject {
            first_observed_time: old
                .filter(|old| old.id == new.id)
                .and_then(|old| old.first_observed_time.clone())
                .or_else(|| Some(whole_seconds(self.now))),
            ..new
        };
        merged(old, new, key, join, self.complete)
    }

    fn secrets(&self, old: &[SecretStatus]) -> Vec<SecretStatus> {
        let new = self.notes.iter().filter_map(|note| match note {
            Note::Secret(secret) => Some(secret.clone()),
            _ => None,
        });
        let key = |secret: &SecretStatus| secret.name.clone();
        merged(old, new, key, |_, new| new, self.complete)
    }

    fn fallbacks(&self, old: &[FallbackUsed]) -> Vec<FallbackUsed> {
        let new = self.notes.iter().filter_map(|note| match note {
            Note::Fallback(fallback) => Some(fallback.clone()),
            _ => None,
        });
        let key = |fallback: &FallbackUsed| fallback.what.clone();
        let join = |old: Option<&FallbackUsed>, new: FallbackUsed| FallbackUsed {
            time: old
                .filter(|old| (&old.from, &old.to) == (&new.from, &new.to))
                .and_then(|old| old.time.clone())
                .or_else(|| Some(whole_seconds(self.now))),
            // After a restart only the status knows the first reason.
            reason: match old {
                Some(old) if new.reason.is_empty() => old.reason.clone(),
                _ => new.reason.clone(),
            },
            ..new
        };
        merged(old, new, key, join, self.complete)
    }

    fn notes_object(&self, object: &ExternalObject) -> bool {
        let mut notes = self.notes.iter();
        notes.any(|note| {
            matches!(note, Note::External(noted)
                if (&noted.kind, &noted.name, &noted.id) == (&object.kind, &object.name, &object.id))
        })
    }

    fn notes_certificate(&self, hostname: &str) -> bool {
        let mut notes = self.notes.iter();
        notes.any(|note| {
            matches!(note, Note::External(noted)
                if noted.kind == ExternalKind::Certificate.as_str() && noted.name == hostname)
        })
    }

    fn notes_fallback(&self, what: &str) -> bool {
        let mut notes = self.notes.iter();
        notes.any(|note| matches!(note, Note::Fallback(used) if used.what == what))
    }
}

/// The release that runs. The time of the same release stays.
fn release(old: Option<&ReleaseStatus>, new: &ReleaseStatus, now: Timestamp) -> ReleaseStatus {
    let same = old.filter(|old| (&old.digest, &old.config_hash) == (&new.digest, &new.config_hash));
    let time = same.and_then(|old| old.time.clone());
    ReleaseStatus {
        time: time
            .or_else(|| new.time.clone())
            .or_else(|| Some(whole_seconds(now))),
        ..new.clone()
    }
}

/// Adds a release to the history. An entry that says how it ended stays: the step that recorded a
/// failure does not always observe again when the release has ended otherwise.
fn add(history: &mut Vec<HistoryEntry>, entry: &HistoryEntry) {
    history.retain(|known| known.number != entry.number || known.outcome != HistoryOutcome::Begun);
    if history.iter().any(|known| known.number == entry.number) {
        return;
    }
    history.push(entry.clone());
    history.sort_by_key(|entry| std::cmp::Reverse(entry.number));
    history.truncate(HISTORY);
}

/// The entries of the new list: the new ones, each joined with its old one by key, and the old ones
/// without a new one unless the new ones are complete.
fn merged<T: Clone>(
    old: &[T],
    new: impl Iterator<Item = T>,
    key: impl Fn(&T) -> String,
    join: impl Fn(Option<&T>, T) -> T,
    complete: bool,
) -> Vec<T> {
    let mut next: Vec<T> = Vec::new();
    for entry in new {
        let name = key(&entry);
        let before = old.iter().find(|candidate| key(candidate) == name);
        let entry = join(before, entry);
        match next.iter().position(|candidate| key(candidate) == name) {
            Some(at) => next[at] = entry,
            None => next.push(entry),
        }
    }
    if !complete {
        for entry in old {
            let name = key(entry);
            if !next.iter().any(|candidate| key(candidate) == name) {
                next.push(entry.clone());
            }
        }
    }
    next
}

/// What is known about the image that is followed. The message and the time of an unchanged result
/// stay: the errors of a registry differ from try to try, and that is no news.
pub fn source(
    old: Option<&SourceStatus>,
    image: &str,
    followed: &Followed,
    now: Timestamp,
) -> SourceStatus {
    let (tag, digest) = followed
        .choice
        .as_ref()
        .map(|choice| (choice.tag.clone(), choice.digest.clone()))
        .unwrap_or_default();
    let reason = followed
        .failure
        .as_ref()
        .map_or(followed.reason, |f| f.reason);
    let message = match &followed.failure {
        Some(failure) if followed.message.is_empty() => failure.sentence(),
        _ => followed.message.clone(),
    };
    let next = SourceStatus {
        image: image.to_owned(),
        tag,
        digest,
        reason: reason.to_string(),
        message: one_line(&message, MAX_MESSAGE),
        pending: followed.pending.clone(),
        since: Some(whole_seconds(now)),
    };
    let same = old.filter(|old| {
        (&old.image, &old.tag, &old.digest, &old.reason, &old.pending)
            == (
                &next.image,
                &next.tag,
                &next.digest,
                &next.reason,
                &next.pending,
            )
    });
    match same {
        Some(old) if reason == Reason::SourceUnreadable => old.clone(),
        Some(old) => SourceStatus {
            since: old.since.clone(),
            ..next
        },
        None => next,
    }
}

/// The status with what `others` have announced, within its bounds, and which of these creates it announces for this
/// process. It has room for a limited number: what is new here waits then, and what may be sent already stays.
pub fn with_others(
    mut status: ActivationStatus,
    others: &[Intent],
    open: &[Announcement],
) -> (Vec<Announcement>, ActivationStatus) {
    let ours = announced(&status, open);
    if others.is_empty() {
        return (ours, status);
    }
    let ours = keep_others(&mut status, others, ours);
    let status = status.bounded();
    (announced(&status, &ours), status)
}

/// Which of these creates the status holds: it has room for a limited number.
fn announced(status: &ActivationStatus, open: &[Announcement]) -> Vec<Announcement> {
    let holds = |open: &Announcement| {
        let place = key(open);
        status.intents.iter().any(|intent| intent.slot == place)
    };
    open.iter().filter(|open| holds(open)).cloned().collect()
}

/// The key of an announced create. A step may create objects of several kinds with one name.
fn key(open: &Announcement) -> String {
    let Announcement { step, slot, .. } = open;
    format!("{step}/{}/{}", slot.kind, slot.name)
}

/// The announced creates. One that the status holds already keeps its nonce and its time, unless it is
/// announced anew. Those that may be sent already come first: a list that is too long loses its last entries.
pub fn intents(
    old: Option<&ActivationStatus>,
    open: &[Announcement],
    now: Timestamp,
) -> Vec<Intent> {
    let (anew, sent): (Vec<&Announcement>, Vec<_>) = open.iter().partition(|open| open.anew);
    sent.into_iter()
        .chain(anew)
        .map(|open| {
            let place = key(open);
            let known = old.and_then(|old| old.intents.iter().find(|intent| intent.slot == place));
            known
                .filter(|_| !open.anew)
                .cloned()
                .unwrap_or_else(|| Intent {
                    slot: place,
                    kind: open.slot.kind.clone(),
                    name: open.slot.name.clone(),
                    nonce: format!("{:x}", now.as_nanosecond()),
                    time: Some(whole_seconds(now)),
                })
        })
        .collect()
}

/// What another process has announced keeps the mark that the API server holds or the `old` status has,
/// and is left out when neither has it: its author is done with it. A mark of our own would tell others
/// of a create that nobody is about to send.
pub fn keep_marks(
    status: &mut ActivationStatus,
    (old, held): (Option<&ActivationStatus>, &[Intent]),
    open: &[Announcement],
) {
    let old = old.into_iter().flat_map(|old| &old.intents);
    let known: Vec<&Intent> = held.iter().chain(old).collect();
    let open: BTreeMap<String, &Announcement> = open.iter().map(|open| (key(open), open)).collect();
    status.intents.retain_mut(|intent| {
        let Some(open) = open.get(&intent.slot).filter(|open| !open.anew) else {
            return true;
        };
        let mark = known.iter().find(|known| known.slot == intent.slot);
        if let Some(mark) = mark {
            *intent = Intent::clone(mark);
        }
        mark.is_some() || !open.of_others
    });
}

/// Leaves in the status what others have announced: it counts instead of an announcement of the same
/// create that was to be written now. Returns the announcements that remain ours.
fn keep_others(
    status: &mut ActivationStatus,
    others: &[Intent],
    mut announced: Vec<Announcement>,
) -> Vec<Announcement> {
    let is_theirs = |slot: &str| others.iter().any(|other| other.slot == slot);
    status.intents.retain(|intent| !is_theirs(&intent.slot));
    // A list that is too long loses its last entries.
    status.intents.splice(0..0, others.iter().cloned());
    announced.retain(|open| !is_theirs(&key(open)));
    announced
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{pipeline::Slot, plan::source::decide::Failure};

    fn open(step: StepId, slot: Slot) -> Announcement {
        Announcement {
            step,
            slot,
            anew: true,
            of_others: false,
            at: std::time::Instant::now(),
        }
    }

    #[test]
    fn what_another_process_has_announced_stays_and_is_not_ours() {
        let mine = [
            open(StepId::Redis, slot_named("shop-redis")),
            open(StepId::Volumes, slot_named("data")),
        ];
        let mut status = ActivationStatus {
            intents: intents(None, &mine, Timestamp::UNIX_EPOCH),
            ..ActivationStatus::default()
        };
        let later = Timestamp::from_second(9).unwrap();
        let theirs = intents(None, &mine[..1], later);
        let ours = announced(&status, &mine);
        let ours = keep_others(&mut status, &theirs, ours);
        assert_eq!(ours, mine[1..]);
        assert_eq!(status.intents.len(), 2);
        assert!(status.intents.contains(&theirs[0]));
    }

    #[test]
    fn a_full_status_loses_what_is_new_here_and_never_what_others_have_announced() {
        let volume = |at: usize| open(StepId::Volumes, slot_named(&format!("data-{at:02}")));
        let mut mine: Vec<Announcement> = (0..64).map(volume).collect();
        mine[63].anew = false;
        let status = ActivationStatus {
            intents: intents(None, &mine, Timestamp::UNIX_EPOCH),
            ..ActivationStatus::default()
        };
        assert_eq!(status.intents[0].name, "data-63", "it may be sent already");
        let redis = [open(StepId::Redis, slot_named("shop-redis"))];
        let theirs = intents(None, &redis, Timestamp::from_second(9).unwrap());
        let (ours, status) = with_others(status, &theirs, &mine);
        assert_eq!(status.intents.len(), 64);
        assert_eq!(status.intents[0], theirs[0]);
        assert_eq!(status.intents[1].name, "data-63");
        // The one that was cut is not announced, so it is not sent.
        let left_out: Vec<&Announcement> = mine.iter().filter(|one| !ours.contains(one)).collect();
        assert_eq!(left_out, [&mine[62]]);
    }

    #[test]
    fn what_is_not_announced_now_keeps_the_mark_of_who_announced_it() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut one = [open(StepId::Redis, slot_named("shop-redis"))];
        let theirs = intents(None, &one, at(1));
        one[0].anew = false;
        one[0].of_others = true;
        let taken_over = |held: &[Intent]| {
            let mut status = ActivationStatus {
                intents: intents(None, &one, at(2)),
                ..ActivationStatus::default()
            };
            keep_marks(&mut status, (None, held), &one);
            status.intents
        };
        assert_eq!(taken_over(&theirs), theirs);
        assert_eq!(taken_over(&[]), [], "whoever announced it is done with it");

        // Our own that somebody has taken away is written again: it may have been sent.
        one[0].of_others = false;
        let mut status = ActivationStatus {
            intents: intents(None, &one, at(2)),
            ..ActivationStatus::default()
        };
        keep_marks(&mut status, (None, &[]), &one);
        assert_eq!(status.intents.len(), 1);

        one[0].anew = true;
        let mut status = ActivationStatus {
            intents: intents(None, &one, at(3)),
            ..ActivationStatus::default()
        };
        let mine = status.intents.clone();
        keep_marks(&mut status, (None, &theirs), &one);
        assert_eq!(status.intents, mine);
    }

    #[test]
    fn an_announcement_keeps_its_mark_until_it_is_made_anew() {
        let mut one = [open(StepId::Redis, slot_named("shop-redis"))];
        let at = |second| Timestamp::from_second(second).unwrap();
        let first = ActivationStatus {
            intents: intents(None, &one, at(0)),
            ..ActivationStatus::default()
        };
        assert_ne!(intents(Some(&first), &one, at(1)), first.intents);
        one[0].anew = false;
        assert_eq!(intents(Some(&first), &one, at(1)), first.intents);
    }

    fn slot_named(name: &str) -> Slot {
        Slot {
            kind: "Any".to_owned(),
            name: name.to_owned(),
        }
    }

    #[test]
    fn every_announced_create_has_a_place_of_its_own() {
        let slot = |kind: &str, name: &str| Slot {
            kind: kind.to_owned(),
            name: name.to_owned(),
        };
        let open = [
            open(StepId::Postgres, slot("App", "shop-db")),
            open(StepId::Postgres, slot("Volume", "shop-db")),
            open(StepId::Redis, slot("App", "shop-db")),
        ];
        let told = intents(None, &open, Timestamp::UNIX_EPOCH);
        let places: std::collections::BTreeSet<&str> =
            told.iter().map(|intent| intent.slot.as_str()).collect();
        assert_eq!(places.len(), open.len(), "{places:?}");

        let mut status = ActivationStatus {
            intents: told,
            ..ActivationStatus::default()
        };
        assert_eq!(announced(&status, &open), open);
        status.intents.truncate(2);
        assert_eq!(
            announced(&status, &open),
            open[..2],
            "what was cut is not announced"
        );
    }

    #[test]
    fn since_when_a_source_cannot_be_read_stays_however_the_registry_says_it() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let failed = |words: &str| {
            let failure = Failure {
                reason: Reason::SourceUnreadable,
                message: words.to_owned(),
                action: String::new(),
                transient: None,
            };
            Followed {
                choice: None,
                reason: failure.reason,
                message: words.to_owned(),
                pending: None,
                failure: Some(failure),
            }
        };
        let first = source(None, "shop", &failed("answered 503"), at(10));
        assert_eq!(first.since, Some(whole_seconds(at(10))));
        let second = source(Some(&first), "shop", &failed("no answer in time"), at(20));
        assert_eq!(second, first);
        let mut other = failed("no tag fits");
        other.reason = Reason::NoMatchingTag;
        other.failure = None;
        let third = source(Some(&second), "shop", &other, at(30));
        assert_eq!(third.since, Some(whole_seconds(at(30))));
    }

    #[test]
    fn what_a_former_app_had_goes_when_the_app_that_is_there_was_looked_at() {
        use crate::pipeline::{State, StepRecord};

        let object = |kind: &str, id: &str| ExternalObject {
            kind: kind.to_owned(),
            id: id.to_owned(),
            name: id.to_owned(),
            ..ExternalObject::default()
        };
        let seen = |state: State, progress| {
            let note = Note::External(object("Address", "new"));
            let record = StepRecord {
                state,
                notes: [note].into(),
                ..StepRecord::pending("s")
            };
            let phase = PhaseReport {
                id: PhaseName::Provision,
                progress,
                gate: None,
                steps: vec![(StepId::Addresses, record)],
            };
            // The guard runs several lines of one phase.
            let before = PhaseReport {
                steps: Vec::new(),
                ..phase.clone()
            };
            Report {
                phases: vec![before, phase],
                ..Report::default()
            }
        };
        let kept = ExternalObject {
            retained: Some("it costs money".to_owned()),
            ..object("Address", "kept")
        };
        let after = |report: &Report| -> Vec<String> {
            let mut status = ActivationStatus {
                external: vec![
                    object("App", "shop"),
                    object("Address", "old"),
                    object("Volume", "vol_1"),
                    kept.clone(),
                ],
                ..ActivationStatus::default()
            };
            merge_site(&mut status, report, None, Timestamp::UNIX_EPOCH);
            status.external.into_iter().map(|one| one.id).collect()
        };
        let looked = seen(State::Done, PhaseProgress::Running);
        assert_eq!(after(&looked), ["new", "shop", "vol_1", "kept"]);
        // Not seen to the end; and not seen in this pass.
        let failed = seen(State::Retrying { observing: true }, PhaseProgress::Running);
        assert!(after(&failed).contains(&"old".to_owned()));
        let before = seen(State::Done, PhaseProgress::Pending);
        assert!(after(&before).contains(&"old".to_owned()));
    }

    #[test]
    fn a_failure_is_added_to_the_history_and_replaces_nothing_that_is_told_of_its_release() {
        let entry = |number: i64, outcome: HistoryOutcome| HistoryEntry {
            number: Some(number),
            outcome,
            ..HistoryEntry::default()
        };
        let mut history: Vec<HistoryEntry> = (1..=10)
            .rev()
            .map(|number| entry(number, HistoryOutcome::Succeeded))
            .collect();
        add(&mut history, &entry(10, HistoryOutcome::Failed));
        assert_eq!(
            history[0].outcome,
            HistoryOutcome::Succeeded,
            "it has become well since"
        );
        add(&mut history, &entry(11, HistoryOutcome::Begun));
        add(&mut history, &entry(11, HistoryOutcome::Failed));
        assert_eq!((history[0].number, history.len()), (Some(11), HISTORY));
        assert_eq!(history[0].outcome, HistoryOutcome::Failed);
    }
}
