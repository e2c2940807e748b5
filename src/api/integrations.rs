//! Spec of the phase Integrations: webhooks and calendars of third parties.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::duration::Duration;
use super::enumeration::api_enum;
use super::reference::SecretKeyRef;

/// Webhooks and calendars of third parties, tested after Go-Live.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Integrations {
    /// Who is responsible for this phase: a person or a team. Shown in status, events and notifications.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub owner: Option<String>,

    /// WhatsApp Cloud API: the handshake and signed messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whatsapp: Option<WhatsApp>,

    /// Mercado Pago: signed payment notifications.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mercado_pago: Option<MercadoPago>,

    /// Calendars: the application's export, and the age of its last import.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ical: Option<Ical>,

    /// Any other webhook with a signature over its body.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub webhooks: Vec<Webhook>,
}

/// WhatsApp Cloud API.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WhatsApp {
    /// Path of the webhook, beginning with `/`.
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^/[!-~]*$"))]
    pub path: String,
    /// The token that the application expects in the handshake.
    pub verify_token_secret_ref: SecretKeyRef,
    /// Meta's app secret, with which messages are signed.
    pub app_secret_ref: SecretKeyRef,
}

/// Mercado Pago.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MercadoPago {
    /// Path of the webhook, beginning with `/`.
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^/[!-~]*$"))]
    pub path: String,
    /// The secret signature from the application's page at Mercado Pago.
    pub signing_secret_ref: SecretKeyRef,
}

/// Calendars.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ical {
    /// Path of the exported calendar, beginning with `/`.
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^/[!-~]*$"))]
    pub export_path: String,

    /// Greatest age of the last import. Between 1m and 168h. Default: 30m.
    #[serde(default = "thirty_minutes")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m') && duration(self) <= duration('168h')").message("`maxSyncAge` must be between 1m and 168h"))]
    pub max_sync_age: Duration,

    /// The metric with the age of the last import, in minutes. Default:
    /// `ical_last_sync_age_minutes`.
    #[serde(default = "sync_age_metric")]
    #[schemars(
        length(min = 1, max = 256),
        regex(pattern = r"^[a-zA-Z_:][a-zA-Z0-9_:]*$")
    )]
    pub sync_age_metric: String,
}

fn thirty_minutes() -> Duration {
    Duration::from_mins(30)
}

fn sync_age_metric() -> String {
    "ical_last_sync_age_minutes".into()
}

api_enum! {
    /// How a webhook is signed.
    pub enum SignatureAlgorithm, strict, default HmacSha256 {
        /// HMAC with SHA-256.
        HmacSha256 = "HmacSha256",
        /// HMAC with SHA-512.
        HmacSha512 = "HmacSha512",
        /// HMAC with SHA-1; only for senders that offer no other.
        HmacSha1 = "HmacSha1",
    }
}

/// Any other webhook with a signature over its body.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Webhook {
    /// Name of the webhook, unique among the webhooks.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")
    )]
    pub name: String,
    /// Path of the webhook, beginning with `/`.
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^/[!-~]*$"))]
    pub path: String,
    /// The header that carries the signature.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9-]+$"))]
    pub header: String,
    /// Text before the signature in the header, such as `sha256=`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub prefix: Option<String>,
    /// How the body is signed.
    #[serde(default)]
    pub algorithm: SignatureAlgorithm,
    /// The key of the signature.
    pub secret_ref: SecretKeyRef,
    /// The body that is sent. Default: an empty JSON object.
    #[serde(default = "empty_object")]
    #[schemars(length(max = 16384))]
    pub body: String,
    /// The required response of the application.
    #[serde(default)]
    pub expect: WebhookExpectation,
}

fn empty_object() -> String {
    "{}".into()
}

/// The required response of the application.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookExpectation {
    /// Statuses that pass when the signature is right. Default: 200, 201, 202, 204.
    #[serde(default = "accepted")]
    #[schemars(length(min = 1, max = 16), inner(range(min = 100, max = 599)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub signed: Vec<u16>,
    /// Statuses that pass when the signature is wrong or missing. Default: 401, 403.
    #[serde(default = "refused")]
    #[schemars(length(min = 1, max = 16), inner(range(min = 100, max = 599)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub unsigned: Vec<u16>,
}

impl Default for WebhookExpectation {
    fn default() -> Self {
        Self {
            signed: accepted(),
            unsigned: refused(),
        }
    }
}

fn accepted() -> Vec<u16> {
    vec![200, 201, 202, 204]
}

fn refused() -> Vec<u16> {
    vec![401, 403]
}
