//! Somebody has the right to approve the gates.
//!
//! Kubernetes answers whether a user may do something, and not who may. That follows from the
//! bindings and roles, which contain no secrets. The shipped rights let the operator list the
//! bindings and get the roles that they name, and nothing else of RBAC. Without these rights a
//! SubjectAccessReview is made for the subjects that are known: all authenticated users, and those
//! who have decided about this object before.

use std::collections::BTreeSet;

use k8s_openapi::api::{
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
    rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
};
use kube::{
    Api, Client,
    api::{ListParams, ObjectList, PostParams},
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

/// Somebody has the right to approve the gates.
pub struct GatesApprovable;

/// Most users for whom a review is made.
const MAX_REVIEWS: usize = 3;

/// Most roles that are read. Where more are bound somebody may approve, and reading all of them
/// would take long.
const MAX_ROLES: usize = 64;

/// Most bindings of each kind that are read.
const MAX_BINDINGS: u32 = 500;

/// Most approvers in the message.
const MAX_SHOWN: usize = 3;

/// The group of all authenticated users.
const EVERYBODY: &str = "system:authenticated";

/// Who may approve the gates.
#[derive(Debug, PartialEq)]
pub enum Approvers {
    /// There are no gates.
    NotNeeded,
    /// These may approve.
    Known(BTreeSet<String>),
    /// All rights were read, and nobody may.
    Nobody(ObjectName),
    /// No known subject may, and some rights could not be read.
    Unknown {
        /// The object.
        object: ObjectName,
        /// What could not be read.
        unread: BTreeSet<String>,
    },
}

/// The object whose gates are to be approved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// An answer of the API server, or `None` when it refuses: the right to ask is optional.
fn unless_forbidden<T>(doing: &str, answer: kube::Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(None),
        Err(source) => Err(Error::kube(doing, source)),
    }
}

