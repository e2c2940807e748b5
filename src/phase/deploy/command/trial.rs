//! The trial of a release (`deploy.tryImage`): one machine boots the image with the environment and the
//! secrets of the first process group, and without services, so that it gets no requests. When it has
//! been steady it is destroyed, and only then is a machine that serves touched.
//!
//! It is a one-off machine like that of the release command: found by its metadata, created once, safe
//! to lose the reply of. Its program does not end by itself, so that the result is written into its
//! metadata (`golive_trial`) before it is destroyed; a destroyed machine can still be read.

use std::time::Duration;

use super::{
    former::Former,
    machine::TIMEOUT,
    observation::{CommandState, Observation},
    one_off::{self, OneOff, Runs},
    one_off_machines,
    program::Program,
    step::OneOffStep,
};
use crate::phase::roster;
use crate::{
    api::deploy::TryImage as Spec,
    fly::{
        Machine, MachineConfig,
        machine_config::{MachineCheck, MachineDns, MachineRestart, RestartPolicy},
    },
    flytoml,
    phase::{
        deploy::{
            fleet::{slots, wanted::not_convertible},
            release::{store, targets, wanted::WantedRelease},
        },
        marks::{RELEASE_KEY, SLOT_KEY, TRIAL_KEY, UID_KEY},
    },
    pipeline::{ChangeVerb, Cx, PlannedChange, Slot, StepId, step::Result},
    plan::Target,
};

/// The trial of the image.
pub struct TryImage;

impl OneOffStep for TryImage {
    const ID: StepId = StepId::TryImage;
    const NEEDS: &'static [StepId] = &[StepId::SeedCommand];

    /// The first run for the first release.
    fn expected_creates(&self, cx: &Cx) -> Vec<Slot> {
        let requested = cx.target.deploy.try_image.is_some();
        requested
            .then(|| one_off::slot(format!("{}-0", announced(1))))
            .into_iter()
            .collect()
    }

    fn run(&self, target: &Target) -> Option<PlannedChange> {
        target.deploy.try_image.as_ref()?;
        let kind = Program::Trial {
            steady: Duration::ZERO,
        };
        let run = PlannedChange::new(ChangeVerb::Run, kind.kind(), "");
        Some(run.set("image", target.image_name()))
    }

    async fn observe(&self, cx: &Cx) -> Result<Observation> {
        let ours = roster::ours(cx).await?;
        let tries = |machine: &&Machine| machine.metadata(TRIAL_KEY).is_some();
        let Some(spec) = &cx.target.deploy.try_image else {
            let steady = Duration::ZERO;
            let state = CommandState::NotRequested(Program::Trial { steady });
            let left = ours.iter().find(tries).cloned();
            return Ok(Observation::from(state).after(left.map(Former::obsolete)));
        };
        let targets = targets::of(cx, store::ahead(cx).await?)?;
        let wanted = &targets.wanted;
        let slot = slots::trial(wanted.number, &wanted.key);
        let is_held = targets.records.held(&wanted.key, &cx.target).is_some();
        let is_done = targets.is_wanted_good() || is_held;
        // One of a release that is not wanted any more, or is done with.
        let is_left =
            |machine: &&Machine| is_done || machine.metadata(SLOT_KEY) != Some(slot.as_str());
        if let Some(left) = ours.iter().filter(tries).find(is_left) {
            let former = Former::obsolete(left.clone());
            return Ok(Observation::from(CommandState::Ran).after(Some(former)));
        }
        if is_done {
            return Ok(CommandState::Ran.into());
        }
        // A machine is given a release only after that was tried.
        let has_release = |machine: &Machine| {
            machine.metadata(RELEASE_KEY) == Some(wanted.key.as_str())
                && !slots::runs_a_command(machine)
        };
        if ours.iter().any(has_release) {
            return Ok(Observation::of(cx, CommandState::Ran, targets));
        }
        let machines = one_off_machines::in_slot(cx, &slot, <[Machine]>::is_empty).await?;
        let one_off = one_off(cx, spec, wanted, &slot)?;
        let runs = Runs::new(cx, one_off, machines).await?;
        let state = CommandState::Runs(Box::new(runs));
        Ok(Observation::of(cx, state, targets))
    }
}

