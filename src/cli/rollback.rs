//! `kubectl golive rollback`: requests that the operator restore an earlier release.
//!
//! The Activation is not changed: the request is an ActivationApproval, so that the API server
//! authenticates the requester, and a GitOps tool that manages the spec does not revert it.

use std::fmt::Write as _;
use std::time::Duration;

use kube::{Api, ResourceExt, api::PostParams, core::ObjectMeta};
use tokio::time::Instant;

use super::connect::{self, Connected, Connection};
use super::output::{Output, say};
use super::refused::{Refused, Role};
use crate::api::{
    Activation, ActivationApproval, ActivationStatus, PhaseName, Reason,
    approval::{self, ActivationApprovalSpec, DecidedOn, Decision},
    status::{
        ExternalKind, ExternalObject, HistoryEntry, HistoryOutcome, ReleaseStatus, RollbackState,
    },
};

/// Interval of reading the Activation with `--wait`.
const POLL: Duration = Duration::from_millis(500);

/// Arguments of `rollback`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The release is restored as it was recorded: the image by its digest, and the fly.toml. Secrets keep
their current values. The current spec is not deployed until it changes.

You need the verb `approve` on the Activation: the ClusterRole activation-approver has it.

Examples:
  kubectl golive rollback shop
  kubectl golive rollback shop --to 7 --message 'payments fail since 8' --wait")]
pub(super) struct Args {
    /// The Activation.
    name: String,

    /// Number of the release to restore, from `status.history[].number`. Default: the last one that
    /// succeeded before the one that serves.
    #[arg(long, value_name = "N")]
    to: Option<i64>,

    /// Reason, stored in the record of the release.
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,

    /// Print the plan without requesting the rollback.
    #[arg(long)]
    dry_run: bool,

    /// Wait until the release serves, or the request is refused.
    #[arg(long)]
    wait: bool,

    /// Time limit of `--wait`.
    #[arg(long, default_value = "10m", value_parser = crate::process::settings::duration, value_name = "DURATION")]
    timeout: Duration,

    #[command(flatten)]
    connection: Connection,
}

/// Why there is no rollback.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Connect(#[from] connect::Error),
    #[error("Activation {0} has no plan yet; wait until the operator has reconciled it")]
    NoPlan(String),
    #[error(
        "the operator has not observed the current spec of Activation {0} yet; retry in a moment"
    )]
    NotSeen(String),
    #[error("there is no release {to} on record; {known}")]
    NoRelease { to: i64, known: String },
    #[error("there is no earlier release that succeeded; {known}")]
    NoEarlier { known: String },
    #[error("release {to} did not succeed ({outcome}{why}); choose another: {known}")]
    NotGood {
        to: i64,
        outcome: HistoryOutcome,
        why: String,
        known: String,
    },
    #[error("release {0} already serves")]
    Serves(i64),
    #[error(transparent)]
    Ask(#[from] Refused),
    #[error("the rollback was refused: {0}")]
    Refused(String),
    #[error(
        "the spec has changed since the rollback was requested, so the request may no longer apply; see it with `kubectl get activationapprovals`"
    )]
    Lapsed,
    #[error("the rollback did not complete within {} s: {last}", .limit.as_secs())]
    Late { limit: Duration, last: String },
}

/// Prints the plan, requests the rollback, and waits for the outcome with `--wait`.
pub(super) async fn run(args: &Args) -> Result<Output, Error> {
    let connected = args.connection.open().await?;
    let activation = connected.activation(&args.name).await?;
    let status = activation.status.clone().unwrap_or_default();
    if status.observed_generation != activation.metadata.generation {
        return Err(Error::NotSeen(args.name.clone()));
    }
    let to = choose(&status, args.to)?;
    say(&plan(&activation, &status, to));
    if args.dry_run {
        return Ok(Output::default());
    }
    let Some(digest) = status.plan.as_ref().map(|plan| plan.digest.clone()) else {
        return Err(Error::NoPlan(args.name.clone()));
    };
    let number = to.number.unwrap_or_default();
    let approval = ActivationApproval {
        metadata: ObjectMeta {
            // The server completes the name, so that every request is a new object.
            generate_name: Some(format!("{}-rollback-", args.name)),
            ..ObjectMeta::default()
        },
        spec: ActivationApprovalSpec {
            activation: args.name.clone(),
            gate: DecidedOn::Rollback,
            digest: digest.clone(),
            generation: None,
            decision: Decision::Approve,
            to_release: Some(number),
            approver: connected.user().await?,
            message: args.message.clone(),
            valid_for: approval::one_day(),
        },
        status: None,
    };
    let api: Api<ActivationApproval> =
        Api::namespaced(connected.kube.clone(), &connected.namespace);
    let made = match api.create(&PostParams::default(), &approval).await {
        Ok(made) => made,
        Err(error) => {
            let doing = connected.doing("request the rollback", Role::Approver);
            return Err(connected.refused(doing, error).await.into());
        }
    };
    let request = made.name_any();
    say(&format!(
        "requested as {request} by {}\n",
        made.spec.approver
    ));
    if args.wait {
        wait(&connected, args, &request, &digest, number).await?;
        say(&format!("release {number} serves\n"));
    }
    Ok(Output::default())
}

