//! Fly.io offers the requested databases: plan, version, size, region.

use super::check::{Check, Finding};
use crate::{
    api::{Reason, preflight::CheckName, provision::UpstashRedis, status::Severity},
    error::Error,
    fly::{RedisPlan, postgres::ClusterRegion},
    flytoml,
    phase::{names, redis_plans},
    pipeline::{Cx, step::Result},
    plan::{Database, Redis, Target},
};

/// Fly.io offers the requested databases.
pub struct DatabasePlanUsable;

/// The plans of managed Postgres (fly.io/docs/mpg/). flyctl takes a misspelt plan for the cheapest,
/// so they are compared here.
const PLANS: [&str; 5] = ["basic", "starter", "launch", "scale", "performance"];

/// The major versions of PostgreSQL that managed clusters are created with.
const VERSIONS: std::ops::RangeInclusive<u32> = 16..=17;

/// Volume sizes of a managed cluster, in GB.
const MANAGED_GB: std::ops::RangeInclusive<u32> = 10..=1000;

/// Volume sizes of any other machine, in GB (fly.io/docs/volumes/).
const VOLUME_GB: std::ops::RangeInclusive<u32> = 1..=500;

/// What Fly.io offers, as far as it was read.
#[derive(Debug, Default)]
pub struct Offers {
    /// The regions of managed Postgres; `None`: not read.
    regions: Option<Vec<ClusterRegion>>,
    /// The cluster exists already, so that region, version and size no longer matter.
    exists: bool,
    /// The plans of Redis; `None`: not read.
    plans: Option<Vec<RedisPlan>>,
    /// Why no Redis can be created in its region.
    redis_region: Option<&'static str>,
}

fn has_postgres(regions: &[ClusterRegion], code: &str) -> bool {
    regions
        .iter()
        .any(|region| region.code == code && region.available != Some(false))
}

impl Check for DatabasePlanUsable {
    type Observed = Offers;
    const NAME: CheckName = CheckName::DatabasePlanUsable;
    const SEVERITY: Severity = Severity::Blocking;

    async fn observe(&self, cx: &Cx) -> Result<Offers> {
        let target = &cx.target;
        let slug = &target.organization;
        let clusters = async {
            if !matches!(target.database(), Some(Database::Managed(_))) {
                return Ok((None, false));
            }
            let regions = match cx.fly.postgres_regions(slug).await {
                Ok(regions) => regions,
                // OrganizationUsable and TokenScope report it.
                Err(error) if error.is_forbidden() || error.is_gone() => return Ok((None, false)),
                Err(source) => {
                    return Err(Error::fly("list the regions of managed Postgres", source));
                }
            };
            if has_postgres(&regions, &target.region) && is_offered(target) {
                return Ok((Some(regions), false));
            }
            let wanted = names::postgres(&target.app);
            let found = cx
                .fly
                .postgres_clusters(slug)
                .await
                .map_err(|source| Error::fly("list the managed Postgres clusters", source))?;
            let exists = found
                .iter()
                .any(|cluster| cluster.name == wanted && !cluster.status.is_over());
            Ok((Some(regions), exists))
        };
        let plans = async {
            if !matches!(target.redis(), Some(Redis::Upstash(_))) {
                return Ok(None);
            }
            cx.fly
                .redis_plans()
                .await
                .map(Some)
                .map_err(|source| Error::fly("list the plans of Redis", source))
        };
        let redis_region = redis_region(cx);
        let ((regions, exists), plans, redis_region) =
            futures::try_join!(clusters, plans, redis_region)?;
        Ok(Offers {
            regions,
            exists,
            plans,
            redis_region,
        })
    }

