//! Reads a tree section by section, records the position of each key, and collects problems.
//!
//! A section records the keys that are read from it. The remaining keys are unknown when it is
//! closed; the keys that were read are candidates for a suggestion.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use crate::fly::GoDuration;

use super::keys;
use super::problem::{Problem, Severity, Topic};
use super::text;
use super::tree::{Kind, Node, Table};

/// Unit of a bare number where a length of time is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// `kill_timeout`.
    Seconds,
    /// Checks of `[[services]]` and `[checks]`.
    Milliseconds,
    /// Everywhere else, because flyctl passes the number to Go.
    Nanoseconds,
}

/// Problems and positions of one file.
pub(super) struct Reader {
    /// Byte offsets at which lines begin.
    lines: Vec<usize>,
    text: String,
    places: RefCell<BTreeMap<String, usize>>,
    problems: RefCell<Vec<Problem>>,
    /// Keys with an unreadable value, which are exempt from the rules.
    unread: RefCell<BTreeSet<String>>,
}

impl Reader {
    /// A reader of this text.
    pub fn new(text: &str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self {
            lines: std::iter::once(0)
                .chain(breaks.map(|(at, _)| at + 1))
                .collect(),
            text: text.to_owned(),
            places: RefCell::default(),
            problems: RefCell::default(),
            unread: RefCell::default(),
        }
    }

    /// Adds a problem at a byte offset.
    pub fn report_at(
        &self,
        severity: Severity,
        topic: Topic,
        at: usize,
        key: &str,
        message: String,
    ) {
        let (line, column) = self.position(at);
        self.problems.borrow_mut().push(Problem {
            severity,
            topic,
            line,
            column,
            key: key.to_owned(),
            message,
        });
    }

    /// Line and column of a byte offset, from 1.
    fn position(&self, at: usize) -> (usize, usize) {
        let line = self.lines.partition_point(|start| *start <= at).max(1);
        let start = self.lines.get(line - 1).copied().unwrap_or(0);
        let column = self
            .text
            .get(start..at.min(self.text.len()))
            .map_or(0, |before| before.chars().count());
        (line, column + 1)
    }

    /// Line and column of a key, if the file has it.
    pub fn position_of(&self, key: &str) -> Option<(usize, usize)> {
        let at = self.places.borrow().get(key).copied()?;
        Some(self.position(at))
    }

    /// Suppresses further problems of keys that already have an error: an unreadable value seems
    /// absent, and "is required" would be wrong.
    pub fn begin_rules(&self) {
        let problems = self.problems.borrow();
        let errors = problems
            .iter()
            .filter(|problem| problem.severity == Severity::Error);
        self.unread
            .borrow_mut()
            .extend(errors.map(|problem| problem.key.clone()));
    }

    /// Whether an error was reported at this key.
    pub fn has_error(&self, key: &str) -> bool {
        let problems = self.problems.borrow();
        let mut errors = problems.iter().filter(|p| p.severity == Severity::Error);
        errors.any(|problem| problem.key == key)
    }

    /// Adds an error at a key, unless its value could not be read.
    pub fn missing(&self, key: &str, message: &str) {
        if !self.has_error(key) {
            self.error(key, message);
        }
    }

    /// Whether the file has this key, with a value that could not be read.
    pub fn is_unread(&self, key: &str) -> bool {
        self.unread.borrow().contains(key)
    }

