//! What was added to the app by hand and Golive leaves alone: secrets and addresses.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::{
    fly::{
        AddressKind,
        overview::{OverviewAddress, OverviewApp},
    },
    phase::{app_name::OwnClaim, app_overview, app_secrets, roster::MACHINE},
    pipeline::Cx,
    plan::Target,
};

/// Fact: what was added to the app by hand, as it was read last.
#[derive(Debug)]
struct Added(Vec<String>);

/// Begins the names of secrets that Fly.io sets.
const OF_THE_PLATFORM: &str = "FLY_";

/// What was added to the app by hand, a line for each, as it was read last. Not read before the app
/// has machines.
pub async fn observe(cx: &Cx) -> Vec<String> {
    let mut recorded = cx.recorded.external.iter();
    let claim = cx.facts.get::<OwnClaim>();
    if recorded.any(|object| object.kind == MACHINE)
        && let Some(since) = claim.and_then(|claim| claim.0.taken)
        && let Some(overview) = app_overview::overview(cx).await
        && let Some(app) = &overview.app
    {
        let ours = app_secrets::records(cx).into_keys().collect();
        let added = added_since(app, &cx.target, &ours, since);
        cx.facts.set(Added(added.clone()));
        return added;
    }
    let known = cx.facts.get::<Added>();
    known.map_or_else(Vec::new, |known| known.0.clone())
}

/// Secrets that Golive did not set and addresses that the spec does not request, if they came after
/// the app was taken: what was there before belongs to it. Pure.
fn added_since(
    app: &OverviewApp,
    target: &Target,
    ours: &BTreeSet<String>,
    taken: Timestamp,
) -> Vec<String> {
    let name = &target.app;
    let later = |created: Option<Timestamp>| created.is_some_and(|created| created > taken);
    let secrets = app.secrets.iter().filter(|secret| {
        !ours.contains(&secret.name)
            && !secret.name.starts_with(OF_THE_PLATFORM)
            && later(secret.created_at)
    });
    let secrets = secrets.map(|secret| {
        format!(
            "the secret {0} was added at Fly.io: remove it with `fly secrets unset {0} -a {name}`, or declare it in `provision.secrets`",
            secret.name
        )
    });
    let wanted = &target.provision.addresses;
    let mut assigned: Vec<&OverviewAddress> = app.own_addresses().collect();
    assigned.sort_by_key(|address| address.created_at);
    let mut kept = BTreeSet::new();
    let surplus = assigned.into_iter().filter(|address| {
        let is_wanted = match &address.kind {
            Some(AddressKind::V4) => wanted.v4,
            Some(AddressKind::V6) => wanted.v6,
            Some(AddressKind::PrivateV6) => false,
            _ => return false,
        };
        let kind = address.kind.as_ref().map(AddressKind::as_str);
        !(is_wanted && kept.insert(kind)) && later(address.created_at)
    });
    let addresses = surplus.map(|address| {
        let ip = &address.address;
        let kind = address.kind.as_ref().map_or("", AddressKind::as_str);
        format!(
            "the address {ip} ({kind}) was added at Fly.io: release it with `fly ips release {ip} -a {name}`, or declare it in `provision.addresses`"
        )
    });
    secrets.chain(addresses).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_added_since_the_app_was_taken_is_told_with_the_command_that_removes_it() {
        let app = json!({
            "ipAddresses": {"nodes": [
                {"address": "2001:db8::2", "type": "v6", "createdAt": "2026-01-03T00:00:00Z"},
                {"address": "2001:db8::1", "type": "v6", "createdAt": "2026-01-02T00:00:00Z"},
                {"address": "192.0.2.1", "type": "v4", "createdAt": "2026-01-02T00:00:00Z"},
                {"address": "192.0.2.2", "type": "v4", "createdAt": "2025-01-01T00:00:00Z"},
            ]},
            "sharedIpAddress": "66.241.124.1",
            "secrets": [
                {"name": "OURS", "digest": "d", "createdAt": "2026-01-03T00:00:00Z"},
                {"name": "BEFORE", "digest": "d", "createdAt": "2025-01-01T00:00:00Z"},
                {"name": "FLY_CONSUL_URL", "digest": "d", "createdAt": "2026-01-03T00:00:00Z"},
                {"name": "UNDATED", "digest": "d"},
                {"name": "BY_HAND", "digest": "d", "createdAt": "2026-01-03T00:00:00Z"},
            ],
        });
        let app: OverviewApp = serde_json::from_value(app).unwrap();
        let target = crate::plan::testing::target("");
        let ours = BTreeSet::from(["OURS".to_owned()]);
        let taken = "2026-01-01T00:00:00Z".parse().unwrap();
        let added = added_since(&app, &target, &ours, taken);
        for (line, command) in added.iter().zip([
            "`fly secrets unset BY_HAND -a shop`",
            "`fly ips release 192.0.2.1 -a shop`",
            "`fly ips release 2001:db8::2 -a shop`",
        ]) {
            assert!(line.contains(command), "{line}");
        }
        assert_eq!(added.len(), 3, "{added:?}");
    }
}
