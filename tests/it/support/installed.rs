//! The shared API server with Golive's definitions, rights and policies in it.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use kube_env::{Cluster, ControlPlane};
use tokio::sync::OnceCell;

/// How long something that the server does on its own may take.
pub const LIMIT: Duration = Duration::from_secs(60);

static INSTALLED: OnceCell<()> = OnceCell::const_new();

/// The cluster, with `crds/` and `manifests/base` applied once for all tests of the process.
pub async fn cluster() -> &'static Cluster {
    let cluster = ControlPlane::shared().await.unwrap().cluster();
    INSTALLED
        .get_or_init(|| async {
            let paths = [root().join("crds"), root().join("manifests/base")];
            cluster.apply_paths(paths).await.unwrap();
        })
        .await;
    cluster
}

/// The root of the repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Waits until `condition` gives a value, or fails with `what`.
pub async fn eventually<T, F, Fut>(what: &str, mut condition: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let started = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(started.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
