//! Log lines over HTTP. Source: fly.io/docs/monitoring/logs-api-options/.

use serde_json::Value;

use super::call::Endpoint;
use super::error::Result;
use super::token::Surface::Logs;
use super::wire::{Items, wire, wire_enum};
use crate::fly::call::client::Client;

wire! {
    /// A log line. Foreign text: truncate and redact it before showing it.
    pub struct LogLine {
        /// Time in RFC 3339 with nanoseconds.
        pub timestamp: Option<String>,
        /// The text.
        pub message: Option<String>,
        /// `info`, `error`, …
        pub level: Option<String>,
        /// Machine.
        pub instance: Option<String>,
        /// Region.
        pub region: Option<String>,
        /// More about it.
        pub meta: Option<LogMeta>,
    }

    /// More about a log line.
    pub struct LogMeta {
        /// Where it comes from.
        pub event: Option<LogEvent>,
    }

    /// Where a log line comes from.
    pub struct LogEvent {
        /// What wrote it.
        pub provider: Option<LogProvider>,
    }

    /// A log line in the response's envelope.
    pub struct LogEntry {
        /// Id.
        pub id: Option<String>,
        /// The line.
        pub attributes: Option<LogLine>,
    }
}

wire_enum! {
    /// What wrote a log line, the word before the machine's id in the output of `fly logs`.
    pub enum LogProvider {
        /// The program, or the init process that runs it.
        App = "app",
        /// The host.
        Runner = "runner",
        /// Fly.io's proxy: why it could not pass on a request.
        Proxy = "proxy",
        /// A health check that has begun to pass or to fail.
        Health = "health",
    }
}

impl LogLine {
    /// What wrote it, if Fly.io says so.
    pub fn provider(&self) -> Option<&LogProvider> {
        self.meta.as_ref()?.event.as_ref()?.provider.as_ref()
    }
}

/// Some log lines, oldest first.
#[derive(Clone, Debug, PartialEq)]
pub struct LogPage {
    /// The lines.
    pub lines: Vec<LogLine>,
    /// For the next call. An unchanged token means that there are no new lines.
    pub next_token: Option<String>,
}

const LOGS: Endpoint = Endpoint::read(Logs, "GET /api/v1/apps/{app}/logs").list();

impl Client {
    /// Log lines of an app or of one machine: about the last hundred, or those after `next_token`.
    pub async fn logs(
        &self,
        app: &str,
        machine: Option<&str>,
        next_token: Option<&str>,
    ) -> Result<LogPage> {
        let reply = self
            .call(&LOGS, &[app])
            .query("next_token", next_token.unwrap_or_default())
            .query_if("instance", machine)
            .send()
            .await?;
        let mut json: Value = reply.json(&LOGS)?;
        let token = json
            .get("meta")
            .and_then(|meta| meta.get("next_token"))
            .cloned();
        let data = json.get_mut("data").map(Value::take).unwrap_or_default();
        let entries: Items<LogEntry> = serde_json::from_value(data).unwrap_or_default();
        Ok(LogPage {
            lines: entries
                .0
                .into_iter()
                .filter_map(|entry| entry.attributes)
                .collect(),
            next_token: match token {
                Some(Value::String(text)) if !text.is_empty() => Some(text),
                Some(Value::Number(number)) => Some(number.to_string()),
                _ => None,
            },
        })
    }
}