/// The machine of the trial of this release.
fn one_off(cx: &Cx, spec: &Spec, wanted: &WantedRelease, slot: &str) -> Result<OneOff> {
    let app = &cx.target.config()?.app;
    let mut context = flytoml::Context {
        image: &wanted.image.pinned,
        ..flytoml::Context::default()
    };
    for (key, value) in [
        (UID_KEY, cx.owner.uid.as_str()),
        (SLOT_KEY, slot),
        (TRIAL_KEY, "running"),
    ] {
        context.metadata.insert(key.to_owned(), value.to_owned());
    }
    let config = app
        .machine_config(&app.default_group(), &context)
        .map_err(|error| not_convertible("machine of the trial", &error))?;
    let key: String = wanted.key.chars().take(8).collect();
    Ok(OneOff {
        program: Program::Trial {
            steady: spec.steady_for.get(),
        },
        name: format!("golive-trial-{key}-{}", wanted.number),
        announced: announced(wanted.number),
        region: cx.target.region.clone(),
        config: without_requests(config),
        timeout: app.deploy.wait_timeout.map_or(TIMEOUT, |wait| wait.0),
        attempt: String::new(),
    })
}

/// The name in the announcements of the trials of a release.
fn announced(release: u64) -> String {
    format!("golive-trial-{release}")
}

