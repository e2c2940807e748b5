//! Recording rules and alerts of objectives, as a rule file of Prometheus or as a PrometheusRule. Pure.
//!
//! Sources: prometheus/prometheus, `docs/configuration/recording_rules.md` and `alerting_rules.md`;
//! prometheus-operator, `Documentation/api-reference/api.md` (`PrometheusRule`). Windows and factors are those
//! of [`crate::slo::burn`].

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::expr;
use super::slo::{Slo, Slos, number};
use crate::{
    api::duration::Duration,
    slo::{Pair, Severity},
};

/// How long a gauge must be on the wrong side, and a series missing.
const LEVEL_FOR: &str = "1m";
const MISSING_FOR: &str = "1h";

/// A rule file.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct RuleFile {
    /// Its groups.
    pub(super) groups: Vec<Group>,
}

/// Rules that are evaluated one after the other.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Group {
    name: String,
    rules: Vec<Rule>,
}

/// A rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct Rule {
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alert: Option<String>,
    expr: String,
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    lasts: Option<&'static str>,
    labels: BTreeMap<&'static str, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, String>,
}

/// The object of the Prometheus Operator.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PrometheusRule {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata,
    spec: RuleFile,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Metadata {
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    namespace: String,
    labels: BTreeMap<&'static str, String>,
}

/// The object with these rules.
pub(super) fn object(slos: &Slos, runbook: &str) -> PrometheusRule {
    let labels = [
        ("app.kubernetes.io/part-of", "golive".to_owned()),
        ("golive.dev/activation", slos.activation.clone()),
    ];
    PrometheusRule {
        api_version: "monitoring.coreos.com/v1",
        kind: "PrometheusRule",
        metadata: Metadata {
            name: format!("golive-{}", slos.activation),
            namespace: slos.namespace.clone(),
            labels: labels.into(),
        },
        spec: file(slos, runbook),
    }
}

/// The rules.
pub(super) fn file(slos: &Slos, runbook: &str) -> RuleFile {
    let group = |slo: &Slo| Group {
        name: format!("golive/{}/{}/{}", slos.namespace, slos.activation, slo.name),
        rules: rules(slos, slo, runbook),
    };
    RuleFile {
        groups: slos.all.iter().map(group).collect(),
    }
}

/// What every rule of an objective shares.
struct About<'a> {
    slos: &'a Slos,
    slo: &'a Slo,
    runbook: &'a str,
}

fn rules(slos: &Slos, slo: &Slo, runbook: &str) -> Vec<Rule> {
    let about = About { slos, slo, runbook };
    let mut rules = about.shares();
    rules.extend(about.burning());
    rules.extend(about.level());
    rules.push(about.missing());
    rules
}