    fn judge(&self, target: &Target, offers: &Offers) -> Finding {
        let found = [
            database(target, offers),
            plan_of_redis(target, offers),
            region_of_redis(target, offers),
        ];
        let wrong: Vec<(String, String)> = found.into_iter().flatten().collect();
        if wrong.is_empty() {
            let requested = target.database().is_some() || target.redis().is_some();
            return Finding::passed(if requested {
                "Fly.io offers the requested databases"
            } else {
                "no database is requested"
            });
        }
        let (messages, actions): (Vec<String>, Vec<String>) = wrong.into_iter().unzip();
        Finding::failed(
            Reason::DatabasePlanUnusable,
            messages.join("; "),
            actions.join("; "),
        )
    }
}

fn database(target: &Target, offers: &Offers) -> Option<(String, String)> {
    match target.database()? {
        Database::Managed(spec) => {
            if !PLANS.contains(&spec.plan.as_str()) {
                return Some((
                    format!("managed Postgres has no plan {}", spec.plan),
                    format!("set `postgres.managed.plan` to one of {}", PLANS.join(", ")),
                ));
            }
            if !offers.exists && !VERSIONS.contains(&spec.version) {
                return Some((
                    format!(
                        "Fly.io makes no managed Postgres with PostgreSQL {}",
                        spec.version
                    ),
                    format!(
                        "set `postgres.managed.version` to {} or {}; it is fixed once the object exists: delete and create the Activation again",
                        VERSIONS.start(),
                        VERSIONS.end()
                    ),
                ));
            }
            if !offers.exists && !MANAGED_GB.contains(&spec.volume_size_gb) {
                return Some(size("managed", spec.volume_size_gb, &MANAGED_GB));
            }
            let regions = offers.regions.as_ref()?;
            if offers.exists || has_postgres(regions, &target.region) {
                return None;
            }
            let codes: Vec<&str> = regions
                .iter()
                .filter(|region| region.available != Some(false))
                .map(|region| region.code.as_str())
                .collect();
            Some((
                format!("there is no managed Postgres in {}", target.region),
                format!(
                    "use `postgres.flyPostgres` or `postgres.external`, or one of the regions {}",
                    codes.join(", ")
                ),
            ))
        }
        Database::FlyPostgres(spec) if !VOLUME_GB.contains(&spec.volume_size_gb) => {
            Some(size("flyPostgres", spec.volume_size_gb, &VOLUME_GB))
        }
        Database::FlyPostgres(spec) => flytoml::parse_size(&spec.size).err().map(|error| {
            (
                error.to_string(),
                "correct `postgres.flyPostgres.size`".to_owned(),
            )
        }),
        Database::External(_) => None,
    }
}

/// The finding about a volume size that Fly.io does not offer.
fn size(kind: &str, gb: u32, offered: &std::ops::RangeInclusive<u32>) -> (String, String) {
    (
        format!("there is no volume of {gb} GB for the database"),
        format!(
            "set `postgres.{kind}.volumeSizeGb` to {} to {}",
            offered.start(),
            offered.end()
        ),
    )
}

/// Whether a managed cluster of the requested version and size can be created.
fn is_offered(target: &Target) -> bool {
    match target.database() {
        Some(Database::Managed(spec)) => {
            VERSIONS.contains(&spec.version) && MANAGED_GB.contains(&spec.volume_size_gb)
        }
        _ => true,
    }
}

/// The region of the requested Redis.
fn region_of<'a>(target: &'a Target, spec: &'a UpstashRedis) -> &'a str {
    spec.region.as_deref().unwrap_or(&target.region)
}

/// Why no Redis can be created in its region; `None` also for one that exists already.
async fn redis_region(cx: &Cx) -> Result<Option<&'static str>> {
    let target = &cx.target;
    let Some(Redis::Upstash(spec)) = target.redis() else {
        return Ok(None);
    };
    let code = region_of(target, spec);
    let regions = cx
        .fly
        .regions()
        .await
        .map_err(|source| Error::fly("list the regions", source))?;
    let excluded = cx
        .fly
        .redis_excluded_regions()
        .await
        .map_err(|source| Error::fly("list the regions without Redis", source))?;
    let why = if !regions.iter().any(|region| region.code == code) {
        "Fly.io has no such region"
    } else if excluded.iter().any(|region| region == code) {
        "Upstash has no Redis there"
    } else {
        return Ok(None);
    };
    let there = cx
        .fly
        .redis(&names::redis(&target.app))
        .await
        .map_err(|source| Error::fly("look for the Redis", source))?;
    Ok(there.is_none().then_some(why))
}

