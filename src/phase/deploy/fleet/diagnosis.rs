//! Why a machine failed: its last log lines, and whether the database answers from inside. Read once
//! for each failure, and only then.

use super::{leases, slots};
use crate::{
    fly::{ExecRequest, Machine, MachineState},
    phase::{database::Database, database_probe},
    pipeline::Cx,
};

/// Longest run of one command, in seconds: an observation must not occupy a worker for long.
const LONGEST: u32 = 5;

/// Most characters of a log tail in a message.
const TAIL: usize = 400;

/// Lines of a log tail.
const LINES: usize = 3;

/// Whether the database answered from inside, for a machine that has failed.
#[derive(Debug)]
struct DatabaseAnswer {
    /// Id and version of the machine.
    failed: (String, String),
    answer: Option<String>,
}

/// The evidence for a failure, for its message; begins with `;` unless it is empty.
pub async fn of(cx: &Cx, machines: &[Machine], failed: &Machine) -> String {
    let key = (failed.id.clone(), failed.instance_id.clone());
    let known = cx.facts.get::<DatabaseAnswer>();
    let answer = match known.filter(|known| known.failed == key) {
        Some(known) => known.answer.clone(),
        None => {
            let answer = database(cx, machines, failed).await;
            cx.facts.set(DatabaseAnswer {
                failed: key,
                answer: answer.clone(),
            });
            answer
        }
    };
    let ended = failed.exit_since_start().is_some();
    let lines = log_tail(cx, &failed.id, ended).await;
    let lines = lines.map(|tail| format!("its last lines: {tail}"));
    let parts = [answer, lines].into_iter().flatten();
    parts.map(|text| format!("; {text}")).collect()
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

/// What Fly.io's init logs when a program has ended. flyctl matches the same text.
const EXITED: &str = "Main child exited";

/// The last lines that a machine printed, or those up to the end of its program when that has
/// `ended`: in one line, bounded, without secrets. `None` when the logs cannot be read.
pub async fn log_tail(cx: &Cx, id: &str, ended: bool) -> Option<String> {
    let page = cx.fly.logs(&cx.target.app, Some(id), None).await.ok()?;
    let lines = page.lines.iter();
    let lines: Vec<&str> = lines.filter_map(|line| line.message.as_deref()).collect();
    let lines = last(&lines, ended);
    if lines.is_empty() {
        return None;
    }
    let text: String = lines.join(" | ");
    let text = crate::redact::redact(&text).into_owned();
    Some(crate::api::status::one_line(&text, TAIL))
}

/// The last of these lines. A program that is being restarted prints more lines after those that
/// show why it ended.
fn last<'a, 'l>(lines: &'a [&'l str], ended: bool) -> &'a [&'l str] {
    let exit = lines.iter().rposition(|line| line.contains(EXITED));
    let lines = match exit.filter(|_| ended) {
        Some(at) => lines.split_at(at + 1).0,
        None => lines,
    };
    lines.split_at(lines.len().saturating_sub(LINES)).1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_of_a_program_that_is_being_restarted_are_those_before_its_end() {
        let lines = [
            "Machine started",
            "loading all bookings",
            "Out of memory: Killed process",
            "Main child exited with signal (with signal 9)",
            "Machine started",
            "starting",
            "listening",
        ];
        assert_eq!(last(&lines, true), &lines[1..4]);
        assert_eq!(last(&lines, false), &lines[4..]);
        assert_eq!(last(&lines[4..], true), &lines[4..]);
        assert_eq!(last(&lines[..1], true), &lines[..1]);
        assert!(last(&[], true).is_empty());
    }
}
