//! The part of CEL, the language of a definition's rules, that the definitions of this group use.
//!
//! A rule that needs more is not evaluated: [`eval`] says so, and the API server evaluates it at apply.
//! Source: github.com/google/cel-spec, doc/langdef.md; kubernetes.io/docs/reference/using-api/cel/.

mod functions;
mod parse;
mod value;

use std::collections::BTreeMap;

use serde_json::Value as Json;

use parse::Expr;
use value::{Result, Value, failed};

pub(super) use parse::parse;
pub(super) use value::CelError;

/// Whether the rule holds for `this`.
///
/// # Errors
/// When it cannot be evaluated.
pub(super) fn holds(rule: &str, this: &Json) -> Result<bool> {
    let expr = parse(rule)?;
    let names = Names::default().with("self", this.into());
    match eval(&expr, &names)? {
        Value::Bool(truth) => Ok(truth),
        other => Err(CelError::Failed(format!("the rule gives {other:?}"))),
    }
}

/// The names that an expression can use.
#[derive(Clone, Default)]
struct Names(BTreeMap<String, Value>);

impl Names {
    fn with(&self, name: &str, value: Value) -> Self {
        let mut names = self.0.clone();
        names.insert(name.to_owned(), value);
        Self(names)
    }
}

fn truth(value: Value) -> Result<bool> {
    match value {
        Value::Bool(truth) => Ok(truth),
        other => failed(format!("{other:?} is neither true nor false")),
    }
}

fn eval(expr: &Expr, names: &Names) -> Result<Value> {
    match expr {
        Expr::Literal(value) => Ok(value.clone()),
        Expr::List(items) => {
            let items: Result<Vec<Value>> = items.iter().map(|item| eval(item, names)).collect();
            items.map(Value::List)
        }
        Expr::Name(name) => match names.0.get(name) {
            Some(value) => Ok(value.clone()),
            None => Err(CelError::Unsupported(name.clone())),
        },
        Expr::Field(of, name) => match eval(of, names)? {
            Value::Map(map) => match map.get(name) {
                Some(value) => Ok(value.clone()),
                None => failed(format!("no such key: {name}")),
            },
            other => failed(format!("{other:?} has no field {name}")),
        },
        Expr::Index(of, index) => match (eval(of, names)?, eval(index, names)?) {
            (Value::Map(map), Value::Text(key)) => match map.get(&key) {
                Some(value) => Ok(value.clone()),
                None => failed(format!("no such key: {key}")),
            },
            (Value::List(items), Value::Int(index)) => usize::try_from(index)
                .ok()
                .and_then(|index| items.get(index).cloned())
                .map_or_else(|| failed("index out of range"), Ok),
            _ => failed("cannot be indexed"),
        },
        Expr::Not(expr) => truth(eval(expr, names)?).map(|truth| Value::Bool(!truth)),
        Expr::If(condition, yes, no) => {
            let chosen = if truth(eval(condition, names)?)? {
                yes
            } else {
                no
            };
            eval(chosen, names)
        }
        Expr::Binary(operator, left, right) => binary(operator, left, right, names),
        Expr::Call(target, name, arguments) => call(target.as_deref(), name, arguments, names),
    }
}

fn binary(operator: &str, left: &Expr, right: &Expr, names: &Names) -> Result<Value> {
    if let "&&" | "||" = operator {
        // Either side can decide alone, even when the other fails.
        let decides = operator == "||";
        let sides = [left, right].map(|side| eval(side, names).and_then(truth));
        if sides.contains(&Ok(decides)) {
            return Ok(Value::Bool(decides));
        }
        let [left, right] = sides;
        return left.and(right).map(Value::Bool);
    }
    functions::operator(operator, eval(left, names)?, eval(right, names)?)
}

