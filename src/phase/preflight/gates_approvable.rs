//! Somebody holds the right to approve the gates.
//!
//! Kubernetes answers "may this user do that?", never "who may?", unless somebody may read all
//! roles, which an operator must not. So those are asked about who can be known: everybody who is
//! logged in, and those who have decided about this object before.

use std::collections::BTreeSet;

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::{Api, api::PostParams, core::ObjectMeta};

use super::check::{Check, Finding};
use crate::{
    api::{preflight::CheckName, status::Severity},
    phase::{Cx, step::Result},
    target::Target,
};

/// Somebody holds the right to approve the gates.
pub struct GatesApprovable;

/// Users that are asked about, at most.
const MOST_ASKED: usize = 3;

/// Everybody who is logged in.
const EVERYBODY: &str = "system:authenticated";

/// What the API server says.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    /// Not asked: there are no gates.
    NotAsked,
    /// This one may approve.
    May(String),
    /// Nobody who can be known may; others may, for all we know.
    NotKnown {
        /// Namespace of the object.
        namespace: String,
        /// Its name.
        name: String,
    },
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
        let known: BTreeSet<&str> = cx
            .refs
            .approvals()
            .iter()
            .map(|approval| approval.approver.as_str())
            .collect();
        for user in known.into_iter().take(MOST_ASKED) {
            if may(cx, Some(user), &[EVERYBODY]).await == Some(true) {
                return Ok(Seen::May(user.to_owned()));
            }
        }
        if may(cx, None, &[EVERYBODY]).await == Some(true) {
            return Ok(Seen::May("everybody who is logged in".to_owned()));
        }
        Ok(Seen::NotKnown {
            namespace: cx.owner.namespace.clone(),
            name: cx.owner.name.clone(),
        })
    }

    fn judge(&self, _target: &Target, seen: &Seen) -> Finding {
        match seen {
            Seen::NotAsked => Finding::passed("there are no gates"),
            Seen::May(who) => Finding::passed(format!("{who} may approve")),
            Seen::NotKnown { namespace, name } => Finding::untold(
                "Kubernetes does not tell who may approve",
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
    use crate::phase::preflight::check::target;

    #[test]
    fn what_kubernetes_does_not_tell_is_no_warning_but_a_hint() {
        let target = target("gates: [{before: Deploy}]", &[]);
        let seen = Seen::NotKnown {
            namespace: "ns".to_owned(),
            name: "shop".to_owned(),
        };
        let finding = GatesApprovable.judge(&target, &seen);
        assert!(
            matches!(&finding, Finding::Untold { action, .. } if action.contains("can-i approve")),
            "{finding:?}"
        );
        let known = GatesApprovable.judge(&target, &Seen::May("ana".to_owned()));
        assert!(matches!(known, Finding::Passed(_)), "{known:?}");
    }
}
