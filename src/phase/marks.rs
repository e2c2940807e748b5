//! The metadata that Golive writes on machines. A machine is identified by it, also after a crash
//! and by another process.

use crate::{fly::Machine, pipeline::Owner};

/// UID of the Activation that a machine belongs to.
pub const UID_KEY: &str = "golive_activation_uid";
/// The slot that a machine fills, such as `app-0`.
pub const SLOT_KEY: &str = "golive_slot";
/// Hash of the configuration that a machine was given.
pub const CONFIG_KEY: &str = "golive_config";
/// Key of the release whose command ran before the machine was given its configuration.
pub const RELEASE_KEY: &str = "golive_release";
/// On a machine that tests another one: which one it tests, and with what.
pub const CHECK_KEY: &str = "golive_check";
/// On a machine that runs a command of fly.toml: for which release, and which command line. A failed
/// run says nothing about another one.
pub const ATTEMPT_KEY: &str = "golive_attempt";
/// On a machine that tries a release: the result, once it is known.
pub const TRIAL_KEY: &str = "golive_trial";
/// The declared fallback size that a machine has because Fly.io had no room for the wanted one.
pub const SIZE_KEY: &str = "golive_size";

/// The size of a machine to which fly.toml gives none, as it was given, such as `shared-1-256`: what
/// somebody changes by hand is told from what the machine had.
pub const GIVEN_SIZE_KEY: &str = "golive_given_size";

/// Begins the name of every machine that Golive creates.
const NAME_PREFIX: &str = "golive-";

/// Whether a machine has a name that Golive gives. Fly.io gives a copy, as of `fly scale count`, a
/// name of its own.
pub fn is_named_by_us(machine: &Machine) -> bool {
    machine.name.starts_with(NAME_PREFIX)
}

/// Whether the metadata of a machine names this Activation.
pub fn is_ours(machine: &Machine, owner: &Owner) -> bool {
    machine.metadata(UID_KEY) == Some(owner.uid.as_str())
}
