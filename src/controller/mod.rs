//! The controller: what is watched, which change makes which object due, and the passes of what the
//! queue gives out. The topmost layer below the programs: may use everything. [`operator`] is the life
//! of the process, [`work`] what a leading process does; start reading there.
//!
//! `watch` and `intake` tell the queue (`process::workqueue`) what is due and of what kind; `dispatch`
//! begins what the queue gives out; `cache` has the objects; `pass` and `guarded` are one pass to its end.

mod cache;
mod dispatch;
mod guarded;
mod intake;
pub mod operator;
mod pass;
mod watch;
pub mod work;

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::{
    FutureExt, StreamExt,
    stream::{self, BoxStream},
};
use tokio_util::sync::CancellationToken;

use crate::{
    process::{
        server::Health,
        workqueue::{Job, Limits, Object},
    },
    reconcile::context::Context,
    triggers::Wakes,
};
use cache::Objects;
use intake::{Seen, Watched};

/// The cache of Activations, as the readiness probe names it.
const CACHE: &str = "activations";

/// Pause before an object is tried again whose pass could not be brought to its end.
const AFTER_A_BUG: Duration = Duration::from_secs(60);

/// What is watched.
pub struct Scope {
    /// The namespace; `None` for all.
    pub namespace: Option<String>,
    /// Objects in it that are woken.
    pub wakes: Wakes,
}

/// The cache of one scope.
struct Cache {
    namespace: Option<String>,
    objects: Objects,
}

/// Runs the controller until `stop`, with at most `workers` passes at once, then waits for running
/// ones.
pub async fn run(
    context: Arc<Context>,
    workers: u16,
    scopes: Vec<Scope>,
    health: Health,
    stop: CancellationToken,
) {
    health.expect_cache(CACHE);
    let single = matches!(scopes.as_slice(), [only] if only.namespace.is_some());
    let metrics = context.metrics.clone();
    let queue = metrics.queue();
    queue.limit(Limits {
        workers: workers.into(),
        single,
    });
    let mut caches = Vec::new();
    let mut changes = stream::SelectAll::new();
    for scope in scopes {
        let namespace = scope.namespace.clone();
        let (objects, seen) = watches(&context, scope);
        changes.push(seen.map(move |seen| (namespace.clone(), seen)).boxed());
        caches.push(objects);
    }
    let caches: Arc<[Cache]> = caches.into();
    let apply = |(namespace, seen): (Option<String>, Seen)| match seen {
        Seen::Due(object, kind) => {
            metrics.queued(&object, kind, Duration::ZERO);
        }
        Seen::Gone(object) => context.forget(&object.namespace, &object.name),
        Seen::Listed => {
            queue.open(namespace.as_deref());
            health.cache_filled(CACHE);
        }
    };
    let begin = |job: Job| {
        let running = metrics.reconcile_started(&job);
        let (context, caches) = (context.clone(), caches.clone());
        async move {
            let key = &job.object;
            // On the heap: a pass is too large for a worker's stack.
            let whole = Box::pin(async {
                if let Some(object) = find(&caches, key) {
                    pass::run(key, &object, &context, &running).await;
                }
                if find(&caches, key).is_none() {
                    pass::of_nothing(key, &context).await;
                }
            });
            if AssertUnwindSafe(whole).catch_unwind().await.is_err() {
                tracing::error!(object = %key, "a bug: the end of a pass panicked");
                context.metrics.retried(key, AFTER_A_BUG);
            }
        }
    };
    dispatch::run(queue, changes, apply, begin, stop).await;
}

/// The watches of one scope, and its cache.
fn watches(context: &Arc<Context>, scope: Scope) -> (Cache, BoxStream<'static, Seen>) {
    let Scope { namespace, wakes } = scope;
    let (kube, waits) = (&context.kube, &context.waits);
    let objects = Objects::default();
    let woken = wakes.map(|(object, kind)| {
        let namespace = object.namespace.unwrap_or_default();
        Seen::Due(Object::new(namespace, object.name), kind)
    });
    let poller = context.secret_poller.clone();
    let (of_maps, of_secrets) = (objects.clone(), objects.clone());
    let seen = stream::select_all([
        watch::activations(&namespace, kube, objects.clone()).boxed(),
        woken.boxed(),
        watch::approvals(&namespace, kube, waits.clone()).boxed(),
        watch::config_maps(&namespace, kube, of_maps, waits.clone()).boxed(),
        watch::secrets(&namespace, kube, poller, of_secrets, waits.clone()).boxed(),
    ]);
    (Cache { namespace, objects }, seen.boxed())
}

/// The object, as its watch has seen it last.
fn find(caches: &[Cache], key: &Object) -> Option<Arc<Watched>> {
    let mut caches = caches.iter();
    caches.find_map(|cache| {
        let namespace = cache.namespace.as_ref();
        let here = namespace.is_none_or(|namespace| *namespace == key.namespace);
        cache.objects.get(key).filter(|_| here)
    })
}
