//! The shape of an answer: which keys it has and of which type their values are.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// The shape of a value. A list has the shape of all its elements together.
pub fn of(value: &Value) -> Value {
    match value {
        Value::Null => Value::Null,
        Value::Bool(_) => json!("boolean"),
        Value::Number(_) => json!("number"),
        Value::String(_) => json!("string"),
        Value::Array(items) => {
            let element = items.iter().map(of).reduce(both);
            json!(element.into_iter().collect::<Vec<_>>())
        }
        Value::Object(map) => Value::Object(
            map.iter()
                // What caused an event is of another shape for each kind of event, and which
                // events there are yet depends on the moment.
                .filter(|(key, _)| *key != "request")
                .map(|(key, value)| (key.clone(), of(value)))
                .collect(),
        ),
    }
}

/// What is in one or the other.
fn both(one: Value, other: Value) -> Value {
    match (one, other) {
        (Value::Null, some) | (some, Value::Null) => some,
        (Value::Object(one), Value::Object(other)) => {
            let mut all: BTreeMap<String, Value> = one.into_iter().collect();
            for (key, value) in other {
                let merged = match all.remove(&key) {
                    Some(there) => both(there, value),
                    None => value,
                };
                all.insert(key, merged);
            }
            Value::Object(all.into_iter().collect::<Map<_, _>>())
        }
        (Value::Array(one), Value::Array(other)) => {
            let element = one.into_iter().chain(other).reduce(both);
            json!(element.into_iter().collect::<Vec<_>>())
        }
        (one, _) => one,
    }
}