/// Chooses the release to restore. Pure.
fn choose(status: &ActivationStatus, to: Option<i64>) -> Result<&HistoryEntry, Error> {
    let good = |entry: &&HistoryEntry| {
        entry.outcome == HistoryOutcome::Succeeded && entry.number.is_some()
    };
    let numbers: Vec<String> = status
        .history
        .iter()
        .filter(good)
        .filter_map(|entry| entry.number)
        .map(|number| number.to_string())
        .collect();
    let known = if numbers.is_empty() {
        "none has succeeded yet".to_owned()
    } else {
        format!("those that succeeded are {}", numbers.join(", "))
    };
    let serves = status.release.as_ref().and_then(|release| release.number);
    // Some machines may run a release that failed and was left, or has not ended. The release to
    // restore is then the one that serves.
    let left = status
        .history
        .first()
        .is_some_and(|last| matches!(last.outcome, HistoryOutcome::Failed | HistoryOutcome::Begun));
    let Some(to) = to else {
        return status
            .history
            .iter()
            .filter(good)
            .find(|entry| left || serves.is_none() || entry.number < serves)
            .ok_or(Error::NoEarlier { known });
    };
    let Some(entry) = status.history.iter().find(|e| e.number == Some(to)) else {
        return Err(Error::NoRelease { to, known });
    };
    if entry.outcome != HistoryOutcome::Succeeded {
        let why = if entry.why.is_empty() {
            String::new()
        } else {
            format!(": {}", entry.why)
        };
        return Err(Error::NotGood {
            to,
            outcome: entry.outcome,
            why,
            known,
        });
    }
    let deploying = status.history.first().is_none_or(|last| {
        left || last.outcome == HistoryOutcome::Succeeded && last.number != serves
    });
    if serves == Some(to) && !deploying {
        return Err(Error::Serves(to));
    }
    Ok(entry)
}

/// Begins the part of a release's changes that a rollback does not revert.
const SECRETS: &str = "secrets ";

/// The plan, as text. Pure.
fn plan(activation: &Activation, status: &ActivationStatus, to: &HistoryEntry) -> String {
    let mut text = String::new();
    let number = to.number.unwrap_or_default();
    let name = activation.name_any();
    let from = status.release.as_ref();
    let serves = from.map_or_else(
        || "nothing on record".to_owned(),
        |release| {
            format!(
                "release {} ({}, {})",
                release.number.unwrap_or_default(),
                release.image,
                release.digest_short
            )
        },
    );
    // Writing to a String cannot fail.
    let _ = writeln!(text, "activation {name} will be rolled back");
    let _ = writeln!(text, "  from {serves}");
    let _ = writeln!(
        text,
        "  to   release {number} ({}, {})",
        to.image, to.digest_short
    );
    let _ = writeln!(
        text,
        "  configuration: {}",
        match from {
            Some(release) if release.config_hash == to.config_hash => "the same",
            _ => "another",
        }
    );
    for entry in status
        .history
        .iter()
        .filter(|entry| entry.number > to.number)
    {
        let number = entry.number.unwrap_or_default();
        // Secrets are the last part (`src/phase/deploy/release/changes.rs`).
        let (others, secrets) = match entry.changes.rsplit_once(SECRETS) {
            Some((others, names)) => (others.trim_end_matches("; "), Some(names)),
            None => (entry.changes.as_str(), None),
        };
        let _ = match (others.is_empty(), secrets) {
            (true, Some(_)) => writeln!(text, "  release {number} changed only secrets"),
            (true, None) => writeln!(
                text,
                "  reverts the changes of release {number}: nothing on record"
            ),
            (false, _) => writeln!(text, "  reverts the changes of release {number}: {others}"),
        };
        if let Some(names) = secrets {
            let _ = writeln!(text, "  keeps of release {number}: secrets {names}");
        }
    }
    let _ = writeln!(text, "  secrets keep their current values");
    let is_same = |release: &ReleaseStatus| {
        let same = release.digest_short == to.digest_short && release.config_hash == to.config_hash;
        same && !to.digest_short.is_empty()
    };
    if from.is_some_and(is_same) {
        let _ = writeln!(
            text,
            "  nothing else differs, so the machines stay as they are"
        );
    } else {
        text.push_str(&machines(status, to));
    }
    let _ = writeln!(text, "  the current spec is not deployed until it changes");
    text
}

