//! What a person or a program is told of one Activation: the site and the spec apart, the phases with their
//! times, who waits for what, and what to do next. Derived from the object and the time. Pure.
//!
//! The JSON form is documented in `docs/kubectl-golive.md` and versioned by [`super::super::format`].

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;
use serde::Serialize;

use crate::api::{
    ANNOTATION_ABORT, ANNOTATION_RECONCILE, ANNOTATION_RETRY, ANNOTATION_RETRY_FROM, Activation,
    ActivationStatus, ConditionType, PhaseState, Reason, StepState, condition,
    status::{CheckResult, GateState, IntegrationState, PhaseStatus, StepStatus},
};

/// One Activation.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct StatusReport {
    pub(in crate::cli) namespace: String,
    pub(in crate::cli) name: String,
    pub(in crate::cli) app: String,
    pub(in crate::cli) url: Option<String>,
    pub(in crate::cli) created: Option<Timestamp>,
    pub(in crate::cli) generation: Option<i64>,
    pub(in crate::cli) observed_generation: Option<i64>,
    /// `status.phase`: a summary for people.
    pub(in crate::cli) phase: String,
    pub(in crate::cli) site: Site,
    pub(in crate::cli) spec: Spec,
    pub(in crate::cli) waits: Vec<Wait>,
    pub(in crate::cli) phases: Vec<Phase>,
    pub(in crate::cli) integrations: Vec<Integration>,
    pub(in crate::cli) notes: Vec<Remark>,
    pub(in crate::cli) next_action: Option<String>,
    /// A command of this plugin that does the next action, or explains it.
    pub(in crate::cli) next_command: Option<String>,
    pub(in crate::cli) next_action_time: Option<Timestamp>,
    pub(in crate::cli) live_since: Option<Timestamp>,
    pub(in crate::cli) current_owner: Option<String>,
    pub(in crate::cli) current_deadline: Option<Timestamp>,
}

/// Whether the site answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli) enum SiteState {
    Live,
    Down,
    Unknown,
}

/// The site: what serves now, whatever the spec says.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct Site {
    pub(in crate::cli) state: SiteState,
    pub(in crate::cli) reason: String,
    pub(in crate::cli) message: String,
    pub(in crate::cli) since: Option<Timestamp>,
    pub(in crate::cli) release: Option<i64>,
    pub(in crate::cli) image: Option<String>,
}

/// Where the spec is on its way to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli) enum SpecState {
    /// The operator has not observed this spec yet, or not what was requested since.
    NotObserved,
    /// Work is in progress.
    Progressing,
    /// A person must decide.
    AwaitingApproval,
    /// `mode: Plan`.
    Planned,
    /// It has stopped until something changes.
    Stopped,
    /// It is live.
    Live,
    Suspended,
    Deleting,
}

/// The spec.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct Spec {
    pub(in crate::cli) state: SpecState,
    pub(in crate::cli) reason: String,
    pub(in crate::cli) message: String,
    pub(in crate::cli) since: Option<Timestamp>,
}

/// Somebody or something that is awaited.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct Wait {
    /// The phase or step that waits.
    pub(in crate::cli) who: String,
    /// What it waits for.
    pub(in crate::cli) for_what: String,
    /// Whether only a person can end the wait.
    pub(in crate::cli) person: bool,
    pub(in crate::cli) owner: Option<String>,
    pub(in crate::cli) since: Option<Timestamp>,
    /// When the wait ends, whatever happens.
    pub(in crate::cli) until: Option<Timestamp>,
}

/// A phase.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct Phase {
    pub(in crate::cli) name: String,
    pub(in crate::cli) state: PhaseState,
    pub(in crate::cli) reason: String,
    pub(in crate::cli) message: String,
    pub(in crate::cli) owner: Option<String>,
    pub(in crate::cli) attempts: u32,
    pub(in crate::cli) started: Option<Timestamp>,
    pub(in crate::cli) finished: Option<Timestamp>,
    pub(in crate::cli) deadline: Option<Timestamp>,
    pub(in crate::cli) steps: Vec<Step>,
}

/// A step of a phase.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct Step {
    pub(in crate::cli) name: String,
    pub(in crate::cli) state: StepState,
    pub(in crate::cli) reason: String,
    pub(in crate::cli) message: String,
    pub(in crate::cli) attempts: u32,
    pub(in crate::cli) last_error: String,
    pub(in crate::cli) started: Option<Timestamp>,
    pub(in crate::cli) finished: Option<Timestamp>,
    pub(in crate::cli) next_try: Option<Timestamp>,
}

