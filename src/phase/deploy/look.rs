//! One look at the machines for all steps of Deploy: what should run, what does, and how it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

use super::{
    fleet::{self, Health, Wanted},
    health,
    machine_checks::{self, Checks},
    release::{self, Effective},
};
use crate::phase::deploy::{
    fleet::{
        diagnosis, roster,
        strategy::{self, Fleet, Plan},
    },
    release::{
        records::{self, Records},
        rollback,
    },
};
use crate::{
    api::{Reason, status::FallbackUsed},
    error::Error,
    fly::{Machine, machine_config::MachineGuest},
    flytoml::{self, AppConfig, Strategy},
    phase::app_secrets as push,
    pipeline::{Cx, Note, Verdict, Why, step::Result},
    plan::Target,
};

/// How long a machine may take to become healthy, unless fly.toml says otherwise (flyctl's
/// default, fly-api.md G.1).
const WAIT_TIMEOUT: Duration = Duration::from_secs(300);

/// Updates of one machine to one release that are made again because its host reports another
/// release's image.
const REPEATS: u32 = 3;

/// Machines whose failure is looked into in one look.
const TOLD: usize = 2;

/// What there is and what should be.
#[derive(Debug)]
pub struct Look {
    /// The release that the target asks for.
    pub release: release::Wanted,
    /// What should run now.
    pub effective: Effective,
    /// The machines that should be.
    pub wanted: Vec<Wanted>,
    /// The canary of each process group, if the strategy has them.
    pub canaries: Vec<Wanted>,
    /// Our machines that are.
    pub machines: Vec<Machine>,
    /// The records.
    pub records: Records,
    /// How machines are replaced.
    pub strategy: Strategy,
    /// How many machines of a process group an update takes at a time.
    pub pools: BTreeMap<String, usize>,
    /// How long the proxy gets to learn where the traffic goes now.
    pub drain: Duration,
    /// The size that is used for lack of room.
    pub fallback: Option<FallbackUsed>,
    /// Versions of machines that this process wrote.
    pub written: BTreeSet<String>,
    /// Machines whose update Fly.io took back in this release.
    pub reverted: BTreeSet<String>,
    /// What else is known of machines that have failed, by id.
    pub evidence: BTreeMap<String, String>,
    /// Something is not well, and the image to go back to cannot be pulled any more.
    pub good_is_gone: bool,
    /// Where the `machine_checks` of the release stand.
    pub checks: Checks,
    /// A failure of the release is to be written down: it is not on record yet.
    pub unrecorded: bool,
    /// How long a machine without checks is watched after its start.
    pub watch: Duration,
    /// How long a machine may take to become healthy.
    pub wait_timeout: Duration,
    /// Pause until the next look, where Fly.io has no long poll.
    pub pause: Duration,
}

/// The release that the target asks for, with the secrets of now.
///
/// # Errors
/// When the image is not known or the fly.toml cannot be converted.
pub fn release(cx: &Cx, records: &Records) -> Result<release::Wanted> {
    let image = cx.facts.image.get().ok_or(Error::NotKnown("the image"))?;
    let secrets = push::digest_of(&push::records(cx));
    release::wanted(&cx.target, &image, &secrets, records)
}

/// Versions that this process is remembered to have written beside those that machines have now.
const REMEMBERED: usize = 64;

/// Versions of these machines that this process wrote. What no machine has any more is forgotten in
/// time: a process lives for long.
fn written(cx: &Cx, machines: &[Machine]) -> BTreeSet<String> {
    let known = cx.facts.written.get().unwrap_or_default();
    let has = machines.iter().map(|machine| machine.instance_id.clone());
    let written: BTreeSet<String> = has.filter(|version| known.contains(version)).collect();
    if known.len() > written.len() + REMEMBERED {
        cx.facts.written.set(written.clone());
        cx.facts.given.add(|given| {
            given.retain(|id, _| machines.iter().any(|machine| machine.id == *id));
        });
    }
    written
}

