//! An app as GraphQL shows it.

use serde_json::{Value, json};

use crate::core::Shared;
use crate::platform::addresses::{Address, Type};
use crate::platform::certificates::Certificate;
use crate::platform::gql::{GraphError, Object};
use crate::platform::graph::{connection, limited_tokens, required};
use crate::platform::releases::Release;
use crate::platform::{orgs, registry};
use crate::state::{App, Scope, World};

/// An address as GraphQL shows it.
pub fn address(address: &Address) -> Value {
    let network = (address.kind == Type::PrivateV6)
        .then(|| json!({"name": address.network, "organization": null}));
    json!({
        "__typename": "IPAddress",
        "id": address.id,
        "address": address.ip,
        "type": address.kind,
        "region": address.region,
        "createdAt": address.created_at.to_string(),
        "network": network,
        "serviceName": address.service_name,
    })
}

fn shared(app: &App) -> Option<String> {
    let mut addresses = app.platform.addresses.iter();
    addresses
        .find(|address| address.kind == Type::SharedV4)
        .map(|address| address.ip.clone())
}

fn of_kind(app: &App, fits: impl Fn(Type) -> bool) -> Value {
    let all = app.platform.addresses.iter();
    connection(all.filter(|a| fits(a.kind)).map(address).collect())
}

/// The whole app.
pub fn node(core: &Shared, world: &World, app: &App) -> Object {
    let platform = &app.platform;
    let releases: Vec<Value> = platform.releases.iter().rev().map(Release::graph).collect();
    let current = releases.first().cloned().unwrap_or_default();
    let host = format!("{}.fly.dev", app.name);
    let definition = platform
        .releases
        .last()
        .map(|release| release.definition.clone());
    let plain = json!({
        "__typename": "App",
        "id": app.id,
        "internalNumericId": app.internal_numeric_id,
        "name": app.name,
        "hostname": host,
        "appUrl": format!("https://{host}"),
        "cnameTarget": format!("{}.{}.flydns.net", crate::id::stable(&app.name), app.name),
        "deployed": app.status() == "deployed",
        "status": app.status(),
        "state": "DEPLOYED",
        "network": app.network,
        "platformVersion": "machines",
        "version": platform.releases.last().map_or(0, |release| release.version),
        "createdAt": app.created_at.to_string(),
        "role": (!app.role.is_empty()).then(|| json!({
            "__typename": "PostgresClusterAppRole", "id": app.role, "name": app.role,
        })),
        "organization": world.orgs.get(&app.org_slug).map(orgs::graph),
        "currentRelease": current,
        "currentReleaseUnprocessed": current,
        "config": {"definition": definition, "services": [], "valid": true, "errors": []},
        "services": [],
        "ipAddresses": of_kind(app, |kind| matches!(kind, Type::V4 | Type::V6 | Type::PrivateV6)),
        "sharedIpAddress": shared(app),
        "egressIpAddresses": connection(Vec::new()),
        "certificates": connection(platform.certificates.values().map(Certificate::graph).collect()),
        "secrets": platform.secrets.graph(),
        "machines": connection(app.live_machines().map(|machine| json!({
            "__typename": "Machine",
            "id": machine.id,
            "name": machine.name,
            "state": machine.state.as_str(),
            "region": machine.region,
            "ips": connection(vec![json!({
                "kind": "privatenet", "family": "v6", "ip": machine.private_ip,
            })]),
        })).collect()),
        "allocations": [],
        "volumes": connection(Vec::new()),
        "hostIssues": connection(Vec::new()),
        "imageDetails": null,
        "currentLock": platform.lock.as_ref().map(|lock| json!({
            "lockId": lock, "expiration": null,
        })),
        "limitedAccessTokens": limited_tokens(world, |token| {
            token.scope == Scope::App(app.name.clone())
        }),
        "isPostgresApp": app.role == "postgres_cluster",
    });
    let certificates = platform.certificates.clone();
    let (all, some) = (releases.clone(), releases);
    let core = core.clone();
    Object::new(plain)
        .computed("image", move |args| {
            let text = required(args, "ref")?;
            Ok(registry::resolve(&core, text)
                .map_or(Value::Null, |found| registry::graph(&found, text))
                .into())
        })
        .computed("releases", move |args| {
            Ok(first(&all, args.get("first")).into())
        })
        .computed("releasesUnprocessed", move |args| {
            Ok(first(&some, args.get("first")).into())
        })
        .computed("certificate", move |args| {
            let hostname = required(args, "hostname")?;
            certificates
                .get(hostname)
                .map(|certificate| certificate.graph().into())
                .ok_or_else(|| {
                    GraphError::new(
                        "NOT_FOUND",
                        format!("Could not find Certificate \"{hostname}\""),
                    )
                })
        })
}

fn first(releases: &[Value], count: Option<&Value>) -> Value {
    let count = count
        .and_then(Value::as_u64)
        .and_then(|count| usize::try_from(count).ok())
        .unwrap_or(releases.len());
    connection(releases.iter().take(count).cloned().collect())
}