/// What becomes of the machines, as text: those that are on record, and what the operator decides from the fly.toml
/// of the release. Pure.
fn machines(status: &ActivationStatus, to: &HistoryEntry) -> String {
    let is_machine = |object: &&ExternalObject| object.kind == ExternalKind::Machine.as_str();
    let all = status.external.iter().filter(is_machine);
    let names: Vec<&str> = all.map(|machine| machine.name.as_str()).collect();
    let (mut text, number) = (String::new(), to.number.unwrap_or_default());
    let downtime = match names.as_slice() {
        [] => return text,
        [_] => "the only machine restarts",
        _ => "none unless the strategy is immediate: others serve while one restarts",
    };
    let _ = writeln!(text, "  updates machines {}", names.join(", "));
    let _ = writeln!(text, "  downtime: {downtime}");
    let _ = writeln!(
        text,
        "  destroys machines that the fly.toml of release {number} does not have; volumes stay"
    );
    let _ = writeln!(
        text,
        "  to see every field first, set `mode: Plan` in the spec: the request is then planned, and not carried out"
    );
    text
}

async fn wait(
    connected: &Connected,
    args: &Args,
    request: &str,
    digest: &str,
    number: i64,
) -> Result<(), Error> {
    let end = Instant::now() + args.timeout;
    let mut printed = String::new();
    loop {
        let status = connected
            .activation(&args.name)
            .await?
            .status
            .unwrap_or_default();
        match progress(&status, request, digest, number)? {
            Progress::Done => return Ok(()),
            Progress::Waiting(line) => {
                if line != printed {
                    say(&format!("{line}\n"));
                    printed = line;
                }
            }
        }
        if Instant::now() > end {
            return Err(Error::Late {
                limit: args.timeout,
                last: printed,
            });
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Progress of a rollback.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    Done,
    /// Not complete, with the current state.
    Waiting(String),
}

fn progress(
    status: &ActivationStatus,
    request: &str,
    digest: &str,
    number: i64,
) -> Result<Progress, Error> {
    let waiting = |text: &str| Ok(Progress::Waiting(text.to_owned()));
    let rollback = status.rollback.as_ref().filter(|r| r.request == request);
    match rollback.map(|rollback| (rollback.state, &rollback.message)) {
        Some((RollbackState::Refused, why)) => Err(Error::Refused(why.clone())),
        Some((RollbackState::Accepted, _)) => {
            let deploy = status
                .phases
                .iter()
                .find(|phase| phase.name == PhaseName::Deploy);
            let restored = deploy.is_some_and(|phase| {
                phase.steps.iter().any(|step| {
                    step.name == "Release" && step.reason == Reason::RolledBack.as_str()
                })
            });
            let serves = status.release.as_ref().and_then(|release| release.number);
            if restored && serves == Some(number) {
                return Ok(Progress::Done);
            }
            match deploy {
                Some(phase) if !phase.message.is_empty() => waiting(&phase.message),
                _ => waiting("accepted; the machines are being changed"),
            }
        }
        _ if status
            .plan
            .as_ref()
            .is_some_and(|plan| plan.digest != digest) =>
        {
            Err(Error::Lapsed)
        }
        Some((RollbackState::Waiting, why)) if !why.is_empty() => waiting(why),
        _ => waiting("waiting for the operator"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::api::status::RollbackStatus;

    fn status() -> ActivationStatus {
        let entry = |number: i64, outcome: HistoryOutcome, changes: &str| HistoryEntry {
            number: Some(number),
            image: format!("registry.fly.io/shop:{number}"),
            outcome,
            changes: changes.to_owned(),
            ..HistoryEntry::default()
        };
        ActivationStatus {
            history: vec![
                entry(4, HistoryOutcome::Succeeded, "image 2 to 4; secrets KEY"),
                entry(3, HistoryOutcome::RolledBack, "image 2 to 3"),
                entry(2, HistoryOutcome::Succeeded, ""),
                entry(1, HistoryOutcome::Succeeded, ""),
            ],
            release: Some(ReleaseStatus {
                number: Some(4),
                image: "registry.fly.io/shop:4".to_owned(),
                ..ReleaseStatus::default()
            }),
            ..ActivationStatus::default()
        }
    }

    #[test]
    fn without_a_number_the_last_good_release_before_is_chosen() {
        let mut status = status();
        assert_eq!(choose(&status, None).unwrap().number, Some(2));
        assert_eq!(choose(&status, Some(1)).unwrap().number, Some(1));
        status.history.truncate(2);
        let error = choose(&status, None).unwrap_err().to_string();
        assert!(error.contains("no earlier release"), "{error}");
    }

    #[test]
    fn a_release_that_failed_and_was_left_can_be_given_up_for_the_one_that_serves() {
        let mut status = status();
        let failed = HistoryEntry {
            number: Some(5),
            outcome: HistoryOutcome::Failed,
            ..HistoryEntry::default()
        };
        status.history.insert(0, failed);
        assert_eq!(choose(&status, None).unwrap().number, Some(4));
        assert_eq!(choose(&status, Some(4)).unwrap().number, Some(4));
        assert!(choose(&status, Some(5)).is_err());
    }

    #[test]
    fn what_cannot_be_restored_is_refused_before_anything_is_asked() {
        let status = status();
        for (to, word) in [
            (9, "those that succeeded are 4, 2, 1"),
            (3, "did not succeed"),
            (4, "already serves"),
        ] {
            let error = choose(&status, Some(to)).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn the_plan_says_what_is_taken_back() {
        let status = status();
        let object = serde_json::json!({"metadata": {"name": "shop"}, "spec": {
            "organization": "o", "app": "shop", "region": "eze", "deploy": {"image": "x:1"},
        }});
        let object: Activation = serde_json::from_value(object).unwrap();
        let text = plan(&object, &status, choose(&status, None).unwrap());
        for line in [
            "from release 4 (registry.fly.io/shop:4",
            "to   release 2 (registry.fly.io/shop:2",
            "reverts the changes of release 4: image 2 to 4\n",
            "keeps of release 4: secrets KEY\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert!(!text.contains("nothing else differs"), "{text}");

        // Only a secret was added since.
        let mut status = status;
        let history = &mut status.history;
        history.truncate(3);
        history.remove(1);
        history[0].changes = "secrets LATE_TOKEN".to_owned();
        for release in history.iter_mut() {
            release.digest_short = "same".to_owned();
        }
        let serves = status.release.as_mut().unwrap();
        serves.digest_short = "same".to_owned();
        let text = plan(&object, &status, choose(&status, None).unwrap());
        for line in [
            "release 4 changed only secrets\n",
            "keeps of release 4: secrets LATE_TOKEN\n",
            "nothing else differs, so the machines stay as they are\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert!(!text.contains("reverts"), "{text}");
    }

    #[test]
    fn a_request_that_is_not_seen_yet_is_waited_for_and_one_of_another_plan_has_lapsed() {
        let mut status = status();
        let going = progress(&status, "r", "sha256:a", 2).unwrap();
        assert_eq!(
            going,
            Progress::Waiting("waiting for the operator".to_owned())
        );
        status.rollback = Some(RollbackStatus {
            request: "r".to_owned(),
            state: RollbackState::Refused,
            message: "no image".to_owned(),
            ..RollbackStatus::default()
        });
        let refused = progress(&status, "r", "sha256:a", 2).unwrap_err();
        assert!(refused.to_string().contains("no image"), "{refused}");
        status.rollback = None;
        status.plan = Some(crate::api::status::PlanStatus {
            digest: "sha256:b".to_owned(),
            ..crate::api::status::PlanStatus::default()
        });
        let lapsed = progress(&status, "r", "sha256:a", 2).unwrap_err();
        assert!(lapsed.to_string().contains("has changed"), "{lapsed}");
    }
}
