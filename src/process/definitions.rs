//! Compares the definitions in the cluster with those of this version, again and again.
//!
//! The operator may not read CustomResourceDefinitions, so it reads what every account may read: the
//! schemas that the API server publishes (kubernetes.io, "The Kubernetes API", OpenAPI V3).

use std::time::Duration;

use kube::Client;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::api::{GROUP, VERSION};
use crate::process::server::Health;
use crate::process::skew::{self, Skew};

/// Interval of reading which schemas are published. The schemas themselves are read when they change.
const INTERVAL: Duration = Duration::from_secs(10);

/// Pause before a look is repeated that shows older definitions.
const CONFIRM: Duration = Duration::from_secs(1);

/// Time limit of the first comparison, for which the work waits.
const FIRST: Duration = Duration::from_secs(5);

/// The comparison with one cluster.
pub struct Definitions {
    kube: Client,
    health: Health,
    /// The path of the schemas that were read last; the API server puts a hash of them into it.
    read: String,
    /// Older definitions that one look has shown.
    doubted: Option<Skew>,
}

impl Definitions {
    /// Compares for the first time. What cannot be read in time changes nothing.
    pub async fn compare(kube: Client, health: Health) -> Self {
        let mut definitions = Self {
            kube,
            health,
            read: String::new(),
            doubted: None,
        };
        let first = async {
            definitions.again().await;
            if definitions.doubted.is_some() {
                tokio::time::sleep(CONFIRM).await;
                definitions.again().await;
            }
        };
        if tokio::time::timeout(FIRST, first).await.is_err() {
            tracing::debug!("the definitions in the cluster were not read in time");
        }
        definitions
    }

    /// Compares until `stop`.
    pub async fn watch(mut self, stop: CancellationToken) {
        loop {
            let pause = match self.doubted {
                Some(_) => CONFIRM,
                None => INTERVAL,
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            self.again().await;
        }
    }

    /// Reports a change to the log and to the probe.
    async fn again(&mut self) {
        match look(&self.kube, &mut self.read).await {
            Ok(None) => {}
            Ok(Some(skew)) => match believed(&mut self.doubted, skew) {
                Some(skew) => report(&skew, &self.health),
                // It is read once more.
                None => self.read.clear(),
            },
            Err(error) => {
                let error = crate::causes::chain(&error);
                tracing::debug!(error, "cannot compare the definitions in the cluster");
            }
        }
    }
}

/// The comparison, if it counts. That the definitions are older ends the operator's work, and one of several API
/// servers may publish for a moment what was there before an update: two looks in a row must show it. Pure.
fn believed(doubted: &mut Option<Skew>, found: Skew) -> Option<Skew> {
    let before = doubted.take();
    if found.older().is_none() || before.as_ref() == Some(&found) {
        return Some(found);
    }
    *doubted = Some(found);
    None
}

fn report(skew: &Skew, health: &Health) {
    if !health.set_skew(skew.clone()) {
        return;
    }
    let texts = [skew.older(), skew.newer()];
    for text in texts.iter().flatten() {
        tracing::warn!("{text}");
    }
    if texts.iter().all(Option::is_none) {
        tracing::info!("the definitions in the cluster are those of this version");
    }
}

/// Reads the schemas if they are not those that were `read` last.
async fn look(kube: &Client, read: &mut String) -> kube::Result<Option<Skew>> {
    let index: Value = get(kube, "/openapi/v3").await?;
    let path = &index["paths"][format!("apis/{GROUP}/{VERSION}")]["serverRelativeURL"];
    let Some(path) = path.as_str() else {
        // Not installed: the cache of Activations cannot be filled, which the probe says.
        return Ok(None);
    };
    if path == read {
        return Ok(None);
    }
    let document: Value = get(kube, path).await?;
    read.clear();
    read.push_str(path);
    Ok(skew::compared(&document))
}

async fn get(kube: &Client, path: &str) -> kube::Result<Value> {
    let request = http::Request::get(path).header(http::header::ACCEPT, "application/json");
    let request = request.body(Vec::new()).map_err(kube::Error::HttpError)?;
    kube.request(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_older_only_when_two_looks_in_a_row_show_it() {
        let older = || Skew {
            missing: vec!["Activation status.intents".to_owned()],
            ..Skew::default()
        };
        let newer = || Skew {
            unknown: vec!["Activation spec.later".to_owned()],
            ..Skew::default()
        };
        let mut doubted = None;
        assert_eq!(believed(&mut doubted, newer()), Some(newer()));
        // One API server is behind for a moment.
        assert_eq!(believed(&mut doubted, older()), None);
        assert_eq!(
            believed(&mut doubted, Skew::default()),
            Some(Skew::default())
        );
        assert_eq!(believed(&mut doubted, older()), None, "it is doubted anew");
        assert_eq!(believed(&mut doubted, older()), Some(older()));
        assert_eq!(doubted, None);
    }
}
