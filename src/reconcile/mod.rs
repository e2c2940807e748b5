//! One reconcile of one object, on one screen: read, parse, protect, run, publish, next pass.
//!
//! Uses everything below it; only `controller/` and the programs use it. Start with [`reconcile`];
//! each step of a pass is a file of its own:
//!
//! | file | what it does |
//! |---|---|
//! | `context` | what all reconciles share |
//! | `begin` | who the object is, and what every step of the pass gets |
//! | `read` | reads what the object names, and parses the target |
//! | `requests` | annotations that request something: reconcile, retry, abort |
//! | `stop` | the early ends of a pass: suspended, invalid, aborted |
//! | `protect` | finalizers, before anything is changed |
//! | `gates` | the gates, and what became of the decisions at them |
//! | `drift` | when drift is only reported |
//! | `failed_proof` | a release that fails its SmokeTest |
//! | `guard` | keeps and proves what serves while the spec cannot be brought live |
//! | `publish` | publishes what the pass found |
//! | `status_publisher` | the one way to a new status, its events and metrics |
//! | `measure` | metrics that follow from a status |
//! | `next_pass` | when the object is reconciled again |
//! | `finalize`, `made` | deletion, and what it is about |
//! | `token_secret` | a token's Secret that was deleted while it is needed |
//! | `undecodable` | objects that cannot be decoded |
//! | `urgency` | which kind of work an object is for the queue |
//! | `memory` | what this process remembers of an object |

pub mod begin;
pub mod context;
mod drift;
mod failed_proof;
mod finalize;
pub mod gates;
mod guard;
mod made;
mod measure;
pub mod memory;
mod next_pass;
mod protect;
mod publish;
mod read;
mod requests;
mod status_publisher;
mod stop;
mod token_secret;
pub mod undecodable;
mod urgency;

use std::time::Duration;

pub use stop::report_failure;
pub use urgency::at_first_sight;

use crate::{
    api::{Activation, policy::Mode},
    error::Error,
    phase::PHASES,
    pipeline::run,
    process::workqueue::Kind,
    reconcile::{
        begin::Pass,
        context::Context,
        gates::Gates,
        memory::{Memory, MemoryGuard},
        requests::Requested,
    },
};

/// When an object is reconciled again, and what that is for the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// The pause before.
    pub after: Duration,
    /// The kind of work.
    pub kind: Kind,
}

/// Moves the activation towards its target as far as it goes now.
///
/// # Errors
/// Only when Kubernetes could not be read or written; everything about Fly.io is in the status.
pub async fn reconcile(activation: &Activation, context: &Context) -> Result<Next, Error> {
    let owner = begin::owner(activation)?;
    let mut guard = MemoryGuard::take(&context.memories, &owner);
    tracing::debug!("a pass begins");
    let pass = Pass::begin(activation, context, &owner, &guard.memory);
    let result = reconcile_once(&pass, &mut guard.memory).await;
    tracing::debug!(next = ?result.as_ref().ok(), "a pass ended");
    let kind = urgency::of_status(guard.memory.published.status().as_ref());
    if let Ok(after) = &result {
        guard.memory.rest(*after);
    }
    guard.end(result.is_ok());
    result.map(|after| Next { after, kind })
}

async fn reconcile_once(pass: &Pass<'_>, memory: &mut Memory) -> Result<Duration, Error> {
    if pass.is_deleted() {
        memory.end_looks();
        return finalize::finalize(pass, memory).await;
    }
    protect::before_telling(pass).await?;
    if pass.is_suspended() {
        memory.end_looks();
        return stop::suspended(pass, memory).await;
    }
    begin::recall_intents(&memory.wanted, pass);
    let requested = Requested::take(pass, memory);

    // Read (Kubernetes) and parse (pure). A missing Secret is data, not an error.
    let read = read::read(pass, memory).await?;
    let target = match read.target {
        Ok(target) => target,
        Err(invalid) => {
            let invalid = (invalid.as_slice(), &read.refs);
            return stop::invalid(pass, memory, invalid, requested).await;
        }
    };
    protect::release_former_tokens(pass, memory).await?;
    requests::note_due_steps(&read.refs, pass, memory);
    requests::note_integrations(&target, &read.refs, pass, memory);
    requests::note_watch(&target, memory);
    token_secret::report(pass, memory, &read.refs);

    let reporting_drift = drift::is_only_reported(pass, memory, &target).await?;
    let mut cx = begin::cx(pass, memory, (target.clone(), read.refs), reporting_drift);
    cx.ends_releases = reporting_drift && target.mode == Mode::Apply;
    let gates = Gates::judge(pass, memory, &cx, &target);
    cx.origin.approved_by = gates.approvers();
    if let Some(invalid) = requests::abort(pass, memory, &cx.target) {
        gates.conclude(pass, memory, None).await;
        return stop::aborted(pass, memory, &cx, invalid, requested).await;
    }

    // Observe, diff, act (Fly.io). Its errors are part of the report.
    let announcer = pass.publisher.announcer(&cx.target, reporting_drift);
    let gate = |phase| gates.decide(phase);
    let finalizers_first = protect::before_changes(pass, memory, &cx, read.fresh);
    let run = run::run(
        &cx,
        PHASES,
        &mut memory.wanted,
        &announcer,
        gate,
        finalizers_first,
    );
    let report = Box::pin(run).await?;
    pass.ensure_waits(&memory.wanted, None, &cx.fly);

    // What serves is kept and proven, as far as this run has not (Fly.io).
    let site = guard::after(pass, memory, (&cx, &report), reporting_drift).await?;
    guard::end_looks(memory, Some(&report), site.as_ref());
    let kept = next_pass::of_site(pass, memory, site.as_ref());
    let outdated = next_pass::outdated_plan(&report, site.as_ref());

    // Derive the status (pure), then write it (Kubernetes).
    let found = (&report, site);
    let announced = publish::report(pass, memory, &cx, found, (reporting_drift, requested)).await?;
    gates.conclude(pass, memory, Some(&report)).await;
    if failed_proof::note(memory, &cx, &report) {
        return Ok(Duration::ZERO);
    }
    let kept = next_pass::plan_again(pass, memory, outdated).map_or(kept, |pause| kept.min(pause));
    Ok(next_pass::after(pass, memory, (&report, kept), &announced))
}
