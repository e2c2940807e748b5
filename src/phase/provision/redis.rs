//! Redis: an Upstash database or one that exists elsewhere, and `REDIS_URL` pushed to the app.

use std::{collections::BTreeMap, fmt, time::Duration};

use jiff::Timestamp;
use secrecy::SecretString;

use super::ours::{gone, may_exist, record_creation, unconfirmed, was_created};
use crate::{
    api::{
        Reason, policy::Deletion, provision::Redis as RedisSpec, reference::UrlSource,
        status::ExternalObject,
    },
    error::Error,
    fly::NewRedis,
    phase::{
        absence::{self, Doubt},
        already,
        app_name::OwnClaim,
        app_overview,
        app_secrets::{self, Comparison},
        left_behind::{LeftBehind, why},
        lost::{self, Lost},
        names::{self, REDIS_URL},
        redis_plans,
        release_secrets::{self, Leads},
        wanted_secrets::set_secrets,
    },
    pipeline::{
        ChangeVerb, Cx, Note, PlannedChange, Removal, Slot, Step, StepChange, StepId, Verdict,
        Wake, Why, step::Result,
    },
    plan::{Target, cost::Billed},
    store::claim,
};

/// Creates Redis and pushes its URL.
pub struct Redis;

/// Kind of the database in `status.external[]` and `status.intents[]`.
const KIND: &str = crate::api::status::ExternalKind::UpstashRedis.as_str();

/// Pause before it is observed whether a deleted database is gone.
const AGAIN: Duration = Duration::from_millis(500);

/// Fact: `REDIS_URL`.
#[derive(Debug)]
struct RedisUrl(SecretString);

/// What is known of Redis.
#[derive(Debug)]
pub enum RedisState {
    /// The spec requests none.
    NotRequested,
    /// The database does not exist.
    NotFound,
    /// The one that the app has used is not found.
    Lost(Lost),
    /// The database is on record and this look does not show it, which is no proof.
    Unseen {
        /// Pause until the next look.
        again: Duration,
        /// This process has seen it.
        known: bool,
    },
    /// The URL is known.
    Known {
        /// Whether Fly.io has it.
        compared: Comparison,
        /// It is set by Deploy: a release with another one serves.
        waits: bool,
        /// It exists elsewhere.
        external: bool,
    },
}

/// Redis, and a former database that is left behind.
#[derive(Debug)]
pub struct Observed {
    state: RedisState,
    left: LeftBehind,
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub enum RedisChange {
    /// Create the Upstash database.
    Create(String),
    /// Set `REDIS_URL`.
    Push,
}

impl fmt::Display for RedisChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(name) => write!(f, "create the Redis database {name}"),
            Self::Push => write!(f, "set the secret {REDIS_URL}"),
        }
    }
}

impl StepChange for RedisChange {
    fn planned(&self) -> Vec<PlannedChange> {
        match self {
            Self::Create(name) => vec![PlannedChange::new(ChangeVerb::Create, KIND, name)],
            Self::Push => set_secrets("", [REDIS_URL]).into_iter().collect(),
        }
    }
}

/// All that is done where there is no Redis of the app. Pure.
fn planned(target: &Target) -> Vec<PlannedChange> {
    let Some(spec) = &target.provision.redis else {
        return Vec::new();
    };
    let create = spec.upstash.as_ref().filter(|_| spec.external.is_none());
    let create = create.map(|upstash| {
        let region = upstash.region.as_ref().unwrap_or(&target.region);
        let eviction = if upstash.eviction { "yes" } else { "no" };
        PlannedChange::new(ChangeVerb::Create, KIND, names::redis(&target.app))
            .set("plan", &upstash.plan)
            .set("region", region)
            .set("eviction", eviction)
    });
    let url = set_secrets(&target.app, [REDIS_URL]);
    create.into_iter().chain(url).collect()
}

fn slot(name: String) -> Slot {
    Slot {
        kind: KIND.to_owned(),
        name,
    }
}