/// An integration, with the checks that did not pass.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct Integration {
    pub(in crate::cli) name: String,
    pub(in crate::cli) state: IntegrationState,
    pub(in crate::cli) message: String,
    pub(in crate::cli) owner: Option<String>,
    pub(in crate::cli) deadline: Option<Timestamp>,
    pub(in crate::cli) next_action: String,
}

/// Something that is not as it should be, and stops nothing.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct Remark {
    /// The field of the status that it comes from.
    pub(in crate::cli) about: String,
    pub(in crate::cli) message: String,
    /// Whether an Activation with nothing else is as it should be.
    pub(in crate::cli) minor: bool,
}

fn at(time: Option<&Time>) -> Option<Timestamp> {
    time.map(|time| time.0)
}

fn text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// Reports on an object.
pub(in crate::cli) fn report(activation: &Activation) -> StatusReport {
    let empty = ActivationStatus::default();
    let status = activation.status.as_ref().unwrap_or(&empty);
    let spec = spec(activation, status);
    StatusReport {
        namespace: activation.namespace().unwrap_or_default(),
        name: activation.name_any(),
        app: activation.spec.app.clone(),
        url: status.url.clone(),
        created: at(activation.metadata.creation_timestamp.as_ref()),
        generation: activation.metadata.generation,
        observed_generation: status.observed_generation,
        phase: status.phase.clone().unwrap_or_else(|| "Pending".to_owned()),
        site: site(status),
        waits: waits(activation, status),
        phases: status.phases.iter().map(phase).collect(),
        integrations: integrations(status),
        notes: remarks(status),
        next_action: status.next_action.clone(),
        next_command: next_command(activation, &spec),
        next_action_time: at(status.next_action_time.as_ref()),
        live_since: status.go_live.as_ref().map(|live| live.time.0),
        current_owner: status.current_owner.clone(),
        current_deadline: at(status.current_deadline.as_ref()),
        spec,
    }
}

fn find(status: &ActivationStatus, type_: ConditionType) -> Option<&Condition> {
    condition::find(&status.conditions, type_)
}

fn is(status: &ActivationStatus, type_: ConditionType, value: &str) -> bool {
    find(status, type_).is_some_and(|found| found.status == value)
}

fn site(status: &ActivationStatus) -> Site {
    let live = find(status, ConditionType::Live);
    let state = match live.map(|live| live.status.as_str()) {
        Some("True") => SiteState::Live,
        Some("False") => SiteState::Down,
        _ => SiteState::Unknown,
    };
    let release = status.release.as_ref();
    Site {
        state,
        reason: live.map(|live| live.reason.clone()).unwrap_or_default(),
        message: live.map_or_else(
            || "not observed yet".to_owned(),
            |live| live.message.clone(),
        ),
        since: live.map(|live| live.last_transition_time.0),
        release: release.and_then(|release| release.number),
        image: release.and_then(|release| text(&release.image)),
    }
}

/// Whether `kubectl golive retry` has requested what the operator has not handled yet. Its tokens are
/// times; of others nothing is said, because one that came during a suspension is never handled.
pub(in crate::cli) fn is_retry_open(activation: &Activation) -> bool {
    let annotations = activation.annotations();
    let time = |token: &str| -> bool {
        let time = token.rsplit('/').next().unwrap_or_default();
        time.parse::<Timestamp>().is_ok()
    };
    let tokens = [ANNOTATION_RETRY, ANNOTATION_RETRY_FROM];
    let mut tokens = tokens
        .iter()
        .filter_map(|key| annotations.get(*key))
        .filter(|token| time(token))
        .peekable();
    let status = activation.status.as_ref();
    let handled = status.and_then(|status| status.last_handled_retry.as_ref());
    tokens.peek().is_some() && tokens.all(|token| Some(token) != handled)
}

