//! `kubectl golive plan`: the changes that are planned or being made.

use kube::ResourceExt;
use serde::Serialize;

use super::connect::{self, Connection};
use super::format::{self, Formatted};
use super::output::Output;
use super::style::{Line, Paint, Tone};
use crate::api::{
    Activation,
    status::{GateState, PlannedChange},
};

/// Most changes in `status.plan.changes`. An operator from before `status.plan.total` listed so many
/// and did not say that there were more.
const MAX_LISTED: usize = 48;

/// Arguments of `plan`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The plan is the operator's: what it will do, or is doing, to bring the spec live. With `mode: Plan` in the
spec it does nothing of it. A gate asks about the plan with this digest. A list is not always whole: what
is not known, and how many changes have no room in it, is said below it.

You need the ClusterRole activation-view.

Examples:
  kubectl golive plan shop -n prod
  kubectl golive plan shop -o json")]
pub(super) struct Args {
    /// The Activation.
    name: String,

    #[command(flatten)]
    format: Formatted,

    #[command(flatten)]
    connection: Connection,
}

/// Why there is no plan to show.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Connect(#[from] connect::Error),
    #[error(transparent)]
    Format(#[from] format::Error),
    #[error("Activation {0} has no plan yet; see why with `kubectl golive status {0}`")]
    None(String),
}

/// The plan of an Activation, as a document.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Plan {
    namespace: String,
    name: String,
    digest: String,
    generation: Option<i64>,
    observed_generation: Option<i64>,
    /// Number of the release that serves.
    serves: Option<i64>,
    /// Its image.
    serves_image: Option<String>,
    changes: Vec<PlannedChange>,
    /// Number of changes that are not in `changes`; `None` when the operator did not count them.
    omitted: Option<usize>,
    /// Phases behind a gate that is not open, of which no change is listed: what they would do is not
    /// known.
    not_listed: Vec<String>,
    /// Whether an empty list means that nothing is to be done: the spec was observed to be live.
    known: bool,
}

/// Reads and prints.
pub(super) async fn run(args: &Args) -> Result<Output, Error> {
    let connected = args.connection.open().await?;
    let activation = connected.activation(&args.name).await?;
    let plan = plan(&activation).ok_or_else(|| Error::None(args.name.clone()))?;
    let text = match args.format.document("Plan", &plan)? {
        Some(text) => text,
        None => Paint::of_stdout().text(&lines(&plan)),
    };
    Ok(Output::text(text))
}

/// The plan of this object, if it has one. Pure.
pub(super) fn plan(activation: &Activation) -> Option<Plan> {
    let status = activation.status.as_ref()?;
    let plan = status.plan.as_ref()?;
    let closed = |state: GateState| {
        matches!(
            state,
            GateState::Requested | GateState::Rejected | GateState::Expired
        )
    };
    let gated = status.phases.iter().filter(|phase| {
        let gate = phase.gate.as_ref();
        gate.is_some_and(|gate| closed(gate.state))
    });
    let names = gated.map(|phase| phase.name.to_string());
    let not_listed: Vec<String> = names
        .filter(|name| !plan.changes.iter().any(|change| change.phase == *name))
        .collect();
    let current = status.observed_generation == activation.metadata.generation;
    let listed = plan.changes.len();
    let total = usize::try_from(plan.total).unwrap_or(usize::MAX);
    let omitted = if total > 0 || listed < MAX_LISTED {
        Some(total.saturating_sub(listed))
    } else {
        None
    };
    let release = status.release.as_ref();
    Some(Plan {
        omitted,
        known: current && status.is_live() && not_listed.is_empty(),
        not_listed,
        namespace: activation.namespace().unwrap_or_default(),
        name: activation.name_any(),
        digest: plan.digest.clone(),
        generation: activation.metadata.generation,
        observed_generation: status.observed_generation,
        serves: release.and_then(|release| release.number),
        serves_image: release.map(|release| release.image.clone()),
        changes: plan.changes.clone(),
    })
}

/// Whether both have the same plan with the same changes. Pure.
pub(super) fn same_changes(one: &Activation, other: &Activation) -> bool {
    let plan = |of: &Activation| of.status.as_ref().and_then(|status| status.plan.clone());
    plan(one) == plan(other)
}

impl Plan {
    /// The digest that a decision names.
    pub(super) fn digest(&self) -> &str {
        &self.digest
    }

    /// Whether every change that the operator knows of is listed.
    pub(super) fn lists_all(&self) -> bool {
        self.omitted == Some(0)
    }

    /// Whether a change of this phase is listed.
    pub(super) fn lists(&self, phase: &str) -> bool {
        self.changes.iter().any(|change| change.phase == phase)
    }

    /// What is missing in the list.
    fn missing(&self) -> Vec<String> {
        let mut missing = match self.omitted {
            Some(0) => Vec::new(),
            Some(more) => vec![format!("and {more} more, for which the status has no room")],
            None => vec!["and perhaps more, for which the status has no room".to_owned()],
        };
        let phases = self.not_listed.iter();
        missing.extend(phases.map(|phase| format!("{phase}: what it would do is not listed")));
        if self.changes.is_empty() && missing.is_empty() {
            let text = if self.known {
                "no change"
            } else {
                "the changes are not known yet"
            };
            missing.push(text.to_owned());
        }
        missing
    }
}

