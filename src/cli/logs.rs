//! `kubectl golive logs`: log lines of the machines, from Fly.io. The one command that talks to Fly.io: with
//! the token of the person, as flyctl does. It reads no Secret.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::connect::{self, Connection};
use super::output::{Output, say};
use super::style::{Line, Paint, Tone};
use crate::api::duration::Duration as Length;
use crate::fly::{self, Client, Endpoints, Fly, HttpOptions, LogLine, Machine, Token};
use crate::phase::{deploy::fleet::slots, marks::SLOT_KEY};

/// Where flyctl looks for a token, too.
const TOKENS: [&str; 2] = ["FLY_ACCESS_TOKEN", "FLY_API_TOKEN"];

/// Other addresses of Fly.io: of its API and of the Machines API, as for flyctl.
const BASE: &str = "FLY_API_BASE_URL";
const MACHINES_BASE: &str = "FLY_FLAPS_BASE_URL";

/// How often Fly.io is asked for new lines.
const PAUSE: Duration = Duration::from_secs(1);

/// Arguments of `logs`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Lines of all machines of the app, oldest first: also those of the release command, which runs in a
machine of its own; --release-command shows those of its last run alone. Fly.io returns about the last
hundred lines.

You need the ClusterRole activation-view, and a token of Fly.io that may read the app, in
FLY_ACCESS_TOKEN or FLY_API_TOKEN, as for flyctl: fly tokens create readonly ORG

Examples:
  kubectl golive logs shop -n prod
  kubectl golive logs shop --since 10m
  kubectl golive logs shop --release-command
  kubectl golive logs shop -f --machine d428d7a98e64c2")]
pub(super) struct Args {
    /// The Activation.
    name: String,

    /// Only lines of this machine, by its id.
    #[arg(long, value_name = "ID")]
    machine: Option<String>,

    /// Only lines of the last run of the release command.
    #[arg(long, conflicts_with = "machine")]
    release_command: bool,

    /// Only lines that are not older than this, such as 90s or 10m.
    #[arg(long, value_name = "DURATION")]
    since: Option<Length>,

    /// Go on with new lines until Ctrl-C.
    #[arg(short, long)]
    follow: bool,

    #[command(flatten)]
    connection: Connection,
}

/// Why there are no log lines.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Connect(#[from] connect::Error),
    #[error(
        "there is no token of Fly.io: set FLY_ACCESS_TOKEN to one that may read the app, such as of `fly tokens create readonly {0}`"
    )]
    NoToken(String),
    #[error("FLY_ACCESS_TOKEN or FLY_API_TOKEN has no token of Fly.io")]
    Token(#[source] fly::token::TokenError),
    #[error("cannot create a client for Fly.io")]
    Setup(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("cannot read {what} of the app {app}{advice}")]
    Fly {
        what: &'static str,
        app: String,
        advice: &'static str,
        source: Box<fly::Error>,
    },
    #[error(
        "the app {0} has no machine of a release command; without --release-command the lines of all machines are shown"
    )]
    NoCommand(String),
}

/// Reads and prints.
pub(super) async fn run(args: &Args) -> Result<Output, Error> {
    let connected = args.connection.open().await?;
    let activation = connected.activation(&args.name).await?;
    let client = client(&activation.spec.organization)?;
    let app = &activation.spec.app;
    let machine = if args.release_command {
        Some(command_machine(&client, app).await?)
    } else {
        args.machine.clone()
    };
    let oldest = args.since.and_then(|since| {
        let since = SignedDuration::try_from(since.get()).ok()?;
        connected.now().checked_sub(since).ok()
    });
    let paint = Paint::of_stdout();
    let mut next: Option<String> = None;
    loop {
        let page = client.logs(app, machine.as_deref(), next.as_deref());
        let page = page.await.map_err(|error| failed("the log", app, error))?;
        let lines = page.lines.iter().filter(|line| is_since(line, oldest));
        let lines: Vec<Line> = lines.map(line).collect();
        if !say(&paint.text(&lines)) || !args.follow {
            break;
        }
        next = page.next_token.or(next);
        tokio::time::sleep(PAUSE).await;
    }
    Ok(Output::default())
}

fn failed(what: &'static str, app: &str, source: fly::Error) -> Error {
    Error::Fly {
        what,
        app: app.to_owned(),
        advice: advice(&source),
        source: Box::new(source),
    }
}

/// The machine in which the release command ran last; it is destroyed when the command ends, and its lines
/// are still there.
async fn command_machine(client: &Client, app: &str) -> Result<String, Error> {
    let found = client.machines_and_destroyed(app, &[]).await;
    let machines = found.map_err(|error| failed("the machines", app, error))?;
    let machine = last_command(&machines);
    machine.ok_or_else(|| Error::NoCommand(app.to_owned()))
}

