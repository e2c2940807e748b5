//! Spec of the phase Integrations: webhooks and calendars of third parties.

use std::collections::BTreeMap;

use kube::{KubeSchema, core::Rule};
use serde::{Deserialize, Serialize};

use super::duration::Duration;
use super::enumeration::api_enum;
use super::reference::SecretKeyRef;

/// Webhooks and calendars of third parties, proven from the public edge after Go-Live with the same
/// secrets that their senders use. What these fields name in Secrets may be missing at first: the
/// check waits for it, and Go-Live does not.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Integrations {
    /// Who is responsible for this phase: a person or a team. Shown in status, events and notifications.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub owner: Option<String>,

    /// How long after Go-Live everything should be verified. What is not verified by then is late and
    /// says so; the checks go on. Between 10s and 24h. Default: 60m.
    #[serde(default = "deadline")]
    #[x_kube(validation = super::deadline_rule())]
    pub deadline: Duration,

    /// How often what was verified is checked again. A new release, a new value in a Secret and the
    /// annotation `golive.dev/retry-from: Integrations` have it checked at once. Between 10m and 168h.
    /// Default: 6h.
    #[serde(default = "interval")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('10m') && duration(self) <= duration('168h')").message("`interval` must be between 10m and 168h"))]
    pub interval: Duration,

    /// WhatsApp Cloud API: the handshake and signed messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whatsapp: Option<WhatsApp>,

    /// Mercado Pago: signed payment notifications.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mercado_pago: Option<MercadoPago>,

    /// Calendars: the application's export, and the age of its last import.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ical: Option<Ical>,

    /// Any other webhook with a signature.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub webhooks: Vec<Webhook>,
}

impl Default for Integrations {
    fn default() -> Self {
        Self {
            owner: None,
            deadline: deadline(),
            interval: interval(),
            whatsapp: None,
            mercado_pago: None,
            ical: None,
            webhooks: Vec::new(),
        }
    }
}

impl Integrations {
    /// Whether anything is to be verified.
    #[must_use]
    pub fn any(&self) -> bool {
        self.whatsapp.is_some()
            || self.mercado_pago.is_some()
            || self.ical.is_some()
            || !self.webhooks.is_empty()
    }
}

fn deadline() -> Duration {
    Duration::from_mins(60)
}

fn interval() -> Duration {
    Duration::from_hours(6)
}

/// WhatsApp Cloud API.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.tokenSecretRef) == has(self.wabaId)").message("`tokenSecretRef` and `wabaId` belong together: with both, Golive asks Meta whether messages of that account are delivered to the application"))]
#[x_kube(validation = Rule::new("!has(self.phoneNumberId) || has(self.tokenSecretRef)").message("`phoneNumberId` needs `tokenSecretRef` and `wabaId`: without a token, Meta is not asked about it"))]
pub struct WhatsApp {
    /// Path of the webhook, beginning with `/`.
    #[schemars(length(min = 1, max = 1024), regex(pattern = r#"^/[!-"$-~]*$"#))]
    pub path: String,
    /// The token that the application expects in the handshake.
    pub verify_token_secret_ref: SecretKeyRef,
    /// Meta's app secret, with which messages are signed.
    pub app_secret_ref: SecretKeyRef,

    /// An access token for Meta's Graph API, with the permission `whatsapp_business_management`: to
    /// ask whether the account's messages are delivered to the app, and whether the app is live. It is
    /// sent to Meta alone. Needs `wabaId`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret_ref: Option<SecretKeyRef>,

    /// Id of the WhatsApp Business Account, for the question to Meta.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), regex(pattern = r"^[0-9]+$"))]
    pub waba_id: Option<String>,

    /// Id of the phone number, for the question to Meta whether number and app are live; and what the
    /// test messages say they were sent to. Without it, they carry a made-up one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), regex(pattern = r"^[0-9]+$"))]
    pub phone_number_id: Option<String>,

    /// How one delivery shows. Without it, a message that is delivered twice cannot be told from one
    /// that is processed twice: that check is then `Unproven`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
}

/// Mercado Pago.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MercadoPago {
    /// Path of the webhook, beginning with `/`.
    #[schemars(length(min = 1, max = 1024), regex(pattern = r#"^/[!-"$-~]*$"#))]
    pub path: String,
    /// The secret signature from the application's page at Mercado Pago.
    pub signing_secret_ref: SecretKeyRef,

    /// The access token of the application at Mercado Pago, to ask whether it is accepted and whose it
    /// is. It is sent to Mercado Pago alone, and only to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_token_secret_ref: Option<SecretKeyRef>,

    /// How one delivery shows. Without it, a notification that is delivered twice cannot be told from
    /// one that is processed twice: that check is then `Unproven`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
}

