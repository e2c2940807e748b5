//! All that becomes of the machines until they are as they should be, as data: what a plan lists. The
//! rollout itself goes move by move, as [`strategy`](super::strategy) decides. Pure.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::{
    next_move::Move,
    readback::{self, How},
    slots::{is_canary, runs_a_command},
    strategy::{Fleet, SlotState},
    wanted::{WantedMachine, machine_in_slot},
};
use crate::{
    fly::{Machine, machine_config::MachineGuest},
    flytoml::Strategy,
    phase::{
        marks::{CONFIG_KEY, SLOT_KEY},
        roster::MACHINE,
    },
    pipeline::{ChangeVerb, FieldChange, PlannedChange},
    plan::cost::Billed,
};

/// The size of a machine that is given none (fly.io/docs/machines/api/machines-resource/).
const DEFAULT_SIZE: &str = "shared-cpu-1x, 256 MB";

/// What is done alike to several machines: the verb, the process group, the region, and the fields.
type Alike = (ChangeVerb, String, Vec<FieldChange>);

/// Machines to which the same is done.
struct Group {
    alike: Alike,
    names: Vec<String>,
    /// The hashes of their configurations, before and after; empty: there is none.
    before: Vec<String>,
    after: Vec<String>,
}

/// Changes of machines, those that are alike as one.
#[derive(Default)]
struct Changes(Vec<Group>);

impl Changes {
    /// Adds a machine, with the hashes of its configuration before and after.
    fn add(&mut self, alike: Alike, name: &str, (before, after): (&str, &str)) {
        let at = self.0.iter().position(|group| group.alike == alike);
        let at = at.unwrap_or_else(|| {
            self.0.push(Group {
                alike,
                names: Vec::new(),
                before: Vec::new(),
                after: Vec::new(),
            });
            self.0.len() - 1
        });
        if let Some(group) = self.0.get_mut(at) {
            group.names.push(name.to_owned());
            group.before.push(before.to_owned());
            group.after.push(after.to_owned());
        }
    }

    fn into_list(self) -> Vec<PlannedChange> {
        let change = |group: Group| {
            let (verb, of, fields) = group.alike;
            let names = group.names.iter().map(String::as_str);
            let change = PlannedChange::of_all(verb, MACHINE, names);
            let change = change.set("of", of).with(fields);
            match (hash(&group.before), hash(&group.after)) {
                (None, None) => change,
                (before, after) => change.field("configuration", before, after),
            }
        };
        self.0.into_iter().map(change).collect()
    }
}

/// One short hash of the hashes of several machines; `None` if there is none.
fn hash(marks: &[String]) -> Option<String> {
    if marks.iter().all(String::is_empty) {
        return None;
    }
    let mut hash = Sha256::new();
    for mark in marks {
        hash.update(mark);
        hash.update([0]);
    }
    let hash = data_encoding::HEXLOWER.encode(&hash.finalize()[..6]);
    Some(format!("#{hash}"))
}

/// The creation of these machines.
pub fn creates(machines: &[WantedMachine]) -> Vec<PlannedChange> {
    let mut changes = Changes::default();
    for wanted in machines {
        changes.add(created(wanted), &wanted.name, ("", &wanted.hash));
    }
    changes.into_list()
}

/// What one move does.
pub fn next(next: &Move) -> Option<PlannedChange> {
    let of = |verb, machines: &[Machine]| {
        let names = machines.iter().map(|machine| machine.name.as_str());
        Some(PlannedChange::of_all(verb, MACHINE, names))
    };
    match next {
        Move::Create(wanted) => creates(wanted).into_iter().next(),
        Move::Update(pairs) => {
            let names = pairs.iter().map(|(machine, _)| machine.name.as_str());
            Some(PlannedChange::of_all(ChangeVerb::Update, MACHINE, names))
        }
        Move::Start(machines) | Move::Uncordon(machines) => of(ChangeVerb::Start, machines),
        Move::Cordon(machines) | Move::Stop(machines) => of(ChangeVerb::Stop, machines),
        Move::Destroy(machines) => of(ChangeVerb::Destroy, machines),
        Move::Nothing | Move::Settle | Move::Pause(_) | Move::Await(_) => None,
    }
}

