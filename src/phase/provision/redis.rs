//! Redis: an Upstash database or one that exists elsewhere, and `REDIS_URL` pushed to the app.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use secrecy::SecretString;

use super::app;
use crate::phase::app_secrets as push;
use crate::{
    api::{Reason, policy::Deletion, status::ExternalObject},
    error::Error,
    fly::redis::{NewRedis, RedisPlan},
    pipeline::{Cx, Note, Removal, Slot, Step, StepChange, StepId, Verdict, Why, step::Result},
    plan::Target,
    store::claim,
};

/// Redis.
pub struct Redis;

/// The variable that carries the URL.
pub const VARIABLE: &str = "REDIS_URL";

/// What there is.
#[derive(Debug)]
pub enum Observed {
    /// None is asked for.
    NotAsked,
    /// The database does not exist.
    Nothing,
    /// The URL is known; is it at Fly.io?
    Known {
        /// What Fly.io has of it.
        compared: push::Compared,
        /// It exists elsewhere.
        external: bool,
    },
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// Create the Upstash database.
    Create(String),
    /// Set `REDIS_URL`.
    Push,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(name) => write!(f, "create the Redis database {name}"),
            Self::Push => write!(f, "set the secret {VARIABLE}"),
        }
    }
}

impl StepChange for Change {}

/// Name of the database.
pub fn name(app: &str) -> String {
    format!("{app}-redis")
}

fn slot(name: String) -> Slot {
    Slot {
        kind: "UpstashRedis".to_owned(),
        name,
    }
}

impl Step for Redis {
    type Observed = Observed;
    type Change = Change;

    fn id(&self) -> StepId {
        StepId::Redis
    }

    fn needs(&self) -> &'static [StepId] {
        &[StepId::App]
    }

    fn reads(&self) -> u32 {
        2
    }

    fn foresees(&self, cx: &Cx) -> Vec<Slot> {
        let spec = cx.target.provision.redis.as_ref();
        spec.filter(|spec| spec.external.is_none())
            .map(|_| slot(name(&cx.target.app)))
            .into_iter()
            .collect()
    }

    async fn observe(&self, cx: &Cx) -> Result<Observed> {
        let Some(spec) = &cx.target.provision.redis else {
            return Ok(Observed::NotAsked);
        };
        let url = if let Some(source) = &spec.external {
            let reference = &source.url_secret_ref;
            let value = cx.refs.secret(&reference.name, &reference.key);
            value.cloned().map_err(|missing| Error::Blocked {
                reason: missing.reason(),
                message: missing.to_string(),
            })?
        } else {
            let found = cx.fly.redis(&name(&cx.target.app)).await;
            let found = found.map_err(|source| Error::fly("read the Redis database", source))?;
            let Some(found) = found else {
                return Ok(Observed::Nothing);
            };
            let owner = found.organization.and_then(|org| org.slug);
            if owner.is_some_and(|slug| slug != cx.target.organization) {
                return Err(Error::Blocked {
                    reason: Reason::RedisFailed,
                    message: format!(
                        "a Redis database {} exists in another organization: use `redis.external`",
                        name(&cx.target.app)
                    ),
                });
            }
            match (found.url, found.error_message) {
                (Some(url), _) => url,
                (None, Some(error)) if !error.is_empty() => {
                    return Err(Error::Blocked {
                        reason: Reason::RedisFailed,
                        message: format!(
                            "the Redis database {0} failed at Fly.io: look at it with `fly redis status {0}`, destroy it to have it created anew, or use `redis.external`",
                            name(&cx.target.app)
                        ),
                    });
                }
                _ => return Err(Error::NotKnown("the URL of the Redis database")),
            }
        };
        let values = BTreeMap::from([(VARIABLE.to_owned(), url.clone())]);
        let compared = push::look(cx, &values).await?;
        cx.facts.redis_url.set(url);
        Ok(Observed::Known {
            compared,
            external: spec.external.is_some(),
        })
    }

    fn diff(&self, target: &Target, observed: &Observed, _now: Timestamp) -> Verdict<Change> {
        match observed {
            Observed::NotAsked => Verdict::Skipped(Why::new(Reason::NotRequested, "no `redis`")),
            Observed::Nothing => Verdict::Change(Change::Create(name(&target.app))),
            Observed::Known { compared, .. } if compared.stale.is_empty() => Verdict::Done,
            Observed::Known { .. } => Verdict::Change(Change::Push),
        }
    }

    fn intent(&self, _target: &Target, change: &Change) -> Option<Slot> {
        match change {
            Change::Create(name) => Some(slot(name.clone())),
            Change::Push => None,
        }
    }

    fn notes(&self, target: &Target, observed: &Observed) -> Vec<Note> {
        let Observed::Known { compared, external } = observed else {
            return Vec::new();
        };
        let mut notes = compared.notes();
        if !external {
            notes.push(Note::External(ExternalObject {
                kind: "UpstashRedis".to_owned(),
                id: name(&target.app),
                name: name(&target.app),
                last_observed_time: None,
            }));
        }
        notes
    }

    async fn act(&self, cx: &Cx, change: Change) -> Result<()> {
        match change {
            Change::Create(name) => create(cx, name).await,
            Change::Push => {
                let Some(url) = cx.facts.redis_url.get() else {
                    return Err(Error::NotKnown("the URL of the Redis database"));
                };
                let value: BTreeMap<String, Option<SecretString>> =
                    BTreeMap::from([(VARIABLE.to_owned(), Some((*url).clone()))]);
                push::push(cx, value).await
            }
        }
    }

    async fn remove(&self, cx: &Cx) -> Result<Removal> {
        let asked = cx.target.provision.redis.as_ref();
        let asked = asked.is_some_and(|spec| spec.external.is_none());
        // One that was made is ours also when the spec names another one by now.
        if !asked && !app::was_made(cx, claim::REDIS).await? {
            return Ok(Removal::Gone);
        }
        let name = name(&cx.target.app);
        let found = cx.fly.redis(&name).await;
        let found = found.map_err(|source| Error::fly("read the Redis database", source))?;
        let ours = found.is_some_and(|found| {
            found
                .organization
                .and_then(|org| org.slug)
                .is_none_or(|slug| slug == cx.target.organization)
        });
        if !ours {
            return Ok(Removal::Gone);
        }
        if cx.target.deletion.redis == Deletion::Retain {
            return Ok(Removal::Retained(format!("the Redis database {name}")));
        }
        if !app::was_made(cx, claim::REDIS).await? {
            return Ok(Removal::Retained(format!(
                "the Redis database {name}, which was there before this Activation"
            )));
        }
        cx.fly
            .delete_redis(&name)
            .await
            .map_err(|source| Error::fly(format!("delete the Redis database {name}"), source))?;
        Ok(Removal::Gone)
    }
}

