//! The health of a machine, what it means for a rollout, and when to observe it again. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{
    diagnosis::Evidence,
    wanted::{WantedMachine, starts_on_demand},
};
use crate::{
    api::Reason,
    fly::{Machine, MachineState, machines::CheckResult},
    flytoml,
    phase::evidence::{
        cause::{Finding, seconds},
        crash_loop, exit, start_time,
    },
    pipeline::{Verdict, Wake, Why},
};

/// Shortest pause between two observations of checks without a recent event, for which Fly.io has no long poll. The
/// Machines API allows 5 requests/s for "get machine" (fly.io/docs/machines/api, rate limits).
const SETTLED_MIN: Duration = Duration::from_millis(200);

/// Longest pause while an event is recent. With the time that a reply takes, it stays within the
/// same limit.
const RECENT_MAX: Duration = Duration::from_millis(150);

/// Shortest pause just after an event: the same limit allows a burst of 10 reads.
const RECENT_MIN: Duration = Duration::from_millis(25);

/// How long an event counts as recent.
const RECENT_FOR: Duration = Duration::from_secs(15);

/// The health of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Started, and all checks pass.
    Healthy,
    /// It is starting.
    Starting,
    /// Started just now. It has no health check, so that it is watched for this much longer.
    Watched(Duration),
    /// Started; these checks do not pass yet.
    Unhealthy(Vec<String>),
    /// Its program ended, and nobody requested that.
    Exited {
        /// Exit code of the program.
        code: i64,
        /// Whether it ran out of memory.
        out_of_memory: bool,
        /// Whether it is being restarted.
        restarting: bool,
    },
    /// It is stopped, suspended or failed.
    Down(MachineState),
}

/// The health of a machine, as Fly.io lists it.
pub fn health(machine: &Machine, checks: usize) -> Health {
    if let Some(exit) = machine.exit_since_start()
        && exit.requested_stop != Some(true)
    {
        return Health::Exited {
            code: exit.guest_exit_code.or(exit.exit_code).unwrap_or(-1),
            out_of_memory: exit.oom_killed == Some(true),
            restarting: exit.restarting == Some(true),
        };
    }
    match &machine.state {
        MachineState::Started => {
            let failing: Vec<String> = machine
                .checks
                .0
                .iter()
                .filter(|check| check.status != CheckResult::Passing)
                .map(|check| check.name.clone())
                .collect();
            if !failing.is_empty() {
                Health::Unhealthy(failing)
            } else if machine.checks.0.len() < checks {
                Health::Unhealthy(vec!["not all checks have run yet".to_owned()])
            } else {
                Health::Healthy
            }
        }
        MachineState::Created
        | MachineState::Creating
        | MachineState::Starting
        | MachineState::Restarting
        | MachineState::Updating
        | MachineState::Replacing => Health::Starting,
        other => Health::Down(other.clone()),
    }
}

/// The health of a machine of the application. One that the proxy stopped because it was idle is
/// healthy: the proxy starts it with the next request. One without checks is watched for a while
/// after its start, because nothing else shows whether its program keeps running. flyctl does the
/// same ("smoke checks"). One whose program has failed before is watched until it has run for longer than ever.
pub fn health_of(machine: &Machine, wanted: &WantedMachine, watch: Watch) -> Health {
    match health(machine, wanted.checks) {
        Health::Down(MachineState::Stopped | MachineState::Suspended)
            if starts_on_demand(wanted) =>
        {
            Health::Healthy
        }
        Health::Healthy if wanted.checks == 0 => {
            let starts = machine.events.iter().filter(|event| event.kind == "start");
            let since = starts
                .filter_map(|event| Timestamp::from_millisecond(event.timestamp?).ok())
                .max();
            let left = since.and_then(|since| {
                let passed =
                    Duration::try_from(watch.now.duration_since(since)).unwrap_or_default();
                watch
                    .of(machine)
                    .checked_sub(passed)
                    .filter(|left| !left.is_zero())
            });
            left.map_or(Health::Healthy, Health::Watched)
        }
        other => other,
    }
}

