//! Which smoke checks there are when the spec names none, and how each is filled in.

use crate::api::Activation;
use crate::api::smoke_test::{Check, DatabaseCheck, Fallback, HttpCheck, MetricsCheck};

use super::{ConfigInvalid, FlyConfig};

/// Where the health check is expected when the fly.toml says nothing.
const HEALTH: &str = "/api/v1/healthz";

/// Where readiness is expected.
const READY: &str = "/api/v1/readyz";

/// The checks, with every default in them.
///
/// An application without a fly.toml has told nothing about itself, so only its homepage is
/// asked for: a default that most images fail would make no small thing small. Whoever brings a
/// fly.toml gets the five checks of a go-live.
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

/// The indirect proof of the database: the readiness (else health) and metrics that the other
/// checks ask for, which an application without its database cannot give.
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