impl About<'_> {
    fn pairs(&self) -> [Pair; 4] {
        self.slos.rates.pairs(self.slos.watch)
    }

    fn labels(&self) -> BTreeMap<&'static str, String> {
        [
            ("namespace", self.slos.namespace.clone()),
            ("activation", self.slos.activation.clone()),
            ("objective", self.slo.name.clone()),
        ]
        .into()
    }

    /// The labels as conditions.
    fn same(&self) -> String {
        let labels = self.labels();
        let labels = labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{value}\""));
        labels.collect::<Vec<_>>().join(",")
    }

    /// The shares of bad events, one for each window.
    fn shares(&self) -> Vec<Rule> {
        let pairs = self.pairs();
        let windows = pairs.iter().flat_map(|pair| [pair.short, pair.long]);
        let windows: BTreeSet<i64> = windows.collect();
        let rules = windows.into_iter().filter_map(|window| {
            let expr = expr::share(self.slo, &length(window))?;
            Some(Rule {
                record: Some(recorded(window)),
                expr,
                labels: self.labels(),
                ..Rule::default()
            })
        });
        rules.collect()
    }

    /// The alerts on a burning budget: one for each urgency. An objective for working hours pages nobody.
    fn burning(&self) -> Vec<Rule> {
        let Some(budget) = self.slo.budget() else {
            return Vec::new();
        };
        let pairs = self.pairs();
        let of = |severity| {
            let pairs = pairs.iter();
            let pairs = pairs.filter(move |pair| pair.severity.min(self.slo.severity) == severity);
            pairs.copied().collect::<Vec<_>>()
        };
        let rule = |severity| {
            let pairs = of(severity);
            let burns = pairs.iter().map(|pair| self.burns(pair, budget));
            let expr = burns.collect::<Vec<_>>().join(" or ");
            (!expr.is_empty()).then(|| self.alert("GoliveErrorBudgetBurn", expr, severity, &pairs))
        };
        let both = [Severity::Page, Severity::Ticket];
        both.into_iter().filter_map(rule).collect()
    }

    fn burns(&self, pair: &Pair, budget: f64) -> String {
        let (same, budget) = (self.same(), number(budget));
        let factor = number(pair.factor);
        let one = |window| format!("{}{{{same}}} / {budget} >= {factor}", recorded(window));
        format!("({} and {})", one(pair.long), one(pair.short))
    }

    fn level(&self) -> Vec<Rule> {
        let Some((worst, wrong)) = expr::worst(self.slo) else {
            return Vec::new();
        };
        let record = Rule {
            record: Some("golive:level:worst".to_owned()),
            expr: worst,
            labels: self.labels(),
            ..Rule::default()
        };
        let expr = format!("golive:level:worst{{{}}} {wrong}", self.same());
        let severity = self.slo.severity;
        let mut alert = self.alert("GoliveObjectiveOutOfBounds", expr, severity, &[]);
        alert.lasts = Some(LEVEL_FOR);
        vec![record, alert]
    }

    /// Without its series nothing is known, and no other alert would say so.
    fn missing(&self) -> Rule {
        let needed = expr::needed(self.slo);
        let expr = format!("absent({needed})");
        let mut alert = self.alert("GoliveObjectiveWithoutData", expr, Severity::Ticket, &[]);
        alert.lasts = Some(MISSING_FOR);
        let text = format!(
            "Prometheus has no series {needed}. Check that it scrapes the application; a latency \
             needs a bucket that ends at its bound."
        );
        alert.annotations.insert("description", plain(&text));
        alert
    }

    fn alert(&self, name: &str, expr: String, severity: Severity, pairs: &[Pair]) -> Rule {
        let mut labels = self.labels();
        let urgency = match severity {
            Severity::Page => "page",
            Severity::Ticket => "ticket",
        };
        labels.insert("severity", urgency.to_owned());
        let annotations = [
            ("summary", plain(&self.summary(name))),
            ("description", self.description(pairs)),
            ("runbook_url", self.runbook.to_owned()),
        ];
        Rule {
            alert: Some(name.to_owned()),
            expr,
            labels,
            annotations: annotations.into(),
            ..Rule::default()
        }
    }

    fn summary(&self, name: &str) -> String {
        let (slo, activation) = (&self.slo.name, &self.slos.activation);
        let of = format!("objective {slo} of {activation}");
        match name {
            "GoliveErrorBudgetBurn" => format!("The error budget of {of} burns"),
            "GoliveObjectiveOutOfBounds" => format!("The value of {of} is out of its bounds"),
            _ => format!("Nothing is known of {of}"),
        }
    }

    /// The description of an objective is a person's text, and a template to Prometheus: it is quoted.
    fn description(&self, pairs: &[Pair]) -> String {
        let mut parts = Vec::new();
        if let Some(description) = &self.slo.description {
            parts.push(format!("{}.", plain(description)));
        }
        if !pairs.is_empty() {
            let limits = pairs.iter().map(|pair| {
                let (long, short) = (length(pair.long), length(pair.short));
                format!("{} over {long} and {short}", number(pair.factor))
            });
            let limits = limits.collect::<Vec<_>>().join(", or ");
            parts.push(format!(
                "It burns {{{{ printf \"%.1f\" $value }}}} times as fast as the objective allows; the limit is {limits}."
            ));
        } else {
            parts.push("The value is {{ printf \"%g\" $value }}.".to_owned());
        }
        let Slos {
            namespace,
            activation,
            ..
        } = self.slos;
        parts.push(format!(
            "See: kubectl golive report {activation} -n {namespace}"
        ));
        parts.join(" ")
    }
}

