//! Reads a page of metrics, entry by entry.
//!
//! Sources: prometheus/docs, `exposition_formats.md` (text format 0.0.4, and quoted names in UTF-8) and
//! OpenMetrics 1.0, `open_metrics_spec.md`.

use std::borrow::Cow;

use super::fault::{Fault, MAX_LINE, MAX_SAMPLES, Problem};
use super::labels::{Labels, Raw, blanks, braces, plain_name, quoted};

/// What is asked for: OpenMetrics first.
pub const ACCEPT: &str =
    "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";

/// The format of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text format 0.0.4, and 1.0.0 with names in UTF-8.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// The format that a `Content-Type` names; none for another type. Without the header it is the text
    /// format, which old exporters do not name.
    #[must_use]
    pub fn of(content_type: Option<&str>) -> Option<Self> {
        let Some(text) = content_type else {
            return Some(Self::Text);
        };
        let media = text.split(';').next().unwrap_or_default().trim();
        match media.to_ascii_lowercase().as_str() {
            "text/plain" | "" => Some(Self::Text),
            "application/openmetrics-text" => Some(Self::OpenMetrics),
            _ => None,
        }
    }
}

/// The type of a metric.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Only increases, except at a restart.
    Counter,
    /// A value.
    Gauge,
    /// Counts by upper bound.
    Histogram,
    /// Quantiles.
    Summary,
    /// Counts by upper bound that may decrease (OpenMetrics).
    GaugeHistogram,
    /// Texts (OpenMetrics).
    Info,
    /// Booleans (OpenMetrics).
    StateSet,
    /// Not known: `untyped`, `unknown`, or no line says it.
    #[default]
    Unknown,
}

/// One line that means something.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry<'a> {
    /// The type of a family of metrics.
    Type {
        /// Name of the family; a sample's name may have a suffix more.
        family: Cow<'a, str>,
        /// The type.
        kind: Kind,
    },
    /// A sample.
    Sample(Sample<'a>),
}

/// A sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample<'a> {
    /// Its name, with the suffix.
    pub name: Cow<'a, str>,
    /// Its labels.
    pub labels: Labels<'a>,
    /// Its value; may be NaN or infinite.
    pub value: f64,
    /// Its time.
    ///
    /// Unit: milliseconds since 1970.
    pub time: Option<i64>,
}

/// Reads a page. Ends after the first problem.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a str,
    format: Format,
    line: u32,
    samples: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// After `# EOF`.
    Ended,
    /// After the end of the page, or after a problem.
    Done,
    NotUtf8,
}

impl<'a> Reader<'a> {
    /// A reader of this page.
    #[must_use]
    pub fn new(page: &'a [u8], format: Format) -> Self {
        let (rest, state) = match std::str::from_utf8(page) {
            Ok(text) => (text, State::Open),
            Err(_) => ("", State::NotUtf8),
        };
        Self {
            rest,
            format,
            line: 0,
            samples: 0,
            state,
        }
    }

    /// The line of the last entry, from 1 on.
    #[must_use]
    pub fn line_number(&self) -> u32 {
        self.line.max(1)
    }

    /// The next line without its end; none at the end of the page.
    fn line(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        self.line = self.line.saturating_add(1);
        let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        self.rest = rest;
        Some(line)
    }

    /// What a line means; none for a comment.
    fn entry(&mut self, line: &'a str) -> Result<Option<Entry<'a>>, Fault> {
        if line.len() > MAX_LINE {
            return Err(Fault::LongLine);
        }
        if self.state == State::Ended {
            return Err(Fault::AfterEnd);
        }
        let is_open = self.format == Format::OpenMetrics;
        let line = if is_open { line } else { blanks(line) };
        match line.as_bytes() {
            [] if is_open => Err(Fault::Comment),
            [] => Ok(None),
            b"# EOF" if is_open => {
                self.state = State::Ended;
                Ok(None)
            }
            [b'#', ..] => comment(&line[1..], is_open),
            _ if self.samples == MAX_SAMPLES => Err(Fault::TooManySamples),
            _ => {
                self.samples += 1;
                sample(line, is_open).map(|sample| Some(Entry::Sample(sample)))
            }
        }
    }

    fn problem(&mut self, fault: Fault) -> Problem {
        self.state = State::Done;
        let line = self.line_number();
        Problem { line, fault }
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Result<Entry<'a>, Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.state {
            State::Done => return None,
            State::NotUtf8 => return Some(Err(self.problem(Fault::NotUtf8))),
            State::Open | State::Ended => {}
        }
        while let Some(line) = self.line() {
            match self.entry(line) {
                Ok(None) => {}
                Ok(Some(entry)) => return Some(Ok(entry)),
                Err(fault) => return Some(Err(self.problem(fault))),
            }
        }
        if self.format == Format::OpenMetrics && self.state == State::Open {
            return Some(Err(self.problem(Fault::NoEnd)));
        }
        self.state = State::Done;
        None
    }
}