/// Calendars.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.statusPath) == has(self.syncAgePointer)").message("`statusPath` and `syncAgePointer` belong together: the page, and where it has the age of the last import"))]
#[x_kube(validation = Rule::new("!has(self.importedEventsPointer) || has(self.statusPath)").message("`importedEventsPointer` needs `statusPath`"))]
#[x_kube(validation = Rule::new("!has(self.importedEventsPointer) || !has(self.importedEventsMetric)").message("at most one of `importedEventsMetric` and `importedEventsPointer` may be set"))]
pub struct Ical {
    /// Path of the exported calendar, beginning with `/`.
    #[schemars(length(min = 1, max = 1024), regex(pattern = r#"^/[!-"$-~]*$"#))]
    pub export_path: String,

    /// Greatest age of the last import. Between 1m and 168h. Default: 30m.
    #[serde(default = "thirty_minutes")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m') && duration(self) <= duration('168h')").message("`maxSyncAge` must be between 1m and 168h"))]
    pub max_sync_age: Duration,

    /// Path of the application's metrics, for the fields that end in `Metric`. Default: `/metrics`.
    #[serde(default = "metrics_path")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = r#"^/[!-"$-~]*$"#))]
    pub metrics_path: String,

    /// The metric with the age of the last import, in minutes. Of several series the oldest counts. Not
    /// asked when `statusPath` is set. Default: `ical_last_sync_age_minutes`.
    #[serde(default = "sync_age_metric")]
    #[schemars(
        length(min = 1, max = 256),
        regex(pattern = r"^[a-zA-Z_:][a-zA-Z0-9_:]*$")
    )]
    pub sync_age_metric: String,

    /// Path of a page in JSON that tells of the last import, in the place of the metric. Needs
    /// `syncAgePointer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = r#"^/[!-"$-~]*$"#))]
    pub status_path: Option<String>,

    /// Where that page has the age of the last import: a JSON pointer (RFC 6901) to a number of
    /// minutes, or to the time of the import, such as `2026-01-31T18:00:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^(/([^/~]|~[01])*)+$"))]
    pub sync_age_pointer: Option<String>,

    /// The metric with the number of events that were imported: from more than none to none is a
    /// failure. Without it, and without `importedEventsPointer`, that check is `Unproven`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 256),
        regex(pattern = r"^[a-zA-Z_:][a-zA-Z0-9_:]*$")
    )]
    pub imported_events_metric: Option<String>,

    /// Where the page at `statusPath` has that number: a JSON pointer (RFC 6901).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^(/([^/~]|~[01])*)+$"))]
    pub imported_events_pointer: Option<String>,

    /// The metric with the number of nights that are booked twice, in the application's own calendar and
    /// in an imported one: more than none is a failure. Without it, that check is `Unproven`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 256),
        regex(pattern = r"^[a-zA-Z_:][a-zA-Z0-9_:]*$")
    )]
    pub overlaps_metric: Option<String>,

    /// The calendars that the application imports, to read them as it does: `https://` addresses with
    /// blanks or line breaks between, each with a name or without, such as `airbnb=https://…`; at most
    /// 64. An address gives access to its calendar: it is sent to its own host alone, which must be on
    /// the public Internet, and only its name or number is shown. Without it, the check is decided by
    /// what the application shows of its import.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feeds_secret_ref: Option<SecretKeyRef>,
}

fn thirty_minutes() -> Duration {
    Duration::from_mins(30)
}

fn metrics_path() -> String {
    "/metrics".into()
}

fn sync_age_metric() -> String {
    "ical_last_sync_age_minutes".into()
}

/// How one delivery shows in the application: exactly one of `metric` and `http`. It is asked before
/// and after a delivery, and the increase counts.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.metric) != has(self.http)").message("exactly one of `metric` and `http` is required"))]
pub struct Effect {
    /// A metric of the application, which a delivery increases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<EffectMetric>,
    /// A page in JSON with a number, which a delivery increases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<EffectHttp>,
}

/// A metric of the application, which a delivery increases.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EffectMetric {
    /// Path of the metrics. Default: `/metrics`.
    #[serde(default = "metrics_path")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = r#"^/[!-"$-~]*$"#))]
    pub path: String,
    /// Name of the metric, such as `webhook_events_total`. Several series that match are added up.
    #[schemars(
        length(min = 1, max = 256),
        regex(pattern = r"^[a-zA-Z_:][a-zA-Z0-9_:]*$")
    )]
    pub name: String,
    /// Labels that a series must have, with exactly these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8))]
    #[x_kube(validation = Rule::new("self.all(k, k.size() <= 128 && self[k].size() <= 256)").message("`selector` must have labels of at most 128 and values of at most 256 characters"))]
    pub selector: BTreeMap<String, String>,
}