/// Creates the database. The API wants ids where people write names.
async fn create(cx: &Cx, name: String) -> Result<()> {
    let spec = cx
        .target
        .provision
        .redis
        .as_ref()
        .and_then(|redis| redis.upstash.clone())
        .unwrap_or_default();
    let organization = cx
        .fly
        .organization(&cx.target.organization)
        .await
        .map_err(|source| Error::fly("read the organization", source))?
        .ok_or(Error::NotKnown("the organization"))?;
    let plans = cx
        .fly
        .redis_plans()
        .await
        .map_err(|source| Error::fly("list the plans of Redis", source))?;
    let Some(plan) = plan_named(&plans, &spec.plan) else {
        return Err(Error::Blocked {
            reason: Reason::RedisFailed,
            message: format!(
                "there is no Redis plan {}: set `redis.upstash.plan` to one of {}",
                spec.plan,
                names_of(&plans).join(", ")
            ),
        });
    };
    let new = NewRedis {
        name: name.clone(),
        organization_id: organization.id,
        primary_region: spec.region.unwrap_or_else(|| cx.target.region.clone()),
        plan_id: plan.id.clone(),
        eviction: spec.eviction,
    };
    app::note_made(cx, claim::REDIS).await?;
    match cx.fly.create_redis(&new).await {
        Ok(_) => Ok(()),
        // Names are unique: the first try, whose reply was lost. The next look finds it.
        Err(error) if app::is_name_taken(&error) => Ok(()),
        Err(source) => Err(Error::fly(
            format!("create the Redis database {name}"),
            source,
        )),
    }
}

/// The plan that is meant by a name.
pub fn plan_named<'a>(plans: &'a [RedisPlan], wanted: &str) -> Option<&'a RedisPlan> {
    plans.iter().find(|plan| {
        let names = [
            plan.name.as_deref(),
            plan.display_name.as_deref(),
            Some(plan.id.as_str()),
        ];
        names
            .into_iter()
            .flatten()
            .any(|name| slug(name) == slug(wanted))
    })
}

/// The names of the plans that there are.
pub fn names_of(plans: &[RedisPlan]) -> Vec<String> {
    plans
        .iter()
        .filter_map(|plan| plan.display_name.as_deref().or(plan.name.as_deref()))
        .map(slug)
        .collect()
}

/// `Pay-as-you-go` and `pay as you go` are the same plan.
fn slug(name: &str) -> String {
    name.trim().to_lowercase().replace([' ', '_'], "-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::target;

    fn known(stale: bool) -> Observed {
        let stale = stale.then(|| VARIABLE.to_owned());
        Observed::Known {
            compared: push::Compared {
                stale: stale.into_iter().collect(),
                settled: Vec::new(),
            },
            external: false,
        }
    }

    #[test]
    fn redis_is_created_once_announced_and_its_url_pushed() {
        let target = target("provision: {redis: {upstash: {}}}");
        let next = |observed: &Observed| Redis.diff(&target, observed, Timestamp::UNIX_EPOCH);
        let create = Change::Create("shop-redis".to_owned());
        assert_eq!(
            Redis.intent(&target, &create).map(|s| s.name),
            Some("shop-redis".to_owned())
        );
        assert_eq!(next(&Observed::Nothing), Verdict::Change(create));
        assert_eq!(next(&known(true)), Verdict::Change(Change::Push));
        assert_eq!(next(&known(false)), Verdict::Done);
        assert!(matches!(next(&Observed::NotAsked), Verdict::Skipped(_)));
    }

    #[test]
    fn a_plan_is_found_however_people_write_it() {
        assert_eq!(slug(" Pay as you go "), slug("pay-as-you-go"));
    }
}
