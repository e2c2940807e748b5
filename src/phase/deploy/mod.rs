//! Deploy: the image, the release command, the machines that run it, their health, the proof that
//! they run what they should, and the record of the release.
//!
//! Rolling updates are supported, and `immediate` is rolled as well: it is safe for every
//! application. Canary and blue-green are refused by the preflight check on the strategy.

pub mod fleet;
pub mod health;
pub mod image;
pub mod look;
pub mod machines;
pub mod records;
pub mod release;
pub mod release_command;
pub mod rollback;
pub mod verify;
pub mod volumes;

use super::AnyStep;

/// All steps. Those whose needs are met run at once; removal goes in reverse.
pub static STEPS: &[&dyn AnyStep] = &[
    &image::Image,
    &release_command::ReleaseCommand,
    &volumes::Volumes,
    &machines::Machines,
    &health::Health,
    &verify::Verify,
    &release::Release,
];
