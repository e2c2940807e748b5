//! `kubectl golive forget`: the annotation `golive.dev/forget`, which lets a deletion end that cannot reach
//! Fly.io any more.

use kube::ResourceExt;
use serde_json::json;

use super::confirm::{NotConfirmed, confirm};
use super::connect::{self, Connection};
use super::output::{Output, show};
use super::style::{Line, Paint, Tone};
use crate::api::{ANNOTATION_FORGET, Activation};

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
}

/// Requests that the deletion ends.
pub(super) async fn run(args: &Args) -> Result<Output, Error> {
    let connected = args.connection.open().await?;
    let activation = connected.activation(&args.name).await?;
    if activation.metadata.deletion_timestamp.is_none() {
        return Err(Error::NotDeleting {
            name: args.name.clone(),
            namespace: connected.namespace.clone(),
        });
    }
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
        "{} is forgotten; the app {app} stays on Fly.io\n",
        args.name
    )))
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
