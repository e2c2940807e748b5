//! Deploy: the image, the release command, the machines that run it, their health, the proof that
//! they run what they should, and the record of the release.
//!
//! How machines are replaced is decided in `strategy`, and done in `machines`.

pub mod command;
pub mod fleet;
pub mod health;
pub mod image;
pub mod look;
pub mod machine_checks;
pub mod machines;
pub mod release;
pub mod verify;
pub mod volumes;

use crate::pipeline::AnyStep;

/// All steps. Those whose needs are met run at once; removal goes in reverse.
pub static STEPS: &[&dyn AnyStep] = &[
    &image::Image,
    &release::rollback::Rollback,
    &release::fly_release::FlyRelease,
    &command::release::ReleaseCommand,
    &command::seed::SeedCommand,
    &volumes::Volumes,
    &machines::Machines,
    &health::Health,
    &verify::Verify,
    &release::Release,
];