/// The plan for people, by phases. Pure.
pub(super) fn lines(plan: &Plan) -> Vec<Line> {
    let mut lines = vec![
        Line::default()
            .and(
                Tone::Bold,
                format!("Plan of {}/{}", plan.namespace, plan.name),
            )
            .and(
                Tone::Dim,
                format!("  generation {}", plan.generation.unwrap_or_default()),
            ),
        Line::default().and(Tone::Dim, format!("  {}", plan.digest)),
    ];
    if plan.observed_generation != plan.generation {
        let line = "  of an earlier spec: the operator has not observed the current one yet";
        lines.push(Line::default().and(Tone::Warn, line));
    }
    let serves = match (plan.serves, &plan.serves_image) {
        (None, None) => "nothing on record".to_owned(),
        (number, image) => {
            let image = image.as_deref().unwrap_or_default();
            format!("release {}, {image}", number.unwrap_or_default())
        }
    };
    lines.push(Line::plain(format!("  serves now: {serves}")));
    let mut phase = "";
    for change in &plan.changes {
        if change.phase != phase {
            phase = &change.phase;
            lines.push(Line::default().and(Tone::Bold, format!("  {phase}")));
        }
        let step = Line::default().and(Tone::Dim, format!("    {:<18}", change.step));
        lines.push(step.and(Tone::Plain, &change.change));
    }
    let missing = plan.missing();
    let tone = if plan.known { Tone::Plain } else { Tone::Warn };
    lines.extend(
        missing
            .iter()
            .map(|text| Line::default().and(tone, format!("  {text}"))),
    );
    lines
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The last lines of a plan with so many changes of Deploy, and what it says of them.
    fn end(phases: serde_json::Value, listed: usize, total: u32) -> (String, Plan) {
        let change = json!({"phase": "Deploy", "step": "Machines", "change": "update one"});
        let object: Activation = serde_json::from_value(json!({
            "metadata": {"name": "shop", "namespace": "prod", "generation": 4},
            "spec": {"organization": "o", "app": "shop", "region": "eze", "deploy": {"image": "x:2"}},
            "status": {"observedGeneration": 4, "phases": phases,
                "plan": {"digest": "sha256:ab", "changes": vec![change; listed], "total": total}},
        }))
        .unwrap();
        let plan = plan(&object).unwrap();
        let last = lines(&plan).last().map(Line::text);
        (last.unwrap_or_default(), plan)
    }

    #[test]
    fn no_change_is_said_only_of_a_spec_that_was_observed_to_be_live() {
        let phases = |state: &str| json!([{"name": "Deploy", "state": state}]);
        assert_eq!(end(phases("Succeeded"), 0, 0).0, "  no change");
        assert_eq!(
            end(phases("Running"), 0, 0).0,
            "  the changes are not known yet"
        );
        for state in ["Requested", "Rejected", "Expired"] {
            let gate = json!({"state": state, "digest": "sha256:ab"});
            let phases = json!([
                {"name": "Deploy", "state": "Succeeded"},
                {"name": "Integrations", "state": "AwaitingApproval", "gate": gate},
            ]);
            let (last, plan) = end(phases, 1, 1);
            assert_eq!(last, "  Integrations: what it would do is not listed");
            assert!(!plan.known && plan.lists("Deploy") && !plan.lists("Integrations"));
        }
    }

    #[test]
    fn changes_that_are_not_listed_are_counted() {
        let phases = || json!([{"name": "Deploy", "state": "Running"}]);
        let (last, plan) = end(phases(), 48, 60);
        assert_eq!(last, "  and 12 more, for which the status has no room");
        assert!(!plan.lists_all());
        assert!(end(phases(), 48, 48).1.lists_all());
        assert!(end(phases(), 2, 0).1.lists_all());
        // An operator that does not count them.
        let (last, plan) = end(phases(), 48, 0);
        assert_eq!(last, "  and perhaps more, for which the status has no room");
        assert!(!plan.lists_all());
    }

    #[test]
    fn a_plan_is_shown_by_phases_with_its_digest_and_what_serves() {
        let object: Activation = serde_json::from_value(json!({
            "metadata": {"name": "shop", "namespace": "prod", "generation": 4},
            "spec": {"organization": "o", "app": "shop", "region": "eze", "deploy": {"image": "x:2"}},
            "status": {
                "observedGeneration": 3,
                "release": {"number": 1, "image": "x:1"},
                "plan": {"digest": "sha256:ab", "changes": [
                    {"phase": "Provision", "step": "Secrets", "change": "set the secrets KEY"},
                    {"phase": "Deploy", "step": "Machines", "change": "update golive-app-0"},
                    {"phase": "Deploy", "step": "Machines", "change": "update golive-app-1"},
                ]},
            },
        }))
        .unwrap();
        let lines: Vec<String> = lines(&plan(&object).unwrap())
            .iter()
            .map(Line::text)
            .collect();
        assert_eq!(
            lines,
            [
                "Plan of prod/shop  generation 4",
                "  sha256:ab",
                "  of an earlier spec: the operator has not observed the current one yet",
                "  serves now: release 1, x:1",
                "  Provision",
                "    Secrets           set the secrets KEY",
                "  Deploy",
                "    Machines          update golive-app-0",
                "    Machines          update golive-app-1",
            ]
        );
    }
}
