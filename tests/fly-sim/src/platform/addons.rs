//! Add-ons: Upstash Redis, with a real Redis server for each.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use kube_env::redis::Redis;
use serde_json::{Value, json};

use crate::core::{CallId, Core, Shared};
use crate::error::{FlyError, FlyResult};
use crate::id;
use crate::platform::graph::connection;
use crate::platform::orgs;
use crate::state::{Caller, Scope};

/// The only provider here.
pub const UPSTASH: &str = "upstash_redis";

/// Id, name, description, size of data, price. Source of the names: Upstash on fly.io. flyctl
/// knows the id of the first by heart, because it is the default.
const PLANS: &[(&str, &str, &str, &str, u32)] = &[
    (
        "ekQ85Yjkw155ohQ5ALYq0M",
        "Pay-as-you-go",
        "$0.20 per 100,000 commands",
        "10 GB",
        0,
    ),
    (
        "rp-250mb",
        "Fixed 250MB",
        "250 MB, one region",
        "250 MB",
        1_000,
    ),
    ("rp-1gb", "Fixed 1GB", "1 GB, one region", "1 GB", 2_000),
    ("rp-5gb", "Fixed 5GB", "5 GB, one region", "5 GB", 10_000),
];

/// An add-on.
#[derive(Clone, Debug)]
pub struct AddOn {
    /// Opaque id.
    pub id: String,
    /// Unique over all organizations.
    pub name: String,
    /// Owner.
    pub org_slug: String,
    /// Region.
    pub region: String,
    /// Others.
    pub read_regions: Vec<String>,
    /// Id of its plan.
    pub plan: String,
    /// `eviction` and the like.
    pub options: Value,
    /// Free.
    pub metadata: Value,
    /// When.
    pub created_at: Timestamp,
    server: Arc<Mutex<Option<Redis>>>,
}

fn plan_json(plan: &(&str, &str, &str, &str, u32)) -> Value {
    json!({
        "__typename": "AddOnPlan",
        "id": plan.0,
        "name": plan.1,
        "displayName": plan.1,
        "description": plan.2,
        "maxDataSize": plan.3,
        "pricePerMonth": plan.4,
    })
}

/// All plans.
pub fn plans() -> Value {
    connection(PLANS.iter().map(plan_json).collect())
}

/// The provider.
pub fn provider(core: &Core) -> Value {
    let excluded: Vec<Value> = core.read(|world| {
        let regions = world.platform.regions.iter();
        regions
            .filter(|region| region.deprecated)
            .map(super::regions::Region::graph)
            .collect()
    });
    json!({
        "__typename": "AddOnProvider",
        "id": UPSTASH,
        "name": UPSTASH,
        "displayName": "Upstash for Redis",
        "asyncProvisioning": false,
        "autoProvision": false,
        "beta": false,
        "detectPlatform": false,
        "excludedRegions": excluded,
        "internal": false,
        "nameSuffix": "redis",
        "provisioningInstructions": "",
        "resourceName": "Redis database",
        "selectName": true,
        "selectRegion": true,
        "selectReplicaRegions": true,
        "tosAgreement": "",
        "tosUrl": "",
    })
}

impl AddOn {
    /// Connection string with the password; none once it has ended.
    pub fn url(&self) -> Option<String> {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        server.as_ref().map(Redis::url)
    }

    fn password(&self) -> Option<String> {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        server.as_ref().map(|server| server.password().to_owned())
    }

