//! The order of the layers, and who may not know whom.

/// The layers of `src/`, from top to bottom. A file may use its own layer and what is below.
/// A name that ends in `/` is a folder.
pub const LAYERS: &[&[&str]] = &[
    &["main.rs", "lib.rs", "bin/", "cli/"],
    &["controller/"],
    &["reconcile/"],
    &["status/"],
    &["phase/"],
    &["triggers/"],
    &["pipeline/"],
    &["plan/"],
    &["store/"],
    // An error of a pass wraps what Fly.io and Kubernetes answered.
    &["error.rs"],
    &["flytoml/"],
    &["fly/"],
    &["process/"],
    &["net/"],
    &["redact/"],
    &["api/"],
    &["causes.rs", "clock.rs"],
];

/// The name under which the programs use the library.
pub const LIBRARY: &str = "golive";

/// Layers that work without Kubernetes.
pub const NO_KUBERNETES: &[&str] = &["src/fly/", "src/flytoml/", "src/net/", "src/redact/"];

/// The crates and the folder of ours that are Kubernetes.
pub const KUBERNETES: (&[&str], &str) = (&["kube", "k8s_openapi"], "src/api/");

/// The number of a file's layer, 0 at the top; none for a file outside of the list.
#[must_use]
pub fn layer(path: &str) -> Option<usize> {
    let path = path.strip_prefix("src/")?;
    LAYERS.iter().position(|layer| {
        let holds = |name: &&str| match name.strip_suffix('/') {
            Some(_) => path.starts_with(*name),
            None => path == *name,
        };
        layer.iter().any(holds)
    })
}

/// Whether the second file lies in a layer above that of the first.
#[must_use]
pub fn is_up(from: &str, to: &str) -> bool {
    match (layer(from), layer(to)) {
        (Some(from), Some(to)) => to < from,
        _ => false,
    }
}

/// The folder of one phase, for a file in it: `preflight`, `deploy`.
#[must_use]
pub fn phase(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("src/phase/")?;
    rest.split_once('/').map(|(phase, _)| phase)
}
