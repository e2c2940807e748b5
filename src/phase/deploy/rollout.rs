//! The machines that exist and those that should, for the release that they should run. Observed
//! once for all steps; [`assessment`](super::assessment) adds whether they are healthy and why not.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

use super::{
    fleet::{
        fallback_size,
        health::{self, Health, Watch, health_of},
        kept,
        next_move::{MachineDrift, Plan},
        outlook, sent,
        strategy::{self, Fleet},
        wanted::{self, FleetSpec, WantedMachine, machine_in_slot},
    },
    release::targets::{self, Effective, Targets},
};
use crate::phase::roster;
use crate::{
    api::status::FallbackUsed,
    fly::Machine,
    flytoml::{AppConfig, Strategy},
    phase::{app_secrets, release_secrets},
    pipeline::{Care, Cx, Owner, PlannedChange, step::Result},
    store::image::Image,
};

/// How long a machine may take to become healthy, unless fly.toml declares `wait_timeout`. The
/// default of `fly deploy`.
const WAIT_TIMEOUT: Duration = Duration::from_secs(300);

/// How often one machine is updated to one release again because its host reports the image of
/// another release.
const REPEATS: u32 = 3;

/// The machines that exist and those that should.
#[derive(Debug)]
pub struct Rollout {
    /// The release that serves, and the one that the spec requests.
    pub targets: Targets,
    /// What the machines should run now.
    pub effective: Effective,
    /// The machines that should exist.
    pub desired: DesiredFleet,
    /// Our machines that exist.
    pub machines: Vec<Machine>,
    /// Machines of the app that are not ours.
    pub others: Vec<Machine>,
    /// Versions of machines that this process wrote.
    pub written: BTreeSet<String>,
    /// Names of machines whose update Fly.io reverted in this release.
    pub reverted: BTreeSet<String>,
    /// How long each machine is waited for.
    pub patience: Patience,
    /// A machine was not found at the last look: pause until the next one.
    pub doubt: Option<Duration>,
}

/// The machines that should exist, and how they replace those that do.
#[derive(Debug)]
pub struct DesiredFleet {
    /// The machines.
    pub machines: Vec<WantedMachine>,
    /// The canary of each process group, if the strategy has them.
    pub canaries: Vec<WantedMachine>,
    /// How machines are replaced.
    pub strategy: Strategy,
    /// How many machines of a process group may be updated at the same time.
    pub pools: BTreeMap<String, usize>,
    /// The declared fallback size in use.
    pub fallback: Option<FallbackUsed>,
}

/// Lengths of time of a rollout.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// How long a machine without checks is watched after its start.
    pub watch: Duration,
    /// How long a machine may take to become healthy.
    pub wait_timeout: Duration,
    /// Pause until the next observation, where Fly.io has no long poll.
    pub pause: Duration,
    /// How long the proxies get to learn where the traffic goes.
    pub drain: Duration,
}

/// Observes the machines.
///
/// # Errors
/// When Fly.io or Kubernetes does not answer or the fly.toml cannot be converted.
pub async fn observe(cx: &Cx) -> Result<Rollout> {
    let targets = targets::observe(cx).await?;
    let effective = targets.effective(&cx.target)?;
    let mut machines = roster::ours(cx).await?;
    let others = roster::others(cx);
    let reverted = sent::reverted(cx, &effective.key);
    for machine in &mut machines {
        // Its host keeps reporting another image, whatever that means. The machine is not updated
        // forever.
        if reverted.get(&machine.name).is_some_and(|n| *n >= REPEATS) {
            machine.image_ref = None;
        }
    }
    let mut desired = desired(cx, &effective, &machines)?;
    if targets.keeps_serving {
        desired.machines = kept::wanted(desired.machines, &machines, &effective.key);
        machines = kept::machines(machines, &effective.key);
    }
    Ok(Rollout {
        desired,
        patience: patience(cx, &targets, &effective, &machines),
        written: sent::written(cx, &machines),
        reverted: reverted.into_keys().collect(),
        targets,
        effective,
        machines,
        doubt: roster::doubt(cx),
        others,
    })
}