/// A page in JSON with a number, which a delivery increases.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EffectHttp {
    /// Path of the page, beginning with `/`.
    #[schemars(length(min = 1, max = 1024), regex(pattern = r#"^/[!-"$-~]*$"#))]
    pub path: String,
    /// Where the page has the number: a JSON pointer (RFC 6901), such as `/webhooks/processed`.
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^(/([^/~]|~[01])*)+$"))]
    pub json_pointer: String,
}

api_enum! {
    /// How a sender signs its webhooks.
    pub enum WebhookScheme, strict, default Custom {
        /// The fields of this webhook say it: `header`, `prefix`, `algorithm`, `encoding`, `timestamp`
        /// and `signedText`.
        Custom = "Custom",
        /// As Svix, Clerk, Resend and others send them (standardwebhooks.com): the
        /// headers `webhook-id`, `webhook-timestamp` and `webhook-signature`.
        StandardWebhooks = "StandardWebhooks",
        /// The header `Stripe-Signature`.
        Stripe = "Stripe",
        /// The header `X-Hub-Signature-256`.
        GitHub = "GitHub",
        /// The headers `X-Slack-Signature` and `X-Slack-Request-Timestamp`.
        Slack = "Slack",
        /// The header `X-Shopify-Hmac-Sha256`.
        Shopify = "Shopify",
    }
}

api_enum! {
    /// The algorithm of a signature.
    pub enum SignatureAlgorithm, strict, default HmacSha256 {
        /// HMAC with SHA-256.
        HmacSha256 = "HmacSha256",
        /// HMAC with SHA-512.
        HmacSha512 = "HmacSha512",
        /// HMAC with SHA-1; only for senders that offer no other.
        HmacSha1 = "HmacSha1",
    }
}

api_enum! {
    /// How a signature is written.
    pub enum SignatureEncoding, strict, default Hex {
        /// Hexadecimal digits in lower case.
        Hex = "Hex",
        /// Base64 with padding.
        Base64 = "Base64",
    }
}

api_enum! {
    /// The method of a webhook.
    pub enum WebhookMethod, strict, default Post {
        /// POST.
        Post = "POST",
        /// PUT.
        Put = "PUT",
        /// PATCH.
        Patch = "PATCH",
    }
}

api_enum! {
    /// The unit of a point in time, counted from 1970.
    pub enum TimestampUnit, strict, default Seconds {
        /// Seconds.
        Seconds = "Seconds",
        /// Milliseconds.
        Milliseconds = "Milliseconds",
    }
}

api_enum! {
    /// A part of the text that is signed.
    pub enum SignedPartKind, strict {
        /// The body, byte for byte.
        Body = "Body",
        /// The time, as `timestamp` sends it.
        Timestamp = "Timestamp",
        /// The sender's event id, as `idempotencyKey` says.
        Id = "Id",
        /// The path with its query.
        Path = "Path",
        /// The method, in capital letters.
        Method = "Method",
    }
}

/// A part of the text that is signed: exactly one of `part` and `text`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.part) != has(self.text)").message("exactly one of `part` and `text` is required"))]
pub struct SignedPart {
    /// A part of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<SignedPartKind>,
    /// Literal text, such as `.`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub text: Option<String>,
}

/// When a webhook says it was sent: exactly one of `header` and `parameter`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.header) != has(self.parameter)").message("exactly one of `header` and `parameter` is required"))]
pub struct WebhookTimestamp {
    /// A header of its own, such as `X-Timestamp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9-]+$"))]
    #[x_kube(validation = header_rule())]
    pub header: Option<String>,
    /// A parameter of the signature's header, such as `t`: the header then has `t=TIME,` before the
    /// prefix and the signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9_-]+$')").message("`parameter` must have letters, digits, `_` and `-` only, such as `t`"))]
    pub parameter: Option<String>,
    /// The unit. Default: Seconds.
    #[serde(default)]
    pub unit: TimestampUnit,
    /// The age from which the application must refuse a webhook. Between 30s and 24h. Default: 5m.
    #[serde(default = "five_minutes")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('30s') && duration(self) <= duration('24h')").message("`tolerance` must be between 30s and 24h"))]
    pub tolerance: Duration,
}

/// A header of the sender is none that every request has, or a request would have it twice.
fn header_rule() -> Rule {
    Rule::new("!(self.lowerAscii() in ['host', 'content-length', 'content-type', 'transfer-encoding', 'connection', 'user-agent', 'x-golive-probe'])")
        .message("name a header of the sender: `Host`, `Content-Length`, `Content-Type`, `Transfer-Encoding`, `Connection`, `User-Agent` and `X-Golive-Probe` are those of every request")
}

