//! The kinds of `golive.dev/v1alpha1`: what users write and read, and the identities that all layers
//! share (`Owner`, `StepId`, `PhaseName`, `Reason`). No I/O.
//!
//! May use: `clock`, `causes`. Start reading at [`activation`] for the spec and [`status`] for the
//! status; the schema that is installed is made in [`crd`]. After a change run `make generate`.

pub mod activation;
pub mod approval;
pub mod bounds;
pub mod condition;
pub mod crd;
pub mod deploy;
pub mod duration;
pub(crate) mod enumeration;
pub mod fields;
pub mod integrations;
pub mod observe;
pub mod owner;
pub mod policy;
pub mod preflight;
pub mod provision;
pub mod reason;
pub mod reference;
pub mod reference_doc;
pub mod smoke_test;
pub mod source;
pub mod status;
pub mod step_id;
pub mod text;
mod words;

pub use activation::{Activation, ActivationSpec};
pub use approval::{ActivationApproval, ActivationApprovalSpec, Decision};
pub use condition::{ConditionStatus, ConditionType, Observation};
pub use crd::{crds, schema};
pub use duration::Duration;
pub use owner::Owner;
pub use reason::Reason;
pub use status::{ActivationStatus, PhaseName, PhaseState, StepState};
pub use step_id::StepId;

use kube::core::Rule;

/// The API group.
pub const GROUP: &str = "golive.dev";

/// The API version.
pub const VERSION: &str = "v1alpha1";

/// The field manager of everything that the controller writes.
pub const FIELD_MANAGER: &str = "golive-controller";

/// The finalizer on an Activation, and on the Secret with its token.
pub const FINALIZER: &str = "golive.dev/activation";

/// Label on a Secret whose value [`ALLOWED`] lets the Activations of its namespace use it, where the
/// operator asks for it (`--require-secret-opt-in`).
pub const LABEL_ALLOW: &str = "golive.dev/allow";

/// The value of [`LABEL_ALLOW`] that allows.
pub const ALLOWED: &str = "true";

/// Label on everything that belongs to an Activation: the Activation's UID.
pub const LABEL_UID: &str = "golive.dev/activation-uid";

/// Annotation that requests a reconcile now; its value is repeated in
/// `status.lastHandledReconcileAt`.
pub const ANNOTATION_RECONCILE: &str = "golive.dev/reconcile-requested-at";

/// The same, as Flux and its tools write it.
pub const ANNOTATION_RECONCILE_FLUX: &str = "reconcile.fluxcd.io/requestedAt";

/// Annotation that requests a retry of what has stopped; its value is a token.
pub const ANNOTATION_RETRY: &str = "golive.dev/retry";

/// Annotation that requests a retry from a phase; its value is the phase.
pub const ANNOTATION_RETRY_FROM: &str = "golive.dev/retry-from";

/// Longest token of an annotation that is read and reported, in bytes.
pub const MAX_TOKEN: usize = 256;

/// Annotation that stops the work on one plan; its value is the digest of that plan.
pub const ANNOTATION_ABORT: &str = "golive.dev/abort";

/// The version of Golive that wrote an object last, as a label on it: its name and its value.
pub const LABEL_VERSION: (&str, &str) = ("app.kubernetes.io/version", env!("CARGO_PKG_VERSION"));

/// Annotation that lets a deletion end although the token no longer gives access to Fly.io: its value
/// must be the app's name. What exists on Fly.io then stays there.
pub const ANNOTATION_FORGET: &str = "golive.dev/forget";

/// Annotation that confirms that the deletion policy may delete data: volumes, the database, Redis.
/// Its value must be the app's name.
pub const ANNOTATION_DELETE_DATA: &str = "golive.dev/delete-data";

/// Annotation with which a person decides that what is lost with its data is made anew: the marks of
/// what was lost, separated by commas. A mark names one thing that was lost, so it counts once.
pub const ANNOTATION_REPLACE_LOST: &str = "golive.dev/replace-lost";

/// The bounds of a phase's deadline, as the API server checks them.
fn deadline_rule() -> Rule {
    Rule::new("duration(self) >= duration('10s') && duration(self) <= duration('24h')")
        .message("`deadline` must be between 10s and 24h")
}
