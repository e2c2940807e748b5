//! One cluster and its administrator: clients, namespaces, manifests, and the rights of others.

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams, TypeMeta};
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, Config, Discovery, ResourceExt, discovery};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::{Error, Result, random};

/// Field manager of everything that is applied here.
pub const FIELD_MANAGER: &str = "kube-env";

/// How long a new definition or kind may take until the server serves it.
const SERVED: Duration = Duration::from_secs(30);

/// A cluster, reached as its administrator.
#[derive(Clone, Debug)]
pub struct Cluster {
    kubeconfig: PathBuf,
    config: Config,
}

impl Cluster {
    /// The current context of a kubeconfig file.
    pub async fn from_kubeconfig(path: &Path) -> Result<Self> {
        // The first user of TLS in a process chooses the provider. An error means that it is chosen.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let kubeconfig = Kubeconfig::read_from(path).map_err(|source| Error::Kubeconfig {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .map_err(|source| Error::Kubeconfig {
                path: path.to_owned(),
                source: Box::new(source),
            })?;
        Ok(Self {
            kubeconfig: path.to_owned(),
            config,
        })
    }

    /// The administrator's kubeconfig file.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The administrator's configuration, to build a client with other layers or timeouts.
    pub fn config(&self) -> Config {
        self.config.clone()
    }

    /// A new client of the administrator. A client belongs to the runtime that first uses it:
    /// every test takes its own.
    pub fn client(&self) -> Result<Client> {
        client(self.config())
    }

    /// Creates a namespace with a name that starts with `prefix` and is new, and returns the name.
    pub async fn create_namespace(&self, prefix: &str) -> Result<String> {
        let name = format!("{prefix}-{}", random::hex(4)?);
        let namespace: Namespace = object(json!({"metadata": {"name": name}}))?;
        Api::all(self.client()?)
            .create(&PostParams::default(), &namespace)
            .await
            .map_err(Error::kube("create a namespace"))?;
        Ok(name)
    }

    /// Applies every document of a YAML text by server-side apply: definitions and namespaces
    /// first, the rest in the order of the text. Objects without a namespace whose kind needs one
    /// go to `default`. Returns when the server serves the kinds of all definitions in it.
    pub async fn apply(&self, yaml: &str) -> Result<Vec<DynamicObject>> {
        self.apply_objects(parse_yaml(yaml)?).await
    }

    /// [`Cluster::apply`] for files; a directory stands for all `.yaml` files right in it, in
    /// order of their names, except `kustomization.yaml`.
    pub async fn apply_paths<P: AsRef<Path>>(
        &self,
        paths: impl IntoIterator<Item = P>,
    ) -> Result<Vec<DynamicObject>> {
        let mut objects = Vec::new();
        for path in paths {
            for file in yaml_files(path.as_ref())? {
                let text = std::fs::read_to_string(&file).map_err(Error::file("read", &file))?;
                objects.extend(parse_yaml(&text)?);
            }
        }
        self.apply_objects(objects).await
    }

    /// [`Cluster::apply`] for objects that are already parsed.
    pub async fn apply_objects(&self, mut objects: Vec<Value>) -> Result<Vec<DynamicObject>> {
        let client = self.client()?;
        // A stable sort: the order of the text decides within a rank.
        objects.sort_by_key(|object| match object["kind"].as_str() {
            Some("CustomResourceDefinition") => 0,
            Some("Namespace") => 1,
            Some("ServiceAccount") => 2,
            _ => 3,
        });
        let mut applied = Vec::new();
        for object in objects {
            let definition = object["kind"] == "CustomResourceDefinition";
            let object = self.apply_one(&client, object).await?;
            if definition {
                wait_established(&client, &object).await?;
            }
            applied.push(object);
        }
        Ok(applied)
    }

    async fn apply_one(&self, client: &Client, object: Value) -> Result<DynamicObject> {
        let mut object: DynamicObject = object_of(object)?;
        let types = object.types.clone().unwrap_or_default();
        let (resource, namespaced) = served(client, &types).await?;
        let api: Api<DynamicObject> = if namespaced {
            let namespace = object
                .namespace()
                .unwrap_or_else(|| self.config.default_namespace.clone());
            object.metadata.namespace = Some(namespace.clone());
            Api::namespaced_with(client.clone(), &namespace, &resource)
        } else {
            Api::all_with(client.clone(), &resource)
        };
        api.patch(
            &object.name_any(),
            &PatchParams::apply(FIELD_MANAGER).force(),
            &Patch::Apply(&object),
        )
        .await
        .map_err(|source| Error::Apply {
            kind: types.kind,
            name: object.name_any(),
            source: Box::new(source),
        })
    }

    /// A token of a ServiceAccount, by the TokenRequest API; valid for `ttl`, at least 10 min.
    pub async fn token_of(
        &self,
        namespace: &str,
        service_account: &str,
        ttl: Duration,
    ) -> Result<SecretString> {
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                expiration_seconds: i64::try_from(ttl.as_secs()).ok(),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let api: Api<ServiceAccount> = Api::namespaced(self.client()?, namespace);
        let answer: TokenRequest = api
            .create_subresource("token", service_account, &PostParams::default(), &request)
            .await
            .map_err(Error::kube("request a token of a ServiceAccount"))?;
        let token = answer.status.and_then(|status| status.token);
        Ok(token.unwrap_or_default().into())
    }

    /// Configuration with a ServiceAccount's rights; the token is valid for an hour.
    pub async fn config_as(&self, namespace: &str, service_account: &str) -> Result<Config> {
        let ttl = Duration::from_secs(3600);
        let token = self.token_of(namespace, service_account, ttl).await?;
        let mut config = self.config();
        config.auth_info = AuthInfo {
            token: Some(token),
            ..AuthInfo::default()
        };
        Ok(config)
    }

    /// A client with a ServiceAccount's rights.
    pub async fn client_as(&self, namespace: &str, service_account: &str) -> Result<Client> {
        client(self.config_as(namespace, service_account).await?)
    }

    /// A client of an ordinary user, by impersonation. Who authenticates is a member of the group
    /// `system:authenticated` as well.
    pub fn client_impersonating(&self, user: &str, groups: &[&str]) -> Result<Client> {
        let mut config = self.config();
        config.auth_info.impersonate = Some(user.to_owned());
        config.auth_info.impersonate_groups = Some(
            groups
                .iter()
                .chain(&["system:authenticated"])
                .map(|group| (*group).to_owned())
                .collect(),
        );
        client(config)
    }

    /// Writes a kubeconfig file (mode 0600) with which a program has a ServiceAccount's rights,
    /// and nothing of the administrator's.
    pub async fn write_kubeconfig_as(
        &self,
        namespace: &str,
        service_account: &str,
        ttl: Duration,
        path: &Path,
    ) -> Result<()> {
        let token = self.token_of(namespace, service_account, ttl).await?;
        let text = std::fs::read_to_string(&self.kubeconfig)
            .map_err(Error::file("read", &self.kubeconfig))?;
        let source: Value = serde_saphyr::from_str(&text).map_err(Error::yaml)?;
        let context = named(&source, "contexts", &source["current-context"], "context");
        let cluster = named(&source, "clusters", &context["cluster"], "cluster");
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "local", "cluster": cluster}],
            "users": [{"name": service_account, "user": {"token": token.expose_secret()}}],
            "contexts": [{"name": "local", "context": {
                "cluster": "local", "user": service_account, "namespace": namespace,
            }}],
            "current-context": "local",
        });
        // JSON is YAML.
        crate::write_private(path, &config.to_string())
    }
}

