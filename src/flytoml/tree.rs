//! A TOML document as a tree of values with their positions.
//!
//! `toml_edit` has five kinds of tables and lists, because it preserves formatting; this tree has
//! two.

use std::ops::Range;

use toml_edit::{Document, Item, TableLike, TomlError, Value};

use super::text;

/// Longest accepted `fly.toml`, in bytes. A ConfigMap holds at most 1 MiB.
const MAX_BYTES: usize = 1 << 20;

/// Deepest accepted nesting; `fly.toml` itself needs six. The parser has its own limit.
const MAX_DEPTH: usize = 32;

/// A value and its position.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub value: Kind,
    /// Byte offset of the value.
    pub at: usize,
}

/// The value itself.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    /// A date or time, as written.
    Datetime(String),
    List(Vec<Node>),
    Table(Table),
}

/// Keys with their byte offsets.
pub(super) type Table = Vec<(String, usize, Node)>;

/// A syntax error and its byte offset.
pub(super) struct SyntaxError {
    pub message: String,
    pub at: usize,
}

impl Kind {
    /// Its type, for messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Bool(_) => "a boolean",
            Self::Datetime(_) => "a date",
            Self::List(list) if list.iter().any(|item| matches!(item.value, Self::Table(_))) => {
                "a list of tables"
            }
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

/// Parses a document.
pub(super) fn read(text: &str) -> Result<Table, SyntaxError> {
    if text.len() > MAX_BYTES {
        return Err(SyntaxError {
            message: format!(
                "the file has {} bytes; at most {MAX_BYTES} are read",
                text.len()
            ),
            at: 0,
        });
    }
    let document = Document::parse(text).map_err(|error| syntax_error(text, &error))?;
    table(document.as_table(), 0)
}

/// The parser's error. It does not name a character that nobody sees, nor the key that is there
/// twice.
fn syntax_error(source: &str, error: &TomlError) -> SyntaxError {
    let span = error.span();
    let at = start(span.clone());
    if let Some((at, character)) = text::culprit(source, at)
        && let Some((what, instead)) = text::odd(character)
    {
        let named = text::named(character, what);
        return SyntaxError {
            message: format!("not TOML: {named} cannot stand here; {instead}"),
            at,
        };
    }
    let key = span.and_then(|span| duplicate(source, span));
    let message = match key {
        Some(key) => format!("not TOML: {key} is there twice; remove one of them"),
        None => format!("not TOML: {}", error.message()),
    };
    SyntaxError { message, at }
}

/// The key or header at the place of an error, if it is there a second time: then its line is valid by
/// itself, and so is everything above it.
fn duplicate(source: &str, span: Range<usize>) -> Option<String> {
    let above = source.get(..span.start)?;
    let start = above.rfind('\n').map_or(0, |end| end + 1);
    let line = source.get(start..)?.lines().next()?;
    if Document::parse(source.get(..start)?).is_err() || Document::parse(line).is_err() {
        return None;
    }
    let key = source.get(span.start..)?.lines().next()?;
    let key = key.split(['=', ']']).next()?;
    let key = key.trim_start_matches('[').trim();
    (!key.is_empty() && key.len() <= 100).then(|| key.to_owned())
}

fn start(span: Option<Range<usize>>) -> usize {
    span.map_or(0, |span| span.start)
}

fn table(source: &dyn TableLike, depth: usize) -> Result<Table, SyntaxError> {
    let mut entries = Vec::new();
    for (name, item) in source.iter() {
        let key = source.key(name).and_then(|key| key.span());
        let at = start(key.or_else(|| item.span()));
        if let Some(node) = node(item, at, depth + 1)? {
            entries.push((name.to_owned(), at, node));
        }
    }
    Ok(entries)
}

fn node(item: &Item, at: usize, depth: usize) -> Result<Option<Node>, SyntaxError> {
    if depth > MAX_DEPTH {
        return Err(SyntaxError {
            message: format!("nested deeper than {MAX_DEPTH} levels"),
            at,
        });
    }
    let at = item.span().map_or(at, |span| span.start);
    let value = match item {
        Item::None => return Ok(None),
        Item::Value(value) => return self::value(value, at, depth).map(Some),
        Item::Table(source) => Kind::Table(table(source, depth)?),
        Item::ArrayOfTables(tables) => {
            let mut list = Vec::new();
            for source in tables {
                list.push(Node {
                    at: source.span().map_or(at, |span| span.start),
                    value: Kind::Table(table(source, depth)?),
                });
            }
            Kind::List(list)
        }
    };
    Ok(Some(Node { value, at }))
}

fn value(source: &Value, at: usize, depth: usize) -> Result<Node, SyntaxError> {
    if depth > MAX_DEPTH {
        return Err(SyntaxError {
            message: format!("nested deeper than {MAX_DEPTH} levels"),
            at,
        });
    }
    let at = source.span().map_or(at, |span| span.start);
    let value = match source {
        Value::String(text) => Kind::Text(text.value().clone()),
        Value::Integer(number) => Kind::Integer(*number.value()),
        Value::Float(number) => Kind::Float(*number.value()),
        Value::Boolean(truth) => Kind::Bool(*truth.value()),
        Value::Datetime(moment) => Kind::Datetime(moment.value().to_string()),
        Value::Array(items) => {
            let mut list = Vec::new();
            for item in items {
                list.push(self::value(item, at, depth + 1)?);
            }
            Kind::List(list)
        }
        Value::InlineTable(source) => Kind::Table(table(source, depth)?),
    };
    Ok(Node { value, at })
}
