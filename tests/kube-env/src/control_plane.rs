//! A real etcd and kube-apiserver (`tests/control-plane`) as a child process.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::OnceCell;

use crate::cluster::Cluster;
use crate::process::{Process, Spec};
use crate::{Error, Result};

/// Version of Kubernetes unless the variable `KUBERNETES_VERSION` names another one.
pub const DEFAULT_VERSION: &str = "1.36";

/// Ready takes 4 s on an idle machine with two cores.
const READY: Duration = Duration::from_secs(120);

static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();

/// How a control plane is started.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// State and logs; continues what is there. A temporary directory if `None`.
    pub dir: Option<PathBuf>,
    /// Port of the API server on 127.0.0.1; the system chooses if `None`.
    pub port: Option<u16>,
    /// Whether etcd syncs every write to the disk.
    pub fsync: bool,
    /// Whether every request is recorded: see [`ControlPlane::audit`].
    pub audit: bool,
}

/// A running control plane; ends when dropped, or with us.
#[derive(Debug)]
pub struct ControlPlane {
    process: Option<Process>,
    cluster: Cluster,
    options: Options,
    dir: PathBuf,
}

impl ControlPlane {
    /// Starts one and waits until it is ready.
    pub async fn start(options: Options) -> Result<Self> {
        let dir = match &options.dir {
            Some(dir) => {
                std::fs::create_dir_all(dir).map_err(Error::file("create", dir))?;
                dir.clone()
            }
            None => tempfile::Builder::new()
                .prefix("golive-control-plane-")
                .tempdir()
                .map_err(Error::file("create a directory in", std::env::temp_dir()))?
                .keep(),
        };
        let process = spawn(&options, &dir, options.port).await?;
        let cluster = Cluster::from_kubeconfig(&dir.join("kubeconfig")).await?;
        Ok(Self {
            process: Some(process),
            cluster,
            options,
            dir,
        })
    }

    /// The one that all tests of a process share: each works in a namespace of its own.
    pub async fn shared() -> Result<&'static Self> {
        SHARED
            .get_or_try_init(|| Self::start(Options::default()))
            .await
    }

    /// The cluster, as its administrator.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// State and logs.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its process; `None` while it is stopped.
    pub fn process(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }

    /// Ends it and waits for that; [`ControlPlane::resume`] brings it back.
    pub fn stop(&mut self) {
        drop(self.process.take());
    }

    /// Starts it again, on the same port and with the same state, so that its clients continue. Needs
    /// [`Options::dir`]: a temporary directory is removed with the process.
    pub async fn resume(&mut self) -> Result<()> {
        if self.process.is_none() {
            let port = self.cluster.config().cluster_url.port_u16();
            self.process = Some(spawn(&self.options, &self.dir, port).await?);
        }
        Ok(())
    }

    /// The requests to the API server so far, one audit event per answered request; empty unless
    /// [`Options::audit`] is on. Source: `audit.k8s.io/v1`, `Event`, level Metadata.
    pub fn audit(&self) -> Result<Vec<Value>> {
        let path = audit_log(&self.dir);
        if !self.options.audit || !path.exists() {
            return Ok(Vec::new());
        }
        let text = std::fs::read_to_string(&path).map_err(Error::file("read", &path))?;
        // The last line may not be complete yet.
        let complete = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        complete
            .map(|line| serde_json::from_str(line).map_err(|source| Error::Object { source }))
            .collect()
    }
}

fn audit_log(dir: &Path) -> PathBuf {
    dir.join("audit.log")
}

async fn spawn(options: &Options, dir: &Path, port: Option<u16>) -> Result<Process> {
    let mut spec = Spec::new("control-plane", binary()?, dir.join("control-plane.log"))
        .arg("--dir")
        .arg(dir)
        .arg(format!("--port={}", port.unwrap_or(0)))
        .arg(format!("--fsync={}", options.fsync))
        .stop_with("TERM", Duration::from_secs(20));
    if options.audit {
        spec = spec.arg("--audit-log").arg(audit_log(dir));
    }
    if options.dir.is_none() {
        spec = spec.remove_on_exit(dir);
    }
    let mut process = spec.spawn()?;
    process.wait_for_line("control-plane: ready", READY).await?;
    Ok(process)
}

