//! What is wrong with the objects of some files. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt;
use serde::Serialize;
use serde_json::Value;

use super::metadata;
use super::policy;
use crate::api::{self, Activation, ActivationApproval, GROUP, VERSION, approval::DecidedOn, crds};
use crate::cli::manifest::{self, kind, name};
use crate::cli::schema;
use crate::flytoml;
use crate::plan::named::{RefKind, named};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// The API server or the operator refuses it.
    Error,
    /// It is accepted, and probably a mistake.
    Warning,
    /// A rule that cannot be checked here; nothing is known to be wrong.
    Note,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Finding {
    pub(super) level: Level,
    /// Which rule: `yaml`, `schema`, `fly.toml`, `reference` or `policy`.
    pub(super) rule: &'static str,
    pub(super) file: String,
    /// Kind and name, empty for a file as a whole.
    pub(super) object: String,
    pub(super) message: String,
}

/// An object and the file that it is in.
struct Held {
    file: String,
    object: Value,
}

impl Held {
    fn finding(&self, level: Level, rule: &'static str, message: String) -> Finding {
        Finding {
            level,
            rule,
            file: self.file.clone(),
            object: format!("{} {}", kind(&self.object), name(&self.object)),
            message,
        }
    }

    fn namespace(&self) -> Option<&str> {
        self.object
            .pointer("/metadata/namespace")
            .and_then(Value::as_str)
    }

    /// kubectl chooses the namespace of a manifest without one, so it fits any.
    fn fits(&self, other: Option<&str>) -> bool {
        self.namespace().is_none() || other.is_none() || self.namespace() == other
    }

    /// Whether it is of our group, or was meant to be: nobody else has kinds of these names in a file that
    /// is given to this program, and one that is passed over would not be checked for months.
    fn is_ours(&self) -> bool {
        let version = self.object.get("apiVersion").and_then(Value::as_str);
        let group = version.and_then(|version| version.split('/').next());
        let kinds = ["Activation", "ActivationApproval"];
        group == Some(GROUP) || kinds.contains(&kind(&self.object))
    }
}

/// Checks the objects of all files, which are names and contents, as of this time.
pub(super) fn all(files: &[(String, String)], now: Timestamp) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut objects = Vec::new();
    for file in files {
        match manifest::objects(std::slice::from_ref(file)) {
            Ok(read) => objects.extend(read.into_iter().map(|object| Held {
                file: file.0.clone(),
                object,
            })),
            Err(error) => found.push(Finding {
                level: Level::Error,
                rule: "yaml",
                file: file.0.clone(),
                object: String::new(),
                message: without_path(&error.to_string(), &file.0),
            }),
        }
    }
    if found.is_empty() && !objects.iter().any(Held::is_ours) {
        found.push(empty(files, !objects.is_empty()));
    }
    let crds = crds();
    for held in objects.iter().filter(|held| held.is_ours()) {
        let before = found.len();
        structure(&crds, held, &mut found);
        let wrong = found.iter().skip(before);
        let mut wrong = wrong.filter(|one| one.level == Level::Error);
        if wrong.next().is_some() {
            continue;
        }
        match kind(&held.object) {
            "Activation" => match serde_json::from_value::<Activation>(without_nulls(&held.object))
            {
                Ok(activation) => {
                    of_activation(&objects, held, &activation, &mut found);
                    for message in policy::warnings(&held.object, now) {
                        found.push(held.finding(Level::Warning, "policy", message.to_owned()));
                    }
                }
                Err(error) => {
                    let message = format!("cannot be read: {error}");
                    found.push(held.finding(Level::Error, "schema", message));
                }
            },
            _ => of_approval(&objects, held, &mut found),
        }
    }
    twice(&objects, &mut found);
    found
}

/// The object as the API server stores it: a null is the same as a field that is left out.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let given = map.iter().filter(|(_, value)| !value.is_null());
            let kept = given.map(|(name, value)| (name.clone(), without_nulls(value)));
            Value::Object(kept.collect())
        }
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

