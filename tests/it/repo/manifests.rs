//! The shipped manifests, read as text: they contain no right that must never be granted.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::installed::root;

/// Every document of every manifest, with the file that it is in.
fn documents() -> Vec<(PathBuf, Value)> {
    fn walk(folder: &Path, found: &mut Vec<(PathBuf, Value)>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path
                .extension()
                .is_some_and(|extension| extension == "yaml")
            {
                let text = std::fs::read_to_string(&path).unwrap();
                for document in kube_env::cluster::parse_yaml(&text).unwrap() {
                    found.push((path.clone(), document));
                }
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join("manifests"), &mut found);
    found
}

fn words(rule: &Value, field: &str) -> Vec<String> {
    let list = rule[field].as_array().cloned().unwrap_or_default();
    list.iter()
        .map(|word| word.as_str().unwrap().to_owned())
        .collect()
}

/// What is wrong with a document, if it is a role.
fn complaints(document: &Value) -> Vec<String> {
    let kind = document["kind"].as_str().unwrap_or_default();
    if !matches!(kind, "Role" | "ClusterRole") {
        return Vec::new();
    }
    let mut complaints = Vec::new();
    for rule in document["rules"].as_array().into_iter().flatten() {
        let (verbs, resources) = (words(rule, "verbs"), words(rule, "resources"));
        for word in words(rule, "apiGroups")
            .iter()
            .chain(&verbs)
            .chain(&resources)
        {
            if word.contains('*') {
                complaints.push(format!("{word} stands for rights that nobody has read"));
            }
        }
        for verb in ["escalate", "bind", "impersonate"] {
            if verbs.iter().any(|v| v == verb) {
                complaints.push(format!("{verb} gives every other right"));
            }
        }
        for resource in [
            "pods/exec",
            "pods/attach",
            "pods/portforward",
            "nodes/proxy",
            "serviceaccounts/token",
        ] {
            if resources.iter().any(|r| r == resource) {
                complaints.push(format!("{resource} runs as somebody else"));
            }
        }
        if kind == "ClusterRole" && resources.iter().any(|r| r == "secrets") {
            for verb in ["list", "watch", "deletecollection"] {
                if verbs.iter().any(|v| v == verb) {
                    complaints.push(format!("{verb} on the Secrets of the whole cluster"));
                }
            }
        }
        if resources.iter().any(|r| r == "customresourcedefinitions")
            && verbs
                .iter()
                .any(|v| !matches!(v.as_str(), "get" | "list" | "watch"))
        {
            complaints.push("definitions are installed by people".to_owned());
        }
    }
    complaints
}

#[test]
fn no_role_gives_a_right_that_must_never_be_given() {
    let mut roles = 0;
    for (path, document) in documents() {
        roles += usize::from(document["rules"].is_array());
        let complaints = complaints(&document);
        assert!(complaints.is_empty(), "{}: {complaints:?}", path.display());
    }
    assert!(roles >= 7, "only {roles} roles were read");
}

#[test]
fn the_check_of_roles_finds_what_it_looks_for() {
    let role = |kind: &str, resource: &str, verb: &str| serde_json::json!({"kind": kind, "rules": [{"apiGroups": [""], "resources": [resource], "verbs": [verb]}]});
    for (kind, resource, verb) in [
        ("ClusterRole", "secrets", "list"),
        ("ClusterRole", "secrets", "watch"),
        ("ClusterRole", "pods", "*"),
        ("Role", "*", "get"),
        ("Role", "pods/exec", "create"),
        ("ClusterRole", "clusterroles", "escalate"),
        ("ClusterRole", "clusterroles", "bind"),
        ("ClusterRole", "users", "impersonate"),
        ("ClusterRole", "nodes/proxy", "get"),
        ("ClusterRole", "customresourcedefinitions", "patch"),
    ] {
        assert!(
            !complaints(&role(kind, resource, verb)).is_empty(),
            "{kind} {resource} {verb}"
        );
    }
    assert!(complaints(&role("ClusterRole", "secrets", "get")).is_empty());
    assert!(complaints(&role("Role", "secrets", "watch")).is_empty());
}

#[test]
fn only_the_approver_may_approve_and_it_is_never_aggregated() {
    for (path, document) in documents() {
        let rules = document["rules"].as_array().cloned().unwrap_or_default();
        if rules
            .iter()
            .any(|rule| words(rule, "verbs").contains(&"approve".to_owned()))
        {
            assert_eq!(
                document["metadata"]["name"],
                "activation-approver",
                "{}",
                path.display()
            );
            let labels = document["metadata"]["labels"].to_string();
            assert!(!labels.contains("aggregate-to"), "{labels}");
        }
    }
}

#[test]
fn nobody_but_the_operator_may_write_a_status() {
    for (path, document) in documents() {
        for rule in document["rules"].as_array().into_iter().flatten() {
            let writes = words(rule, "verbs")
                .iter()
                .any(|verb| !matches!(verb.as_str(), "get" | "list" | "watch"));
            if writes && words(rule, "resources").contains(&"activations/status".to_owned()) {
                assert_eq!(
                    document["metadata"]["name"],
                    "golive-operator",
                    "{}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn the_pods_run_as_nobody_and_cannot_become_more() {
    let (_, deployment) = documents()
        .into_iter()
        .find(|(_, document)| {
            document["kind"] == "Deployment" && document["spec"]["selector"].is_object()
        })
        .unwrap();
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(
        pod["securityContext"]["seccompProfile"]["type"],
        "RuntimeDefault"
    );
    assert!(pod["volumes"].is_null(), "nothing of the node is mounted");
    for container in pod["containers"].as_array().unwrap() {
        let context = &container["securityContext"];
        assert_eq!(context["allowPrivilegeEscalation"], false);
        assert_eq!(context["readOnlyRootFilesystem"], true);
        assert_eq!(context["capabilities"]["drop"], serde_json::json!(["ALL"]));
        assert!(container["resources"]["limits"]["memory"].is_string());
    }
    // Work under way may end before the kubelet kills: settings.rs has the grace of 75 s.
    assert!(pod["terminationGracePeriodSeconds"].as_u64().unwrap() > 75);
}

#[test]
fn the_namespaced_overlay_gives_no_right_outside_its_namespace() {
    let folder = root().join("manifests/overlays/namespaced");
    let text = std::fs::read_to_string(folder.join("kustomization.yaml")).unwrap();
    for removed in ["kind: ClusterRole\n", "kind: ClusterRoleBinding\n"] {
        for name in ["golive-operator", "golive-reviewer"] {
            let patch = format!(
                "$patch: delete\n    apiVersion: rbac.authorization.k8s.io/v1\n    {removed}    metadata: {{name: {name}}}"
            );
            assert!(text.contains(&patch), "{removed} {name}");
        }
    }
    let mut rules = Vec::new();
    for (path, document) in documents() {
        // Every role of the cluster that the operator's account has is taken away.
        let other = path.starts_with(root().join("manifests/overlays/selected-namespaces"));
        if document["kind"] == "ClusterRoleBinding" && !other {
            let name = document["metadata"]["name"].as_str().unwrap();
            assert!(
                text.contains(&format!("metadata: {{name: {name}}}")),
                "{name}"
            );
        }
        if document["metadata"]["name"] == "golive-operator" && document["rules"].is_array() {
            rules.push((path, document));
        }
    }
    // The same rights but for list and watch of Secrets, which end at the namespace.
    let find = |kind: &str| {
        rules.iter().find(|(_, d)| d["kind"] == kind).unwrap().1["rules"]
            .as_array()
            .unwrap()
            .clone()
    };
    let (cluster, namespace) = (find("ClusterRole"), find("Role"));
    assert_eq!(cluster.len(), namespace.len());
    for (wide, narrow) in cluster.iter().zip(&namespace) {
        assert_eq!(wide["resources"], narrow["resources"]);
        let mut verbs = words(narrow, "verbs");
        if words(wide, "resources") == ["secrets"] {
            verbs.retain(|verb| verb != "list" && verb != "watch");
        }
        assert_eq!(words(wide, "verbs"), verbs);
    }
}

/// What an overlay makes of the manifests, as `kubectl apply -k` reads it.
fn built(overlay: &str) -> Vec<Value> {
    let folder = root().join("manifests/overlays").join(overlay);
    let output = std::process::Command::new("kubectl")
        .arg("kustomize")
        .arg(folder)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{overlay}: {errors}");
    kube_env::cluster::parse_yaml(&String::from_utf8(output.stdout).unwrap()).unwrap()
}

/// Names of the objects of a kind.
fn names(objects: &[Value], kind: &str) -> Vec<String> {
    let of_kind = objects.iter().filter(|object| object["kind"] == kind);
    let names = of_kind.map(|object| object["metadata"]["name"].as_str().unwrap().to_owned());
    names.collect()
}

#[test]
fn an_overlay_leaves_the_operator_no_role_of_the_cluster_that_it_takes_away() {
    let one = built("namespaced");
    assert_eq!(names(&one, "ClusterRoleBinding"), [""; 0]);
    for binding in one.iter().filter(|object| object["kind"] == "RoleBinding") {
        assert_eq!(binding["roleRef"]["kind"], "Role", "{binding}");
        let namespace = binding["metadata"]["namespace"].as_str().unwrap();
        assert!(
            ["default", "golive-system"].contains(&namespace),
            "{binding}"
        );
    }

    let selected = built("selected-namespaces");
    let bound = names(&selected, "ClusterRoleBinding");
    assert_eq!(bound, ["golive-reviewer", "golive-watcher"]);
    let watcher = selected.iter().find(|object| {
        object["kind"] == "ClusterRole" && object["metadata"]["name"] == "golive-watcher"
    });
    for rule in watcher.unwrap()["rules"].as_array().unwrap() {
        assert!(
            words(rule, "verbs")
                .iter()
                .all(|verb| ["get", "list", "watch"].contains(&&**verb))
        );
        assert!(!words(rule, "resources").contains(&"secrets".to_owned()));
    }
    // The role itself stays, to be bound where somebody wants it.
    assert!(names(&selected, "ClusterRole").contains(&"golive-operator".to_owned()));
    for overlay in [&one, &selected] {
        assert_eq!(names(overlay, "ValidatingAdmissionPolicy").len(), 9);
    }
    // Apply removes nothing: the page names what must go by hand, and no more.
    let page = std::fs::read_to_string(root().join("docs/install.md")).unwrap();
    let base = ["golive-operator", "golive-reviewer"];
    for (overlay, objects) in [("namespaced", &one), ("selected-namespaces", &selected)] {
        let kept = names(objects, "ClusterRoleBinding");
        let gone: Vec<&str> = base
            .into_iter()
            .filter(|name| !kept.contains(&(*name).to_owned()))
            .collect();
        let row = format!(
            "- to `{overlay}`: `kubectl delete clusterrolebinding {}`\n",
            gone.join(" ")
        );
        assert!(page.contains(&row), "{row}");
    }
}

#[test]
fn an_overlay_lets_the_operator_reach_one_prometheus_and_allows_the_same_one() {
    let built = built("prometheus");
    let policies: Vec<&Value> = built
        .iter()
        .filter(|object| object["kind"] == "NetworkPolicy")
        .collect();
    assert_eq!(policies.len(), 2);
    let own = policies
        .iter()
        .find(|policy| policy["metadata"]["name"] == "golive-prometheus")
        .unwrap();
    assert_eq!(own["spec"]["policyTypes"], serde_json::json!(["Egress"]));
    let rules = own["spec"]["egress"].as_array().unwrap();
    assert_eq!(rules.len(), 1);
    let to = &rules[0]["to"][0];
    let labels = &to["namespaceSelector"]["matchLabels"];
    let namespace = labels["kubernetes.io/metadata.name"].as_str().unwrap();
    assert!(
        to["podSelector"]["matchLabels"].is_object(),
        "not every pod there"
    );
    let port = rules[0]["ports"][0]["port"].as_u64().unwrap();
    let deployment = built.iter().find(|object| object["kind"] == "Deployment");
    let container = &deployment.unwrap()["spec"]["template"]["spec"]["containers"][0];
    let env = container["env"].as_array().unwrap();
    let allowed = env
        .iter()
        .find(|variable| variable["name"] == "GOLIVE_ALLOW_PROMETHEUS")
        .unwrap();
    let address = format!("http://prometheus.{namespace}.svc:{port}");
    assert_eq!(allowed["value"], address.as_str());
}