impl Step for Redis {
    type Observed = Observed;
    type Change = RedisChange;

    fn id(&self) -> StepId {
        StepId::Redis
    }

    fn needs(&self) -> &'static [StepId] {
        &[StepId::App]
    }

    fn reads(&self) -> u32 {
        0
    }

    fn reads_overview(&self) -> bool {
        true
    }

    fn expected_creates(&self, cx: &Cx) -> Vec<Slot> {
        let spec = cx.target.provision.redis.as_ref();
        spec.filter(|spec| spec.external.is_none())
            .map(|_| slot(names::redis(&cx.target.app)))
            .into_iter()
            .collect()
    }

    async fn observe(&self, cx: &Cx) -> Result<Observed> {
        let state = observe_state(cx).await?;
        let left = LeftBehind::new(cx, left(cx, &state).await?);
        Ok(Observed { state, left })
    }

    fn diff(&self, target: &Target, observed: &Observed, _now: Timestamp) -> Verdict<RedisChange> {
        observed.left.hold(decide(target, &observed.state))
    }

    fn plan(&self, target: &Target, _: &Observed, change: &RedisChange) -> Vec<PlannedChange> {
        match change {
            RedisChange::Create(_) => planned(target),
            RedisChange::Push => set_secrets(&target.app, [REDIS_URL]).into_iter().collect(),
        }
    }

    /// Upstash sets its prices.
    fn billed(&self, cx: &Cx) -> Vec<Billed> {
        let spec = cx.target.provision.redis.as_ref();
        let upstash = spec.filter(|spec| spec.external.is_none());
        let upstash = upstash.and_then(|spec| spec.upstash.as_ref());
        let name = |upstash: &crate::api::provision::UpstashRedis| {
            format!("Upstash Redis {}", upstash.plan)
        };
        upstash
            .map(|upstash| Billed::Other(name(upstash)))
            .into_iter()
            .collect()
    }

    fn expected(&self, cx: &Cx) -> Vec<PlannedChange> {
        planned(&cx.target)
    }

    fn intent(&self, _target: &Target, change: &RedisChange) -> Option<Slot> {
        match change {
            RedisChange::Create(name) => Some(slot(name.clone())),
            RedisChange::Push => None,
        }
    }

    fn notes(&self, target: &Target, observed: &Observed) -> Vec<Note> {
        let mut notes = observed.left.notes();
        let is_ours = match &observed.state {
            RedisState::NotRequested | RedisState::NotFound => false,
            RedisState::Lost(lost) => {
                notes.extend(lost.notes());
                false
            }
            // It counts as there until a second look.
            RedisState::Unseen { .. } => true,
            RedisState::Known {
                compared, external, ..
            } => {
                notes.extend(compared.notes());
                !external
            }
        };
        if is_ours {
            notes.push(Note::External(ExternalObject {
                kind: KIND.to_owned(),
                id: names::redis(&target.app),
                name: names::redis(&target.app),
                ..ExternalObject::default()
            }));
        }
        notes
    }

    async fn act(&self, cx: &Cx, change: RedisChange) -> Result<()> {
        match change {
            RedisChange::Create(name) => create(cx, name).await,
            RedisChange::Push => {
                let Some(url) = cx.facts.get::<RedisUrl>() else {
                    return Err(Error::NotKnown("the URL of the Redis database"));
                };
                let value: BTreeMap<String, Option<SecretString>> =
                    BTreeMap::from([(REDIS_URL.to_owned(), Some(url.0.clone()))]);
                app_secrets::push(cx, value).await
            }
        }
    }

    async fn remove(&self, cx: &Cx) -> Result<Removal> {
        // One that was created is ours also when the spec names another one by now.
        if !may_exist(cx, StepId::Redis, claim::REDIS, KIND).await? {
            return Ok(Removal::Gone);
        }
        let name = names::redis(&cx.target.app);
        let found = cx.fly.redis(&name).await;
        let found = found.map_err(|source| Error::fly("read the Redis database", source))?;
        let ours = found.is_some_and(|found| {
            found
                .organization
                .and_then(|org| org.slug)
                .is_none_or(|slug| slug == cx.target.organization)
        });
        if !ours {
            return Ok(gone(cx, KIND, &name));
        }
        absence::cleared(cx, Doubt::Gone, KIND, &name);
        if cx.target.deletion.redis == Deletion::Retain {
            return Ok(Removal::Retained(format!("the Redis database {name}")));
        }
        if !was_created(cx, claim::REDIS).await? {
            return Ok(Removal::Retained(format!(
                "the Redis database {name}, which is not on record as created by this Activation"
            )));
        }
        if !cx.target.data_deletion_confirmed {
            return Ok(unconfirmed(cx, &format!("the Redis database {name}")));
        }
        cx.fly
            .delete_redis(&name)
            .await
            .map_err(|source| Error::fly(format!("delete the Redis database {name}"), source))?;
        absence::deletion_accepted(cx, KIND, &name);
        Ok(Removal::Pending {
            why: Why::new(
                Reason::Deleting,
                format!("the Redis database {name} is being deleted"),
            ),
            again: AGAIN,
        })
    }
}

