//! Spec of the decisions: gates, drift, adoption, deletion, notifications.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::duration::Duration;
use super::enumeration::api_enum;

api_enum! {
    /// The phases that can have a gate.
    pub enum GatedPhase, strict {
        /// Before anything is created on Fly.io.
        Provision = "Provision",
        /// Before machines are created or changed.
        Deploy = "Deploy",
        /// Before the proof that ends in Go-Live.
        SmokeTest = "SmokeTest",
        /// Before signed requests are sent to the application.
        Integrations = "Integrations",
        /// Before the watch begins.
        Observe = "Observe",
    }
}

api_enum! {
    /// What happens when nobody decides in time.
    pub enum OnTimeout, strict, default Reject {
        /// The activation stops, as if somebody had rejected it.
        Reject = "Reject",
        /// The activation continues, as if it had been approved.
        Continue = "Continue",
        /// The activation keeps waiting, and reminds by an event and a notification each time the timeout has passed.
        Remind = "Remind",
    }
}

/// A phase that people must approve before it begins.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gate {
    /// The phase that waits.
    pub before: GatedPhase,

    /// How long the gate waits. Between 1m and 720h. Default: 24h.
    #[serde(default = "one_day")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m') && duration(self) <= duration('720h')").message("`timeout` must be between 1m and 720h"))]
    pub timeout: Duration,

    /// What happens when nobody decides in time.
    #[serde(default)]
    pub on_timeout: OnTimeout,

    /// How many different people must approve. One rejection is enough to stop. Default: 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 10))]
    pub approvals: u32,
}

fn one_day() -> Duration {
    Duration::from_hours(24)
}

fn one() -> u32 {
    1
}

api_enum! {
    /// What makes `Ready` true.
    pub enum ReadyWhen, strict, default GoLive {
        /// The application is live: Preflight to SmokeTest have passed.
        GoLive = "GoLive",
        /// Live, and all integrations of the release that serves are verified. A failure of one takes
        /// `Ready` back, but not `Live`.
        IntegrationsVerified = "IntegrationsVerified",
        /// Live, and the watch has ended: every objective held over the whole window, and nothing critical
        /// happened. Until then, `Ready` is Unknown.
        Stabilized = "Stabilized",
    }
}

api_enum! {
    /// Whether Golive acts.
    pub enum Mode, strict, default Apply {
        /// Everything is carried out.
        Apply = "Apply",
        /// Nothing is written to Fly.io; the changes are listed in `status.plan`.
        Plan = "Plan",
    }
}

api_enum! {
    /// What happens when something on Fly.io no longer matches the object.
    pub enum DriftPolicy, strict, default Correct {
        /// It is corrected.
        Correct = "Correct",
        /// It is reported in the condition `Drifted`, and not changed.
        Report = "Report",
    }
}

api_enum! {
    /// Whether an app that already exists on Fly.io may be taken over.
    pub enum Adoption, strict, default Never {
        /// An app that Golive has not created is not changed, and the activation stops.
        Never = "Never",
        /// An app that an earlier Activation of the same namespace left behind is taken over, as the
        /// records in the operator's namespace prove.
        IfOwned = "IfOwned",
        /// Any app of this name in the organization is taken over.
        Always = "Always",
    }
}

api_enum! {
    /// What happens to something on Fly.io when the object is deleted.
    pub enum Deletion, strict, default Retain {
        /// It is deleted too.
        Delete = "Delete",
        /// It stays on Fly.io.
        Retain = "Retain",
    }
}

/// What remains on Fly.io when the object is deleted.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeletionPolicy {
    /// The Fly app with its machines, addresses and certificates. Default: `Delete`. An app that has
    /// volumes which stay is kept with them; its machines, addresses and certificates are deleted.
    #[serde(default = "delete")]
    pub app: Deletion,

    /// The volumes of the app. Default: `Retain`. `Delete` deletes those that Golive has created, and
    /// only when the annotation `golive.dev/delete-data` on the object has the name of the app.
    #[serde(default)]
    pub volumes: Deletion,

    /// The PostgreSQL database that Golive has created. Default: `Retain`. `Delete` needs the
    /// annotation `golive.dev/delete-data` as well.
    #[serde(default)]
    pub database: Deletion,

    /// The Redis database that Golive has created. Default: `Retain`. `Delete` needs the annotation
    /// `golive.dev/delete-data` as well.
    #[serde(default)]
    pub redis: Deletion,

    /// The Kubernetes Secret with the generated values. Default: `Retain`, so that a new
    /// Activation of the same name finds them.
    #[serde(default)]
    pub secrets: Deletion,
}

impl Default for DeletionPolicy {
    fn default() -> Self {
        Self {
            app: Deletion::Delete,
            volumes: Deletion::Retain,
            database: Deletion::Retain,
            redis: Deletion::Retain,
            secrets: Deletion::Retain,
        }
    }
}

fn delete() -> Deletion {
    Deletion::Delete
}
