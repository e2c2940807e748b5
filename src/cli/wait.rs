//! `kubectl golive wait`: waits until an Activation is live, its integrations are verified or its watch has
//! ended well, and says by the exit code how the wait ended.

use std::time::Duration;

use kube::{Api, ResourceExt, api::ListParams};
use tokio::time::Instant;

use super::connect::{self, Connected, Connection};
use super::output::{Output, TIMED_OUT, say, show};
use super::refused::Refused;
use super::status::{SiteState, SpecState, is_request_open, is_retry_open, report};
use super::style::Line;
use crate::api::{
    Activation, ActivationApproval, ActivationStatus, ConditionType, PhaseName, Reason,
    approval::DecidedOn,
    condition,
    status::{GateState, IntegrationState, IntegrationStatus, PhaseStatus},
};

/// What is said before the operator has taken up a request.
const NOT_BEGUN: &str = "the operator has not begun with what was requested yet";

/// Interval of reading the Activation.
const POLL: Duration = Duration::from_millis(500);

/// Exit code: it has failed, and nothing changes that by itself.
const HAS_FAILED: u8 = 3;
/// Exit code: a person must act first.
const NEEDS_PERSON: u8 = 4;

/// Arguments of `wait`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes:
  0  reached
  1  the Activation cannot be read, or does not exist
  2  wrong usage
  3  failed: work has stopped until something changes
  4  a person must act: a gate waits, it is suspended, or only planned
  5  the time is over

It waits for the spec as it is in the cluster: a spec that the operator has not observed yet is not
reached, whatever an earlier one was. After retry, rotate, rollback, resume and abort --undo it waits until
the operator has begun with what was requested.

You need the ClusterRole activation-view.

Examples:
  kubectl golive wait shop -n prod --for live --timeout 20m
  kubectl golive wait shop --for integrations --through-gates
  kubectl golive wait shop --for stabilized --timeout 73h")]
pub(super) struct Args {
    /// The Activation.
    name: String,

    /// What to wait for.
    #[arg(long = "for", value_enum, default_value_t = Goal::Live)]
    goal: Goal,

    /// Keep waiting while a person must act, for as long as the time allows.
    #[arg(long)]
    through_gates: bool,

    /// Time limit.
    #[arg(long, default_value = "20m", value_parser = crate::process::settings::duration, value_name = "DURATION")]
    timeout: Duration,

    #[command(flatten)]
    connection: Connection,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Goal {
    /// The spec is live, and the site answers.
    Live,
    /// That, and all integrations are verified.
    Integrations,
    /// It is live, and the watch after Go-Live has ended well.
    Stabilized,
}

/// Why there is no waiting.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Connect(#[from] connect::Error),
    #[error(
        "Activation {0} has no `integrations`, so there is nothing to wait for; use --for live"
    )]
    NoIntegrations(String),
    #[error("Activation {0} has no `observe`, so nothing is watched; use --for live")]
    NoWatch(String),
}

/// Where it is on its way.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    Reached(String),
    Failed(String),
    Person(String),
    Going(String),
}

