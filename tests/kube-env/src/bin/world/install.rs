//! What is installed in the cluster: definitions, roles, policies; and the operator's own access.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube_env::Cluster;
use kube_env::cluster::parse_yaml;
use serde_json::Value;

use crate::fault::Fault;
use crate::place::Place;

/// The operator's namespace in `manifests/base`.
pub const OWN_NAMESPACE: &str = "golive-system";

/// The operator's ServiceAccount in `manifests/base`.
const SERVICE_ACCOUNT: &str = "golive";

/// Validity of the operator's token: a world does not run for longer.
const TOKEN: Duration = Duration::from_secs(30 * 24 * 3600);

/// Kinds of `manifests/base` that need nodes or a network: here the operator is a local process.
const NOT_HERE: [&str; 4] = [
    "Deployment",
    "Service",
    "PodDisruptionBudget",
    "NetworkPolicy",
];

/// Applies `crds/` and all of `manifests/base` that does not need a node.
pub async fn install(place: &Place, cluster: &Cluster) -> Result<usize, Fault> {
    let mut objects = Vec::new();
    for dir in ["crds", "manifests/base"] {
        for file in yaml_files(&place.root().join(dir))? {
            let text = std::fs::read_to_string(&file).map_err(|source| {
                Fault::because(format!("cannot read {}", file.display()), source)
            })?;
            objects.extend(parse_yaml(&text)?.into_iter().filter(applies));
        }
    }
    let applied = cluster.apply_objects(objects).await?;
    Ok(applied.len())
}

fn applies(object: &Value) -> bool {
    object["kind"]
        .as_str()
        .is_some_and(|kind| kind != "Kustomization" && !NOT_HERE.contains(&kind))
}

fn yaml_files(dir: &Path) -> Result<Vec<PathBuf>, Fault> {
    let entries = std::fs::read_dir(dir)
        .and_then(|entries| {
            entries
                .map(|entry| Ok(entry?.path()))
                .collect::<std::io::Result<Vec<_>>>()
        })
        .map_err(|source| Fault::because(format!("cannot read {}", dir.display()), source))?;
    let mut files: Vec<_> = entries
        .into_iter()
        .filter(|file| file.extension().is_some_and(|e| e == "yaml"))
        .collect();
    files.sort();
    Ok(files)
}

/// Writes the kubeconfig with which the operator runs: its ServiceAccount's rights, as in a pod.
pub async fn operator_access(cluster: &Cluster, path: &Path) -> Result<(), Fault> {
    cluster
        .write_kubeconfig_as(OWN_NAMESPACE, SERVICE_ACCOUNT, TOKEN, path)
        .await?;
    Ok(())
}
