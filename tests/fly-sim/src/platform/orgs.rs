//! Organizations, as the ui-ex REST API and GraphQL show them.

use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Extension, Json, Router};
use serde_json::{Value, json};

use crate::core::Shared;
use crate::error::{FlyError, FlyResult};
use crate::state::{Caller, Org};

/// The routes of organizations.
pub fn router() -> Router<Shared> {
    Router::new()
        .route("/api/v1/organizations", get(list))
        .route("/api/v1/organizations/{slug}", get(show))
}

/// States of billing in which an organization can pay for something new. Source: flyctl,
/// internal/uiex.
pub fn can_pay(billing_status: &str) -> bool {
    matches!(billing_status, "CURRENT" | "TRIAL_ACTIVE" | "PAST_DUE")
}

/// 403 in the words of billing unless the organization can pay.
pub fn check_billing(org: &Org) -> FlyResult<()> {
    if can_pay(&org.billing_status) {
        return Ok(());
    }
    Err(FlyError::forbidden(format!(
        "Organization {} cannot create new resources: billing status is {}, please add a payment \
         method or contact billing@fly.io",
        org.slug, org.billing_status
    )))
}

fn rest(org: &Org) -> Value {
    json!({
        "id": org.id,
        "internal_numeric_id": org.internal_numeric_id,
        "slug": org.slug,
        "raw_slug": org.slug,
        "name": org.name,
        "paid_plan": true,
        "personal": false,
        "billable": can_pay(&org.billing_status),
        "billing_status": org.billing_status,
        "provisions_beta_extensions": false,
        "remote_builder_image": null,
    })
}

/// As GraphQL shows it: the numeric id is a string there.
pub fn graph(org: &Org) -> Value {
    json!({
        "__typename": "Organization",
        "id": org.id,
        "internalNumericId": org.internal_numeric_id.to_string(),
        "slug": org.slug,
        "rawSlug": org.slug,
        "name": org.name,
        "type": "SHARED",
        "viewerRole": "admin",
        "paidPlan": true,
        "billable": can_pay(&org.billing_status),
        "billingStatus": org.billing_status,
        "provisionsBetaExtensions": false,
        "addOnSsoLink": format!("https://fly.io/dashboard/{}/sso", org.slug),
        "settings": {},
    })
}

async fn list(State(core): State<Shared>, Extension(caller): Extension<Caller>) -> Json<Value> {
    let organizations: Vec<_> = core.read(|world| {
        world
            .orgs
            .values()
            .filter(|org| caller.in_org(&org.slug))
            .map(rest)
            .collect()
    });
    Json(json!({"organizations": organizations}))
}

async fn show(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(slug): Path<String>,
) -> FlyResult<Json<Value>> {
    core.read(|world| {
        // Whether an organization exists is no business of others.
        let org = world.orgs.get(&slug).filter(|org| caller.in_org(&org.slug));
        match org {
            Some(org) => Ok(Json(json!({"organization": rest(org)}))),
            None => Err(FlyError::not_found(format!(
                "Could not find Organization \"{slug}\""
            ))),
        }
    })
}