/// Whether something was requested that the operator has not taken up yet: a retry, or what has a
/// reconcile requested with it, such as a rotation. Tokens that are no times say nothing, see above; nor
/// does one that is older than the one that was handled last, or of before the end of a suspension, during
/// which none is handled.
pub(in crate::cli) fn is_request_open(activation: &Activation) -> bool {
    let status = activation.status.as_ref();
    let time = |token: &str| token.parse::<Timestamp>().ok();
    let suspended = status.and_then(|status| find(status, ConditionType::Suspended));
    let resumed = suspended.filter(|found| found.status == "False");
    let resumed = resumed.map(|found| found.last_transition_time.0);
    let counts = |token: &str| {
        let requested = token.rsplit('/').next().and_then(time);
        requested.is_some_and(|requested| resumed.is_none_or(|resumed| resumed < requested))
    };
    let annotations = activation.annotations();
    let retries = [ANNOTATION_RETRY, ANNOTATION_RETRY_FROM];
    let mut retries = retries.iter().filter_map(|key| annotations.get(*key));
    if is_retry_open(activation) && retries.any(|token| counts(token)) {
        return true;
    }
    let handled = status.and_then(|status| status.last_handled_reconcile_at.as_deref());
    let requested = annotations.get(ANNOTATION_RECONCILE);
    let requested = requested.filter(|token| counts(token));
    let Some(requested) = requested.filter(|token| Some(token.as_str()) != handled) else {
        return false;
    };
    match (time(requested), handled) {
        (Some(_), None) => true,
        (Some(requested), Some(handled)) => {
            let handled = handled.rsplit('/').next().and_then(time);
            handled.is_some_and(|handled| handled < requested)
        }
        (None, _) => false,
    }
}

/// The state of the spec, and the condition that says why.
fn spec(activation: &Activation, status: &ActivationStatus) -> Spec {
    let ready = find(status, ConditionType::Ready);
    let reason = |found: Option<&Condition>| found.and_then(|c| Reason::parse(&c.reason));
    let waits = find(status, ConditionType::Reconciling);
    let observed = status.observed_generation == activation.metadata.generation;
    // What was said before a resume, a retry or the end of an abort is not said of what follows.
    let resumed = !observed && !activation.spec.suspend;
    let stalled = find(status, ConditionType::Stalled);
    let continues = is_retry_open(activation)
        || reason(stalled) == Some(Reason::Aborted)
            && !activation.annotations().contains_key(ANNOTATION_ABORT);
    let (state, about) = if activation.metadata.deletion_timestamp.is_some() {
        (SpecState::Deleting, find(status, ConditionType::Deleting))
    } else if is(status, ConditionType::Suspended, "True") && !resumed {
        (SpecState::Suspended, find(status, ConditionType::Suspended))
    } else if !observed || continues && is(status, ConditionType::Stalled, "True") {
        (SpecState::NotObserved, None)
    } else if is(status, ConditionType::Stalled, "True") {
        (SpecState::Stopped, stalled)
    } else if reason(waits) == Some(Reason::AwaitingApproval) {
        (SpecState::AwaitingApproval, waits)
    } else if reason(ready) == Some(Reason::Planned) {
        (SpecState::Planned, ready)
    } else if is(status, ConditionType::Ready, "True") {
        (SpecState::Live, ready)
    } else {
        (SpecState::Progressing, ready)
    };
    let message = match (state, about) {
        (_, Some(about)) => about.message.clone(),
        (SpecState::Deleting, None) => "the operator has not begun to delete it yet".to_owned(),
        (SpecState::NotObserved, None) if observed => {
            "the operator has not begun to continue yet, as requested".to_owned()
        }
        _ => "the operator has not observed this spec yet".to_owned(),
    };
    Spec {
        state,
        reason: about.map(|about| about.reason.clone()).unwrap_or_default(),
        message,
        since: about.map(|about| about.last_transition_time.0),
    }
}

fn waits(activation: &Activation, status: &ActivationStatus) -> Vec<Wait> {
    let mut waits = Vec::new();
    for phase in &status.phases {
        let gate = phase.gate.as_ref();
        if let Some(gate) = gate.filter(|gate| gate.state == GateState::Requested) {
            let gates = activation.spec.gates.iter();
            let wanted = gates
                .filter(|wanted| wanted.before.as_str() == phase.name.as_str())
                .map(|wanted| wanted.approvals.max(1));
            let wanted = wanted.max().unwrap_or(1);
            let given = match gate.approved_by.as_slice() {
                [] => "none given yet".to_owned(),
                names => format!("given by {}", names.join(", ")),
            };
            let wanted = match wanted {
                1 => "an approval".to_owned(),
                several => format!("{several} approvals"),
            };
            waits.push(Wait {
                who: phase.name.to_string(),
                for_what: format!("{wanted} of plan {}; {given}", gate.digest),
                person: true,
                owner: phase.owner.clone(),
                since: at(gate.requested_at.as_ref()),
                until: at(gate.expires_at.as_ref()),
            });
        }
        for step in &phase.steps {
            let person = match step.state {
                StepState::Blocked => true,
                StepState::Waiting | StepState::Retrying => false,
                _ => continue,
            };
            waits.push(Wait {
                who: format!("{}/{}", phase.name, step.name),
                for_what: step.message.clone(),
                person,
                owner: phase.owner.clone(),
                since: at(step.started_at.as_ref()),
                // The deadline is the phase's, and the wait does not end with it.
                until: None,
            });
        }
    }
    waits
}