    /// Whether a value could not be read in this section, or the section itself.
    pub fn has_unread(&self, section: &str) -> bool {
        let unread = self.unread.borrow();
        unread.iter().any(|key| {
            key.strip_prefix(section)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    }

    /// Adds a problem at a key, or at the nearest section above it.
    pub fn report(&self, severity: Severity, topic: Topic, key: &str, message: String) {
        if self.unread.borrow().contains(key) {
            return;
        }
        let places = self.places.borrow();
        let mut path = key;
        let at = loop {
            if let Some(at) = places.get(path) {
                break *at;
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None => break 0,
            }
        };
        drop(places);
        self.report_at(severity, topic, at, key, message);
    }

    /// Adds an error at a key.
    pub fn error(&self, key: &str, message: impl Into<String>) {
        self.report(Severity::Error, Topic::Value, key, message.into());
    }

    /// Adds a warning at a key.
    pub fn warn(&self, key: &str, message: impl Into<String>) {
        self.report(Severity::Warning, Topic::Value, key, message.into());
    }

    /// Warns about a key that is read for what it was, and has no effect.
    pub fn obsolete(&self, section: &str, name: &str) {
        if let Some(message) = keys::obsolete(section, name) {
            let key = format!("{section}.{name}");
            self.report(Severity::Warning, Topic::ObsoleteKey, &key, message);
        }
    }

    /// Warns about characters in a value that nobody sees, which a command or a name would contain.
    fn unseen(&self, key: &str, node: &Node) {
        let Kind::Text(value) = &node.value else {
            return;
        };
        let found = value
            .chars()
            .find_map(|character| Some((character, text::unseen(character)?)));
        if let Some((character, (what, instead))) = found {
            let named = text::named(character, what);
            self.warn(key, format!("the value has {named} in it; {instead}"));
        }
    }

    /// Records the position of a key.
    pub fn place(&self, key: &str, at: usize) {
        self.places.borrow_mut().entry(key.to_owned()).or_insert(at);
    }

    /// Records the position of a section under another path, its name from now on.
    pub fn alias(&self, from: &str, to: &str) {
        let mut places = self.places.borrow_mut();
        if let Some(at) = places.get(from).copied() {
            places.entry(to.to_owned()).or_insert(at);
        }
    }

    /// All problems in the order of the file; errors first at the same position.
    pub fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by(|a, b| {
            (a.line, a.column, a.severity, &a.key).cmp(&(b.line, b.column, b.severity, &b.key))
        });
        problems.dedup();
        problems
    }
}

/// A value with its path.
#[derive(Clone)]
pub(super) struct Field<'a> {
    pub reader: &'a Reader,
    pub node: &'a Node,
    pub path: String,
}

impl<'a> Field<'a> {
    fn wrong<T>(&self, wanted: &str) -> Option<T> {
        self.reader.error(
            &self.path,
            format!("must be {wanted}, not {}", self.node.value.name()),
        );
        None
    }

    /// The value as a string; `None` when it is empty.
    pub fn text(&self) -> Option<String> {
        self.reader.unseen(&self.path, self.node);
        match &self.node.value {
            Kind::Text(text) if text.is_empty() => None,
            Kind::Text(text) => Some(text.clone()),
            _ => self.wrong("a string"),
        }
    }

    /// A string, or a value that can be written as one.
    pub fn text_or_scalar(&self) -> Option<String> {
        match &self.node.value {
            Kind::Text(text) | Kind::Datetime(text) => Some(text.clone()),
            Kind::Integer(number) => Some(number.to_string()),
            Kind::Float(number) => Some(go_float(*number)),
            Kind::Bool(truth) => Some(truth.to_string()),
            Kind::List(_) | Kind::Table(_) => self.wrong("a string, a number or a boolean"),
        }
    }

    /// The value as a boolean.
    pub fn bool(&self) -> Option<bool> {
        match self.node.value {
            Kind::Bool(truth) => Some(truth),
            _ => self.wrong("true or false"),
        }
    }

    /// The value as a number.
    pub fn float(&self) -> Option<f64> {
        match self.node.value {
            Kind::Integer(number) => Some(number as f64),
            Kind::Float(number) => Some(number),
            _ => self.wrong("a number"),
        }
    }

    /// An integer within bounds. A float without a fraction counts, as in JSON.
    pub fn integer(&self, lowest: i64, highest: i64) -> Option<i64> {
        let number = match self.node.value {
            Kind::Integer(number) => number,
            Kind::Float(number) if number.fract() == 0.0 && number.abs() < 1e15 => number as i64,
            _ => return self.wrong("an integer"),
        };
        self.bounded(number, lowest, highest)
    }

    /// As `integer`; digits in a string are accepted too.
    pub fn integer_or_digits(&self, lowest: i64, highest: i64) -> Option<i64> {
        let number = match &self.node.value {
            Kind::Text(text) => match text.parse() {
                Ok(number) => number,
                Err(_) => return self.wrong("an integer or a string of digits"),
            },
            Kind::Float(number) if number.is_finite() && number.abs() < 1e15 => *number as i64,
            _ => return self.integer(lowest, highest),
        };
        self.bounded(number, lowest, highest)
    }

    fn bounded(&self, number: i64, lowest: i64, highest: i64) -> Option<i64> {
        if number < lowest || number > highest {
            let allowed = if highest == i64::MAX || highest == i64::from(u32::MAX) {
                format!("at least {lowest}")
            } else {
                format!("from {lowest} to {highest}")
            };
            self.reader
                .error(&self.path, format!("must be {allowed}, not {number}"));
            return None;
        }
        Some(number)
    }

