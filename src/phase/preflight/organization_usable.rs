//! The organization exists, is not suspended and can pay.

use super::check::{Check, Finding};
use crate::{
    api::{Reason, preflight::CheckName, status::Severity},
    error::Error,
    fly::Organization,
    pipeline::{Cx, step::Result},
    plan::Target,
};

/// The organization exists, is not suspended and can pay.
pub struct OrganizationUsable;

impl Check for OrganizationUsable {
    /// `None`: there is none, or the token may not read it.
    type Observed = Option<Organization>;
    const NAME: CheckName = CheckName::OrganizationUsable;
    const SEVERITY: Severity = Severity::Blocking;

    async fn observe(&self, cx: &Cx) -> Result<Option<Organization>> {
        match cx.fly.organization(&cx.target.organization).await {
            Ok(found) => Ok(found),
            Err(error) if error.is_forbidden() => Ok(None),
            Err(source) => Err(Error::fly("read the organization", source)),
        }
    }

    fn judge(&self, target: &Target, found: &Option<Organization>) -> Finding {
        let slug = &target.organization;
        let Some(organization) = found else {
            return Finding::failed(
                Reason::OrganizationNotFound,
                format!("there is no organization {slug}, or the token may not read it"),
                "compare `organization` with `fly orgs list`; if it is mistyped, delete this Activation and create another one, because it cannot be changed",
            );
        };
        let billing = organization.billing_status.as_str();
        if !organization.billing_status.can_create() {
            return Finding::failed(
                Reason::OrganizationUnusable,
                format!("nothing can be created in {slug}: the state of its billing is {billing}"),
                format!("settle it at https://fly.io/dashboard/{slug}/billing"),
            );
        }
        Finding::passed(format!(
            "{slug} exists; the state of its billing is {billing}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fly::BillingStatus, phase::testing::target};

    #[test]
    fn an_organization_that_is_missing_or_cannot_pay_fails_with_its_own_reason() {
        let with = |billing_status| {
            Some(Organization {
                slug: "cabanas".to_owned(),
                billing_status,
                ..Organization::default()
            })
        };
        for (found, reason) in [
            (None, Some(Reason::OrganizationNotFound)),
            (
                with(BillingStatus::Suspended),
                Some(Reason::OrganizationUnusable),
            ),
            (with(BillingStatus::Current), None),
            (with(BillingStatus::PastDue), None),
        ] {
            let finding = OrganizationUsable.judge(&target("", &[]), &found);
            let failed = match &finding {
                Finding::Failed { reason, .. } => Some(*reason),
                _ => None,
            };
            assert_eq!(failed, reason, "{finding:?}");
        }
    }
}
