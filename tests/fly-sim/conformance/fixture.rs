//! `recorded.json`: a summary of what flyctl asked and of the shape of what it was answered.
//!
//! What the simulator made up and flyctl sent back (ids, nonces, versions) is a variable `{{7}}`:
//! `learn` says where in an answer it comes from. Values of secrets are left out. A GraphQL
//! document is written anew with its fragments put where they belong.

use std::fmt::Write as _;

use fly_sim::record::Exchange;
use graphql_parser::query::{
    Definition, FragmentDefinition, InlineFragment, Selection, SelectionSet, parse_query,
};
use serde_json::{Map, Value, json};

use crate::{commands, shape};

/// A value that the simulator made up, and its variable.
struct Learned {
    value: String,
    variable: String,
}

/// The text of the fixture: one line for each request.
pub fn render(recorded: &[(&str, bool, Vec<Exchange>)]) -> String {
    let all: Vec<&Exchange> = recorded.iter().flat_map(|(.., all)| all).collect();
    let asked: Vec<String> = all.iter().map(|exchange| said(exchange)).collect();
    let given = format!("{:?}{:?}", commands::COMMANDS, commands::FILES);

    let mut learned: Vec<Learned> = Vec::new();
    let mut shapes: Vec<Value> = Vec::new();
    let mut at = 0;
    let mut text = "{\"commands\": [\n".to_owned();
    for (index, (line, works, exchanges)) in recorded.iter().enumerate() {
        let (words, refused) = line.split_once(" => ").unwrap_or((line, ""));
        let mut lines: Vec<Value> = Vec::new();
        for exchange in exchanges {
            let mut line = request(exchange, &learned);
            // The same look again: only the last one counts, which is when flyctl went on.
            let again = lines.last().is_some_and(|last| {
                exchange.endpoint.starts_with("GET ")
                    && last["path"] == line["path"]
                    && last["query"] == line["query"]
                    && last["endpoint"] == line["endpoint"]
            });
            if again {
                lines.pop();
            }
            let before: String = asked[..=at].concat();
            let later: String = asked[at + 1..].concat();
            let mut learn = Map::new();
            for (pointer, value) in leaves(&exchange.answer, String::new()) {
                let known = learned.iter().any(|one| one.value == value);
                let opaque = is_opaque(&value);
                if !opaque || known || given.contains(&value) {
                    continue;
                }
                if later.contains(&value) && !before.contains(&value) {
                    let variable = learned.len().to_string();
                    learn.insert(pointer, json!(variable));
                    learned.push(Learned { value, variable });
                }
            }
            let answer = shape::of(&exchange.answer);
            let number = shapes.iter().position(|one| *one == answer);
            let number = number.unwrap_or_else(|| {
                shapes.push(answer);
                shapes.len() - 1
            });
            line["shape"] = json!(number);
            if !learn.is_empty() {
                line["learn"] = Value::Object(learn);
            }
            lines.push(line);
            at += 1;
        }
        let comma = if index == 0 { "" } else { ",\n" };
        let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
        let _ = write!(
            text,
            "{comma}{{\"command\": {}, \"refused\": {}, \"works\": {works}, \"requests\": [\n  {}\n]}}",
            json!(words),
            json!(refused),
            lines.join(",\n  ")
        );
    }
    let shapes: Vec<String> = shapes.iter().map(Value::to_string).collect();
    let _ = write!(
        text,
        "\n], \"shapes\": [\n  {}\n]}}\n",
        shapes.join(",\n  ")
    );
    text.replace("[\n  \n]", "[]")
}

/// Whether a text may have been made up: ids, nonces, versions.
fn is_opaque(value: &str) -> bool {
    let one_word = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    let digit = value.chars().any(|c| c.is_ascii_digit());
    match value.len() {
        6..12 => digit,
        12..80 => digit || value.chars().all(one_word),
        _ => false,
    }
}

/// All that a request says, as text to search in.
fn said(exchange: &Exchange) -> String {
    let body = without_secrets(exchange, exchange.body.clone());
    let nonce = exchange.nonce.as_deref().unwrap_or_default();
    format!("{} {} {nonce} {body}\n", exchange.path, exchange.query)
}

