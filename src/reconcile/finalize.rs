//! Deletion: steps are undone in reverse order, with progress in a condition, and the object goes
//! only when everything that the deletion policy names is observed to be gone.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use kube::ResourceExt;

use crate::{
    api::{ANNOTATION_FORGET, FINALIZER, Reason, StepId, status::one_line},
    error::{Error, Retry},
    phase::{
        PHASES,
        absence::{self, Doubt},
        names,
        provision::{app, app_token_secret},
        releases::store as records,
    },
    pipeline::{AnyStep, Cx, Owner, Removal, advance::CLOSED_FENCE_PAUSE, step::warn_of},
    plan::{Target, invalid::Invalid, refs},
    process::telemetry,
    reconcile::{
        begin::{self, Pass},
        context::Context,
        made,
        memory::Memory,
    },
    status::{PassResult, Removing, events},
    store::{claim, finalizers, image, outbox, watch},
};

/// Steps whose objects are not removed with the app: one that was perhaps created a moment ago, and
/// is not listed yet, would be left behind.
const OUTSIDE_THE_APP: [StepId; 3] = [StepId::Postgres, StepId::Redis, StepId::AppToken];

/// Pause before a token that is missing is read again, if the operator's longest pause is not
/// shorter.
const NO_TOKEN_PAUSE: Duration = Duration::from_secs(10);

/// Shortest pause between two passes of a deletion, if the operator's shortest one is not shorter.
const SHORTEST_PAUSE: Duration = Duration::from_millis(200);

/// The removal of a step, where a look that was refused is noted.
const REMOVAL: &str = "Removal";

/// What keeps a deletion from its end for now.
struct Obstacle {
    /// What is being done, or what is in the way.
    message: String,
    /// Deletion cannot go on without a person.
    blocked: bool,
    /// When to go on.
    again: Duration,
}

/// Undoes what the activation made, then lets the object go. Returns the pause before the next
/// reconcile.
///
/// # Errors
/// Only when Kubernetes could not be read or written.
pub async fn finalize(pass: &Pass<'_>, memory: &mut Memory) -> Result<Duration, Error> {
    let context = pass.context;
    let recheck = context.installation.timing.recheck;
    if !pass.activation.finalizers().iter().any(|f| f == FINALIZER) {
        context.waits.forget(&pass.owner.uid);
        return Ok(recheck);
    }
    let app = &pass.activation.spec.app;
    if pass.activation.annotations().get(ANNOTATION_FORGET) == Some(app) {
        forget(app, &tokens(pass, memory), context, pass.owner).await?;
        return Ok(recheck);
    }
    note_wrong_name(pass, memory, app);
    // Before anything is published: a status without them would be the last that is known of them.
    begin::recall_intents(&memory.wanted, pass);
    if made::is_nothing(pass, memory).await? {
        tracing::info!("nothing was made on Fly.io: the object goes");
        made::remove_stored(pass).await?;
        release(&tokens(pass, memory), context, pass.owner).await?;
        return Ok(recheck);
    }
    let cx = match read(pass, memory).await? {
        Ok(cx) => cx,
        Err(invalid) => return publish_progress(pass, memory, no_token(pass, &invalid)).await,
    };
    if let Some(obstacle) = reclaim(pass, &cx, memory).await {
        return publish_progress(pass, memory, obstacle).await;
    }
    for step in steps() {
        if memory.removals.contains_key(&step.id()) {
            continue;
        }
        if !context.fence.open() {
            return Ok(CLOSED_FENCE_PAUSE);
        }
        if let Err(obstacle) = remove(pass, step, &cx, memory).await {
            return publish_progress(pass, memory, obstacle).await;
        }
    }
    publish_retained(pass, memory);
    release(&tokens(pass, memory), context, pass.owner).await?;
    Ok(recheck)
}

/// The hint that the annotation `golive.dev/forget` names another app, if it does.
fn wrong_name(pass: &Pass<'_>, app: &str) -> Option<String> {
    let named = pass.activation.annotations().get(ANNOTATION_FORGET)?;
    let named = one_line(named, 128);
    Some(format!(
        "the annotation {ANNOTATION_FORGET} names {named}, and the app is {app}: nothing is forgotten"
    ))
}

/// Has a lost claim on the app made again before anything is removed.
async fn reclaim(pass: &Pass<'_>, cx: &Cx, memory: &mut Memory) -> Option<Obstacle> {
    if !memory.removals.is_empty() || !pass.context.fence.open() {
        return None;
    }
    let error = app::reclaim_lost(cx).await.err()?;
    memory.failed_removals = memory.failed_removals.saturating_add(1);
    let refused_again = is_refused_again(cx, StepId::App, &error);
    let step = (StepId::App, refused_again);
    Some(failed(pass, &error, step, memory.failed_removals))
}

