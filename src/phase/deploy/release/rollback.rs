//! Rollback: a release that has failed for certain, or that somebody asks to take back, is recorded
//! as such. From then on another release is what should run, and the ordinary steps bring it back.
//! The record holds the release until the spec changes, also for another process. One that has failed
//! and is left as it is gets a record too, which holds nothing.
//!
//! Neither goes back over a migration that cannot be undone, whichever release ran it since the one
//! that is to be restored.
//!
//! Fly.io has no rollback of its own (fly-api.md G): what is restored is what was recorded here, the
//! image by its digest and the fly.toml by its text. Values of secrets are not recorded anywhere, so
//! that the secrets stay as they are now; when they differ, the outcome says so.
//!
//! A request is an ActivationApproval with `gate: Rollback`: the API server proves who asks, the spec
//! that a GitOps tool holds is not touched, and the record remembers the request by its UID, so that
//! it is carried out once, whatever is killed in between.

use std::{
    fmt,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};

use super::{
    changes, fly_release,
    records::{self, Outcome, Record, Records, Request},
};
use crate::phase::deploy::{
    look::{self, Look},
    release,
};
use crate::{
    api::{
        Reason,
        condition::whole_seconds,
        status::{RollbackState, RollbackStatus, one_line},
    },
    flytoml,
    pipeline::{ChangeKind, Cx, Note, Step, StepChange, StepId, Verdict, Wake, Why, step::Result},
    plan::{Target, refs::RollbackRequest},
};

/// The requests for a rollback.
pub struct Rollback;

/// How much older than the latest release a request may be: the clock of the API server, which
/// dates requests, and ours, which dates releases, are not one.
const SKEW: SignedDuration = SignedDuration::from_secs(60);

/// For how long an answer of a registry about the last good image is believed.
const BELIEVED: Duration = Duration::from_secs(30);

/// Whether an image can still be pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pull {
    /// Its registry has it.
    Possible,
    /// Its registry says that it does not exist.
    Gone,
    /// The registry does not tell; says why.
    Unknown(String),
}

/// What is known about the next request.
#[derive(Debug)]
pub struct Observed {
    records: Records,
    wanted: release::Wanted,
    /// What is written down when the wanted release has no record yet.
    draft: Option<Record>,
    asked: Option<(RollbackRequest, Pull)>,
}

/// What is written down about a request.
#[derive(Debug)]
pub struct Decided {
    record: Record,
    line: String,
}

impl fmt::Display for Decided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

impl StepChange for Decided {}

/// What a request comes to.
#[derive(Debug, PartialEq, Eq)]
enum Judgement {
    Go,
    Wait(String),
    Refuse(String),
}

impl Step for Rollback {
    type Observed = Observed;
    type Change = Decided;

    fn id(&self) -> StepId {
        StepId::Rollback
    }

