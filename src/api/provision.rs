//! Spec of the phase Provision: database, Redis, secrets, addresses, hostnames.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::duration::Duration;
use super::enumeration::api_enum;
use super::reference::{SecretRef, UrlSource};

/// What the application needs around it.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Provision {
    /// Who is responsible for this phase: a person or a team. Shown in status, events and notifications.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub owner: Option<String>,

    /// Time within which the phase must succeed. Between 10s and 24h. Default: 12m.
    #[serde(default = "deadline")]
    #[x_kube(validation = super::deadline_rule())]
    pub deadline: Duration,

    /// The PostgreSQL database. The application gets its address as the secret `DATABASE_URL`.
    /// Without this field there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres: Option<Postgres>,

    /// The Redis database. The application gets its address as the secret `REDIS_URL`. Without
    /// this field there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<Redis>,

    /// The application's secrets.
    #[serde(default)]
    pub secrets: Secrets,

    /// The app's public addresses.
    #[serde(default)]
    pub addresses: Addresses,

    /// Hostnames beside `<app>.fly.dev` that get a certificate, such as `www.example.org` or
    /// `*.example.org`. The DNS records are yours; the status says which are missing. A hostname
    /// that is removed from the list loses its certificate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 20),
        inner(
            length(min = 1, max = 253),
            regex(
                pattern = r"^(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"
            )
        )
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub hostnames: Vec<String>,
}

impl Default for Provision {
    fn default() -> Self {
        Self {
            owner: None,
            deadline: deadline(),
            postgres: None,
            redis: None,
            secrets: Secrets::default(),
            addresses: Addresses::default(),
            hostnames: Vec::new(),
        }
    }
}

fn deadline() -> Duration {
    Duration::from_mins(12)
}

/// The PostgreSQL database: exactly one of `managed`, `flyPostgres`, `external`.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.managed), has(self.flyPostgres), has(self.external)].filter(x, x).size() == 1").message("exactly one of `managed`, `flyPostgres` and `external` is required"))]
#[x_kube(validation = Rule::new("!has(self.fallback) || !has(self.external)").message("`fallback` must not be set with `external`: an external database has nothing to fall back from").reason(Reason::FieldValueForbidden))]
#[x_kube(validation = Rule::new("has(self.external) || has(oldSelf.external) || has(self.managed) == has(oldSelf.managed)").message("the kind of database cannot change between `managed` and `flyPostgres`: data does not move; switch to `external`, or create another Activation").reason(Reason::FieldValueForbidden))]
pub struct Postgres {
    /// Fly.io's Managed Postgres.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed: Option<ManagedPostgres>,

    /// An unmanaged cluster of Fly machines, as `fly postgres create` creates it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fly_postgres: Option<FlyPostgres>,

    /// A database that exists elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<UrlSource>,

    /// The database address that is used when attaching has failed three times. The status
    /// records that it was used, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<UrlSource>,
}

/// Fly.io's Managed Postgres.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManagedPostgres {
    /// Fly.io's plan: `basic`, `starter`, `launch`, `scale` or `performance`. Default: `basic`.
    #[serde(default = "basic")]
    #[schemars(length(min = 1, max = 32), regex(pattern = r"^[a-z][a-z0-9-]*$"))]
    pub plan: String,

    /// Size of the volume that the cluster is created with, in GB. Cannot change: Fly.io's public API
    /// cannot resize a managed volume; its dashboard can. Default: 10.
    #[serde(default = "ten")]
    #[schemars(range(min = 10, max = 1000))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("`volumeSizeGb` is immutable: Fly.io's API cannot resize a managed volume; grow it in Fly.io's dashboard"))]
    pub volume_size_gb: u32,

    /// Major version of PostgreSQL. Cannot change. Default: 16.
    #[serde(default = "sixteen")]
    #[schemars(range(min = 14, max = 30))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("`version` is immutable: a database is upgraded by hand"))]
    pub version: u32,
}

impl Default for ManagedPostgres {
    fn default() -> Self {
        Self {
            plan: basic(),
            volume_size_gb: ten(),
            version: sixteen(),
        }
    }
}

fn basic() -> String {
    "basic".into()
}

fn ten() -> u32 {
    10
}

fn sixteen() -> u32 {
    16
}

/// An unmanaged PostgreSQL cluster of Fly machines.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlyPostgres {
    /// Size of each machine, such as `shared-cpu-1x`. Default: `shared-cpu-1x`.
    #[serde(default = "shared")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[a-z0-9][a-z0-9.-]*$"))]
    pub size: String,

    /// Number of machines: one, or three for a cluster that survives the loss of one. Default: 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 3))]
    #[x_kube(validation = Rule::new("self in [1, 3]").message("`count` must be 1 or 3: two machines cannot agree on a leader"))]
    pub count: u32,

    /// Size of each machine's volume, in GB. It can grow, never shrink. Default: 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 500))]
    #[x_kube(validation = Rule::new("self >= oldSelf").message("`volumeSizeGb` can only grow"))]
    pub volume_size_gb: u32,
}

impl Default for FlyPostgres {
    fn default() -> Self {
        Self {
            size: shared(),
            count: one(),
            volume_size_gb: one(),
        }
    }
}

fn shared() -> String {
    "shared-cpu-1x".into()
}