/// The same machine without requests and data: no services and volumes, and a name in private DNS for
/// nobody. The checks of its services become its own. It ends with its program.
fn without_requests(mut config: MachineConfig) -> MachineConfig {
    let mut checks = Vec::new();
    for service in std::mem::take(&mut config.services) {
        checks.extend(service.checks.into_iter().map(|check| MachineCheck {
            port: check.port.or(service.internal_port),
            ..check
        }));
    }
    let named = checks.into_iter().enumerate();
    let named = named.map(|(at, check)| (format!("service-{at}"), check));
    config.checks.extend(named);
    for check in config.checks.values_mut() {
        // It has no effect on requests that there are none of.
        check.kind = None;
    }
    config.mounts.clear();
    config.standbys.clear();
    config.env.remove("FLY_STANDBY_FOR");
    config.statics.clear();
    config.metrics = None;
    config.schedule = None;
    config.restart = Some(MachineRestart {
        policy: Some(RestartPolicy::No),
        ..MachineRestart::default()
    });
    config.auto_destroy = Some(true);
    config.dns = Some(MachineDns {
        skip_registration: Some(true),
        ..MachineDns::default()
    });
    // flyctl leaves machines of this group alone.
    let group = flytoml::TEST_MACHINE_GROUP.to_owned();
    let key = flytoml::PROCESS_GROUP_KEY.to_owned();
    config.metadata.insert(key, group);
    config
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::{
        super::run_state::{self, Run},
        *,
    };
    use crate::phase::evidence::cause::declared;

    const BEGAN: i64 = 1_800_000_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(BEGAN + second).unwrap()
    }

    /// The state at this second of a trial that needs 10 s in at most 60 s; started after a second.
    fn state(more: Value, second: i64) -> Run {
        let mut machine = json!({
            "id": "m1", "state": "started",
            "created_at": at(0).to_string(), "updated_at": at(1).to_string(),
            "events": [{"type": "start", "status": "started", "timestamp": (BEGAN + 1) * 1000}],
            "config": {"image": "r/a:1", "metadata": {TRIAL_KEY: "running"},
                "checks": {"service-0": {"type": "http", "port": 8080, "path": "/up"}}},
            "checks": [{"name": "service-0", "status": "passing"}],
        });
        for (key, value) in more.as_object().unwrap() {
            machine[key] = value.clone();
        }
        let machine: Machine = serde_json::from_value(machine).unwrap();
        let program = Program::Trial {
            steady: Duration::from_secs(10),
        };
        run_state::of(&program, Duration::from_secs(60), &machine, at(second))
    }

    fn marked(mark: &str, state: &str) -> Value {
        json!({"state": state, "config": {"image": "r/a:1", "metadata": {TRIAL_KEY: mark}}})
    }

    fn failing() -> Value {
        json!({"checks": [{"name": "service-0", "status": "critical", "output": "404 Not Found"}]})
    }

    #[test]
    fn a_trial_passes_when_it_has_run_long_enough_and_its_checks_pass() {
        assert_eq!(state(json!({}), 10), Run::Running);
        assert_eq!(state(json!({}), 11), Run::Decided("passed".to_owned()));
        assert_eq!(state(failing(), 60), Run::Running);
        assert_eq!(state(json!({"checks": []}), 60), Run::Running);
        assert_eq!(state(json!({"state": "starting"}), 60), Run::Running);
    }

    #[test]
    fn a_result_is_recorded_before_the_machine_ends_and_counts_once_it_has() {
        assert_eq!(state(marked("passed", "started"), 12), Run::Stuck);
        assert_eq!(state(marked("passed", "destroyed"), 12), Run::Succeeded);
        let Run::Decided(late) = state(failing(), 71) else {
            unreachable!("it is late");
        };
        assert_eq!(state(marked(&late, "started"), 72), Run::Stuck);
        let Run::Failed { how, .. } = state(marked(&late, "destroyed"), 73) else {
            unreachable!("it has failed");
        };
        assert!(
            how.starts_with("was not steady within 60 s (404 Not Found): the program has no /up"),
            "{how}"
        );
    }

    #[test]
    fn a_program_that_ends_has_failed_whatever_its_code() {
        for code in [0, 3] {
            let event = json!({"exit_code": code, "requested_stop": false});
            let events = json!([{"type": "exit", "timestamp": (BEGAN + 5) * 1000,
                "request": {"exit_event": event}}]);
            let ended = state(json!({"state": "destroyed", "events": events}), 6);
            assert!(
                matches!(&ended, Run::Failed { code: Some(is), .. } if *is == code),
                "{ended:?}"
            );
        }
    }

    #[test]
    fn a_trial_that_somebody_ended_proves_nothing_and_one_that_could_not_start_has_failed() {
        let gone = json!({"state": "destroyed", "events": []});
        assert_eq!(state(gone.clone(), 5), Run::Ending);
        assert_eq!(state(gone, 30), Run::Unknown);
        let launch = json!([{"type": "launch", "status": "launch_failed", "timestamp": 1}]);
        assert_eq!(
            state(json!({"state": "failed", "events": launch}), 5),
            Run::Stuck
        );
        let over = state(json!({"state": "destroyed", "events": launch}), 5);
        assert!(matches!(over, Run::Failed { .. }), "{over:?}");
    }

    #[test]
    fn the_machine_of_a_trial_gets_no_requests_and_no_data_and_keeps_its_checks() {
        let config: MachineConfig = serde_json::from_value(json!({
            "image": "r/a:1",
            "env": {"A": "1", "FLY_STANDBY_FOR": "x"},
            "metadata": {"fly_process_group": "app"},
            "services": [{"internal_port": 8080, "checks": [{"type": "http", "path": "/up"}]}],
            "checks": {"alive": {"type": "tcp", "port": 9000, "kind": "readiness"}},
            "mounts": [{"volume": "vol_1", "path": "/data"}],
            "standbys": ["x"],
            "restart": {"policy": "always"},
        }))
        .unwrap();
        let config = without_requests(config);
        assert!(config.services.is_empty() && config.mounts.is_empty());
        assert!(config.standbys.is_empty());
        assert_eq!(config.env.len(), 1);
        assert_eq!(config.auto_destroy, Some(true));
        let checks = declared(&config);
        let ports: Vec<(&str, u16)> = checks
            .iter()
            .map(|check| (check.name.as_str(), check.port))
            .collect();
        assert_eq!(ports, [("alive", 9000), ("service-0", 8080)]);
        assert!(config.checks.values().all(|check| check.kind.is_none()));
    }
}