    fn needs(&self) -> &'static [StepId] {
        &[StepId::Image]
    }

    fn reads(&self) -> u32 {
        0
    }

    /// A new request is looked at when it comes.
    fn rechecked(&self) -> bool {
        false
    }

    async fn observe(&self, cx: &Cx) -> Result<Observed> {
        let records = records::load(cx).await?;
        let wanted = look::release(cx, &records)?;
        let next = cx
            .refs
            .rollbacks()
            .iter()
            .filter(|request| request.digest == cx.target.digest())
            .find(|request| records.request(&request.uid).is_none());
        let asked = match next {
            None => None,
            Some(request) => {
                let pull = match records.of(request.to) {
                    Some(record) => pull(cx, &record.pinned).await,
                    None => Pull::Gone,
                };
                Some((request.clone(), pull))
            }
        };
        let draft = asked.is_some().then(|| {
            let good = records.last_good();
            records::record(cx, &wanted, Outcome::Failed, "", good)
        });
        Ok(Observed {
            records,
            wanted,
            draft,
            asked,
        })
    }

    fn diff(&self, target: &Target, observed: &Observed, now: Timestamp) -> Verdict<Decided> {
        let (Some((request, pull)), Some(draft)) = (&observed.asked, &observed.draft) else {
            return Verdict::Skipped(Why::new(Reason::NotRequested, "no rollback is asked for"));
        };
        let (records, wanted) = (&observed.records, &observed.wanted);
        match judge(target, records, wanted, request, pull) {
            Judgement::Wait(message) => Verdict::Wait {
                why: Why::new(Reason::ObservationUnknown, message),
                wake: Wake::Poll,
            },
            Judgement::Refuse(why) => match records.latest() {
                // Nothing was deployed yet: there is no record that could remember the request.
                None => Verdict::Skipped(Why::new(Reason::RollbackRefused, why)),
                Some(latest) => {
                    let mut record = latest.clone();
                    let line = format!("refuse the rollback that {} asks for", request.by);
                    record
                        .requests
                        .push(decided(request, Some(why), String::new(), now));
                    Verdict::Change(Decided { record, line })
                }
            },
            Judgement::Go => {
                let latest = records
                    .latest()
                    .filter(|last| last.key == wanted.key && last.outcome != Outcome::Begun);
                let mut record = latest.unwrap_or(draft).clone();
                record.outcome = Outcome::Failed;
                record.reversible = target.deploy.migrations.reversible;
                record.restores = Some(request.to);
                record.reason = one_line(&crate::redact::redact(&told_why(request)), 1_000);
                record.target = target.digest().to_owned();
                record.retry.clone_from(&target.retry);
                record.time = now;
                let kept = records.of(request.to).map_or_else(String::new, |to| {
                    changes::kept_secrets(&to.secrets, &draft.secrets)
                });
                record.requests.push(decided(request, None, kept, now));
                let line = format!("roll back to release {} for {}", request.to, request.by);
                Verdict::Change(Decided { record, line })
            }
        }
    }

    fn notes(&self, target: &Target, observed: &Observed) -> Vec<Note> {
        let told = match &observed.asked {
            None => observed.records.last_request().map(status),
            Some((request, pull)) => {
                let (records, wanted) = (&observed.records, &observed.wanted);
                let (state, message) = match judge(target, records, wanted, request, pull) {
                    Judgement::Refuse(why) if records.latest().is_none() => {
                        (RollbackState::Refused, why)
                    }
                    Judgement::Wait(message) => (RollbackState::Waiting, message),
                    _ => (RollbackState::Waiting, String::new()),
                };
                Some(RollbackStatus {
                    request: request.name.clone(),
                    by: request.by.clone(),
                    to: i64::try_from(request.to).ok(),
                    state,
                    message,
                    time: None,
                })
            }
        };
        told.into_iter().map(Note::Rollback).collect()
    }

    async fn act(&self, cx: &Cx, change: Decided) -> Result<()> {
        tracing::warn!(rollback = %change.line, "decided");
        records::save(cx, change.record).await
    }
}

fn told_why(request: &RollbackRequest) -> String {
    match &request.message {
        Some(message) => format!("was rolled back by {}: {message}", request.by),
        None => format!("was rolled back by {}", request.by),
    }
}

fn decided(
    request: &RollbackRequest,
    refused: Option<String>,
    note: String,
    now: Timestamp,
) -> Request {
    Request {
        uid: request.uid.clone(),
        name: request.name.clone(),
        by: request.by.clone(),
        to: request.to,
        refused: refused.map(|why| one_line(&crate::redact::redact(&why), 1_000)),
        note,
        time: now,
    }
}

fn status(request: &Request) -> RollbackStatus {
    RollbackStatus {
        request: request.name.clone(),
        by: request.by.clone(),
        to: i64::try_from(request.to).ok(),
        state: if request.refused.is_some() {
            RollbackState::Refused
        } else {
            RollbackState::Accepted
        },
        message: request
            .refused
            .clone()
            .unwrap_or_else(|| request.note.clone()),
        time: Some(whole_seconds(request.time)),
    }
}

