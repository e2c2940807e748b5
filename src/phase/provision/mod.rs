//! The steps of this phase, in the order in which they are reported.

use super::AnyStep;

/// All steps. Those whose needs are met run at once; removal goes in reverse.
pub static STEPS: &[&dyn AnyStep] = &[];
