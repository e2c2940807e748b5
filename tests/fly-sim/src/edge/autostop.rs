//! Stops idle machines that have `autostop`: at most one per app and region in a pass.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::core::{CallId, Shared};
use crate::machine::config::Autostop;
use crate::machine::{Command, Machine, Source, State};

/// Time between two passes on Fly: "every few minutes" (docs, launch/autostop-autostart).
const PASS: Duration = Duration::from_secs(300);

fn wish(machine: &Machine) -> Option<&'static str> {
    machine
        .config
        .services
        .iter()
        .flatten()
        .find_map(|service| match service.autostop.as_ref()? {
            Autostop::Flag(true) => Some("stop"),
            Autostop::Word(word) if word == "stop" => Some("stop"),
            Autostop::Word(word) if word == "suspend" => Some("suspend"),
            _ => None,
        })
}

/// Passes until the simulator ends.
pub async fn run(core: Shared) {
    let pass = PASS
        .mul_f64(core.options.timer_scale)
        .max(Duration::from_millis(200));
    loop {
        tokio::time::sleep(pass).await;
        one_pass(&core, pass);
    }
}

fn one_pass(core: &Shared, idle: Duration) {
    let now = Instant::now();
    let stopped = core.write(|world| {
        let mut stopped = Vec::new();
        for app in world.apps.values_mut() {
            let mut done = BTreeSet::new();
            let ids: Vec<String> = app.machines.keys().cloned().collect();
            for id in ids {
                let Some(machine) = app.machines.get(&id) else {
                    continue;
                };
                let services = machine.config.services.iter().flatten();
                let keep = services
                    .filter_map(|service| service.min_machines_running)
                    .max()
                    .unwrap_or(0);
                let env = machine.config.env.as_ref();
                let primary = env
                    .and_then(|env| env.get("PRIMARY_REGION"))
                    .is_none_or(|region| *region == machine.region);
                let running = app
                    .machines
                    .values()
                    .filter(|other| other.state == State::Started && other.region == machine.region)
                    .count() as u64;
                let may = machine.state == State::Started
                    && wish(machine).is_some()
                    && machine.in_flight.load(Ordering::Relaxed) == 0
                    && now.saturating_duration_since(machine.last_request) >= idle
                    && (!primary || running > keep)
                    && !done.contains(&machine.region);
                if !may {
                    continue;
                }
                let Some(machine) = app.machines.get_mut(&id) else {
                    continue;
                };
                done.insert(machine.region.clone());
                if wish(machine) == Some("suspend") {
                    machine.state = State::Suspending;
                    machine.event(
                        "suspend",
                        "suspending",
                        Source::Proxy,
                        serde_json::json!({}),
                    );
                    machine.send(Command::Suspend);
                } else {
                    machine.state = State::Stopping;
                    machine.event("stop", "stopping", Source::Proxy, serde_json::json!({}));
                    machine.send(Command::Stop {
                        signal: None,
                        timeout: None,
                        source: Source::Flyd,
                    });
                }
                stopped.push((
                    app.name.clone(),
                    id,
                    machine.name.clone(),
                    machine.metadata.clone(),
                ));
            }
        }
        stopped
    });
    for (app, id, name, owner) in stopped {
        let detail = serde_json::json!({});
        core.effect(
            CallId(None),
            "machine.autostop",
            Some(&app),
            &id,
            &name,
            owner,
            detail,
        );
    }
}
