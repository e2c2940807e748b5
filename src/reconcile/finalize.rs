//! Deletion: steps are undone in reverse order, with progress in a condition, and the object goes
//! only when everything that the deletion policy names is observed to be gone.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use kube::ResourceExt;

use crate::{
    api::{ANNOTATION_FORGET, Activation, FINALIZER},
    error::{Error, Retry},
    phase::{PHASES, deploy::release::records, names, provision::app_token_secret},
    pipeline::{AnyStep, Memory, Owner, Removal, StepId, memory::backoff},
    plan::{Target, refs},
    reconcile::{self, context::Context, publish::Teller},
    status::{self, Removing, Seen},
    store::{claim, finalizers as credentials, image as store},
};

/// Steps whose things do not go with the app: one that was perhaps created a moment ago, and is not
/// shown yet, would be left behind.
const OUTSIDE: [StepId; 3] = [StepId::Postgres, StepId::Redis, StepId::AppToken];

/// Undoes what the activation made, then lets the object go. Answers with the time of the next
/// look.
///
/// # Errors
/// Only when Kubernetes could not be read or written.
pub async fn finalize(
    activation: &Activation,
    context: &Context,
    owner: &Owner,
    memory: &mut Memory,
) -> Result<Duration, Error> {
    if !activation.finalizers().iter().any(|f| f == FINALIZER) {
        context.waits.forget(&owner.uid);
        return Ok(context.installation.timing.recheck);
    }
    let forget = activation.annotations().get(ANNOTATION_FORGET);
    if forget == Some(&activation.spec.app) {
        let tokens =
            credentials::held(activation, &memory.protected, memory.told.status().as_ref());
        self::forget(&activation.spec.app, &tokens, context, owner).await?;
        return Ok(context.installation.timing.recheck);
    }
    let steps: Vec<&'static dyn AnyStep> = PHASES
        .iter()
        .flat_map(|phase| phase.steps)
        .rev()
        .copied()
        .collect();
    let refs = Arc::new(refs::fetch(&context.kube, activation).await?);
    context.secret_looks.read(owner, refs.versions().clone());
    let old = memory.told.status().or_else(|| status::own(activation));
    // Only a missing or unreadable token makes a target impossible: deletion works with a spec
    // that is invalid otherwise.
    let target = match Target::parse(
        activation,
        &refs,
        None,
        &context.installation.fingerprint_key,
    ) {
        Ok(target) => Arc::new(target),
        Err(invalid) => {
            let list: Vec<String> = invalid.iter().map(ToString::to_string).collect();
            let text = format!(
                "nothing on Fly.io can be removed without the token ({}); put it back, or annotate the object with {ANNOTATION_FORGET}={} to leave everything on Fly.io as it is",
                list.join("; "),
                activation.spec.app
            );
            let again = Duration::from_secs(10).min(context.installation.timing.backoff_max);
            return stop(
                activation, context, owner, memory, old, &steps, text, true, again,
            )
            .await;
        }
    };
    let cx = reconcile::cx(
        context,
        owner,
        reconcile::origin(activation),
        memory,
        (target, refs),
        old.as_ref(),
        false,
    );
    reconcile::recall_intents(memory, old.as_ref());
    for step in &steps {
        if memory.removals.contains_key(&step.id()) {
            continue;
        }
        if !context.fence.open() {
            return Ok(Duration::from_secs(1));
        }
        match step.remove(&cx).await {
            Ok(Removal::Pending { why, again }) => {
                // It was found: what became of its create is known.
                memory.intents.settled(step.id());
                let text = format!("{}: {}", step.id(), why.message);
                return stop(
                    activation, context, owner, memory, old, &steps, text, false, again,
                )
                .await;
            }
            Ok(Removal::Gone)
                if OUTSIDE.contains(&step.id())
                    && let Some((what, again)) = cx.intents.lost(
                        step.id(),
                        Instant::now(),
                        cx.installation.timing.settle,
                    ) =>
            {
                let text = format!(
                    "{}: the outcome of creating {} {} is unknown; it is looked for again before it counts as gone",
                    step.id(),
                    what.kind,
                    what.name
                );
                return stop(
                    activation, context, owner, memory, old, &steps, text, false, again,
                )
                .await;
            }
            Ok(removal) => {
                memory.intents.settled(step.id());
                memory.removals.insert(step.id(), removal);
            }
            Err(error) => {
                memory.failures += 1;
                let blocked = error.retry() == Retry::OnChange;
                let mut text = format!("{}: {}", step.id(), crate::causes::chain(&error));
                if blocked {
                    text.push_str(&format!(
                        "; mend the token or the app, or annotate the object with {ANNOTATION_FORGET}={} to leave everything on Fly.io as it is",
                        activation.spec.app
                    ));
                }
                let again = match error.retry() {
                    Retry::After(time) => time,
                    _ => backoff(&context.installation.timing, memory.failures),
                };
                return stop(
                    activation, context, owner, memory, old, &steps, text, blocked, again,
                )
                .await;
            }
        }
    }
    let retained: Vec<String> = memory
        .removals
        .values()
        .filter_map(|removal| match removal {
            Removal::Retained(what) => Some(what.clone()),
            _ => None,
        })
        .collect();
    if !retained.is_empty() {
        let note = format!("retained as `deletionPolicy` asks: {}", retained.join(", "));
        context.publish(activation, vec![retained_event(&note)]);
    }
    let tokens = credentials::held(activation, &memory.protected, memory.told.status().as_ref());
    release(&tokens, context, owner).await?;
    Ok(context.installation.timing.recheck)
}

