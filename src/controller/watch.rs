//! The watches of one scope, and what each change makes due.

use futures::{Stream, StreamExt, future, stream, stream::BoxStream};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::PartialObjectMeta,
    runtime::{WatchStreamExt, predicates, reflector::ObjectRef, watcher},
};

use super::{
    cache::Objects,
    intake::{Intake, Seen, Watched},
};
use crate::{
    api::ActivationApproval,
    plan::named::RefKind,
    process::workqueue::{Kind, Object},
    reconcile::begin,
    triggers::{Waits, Woken, secrets::SecretPoller},
};

/// One watched namespace; `None`: all.
pub(super) type Namespace = Option<String>;

fn api<K>(namespace: &Namespace, client: &Client) -> Api<K>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    K::DynamicType: Default,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// A watch of kind `K` that goes on for ever. An API server, or a proxy before it, may refuse a watch
/// that is too old with the status 410 instead of sending the error as an event: the client would ask
/// for the same version again and again, so the watch begins anew with a list
/// (<https://kubernetes.io/docs/reference/using-api/api-concepts/#410-gone-responses>).
fn watch<K>(api: Api<K>) -> impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send
where
    K: Resource<DynamicType: Send + Sync + Clone>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let next = move |open: Option<BoxStream<'static, _>>| {
        let api = api.clone();
        async move {
            let begin = || watcher(api, watcher::Config::default()).boxed();
            let mut open = open.unwrap_or_else(begin);
            let event = open.next().await?;
            let keep = !event.as_ref().is_err_and(is_too_old);
            Some((event, keep.then_some(open)))
        }
    };
    stream::unfold(None, next).default_backoff()
}

fn is_too_old(error: &watcher::Error) -> bool {
    const GONE: u16 = 410;
    match error {
        watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.code == GONE,
        _ => false,
    }
}

/// The watch of Activations: fills the cache `objects`, and yields what follows from each
/// change.
pub(super) fn activations(
    namespace: &Namespace,
    client: &Client,
    objects: Objects,
) -> impl Stream<Item = Seen> + Send + use<> {
    let mut intake = Intake::default();
    watch(api::<Watched>(namespace, client))
        .modify(|object| begin::keep_authors(object.managed_fields_mut()))
        .map(move |event| match event {
            Ok(event) => {
                objects.take(&event);
                intake.take(&event)
            }
            Err(source) => {
                let error = crate::causes::chain(&source);
                tracing::warn!(error, "a watch failed; it is retried");
                Vec::new()
            }
        })
        .flat_map(stream::iter)
}

/// The objects that a new or changed decision of a person is about.
pub(super) fn approvals(
    namespace: &Namespace,
    client: &Client,
    waits: Waits,
) -> impl Stream<Item = Seen> + Send + use<> {
    let api = api::<ActivationApproval>(namespace, client);
    watch(api).touched_objects().filter_map(move |approval| {
        let named = approval.ok().and_then(|approval| {
            let namespace = approval.namespace()?;
            let name = approval.spec.activation;
            waits.touch(&Woken::new(&name).within(&namespace));
            Some(Seen::Due(Object::new(namespace, name), Kind::Change))
        });
        future::ready(named)
    })
}

/// The objects that name a changed ConfigMap.
pub(super) fn config_maps(
    namespace: &Namespace,
    client: &Client,
    activations: Objects,
    waits: Waits,
) -> impl Stream<Item = Seen> + Send + use<> {
    let changed = metadata::<ConfigMap, _>(namespace, client, |_| {});
    named_by(changed, RefKind::ConfigMap, activations, waits)
}

/// The objects that name a changed Secret. Only with rights to single namespaces: no right to list all
/// Secrets of a cluster is required. Otherwise, and while the watch fails, each referenced Secret is
/// polled by name (`triggers/secrets.rs`).
pub(super) fn secrets(
    namespace: &Namespace,
    client: &Client,
    poller: SecretPoller,
    activations: Objects,
    waits: Waits,
) -> impl Stream<Item = Seen> + Send + use<> {
    let watches = namespace.clone().map(|name| {
        let changed = metadata::<Secret, _>(namespace, client, move |works| {
            poller.set_watched(&name, works);
        });
        named_by(changed, RefKind::Secret, activations, waits)
    });
    stream::iter(watches).flatten()
}

/// Metadata of one kind: values never enter the cache. Calls `works` with true when the watch is
/// established and with false when it fails.
fn metadata<K, W>(
    namespace: &Namespace,
    client: &Client,
    works: W,
) -> impl Stream<Item = Result<PartialObjectMeta<K>, watcher::Error>> + Send + use<K, W>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + Send
        + Sync
        + 'static,
    W: Fn(bool) + Send + 'static,
{
    let api = api::<PartialObjectMeta<K>>(namespace, client);
    watch(api)
        .inspect(move |event| match event {
            Ok(watcher::Event::InitDone) => works(true),
            Ok(_) => {}
            Err(_) => works(false),
        })
        .touched_objects()
        .predicate_filter(
            predicates::resource_version,
            kube::runtime::PredicateConfig::default(),
        )
}

/// The activations that name a changed object.
fn named_by<K>(
    changed: impl Stream<Item = Result<PartialObjectMeta<K>, watcher::Error>> + Send + 'static,
    kind: RefKind,
    activations: Objects,
    waits: Waits,
) -> impl Stream<Item = Seen> + Send + 'static
where
    K: Resource<DynamicType = ()> + Send + 'static,
{
    changed
        .filter_map(|object| future::ready(object.ok()))
        .map(move |object| {
            let (namespace, name) = (object.namespace(), object.name_any());
            let named = activations.naming(&namespace.unwrap_or_default(), kind, &name);
            for object in &named {
                waits.touch(&ObjectRef::new(&object.name).within(&object.namespace));
            }
            stream::iter(
                named
                    .into_iter()
                    .map(|object| Seen::Due(object, Kind::Change)),
            )
        })
        .flatten()
}
