//! The records of releases: what was deployed, how it ended, and which release serves.
//!
//! Start reading in `records` (pure); `store` keeps the records in Kubernetes. Deploy writes them;
//! the resolution of an image reads them, also before Deploy is reached. May use: `pipeline` and
//! what is below it.

pub mod record;
pub mod records;
pub mod store;
