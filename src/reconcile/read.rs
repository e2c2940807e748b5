//! Reads what the object names, and parses the target.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use kube::ResourceExt;

use crate::{
    error::Error,
    phase::releases,
    plan::{
        Target,
        invalid::Invalid,
        refs::{self, Refs},
        source::{self, decide::Followed},
    },
    reconcile::{
        begin::{self, Pass},
        memory::{Memory, Reading},
    },
    store::{finalizers, image::Stored},
};

/// TTL of what an object names, unless something reports a change: by default the slowest reporter,
/// the poll of Secrets by name, takes as long.
const TTL: Duration = Duration::from_secs(15);

/// What the object names, and its target.
pub struct Read {
    /// The Secrets, ConfigMaps and approvals.
    pub refs: Arc<Refs>,
    /// Whether they were read from Kubernetes in this pass.
    pub fresh: bool,
    /// The wanted target, or everything that is wrong with the object.
    pub target: Result<Arc<Target>, Vec<Invalid>>,
}

/// Reads what the object names, and parses the target with it.
///
/// # Errors
/// When Kubernetes could not be read or written.
pub async fn read(pass: &Pass<'_>, memory: &mut Memory) -> Result<Read, Error> {
    let (refs, fresh) = refs(pass, memory).await?;
    let Pass {
        activation,
        context,
        owner,
        ..
    } = *pass;
    context.secret_poller.read(owner, refs.versions().clone());
    let follows = activation.spec.deploy.source.is_some();
    let followed = match follows {
        true => follow(pass, memory, &refs).await?,
        false => {
            memory.source = source::Watch::default();
            None
        }
    };
    // The same inputs are the same target.
    let known = memory.reading.as_ref().filter(|_| !follows);
    let known = known.and_then(|reading| reading.target.clone());
    let key = &context.installation.fingerprint_key;
    let parse = || Target::parse(activation, &refs, followed.as_ref(), key).map(Arc::new);
    let target = known.map_or_else(parse, Ok);
    if let (Some(reading), Ok(target)) = (&mut memory.reading, &target) {
        reading.target = Some(target.clone());
    }
    Ok(Read {
        refs,
        fresh,
        target,
    })
}

/// The image of `deploy.source`, chosen before there is a target.
async fn follow(
    pass: &Pass<'_>,
    memory: &mut Memory,
    refs: &Arc<Refs>,
) -> Result<Option<Followed>, Error> {
    let context = pass.context;
    // The chosen image is stored: the object must not go before it can be removed.
    finalizers::add_finalizer(pass.activation, &context.kube, pass.owner).await?;
    let registry = source::Registry {
        kube: &context.kube,
        own_namespace: &context.installation.own_namespace,
        fly: &context.fly,
        outside: &begin::outside(pass, &memory.wanted),
        timing: &context.installation.timing,
        interval_min: context.source_interval_min,
        key: &context.installation.fingerprint_key,
        may_write: &|| context.fence.open(),
    };
    let (facts, journal) = (&memory.wanted.facts, &memory.wanted.journal);
    let serving = releases::store::known_serving_digest(facts, journal);
    // Shared with the step Image, which stores what it resolves in the same place.
    let stored = journal.get::<Stored>();
    journal.clear::<Stored>();
    memory.source.stored = stored.map(|stored| (*stored).clone());
    let followed = source::follow(
        &registry,
        pass.owner,
        pass.activation,
        refs,
        &mut memory.source,
        serving.as_deref(),
    )
    .await;
    if let Some(stored) = memory.source.stored.take() {
        memory.wanted.journal.set(stored);
    }
    followed
}

/// What the object names, and whether it was read now. It is not read again only because a step
/// observes Fly.io again: that would be six reads each time. Whatever reports a change has the next
/// pass read.
async fn refs(pass: &Pass<'_>, memory: &mut Memory) -> Result<(Arc<Refs>, bool), Error> {
    let activation = pass.activation;
    let touched = pass.context.waits.take_touched(&pass.reference());
    let known = memory.reading.take().filter(|known| {
        !touched
            && known.at.elapsed() < TTL
            && known.generation == activation.metadata.generation
            && known.annotations == *activation.annotations()
    });
    if let Some(known) = known {
        let refs = known.refs.clone();
        memory.reading = Some(known);
        return Ok((refs, false));
    }
    let at = Instant::now();
    let refs = Arc::new(refs::fetch(&pass.context.kube, activation).await?);
    memory.reading = Some(Reading {
        at,
        generation: activation.metadata.generation,
        annotations: activation.annotations().clone(),
        refs: refs.clone(),
        target: None,
    });
    Ok((refs, true))
}
