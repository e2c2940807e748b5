//! The bounds of a status: those of the schema, and 64 kB in total.
//!
//! The API server refuses a status that exceeds a bound, and then nothing is published at all. So
//! every status is cut to its bounds before it is written. The bounds are read from the schema, so
//! that the two cannot differ.

use std::sync::OnceLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray,
};
use serde_json::Value;

use super::crd::{crds, schema};
use super::status::ActivationStatus;
use super::text::{MAX_MESSAGE, one_line};

/// Longest status, in bytes of JSON. Leaves room for the rest of the object: etcd stores at most
/// 1.5 MiB an object, and every watch sends the whole.
pub const MAX_STATUS: usize = 64 * 1024;

/// Longest text and longest list, stage by stage, until the whole fits.
const STAGES: [(usize, usize); 6] = [
    (usize::MAX, usize::MAX),
    (256, usize::MAX),
    (128, 32),
    (96, 16),
    (48, 8),
    (48, 4),
];

/// Fields that are never shortened to make room for others: another process needs the announced
/// creates and the ids of what exists, and decisions of people are bound to what is destroyed.
const KEPT: [&str; 3] = ["intents", "external", "destroys"];

/// Texts that are compared with others later, as the field that they are in and their own name (`""`: the status
/// itself). One that is shortened would be another one: they are only ever cut at the bound of the schema.
const COMPARED: [(&str, &str); 29] = [
    ("", "uid"),
    ("", "tokenSecret"),
    ("", "lastHandledReconcileAt"),
    ("", "lastHandledRetry"),
    ("fallbacks", "what"),
    ("fallbacks", "from"),
    ("fallbacks", "to"),
    ("gate", "about"),
    ("gate", "attempt"),
    ("gate", "digest"),
    ("goLive", "image"),
    ("history", "configHash"),
    ("history", "image"),
    ("integrations", "fingerprint"),
    ("integrations", "name"),
    ("pending", "digest"),
    ("pending", "tag"),
    ("plan", "digest"),
    ("release", "configHash"),
    ("release", "digest"),
    ("release", "image"),
    ("rollback", "request"),
    ("secrets", "digest"),
    ("secrets", "fingerprint"),
    ("secrets", "name"),
    ("source", "digest"),
    ("source", "image"),
    ("source", "tag"),
    ("steps", "name"),
];

/// Lists that lose no entry to make room for others: what is not in them any more counts as gone, a
/// condition as well as an integration that accepts forged requests.
const WHOLE: [&str; 3] = ["conditions", "integrations", "phases"];

impl ActivationStatus {
    /// This status within its bounds: texts are one line and end with an ellipsis where they are
    /// cut, lists lose their last entries, and if the whole is still too long, texts and lists
    /// get shorter until it fits, except for [`KEPT`], [`COMPARED`] and the entries of [`WHOLE`].
    #[must_use]
    pub fn bounded(self) -> Self {
        let (Some(bounds), Ok(whole)) = (status_schema(), serde_json::to_value(&self)) else {
            return self;
        };
        for (text, items) in STAGES {
            let mut cut = whole.clone();
            shorten(&mut cut, bounds, "", (text, items));
            if cut.to_string().len() <= MAX_STATUS {
                if cut == whole {
                    return self;
                }
                return serde_json::from_value(cut).unwrap_or(self);
            }
        }
        self
    }
}

/// Reads the bounds now, so that the first pass does not spend the time.
pub fn prepare() {
    status_schema();
}

fn status_schema() -> Option<&'static JSONSchemaProps> {
    static SCHEMA: OnceLock<Option<JSONSchemaProps>> = OnceLock::new();
    SCHEMA
        .get_or_init(|| {
            let crds = crds();
            let root = schema(crds.first()?)?;
            root.properties.as_ref()?.get("status").cloned()
        })
        .as_ref()
}

/// Shortens a value of the field `of` to its bounds, its texts to `text` bytes and its lists to `items` entries.
fn shorten(value: &mut Value, bounds: &JSONSchemaProps, of: &str, (text, items): (usize, usize)) {
    match value {
        Value::String(s) => {
            if let Some(max) = bounds.max_length {
                // The bound counts characters and we count bytes, which are never fewer.
                let max = usize::try_from(max).unwrap_or(usize::MAX);
                // A condition's message may be longer by its schema than what we ever write.
                let max = max.min(text).min(MAX_MESSAGE);
                let line = one_line(s, max);
                if line != *s {
                    *s = line;
                }
            }
        }
        Value::Array(list) => {
            list.truncate(items);
            shorten_entries(list, bounds, of, (text, items));
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                if let Some(bounds) = bounds.properties.as_ref().and_then(|p| p.get(name)) {
                    let name = name.as_str();
                    let room = if KEPT.contains(&name) || COMPARED.contains(&(of, name)) {
                        (usize::MAX, usize::MAX)
                    } else {
                        (text, items)
                    };
                    match field {
                        Value::Array(list) if WHOLE.contains(&name) => {
                            shorten_entries(list, bounds, name, room);
                        }
                        field => shorten(field, bounds, name, room),
                    }
                }
            }
        }
        _ => {}
    }
}

