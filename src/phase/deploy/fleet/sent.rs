//! What this process sent to the machines, as the journal keeps it: the versions that it wrote, the
//! configuration that it gave to each machine, and the updates that Fly.io reverted.

use std::collections::{BTreeMap, BTreeSet};

use crate::{fly::Machine, pipeline::Cx};

use super::wanted::WantedMachine;

/// Versions of machines (`instance_id`) that this process wrote.
#[derive(Clone, Debug, Default)]
struct Written(BTreeSet<String>);

/// The hash of the configuration that this process gave to each machine last, by machine id.
#[derive(Clone, Debug, Default)]
struct GivenConfigs(BTreeMap<String, String>);

/// How often Fly.io reverted an update of this release, by the machine's name.
#[derive(Clone, Debug, Default)]
struct Reverted {
    release: String,
    times: BTreeMap<String, u32>,
}

/// Written versions that are remembered beside those that the machines have now.
const REMEMBERED: usize = 64;

/// The versions of these machines that this process wrote. Versions that no machine has any more
/// are forgotten once there are many of them.
pub fn written(cx: &Cx, machines: &[Machine]) -> BTreeSet<String> {
    let known = cx.journal.get::<Written>().unwrap_or_default();
    let has = machines.iter().map(|machine| machine.instance_id.clone());
    let written: BTreeSet<String> = has.filter(|version| known.0.contains(version)).collect();
    if known.0.len() > written.len() + REMEMBERED {
        cx.journal.set(Written(written.clone()));
        cx.journal.change_or_default::<GivenConfigs>(|given| {
            let is_there = |id: &String| machines.iter().any(|machine| machine.id == *id);
            given.0.retain(|id, _| is_there(id));
        });
    }
    written
}

/// Whether this process wrote the version that the machine has now.
pub fn is_written(cx: &Cx, machine: &Machine) -> bool {
    let written = cx.journal.get::<Written>();
    written.is_some_and(|written| written.0.contains(&machine.instance_id))
}

/// Remembers the version that a create or an update answered with.
pub fn remember_version(cx: &Cx, machine: &Machine) {
    cx.journal.change_or_default::<Written>(|written| {
        written.0.insert(machine.instance_id.clone());
    });
}

/// Whether this configuration is what this process gave to the machine last.
pub fn was_given(cx: &Cx, machine: &Machine, wanted: &WantedMachine) -> bool {
    let given = cx.journal.get::<GivenConfigs>();
    given.is_some_and(|given| given.0.get(&machine.id) == Some(&wanted.hash))
}

/// Remembers the configuration that a machine was given.
pub fn remember_given(cx: &Cx, machine: &Machine, wanted: &WantedMachine) {
    cx.journal.change_or_default::<GivenConfigs>(|given| {
        given.0.insert(machine.id.clone(), wanted.hash.clone());
    });
}

/// How often Fly.io reverted an update of this release, by the machine's name.
pub fn reverted(cx: &Cx, release: &str) -> BTreeMap<String, u32> {
    let known = cx.journal.get::<Reverted>();
    let known = known.filter(|known| known.release == release);
    known.map(|known| known.times.clone()).unwrap_or_default()
}

/// Counts a reverted update of a machine, and returns how many there have been in this release.
pub fn count_revert(cx: &Cx, release: String, machine: &Machine) -> u32 {
    let mut times = reverted(cx, &release);
    let count = times.entry(machine.name.clone()).or_default();
    *count += 1;
    let count = *count;
    cx.journal.set(Reverted { release, times });
    count
}