fn request(exchange: &Exchange, learned: &[Learned]) -> Value {
    let mut line = json!({
        "endpoint": exchange.endpoint,
        "path": replaced(&exchange.path, learned),
        "status": exchange.status,
    });
    if !exchange.query.is_empty() {
        line["query"] = json!(replaced(&exchange.query, learned));
    }
    if let Some(nonce) = &exchange.nonce {
        line["nonce"] = json!(replaced(nonce, learned));
    }
    if !exchange.body.is_null() {
        let body = without_secrets(exchange, exchange.body.clone());
        line["body"] = in_texts(body, &|text| replaced(text, learned));
    }
    line
}

fn replaced(text: &str, learned: &[Learned]) -> String {
    let mut text = text.to_owned();
    for one in learned {
        if text.contains(&one.value) {
            text = text.replace(&one.value, &format!("{{{{{}}}}}", one.variable));
        }
    }
    text
}

fn in_texts(value: Value, change: &impl Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => json!(change(&text)),
        Value::Array(items) => items
            .into_iter()
            .map(|item| in_texts(item, change))
            .collect(),
        Value::Object(map) => map
            .into_iter()
            .map(|(key, value)| (change(&key), in_texts(value, change)))
            .collect(),
        other => other,
    }
}

fn without_secrets(exchange: &Exchange, mut body: Value) -> Value {
    if exchange.endpoint.ends_with("/secrets")
        && let Some(values) = body.get_mut("values").and_then(Value::as_object_mut)
    {
        for value in values.values_mut().filter(|value| value.is_string()) {
            *value = json!("left-out");
        }
    }
    if let Some(query) = body.get("query").and_then(Value::as_str)
        && exchange.path == "/graphql"
    {
        body["query"] = json!(document(query));
    }
    body
}

/// A GraphQL document on one line, without names of fragments.
fn document(query: &str) -> String {
    let Ok(document) = parse_query::<String>(query) else {
        return query.to_owned();
    };
    let mut document = document.into_static();
    let fragments: Vec<FragmentDefinition<'static, String>> = document
        .definitions
        .iter()
        .filter_map(|definition| match definition {
            Definition::Fragment(fragment) => Some(fragment.clone()),
            Definition::Operation(_) => None,
        })
        .collect();
    document
        .definitions
        .retain(|definition| matches!(definition, Definition::Operation(_)));
    for definition in &mut document.definitions {
        if let Definition::Operation(operation) = definition {
            use graphql_parser::query::OperationDefinition::{
                Mutation, Query, SelectionSet as Bare, Subscription,
            };
            match operation {
                Query(query) => inline(&mut query.selection_set, &fragments),
                Mutation(mutation) => inline(&mut mutation.selection_set, &fragments),
                Subscription(subscription) => {
                    inline(&mut subscription.selection_set, &fragments);
                }
                Bare(set) => inline(set, &fragments),
            }
        }
    }
    let words = document.to_string();
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn inline(
    set: &mut SelectionSet<'static, String>,
    fragments: &[FragmentDefinition<'static, String>],
) {
    for item in &mut set.items {
        if let Selection::FragmentSpread(spread) = item
            && let Some(fragment) = fragments
                .iter()
                .find(|one| one.name == spread.fragment_name)
        {
            *item = Selection::InlineFragment(InlineFragment {
                position: spread.position,
                type_condition: Some(fragment.type_condition.clone()),
                directives: spread.directives.clone(),
                selection_set: fragment.selection_set.clone(),
            });
        }
        match item {
            Selection::Field(field) => inline(&mut field.selection_set, fragments),
            Selection::InlineFragment(inner) => inline(&mut inner.selection_set, fragments),
            Selection::FragmentSpread(_) => {}
        }
    }
}

/// Texts in a value, with where they are.
fn leaves(value: &Value, at: String) -> Vec<(String, String)> {
    match value {
        Value::String(text) => vec![(at, text.clone())],
        Value::Array(items) => items
            .iter()
            .enumerate()
            .flat_map(|(index, item)| leaves(item, format!("{at}/{index}")))
            .collect(),
        Value::Object(map) => map
            .iter()
            .flat_map(|(key, value)| {
                let key = key.replace('~', "~0").replace('/', "~1");
                leaves(value, format!("{at}/{key}"))
            })
            .collect(),
        _ => Vec::new(),
    }
}