/// Shortens the entries of a list, of which only those beyond the schema's own bound go.
fn shorten_entries(
    list: &mut Vec<Value>,
    bounds: &JSONSchemaProps,
    of: &str,
    room: (usize, usize),
) {
    let max = bounds.max_items.and_then(|max| usize::try_from(max).ok());
    list.truncate(max.unwrap_or(usize::MAX));
    if let Some(JSONSchemaPropsOrArray::Schema(item)) = &bounds.items {
        for entry in list {
            shorten(entry, item, of, room);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::api::condition::{self, ConditionStatus, ConditionType, Observation};
    use crate::api::reason::Reason;
    use crate::api::status::{
        ExternalObject, HistoryEntry, IntegrationCheck, IntegrationState, IntegrationStatus,
        Intent, PhaseName, PhaseState, PhaseStatus, PlanStatus, PlannedChange, PreflightResult,
        ReleaseStatus, SecretStatus, StepStatus,
    };

    fn step(name: String) -> StepStatus {
        StepStatus {
            name,
            reason: "R".repeat(300),
            message: format!("line one\nline two {}", "ñ".repeat(4000)),
            ..StepStatus::default()
        }
    }

    fn enormous() -> ActivationStatus {
        let mut status = ActivationStatus {
            observed_generation: Some(7),
            url: Some("https://x.fly.dev".into()),
            plan: Some(PlanStatus {
                digest: "sha256:00".into(),
                changes: (0..500)
                    .map(|i| PlannedChange {
                        phase: "Deploy".into(),
                        step: format!("s{i}"),
                        change: "c".repeat(9000),
                        ..PlannedChange::default()
                    })
                    .collect(),
                total: 500,
                ..PlanStatus::default()
            }),
            preflight: (0..40)
                .map(|i| PreflightResult {
                    check: format!("Check{i}"),
                    message: "m".repeat(5000),
                    next_action: "n".repeat(5000),
                    ..PreflightResult::default()
                })
                .collect(),
            history: vec![
                HistoryEntry {
                    image: "i".repeat(2000),
                    ..HistoryEntry::default()
                };
                1000
            ],
            ..ActivationStatus::default()
        };
        for phase in PhaseName::ALL {
            status.phases.push(PhaseStatus {
                name: *phase,
                state: PhaseState::Running,
                reason: String::new(),
                message: "p".repeat(5000),
                starts: 1,
                attempts: 1,
                started_at: None,
                finished_at: None,
                deadline: None,
                owner: Some("o".repeat(1000)),
                gate: None,
                steps: (0..100).map(|i| step(format!("step-{i}"))).collect(),
            });
        }
        for type_ in ConditionType::ALL {
            let seen = Observation::new(
                *type_,
                ConditionStatus::True,
                Reason::GoLive,
                "x".repeat(9000),
            );
            condition::set(
                &mut status.conditions,
                seen,
                Some(7),
                "2026-01-01T00:00:00Z".parse().unwrap(),
            );
        }
        status
    }

    #[test]
    fn an_enormous_status_fits_and_still_says_what_matters() {
        let status = enormous().bounded();
        let text = serde_json::to_string(&status).unwrap();
        assert!(text.len() <= MAX_STATUS, "{} bytes", text.len());
        assert_eq!(status.observed_generation, Some(7));
        assert_eq!(status.url.as_deref(), Some("https://x.fly.dev"));
        assert!(status.phases.iter().any(|p| p.name == PhaseName::Deploy));
        assert!(!text.contains("\\n"));
    }

    #[test]
    fn what_another_process_goes_by_is_whole_in_an_enormous_status_too() {
        let mut status = enormous();
        status.intents = (0..64)
            .map(|i| Intent {
                slot: format!("Machines/Machine/golive-check-{i}"),
                kind: "Machine".to_owned(),
                name: format!("golive-check-{i}"),
                ..Intent::default()
            })
            .collect();
        status.external = (0..64)
            .map(|i| ExternalObject {
                kind: "Machine".to_owned(),
                id: format!("{i:014x}"),
                name: format!("golive-app-{i}"),
                ..ExternalObject::default()
            })
            .collect();
        let bounded = status.clone().bounded();
        assert_eq!(bounded.intents, status.intents);
        assert_eq!(bounded.external, status.external);
        let text = serde_json::to_string(&bounded).unwrap();
        assert!(text.len() <= MAX_STATUS, "{}", text.len());
    }

    /// The fields of this name in the part of the schema that belongs to the field `of`.
    fn fields<'a>(
        bounds: &'a JSONSchemaProps,
        of: &str,
        wanted: (&str, &str),
    ) -> Vec<&'a JSONSchemaProps> {
        let mut found = Vec::new();
        if let Some(JSONSchemaPropsOrArray::Schema(item)) = &bounds.items {
            found.extend(fields(item, of, wanted));
        }
        for (name, field) in bounds.properties.iter().flatten() {
            if (of, name.as_str()) == wanted {
                found.push(field);
            }
            found.extend(fields(field, name, wanted));
        }
        found
    }

    #[test]
    fn every_text_that_is_compared_is_a_text_of_the_schema_with_a_bound() {
        let bounds = status_schema().unwrap();
        for wanted in COMPARED {
            let found = fields(bounds, "", wanted);
            assert!(!found.is_empty(), "{wanted:?}");
            for field in found {
                assert!(field.max_length.is_some(), "{wanted:?}");
                let max = usize::try_from(field.max_length.unwrap()).unwrap();
                assert!(max <= MAX_MESSAGE, "{wanted:?}");
            }
        }
    }

    #[test]
    fn no_text_that_is_compared_is_shortened_in_an_enormous_status() {
        let mut status = enormous();
        let longest = "i".repeat(512);
        status.last_handled_retry = Some("r".repeat(256));
        status.history = vec![
            HistoryEntry {
                image: longest.clone(),
                config_hash: "c".repeat(71),
                ..HistoryEntry::default()
            };
            10
        ];
        status.release = Some(ReleaseStatus {
            image: longest.clone(),
            digest: "d".repeat(128),
            config_hash: "c".repeat(71),
            ..ReleaseStatus::default()
        });
        status.secrets = (0..100)
            .map(|number| SecretStatus {
                name: format!("{}{number:03}", "N".repeat(250)),
                digest: "d".repeat(128),
                fingerprint: "f".repeat(64),
            })
            .collect();
        let mut cut = serde_json::to_value(&status).unwrap();
        let shortest = STAGES[STAGES.len() - 1];
        shorten(&mut cut, status_schema().unwrap(), "", shortest);
        let cut: ActivationStatus = serde_json::from_value(cut).unwrap();
        assert_eq!(cut.last_handled_retry, status.last_handled_retry);
        assert_eq!(cut.release, status.release);
        assert_eq!(cut.history[..], status.history[..shortest.1]);
        assert_eq!(cut.secrets[..], status.secrets[..shortest.1]);
        let bounded = status.clone().bounded();
        let text = serde_json::to_string(&bounded).unwrap();
        assert!(text.len() <= MAX_STATUS, "{} bytes", text.len());
        assert_eq!(bounded.release, status.release);
        assert!(status.history.starts_with(&bounded.history));
        assert!(status.secrets.starts_with(&bounded.secrets));
    }

    #[test]
    fn no_condition_and_no_integration_is_dropped_from_an_enormous_status() {
        let mut status = enormous();
        let check = |id| IntegrationCheck {
            id,
            name: "n".repeat(120),
            evidence: "e".repeat(512),
            change: "c".repeat(512),
            ..IntegrationCheck::default()
        };
        status.integrations = (0..19)
            .map(|number| IntegrationStatus {
                name: format!("webhook/{number}"),
                state: IntegrationState::Failed,
                message: "m".repeat(1024),
                next_action: "a".repeat(512),
                checks: (1..14).map(|number| check(format!("W{number}"))).collect(),
                ..IntegrationStatus::default()
            })
            .collect();
        status.external = vec![ExternalObject::default(); 64];
        let bounded = status.clone().bounded();
        let text = serde_json::to_string(&bounded).unwrap();
        assert!(text.len() <= MAX_STATUS, "{}", text.len());
        assert_eq!(bounded.conditions.len(), status.conditions.len());
        assert_eq!(bounded.phases.len(), status.phases.len());
        let names = |status: &ActivationStatus| -> Vec<(String, IntegrationState)> {
            let entries = status.integrations.iter();
            entries
                .map(|entry| (entry.name.clone(), entry.state))
                .collect()
        };
        assert_eq!(names(&bounded), names(&status));
    }

    #[test]
    fn an_ordinary_status_is_left_alone() {
        let mut status = ActivationStatus {
            observed_generation: Some(1),
            history: vec![HistoryEntry::default(); 12],
            ..ActivationStatus::default()
        };
        assert_eq!(status.clone().bounded().history.len(), 10);
        status.history.truncate(10);
        assert_eq!(status.clone().bounded(), status);
    }

    #[test]
    fn a_line_is_cut_at_a_character_and_marked() {
        assert_eq!(one_line(" a\r\n\tb  c ", 64), "a b c");
        assert_eq!(one_line("ñandú", 64), "ñandú");
        let cut = one_line("ñandúñandúñandú", 9);
        assert!(cut.len() <= 9 && cut.ends_with('…'), "{cut}");
        assert_eq!(one_line("abc", 2), "");
        assert_eq!(one_line("evil\u{202e}txt", 64), "evil txt");
    }
}
