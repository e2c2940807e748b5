//! Deploy: the image, the machines that run it, and their health.

pub mod fleet;
pub mod health;
pub mod image;
pub mod machines;

use super::AnyStep;

/// All steps. Those whose needs are met run at once; removal goes in reverse.
pub static STEPS: &[&dyn AnyStep] = &[&image::Image, &machines::Machines, &health::Health];