/// The program that `make control-plane` builds, or the one that `GOLIVE_CONTROL_PLANE` names.
fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("GOLIVE_CONTROL_PLANE") {
        return Ok(path.into());
    }
    let version = std::env::var("KUBERNETES_VERSION").unwrap_or_else(|_| DEFAULT_VERSION.into());
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../control-plane/bin")
        .join(&version)
        .join("control-plane");
    path.canonicalize().map_err(|_| Error::Missing {
        program: format!("the control plane of Kubernetes {version}"),
        next: format!("make control-plane KUBERNETES_VERSION={version}"),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
    use kube::api::{DeleteParams, PostParams};
    use kube::runtime::wait::{await_condition, conditions};
    use kube::{Api, ResourceExt};

    const LIMIT: Duration = Duration::from_secs(60);

    const MANIFESTS: &str = "
apiVersion: kube-env.test/v1
kind: Widget
metadata: {name: one, namespace: NAMESPACE}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader, namespace: NAMESPACE}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: NAMESPACE}
rules: [{apiGroups: [''], resources: [configmaps], verbs: [list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader, namespace: NAMESPACE}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: reader, namespace: NAMESPACE}]
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.kube-env.test}
spec:
  group: kube-env.test
  names: {kind: Widget, plural: widgets, singular: widget}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object}}
";

    async fn cluster() -> &'static Cluster {
        ControlPlane::shared().await.unwrap().cluster()
    }

    #[tokio::test]
    async fn a_manifest_may_use_the_kind_that_it_defines() {
        let cluster = cluster().await;
        let namespace = cluster.create_namespace("apply").await.unwrap();

        let applied = cluster
            .apply(&MANIFESTS.replace("NAMESPACE", &namespace))
            .await
            .unwrap();

        let last = applied.last().unwrap();
        assert_eq!(last.name_any(), "reader");
        assert_eq!(applied.len(), 5);
    }

    #[tokio::test]
    async fn a_service_account_has_its_own_rights_only() {
        let cluster = cluster().await;
        let namespace = cluster.create_namespace("rights").await.unwrap();
        cluster
            .apply(&MANIFESTS.replace("NAMESPACE", &namespace))
            .await
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("kubeconfig");
        let hour = Duration::from_secs(3600);
        cluster
            .write_kubeconfig_as(&namespace, "reader", hour, &file)
            .await
            .unwrap();
        let by_file = Cluster::from_kubeconfig(&file).await.unwrap();
        let clients = [
            cluster.client_as(&namespace, "reader").await.unwrap(),
            by_file.client().unwrap(),
        ];

        for client in clients {
            let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
            assert!(maps.list(&Default::default()).await.is_ok());
            let refused = maps
                .delete("any", &DeleteParams::default())
                .await
                .unwrap_err();
            assert!(
                matches!(&refused, kube::Error::Api(status) if status.code == 403),
                "{refused}"
            );
        }
    }

    #[tokio::test]
    async fn a_deleted_namespace_and_an_orphan_go_away() {
        let cluster = cluster().await;
        let client = cluster.client().unwrap();
        let namespace = cluster.create_namespace("deleted").await.unwrap();
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
        let map = |name: &str| {
            let mut map = ConfigMap::default();
            map.metadata.name = Some(name.to_owned());
            map
        };
        let post = PostParams::default();
        let owner = maps.create(&post, &map("owner")).await.unwrap();
        let mut owned = map("owned");
        owned.metadata.owner_references =
            Some(vec![kube::Resource::owner_ref(&owner, &()).unwrap()]);
        let owned = maps.create(&post, &owned).await.unwrap();

        maps.delete("owner", &DeleteParams::default())
            .await
            .unwrap();
        let gone = await_condition(
            maps.clone(),
            "owned",
            conditions::is_deleted(owned.metadata.uid.as_deref().unwrap()),
        );
        tokio::time::timeout(LIMIT, gone).await.unwrap().unwrap();

        let namespaces: Api<Namespace> = Api::all(client);
        let uid = namespaces.get(&namespace).await.unwrap().metadata.uid;
        namespaces
            .delete(&namespace, &DeleteParams::default())
            .await
            .unwrap();
        let gone = await_condition(
            namespaces,
            &namespace,
            conditions::is_deleted(uid.as_deref().unwrap()),
        );
        tokio::time::timeout(LIMIT, gone).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn it_comes_back_with_its_state_on_the_same_port_and_has_recorded_requests() {
        let dir = tempfile::tempdir().unwrap();
        let mut plane = ControlPlane::start(Options {
            dir: Some(dir.path().to_owned()),
            audit: true,
            ..Options::default()
        })
        .await
        .unwrap();
        let namespace = plane.cluster().create_namespace("kept").await.unwrap();
        let client = plane.cluster().client().unwrap();

        plane.stop();
        plane.resume().await.unwrap();

        let namespaces: Api<Namespace> = Api::all(client);
        assert_eq!(
            namespaces.get(&namespace).await.unwrap().name_any(),
            namespace
        );
        let created = plane.audit().unwrap().into_iter().any(|event| {
            event["verb"] == "create" && event["objectRef"]["resource"] == "namespaces"
        });
        assert!(created);
    }
}
