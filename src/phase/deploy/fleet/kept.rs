//! What is kept of the release that serves while the wanted one cannot go on. Pure.
//!
//! Its machines are kept as they are, and those that are missing are created. A machine that was
//! given another release is left alone, and so is its slot: an update that was interrupted is neither
//! continued nor undone.

use super::wanted::WantedMachine;
use crate::{
    fly::Machine,
    phase::marks::{CONFIG_KEY, RELEASE_KEY, SLOT_KEY},
};

/// The machines of the release `key`.
pub fn machines(machines: Vec<Machine>, key: &str) -> Vec<Machine> {
    let of_release = |machine: &Machine| is_of(machine, key);
    machines.into_iter().filter(of_release).collect()
}

fn is_of(machine: &Machine, key: &str) -> bool {
    machine.metadata(RELEASE_KEY) == Some(key)
}

/// The machines that should exist, without the slots that machines of other releases fill. An
/// existing machine of the release `key` was given what it should have, whatever the secrets of the
/// app are by now: they reach the machines with the next release.
pub fn wanted(wanted: Vec<WantedMachine>, existing: &[Machine], key: &str) -> Vec<WantedMachine> {
    let keep = |mut wanted: WantedMachine| {
        let slot = Some(wanted.slot.as_str());
        let filling = || existing.iter().filter(|m| m.metadata(SLOT_KEY) == slot);
        let own = filling().find(|machine| is_of(machine, key));
        if own.is_none() && filling().next().is_some() {
            return None;
        }
        if let Some(given) = own.and_then(|machine| machine.metadata(CONFIG_KEY)) {
            wanted.hash = given.to_owned();
            let marks = &mut wanted.config.metadata;
            marks.insert(CONFIG_KEY.to_owned(), given.to_owned());
        }
        Some(wanted)
    };
    wanted.into_iter().filter_map(keep).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn slot(slot: &str) -> WantedMachine {
        WantedMachine {
            slot: slot.to_owned(),
            name: format!("golive-{slot}"),
            group: "app".to_owned(),
            region: "eze".to_owned(),
            standby: false,
            cordoned: false,
            checks: 0,
            volume: None,
            keeps_size: false,
            config: crate::fly::MachineConfig::default(),
            hash: "computed".to_owned(),
        }
    }

    fn existing(slot: &str, release: &str, config: &str) -> Machine {
        let machine = serde_json::json!({
            "id": slot, "name": format!("golive-{slot}"), "state": "started",
            "config": {"metadata": {
                SLOT_KEY: slot, RELEASE_KEY: release, CONFIG_KEY: config,
            }},
        });
        serde_json::from_value(machine).unwrap()
    }

    #[test]
    fn a_slot_of_an_interrupted_update_is_left_alone_and_a_missing_machine_is_wanted() {
        let fleet = vec![
            existing("app-0", "serving", "with old secrets"),
            existing("app-1", "next", "c"),
        ];
        let wants = vec![slot("app-0"), slot("app-1"), slot("app-2")];

        let kept = wanted(wants, &fleet, "serving");

        let slots: Vec<&str> = kept.iter().map(|wanted| wanted.slot.as_str()).collect();
        assert_eq!(slots, ["app-0", "app-2"]);
        assert!(
            kept[0].was_given_to(&fleet[0]),
            "its secrets are no reason to update it"
        );
        assert_eq!(kept[1].hash, "computed");
        assert_eq!(machines(fleet, "serving").len(), 1);
    }
}
