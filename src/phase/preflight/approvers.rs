//! Who holds the verb `approve` on an Activation, from the roles and bindings that could be read.
//! Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::rbac::v1::{PolicyRule, RoleRef, Subject};

/// The members of this group may do everything in every cluster, without a role. It is for
/// emergencies, not for people who decide about a plan.
const BREAK_GLASS: &str = "system:masters";

/// A binding of a role to subjects.
#[derive(Clone, Debug, PartialEq)]
pub struct Binding {
    /// The role.
    pub role: RoleRef,
    /// Who has the role.
    pub subjects: Vec<Subject>,
}

/// The bindings and roles that could be read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rights {
    /// The bindings of the namespace and of the cluster.
    pub bindings: Vec<Binding>,
    /// The rules of the roles that they name, by kind and name. One that does not exist has none.
    pub roles: BTreeMap<(String, String), Vec<PolicyRule>>,
    /// What could not be read: somebody may hold the right through it.
    pub unread: BTreeSet<String>,
}

/// The roles that must be read to know who may approve: those that are bound to somebody, without
/// Kubernetes' own, which begin with `system:` and do not name our kinds.
pub fn roles_of(bindings: &[Binding]) -> BTreeSet<(String, String)> {
    bindings
        .iter()
        .filter(|binding| binding.subjects.iter().any(|s| s.name != BREAK_GLASS))
        .map(|binding| (binding.role.kind.clone(), binding.role.name.clone()))
        .filter(|(_, name)| !name.starts_with("system:"))
        .collect()
}

impl Rights {
    /// Who may approve the Activation of this name: users, groups and service accounts. A service
    /// account that may do everything is an add-on of the cluster and does not decide; one that was
    /// granted `approve` by name does.
    pub fn approvers(&self, activation: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for binding in &self.bindings {
            let key = (binding.role.kind.clone(), binding.role.name.clone());
            let rules = self.roles.get(&key).map_or(&[][..], Vec::as_slice);
            let mut granting = rules.iter().filter(|rule| allows(rule, activation));
            let Some(by_name) = granting
                .next()
                .map(|first| names_it(first) || granting.any(names_it))
            else {
                continue;
            };
            for subject in &binding.subjects {
                let program =
                    subject.kind == "ServiceAccount" || subject.name.starts_with("system:");
                let everybody = subject.name == "system:authenticated";
                if subject.name != BREAK_GLASS && (by_name || everybody || !program) {
                    found.insert(describe(subject));
                }
            }
        }
        found
    }
}

fn describe(subject: &Subject) -> String {
    match (subject.kind.as_str(), &subject.namespace) {
        ("User", _) => subject.name.clone(),
        ("ServiceAccount", Some(namespace)) => {
            format!("the ServiceAccount {namespace}/{}", subject.name)
        }
        (kind, _) => format!("the {} {}", kind.to_lowercase(), subject.name),
    }
}

fn holds(list: Option<&Vec<String>>, wanted: &str) -> bool {
    list.is_some_and(|list| list.iter().any(|item| item == wanted || item == "*"))
}

/// Whether a rule gives the verb `approve` on the Activation of this name.
fn allows(rule: &PolicyRule, activation: &str) -> bool {
    let named = rule.resource_names.as_deref().unwrap_or_default();
    holds(Some(&rule.verbs), "approve")
        && holds(rule.api_groups.as_ref(), "golive.dev")
        && holds(rule.resources.as_ref(), "activations")
        && (named.is_empty() || named.iter().any(|name| name == activation))
}

/// Whether the rule names `approve`, and does not only grant everything.
fn names_it(rule: &PolicyRule) -> bool {
    rule.verbs.iter().any(|verb| verb == "approve")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn rights(list: &[(&str, Value, Value)]) -> Rights {
        let mut rights = Rights::default();
        for (role, rules, subjects) in list {
            rights.bindings.push(Binding {
                role: RoleRef {
                    kind: "ClusterRole".to_owned(),
                    name: (*role).to_owned(),
                    ..RoleRef::default()
                },
                subjects: serde_json::from_value(subjects.clone()).unwrap(),
            });
            rights.roles.insert(
                ("ClusterRole".to_owned(), (*role).to_owned()),
                serde_json::from_value(rules.clone()).unwrap(),
            );
        }
        rights
    }

    fn approver() -> Value {
        json!([
            {"apiGroups": ["golive.dev"], "resources": ["activationapprovals"], "verbs": ["create"]},
            {"apiGroups": ["golive.dev"], "resources": ["activations"], "verbs": ["get", "approve"]},
        ])
    }

    fn everything() -> Value {
        json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}])
    }

    fn subject(kind: &str, name: &str) -> Value {
        let namespace = (kind == "ServiceAccount").then_some("ns");
        json!([{"kind": kind, "name": name, "namespace": namespace}])
    }

    fn who(role: &str, rules: Value, subjects: Value) -> Vec<String> {
        let found = rights(&[(role, rules, subjects)]).approvers("shop");
        found.into_iter().collect()
    }

    #[test]
    fn people_groups_and_programs_that_were_given_the_verb_may_approve() {
        let role = "activation-approver";
        assert_eq!(who(role, approver(), subject("User", "ana")), ["ana"]);
        assert_eq!(
            who(role, approver(), subject("Group", "ops")),
            ["the group ops"]
        );
        assert_eq!(
            who(role, approver(), subject("ServiceAccount", "bot")),
            ["the ServiceAccount ns/bot"]
        );
    }

    #[test]
    fn administrators_may_approve_and_add_ons_and_the_emergency_group_do_not_count() {
        let role = "cluster-admin";
        assert_eq!(who(role, everything(), subject("User", "root")), ["root"]);
        assert!(who(role, everything(), subject("Group", "system:masters")).is_empty());
        assert!(who(role, everything(), subject("ServiceAccount", "helm")).is_empty());
        assert!(who(role, everything(), subject("User", "system:kube-proxy")).is_empty());
        assert_eq!(
            who(role, everything(), subject("Group", "system:authenticated")),
            ["the group system:authenticated"]
        );
    }

    #[test]
    fn another_verb_kind_group_or_object_grants_nothing() {
        for rule in [
            json!({"apiGroups": ["golive.dev"], "resources": ["activations"], "verbs": ["get", "patch"]}),
            json!({"apiGroups": ["golive.dev"], "resources": ["activationapprovals"], "verbs": ["approve"]}),
            json!({"apiGroups": ["certificates.k8s.io"], "resources": ["activations"], "verbs": ["approve"]}),
            json!({"apiGroups": ["golive.dev"], "resources": ["activations"], "verbs": ["approve"], "resourceNames": ["other"]}),
        ] {
            assert!(
                who("role", json!([rule.clone()]), subject("User", "ana")).is_empty(),
                "{rule}"
            );
        }
        let named = json!([{"apiGroups": ["golive.dev"], "resources": ["activations"], "verbs": ["approve"], "resourceNames": ["shop"]}]);
        assert_eq!(who("role", named, subject("User", "ana")), ["ana"]);
    }

    #[test]
    fn only_roles_that_can_grant_approve_are_read() {
        let bound = rights(&[
            ("activation-approver", approver(), subject("User", "ana")),
            ("system:node", everything(), subject("Group", "nodes")),
            (
                "cluster-admin",
                everything(),
                subject("Group", "system:masters"),
            ),
            ("nobody", everything(), json!([])),
        ]);
        let read: Vec<String> = roles_of(&bound.bindings)
            .into_iter()
            .map(|(_, n)| n)
            .collect();
        assert_eq!(read, ["activation-approver"]);
    }
}
