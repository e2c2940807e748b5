//! From the object to the target: what should run on Fly.io, parsed once.
//!
//! [`refs::fetch`] reads what an Activation names, [`source::follow`] chooses the image when
//! `deploy.source` asks for one, and [`Target::parse`] makes the target of both. After that nothing
//! reads the spec. Decisions about the target as a whole are here too: [`gate`] and [`votes`] (may a phase begin),
//! [`abort`] (is the work on this plan to stop), and [`serving`] (which release serves meanwhile).
//!
//! May use: `store` and what is below it. Start reading at
//! [`target`]; only `refs::fetch` and `source` do I/O.

pub mod abort;
mod allowed;
pub mod checks;
pub mod cost;
pub mod deletion;
pub mod digest;
pub mod fly_config;
pub mod gate;
pub mod invalid;
pub mod missing;
pub mod named;
mod plan_id;
pub mod refs;
pub mod rollback_request;
pub mod room;
pub mod serving;
mod shape;
pub mod source;
pub mod target;
pub mod token;
pub mod votes;

pub use checks::{Expects, MachineProof, Proof, SmokeCheck};
pub use digest::{asked, fingerprint};
pub use fly_config::FlyConfig;
pub use invalid::{ConfigInvalid, Invalid};
pub use plan_id::PlanId;
pub use serving::{ServedSpec, ServingRelease};
pub use target::{Database, Redis, Target, retry_from};

#[cfg(test)]
mod tests;

/// Targets for the tests of others.
#[cfg(test)]
pub mod testing {
    pub use super::tests::target;
}