    /// A length of time: Go's notation, or a number in `unit`.
    pub fn duration(&self, unit: Unit) -> Option<GoDuration> {
        let number = match &self.node.value {
            // Where flyctl accepts old spellings, an empty text counts as absent.
            Kind::Text(text) if text.is_empty() && unit != Unit::Nanoseconds => return None,
            Kind::Text(text) => {
                let read = GoDuration::parse(text);
                if read.is_none() {
                    self.reader.error(
                        &self.path,
                        "must be a length of time such as \"10s\", \"1m30s\" or \"500ms\"",
                    );
                }
                return read;
            }
            Kind::Integer(number) => *number,
            Kind::Float(number) if number.is_finite() && number.abs() < 1e15 => *number as i64,
            _ => return self.wrong("a length of time such as \"10s\""),
        };
        let scale = match unit {
            Unit::Seconds => 1_000_000_000,
            Unit::Milliseconds => 1_000_000,
            Unit::Nanoseconds => 1,
        };
        if unit == Unit::Nanoseconds && number != 0 {
            self.reader.warn(
                &self.path,
                "a number means nanoseconds here, as in flyctl; write a length of time such as \"10s\"",
            );
        }
        match u64::try_from(number)
            .ok()
            .and_then(|n| n.checked_mul(scale))
        {
            Some(nanos) => Some(std::time::Duration::from_nanos(nanos).into()),
            None => self.wrong("a length of time of zero or more"),
        }
    }

    /// The entries of a list.
    fn items(&self, list: &'a [Node]) -> Vec<Field<'a>> {
        let mut fields = Vec::new();
        for (index, node) in list.iter().enumerate() {
            let path = format!("{}[{index}]", self.path);
            self.reader.place(&path, node.at);
            fields.push(Field {
                reader: self.reader,
                node,
                path,
            });
        }
        fields
    }

    /// The value as a list.
    pub fn list(&self) -> Option<Vec<Field<'a>>> {
        match &self.node.value {
            Kind::List(list) => Some(self.items(list)),
            _ => self.wrong("a list"),
        }
    }

    /// The value as a list of strings.
    pub fn texts(&self) -> Option<Vec<String>> {
        match &self.node.value {
            Kind::List(list) => Some(
                self.items(list)
                    .iter()
                    .filter_map(|item| match &item.node.value {
                        Kind::Text(text) => {
                            self.reader.unseen(&item.path, item.node);
                            Some(text.clone())
                        }
                        _ => item.wrong("a string"),
                    })
                    .collect(),
            ),
            _ => self.wrong("a list of strings"),
        }
    }

    /// The value as a list of strings, also when it is one string.
    pub fn text_or_texts(&self) -> Option<Vec<String>> {
        match &self.node.value {
            Kind::Text(text) => Some(vec![text.clone()]),
            _ => self.texts(),
        }
    }

    /// The value as a table.
    pub fn table(&self) -> Option<Section<'a>> {
        match &self.node.value {
            Kind::Table(table) => Some(Section::new(self.reader, table, &self.path)),
            _ => self.wrong("a table"),
        }
    }

    /// A list of tables.
    pub fn tables(&self) -> Option<Vec<Section<'a>>> {
        match &self.node.value {
            Kind::List(list) => Some(self.items(list).iter().filter_map(Field::table).collect()),
            _ => self.wrong(&format!(
                "a list of tables, written [[{}]]",
                self.section_name()
            )),
        }
    }

    /// A list of tables, or one table.
    pub fn table_or_tables(&self) -> Option<Vec<Section<'a>>> {
        match &self.node.value {
            Kind::Table(table) => {
                let path = format!("{}[0]", self.path);
                self.reader.place(&path, self.node.at);
                Some(vec![Section::new(self.reader, table, &path)])
            }
            _ => self.tables(),
        }
    }

    /// The path without indices, as in a table header.
    fn section_name(&self) -> String {
        without_indices(&self.path)
    }

    /// A table whose values are strings.
    pub fn text_map(&self) -> Option<BTreeMap<String, String>> {
        self.map(|field| match &field.node.value {
            Kind::Text(text) => {
                self.reader.unseen(&field.path, field.node);
                Some(text.clone())
            }
            _ => field.wrong("a string"),
        })
    }

    /// A table whose values are read individually.
    pub fn map<T>(&self, read: impl Fn(&Field<'a>) -> Option<T>) -> Option<BTreeMap<String, T>> {
        let section = self.table()?;
        let mut map = BTreeMap::new();
        for field in section.fields() {
            if let Some(value) = read(&field.1) {
                map.insert(field.0.to_owned(), value);
            }
        }
        Some(map)
    }

    /// As JSON, for values that are passed on unchanged.
    pub fn json(&self) -> serde_json::Value {
        json(self.node)
    }
}

fn json(node: &Node) -> serde_json::Value {
    match &node.value {
        Kind::Text(text) | Kind::Datetime(text) => text.clone().into(),
        Kind::Integer(number) => (*number).into(),
        Kind::Float(number) => (*number).into(),
        Kind::Bool(truth) => (*truth).into(),
        Kind::List(list) => list.iter().map(json).collect(),
        Kind::Table(table) => table
            .iter()
            .map(|(name, _, node)| (name.clone(), json(node)))
            .collect(),
    }
}

