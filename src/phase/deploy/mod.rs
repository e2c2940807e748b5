//! Deploy: the image, the release command, the machines that run it, their health, the proof that
//! they run what they should, and the record of the release.
//!
//! Start reading in [`STEPS`]. A step observes the rollout (`rollout`, then `assessment`), decides
//! (`judge`, `fleet::strategy`; pure) and sends one change (`fleet::moves`, `command::one_off`,
//! `release::failure`). The folder `fleet` knows no step; `release` has the steps Rollback, FlyRelease and
//! Release; `command` uses both.

pub mod assessment;
pub mod command;
pub mod failures;
pub mod fleet;
pub mod health;
pub mod image;
pub mod judge;
pub mod machine_checks;
pub mod machines;
pub mod release;
pub mod rollout;
pub mod set_secrets;
pub mod take_over;
pub mod verify;
pub mod volumes;

use command::step::OneOff;

use crate::pipeline::AnyStep;

/// All steps. Those whose needs are met run concurrently; removal goes in reverse.
pub static STEPS: &[&dyn AnyStep] = &[
    &image::Image,
    &set_secrets::SetSecrets,
    &take_over::TakeOver,
    &release::rollback::Rollback,
    &release::fly_release::FlyRelease,
    &volumes::Volumes,
    &OneOff(command::release::ReleaseCommand),
    &OneOff(command::seed::SeedCommand),
    &OneOff(command::trial::TryImage),
    &machines::Machines,
    &health::Health,
    &verify::Verify,
    &release::success::Release,
];

/// What is kept of the release that serves while the spec cannot be brought live.
pub static KEPT: &[&dyn AnyStep] = &[
    &volumes::Volumes,
    &machines::Machines,
    &health::Health,
    &verify::Verify,
];
