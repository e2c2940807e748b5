//! Addresses of apps.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use axum::routing::{delete, get};
use axum::{Extension, Json, Router};
use http::StatusCode;
use jiff::Timestamp;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::core::{CallId, Shared};
use crate::error::{FlyError, FlyResult};
use crate::id;
use crate::state::{App, Caller, World};
use crate::strict::Strict;

/// What kind of address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Type {
    /// Dedicated IPv4.
    V4,
    /// Dedicated IPv6.
    V6,
    /// IPv4 that many apps share; told apart by name.
    SharedV4,
    /// Flycast.
    PrivateV6,
    /// For outgoing connections.
    EgressV4,
    /// For outgoing connections.
    EgressV6,
    /// Both.
    EgressPair,
}

impl Type {
    /// By the word of the API.
    pub fn parse(word: &str) -> Option<Self> {
        serde_json::from_value(json!(word)).ok()
    }

    fn is_egress(self) -> bool {
        matches!(self, Self::EgressV4 | Self::EgressV6 | Self::EgressPair)
    }

    /// Whether the edge answers at it.
    pub fn is_public(self) -> bool {
        matches!(self, Self::V4 | Self::V6 | Self::SharedV4)
    }
}

/// An address.
#[derive(Clone, Debug)]
pub struct Address {
    /// Opaque id.
    pub id: String,
    /// The address.
    pub ip: String,
    /// Its kind.
    pub kind: Type,
    /// `global`, or a region.
    pub region: String,
    /// Network of a private one.
    pub network: Option<String>,
    /// Service of a private one.
    pub service_name: Option<String>,
    /// When.
    pub created_at: Timestamp,
}

impl Address {
    /// As the Machines API shows it.
    pub fn json(&self) -> Value {
        json!({
            "ip": self.ip,
            "region": self.region,
            "service_name": self.service_name,
            "shared": self.kind == Type::SharedV4,
            "egress": self.kind.is_egress(),
            "network": self.network,
            "created_at": self.created_at.to_string(),
        })
    }
}

/// Wishes for a new address; empty texts mean nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Kind.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    /// Region.
    #[serde(default)]
    pub region: Option<String>,
    /// Organization of the network of a private address.
    #[serde(default)]
    pub org_slug: Option<String>,
    /// Network.
    #[serde(default)]
    pub network: Option<String>,
    /// Service.
    #[serde(default)]
    pub service_name: Option<String>,
}

/// The routes of addresses.
pub fn router() -> Router<Shared> {
    Router::new()
        .route("/v1/apps/{app}/ip_assignments", get(list).post(assign))
        .route("/v1/apps/{app}/ip_assignments/{ip}", delete(release))
}

async fn list(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(app): Path<String>,
) -> FlyResult<Json<Value>> {
    core.read(|world| {
        let app = world.app(&caller, &app)?;
        let ips: Vec<_> = app.platform.addresses.iter().map(Address::json).collect();
        Ok(Json(json!({"ips": ips})))
    })
}

async fn assign(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    Path(app): Path<String>,
    Strict(wanted): Strict<Wanted>,
) -> FlyResult<Json<Value>> {
    let address = allocate(&core, &caller, call, &app, wanted)?;
    Ok(Json(address.json()))
}

/// Allocates an address. A second dedicated or private one is a second address, as on Fly; a
/// second shared one is the same.
pub fn allocate(
    core: &Shared,
    caller: &Caller,
    call: CallId,
    app: &str,
    wanted: Wanted,
) -> FlyResult<Address> {
    let word = wanted.kind.unwrap_or_default();
    let kind = Type::parse(&word).ok_or_else(|| {
        FlyError::unprocessable(format!(
            "Validation failed: Type '{word}' is not one of v4, v6, shared_v4, private_v6, \
             egress_v4, egress_v6, egress_pair"
        ))
    })?;
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let region = given(wanted.region);
    let (network, service_name) = (given(wanted.network), given(wanted.service_name));
    let org_slug = given(wanted.org_slug);
    let (address, new) = core.write(|world| {
        if let Some(slug) = &org_slug {
            // A token for one app does not see its organization.
            if !world.orgs.contains_key(slug) {
                return Err(FlyError::not_found(format!(
                    "Could not find Organization \"{slug}\""
                )));
            }
        }
        if let Some(region) = region.as_deref().filter(|region| *region != "global") {
            world.platform.known_region(region)?;
        }
        let number = world.number();
        let app = world.app_mut(caller, app)?;
        if kind == Type::SharedV4
            && let Some(old) = app.platform.addresses.iter().find(|a| a.kind == kind)
        {
            return Ok((old.clone(), false));
        }
        let address = Address {
            id: format!("ip_{}", id::short(16)),
            ip: text(kind, number),
            kind,
            region: region.unwrap_or_else(|| "global".to_owned()),
            network: network.or_else(|| (kind == Type::PrivateV6).then(|| app.network.clone())),
            service_name,
            created_at: Timestamp::now(),
        };
        app.platform.addresses.push(address.clone());
        Ok((address, true))
    })?;
    if new {
        core.effect(
            call,
            "address.allocate",
            Some(app),
            &address.id,
            &address.ip,
            BTreeMap::new(),
            json!({"type": kind, "region": address.region}),
        );
    }
    Ok(address)
}

/// An address from Fly's ranges. `number` makes it unique.
fn text(kind: Type, number: u64) -> String {
    let (high, low) = (number >> 8 & 0xff, number & 0xff);
    match kind {
        Type::V4 | Type::EgressV4 => format!("137.66.{high}.{low}"),
        Type::SharedV4 => {
            let mut rng = rand::rng();
            format!(
                "66.241.{}.{}",
                rng.random_range(124..=125),
                rng.random_range(1..=254)
            )
        }
        Type::V6 | Type::EgressV6 | Type::EgressPair => {
            format!("2a09:8280:1::{:x}:{:x}", number >> 16, number & 0xffff)
        }
        Type::PrivateV6 => format!("fdaa:0:{:x}:0:1::{low:x}", 0x1000 + (number >> 8)),
    }
}

async fn release(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    Path((app, ip)): Path<(String, String)>,
) -> FlyResult<StatusCode> {
    let found = take(&core, &caller, call, &app, |address| address.ip == ip)?;
    match found {
        Some(_) => Ok(StatusCode::NO_CONTENT),
        None => Err(FlyError::not_found(format!("IP address {ip} not found"))),
    }
}

/// Releases the first address that fits.
pub fn take(
    core: &Shared,
    caller: &Caller,
    call: CallId,
    app: &str,
    fits: impl Fn(&Address) -> bool,
) -> FlyResult<Option<Address>> {
    let taken = core.write(|world: &mut World| {
        let app: &mut App = world.app_mut(caller, app)?;
        let at = app.platform.addresses.iter().position(fits);
        Ok::<_, FlyError>(at.map(|at| app.platform.addresses.remove(at)))
    })?;
    if let Some(address) = &taken {
        core.effect(
            call,
            "address.release",
            Some(app),
            &address.id,
            &address.ip,
            BTreeMap::new(),
            json!({"type": address.kind}),
        );
    }
    Ok(taken)
}