/// A pipe in which a program has failed, or a wrong folder, must not look like manifests without a mistake.
fn empty(files: &[(String, String)], others: bool) -> Finding {
    let message = if others {
        "there is no Activation and no ActivationApproval in it"
    } else {
        "there is no object in it"
    };
    Finding {
        level: Level::Error,
        rule: "yaml",
        file: files.first().map(|file| file.0.clone()).unwrap_or_default(),
        object: String::new(),
        message: message.to_owned(),
    }
}

/// Line, column and message: the path is a field of its own.
fn without_path(place: &str, path: &str) -> String {
    let rest = place.strip_prefix(path).unwrap_or(place);
    rest.trim_start_matches(':').trim_start().to_owned()
}

/// The rules of the definition.
fn structure(crds: &[CustomResourceDefinition], held: &Held, found: &mut Vec<Finding>) {
    let wanted = format!("{GROUP}/{VERSION}");
    let given = held.object.get("apiVersion").and_then(Value::as_str);
    let mut refuse = |message: String| found.push(held.finding(Level::Error, "schema", message));
    if given != Some(wanted.as_str()) {
        let given = given.unwrap_or("missing");
        let group = given.split('/').next().unwrap_or_default();
        let meant = match group {
            GROUP | "missing" => format!("this program knows {wanted}"),
            _ => format!("did you mean {wanted}?"),
        };
        return refuse(format!("apiVersion is {given}; {meant}"));
    }
    let of_kind = |crd: &&CustomResourceDefinition| crd.spec.names.kind == kind(&held.object);
    let Some(crd) = crds.iter().find(of_kind) else {
        let kinds: Vec<&str> = crds
            .iter()
            .map(|crd| crd.spec.names.kind.as_str())
            .collect();
        return refuse(format!(
            "there is no such kind in {wanted}; there are {}",
            kinds.join(", ")
        ));
    };
    for message in metadata::wrong(&held.object) {
        refuse(message);
    }
    let Some(schema) = api::schema(crd) else {
        return;
    };
    let checked = schema::check(schema, &held.object);
    for message in checked.errors {
        refuse(message);
    }
    // kubectl refuses an unknown field, as it validates strictly by default.
    for message in checked.warnings {
        found.push(held.finding(Level::Error, "schema", message));
    }
    for rule in checked.left {
        let message = format!("only the API server can check {rule}");
        found.push(held.finding(Level::Note, "schema", message));
    }
}

fn of_activation(objects: &[Held], held: &Held, activation: &Activation, found: &mut Vec<Finding>) {
    for reference in named(activation) {
        let of_kind = match reference.kind {
            RefKind::Secret => "Secret",
            RefKind::ConfigMap => "ConfigMap",
        };
        let targets = find(objects, of_kind, &reference.name, held.namespace());
        let (Some(target), Some(key)) = (targets.first(), &reference.key) else {
            continue;
        };
        let has = |target: &&Held| keys(&target.object).contains(key);
        if !targets.iter().any(has) {
            let keys = keys(&target.object);
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            let keys = if keys.is_empty() {
                "none".to_owned()
            } else {
                keys.join(", ")
            };
            let message = format!(
                "{}: {of_kind} {} has no key {key}; it has {keys}",
                reference.field, reference.name
            );
            found.push(held.finding(Level::Error, "reference", message));
        }
    }
    fly_toml(objects, held, activation, found);
}

/// The objects of this kind and name: the one in this namespace, else all that could be in it.
fn find<'o>(
    objects: &'o [Held],
    wanted: &str,
    named: &str,
    namespace: Option<&str>,
) -> Vec<&'o Held> {
    let fits = objects.iter().filter(|held| {
        kind(&held.object) == wanted && name(&held.object) == named && held.fits(namespace)
    });
    let fits: Vec<&Held> = fits.collect();
    let exact = fits.iter().filter(|held| held.namespace() == namespace);
    let exact: Vec<&Held> = exact.copied().collect();
    if exact.is_empty() { fits } else { exact }
}

