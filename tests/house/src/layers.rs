//! The order of the layers, and who may not know whom.

/// The layers of `src/`, from top to bottom. A file may use its own layer and what is below.
/// A name that ends in `/` is a folder.
pub const LAYERS: &[&[&str]] = &[
    // Fuzz targets are tests that look everywhere.
    &["main.rs", "lib.rs", "bin/", "cli/", "fuzz/"],
    &["controller/"],
    &["reconcile/"],
    &["status/"],
    &["phase/"],
    &["triggers/"],
    &["notifier/"],
    &["pipeline/"],
    &["plan/"],
    &["store/"],
    // An error of a pass wraps what Fly.io and Kubernetes answered.
    &["error.rs"],
    &["flytoml/"],
    &["fly/"],
    &["process/"],
    &["webhook/"],
    &["net/"],
    &["redact/"],
    // What people are told, and how it is written. Pure.
    &["notify/"],
    &["api/"],
    // What is said of an application, by what was observed. Pure.
    &["promql/"],
    &["slo/"],
    // Readers of bytes. Pure, and use nothing.
    &["exposition/", "ical/"],
    &["causes.rs", "clock.rs", "clock/"],
];

/// The name under which the programs use the library.
pub const LIBRARY: &str = "golive";

/// Layers that work without Kubernetes.
pub const NO_KUBERNETES: &[&str] = &[
    "src/exposition/",
    "src/fly/",
    "src/flytoml/",
    "src/ical/",
    "src/net/",
    "src/promql/",
    "src/redact/",
    "src/slo/",
    "src/webhook/",
];

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

/// The phases: folders of `src/phase/`. Everything else there is shared by phases and lies below them,
/// except the table of phases.
pub const PHASES: &[&str] = &[
    "preflight",
    "provision",
    "deploy",
    "smoke_test",
    "integrations",
    "observe",
];

/// What a file of `src/phase/` belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InPhase<'a> {
    /// The phase of this name.
    Phase(&'a str),
    /// The table of phases.
    Table,
    /// What phases share.
    Shared,
}

/// What a file of `src/phase/` belongs to; none for a file elsewhere.
#[must_use]
pub fn in_phase(path: &str) -> Option<InPhase<'_>> {
    let rest = path.strip_prefix("src/phase/")?;
    let folder = rest.split_once('/').map(|(folder, _)| folder);
    Some(match folder {
        Some(folder) if PHASES.contains(&folder) => InPhase::Phase(folder),
        None if rest == "mod.rs" => InPhase::Table,
        _ => InPhase::Shared,
    })
}

/// Whether a use of the second file by the first one couples two phases.
#[must_use]
pub fn couples_phases(from: &str, to: &str) -> bool {
    match (in_phase(from), in_phase(to)) {
        (Some(InPhase::Phase(from)), Some(InPhase::Phase(to))) => from != to,
        (Some(InPhase::Shared), Some(InPhase::Phase(_) | InPhase::Table)) => true,
        _ => false,
    }
}
