//! `kubectl golive forget`: the annotation `golive.dev/forget`, which lets a deletion end that cannot reach
//! Fly.io any more.

use kube::ResourceExt;
use serde_json::json;

use super::confirm::{NotConfirmed, confirm};
use super::connect::{self, Connection};
use super::output::{Output, show};
use super::style::{Line, Paint, Tone};
use crate::api::{ANNOTATION_FORGET, Activation, ConditionType, Reason, condition};

/// Arguments of `forget`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
For an Activation that is being deleted while the token no longer gives access to Fly.io. The object goes,
and everything that it has on Fly.io stays there and costs money: it is listed before you are asked.

You need the ClusterRoles activation-view and activation-edit.

Examples:
  kubectl golive forget shop -n prod
  kubectl golive forget shop --yes")]
pub(super) struct Args {
    /// The Activation.
    name: String,

    /// Do not ask.
    #[arg(short, long)]
    yes: bool,

    #[command(flatten)]
    connection: Connection,
}

/// Why nothing is forgotten.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Connect(#[from] connect::Error),
    #[error(transparent)]
    NotConfirmed(#[from] NotConfirmed),
    #[error(
        "Activation {name} is not being deleted; first: kubectl -n {namespace} delete activation {name}"
    )]
    NotDeleting { name: String, namespace: String },
    #[error(
        "the deletion of Activation {name} is not blocked, so nothing is to be forgotten; see `kubectl golive status {name} -n {namespace}`"
    )]
    NotBlocked { name: String, namespace: String },
}

/// Requests that the deletion ends.
pub(super) async fn run(args: &Args) -> Result<Output, Error> {
    let connected = args.connection.open().await?;
    let activation = connected.activation(&args.name).await?;
    possible(&activation, &args.name, &connected.namespace)?;
    show(&Paint::of_stderr().text(&stays(&activation)));
    let question = format!(
        "Delete {}/{} and leave all of this on Fly.io?",
        connected.namespace, args.name
    );
    confirm(&question, args.yes)?;
    let app = &activation.spec.app;
    let patch = json!({"metadata": {"annotations": {ANNOTATION_FORGET: app}}});
    connected.patch(&args.name, patch).await?;
    Ok(Output::text(format!(
        "requested that {} is forgotten; the app {app} stays on Fly.io; see whether it is gone: kubectl golive list -n {}\n",
        args.name, connected.namespace
    )))
}

/// Whether the deletion waits for somebody: one that goes on deletes what forgetting would leave. Pure.
fn possible(activation: &Activation, name: &str, namespace: &str) -> Result<(), Error> {
    let (name, namespace) = (name.to_owned(), namespace.to_owned());
    if activation.metadata.deletion_timestamp.is_none() {
        return Err(Error::NotDeleting { name, namespace });
    }
    let status = activation.status.as_ref();
    let deleting =
        status.and_then(|status| condition::find(&status.conditions, ConditionType::Deleting));
    let reason = deleting.and_then(|deleting| Reason::parse(&deleting.reason));
    if reason != Some(Reason::DeletionBlocked) {
        return Err(Error::NotBlocked { name, namespace });
    }
    Ok(())
}

/// What stays on Fly.io. Pure.
fn stays(activation: &Activation) -> Vec<Line> {
    let title = format!(
        "These stay on Fly.io when {} is forgotten:",
        activation.name_any()
    );
    let mut lines = vec![Line::default().and(Tone::Bold, title)];
    let known = activation.status.iter().flat_map(|status| &status.external);
    lines.extend(known.map(|object| {
        let line = Line::plain(format!("  {:<16}{}", object.kind, object.name));
        line.and(Tone::Dim, format!("  {} {}", object.region, object.id))
    }));
    if lines.len() == 1 {
        let app = &activation.spec.app;
        lines.push(Line::plain(format!(
            "  none is on record; look with: fly apps list, fly volumes list -a {app}"
        )));
    }
    lines
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_a_deletion_that_is_blocked_is_ended() {
        let object = |deleted: Option<&str>, reason: &str| -> Activation {
            serde_json::from_value(json!({
                "metadata": {"name": "shop", "deletionTimestamp": deleted},
                "spec": {"organization": "o", "app": "shop", "region": "eze", "deploy": {"image": "x:1"}},
                "status": {"conditions": [{"type": "Deleting", "status": "True", "reason": reason,
                    "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
            }))
            .unwrap()
        };
        let judge = |object: &Activation| possible(object, "shop", "prod");
        let now = Some("2026-01-01T00:00:00Z");
        assert!(judge(&object(now, "DeletionBlocked")).is_ok());
        let goes_on = judge(&object(now, "Deleting"));
        assert!(matches!(goes_on, Err(Error::NotBlocked { .. })));
        let lives = judge(&object(None, "DeletionBlocked"));
        assert!(matches!(lives, Err(Error::NotDeleting { .. })));
    }

    #[test]
    fn what_stays_is_listed_before_anybody_is_asked() {
        let mut object: Activation = serde_json::from_value(json!({
            "metadata": {"name": "shop"},
            "spec": {"organization": "o", "app": "shop", "region": "eze", "deploy": {"image": "x:1"}},
            "status": {"external": [
                {"kind": "Volume", "id": "vol_1", "name": "data", "region": "eze"},
            ]},
        }))
        .unwrap();
        let text =
            |object: &Activation| -> Vec<String> { stays(object).iter().map(Line::text).collect() };
        assert_eq!(text(&object)[1], "  Volume          data  eze vol_1");
        object.status = None;
        assert!(text(&object)[1].contains("fly volumes list -a shop"));
    }
}