/// The machines that should exist now, with the marks of this owner.
///
/// # Errors
/// When Kubernetes does not answer or the fly.toml cannot be converted.
pub async fn wanted_by(cx: &Cx, owner: &Owner, machines: &[Machine]) -> Result<Vec<WantedMachine>> {
    let targets = targets::observe(cx).await?;
    let effective = targets.effective(&cx.target)?;
    let cx = Cx {
        owner: owner.clone(),
        ..cx.clone()
    };
    Ok(desired(&cx, &effective, machines)?.machines)
}

/// The machines of the target before anything of it can be observed: with the image as the spec names it, and
/// without the secrets. Pure.
pub fn expected(cx: &Cx) -> Vec<WantedMachine> {
    let target = &cx.target;
    let Ok(config) = target.config() else {
        return Vec::new();
    };
    let image = cx.facts.get::<Image>();
    let image = image.filter(|image| image.asked == target.asked());
    let named = image.map_or_else(
        || target.image_name().to_owned(),
        |image| image.pinned.clone(),
    );
    let spec = FleetSpec {
        scale: &target.deploy.scale,
        regions: &target.deploy.regions,
        region: &target.region,
        owner: &cx.owner,
        config: &config.app,
        image: &named,
        secrets: "",
        release: "",
        size: None,
    };
    wanted::machines(&spec).unwrap_or_default()
}

fn desired(cx: &Cx, effective: &Effective, machines: &[Machine]) -> Result<DesiredFleet> {
    let fallback = fallback_size::in_use(cx, &effective.config, &effective.key, machines);
    let size = match &fallback {
        None => None,
        Some(used) => Some(fallback_size::guest(&used.to)?),
    };
    let strategy = match effective.config.strategy() {
        // A release that has run well before needs no canary.
        Strategy::Canary if effective.rollback.is_some() || cx.care == Care::Serving => {
            Strategy::Rolling
        }
        strategy => strategy,
    };
    let secrets = app_secrets::digest_of(&release_secrets::expected(cx));
    let spec = FleetSpec {
        scale: &cx.target.deploy.scale,
        regions: &cx.target.deploy.regions,
        region: &cx.target.region,
        owner: &cx.owner,
        config: &effective.config,
        image: &effective.pinned,
        secrets: &secrets,
        release: &effective.key,
        size: fallback
            .as_ref()
            .map(|used| used.to.as_str())
            .zip(size.as_ref()),
    };
    let machines = wanted::machines(&spec)?;
    let canaries = match strategy {
        Strategy::Canary => wanted::canaries(&spec)?,
        _ => Vec::new(),
    };
    Ok(DesiredFleet {
        pools: pools(&effective.config, &machines),
        machines,
        canaries,
        strategy,
        fallback,
    })
}

fn patience(cx: &Cx, targets: &Targets, effective: &Effective, machines: &[Machine]) -> Patience {
    let timing = &cx.installation.timing;
    let wait_timeout = effective.config.deploy.wait_timeout;
    Patience {
        // As flyctl, which waits ten seconds by default. A release that has run well is not watched.
        watch: if targets.is_wanted_rolled_out() {
            Duration::ZERO
        } else {
            timing.settle
        },
        wait_timeout: wait_timeout.map_or(WAIT_TIMEOUT, |wait| wait.0),
        pause: health::pause(machines, timing.poll, cx.fly_now()),
        // As flyctl, which waits ten seconds before and after it cordons the old machines.
        drain: timing.settle,
    }
}

/// How many machines of each process group may be updated at the same time.
fn pools(config: &AppConfig, wanted: &[WantedMachine]) -> BTreeMap<String, usize> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for wanted in wanted.iter().filter(|wanted| !wanted.standby) {
        *counts.entry(wanted.group.clone()).or_default() += 1;
    }
    let pool = |(group, count)| (group, config.pool_size(count));
    counts.into_iter().map(pool).collect()
}

