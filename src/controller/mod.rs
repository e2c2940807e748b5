//! The controller: what is watched, which change triggers which object, and the deadline and panic
//! guard of every reconcile. The topmost layer below the programs: may use everything. [`operator`]
//! is the life of the process, [`work`] what a leading process does; start reading there.

pub mod operator;
pub mod work;

use std::{collections::BTreeSet, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, TryStreamExt, future, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::{
        Controller, WatchStreamExt,
        controller::{self, Action},
        predicates,
        reflector::{self, ObjectRef, Store},
        utils::Predicate,
        watcher,
    },
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    api::{Activation, ActivationApproval},
    clock::backoff,
    error::{Error, Retry},
    plan::named::{RefKind, watched},
    process::{metrics::Outcome, server::Health, telemetry, workqueue::Object},
    reconcile::{self, context::Context, undecodable},
    redact,
    triggers::{Waits, Woken},
};

/// An Activation, or an object that cannot be decoded as one.
type Watched = DeserializeGuard<Activation>;

/// The scope of one controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The namespace; `None` for all.
    pub namespace: Option<String>,
    /// Number of concurrent reconciles.
    pub concurrency: u16,
}

impl Scope {
    fn api<K>(&self, client: &Client) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        match &self.namespace {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        }
    }
}

/// Runs the controller for one scope until `stop`, then waits for running reconciles.
pub async fn run(
    context: Arc<Context>,
    scope: Scope,
    woken: impl futures::Stream<Item = Woken> + Send + 'static,
    health: Health,
    stop: CancellationToken,
) {
    let (reader, writer) = reflector::store::<Watched>();
    let objects = activations(context.clone(), &scope, health, writer);
    let waits = context.waits.clone();
    let controller = Controller::for_stream(objects, reader.clone())
        .with_config(controller::Config::default().concurrency(scope.concurrency))
        .reconcile_on(woken.map(|object: Woken| rename(&object)))
        .watches(
            scope.api::<ActivationApproval>(&context.kube),
            watcher::Config::default(),
            move |approval| {
                let namespace = approval.namespace()?;
                let object = Woken::new(&approval.spec.activation).within(&namespace);
                waits.touch(&object);
                Some(rename(&object))
            },
        )
        .reconcile_on(named_by(
            metadata::<ConfigMap>(&scope, &context.kube, |_| {}),
            RefKind::ConfigMap,
            reader.clone(),
            context.waits.clone(),
        ));
    // Secrets are watched only with rights to single namespaces: no right to list all Secrets of a
    // cluster is required. Otherwise, and while the watch fails, each referenced Secret is polled by
    // name (`triggers/secrets.rs`).
    let controller = match scope.namespace.clone() {
        Some(namespace) => {
            let polled = context.secret_poller.clone();
            controller.reconcile_on(named_by(
                metadata::<Secret>(&scope, &context.kube, move |works| {
                    polled.set_watched(&namespace, works);
                }),
                RefKind::Secret,
                reader,
                context.waits.clone(),
            ))
        }
        None => controller,
    };
    let ended = context.clone();
    controller
        .graceful_shutdown_on(async move { stop.cancelled().await })
        .run(reconcile_one, requeue, context)
        .for_each(|result| {
            if let Err(error) = result {
                not_reconciled(&ended, error);
            }
            future::ready(())
        })
        .await;
}

/// The watch of Activations: fills the cache behind `writer`, forgets deleted objects, and yields
/// the changes that call for a reconcile.
fn activations(
    context: Arc<Context>,
    scope: &Scope,
    health: Health,
    writer: reflector::store::Writer<Watched>,
) -> impl futures::Stream<Item = Result<Watched, watcher::Error>> + Send + 'static {
    let cache = "activations";
    health.expect_cache(cache);
    let api = scope.api::<Watched>(&context.kube);
    watcher(api, watcher::Config::default())
        .default_backoff()
        .modify(|object| reconcile::begin::keep_authors(object.managed_fields_mut()))
        .inspect_ok(move |event| {
            if let watcher::Event::Delete(object) = event
                && let Some(namespace) = object.namespace()
            {
                context.forget(&namespace, &object.name_any());
            }
        })
        .reflect(writer)
        // `Store::wait_until_ready` cannot be used: in kube 5 it wakes only the last of several
        // waiters (`DelayedInit` polls one oneshot), and the controller waits for the same store.
        .inspect_ok(move |event| {
            if matches!(event, watcher::Event::InitDone) {
                health.cache_filled(cache);
            }
        })
        .applied_objects()
        // Ignores our own status writes. Finalizers and annotations do not change the generation.
        .predicate_filter(
            predicates::generation
                .combine(predicates::finalizers)
                .combine(predicates::annotations),
            kube::runtime::PredicateConfig::default(),
        )
}

