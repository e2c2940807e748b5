//! Slots: the place that a machine fills, in its metadata. Pure.
//!
//! A machine of the application fills `app-0` or `app-0@gru`. The name of a process group is a TOML
//! key of letters, digits, `-` and `_`, so that no slot of the application contains a `/`.

use crate::{fly::Machine, phase::marks::SLOT_KEY};

/// Begins the slots of machines that run a command.
const COMMAND_PREFIX: &str = "release/";

/// Begins the slots of canaries.
const CANARY_PREFIX: &str = "canary/";

/// Slot and name of a machine of the application. One in the primary region does not name its
/// region, so that declaring regions later moves no machine.
pub fn application(group: &str, region: Option<&str>, index: u32) -> (String, String) {
    match region {
        None => (
            format!("{group}-{index}"),
            format!("golive-{group}-{index}"),
        ),
        Some(region) => (
            format!("{group}-{index}@{region}"),
            format!("golive-{group}-{index}-{region}"),
        ),
    }
}

/// Slot and name of the canary of a process group.
pub fn canary(group: &str) -> (String, String) {
    (
        format!("{CANARY_PREFIX}{group}"),
        format!("golive-canary-{group}"),
    )
}

/// The slot of the machine that runs the release command of a release.
pub fn release_command(number: u64, key: &str) -> String {
    let key: String = key.chars().take(8).collect();
    format!("{COMMAND_PREFIX}{number}-{key}")
}

/// The slot of the machine that runs the seed command, which runs once in the life of an object.
pub fn seed_command() -> String {
    format!("{COMMAND_PREFIX}seed")
}

/// The slot of the machines that test those that are given a release.
pub fn machine_checks(number: u64, key: &str) -> String {
    format!("{}/checks", release_command(number, key))
}

/// The slot of the machine that tries a release.
pub fn trial(number: u64, key: &str) -> String {
    format!("{}/trial", release_command(number, key))
}

/// Whether a slot is that of the release command of some release.
pub fn is_release_command(slot: &str) -> bool {
    let number = slot.strip_prefix(COMMAND_PREFIX);
    number.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()) && !rest.contains('/'))
}

/// Whether a machine runs a command instead of the application.
pub fn runs_a_command(machine: &Machine) -> bool {
    let slot = machine.metadata(SLOT_KEY);
    slot.is_some_and(|slot| slot.starts_with(COMMAND_PREFIX))
}

/// Whether a machine is a canary.
pub fn is_canary(machine: &Machine) -> bool {
    let slot = machine.metadata(SLOT_KEY);
    slot.is_some_and(|slot| slot.starts_with(CANARY_PREFIX))
}
