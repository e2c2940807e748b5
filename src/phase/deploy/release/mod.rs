//! Releases: the two targets of the phase (the release that serves and the release that the spec
//! requests), the records of earlier releases, how a release ends, and requests for a rollback.
//!
//! Start reading in `targets`: the release that serves, the one that is wanted, and the one that should
//! run now. The records themselves are in `phase::releases`. May use: `fleet` and the shared files of
//! `phase`.

pub mod changes;
pub mod draft;
pub mod failure;
pub mod fly_release;
pub mod pull;
pub mod request;
pub mod rollback;
pub mod success;
pub mod targets;
pub mod wanted;

pub use crate::phase::releases::{record, records, store};