/// How long a machine without checks is watched after its start.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// For how long; zero: not at all.
    pub span: Duration,
    /// The time.
    pub now: Timestamp,
}

impl Watch {
    /// How long this machine is watched after its start.
    fn of(self, machine: &Machine) -> Duration {
        let failed = crash_loop::longest_run(machine, self.now);
        match failed.filter(|_| !self.span.is_zero()) {
            Some(longest) => self.span + longest,
            None => self.span,
        }
    }
}

/// A machine whose health is judged.
#[derive(Clone, Copy, Debug)]
pub struct JudgedMachine<'a> {
    /// Name of the app.
    pub app: &'a str,
    /// The machine.
    pub machine: &'a Machine,
    /// The time that it had to become healthy, once that is over.
    pub late: Option<Duration>,
    /// What is known of it, if it is not healthy.
    pub evidence: Option<&'a Evidence>,
    /// Another machine that passes the same check, and how long that took after its start.
    pub measured: Option<(&'a str, Duration)>,
    /// The time.
    pub now: Timestamp,
    /// The pause until it is observed again.
    pub pause: Duration,
}

impl JudgedMachine<'_> {
    /// What the health of the machine means for a rollout.
    pub fn verdict<C>(&self, health: &Health) -> Verdict<C> {
        let name = format!("the machine {} ({})", self.machine.name, self.machine.id);
        let state = self.machine.state.as_str();
        match health {
            Health::Healthy => Verdict::Done,
            Health::Starting => self.starting(&name, state),
            Health::Watched(left) => Verdict::Wait {
                why: Why::new(
                    Reason::MachineStarting,
                    format!("{name} has started; it has no check, so it is watched for a moment"),
                ),
                wake: Wake::After(*left),
            },
            Health::Unhealthy(checks) => {
                let text = format!("{name} does not pass {}", checks.join(", "));
                match self.late {
                    Some(limit) => {
                        let (why, action) = self.why_late(limit);
                        self.blocked(Reason::NotHealthy, &format!("{text} {why}"), action)
                    }
                    None => Verdict::Wait {
                        why: Why::new(Reason::NotHealthy, text + &self.why_not_yet()),
                        wake: Wake::After(self.pause),
                    },
                }
            }
            Health::Exited {
                out_of_memory: true,
                ..
            } => self.blocked(
                Reason::OutOfMemory,
                &format!("{name} ran out of memory"),
                "give it more with `[[vm]] memory` in fly.toml".to_owned(),
            ),
            Health::Exited {
                code, restarting, ..
            } => {
                let restarting = match restarting {
                    true => " and is being restarted",
                    false => "",
                };
                self.blocked(
                    Reason::MachineExited,
                    &format!("{name} exited with code {code}{restarting}"),
                    after_exit(self.machine, *code),
                )
            }
            Health::Down(_) => self.blocked(
                Reason::MachineExited,
                &format!("{name} is {state}"),
                format!(
                    "look at `fly machine status {} -a {}`",
                    self.machine.id, self.app
                ),
            ),
        }
    }

    fn starting<C>(&self, name: &str, state: &str) -> Verdict<C> {
        match self.late {
            Some(limit) => self.blocked(
                Reason::MachineStarting,
                &format!(
                    "{name} is still {state}, and did not start within {} s",
                    limit.as_secs()
                ),
                format!(
                    "look at `fly logs -a {}`, and set `wait_timeout = \"{}\"` in `[deploy]` of fly.toml if it only needs longer",
                    self.app,
                    seconds(start_time::with_reserve(limit))
                ),
            ),
            None => Verdict::Wait {
                why: Why::new(Reason::MachineStarting, format!("{name} is {state}")),
                wake: Wake::Machine {
                    app: self.app.to_owned(),
                    id: self.machine.id.clone(),
                    version: None,
                    state: MachineState::Started,
                    patience: Duration::from_secs(2),
                },
            },
        }
    }

    fn blocked<C>(&self, reason: Reason, text: &str, action: String) -> Verdict<C> {
        let evidence = self.evidence.map_or("", |known| known.failure.as_str());
        Verdict::Blocked(Why::new(reason, format!("{text}: {action}{evidence}")).said(action))
    }

    /// The check that explains best why the machine is not healthy.
    fn finding(&self) -> Option<&Finding> {
        self.evidence.and_then(|known| known.findings.first())
    }

    /// Why checks do not pass yet, as far as it is known for certain: a program may still be starting.
    fn why_not_yet(&self) -> String {
        match self.finding() {
            None => String::new(),
            Some(found) if found.cause.may_be_time() => said(found),
            Some(found) => format!("{}: {found}", said(found)),
        }
    }

    /// Why checks have not passed within the limit, and what to do.
    fn why_late(&self, limit: Duration) -> (String, String) {
        let within = format!("within {} s", limit.as_secs());
        let Some(found) = self.finding() else {
            let time = self.needs_time(limit);
            let action = format!("fix the application or what it depends on{time}");
            return (within, action);
        };
        let time = match found.cause.may_be_time() {
            true => self.needs_time(limit),
            false => String::new(),
        };
        (format!("{within}{}", said(found)), format!("{found}{time}"))
    }

    /// The times to set in fly.toml if the program only needs longer to start, from what was measured.
    fn needs_time(&self, limit: Duration) -> String {
        let (known, start) = match self.measured {
            Some((name, start)) => (
                format!("{name} passed it {} s after its start", start.as_secs()),
                start,
            ),
            None => (
                "if it only needs longer to start".to_owned(),
                start_time::running_for(self.machine, self.now).map_or(limit, |ran| ran.max(limit)),
            ),
        };
        let grace = start_time::with_reserve(start);
        format!(
            "; {known}: set `grace_period = \"{}\"` in the check and `wait_timeout = \"{}\"` in `[deploy]` of fly.toml",
            seconds(grace),
            seconds(start_time::with_reserve(grace).max(limit))
        )
    }
}