/// The bindings that apply in a namespace and their roles, as far as they may be read.
async fn rights(kube: &Client, namespace: &str) -> Result<Rights> {
    let mut rights = Rights::default();
    let params = ListParams::default().limit(MAX_BINDINGS);
    let narrow: Api<RoleBinding> = Api::namespaced(kube.clone(), namespace);
    let wide: Api<ClusterRoleBinding> = Api::all(kube.clone());
    let (narrow, wide) = futures::join!(narrow.list(&params), wide.list(&params));
    let narrow = unless_forbidden("list the RoleBindings", narrow)?;
    let wide = unless_forbidden("list the ClusterRoleBindings", wide)?;
    add_bindings(&mut rights, "RoleBindings", narrow, |item| Binding {
        role: item.role_ref,
        subjects: item.subjects.unwrap_or_default(),
    });
    add_bindings(&mut rights, "ClusterRoleBindings", wide, |item| Binding {
        role: item.role_ref,
        subjects: item.subjects.unwrap_or_default(),
    });
    let wanted = roles_of(&rights.bindings);
    if wanted.len() > MAX_ROLES {
        let more = format!("the roles after the first {MAX_ROLES}");
        rights.unread.insert(more);
    }
    for (kind, name) in wanted.into_iter().take(MAX_ROLES) {
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

/// Adds the bindings of one kind to the rights, or records that they could not be read.
fn add_bindings<K: Clone>(
    rights: &mut Rights,
    kind: &str,
    list: Option<ObjectList<K>>,
    binding: fn(K) -> Binding,
) {
    let Some(list) = list else {
        rights.unread.insert(format!("the {kind}"));
        return;
    };
    let more = list.metadata.continue_.filter(|more| !more.is_empty());
    if more.is_some() {
        let unread = format!("the {kind} after the first {MAX_BINDINGS}");
        rights.unread.insert(unread);
    }
    rights.bindings.extend(list.items.into_iter().map(binding));
}

/// Whether a subject may approve; `None` when the API server refuses the review.
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
    // A refusal is no failure: the right to create reviews is optional.
    let answer = api.create(&PostParams::default(), &review).await.ok()?;
    Some(answer.status?.allowed)
}

impl Check for GatesApprovable {
    type Observed = Approvers;
    const NAME: CheckName = CheckName::GatesApprovable;
    const SEVERITY: Severity = Severity::Warning;

    async fn observe(&self, cx: &Cx) -> Result<Approvers> {
        if cx.target.gates.is_empty() {
            return Ok(Approvers::NotNeeded);
        }
        let object = ObjectName {
            namespace: cx.owner.namespace.clone(),
            name: cx.owner.name.clone(),
        };
        let rights = rights(&cx.kube, &object.namespace).await?;
        let approvers = rights.approvers(&object.name);
        if !approvers.is_empty() {
            return Ok(Approvers::Known(approvers));
        }
        if rights.unread.is_empty() {
            return Ok(Approvers::Nobody(object));
        }
        let one = |who: &str| Approvers::Known(BTreeSet::from([who.to_owned()]));
        let known: BTreeSet<&str> = cx
            .refs
            .votes()
            .iter()
            .map(|vote| vote.spec.approver.as_str())
            .collect();
        for user in known.into_iter().take(MAX_REVIEWS) {
            if may(cx, Some(user), &[EVERYBODY]).await == Some(true) {
                return Ok(one(user));
            }
        }
        if may(cx, None, &[EVERYBODY]).await == Some(true) {
            return Ok(one("everybody who is logged in"));
        }
        Ok(Approvers::Unknown {
            object,
            unread: rights.unread,
        })
    }

    fn judge(&self, _target: &Target, observed: &Approvers) -> Finding {
        match observed {
            Approvers::NotNeeded => Finding::passed("there are no gates"),
            Approvers::Known(who) => {
                let more = who.len().saturating_sub(MAX_SHOWN);
                let mut shown: Vec<String> = who.iter().take(MAX_SHOWN).cloned().collect();
                if more > 0 {
                    shown.push(format!("{more} more"));
                }
                Finding::passed(format!("{} may approve", shown.join(", ")))
            }
            Approvers::Nobody(ObjectName { namespace, name }) => Finding::failed(
                Reason::NobodyMayApprove,
                format!(
                    "a gate is set, and nobody but the cluster's administrators holds the verb `approve` on the activation {name}"
                ),
                format!(
                    "`kubectl create rolebinding activation-approvers --clusterrole=activation-approver --user=PERSON -n {namespace}`, with the name of who decides in place of PERSON"
                ),
            ),
            Approvers::Unknown {
                object: ObjectName { namespace, name },
                unread,
            } => Finding::unknown(
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

    fn object() -> ObjectName {
        ObjectName {
            namespace: "ns".to_owned(),
            name: "shop".to_owned(),
        }
    }

    fn judge(observed: &Approvers) -> Finding {
        GatesApprovable.judge(&target("gates: [{before: Deploy}]", &[]), observed)
    }

    #[test]
    fn rights_that_cannot_be_read_are_unknown_and_no_warning() {
        let finding = judge(&Approvers::Unknown {
            object: object(),
            unread: BTreeSet::from(["the RoleBindings".to_owned()]),
        });
        assert!(
            matches!(&finding, Finding::Unknown { message, action }
                if action.contains("can-i approve") && message.contains("RoleBindings")),
            "{finding:?}"
        );
    }

    #[test]
    fn nobody_who_may_approve_is_a_warning_with_the_command_that_corrects_it() {
        let finding = judge(&Approvers::Nobody(object()));
        assert!(
            matches!(&finding, Finding::Failed { reason: Reason::NobodyMayApprove, action, .. }
                if action.contains("kubectl create rolebinding activation-approvers --clusterrole=activation-approver --user=PERSON -n ns")),
            "{finding:?}"
        );
    }

    #[test]
    fn approvers_are_named_up_to_a_maximum() {
        let who = ["ana", "bob", "eve", "joe", "pia"].map(str::to_owned);
        let finding = judge(&Approvers::Known(BTreeSet::from(who)));
        assert_eq!(
            finding,
            Finding::passed("ana, bob, eve, 2 more may approve")
        );
    }
}
