//! `kubectl golive approve` and `kubectl golive reject`: one person's decision at a gate.
//!
//! The plan is shown first, and the decision names its digest: what is decided on is what was shown. A plan
//! that cannot be shown as a whole is approved only by who names its digest.

use std::time::Duration;

use clap::builder::PossibleValuesParser;
use kube::{Api, ResourceExt, api::PostParams, core::ObjectMeta};
use tokio::time::Instant;

use super::confirm::{NotConfirmed, confirm};
use super::connect::{self, Connected, Connection};
use super::output::{Output, TIMED_OUT, say, show};
use super::plan::{self, Plan};
use super::refused::{Refused, Role};
use super::style::Paint;
use crate::api::{
    Activation, ActivationApproval, ActivationStatus, ConditionType, Decision,
    approval::{self, ActivationApprovalSpec, ApprovalState, DecidedOn},
    condition,
    policy::GatedPhase,
    status::{GateState, GateStatus},
};

/// Interval of reading the approval until the operator has judged it.
const POLL: Duration = Duration::from_millis(200);

/// Arguments of `approve`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The plan is printed, and you are asked before it is approved. The approval is about this plan alone: if
the plan changes, the gate asks again. After a rejection or an expired gate, approving opens the gate.
A plan whose changes are not all known or shown is approved only with --digest. A long plan is in a
ConfigMap, which the ClusterRole view may read.

The exit code is 5 when the operator has not said within --timeout whether the decision counts.

You need the verb `approve` on the Activation: the ClusterRole activation-approver has it.

Examples:
  kubectl golive approve shop -n prod
  kubectl golive approve shop --message 'checked with the front desk'
  kubectl golive approve shop --yes --digest \"$DIGEST_THAT_WAS_REVIEWED\"")]
pub(super) struct ApproveArgs {
    #[command(flatten)]
    common: Common,
}

/// Arguments of `reject`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The plan is printed, and you are asked before it is rejected. One rejection stops the Activation before
the gate's phase, until you approve, or the spec changes.
The exit code is 5 when the operator has not said within --timeout whether the decision counts.

You need the verb `approve` on the Activation: the ClusterRole activation-approver has it.

Examples:
  kubectl golive reject shop -n prod --message 'not on a Friday'
  kubectl golive reject shop --yes")]
pub(super) struct RejectArgs {
    #[command(flatten)]
    common: Common,
}

/// What both have.
#[derive(Debug, clap::Args)]
struct Common {
    /// The Activation.
    name: String,

    /// The phase whose gate it is. Default: the gate that waits.
    #[arg(long, value_name = "PHASE", value_parser = gated())]
    gate: Option<String>,

    /// Refuse unless the plan that waits has this digest.
    #[arg(long, value_name = "DIGEST")]
    digest: Option<String>,

    /// Why, for people who read it later.
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,

    /// Do not ask.
    #[arg(short, long)]
    yes: bool,

    /// How long to wait until the operator says whether the decision counts; 0s: not at all.
    #[arg(long, default_value = "30s", value_parser = crate::process::settings::duration, value_name = "DURATION")]
    timeout: Duration,

    #[command(flatten)]
    connection: Connection,
}

fn gated() -> PossibleValuesParser {
    PossibleValuesParser::new(GatedPhase::ALL.iter().map(|phase| phase.as_str()))
}

/// Why there is no decision.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Connect(#[from] connect::Error),
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    NotConfirmed(#[from] NotConfirmed),
    #[error(
        "the operator has not observed the current spec of Activation {0} yet; retry in a moment"
    )]
    NotSeen(String),
    #[error(
        "Activation {name} is suspended, and a decision would not be read; first: kubectl golive resume {name} -n {namespace}"
    )]
    Suspended { name: String, namespace: String },
    #[error(
        "the gate before {phase} asks about an earlier spec of Activation {name}; see what is wrong with the current one: kubectl golive status {name} -n {namespace}"
    )]
    EarlierSpec {
        name: String,
        namespace: String,
        phase: DecidedOn,
    },
    #[error("Activation {0} is being deleted, so nothing is to be decided")]
    Deleting(String),
    #[error("no gate of Activation {name} waits for a decision; {state}")]
    NothingWaits { name: String, state: String },
    #[error(
        "the digest {given} is not the one that waits for a decision, {waits}; read the plan again with `kubectl golive plan {name}`"
    )]
    WrongDigest {
        name: String,
        given: String,
        waits: String,
    },
    #[error("the Activation or its plan changed meanwhile, so nothing was done; try again")]
    Moved,
    #[error(
        "the changes of {phase} are not known, so the plan of {name} is not approved unseen; retry in a moment, or name it with --digest {digest}"
    )]
    NotKnown {
        name: String,
        phase: DecidedOn,
        digest: String,
    },
    #[error(
        "not all changes of the plan of {name} are listed, so it is not approved unseen; if you know them, name it with --digest {digest}"
    )]
    NotListed { name: String, digest: String },
    #[error("the decision {name} does not count ({state}): {message}")]
    NotCounted {
        name: String,
        state: ApprovalState,
        message: String,
    },
}

