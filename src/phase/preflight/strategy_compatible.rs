//! The deployment strategy is compatible with the declared volumes and checks. Source of the rules:
//! fly.io/docs/reference/configuration/, "The deploy section".

use super::check::{Check, Finding};
use crate::{
    api::{Reason, preflight::CheckName, status::Severity},
    flytoml::Strategy,
    pipeline::{Cx, step::Result},
    plan::Target,
};

/// The deployment strategy is compatible with the declared volumes and checks.
pub struct StrategyCompatible;

impl Check for StrategyCompatible {
    type Observed = ();
    const NAME: CheckName = CheckName::StrategyCompatible;
    const SEVERITY: Severity = Severity::Blocking;

    async fn observe(&self, _cx: &Cx) -> Result<()> {
        Ok(())
    }

    fn judge(&self, target: &Target, (): &()) -> Finding {
        let Ok(config) = target.config_or_invalid() else {
            return Finding::passed("there is no usable fly.toml: FlyConfigValid says why");
        };
        let app = &config.app;
        let strategy = app.strategy();
        let failed = |message: String, action: &str| {
            Finding::failed(Reason::StrategyIncompatible, message, action)
        };
        let with_volume = matches!(strategy, Strategy::Canary | Strategy::BlueGreen);
        if with_volume && !app.mounts.is_empty() {
            return failed(
                format!(
                    "the strategy {strategy} starts machines beside the old ones, which hold the volumes"
                ),
                "set `strategy = \"rolling\"` in `[deploy]` of the fly.toml, or remove `[[mounts]]`",
            );
        }
        let checked = app
            .process_groups()
            .iter()
            .any(|group| !app.health_checks(group).is_empty());
        if strategy == Strategy::BlueGreen && !checked {
            return failed(
                "the strategy bluegreen moves the traffic when checks pass, and none is declared"
                    .to_owned(),
                "add `[[http_service.checks]]` to the fly.toml, or set `strategy = \"rolling\"`",
            );
        }
        let means = match strategy {
            Strategy::Rolling => "rolling is compatible with everything",
            Strategy::Canary => "canary: one extra machine for each process group goes first",
            Strategy::BlueGreen => {
                "bluegreen: all machines are replaced at once when all new ones are healthy"
            }
            Strategy::Immediate => {
                "immediate: all machines are updated at once, also if that stops the application"
            }
        };
        let tested = app
            .process_groups()
            .iter()
            .any(|group| !app.machine_tests_of(group).is_empty());
        // The message says what is not run.
        Finding::passed(if tested && strategy == Strategy::Immediate {
            format!("{means}; `machine_checks` are not run with it, as with flyctl")
        } else {
            means.to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::testing::target;

    /// The reason of the failure, if it fails.
    fn fails(strategy: &str, rest: &str) -> Option<Reason> {
        let toml = format!("[deploy]\\nstrategy = '{strategy}'\\n{rest}");
        let spec = format!("deploy: {{config: {{inline: \"{toml}\"}}}}");
        match StrategyCompatible.judge(&target(&spec, &[]), &()) {
            Finding::Failed { reason, .. } => Some(reason),
            _ => None,
        }
    }

    const SERVICE: &str = "[http_service]\\ninternal_port = 80\\n";
    const CHECK: &str = "[[http_service.checks]]\\npath = '/'\\n";
    const MOUNT: &str = "[[mounts]]\\nsource = 'data'\\ndestination = '/data'\\n";

    #[test]
    fn blue_green_needs_checks_and_no_volumes() {
        let incompatible = Some(Reason::StrategyIncompatible);
        assert_eq!(fails("bluegreen", SERVICE), incompatible);
        let with_volume = format!("{SERVICE}{CHECK}{MOUNT}");
        assert_eq!(fails("bluegreen", &with_volume), incompatible);
        assert_eq!(fails("bluegreen", &format!("{SERVICE}{CHECK}")), None);
    }

    #[test]
    fn machine_checks_that_are_not_run_are_reported() {
        let says = |strategy: &str| {
            let toml = format!(
                "[deploy]\\nstrategy = '{strategy}'\\n{SERVICE}[[machine_checks]]\\ncommand = ['t']\\n"
            );
            let spec = format!("deploy: {{config: {{inline: \"{toml}\"}}}}");
            match StrategyCompatible.judge(&target(&spec, &[]), &()) {
                Finding::Passed(message) => Some(message.contains("machine_checks")),
                _ => None,
            }
        };
        assert_eq!(says("immediate"), Some(true));
        assert_eq!(says("rolling"), Some(false));
    }

    #[test]
    fn canary_needs_no_checks() {
        assert_eq!(fails("canary", SERVICE), None);
    }

    #[test]
    fn rolling_is_compatible_with_everything() {
        assert_eq!(fails("rolling", &format!("{SERVICE}{MOUNT}")), None);
        assert_eq!(fails("rolling", ""), None);
        assert_eq!(fails("immediate", SERVICE), None);
    }
}
