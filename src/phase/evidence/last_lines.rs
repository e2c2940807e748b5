//! The last lines that a program printed, without those that Fly.io prints around it.

use crate::{
    api::status::one_line,
    error::Error,
    fly::{LogLine, logs::LogProvider},
    pipeline::{Cx, step::Result},
};

/// Most bytes of them in a message, which has 1024: the rest is for what happened and what to do.
const MOST_BYTES: usize = 640;

/// Most lines.
const MOST_LINES: usize = 20;

/// Most bytes of one line.
const LONGEST_LINE: usize = 280;

/// What Fly.io's init logs when a program has ended. flyctl matches the same text.
const EXITED: &str = "Main child exited";

/// The last lines that a machine's program printed, or those up to its end when it has `ended`: in one
/// line, bounded, without secrets. `None` when the logs cannot be read or the program printed nothing.
///
/// # Errors
/// While Fly.io has not answered.
pub async fn of(cx: &Cx, id: &str, ended: bool) -> Result<Option<String>> {
    let (fly, app, machine) = (cx.fly.clone(), cx.target.app.clone(), id.to_owned());
    let read = || async move { fly.logs(&app, Some(&machine), None).await.ok() };
    let page = cx
        .outside
        .ask_and_keep(&format!("logs of {id}"), "", read)
        .await;
    let Some(page) = page.ok_or_else(|| Error::Awaited("the log of Fly.io".to_owned()))? else {
        return Ok(None);
    };
    let lines = own(&page.lines, ended);
    let lines = lines.iter().map(|line| crate::redact::redact(line));
    let lines: Vec<String> = lines.map(|line| one_line(&line, LONGEST_LINE)).collect();
    Ok(shorten(&lines))
}

/// What the program printed. A program that is being restarted prints more lines after those that show
/// why it ended.
fn own(lines: &[LogLine], ended: bool) -> Vec<String> {
    let printed = |line: &LogLine| without_colours(line.message.as_deref().unwrap_or_default());
    let exits = |line: &LogLine| printed(line).contains(EXITED);
    let exit = lines.iter().rposition(exits).filter(|_| ended);
    let until = exit.unwrap_or(lines.len());
    let before = lines.get(..until).unwrap_or_default();
    // The lines of the start before are about another failure.
    let begin = exit.and_then(|_| before.iter().rposition(exits));
    let own = before.get(begin.map_or(0, |at| at + 1)..);
    own.unwrap_or_default()
        .iter()
        .filter(|line| {
            let provider = line.provider();
            !matches!(provider, Some(LogProvider::Proxy | LogProvider::Health))
        })
        .map(printed)
        .filter(|printed| !printed.trim().is_empty() && !is_platform(printed))
        .collect()
}

/// What Fly.io's host and init print around a program. What they print about a failure is no part of
/// it: `Out of memory: Killed process`, `failed to spawn command`, `failed to launch VM`.
/// Source: the output of `fly logs` in fly.io/docs/monitoring and community.fly.io.
const PLATFORM: [&str; 30] = [
    "Pulling container image",
    "Successfully prepared image",
    "Configuring firecracker",
    "Configuring virtual machine",
    "Starting instance",
    "Starting virtual machine",
    "Starting machine",
    "Machine started",
    "Machine created",
    "Starting init",
    "Preparing to run",
    "Setting up volume",
    "Uninitialized volume",
    "Encrypting volume",
    "Formatting volume",
    "Opening encrypted volume",
    "Mounting /dev/",
    "Umounting /dev/",
    "could not unmount /rootfs",
    "Resized /",
    "[fly api proxy]",
    "Sending signal",
    "Main child exited",
    "Starting clean up",
    "hallpass exited",
    "machine exited with exit code",
    "machine did not have a restart policy",
    "machine restart policy set to",
    "machine has reached its max restart count",
    "Virtual machine exited abruptly",
];

/// Whether a line is one of those that the platform prints around every program.
fn is_platform(printed: &str) -> bool {
    let printed = printed.trim_start();
    let begin = ["INFO ", "WARN ", "DEBUG "]
        .iter()
        .find_map(|level| printed.strip_prefix(level))
        .unwrap_or(printed);
    PLATFORM.iter().any(|known| begin.starts_with(known))
        || is_kernel(printed)
        // The SSH server of every machine.
        || begin.contains("SSH listening listen_address=")
        || begin.contains("listening on [fdaa:")
}

/// Whether a line is the kernel's, such as `[    0.994752] reboot: Restarting system`.
fn is_kernel(printed: &str) -> bool {
    let stamp = printed
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'));
    stamp.is_some_and(|(time, said)| {
        time.trim().contains('.')
            && time
                .trim()
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b'.')
            // Why it killed the program.
            && !said.to_ascii_lowercase().contains("out of memory")
    })
}

/// Without the escape sequences that colour a terminal.
fn without_colours(coloured: &str) -> String {
    let mut plain = String::with_capacity(coloured.len());
    let mut chars = coloured.chars();
    while let Some(c) = chars.next() {
        if c != '\u{1b}' {
            plain.push(c);
            continue;
        }
        // `ESC [ parameters letter`; any other sequence is one character long.
        if chars.next() == Some('[') {
            for c in chars.by_ref() {
                if c.is_ascii_alphabetic() {
                    break;
                }
            }
        }
    }
    plain
}