/// Reads the Redis that the spec asks for.
async fn observe_state(cx: &Cx) -> Result<RedisState> {
    let Some(spec) = &cx.target.provision.redis else {
        release_secrets::address_waits(cx, REDIS_URL, None);
        return Ok(RedisState::NotRequested);
    };
    let url = match &spec.external {
        Some(source) => external_url(cx, source)?,
        None => match upstash_url(cx).await? {
            Some(url) => {
                absence::cleared(cx, Doubt::Gone, KIND, &names::redis(&cx.target.app));
                url
            }
            None => {
                if let Some(lost) = lost(cx) {
                    return Ok(RedisState::Lost(lost));
                }
                let known = cx.facts.get::<RedisUrl>().is_some();
                let mut recorded = cx.recorded.external.iter();
                let on_record = known || recorded.any(|object| object.kind == KIND);
                let name = names::redis(&cx.target.app);
                if on_record && let Some(again) = absence::seen(cx, Doubt::Gone, KIND, &name) {
                    return Ok(RedisState::Unseen { again, known });
                }
                return Ok(RedisState::NotFound);
            }
        },
    };
    lost::found(cx, StepId::Redis);
    let served = release_secrets::served(cx).await?;
    let served = served.as_ref().and_then(|served| served.redis.as_ref());
    let leads = leads(spec, served);
    let compared = release_secrets::compare_address(cx, REDIS_URL, url.clone(), leads);
    let (compared, waits) = compared.await?;
    cx.facts.set(RedisUrl(url));
    Ok(RedisState::Known {
        compared,
        waits,
        external: spec.external.is_some(),
    })
}

/// Where the URL leads, beside that of the release that serves: the app has one Upstash database, by its name, so
/// that one with another URL was made again in the place of the former.
fn leads(spec: &RedisSpec, served: Option<&RedisSpec>) -> Leads {
    let is_upstash = |spec: &RedisSpec| spec.external.is_none();
    if is_upstash(spec) && served.is_some_and(is_upstash) {
        Leads::ToTheSame
    } else {
        Leads::Elsewhere
    }
}

/// The database that is on record, if the application has got its URL. One whose data Redis may drop
/// at any time is a cache, and a new one serves as well.
fn lost(cx: &Cx) -> Option<Lost> {
    let upstash = cx.target.provision.redis.as_ref()?.upstash.as_ref();
    if upstash.is_some_and(|upstash| upstash.eviction) {
        return None;
    }
    let recorded = lost::recorded(cx, KIND)?.clone();
    let pushed = lost::pushed(cx, REDIS_URL)?;
    let what = format!("the Redis database {}", recorded.name);
    let marks = vec![lost::mark(&recorded.name, &pushed.fingerprint)];
    let records = vec![Note::External(recorded), Note::Secret(pushed)];
    Some(Lost::new(cx, StepId::Redis, what, (marks, records)))
}