/// The keys of a Secret or ConfigMap.
fn keys(object: &Value) -> BTreeSet<String> {
    let maps = ["data", "stringData", "binaryData"];
    let maps = maps.iter().filter_map(|map| object.get(map)?.as_object());
    maps.flat_map(|map| map.keys().cloned()).collect()
}

/// The fly.toml, where the files have it.
fn fly_toml(objects: &[Held], held: &Held, activation: &Activation, found: &mut Vec<Finding>) {
    let Some(config) = &activation.spec.deploy.config else {
        return;
    };
    let (origin, text) = match (&config.inline, &config.config_map_ref) {
        (Some(text), _) => ("inline".to_owned(), Some(text.as_str())),
        (None, Some(reference)) => {
            let origin = format!("ConfigMap {}, {}", reference.name, reference.key);
            let maps = find(objects, "ConfigMap", &reference.name, held.namespace());
            let Some(map) = maps.first().filter(|_| maps.len() == 1) else {
                let message = format!(
                    "spec.deploy.config: ConfigMap {} is {} in the files, so its fly.toml is not checked",
                    reference.name,
                    if maps.is_empty() {
                        "not"
                    } else {
                        "more than once"
                    }
                );
                return found.push(held.finding(Level::Note, "reference", message));
            };
            let data = map
                .object
                .get("data")
                .and_then(|data| data.get(&reference.key));
            (origin, data.and_then(Value::as_str))
        }
        (None, None) => return,
    };
    let Some(text) = text else {
        return;
    };
    let problems = match flytoml::parse(text) {
        Ok(mut parsed) => {
            parsed.bind(&activation.spec.app, &activation.spec.region);
            let scaled = activation.spec.deploy.scale.keys();
            for group in scaled.filter(|group| !parsed.config.has_group(group)) {
                let message = format!(
                    "spec.deploy.scale names the process group {group}; the fly.toml has {}",
                    parsed.config.process_groups().join(", ")
                );
                found.push(held.finding(Level::Warning, "fly.toml", message));
            }
            parsed.warnings
        }
        Err(invalid) => invalid.problems,
    };
    for problem in problems {
        let level = match problem.severity {
            flytoml::Severity::Error => Level::Error,
            flytoml::Severity::Warning => Level::Warning,
        };
        let key = if problem.key.is_empty() {
            String::new()
        } else {
            format!("{}: ", problem.key)
        };
        let message = format!(
            "{origin}:{}:{}: {key}{}",
            problem.line, problem.column, problem.message
        );
        found.push(held.finding(level, "fly.toml", message));
    }
}

/// An approval names an Activation of the files, and a gate of it.
fn of_approval(objects: &[Held], held: &Held, found: &mut Vec<Finding>) {
    let Ok(approval) = serde_json::from_value::<ActivationApproval>(without_nulls(&held.object))
    else {
        return;
    };
    let spec = &approval.spec;
    let targets = find(objects, "Activation", &spec.activation, held.namespace());
    let target = targets.first().filter(|_| targets.len() == 1);
    let target = target
        .and_then(|held| serde_json::from_value::<Activation>(without_nulls(&held.object)).ok());
    let Some(target) = target.filter(|_| spec.gate != DecidedOn::Rollback) else {
        return;
    };
    let gates = target.spec.gates.iter();
    let gates: Vec<&str> = gates.map(|gate| gate.before.as_str()).collect();
    if !gates.contains(&spec.gate.as_str()) {
        let has = if gates.is_empty() {
            "none".to_owned()
        } else {
            gates.join(", ")
        };
        let message = format!(
            "spec.gate: Activation {} has no gate before {}; it has {has}",
            target.name_any(),
            spec.gate
        );
        found.push(held.finding(Level::Error, "reference", message));
    }
}

