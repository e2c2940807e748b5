//! Requests for a rollback. A request that is accepted is recorded, and from then on another release
//! is what the machines should run: the ordinary steps bring it back.
//!
//! Fly.io has no rollback of its own. What is restored is what the record says: the image by its
//! digest and the fly.toml by its text. Values of secrets are recorded nowhere, so that secrets keep
//! their present values; when they differ, the outcome says so.
//!
//! A request is an ActivationApproval with `gate: Rollback`: the API server authenticates who makes
//! it, and the spec that a GitOps tool applies does not change. The record remembers the request by
//! its UID, so that it is carried out once, also across a crash. The watch after Go-Live asks in the same
//! way (`breach`).

use std::fmt;

use jiff::Timestamp;

use super::{
    changes,
    draft::draft,
    pull::{self, Pull},
    record::{Outcome, Record, Request},
    request::{Judgement, judge},
    store,
    targets::{self, Targets},
};
use crate::{
    api::{
        Reason,
        condition::whole_seconds,
        status::{RollbackState, RollbackStatus, one_line},
    },
    phase::breach,
    pipeline::{
        ChangeVerb, Cx, Note, PlannedChange, Step, StepChange, StepId, Verdict, Wake, Why,
        step::Result,
    },
    plan::{Target, refs::RollbackRequest},
};

/// The requests for a rollback.
pub struct Rollback;

/// The next request, and what it is decided from.
#[derive(Debug)]
pub struct Observed {
    targets: Targets,
    request: Option<Pending>,
}

/// A request that was not decided yet.
#[derive(Debug)]
struct Pending {
    request: RollbackRequest,
    /// Whether the image to go back to can be pulled.
    pull: Pull,
    /// What is recorded when the wanted release has no record yet.
    draft: Record,
}

/// A decision on a request.
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

impl StepChange for Decided {
    fn planned(&self) -> Vec<PlannedChange> {
        let name = self.record.number.to_string();
        let record = PlannedChange::new(ChangeVerb::Record, "Release", name);
        let record = record.set("decision", &self.line);
        vec![match self.record.restores {
            Some(number) => record.set("restores", number),
            None => record,
        }]
    }
}

impl Step for Rollback {
    type Observed = Observed;
    type Change = Decided;

    fn id(&self) -> StepId {
        StepId::Rollback
    }

    fn needs(&self) -> &'static [StepId] {
        &[StepId::TakeOver]
    }

    fn reads(&self) -> u32 {
        0
    }

    /// A new request triggers a pass of its own.
    fn rechecked(&self) -> bool {
        false
    }

    async fn observe(&self, cx: &Cx) -> Result<Observed> {
        // Without what an earlier look has planned: that is what is decided on here.
        let targets = targets::of(cx, store::load(cx).await?)?;
        let records = &targets.records;
        let by_the_watch = breach::asked(&cx.journal);
        let mut all = cx.refs.rollbacks().iter().chain(&by_the_watch);
        let next = all.find(|request| {
            cx.target.plan().is_same_work(&request.digest)
                && records.request(&request.uid).is_none()
        });
        let request = match next {
            None => None,
            Some(request) => {
                let pull = match records.of(request.to) {
                    Some(record) => pull::observe(cx, &record.content.pinned).await?,
                    None => Pull::Gone,
                };
                let serving = targets.serving_record();
                Some(Pending {
                    request: request.clone(),
                    pull,
                    draft: draft(cx, &targets.wanted, Outcome::Failed, "", serving),
                })
            }
        };
        store::note_planned(cx, planned(&cx.target, &targets, request.as_ref()));
        Ok(Observed { targets, request })
    }

    fn diff(&self, target: &Target, observed: &Observed, _now: Timestamp) -> Verdict<Decided> {
        let Some(pending) = &observed.request else {
            return Verdict::Skipped(Why::new(Reason::NotRequested, "no rollback is requested"));
        };
        let Targets {
            records, wanted, ..
        } = &observed.targets;
        let request = &pending.request;
        // By the clock of the API server, which also dates the next request.
        let now = pending.draft.time;
        match judge(target, records, wanted, request, &pending.pull) {
            Judgement::Wait(message) => Verdict::Wait {
                why: Why::new(Reason::ObservationUnknown, message),
                wake: Wake::Poll,
            },
            Judgement::Refuse(why) => match records.latest() {
                // Nothing was deployed yet: no record can remember the request.
                None => Verdict::Skipped(Why::new(Reason::RollbackRefused, why)),
                Some(latest) => {
                    let mut record = latest.clone();
                    let line = format!("refuse the rollback that {} requested", request.by);
                    record
                        .requests
                        .push(decided(request, Some(why), String::new(), now));
                    Verdict::Change(Decided { record, line })
                }
            },
            Judgement::Accept => Verdict::Change(accept(target, &observed.targets, pending, now)),
        }
    }

    fn notes(&self, target: &Target, observed: &Observed) -> Vec<Note> {
        let Targets {
            records, wanted, ..
        } = &observed.targets;
        let status = match &observed.request {
            None => records.last_request().map(status),
            Some(Pending { request, pull, .. }) => {
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
        status.into_iter().map(Note::Rollback).collect()
    }

    async fn act(&self, cx: &Cx, change: Decided) -> Result<()> {
        tracing::warn!(rollback = %change.line, "decided");
        store::save(cx, change.record).await
    }
}

/// The record that follows from the request, if it would be accepted, with the UID of the request: the steps
/// that only plan show what it leads to.
fn planned(
    target: &Target,
    targets: &Targets,
    pending: Option<&Pending>,
) -> Option<(String, Record)> {
    let pending = pending?;
    let Pending {
        request,
        pull,
        draft,
    } = pending;
    let (records, wanted) = (&targets.records, &targets.wanted);
    let judgement = judge(target, records, wanted, request, pull);
    (judgement == Judgement::Accept).then(|| {
        let record = accept(target, targets, pending, draft.time).record;
        (request.uid.clone(), record)
    })
}

/// The record of the wanted release once the request is accepted.
fn accept(target: &Target, targets: &Targets, pending: &Pending, now: Timestamp) -> Decided {
    let Pending { request, draft, .. } = pending;
    let Targets {
        records, wanted, ..
    } = targets;
    let latest = records
        .latest()
        .filter(|last| last.key == wanted.key && last.outcome != Outcome::Begun);
    let mut record = latest.unwrap_or(draft).clone();
    record.outcome = Outcome::Failed;
    record.migration.reversible = target.deploy.migrations.reversible;
    record.restores = Some(request.to);
    record.reason = one_line(&crate::redact::redact(&reason(request)), 1_000);
    record.hold.target = target.digest().to_owned();
    record.hold.retry.clone_from(&target.retry);
    record.time = now;
    let note = records.of(request.to).map_or_else(String::new, |to| {
        changes::secrets_not_restored(&to.content.secrets, &draft.content.secrets)
    });
    record.requests.push(decided(request, None, note, now));
    let line = format!("roll back to release {} for {}", request.to, request.by);
    Decided { record, line }
}

fn reason(request: &RollbackRequest) -> String {
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
