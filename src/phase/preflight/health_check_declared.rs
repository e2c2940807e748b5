//! A health check is declared, and it covers what the application depends on.
//!
//! What a health check depends on cannot be observed from outside. It can only be read from names:
//! a path or a check named after Redis or readiness, or a variable of the fly.toml such as
//! `HEALTHZ_CHECKS_REDIS`.

use super::check::{Check, Finding};
use crate::{
    api::{Reason, preflight::CheckName, status::Severity},
    flytoml::AppConfig,
    pipeline::{Cx, step::Result},
    plan::Target,
};

/// A health check is declared, and it covers what the application depends on.
pub struct HealthCheckDeclared;

impl Check for HealthCheckDeclared {
    type Observed = ();
    const NAME: CheckName = CheckName::HealthCheckDeclared;
    const SEVERITY: Severity = Severity::Warning;

    async fn observe(&self, _cx: &Cx) -> Result<()> {
        Ok(())
    }

    fn judge(&self, target: &Target, (): &()) -> Finding {
        let Ok(config) = target.config_or_invalid() else {
            return Finding::passed("there is no usable fly.toml: FlyConfigValid says why");
        };
        let app = &config.app;
        let bare: Vec<String> = app
            .process_groups()
            .into_iter()
            .filter(|group| !app.services_of(group).is_empty())
            .filter(|group| app.health_checks(group).is_empty())
            .collect();
        if !bare.is_empty() {
            let action = if config.text.is_some() {
                "add `[[http_service.checks]]` to the fly.toml"
            } else {
                "give a fly.toml with `[[http_service.checks]]` in `deploy.config`"
            };
            return Finding::failed(
                Reason::HealthCheckMissing,
                format!(
                    "no health check is declared for the process group {}, so Fly.io sends requests to machines that are not ready",
                    bare.join(", ")
                ),
                action,
            );
        }
        if target.redis().is_some() && !covers_redis(app) {
            return Finding::failed(
                Reason::HealthCheckMissing,
                "Redis is requested, and no health check is named after it".to_owned(),
                "have a health check test Redis and name it so (`HEALTHZ_CHECKS_REDIS = \"true\"` in `[env]`, or a path such as /readyz), or accept that a machine without Redis stays in service",
            );
        }
        let unchecked = app
            .process_groups()
            .iter()
            .all(|group| app.services_of(group).is_empty() && app.health_checks(group).is_empty());
        if unchecked {
            return Finding::failed(
                Reason::HealthCheckMissing,
                "the fly.toml has neither a service nor a check, so a release counts as healthy as soon as its machines run",
                "add a `[checks]` section that tests the program, or an `[http_service]` with `[[http_service.checks]]`",
            );
        }
        let paths = app.health_paths();
        if paths.is_empty() {
            return Finding::passed("health checks are declared");
        }
        Finding::passed(format!("health checks request {}", paths.join(", ")))
    }
}

/// Whether a name says that a health check tests Redis.
fn covers_redis(app: &AppConfig) -> bool {
    // A variable, true or false, takes precedence over the name of a path.
    let declared = app.env.iter().find_map(|(name, value)| {
        let name = name.to_ascii_lowercase();
        (name.contains("health") && name.contains("redis")).then(|| yes(value))
    });
    declared.unwrap_or_else(|| {
        app.process_groups()
            .iter()
            .flat_map(|group| app.health_checks(group))
            .any(|check| {
                let path = check.path.unwrap_or_default().to_ascii_lowercase();
                let key = check.key.to_ascii_lowercase();
                path.contains("redis") || path.contains("ready") || key.contains("redis")
            })
    })
}

fn yes(value: &str) -> bool {
    matches!(
        value.trim().to_ascii_lowercase().as_str(),
        "1" | "true" | "yes" | "on"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::testing::target;

    fn warns(path: Option<&str>, env: &str, redis: bool) -> bool {
        let check = path.map_or(String::new(), |path| {
            format!("[[http_service.checks]]\\npath = '{path}'\\n")
        });
        let toml = format!("[env]\\n{env}\\n[http_service]\\ninternal_port = 80\\n{check}");
        let redis = if redis {
            "provision: {redis: {upstash: {}}}\n"
        } else {
            ""
        };
        let spec = format!("{redis}deploy: {{config: {{inline: \"{toml}\"}}}}");
        let finding = HealthCheckDeclared.judge(&target(&spec, &[]), &());
        matches!(finding, Finding::Failed { .. })
    }

    #[test]
    fn a_service_without_a_health_check_is_warned_about() {
        assert!(warns(None, "", false));
        assert!(!warns(Some("/up"), "", false));
        let none = HealthCheckDeclared.judge(&target("", &[]), &());
        assert!(matches!(none, Finding::Failed { .. }), "{none:?}");
    }

    #[test]
    fn a_program_without_service_and_check_is_warned_about() {
        let judge = |toml: &str| {
            let spec = format!("deploy: {{config: {{inline: \"{toml}\"}}}}");
            HealthCheckDeclared.judge(&target(&spec, &[]), &())
        };
        let nothing = judge("[processes]\\nworker = 'run'\\n");
        assert!(
            matches!(&nothing, Finding::Failed { message, .. } if message.contains("neither")),
            "{nothing:?}"
        );
        let checked = judge(
            "[checks.alive]\\ntype = 'tcp'\\nport = 80\\ninterval = '15s'\\ntimeout = '2s'\\n",
        );
        assert!(matches!(checked, Finding::Passed(_)), "{checked:?}");
    }

    #[test]
    fn a_health_check_that_does_not_test_redis_is_warned_about_when_redis_is_requested() {
        assert!(warns(Some("/api/v1/healthz"), "", true));
        assert!(warns(
            Some("/api/v1/healthz"),
            "HEALTHZ_CHECKS_REDIS = 'false'",
            true
        ));
        assert!(!warns(
            Some("/api/v1/healthz"),
            "HEALTHZ_CHECKS_REDIS = 'true'",
            true
        ));
        assert!(!warns(Some("/api/v1/readyz"), "", true));
    }
}
