//! A world with receivers.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use std::time::{Duration, Instant};

use fly_sim::Options;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::{Value, json};
use vendors::messages::{BEARER, Got, Kind, Messages, PAGER_KEY};

use crate::support::env::{Env, LIMIT};

/// Name of the Activation.
pub const NAME: &str = "hola";

/// A world and its receivers. The operator is not started.
pub struct Told {
    pub env: Env,
    pub messages: Messages,
    folder: tempfile::TempDir,
}

impl Told {
    /// With the addresses and keys of all receivers in Secrets.
    pub async fn new() -> Self {
        Self::with(Options::default()).await
    }

    /// The same at another Fly.io.
    pub async fn with(options: Options) -> Self {
        let env = Env::without_operator(options).await;
        let messages = Messages::start().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let ca = env.sim.ca_pem().to_owned() + messages.ca_pem();
        std::fs::write(folder.path().join("ca.pem"), ca).unwrap();
        let url = |kind| messages.url(kind);
        for (name, key, value) in [
            ("slack", "url", url(Kind::Slack)),
            ("teams", "url", url(Kind::Teams)),
            ("discord", "url", url(Kind::Discord)),
            ("events", "url", url(Kind::CloudEvents)),
            ("pager", "key", PAGER_KEY.to_owned()),
            ("secure-mail", "url", messages.mail().url("smtps")),
            // An editor leaves a line break at the end.
            ("mail", "url", messages.mail().url("smtp") + "\n"),
        ] {
            env.secret(name, &[(key, value.as_str())]).await;
        }
        let json = url(Kind::Json);
        let both = [("url", json.as_str()), ("token", BEARER)];
        env.secret("own", &both).await;
        Self {
            env,
            messages,
            folder,
        }
    }

    /// The flags of the operator, and a file with defaults of the installation.
    pub fn flags(&self, more: &[&str]) -> Vec<String> {
        let resolve = format!(
            "*.fly.dev:443={},*.fly.dev:*={}:*,{}",
            self.env.sim.edge(),
            self.env.sim.edge_ip(),
            self.messages.resolve()
        );
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        std::fs::write(
            path("defaults.yaml"),
            "- name: platform\n  format: CloudEvents\n  webhook: {urlSecretRef: {name: events, key: url}}\n",
        )
        .unwrap();
        let flags = [
            ("--resolve", resolve),
            ("--ca-file", path("ca.pem")),
            ("--pagerduty-url", self.messages.pager_url()),
        ];
        let flags = flags.into_iter();
        let flags = flags.flat_map(|(flag, value)| [flag.to_owned(), value]);
        flags
            .chain(more.iter().map(|flag| (*flag).to_owned()))
            .collect()
    }

    /// Where the receivers of the whole installation are.
    pub fn defaults(&self) -> String {
        let path = self.folder.path().join("defaults.yaml");
        path.display().to_string()
    }

    /// Starts the operator as a process.
    pub fn start(&mut self, more: &[&str]) {
        let flags = self.flags(more);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        self.env.start_operator_process(&flags);
    }

    /// The smallest Activation, with a gate before Deploy and these receivers.
    pub async fn activate(&self, receivers: Value) {
        let gates = json!([{"before": "Deploy"}]);
        let spec = json!({
            "gates": gates, "notifications": receivers, "provision": {"owner": "DBA"},
            "deletionPolicy": {"app": "Delete", "database": "Delete", "secrets": "Delete"},
        });
        self.env.activation(NAME, spec).await;
    }

    /// The digest that the gate asks about.
    pub async fn asked(&self) -> String {
        let status = self.env.wait(NAME, "the gate", |status| {
            status.pending_gate.as_deref() == Some("Deploy")
        });
        status.await.plan.unwrap().digest
    }

    /// Waits for a message that is as wanted.
    pub async fn got(&self, kind: Kind, what: &str, wanted: impl Fn(&Got) -> bool) -> Got {
        let end = Instant::now() + LIMIT;
        loop {
            let got = self.messages.got(kind);
            if let Some(found) = got.iter().find(|got| wanted(got)) {
                return found.clone();
            }
            let refused = self.messages.refused();
            assert!(
                Instant::now() < end,
                "{kind:?} got no {what}; it got {got:#?} and refused {refused:?}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until it is on record that everything has arrived.
    pub async fn settled(&self) {
        let maps: Api<ConfigMap> = Api::namespaced(self.env.kube.clone(), &self.env.namespace);
        let end = Instant::now() + LIMIT;
        loop {
            let all = maps.list(&ListParams::default()).await.unwrap().items;
            let outbox = all
                .iter()
                .find(|map| map.name_any().starts_with("golive-outbox-"));
            let text = outbox.and_then(|map| map.data.as_ref()?.get("outbox.json"));
            let outbox: Value =
                text.map_or(Value::Null, |text| serde_json::from_str(text).unwrap());
            if outbox["pending"].as_array().is_some_and(Vec::is_empty) {
                return;
            }
            assert!(Instant::now() < end, "something waits: {outbox:#}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Names of the ConfigMaps with what people were told.
    pub async fn outboxes(&self) -> Vec<String> {
        let maps: Api<ConfigMap> = Api::namespaced(self.env.kube.clone(), &self.env.namespace);
        let maps = maps.list(&ListParams::default()).await.unwrap().items;
        let names = maps.into_iter().map(|map| map.name_any());
        names
            .filter(|name| name.starts_with("golive-outbox-"))
            .collect()
    }
}

/// Whether a message in our own shape is about this.
pub fn is(event: &str, stage: &str) -> impl Fn(&Got) -> bool {
    let (event, stage) = (event.to_owned(), stage.to_owned());
    move |got| {
        let body = match got.kind {
            Kind::CloudEvents => &got.body["data"],
            _ => &got.body,
        };
        body["event"] == event.as_str() && body["stage"] == stage.as_str()
    }
}

/// The webhook of one's own.
pub fn own(more: Value) -> Value {
    let mut receiver = json!({
        "name": "own", "webhook": {"urlSecretRef": {"name": "own", "key": "url"}},
        "keySecretRef": {"name": "own", "key": "token"},
    });
    crate::support::env::merge(&mut receiver, more);
    receiver
}
