//! What a re-check reads of the app: one query for all of it, and of the parts that it shows changed
//! what the Machines API says.
//!
//! A step reads its part with [`read`]. In a re-check that returns what the step read last, as long as
//! the overview shows that part as it was. So a re-check of an unchanged app costs one read, whatever
//! belongs to the app, and a verdict always rests on an answer of the Machines API. Where GraphQL
//! spells something in other words, the first comparison fails once and the words are remembered.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use super::{app_lookup::AppLookup, names};
use crate::{
    fly::{
        AppSecret, Certificate, CertificateStatus, IpAssignment, Redis,
        overview::{Overview, OverviewApp},
    },
    pipeline::{Cx, recheck::OverviewFails, step::Result},
};

/// A part of the app, in a form that can be compared: a line for each thing.
pub type Part = BTreeSet<String>;

/// What a step reads of the app, and what the overview shows of that.
pub trait Shown: Clone + Send + Sync + 'static {
    /// This part as the overview shows it.
    fn shown(app: &OverviewApp) -> Part;
    /// The same, as the Machines API answered it.
    fn answered(&self) -> Part;
}

impl Shown for AppLookup {
    fn shown(app: &OverviewApp) -> Part {
        let slug = app.organization.iter().map(|org| org.slug.clone());
        slug.chain([app.id.clone()]).collect()
    }

    fn answered(&self) -> Part {
        match self {
            Self::Found(app) => {
                let slug = app.organization.iter().map(|org| org.slug.clone());
                slug.chain([app.id.clone()]).collect()
            }
            Self::NotFound | Self::Forbidden => Part::new(),
        }
    }
}

impl Shown for Vec<IpAssignment> {
    fn shown(app: &OverviewApp) -> Part {
        let own = app.own_addresses().map(|node| &node.address);
        own.chain(&app.shared_address)
            .map(|address| one_spelling(address))
            .collect()
    }

    fn answered(&self) -> Part {
        let public = self.iter().filter(|found| found.egress != Some(true));
        public.map(|found| one_spelling(&found.ip)).collect()
    }
}

impl Shown for Vec<Certificate> {
    fn shown(app: &OverviewApp) -> Part {
        let nodes = app.certificates.iter();
        nodes
            .flat_map(|certificates| certificates.nodes.iter())
            .map(|node| line(&node.hostname, node.client_status == "Ready"))
            .collect()
    }

    fn answered(&self) -> Part {
        self.iter()
            .map(|found| line(&found.hostname, found.status == CertificateStatus::Active))
            .collect()
    }
}

impl Shown for Vec<AppSecret> {
    fn shown(app: &OverviewApp) -> Part {
        let secrets = app.secrets.iter();
        secrets
            .map(|secret| format!("{} {}", secret.name, secret.digest))
            .collect()
    }

    fn answered(&self) -> Part {
        self.iter()
            .map(|secret| format!("{} {}", secret.name, secret.digest))
            .collect()
    }
}

fn line(hostname: &str, issued: bool) -> String {
    format!("{hostname} {issued}")
}

/// An address as Rust writes it: IPv6 has several spellings.
fn one_spelling(address: &str) -> String {
    let parsed = address.parse::<IpAddr>();
    parsed.map_or_else(|_| address.to_owned(), |address| address.to_string())
}

/// Fact: what a part was when it was read last.
#[derive(Clone, Debug)]
struct LastRead<T> {
    /// The pass that looked at it last.
    pass: u64,
    value: T,
    /// What the overview showed then, if it was read.
    shown: Option<Part>,
}

impl<T: Shown> LastRead<T> {
    /// Whether the part is as it was, by what the overview shows now.
    fn is_unchanged(&self, now: &Part) -> bool {
        match &self.shown {
            Some(shown) => shown == now,
            None => self.value.answered() == *now,
        }
    }
}

/// Fact: the overview of a pass, once it was read; `None`: it could not be read. Locked while it is
/// being read, so that steps that run at the same time share it.
#[derive(Clone, Debug, Default)]
struct SharedOverview(Arc<tokio::sync::Mutex<Option<PassOverview>>>);

/// The overview of the pass of this number.
type PassOverview = (u64, Option<Arc<Overview>>);

/// Fact: the last pass that took Redis from the overview.
#[derive(Debug)]
struct RedisPass(u64);

/// Reads a part of the app with `read`, unless this is a re-check and the overview shows the part
/// unchanged. A second look in the same pass always reads.
///
/// # Errors
/// Those of `read`.
pub async fn read<T: Shown>(cx: &Cx, read: impl Future<Output = Result<T>>) -> Result<T> {
    let last = cx.facts.get::<LastRead<T>>();
    let is_first = last.as_ref().is_some_and(|last| last.pass != cx.pass);
    let overview = if is_first && cx.is_recheck() {
        overview(cx).await
    } else {
        None
    };
    let now = overview.and_then(|overview| overview.app.as_ref().map(T::shown));
    let unchanged = last
        .filter(|last| now.as_ref().is_some_and(|now| last.is_unchanged(now)))
        .map(|last| last.value.clone());
    let value = match unchanged {
        Some(value) => value,
        None => read.await?,
    };
    cx.facts.set(LastRead {
        pass: cx.pass,
        value: value.clone(),
        shown: now,
    });
    Ok(value)
}

