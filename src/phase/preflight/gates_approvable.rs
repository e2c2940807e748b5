//! Somebody holds the right to approve the gates.
//!
//! Kubernetes answers "may this user do that?", never "who may?". The answer is in the bindings and
//! roles, which hold no secret. The shipped rights let the operator list the bindings and get the
//! roles that they name, and nothing more of RBAC. Where somebody takes that right away, those are
//! asked about who can be known: everybody who is logged in, and those who have decided about this
//! object before.

use std::collections::BTreeSet;

use k8s_openapi::api::{
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
    rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
};
use kube::{
    Api, Client,
    api::{ListParams, PostParams},
    core::ObjectMeta,
};

use super::{
    approvers::{Binding, Rights, roles_of},
    check::{Check, Finding},
};
use crate::{
    api::{Reason, preflight::CheckName, status::Severity},
    error::Error,
    pipeline::{Cx, step::Result},
    plan::Target,
};

/// Somebody holds the right to approve the gates.
pub struct GatesApprovable;

/// Users that are asked about, at most.
const MOST_ASKED: usize = 3;

/// Roles that are read, at most. A namespace in which more are bound is no place where nobody may
/// approve, and reading all of them would take long.
const MOST_ROLES: usize = 64;

/// Bindings that are read, at most, of each of the two kinds.
const MOST_BINDINGS: u32 = 500;

/// Approvers that are told by name, at most.
const MOST_TOLD: usize = 3;

/// Everybody who is logged in.
const EVERYBODY: &str = "system:authenticated";

/// What the API server says.
#[derive(Debug, PartialEq)]
pub enum Seen {
    /// Not asked: there are no gates.
    NotAsked,
    /// These may approve.
    May(BTreeSet<String>),
    /// All rights were read, and nobody may.
    Nobody(Place),
    /// Nobody who can be known may; others may, for all we know.
    NotKnown {
        /// The object.
        place: Place,
        /// What could not be read.
        unread: BTreeSet<String>,
    },
}

/// The object whose gates are to be approved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// An answer of the API server, or `None` when it refuses: each of these rights is optional.
fn unless_forbidden<T>(doing: &str, answer: kube::Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(None),
        Err(source) => Err(Error::kube(doing, source)),
    }
}

/// The rights that concern a namespace, as far as they may be read.
async fn rights(kube: &Client, namespace: &str) -> Result<Rights> {
    let mut rights = Rights::default();
    let params = ListParams::default().limit(MOST_BINDINGS);
    let narrow: Api<RoleBinding> = Api::namespaced(kube.clone(), namespace);
    let wide: Api<ClusterRoleBinding> = Api::all(kube.clone());
    let (narrow, wide) = futures::join!(narrow.list(&params), wide.list(&params));
    let cut = |name: &str, more: Option<String>| {
        let more = more.filter(|more| !more.is_empty());
        more.map(|_| format!("the {name} after the first {MOST_BINDINGS}"))
    };
    match unless_forbidden("list the RoleBindings", narrow)? {
        Some(list) => {
            rights
                .unread
                .extend(cut("RoleBindings", list.metadata.continue_));
            rights
                .bindings
                .extend(list.items.into_iter().map(|item| Binding {
                    role: item.role_ref,
                    subjects: item.subjects.unwrap_or_default(),
                }));
        }
        None => drop(rights.unread.insert("the RoleBindings".to_owned())),
    }
    match unless_forbidden("list the ClusterRoleBindings", wide)? {
        Some(list) => {
            rights
                .unread
                .extend(cut("ClusterRoleBindings", list.metadata.continue_));
            rights
                .bindings
                .extend(list.items.into_iter().map(|item| Binding {
                    role: item.role_ref,
                    subjects: item.subjects.unwrap_or_default(),
                }));
        }
        None => drop(rights.unread.insert("the ClusterRoleBindings".to_owned())),
    }
    let wanted = roles_of(&rights.bindings);
    if wanted.len() > MOST_ROLES {
        let more = format!("the roles after the first {MOST_ROLES}");
        rights.unread.insert(more);
    }
    for (kind, name) in wanted.into_iter().take(MOST_ROLES) {
        let doing = format!("read the {kind} {name}");
        let found = if kind == "ClusterRole" {
            let api: Api<ClusterRole> = Api::all(kube.clone());
            let answer = unless_forbidden(&doing, api.get_opt(&name).await)?;
            answer.map(|role| role.and_then(|role| role.rules))
        } else {
            let api: Api<Role> = Api::namespaced(kube.clone(), namespace);
            let answer = unless_forbidden(&doing, api.get_opt(&name).await)?;
            answer.map(|role| role.and_then(|role| role.rules))
        };
        match found {
            Some(rules) => {
                let rules = rules.unwrap_or_default();
                rights.roles.insert((kind, name), rules);
            }
            None => drop(rights.unread.insert(format!("the {kind} {name}"))),
        }
    }
    Ok(rights)
}

