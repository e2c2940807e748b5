//! Connection of a command to the cluster: kubectl's flags, and the identity of the user.

use std::path::PathBuf;

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::{
    Api, Client, Config,
    api::{ListParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::{DeserializeGuard, error_boundary::InvalidObject},
};
use serde_json::Value;

use super::output::show;
use super::refused::{Doing, Refused, Role};
use super::style::Line;
use crate::{
    api::Activation,
    clock::ServerClock,
    process::{kube_client, metrics::Metrics},
};

/// The field manager of what the plugin writes.
const FIELD_MANAGER: &str = "kubectl-golive";

/// kubectl's flags for cluster, namespace and user.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Cluster")]
pub(super) struct Connection {
    /// Namespace of the Activation. Default: the one of the context.
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,

    /// Context of the kubeconfig.
    #[arg(long, value_name = "NAME")]
    context: Option<String>,

    /// The kubeconfig. Default: `KUBECONFIG`, else `~/.kube/config`.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// User to impersonate.
    #[arg(long = "as", value_name = "USER")]
    user: Option<String>,

    /// Group to impersonate. Repeatable.
    #[arg(long = "as-group", value_name = "GROUP", requires = "user")]
    group: Vec<String>,
}

/// Which Activations a command is about.
#[derive(Debug, clap::Args)]
pub(super) struct Selection {
    /// All namespaces.
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,

    /// Only Activations with these labels, as in kubectl: `team=web,tier!=test`.
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
}

impl Selection {
    /// Whether it is about all namespaces.
    pub(super) fn everywhere(&self) -> bool {
        self.all_namespaces
    }

    /// The selection, for a list or a watch.
    pub(super) fn labels(&self) -> Option<&str> {
        self.selector.as_deref()
    }
}

/// A client, a namespace, and the time.
pub(super) struct Connected {
    /// The client.
    pub(super) kube: Client,
    /// The namespace.
    pub(super) namespace: String,
    clock: ServerClock,
}

/// Why there is no connection, or no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("cannot find a configuration for the cluster; name one with --kubeconfig")]
    Config(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("cannot create a client for the cluster")]
    Client(#[source] Box<kube::Error>),
    #[error("the cluster returned no user name")]
    Nobody,
    #[error("there is no Activation {name} in namespace {namespace}; see `kubectl golive list -A`")]
    NoActivation { name: String, namespace: String },
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl Connection {
    /// Reads the kubeconfig and makes a client; sends nothing yet.
    pub(super) async fn open(&self) -> Result<Connected, Error> {
        let options = KubeConfigOptions {
            context: self.context.clone(),
            ..KubeConfigOptions::default()
        };
        let refuse = |error: Box<dyn std::error::Error + Send + Sync>| Error::Config(error);
        let mut config = match (&self.kubeconfig, &self.context) {
            (Some(path), _) => {
                let read = Kubeconfig::read_from(path).map_err(|error| refuse(error.into()))?;
                Config::from_custom_kubeconfig(read, &options)
                    .await
                    .map_err(|error| refuse(error.into()))?
            }
            (None, Some(_)) => Config::from_kubeconfig(&options)
                .await
                .map_err(|error| refuse(error.into()))?,
            (None, None) => Config::infer()
                .await
                .map_err(|error| refuse(error.into()))?,
        };
        if let Some(user) = &self.user {
            config.auth_info.impersonate = Some(user.clone());
            config.auth_info.impersonate_groups = Some(self.group.clone());
        }
        let namespace = self
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        let clock = ServerClock::of_kubernetes();
        let kube = kube_client::build(config, &Metrics::new(), &clock)
            .map_err(|error| Error::Client(Box::new(error)))?;
        Ok(Connected {
            kube,
            namespace,
            clock,
        })
    }
}

impl Connected {
    /// The API server's time; this machine's before the first answer.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The user's name, as the API server knows it.
    pub(super) async fn user(&self) -> Result<String, Error> {
        let api: Api<SelfSubjectReview> = Api::all(self.kube.clone());
        let review = api
            .create(&PostParams::default(), &SelfSubjectReview::default())
            .await
            .map_err(|error| {
                let doing = self.doing("read your user name", Role::View);
                Refused::new(doing, error, None)
            })?;
        let user = review.status.and_then(|status| status.user_info);
        user.and_then(|user| user.username).ok_or(Error::Nobody)
    }

    /// What is being done in the namespace of the command.
    pub(super) fn doing(&self, what: &str, role: Role) -> Doing {
        Doing {
            what: what.to_owned(),
            role,
            namespace: Some(self.namespace.clone()),
        }
    }

    /// The failure of a request, with the next step.
    pub(super) async fn refused(&self, doing: Doing, error: kube::Error) -> Refused {
        let forbidden = matches!(&error, kube::Error::Api(status) if status.code == 403);
        let user = if forbidden {
            self.user().await.ok()
        } else {
            None
        };
        Refused::new(doing, error, user.as_deref())
    }

    /// Activations of the namespace of the command.
    pub(super) fn activations(&self) -> Api<Activation> {
        Api::namespaced(self.kube.clone(), &self.namespace)
    }

    /// One Activation.
    pub(super) async fn activation(&self, name: &str) -> Result<Activation, Error> {
        match self.activations().get(name).await {
            Ok(found) => Ok(found),
            Err(error) => {
                let doing = self.doing(&format!("read Activation {name}"), Role::View);
                let refused = self.refused(doing, error).await;
                if refused.is_not_found() {
                    return Err(Error::NoActivation {
                        name: name.to_owned(),
                        namespace: self.namespace.clone(),
                    });
                }
                Err(refused.into())
            }
        }
    }

    /// Where Activations are listed and watched. One that this program cannot read hides no other.
    pub(super) fn selected(&self, selection: &Selection) -> Api<DeserializeGuard<Activation>> {
        if selection.everywhere() {
            Api::all(self.kube.clone())
        } else {
            Api::namespaced(self.kube.clone(), &self.namespace)
        }
    }

    /// The Activations that are selected, by namespace and name. One that this program cannot read is left
    /// out with a warning: it must not hide the others.
    pub(super) async fn list(&self, selection: &Selection) -> Result<Vec<Activation>, Error> {
        let mut params = ListParams::default();
        if let Some(labels) = selection.labels() {
            params = params.labels(labels);
        }
        match self.selected(selection).list(&params).await {
            Ok(list) => {
                let (mut items, warnings) = readable(list.items);
                for warning in warnings {
                    let line = Line::plain(format!("warning: {warning}"));
                    show(&format!("{}\n", line.text()));
                }
                let key = |item: &Activation| {
                    (item.metadata.namespace.clone(), item.metadata.name.clone())
                };
                items.sort_by_key(key);
                Ok(items)
            }
            Err(error) => {
                let mut doing = self.doing("list Activations", Role::View);
                if selection.everywhere() {
                    doing.namespace = None;
                }
                Err(self.refused(doing, error).await.into())
            }
        }
    }

    /// Changes an Activation by a merge patch (RFC 7396). Only its metadata is answered: a change that was
    /// made is not reported as failed because of what else is in the object.
    pub(super) async fn patch(&self, name: &str, patch: Value) -> Result<(), Error> {
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let api = self.activations();
        match api
            .patch_metadata(name, &params, &Patch::Merge(&patch))
            .await
        {
            Ok(_) => Ok(()),
            Err(error) => {
                let doing = self.doing(&format!("change Activation {name}"), Role::Edit);
                Err(self.refused(doing, error).await.into())
            }
        }
    }
}

/// Those that can be read, and a warning about each of the others. Pure.
fn readable(found: Vec<DeserializeGuard<Activation>>) -> (Vec<Activation>, Vec<String>) {
    let mut items = Vec::new();
    let mut warnings = Vec::new();
    for one in found {
        match one.0 {
            Ok(activation) => items.push(activation),
            Err(invalid) => warnings.push(unreadable(&invalid)),
        }
    }
    (items, warnings)
}

/// What is said of an Activation that this program cannot read.
pub(super) fn unreadable(invalid: &InvalidObject) -> String {
    let metadata = &invalid.metadata;
    format!(
        "this program cannot read Activation {}/{}: {}; see whether the versions fit: kubectl golive version",
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
        invalid.error
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_object_that_cannot_be_read_does_not_hide_the_others() {
        let object = |name: &str, mode: &str| -> DeserializeGuard<Activation> {
            let object = json!({
                "apiVersion": "golive.dev/v1alpha1", "kind": "Activation",
                "metadata": {"name": name, "namespace": "prod"},
                "spec": {"organization": "o", "app": "shop", "region": "eze", "mode": mode,
                    "deploy": {"image": "x:1"}},
            });
            serde_json::from_value(object).unwrap()
        };
        let (items, warnings) = readable(vec![object("later", "Dream"), object("shop", "Apply")]);
        let names: Vec<Option<&str>> = items
            .iter()
            .map(|item| item.metadata.name.as_deref())
            .collect();
        assert_eq!(names, [Some("shop")]);
        assert_eq!(warnings.len(), 1);
        assert!(
            warnings[0].starts_with("this program cannot read Activation prod/later: "),
            "{warnings:?}"
        );
    }
}