/// The id of the newest machine of a release command. Pure.
fn last_command(machines: &[Machine]) -> Option<String> {
    let runs = machines.iter().filter(|machine| {
        let slot = machine.metadata(SLOT_KEY);
        slot.is_some_and(slots::is_release_command)
    });
    let last = runs.max_by_key(|machine| machine.created_at)?;
    Some(last.id.clone())
}

/// A client with the person's token.
fn client(organization: &str) -> Result<Client, Error> {
    let set = TOKENS.iter().filter_map(|name| std::env::var(name).ok());
    let text = set
        .map(|text| text.trim().to_owned())
        .find(|text| !text.is_empty());
    let text = text.ok_or_else(|| Error::NoToken(organization.to_owned()))?;
    let token = Token::parse(&text).map_err(Error::Token)?;
    let mut endpoints = Endpoints::default();
    if let Ok(base) = std::env::var(BASE) {
        endpoints.api = base;
    }
    if let Ok(base) = std::env::var(MACHINES_BASE) {
        endpoints.machines = base;
    }
    let fly = Fly::new(endpoints, HttpOptions::default());
    let fly = fly.map_err(|error| Error::Setup(Box::new(error)))?;
    Ok(fly.client(token))
}

/// What a person does about a refusal.
fn advice(error: &fly::Error) -> &'static str {
    if error.is_forbidden() {
        "; the token may not read it"
    } else if error.is_gone() {
        "; there is no such app that this token sees"
    } else {
        ""
    }
}

/// Whether a line is new enough. One without a time is shown.
fn is_since(line: &LogLine, oldest: Option<Timestamp>) -> bool {
    let time = line.timestamp.as_deref().and_then(|time| time.parse().ok());
    match (time, oldest) {
        (Some(time), Some(oldest)) => oldest <= time,
        _ => true,
    }
}

/// Time, machine and text of a line. Pure.
fn line(found: &LogLine) -> Line {
    let time = found.timestamp.as_deref().unwrap_or_default();
    let time = match time.parse::<Timestamp>() {
        Ok(time) => time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        Err(_) => time.to_owned(),
    };
    let provider = found
        .provider()
        .map(|provider| provider.as_str().to_owned());
    let place = match (provider, &found.instance) {
        (Some(provider), Some(machine)) => format!("{provider}[{machine}]"),
        (None, Some(machine)) => machine.clone(),
        (Some(provider), None) => provider,
        (None, None) => String::new(),
    };
    let level = found.level.as_deref().unwrap_or_default();
    let tone = match level {
        "error" | "fatal" => Tone::Bad,
        "warn" | "warning" => Tone::Warn,
        _ => Tone::Plain,
    };
    let text = found.message.as_deref().unwrap_or_default();
    Line::default().and(
        tone,
        format!("{time} {place} [{level}] {}", text.trim_end()),
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn found(time: &str, message: &str) -> LogLine {
        let line = serde_json::json!({
            "timestamp": time, "message": message, "level": "info", "instance": "d428d7a98e64c2",
            "meta": {"event": {"provider": "app"}},
        });
        serde_json::from_value(line).unwrap()
    }

    #[test]
    fn a_line_has_its_time_its_machine_and_no_commands_for_the_terminal() {
        let line = line(&found("2026-12-01T02:32:09.179908Z", "live\u{1b}[2J\n"));
        let text = Paint(false).text(&[line]);
        assert!(
            text.starts_with("2026-12-01T02:32:09Z app[d428d7a98e64c2] [info] live"),
            "{text}"
        );
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn the_machine_of_the_release_command_is_that_of_its_last_run() {
        let machine = |id: &str, slot: &str, created: &str| -> Machine {
            let machine = serde_json::json!({
                "id": id, "created_at": created, "config": {"metadata": {SLOT_KEY: slot}},
            });
            serde_json::from_value(machine).unwrap()
        };
        let first = slots::release_command(1, "aaaaaaaaaa");
        let second = slots::release_command(2, "bbbbbbbbbb");
        let machines = [
            machine("app", "app/0", "2026-12-01T04:00:00Z"),
            machine("second", &second, "2026-12-01T02:00:00Z"),
            machine("first", &first, "2026-12-01T01:00:00Z"),
            machine("seed", &slots::seed_command(), "2026-12-01T03:00:00Z"),
        ];
        assert_eq!(last_command(&machines).as_deref(), Some("second"));
        assert_eq!(last_command(&machines[..1]), None);
    }

    #[test]
    fn what_is_older_than_since_is_left_out_and_a_line_without_a_time_is_not() {
        let oldest = Some("2026-12-01T02:00:00Z".parse().unwrap());
        assert!(is_since(&found("2026-12-01T02:00:01Z", "a"), oldest));
        assert!(!is_since(&found("2026-12-01T01:59:59Z", "a"), oldest));
        assert!(is_since(&found("", "a"), oldest));
        assert!(is_since(&found("2026-12-01T01:59:59Z", "a"), None));
    }
}
