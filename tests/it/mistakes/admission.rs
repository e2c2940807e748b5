//! What the API server refuses or warns of, and `lint` says too.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use golive::api::crds;
use http_body_util::BodyExt;
use kube::Client;
use serde_json::{Value, json};

use super::page::{cell, code, fields, keep, lint};
use crate::api::{bind, minimal, with, wrong_specs};
use crate::support::env::merge;
use crate::support::installed::{cluster, eventually, root};

/// Inputs beside those of the tests of the API: see the head of the file.
const INPUTS: &str = "tests/it/mistakes/inputs.yaml";

/// What a policy of the operator's own rights names; no person meets it.
const OPERATOR: &str = "== 'system:serviceaccount:golive-system:golive'";

/// The answer of the API server.
#[derive(Debug, Default)]
struct Answer {
    /// Field and message of each cause of a refusal; of none, it was accepted.
    refused: Vec<String>,
    warnings: Vec<String>,
}

/// Sends an object. Nothing is stored when it is dry.
async fn send(client: &Client, method: &str, path: &str, body: &Value, dry: bool) -> Answer {
    let dry = if dry { "&dryRun=All" } else { "" };
    let content = match method {
        "PATCH" => "application/merge-patch+json",
        _ => "application/json",
    };
    let request = http::Request::builder()
        .method(method)
        .uri(format!("{path}?fieldValidation=Strict{dry}"))
        .header("content-type", content)
        .body(kube::client::Body::from(body.to_string().into_bytes()))
        .unwrap();
    let (head, body) = client.send(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap();
    let warnings = head.headers.get_all("warning").iter().map(|value| {
        let text = value.to_str().unwrap();
        let text = text.trim_start_matches("299 - \"").trim_end_matches('"');
        let text = text.replace("\\\"", "\"").replace("\\\\", "\\");
        // The server says whose policy it is before the message.
        let own = text.split_once("with binding 'golive-warnings': ");
        own.map_or(text.clone(), |(_, own)| own.to_owned())
    });
    let mut answer = Answer {
        warnings: warnings.collect(),
        ..Answer::default()
    };
    if head.status.is_success() {
        return answer;
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let causes = body["details"]["causes"].as_array();
    for cause in causes.into_iter().flatten() {
        let (field, message) = (text(&cause["field"]), text(&cause["message"]));
        // It says that rules were not looked at, which is of no use to a person.
        if field == "<nil>" || message.contains("some validation rules were not checked") {
            continue;
        }
        answer.refused.push(if field.is_empty() {
            message
        } else {
            format!("{field}: {message}")
        });
    }
    answer.refused.sort();
    answer.refused.dedup();
    if answer.refused.is_empty() {
        answer.refused.push(text(&body["message"]));
    }
    answer
}

fn path(namespace: &str, kind: &Value, name: Option<&str>) -> String {
    let kind = match kind.as_str() {
        Some("ActivationApproval") => "activationapprovals",
        _ => "activations",
    };
    let name = name.map(|name| format!("/{name}")).unwrap_or_default();
    format!("/apis/golive.dev/v1alpha1/namespaces/{namespace}/{kind}{name}")
}

/// A row of the page.
struct Row {
    input: String,
    answer: Answer,
    lint: Vec<String>,
}

impl Row {
    fn text(&self) -> String {
        let said = |all: &[String]| {
            let all: Vec<String> = all.iter().map(|one| cell(one)).collect();
            all.join("<br>")
        };
        let server = match self.answer.refused.as_slice() {
            [] => format!("warns: {}", said(&self.answer.warnings)),
            refused => said(refused),
        };
        // What is the same need not be read twice.
        let same = |one: &String| {
            let (field, text) = one.split_once(": ").unwrap_or(("", one));
            let mut server = self.answer.refused.iter().chain(&self.answer.warnings);
            server.any(|said| said == one || (said.starts_with(field) && said.ends_with(text)))
        };
        let lint = match self.lint.as_slice() {
            [] => "cannot know it".to_owned(),
            all if all.iter().all(same) => "the same".to_owned(),
            all => said(all),
        };
        format!("| {} | {server} | {lint} |\n", self.input)
    }
}

fn inputs(kind: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(root().join(INPUTS)).unwrap();
    let all: Value = serde_saphyr::from_str(&text).unwrap();
    all[kind].as_array().unwrap().clone()
}

/// An approval that is right.
fn approval(name: &str, user: &str) -> Value {
    json!({
        "apiVersion": "golive.dev/v1alpha1", "kind": "ActivationApproval",
        "metadata": {"name": name},
        "spec": {
            "activation": "gated", "gate": "Deploy", "decision": "Approve", "approver": user,
            "digest": format!("sha256:{}", "ab".repeat(32)),
        },
    })
}

/// Each input with the object that it makes.
fn objects(user: &str) -> Vec<(Value, Value)> {
    let mut changes = wrong_specs();
    changes.extend(inputs("specs"));
    let mut seen = BTreeSet::new();
    changes.retain(|change| seen.insert(change.to_string()));
    changes.sort_by_key(|change| {
        change
            .as_object()
            .and_then(|map| map.keys().next().cloned())
    });
    let mut all = Vec::new();
    for change in changes {
        let object = with(minimal(&format!("m{:03}", all.len())), &change);
        all.push((change, object));
    }
    for change in inputs("objects") {
        let mut object = minimal(&format!("m{:03}", all.len()));
        merge(&mut object, change.clone());
        all.push((change, object));
    }
    for change in inputs("approvals") {
        let mut object = approval(&format!("a{:03}", all.len()), user);
        merge(&mut object["spec"], change.clone());
        all.push((json!({"ActivationApproval": change}), object));
    }
    all
}

/// Rows of objects that are created; each is refused or warned of by both.
async fn created(client: &Client, namespace: &str, user: &str) -> Vec<Row> {
    let objects = objects(user);
    let names = |index: usize| format!("{index:03}.json");
    let files: Vec<(String, String)> = objects
        .iter()
        .enumerate()
        .map(|(index, (_, object))| (names(index), object.to_string()))
        .collect();
    let mut said: BTreeMap<String, Vec<[String; 4]>> = BTreeMap::new();
    for finding in lint(&files) {
        said.entry(finding[0].clone()).or_default().push(finding);
    }
    let (mut rows, mut differ) = (Vec::new(), Vec::new());
    for (index, (change, object)) in objects.iter().enumerate() {
        let path = path(namespace, &object["kind"], None);
        let answer = send(client, "POST", &path, object, true).await;
        let found = said.remove(&names(index)).unwrap_or_default();
        let of = |level: &str| -> Vec<String> {
            let found = found.iter().filter(|one| one[1] == level);
            found.map(|one| one[3].clone()).collect()
        };
        let (errors, warnings) = (of("error"), of("warning"));
        let agree = match answer.refused.is_empty() {
            true => errors.is_empty() && !warnings.is_empty() && warnings == answer.warnings,
            false => !errors.is_empty(),
        };
        if !agree {
            differ.push(format!(
                "{change}\n    server: {answer:?}\n    lint: {found:?}"
            ));
        }
        rows.push(Row {
            input: fields(change),
            answer,
            lint: errors.into_iter().chain(warnings).collect(),
        });
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
    rows
}

/// Rows of changes that an object refuses once it exists.
async fn changed(client: &Client, namespace: &str, user: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    for (index, input) in inputs("changes").iter().enumerate() {
        let name = format!("c{index:03}");
        let of = input["kind"].as_str().unwrap_or("Activation");
        let base = match of {
            "Activation" => minimal(&name),
            _ => approval(&name, user),
        };
        let before = with(base, &input["from"]);
        let collection = path(namespace, &before["kind"], None);
        let made = send(client, "POST", &collection, &before, false).await;
        assert!(made.refused.is_empty(), "{input}: {made:?}");
        let one = path(namespace, &before["kind"], Some(&name));
        let change = json!({"spec": input["to"]});
        let answer = send(client, "PATCH", &one, &change, true).await;
        assert!(!answer.refused.is_empty(), "accepted: {input}");
        rows.push(Row {
            input: match input["from"]
                .as_object()
                .is_some_and(|from| from.is_empty())
            {
                true => format!("{of}: {}", fields(&input["to"])),
                false => format!(
                    "{of}: {}, before {}",
                    fields(&input["to"]),
                    fields(&input["from"])
                ),
            },
            answer,
            lint: Vec::new(),
        });
    }
    rows
}

/// Rows of what a person may not do.
async fn forbidden(admin: &Client, namespace: &str, user: &str) -> Vec<Row> {
    let role = |verbs: Value, group: &str, resource: &str| json!([{"apiGroups": [group], "resources": [resource], "verbs": verbs}]);
    for (name, rules) in [
        (
            "bob",
            role(json!(["create"]), "golive.dev", "activationapprovals"),
        ),
        ("sue", role(json!(["activate"]), "", "secrets")),
    ] {
        let group = "rbac.authorization.k8s.io";
        let rbac = format!("/apis/{group}/v1/namespaces/{namespace}");
        let body = json!({"metadata": {"name": name}, "rules": rules});
        send(admin, "POST", &format!("{rbac}/roles"), &body, false).await;
        let body = json!({"metadata": {"name": name},
            "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
            "subjects": [{"kind": "User", "name": name, "apiGroup": group}]});
        send(admin, "POST", &format!("{rbac}/rolebindings"), &body, false).await;
    }
    for (name, role) in [
        ("ed", "edit"),
        ("ed", "activation-edit"),
        ("dev", "activation-edit"),
        ("sue", "activation-edit"),
    ] {
        bind(admin, namespace, name, role).await;
    }
    let gated = with(minimal("gated"), &json!({"gates": [{"before": "Deploy"}]}));
    let collection = path(namespace, &gated["kind"], None);
    send(admin, "POST", &collection, &gated, false).await;
    let label = json!({"metadata": {"labels": {"golive.dev/require-gate": "SmokeTest"}}});
    send(
        admin,
        "PATCH",
        &format!("/api/v1/namespaces/{namespace}"),
        &label,
        false,
    )
    .await;
    let smoke = json!({"gates": [{"before": "SmokeTest"}]});
    let mut many = smoke.clone();
    many["provision"]["secrets"]["from"] = (0..11)
        .map(|n| json!({"secretRef": {"name": format!("s{n}")}}))
        .collect();
    let approvals = path(namespace, &json!("ActivationApproval"), None);
    let one = path(namespace, &gated["kind"], Some("gated"));
    let tries = [
        (
            "an approval in the name of somebody else",
            user,
            "POST",
            &approvals,
            approval("a", "ana"),
            "`approver` must be the user",
        ),
        (
            "an approval by somebody who may create one and not approve",
            "bob",
            "POST",
            &approvals,
            approval("a", "bob"),
            "needs the verb `approve`",
        ),
        (
            "a gate removed by somebody who may edit and not approve",
            "ed",
            "PATCH",
            &one,
            json!({"spec": {"gates": [{"before": "SmokeTest"}]}}),
            "to remove or weaken",
        ),
        (
            "no gate where the namespace requires one",
            "ed",
            "POST",
            &collection,
            minimal("ungated"),
            "requires a gate",
        ),
        (
            "a Secret named by somebody who may not read it",
            "dev",
            "POST",
            &collection,
            with(minimal("named"), &smoke),
            "needs the verb `get` or `activate`",
        ),
        (
            "eleven Secrets named by somebody who may name them and not read them",
            "sue",
            "POST",
            &collection,
            with(minimal("many"), &many),
            "more than 10 Secrets",
        ),
    ];
    let mut rows = Vec::new();
    for (what, who, method, path, body, wanted) in tries {
        let client = match who == user {
            true => admin.clone(),
            false => cluster().await.client_impersonating(who, &[]).unwrap(),
        };
        // Roles and the label take effect a moment later.
        let answer = eventually(what, async || {
            let answer = send(&client, method, path, &body, true).await;
            let told = answer.refused.iter().any(|one| one.contains(wanted));
            told.then_some(answer)
        })
        .await;
        let refused = answer.refused.iter();
        let refused = refused.map(|one| one.replace(namespace, "shop")).collect();
        rows.push(Row {
            input: what.to_owned(),
            answer: Answer { refused, ..answer },
            lint: Vec::new(),
        });
    }
    rows
}

/// The texts of an expression for a message.
fn literals(expression: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut rest = expression;
    while let Some(at) = rest.find(['\'', '"']) {
        let quote = if rest[at..].starts_with('\'') {
            '\''
        } else {
            '"'
        };
        let Some(end) = rest[at + 1..].find(quote) else {
            break;
        };
        let text = &rest[at + 1..at + 1 + end];
        if text.len() >= 12 && text.contains(' ') {
            all.push(text.to_owned());
        }
        rest = &rest[at + end + 2..];
    }
    all
}

/// The words by which each CEL rule of the definitions and of the policies that bind people is known: one of
/// each must be in what was said.
fn rules() -> BTreeSet<Vec<String>> {
    fn walk(schema: &Value, all: &mut BTreeSet<Vec<String>>) {
        if !schema.is_object() {
            return;
        }
        let rules = schema["x-kubernetes-validations"].as_array();
        for rule in rules.into_iter().flatten() {
            all.insert(words(rule));
        }
        let properties = schema["properties"].as_object();
        let inner = properties.into_iter().flat_map(|map| map.values());
        for inner in inner.chain([&schema["items"], &schema["additionalProperties"]]) {
            walk(inner, all);
        }
    }
    fn words(rule: &Value) -> Vec<String> {
        let text = |name: &str| rule[name].as_str();
        let mut words: Vec<String> = text("message").map(str::to_owned).into_iter().collect();
        words.extend(text("messageExpression").into_iter().flat_map(literals));
        assert!(!words.is_empty(), "a rule without words: {rule}");
        words
    }
    let mut all = BTreeSet::new();
    for crd in crds() {
        let crd = serde_json::to_value(&crd).unwrap();
        for version in crd["spec"]["versions"].as_array().unwrap() {
            walk(&version["schema"]["openAPIV3Schema"], &mut all);
        }
    }
    for entry in std::fs::read_dir(root().join("manifests/base")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for object in kube_env::cluster::parse_yaml(&text).unwrap() {
            if object["kind"] != "ValidatingAdmissionPolicy"
                || object["spec"]["matchConditions"]
                    .to_string()
                    .contains(OPERATOR)
            {
                continue;
            }
            let validations = object["spec"]["validations"].as_array().unwrap();
            all.extend(validations.iter().map(words));
        }
    }
    all
}

#[tokio::test]
async fn lint_and_the_api_server_agree_on_every_wrong_input_and_every_rule_has_one() {
    let installed = cluster().await;
    let client = installed.client().unwrap();
    let namespace = installed.create_namespace("wrong").await.unwrap();
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let request = http::Request::post("/apis/authentication.k8s.io/v1/selfsubjectreviews")
        .header("content-type", "application/json")
        .body(review.to_string().into_bytes())
        .unwrap();
    let review: Value = client.request(request).await.unwrap();
    let user = review["status"]["userInfo"]["username"].as_str().unwrap();
    let paid = with(
        minimal("paid"),
        &json!({"provision": {"addresses": {"v4": true}}}),
    );
    let collection = path(&namespace, &paid["kind"], None);
    eventually("the policies to take effect", async || {
        let answer = send(&client, "POST", &collection, &paid, true).await;
        (!answer.warnings.is_empty()).then_some(())
    })
    .await;

    let created = created(&client, &namespace, user).await;
    let changed = changed(&client, &namespace, user).await;
    let forbidden = forbidden(&client, &namespace, user).await;

    let all = || created.iter().chain(&changed).chain(&forbidden);
    let said: String = all()
        .flat_map(|row| row.answer.refused.iter().chain(&row.answer.warnings))
        .map(|text| format!("{text}\n"))
        .collect();
    let rules = rules();
    let unseen: Vec<&Vec<String>> = rules
        .iter()
        .filter(|words| !words.iter().any(|word| said.contains(word.as_str())))
        .collect();
    assert!(
        unseen.is_empty(),
        "no input breaks these rules: add one to {INPUTS}: {unseen:#?}"
    );
    let mut text = format!(
        "{} inputs; each of {} rules occurs. A rule that stands at several fields is shown at one.\n",
        all().count(),
        rules.len()
    );
    for (title, rows) in [
        ("Refused or warned of when an object is created", &created),
        ("Refused when an object is changed", &changed),
        ("Refused because of who does it", &forbidden),
    ] {
        writeln!(
            text,
            "\n### {title}\n\n| input | the API server | {} |\n|---|---|---|",
            code("kubectl golive lint")
        )
        .unwrap();
        for row in rows {
            text.push_str(&row.text());
        }
    }
    keep("admission", &text);
}
