//! What has to happen next to get from the machines that are to those that should be. Pure.
//!
//! Nothing is remembered between two plans: which machine is old, new, a canary or half way is
//! read off its marks and off Fly.io's own word that it is cordoned. So a plan after a crash is
//! the plan that would have come without it, and going back is the same way with old and new
//! exchanged.
//!
//! | strategy | a machine whose configuration has changed |
//! |---|---|
//! | rolling | is updated in place: one alone for each process group, then some at a time |
//! | canary | the same, once one extra machine for each process group is well |
//! | bluegreen | gets a new one beside it, which takes over when all new ones are well |
//! | immediate | is updated in place with all others at once |

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

use super::readback;
use crate::phase::deploy::fleet::{self, Health, SLOT_KEY, Wanted, Watch, health_of};
use crate::{
    fly::{Machine, MachineState, machines::HostStatus},
    flytoml::Strategy,
};

/// What the plan looks at.
#[derive(Debug)]
pub struct Fleet<'a> {
    /// The machines that should be.
    pub wanted: &'a [Wanted],
    /// The canary of each process group.
    pub canaries: &'a [Wanted],
    /// Ours that are.
    pub machines: &'a [Machine],
    /// Digests of other releases.
    pub other_digests: &'a [String],
    /// Versions of machines that this process wrote.
    pub written: &'a BTreeSet<String>,
    /// How machines are replaced.
    pub strategy: Strategy,
    /// How many machines of a process group an update takes at a time.
    pub pools: &'a BTreeMap<String, usize>,
    /// Whether an update goes on only over healthy machines.
    pub careful: bool,
    /// Machines, by id, that have not passed their `machine_checks`: they are not well yet.
    pub untested: &'a BTreeSet<String>,
    /// How machines without checks are watched.
    pub watch: Watch,
    /// How long the proxy gets to learn where the traffic goes now.
    pub drain: Duration,
}

/// What has to happen next.
#[derive(Clone, Debug, PartialEq)]
pub enum Move {
    /// Everything runs what it should.
    Nothing,
    /// Create these, all at once.
    Create(Vec<Wanted>),
    /// Update these, all at once: a machine and what it should be.
    Update(Vec<(Machine, Wanted)>),
    /// Start these, which are as they should be but do not run.
    Start(Vec<Machine>),
    /// Put these into the proxy's pool.
    Uncordon(Vec<Machine>),
    /// Take these out of the proxy's pool; they go on running.
    Cordon(Vec<Machine>),
    /// Stop these in good order.
    Stop(Vec<Machine>),
    /// Destroy these, which nobody wants any more.
    Destroy(Vec<Machine>),
    /// Nothing may be touched before those that settle are healthy.
    Settle,
    /// The traffic moves: nothing is touched for this long.
    Pause(Duration),
    /// These are stopping.
    Await(Vec<Machine>),
}

impl Move {
    /// Whether it changes anything at Fly.io.
    pub fn changes(&self) -> bool {
        !matches!(
            self,
            Self::Nothing | Self::Settle | Self::Pause(_) | Self::Await(_)
        )
    }

    /// Ids of the machines that it changes.
    pub fn of(&self) -> Vec<String> {
        match self {
            Self::Update(pairs) => pairs.iter().map(|(m, _)| m.id.clone()).collect(),
            Self::Start(of)
            | Self::Uncordon(of)
            | Self::Cordon(of)
            | Self::Stop(of)
            | Self::Destroy(of) => of.iter().map(|m| m.id.clone()).collect(),
            Self::Nothing | Self::Create(_) | Self::Settle | Self::Pause(_) | Self::Await(_) => {
                Vec::new()
            }
        }
    }
}

/// The next move, and whose health decides whether it may be made.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What to do.
    pub next: Move,
    /// Places of machines that were given the new configuration and are not healthy yet. One that
    /// has failed for certain stops the rollout.
    pub settling: Vec<String>,
}

impl Plan {
    fn of(next: Move) -> Self {
        Self {
            next,
            settling: Vec::new(),
        }
    }
}

/// One place: what should fill it, what does, and what else is there.
#[derive(Debug)]
struct Place<'a> {
    wanted: &'a Wanted,
    fill: Option<&'a Machine>,
    others: Vec<&'a Machine>,
}

