//! Logging: one line per event, as JSON for machines or as text for people.
//!
//! A line contains the fields of the surrounding spans: object, phase and step. Two guarantees hold
//! for every line: it contains no secret value of the object that it is about, and it can neither
//! forge another line nor change the display of a terminal, because control characters, line ends
//! and bidirectional marks are escaped. tracing-subscriber's own JSON formatter offers neither
//! redaction of values before they are escaped nor this escaping, and nests the fields of spans.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::io::{self, Write};

use jiff::Timestamp;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Registry};

use crate::clock::Now;
use crate::process::settings::LogFormat;
use crate::redact::Redactor;

/// Starts logging to standard error for the whole process, with the process-wide redactor.
///
/// Does nothing if logging was started before.
pub fn start(format: LogFormat, filter: &str, now: Now) -> Result<(), ParseError> {
    let filter = EnvFilter::try_new(filter)?;
    let lines = Lines::new(format, crate::redact::global().clone(), now, io::stderr);
    // An error means that a logger is installed already, as in a test that starts two operators.
    let _ = tracing::subscriber::set_global_default(Registry::default().with(filter).with(lines));
    Ok(())
}

/// The span of one reconcile of one object. Contains [`phase`] and [`step`].
pub fn object(namespace: &str, name: &str) -> tracing::Span {
    tracing::info_span!("reconcile", object = %format_args!("{namespace}/{name}"))
}

/// The span of one phase.
pub fn phase(phase: &'static str) -> tracing::Span {
    tracing::info_span!("phase", phase)
}

/// The span of one step.
pub fn step(step: &'static str) -> tracing::Span {
    tracing::info_span!("step", step)
}

/// Logs a panic as one redacted line with its source location, instead of the standard hook's
/// output, which bypasses the redactor.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("no message");
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        tracing::error!(panic = message, %place, "panicked");
    }));
}

/// Escapes text for a terminal and a line-based log: control characters, line and paragraph
/// separators, and invisible or bidirectional marks become `\u{202e}`.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(must_be_escaped) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if must_be_escaped(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Whether a character affects the surrounding text instead of being displayed.
fn must_be_escaped(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' // soft hyphen
            | '\u{61c}' // Arabic letter mark
            | '\u{200b}'..='\u{200f}' // zero width, left-to-right and right-to-left marks
            | '\u{2028}'..='\u{202e}' // separators, embeddings, overrides
            | '\u{2060}'..='\u{206f}' // invisible operators, isolates
            | '\u{feff}' // byte order mark
            | '\u{fff9}'..='\u{fffb}' // interlinear annotation
            | '\u{e0000}'..='\u{e007f}') // tags
}

/// The layer that writes a line per event.
struct Lines<W> {
    format: LogFormat,
    redactor: Redactor,
    now: Now,
    /// Opens the writer of one line.
    open: W,
}

impl<W, O> Lines<W>
where
    W: Fn() -> O + 'static,
    O: Write,
{
    fn new(format: LogFormat, redactor: Redactor, now: Now, open: W) -> Lines<W> {
        Lines {
            format,
            redactor,
            now,
            open,
        }
    }

    fn line(&self, level: Level, target: &str, fields: Map<String, Value>) -> String {
        let now = (self.now)();
        // The fields were redacted before they were escaped. The line is not redacted as a whole: its
        // own parts are no secrets, and a value that looks like them must not hide them.
        match self.format {
            LogFormat::Json => json_line(now, level, target, fields),
            LogFormat::Text => text_line(now, level, target, &fields),
        }
    }
}

