//! Organizations and the state of their billing, as flyctl reads them (`internal/uiex`).

use std::time::Duration;

use super::call::Endpoint;
use super::error::Result;
use super::token::Surface::Uiex;
use super::wire::{wire, wire_enum};
use crate::fly::call::answer::{Identified, optional};
use crate::fly::call::client::Client;

wire! {
    /// An organization.
    pub struct Organization {
        /// Opaque id, as GraphQL requires it.
        pub id: String,
        /// Numeric id, as tokens contain it, as text.
        pub internal_numeric_id: Option<serde_json::Value>,
        /// Slug.
        pub slug: String,
        /// Full slug; `slug` is `personal` for the personal organization.
        pub raw_slug: Option<String>,
        /// Display name.
        pub name: Option<String>,
        /// Whether it has a paid plan.
        pub paid_plan: Option<bool>,
        /// Whether it is a personal organization.
        pub personal: Option<bool>,
        /// Whether it can be billed.
        pub billable: Option<bool>,
        /// State of its billing.
        pub billing_status: BillingStatus,
    }
}

wire_enum! {
    /// State of an organization's billing.
    pub enum BillingStatus {
        /// Up to date.
        Current = "CURRENT",
        /// Unpaid for a long time.
        Delinquent = "DELINQUENT",
        /// Unpaid.
        PastDue = "PAST_DUE",
        /// No payment method.
        SourceRequired = "SOURCE_REQUIRED",
        /// Suspended.
        Suspended = "SUSPENDED",
        /// On trial.
        TrialActive = "TRIAL_ACTIVE",
        /// Its trial has ended.
        TrialEnded = "TRIAL_ENDED",
    }
}

impl BillingStatus {
    /// Whether resources can be created. True for unknown states.
    pub fn can_create(&self) -> bool {
        !matches!(
            self,
            Self::Delinquent | Self::SourceRequired | Self::Suspended | Self::TrialEnded
        )
    }
}

impl Identified for Organization {
    fn identity(&self) -> &str {
        &self.slug
    }
}

impl Organization {
    /// Numeric id, as tokens contain it; sent as a number or as text.
    pub fn numeric_id(&self) -> Option<u64> {
        match self.internal_numeric_id.as_ref()? {
            serde_json::Value::Number(number) => number.as_u64(),
            serde_json::Value::String(text) => text.parse().ok(),
            _ => None,
        }
    }
}

const GET: Endpoint = Endpoint::read(Uiex, "GET /api/v1/organizations/{slug}");

/// Age up to which a remembered response is used: many activations of one organization request the
/// same.
const AGE: Duration = Duration::from_secs(5);

impl Client {
    /// One organization; up to five seconds old. `None`: it does not exist, or the token cannot see
    /// it.
    pub async fn organization(&self, slug: &str) -> Result<Option<Organization>> {
        let reply = optional(self.call(&GET, &[slug]).send_or_recall(AGE).await)?;
        reply
            .map(|reply| reply.object_in(&GET, &["organization"]))
            .transpose()
    }
}