/// What should run and what does.
///
/// # Errors
/// When Fly.io does not answer or the fly.toml cannot be converted.
pub async fn look(cx: &Cx) -> Result<Look> {
    let records = records::load(cx).await?;
    let release = release(cx, &records)?;
    let effective = release::effective(&cx.target, &release, &records)?;
    let mut machines = roster::ours(cx).await?;
    let reverted = reverted(cx, &effective.key);
    for machine in &mut machines {
        // Whatever its host means by that: it goes on saying so, and the machine is not restarted
        // for ever.
        if reverted.get(&machine.name).is_some_and(|n| *n >= REPEATS) {
            machine.image_ref = None;
        }
    }
    let fallback = fallback(cx, &effective.config, &effective.key, &machines);
    let size = match &fallback {
        None => None,
        Some(used) => Some(size(&used.to)?),
    };
    let strategy = match effective.config.strategy() {
        // What is restored has proven itself.
        Strategy::Canary if effective.instead.is_some() => Strategy::Rolling,
        strategy => strategy,
    };
    let secrets = push::digest_of(&push::records(cx));
    let asked = fleet::Asked {
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
    let wanted = fleet::wanted(&asked)?;
    let canaries = match strategy {
        Strategy::Canary => fleet::canaries(&asked)?,
        _ => Vec::new(),
    };
    let mut look = Look {
        pools: pools(&effective.config, &wanted),
        // As flyctl, which waits ten seconds before and after it takes the old ones out of the
        // proxy's pool (fly-api.md G.1).
        drain: cx.installation.timing.settle,
        strategy,
        canaries,
        pause: health::pause(&machines, cx.installation.timing.poll, cx.now()),
        wait_timeout: effective
            .config
            .deploy
            .wait_timeout
            .map_or(WAIT_TIMEOUT, |wait| wait.0),
        written: written(cx, &machines),
        // As long as anything is given to settle, ten seconds by default, as flyctl does. A release
        // that has run well is watched no more.
        watch: if records.is_good(&release.key) {
            Duration::ZERO
        } else {
            cx.installation.timing.settle
        },
        release,
        wanted,
        machines,
        records,
        fallback,
        reverted: reverted.into_keys().collect(),
        unrecorded: false,
        evidence: BTreeMap::new(),
        good_is_gone: false,
        checks: Checks::default(),
        effective,
    };
    look.checks = machine_checks::observe(cx, &look).await?;
    let (records, key) = (&look.records, &look.release.key);
    look.unrecorded = cx.may_act() && !records.tells_failure(key, &cx.target);
    look.evidence = evidence(cx, &look).await;
    look.good_is_gone = look.effective.instead.is_none()
        && !look.records.is_good(&look.release.key)
        && (look.is_unwell(cx.now()) || look.checks.has_failed(&cx.target.app, cx.now()))
        && rollback::good_is_gone(cx, &look.records).await;
    Ok(look)
}

fn reverted(cx: &Cx, release: &str) -> BTreeMap<String, u32> {
    let known = cx.facts.reverted.get();
    let known = known.filter(|known| known.0 == release);
    known.map(|known| known.1.clone()).unwrap_or_default()
}

/// How many machines of each process group an update takes at a time.
fn pools(config: &AppConfig, wanted: &[Wanted]) -> BTreeMap<String, usize> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for wanted in wanted.iter().filter(|wanted| !wanted.standby) {
        *counts.entry(wanted.group.clone()).or_default() += 1;
    }
    let pool = |(group, count)| (group, config.pool_size(count));
    counts.into_iter().map(pool).collect()
}

fn size(name: &str) -> Result<MachineGuest> {
    flytoml::parse_size(name).map_err(|error| Error::Blocked {
        reason: Reason::FlyConfigInvalid,
        message: format!("`deploy.fallbackSizes`: {error}"),
    })
}

/// The declared size that is in use for lack of room: known to this process, or told by the
/// marks of the machines, so that a restart does not ask for the refused size again.
fn fallback(
    cx: &Cx,
    config: &AppConfig,
    release: &str,
    machines: &[Machine],
) -> Option<FallbackUsed> {
    let sizes = &cx.target.deploy.fallback_sizes;
    if let Some(known) = cx.facts.fallback_size.get()
        && known.0 == release
        && sizes.contains(&known.1.to)
    {
        return Some(known.1.clone());
    }
    let to = machines
        .iter()
        .filter(|machine| machine.metadata(fleet::RELEASE_KEY) == Some(release))
        .filter_map(|machine| machine.metadata(fleet::SIZE_KEY))
        .find(|size| sizes.iter().any(|declared| declared == size))?;
    let used = FallbackUsed {
        what: "deploy.size".to_owned(),
        from: asked_size(config),
        to: to.to_owned(),
        reason: String::new(),
        time: None,
    };
    cx.facts
        .fallback_size
        .set((release.to_owned(), used.clone()));
    Some(used)
}

