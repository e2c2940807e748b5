//! The way back: documents of Sloth, Pyrra and OpenSLO as objectives of a spec. Pure.

use serde_json::Value;

use super::{foreign::Imported, openslo, pyrra, sloth};
use crate::{
    api::{
        self, crds,
        observe::{Objective, ObjectiveSeverity, Observe},
    },
    cli::schema,
    phase::observe::question::Wanted,
    slo::objective::MIN_EVENTS,
};

/// Reads documents of any of the formats.
pub(super) fn read(documents: &[Value]) -> Imported {
    let mut imported = Imported::default();
    for document in documents {
        let field = |name: &str| document.get(name).and_then(Value::as_str);
        match field("apiVersion").or_else(|| field("version")) {
            Some(sloth::VERSION) => sloth::read(document, &mut imported),
            Some(pyrra::VERSION) => pyrra::read(document, &mut imported),
            Some(openslo::VERSION) => openslo::read(document, &mut imported),
            other => imported.refuse(
                "a document",
                &format!(
                    "its version is {}; {}, {} and {} can be imported",
                    other.unwrap_or("not given"),
                    sloth::VERSION,
                    pyrra::VERSION,
                    openslo::VERSION
                ),
            ),
        }
    }
    let why = unlike_the_definition(&spec(&imported.objectives));
    for why in why {
        imported.refuse("the objectives", &why);
    }
    imported
}

/// What the API server or the operator would refuse: the bounds of the definition, and regular expressions.
fn unlike_the_definition(part: &Value) -> Vec<String> {
    let mut object = serde_json::json!({
        "apiVersion": "golive.dev/v1alpha1", "kind": "Activation", "metadata": {"name": "imported"},
        "spec": {"organization": "imported", "app": "imported", "region": "eze", "deploy": {"image": "imported:1"}},
    });
    object["spec"]["observe"] = part["observe"].clone();
    let crds = crds();
    let ours = crds.iter().find(|crd| crd.spec.names.kind == "Activation");
    let mut refused = match ours.and_then(api::schema) {
        Some(schema) => schema::check(schema, &object).errors,
        None => Vec::new(),
    };
    let observe = serde_json::from_value::<Observe>(part["observe"].clone());
    let unusable = observe.map(|observe| Wanted::of(&observe).err());
    if let Ok(Some(unusable)) = unusable {
        refused.push(unusable.to_string());
    }
    refused
}

