//! Why a machine failed, as far as can be seen from here: its last lines, and whether the database
//! answers from inside. Read once for each failure, and only then.

use super::{fleet, leases};
use crate::{
    fly::{ExecRequest, Machine, MachineState},
    phase::{Cx, smoke_test::database},
};

/// Longest time of one command, in seconds: a look must not hold a worker for long.
const LONGEST: u32 = 5;

/// Most characters of a log tail in a message.
const TAIL: usize = 400;

/// Lines of a log tail.
const LINES: usize = 3;

/// What is to be told beside the failure itself; begins with `;` unless it is empty.
pub async fn of(cx: &Cx, machines: &[Machine], failed: &Machine) -> String {
    let key = (failed.id.clone(), failed.instance_id.clone());
    let known = cx.facts.diagnosis.get();
    let answer = match known.filter(|known| known.0 == key) {
        Some(known) => known.1.clone(),
        None => {
            let answer = database(cx, machines, failed).await;
            cx.facts.diagnosis.set((key, answer.clone()));
            answer
        }
    };
    let lines = log_tail(cx, &failed.id).await;
    let lines = lines.map(|tail| format!("its last lines: {tail}"));
    let told = [answer, lines].into_iter().flatten();
    told.map(|text| format!("; {text}")).collect()
}

/// Whether the database answers in a machine: in the failed one when it runs, else in another.
/// `None` when there is no database, or no way to ask.
async fn database(cx: &Cx, machines: &[Machine], failed: &Machine) -> Option<String> {
    let own = cx.target.smoke_checks.iter();
    let own = own
        .filter_map(|check| check.database.as_ref())
        .map(|database| database.command.clone())
        .find(|command| !command.is_empty());
    if !cx.may_act() || (own.is_none() && cx.facts.database.get().is_none()) {
        return None;
    }
    let started = |machine: &&Machine| {
        machine.state == MachineState::Started && !fleet::runs_a_command(machine)
    };
    let inside = Some(failed)
        .filter(started)
        .or_else(|| machines.iter().find(started))?;
    let commands: Vec<(String, Vec<String>)> = match own {
        Some(command) => vec![(command.first().cloned().unwrap_or_default(), command)],
        None => database::default_commands(&cx.target)
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
            // There is no such program in the image.
            (126 | 127, _) => {}
            (code, _) => {
                return Some(format!(
                    "the database does not answer from inside {} ({name} exits with {code}): look at it first",
                    inside.name
                ));
            }
        }
    }
    None
}

/// The last lines that a machine printed: one line, bounded, without secrets. A tail that cannot
/// be had is left out: the diagnosis stands without it.
pub async fn log_tail(cx: &Cx, id: &str) -> Option<String> {
    let page = cx.fly.logs(&cx.target.app, Some(id), None).await.ok()?;
    let lines: Vec<&str> = page
        .lines
        .iter()
        .rev()
        .take(LINES)
        .filter_map(|line| line.message.as_deref())
        .collect();
    if lines.is_empty() {
        return None;
    }
    let text: String = lines.into_iter().rev().collect::<Vec<_>>().join(" | ");
    let text = crate::redact::redact(&text).into_owned();
    Some(crate::api::status::one_line(&text, TAIL))
}
