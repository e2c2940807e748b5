//! Spec of the phase Observe: where the metrics of the watch come from.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::reference::SecretKeyRef;

/// The source of the metrics: at most one of `metricsPath`, `prometheus`, `flyPrometheus`.
/// Default: the path `/metrics` of the application.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.metricsPath), has(self.prometheus), has(self.flyPrometheus)].filter(x, x).size() == 1").message("exactly one of `metricsPath`, `prometheus` and `flyPrometheus` is required"))]
pub struct MetricsSource {
    /// Path of the application's own metrics, beginning with `/`. It is read from each machine by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = r#"^/[!-"$-~]*$"#))]
    pub metrics_path: Option<String>,

    /// A Prometheus server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<Prometheus>,

    /// Fly.io's own Prometheus, read with the activation's token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fly_prometheus: Option<FlyPrometheus>,
}

impl Default for MetricsSource {
    fn default() -> Self {
        Self {
            metrics_path: Some("/metrics".into()),
            prometheus: None,
            fly_prometheus: None,
        }
    }
}

/// A Prometheus server, or what answers as one: Thanos, Mimir, Cortex, VictoriaMetrics.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.tokenSecretRef) && has(self.basicAuth))").message("at most one of `tokenSecretRef` and `basicAuth` is allowed"))]
#[x_kube(validation = Rule::new("!has(self.ca) || self.url.startsWith('https://')").message("`ca` has no effect without `https://` in `url`"))]
pub struct Prometheus {
    /// Address of the server, without `/api/v1`: one on the public Internet that begins with `https://`, or
    /// one that the operator's flag `--allow-prometheus` allows in this namespace.
    #[schemars(
        length(min = 8, max = 512),
        regex(pattern = r#"^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[!-"$-~]*)?$"#)
    )]
    pub url: String,
    /// A bearer token for the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret_ref: Option<SecretKeyRef>,
    /// A user and a password for the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic_auth: Option<BasicAuth>,
    /// The tenant, sent as the header `X-Scope-OrgID`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 150), regex(pattern = r"^[a-zA-Z0-9!_.*()|-]+$"))]
    pub tenant: Option<String>,
    /// The certificate authorities of the server, in place of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CertificateSource>,
}

/// A user and a password.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BasicAuth {
    /// Key of a Secret with the user's name.
    pub username_secret_ref: SecretKeyRef,
    /// Key of a Secret with the password.
    pub password_secret_ref: SecretKeyRef,
}

/// Certificates in PEM: exactly one of `secretRef`, `configMapRef`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.secretRef) != has(self.configMapRef)").message("exactly one of `secretRef` and `configMapRef` is required"))]
pub struct CertificateSource {
    /// Key of a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretKeyRef>,
    /// Key of a ConfigMap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<CertificateKeyRef>,
}

/// One key of a ConfigMap in the same namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateKeyRef {
    /// Name of the ConfigMap, in the same namespace as the Activation.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,
    /// Key in the ConfigMap's data. Default: `ca.crt`.
    #[serde(default = "ca_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

fn ca_key() -> String {
    "ca.crt".into()
}

/// Fly.io's own Prometheus; it needs no settings.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlyPrometheus {}
