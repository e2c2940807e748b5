//! The local world: a real kube-apiserver, PostgreSQL and Redis on loopback, started for tests
//! and for `make up`, and ended with the program that started them.
//!
//! Nothing here knows Golive or the simulator, so both may use it in their tests.

mod error;
pub mod port;
pub mod postgres;
pub mod process;
mod random;
pub mod redis;

pub use error::{Error, Result};
pub use postgres::Postgres;
pub use redis::Redis;