/// Publishes once that the annotation `golive.dev/forget` names another app.
fn note_wrong_name(pass: &Pass<'_>, memory: &mut Memory, app: &str) {
    let Some(hint) = wrong_name(pass, app) else {
        return;
    };
    if memory.handled.forget.as_ref() != Some(&hint) {
        let event = events::warning("ForgetRefused", "Delete", &hint);
        pass.context.publish(pass.activation, vec![event]);
        memory.handled.forget = Some(hint);
    }
}

/// What a person may do when the token is of no use any more.
fn way_out(pass: &Pass<'_>, app: &str) -> String {
    let owner = pass.owner;
    format!(
        "put a valid token into the Secret {}, or leave everything on Fly.io as it is: kubectl -n {} annotate activation {} {ANNOTATION_FORGET}={app}",
        pass.activation.spec.token_secret_ref.name, owner.namespace, owner.name
    )
}

/// All steps, in the order of their removal.
fn steps() -> impl Iterator<Item = &'static dyn AnyStep> {
    let steps = PHASES.iter().flat_map(|phase| phase.steps);
    steps.rev().copied()
}

/// What the steps get. Only a missing or unreadable token makes it impossible: a spec that is invalid
/// otherwise can still be deleted.
async fn read(pass: &Pass<'_>, memory: &mut Memory) -> Result<Result<Cx, Vec<Invalid>>, Error> {
    let context = pass.context;
    let (kube, room) = (&context.kube, &context.room);
    let allowed = context.installation.secrets;
    let named = (pass.activation, &BTreeSet::new());
    let refs = Arc::new(refs::fetch(kube, named, allowed, room, None, false).await?);
    let versions = refs.versions().clone();
    context.secret_poller.read(pass.owner, versions);
    let key = &context.installation.fingerprint_key;
    let target = Target::parse(pass.activation, &refs, None, key);
    Ok(target.map(|target| begin::cx(pass, memory, (Arc::new(target), refs), false)))
}

fn no_token(pass: &Pass<'_>, invalid: &[Invalid]) -> Obstacle {
    let list: Vec<String> = invalid.iter().map(ToString::to_string).collect();
    Obstacle {
        message: format!(
            "nothing on Fly.io can be removed without the token ({}); {}",
            list.join("; "),
            way_out(pass, &pass.activation.spec.app)
        ),
        blocked: true,
        again: NO_TOKEN_PAUSE.min(pass.context.installation.timing.backoff_max),
    }
}

/// Removes what a step made. `Err` says why the deletion must stop there for now.
async fn remove(
    pass: &Pass<'_>,
    step: &dyn AnyStep,
    cx: &Cx,
    memory: &mut Memory,
) -> Result<(), Obstacle> {
    let id = step.id();
    let removed = step.remove(cx).await;
    if removed.is_ok() {
        absence::cleared(cx, Doubt::Refused, REMOVAL, id.as_str());
        memory.failed_removals = 0;
    }
    match removed {
        Ok(Removal::Pending { why, again }) => {
            if why.reason == Reason::OutcomeUnknown {
                // It was not found. From now on its create may still appear for as long.
                cx.intents
                    .lost(id, Instant::now(), cx.installation.timing.settle);
            } else {
                // It was found: the outcome of its create is known.
                memory.wanted.intents.settled(id);
            }
            Err(Obstacle {
                message: format!("{id}: {}", why.message),
                blocked: false,
                again,
            })
        }
        Ok(Removal::Blocked(why)) => {
            memory.wanted.intents.settled(id);
            Err(Obstacle {
                message: format!("{id}: {}", why.message),
                blocked: true,
                again: NO_TOKEN_PAUSE.min(cx.installation.timing.backoff_max),
            })
        }
        Ok(Removal::Gone) if let Some(obstacle) = perhaps_created(id, cx) => Err(obstacle),
        Ok(removal) => {
            memory.wanted.intents.settled(id);
            memory.removals.insert(id, removal);
            Ok(())
        }
        Err(error) => {
            memory.failed_removals = memory.failed_removals.saturating_add(1);
            telemetry::step(id.as_str()).in_scope(|| warn_of(&error));
            let refused_again = is_refused_again(cx, id, &error);
            Err(failed(
                pass,
                &error,
                (id, refused_again),
                memory.failed_removals,
            ))
        }
    }
}

/// A create of unknown outcome may still appear outside of the app: it is observed again
/// before it counts as gone.
fn perhaps_created(id: StepId, cx: &Cx) -> Option<Obstacle> {
    if !OUTSIDE_THE_APP.contains(&id) {
        return None;
    }
    let settle = cx.installation.timing.settle;
    let (slot, again) = cx.intents.lost(id, Instant::now(), settle)?;
    Some(Obstacle {
        message: format!(
            "{id}: the outcome of creating {} {} is unknown; Golive checks again before it treats it as gone",
            slot.kind, slot.name
        ),
        blocked: false,
        again: again.min(settle),
    })
}

