//! `kubectl golive plan`: the changes that are planned or being made.

use kube::ResourceExt;
use serde::Serialize;

use super::connect::{self, Connection};
use super::format::{self, Formatted};
use super::output::Output;
use super::style::{Line, Paint, Tone};
use crate::api::{Activation, status::PlannedChange};

/// Arguments of `plan`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The plan is the operator's: what it will do, or is doing, to bring the spec live. With `mode: Plan` in the
spec it does nothing of it. A gate asks about the plan with this digest.

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
    /// Image of the release that serves.
    serves: Option<String>,
    changes: Vec<PlannedChange>,
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
    Some(Plan {
        namespace: activation.namespace().unwrap_or_default(),
        name: activation.name_any(),
        digest: plan.digest.clone(),
        generation: activation.metadata.generation,
        observed_generation: status.observed_generation,
        serves: status.release.as_ref().map(|release| {
            let number = release.number.unwrap_or_default();
            format!("release {number}, {}", release.image)
        }),
        changes: plan.changes.clone(),
    })
}

impl Plan {
    /// The digest that a decision names.
    pub(super) fn digest(&self) -> &str {
        &self.digest
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
    let serves = plan.serves.as_deref().unwrap_or("nothing on record");
    lines.push(Line::plain(format!("  serves now: {serves}")));
    if plan.changes.is_empty() {
        lines.push(Line::plain("  no change"));
    }
    let mut phase = "";
    for change in &plan.changes {
        if change.phase != phase {
            phase = &change.phase;
            lines.push(Line::default().and(Tone::Bold, format!("  {phase}")));
        }
        let step = Line::default().and(Tone::Dim, format!("    {:<18}", change.step));
        lines.push(step.and(Tone::Plain, &change.change));
    }
    lines
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

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
