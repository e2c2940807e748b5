//! The next status, from the old one and what was seen. Pure: no I/O and no clock.

use jiff::Timestamp;
use kube::ResourceExt;

use super::{
    PassResult, conditions, integrations, lists, live, pass_result::Liveness, phases, plan,
    promises, watch,
};
use crate::{
    api::{
        Activation, ActivationStatus, Reason,
        condition::{self, ConditionType},
        status::{GateState, GoLive, MAX_MESSAGE, PhaseState, one_line},
    },
    pipeline::{State, report::Report},
    plan::missing::kubectl,
};

/// The next status. Everything that did not change stays as it was, to the byte, so that an
/// unchanged object costs no write.
pub fn next(
    old: Option<&ActivationStatus>,
    activation: &Activation,
    seen: &PassResult<'_>,
    now: Timestamp,
) -> ActivationStatus {
    let generation = activation.metadata.generation.unwrap_or_default();
    let mut status = old.cloned().unwrap_or_default();
    let same_generation = old.is_some_and(|old| old.observed_generation == Some(generation));
    status.uid.clone_from(&activation.metadata.uid);
    status.observed_generation = Some(generation);
    promises::handled(&mut status, activation, seen.requested.as_deref());
    if let Some(report) = seen.report {
        // A pass that comes this far has protected it.
        status.token_secret = Some(activation.spec.token_secret_ref.name.clone());
        status.phases = phases::next(old, activation, seen, report, same_generation, now);
        lists::merge(&mut status, report, now);
        integrations::merge(&mut status, report, now);
        watch::merge(&mut status, activation, report, now);
        let known = old.and_then(|old| old.plan.as_ref());
        status.plan = seen.wanted.map(|target| {
            // It is found at the end of a pass, and is that of one plan.
            let known = known.filter(|known| plan::leads_to(Some(*known), Some(target)));
            let known = || known.and_then(|plan| plan.cost_per_month.clone());
            let cost = seen.cost.clone().or_else(known);
            plan::of(target, report, generation, cost)
        });
        let source = seen.wanted.and_then(|target| target.followed());
        let image = activation.spec.deploy.source.as_ref();
        status.source = source.zip(image).map(|(followed, source)| {
            let before = old.and_then(|old| old.source.as_ref());
            lists::source(before, &source.image, followed, now)
        });
    } else if status.phases.is_empty() {
        status.phases = phases::unseen();
    }
    if seen.removing.is_some() {
        let known = old.and_then(|old| old.plan.as_ref());
        status.plan = Some(plan::of_removal(known, activation, generation));
    }
    if let Some(site) = &seen.site {
        lists::merge_site(&mut status, &site.report, seen.report, now);
        integrations::merge(&mut status, &site.report, now);
        watch::merge(&mut status, activation, &site.report, now);
    }
    let site = seen.site.as_ref().map(|site| &site.report);
    if let Some(report) = seen.report {
        integrations::say_what_waits(&mut status, [Some(report), site]);
    }
    if !seen.suspended {
        status.intents = lists::intents(old, &seen.intents, now);
    }
    let live = status.is_live()
        && seen.invalid.is_empty()
        && seen.removing.is_none()
        && (same_generation || seen.report.is_some());
    if live && seen.report.is_some() {
        go_live(&mut status, activation, seen, generation, now);
    }
    summary(&mut status, seen, live);
    // Before this pass it was live, for this very target, or held after a rollback.
    let steady = same_generation
        && old.is_some_and(|old| {
            (old.is_live() || old.went_live() || is_held(old))
                && plan::leads_to(old.plan.as_ref(), seen.wanted)
        });
    let liveness = Liveness {
        live,
        same_generation,
        steady,
    };
    conditions::next(&mut status, activation, seen, &liveness, now);
    let action = next_action(&status, activation, seen, live);
    status.next_action = action.map(|text| one_line(&text, MAX_MESSAGE));
    status.next_action_time = promises::next_action_time(&status, activation, live);
    // The API server refuses a status beyond its bounds as a whole.
    status.bounded()
}

/// Whether the spec was held after a rollback: an earlier release serves instead.
fn is_held(status: &ActivationStatus) -> bool {
    condition::find(&status.conditions, ConditionType::Stalled)
        .is_some_and(|stalled| stalled.reason == Reason::RolledBack.as_str())
}

fn go_live(
    status: &mut ActivationStatus,
    activation: &Activation,
    seen: &PassResult<'_>,
    generation: i64,
    now: Timestamp,
) {
    if let Some(target) = seen.wanted {
        status.url = target.public_url();
    }
    if status.go_live.is_some() {
        return;
    }
    let evidence = status
        .smoke_test
        .iter()
        .take(32)
        .map(|check| {
            let way = check.path.as_deref().unwrap_or("-");
            let line = format!(
                "{}: {} by {way}: {}",
                check.check, check.result, check.message
            );
            one_line(&line, 256)
        })
        .collect();
    let since = activation.metadata.creation_timestamp.as_ref();
    status.go_live = Some(GoLive {
        time: condition::whole_seconds(now),
        generation: Some(generation),
        release: seen.serving.as_ref().and_then(|serving| serving.version),
        image: seen.serving.as_ref().map(|serving| {
            if serving.image.contains('@') {
                serving.image.clone()
            } else {
                format!("{}@{}", serving.image, serving.digest)
            }
        }),
        duration_seconds: since.map(|time| now.duration_since(time.0).as_secs()),
        evidence,
    });
}