/// Handles what the controller reports other than the result of a reconcile, which [`requeue`] has
/// logged.
fn not_reconciled(context: &Arc<Context>, error: controller::Error<Error, watcher::Error>) {
    match error {
        controller::Error::QueueError(source) => {
            let error = crate::causes::chain(&source);
            tracing::warn!(error, "a watch failed; it is retried");
        }
        // It was deleted during a pass, which stored it in memory afterwards, or never existed.
        controller::Error::ObjectNotFound(object) => {
            let (namespace, name) = (object.namespace.unwrap_or_default(), object.name);
            context.forget(&namespace, &name);
            let context = context.clone();
            tokio::spawn(async move {
                let reported = reconcile::gates::without_activation(&context, &namespace, &name);
                if let Err(error) = reported.await {
                    let error = crate::causes::chain(&error);
                    tracing::warn!(error, "approvals of no activation are not reported");
                }
            });
        }
        _ => {}
    }
}

/// The same reference for another type.
fn rename<A, B>(object: &ObjectRef<A>) -> ObjectRef<B>
where
    A: Resource,
    A::DynamicType: Eq + std::hash::Hash,
    B: Resource,
    B::DynamicType: Eq + std::hash::Hash + Default,
{
    let name = ObjectRef::new(&object.name);
    match &object.namespace {
        Some(namespace) => name.within(namespace),
        None => name,
    }
}

/// Metadata of one kind: values never enter the cache. Calls `works` with true when the watch is
/// established and with false when it fails.
fn metadata<K>(
    scope: &Scope,
    client: &Client,
    works: impl Fn(bool) + Send + 'static,
) -> impl futures::Stream<Item = Result<PartialObjectMeta<K>, watcher::Error>> + Send + 'static
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + Send
        + Sync
        + 'static,
{
    let api: Api<PartialObjectMeta<K>> = match &scope.namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    watcher(api, watcher::Config::default())
        .inspect(move |event| match event {
            Ok(watcher::Event::InitDone) => works(true),
            Ok(_) => {}
            Err(_) => works(false),
        })
        .default_backoff()
        .touched_objects()
        .predicate_filter(
            predicates::resource_version,
            kube::runtime::PredicateConfig::default(),
        )
}

/// The activations that reference a changed object.
fn named_by<K>(
    changed: impl futures::Stream<Item = Result<PartialObjectMeta<K>, watcher::Error>> + Send + 'static,
    kind: RefKind,
    activations: Store<Watched>,
    waits: Waits,
) -> impl futures::Stream<Item = ObjectRef<Watched>> + Send + 'static
where
    K: Resource<DynamicType = ()> + Send + 'static,
{
    changed
        .filter_map(|object| future::ready(object.ok()))
        .map(move |object| {
            let (namespace, name) = (object.namespace(), object.name_any());
            let named: Vec<ObjectRef<Watched>> = activations
                .state()
                .iter()
                .filter(|activation| activation.namespace() == namespace)
                .filter(|activation| {
                    activation.0.as_ref().is_ok_and(|activation| {
                        let names: BTreeSet<(RefKind, String)> = watched(activation);
                        names.contains(&(kind, name.clone()))
                    })
                })
                .map(|activation| ObjectRef::from_obj(activation.as_ref()))
                .collect();
            for object in &named {
                waits.touch(&rename(object));
            }
            stream::iter(named)
        })
        .flatten()
}

/// One reconcile with its deadline. A panic is caught, counted, and reported on this object alone.
async fn reconcile_one(object: Arc<Watched>, context: Arc<Context>) -> Result<Action, Error> {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let redactor = context.redactors.of(&namespace, &name);
    redact::scope(redactor, reconcile_redacted(object, context)).await
}

