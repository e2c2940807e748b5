//! The names that Fly.io's hosted Prometheus has for every application.
//!
//! Source: Fly.io docs, "Metrics on Fly.io" (`monitoring/metrics`): built-in metrics, the address
//! `https://api.fly.io/prometheus/<organization>/`, and that it is a VictoriaMetrics.

use crate::slo::matcher::MatcherFault;
use crate::slo::{Matcher, Op, Selector};

/// Counter of the responses that the edge sent, by `status`.
pub const RESPONSES: &str = "fly_edge_http_responses_count";

/// Histogram of the time until the edge had sent a response, in seconds, without `_bucket`.
pub const RESPONSE_TIME: &str = "fly_edge_http_response_time_seconds";

/// Counter of the responses that the machines gave to Fly.io's proxy, by `status`.
pub const APP_RESPONSES: &str = "fly_app_http_responses_count";

/// Histogram of the time that the machines took, in seconds, without `_bucket`.
pub const APP_RESPONSE_TIME: &str = "fly_app_http_response_time_seconds";

/// Path below the address of Fly.io's API at which the Prometheus of an organization answers; the path of the
/// call follows. None for a slug that cannot be one.
#[must_use]
pub fn path(organization: &str) -> Option<String> {
    let is_slug = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_organization = !organization.is_empty() && organization.chars().all(is_slug);
    is_organization.then(|| format!("/prometheus/{organization}"))
}

/// All series of an application.
///
/// # Errors
/// When the name is too long to be one.
pub fn of_app(app: &str) -> Result<Selector, MatcherFault> {
    Ok(Selector::new(vec![Matcher::new("app", Op::Equal, app)?]))
}

/// Responses that count as errors: those of status 5xx.
///
/// # Errors
/// None; the pattern is a constant.
pub fn errors() -> Result<Selector, MatcherFault> {
    Selector::of([("status", "5..")])
}