/// Objects that are there twice, and apps that two Activations have.
fn twice(objects: &[Held], found: &mut Vec<Finding>) {
    let mut names: BTreeMap<(String, String, Option<&str>), &Held> = BTreeMap::new();
    let mut apps: BTreeMap<String, &Held> = BTreeMap::new();
    for held in objects.iter().filter(|held| held.is_ours()) {
        let named = name(&held.object).to_owned();
        if !named.is_empty() {
            let key = (kind(&held.object).to_owned(), named, held.namespace());
            if let Some(first) = names.insert(key, held) {
                let message = format!("the same object is in {} too", first.file);
                found.push(held.finding(Level::Error, "reference", message));
                continue;
            }
        }
        let app = held.object.pointer("/spec/app").and_then(Value::as_str);
        let Some(app) = app.filter(|_| kind(&held.object) == "Activation") else {
            continue;
        };
        if let Some(first) = apps.insert(app.to_owned(), held) {
            let message = format!(
                "spec.app: Activation {} in {} has the app {app} too; names are unique on all of Fly.io",
                name(&first.object),
                first.file
            );
            found.push(held.finding(Level::Error, "reference", message));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const GOOD: &str = "
apiVersion: golive.dev/v1alpha1
kind: Activation
metadata: {name: shop, namespace: prod}
spec:
  organization: acme
  app: shop
  region: eze
  tokenSecretRef: {name: fly, key: token}
  gates: [{before: Deploy}]
  deploy: {image: 'registry.fly.io/shop:1', config: {configMapRef: {name: config, key: fly.toml}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: config}
data: {fly.toml: \"[http_service]\\ninternal_port = 8080\\n\"}
---
apiVersion: v1
kind: Secret
metadata: {name: fly, namespace: prod}
stringData: {token: x}
";

    fn found(texts: &[&str]) -> Vec<String> {
        let files = texts.iter().enumerate();
        let files: Vec<(String, String)> = files
            .map(|(index, text)| (format!("{index}.yaml"), (*text).to_owned()))
            .collect();
        let found = all(&files, Timestamp::UNIX_EPOCH);
        found
            .iter()
            .map(|one| format!("{:?} {} {}: {}", one.level, one.rule, one.file, one.message))
            .collect()
    }

    #[test]
    fn a_null_is_a_field_that_is_left_out() {
        let null = GOOD.replacen("gates:", "observe: null\n  gates:", 1);
        let null = null.replacen("name: fly, key: token}", "name: fly, key: null}", 1);
        assert_eq!(found(&[&null]), [""; 0]);
    }

    #[test]
    fn what_is_right_has_no_finding() {
        assert_eq!(found(&[GOOD]), [""; 0]);
    }

    #[test]
    fn every_kind_of_mistake_is_found_where_it_is() {
        let with = |from: &str, to: &str| {
            assert!(GOOD.contains(from), "{from}");
            GOOD.replacen(from, to, 1)
        };
        let approval = |gate: &str| {
            format!(
                "apiVersion: golive.dev/v1alpha1\nkind: ActivationApproval\nmetadata: {{generateName: a-}}\nspec: {{activation: shop, gate: {gate}, digest: 'sha256:{}', decision: Approve, approver: ana}}",
                "a".repeat(64)
            )
        };
        for (text, said) in [
            ("a: [b".to_owned(), "Error yaml 0.yaml: 1:"),
            (
                with("region: eze", "regoin: eze"),
                "spec.region: is required",
            ),
            (
                with("region: eze", "region: eze\n  modus: x"),
                "Error schema 0.yaml: spec.modus",
            ),
            (with("v1alpha1", "v1"), "apiVersion is golive.dev/v1"),
            (
                with("kind: Activation", "kind: Activatoin"),
                "there is no such kind",
            ),
            (
                with("gates: [{before: Deploy}]", "gates: [{before: Preflight}]"),
                "spec.gates[0].before",
            ),
            (
                with("gates:", "readyWhen: Stabilized\n  gates:"),
                "`readyWhen: Stabilized` needs `observe`",
            ),
            (
                with("stringData: {token: x}", "stringData: {tokne: x}"),
                "Secret fly has no key token; it has tokne",
            ),
            (
                with("internal_port = 8080", "internal_port = 'web'"),
                "Error fly.toml 0.yaml: ConfigMap config, fly.toml:2:",
            ),
            (
                with("name: config, key", "name: other, key"),
                "Note reference 0.yaml: spec.deploy.config: ConfigMap other is not in the files",
            ),
            (
                format!("{GOOD}---\n{}", approval("SmokeTest")),
                "has no gate before SmokeTest; it has Deploy",
            ),
            (
                format!("{GOOD}---\n{GOOD}"),
                "the same object is in 0.yaml too",
            ),
            (
                format!("{GOOD}---\n{}", with("name: shop", "name: other")),
                "has the app shop too",
            ),
        ] {
            let found = found(&[&text]);
            assert!(
                found.iter().any(|line| line.contains(said)),
                "{said} is not in {found:?}"
            );
        }
        let good = format!("{GOOD}---\n{}", approval("Deploy"));
        assert_eq!(found(&[&good]), [""; 0]);
    }

    #[test]
    fn what_is_mistyped_or_missing_is_not_passed_over() {
        let with = |from: &str, to: &str| GOOD.replacen(from, to, 1);
        for (text, said) in [
            (with("golive.dev", "golive.dve"), "apiVersion is golive.dve"),
            (
                with("golive.dev", "golive.io"),
                "apiVersion is golive.io/v1alpha1; did you mean golive.dev/v1alpha1?",
            ),
            (
                "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: shop}".to_owned(),
                "Error yaml 0.yaml: there is no Activation and no ActivationApproval in it",
            ),
            (
                with("apiVersion: golive", "apiversion: golive"),
                "apiVersion is missing",
            ),
            (
                with("namespace: prod", "namepsace: prod"),
                "metadata.namepsace: unknown field",
            ),
            (
                with("namespace: prod", "annotations: {a: 1}"),
                "metadata.annotations.a: must be a string",
            ),
            (
                with("region: eze", "region: eze\n  suspendReason: x"),
                "Warning policy 0.yaml: `suspendReason` has no effect",
            ),
            (String::new(), "Error yaml 0.yaml: there is no object in it"),
            ("# nothing\n".to_owned(), "there is no object in it"),
        ] {
            let found = found(&[&text]);
            assert!(
                found.iter().any(|line| line.contains(said)),
                "{said} is not in {found:?}"
            );
        }
    }

    #[test]
    fn a_reference_is_to_the_object_of_the_same_namespace() {
        let secret = |namespace: &str, key: &str| {
            format!(
                "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: fly{namespace}}}\nstringData: {{{key}: x}}\n"
            )
        };
        // Another namespace comes first.
        let other = format!(
            "{}{GOOD}",
            secret(", namespace: test", "other").trim_start_matches("---\n")
        );
        assert!(other.starts_with("apiVersion"));
        let other = other.replacen("\napiVersion: golive", "\n---\napiVersion: golive", 1);
        assert_eq!(found(&[&other]), [""; 0]);
        // One without a namespace may be for another one.
        let unnamed = format!("{}---{GOOD}", secret("", "other"));
        assert_eq!(found(&[&unnamed]), [""; 0]);
        // Without its own namespace it may be any of several.
        let anywhere = GOOD.replace(", namespace: prod", "");
        let several = format!("{anywhere}{}", secret(", namespace: test", "other"));
        assert_eq!(found(&[&several]), [""; 0]);
    }

    #[test]
    fn objects_of_others_are_not_judged() {
        let other = "kind: Pod\napiVersion: v1\nspec: 7";
        assert_eq!(found(&[GOOD, other]), [""; 0]);
    }
}
