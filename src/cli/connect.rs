//! Connection of a command to the cluster: kubectl's flags, and the identity of the user.

use std::path::PathBuf;

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::{
    Api, Client, Config,
    api::PostParams,
    config::{KubeConfigOptions, Kubeconfig},
};

use crate::{
    clock::ServerClock,
    process::{kube_client, metrics::Metrics},
};

/// kubectl's flags for cluster and namespace.
#[derive(Debug, clap::Args)]
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
}

/// A client and a namespace.
pub(super) struct Connected {
    /// The client.
    pub kube: Client,
    /// The namespace.
    pub namespace: String,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("cannot find a configuration for the cluster")]
    Config(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("cannot create a client for the cluster")]
    Client(#[source] Box<kube::Error>),
    #[error("cannot read your user name from the cluster")]
    WhoAmI(#[source] Box<kube::Error>),
    #[error("the cluster returned no user name")]
    Nobody,
}

impl Connection {
    /// Reads the kubeconfig and makes a client; sends nothing yet.
    pub(super) async fn open(&self) -> Result<Connected, Error> {
        let options = KubeConfigOptions {
            context: self.context.clone(),
            ..KubeConfigOptions::default()
        };
        let refuse = |error: Box<dyn std::error::Error + Send + Sync>| Error::Config(error);
        let config = match (&self.kubeconfig, &self.context) {
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
        let namespace = self
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        let kube = kube_client::build(config, &Metrics::new(), &ServerClock::of_kubernetes())
            .map_err(|error| Error::Client(Box::new(error)))?;
        Ok(Connected { kube, namespace })
    }
}

impl Connected {
    /// The user's name, as the API server knows it.
    pub(super) async fn user(&self) -> Result<String, Error> {
        let api: Api<SelfSubjectReview> = Api::all(self.kube.clone());
        let review = api
            .create(&PostParams::default(), &SelfSubjectReview::default())
            .await
            .map_err(|error| Error::WhoAmI(Box::new(error)))?;
        let user = review.status.and_then(|status| status.user_info);
        user.and_then(|user| user.username).ok_or(Error::Nobody)
    }
}