fn phase(phase: &PhaseStatus) -> Phase {
    Phase {
        name: phase.name.to_string(),
        state: phase.state,
        reason: phase.reason.clone(),
        message: phase.message.clone(),
        owner: phase.owner.clone(),
        attempts: phase.attempts,
        started: at(phase.started_at.as_ref()),
        finished: at(phase.finished_at.as_ref()),
        deadline: at(phase.deadline.as_ref()),
        steps: phase.steps.iter().map(step).collect(),
    }
}

fn step(step: &StepStatus) -> Step {
    Step {
        name: step.name.clone(),
        state: step.state,
        reason: step.reason.clone(),
        message: step.message.clone(),
        attempts: step.attempts,
        last_error: step.last_error.clone(),
        started: at(step.started_at.as_ref()),
        finished: at(step.finished_at.as_ref()),
        next_try: at(step.next_try_time.as_ref()),
    }
}

fn integrations(status: &ActivationStatus) -> Vec<Integration> {
    let all = status.integrations.iter();
    all.map(|one| Integration {
        name: one.name.clone(),
        state: one.state,
        message: one.message.clone(),
        owner: one.owner.clone(),
        deadline: at(one.deadline.as_ref()),
        next_action: one.next_action.clone(),
    })
    .collect()
}

fn remarks(status: &ActivationStatus) -> Vec<Remark> {
    let mut remarks = Vec::new();
    let mut add = |about: &str, message: &str, minor: bool| {
        remarks.push(Remark {
            about: about.to_owned(),
            message: message.to_owned(),
            minor,
        });
    };
    for (type_, abnormal) in [
        (ConditionType::Drifted, "True"),
        (ConditionType::Observed, "Unknown"),
    ] {
        let found = find(status, type_).filter(|found| found.status == abnormal);
        // Before the first observation there is nothing to remark on.
        if let Some(found) =
            found.filter(|found| Reason::parse(&found.reason) != Some(Reason::Pending))
        {
            add(type_.as_str(), &found.message, false);
        }
    }
    for check in &status.preflight {
        if check.result == CheckResult::Warning {
            add(&check.check, &check.message, true);
        }
    }
    for used in &status.fallbacks {
        let message = format!("{} instead of {}: {}", used.to, used.from, used.reason);
        add(&used.what, &message, true);
    }
    for object in &status.external {
        if let Some(why) = &object.retained {
            add(&format!("{} {}", object.kind, object.name), why, true);
        }
    }
    remarks
}

/// The command of this plugin that comes next.
fn next_command(activation: &Activation, spec: &Spec) -> Option<String> {
    let name = activation.name_any();
    let namespace = activation.namespace().unwrap_or_default();
    let reason = Reason::parse(&spec.reason);
    let command = |command: &str, flags: &str| {
        Some(format!(
            "kubectl golive {command} {name} -n {namespace}{flags}"
        ))
    };
    match spec.state {
        SpecState::AwaitingApproval => command("approve", ""),
        SpecState::Suspended => command("resume", ""),
        SpecState::Stopped => match reason {
            Some(Reason::Aborted) => command("abort", " --undo"),
            Some(Reason::Rejected | Reason::ApprovalExpired) => command("approve", ""),
            Some(reason) => Some(format!("kubectl golive explain {reason}")),
            None => None,
        },
        _ => None,
    }
}

impl StatusReport {
    /// Whether there is nothing to see: the spec is live, the site answers, and nothing
    /// but minor notes is remarked.
    pub(in crate::cli) fn is_fine(&self) -> bool {
        let integrated = |one: &Integration| one.state == IntegrationState::Verified;
        self.spec.state == SpecState::Live
            && self.site.state == SiteState::Live
            && self.next_action.is_none()
            && self.notes.iter().all(|note| note.minor)
            && self.integrations.iter().all(integrated)
    }
}