/// Lets an object go, as somebody asks by annotation: what exists on Fly.io stays as it is. `tokens`
/// are the Secrets that may carry our finalizer for it.
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
    // The claims go over to whoever comes next: their owner is no longer there to give them back.
    for app in [app, &names::postgres(app)] {
        let (kube, namespace) = (&context.kube, &context.installation.own_namespace);
        if let Some(claim) = claim::read(kube, namespace, app).await?
            && claim.is_of(owner)
        {
            claim::retain(kube, namespace, app, owner, &claim, &claim.made).await?;
        }
    }
    app_token_secret::delete(
        &context.kube,
        &context.installation.own_namespace,
        &owner.uid,
    )
    .await?;
    records::delete_all(
        &context.kube,
        &context.installation.own_namespace,
        &owner.uid,
    )
    .await?;
    store::delete(
        &context.kube,
        &context.installation.own_namespace,
        &owner.uid,
    )
    .await?;
    release(tokens, context, owner).await
}

fn retained_event(note: &str) -> kube::runtime::events::Event {
    kube::runtime::events::Event {
        type_: kube::runtime::events::EventType::Normal,
        reason: "Retained".to_owned(),
        note: Some(crate::api::status::one_line(note, 1024)),
        action: "Delete".to_owned(),
        secondary: None,
    }
}

async fn release(tokens: &BTreeSet<String>, context: &Context, owner: &Owner) -> Result<(), Error> {
    // The token last of all: until here it may still be needed.
    for secret in tokens {
        credentials::release(secret, &context.kube, owner).await?;
    }
    credentials::remove_finalizer(&context.kube, owner).await?;
    context.waits.forget(&owner.uid);
    Ok(())
}

#[expect(
    clippy::too_many_arguments,
    reason = "one private place tells how far a deletion has come"
)]
async fn stop(
    activation: &Activation,
    context: &Context,
    owner: &Owner,
    memory: &mut Memory,
    old: Option<crate::api::ActivationStatus>,
    steps: &[&'static dyn AnyStep],
    message: String,
    blocked: bool,
    again: Duration,
) -> Result<Duration, Error> {
    let seen = Seen {
        removing: Some(Removing {
            done: memory.removals.len(),
            all: steps.len(),
            message,
            blocked,
        }),
        intents: memory.intents.open(),
        ..Seen::default()
    };
    let teller = Teller {
        activation,
        context,
        owner,
        told: memory.told.clone(),
    };
    teller.write(old.as_ref(), &seen).await?;
    Ok(again.max(
        context
            .installation
            .timing
            .backoff_min
            .min(Duration::from_millis(200)),
    ))
}