fn region_of_redis(target: &Target, offers: &Offers) -> Option<(String, String)> {
    let Redis::Upstash(spec) = target.redis()? else {
        return None;
    };
    let why = offers.redis_region?;
    Some((
        format!(
            "Redis cannot be in the region {}: {why}",
            region_of(target, spec)
        ),
        "set `redis.upstash.region` to a region near the app that has it".to_owned(),
    ))
}

fn plan_of_redis(target: &Target, offers: &Offers) -> Option<(String, String)> {
    let Redis::Upstash(spec) = target.redis()? else {
        return None;
    };
    let plans = offers.plans.as_ref()?;
    if redis_plans::find(plans, &spec.plan).is_some() {
        return None;
    }
    Some((
        format!("there is no Redis plan {}", spec.plan),
        format!(
            "set `redis.upstash.plan` to one of {}",
            redis_plans::names(plans).join(", ")
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::testing::target;

    fn offers(codes: &[&str], exists: bool) -> Offers {
        Offers {
            regions: Some(
                codes
                    .iter()
                    .map(|code| ClusterRegion {
                        code: (*code).to_owned(),
                        ..ClusterRegion::default()
                    })
                    .collect(),
            ),
            exists,
            plans: Some(vec![RedisPlan {
                display_name: Some("Pay-as-you-go".to_owned()),
                ..RedisPlan::default()
            }]),
            redis_region: None,
        }
    }

    fn passes(provision: &str, offers: &Offers) -> bool {
        let target = target(&format!("provision: {{{provision}}}"), &[]);
        matches!(
            DatabasePlanUsable.judge(&target, offers),
            Finding::Passed(_)
        )
    }

    #[test]
    fn managed_postgres_needs_a_plan_that_exists_and_a_region_that_has_it() {
        let managed = "postgres: {managed: {plan: basic}}";
        assert!(passes(managed, &offers(&["eze"], false)));
        assert!(!passes(managed, &offers(&["ams"], false)));
        assert!(
            passes(managed, &offers(&["ams"], true)),
            "it exists already"
        );
        let typo = "postgres: {managed: {plan: basik}}";
        assert!(!passes(typo, &offers(&["eze"], false)));
    }

    #[test]
    fn a_version_and_a_volume_size_that_fly_does_not_offer_fail() {
        let here = offers(&["eze"], false);
        for version in [14, 18] {
            let old = format!("postgres: {{managed: {{version: {version}}}}}");
            assert!(!passes(&old, &here), "{version}");
            assert!(passes(&old, &offers(&["eze"], true)), "it exists already");
        }
        assert!(passes("postgres: {managed: {version: 17}}", &here));
        assert!(!passes("postgres: {managed: {volumeSizeGb: 9}}", &here));
        assert!(!passes(
            "postgres: {flyPostgres: {volumeSizeGb: 501}}",
            &here
        ));
    }

    #[test]
    fn redis_needs_a_region_that_has_it() {
        let nowhere = Offers {
            redis_region: Some("Upstash has no Redis there"),
            ..offers(&["eze"], false)
        };
        assert!(!passes("redis: {upstash: {region: mad}}", &nowhere));
    }

    #[test]
    fn sizes_and_plans_of_the_others_are_compared_too() {
        let here = offers(&["eze"], false);
        assert!(passes("redis: {upstash: {}}", &here));
        assert!(!passes("redis: {upstash: {plan: huge}}", &here));
        assert!(passes("postgres: {flyPostgres: {}}", &here));
        assert!(!passes("postgres: {flyPostgres: {size: huge}}", &here));
        let external = "postgres: {external: {urlSecretRef: {name: a, key: b}}}";
        assert!(passes(external, &Offers::default()));
        assert!(passes("", &Offers::default()));
    }
}