/// What to do about a program that ended with this code.
pub fn after_exit(machine: &Machine, code: i64) -> String {
    let config = machine.config.as_ref();
    let init = config.and_then(|config| config.init.as_ref());
    let command = init.map(|init| init.cmd.as_slice()).unwrap_or_default();
    let group = machine.metadata(flytoml::PROCESS_GROUP_KEY);
    let key = format!("[processes] {}", group.unwrap_or("app"));
    match exit::cause(code, command) {
        Some(cause) => cause.advice(&key),
        None => "fix the application and deploy another image, or set what it misses in `[env]` of fly.toml or as a secret".to_owned(),
    }
}

/// What the output of a check says, in brackets.
fn said(found: &Finding) -> String {
    match found.output.as_str() {
        "" => String::new(),
        output => format!(" ({output})"),
    }
}

/// The pause until the machines are observed again: a quarter of the time since their last event
/// while that is recent, and the operator's poll interval afterwards.
pub fn pause(machines: &[Machine], poll: Duration, now: Timestamp) -> Duration {
    let events = machines.iter().flat_map(|machine| machine.events.iter());
    let happened = events
        .filter_map(|event| Timestamp::from_millisecond(event.timestamp?).ok())
        .chain(machines.iter().filter_map(|machine| machine.updated_at))
        .max();
    let since = happened.map(|at| now.duration_since(at).max(SignedDuration::ZERO));
    match since.and_then(|since| Duration::try_from(since).ok()) {
        Some(since) if since <= RECENT_FOR => (since / 4).clamp(RECENT_MIN, RECENT_MAX),
        _ => poll.max(SETTLED_MIN),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::phase::evidence::{cause, listening::Listening};

    const CHECK: &str = "servicecheck-00-http-8080";

    /// What is said of a machine whose check has this output, and whose program listens here.
    fn message(output: &str, listening: &Listening, late: bool) -> String {
        told(output, listening, late, None)
    }

    /// The same, of a machine whose health is this one.
    fn told(output: &str, listening: &Listening, late: bool, found: Option<Health>) -> String {
        let began = Timestamp::from_second(1_800_000_000).unwrap();
        let machine: Machine = serde_json::from_value(serde_json::json!({
            "id": "m1", "name": "golive-app-0", "state": "started",
            "events": [{"id": "e", "type": "start", "timestamp": began.as_millisecond()}],
            "checks": [{"name": CHECK, "status": "critical", "output": output}],
            "config": {"image": "r/a:1", "services": [{"internal_port": 8080, "checks": [
                {"type": "http", "path": "/up", "grace_period": "5s", "timeout": "2s"}]}]},
        }))
        .unwrap();
        let declared = cause::declared(machine.config.as_ref().unwrap());
        let evidence = Evidence {
            findings: cause::findings(&declared, &machine.checks, |_| listening.clone()),
            failure: "; its last lines: ready".to_owned(),
        };
        let judged = JudgedMachine {
            app: "shop",
            machine: &machine,
            late: late.then_some(Duration::from_secs(20)),
            evidence: Some(&evidence),
            measured: None,
            now: began + SignedDuration::from_secs(25),
            pause: Duration::from_secs(1),
        };
        let found = found.unwrap_or_else(|| health(&machine, 1));
        match judged.verdict::<()>(&found) {
            Verdict::Blocked(why) => {
                let action = &why.action;
                assert!(
                    !action.is_empty() && why.message.contains(action),
                    "{why:?}"
                );
                assert_eq!(why.sentence(), why.message, "it is said once");
                why.message
            }
            Verdict::Wait { why, .. } => why.message,
            other => unreachable!("{other:?}"),
        }
    }

    #[test]
    fn a_machine_that_is_late_is_reported_with_its_checks_output_and_the_advice_that_fits() {
        let other = Listening::Elsewhere(vec!["0.0.0.0:3000".parse().unwrap()]);
        assert_eq!(
            message("connect: connection refused", &other, true),
            "the machine golive-app-0 (m1) does not pass servicecheck-00-http-8080 within 20 s (connect: connection refused): nothing listens on 8080 (`internal_port`); the program listens on 3000: set `internal_port = 3000` in fly.toml, or make the program listen on 0.0.0.0:8080; its last lines: ready"
        );
        let redirect = message("301 Moved Permanently", &Listening::Unknown, true);
        assert!(redirect.contains("X-Forwarded-Proto"), "{redirect}");
        assert!(
            !redirect.contains("wait_timeout"),
            "time mends no redirect: {redirect}"
        );
    }

    #[test]
    fn a_program_that_ended_may_only_miss_a_setting() {
        let exited = Health::Exited {
            code: 3,
            out_of_memory: false,
            restarting: true,
        };
        assert_eq!(
            told("", &Listening::Unknown, false, Some(exited)),
            "the machine golive-app-0 (m1) exited with code 3 and is being restarted: fix the application and deploy another image, or set what it misses in `[env]` of fly.toml or as a secret; its last lines: ready"
        );
    }

    #[test]
    fn a_start_that_may_only_be_slow_gets_times_to_set_from_what_was_measured() {
        let slow = message("connect: connection refused", &Listening::Nowhere, true);
        // It has run for 25 s.
        assert!(
            slow.contains("if it only needs longer to start: set `grace_period = \"40s\"` in the check and `wait_timeout = \"1m0s\"` in `[deploy]`"),
            "{slow}"
        );
        assert!(slow.len() < 700, "{slow}");
    }

    #[test]
    fn before_it_is_late_only_what_is_certain_is_advised() {
        let early = |output, listening| message(output, &listening, false);
        let starting = "the machine golive-app-0 (m1) does not pass servicecheck-00-http-8080";
        assert_eq!(
            early("waiting for status update", Listening::Unknown),
            starting
        );
        assert_eq!(
            early("connect: connection refused", Listening::Unknown),
            format!("{starting} (connect: connection refused)")
        );
        let found = early("404 Not Found", Listening::Unknown);
        assert!(
            found.contains("(404 Not Found): the program has no /up"),
            "{found}"
        );
    }

    #[test]
    fn machines_are_observed_less_often_the_longer_nothing_happened() {
        let began = Timestamp::from_millisecond(1_780_000_000_000).unwrap();
        let machine: Machine = serde_json::from_value(serde_json::json!({
            "id": "m", "updated_at": "1970-01-01T00:00:00Z",
            "events": [{"id": "e", "type": "start", "timestamp": began.as_millisecond()}],
        }))
        .unwrap();
        let pause = |after: i64| {
            let now = began + SignedDuration::from_millis(after);
            let pause = pause(std::slice::from_ref(&machine), Duration::from_secs(2), now);
            pause.as_millis()
        };
        assert_eq!([pause(-5), pause(0), pause(100)], [25, 25, 25]);
        assert_eq!([pause(400), pause(2_000), pause(15_000)], [100, 150, 150]);
        assert_eq!(pause(15_001), 2_000);
    }

    #[test]
    fn each_state_and_end_of_a_machine_is_its_health() {
        let machine = |state: &str, exit: Option<serde_json::Value>| -> Machine {
            let exits = exit.map(|exit| {
                serde_json::json!({"id": "e", "type": "exit",
                "timestamp": 1, "request": {"exit_event": exit}})
            });
            let events: Vec<_> = exits.into_iter().collect();
            let whole = serde_json::json!({"id": "m1", "state": state, "events": events});
            serde_json::from_value(whole).unwrap()
        };
        let exited = |code, out_of_memory, restarting| Health::Exited {
            code,
            out_of_memory,
            restarting,
        };
        for (exit, is) in [
            (serde_json::json!({"exit_code": 1}), exited(1, false, false)),
            (serde_json::json!({}), exited(-1, false, false)),
            (
                serde_json::json!({"exit_code": 1, "guest_exit_code": 3, "oom_killed": true}),
                exited(3, true, false),
            ),
            (
                serde_json::json!({"exit_code": 0, "restarting": true, "oom_killed": false}),
                exited(0, false, true),
            ),
            (
                serde_json::json!({"exit_code": 1, "requested_stop": false, "restarting": false}),
                exited(1, false, false),
            ),
            (
                serde_json::json!({"exit_code": 1, "requested_stop": true}),
                Health::Healthy,
            ),
        ] {
            assert_eq!(health(&machine("started", Some(exit)), 0), is);
        }
        for state in [
            "created",
            "creating",
            "starting",
            "restarting",
            "updating",
            "replacing",
        ] {
            assert_eq!(
                health(&machine(state, None), 0),
                Health::Starting,
                "{state}"
            );
        }
        for state in ["stopped", "stopping", "suspended", "failed", "destroyed"] {
            let down = health(&machine(state, None), 0);
            assert!(
                matches!(&down, Health::Down(of) if of.as_str() == state),
                "{down:?}"
            );
        }
    }

    #[test]
    fn a_machine_is_healthy_when_all_its_checks_have_run_and_pass() {
        let found = |checks: &[(&str, &str)], wanted| {
            let checks: Vec<_> = checks
                .iter()
                .map(|(name, status)| serde_json::json!({"name": name, "status": status}))
                .collect();
            let whole = serde_json::json!({"id": "m1", "state": "started", "checks": checks});
            health(&serde_json::from_value(whole).unwrap(), wanted)
        };
        let fails = |name: &str| Health::Unhealthy(vec![name.to_owned()]);
        assert_eq!(found(&[], 0), Health::Healthy);
        assert_eq!(found(&[("a", "passing")], 1), Health::Healthy);
        // Fly.io may list one that is no longer declared.
        assert_eq!(
            found(&[("a", "passing"), ("b", "passing")], 1),
            Health::Healthy
        );
        assert_eq!(
            found(&[("a", "passing")], 2),
            fails("not all checks have run yet")
        );
        for status in ["warning", "critical", "new"] {
            assert_eq!(found(&[("a", status), ("b", "passing")], 2), fails("a"));
        }
    }
}