/// Approves.
pub(super) async fn approve(args: &ApproveArgs) -> Result<Output, Error> {
    decide(&args.common, Decision::Approve).await
}

/// Rejects.
pub(super) async fn reject(args: &RejectArgs) -> Result<Output, Error> {
    decide(&args.common, Decision::Reject).await
}

async fn decide(args: &Common, decision: Decision) -> Result<Output, Error> {
    let connected = args.connection.open().await?;
    let activation = connected.activation(&args.name).await?;
    let (phase, gate) = waits(&activation, args.gate.as_deref(), decision)?;
    agrees(&args.name, args.digest.as_deref(), &gate.digest)?;
    // What is shown must be what is decided on.
    let shown = plan::read(&connected, &activation).await;
    let shown = shown.filter(|plan| plan.digest() == gate.digest);
    let shown = shown.ok_or(Error::Moved)?;
    show(&Paint::of_stderr().text(&plan::lines(&shown)));
    if decision == Decision::Approve && args.digest.is_none() {
        seen(&args.name, &shown, phase)?;
    }
    let verb = match decision {
        Decision::Approve => "Approve",
        Decision::Reject => "Reject",
    };
    let question = format!(
        "{verb} plan {} of {}/{} at the gate before {phase}?",
        gate.digest, connected.namespace, args.name
    );
    confirm(&question, args.yes)?;
    // Meanwhile the spec can have changed: the decision would be about what nobody has read.
    let again = connected.activation(&args.name).await?;
    unchanged(&activation, &again, phase, decision)?;
    let api: Api<ActivationApproval> =
        Api::namespaced(connected.kube.clone(), &connected.namespace);
    let approval = ActivationApproval {
        metadata: ObjectMeta {
            // The server completes the name, so that every decision is a new object.
            generate_name: Some(format!("{}-{}-", args.name, phase.as_str().to_lowercase())),
            ..ObjectMeta::default()
        },
        spec: ActivationApprovalSpec {
            activation: args.name.clone(),
            gate: phase,
            digest: gate.digest.clone(),
            generation: activation.metadata.generation,
            decision,
            to_release: None,
            approver: connected.user().await?,
            message: args.message.clone(),
            valid_for: approval::one_day(),
        },
        status: None,
    };
    let made = match api.create(&PostParams::default(), &approval).await {
        Ok(made) => made,
        Err(error) => {
            let doing = connected.doing(&format!("decide on {phase}"), Role::Approver);
            return Err(connected.refused(doing, error).await.into());
        }
    };
    let name = made.name_any();
    say(&format!(
        "{name}: {decision} by {} recorded\n",
        made.spec.approver
    ));
    judged(&connected, &api, &name, args.timeout).await
}