/// The same, with the redactor of the object.
async fn reconcile_redacted(object: Arc<Watched>, context: Arc<Context>) -> Result<Action, Error> {
    let key = Object::new(object.namespace().unwrap_or_default(), object.name_any());
    let running = context.metrics.reconcile_started(&key);
    let activation = match &object.0 {
        Ok(activation) => activation,
        Err(invalid) => {
            telemetry::object(&key.namespace, &key.name).in_scope(|| {
                tracing::warn!(
                    error = %invalid.error,
                    "the object cannot be decoded; it is not reconciled until it changes"
                );
            });
            let pass = undecodable::pass(&object, invalid, &context);
            let result = run_guarded(context.installation.timing.deadline, pass).await;
            running.finished(Outcome::Terminal);
            // Nothing changes until the object does.
            return result.map(|()| Action::await_change());
        }
    };
    let span = telemetry::object(&key.namespace, &key.name);
    let pass = run_guarded(
        context.installation.timing.deadline,
        reconcile::reconcile(activation, &context),
    );
    let result = pass.instrument(span.clone()).await;
    context
        .metrics
        .reconciled_at(&key, context.installation.clock.now());
    match result {
        Ok(next) => {
            running.finished(Outcome::RequeueAfter);
            context.metrics.queued(&key, next);
            Ok(Action::requeue(next))
        }
        Err(error) => {
            let outcome = match (&error, error.retry()) {
                (Error::Panicked(_), _) => Outcome::Panicked,
                (_, Retry::OnChange) => Outcome::Terminal,
                _ => Outcome::Error,
            };
            running.finished(outcome);
            let reported = tokio::time::timeout(
                Duration::from_secs(10),
                reconcile::report_failure(activation, &context, &error),
            );
            if reported.instrument(span).await.is_err() {
                tracing::warn!("the failure was not reported in time");
            }
            Err(error)
        }
    }
}

/// Runs a pass within its deadline, and turns a panic into an error of this object.
async fn run_guarded<T>(
    deadline: Duration,
    pass: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let pass = AssertUnwindSafe(tokio::time::timeout(deadline, pass));
    match pass.catch_unwind().await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(Error::Deadline(deadline)),
        Err(panic) => Err(Error::Panicked(panic_text(panic.as_ref()))),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    redact::redact(&text).into_owned()
}

/// When to reconcile again after a failure of the whole pass.
fn requeue(object: Arc<Watched>, error: &Error, context: Arc<Context>) -> Action {
    let key = Object::new(object.namespace().unwrap_or_default(), object.name_any());
    let failures = context.memories.failures(&key.namespace, &key.name);
    let pause = match error.retry() {
        Retry::After(time) => time,
        _ => backoff(&context.installation.timing, failures.min(6)),
    };
    let redactor = context.redactors.of(&key.namespace, &key.name);
    let span = telemetry::object(&key.namespace, &key.name);
    redact::in_scope(redactor, || {
        span.in_scope(|| {
            tracing::warn!(
                error = %crate::causes::chain(error), again_in = ?pause, "the reconcile failed"
            );
        });
    });
    context.metrics.retried(&key, pause);
    Action::requeue(pause)
}

#[cfg(test)]
#[allow(clippy::panic)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_in_a_pass_is_an_error_of_its_object_and_says_what_it_was() {
        let ended = run_guarded(Duration::from_secs(60), async {
            tokio::task::yield_now().await;
            if std::hint::black_box(true) {
                panic!("index {} is out of bounds", 7);
            }
            Ok(Duration::ZERO)
        })
        .await;
        let Err(error @ Error::Panicked(_)) = ended else {
            unreachable!("{ended:?}")
        };
        assert!(error.to_string().contains("index 7 is out of bounds"));
    }

    #[tokio::test]
    async fn a_panic_that_quotes_a_value_shows_none_though_the_value_is_gone_with_the_pass() {
        let pass = run_guarded(Duration::from_secs(60), async {
            let value = redact::guard("canary-of-a-panic-4f1c".into());
            if std::hint::black_box(true) {
                panic!("no column {}", value.expose_secret());
            }
            Ok(Duration::ZERO)
        });
        let ended = redact::scope(redact::Redactor::default(), pass).await;
        let Err(error) = ended else {
            unreachable!("{ended:?}")
        };
        assert_eq!(
            error.to_string(),
            "the reconcile panicked: no column [redacted]"
        );
        let later = redact::redact("canary-of-a-panic-4f1c");
        assert_eq!(later, "canary-of-a-panic-4f1c", "another object's text");
    }

    #[tokio::test]
    async fn a_pass_that_never_ends_is_ended_at_its_deadline() {
        let deadline = Duration::from_millis(20);
        let ended = run_guarded(deadline, std::future::pending::<Result<(), Error>>()).await;
        assert!(matches!(ended, Err(Error::Deadline(after)) if after == deadline));
    }
}
