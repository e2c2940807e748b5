//! Deploy: the image, the release command, the machines that run it, their health, the proof that
//! they run what they should, and the record of the release.
//!
//! How machines are replaced is decided in `strategy`, and done in `machines`.

pub mod changes;
pub mod command;
pub mod diagnosis;
pub mod fleet;
pub mod fly_release;
pub mod health;
pub mod image;
pub mod leases;
pub mod look;
pub mod machine_checks;
pub mod machines;
pub mod one_off;
pub mod readback;
pub mod records;
pub mod release;
pub mod release_command;
pub mod rollback;
pub mod roster;
pub mod seed_command;
pub mod strategy;
pub mod verify;
pub mod volumes;

use super::AnyStep;

/// All steps. Those whose needs are met run at once; removal goes in reverse.
pub static STEPS: &[&dyn AnyStep] = &[
    &image::Image,
    &rollback::Rollback,
    &fly_release::FlyRelease,
    &release_command::ReleaseCommand,
    &seed_command::SeedCommand,
    &volumes::Volumes,
    &machines::Machines,
    &health::Health,
    &verify::Verify,
    &release::Release,
];