/// Waits until the operator has said whether the decision counts.
async fn judged(
    connected: &Connected,
    api: &Api<ActivationApproval>,
    name: &str,
    limit: Duration,
) -> Result<Output, Error> {
    let end = Instant::now() + limit;
    loop {
        let found = match api.get(name).await {
            Ok(found) => found,
            Err(error) => {
                let doing = connected.doing("read the decision", Role::Approver);
                return Err(connected.refused(doing, error).await.into());
            }
        };
        if let Some(output) = verdict(name, &found)? {
            return Ok(output);
        }
        if Instant::now() >= end {
            let command = format!(
                "kubectl -n {} get activationapproval {name} -o wide",
                connected.namespace
            );
            return Ok(unsaid(&command, limit));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The end of a wait for what the operator says. Who does not wait at all has asked for no more. Pure.
fn unsaid(command: &str, limit: Duration) -> Output {
    Output {
        warnings: vec![format!(
            "the operator has not said yet whether it counts; see `{command}`"
        )],
        code: if limit.is_zero() { 0 } else { TIMED_OUT },
        ..Output::default()
    }
}

/// What the operator says of a decision; `None` before it has said anything. Pure.
fn verdict(name: &str, found: &ActivationApproval) -> Result<Option<Output>, Error> {
    let Some(status) = &found.status else {
        return Ok(None);
    };
    match status.state {
        ApprovalState::Counts | ApprovalState::Used => Ok(Some(Output::text(format!(
            "{}: {}\n",
            status.state, status.message
        )))),
        state => Err(Error::NotCounted {
            name: name.to_owned(),
            state,
            message: status.message.clone(),
        }),
    }
}

/// The gate to decide on. Pure.
fn waits<'a>(
    activation: &'a Activation,
    wanted: Option<&str>,
    decision: Decision,
) -> Result<(DecidedOn, &'a GateStatus), Error> {
    let name = activation.name_any();
    let status = activation.status.as_ref();
    let seen = status.and_then(|status| status.observed_generation);
    if seen.is_none() || seen != activation.metadata.generation {
        return Err(Error::NotSeen(name));
    }
    if activation.metadata.deletion_timestamp.is_some() {
        return Err(Error::Deleting(name));
    }
    let namespace = activation.namespace().unwrap_or_default();
    let suspended = |status: &ActivationStatus| {
        condition::is_true(&status.conditions, ConditionType::Suspended)
    };
    if status.is_some_and(suspended) {
        return Err(Error::Suspended { name, namespace });
    }
    let phases = status.map(|status| status.phases.as_slice());
    let gates = phases.unwrap_or_default().iter().filter_map(|phase| {
        let on = DecidedOn::parse(phase.name.as_str())?;
        Some((on, phase.gate.as_ref()?))
    });
    let mut gates = gates.filter(|(on, _)| wanted.is_none_or(|wanted| on.as_str() == wanted));
    // A late approval, and one after a rejection, opens the gate; such a gate cannot be closed again.
    let open = |state: GateState| match decision {
        Decision::Approve => matches!(
            state,
            GateState::Requested | GateState::Rejected | GateState::Expired
        ),
        Decision::Reject => state == GateState::Requested,
    };
    let states: Vec<String> = gates
        .clone()
        .map(|(on, gate)| format!("the gate before {on} is {}", gate.state))
        .collect();
    let Some((phase, gate)) = gates.find(|(_, gate)| open(gate.state)) else {
        let declared = activation.spec.gates.iter();
        let declared: Vec<&str> = declared.map(|gate| gate.before.as_str()).collect();
        let is_declared = wanted.map_or(!declared.is_empty(), |one| declared.contains(&one));
        let state = if states.is_empty() && is_declared {
            let gates = declared.join(", ");
            format!("its gates ask when their phase is about to change something: {gates}")
        } else if states.is_empty() {
            format!("it has no such gate; see `kubectl golive status {name}`")
        } else {
            states.join(", ")
        };
        return Err(Error::NothingWaits { name, state });
    };
    // A spec that is not valid has no plan: the gate still asks about the one before it.
    if gate.generation.is_some() && gate.generation != activation.metadata.generation {
        return Err(Error::EarlierSpec {
            name,
            namespace,
            phase,
        });
    }
    Ok((phase, gate))
}

/// Whether the plan can be approved by who has read what is shown. Pure.
fn seen(name: &str, plan: &Plan, on: DecidedOn) -> Result<(), Error> {
    let (name, digest) = (name.to_owned(), plan.digest().to_owned());
    if !plan.lists_all() {
        return Err(Error::NotListed { name, digest });
    }
    if !plan.is_known() {
        let phase = on;
        return Err(Error::NotKnown {
            name,
            phase,
            digest,
        });
    }
    Ok(())
}

/// Whether the question is still the one that was shown. Pure.
fn unchanged(
    before: &Activation,
    after: &Activation,
    on: DecidedOn,
    decision: Decision,
) -> Result<(), Error> {
    let (_, then) = waits(before, Some(on.as_str()), decision)?;
    let (_, now) = waits(after, Some(on.as_str()), decision).map_err(|_| Error::Moved)?;
    let question = |gate: &GateStatus| {
        (
            gate.digest.clone(),
            gate.generation,
            gate.release,
            gate.attempt.clone(),
        )
    };
    let object = |one: &Activation| (one.metadata.uid.clone(), one.metadata.generation);
    if object(before) != object(after)
        || question(then) != question(now)
        || !plan::same_changes(before, after)
    {
        return Err(Error::Moved);
    }
    Ok(())
}

/// Whether the digest that somebody gave is that of the gate. Pure.
fn agrees(name: &str, given: Option<&str>, waits: &str) -> Result<(), Error> {
    match given {
        Some(given) if given != waits => Err(Error::WrongDigest {
            name: name.to_owned(),
            given: given.to_owned(),
            waits: waits.to_owned(),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(state: &str, observed: i64) -> Activation {
        serde_json::from_value(json!({
            "metadata": {"name": "shop", "generation": 2},
            "spec": {"organization": "o", "app": "shop", "region": "eze", "deploy": {"image": "x:1"}},
            "status": {"observedGeneration": observed, "phases": [
                {"name": "Provision", "state": "Succeeded", "gate": {"state": "Approved", "digest": "sha256:a"}},
                {"name": "Deploy", "state": "AwaitingApproval", "gate": {"state": state, "digest": "sha256:a"}},
            ]},
        }))
        .unwrap()
    }

    #[test]
    fn a_decision_of_which_nobody_knows_whether_it_counts_is_not_done() {
        let late = unsaid("kubectl get", Duration::from_secs(30));
        assert_eq!((late.code, late.warnings.len()), (TIMED_OUT, 1));
        assert_eq!(unsaid("kubectl get", Duration::ZERO).code, 0);
    }

    #[test]
    fn the_gate_that_waits_is_decided_on_and_no_other() {
        let asks = object("Requested", 2);
        for decision in [Decision::Approve, Decision::Reject] {
            let (on, gate) = waits(&asks, None, decision).unwrap();
            assert_eq!((on, gate.digest.as_str()), (DecidedOn::Deploy, "sha256:a"));
        }
        let error = waits(&asks, Some("Provision"), Decision::Approve).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no gate of Activation shop waits for a decision; the gate before Provision is Approved"
        );
        let error = waits(&asks, Some("SmokeTest"), Decision::Approve).unwrap_err();
        assert!(error.to_string().contains("it has no such gate"), "{error}");
        let mut quiet = object("Requested", 2);
        quiet.status.as_mut().unwrap().phases.clear();
        quiet.spec.gates = serde_json::from_value(json!([{"before": "Deploy"}])).unwrap();
        let error = waits(&quiet, None, Decision::Approve).unwrap_err();
        assert!(error.to_string().contains("its gates ask when"), "{error}");
        let early = object("Requested", 1);
        let early = waits(&early, None, Decision::Approve);
        assert!(matches!(early, Err(Error::NotSeen(_))));
    }

    #[test]
    fn what_would_not_be_read_or_is_of_an_earlier_spec_is_not_decided_on() {
        let asks = object("Requested", 2);
        let of = |change: &dyn Fn(&mut serde_json::Value)| {
            let mut value = serde_json::to_value(&asks).unwrap();
            change(&mut value);
            let changed: Activation = serde_json::from_value(value).unwrap();
            waits(&changed, None, Decision::Approve).map(|(on, _)| on)
        };
        let suspended = of(&|value| {
            value["status"]["conditions"] = json!([{"type": "Suspended", "status": "True",
                "reason": "Suspended", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        });
        assert!(matches!(suspended, Err(Error::Suspended { .. })));
        let about = |generation: i64| {
            of(&|value| value["status"]["phases"][1]["gate"]["generation"] = json!(generation))
        };
        assert!(matches!(about(1), Err(Error::EarlierSpec { .. })));
        assert_eq!(about(2).unwrap(), DecidedOn::Deploy);
        let deleted = of(&|value| {
            value["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        });
        assert!(matches!(deleted, Err(Error::Deleting(_))));
    }

    #[test]
    fn a_gate_that_was_rejected_or_expired_can_be_approved_and_not_rejected_again() {
        for state in ["Rejected", "Expired"] {
            let closed = object(state, 2);
            assert!(waits(&closed, None, Decision::Approve).is_ok());
            assert!(waits(&closed, None, Decision::Reject).is_err());
        }
    }

    fn planned(changes: serde_json::Value, total: u32) -> Activation {
        let mut object = serde_json::to_value(object("Requested", 2)).unwrap();
        object["status"]["plan"] =
            json!({"digest": "sha256:a", "changes": changes, "total": total, "complete": true});
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn a_plan_that_is_not_shown_as_a_whole_is_not_approved_without_its_digest() {
        let change = |phase: &str| json!({"phase": phase, "step": "s", "change": "c"});
        let of = |changes: serde_json::Value, total: u32, complete: bool| {
            let mut object = planned(changes, total);
            let status = object.status.as_mut().unwrap();
            status.plan.as_mut().unwrap().complete = complete;
            seen("shop", &plan::plan(&object).unwrap(), DecidedOn::Deploy)
        };
        let deploy = || json!([change("Deploy")]);
        assert!(of(deploy(), 1, true).is_ok());
        let cut = of(deploy(), 2, true).unwrap_err().to_string();
        assert!(cut.ends_with("--digest sha256:a"), "{cut}");
        for changes in [json!([]), deploy()] {
            let total = u32::try_from(changes.as_array().unwrap().len()).unwrap();
            let unknown = of(changes, total, false).unwrap_err().to_string();
            let expected = "changes of Deploy are not known";
            assert!(unknown.contains(expected), "{unknown}");
        }
        assert!(of(json!([]), 0, true).is_ok());
    }

    #[test]
    fn a_question_that_changed_while_a_person_read_it_is_not_decided_on() {
        let before = planned(json!([]), 0);
        let judge =
            |after: &Activation| unchanged(&before, after, DecidedOn::Deploy, Decision::Approve);
        assert!(judge(&before).is_ok());
        let mut edited = before.clone();
        edited.metadata.generation = Some(3);
        let mut observed = edited.clone();
        observed.status.as_mut().unwrap().observed_generation = Some(3);
        let mut other = before.clone();
        other.metadata.uid = Some("another".to_owned());
        let changes = json!([{"phase": "Deploy", "step": "s", "change": "c"}]);
        let more = planned(changes, 1);
        let mut asked = before.clone();
        let gate = asked.status.as_mut().unwrap().phases[1].gate.as_mut();
        gate.unwrap().digest = "sha256:b".to_owned();
        for after in [edited, observed, other, more, asked] {
            assert!(matches!(judge(&after), Err(Error::Moved)), "{after:?}");
        }
    }

    #[test]
    fn a_digest_that_is_not_the_one_that_waits_is_refused() {
        assert!(agrees("shop", None, "sha256:a").is_ok());
        assert!(agrees("shop", Some("sha256:a"), "sha256:a").is_ok());
        let error = agrees("shop", Some("sha256:b"), "sha256:a").unwrap_err();
        assert!(
            error.to_string().contains("is not the one that waits"),
            "{error}"
        );
    }

    #[test]
    fn a_decision_that_does_not_count_is_an_error_with_its_reason() {
        let of = |status: serde_json::Value| -> ActivationApproval {
            serde_json::from_value(json!({
                "metadata": {"name": "d"},
                "spec": {"activation": "shop", "gate": "Deploy", "digest": "x", "decision": "Approve", "approver": "ana"},
                "status": status,
            }))
            .unwrap()
        };
        assert!(verdict("d", &of(json!(null))).unwrap().is_none());
        let counts = of(json!({"state": "Counts", "message": "one more is needed"}));
        assert_eq!(
            verdict("d", &counts).unwrap().unwrap().text,
            "Counts: one more is needed\n"
        );
        let wrong = of(json!({"state": "WrongDigest", "message": "use the other"}));
        let error = verdict("d", &wrong).unwrap_err().to_string();
        assert_eq!(
            error,
            "the decision d does not count (WrongDigest): use the other"
        );
    }
}
