//! Whether machines sleep: Fly.io's proxy has stopped them, and starts them with the next request. What looks
//! at an application wakes none of them, because each start is billed. Pure.

use crate::fly::{Machine, MachineState};

/// Whether all machines that the proxy starts on demand are stopped or suspended, as it does with
/// idle ones. One whose program ended by itself does not sleep: it has failed.
pub fn asleep(machines: &[Machine]) -> bool {
    let mut served = machines.iter().filter(|machine| serves(machine)).peekable();
    served.peek().is_some() && served.all(sleeps)
}

/// Whether the machine has a service.
fn serves(machine: &Machine) -> bool {
    let config = machine.config.as_ref();
    config.is_some_and(|config| !config.services.is_empty())
}

/// Whether the proxy has stopped this machine and starts it with the next request.
pub fn sleeps(machine: &Machine) -> bool {
    let stopped = matches!(
        machine.state,
        MachineState::Stopped
            | MachineState::Suspended
            | MachineState::Stopping
            | MachineState::Suspending
    );
    let mut services = machine.config.iter().flat_map(|config| &config.services);
    let on_demand = services.any(|service| service.autostart == Some(true));
    let failed = machine.exit_since_start().is_some_and(|exit| {
        let code = exit.guest_exit_code.or(exit.exit_code).unwrap_or(0);
        let restarts = exit.restarting == Some(true);
        exit.requested_stop != Some(true) && (restarts || code != 0)
    });
    stopped && on_demand && !failed && machine.cordoned != Some(true)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn machine(state: &str, autostart: bool, exit: serde_json::Value) -> Machine {
        serde_json::from_value(json!({
            "id": "m", "state": state,
            "config": {"services": [{"internal_port": 80, "autostart": autostart}]},
            "events": [
                {"type": "start", "timestamp": 1},
                {"type": "exit", "timestamp": 2, "request": {"exit_event": exit}},
            ],
        }))
        .unwrap()
    }

    #[test]
    fn a_machine_sleeps_when_the_proxy_wakes_it_and_it_did_not_fail() {
        let asked = json!({"requested_stop": true, "exit_code": 143});
        assert!(sleeps(&machine("stopped", true, asked.clone())));
        assert!(sleeps(&machine("suspended", true, asked.clone())));
        assert!(!sleeps(&machine("started", true, asked.clone())));
        assert!(
            !sleeps(&machine("stopped", false, asked.clone())),
            "nothing wakes it"
        );
        let crashed = json!({"requested_stop": false, "exit_code": 3});
        assert!(!sleeps(&machine("stopped", true, crashed)));
        let restarts = json!({"requested_stop": false, "exit_code": 0, "restarting": true});
        assert!(
            !sleeps(&machine("stopped", true, restarts)),
            "Fly.io starts it again"
        );
        let stopped = machine("stopped", true, asked.clone());
        let runs = machine("started", true, asked);
        assert!(asleep(std::slice::from_ref(&stopped)));
        assert!(!asleep(&[stopped, runs]), "one of them runs");
        assert!(!asleep(&[]), "nothing is there");
    }
}
