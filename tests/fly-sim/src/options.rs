//! What a simulated Fly.io is started with.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::images::Images;
use crate::latency::Latency;
use crate::platform::PlatformOptions;

/// An organization that exists from the start, with a token that may do everything in it.
#[derive(Clone, Debug)]
pub struct OrgSeed {
    /// Slug, as in `org_slug`.
    pub slug: String,
    /// An opaque token (no `fm2_` prefix), or the text of a macaroon.
    pub token: String,
}

impl OrgSeed {
    /// An organization and its token.
    pub fn new(slug: impl Into<String>, token: impl Into<String>) -> Self {
        Self {
            slug: slug.into(),
            token: token.into(),
        }
    }
}

/// The loopback address, on a port that the system chooses.
pub const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Token of the organization `cabanas` unless told otherwise.
pub const CABANAS_TOKEN: &str = "sim-token-cabanas";
/// Token of the organization `acme` unless told otherwise.
pub const ACME_TOKEN: &str = "sim-token-acme";

/// Settings of one simulator.
#[derive(Clone, Debug)]
pub struct Options {
    /// Organizations; the first one is the default. `cabanas` and `acme` unless changed.
    pub orgs: Vec<OrgSeed>,
    /// Where all of Fly's HTTP surfaces listen (one port).
    pub listen: SocketAddr,
    /// Where control and ledger listen.
    pub control_listen: SocketAddr,
    /// Where the TLS edge listens.
    pub edge_listen: SocketAddr,
    /// Images that can be run.
    pub images: Images,
    /// How long things take.
    pub latency: Latency,
    /// Factor on the intervals and grace periods of health checks and on restart back-off.
    /// 1 is as on Fly; tests use a small one so that a 15 s interval does not cost 15 s.
    pub timer_scale: f64,
    /// Whether Fly's documented rate limits are enforced.
    pub rate_limits: bool,
    /// Whether the edge stops idle machines that have `autostop` (on Fly every few minutes).
    pub autostop: bool,
    /// How long the edge holds a request while no machine can take it, before it answers 503.
    pub edge_patience: Duration,
    /// Directory for files (machine roots, CA bundle); a temporary one if `None`.
    pub dir: Option<PathBuf>,
    /// Seed of all that is drawn at random where the draw must be repeatable.
    pub seed: u64,
    /// Whether every request and answer is kept, word for word (`record.rs`).
    pub record: bool,
    /// Whether the daemon that keeps flyctl's tunnels is served too (`agent.rs`).
    pub agent: bool,
    /// Settings of the platform side: databases, Redis, registry.
    pub platform: PlatformOptions,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            orgs: vec![
                OrgSeed::new("cabanas", CABANAS_TOKEN),
                OrgSeed::new("acme", ACME_TOKEN),
            ],
            listen: ANY_PORT,
            control_listen: ANY_PORT,
            edge_listen: ANY_PORT,
            images: Images::default(),
            latency: Latency::off(),
            timer_scale: 0.02,
            rate_limits: false,
            autostop: false,
            edge_patience: Duration::from_secs(1),
            dir: None,
            seed: 1,
            record: false,
            agent: false,
            platform: PlatformOptions::default(),
        }
    }
}