    /// As GraphQL shows it.
    pub fn graph(&self, core: &Core) -> Value {
        let plan = PLANS.iter().find(|plan| plan.0 == self.plan);
        let organization = core.read(|world| world.orgs.get(&self.org_slug).map(orgs::graph));
        json!({
            "__typename": "AddOn",
            "id": self.id,
            "name": self.name,
            "status": "ready",
            "errorMessage": null,
            "primaryRegion": self.region,
            "readRegions": self.read_regions,
            "options": self.options,
            "metadata": self.metadata,
            "publicUrl": self.url(),
            "privateIp": "127.0.0.1",
            "password": self.password(),
            "ssoLink": format!("https://fly.io/apps/redis/{}", self.name),
            "environment": {"REDIS_URL": self.url()},
            "organization": organization,
            "app": null,
            "apps": connection(Vec::new()),
            "addOnPlan": plan.map(plan_json),
            "addOnPlanName": plan.map(|plan| plan.1),
            "addOnProvider": provider(core),
        })
    }
}

/// Finds an add-on that the caller may see, by name or id.
pub fn find(core: &Core, caller: &Caller, name: Option<&str>, id: Option<&str>) -> Option<AddOn> {
    core.read(|world| {
        let mut all = world.platform.add_ons.values();
        all.find(|add_on| name == Some(&add_on.name) || id == Some(&add_on.id))
            .filter(|add_on| caller.in_org(&add_on.org_slug))
            .cloned()
    })
}

/// Add-ons that the caller may see.
pub fn list(core: &Core, caller: &Caller, org: Option<&str>, kind: Option<&str>) -> Value {
    let all: Vec<AddOn> = core.read(|world| {
        let add_ons = world.platform.add_ons.values();
        add_ons
            .filter(|add_on| caller.in_org(&add_on.org_slug))
            .filter(|add_on| org.is_none_or(|slug| slug == add_on.org_slug))
            .filter(|_| kind.is_none_or(|kind| kind == UPSTASH))
            .cloned()
            .collect()
    });
    connection(all.iter().map(|add_on| add_on.graph(core)).collect())
}

/// What a new add-on is to be.
#[derive(Debug)]
pub struct Wanted {
    /// Organization's slug.
    pub org_slug: String,
    /// Name; made up if absent.
    pub name: Option<String>,
    /// Region.
    pub region: String,
    /// Others.
    pub read_regions: Vec<String>,
    /// Plan's id.
    pub plan: Option<String>,
    /// `upstash_redis`.
    pub kind: String,
    /// Options.
    pub options: Value,
}

fn may_change(caller: &Caller, org_slug: &str) -> FlyResult<()> {
    let may = caller
        .tokens
        .iter()
        .any(|token| token.org_slug == org_slug && token.scope == Scope::Org);
    may.then_some(())
        .ok_or_else(|| FlyError::forbidden("unauthorized: this token may not change add-ons"))
}

fn check(core: &Core, caller: &Caller, wanted: &Wanted) -> FlyResult<String> {
    if wanted.kind != UPSTASH {
        return Err(FlyError::unprocessable(format!(
            "Validation failed: Type {} is not available",
            wanted.kind
        )));
    }
    let plan = wanted.plan.as_deref().unwrap_or(PLANS[0].0);
    if !PLANS.iter().any(|known| known.0 == plan) {
        return Err(FlyError::unprocessable("Validation failed: Plan not found"));
    }
    core.read(|world| {
        let org = world.org(caller, &wanted.org_slug)?;
        may_change(caller, &org.slug)?;
        orgs::check_billing(org)?;
        for code in std::iter::once(&wanted.region).chain(&wanted.read_regions) {
            if world.platform.known_region(code)?.deprecated {
                return Err(FlyError::unprocessable(format!(
                    "Validation failed: Region {code} is not available for this provider"
                )));
            }
        }
        let taken = |name: &String| world.platform.add_ons.contains_key(name);
        if wanted.name.as_ref().is_some_and(taken) {
            return Err(FlyError::unprocessable(
                "Validation failed: Name has already been taken",
            ));
        }
        Ok(plan.to_owned())
    })
}

