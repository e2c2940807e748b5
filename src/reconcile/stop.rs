//! The early ends of a pass, and a pass that failed as a whole. Each publishes why it ended.

use std::{sync::Arc, time::Duration};

use crate::{
    api::Activation,
    error::Error,
    phase::deploy::fleet::leases,
    pipeline::Cx,
    plan::{invalid::Invalid, refs::Refs},
    reconcile::{
        begin::{self, Pass},
        context::Context,
        guard,
        memory::{Memory, MemoryGuard},
        next_pass,
        requests::{self, Requested},
    },
    status::PassResult,
};

/// Longest pause before an invalid object is read again: what it names may have come into being
/// without a report.
const INVALID_PAUSE: Duration = Duration::from_secs(30);

/// The spec suspends the object: nothing is done and nothing is looked at, and everything stays as it
/// was. After a few re-checks without a look, `Live` is Unknown.
pub async fn suspended(pass: &Pass<'_>, memory: &mut Memory) -> Result<Duration, Error> {
    let result = PassResult {
        suspended: true,
        unproven: guard::is_unproven(pass, memory, None, None),
        serving: pass.serving.clone(),
        ..PassResult::default()
    };
    leases::let_end(&memory.wanted.journal);
    pass.publisher.publish(pass.old.as_ref(), &result).await?;
    requests::refuse_while_suspended(pass, memory);
    let recheck = pass.context.installation.timing.recheck;
    Ok(pass.until_resumed().unwrap_or(recheck).min(recheck))
}

/// The object is invalid: there is no target.
pub async fn invalid(
    pass: &Pass<'_>,
    memory: &mut Memory,
    (invalid, refs): (&[Invalid], &Arc<Refs>),
    requested: Requested,
) -> Result<Duration, Error> {
    let pause = publish(pass, memory, (invalid, refs), requested).await?;
    let timing = &pass.context.installation.timing;
    let again = timing.recheck.min(timing.backoff_max).min(INVALID_PAUSE);
    Ok(pause.min(again))
}

/// Somebody has aborted the work on this target: no wait and no lease on a machine remains.
pub async fn aborted(
    pass: &Pass<'_>,
    memory: &mut Memory,
    cx: &Cx,
    invalid: Invalid,
    requested: Requested,
) -> Result<Duration, Error> {
    pass.context.waits.forget(&pass.owner.uid);
    leases::release(cx).await;
    publish(pass, memory, (&[invalid], &cx.refs), requested).await
}

/// Looks after what serves, and publishes both. Returns the pause until that needs the next pass.
async fn publish(
    pass: &Pass<'_>,
    memory: &mut Memory,
    (invalid, refs): (&[Invalid], &Arc<Refs>),
    requested: Requested,
) -> Result<Duration, Error> {
    if requested.new_token().is_some() {
        memory.forget_observations();
    }
    let site = guard::beside_invalid(pass, memory, refs).await?;
    guard::end_looks(memory, None, site.as_ref());
    let next = next_pass::of_site(pass, memory, site.as_ref());
    let result = PassResult {
        invalid,
        requested: requested.new_token(),
        intents: memory.wanted.intents.open(),
        unproven: guard::is_unproven(pass, memory, None, site.as_ref()),
        serving: pass.serving.clone(),
        site,
        ..PassResult::default()
    };
    let announced = pass.publisher.publish(pass.old.as_ref(), &result).await?;
    requested.handled(memory);
    memory.forget_wanted();
    match memory.wanted.intents.written(&announced) {
        true => Ok(Duration::ZERO),
        false => Ok(next),
    }
}

/// Reports a pass that failed as a whole on the object itself, as far as Kubernetes can be reached.
pub async fn report_failure(activation: &Activation, context: &Context, error: &Error) {
    let Ok(owner) = begin::owner(activation) else {
        return;
    };
    let mut guard = MemoryGuard::take(&context.memories, &owner);
    let pass = Pass::begin(activation, context, &owner, &guard.memory);
    // Passes that fail look at nothing: what was proven before them does not stand for ever.
    let unproven = guard::is_unproven(&pass, &mut guard.memory, None, None);
    let wanted = &guard.memory.wanted;
    if wanted.steps.is_empty() {
        // The pass may have failed before it took them over, and this status replaces them.
        begin::recall_intents(wanted, &pass);
    }
    let result = PassResult {
        failed: Some((error.reason(), crate::causes::chain(error))),
        unproven,
        intents: wanted.intents.open(),
        ..PassResult::default()
    };
    // The same failure again changes nothing and is not written; another cause is told, also when the
    // reason is the same.
    let published = pass.publisher.publish(pass.old.as_ref(), &result).await;
    if let Err(error) = published {
        tracing::warn!(error = %crate::causes::chain(&error), "the failure could not be reported");
    }
    guard.release();
}
