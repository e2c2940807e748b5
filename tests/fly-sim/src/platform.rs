//! The platform side: secrets, addresses, certificates, releases, databases, GraphQL, registry.
//!
//! The machines side needs little of it: what a machine gets at boot, where the edge answers,
//! and for whom. These are the functions of this file.

use std::collections::BTreeMap;

use axum::Router;

use crate::core::{Core, Shared};
use crate::machine::{BootEnv, ExecRequest, ExecResult};

/// Settings of the platform side.
#[derive(Clone, Debug, Default)]
pub struct PlatformOptions {}

/// State of the platform side that belongs to no app.
#[derive(Debug, Default)]
pub struct Platform {}

/// State of the platform side within one app.
#[derive(Debug, Default)]
pub struct AppPlatform {}

impl AppPlatform {
    /// The secrets that a machine which boots now sees.
    pub fn boot_secrets(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    /// The newest secrets version that a host sees now (`min_secrets_version`).
    pub fn secrets_version(&self) -> u64 {
        0
    }

    /// Whether the edge answers for the app at all: it has a public address.
    pub fn has_public_address(&self) -> bool {
        true
    }

    /// Hostnames besides `<app>.fly.dev` whose certificate is active.
    pub fn active_hostnames(&self) -> Vec<String> {
        Vec::new()
    }
}

/// All routes of the platform side.
pub fn router() -> Router<Shared> {
    Router::new()
}

/// Called once when the simulator has its addresses and before it answers.
pub async fn start(_core: &Shared) -> Result<(), crate::SimError> {
    Ok(())
}

/// For GraphQL: the root field of the operation (`createAddOn`) and whether it may change
/// something. `None` if the body is no GraphQL request.
pub fn graphql_operation(_body: &[u8]) -> Option<(String, bool)> {
    None
}

/// Runs an image that has `builtin = "name"` inside the simulator, until the machine stops, when
/// the future is dropped. Its value is the exit code.
pub async fn builtin(_core: Shared, _name: String, _boot: BootEnv) -> i32 {
    0
}

/// `exec` in a machine that runs a built-in image.
pub async fn builtin_exec(
    _core: Shared,
    _name: String,
    _boot: BootEnv,
    _request: ExecRequest,
) -> Option<ExecResult> {
    None
}

/// Called when an app has been deleted: what else goes with it.
pub fn app_deleted(_core: &Core, _app: &crate::state::App) {}

/// Somebody deletes something of the platform side in an app: `secrets`, `addresses`, ... Says
/// whether there was anything.
pub async fn external_deletion(_core: &Shared, _app: &str, _target: &str) -> bool {
    false
}
