//! Releases: the two targets of the phase (the release that serves and the release that the spec
//! requests), the records of earlier releases, how a release ends, and requests for a rollback.
//!
//! Start reading in `targets` and `records` (pure); `store` keeps the records in Kubernetes. Of the
//! machines, only `fleet::wanted` is used.

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
