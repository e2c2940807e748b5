//! The next move from the machines that exist to those that should. Pure.
//!
//! Nothing is remembered between two plans: the metadata of a machine and Fly.io's `cordoned` show
//! whether it is old, new, a canary or half way. So a crash does not change the plan, and a rollback
//! is the same rollout with old and new exchanged.
//!
//! | strategy | a machine whose configuration has changed |
//! |---|---|
//! | rolling | is updated in place: the first of each process group alone, then several at a time |
//! | canary | the same, once an extra machine of each process group is healthy |
//! | bluegreen | gets a new one beside it, which takes over when all new ones are healthy |
//! | immediate | is updated in place, together with all others |

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    health::{Health, Watch, health_of},
    next_move::{MachineDrift, Move, Plan},
    readback::{self, Difference},
    restart,
    retire::{self, Drain, has_services},
    slots::{is_canary, runs_a_command},
    wanted::{WantedMachine, machine_in_slot},
};
use crate::{
    fly::{Machine, MachineConfig, MachineState, machines::HostStatus},
    flytoml::Strategy,
    phase::marks::SLOT_KEY,
};

/// What a plan follows from.
#[derive(Debug)]
pub struct Fleet<'a> {
    /// The machines that should exist.
    pub wanted: &'a [WantedMachine],
    /// The canary of each process group.
    pub canaries: &'a [WantedMachine],
    /// Our machines that exist.
    pub machines: &'a [Machine],
    /// Digests of other releases.
    pub other_digests: &'a [String],
    /// Versions of machines that this process wrote.
    pub written: &'a BTreeSet<String>,
    /// How machines are replaced.
    pub strategy: Strategy,
    /// How many machines of a process group may be updated at the same time.
    pub pools: &'a BTreeMap<String, usize>,
    /// Whether an update waits for the machines that it has updated to become healthy.
    pub careful: bool,
    /// Ids of machines that have not passed their `machine_checks`: they are not healthy yet.
    pub untested: &'a BTreeSet<String>,
    /// How machines without checks are watched.
    pub watch: Watch,
    /// How long the proxies get to learn where the traffic goes.
    pub drain: Duration,
}

/// One slot: the machine that should fill it, the one that does, and what else has its mark.
#[derive(Debug)]
pub struct SlotState<'a> {
    /// The machine that should fill it.
    pub wanted: &'a WantedMachine,
    /// The one that does.
    pub fill: Option<&'a Machine>,
    /// What else has its mark.
    pub others: Vec<&'a Machine>,
}

impl SlotState<'_> {
    /// Whether the machine that fills it was given what it should be.
    pub fn is_updated(&self) -> bool {
        self.fill
            .is_some_and(|machine| self.wanted.was_given_to(machine))
    }
}

/// Plans the next move.
pub fn plan(fleet: &Fleet) -> Plan {
    let slots = fleet.slots();
    let replaced: Vec<&SlotState> = slots.iter().filter(|slot| fleet.replaces(slot)).collect();
    // What an earlier try left is removed first, so that a slot never has three machines.
    let left = replaced.iter().flat_map(|slot| slot.others.clone());
    if let Some(next) = fleet.retire(left.collect()) {
        return Plan::of(next);
    }
    if let Some(plan) = fleet.canaries_first(&slots) {
        return plan;
    }
    if let Some(next) = fleet.retire_canaries(&slots) {
        return Plan::of(next);
    }
    if let Some(next) = fleet.create(&slots, &replaced) {
        return Plan::of(next);
    }
    if let Some(plan) = fleet.update(&slots) {
        return plan;
    }
    fleet.take_over(&slots)
}

