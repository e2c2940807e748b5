//! What exports to other tools and imports from them have in common. Pure.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    objective::Foreign,
    read::Fault,
    slo::{Slo, Slos},
};
use crate::api::observe::Objective;

/// What was written, and what could not be said.
#[derive(Debug, Default)]
pub(super) struct Exported {
    /// One text for each document, in YAML.
    pub(super) documents: Vec<String>,
    /// What the format cannot say.
    pub(super) warnings: Vec<String>,
    /// Why it could not be written.
    pub(super) fault: Option<String>,
}

impl Exported {
    /// Adds a document.
    pub(super) fn add(&mut self, document: &impl Serialize) {
        match serde_saphyr::to_string(document) {
            Ok(text) => self.documents.push(text),
            Err(error) => self.fault = Some(error.to_string()),
        }
    }

    /// Notes what no other format has.
    pub(super) fn warn(&mut self, slos: &Slos, format: &str) {
        let few = slos.all.iter().map(|slo| slo.min_events).max();
        if let Some(few) = few {
            self.warnings.push(format!(
                "minEvents ({few}) is not part of {format}'s format; it also alerts when there are fewer events"
            ));
        }
    }
}

/// The metadata of a document. An API server adds fields that say nothing of the objective.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    /// The name.
    pub(super) name: String,
    /// The namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) namespace: Option<String>,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) display_name: Option<String>,
    /// Labels.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub(super) labels: Value,
    /// Annotations.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub(super) annotations: Value,
}

impl Metadata {
    /// That of an objective.
    pub(super) fn of(slos: &Slos, slo: &Slo) -> Self {
        Self {
            name: slo.name.clone(),
            namespace: Some(slos.namespace.clone()).filter(|name| !name.is_empty()),
            ..Self::default()
        }
    }
}

/// What was read, what was left, and what was refused.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Imported {
    /// The objectives.
    pub(super) objectives: Vec<Objective>,
    /// What was left out, without harm to the objectives.
    pub(super) left: Vec<String>,
    /// What cannot be an objective, and why.
    pub(super) refused: Vec<String>,
}

impl Imported {
    /// Adds an objective, if it can be one.
    pub(super) fn add(&mut self, name: &str, foreign: Result<Foreign, Fault>) {
        let read = foreign.map_err(super::objective::Unlike::from);
        match read.and_then(|foreign| foreign.objective()) {
            Ok(objective) if self.objectives.iter().any(|known| known.name == name) => {
                let why = format!("there are two objectives of the name {}", objective.name);
                self.refuse(name, &why);
            }
            Ok(objective) => self.objectives.push(objective),
            Err(why) => self.refuse(name, &why),
        }
    }

    /// Notes what cannot be an objective.
    pub(super) fn refuse(&mut self, what: &str, why: &dyn std::fmt::Display) {
        self.refused.push(format!("{what}: {why}"));
    }

    /// Notes what is left out.
    pub(super) fn leave(&mut self, what: &str) {
        let text = format!("{what} is not imported; an Activation has its own");
        if !self.left.contains(&text) {
            self.left.push(text);
        }
    }
}

/// A number of another tool without an error of arithmetic: 0.29 of 100 is 29.
pub(super) fn number_of(value: f64) -> f64 {
    (value * 1e8).round() / 1e8
}
