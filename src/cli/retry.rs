//! `kubectl golive retry`: the annotations `golive.dev/retry` and `golive.dev/retry-from`.

use clap::builder::PossibleValuesParser;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::connect::{self, Connection};
use super::output::Output;
use crate::api::{
    ANNOTATION_RECONCILE, ANNOTATION_RETRY, ANNOTATION_RETRY_FROM, Activation, ConditionType,
    PhaseName, condition,
};

/// Arguments of `retry`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Golive retries transient failures by itself. This observes every step again, and tries what has stopped:
a phase after its deadline, a release command that failed, a release that was rolled back. With --from
only that phase and the later ones are observed again.

You need the ClusterRoles activation-view and activation-edit.

Examples:
  kubectl golive retry shop -n prod
  kubectl golive retry shop --from Deploy")]
pub(super) struct Args {
    /// The Activation.
    name: String,

    /// The phase to begin with. Default: the first.
    #[arg(long, value_name = "PHASE", value_parser = phases())]
    from: Option<String>,

    #[command(flatten)]
    connection: Connection,
}

fn phases() -> PossibleValuesParser {
    PossibleValuesParser::new(PhaseName::ALL.iter().map(|phase| phase.as_str()))
}

/// Why nothing is retried.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Connect(#[from] connect::Error),
    #[error(
        "Activation {name} is suspended, so nothing is retried; first: kubectl golive resume {name} -n {namespace}"
    )]
    Suspended { name: String, namespace: String },
    #[error(
        "Activation {name} is being deleted, which is retried by itself; see `kubectl golive status {name} -n {namespace}`"
    )]
    Deleting { name: String, namespace: String },
}

/// Requests the retry.
pub(super) async fn run(args: &Args) -> Result<Output, Error> {
    let connected = args.connection.open().await?;
    let activation = connected.activation(&args.name).await?;
    possible(&activation, &args.name, &connected.namespace)?;
    let patch = patch(args.from.as_deref(), connected.now());
    connected.patch(&args.name, patch).await?;
    let from = match &args.from {
        Some(phase) => format!("from {phase} on"),
        None => "of every phase".to_owned(),
    };
    Ok(Output::text(format!(
        "requested a retry {from}; follow it with: kubectl golive watch {} -n {}\n",
        args.name, connected.namespace
    )))
}

fn possible(activation: &Activation, name: &str, namespace: &str) -> Result<(), Error> {
    let (name, namespace) = (name.to_owned(), namespace.to_owned());
    if activation.metadata.deletion_timestamp.is_some() {
        return Err(Error::Deleting { name, namespace });
    }
    let conditions = activation
        .status
        .iter()
        .flat_map(|status| &status.conditions);
    let conditions: Vec<_> = conditions.cloned().collect();
    let suspended = condition::find(&conditions, ConditionType::Suspended);
    if suspended.is_some_and(|found| found.status == "True") {
        return Err(Error::Suspended { name, namespace });
    }
    Ok(())
}

/// A new token: each value of an annotation requests once. The other annotation goes, so that what is
/// open can be told from what was handled. The annotation that requests a reconcile has the same token: of
/// two new ones, such as of a rotation just before, the operator would take note of that one alone.
fn patch(from: Option<&str>, now: Timestamp) -> Value {
    let annotations = match from {
        Some(phase) => {
            let token = format!("{phase}/{now}");
            json!({ANNOTATION_RETRY_FROM: token, ANNOTATION_RETRY: null, ANNOTATION_RECONCILE: token})
        }
        None => {
            let token = now.to_string();
            json!({ANNOTATION_RETRY: token, ANNOTATION_RETRY_FROM: null, ANNOTATION_RECONCILE: token})
        }
    };
    json!({"metadata": {"annotations": annotations}})
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::plan;

    #[test]
    fn the_operator_reads_the_phase_of_every_request_and_each_is_a_new_one() {
        let at = |second| Timestamp::from_second(second).unwrap();
        for phase in PhaseName::ALL {
            let patch = patch(Some(phase.as_str()), at(1));
            let token = patch["metadata"]["annotations"][ANNOTATION_RETRY_FROM].as_str();
            assert_eq!(plan::retry_from(token.unwrap()), Some(*phase));
            let reconcile = &patch["metadata"]["annotations"][ANNOTATION_RECONCILE];
            assert_eq!(
                reconcile.as_str(),
                token,
                "one token, which is handled at once"
            );
        }
        assert_ne!(patch(None, at(1)), patch(None, at(2)));
    }

    #[test]
    fn what_would_be_ignored_is_refused_with_the_next_step() {
        let mut object: Activation = serde_json::from_value(json!({
            "metadata": {"name": "shop"},
            "spec": {"organization": "o", "app": "shop", "region": "eze", "deploy": {"image": "x:1"}},
            "status": {"conditions": [{"type": "Suspended", "status": "True", "reason": "Suspended",
                "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
        }))
        .unwrap();
        let error = possible(&object, "shop", "prod").unwrap_err().to_string();
        assert!(
            error.ends_with("kubectl golive resume shop -n prod"),
            "{error}"
        );
        object.status = None;
        assert!(possible(&object, "shop", "prod").is_ok());
    }
}