fn named<'a>(config: &'a Value, list: &str, name: &Value, field: &str) -> &'a Value {
    let found = config[list]
        .as_array()
        .into_iter()
        .flatten()
        .find(|entry| &entry["name"] == name);
    found.map_or(&Value::Null, |entry| &entry[field])
}

fn client(config: Config) -> Result<Client> {
    Client::try_from(config).map_err(Error::kube("build a client"))
}

/// All documents of a YAML text as plain data.
pub fn parse_yaml(yaml: &str) -> Result<Vec<Value>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).map_err(Error::yaml)?;
    Ok(documents.into_iter().filter(|d| !d.is_null()).collect())
}

fn yaml_files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = std::fs::read_dir(path)
        .and_then(|entries| {
            entries
                .map(|entry| Ok(entry?.path()))
                .collect::<std::io::Result<Vec<_>>>()
        })
        .map_err(Error::file("read", path))?;
    files.retain(|file| {
        file.extension().is_some_and(|e| e == "yaml")
            && file.file_name().is_some_and(|n| n != "kustomization.yaml")
    });
    files.sort();
    Ok(files)
}

fn object<T: serde::de::DeserializeOwned>(value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|source| Error::Object { source })
}

fn object_of(value: Value) -> Result<DynamicObject> {
    object(value)
}

/// The resource behind a kind, and whether it is namespaced. A kind that has just been defined
/// may take a moment to show up in discovery.
async fn served(client: &Client, types: &TypeMeta) -> Result<(discovery::ApiResource, bool)> {
    let gvk = GroupVersionKind::try_from(types.clone()).map_err(|source| Error::Kind {
        api_version: types.api_version.clone(),
        source: Box::new(source),
    })?;
    let started = std::time::Instant::now();
    loop {
        match discovery::pinned_kind(client, &gvk).await {
            Ok((resource, capabilities)) => {
                let namespaced = capabilities.scope == discovery::Scope::Namespaced;
                return Ok((resource, namespaced));
            }
            Err(source) if started.elapsed() > SERVED => {
                return Err(Error::kube("find a kind that the objects use")(source));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn wait_established(client: &Client, definition: &DynamicObject) -> Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let name = definition.name_any();
    let established = await_condition(api, &name, conditions::is_crd_established());
    match tokio::time::timeout(SERVED, established).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(source)) => Err(Error::Watch {
            source: Box::new(source),
        }),
        Err(_) => Err(Error::NotEstablished { name }),
    }
}

/// All kinds that a cluster serves, for tests that look at everything in it.
pub async fn discover(client: Client) -> Result<Discovery> {
    Discovery::new(client)
        .run()
        .await
        .map_err(Error::kube("discover all kinds"))
}