/// The Redis database of the app, if this is a re-check and the overview shows it. Not on a second
/// look in the same pass.
pub async fn redis(cx: &Cx) -> Option<Redis> {
    let before = cx.facts.get::<RedisPass>();
    cx.facts.set(RedisPass(cx.pass));
    if !cx.is_recheck() || before.is_some_and(|before| before.0 == cx.pass) {
        return None;
    }
    overview(cx).await?.redis.clone()
}

/// The overview of this pass, which is read once; `None` when it cannot be read.
pub async fn overview(cx: &Cx) -> Option<Arc<Overview>> {
    cx.facts.change_or_default::<SharedOverview>(|_| {});
    let shared = cx.facts.get::<SharedOverview>()?;
    let mut shared = shared.0.lock().await;
    if let Some((pass, overview)) = &*shared
        && *pass == cx.pass
    {
        return overview.clone();
    }
    let requested = cx.target.provision.redis.as_ref();
    let redis = requested
        .filter(|redis| redis.external.is_none())
        .map(|_| names::redis(&cx.target.app));
    let overview = match cx.fly.overview(&cx.target.app, redis.as_deref()).await {
        Ok(overview) => {
            cx.facts.clear::<OverviewFails>();
            Some(Arc::new(overview))
        }
        Err(error) => {
            tracing::debug!(%error, "the overview of the app was not read; its parts are read one by one");
            cx.facts.set(OverviewFails);
            None
        }
    };
    *shared = Some((cx.pass, overview.clone()));
    overview
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn app() -> OverviewApp {
        serde_json::from_value(json!({
            "id": "shop",
            "organization": {"slug": "cabanas"},
            "ipAddresses": {"nodes": [{"address": "2a09:8280:1:0:0:0:0:1"}]},
            "sharedIpAddress": "66.241.124.1",
            "certificates": {"nodes": [
                {"hostname": "a.example.com", "clientStatus": "Ready"},
                {"hostname": "b.example.com", "clientStatus": "Awaiting configuration"},
            ]},
            "secrets": [{"name": "A", "digest": "d1"}],
        }))
        .unwrap()
    }

    fn last<T: Shown>(value: T, shown: Option<Part>) -> LastRead<T> {
        LastRead {
            pass: 1,
            value,
            shown,
        }
    }

    fn read<T: serde::de::DeserializeOwned>(json: serde_json::Value) -> T {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn what_both_apis_show_alike_is_unchanged_in_whatever_words() {
        let app = app();
        let found: crate::fly::App =
            read(json!({"id": "shop", "name": "shop", "organization": {"slug": "cabanas"}}));
        let found = AppLookup::Found(Box::new(found));
        assert!(last(found, None).is_unchanged(&AppLookup::shown(&app)));
        let addresses: Vec<IpAssignment> = read(json!([
            {"ip": "66.241.124.1", "shared": true}, {"ip": "2a09:8280:1::1"},
            {"ip": "1.2.3.4", "egress": true},
        ]));
        let shown = Vec::<IpAssignment>::shown(&app);
        assert!(last(addresses, None).is_unchanged(&shown));
        let certificates: Vec<Certificate> = read(json!([
            {"hostname": "b.example.com", "status": "pending_ownership"},
            {"hostname": "a.example.com", "status": "active"},
        ]));
        let shown = Vec::<Certificate>::shown(&app);
        assert!(last(certificates, None).is_unchanged(&shown));
    }

    #[test]
    fn what_is_gone_added_or_changed_is_no_longer_as_it_was() {
        let app = app();
        let secrets = |list: serde_json::Value| -> Vec<AppSecret> { read(list) };
        for other in [
            json!([]),
            json!([{"name": "A", "digest": "d0"}]),
            json!([{"name": "A", "digest": "d1"}, {"name": "B", "digest": "d2"}]),
        ] {
            let last = last(secrets(other), None);
            assert!(!last.is_unchanged(&Vec::<AppSecret>::shown(&app)));
        }
        let gone: Vec<IpAssignment> = read(json!([{"ip": "66.241.124.1", "shared": true}]));
        assert!(!last(gone, None).is_unchanged(&Vec::<IpAssignment>::shown(&app)));
        let issued: Vec<Certificate> = read(json!([
            {"hostname": "a.example.com", "status": "active"},
            {"hostname": "b.example.com", "status": "active"},
        ]));
        assert!(!last(issued, None).is_unchanged(&Vec::<Certificate>::shown(&app)));
    }

    #[test]
    fn digests_that_graphql_computes_in_another_way_are_compared_with_themselves() {
        let shown = Vec::<AppSecret>::shown(&app());
        let secrets: Vec<AppSecret> = read(json!([{"name": "A", "digest": "by another way"}]));
        assert!(!last(secrets.clone(), None).is_unchanged(&shown));
        assert!(last(secrets.clone(), Some(shown)).is_unchanged(&Vec::<AppSecret>::shown(&app())));
        let other: OverviewApp = read(json!({"secrets": [{"name": "A", "digest": "d2"}]}));
        let shown = Vec::<AppSecret>::shown(&app());
        assert!(!last(secrets, Some(shown)).is_unchanged(&Vec::<AppSecret>::shown(&other)));
    }
}