fn one() -> u32 {
    1
}

/// The Redis database: exactly one of `upstash`, `external`.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.upstash), has(self.external)].filter(x, x).size() == 1").message("exactly one of `upstash` and `external` is required"))]
pub struct Redis {
    /// Upstash Redis, created by Fly.io in its organization.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstash: Option<UpstashRedis>,

    /// A Redis that exists elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<UrlSource>,
}

/// Upstash Redis.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpstashRedis {
    /// Upstash's plan, by its name in lower case with dashes. Default: `pay-as-you-go`.
    #[serde(default = "pay_as_you_go")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[a-z0-9][a-z0-9-]*$"))]
    pub plan: String,

    /// Whether old keys are evicted when the memory is full. Default: false.
    #[serde(default)]
    pub eviction: bool,

    /// Region of the database. Default: the activation's region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 3), regex(pattern = r"^[a-z]{3}$"))]
    pub region: Option<String>,
}

impl Default for UpstashRedis {
    fn default() -> Self {
        Self {
            plan: pay_as_you_go(),
            eviction: false,
            region: None,
        }
    }
}

fn pay_as_you_go() -> String {
    "pay-as-you-go".into()
}

/// The application's secrets.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Secrets {
    /// Secrets that Golive generates, once. They are stored in a Kubernetes Secret that survives
    /// this object, and are not generated again when Fly.io loses them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub generate: Vec<GeneratedSecret>,

    /// Kubernetes Secrets whose keys become Fly secrets. A change is pushed: at once where the
    /// operator watches Secrets, otherwise after the seconds of `--secret-look-interval`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new("self.all(a, self.exists_one(b, b.secretRef.name == a.secretRef.name))").message("`from` must name each Secret once"))]
    pub from: Vec<SecretSource>,

    /// When the generated values are replaced, besides the annotation `golive.dev/rotate-secrets`,
    /// which requests it at once.
    #[serde(default)]
    pub rotation: SecretRotation,
}

/// When generated values are replaced. Each replacement is an update of the machines, by the
/// strategy of the deployment.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretRotation {
    /// Age at which a value is replaced. Between 1h and 17520h. Without this field no value is
    /// replaced because of its age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1h') && duration(self) <= duration('17520h')").message("`maxAge` must be between 1h and 17520h (two years)"))]
    pub max_age: Option<Duration>,

    /// For how long the previous value is kept beside the new one, so that signatures made with it can
    /// still be verified: as `NAME.previous` in the Kubernetes Secret, and as the secret
    /// `NAME_PREVIOUS` of the application. Between 0s and 720h. Default: 24h.
    #[serde(default = "overlap")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('0s') && duration(self) <= duration('720h')").message("`overlap` must be between 0s and 720h (30 days)"))]
    pub overlap: Duration,
}

impl Default for SecretRotation {
    fn default() -> Self {
        Self {
            max_age: None,
            overlap: overlap(),
        }
    }
}

fn overlap() -> Duration {
    Duration::from_mins(24 * 60)
}

api_enum! {
    /// How the random bytes of a secret are encoded.
    pub enum Encoding, strict, default Base64Url {
        /// Base 64 with the URL-safe alphabet, without padding.
        Base64Url = "base64url",
        /// Hexadecimal digits, two a byte.
        Hex = "hex",
        /// Letters and digits, one a byte.
        Alphanumeric = "alphanumeric",
    }
}

/// A secret that Golive generates.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GeneratedSecret {
    /// Name of the secret, which is also the name of the environment variable.
    #[schemars(
        length(min = 1, max = 128),
        regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$")
    )]
    #[x_kube(validation = Rule::new("!self.startsWith('FLY_') && self != 'PRIMARY_REGION'").message("`name` must not begin with FLY_ and must not be PRIMARY_REGION: Fly.io sets these variables itself"))]
    pub name: String,

    /// Number of random bytes, or of characters with the encoding `alphanumeric`. Default: 32.
    #[serde(default = "thirty_two")]
    #[schemars(range(min = 16, max = 256))]
    pub bytes: u32,

    /// How the bytes are encoded.
    #[serde(default)]
    pub encoding: Encoding,
}

fn thirty_two() -> u32 {
    32
}

/// A Kubernetes Secret whose keys become Fly secrets.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretSource {
    /// The Secret. Each of its keys must be a valid name of an environment variable.
    pub secret_ref: SecretRef,

    /// Whether the application goes live without it. A Secret that is handed in later is pushed then,
    /// with the restart that this takes. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

/// The app's public addresses.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Addresses {
    /// An IPv4 address that the app shares with others; free of charge. Default: true.
    #[serde(default = "yes")]
    pub shared_v4: bool,

    /// An IPv6 address of its own; free of charge. Default: true.
    #[serde(default = "yes")]
    pub v6: bool,

    /// An IPv4 address of its own, in place of the shared one; costs money. Needed for UDP, and for
    /// IPv4 on other ports than HTTP on 80 and TLS on 443. Default: false.
    #[serde(default)]
    pub v4: bool,
}

impl Default for Addresses {
    fn default() -> Self {
        Self {
            shared_v4: true,
            v6: true,
            v4: false,
        }
    }
}

fn yes() -> bool {
    true
}
