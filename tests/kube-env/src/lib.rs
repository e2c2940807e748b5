//! The local world: a real kube-apiserver, PostgreSQL and Redis on loopback, started for tests
//! and for `make up`, and ended with the program that started them.
//!
//! Nothing here knows Golive or the simulator, so both may use it in their tests.

pub mod alertmanager;
pub mod cluster;
pub mod control_plane;
mod error;
pub mod port;
pub mod postgres;
pub mod process;
pub mod prometheus;
pub mod proxy;
mod random;
pub mod redis;

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

pub use alertmanager::Alertmanager;
pub use cluster::Cluster;
pub use control_plane::ControlPlane;
pub use error::{Error, Result};
pub use postgres::Postgres;
pub use prometheus::Prometheus;
pub use redis::Redis;

/// Writes a file that only its owner can read.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<()> {
    std::fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(Error::file("write", path))
}
