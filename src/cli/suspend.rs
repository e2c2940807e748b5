//! `kubectl golive suspend` and `kubectl golive resume`: the field `spec.suspend`.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::connect::{self, Connection};
use super::gitops;
use super::output::Output;
use crate::api::Activation;

/// Arguments of `suspend`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
All work on the Activation stops, also drift correction and deletion. What runs on Fly.io keeps running,
and nobody looks at it: after three rechecks the site is Unknown.

You need the ClusterRoles activation-view and activation-edit.

Examples:
  kubectl golive suspend shop -n prod --reason 'database maintenance' --until 2h
  kubectl golive suspend shop --until 2026-01-31T18:00:00Z")]
pub(super) struct SuspendArgs {
    /// The Activation.
    name: String,

    /// Why; shown in the condition Suspended.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,

    /// When it ends by itself: a time such as 2026-01-31T18:00:00Z, or a duration from now such as 2h.
    /// Default: when it is resumed.
    #[arg(long, value_name = "TIME", value_parser = end)]
    until: Option<End>,

    #[command(flatten)]
    connection: Connection,
}

/// Arguments of `resume`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Work continues where it stopped, and everything is observed once.

You need the ClusterRoles activation-view and activation-edit.

Examples:
  kubectl golive resume shop -n prod")]
pub(super) struct ResumeArgs {
    /// The Activation.
    name: String,

    #[command(flatten)]
    connection: Connection,
}

/// When a suspension ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    At(Timestamp),
    After(SignedDuration),
}

fn end(text: &str) -> Result<End, String> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(End::At(at));
    }
    let wrong = || {
        format!("must be a time such as 2026-01-31T18:00:00Z, or a duration such as 2h, not {text}")
    };
    let after = crate::process::settings::duration(text).map_err(|_| wrong())?;
    let after = SignedDuration::try_from(after).map_err(|_| wrong())?;
    Ok(End::After(after))
}

/// Why nothing was suspended or resumed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Connect(#[from] connect::Error),
    #[error("--until {0} is not in the future")]
    Past(Timestamp),
}

/// Suspends.
pub(super) async fn suspend(args: &SuspendArgs) -> Result<Output, Error> {
    let connected = args.connection.open().await?;
    let activation = connected.activation(&args.name).await?;
    let until = until(args.until, connected.now())?;
    connected
        .patch(&args.name, suspended(args.reason.as_deref(), until))
        .await?;
    let end = match until {
        Some(until) => format!("until {until}"),
        None => format!(
            "until `kubectl golive resume {} -n {}`",
            args.name, connected.namespace
        ),
    };
    Ok(Output {
        text: format!("{} is suspended {end}\n", args.name),
        warnings: gitops::warning(&activation).into_iter().collect(),
        ..Output::default()
    })
}

/// Resumes.
pub(super) async fn resume(args: &ResumeArgs) -> Result<Output, Error> {
    let connected = args.connection.open().await?;
    let activation = connected.activation(&args.name).await?;
    if !is_suspended(&activation) {
        return Ok(Output::text(format!("{} is not suspended\n", args.name)));
    }
    connected.patch(&args.name, resumed()).await?;
    Ok(Output {
        text: format!("{} is resumed\n", args.name),
        warnings: gitops::warning(&activation).into_iter().collect(),
        ..Output::default()
    })
}

fn is_suspended(activation: &Activation) -> bool {
    let spec = &activation.spec;
    spec.suspend || spec.suspend_reason.is_some() || spec.suspend_until.is_some()
}

fn until(end: Option<End>, now: Timestamp) -> Result<Option<Timestamp>, Error> {
    let at = match end {
        None => return Ok(None),
        Some(End::At(at)) => at,
        Some(End::After(after)) => now.saturating_add(after).unwrap_or(Timestamp::MAX),
    };
    // Whole seconds, as the API stores them.
    let at = Timestamp::from_second(at.as_second()).unwrap_or(at);
    if at <= now {
        return Err(Error::Past(at));
    }
    Ok(Some(at))
}

/// The patch that suspends: an earlier reason or end does not stay.
fn suspended(reason: Option<&str>, until: Option<Timestamp>) -> Value {
    let until = until.map(|until| until.to_string());
    json!({"spec": {"suspend": true, "suspendReason": reason, "suspendUntil": until}})
}

/// The patch that resumes.
fn resumed() -> Value {
    json!({"spec": {"suspend": false, "suspendReason": null, "suspendUntil": null}})
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_a_time_or_a_duration_from_now_and_in_the_future() {
        let now: Timestamp = "2026-01-31T16:00:00.5Z".parse().unwrap();
        let at = |text: &str| until(Some(end(text).unwrap()), now);
        let wanted: Timestamp = "2026-01-31T18:00:00Z".parse().unwrap();
        assert_eq!(at("2026-01-31T18:00:00Z").unwrap(), Some(wanted));
        assert_eq!(at("2h").unwrap(), Some(wanted));
        assert!(matches!(at("2026-01-31T15:00:00Z"), Err(Error::Past(_))));
        assert!(end("tomorrow").unwrap_err().contains("such as 2h"));
        assert_eq!(until(None, now).unwrap(), None);
    }

    #[test]
    fn a_suspension_replaces_the_reason_and_the_end_of_an_earlier_one() {
        let patch = suspended(None, None);
        assert_eq!(patch["spec"]["suspend"], true);
        let fields = patch["spec"].as_object().unwrap();
        assert!(fields.contains_key("suspendReason") && fields.contains_key("suspendUntil"));
        assert_eq!(resumed()["spec"]["suspend"], false);
    }
}
