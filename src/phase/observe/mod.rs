//! The phase Observe: the watch after Go-Live.
//!
//! There is one step, `step`. `question` says what the spec wants watched; looks run in the background of the
//! passes (`watch`) and put what they found into a [`crate::slo::Store`]; `life` says when a watch begins,
//! begins anew, is stored and ends, and `evidence` stores it. `report` says what the figures mean for the
//! status, `breach` what follows from them, `incidents` what happened meanwhile. Start with `step`.
//!
//! Where figures come from is `source/`; what one look found is [`reading::Reading`].

mod breach;
mod evidence;
mod incidents;
pub mod life;
pub mod question;
pub mod reading;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod rehearsal;
mod report;
pub mod source;
mod step;
mod watch;

pub use watch::note_machines;

use crate::{pipeline::AnyStep, plan::Target};

/// All steps.
pub static STEPS: &[&dyn AnyStep] = &[&step::Objectives];

/// What the spec says of the watch, as a text: another one is news.
pub fn asked(target: &Target) -> String {
    let spec = target.observe.as_deref();
    spec.and_then(|spec| serde_json::to_string(spec).ok())
        .unwrap_or_default()
}
