//! The client of Fly.io: Machines API, GraphQL, managed Postgres, registry, logs.
//!
//! [`Fly`] is created once per process, [`Fly::client`] once per token; the calls are methods of
//! [`Client`], one file per kind of resource. Every call returns [`Error`] with its class. Uses
//! `net` and `causes` only, and nothing of Kubernetes. Start reading in `apps.rs` for the form of
//! a call, and in `call/` for how it is sent.

pub mod addresses;
pub mod app_token;
pub mod apps;
pub mod call;
pub mod certificates;
pub mod check_output;
pub mod error;
pub mod fly_postgres;
pub mod image;
pub mod logs;
pub mod machine_actions;
pub mod machine_config;
pub mod machines;
pub mod organizations;
pub mod overview;
pub mod postgres;
pub mod processes;
pub mod prometheus;
pub mod redis;
pub mod regions;
pub mod registry;
pub mod releases;
pub mod secrets;
pub mod token;
pub mod tokens;
pub mod volumes;
mod wire;

pub use addresses::{AddressKind, IpAssignment, NewAddress};
pub use apps::{App, AppStatus, NewApp};
pub use call::claimed::ClaimedApp;
pub use call::client::{
    Client, Endpoints, Fly, Gate, HttpOptions, Observation, Observer, TimeLimits,
};
pub use call::narrow::AppToken;
pub use certificates::{Certificate, CertificateStatus};
pub use check_output::CheckOutput;
pub use error::{Class, Conflict, Error, Result, Retry, Scope};
pub use image::ImageReference;
pub use logs::{LogLine, LogPage};
pub use machine_actions::{ExecOutcome, ExecRequest, Lease, WaitFor, Waited};
pub use machine_config::MachineConfig;
pub use machines::{Machine, MachineState, MachineUpdate, NewMachine};
pub use organizations::{BillingStatus, Organization};
pub use postgres::{Cluster, ClusterDetails, ClusterStatus, NewCluster};
pub use processes::Process;
pub use redis::{NewRedis, Redis, RedisPlan};
pub use regions::{Placement, Region};
pub use registry::{Credentials, ResolvedImage};
pub use releases::{NewRelease, Release, ReleaseStatus};
pub use secrets::{AppSecret, SecretsWritten};
pub use token::{Surface, Token};
pub use volumes::{NewVolume, Volume, VolumeState};
pub use wire::{GoDuration, Items};