/// Whether a subject may approve; `None` when the API server does not tell us.
async fn may(cx: &Cx, user: Option<&str>, groups: &[&str]) -> Option<bool> {
    let review = SubjectAccessReview {
        metadata: ObjectMeta::default(),
        spec: SubjectAccessReviewSpec {
            user: user.map(str::to_owned),
            groups: Some(groups.iter().map(|group| (*group).to_owned()).collect()),
            resource_attributes: Some(ResourceAttributes {
                group: Some("golive.dev".to_owned()),
                resource: Some("activations".to_owned()),
                verb: Some("approve".to_owned()),
                namespace: Some(cx.owner.namespace.clone()),
                name: Some(cx.owner.name.clone()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        status: None,
    };
    let api: Api<SubjectAccessReview> = Api::all(cx.kube.clone());
    // A refusal is no failure: the right to ask is optional.
    let answer = api.create(&PostParams::default(), &review).await.ok()?;
    Some(answer.status?.allowed)
}

impl Check for GatesApprovable {
    type Seen = Seen;
    const NAME: CheckName = CheckName::GatesApprovable;
    const SEVERITY: Severity = Severity::Warning;

    async fn look(&self, cx: &Cx) -> Result<Seen> {
        if cx.target.gates.is_empty() {
            return Ok(Seen::NotAsked);
        }
        let place = Place {
            namespace: cx.owner.namespace.clone(),
            name: cx.owner.name.clone(),
        };
        let rights = rights(&cx.kube, &place.namespace).await?;
        let approvers = rights.approvers(&place.name);
        if !approvers.is_empty() {
            return Ok(Seen::May(approvers));
        }
        if rights.unread.is_empty() {
            return Ok(Seen::Nobody(place));
        }
        let one = |who: &str| Seen::May(BTreeSet::from([who.to_owned()]));
        let known: BTreeSet<&str> = cx
            .refs
            .approvals()
            .iter()
            .map(|approval| approval.approver.as_str())
            .collect();
        for user in known.into_iter().take(MOST_ASKED) {
            if may(cx, Some(user), &[EVERYBODY]).await == Some(true) {
                return Ok(one(user));
            }
        }
        if may(cx, None, &[EVERYBODY]).await == Some(true) {
            return Ok(one("everybody who is logged in"));
        }
        Ok(Seen::NotKnown {
            place,
            unread: rights.unread,
        })
    }

    fn judge(&self, _target: &Target, seen: &Seen) -> Finding {
        match seen {
            Seen::NotAsked => Finding::passed("there are no gates"),
            Seen::May(who) => {
                let more = who.len().saturating_sub(MOST_TOLD);
                let mut told: Vec<String> = who.iter().take(MOST_TOLD).cloned().collect();
                if more > 0 {
                    told.push(format!("{more} more"));
                }
                Finding::passed(format!("{} may approve", told.join(", ")))
            }
            Seen::Nobody(Place { namespace, name }) => Finding::failed(
                Reason::NobodyMayApprove,
                format!(
                    "a gate is set, and nobody but the cluster's administrators holds the verb `approve` on the activation {name}"
                ),
                format!(
                    "`kubectl create rolebinding activation-approvers --clusterrole=activation-approver --user=PERSON -n {namespace}`, with the name of who decides in place of PERSON"
                ),
            ),
            Seen::NotKnown {
                place: Place { namespace, name },
                unread,
            } => Finding::untold(
                format!(
                    "who may approve is not known: the operator may not read {}",
                    unread.iter().cloned().collect::<Vec<_>>().join(", ")
                ),
                format!(
                    "see that a person may: `kubectl auth can-i approve activations.golive.dev/{name} -n {namespace} --as PERSON`; the ClusterRole activation-approver gives the right"
                ),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::testing::target;

    fn place() -> Place {
        Place {
            namespace: "ns".to_owned(),
            name: "shop".to_owned(),
        }
    }

    fn judge(seen: &Seen) -> Finding {
        GatesApprovable.judge(&target("gates: [{before: Deploy}]", &[]), seen)
    }

    #[test]
    fn what_kubernetes_does_not_tell_is_no_warning_but_a_hint() {
        let finding = judge(&Seen::NotKnown {
            place: place(),
            unread: BTreeSet::from(["the RoleBindings".to_owned()]),
        });
        assert!(
            matches!(&finding, Finding::Untold { message, action }
                if action.contains("can-i approve") && message.contains("RoleBindings")),
            "{finding:?}"
        );
    }

    #[test]
    fn that_nobody_may_approve_is_a_warning_with_the_command_that_mends_it() {
        let finding = judge(&Seen::Nobody(place()));
        assert!(
            matches!(&finding, Finding::Failed { reason: Reason::NobodyMayApprove, action, .. }
                if action.contains("kubectl create rolebinding activation-approvers --clusterrole=activation-approver --user=PERSON -n ns")),
            "{finding:?}"
        );
    }

    #[test]
    fn who_may_approve_is_told_by_name_and_not_without_end() {
        let who = ["ana", "bob", "eve", "joe", "pia"].map(str::to_owned);
        let finding = judge(&Seen::May(BTreeSet::from(who)));
        assert_eq!(
            finding,
            Finding::passed("ana, bob, eve, 2 more may approve")
        );
    }
}