/// Creates an add-on; its server answers when this returns.
pub async fn create(
    core: &Shared,
    caller: &Caller,
    call: CallId,
    wanted: Wanted,
) -> FlyResult<AddOn> {
    let plan = check(core, caller, &wanted)?;
    let id = id::short(16);
    let name = wanted.name.clone();
    let add_on = AddOn {
        name: name.unwrap_or_else(|| format!("redis-{}", id::short(8))),
        org_slug: wanted.org_slug.clone(),
        region: wanted.region.clone(),
        read_regions: wanted.read_regions.clone(),
        plan,
        options: wanted.options.clone(),
        metadata: Value::Null,
        created_at: Timestamp::now(),
        server: Arc::default(),
        id,
    };
    // Before anything takes time, so that of two calls at once one is refused.
    core.write(|world| {
        let add_ons = &mut world.platform.add_ons;
        if add_ons.contains_key(&add_on.name) {
            return Err(FlyError::unprocessable(
                "Validation failed: Name has already been taken",
            ));
        }
        add_ons.insert(add_on.name.clone(), add_on.clone());
        Ok(())
    })?;
    core.options.latency.pause("redis.create").await;
    match start(core, &add_on.id).await {
        Ok(server) => {
            *add_on.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
        }
        Err(why) => {
            core.write(|world| world.platform.add_ons.remove(&add_on.name));
            return Err(FlyError::new(http::StatusCode::INTERNAL_SERVER_ERROR, why));
        }
    }
    core.effect(
        call,
        "addon.create",
        None,
        &add_on.id,
        &add_on.name,
        BTreeMap::new(),
        json!({"organization": add_on.org_slug, "plan": add_on.plan}),
    );
    Ok(add_on)
}

async fn start(core: &Core, id: &str) -> Result<Redis, String> {
    let dir = core.dir.join("redis").join(id);
    std::fs::create_dir_all(&dir).map_err(|error| error.to_string())?;
    Redis::start(&dir).await.map_err(|error| error.to_string())
}

/// Changes what can be changed.
pub fn update(
    core: &Shared,
    caller: &Caller,
    call: CallId,
    id: &str,
    change: impl FnOnce(&mut AddOn) -> FlyResult<()>,
) -> FlyResult<AddOn> {
    let missing = || FlyError::not_found("Could not find AddOn");
    let add_on = find(core, caller, None, Some(id)).ok_or_else(missing)?;
    may_change(caller, &add_on.org_slug)?;
    let changed = core.write(|world| {
        let add_on = world
            .platform
            .add_ons
            .get_mut(&add_on.name)
            .ok_or_else(missing)?;
        change(add_on)?;
        Ok::<_, FlyError>(add_on.clone())
    })?;
    core.effect(
        call,
        "addon.update",
        None,
        id,
        &changed.name,
        BTreeMap::new(),
        json!({"plan": changed.plan}),
    );
    Ok(changed)
}

/// Whether there is a plan with this id.
pub fn is_plan(id: &str) -> bool {
    PLANS.iter().any(|plan| plan.0 == id)
}

/// Deletes an add-on and ends its server.
pub async fn delete(core: &Shared, caller: &Caller, call: CallId, name: &str) -> FlyResult<String> {
    let add_on = find(core, caller, Some(name), None)
        .ok_or_else(|| FlyError::not_found(format!("Could not find AddOn \"{name}\"")))?;
    may_change(caller, &add_on.org_slug)?;
    remove(core, call, name).await;
    Ok(name.to_owned())
}

/// Removes an add-on and ends its server; says whether there was one.
pub async fn remove(core: &Shared, call: CallId, name: &str) -> bool {
    let Some(add_on) = core.write(|world| world.platform.add_ons.remove(name)) else {
        return false;
    };
    core.effect(
        call,
        "addon.delete",
        None,
        &add_on.id,
        name,
        BTreeMap::new(),
        Value::Null,
    );
    let server = add_on
        .server
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    // Ending a process waits for it.
    let _ = tokio::task::spawn_blocking(move || drop(server)).await;
    true
}
