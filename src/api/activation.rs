//! `Activation`: one web application, from nothing to live on Fly.io.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::deploy::Deploy;
use super::integrations::Integrations;
use super::notification::Notification;
use super::observe::Observe;
use super::policy::{Adoption, DeletionPolicy, DriftPolicy, Gate, Mode, ReadyWhen};
use super::preflight::Preflight;
use super::provision::Provision;
use super::reference::TokenSecretRef;
use super::smoke_test::SmokeTest;
use super::status::ActivationStatus;

/// What a web application on Fly.io needs to go live: where it runs, with what, how it is proven
/// live, and who approves. Only `organization`, `app`, `region` and `deploy.image` or `deploy.source` are
/// required.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "golive.dev",
    version = "v1alpha1",
    kind = "Activation",
    namespaced,
    status = "ActivationStatus",
    derive = "PartialEq",
    doc = "Activation takes one web application from nothing to live on Fly.io, proves that it is live, and keeps proving it.",
    shortname = "act",
    category = "fly",
    selectable = ".spec.organization",
    selectable = ".spec.app",
    selectable = ".spec.region",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase", description = "Current phase, or Live"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status", description = "True from Go-Live on"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason", description = "Why Ready is what it is"),
    printcolumn(name = "Live", type_ = "string", json_path = ".status.conditions[?(@.type==\"Live\")].status", description = "Whether the site answers"),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.url", description = "Where the application answers"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Time since creation"),
    printcolumn(name = "Live-Since", type_ = "date", json_path = ".status.goLive.time", description = "Time since Go-Live", priority = 1),
    printcolumn(name = "Gate", type_ = "string", json_path = ".status.pendingGate", description = "The phase that waits for approval", priority = 1),
    printcolumn(name = "Owner", type_ = "string", json_path = ".status.currentOwner", description = "Who answers for the phase that is running", priority = 1),
    printcolumn(name = "Deadline", type_ = "string", json_path = ".status.currentDeadline", description = "When the phase that is running must be done", priority = 1),
    printcolumn(name = "Release", type_ = "string", json_path = ".status.release.digestShort", description = "Digest of the image that serves", priority = 1),
    printcolumn(name = "Suspended", type_ = "boolean", json_path = ".spec.suspend", description = "Whether the activation is suspended", priority = 1),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.nextAction", description = "What a person must do now", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", description = "Ready's message", priority = 1),
    validation = Rule::new("size(self.metadata.name) <= 63").message("`metadata.name` must be at most 63 characters long: it becomes a label"),
    validation = Rule::new("self.spec.readyWhen != 'IntegrationsVerified' || has(self.spec.integrations)").message("`readyWhen: IntegrationsVerified` needs `integrations`: there is nothing else to verify"),
    validation = Rule::new("self.spec.readyWhen != 'Stabilized' || has(self.spec.observe)").message("`readyWhen: Stabilized` needs `observe`: without a watch nothing says that the application is stable")
)]
#[serde(rename_all = "camelCase")]
pub struct ActivationSpec {
    /// Slug of the Fly.io organization that owns the app. Cannot change.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")
    )]
    #[x_kube(validation = Rule::new("self == oldSelf").message("`organization` is immutable: an app is never moved to another organization"))]
    pub organization: String,

    /// The Secret that holds the Fly.io API token. Default: key `token` of the Secret `fly`.
    #[serde(default)]
    pub token_secret_ref: TokenSecretRef,

    /// Name of the Fly app; names are unique on all of Fly.io. Cannot change.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")
    )]
    #[x_kube(validation = Rule::new("self == oldSelf").message("`app` is immutable: create another Activation for another app"))]
    pub app: String,

    /// Primary region, such as `eze` or `ams`. Databases and machines are placed there. Cannot
    /// change: data does not move.
    #[schemars(length(min = 3, max = 3), regex(pattern = r"^[a-z]{3}$"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("`region` is immutable: the database and the volumes are there"))]
    pub region: String,

    /// The checks before anything is written to Fly.io.
    #[serde(default)]
    pub preflight: Preflight,

    /// What the application needs around it: database, Redis, secrets, addresses, hostnames.
    #[serde(default)]
    pub provision: Provision,

    /// What runs, and how it is rolled out.
    pub deploy: Deploy,

    /// The proof, from the public edge, that the application is live.
    #[serde(default)]
    pub smoke_test: SmokeTest,

    /// Webhooks and calendars of third parties, tested after Go-Live. They never take Go-Live back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub integrations: Option<Integrations>,

    /// The watch after Go-Live: objectives for latency and errors, and what happens on a breach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observe: Option<Observe>,

    /// Phases that people must approve before they begin. At most one gate for each phase.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["before".into()]))]
    pub gates: Vec<Gate>,

    /// What makes `Ready` true. `Stabilized` needs `observe`.
    #[serde(default)]
    pub ready_when: ReadyWhen,

    /// Whether Golive acts, or only publishes what it would do.
    #[serde(default)]
    pub mode: Mode,

    /// Stops all work on this activation, also deletion of machines and drift correction. What
    /// runs on Fly.io keeps running, and the status is kept; after three rechecks `Live` is Unknown,
    /// because nobody looks at the site.
    #[serde(default)]
    pub suspend: bool,

    /// Why the activation is suspended; shown in the condition `Suspended`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub suspend_reason: Option<String>,

    /// When the suspension ends by itself, as in `2026-01-31T18:00:00Z`. Without it, it lasts
    /// until `suspend` is false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend_until: Option<Time>,

    /// What happens when something on Fly.io no longer matches this object.
    #[serde(default)]
    pub drift: DriftPolicy,

    /// Whether an app that already exists on Fly.io may be taken over.
    #[serde(default)]
    pub adoption: Adoption,

    /// What remains on Fly.io when this object is deleted. Data is kept unless you say otherwise.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,

    /// Receivers of notifications about phases, gates, deadlines, Go-Live, integrations and failures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(validation = Rule::new("self.all(a, !has(a.name) || self.filter(b, has(b.name) && b.name == a.name).size() == 1)").message("`name` must be unique among the `notifications`"))]
    pub notifications: Vec<Notification>,
}