/// A text in which Prometheus finds no template.
fn plain(text: &str) -> String {
    text.replace("{{", "{{ \"{{\" }}")
}

/// The name of the recorded share of bad events in a window.
fn recorded(window: i64) -> String {
    format!("golive:bad_share:ratio_{}", length(window))
}

/// A length of time in milliseconds, as PromQL writes it.
pub(super) fn length(millis: i64) -> String {
    let millis = u64::try_from(millis).unwrap_or_default();
    Duration::from(std::time::Duration::from_millis(millis)).to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::slo::tests::{activation, plan, slos};
    use super::super::slo::{Slos, of};
    use super::*;

    fn alerts(slos: &Slos) -> Vec<(String, String, String)> {
        let groups = file(slos, "https://runbook.example").groups;
        let rules = groups.into_iter().flat_map(|group| group.rules);
        let alerts = rules.filter_map(|rule| {
            let severity = rule.labels.get("severity").cloned();
            Some((rule.alert?, severity?, rule.expr))
        });
        alerts.collect()
    }

    #[test]
    fn windows_and_factors_are_those_of_the_watch() {
        let slos = slos();
        let alerts = alerts(&slos);
        let named: Vec<(&str, &str)> = alerts.iter().map(|(a, s, _)| (&**a, &**s)).collect();
        let (burns, missing) = ("GoliveErrorBudgetBurn", "GoliveObjectiveWithoutData");
        let wanted = [
            (burns, "page"),
            (burns, "ticket"),
            (missing, "ticket"),
            (burns, "page"),
            (burns, "ticket"),
            (missing, "ticket"),
            ("GoliveObjectiveOutOfBounds", "ticket"),
            (missing, "ticket"),
        ];
        assert_eq!(named, wanted);
        for pair in slos.rates.pairs(slos.watch) {
            let part = format!(
                "golive:bad_share:ratio_{}{{activation=\"shop\",namespace=\"prod\",objective=\"text-p95\"}} / 0.05 >= {}",
                length(pair.long),
                number(pair.factor)
            );
            let which = usize::from(pair.severity == Severity::Ticket);
            assert!(
                alerts[which].2.contains(&part),
                "{part}\n{}",
                alerts[which].2
            );
        }
    }

    #[test]
    fn scaled_windows_and_an_objective_for_working_hours_page_nobody() {
        let mut observe = plan();
        observe["burnRates"] = "Scaled".into();
        observe["objectives"][1]["severity"] = "Ticket".into();
        let slos = of(&activation(observe), &[], &[]).unwrap();
        let alerts = alerts(&slos);
        let of_errors = alerts
            .iter()
            .filter(|(_, _, expr)| expr.contains("\"errors\""));
        let of_errors: Vec<_> = of_errors.collect();
        assert_eq!(of_errors.len(), 1);
        assert_eq!(of_errors[0].1, "ticket");
        assert!(of_errors[0].2.contains("ratio_2h34m"), "{}", of_errors[0].2);
        assert!(of_errors[0].2.contains("ratio_6m"), "{}", of_errors[0].2);
    }

    #[test]
    fn a_description_cannot_be_a_template() {
        let groups = file(&slos(), "r").groups;
        let alert = groups[0].rules.iter().find(|rule| rule.alert.is_some());
        let text = &alert.unwrap().annotations["description"];
        assert!(
            text.starts_with("a guest who writes gets an answer {{ \"{{\" }} at once }}."),
            "{text}"
        );
    }
}