/// Decides what comes next. Pure.
fn decide(target: &Target, observed: &RedisState) -> Verdict<RedisChange> {
    let create_anew = || Verdict::Change(RedisChange::Create(names::redis(&target.app)));
    match observed {
        RedisState::NotRequested => Verdict::Skipped(Why::new(Reason::NotRequested, "no `redis`")),
        RedisState::NotFound => create_anew(),
        RedisState::Lost(lost) => lost.verdict(
            target,
            |what, command| {
                Why::new(
                    Reason::RedisLost,
                    format!("{what}, which the app has used, is gone at Fly.io with its data"),
                )
                .next(format!(
                    "have a new, empty one created: `{command}`; or use `redis.external`"
                ))
            },
            create_anew,
        ),
        RedisState::Unseen { again, known: true } => Verdict::Holds(*again),
        RedisState::Unseen { again, .. } => Verdict::Wait {
            why: Why::new(
                Reason::ObservationUnknown,
                format!(
                    "Fly.io does not show the Redis database {}, which is on record; Golive checks again before it creates another one",
                    names::redis(&target.app)
                ),
            ),
            wake: Wake::After(*again),
        },
        RedisState::Known {
            compared, waits, ..
        } if *waits || compared.stale.is_empty() => Verdict::Done,
        RedisState::Known { .. } => Verdict::Change(RedisChange::Push),
    }
}

/// The database of our name, when the spec does not ask for it any more and it is on record.
async fn left(cx: &Cx, state: &RedisState) -> Result<Vec<ExternalObject>> {
    let unused = match state {
        RedisState::NotRequested => true,
        RedisState::NotFound | RedisState::Lost(_) | RedisState::Unseen { .. } => false,
        RedisState::Known { external, .. } => *external,
    };
    let mut recorded = cx.recorded.external.iter();
    let recorded = recorded.find(|object| object.kind == KIND);
    let claim = cx.facts.get::<OwnClaim>();
    let made = claim.is_some_and(|claim| claim.0.made.contains(claim::REDIS));
    if !unused || !(made || recorded.is_some()) {
        return Ok(Vec::new());
    }
    let name = names::redis(&cx.target.app);
    let found = cx.fly.redis(&name).await;
    let found = found.map_err(|source| Error::fly("read the former Redis database", source))?;
    let ours = found.filter(|found| {
        let owner = found
            .organization
            .as_ref()
            .and_then(|org| org.slug.as_ref());
        owner.is_none_or(|slug| *slug == cx.target.organization)
    });
    let found = ours.is_some();
    let is_there = recorded.map_or(found, |object| {
        absence::counts_as_there(cx, KIND, &object.id, found)
    });
    Ok(is_there
        .then(|| ExternalObject {
            kind: KIND.to_owned(),
            id: name.clone(),
            retained: Some(why(None, &format!("fly redis destroy {name}"))),
            name,
            ..ExternalObject::default()
        })
        .into_iter()
        .collect())
}

/// The URL in the Secret that the spec names.
fn external_url(cx: &Cx, source: &UrlSource) -> Result<SecretString> {
    let reference = &source.url_secret_ref;
    let value = cx.refs.secret(&reference.name, &reference.key);
    value.cloned().map_err(|missing| Error::Blocked {
        reason: missing.reason(),
        message: missing.to_string(),
        action: missing.action(&cx.owner.namespace),
    })
}

/// The URL of the Redis of the target; `None` when there is none now.
///
/// # Errors
/// When Fly.io does not answer, or has no URL for a database that exists.
pub(super) async fn url(cx: &Cx) -> Result<Option<SecretString>> {
    let Some(spec) = &cx.target.provision.redis else {
        return Ok(None);
    };
    match &spec.external {
        Some(source) => Ok(external_url(cx, source).ok()),
        None => upstash_url(cx).await,
    }
}