/// The size that the fly.toml asks for, as Fly.io names sizes.
pub fn asked_size(config: &AppConfig) -> String {
    let asked = config.machine_config(&config.default_group(), &flytoml::Context::default());
    let guest = asked.ok().and_then(|machine| machine.guest);
    let guest = guest.unwrap_or_default();
    format!(
        "{}-cpu-{}x",
        guest.cpu_kind.as_deref().unwrap_or("shared"),
        guest.cpus.unwrap_or(1)
    )
}

/// What else is known of the machines that have ended, or are late.
async fn evidence(cx: &Cx, look: &Look) -> BTreeMap<String, String> {
    let mut evidence = BTreeMap::new();
    for (machine, wanted) in look.pairs() {
        if evidence.len() >= TOLD {
            break;
        }
        if look.has_failed(machine, wanted, cx.now()) {
            let text = diagnosis::of(cx, &look.machines, machine).await;
            evidence.insert(machine.id.clone(), text);
        }
    }
    evidence
}

impl Look {
    /// Whether a machine of this release has ended, or is late.
    fn has_failed(&self, machine: &Machine, wanted: &Wanted, now: Timestamp) -> bool {
        // An old machine that is to be replaced is not this release's failure.
        match fleet::health(machine, wanted.checks) {
            _ if !wanted.marks(machine) => false,
            Health::Exited { .. } | Health::Down(_) => !wanted.standby,
            Health::Unhealthy(_) | Health::Starting => self.late(machine, now),
            Health::Healthy | Health::Watched(_) => false,
        }
    }

    /// Whether any machine of this release has ended, or is late.
    fn is_unwell(&self, now: Timestamp) -> bool {
        self.pairs()
            .any(|(machine, wanted)| self.has_failed(machine, wanted, now))
    }

    /// Machines beside what they should be, canaries included.
    pub fn pairs(&self) -> impl Iterator<Item = (&Machine, &Wanted)> {
        self.wanted
            .iter()
            .chain(&self.canaries)
            .filter_map(|wanted| Some((fleet::fill(&self.machines, wanted)?, wanted)))
    }

    /// A machine that was not given what is wanted; of one whose host cannot be reached that is not
    /// known.
    pub fn outdated(&self) -> Option<&Machine> {
        let mut pairs = self.pairs();
        let outdated =
            pairs.find(|(machine, wanted)| machine.config.is_some() && !wanted.marks(machine));
        outdated.map(|(machine, _)| machine)
    }

    /// Places for which a machine has to be created.
    pub fn lacking(&self) -> Vec<&Wanted> {
        let other_digests = self.other_digests();
        let fleet = self.fleet(&other_digests, true, Timestamp::UNIX_EPOCH);
        let lacking = fleet.lacking();
        let slots: Vec<&str> = lacking.iter().map(|w| w.slot.as_str()).collect();
        let lacks = |wanted: &&Wanted| slots.contains(&wanted.slot.as_str());
        self.wanted.iter().filter(lacks).collect()
    }

    /// The next move.
    pub fn plan(&self, careful: bool, now: Timestamp) -> Plan {
        strategy::plan(&self.fleet(&self.other_digests(), careful, now))
    }