/// The part of a spec with these objectives, without what is a default.
pub(super) fn spec(objectives: &[Objective]) -> Value {
    let short = objectives.iter().map(|objective| {
        let mut value = serde_json::to_value(objective).unwrap_or_default();
        if let Some(fields) = value.as_object_mut() {
            if objective.min_events == MIN_EVENTS {
                fields.remove("minEvents");
            }
            if objective.severity == ObjectiveSeverity::default() {
                fields.remove("severity");
            }
        }
        value
    });
    serde_json::json!({"observe": {"objectives": short.collect::<Vec<_>>()}})
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::super::foreign::Exported;
    use super::super::slo::tests::{activation, plan};
    use super::super::slo::{Error, Slos, of};
    use super::*;

    type Change<'a> = &'a dyn Fn(&mut Value);
    type Writer = fn(&Slos) -> Result<Exported, Error>;

    const WRITERS: [(&str, Writer); 3] = [
        ("Sloth", |slos| {
            sloth::write(slos, "https://runbook.example")
        }),
        ("Pyrra", pyrra::write),
        ("OpenSLO", openslo::write),
    ];

    fn documents(exported: &Exported) -> Vec<Value> {
        let texts = exported.documents.iter();
        texts
            .map(|text| serde_saphyr::from_str(text).unwrap())
            .collect()
    }

    #[test]
    fn what_is_exported_is_imported_as_it_was() {
        let mut observe = plan();
        observe["objectives"].as_array_mut().unwrap().truncate(2);
        observe["objectives"][1]
            .as_object_mut()
            .unwrap()
            .remove("minEvents");
        observe["objectives"].as_array_mut().unwrap().push(json!({
            "name": "fast", "latency": {"metric": "d", "quantile": 90, "below": "250ms"}}));
        let activation = activation(observe);
        let slos = of(&activation, &[], &[]).unwrap();
        for (format, write) in WRITERS {
            let exported = write(&slos).unwrap();
            assert_eq!(exported.fault, None);
            let imported = read(&documents(&exported));
            assert_eq!(imported.refused, [""; 0], "{format}");
            let wanted = &activation.spec.observe.as_ref().unwrap().objectives;
            assert_eq!(&imported.objectives, wanted, "{format}");
        }
    }

    #[test]
    fn a_gauge_is_refused_and_what_a_format_cannot_say_is_a_warning() {
        let with_gauge = of(&activation(plan()), &[], &[]).unwrap();
        let without = of(&activation(plan()), &["calendars".to_owned()], &[]).unwrap();
        for (format, write) in WRITERS {
            let said = write(&with_gauge).unwrap_err().to_string();
            assert!(
                said.contains("--except calendars") && said.contains(format),
                "{said}"
            );
            let warnings = write(&without).unwrap().warnings;
            assert!(warnings[0].contains("minEvents (20)"), "{warnings:?}");
            assert!(warnings[0].contains(format), "{warnings:?}");
        }
    }

    #[test]
    fn what_is_not_known_is_refused_and_never_left_out_silently() {
        let slo = |spec: Value| {
            json!({"apiVersion": "pyrra.dev/v1alpha1", "kind": "ServiceLevelObjective",
            "metadata": {"name": "a"}, "spec": spec})
        };
        let ratio = json!({"errors": {"metric": "r{c=\"5\"}"}, "total": {"metric": "r"}});
        let mut grouped = ratio.clone();
        grouped["grouping"] = json!(["handler"]);
        let sloth = |sli: Value| {
            json!({"version": "prometheus/v1", "service": "s",
            "slos": [{"name": "a", "objective": 99, "sli": sli, "alerting": {}}]})
        };
        for (document, says) in [
            (json!({"apiVersion": "v1"}), "its version is v1"),
            (json!([]), "its version is not given"),
            (
                slo(json!({"target": "x", "window": "4w", "indicator": {"ratio": ratio}})),
                "`x` is no number",
            ),
            (
                slo(json!({"target": "99", "window": "4w", "indicator": {"ratio": grouped}})),
                "grouped",
            ),
            (
                slo(json!({"target": "99", "window": "4w", "indicator": {}})),
                "exactly one",
            ),
            (
                slo(json!({"target": "99", "window": "4w", "more": 1, "indicator": {}})),
                "unknown field `more`",
            ),
            (
                slo(json!({"target": "99", "window": "4w", "indicator": {"latencyNative": {}}})),
                "only the indicators",
            ),
            (
                sloth(json!({"raw": {"error_ratio_query": "x"}})),
                "only `sli.events`",
            ),
            (
                sloth(json!({"events": {"error_query": "x + 1", "total_query": "x"}})),
                "its query cannot be read",
            ),
        ] {
            let imported = read(&[document]);
            assert_eq!(imported.objectives, []);
            assert!(
                imported.refused[0].contains(says),
                "{:?}\nmust say {says}",
                imported.refused
            );
        }
        let too_long = format!("{}{{a=\"5\"}}", "m".repeat(300));
        let (bad, total) = (
            json!({"metric": too_long}),
            json!({"metric": "m".repeat(300)}),
        );
        let regex = json!({"errors": {"metric": "r{c=~\"(\"}"}, "total": {"metric": "r"}});
        for (ratio, says) in [
            (
                json!({"errors": bad, "total": total}),
                "spec.observe.objectives[0].errorRate.metric",
            ),
            (regex, "regular expression"),
        ] {
            let document =
                slo(json!({"target": "99", "window": "4w", "indicator": {"ratio": ratio}}));
            let refused = read(&[document]).refused;
            assert!(refused[0].contains(says), "{refused:?}\nmust say {says}");
        }
        let twice = slo(json!({"target": "99", "window": "4w", "indicator": {"ratio": ratio}}));
        let imported = read(&[twice.clone(), twice]);
        assert_eq!((imported.objectives.len(), imported.refused.len()), (1, 1));
        assert!(imported.left[0].contains("window 4w"));
    }

    #[test]
    fn openslo_refuses_what_is_not_a_share_of_counters() {
        let document = |change: &dyn Fn(&mut Value)| {
            let mut document = json!({"apiVersion": "openslo/v1", "kind": "SLO", "metadata": {"name": "a"},
                "spec": {"service": "s", "budgetingMethod": "Occurrences", "objectives": [{"target": 0.999}],
                    "timeWindow": [{"duration": "28d", "isRolling": true}],
                    "indicator": {"metadata": {"name": "i"}, "spec": {"ratioMetric": {"counter": true,
                        "good": {"metricSource": {"type": "Prometheus", "spec": {"query": "sum(r{c!~\"5..\"})"}}},
                        "total": {"metricSource": {"type": "Prometheus", "spec": {"query": "sum(r)"}}}}}}}});
            change(&mut document);
            read(&[document])
        };
        let found = document(&|_| {}).objectives;
        assert_eq!(found[0].error_rate.as_ref().unwrap().below, "0.1%");
        let cases: [(Change<'_>, &str); 5] = [
            (&|d| d["kind"] = "SLI".into(), "only SLO"),
            (
                &|d| d["spec"]["budgetingMethod"] = "Timeslices".into(),
                "counts occurrences",
            ),
            (
                &|d| d["spec"]["objectives"] = json!([]),
                "exactly one objective",
            ),
            (
                &|d| d["spec"]["indicator"]["spec"]["ratioMetric"]["counter"] = false.into(),
                "of counters",
            ),
            (
                &|d| d["spec"]["indicator"] = Value::Null,
                "its indicator must stand in it",
            ),
        ];
        for (change, says) in cases {
            let refused = document(change).refused;
            assert!(refused[0].contains(says), "{refused:?}\nmust say {says}");
        }
    }

    #[test]
    fn the_part_of_a_spec_has_no_defaults() {
        let objectives = activation(plan()).spec.observe.unwrap().objectives;
        let text = spec(&objectives).to_string();
        assert!(
            text.contains("\"minEvents\":10") && !text.contains("20"),
            "{text}"
        );
        assert!(text.contains("Ticket") && !text.contains("Page"), "{text}");
    }
}