impl<S, W, O> Layer<S> for Lines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Fn() -> O + 'static,
    O: Write,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            // Which object, phase and step a line is about is no secret.
            let own = attributes.metadata().target() == module_path!();
            let mut fields = Fields::new((!own).then_some(&self.redactor));
            attributes.record(&mut fields);
            span.extensions_mut().insert(SpanFields(fields.map));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::new(Some(&self.redactor));
            values.record(&mut fields);
            if let Some(known) = span.extensions_mut().get_mut::<SpanFields>() {
                known.0.append(&mut fields.map);
            }
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut all = Map::new();
        for span in context
            .event_scope(event)
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .iter()
            .rev()
            // kube's own span names the object once more.
            .filter(|span| !span.metadata().target().starts_with("kube_runtime"))
        {
            if let Some(known) = span.extensions().get::<SpanFields>() {
                all.extend(known.0.clone());
            }
        }
        let mut fields = Fields::new(Some(&self.redactor));
        event.record(&mut fields);
        all.extend(fields.map);
        let mut line = self.line(*event.metadata().level(), event.metadata().target(), all);
        line.push('\n');
        // An unwritable log cannot be reported.
        let _ = (self.open)().write_all(line.as_bytes());
    }
}

/// The fields of one span.
struct SpanFields(Map<String, Value>);

/// Collects fields, each value redacted.
struct Fields<'a> {
    /// What is redacted beside the values of the object that the line is about.
    redactor: Option<&'a Redactor>,
    map: Map<String, Value>,
}