    fn fleet<'a>(
        &'a self,
        other_digests: &'a [String],
        careful: bool,
        now: Timestamp,
    ) -> Fleet<'a> {
        Fleet {
            wanted: &self.wanted,
            canaries: &self.canaries,
            machines: &self.machines,
            other_digests,
            written: &self.written,
            strategy: self.strategy,
            pools: &self.pools,
            careful,
            untested: self.checks.untested(),
            watch: self.watch(now),
            drain: self.drain,
        }
    }

    /// How a machine is.
    pub fn health_of(&self, machine: &Machine, wanted: &Wanted, now: Timestamp) -> Health {
        fleet::health_of(machine, wanted, self.watch(now))
    }

    fn watch(&self, now: Timestamp) -> fleet::Watch {
        fleet::Watch {
            span: self.watch,
            now,
        }
    }

    /// Digests of other releases: a host that reports one of them has gone back.
    fn other_digests(&self) -> Vec<String> {
        self.records
            .list
            .iter()
            .map(|record| record.digest.clone())
            .chain([self.release.image.digest.clone()])
            .filter(|digest| *digest != self.effective.digest)
            .collect()
    }

    /// Whether a machine has had the time that it may take to become healthy.
    pub fn late(&self, machine: &Machine, now: Timestamp) -> bool {
        let limit = SignedDuration::try_from(self.wait_timeout).unwrap_or(SignedDuration::MAX);
        machine
            .updated_at
            .is_some_and(|since| now.duration_since(since) > limit)
    }

    /// What the worst of these machines means; `Done` when all are well.
    pub fn judge<C>(
        &self,
        app: &str,
        now: Timestamp,
        only: impl Fn(&Wanted) -> bool,
    ) -> Verdict<C> {
        // What is proven to have failed is told before what is only awaited.
        let rank = |health: &Health| match health {
            Health::Exited { .. } => 0,
            Health::Down(_) => 1,
            Health::Unhealthy(_) => 2,
            Health::Starting => 3,
            Health::Watched(_) => 4,
            Health::Healthy => 5,
        };
        let worst = self
            .pairs()
            .filter(|(_, wanted)| !wanted.standby && only(wanted))
            .map(|(machine, wanted)| (machine, self.health_of(machine, wanted, now)))
            .min_by_key(|(_, health)| rank(health));
        let Some((machine, is)) = worst else {
            return Verdict::Done;
        };
        let evidence = self.evidence.get(&machine.id).map_or("", String::as_str);
        let late = self.late(machine, now).then_some(self.wait_timeout);
        health::verdict_of(app, machine, &is, late, evidence, self.pause)
    }

    /// What a failure means for the release: it is rolled back, when that is asked for, possible
    /// and allowed; else it stops with the diagnosis, once it is on record that it has failed. Never
    /// called on a mere lack of knowledge.
    pub fn failed(&self, target: &Target, why: Why) -> Failure {
        let stop =
            |text: &str| Failure::Stop(Why::new(why.reason, format!("{}{text}", why.message)));
        if self.effective.instead.is_some() {
            let message = format!(
                "{}; this is the last good release, which was restored",
                why.message
            );
            return Failure::Stop(Why::new(Reason::RestoreFailed, message));
        }
        if self.records.is_good(&self.release.key) {
            // It ran well before: this is no failed deployment.
            return stop("");
        }
        match self.kept(target) {
            None => Failure::RollBack(why.message),
            Some(_) if self.unrecorded => Failure::Record(why.message),
            Some((None, text)) => stop(&text),
            Some((Some(reason), text)) => {
                Failure::Stop(Why::new(reason, format!("{}{text}", why.message)))
            }
        }
    }

    /// What keeps a release that has failed from being rolled back, with a reason of its own where
    /// it is not what the spec asks for.
    fn kept(&self, target: &Target) -> Option<(Option<Reason>, String)> {
        use crate::api::deploy::OnFailure;
        let asked = |text: &str| Some((None, text.to_owned()));
        let held = |text: String| Some((Some(Reason::RollbackHeld), text));
        let Some((good, since)) = self.records.serving() else {
            return asked("; there is no earlier release to go back to");
        };
        match target.deploy.on_failure {
            OnFailure::RollBack => {}
            OnFailure::Pause => return asked("; everything stays as it is (`onFailure: Pause`)"),
            OnFailure::Leave => return asked("; the rollout goes on (`onFailure: Leave`)"),
        }
        let migrated = self.effective.config.deploy.release_command.is_some();
        if migrated && !target.deploy.migrations.reversible {
            return held(format!(
                "; not rolled back to {}: its release command has run, and `migrations.reversible` is false; deploy a release that works, or set it to true",
                good.name()
            ));
        }
        if let Some(over) = self.records.irreversible_after(since, &self.release.key) {
            return held(format!(
                "; not rolled back to {}: {} has run its release command since, and its `migrations.reversible` was false; deploy a release that works on the present database",
                good.name(),
                over.name()
            ));
        }
        if self.good_is_gone {
            return held(format!("; not rolled back: {}", rollback::gone(good)));
        }
        None
    }
}

/// What a failure means for the release.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// A person must help.
    Stop(Why),
    /// The last good release is to be restored. Says what failed.
    RollBack(String),
    /// It is to be written down that the release has failed, and no more. Says what failed.
    Record(String),
}

/// What the status tells of releases that are on record, before the step `Release` is reached.
pub fn notes(look: &Look) -> Vec<Note> {
    look.records.notes(&look.release.key)
}
