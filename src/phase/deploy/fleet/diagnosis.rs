//! Why a machine failed: its last log lines, and whether the database answers from inside. Read once
//! for each failure, and only then.

use super::{leases, slots};
use crate::{
    error::Error,
    fly::{ExecRequest, Machine, MachineState},
    phase::{
        database::Database,
        database_probe,
        evidence::{cause::Finding, last_lines},
    },
    pipeline::{Cx, step::Result},
};

/// Longest run of one command, in seconds: an observation must not occupy a worker for long.
const LONGEST: u32 = 5;

/// The evidence about a machine that is not healthy.
#[derive(Debug, Default)]
pub struct Evidence {
    /// Its checks that do not pass, the most definite cause first.
    pub findings: Vec<Finding>,
    /// What else is known of a failure, for its message; begins with `;` unless it is empty.
    pub failure: String,
}

/// Whether the database answered from inside, for a machine that has failed.
#[derive(Debug)]
struct DatabaseAnswer {
    /// Id and version of the machine.
    failed: (String, String),
    answer: Option<String>,
}

/// The evidence for a failure beside its `findings`.
///
/// # Errors
/// While Fly.io has not answered.
pub async fn of(
    cx: &Cx,
    machines: &[Machine],
    failed: &Machine,
    findings: Vec<Finding>,
) -> Result<Evidence> {
    let key = (failed.id.clone(), failed.instance_id.clone());
    let known = cx.facts.get::<DatabaseAnswer>();
    let mut causes = findings.iter().map(|found| &found.cause);
    let answer = match known.filter(|known| known.failed == key) {
        // A wrong port or path has nothing to do with the database.
        _ if causes.any(|cause| !cause.may_be_time()) => None,
        Some(known) => known.answer.clone(),
        None => {
            let (of, machines, machine) = (cx.clone(), machines.to_vec(), failed.clone());
            let test = || async move { database(&of, &machines, &machine).await };
            let (name, question) = (format!("database from {}", key.0), format!("{:?}", key.1));
            let answer = cx.outside.ask_and_keep(&name, &question, test).await;
            let answer = answer.ok_or_else(|| Error::Awaited("the machine".to_owned()))?;
            cx.facts.set(DatabaseAnswer {
                failed: key,
                answer: answer.clone(),
            });
            answer
        }
    };
    let ended = failed.exit_since_start().is_some();
    let lines = last_lines::of(cx, &failed.id, ended).await?;
    let lines = lines.map(|tail| format!("its last lines: {tail}"));
    let parts = [answer, lines].into_iter().flatten();
    Ok(Evidence {
        failure: parts.map(|text| format!("; {text}")).collect(),
        findings,
    })
}

/// Whether the database answers in a machine: in the failed one when it runs, else in another.
/// `None` when there is no database or no command to test it.
async fn database(cx: &Cx, machines: &[Machine], failed: &Machine) -> Option<String> {
    let own = cx.target.proof.checks.iter();
    let own = own
        .filter_map(|smoke| smoke.check.database.as_ref())
        .map(|database| database.command.clone())
        .find(|command| !command.is_empty());
    if !cx.may_act() || (own.is_none() && cx.facts.get::<Database>().is_none()) {
        return None;
    }
    let started = |machine: &&Machine| {
        machine.state == MachineState::Started && !slots::runs_a_command(machine)
    };
    let inside = Some(failed)
        .filter(started)
        .or_else(|| machines.iter().find(started))?;
    let commands: Vec<(String, Vec<String>)> = match own {
        Some(command) => vec![(command.first().cloned().unwrap_or_default(), command)],
        None => database_probe::default_commands(&cx.target)
            .into_iter()
            .map(|command| (command.name, command.argv))
            .collect(),
    };
    for (name, command) in commands {
        let request = ExecRequest {
            command,
            timeout: Some(LONGEST),
            ..ExecRequest::default()
        };
        let nonce = leases::nonce(cx, &inside.id);
        let ran = cx
            .fly
            .exec(&cx.target.app, &inside.id, &request, nonce.as_deref())
            .await;
        let Ok(ran) = ran else { continue };
        match (ran.exit_code.unwrap_or(0), ran.exit_signal.unwrap_or(0)) {
            (0, 0) => {
                return Some(format!(
                    "the database answers from inside {} ({name})",
                    inside.name
                ));
            }
            // The image has no such program.
            (126 | 127, _) => {}
            (code, _) => {
                return Some(format!(
                    "the database does not answer from inside {} ({name} exits with {code}): check the database first",
                    inside.name
                ));
            }
        }
    }
    None
}
