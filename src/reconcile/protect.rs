//! Finalizers, before anything is changed: what Golive makes can then be deleted.

use std::{collections::BTreeSet, future::Future};

use crate::{
    api::StepId,
    error::Error,
    phase::roster,
    pipeline::Cx,
    reconcile::{begin::Pass, memory::Memory},
    store::finalizers,
};

/// Takes our finalizer off the Secrets that held the token before.
///
/// # Errors
/// When Kubernetes could not be read or written.
pub async fn release_former_tokens(pass: &Pass<'_>, memory: &mut Memory) -> Result<(), Error> {
    let current = &pass.activation.spec.token_secret_ref.name;
    let held = finalizers::held(pass.activation, &memory.protected, pass.old.as_ref());
    for former in held {
        if former != *current {
            finalizers::release(&former, &pass.context.kube, pass.owner).await?;
        }
    }
    memory.protected = BTreeSet::from([current.clone()]);
    Ok(())
}

/// The finalizer of an object of which people are told: what is stored about that must not outlive it.
///
/// # Errors
/// When Kubernetes could not be read or written.
pub async fn before_telling(pass: &Pass<'_>) -> Result<(), Error> {
    let context = pass.context;
    if !context.notifier.concerns(pass.activation) {
        return Ok(());
    }
    let added = finalizers::add_finalizer(pass.activation, &context.kube, pass.owner).await?;
    if let Some((before, after)) = added {
        pass.publisher.metadata_changed((&before, &after));
    }
    Ok(())
}

/// What must be done before anything is changed, beside the first phase, which only observes: the
/// finalizers, and an early list of the machines when the target is new.
pub fn before_changes<'a>(
    pass: &'a Pass<'a>,
    memory: &Memory,
    cx: &'a Cx,
    fresh: bool,
) -> impl Future<Output = Result<(), Error>> + Send + use<'a> {
    // The spec requests something else: its machines are next, once the checks have passed.
    let known = memory.wanted.steps.get(&StepId::Machines);
    let updates = known.is_some_and(|known| known.stamp != cx.target.stamp());
    async move {
        let ahead = async {
            if updates {
                roster::ahead(cx).await;
            }
        };
        let (finalizers, ()) = tokio::join!(add_finalizers(pass, fresh), ahead);
        finalizers
    }
}

async fn add_finalizers(pass: &Pass<'_>, fresh: bool) -> Result<(), Error> {
    let Pass {
        activation,
        context,
        owner,
        ..
    } = *pass;
    // Its own first: of an object that is gone by now, nobody would release the token's Secret.
    let moved = finalizers::add_finalizer(activation, &context.kube, owner).await?;
    if let Some((before, after)) = moved {
        pass.publisher.metadata_changed((&before, &after));
    }
    match fresh {
        true => finalizers::protect(activation, &context.kube, owner).await,
        false => Ok(()),
    }
}