fn call(target: Option<&Expr>, name: &str, arguments: &[Expr], names: &Names) -> Result<Value> {
    match (target, name, arguments) {
        (None, "has", [Expr::Field(of, field)]) => match eval(of, names)? {
            Value::Map(map) => Ok(Value::Bool(map.contains_key(field))),
            other => failed(format!("{other:?} has no fields")),
        },
        (
            Some(target),
            "all" | "exists" | "exists_one" | "filter" | "map",
            [Expr::Name(each), body],
        ) => {
            let items = match eval(target, names)? {
                Value::List(items) => items,
                Value::Map(map) => map.into_keys().map(Value::Text).collect(),
                other => return failed(format!("{other:?} is no list")),
            };
            comprehension(name, items, |item| eval(body, &names.with(each, item)))
        }
        _ => {
            let mut values = Vec::new();
            for argument in target.into_iter().chain(arguments) {
                values.push(eval(argument, names)?);
            }
            functions::call(name, &values)
        }
    }
}

fn comprehension(
    name: &str,
    items: Vec<Value>,
    body: impl Fn(Value) -> Result<Value>,
) -> Result<Value> {
    if name == "map" {
        let mapped: Result<Vec<Value>> = items.into_iter().map(body).collect();
        return mapped.map(Value::List);
    }
    let mut kept = Vec::new();
    let count = items.len();
    for item in items {
        if truth(body(item.clone())?)? {
            kept.push(item);
        }
    }
    Ok(match name {
        "all" => Value::Bool(kept.len() == count),
        "exists" => Value::Bool(!kept.is_empty()),
        "exists_one" => Value::Bool(kept.len() == 1),
        _ => Value::List(kept),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_hold_as_the_api_server_evaluates_them() {
        let object = json!({
            "a": 1, "text": "caba\u{f1}as", "list": [1, 2, 3], "map": {"x": 1, "y": 2},
            "time": "1m30s", "refs": [{"n": "a"}, {"n": "b"}],
        });
        for (rule, wanted) in [
            ("has(self.a) != has(self.b)", true),
            ("!has(self.a) || !has(self.text)", false),
            ("!has(self.b) || self.b == 1", true),
            ("self.b == 1 || has(self.a)", true),
            ("[has(self.a), has(self.b)].filter(x, x).size() == 1", true),
            (
                "[has(self.a), has(self.text), has(self.b)].exists_one(x, x)",
                false,
            ),
            (
                "duration(self.time) >= duration('1m') && duration(self.time) <= duration('2m')",
                true,
            ),
            ("duration(self.time) < duration('90s')", false),
            ("self.map.all(k, k.size() <= 1 && self.map[k] <= 2)", true),
            ("self.map.all(k, k.matches('^[x]$'))", false),
            ("size(self.text) == 7", true),
            ("self.a in [1, 3]", true),
            ("'y' in self.map && !('z' in self.map)", true),
            (
                "self.refs.all(a, self.refs.exists_one(b, b.n == a.n))",
                true,
            ),
            (
                "self.text.contains('ñ') && self.text.startsWith('cab') && self.text.endsWith(\"s\")",
                true,
            ),
            ("self.text.matches('^[a-z]+$')", false),
            ("has(self.b) ? self.b == 2 : self.a + 1 == 2 * 1", true),
            ("self.list.exists(x, x > 2) && self.list[0] == 1", true),
            ("self.list.map(x, x * 2).filter(x, x > 2).size() == 2", true),
            ("-1 < self.a && self.a - 1 == 0 && self.a % 2 == 1", true),
            (
                "self.text.lowerAscii() == self.text && 'a,b'.split(',')[1] == 'b'",
                true,
            ),
            (
                "string(self.a) == '1' && int('3') == 3 && r'\\d' == '\\\\d'",
                true,
            ),
        ] {
            assert_eq!(holds(rule, &object), Ok(wanted), "{rule}");
        }
    }

    #[test]
    fn a_rule_that_needs_more_is_not_evaluated() {
        for rule in [
            "oldSelf == self",
            "self.a.cosine() == 1",
            "self.a ==",
            "1 + (2",
            "self matches",
        ] {
            let found = holds(rule, &json!({"a": 1}));
            assert!(
                matches!(found, Err(CelError::Unsupported(_))),
                "{rule}: {found:?}"
            );
        }
        let absent = holds("self.b == 1", &json!({"a": 1}));
        assert_eq!(absent, Err(CelError::Failed("no such key: b".to_owned())));
    }
}
