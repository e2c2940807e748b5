//! Organizations, and whether they can pay. Source: fly-api.md D.4, L 12.

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
        /// Opaque id, as GraphQL wants it.
        pub id: String,
        /// Number that tokens name it by, as text.
        pub internal_numeric_id: Option<serde_json::Value>,
        /// Slug.
        pub slug: String,
        /// Slug before it is made short for the personal organization.
        pub raw_slug: Option<String>,
        /// Display name.
        pub name: Option<String>,
        /// Whether it has a paid plan.
        pub paid_plan: Option<bool>,
        /// Whether it is one person's own.
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
        /// In order.
        Current = "CURRENT",
        /// Has not paid for long.
        Delinquent = "DELINQUENT",
        /// Has not paid.
        PastDue = "PAST_DUE",
        /// Needs a means of payment.
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
    /// Whether new things can be created. Unknown states are given the benefit of the doubt.
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
    /// Number that tokens name it by; sent as a number or as text.
    pub fn numeric_id(&self) -> Option<u64> {
        match self.internal_numeric_id.as_ref()? {
            serde_json::Value::Number(number) => number.as_u64(),
            serde_json::Value::String(text) => text.parse().ok(),
            _ => None,
        }
    }
}

const LIST: Endpoint = Endpoint::read(Uiex, "GET /api/v1/organizations").list();
const GET: Endpoint = Endpoint::read(Uiex, "GET /api/v1/organizations/{slug}");

/// Many activations of one organization ask at the same time.
const AGE: Duration = Duration::from_secs(5);

impl Client {
    /// The organizations that the token can see.
    pub async fn organizations(&self) -> Result<Vec<Organization>> {
        self.call(&LIST, &[]).array_in("organizations").await
    }

    /// One organization; up to five seconds old. `None`: there is none, or the token cannot see it.
    pub async fn organization(&self, slug: &str) -> Result<Option<Organization>> {
        let reply = optional(self.call(&GET, &[slug]).send_or_recall(AGE).await)?;
        reply
            .map(|reply| reply.object_in(&GET, &["organization"]))
            .transpose()
    }
}