/// A float as formatted by Go's `%v`: with an exponent below 1e-4 and from 1e6 on.
fn go_float(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{number:e}");
    let Some((digits, power)) = scientific.split_once('e') else {
        return scientific;
    };
    let exponent: i32 = power.parse().unwrap_or_default();
    if (-4..6).contains(&exponent) {
        return number.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// A table under decoding.
pub(super) struct Section<'a> {
    pub reader: &'a Reader,
    pub path: String,
    table: &'a Table,
    known: RefCell<Vec<&'static str>>,
}

impl<'a> Section<'a> {
    /// The section at `path`.
    pub fn new(reader: &'a Reader, table: &'a Table, path: &str) -> Self {
        Self {
            reader,
            path: path.to_owned(),
            table,
            known: RefCell::default(),
        }
    }

    /// The path of a key of this section.
    pub fn key(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    /// True when the section has no key.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// True when the section has this key.
    pub fn has(&self, name: &str) -> bool {
        self.table.iter().any(|(key, _, _)| key == name)
    }

    /// A known key of this section.
    pub fn get(&self, name: &'static str) -> Option<Field<'a>> {
        self.known.borrow_mut().push(name);
        let (_, at, node) = self.table.iter().find(|(key, _, _)| key == name)?;
        let path = self.key(name);
        self.reader.place(&path, *at);
        Some(Field {
            reader: self.reader,
            node,
            path,
        })
    }

    /// Every key, for tables whose keys are names.
    pub fn fields(&self) -> Vec<(&'a str, Field<'a>)> {
        let mut fields = Vec::new();
        for (name, at, node) in self.table {
            let path = self.key(name);
            self.reader.place(&path, *at);
            let field = Field {
                reader: self.reader,
                node,
                path,
            };
            fields.push((name.as_str(), field));
        }
        fields
    }

    /// The value of a key as a string.
    pub fn text(&self, name: &'static str) -> Option<String> {
        self.get(name)?.text()
    }

    /// The value of a key as a boolean.
    pub fn bool(&self, name: &'static str) -> Option<bool> {
        self.get(name)?.bool()
    }

    /// The value of a key as a list of strings.
    pub fn texts(&self, name: &'static str) -> Vec<String> {
        self.get(name)
            .and_then(|field| field.texts())
            .unwrap_or_default()
    }

    /// The value of a key as a duration; a bare number counts in `unit`.
    pub fn duration(&self, name: &'static str, unit: Unit) -> Option<GoDuration> {
        self.get(name)?.duration(unit)
    }

    /// A non-negative number; zero is absent where Go omits it.
    pub fn count(&self, name: &'static str) -> Option<u32> {
        let number = self.get(name)?.integer(0, u32::MAX.into())?;
        u32::try_from(number).ok()
    }

    /// A count; zero counts as absent.
    pub fn positive(&self, name: &'static str) -> Option<u32> {
        self.count(name).filter(|number| *number != 0)
    }

    /// The value of a key as a port.
    pub fn port(&self, name: &'static str) -> Option<u16> {
        let number = self.get(name)?.integer(1, u16::MAX.into())?;
        u16::try_from(number).ok()
    }

    /// The value of a key as a port, also when it is a string of digits.
    pub fn port_or_digits(&self, name: &'static str) -> Option<u16> {
        let number = self.get(name)?.integer_or_digits(1, u16::MAX.into())?;
        u16::try_from(number).ok()
    }

    /// The value of a key as a table.
    pub fn table(&self, name: &'static str) -> Option<Section<'a>> {
        self.get(name)?.table()
    }

    /// The value of a key as an array of tables.
    pub fn tables(&self, name: &'static str) -> Vec<Section<'a>> {
        self.get(name)
            .and_then(|field| field.tables())
            .unwrap_or_default()
    }

    /// Warns about unknown keys.
    pub fn close(self) {
        let known = self.known.borrow();
        let section = without_indices(&self.path);
        for (name, at, _) in self.table {
            if known.contains(&name.as_str()) {
                continue;
            }
            let (topic, message) = keys::unread(&section, name, &known, |key| self.has(key));
            self.reader
                .report_at(Severity::Warning, topic, *at, &self.key(name), message);
        }
    }
}

/// A path as in a table header: without indices.
fn without_indices(path: &str) -> String {
    let mut name = String::new();
    let mut inside = false;
    for character in path.chars() {
        match character {
            '[' => inside = true,
            ']' => inside = false,
            other if !inside => name.push(other),
            _ => {}
        }
    }
    name
}
