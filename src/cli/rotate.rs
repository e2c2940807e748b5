//! `kubectl golive rotate`: the annotation `golive.dev/rotate-secrets`.

use serde_json::{Value, json};

use super::confirm::{NotConfirmed, confirm};
use super::connect::{self, Connection};
use super::output::Output;
use crate::{
    api::{ANNOTATION_RECONCILE, Activation, ConditionType, condition},
    store::generated::ANNOTATION_ROTATE,
};

/// Arguments of `rotate`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Golive generates new values for all secrets of `provision.secrets.generate` and deploys them by the
strategy of the application. All together: one release has one set of values, and the machines are updated
once, not once for each. Previous values are kept for `rotation.overlap`. Values that you provide
in a Secret of your own are not changed: write a new value there.

You need the ClusterRoles activation-view and activation-edit.

Examples:
  kubectl golive rotate shop -n prod
  kubectl golive rotate shop --yes")]
pub(super) struct Args {
    /// The Activation whose generated secrets are replaced.
    name: String,

    /// Do not ask.
    #[arg(short, long)]
    yes: bool,

    #[command(flatten)]
    connection: Connection,
}

/// Why nothing is rotated.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Connect(#[from] connect::Error),
    #[error(transparent)]
    NotConfirmed(#[from] NotConfirmed),
    #[error(
        "Activation {0} has no generated secrets (`provision.secrets.generate`); to replace a value of your own, write it into its Secret"
    )]
    None(String),
}

/// Requests the rotation.
pub(super) async fn run(args: &Args) -> Result<Output, Error> {
    let connected = args.connection.open().await?;
    let activation = connected.activation(&args.name).await?;
    let names = names(&activation);
    if names.is_empty() {
        return Err(Error::None(args.name.clone()));
    }
    let names = names.join(", ");
    confirm(
        &format!(
            "Replace the values of {names} of {}/{} and update the machines?",
            connected.namespace, args.name
        ),
        args.yes,
    )?;
    let patch = patch(&activation, &connected.now().to_string());
    connected.patch(&args.name, patch).await?;
    Ok(Output::text(format!(
        "requested new values of {names}; follow it with: kubectl golive watch {} -n {}\n",
        args.name, connected.namespace
    )))
}

/// The request, and with it one for a reconcile: the status says when that was handled, and of a rotation
/// only a Secret does, which this program does not read. While it is suspended nothing is handled.
fn patch(activation: &Activation, token: &str) -> Value {
    let status = activation.status.as_ref();
    let suspended = activation.spec.suspend
        || status
            .is_some_and(|status| condition::is_true(&status.conditions, ConditionType::Suspended));
    let annotations = if suspended {
        json!({ANNOTATION_ROTATE: token})
    } else {
        json!({ANNOTATION_ROTATE: token, ANNOTATION_RECONCILE: token})
    };
    json!({"metadata": {"annotations": annotations}})
}

fn names(activation: &Activation) -> Vec<&str> {
    let generated = activation.spec.provision.secrets.generate.iter();
    generated.map(|secret| secret.name.as_str()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_has_a_request_that_the_status_answers_unless_nothing_is_handled() {
        let object = |suspend: bool| -> Activation {
            serde_json::from_value(json!({
                "metadata": {"name": "shop"},
                "spec": {"organization": "o", "app": "shop", "region": "eze", "suspend": suspend,
                    "deploy": {"image": "x:1"}},
            }))
            .unwrap()
        };
        let time = "2026-01-01T00:00:00Z";
        let of = |suspend: bool| patch(&object(suspend), time)["metadata"]["annotations"].clone();
        let both = json!({ANNOTATION_ROTATE: time, ANNOTATION_RECONCILE: time});
        assert_eq!(of(false), both);
        assert_eq!(of(true), json!({ANNOTATION_ROTATE: time}));
    }
}