/// What a line after `#` means.
fn comment(text: &str, is_open: bool) -> Result<Option<Entry<'_>>, Fault> {
    let text = if is_open {
        text.strip_prefix(' ').ok_or(Fault::Comment)?
    } else {
        blanks(text)
    };
    let end = text.find([' ', '\t']).unwrap_or(text.len());
    let (keyword, rest) = text.split_at(end);
    match keyword {
        "TYPE" => {}
        "HELP" | "UNIT" => return Ok(None),
        _ if is_open => return Err(Fault::Comment),
        _ => return Ok(None),
    }
    let rest = blanks(rest);
    let (family, kind) = if rest.starts_with('"') {
        quoted(rest).map_err(|_| Fault::Name)?
    } else {
        let end = plain_name(rest.as_bytes(), true);
        (Raw::plain(&rest[..end]), &rest[end..])
    };
    let family = family.text();
    if family.is_empty() || !kind.starts_with([' ', '\t']) {
        return Err(Fault::Name);
    }
    let kind = match (kind.trim_matches([' ', '\t']), is_open) {
        ("counter", _) => Kind::Counter,
        ("gauge", _) => Kind::Gauge,
        ("histogram", _) => Kind::Histogram,
        ("summary", _) => Kind::Summary,
        ("untyped", false) | ("unknown", true) => Kind::Unknown,
        ("gaugehistogram", true) => Kind::GaugeHistogram,
        ("info", true) => Kind::Info,
        ("stateset", true) => Kind::StateSet,
        _ => return Err(Fault::Type),
    };
    Ok(Some(Entry::Type { family, kind }))
}

/// Reads a sample.
fn sample(line: &str, is_open: bool) -> Result<Sample<'_>, Fault> {
    let end = plain_name(line.as_bytes(), true);
    let (name, rest) = line.split_at(end);
    let after = blanks(rest);
    let (name, labels, rest) = match after.strip_prefix('{') {
        Some(inside) => match (name, braces(inside)?) {
            ("", (Some(quoted), labels, rest)) => (quoted, labels, rest),
            ("", (None, ..)) => return Err(Fault::Name),
            (_, (Some(_), ..)) => return Err(Fault::Labels),
            (name, (None, labels, rest)) => (Raw::plain(name), labels, rest),
        },
        None if name.is_empty() || after.len() == rest.len() => return Err(Fault::Name),
        None => (Raw::plain(name), Labels::default(), rest),
    };
    let name = name.text();
    if name.is_empty() {
        return Err(Fault::Name);
    }
    let (value, rest) = token(blanks(rest));
    let value = number(value).ok_or(Fault::Value)?;
    let rest = blanks(rest);
    if rest.is_empty() {
        let time = None;
        return Ok(Sample {
            name,
            labels,
            value,
            time,
        });
    }
    let (time, rest) = if is_open && rest.starts_with('#') {
        (None, rest)
    } else {
        let (time, rest) = token(rest);
        (Some(milliseconds(time, is_open)?), blanks(rest))
    };
    match rest.strip_prefix("# {") {
        _ if rest.is_empty() => {}
        Some(inside) if is_open => exemplar(inside)?,
        _ => return Err(Fault::Trailing),
    }
    Ok(Sample {
        name,
        labels,
        value,
        time,
    })
}

/// Checks an exemplar after its opening brace: labels, a value, and perhaps a time.
fn exemplar(inside: &str) -> Result<(), Fault> {
    let (name, _, rest) = braces(inside)?;
    if name.is_some() {
        return Err(Fault::Labels);
    }
    let (value, rest) = token(blanks(rest));
    number(value).ok_or(Fault::Value)?;
    let (time, rest) = token(blanks(rest));
    if !time.is_empty() {
        milliseconds(time, true)?;
    }
    match blanks(rest).is_empty() {
        true => Ok(()),
        false => Err(Fault::Trailing),
    }
}

/// The text up to a blank, and the rest.
fn token(text: &str) -> (&str, &str) {
    let end = text.bytes().position(|byte| matches!(byte, b' ' | b'\t'));
    text.split_at(end.unwrap_or(text.len()))
}

/// Most digits of a number that is added up as an integer: such a number is exact in an `f64`.
const EXACT_DIGITS: usize = 15;

/// A number: decimal, `NaN`, `+Inf` or `-Inf`.
fn number(text: &str) -> Option<f64> {
    let bytes = text.as_bytes();
    if (1..=EXACT_DIGITS).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_digit) {
        let add = |sum: u64, byte: &u8| sum * 10 + u64::from(byte - b'0');
        return Some(bytes.iter().fold(0, add) as f64);
    }
    text.parse().ok()
}

/// A time: whole milliseconds in the text format, seconds in OpenMetrics.
fn milliseconds(text: &str, is_open: bool) -> Result<i64, Fault> {
    if !is_open {
        return text.parse().map_err(|_| Fault::Time);
    }
    let seconds: f64 = text.parse().map_err(|_| Fault::Time)?;
    match seconds.is_finite() {
        true => Ok((seconds * 1000.0).round() as i64),
        false => Err(Fault::Time),
    }
}