impl Rollout {
    /// The existing machines with what each should be, canaries included.
    pub fn pairs(&self) -> impl Iterator<Item = (&Machine, &WantedMachine)> {
        self.desired
            .machines
            .iter()
            .chain(&self.desired.canaries)
            .filter_map(|wanted| Some((machine_in_slot(&self.machines, wanted)?, wanted)))
    }

    /// A machine that was not given the wanted configuration. A machine whose host cannot be
    /// reached does not count, because its configuration is unknown.
    pub fn outdated(&self) -> Option<&Machine> {
        let mut pairs = self.pairs();
        let outdated = pairs
            .find(|(machine, wanted)| machine.config.is_some() && !wanted.was_given_to(machine));
        outdated.map(|(machine, _)| machine)
    }

    /// The wanted machines that have to be created.
    pub fn lacking(&self) -> Vec<&WantedMachine> {
        let other_digests = self.other_digests();
        let untested = BTreeSet::new();
        let fleet = self.fleet(&other_digests, &untested, true, Timestamp::UNIX_EPOCH);
        let lacking = fleet.lacking();
        let slots: Vec<&str> = lacking.iter().map(|w| w.slot.as_str()).collect();
        let lacks = |wanted: &&WantedMachine| slots.contains(&wanted.slot.as_str());
        self.desired.machines.iter().filter(lacks).collect()
    }

    /// The next move. With `careful` an update waits for the machines that it has updated.
    pub fn plan(&self, untested: &BTreeSet<String>, careful: bool, now: Timestamp) -> Plan {
        strategy::plan(&self.fleet(&self.other_digests(), untested, careful, now))
    }

    /// All that becomes of the machines until they are as they should be.
    pub fn outlook(&self, now: Timestamp) -> Vec<PlannedChange> {
        let other_digests = self.other_digests();
        let untested = BTreeSet::new();
        outlook::changes(&self.fleet(&other_digests, &untested, true, now))
    }

    /// The machines that are not as they were made.
    pub fn drift(&self) -> Vec<MachineDrift> {
        let other_digests = self.other_digests();
        let untested = BTreeSet::new();
        let fleet = self.fleet(&other_digests, &untested, true, Timestamp::UNIX_EPOCH);
        fleet.drift()
    }

    fn fleet<'a>(
        &'a self,
        other_digests: &'a [String],
        untested: &'a BTreeSet<String>,
        careful: bool,
        now: Timestamp,
    ) -> Fleet<'a> {
        Fleet {
            wanted: &self.desired.machines,
            canaries: &self.desired.canaries,
            machines: &self.machines,
            other_digests,
            written: &self.written,
            strategy: self.desired.strategy,
            pools: &self.desired.pools,
            careful,
            untested,
            watch: self.watch(now),
            drain: self.patience.drain,
        }
    }

    /// The health of a machine.
    pub fn health_of(&self, machine: &Machine, wanted: &WantedMachine, now: Timestamp) -> Health {
        health_of(machine, wanted, self.watch(now))
    }

    fn watch(&self, now: Timestamp) -> Watch {
        Watch {
            span: self.patience.watch,
            now,
        }
    }

    /// Digests of other releases: a host that reports one of them has reverted an update.
    fn other_digests(&self) -> Vec<String> {
        self.targets
            .records
            .list
            .iter()
            .map(|record| record.content.digest.clone())
            .chain([self.targets.wanted.image.digest.clone()])
            .filter(|digest| *digest != self.effective.digest)
            .collect()
    }

    /// Whether a machine has had the time that it may take to become healthy.
    pub fn is_late(&self, machine: &Machine, now: Timestamp) -> bool {
        let limit = self.patience.wait_timeout;
        let limit = SignedDuration::try_from(limit).unwrap_or(SignedDuration::MAX);
        machine
            .updated_at
            .is_some_and(|since| now.duration_since(since) > limit)
    }
}