impl Place<'_> {
    fn marked(&self) -> bool {
        self.fill.is_some_and(|machine| self.wanted.marks(machine))
    }
}

/// Plans the next move.
pub fn plan(fleet: &Fleet) -> Plan {
    let places = fleet.places();
    let replaced: Vec<&Place> = places
        .iter()
        .filter(|place| fleet.replaces(place))
        .collect();
    // What an earlier try has left goes first, so that there are never three in one place.
    let left = replaced.iter().flat_map(|place| place.others.clone());
    if let Some(next) = fleet.retire(left.collect()) {
        return Plan::of(next);
    }
    if let Some(plan) = fleet.canaries_first(&places) {
        return plan;
    }
    if let Some(next) = fleet.relieve_canaries(&places) {
        return Plan::of(next);
    }
    if let Some(next) = fleet.create(&places, &replaced) {
        return Plan::of(next);
    }
    if let Some(plan) = fleet.update(&places) {
        return plan;
    }
    fleet.take_over(&places)
}

impl Fleet<'_> {
    fn places(&self) -> Vec<Place<'_>> {
        self.wanted
            .iter()
            .map(|wanted| {
                let fill = fleet::fill(self.machines, wanted);
                let others = self.machines.iter().filter(|machine| {
                    machine.metadata(SLOT_KEY) == Some(wanted.slot.as_str())
                        && fill.is_none_or(|fill| fill.id != machine.id)
                });
                Place {
                    wanted,
                    fill,
                    others: others.collect(),
                }
            })
            .collect()
    }

    /// Whether the machine in a place gets a successor beside it, and is not updated.
    fn replaces(&self, place: &Place) -> bool {
        place.fill.is_some()
            && !place.marked()
            && (self.strategy == Strategy::BlueGreen
                || place
                    .fill
                    .is_some_and(|machine| changes_volume(machine, place.wanted)))
    }

    /// Places for which a machine has to be created.
    pub fn lacking(&self) -> Vec<&Wanted> {
        let places = self.places();
        self.wanted
            .iter()
            .zip(&places)
            .filter(|(_, place)| place.fill.is_none() || self.replaces(place))
            .map(|(wanted, _)| wanted)
            .collect()
    }

    /// True when the machine runs what it should. A silent revert brings back the old marks with
    /// the old configuration; somebody else's change keeps the marks and changes a field.
    ///
    /// A version that we wrote ourselves is not compared field by field: whatever the platform
    /// made of our words there, writing them again would change nothing and restart the machine.
    /// What its host runs is looked at all the same, once that is not on its way any more.
    fn is_current(&self, machine: &Machine, wanted: &Wanted) -> bool {
        let marked = wanted.marks(machine);
        let Some(config) = &machine.config else {
            // Its host cannot be reached, so nothing can be compared, and nothing updated.
            return marked || machine.host_status != HostStatus::Ok;
        };
        if !marked || config.image != wanted.config.image {
            return false;
        }
        if self
            .stood_in_for(wanted)
            .is_some_and(|first| config.standbys != [first.id.as_str()])
        {
            return false;
        }
        let written = self.written.contains(&machine.instance_id);
        let moves = matches!(
            machine.state,
            MachineState::Starting | MachineState::Updating | MachineState::Replacing
        );
        let host = machine
            .image_ref
            .as_ref()
            .and_then(|image| image.digest.as_ref());
        if host.is_some_and(|host| self.other_digests.contains(host)) && !(written && moves) {
            return false;
        }
        written || readback::same(&wanted.sized_as(Some(machine)).config, config)
    }

    /// The machine that a standby stands in for: the first of its group.
    fn stood_in_for(&self, wanted: &Wanted) -> Option<&Machine> {
        let first = self
            .wanted
            .iter()
            .find(|first| first.group == wanted.group && !first.standby);
        first
            .filter(|_| wanted.standby)
            .and_then(|first| fleet::fill(self.machines, first))
    }

    /// A standby names the machine that it stands in for.
    fn standing_by(&self, wanted: &Wanted) -> Wanted {
        let mut wanted = wanted.clone();
        if let Some(first) = self.stood_in_for(&wanted) {
            let config = &mut wanted.config;
            config.standbys = vec![first.id.clone()];
            config
                .env
                .insert("FLY_STANDBY_FOR".to_owned(), first.id.clone());
        }
        wanted
    }

    fn is_well(&self, machine: &Machine, wanted: &Wanted) -> bool {
        !self.untested.contains(&machine.id)
            && health_of(machine, wanted, self.watch) == Health::Healthy
    }

    /// Before the first machine of a process group is updated, its canary must be well.
    fn canaries_first(&self, places: &[Place]) -> Option<Plan> {
        if self.strategy != Strategy::Canary {
            return None;
        }
        let needed: Vec<&Wanted> = self
            .canaries
            .iter()
            .filter(|canary| {
                let mut group = places.iter().filter(|place| {
                    place.wanted.group == canary.group
                        && !place.wanted.standby
                        && place.fill.is_some()
                });
                group.clone().next().is_some() && !group.any(Place::marked)
            })
            .collect();
        let stale = self.machines.iter().filter(|machine| {
            is_canary(machine) && !self.canaries.iter().any(|canary| canary.marks(machine))
        });
        if needed.is_empty() {
            return None;
        }
        if let Some(next) = self.retire(stale.collect()) {
            return Some(Plan::of(next));
        }
        let filled = |canary: &Wanted| fleet::fill(self.machines, canary);
        let missing: Vec<Wanted> = needed
            .iter()
            .filter(|canary| filled(canary).is_none())
            .map(|canary| {
                let like = places.iter().filter(|p| p.wanted.group == canary.group);
                canary.sized_as(like.filter_map(|place| place.fill).next())
            })
            .collect();
        if !missing.is_empty() {
            return Some(Plan::of(Move::Create(missing)));
        }
        let settling: Vec<String> = needed
            .iter()
            .filter(|canary| filled(canary).is_some_and(|machine| !self.is_well(machine, canary)))
            .map(|canary| canary.slot.clone())
            .collect();
        (!settling.is_empty()).then_some(Plan {
            next: Move::Settle,
            settling,
        })
    }

    /// A canary has done its part when a machine of its group is well. It goes while the others are
    /// rolled, which do not wait for it to finish its requests.
    fn relieve_canaries(&self, places: &[Place]) -> Option<Move> {
        let proven = |canary: &Wanted| {
            places.iter().any(|place| {
                place.wanted.group == canary.group
                    && !place.wanted.standby
                    && place.marked()
                    && place
                        .fill
                        .is_some_and(|machine| self.is_well(machine, place.wanted))
            })
        };
        let canaries = self.canaries.iter().filter(|canary| proven(canary));
        let done = canaries.filter_map(|canary| fleet::fill(self.machines, canary));
        self.retire(done.collect()).filter(Move::changes)
    }

    /// Machines that are not there, all at once; standbys after those that they stand in for.
    fn create(&self, places: &[Place], replaced: &[&Place]) -> Option<Move> {
        let all_beside = self.strategy == Strategy::BlueGreen && !replaced.is_empty();
        let missing: Vec<Wanted> = places
            .iter()
            .filter(|place| place.fill.is_none())
            .map(|place| {
                let mut wanted = place.wanted.clone();
                wanted.cordoned = all_beside;
                wanted
            })
            .chain(
                replaced
                    .iter()
                    .map(|place| place.wanted.sized_as(place.fill).beside()),
            )
            .collect();
        let (standbys, running): (Vec<_>, Vec<_>) =
            missing.into_iter().partition(|wanted| wanted.standby);
        if !running.is_empty() {
            return Some(Move::Create(running));
        }
        let standbys: Vec<Wanted> = standbys.iter().map(|w| self.standing_by(w)).collect();
        (!standbys.is_empty()).then_some(Move::Create(standbys))
    }

    /// Updates in place: in each process group the first machine alone, and then so many that no
    /// more than `max_unavailable` are not healthy.
    fn update(&self, places: &[Place]) -> Option<Plan> {
        let mut updates = Vec::new();
        let mut settling = Vec::new();
        let mut behind = false;
        let groups: BTreeSet<&str> = places.iter().map(|p| p.wanted.group.as_str()).collect();
        for group in groups {
            let (current, outdated): (Vec<_>, Vec<_>) = places
                .iter()
                .filter(|place| place.wanted.group == group)
                .filter_map(|place| Some((place.fill?, place.wanted)))
                .partition(|(machine, wanted)| self.is_current(machine, wanted));
            if outdated.is_empty() {
                continue;
            }
            behind = true;
            let (well, unwell): (Vec<_>, Vec<_>) = current
                .into_iter()
                .filter(|(_, wanted)| !wanted.standby)
                .partition(|(machine, wanted)| self.is_well(machine, wanted));
            let pool = self.pools.get(group).copied().unwrap_or(1).max(1);
            let free = match self.strategy {
                Strategy::Immediate => usize::MAX,
                _ if !self.careful => pool,
                _ => {
                    settling.extend(unwell.iter().map(|(_, wanted)| wanted.slot.clone()));
                    let most = if well.is_empty() { 1 } else { pool };
                    most.saturating_sub(unwell.len())
                }
            };
            updates.extend(
                outdated
                    .into_iter()
                    .take(free)
                    .map(|(machine, wanted)| (machine.clone(), self.standing_by(wanted))),
            );
        }
        behind.then_some(Plan {
            next: if updates.is_empty() {
                Move::Settle
            } else {
                Move::Update(updates)
            },
            settling,
        })
    }

    /// The new machines take over, and what nobody wants any more goes: first out of the proxy's
    /// pool, then stopped in good order, then destroyed.
    fn take_over(&self, places: &[Place]) -> Plan {
        let filled: Vec<(&Machine, &Wanted)> = places
            .iter()
            .filter_map(|place| Some((place.fill?, place.wanted)))
            .collect();
        let down: Vec<Machine> = filled
            .iter()
            .filter(|(machine, wanted)| !wanted.standby && self.is_to_be_started(machine, wanted))
            .map(|(machine, _)| (*machine).clone())
            .collect();
        if !down.is_empty() {
            return Plan::of(Move::Start(down));
        }
        let settling: Vec<String> = filled
            .iter()
            .filter(|(machine, wanted)| !wanted.standby && !self.is_well(machine, wanted))
            .map(|(_, wanted)| wanted.slot.clone())
            .collect();
        let settle = |settling| Plan {
            next: Move::Settle,
            settling,
        };
        let hidden: Vec<Machine> = filled
            .iter()
            .filter(|(machine, _)| machine.cordoned == Some(true))
            .map(|(machine, _)| (*machine).clone())
            .collect();
        if !hidden.is_empty() {
            // All or none: the two sets never serve side by side for longer than it takes to say so.
            return if settling.is_empty() {
                Plan::of(Move::Uncordon(hidden))
            } else {
                settle(settling)
            };
        }
        let others: Vec<&Machine> = places
            .iter()
            .flat_map(|place| place.others.clone())
            .collect();
        let surplus = self.machines.iter().filter(|machine| {
            let slot = machine.metadata(SLOT_KEY).unwrap_or_default();
            !fleet::runs_a_command(machine) && !self.wanted.iter().any(|wanted| wanted.slot == slot)
        });
        let serving = |machine: &&Machine| machine.cordoned != Some(true);
        // A machine that serves nobody may go, however the others do.
        let replaced = others.iter().any(serving);
        let old: Vec<&Machine> = others.into_iter().chain(surplus).collect();
        let gated = old.iter().any(serving) && self.strategy != Strategy::Immediate;
        if gated && !settling.is_empty() && (self.careful || replaced) {
            return settle(settling);
        }
        if old
            .iter()
            .any(|machine| serving(machine) && has_services(machine))
            && let Some(left) = filled
                .iter()
                .filter_map(|(machine, _)| self.left(said(machine, "uncordon")?))
                .max()
        {
            return Plan::of(Move::Pause(left));
        }
        Plan::of(self.retire(old).unwrap_or(Move::Nothing))
    }

    /// What happens next on the way out of these machines; `None` when there are none.
    fn retire(&self, old: Vec<&Machine>) -> Option<Move> {
        let all = |machines: Vec<&Machine>| machines.into_iter().cloned().collect::<Vec<_>>();
        let up: Vec<&Machine> = old
            .iter()
            .filter(|machine| machine.state == MachineState::Started)
            .copied()
            .collect();
        let serving: Vec<&Machine> = up
            .iter()
            .filter(|machine| machine.cordoned != Some(true) && has_services(machine))
            .copied()
            .collect();
        if !serving.is_empty() {
            return Some(Move::Cordon(all(serving)));
        }
        let left = up
            .iter()
            .filter(|machine| has_services(machine))
            .filter_map(|machine| self.left(said(machine, "cordon")?))
            .max();
        if let Some(left) = left {
            return Some(Move::Pause(left));
        }
        if !up.is_empty() {
            return Some(Move::Stop(all(up)));
        }
        let (stopping, down): (Vec<&Machine>, Vec<&Machine>) = old
            .into_iter()
            .partition(|machine| self.is_stopping(machine));
        if !down.is_empty() {
            return Some(Move::Destroy(all(down)));
        }
        (!stopping.is_empty()).then(|| Move::Await(all(stopping)))
    }

    /// How much of the drain is left since then.
    fn left(&self, since: Timestamp) -> Option<Duration> {
        let passed = self.watch.now.duration_since(since);
        let passed = Duration::try_from(passed).unwrap_or_default();
        let left = self.drain.checked_sub(passed);
        left.filter(|left| !left.is_zero())
    }

    /// On its way down, and not for so long that it hangs (fly-api.md B.13).
    fn is_stopping(&self, machine: &Machine) -> bool {
        let hangs = machine
            .updated_at
            .is_some_and(|since| self.watch.now.duration_since(since) > STUCK);
        matches!(
            machine.state,
            MachineState::Stopping | MachineState::Suspending
        ) && !hangs
    }

    fn is_to_be_started(&self, machine: &Machine, wanted: &Wanted) -> bool {
        let by_proxy = fleet::starts_on_demand(wanted) && machine.cordoned != Some(true);
        (!by_proxy && is_stopped_on_request(machine)) || has_rested(machine, self.watch.now)
    }
}