impl Fleet<'_> {
    /// The slots, in the order in which they are created.
    pub fn slots(&self) -> Vec<SlotState<'_>> {
        self.wanted
            .iter()
            .map(|wanted| {
                let fill = machine_in_slot(self.machines, wanted);
                let others = self.machines.iter().filter(|machine| {
                    machine.metadata(SLOT_KEY) == Some(wanted.slot.as_str())
                        && fill.is_none_or(|fill| fill.id != machine.id)
                });
                SlotState {
                    wanted,
                    fill,
                    others: others.collect(),
                }
            })
            .collect()
    }

    /// Whether the machine in a slot gets a successor beside it instead of an update.
    pub fn replaces(&self, slot: &SlotState) -> bool {
        slot.fill.is_some()
            && !slot.is_updated()
            && (self.strategy == Strategy::BlueGreen
                || slot
                    .fill
                    .is_some_and(|machine| changes_volume(machine, slot.wanted)))
    }

    /// Slots for which a machine has to be created.
    pub fn lacking(&self) -> Vec<&WantedMachine> {
        let slots = self.slots();
        self.wanted
            .iter()
            .zip(&slots)
            .filter(|(_, slot)| slot.fill.is_none() || self.replaces(slot))
            .map(|(wanted, _)| wanted)
            .collect()
    }

    /// Whether the machine runs what it should. A silent revert brings back the old marks with
    /// the old configuration; somebody else's change keeps the marks and changes a field.
    ///
    /// A version that this process wrote is not compared field by field: however the platform
    /// spells it, writing it again would change nothing and restart the machine. The image that its
    /// host reports is compared all the same, once the machine has settled.
    pub fn is_current(&self, machine: &Machine, wanted: &WantedMachine) -> bool {
        let marked = wanted.was_given_to(machine);
        let Some(config) = &machine.config else {
            // Its host cannot be reached, so that nothing can be compared or updated.
            return marked || machine.host_status != HostStatus::Ok;
        };
        marked && self.differences(machine, wanted, config).is_empty()
    }

    /// The fields in which a machine differs from what it was given.
    pub fn differences(
        &self,
        machine: &Machine,
        wanted: &WantedMachine,
        config: &MachineConfig,
    ) -> Vec<Difference> {
        let mut found = Vec::new();
        if !wanted.has_image_of(machine) {
            found.push(Difference::value(
                "image",
                &wanted.config.image,
                &config.image,
            ));
        }
        if let Some(first) = self.primary_of(wanted)
            && config.standbys != [first.id.as_str()]
        {
            let now = config.standbys.join(", ");
            found.push(Difference::value("standbys", &first.id, now));
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
        if let Some(host) = host
            && self.other_digests.contains(host)
            && !(written && moves)
        {
            found.push(Difference::value(
                "the image of its host",
                &wanted.config.image,
                host,
            ));
        }
        if !written {
            let wanted = wanted.sized_as(Some(machine));
            found.extend(readback::differences(&wanted.config, config));
        }
        found
    }

    /// The machines that were changed by hand since they were given what they should be, or that
    /// Fly.io took back.
    pub fn drift(&self) -> Vec<MachineDrift> {
        let slots = self.slots();
        let filled = slots
            .iter()
            .filter_map(|slot| Some((slot.wanted, slot.fill?)));
        filled
            .filter(|(wanted, machine)| wanted.was_given_to(machine))
            .filter_map(|(wanted, machine)| {
                let config = machine.config.as_ref()?;
                let differences = self.differences(machine, wanted, config);
                (!differences.is_empty()).then(|| MachineDrift {
                    name: machine.name.clone(),
                    differences,
                })
            })
            .collect()
    }

    /// The machine that a standby replaces on failure: the first of its group.
    fn primary_of(&self, wanted: &WantedMachine) -> Option<&Machine> {
        let first = self
            .wanted
            .iter()
            .find(|first| first.group == wanted.group && !first.standby);
        first
            .filter(|_| wanted.standby)
            .and_then(|first| machine_in_slot(self.machines, first))
    }

    /// The same machine; a standby names the machine that it replaces.
    fn with_primary(&self, wanted: &WantedMachine) -> WantedMachine {
        let mut wanted = wanted.clone();
        if let Some(first) = self.primary_of(&wanted) {
            let config = &mut wanted.config;
            config.standbys = vec![first.id.clone()];
            config
                .env
                .insert("FLY_STANDBY_FOR".to_owned(), first.id.clone());
        }
        wanted
    }

    fn is_healthy(&self, machine: &Machine, wanted: &WantedMachine) -> bool {
        !self.untested.contains(&machine.id)
            && health_of(machine, wanted, self.watch) == Health::Healthy
    }

    /// Before the first machine of a process group is updated, its canary must be healthy.
    fn canaries_first(&self, slots: &[SlotState]) -> Option<Plan> {
        if self.strategy != Strategy::Canary {
            return None;
        }
        let needed: Vec<&WantedMachine> = self
            .canaries
            .iter()
            .filter(|canary| {
                let mut group = slots.iter().filter(|slot| {
                    slot.wanted.group == canary.group && !slot.wanted.standby && slot.fill.is_some()
                });
                group.clone().next().is_some() && !group.any(SlotState::is_updated)
            })
            .collect();
        let stale = self.machines.iter().filter(|machine| {
            is_canary(machine)
                && !self
                    .canaries
                    .iter()
                    .any(|canary| canary.was_given_to(machine))
        });
        if needed.is_empty() {
            return None;
        }
        if let Some(next) = self.retire(stale.collect()) {
            return Some(Plan::of(next));
        }
        let filled = |canary: &WantedMachine| machine_in_slot(self.machines, canary);
        let missing: Vec<WantedMachine> = needed
            .iter()
            .filter(|canary| filled(canary).is_none())
            .map(|canary| {
                let like = slots.iter().filter(|p| p.wanted.group == canary.group);
                canary.sized_as(like.filter_map(|slot| slot.fill).next())
            })
            .collect();
        if !missing.is_empty() {
            return Some(Plan::of(Move::Create(missing)));
        }
        let settling: Vec<String> = needed
            .iter()
            .filter(|canary| {
                filled(canary).is_some_and(|machine| !self.is_healthy(machine, canary))
            })
            .map(|canary| canary.slot.clone())
            .collect();
        (!settling.is_empty()).then_some(Plan {
            next: Move::Settle,
            settling,
        })
    }

    /// A canary is removed once a machine of its group is healthy. The rollout of the others does
    /// not wait until it has finished its requests.
    fn retire_canaries(&self, slots: &[SlotState]) -> Option<Move> {
        let proven = |canary: &WantedMachine| {
            slots.iter().any(|slot| {
                slot.wanted.group == canary.group
                    && !slot.wanted.standby
                    && slot.is_updated()
                    && slot
                        .fill
                        .is_some_and(|machine| self.is_healthy(machine, slot.wanted))
            })
        };
        let canaries = self.canaries.iter().filter(|canary| proven(canary));
        let done = canaries.filter_map(|canary| machine_in_slot(self.machines, canary));
        self.retire(done.collect()).filter(Move::changes)
    }

    /// Creates the missing machines, all at once; standbys after the machines that they replace.
    fn create(&self, slots: &[SlotState], replaced: &[&SlotState]) -> Option<Move> {
        let all_beside = self.strategy == Strategy::BlueGreen && !replaced.is_empty();
        let missing: Vec<WantedMachine> = slots
            .iter()
            .filter(|slot| slot.fill.is_none())
            .map(|slot| {
                let mut wanted = slot.wanted.clone();
                wanted.cordoned = all_beside;
                wanted
            })
            .chain(
                replaced
                    .iter()
                    .map(|slot| slot.wanted.sized_as(slot.fill).beside()),
            )
            .collect();
        let (standbys, running): (Vec<_>, Vec<_>) =
            missing.into_iter().partition(|wanted| wanted.standby);
        if !running.is_empty() {
            return Some(Move::Create(running));
        }
        let standbys: Vec<WantedMachine> = standbys.iter().map(|w| self.with_primary(w)).collect();
        (!standbys.is_empty()).then_some(Move::Create(standbys))
    }

    /// Updates in place: in each process group the first machine alone, then as many as
    /// `max_unavailable` allows to be unhealthy.
    fn update(&self, slots: &[SlotState]) -> Option<Plan> {
        let mut updates = Vec::new();
        let mut settling = Vec::new();
        let mut behind = false;
        let groups: BTreeSet<&str> = slots.iter().map(|p| p.wanted.group.as_str()).collect();
        for group in groups {
            let (current, outdated): (Vec<_>, Vec<_>) = slots
                .iter()
                .filter(|slot| slot.wanted.group == group)
                .filter_map(|slot| Some((slot.fill?, slot.wanted)))
                .partition(|(machine, wanted)| self.is_current(machine, wanted));
            if outdated.is_empty() {
                continue;
            }
            behind = true;
            let (healthy, unhealthy): (Vec<_>, Vec<_>) = current
                .into_iter()
                .filter(|(_, wanted)| !wanted.standby)
                .partition(|(machine, wanted)| self.is_healthy(machine, wanted));
            let pool = self.pools.get(group).copied().unwrap_or(1).max(1);
            let free = match self.strategy {
                Strategy::Immediate => usize::MAX,
                _ if !self.careful => pool,
                _ => {
                    settling.extend(unhealthy.iter().map(|(_, wanted)| wanted.slot.clone()));
                    let most = if healthy.is_empty() { 1 } else { pool };
                    most.saturating_sub(unhealthy.len())
                }
            };
            updates.extend(
                outdated
                    .into_iter()
                    .take(free)
                    .map(|(machine, wanted)| (machine.clone(), self.with_primary(wanted))),
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

    /// The new machines take over, and those that are no longer wanted are retired.
    fn take_over(&self, slots: &[SlotState]) -> Plan {
        let filled: Vec<(&Machine, &WantedMachine)> = slots
            .iter()
            .filter_map(|slot| Some((slot.fill?, slot.wanted)))
            .collect();
        let down: Vec<Machine> = filled
            .iter()
            .filter(|(machine, wanted)| {
                !wanted.standby && restart::is_due(machine, wanted, self.watch.now)
            })
            .map(|(machine, _)| (*machine).clone())
            .collect();
        if !down.is_empty() {
            return Plan::of(Move::Start(down));
        }
        let settling: Vec<String> = filled
            .iter()
            .filter(|(machine, wanted)| !wanted.standby && !self.is_healthy(machine, wanted))
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
            // All or none: the two sets serve side by side only while the calls take.
            return if settling.is_empty() {
                Plan::of(Move::Uncordon(hidden))
            } else {
                settle(settling)
            };
        }
        let others: Vec<&Machine> = slots.iter().flat_map(|slot| slot.others.clone()).collect();
        let surplus = self.machines.iter().filter(|machine| {
            let slot = machine.metadata(SLOT_KEY).unwrap_or_default();
            !runs_a_command(machine) && !self.wanted.iter().any(|wanted| wanted.slot == slot)
        });
        let serving = |machine: &&Machine| machine.cordoned != Some(true);
        // A cordoned machine may be removed even when the others are not healthy.
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
                .filter_map(|(machine, _)| self.drain().left_since(machine, "uncordon"))
                .max()
        {
            return Plan::of(Move::Pause(left));
        }
        Plan::of(self.retire(old).unwrap_or(Move::Nothing))
    }

    fn retire(&self, old: Vec<&Machine>) -> Option<Move> {
        retire::retire(old, self.drain())
    }

    fn drain(&self) -> Drain {
        Drain {
            span: self.drain,
            now: self.watch.now,
        }
    }
}

/// Whether a machine has another volume than it should: it cannot change its volume, so that it
/// needs a successor. An unknown configuration counts as unchanged.
fn changes_volume(machine: &Machine, wanted: &WantedMachine) -> bool {
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

#[cfg(test)]
mod tests;
