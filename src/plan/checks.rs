//! The smoke checks of a target: the default ones when the spec names none, and the defaults of each.
//! Pure.

use crate::api::Activation;
use crate::api::smoke_test::{Check, DatabaseCheck, Fallback, HttpCheck, MetricsCheck};

use super::{fly_config::FlyConfig, invalid::ConfigInvalid};

/// Path of the health check when the fly.toml declares none.
const HEALTH: &str = "/api/v1/healthz";

/// Path of the readiness check.
const READY: &str = "/api/v1/readyz";

/// The checks, with all defaults filled in.
///
/// Nothing is known about an application without a fly.toml, so only its homepage is checked: most
/// images would fail any other default. An application with a fly.toml gets the five checks of a
/// go-live.
pub(super) fn effective(
    activation: &Activation,
    config: Result<&FlyConfig, &ConfigInvalid>,
) -> Vec<Check> {
    let spec = &activation.spec;
    let named = spec.smoke_test.checks.clone().unwrap_or_default();
    let health = config
        .ok()
        .and_then(|config| config.app.health_paths().into_iter().next())
        .unwrap_or_else(|| HEALTH.to_owned());
    let mut checks = if named.is_empty() {
        defaults(activation, &health)
    } else {
        named
    };
    let fallbacks = database_fallbacks(&checks, &health);
    for check in &mut checks {
        if check.database.is_some() && check.fallbacks.is_none() {
            check.fallbacks = Some(fallbacks.clone());
        }
    }
    checks
}

fn defaults(activation: &Activation, health: &str) -> Vec<Check> {
    let http = |name: &str, path: &str| Check {
        http: Some(HttpCheck::get(path)),
        ..Check::named(name)
    };
    let mut checks = Vec::new();
    if activation.spec.deploy.config.is_some() {
        checks.push(http("health", health));
        checks.push(http("ready", READY));
        checks.push(Check {
            metrics: Some(MetricsCheck::default()),
            ..Check::named("metrics")
        });
    }
    checks.push(http("homepage", "/"));
    if activation.spec.provision.postgres.is_some() {
        checks.push(Check {
            database: Some(DatabaseCheck::default()),
            ..Check::named("database")
        });
    }
    checks
}

/// The indirect proof of the database: the readiness (else health) and metrics of the other checks,
/// which an application without its database does not answer.
fn database_fallbacks(checks: &[Check], health: &str) -> Vec<Fallback> {
    let named = |name: &str| checks.iter().find(|check| check.name == name);
    let health = named("ready")
        .or(named("health"))
        .and_then(|check| check.http.clone())
        .unwrap_or_else(|| HttpCheck::get(health));
    let metrics = named("metrics").and_then(|check| check.metrics.clone());
    let mut fallbacks = vec![Fallback {
        http: Some(health),
        metrics: None,
        tcp: None,
    }];
    fallbacks.extend(metrics.map(|metrics| Fallback {
        http: None,
        metrics: Some(metrics),
        tcp: None,
    }));
    fallbacks
}
