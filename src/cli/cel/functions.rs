//! Operators and functions.

use std::cmp::Ordering;

use super::value::{CelError, Result, Value, failed};
use crate::fly::GoDuration;

/// An operator with two sides, other than `&&` and `||`.
pub(super) fn operator(operator: &str, left: Value, right: Value) -> Result<Value> {
    let ordered = |wanted: fn(Ordering) -> bool| match compare(&left, &right) {
        Some(order) => Ok(Value::Bool(wanted(order))),
        None => failed(format!("{left:?} and {right:?} cannot be compared")),
    };
    match operator {
        "==" => Ok(Value::Bool(equal(&left, &right))),
        "!=" => Ok(Value::Bool(!equal(&left, &right))),
        "<" => ordered(Ordering::is_lt),
        "<=" => ordered(Ordering::is_le),
        ">" => ordered(Ordering::is_gt),
        ">=" => ordered(Ordering::is_ge),
        "in" => match right {
            Value::List(items) => Ok(Value::Bool(items.iter().any(|item| equal(item, &left)))),
            Value::Map(map) => match left {
                Value::Text(key) => Ok(Value::Bool(map.contains_key(&key))),
                _ => Ok(Value::Bool(false)),
            },
            other => failed(format!("{other:?} holds nothing")),
        },
        _ => arithmetic(operator, left, right),
    }
}

fn equal(left: &Value, right: &Value) -> bool {
    left == right || compare(left, right) == Some(Ordering::Equal)
}

fn compare(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Int(one), Value::Int(other)) => Some(one.cmp(other)),
        (Value::Duration(one), Value::Duration(other)) => Some(one.cmp(other)),
        (Value::Text(one), Value::Text(other)) => Some(one.cmp(other)),
        (Value::Bool(one), Value::Bool(other)) => Some(one.cmp(other)),
        _ => float(left)?.partial_cmp(&float(right)?),
    }
}

fn float(value: &Value) -> Option<f64> {
    match value {
        Value::Int(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        _ => None,
    }
}

fn arithmetic(operator: &str, left: Value, right: Value) -> Result<Value> {
    let result = match (operator, &left, &right) {
        ("+", Value::Text(one), Value::Text(other)) => Some(Value::Text(format!("{one}{other}"))),
        ("+", Value::List(one), Value::List(other)) => {
            Some(Value::List(one.iter().chain(other).cloned().collect()))
        }
        ("+", Value::Duration(one), Value::Duration(other)) => {
            one.checked_add(*other).map(Value::Duration)
        }
        (_, Value::Int(one), Value::Int(other)) => {
            let result = match operator {
                "+" => one.checked_add(*other),
                "-" => one.checked_sub(*other),
                "*" => one.checked_mul(*other),
                "/" => one.checked_div(*other),
                _ => one.checked_rem(*other),
            };
            result.map(Value::Int)
        }
        _ => None,
    };
    match result {
        Some(value) => Ok(value),
        None => failed(format!("{left:?} {operator} {right:?} has no result")),
    }
}

/// A function, or a method whose target is the first argument.
pub(super) fn call(name: &str, arguments: &[Value]) -> Result<Value> {
    use Value::{Bool, Duration, Int, List, Map, Text};
    Ok(match (name, arguments) {
        ("size", [Text(word)]) => count(word.chars().count()),
        ("size", [List(items)]) => count(items.len()),
        ("size", [Map(map)]) => count(map.len()),
        ("duration", [Text(word)]) => match GoDuration::parse(word) {
            Some(time) => Duration(i128::try_from(time.0.as_nanos()).unwrap_or(i128::MAX)),
            None => return failed(format!("{word:?} is no length of time")),
        },
        ("matches", [Text(word), Text(pattern)]) => match regex::Regex::new(pattern) {
            Ok(regex) => Bool(regex.is_match(word)),
            Err(_) => return Err(CelError::Unsupported(pattern.clone())),
        },
        ("contains", [Text(word), Text(part)]) => Bool(word.contains(part.as_str())),
        ("startsWith", [Text(word), Text(part)]) => Bool(word.starts_with(part.as_str())),
        ("endsWith", [Text(word), Text(part)]) => Bool(word.ends_with(part.as_str())),
        ("lowerAscii", [Text(word)]) => Text(word.to_ascii_lowercase()),
        ("upperAscii", [Text(word)]) => Text(word.to_ascii_uppercase()),
        ("trim", [Text(word)]) => Text(word.trim().to_owned()),
        ("split", [Text(word), Text(separator)]) => {
            let parts = word.split(separator.as_str());
            List(parts.map(|part| Text(part.to_owned())).collect())
        }
        ("indexOf", [Text(word), Text(part)]) => match word.find(part.as_str()) {
            Some(at) => count(word[..at].chars().count()),
            None => Int(-1),
        },
        ("string", [Text(word)]) => Text(word.clone()),
        ("string", [Int(number)]) => Text(number.to_string()),
        ("int", [Int(number)]) => Int(*number),
        ("int", [Text(word)]) => match word.parse() {
            Ok(number) => Int(number),
            Err(_) => return failed(format!("{word:?} is no number")),
        },
        _ => return Err(CelError::Unsupported(format!("{name}()"))),
    })
}

fn count(number: usize) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}