/// Waits.
pub(super) async fn run(args: &Args) -> Result<Output, Error> {
    let connected = args.connection.open().await?;
    let end = Instant::now() + args.timeout;
    let mut printed = String::new();
    let mut reading = Reading::default();
    loop {
        let activation = match connected.activation(&args.name).await {
            Ok(activation) => activation,
            Err(error) => {
                reading.failed(error)?;
                if Instant::now() >= end {
                    return Ok(late(args.timeout));
                }
                tokio::time::sleep(POLL).await;
                continue;
            }
        };
        reading.answered();
        if args.goal == Goal::Integrations && activation.spec.integrations.is_none() {
            return Err(Error::NoIntegrations(args.name.clone()));
        }
        if args.goal == Goal::Stabilized && activation.spec.observe.is_none() {
            return Err(Error::NoWatch(args.name.clone()));
        }
        let mut now = progress(&activation, args.goal);
        if matches!(now, Progress::Reached(_))
            && (is_request_open(&activation) || rolls_back(&connected, &args.name).await)
        {
            now = Progress::Going(NOT_BEGUN.to_owned());
        }
        let line = match now {
            Progress::Reached(text) => return Ok(Output::text(format!("{text}\n"))),
            Progress::Failed(text) => return Ok(ended(&text, HAS_FAILED)),
            Progress::Person(text) if !args.through_gates => {
                return Ok(ended(&text, NEEDS_PERSON));
            }
            Progress::Person(text) | Progress::Going(text) => text,
        };
        if line != printed {
            say(&format!("{line}\n"));
            printed = line;
        }
        if Instant::now() >= end {
            return Ok(late(args.timeout));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// How the reading of the object goes.
#[derive(Debug, Default)]
struct Reading {
    /// Something was answered: address and certificate of the API server are right.
    answered: bool,
    /// It was said that it fails now.
    told: bool,
}

impl Reading {
    fn answered(&mut self) {
        self.answered = true;
        self.told = false;
    }

    /// Goes on after a failure that may pass, and says so once.
    ///
    /// # Errors
    /// When it does not pass by itself, or when nothing was ever answered: then the address or the
    /// certificate may be wrong.
    fn failed(&mut self, error: connect::Error) -> Result<(), Error> {
        let passes = match &error {
            connect::Error::Refused(Refused::NoAnswer { .. }) => self.answered,
            connect::Error::Refused(refused) => refused.is_transient(),
            _ => false,
        };
        if !passes {
            return Err(error.into());
        }
        if !self.told {
            let text = crate::causes::chain(&error);
            let line = Line::plain(format!("warning: {text}; trying again"));
            show(&format!("{}\n", line.text()));
            self.told = true;
        }
        Ok(())
    }
}

/// Whether a rollback is requested that the operator has not judged yet. Who may not list the requests is
/// told of what the Activation says.
async fn rolls_back(connected: &Connected, name: &str) -> bool {
    let api: Api<ActivationApproval> =
        Api::namespaced(connected.kube.clone(), &connected.namespace);
    let found = api.list(&ListParams::default()).await;
    let found = found.map(|list| list.items).unwrap_or_default();
    found.iter().any(|one| is_unjudged(one, name))
}

/// Whether it requests a rollback of this Activation, and was not judged yet. Pure.
fn is_unjudged(approval: &ActivationApproval, name: &str) -> bool {
    approval.status.is_none()
        && approval.spec.activation == name
        && approval.spec.gate == DecidedOn::Rollback
}

/// The time is over.
fn late(limit: Duration) -> Output {
    let text = format!("not reached within {} s", limit.as_secs());
    ended(&text, TIMED_OUT)
}

fn ended(text: &str, code: u8) -> Output {
    Output {
        text: format!("{text}\n"),
        code,
        ..Output::default()
    }
}

/// Judges an object. Pure.
fn progress(activation: &Activation, goal: Goal) -> Progress {
    let report = report(activation);
    let name = activation.name_any();
    let with_command = |text: &str| match &report.next_command {
        Some(command) => format!("{text}; {command}"),
        None => text.to_owned(),
    };
    let said = format!("{}: {}", report.phase, report.spec.message);
    match report.spec.state {
        SpecState::NotObserved => Progress::Going(report.spec.message.clone()),
        SpecState::Deleting => Progress::Failed(format!("{name} is being deleted")),
        // It ends by itself when it has an end.
        SpecState::Suspended if activation.spec.suspend_until.is_some() => Progress::Going(said),
        SpecState::Suspended | SpecState::AwaitingApproval | SpecState::Planned => {
            Progress::Person(with_command(&said))
        }
        SpecState::Stopped => stopped(activation, goal, &with_command(&said)),
        SpecState::Progressing | SpecState::Live => {
            let status = activation.status.as_ref();
            let live = status.is_some_and(ActivationStatus::is_live)
                && report.site.state == SiteState::Live;
            match (live, goal) {
                (false, _) => Progress::Going(said),
                (true, Goal::Live) => Progress::Reached(format!(
                    "{name} is live: {}",
                    report.url.as_deref().unwrap_or_default()
                )),
                (true, Goal::Integrations) => integrations(status, is_old(activation)),
                (true, Goal::Stabilized) => watched(status),
            }
        }
    }
}

/// A spec that is live is stopped by a failed integration with `readyWhen: IntegrationsVerified`, and by a
/// watch that has not ended well with `Stabilized`.
fn stopped(activation: &Activation, goal: Goal, text: &str) -> Progress {
    let status = activation.status.as_ref();
    let reason = status.and_then(|status| {
        let stalled = condition::find(&status.conditions, ConditionType::Stalled)?;
        Reason::parse(&stalled.reason)
    });
    let integration = reason.is_some_and(Reason::names_a_failed_integration);
    let verdict = reason == Some(Reason::NotStabilized);
    let live = status.is_some_and(ActivationStatus::is_live);
    if (integration || verdict) && live {
        match goal {
            Goal::Live => {
                return Progress::Reached(format!("{} is live", activation.name_any()));
            }
            Goal::Integrations if is_old(activation) => {
                return Progress::Going(text.to_owned());
            }
            Goal::Integrations if verdict => return integrations(status, is_old(activation)),
            Goal::Integrations => {}
            Goal::Stabilized => return watched(status),
        }
    }
    Progress::Failed(text.to_owned())
}

/// Whether the failures of integrations were found before what they are to be checked for now: on another
/// release, or before a check that was requested since.
fn is_old(activation: &Activation) -> bool {
    if is_retry_open(activation) {
        return true;
    }
    let Some(status) = &activation.status else {
        return false;
    };
    let serves = status.release.as_ref().and_then(|release| release.number);
    let old = |one: &IntegrationStatus| {
        one.requested || one.release.is_some() && serves.is_some() && one.release != serves
    };
    let failed = status.integrations.iter();
    let mut failed = failed
        .filter(|one| one.state == IntegrationState::Failed)
        .peekable();
    failed.peek().is_some() && failed.all(old)
}

/// The integrations of an application that is live. `old` failures are not final.
fn integrations(status: Option<&ActivationStatus>, old: bool) -> Progress {
    let phases = status.map(|status| status.phases.as_slice());
    let asks = |phase: &&PhaseStatus| {
        let gate = phase.gate.as_ref();
        phase.name == PhaseName::Integrations
            && gate.is_some_and(|gate| gate.state == GateState::Requested)
    };
    let gate = phases.unwrap_or_default().iter().find(asks);
    let found = status
        .and_then(|status| condition::find(&status.conditions, ConditionType::IntegrationsHealthy));
    let Some(found) = found else {
        return Progress::Going("Integrations: not observed yet".to_owned());
    };
    let said = format!("Integrations: {}", found.message);
    match (found.status.as_str(), Reason::parse(&found.reason)) {
        ("True", _) => Progress::Reached(said),
        ("False", _) if old => Progress::Going(said),
        ("False", _) => Progress::Failed(said),
        (_, Some(Reason::SecretMissing)) => Progress::Person(said),
        _ if gate.is_some() => Progress::Person(said),
        _ => Progress::Going(said),
    }
}

/// The watch of an application that is live.
fn watched(status: Option<&ActivationStatus>) -> Progress {
    let phases = status.map(|status| status.phases.as_slice());
    let mut phases = phases.unwrap_or_default().iter();
    let asks = phases.any(|phase| {
        let gate = phase.gate.as_ref();
        phase.name == PhaseName::Observe
            && gate.is_some_and(|gate| gate.state == GateState::Requested)
    });
    let found =
        status.and_then(|status| condition::find(&status.conditions, ConditionType::Stabilized));
    let Some(found) = found else {
        return Progress::Going("Observe: not observed yet".to_owned());
    };
    let said = format!("Observe: {}", found.message);
    match (found.status.as_str(), Reason::parse(&found.reason)) {
        ("True", _) => Progress::Reached(said),
        ("False", _)
        // It has ended, or cannot go on.
        | (_, Some(Reason::Inconclusive | Reason::WatchDamaged | Reason::InvalidSpec)) => {
            Progress::Failed(said)
        }
        _ if asks => Progress::Person(said),
        _ => Progress::Going(said),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::cli::refused::{Doing, Role};

    fn object(observed: i64, conditions: &[(&str, &str, &str)], phase: &str) -> Activation {
        let conditions: Vec<Value> = conditions
            .iter()
            .map(|(type_, status, reason)| {
                json!({"type": type_, "status": status, "reason": reason, "message": "m",
                    "lastTransitionTime": "2026-01-01T00:00:00Z"})
            })
            .collect();
        let phases = ["Preflight", "Provision", "Deploy", "SmokeTest"]
            .map(|name| json!({"name": name, "state": phase}));
        serde_json::from_value(json!({
            "metadata": {"name": "shop", "namespace": "prod", "generation": 2},
            "spec": {"organization": "o", "app": "shop", "region": "eze", "deploy": {"image": "x:1"}},
            "status": {"observedGeneration": observed, "conditions": conditions, "phases": phases},
        }))
        .unwrap()
    }

    const READY: (&str, &str, &str) = ("Ready", "True", "GoLive");
    const LIVE: (&str, &str, &str) = ("Live", "True", "GoLive");

    #[test]
    fn live_is_reached_by_the_spec_that_is_in_the_cluster_and_no_earlier_one() {
        let live = progress(&object(2, &[READY, LIVE], "Succeeded"), Goal::Live);
        assert!(matches!(live, Progress::Reached(_)), "{live:?}");
        let earlier = progress(&object(1, &[READY, LIVE], "Succeeded"), Goal::Live);
        assert!(matches!(earlier, Progress::Going(_)), "{earlier:?}");
        let down = [
            ("Ready", "Unknown", "Progressing"),
            ("Live", "False", "SmokeCheckFailed"),
        ];
        let down = progress(&object(2, &down, "Succeeded"), Goal::Live);
        assert!(matches!(down, Progress::Going(_)), "{down:?}");
    }

    #[test]
    fn failed_and_waiting_for_a_person_are_told_apart() {
        let stalled = [
            ("Ready", "False", "NotHealthy"),
            ("Stalled", "True", "NotHealthy"),
        ];
        let found = progress(&object(2, &stalled, "Failed"), Goal::Live);
        assert_eq!(
            found,
            Progress::Failed("Pending: m; kubectl golive explain NotHealthy".to_owned())
        );
        let asks = [
            ("Ready", "Unknown", "AwaitingApproval"),
            ("Reconciling", "True", "AwaitingApproval"),
        ];
        let found = progress(&object(2, &asks, "AwaitingApproval"), Goal::Live);
        assert_eq!(
            found,
            Progress::Person("Pending: m; kubectl golive approve shop -n prod".to_owned())
        );
        let planned = [("Ready", "Unknown", "Planned")];
        let found = progress(&object(2, &planned, "Pending"), Goal::Live);
        assert!(matches!(found, Progress::Person(_)), "{found:?}");
    }

    #[test]
    fn integrations_are_waited_for_after_live() {
        let with = |status: &str, reason: &str| {
            let healthy = ("IntegrationsHealthy", status, reason);
            progress(
                &object(2, &[READY, LIVE, healthy], "Succeeded"),
                Goal::Integrations,
            )
        };
        assert!(matches!(with("True", "Verified"), Progress::Reached(_)));
        assert!(matches!(
            with("False", "IntegrationFailed"),
            Progress::Failed(_)
        ));
        assert!(matches!(
            with("Unknown", "SecretMissing"),
            Progress::Person(_)
        ));
        assert!(matches!(
            with("Unknown", "IntegrationChecking"),
            Progress::Going(_)
        ));
        let not_live = object(2, &[("Ready", "Unknown", "Progressing")], "Running");
        assert!(matches!(
            progress(&not_live, Goal::Integrations),
            Progress::Going(_)
        ));
    }

    #[test]
    fn the_end_of_a_watch_is_waited_for_after_live() {
        let with = |status: &str, reason: &str, stalled: bool| {
            let verdict = ("Stabilized", status, reason);
            let stops = ("Stalled", "True", reason);
            let conditions = match stalled {
                true => vec![LIVE, verdict, stops],
                false => vec![READY, LIVE, verdict],
            };
            let object = object(2, &conditions, "Succeeded");
            [Goal::Live, Goal::Stabilized].map(|goal| progress(&object, goal))
        };
        for (status, reason, stalled, reached, failed) in [
            ("Unknown", "Watching", false, false, false),
            ("Unknown", "Pending", false, false, false),
            ("True", "Stabilized", false, true, false),
            ("False", "NotStabilized", false, false, true),
            // With `readyWhen: Stabilized`.
            ("False", "NotStabilized", true, false, true),
            ("Unknown", "Inconclusive", false, false, true),
            ("Unknown", "WatchDamaged", false, false, true),
        ] {
            let [live, watched] = with(status, reason, stalled);
            assert!(matches!(live, Progress::Reached(_)), "{reason}: {live:?}");
            let found = (
                matches!(watched, Progress::Reached(_)),
                matches!(watched, Progress::Failed(_)),
            );
            assert_eq!(found, (reached, failed), "{reason}: {watched:?}");
        }
        let mut asks = object(
            2,
            &[READY, LIVE, ("Stabilized", "Unknown", "Pending")],
            "Succeeded",
        );
        let phase = json!({"name": "Observe", "state": "AwaitingApproval",
            "gate": {"state": "Requested", "digest": "sha256:0"}});
        let phases = &mut asks.status.as_mut().unwrap().phases;
        phases.push(serde_json::from_value(phase).unwrap());
        let found = progress(&asks, Goal::Stabilized);
        assert!(matches!(found, Progress::Person(_)), "{found:?}");
        let found = progress(&asks, Goal::Live);
        assert!(matches!(found, Progress::Reached(_)), "{found:?}");
    }

    #[test]
    fn an_integration_that_failed_before_is_waited_for() {
        let of = |release: i64, requested: bool, stalled: bool| {
            let failed = ("IntegrationsHealthy", "False", "IntegrationFailed");
            let stops = ("Stalled", "True", "IntegrationFailed");
            let conditions = if stalled {
                vec![LIVE, failed, stops]
            } else {
                vec![READY, LIVE, failed]
            };
            let mut object = object(2, &conditions, "Succeeded");
            let status = object.status.as_mut().unwrap();
            status.release = serde_json::from_value(json!({"number": 2, "image": "x:2"})).unwrap();
            let one = json!([{"name": "ical", "state": "Failed", "release": release, "requested": requested}]);
            status.integrations = serde_json::from_value(one).unwrap();
            progress(&object, Goal::Integrations)
        };
        for stalled in [false, true] {
            assert!(matches!(of(2, false, stalled), Progress::Failed(_)));
            assert!(matches!(of(1, false, stalled), Progress::Going(_)));
            assert!(matches!(of(2, true, stalled), Progress::Going(_)));
        }
    }

    #[test]
    fn a_failure_to_read_that_may_pass_ends_no_wait_and_a_wrong_address_does() {
        let failure = |code: u16| {
            let status = json!({"code": code, "message": "no", "details": {"name": "shop"}});
            let status: kube::core::Status = serde_json::from_value(status).unwrap();
            let doing = Doing {
                what: "read".to_owned(),
                role: Role::View,
                namespace: None,
            };
            let error = kube::Error::Api(Box::new(status));
            connect::Error::from(Refused::new(doing, error, None))
        };
        let silence = || {
            let nothing = std::io::Error::other("refused");
            connect::Error::from(Refused::NoAnswer {
                what: "read".to_owned(),
                source: Box::new(kube::Error::Service(Box::new(nothing))),
            })
        };
        let mut reading = Reading::default();
        assert!(reading.failed(failure(429)).is_ok());
        assert!(reading.failed(silence()).is_err());
        reading.answered();
        assert!(reading.failed(silence()).is_ok());
        assert!(reading.failed(failure(503)).is_ok());
        assert!(reading.failed(failure(403)).is_err());
    }

    #[test]
    fn what_was_requested_is_open_until_the_status_says_that_it_was_handled() {
        let (before, time) = ("2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z");
        let open = |annotations: Value, reconcile: Value, retry: Value| {
            let mut object = object(2, &[READY, LIVE], "Succeeded");
            object.metadata.annotations = serde_json::from_value(annotations).unwrap();
            let status = object.status.as_mut().unwrap();
            status.last_handled_reconcile_at = serde_json::from_value(reconcile).unwrap();
            status.last_handled_retry = serde_json::from_value(retry).unwrap();
            is_request_open(&object)
        };
        let rotated = || json!({"golive.dev/reconcile-requested-at": time});
        assert!(open(rotated(), Value::Null, Value::Null));
        assert!(open(rotated(), json!(before), Value::Null));
        assert!(open(
            rotated(),
            json!(format!("Deploy/{before}")),
            Value::Null
        ));
        assert!(!open(rotated(), json!(time), Value::Null));
        // An older one stays beside what was handled since.
        let older = json!({"golive.dev/reconcile-requested-at": before});
        assert!(!open(older, json!(time), Value::Null));
        let by_hand = json!({"golive.dev/reconcile-requested-at": "now"});
        assert!(!open(by_hand, Value::Null, Value::Null));
        let retried = || json!({"golive.dev/retry": time});
        assert!(open(retried(), Value::Null, json!(before)));
        assert!(!open(retried(), json!(time), json!(time)));
        assert!(!open(json!({}), Value::Null, Value::Null));

        // During a suspension none is handled, and none is after it.
        for (resumed, expected) in [(before, true), ("2026-01-01T00:02:00Z", false)] {
            let mut object = object(
                2,
                &[READY, LIVE, ("Suspended", "False", "Resumed")],
                "Succeeded",
            );
            let status = object.status.as_mut().unwrap();
            let suspended = status.conditions.last_mut().unwrap();
            suspended.last_transition_time = serde_json::from_value(json!(resumed)).unwrap();
            for requested in [rotated(), retried()] {
                object.metadata.annotations = serde_json::from_value(requested).unwrap();
                assert_eq!(is_request_open(&object), expected, "{resumed}");
            }
        }
    }

    #[test]
    fn a_rollback_that_was_not_judged_yet_is_waited_for() {
        let approval = |gate: &str, judged: bool| -> ActivationApproval {
            let status = if judged {
                json!({"state": "Counts"})
            } else {
                Value::Null
            };
            serde_json::from_value(json!({
                "apiVersion": "golive.dev/v1alpha1", "kind": "ActivationApproval",
                "metadata": {"name": "a"},
                "spec": {"activation": "shop", "gate": gate, "digest": "sha256:a",
                    "decision": "Approve", "approver": "ana", "toRelease": 1},
                "status": status,
            }))
            .unwrap()
        };
        assert!(is_unjudged(&approval("Rollback", false), "shop"));
        assert!(!is_unjudged(&approval("Rollback", false), "other"));
        assert!(!is_unjudged(&approval("Rollback", true), "shop"));
        assert!(!is_unjudged(&approval("Deploy", false), "shop"));
    }

    #[test]
    fn a_failed_integration_does_not_take_live_back() {
        let conditions = [
            ("Ready", "False", "IntegrationFailed"),
            ("Stalled", "True", "IntegrationFailed"),
            LIVE,
        ];
        let object = object(2, &conditions, "Succeeded");
        assert!(matches!(
            progress(&object, Goal::Live),
            Progress::Reached(_)
        ));
        assert!(matches!(
            progress(&object, Goal::Integrations),
            Progress::Failed(_)
        ));
    }
}
