//! A walk over every field of the Activation (F56), as Acto does it: each field goes to each of its
//! bounds, beyond them and back. Every value is refused at apply with words that name the field, or it
//! is accepted, leads to a status that says what is, and the object is as before once it is put back.
//!
//! The cases are made from the schema in `crds/activations.yaml`, so a new field is walked as well.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::collections::BTreeMap;

use futures::future::join_all;
use golive::api::{ActivationSpec, ActivationStatus};
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Map, Value, json};

use super::full;
use crate::support::{
    env::{Env, is, message, reason, root},
    trouble::world,
};

/// Objects that walk side by side.
const WALKERS: usize = 6;

/// One case of so many is part of every test run.
const SAMPLE: usize = 11;

/// Fields that decide what a walk is, or whose bounds are those of time.
const NOT_WALKED: [&str; 2] = ["mode", "suspendUntil"];

/// A path into the spec, where `[]` is the first item of a list, and the value to try there.
type Case = (Vec<String>, Value);

fn schema() -> Value {
    let text = std::fs::read_to_string(root().join("crds/activations.yaml")).unwrap();
    let crd = kube_env::cluster::parse_yaml(&text).unwrap().remove(0);
    let version = &crd["spec"]["versions"][0];
    version["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
}

fn number(schema: &Value, key: &str) -> Option<i64> {
    let number = schema[key].as_f64()?;
    // The bounds of the schema are whole numbers.
    #[expect(clippy::cast_possible_truncation, reason = "a bound of the schema")]
    Some(number as i64)
}

/// The smallest value that the schema allows.
fn smallest(schema: &Value) -> Value {
    if let Some(first) = schema["enum"].as_array().and_then(|all| all.first()) {
        return first.clone();
    }
    match schema["type"].as_str().unwrap_or_default() {
        "object" => {
            let required = schema["required"].as_array().into_iter().flatten();
            let fields = required.filter_map(Value::as_str);
            let fields =
                fields.map(|name| (name.to_owned(), smallest(&schema["properties"][name])));
            Value::Object(fields.collect())
        }
        "array" => json!([]),
        "integer" => json!(number(schema, "minimum").unwrap_or(1)),
        "boolean" => json!(false),
        _ => {
            let length = number(schema, "minLength").unwrap_or(1).max(1);
            json!("a".repeat(usize::try_from(length).unwrap()))
        }
    }
}

/// Values at the bounds of a field, and beyond them.
fn bounds(schema: &Value) -> Vec<Value> {
    if let Some(all) = schema["enum"].as_array() {
        let beyond = [json!("Nonsense")];
        return all.iter().cloned().chain(beyond).collect();
    }
    match schema["type"].as_str().unwrap_or_default() {
        "boolean" => vec![json!(true), json!(false)],
        "integer" => {
            let (least, most) = (number(schema, "minimum"), number(schema, "maximum"));
            let least = least.unwrap_or_default();
            let mut values = vec![json!(least), json!(least - 1), json!("many")];
            if let Some(most) = most {
                values.extend([json!(most), json!(most + 1)]);
            }
            values
        }
        "array" => {
            let most = number(schema, "maxItems").unwrap_or(8);
            let items = vec![smallest(&schema["items"]); usize::try_from(most).unwrap() + 1];
            vec![json!([]), json!(items)]
        }
        "object" => {
            let inner = &schema["additionalProperties"];
            vec![
                json!({}),
                json!({"app": smallest(inner)}),
                json!({"nobody": smallest(inner)}),
            ]
        }
        _ => {
            let least = number(schema, "minLength").unwrap_or_default();
            let most = number(schema, "maxLength").unwrap_or(64);
            let of = |length: i64| json!("a".repeat(usize::try_from(length).unwrap()));
            let mut values = vec![of(least.max(1)), of(most), of(most + 1), json!("")];
            values.extend(["0s", "99999999999h", "-1", "ü \u{202e} $(x) ../.."].map(Value::from));
            values
        }
    }
}

fn walk(path: &[String], schema: &Value, cases: &mut Vec<Case>) {
    if NOT_WALKED.contains(&path.join(".").as_str()) {
        return;
    }
    if let Some(fields) = schema["properties"].as_object() {
        for (name, field) in fields {
            walk(&[path, &[name.clone()]].concat(), field, cases);
        }
        return;
    }
    if schema["items"].is_object() {
        walk(
            &[path, &["[]".to_owned()]].concat(),
            &schema["items"],
            cases,
        );
    }
    cases.extend(
        bounds(schema)
            .into_iter()
            .map(|value| (path.to_vec(), value)),
    );
}

/// The merge patch that puts a value where a path leads. Items of lists have what they require.
fn patch(path: &[String], schema: &Value, value: &Value) -> Value {
    let Some((first, rest)) = path.split_first() else {
        return value.clone();
    };
    if first == "[]" {
        let mut item = smallest(&schema["items"]);
        crate::support::env::merge(&mut item, patch(rest, &schema["items"], value));
        return json!([item]);
    }
    let field = &schema["properties"][first.as_str()];
    let inner = patch(rest, field, value);
    let mut object = Map::new();
    // A section that is not there yet needs its required fields.
    if let Value::Object(required) = smallest(field)
        && inner.is_object()
    {
        let mut whole = Value::Object(required);
        crate::support::env::merge(&mut whole, inner);
        object.insert(first.clone(), whole);
    } else {
        object.insert(first.clone(), inner);
    }
    Value::Object(object)
}

/// Conditions and steps, without what differs from time to time.
fn canonical(status: &ActivationStatus) -> Value {
    let conditions: BTreeMap<&str, (&str, &str)> = status
        .conditions
        .iter()
        .map(|c| (c.type_.as_str(), (c.status.as_str(), c.reason.as_str())))
        .collect();
    let steps: BTreeMap<&str, Value> = status
        .phases
        .iter()
        .flat_map(|phase| &phase.steps)
        .map(|step| (step.name.as_str(), json!([step.state, step.reason])))
        .collect();
    json!({"conditions": conditions, "steps": steps})
}

/// Whether a status has come to an end for now: proven, planned, stopped with its reason, or asleep.
fn says_what_is(status: &ActivationStatus) -> bool {
    let planned = ["Planned", "AwaitingApproval", "NotImplemented", "Suspended"];
    is(status, "Ready", "True")
        || is(status, "Stalled", "True")
        || is(status, "Suspended", "True")
        || planned.contains(&reason(status, "Ready"))
}

/// What a case comes to: `None` when all is as it must be.
async fn tried(
    env: &Env,
    name: &str,
    (base, before): (&ActivationSpec, &Value),
    (schema, case): (&Value, &Case),
) -> Option<String> {
    let (path, value) = case;
    let shown: String = value.to_string().chars().take(60).collect();
    let place = format!("{}={shown}", path.join("."));
    let spec = patch(path, schema, value);
    let wanted = Patch::Merge(json!({"spec": spec}));
    let activations = env.activations();
    let answer = activations
        .patch(name, &PatchParams::default(), &wanted)
        .await;
    let accepted = match answer {
        Err(kube::Error::Api(refused)) => {
            let mut names = path.iter().filter(|part| *part != "[]");
            let named = names.any(|part| refused.message.contains(part.as_str()));
            let in_words = refused.message.split_whitespace().count() > 4;
            return (!named || !in_words || refused.code >= 500)
                .then(|| format!("{place}: refused without words: {}", refused.message));
        }
        Err(error) => return Some(format!("{place}: {error}")),
        Ok(accepted) => accepted,
    };
    let generation = accepted.metadata.generation;
    let status = env
        .wait(name, &format!("an end of {place}"), |status| {
            status.observed_generation == generation && says_what_is(status)
        })
        .await;
    let mut wrong = None;
    if message(&status, "Ready").is_empty() || reason(&status, "Ready") == "InternalError" {
        wrong = Some(format!("{place}: {status:?}"));
    }
    if is(&status, "Stalled", "True") && status.next_action.is_none() {
        wrong = Some(format!(
            "{place}: stalled, and nothing says what to do: {status:?}"
        ));
    }
    put_back(env, name, base).await;
    let generation = env
        .get(name)
        .await
        .and_then(|object| object.metadata.generation);
    env.wait(name, &format!("as before {place}"), |status| {
        status.observed_generation == generation && canonical(status) == *before
    })
    .await;
    wrong
}

/// Gives the object its first spec again.
async fn put_back(env: &Env, name: &str, base: &ActivationSpec) {
    loop {
        let mut object = env.get(name).await.unwrap();
        object.spec = base.clone();
        let replaced = env
            .activations()
            .replace(name, &PostParams::default(), &object)
            .await;
        match replaced {
            Ok(_) => return,
            // Written meanwhile, such as its status.
            Err(kube::Error::Api(error)) if error.code == 409 => {}
            Err(error) => panic!("{name} cannot be put back: {error}"),
        }
    }
}

/// One object goes through its cases.
async fn walks(env: &Env, name: &str, mode: &str, schema: &Value, cases: &[Case]) -> Vec<String> {
    env.activation(name, json!({"app": name, "mode": mode}))
        .await;
    let status = env
        .wait(name, "the beginning", |status| {
            says_what_is(status) && status.plan.is_some()
        })
        .await;
    let base = env.get(name).await.unwrap().spec;
    let before = canonical(&status);
    let mut wrong = Vec::new();
    for case in cases {
        wrong.extend(tried(env, name, (&base, &before), (schema, case)).await);
    }
    wrong
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_goes_to_each_of_its_bounds_and_back() {
    let env = world(&["--recheck-interval", "1h"]).await;
    let schema = schema();
    let mut cases = Vec::new();
    walk(&[], &schema, &mut cases);
    assert!(cases.len() > 400, "{} cases", cases.len());
    let modes: &[&str] = if full() {
        &["Plan", "Apply"]
    } else {
        &["Plan"]
    };
    let sample = if full() { 1 } else { SAMPLE };
    let cases: Vec<Case> = cases.into_iter().step_by(sample).collect();
    for mode in modes {
        let walkers = (0..WALKERS).map(async |n| {
            let own: Vec<Case> = cases.iter().skip(n).step_by(WALKERS).cloned().collect();
            let name = format!("paseo-{}-{n}", mode.to_lowercase());
            walks(&env, &name, mode, &schema, &own).await
        });
        let wrong: Vec<String> = join_all(walkers).await.into_iter().flatten().collect();
        assert!(
            wrong.is_empty(),
            "{mode}: {} cases: {wrong:#?}",
            cases.len()
        );
    }
}