impl Fields<'_> {
    fn new(redactor: Option<&Redactor>) -> Fields<'_> {
        Fields {
            redactor,
            map: Map::new(),
        }
    }

    fn text(&mut self, field: &Field, text: &str) {
        let text = match self.redactor {
            Some(redactor) => redactor.redact(&crate::redact::redact(text)).into_owned(),
            None => text.to_owned(),
        };
        self.map
            .insert(field.name().to_owned(), Value::String(text));
    }

    fn value(&mut self, field: &Field, value: impl Into<Value>) {
        self.map.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.value(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.value(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.value(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.value(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.text(field, &crate::causes::chain(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, &format!("{value:?}"));
    }
}

fn json_line(now: Timestamp, level: Level, target: &str, fields: Map<String, Value>) -> String {
    let mut line = Map::new();
    line.insert("time".to_owned(), stamp(now).into());
    line.insert("level".to_owned(), level.as_str().into());
    line.insert("target".to_owned(), target.into());
    for (name, value) in fields {
        // A field cannot replace the line's own fields.
        let taken = matches!(name.as_str(), "time" | "level" | "target");
        line.insert(if taken { format!("field_{name}") } else { name }, value);
    }
    // JSON requires control characters to be escaped, but not bidirectional marks.
    let line = Value::Object(line).to_string();
    let mut out = String::with_capacity(line.len());
    for c in line.chars() {
        if must_be_escaped(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

fn text_line(now: Timestamp, level: Level, target: &str, fields: &Map<String, Value>) -> String {
    let message = fields
        .get("message")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let mut line = format!("{} {level:>5} {}", stamp(now), escape(message));
    let mut rest: Vec<(&String, &Value)> = fields
        .iter()
        .filter(|(name, _)| *name != "message")
        .collect();
    // The subject of a line comes first.
    let first = ["object", "phase", "step"];
    rest.sort_by_key(|(name, _)| {
        let rank = first.iter().position(|f| f == name);
        (rank.unwrap_or(first.len()), *name)
    });
    for (name, value) in rest {
        let value = match value {
            Value::String(text) if is_plain(text) => text.clone(),
            Value::String(text) => escape(&format!(
                "\"{}\"",
                text.replace('\\', "\\\\").replace('"', "\\\"")
            ))
            .into_owned(),
            other => other.to_string(),
        };
        let _ = write!(line, " {name}={value}");
    }
    // The target is written for lines of other crates only.
    if !target.starts_with("golive") {
        let _ = write!(line, " target={target}");
    }
    line
}

/// Whether a value needs no quotes in a text line.
fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && !text.contains(|c: char| c.is_whitespace() || c == '"' || c == '=' || c == '\\')
        && !text.chars().any(must_be_escaped)
}

/// RFC 3339 in milliseconds.
fn stamp(now: Timestamp) -> String {
    format!("{now:.3}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use secrecy::SecretString;
    use std::sync::{Arc, Mutex};

    /// Lines of a logger of one test.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn log(format: LogFormat, redactor: &Redactor, act: impl FnOnce()) -> Vec<String> {
        let written = Written::default();
        let writer = written.clone();
        let now: Now = || "2026-11-24T12:00:00.5Z".parse().unwrap();
        let lines = Lines::new(format, redactor.clone(), now, move || writer.clone());
        tracing::subscriber::with_default(Registry::default().with(lines), act);
        let bytes = written.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_line_names_the_object_the_phase_and_the_step() {
        let act = || {
            let _object = object("cabanas", "mvp").entered();
            let _phase = phase("Provision").entered();
            let _step = step("Postgres").entered();
            tracing::info!(attempt = 2, "waiting for the cluster");
        };
        let lines = log(LogFormat::Json, &Redactor::default(), act);
        let line: Value = serde_json::from_str(&lines[0]).unwrap();
        let expected = serde_json::json!({
            "time": "2026-11-24T12:00:00.500Z", "level": "INFO", "target": module_path!(),
            "object": "cabanas/mvp", "phase": "Provision", "step": "Postgres",
            "attempt": 2, "message": "waiting for the cluster",
        });
        assert_eq!(line, expected);

        let lines = log(LogFormat::Text, &Redactor::default(), act);
        assert_eq!(
            lines,
            ["2026-11-24T12:00:00.500Z  INFO waiting for the cluster \
              object=cabanas/mvp phase=Provision step=Postgres attempt=2"]
        );
    }

    #[test]
    fn no_text_can_forge_a_line_or_turn_a_terminal() {
        let evil = "x\n{\"level\":\"ERROR\"}\r\u{1b}[2J\u{202e}\u{2066}\u{85}\u{2028}\u{7f}";
        for format in [LogFormat::Json, LogFormat::Text] {
            let lines = log(format, &Redactor::default(), || {
                tracing::info!(name = evil, debug = ?evil, "said {evil}");
            });
            assert_eq!(lines.len(), 1, "{format:?}");
            assert!(
                !lines[0].chars().any(must_be_escaped),
                "{format:?}: {}",
                lines[0]
            );
        }
        let lines = log(LogFormat::Json, &Redactor::default(), || {
            tracing::info!(name = evil, "said");
        });
        let line: Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(line["name"], evil, "machines read what was said");
    }

    #[test]
    fn a_field_cannot_pose_as_the_level_of_a_line() {
        let lines = log(LogFormat::Json, &Redactor::default(), || {
            tracing::info!(level = "ERROR", "hello");
        });
        let line: Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["field_level"], "ERROR");
    }

    #[test]
    fn a_secret_is_in_no_line_of_any_format() {
        let redactor = Redactor::default();
        let value = "hun\"ter2\\ñ \nhunter2";
        let _guarded = redactor.guard(SecretString::from(value));
        for format in [LogFormat::Json, LogFormat::Text] {
            let lines = log(format, &redactor, || {
                let error = io::Error::other(format!("bad password {value}"));
                let _span = tracing::info_span!("s", said = value).entered();
                let error = &error as &dyn std::error::Error;
                tracing::error!(field = value, debug = ?value, error, "message {value}");
            });
            assert_eq!(lines.len(), 1);
            assert!(!lines[0].contains("ter2"), "{format:?}: {}", lines[0]);
            let count = lines[0].matches(crate::redact::REDACTED).count();
            assert_eq!(count, 5, "{format:?}: {}", lines[0]);
        }
    }

    #[test]
    fn ordinary_text_is_left_alone() {
        let text = "Cabañas «del sur» 🏡 — 漢字";
        assert!(matches!(escape(text), Cow::Borrowed(_)));
    }
}