/// As many of the last lines as fit. Where not all do, the frames of a stack trace are left out
/// first: what they lead to stands before or after them.
fn shorten(lines: &[String]) -> Option<String> {
    let fits = |lines: &[&str]| {
        lines.len() <= MOST_LINES
            && lines.iter().map(|line| line.len() + 3).sum::<usize>() <= MOST_BYTES
    };
    let all: Vec<&str> = lines.iter().map(String::as_str).collect();
    let mut kept = match fits(&all) {
        true => all,
        false => all.into_iter().filter(|line| !is_frame(line)).collect(),
    };
    while !fits(&kept) && kept.len() > 1 {
        kept.remove(0);
    }
    (!kept.is_empty()).then(|| kept.join(" | "))
}

/// Whether a line is a frame of a stack trace of JavaScript, Java, Ruby or Python.
fn is_frame(printed: &str) -> bool {
    let begin = printed.trim_start();
    ["at ", "from ", "File \"", "^^^"]
        .iter()
        .any(|frame| begin.starts_with(frame))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn log(lines: &[&str]) -> Vec<LogLine> {
        let line = |printed: &&str| serde_json::from_value(json!({"message": printed})).unwrap();
        lines.iter().map(line).collect()
    }

    #[test]
    fn the_last_lines_of_a_program_that_is_being_restarted_are_those_before_its_end() {
        let lines = log(&[
            "Machine started",
            "loading all bookings",
            "Out of memory: Killed process",
            "Main child exited with signal (with signal 9)",
            "Machine started",
            "starting",
            "listening",
        ]);
        assert_eq!(
            own(&lines, true),
            ["loading all bookings", "Out of memory: Killed process"]
        );
        assert_eq!(own(&lines, false).last().unwrap(), "listening");
        assert_eq!(own(&lines[4..], true), ["starting", "listening"]);
        assert!(own(&lines[..1], true).is_empty());
        assert!(own(&[], true).is_empty());
        // Of two ends the last one counts.
        let twice: Vec<LogLine> = [&lines[..4], &lines[5..6], &lines[3..4]].concat();
        assert_eq!(own(&twice, true), ["starting"]);
    }

    #[test]
    fn lines_of_the_platform_and_blank_ones_are_no_evidence() {
        let lines = log(&[
            "Pulling container image registry.fly.io/shop:1",
            "Successfully prepared image registry.fly.io/shop:1 (1.2s)",
            "Configuring firecracker",
            " INFO Starting init (commit: 8995e367)...",
            "[    0.266117] PCI: Fatal: No config space access function found",
            " INFO Preparing to run: `bin/migrate` as root",
            " INFO [fly api proxy] listening at /.fly/api",
            "2026/11/30 02:00:00 INFO SSH listening listen_address=[fdaa:0:1::2]:22 dns_server=[fdaa::3]:53",
            "Machine started in 1.1s",
            "\u{1b}[31merror: unexpected argument '&&' found\u{1b}[0m",
            "",
            "  ",
            "For more information, try '--help'.",
            " INFO Main child exited normally with code: 2",
            " INFO Starting clean up.",
            "[    0.994752] reboot: Restarting system",
        ]);
        let printed = [
            "error: unexpected argument '&&' found",
            "For more information, try '--help'.",
        ];
        assert_eq!(own(&lines, true), printed);
        assert_eq!(own(&lines, false), printed);
        let kept = log(&[
            "[   12.345678] Out of memory: Killed process 318 (node)",
            " ERROR Error: failed to spawn command: ./shop: No such file or directory (os error 2)",
            "failed to launch VM: ./shop: executable file not found in $PATH",
            "[2026-11-30] GET /",
        ]);
        assert_eq!(own(&kept, true).len(), kept.len());
    }

    #[test]
    fn what_the_proxy_and_the_checks_say_was_not_printed_by_the_program() {
        let of = |provider: &str| -> LogLine {
            let meta = json!({"event": {"provider": provider}});
            serde_json::from_value(json!({"message": provider, "meta": meta})).unwrap()
        };
        let lines = ["app", "runner", "proxy", "health", "new"].map(of);
        assert_eq!(own(&lines, false), ["app", "runner", "new"]);
    }

    #[test]
    fn as_many_lines_as_fit_are_kept_from_the_end_and_frames_go_first() {
        let many: Vec<String> = (0..50).map(|n| format!("line {n}")).collect();
        let text = shorten(&many).unwrap();
        assert!(
            text.starts_with("line 30 | ") && text.ends_with("line 49"),
            "{text}"
        );
        let mut trace = vec!["Error: Cannot find module 'express'".to_owned()];
        trace.extend(
            (0..80).map(|n| format!("    at Module._load (node:internal/modules/cjs/loader:{n})")),
        );
        trace.push("Node.js v20.11.0".to_owned());
        assert_eq!(
            shorten(&trace).unwrap(),
            "Error: Cannot find module 'express' | Node.js v20.11.0"
        );
        assert_eq!(shorten(&[]), None);
        let long = vec!["x".repeat(LONGEST_LINE); 5];
        assert!(shorten(&long).unwrap().len() <= MOST_BYTES);
    }
}
