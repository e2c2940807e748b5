//! How a machine's program is stopped.

use std::time::Duration;

use crate::fly::GoDuration;

use super::problem::nearest;
use super::reader::Reader;

/// Longest `kill_timeout`. Source: fly.io/docs/reference/configuration/.
const MAX_KILL_TIMEOUT: Duration = Duration::from_secs(300);

/// Those that Fly.io documents for `kill_signal`. Source: fly-go `machine_types.go`, StopConfig.
const USUAL: [&str; 8] = [
    "SIGHUP", "SIGINT", "SIGQUIT", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGTERM", "SIGSTOP",
];

/// All of Linux, by number. Source: signal(7), x86.
const LINUX: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// When and how Fly.io stops a program. Source: the Machines API, `stop_config`.
pub(super) fn check(
    reader: &Reader,
    (signal_key, signal): (&str, Option<&str>),
    (timeout_key, timeout): (&str, Option<GoDuration>),
) {
    if let Some(signal) = signal
        && !is_known(signal)
    {
        let meant = nearest(signal, &USUAL)
            .map(|meant| format!("; did you mean {meant}?"))
            .unwrap_or_default();
        let usual = USUAL.join(", ");
        reader.error(
            signal_key,
            format!("there is no signal {signal}; usual ones are {usual}{meant}"),
        );
    } else if let Some(signal) = signal
        && !USUAL.contains(&signal)
    {
        let usual = USUAL.join(", ");
        reader.warn(
            signal_key,
            format!("Fly.io documents {usual}, not {signal}"),
        );
    }
    if let Some(timeout) = timeout.filter(|timeout| timeout.0 > MAX_KILL_TIMEOUT) {
        reader.error(
            timeout_key,
            format!("must be at most 5m, not {timeout}: Fly.io waits no longer"),
        );
    }
}

/// Whether there is such a signal: a number, or a name with or without `SIG`.
fn is_known(text: &str) -> bool {
    if let Ok(number) = text.parse::<usize>() {
        return (1..=LINUX.len()).contains(&number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    LINUX.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, known) in [
            ("SIGTERM", true),
            ("term", true),
            ("SIGWINCH", true),
            ("15", true),
            ("0", false),
            ("32", false),
            ("SIGTREM", false),
            ("", false),
        ] {
            assert_eq!(is_known(text), known, "{text}");
        }
        assert!(USUAL.iter().all(|name| is_known(name)));
    }
}