/// All changes until the fleet is as it should be.
pub fn changes(fleet: &Fleet) -> Vec<PlannedChange> {
    let slots = fleet.slots();
    let mut changes = Changes::default();
    let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
    for slot in slots.iter().filter(|slot| !slot.wanted.standby) {
        *sizes.entry(slot.wanted.group.as_str()).or_default() += 1;
    }
    // As the strategy does: a canary goes before the first machine of its group.
    let is_first = |canary: &&WantedMachine| {
        let group = slots.iter().filter(|slot| {
            slot.wanted.group == canary.group && !slot.wanted.standby && slot.fill.is_some()
        });
        let (some, updated) = (group.clone().next().is_some(), |slot: &SlotState| {
            slot.is_updated()
        });
        let exists = machine_in_slot(fleet.machines, canary).is_some();
        some && !exists && !group.clone().any(updated)
    };
    for canary in fleet.canaries.iter().filter(is_first) {
        let (verb, group, mut fields) = created(canary);
        let until = Some("its group is updated".to_owned());
        fields.push(FieldChange::new("until", None, until));
        changes.add((verb, group, fields), &canary.name, ("", &canary.hash));
    }
    for slot in &slots {
        let wanted = slot.wanted;
        let Some(machine) = slot.fill else {
            changes.add(created(wanted), &wanted.name, ("", &wanted.hash));
            continue;
        };
        let before = machine.metadata(CONFIG_KEY).unwrap_or_default();
        if fleet.replaces(slot) {
            let beside = wanted.sized_as(Some(machine)).beside();
            changes.add(created(&beside), &beside.name, ("", &beside.hash));
            changes.add(destroyed(&wanted.group), &machine.name, ("", ""));
        } else if !fleet.is_current(machine, wanted) {
            let alone = sizes
                .get(wanted.group.as_str())
                .is_none_or(|size| *size < 2);
            let fields = updated(fleet, machine, wanted, alone && !wanted.standby);
            let alike = (ChangeVerb::Update, wanted.group.clone(), fields);
            changes.add(alike, &machine.name, (before, &wanted.hash));
        }
        for other in &slot.others {
            changes.add(destroyed(&wanted.group), &other.name, ("", ""));
        }
    }
    for surplus in fleet.machines.iter().filter(|machine| {
        let slot = machine.metadata(SLOT_KEY).unwrap_or_default();
        !runs_a_command(machine)
            && !is_canary(machine)
            && !fleet.wanted.iter().any(|wanted| wanted.slot == slot)
    }) {
        let group = surplus.metadata("fly_process_group").unwrap_or_default();
        changes.add(destroyed(group), &surplus.name, ("", ""));
    }
    changes.into_list()
}

fn destroyed(group: &str) -> Alike {
    (ChangeVerb::Destroy, group.to_owned(), Vec::new())
}

fn created(wanted: &WantedMachine) -> Alike {
    let config = &wanted.config;
    let field = |name: &str, value: String| FieldChange::new(name, None, Some(value));
    let mut fields = vec![
        field("image", config.image.clone()),
        field("region", wanted.region.clone()),
        field("size", size(config.guest.as_ref())),
    ];
    if wanted.standby {
        fields.push(field("standby", "yes".to_owned()));
    }
    if let Some(volume) = &wanted.volume {
        fields.push(field("volume", volume.clone()));
    }
    let told = readback::told(config).into_iter();
    let told = told.filter(|(name, _)| !name.starts_with("guest."));
    fields.extend(told.map(|(name, value)| {
        FieldChange::new(&name, None, Some(value.unwrap_or_else(|| "set".to_owned())))
    }));
    (ChangeVerb::Create, wanted.group.clone(), fields)
}

/// The fields of a machine that is updated in place: `alone` if no other one serves meanwhile.
fn updated(
    fleet: &Fleet,
    machine: &Machine,
    wanted: &WantedMachine,
    alone: bool,
) -> Vec<FieldChange> {
    let mut fields = Vec::new();
    let Some(config) = &machine.config else {
        return fields;
    };
    for difference in fleet.differences(machine, wanted, config) {
        let (old, new) = match difference.how {
            How::Value { wanted, found } => (Some(found), Some(wanted)),
            How::Changed => (None, Some("changed".to_owned())),
            How::Added => (None, None),
            How::Removed => (None, Some("set".to_owned())),
        };
        fields.push(FieldChange::new(&difference.field, old, new));
    }
    let downtime = match fleet.strategy {
        Strategy::Immediate => "all machines restart at once",
        _ if alone => "the only machine restarts",
        _ => "none: others serve while one restarts",
    };
    let told = [
        ("strategy", fleet.strategy.as_str()),
        ("downtime", downtime),
    ];
    fields.extend(told.map(|(name, value)| FieldChange::new(name, None, Some(value.to_owned()))));
    fields
}

/// A machine of this size as Fly.io bills it.
pub fn billed(name: String, guest: &MachineGuest, region: String) -> Billed {
    Billed::Machine {
        name,
        cpu_kind: guest
            .cpu_kind
            .clone()
            .unwrap_or_else(|| "shared".to_owned()),
        cpus: guest.cpus.unwrap_or(1),
        memory_mb: guest.memory_mb.unwrap_or(256),
        gpu: guest.gpu_kind.is_some(),
        region,
    }
}

/// A size for people.
fn size(guest: Option<&MachineGuest>) -> String {
    let Some(guest) = guest else {
        return DEFAULT_SIZE.to_owned();
    };
    let kind = guest.cpu_kind.as_deref().unwrap_or("shared");
    let kind = if kind == "shared" { "shared-cpu" } else { kind };
    let size = format!(
        "{kind}-{}x, {} MB",
        guest.cpus.unwrap_or(1),
        guest.memory_mb.unwrap_or(256)
    );
    match &guest.gpu_kind {
        Some(gpu) => format!("{size}, {} {gpu}", guest.gpus.unwrap_or(1)),
        None => size,
    }
}
