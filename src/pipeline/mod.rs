//! The engine that runs the steps of the phases. It knows no phase and no step.
//!
//! Uses `plan/` and everything below it. Start with [`run`]: one pass over the phases; then
//! [`advance`]: one step in one pass; then [`step`]: what a step is.
//!
//! | file | what it holds |
//! |---|---|
//! | `step`, `verdict`, `change` | the vocabulary of a step |
//! | `advance` | observe, diff, act, and observe again |
//! | `run` | one pass: every step whose needs are met runs, all of them at once |
//! | `announce`, `intent` | creates that are announced before they are sent |
//! | `recheck` | what a re-check observes, and when |
//! | `preview` | what the phases that are not carried out would change |
//! | `cx`, `facts`, `typed_map` | what every step gets |
//! | `record`, `observations` | what is remembered between passes |
//! | `report`, `note` | what a pass found, for the status |

pub mod advance;
pub mod announce;
pub mod background;
pub mod change;
pub mod cx;
pub mod facts;
pub mod intent;
pub mod note;
pub mod observations;
pub mod preview;
pub mod recheck;
pub mod record;
pub mod report;
pub mod run;
pub mod step;
#[cfg(test)]
pub mod testing;
pub mod typed_map;
pub mod verdict;

pub use advance::{AnyStep, Phase};
pub use background::Background;
pub use change::{ChangeKind, ChangeVerb, FieldChange, PlannedChange, Sent, StepChange};
pub use cx::{Act, Care, Cx, EarlierProof, Fence, Installation, Origin, Owner, Recorded, Timing};
pub use note::{Incident, Note, ObjectiveFigures, ProbeKind, ProvedBy, SmokeProof};
pub use record::{State, StepRecord};
pub use step::Step;
pub use verdict::{Removal, Slot, Verdict, Wake, Why};

pub use crate::api::StepId;
