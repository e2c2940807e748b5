//! The engine that runs the steps of the phases. It knows no phase and no step.
//!
//! Within a phase all steps whose needs are met run concurrently. Nothing waits here.

pub mod change;
pub mod cx;
pub mod facts;
pub mod intent;
pub mod memory;
pub mod note;
pub mod run;
pub mod step;
pub mod typed_map;

pub use change::{ChangeKind, Sent, StepChange};
pub use cx::{Act, Cx, Fence, Installation, Origin, Owner, Recorded, Timing};
pub use memory::{Memory, State, StepRecord};
pub use note::{News, Note};
pub use step::{AnyStep, Removal, Slot, Step, Verdict, Wake, Why};

pub use crate::api::StepId;

use crate::api::{ConditionType, PhaseName};

/// One line of the table.
pub struct Phase {
    /// Its name.
    pub id: PhaseName,
    /// The condition that says that it is done.
    pub done: ConditionType,
    /// In the order in which they are reported; removed in reverse. Empty: not implemented
    /// yet, and the status says so.
    pub steps: &'static [&'static dyn AnyStep],
    /// Go-Live waits for it.
    pub before_live: bool,
}