/// Whether the token may not do it (403), and could not at the look before either. A second refusal
/// needs a person; that it may not even be the right token is known only later.
fn is_refused_again(cx: &Cx, id: StepId, error: &Error) -> bool {
    let Error::Fly { source, .. } = error else {
        return false;
    };
    if !source.is_forbidden() {
        absence::cleared(cx, Doubt::Refused, REMOVAL, id.as_str());
        return false;
    }
    let settle = cx.installation.timing.settle;
    absence::seen(cx, Doubt::Refused, REMOVAL, id.as_str()).is_none_or(|left| left < settle)
}

/// What follows from a failure of the step, whose token may have been refused before.
fn failed(
    pass: &Pass<'_>,
    error: &Error,
    (id, refused_again): (StepId, bool),
    failures: u32,
) -> Obstacle {
    let blocked = refused_again || error.retry() == Retry::OnChange;
    let mut message = format!("{id}: {}", crate::causes::chain(error));
    if blocked || error.reason() == Reason::TokenInvalid {
        message.push_str(&format!("; {}", way_out(pass, &pass.activation.spec.app)));
    }
    let timing = &pass.context.installation.timing;
    let again = match error.retry() {
        Retry::After(time) => time,
        _ => crate::clock::backoff(timing, failures).min(NO_TOKEN_PAUSE),
    };
    Obstacle {
        message,
        blocked,
        again,
    }
}

/// Publishes how far the deletion has come. Returns the pause before it goes on.
async fn publish_progress(
    pass: &Pass<'_>,
    memory: &Memory,
    obstacle: Obstacle,
) -> Result<Duration, Error> {
    let hint = wrong_name(pass, &pass.activation.spec.app);
    let message = [Some(obstacle.message), hint].into_iter().flatten();
    let result = PassResult {
        removing: Some(Removing {
            progress: made::progress(pass.old.as_ref(), &memory.removals),
            message: message.collect::<Vec<_>>().join("; "),
            blocked: obstacle.blocked,
        }),
        intents: memory.wanted.intents.open(),
        ..PassResult::default()
    };
    pass.publisher.publish(pass.old.as_ref(), &result).await?;
    let shortest = pass.context.installation.timing.backoff_min;
    Ok(obstacle.again.max(shortest.min(SHORTEST_PAUSE)))
}

fn publish_retained(pass: &Pass<'_>, memory: &Memory) {
    let removals = memory.removals.values();
    let retained = removals.filter_map(|removal| match removal {
        Removal::Retained(what) => Some(what.as_str()),
        _ => None,
    });
    let retained: Vec<&str> = retained.collect();
    if retained.is_empty() {
        return;
    }
    let note = format!(
        "retained as `deletionPolicy` requires: {}",
        retained.join(", ")
    );
    tracing::info!("{note}");
    let event = events::normal("Retained", "Delete", &note);
    pass.context.publish(pass.activation, vec![event]);
}

/// The Secrets that may carry our finalizer for this object.
fn tokens(pass: &Pass<'_>, memory: &Memory) -> BTreeSet<String> {
    let written = memory.published.status();
    finalizers::held(pass.activation, &memory.protected, written.as_ref())
}

/// Lets an object go, as somebody requests by annotation: what exists on Fly.io stays as it is.
/// `tokens` are the Secrets that may carry our finalizer for it.
///
/// # Errors
/// When Kubernetes could not be read or written.
pub async fn forget(
    app: &str,
    tokens: &BTreeSet<String>,
    context: &Context,
    owner: &Owner,
) -> Result<(), Error> {
    tracing::warn!(%app, "forgotten on request: what exists on Fly.io stays there");
    let (kube, namespace) = (&context.kube, &context.installation.own_namespace);
    // The next owner takes the claims over: this one is no longer there to give them back.
    let mut claimed = false;
    for app in [app, &names::postgres(app)] {
        if let Some(claim) = claim::read(kube, namespace, app).await?
            && claim.is_of(owner)
        {
            claimed = true;
            claim::retain(kube, namespace, app, owner, &claim, &claim.made).await?;
        }
    }
    app_token_secret::delete(kube, namespace, &owner.uid).await?;
    if !claimed {
        records::delete_all(kube, namespace, &owner.uid).await?;
    }
    image::delete(kube, namespace, &owner.uid).await?;
    watch::delete(kube, namespace, &owner.uid).await?;
    release(tokens, context, owner).await
}

async fn release(tokens: &BTreeSet<String>, context: &Context, owner: &Owner) -> Result<(), Error> {
    context.notifier.leave(owner).await;
    let own = &context.installation.own_namespace;
    outbox::delete(&context.kube, own, &owner.uid).await?;
    let turn = context.departures.turn(&owner.namespace).await;
    // The token last of all: until here it may still be needed.
    for secret in tokens {
        finalizers::release(secret, &context.kube, owner).await?;
    }
    finalizers::remove_finalizer(&context.kube, owner).await?;
    drop(turn);
    // A pass of a replica that does not know yet that it no longer leads may have protected it again.
    for secret in tokens {
        finalizers::release(secret, &context.kube, owner).await?;
    }
    context.waits.forget(&owner.uid);
    Ok(())
}
