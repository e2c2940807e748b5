//! Reads what the object names, and parses the target.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
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
    redact,
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
    let target = match known {
        Some(known) => Ok(known),
        None => parse(pass, &refs, followed).await?,
    };
    if let Some(reading) = &mut memory.reading {
        reading.target = target.as_ref().ok().cloned();
    }
    Ok(Read {
        refs,
        fresh,
        target,
    })
}

/// Parses the target: a large one where that holds up nothing.
async fn parse(
    pass: &Pass<'_>,
    refs: &Arc<Refs>,
    followed: Option<Followed>,
) -> Result<Result<Arc<Target>, Vec<Invalid>>, Error> {
    let activation = pass.activation;
    let key = pass.context.installation.fingerprint_key.clone();
    let config = activation.spec.deploy.config.as_ref();
    let inline = config.and_then(|config| config.inline.as_ref());
    if !refs.is_large() && inline.is_none_or(|text| text.len() <= refs::LARGE) {
        let target = Target::parse(activation, refs, followed.as_ref(), &key);
        return Ok(target.map(Arc::new));
    }
    let (activation, refs) = (activation.clone(), refs.clone());
    let redactor = redact::current();
    let parse = move || {
        let parse = || Target::parse(&activation, &refs, followed.as_ref(), &key);
        redact::in_scope(redactor, parse).map(Arc::new)
    };
    let parsed = tokio::task::spawn_blocking(parse).await;
    parsed.map_err(|error| Error::Panicked(error.to_string()))
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

/// What the object names, and whether all of it was read now. The values of Secrets and ConfigMaps are
/// read by each pass and gone with it: they would fill the memory of this process. Decisions of people
/// are not read again only because a step observes Fly.io again, and whatever else follows a read of
/// everything does not follow that either: whatever reports a change has the next pass read all.
async fn refs(pass: &Pass<'_>, memory: &mut Memory) -> Result<(Arc<Refs>, bool), Error> {
    let activation = pass.activation;
    let mut hasher = DefaultHasher::new();
    activation.annotations().hash(&mut hasher);
    let annotations = hasher.finish();
    let touched = pass.context.waits.take_touched(&pass.reference());
    let large = memory.reading.as_ref();
    let large = large.is_some_and(|known| known.versions.is_large());
    let known = memory.reading.take().filter(|known| {
        !touched
            && known.at.elapsed() < TTL
            && known.generation == activation.metadata.generation
            && known.annotations == annotations
    });
    let at = known.as_ref().map_or_else(Instant::now, |known| known.at);
    let decisions = known.as_ref().map(|known| known.decisions.clone());
    let (kube, room) = (&pass.context.kube, &pass.context.room);
    let allowed = pass.context.installation.secrets;
    let named = (activation, &memory.also_needed);
    let refs = Arc::new(refs::fetch(kube, named, allowed, room, decisions, large).await?);
    let same = known.filter(|known| refs.is_same_version(&known.versions));
    if same.is_some() {
        memory.reading = same;
        return Ok((refs, false));
    }
    memory.reading = Some(Reading {
        at,
        generation: activation.metadata.generation,
        annotations,
        versions: refs.seen(),
        decisions: refs.decisions(),
        target: None,
    });
    Ok((refs, true))
}
