//! `kubectl golive abort`: the annotation `golive.dev/abort`, which names one plan.

use kube::ResourceExt;
use serde_json::{Value, json};

use super::confirm::{NotConfirmed, confirm};
use super::connect::{self, Connection};
use super::output::{Output, show};
use super::plan;
use super::style::Paint;
use crate::api::{ANNOTATION_ABORT, Activation};

/// Arguments of `abort`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The work on the current plan stops, and what exists stays as it is. A plan that is live is not stopped:
to restore an earlier release use `kubectl golive rollback`. Another plan is not affected.

You need the ClusterRoles activation-view and activation-edit.

Examples:
  kubectl golive abort shop -n prod
  kubectl golive abort shop --undo")]
pub(super) struct Args {
    /// The Activation.
    name: String,

    /// Continue a plan that was aborted.
    #[arg(long)]
    undo: bool,

    /// Do not ask.
    #[arg(short, long)]
    yes: bool,

    #[command(flatten)]
    connection: Connection,
}

/// Why nothing is aborted.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Connect(#[from] connect::Error),
    #[error(transparent)]
    NotConfirmed(#[from] NotConfirmed),
    #[error(
        "Activation {0} has no plan of its current spec yet, so there is nothing to stop; retry in a moment"
    )]
    NoPlan(String),
    #[error(
        "the plan of Activation {0} is live, so there is nothing to stop; restore an earlier release with `kubectl golive rollback {0}`"
    )]
    Live(String),
}

/// Requests that the work on the current plan stops, or continues.
pub(super) async fn run(args: &Args) -> Result<Output, Error> {
    let connected = args.connection.open().await?;
    let activation = connected.activation(&args.name).await?;
    if args.undo {
        if !activation.annotations().contains_key(ANNOTATION_ABORT) {
            return Ok(Output::text(format!("{} is not aborted\n", args.name)));
        }
        connected.patch(&args.name, patch(None)).await?;
        return Ok(Output::text(format!(
            "requested that {} continues; follow it with: kubectl golive watch {} -n {}\n",
            args.name, args.name, connected.namespace
        )));
    }
    let digest = to_stop(&activation, &args.name)?;
    if let Some(plan) = plan::plan(&activation) {
        show(&Paint::of_stderr().text(&plan::lines(&plan)));
    }
    let question = format!(
        "Stop the work on plan {digest} of {}/{}?",
        connected.namespace, args.name
    );
    confirm(&question, args.yes)?;
    connected.patch(&args.name, patch(Some(digest))).await?;
    Ok(Output::text(format!(
        "requested that the work on this plan stops; continue it with: kubectl golive abort {} -n {} --undo\n",
        args.name, connected.namespace
    )))
}

/// Digest of the plan to stop. Pure.
fn to_stop<'a>(activation: &'a Activation, name: &str) -> Result<&'a str, Error> {
    let status = activation.status.as_ref();
    let status = status.filter(|s| s.observed_generation == activation.metadata.generation);
    let Some((status, plan)) = status.and_then(|s| Some((s, s.plan.as_ref()?))) else {
        return Err(Error::NoPlan(name.to_owned()));
    };
    if status.is_live() {
        return Err(Error::Live(name.to_owned()));
    }
    Ok(&plan.digest)
}

fn patch(digest: Option<&str>) -> Value {
    json!({"metadata": {"annotations": {ANNOTATION_ABORT: digest}}})
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn object(state: &str, observed: i64) -> Activation {
        serde_json::from_value(json!({
            "metadata": {"name": "shop", "generation": 2},
            "spec": {"organization": "o", "app": "shop", "region": "eze", "deploy": {"image": "x:1"}},
            "status": {"observedGeneration": observed, "plan": {"digest": "sha256:a"},
                "phases": [{"name": "Deploy", "state": state}]},
        }))
        .unwrap()
    }

    #[test]
    fn only_a_plan_that_is_being_worked_on_is_stopped() {
        assert_eq!(to_stop(&object("Running", 2), "shop").unwrap(), "sha256:a");
        let live = to_stop(&object("Succeeded", 2), "shop").unwrap_err();
        assert!(live.to_string().contains("kubectl golive rollback shop"));
        let other = object("Running", 1);
        assert!(matches!(to_stop(&other, "shop"), Err(Error::NoPlan(_))));
    }
}