/// `phase`, `pendingGate`, `currentOwner` and `currentDeadline`: one word each for people.
fn summary(status: &mut ActivationStatus, seen: &PassResult<'_>, live: bool) {
    let current = status
        .phases
        .iter()
        .filter(|phase| phase.name.before_live())
        .find(|phase| phase.state != PhaseState::Succeeded);
    let word = if seen.removing.is_some() {
        "Deleting"
    } else if seen.suspended {
        "Suspended"
    } else if live {
        "Live"
    } else {
        current.map_or("Pending", |phase| phase.name.as_str())
    };
    status.phase = Some(word.to_owned());
    let current = current.filter(|_| !live);
    status.current_owner = current.and_then(|phase| phase.owner.clone());
    status.current_deadline = current.and_then(|phase| phase.deadline.clone());
    status.pending_gate = status
        .phases
        .iter()
        .find(|phase| phase.state == PhaseState::AwaitingApproval)
        .map(|phase| phase.name.to_string());
}

/// What a person must do now, with a command if there is one; `None` if nothing.
fn next_action(
    status: &ActivationStatus,
    activation: &Activation,
    seen: &PassResult<'_>,
    live: bool,
) -> Option<String> {
    if let Some(removing) = &seen.removing {
        return Some(removing.message.clone());
    }
    if seen.suspended {
        return Some(format!(
            "to go on: `{} patch activation {} --type merge -p '{{\"spec\":{{\"suspend\":false}}}}'`",
            kubectl(&activation.namespace().unwrap_or_default()),
            activation.name_any()
        ));
    }
    if live {
        let crash_loop = seen.report.and_then(live::crash_loop);
        if let Some(record) = crash_loop {
            return Some(record.action.clone());
        }
        if let Some(action) = watch::next_action(status) {
            return Some(action);
        }
        // A gate before what comes after Go-Live waits as any other, and before it is opened nothing is
        // checked again, whatever else was done.
        let both = [
            at_a_gate(status, activation),
            integrations::next_action(status),
        ];
        let both: Vec<String> = both.into_iter().flatten().collect();
        return (!both.is_empty()).then(|| both.join("; "));
    }
    if !seen.invalid.is_empty() {
        let actions = seen.invalid.iter().map(|invalid| invalid.action.as_str());
        let actions: Vec<&str> = actions.filter(|action| !action.is_empty()).collect();
        return (!actions.is_empty()).then(|| actions.join("; "));
    }
    if condition::find(&status.conditions, ConditionType::Stalled).is_some() {
        let site = seen.site.as_ref().map(|site| &site.report);
        return seen
            .report
            .and_then(blocked_actions)
            .or_else(|| at_a_gate(status, activation))
            .or_else(|| site.and_then(blocked_actions))
            .or_else(|| Some(look(activation)));
    }
    at_a_gate(status, activation)
}

/// How people see all that is known, where no step has an action of its own: the messages of some say what
/// to do.
fn look(activation: &Activation) -> String {
    format!(
        "read what is known, and mend the cause: `{} describe activation {}`; Golive then goes on by itself",
        kubectl(&activation.namespace().unwrap_or_default()),
        activation.name_any()
    )
}

/// How people decide at the gate that keeps the object from going on.
fn at_a_gate(status: &ActivationStatus, activation: &Activation) -> Option<String> {
    let mut phases = status.phases.iter();
    let (phase, gate) = phases.find_map(|phase| {
        let gate = phase.gate.as_ref()?;
        let held = matches!(
            phase.state,
            PhaseState::AwaitingApproval | PhaseState::Failed
        );
        held.then_some((phase.name, gate))
    })?;
    let mut asked = activation.spec.gates.iter();
    let asked = asked.find(|asked| asked.before.as_str() == phase.as_str());
    let needed = asked.map_or(1, |asked| asked.approvals.max(1));
    if gate.state == GateState::Requested
        && u32::try_from(gate.approved_by.len()).is_ok_and(|count| count >= needed)
    {
        // It waits for a look at its plan, and not for people.
        return None;
    }
    let (name, kubectl) = (
        activation.name_any(),
        kubectl(&activation.namespace().unwrap_or_default()),
    );
    let approve = format!(
        "`echo '{{\"apiVersion\":\"golive.dev/v1alpha1\",\"kind\":\"ActivationApproval\",\"metadata\":{{\"generateName\":\"{name}-\"}},\"spec\":{{\"activation\":\"{name}\",\"gate\":\"{phase}\",\"digest\":\"{}\",\"decision\":\"Approve\",\"approver\":\"'\"$(kubectl auth whoami -o jsonpath='{{.status.userInfo.username}}')\"'\"}}}}' | {kubectl} create -f -`",
        gate.digest
    );
    match gate.state {
        GateState::Requested => Some(format!("to approve the plan of {phase}: {approve}")),
        GateState::Expired => Some(format!("change the spec, or approve {phase}: {approve}")),
        GateState::Rejected => Some(format!(
            "change the spec, or let {} approve {phase}: {approve}",
            gate.rejected_by.as_deref().unwrap_or("who rejected it")
        )),
        GateState::Approved | GateState::Pending => None,
    }
}

/// The actions of the steps that are blocked in the first phase that has one, each once.
fn blocked_actions(report: &Report) -> Option<String> {
    let blocked = report.phases.iter().map(|phase| {
        let steps = phase.steps.iter().map(|(_, record)| record);
        steps.filter(|record| record.state == State::Blocked)
    });
    let mut actions: Vec<&str> = Vec::new();
    for records in blocked {
        for record in records {
            if !record.action.is_empty() && !actions.contains(&record.action.as_str()) {
                actions.push(&record.action);
            }
        }
        if !actions.is_empty() {
            break;
        }
    }
    (!actions.is_empty()).then(|| actions.join("; "))
}
