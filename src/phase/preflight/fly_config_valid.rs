//! The fly.toml is valid, and the fields of the spec about machines match it.

use super::check::{Check, Finding};
use crate::{
    api::{Reason, preflight::CheckName, status::Severity},
    flytoml::{self, Topic},
    pipeline::{Cx, step::Result},
    plan::Target,
};

/// The fly.toml is valid, and the fields of the spec about machines match it.
pub struct FlyConfigValid;

/// Warnings in the message; the rest is counted.
const MAX_WARNINGS: usize = 5;

impl Check for FlyConfigValid {
    type Observed = ();
    const NAME: CheckName = CheckName::FlyConfigValid;
    const SEVERITY: Severity = Severity::Blocking;

    async fn observe(&self, _cx: &Cx) -> Result<()> {
        Ok(())
    }

    fn judge(&self, target: &Target, (): &()) -> Finding {
        let config = match target.config_or_invalid() {
            Ok(config) => config,
            Err(invalid) => {
                return Finding::failed(invalid.reason, invalid.message, invalid.action);
            }
        };
        let mut wrong: Vec<String> = Vec::new();
        let groups = config.app.process_groups();
        let scale = target.deploy.scale.keys().map(|group| ("scale", group));
        let regions = target.deploy.regions.keys().map(|group| ("regions", group));
        for (field, group) in scale.chain(regions) {
            if !groups.contains(group) {
                wrong.push(format!(
                    "`deploy.{field}` names the process group {group}, and there are {}",
                    groups.join(", ")
                ));
            }
        }
        for size in &target.deploy.fallback_sizes {
            if let Err(error) = flytoml::parse_size(size) {
                wrong.push(format!("`deploy.fallbackSizes`: {error}"));
            }
        }
        if !wrong.is_empty() {
            return Finding::failed(
                Reason::InvalidSpec,
                wrong.join("; "),
                "correct these fields of the Activation",
            );
        }
        if config.text.is_none() {
            return Finding::passed("no fly.toml: one HTTP service with HTTPS forced");
        }
        let warnings = &config.warnings;
        if warnings.is_empty() {
            return Finding::passed("the fly.toml is valid");
        }
        Finding::questionable(
            Reason::FlyConfigDoubtful,
            doubts(warnings),
            "correct these lines of the fly.toml, or leave them if they are meant; \
             `kubectl golive render -f FILE` prints all of them, and the machines",
        )
    }
}

/// What is probably a mistake, with the number of warnings. A key that was mistyped comes first,
/// because what it should say is not done.
fn doubts(warnings: &[flytoml::Problem]) -> String {
    let mut sorted: Vec<&flytoml::Problem> = warnings.iter().collect();
    sorted.sort_by_key(|problem| problem.topic);
    let mistyped = sorted
        .iter()
        .filter(|problem| problem.topic == Topic::MistypedKey)
        .count();
    let mut shown: Vec<String> = sorted
        .iter()
        .take(MAX_WARNINGS)
        .map(|problem| problem.to_string().replacen("warning: ", "", 1))
        .collect();
    if warnings.len() > MAX_WARNINGS {
        shown.push(format!("and {} more", warnings.len() - MAX_WARNINGS));
    }
    let count = |number: usize, one: &str, many: &str| match number {
        1 => one.to_owned(),
        _ => many.replace("{}", &number.to_string()),
    };
    let begins = if mistyped > 0 {
        count(
            mistyped,
            "a key of the fly.toml is mistyped and ignored",
            "{} keys of the fly.toml are mistyped and ignored",
        )
    } else {
        "the fly.toml is valid".to_owned()
    };
    let warned = count(warnings.len(), "1 warning", "{} warnings");
    format!("{begins} ({warned}): {}", shown.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::testing::target;

    fn judge(deploy: &str) -> Finding {
        FlyConfigValid.judge(&target(&format!("deploy: {{{deploy}}}"), &[]), &())
    }

    #[test]
    fn all_problems_are_reported_with_line_and_column() {
        let toml =
            r#"config: {inline: "[http_service]\ninternal_port = 99999\n[[vm]]\nsize = 'huge'\n"}"#;
        let finding = judge(toml);
        assert!(
            matches!(&finding, Finding::Failed { reason: Reason::FlyConfigInvalid, message, .. }
                if message.contains("2:") && message.contains("4:")),
            "{finding:?}"
        );
    }

    #[test]
    fn sizes_and_groups_that_do_not_exist_are_reported() {
        let finding =
            judge("fallbackSizes: [huge-1x], scale: {worker: 2}, regions: {web: {gru: 1}}");
        assert!(
            matches!(&finding, Finding::Failed { reason: Reason::InvalidSpec, message, .. }
                if ["huge-1x", "worker", "web"].iter().all(|word| message.contains(word))),
            "{finding:?}"
        );
    }

    #[test]
    fn keys_without_an_effect_are_a_warning_with_a_count_and_the_mistyped_first() {
        let finding = judge(
            r#"config: {inline: "app = 'other'\ncolour = 1\n[deploy]\nrelease_comand = 'x'\n"}"#,
        );
        let Finding::Questionable {
            reason: Reason::FlyConfigDoubtful,
            message,
            action,
        } = finding
        else {
            unreachable!("{finding:?}")
        };
        assert!(
            message.starts_with(
                "a key of the fly.toml is mistyped and ignored (3 warnings): \
                 4:1: deploy.release_comand: unknown key, ignored; did you mean release_command?; "
            ),
            "{message}"
        );
        assert!(
            message.contains("1:1: app: other has no effect"),
            "{message}"
        );
        assert!(action.contains("kubectl golive render"), "{action}");
    }

    #[test]
    fn what_the_activation_overrides_is_a_warning() {
        for (inline, said) in [
            (
                "primary_region = 'ams'",
                "primary_region: ams has no effect: the Activation's `region`",
            ),
            ("app = 'x'", "app: x has no effect: the Activation's `app`"),
            (
                "[env]\\nFLY_REGION = 'ams'",
                "env.FLY_REGION: names that begin with FLY_",
            ),
        ] {
            let finding = judge(&format!("config: {{inline: \"{inline}\"}}"));
            assert!(
                matches!(&finding, Finding::Questionable { message, .. }
                    if message.starts_with("the fly.toml is valid (1 warning): ")
                        && message.contains(said)),
                "{finding:?}"
            );
        }
    }

    #[test]
    fn a_missing_config_map_has_its_own_reason() {
        let finding = judge("config: {configMapRef: {name: nowhere}}");
        assert!(
            matches!(&finding, Finding::Failed { reason: Reason::ConfigMapNotFound, action, .. }
                if action.contains("create configmap nowhere")),
            "{finding:?}"
        );
    }

    #[test]
    fn a_missing_fly_toml_passes() {
        assert!(matches!(judge(""), Finding::Passed(_)));
    }
}