fn five_minutes() -> Duration {
    Duration::from_mins(5)
}

/// A place in a webhook: exactly one of `header` and `jsonPointer`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.header) != has(self.jsonPointer)").message("exactly one of `header` and `jsonPointer` is required"))]
pub struct WebhookPlace {
    /// A header, such as `X-Event-Id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9-]+$"))]
    #[x_kube(validation = header_rule())]
    pub header: Option<String>,
    /// A place in the JSON body: a JSON pointer (RFC 6901), such as `/event/id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^(/([^/~]|~[01])*)+$"))]
    pub json_pointer: Option<String>,
}

/// Any other webhook with a signature.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.scheme != 'Custom' || has(self.header)").message("`header` is required: the header that carries the signature, unless `scheme` names a sender").reason(Reason::FieldValueRequired))]
#[x_kube(validation = Rule::new("self.scheme == 'Custom' || !(has(self.header) || has(self.prefix) || has(self.timestamp) || has(self.signedText))").message("`header`, `prefix`, `timestamp` and `signedText` belong to the scheme Custom: the other schemes say them").reason(Reason::FieldValueForbidden))]
#[x_kube(validation = Rule::new("!has(self.signedText) || !self.signedText.exists(p, has(p.part) && p.part == 'Timestamp') || has(self.timestamp)").message("`signedText` has the part Timestamp, so `timestamp` is required"))]
#[x_kube(validation = Rule::new("!has(self.signedText) || !self.signedText.exists(p, has(p.part) && p.part == 'Id') || has(self.idempotencyKey)").message("`signedText` has the part Id, so `idempotencyKey` is required"))]
pub struct Webhook {
    /// Name of the webhook, unique among the webhooks.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")
    )]
    pub name: String,
    /// Path of the webhook, beginning with `/`.
    #[schemars(length(min = 1, max = 1024), regex(pattern = r#"^/[!-"$-~]*$"#))]
    pub path: String,
    /// How the sender signs. Default: Custom.
    #[serde(default)]
    pub scheme: WebhookScheme,
    /// The key of the signature, as the sender shows it.
    pub secret_ref: SecretKeyRef,

    /// The method. Default: POST.
    #[serde(default)]
    pub method: WebhookMethod,
    /// The type of the body. Default: `application/json`.
    #[serde(default = "json")]
    #[schemars(length(min = 3, max = 128))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9.+-]+/[A-Za-z0-9.+-]+(; ?[A-Za-z0-9-]+=[A-Za-z0-9.-]+)*$')").message("`contentType` must be a type such as `application/json` or `application/json; charset=utf-8`"))]
    pub content_type: String,
    /// The header that carries the signature, for the scheme Custom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9-]+$"))]
    #[x_kube(validation = header_rule())]
    pub header: Option<String>,
    /// Text before the signature in the header, such as `sha256=`, for the scheme Custom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("self.matches('^[ -~]*$')").message("`prefix` must be text in ASCII without line breaks, such as `sha256=`"))]
    pub prefix: Option<String>,
    /// The algorithm, for the scheme Custom. Default: HmacSha256.
    #[serde(default)]
    pub algorithm: SignatureAlgorithm,
    /// How the signature is written, for the scheme Custom. Default: Hex.
    #[serde(default)]
    pub encoding: SignatureEncoding,
    /// Where the webhook says when it was sent, for the scheme Custom. Without it, no check expects that
    /// an old webhook is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<WebhookTimestamp>,
    /// The text that is signed, part by part, for the scheme Custom. Default: the body alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub signed_text: Option<Vec<SignedPart>>,

    /// Where the sender's event id stands, so that a repeated delivery can be told from a new event.
    /// The named schemes have a default: GitHub `X-GitHub-Delivery`, Shopify `X-Shopify-Webhook-Id`,
    /// StandardWebhooks `webhook-id`, Stripe `/id`, Slack `/event_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<WebhookPlace>,
    /// Where the type of the event stands, for the check that an unknown one is accepted. The named
    /// schemes have a default. Without it, that check is `Unproven`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_type: Option<WebhookPlace>,

    /// The body that is sent. Default: one of the sender that `scheme` names; for Custom an empty JSON
    /// object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16384))]
    pub body: Option<String>,
    /// The required response of the application.
    #[serde(default)]
    pub expect: WebhookExpectation,
    /// How one delivery shows. Without it, a webhook that is delivered twice cannot be told from one
    /// that is processed twice: that check is then `Unproven`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
}

fn json() -> String {
    "application/json".into()
}

/// The required response of the application.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.signed.all(s, !(s in self.unsigned))").message("`signed` and `unsigned` must have no status in common: it would not show whether the application checks the signature"))]
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
