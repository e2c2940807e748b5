//! Values of secrets: how they are made, stored, used and kept out of sight.

use kube_env::{ControlPlane, control_plane};

use crate::support::{
    env::{Env, root},
    trouble::options,
};

mod allowed;
mod app_token;
mod canary;
mod changes;
mod credentials;
mod generated;
mod tenants;

/// A cluster of the test's own with the shipped installation, and its operator at work. The control
/// plane ends with what is given back.
#[allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]
async fn shipped() -> (ControlPlane, Env) {
    let plane = ControlPlane::start(control_plane::Options::default())
        .await
        .unwrap();
    let cluster = plane.cluster().clone();
    cluster
        .apply_paths([root().join("crds"), root().join("manifests/base")])
        .await
        .unwrap();
    let env = Env::on(cluster, options()).await;
    (plane, env)
}