/// The URL of the Upstash database of our name; `None` when there is no such database.
async fn upstash_url(cx: &Cx) -> Result<Option<SecretString>> {
    let name = names::redis(&cx.target.app);
    let failed = |message, action| Error::Blocked {
        reason: Reason::RedisFailed,
        message,
        action,
    };
    let found = match app_overview::redis(cx).await {
        Some(found) => Some(found),
        None => {
            let found = cx.fly.redis(&name).await;
            found.map_err(|source| Error::fly("read the Redis database", source))?
        }
    };
    let Some(found) = found else {
        return Ok(None);
    };
    let owner = found.organization.and_then(|org| org.slug);
    if owner.is_some_and(|slug| slug != cx.target.organization) {
        return Err(failed(
            format!("a Redis database {name} exists in another organization"),
            "use `redis.external`".to_owned(),
        ));
    }
    match (found.url, found.error_message) {
        (Some(url), _) => Ok(Some(url)),
        (None, Some(error)) if !error.is_empty() => Err(failed(
            format!("the Redis database {name} failed at Fly.io"),
            format!(
                "look at it with `fly redis status {name}`, destroy it to have it created anew, or use `redis.external`"
            ),
        )),
        _ => Err(Error::NotKnown("the URL of the Redis database")),
    }
}

/// Creates the database. The API takes ids where the spec has names.
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
    let Some(plan) = redis_plans::find(&plans, &spec.plan) else {
        return Err(Error::Blocked {
            reason: Reason::RedisFailed,
            message: format!("there is no Redis plan {}", spec.plan),
            action: format!(
                "set `redis.upstash.plan` to one of {}",
                redis_plans::names(&plans).join(", ")
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
    record_creation(cx, claim::REDIS).await?;
    let created = cx.fly.create_redis(&new).await;
    // Names are unique over all organizations, and one of another is not shown.
    already::exists_once(cx, format!("create the Redis database {name}"), created)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::plan::testing::target;

    fn known(stale: bool) -> RedisState {
        let stale = stale.then(|| REDIS_URL.to_owned());
        RedisState::Known {
            compared: Comparison {
                stale: stale.into_iter().collect(),
                current: Vec::new(),
            },
            waits: false,
            external: false,
        }
    }

    #[test]
    fn another_address_of_the_same_database_repairs_what_serves_and_one_of_another_waits() {
        let spec = |text: &str| serde_json::from_str::<RedisSpec>(text).unwrap();
        let upstash = spec(r#"{"upstash": {}}"#);
        let external = spec(r#"{"external": {"urlSecretRef": {"name": "redis", "key": "url"}}}"#);
        assert_eq!(leads(&upstash, Some(&upstash)), Leads::ToTheSame);
        for (spec, served) in [
            (&upstash, None),
            (&upstash, Some(&external)),
            (&external, Some(&external)),
            (&external, Some(&upstash)),
        ] {
            assert_eq!(leads(spec, served), Leads::Elsewhere);
        }
    }

    #[test]
    fn redis_is_created_after_its_announcement_and_its_url_is_pushed() {
        let target = target("provision: {redis: {upstash: {}}}");
        let next = |observed: &RedisState| decide(&target, observed);
        let create = RedisChange::Create("shop-redis".to_owned());
        assert_eq!(
            Redis.intent(&target, &create).map(|s| s.name),
            Some("shop-redis".to_owned())
        );
        assert_eq!(next(&RedisState::NotFound), Verdict::Change(create));
        assert_eq!(next(&known(true)), Verdict::Change(RedisChange::Push));
        assert_eq!(next(&known(false)), Verdict::Done);
        assert!(matches!(
            next(&RedisState::NotRequested),
            Verdict::Skipped(_)
        ));
    }
}