/// After this long in a state that passes by itself, a machine is stuck (fly-api.md B.13).
const STUCK: SignedDuration = SignedDuration::from_mins(10);

/// When something was last done to a machine, if its events tell.
fn said(machine: &Machine, kind: &str) -> Option<Timestamp> {
    let events = machine.events.iter().filter(|event| event.kind == kind);
    events
        .filter_map(|event| Timestamp::from_millisecond(event.timestamp?).ok())
        .max()
}

fn has_services(machine: &Machine) -> bool {
    let config = machine.config.as_ref();
    config.is_some_and(|config| !config.services.is_empty())
}

fn is_canary(machine: &Machine) -> bool {
    machine.metadata(SLOT_KEY).is_some_and(fleet::is_canary)
}

/// A machine cannot change its volume, so it needs a successor with another one. What cannot be
/// compared is taken for unchanged.
fn changes_volume(machine: &Machine, wanted: &Wanted) -> bool {
    let Some(config) = &machine.config else {
        return false;
    };
    let has = config.mounts.first();
    let name = has.and_then(|mount| mount.name.as_deref());
    match (has, &wanted.volume) {
        (None, None) => false,
        (Some(_), Some(wanted)) => name.is_some_and(|name| name != wanted),
        (Some(_), None) | (None, Some(_)) => true,
    }
}

/// Stopped, and not because its program ended by itself.
fn is_stopped_on_request(machine: &Machine) -> bool {
    matches!(
        machine.state,
        MachineState::Stopped | MachineState::Suspended
    ) && machine
        .exit_since_start()
        .is_none_or(|exit| exit.requested_stop == Some(true))
}

/// Shortest and longest rest of a machine whose program ended by itself.
const REST: (SignedDuration, SignedDuration) =
    (SignedDuration::from_secs(30), SignedDuration::from_mins(10));

/// Stopped because its program ended by itself, often enough that the platform gave up, and long
/// enough ago to try once more: what it depends on may have been mended. The rest grows with the
/// machine's age at its end, so it doubles.
fn has_rested(machine: &Machine, now: Timestamp) -> bool {
    let Some(exit) = machine.exit_since_start() else {
        return false;
    };
    let Some((ended, created)) = exit.exited_at.zip(machine.created_at) else {
        return false;
    };
    let rest = ended.duration_since(created).clamp(REST.0, REST.1);
    machine.state == MachineState::Stopped
        && exit.requested_stop != Some(true)
        && now.duration_since(ended) > rest
}

#[cfg(test)]
mod tests;