/// What a request comes to. Pure.
fn judge(
    target: &Target,
    records: &Records,
    wanted: &release::Wanted,
    request: &RollbackRequest,
    pull: &Pull,
) -> Judgement {
    let refuse = |why: String| Judgement::Refuse(why);
    let Some(to) = records.of(request.to) else {
        let known: Vec<String> = records
            .list
            .iter()
            .filter(|record| record.outcome == Outcome::Succeeded)
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
    if to.outcome != Outcome::Succeeded {
        return refuse(format!("{} {}; choose another", to.name(), to.fate()));
    }
    // One that failed and was left as it is may have some machines.
    let recorded = records.latest().filter(|last| last.key == wanted.key);
    if recorded.is_some_and(|last| last.outcome != Outcome::Begun && !last.is_left())
        && records
            .last_good()
            .is_some_and(|good| good.number == to.number)
    {
        return refuse(format!("{} serves already", to.name()));
    }
    if let Some(latest) = records.ended()
        && request.created.duration_since(latest.time) < -SKEW
    {
        return refuse(format!(
            "{} ended after this was asked for; look at it and ask again",
            latest.name()
        ));
    }
    // The spec may say by now that its own migration can be undone; what earlier ones said stays.
    let own = wanted.migrates && !target.deploy.migrations.reversible;
    let own = own.then(|| format!("release {} ({})", wanted.number, wanted.image.reference));
    let earlier = records.irreversible_after(to.number, &wanted.key);
    if let Some(name) = own.or_else(|| earlier.map(Record::name)) {
        return refuse(format!(
            "{name} ran its release command, and its `migrations.reversible` is false: {} may not run on that database; deploy a release that works instead, or declare the present one reversible in the spec",
            to.name()
        ));
    }
    if let Some(Err(error)) = to.config.as_deref().map(flytoml::parse) {
        return refuse(format!(
            "the fly.toml of {} is no longer valid: {error}",
            to.name()
        ));
    }
    match pull {
        Pull::Possible => Judgement::Go,
        Pull::Gone => refuse(gone(to)),
        Pull::Unknown(why) => Judgement::Wait(format!(
            "whether the image of {} can still be pulled is not known: {why}",
            to.name()
        )),
    }
}

/// Says that the image of a release cannot be pulled any more.
pub fn gone(record: &Record) -> String {
    format!(
        "the image of {} cannot be pulled any more: its registry has no {}; push it again, or deploy another release",
        record.name(),
        record.pinned
    )
}

/// Asks the registry whether an image can still be pulled.
async fn pull(cx: &Cx, pinned: &str) -> Pull {
    let reference = match pinned.parse() {
        Ok(reference) => reference,
        Err(error) => return Pull::Unknown(crate::causes::chain(&error)),
    };
    match cx.fly.resolve_image(&reference).await {
        Ok(Some(_)) => Pull::Possible,
        Ok(None) => Pull::Gone,
        Err(error) => Pull::Unknown(crate::causes::chain(&error)),
    }
}

/// Whether the release that an automatic rollback would restore is surely gone. What is not known is
/// no obstacle: the release that failed serves nobody, and nothing is lost by the try.
pub async fn good_is_gone(cx: &Cx, records: &Records) -> bool {
    let Some(good) = records.last_good() else {
        return false;
    };
    // A failure is looked at again and again; the registry need not be.
    if let Some(known) = cx.facts.pull.get()
        && known.0 == good.pinned
        && known.1.elapsed() < BELIEVED
    {
        return known.2 == Pull::Gone;
    }
    let answer = pull(cx, &good.pinned).await;
    let gone = answer == Pull::Gone;
    cx.facts
        .pull
        .set((good.pinned.clone(), Instant::now(), answer));
    gone
}

/// The release that has failed.
#[derive(Debug, PartialEq)]
pub struct Change {
    release: release::Wanted,
    /// Number and name of the release that is restored; `None`: it is left as it is.
    to: Option<(u64, String)>,
    cause: String,
}

impl Change {
    /// Gives up the wanted release for this cause.
    pub fn of(look: &Look, cause: String) -> Self {
        let good = look.records.last_good();
        Self {
            release: look.release.clone(),
            to: good.map(|good| (good.number, good.name())),
            cause,
        }
    }

    /// Records that this release has failed for this cause, and leaves it as it is.
    pub fn left(release: release::Wanted, cause: String) -> Self {
        Self {
            release,
            to: None,
            cause,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.to {
            Some((_, name)) => write!(f, "roll back to {name}"),
            None => write!(f, "record that release {} has failed", self.release.number),
        }
    }
}

impl StepChange for Change {
    fn kind(&self) -> ChangeKind {
        match self.to {
            Some(_) => ChangeKind::RollbackStart,
            None => ChangeKind::Ordinary,
        }
    }
}

/// Records the failure.
///
/// # Errors
/// When Kubernetes does not answer: nothing is rolled back without a record of why.
pub async fn act(cx: &Cx, change: Change) -> Result<()> {
    match &change.to {
        Some((_, name)) => tracing::warn!(to = %name, cause = %change.cause, "rolling back"),
        None => {
            tracing::warn!(cause = %change.cause, "the release has failed and is left as it is")
        }
    }
    let before = records::load(cx).await?;
    let mut record = records::record(
        cx,
        &change.release,
        Outcome::Failed,
        &change.cause,
        before.last_good(),
    );
    record.restores = change.to.map(|(number, _)| number);
    // Fly.io's own record is for people; nothing waits for it, and it is told once.
    let told = before.left(&change.release.key);
    if told.is_none_or(|told| told.fly_version.is_none()) {
        let told = fly_release::ended(cx, &change.release, Outcome::Failed).await;
        record.fly_version = told.unwrap_or_default();
    }
    records::save(cx, record).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::records::tests::{records, with_left};
    use super::*;
    use crate::{pipeline::facts, plan::testing::target};

    fn wanted(key: &str) -> release::Wanted {
        release::Wanted {
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

    fn asked(to: u64) -> RollbackRequest {
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

    fn refusal(records: &Records, wanted: &release::Wanted, to: u64) -> String {
        match judge(&target(""), records, wanted, &asked(to), &Pull::Possible) {
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
        assert_eq!(refusal(&records, &wanted, 1), "Go");
        let none = refusal(&records, &wanted, 7);
        assert!(
            none.contains("no release 7") && none.contains("1, 3"),
            "{none}"
        );
        assert!(refusal(&records, &wanted, 2).contains("failed"));
        assert!(refusal(&records, &wanted, 3).contains("serves already"));
    }

    #[test]
    fn a_rollout_under_way_can_be_taken_back_to_what_served_before() {
        assert_eq!(refusal(&three(), &wanted("d"), 3), "Go");
    }

    #[test]
    fn what_was_begun_does_not_count_as_what_serves_nor_as_an_end() {
        let mut records = records(&[("a", Outcome::Succeeded), ("b", Outcome::Begun)]);
        records.list[1].time = Timestamp::from_second(3600).unwrap();
        assert_eq!(refusal(&records, &wanted("b"), 1), "Go");
        assert!(refusal(&records, &wanted("b"), 2).contains("has not ended"));
        records.list[1].migrated = true;
        let why = refusal(&records, &wanted("c"), 1);
        assert!(why.contains("release 2"), "{why}");
    }

    #[test]
    fn a_release_that_failed_and_was_left_can_be_taken_back_unless_it_migrated_for_good() {
        let mut records = with_left(&[("a", Outcome::Succeeded)], "b");
        assert_eq!(refusal(&records, &wanted("b"), 1), "Go");
        assert!(refusal(&records, &wanted("b"), 2).contains("failed"));
        records.list[1].migrated = true;
        let why = refusal(&records, &wanted("c"), 1);
        assert!(why.contains("release 2"), "{why}");
    }

    #[test]
    fn an_irreversible_migration_is_not_rolled_back_over_whoever_asks() {
        let (mut records, mut wanted) = (three(), wanted("c"));
        records.list[1].migrated = true;
        let why = refusal(&records, &wanted, 1);
        assert!(
            why.contains("release 2") && why.contains("reversible"),
            "{why}"
        );
        records.list[1].reversible = true;
        assert_eq!(refusal(&records, &wanted, 1), "Go");
        wanted.migrates = true;
        assert!(refusal(&records, &wanted, 1).contains("release 3"));
        let reversible = target("deploy: {migrations: {reversible: true}}");
        let verdict = judge(&reversible, &records, &wanted, &asked(1), &Pull::Possible);
        assert_eq!(verdict, Judgement::Go);
    }

    #[test]
    fn an_image_that_is_gone_refuses_and_a_registry_that_is_silent_does_not_decide() {
        let (records, wanted) = (three(), wanted("c"));
        let judged = |pull: Pull| judge(&target(""), &records, &wanted, &asked(1), &pull);
        assert!(
            matches!(judged(Pull::Gone), Judgement::Refuse(why) if why.contains("cannot be pulled"))
        );
        assert!(matches!(
            judged(Pull::Unknown("503".into())),
            Judgement::Wait(_)
        ));
    }

    #[test]
    fn a_request_that_is_older_than_the_latest_release_asks_for_nothing() {
        let (mut records, wanted) = (three(), wanted("c"));
        records.list[2].time = Timestamp::from_second(3600).unwrap();
        assert!(refusal(&records, &wanted, 1).contains("ask again"));
    }
}
