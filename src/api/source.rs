//! Spec and status of an image that is built elsewhere and followed: where it is, which tag is
//! chosen, how often the registry is read.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::duration::Duration;
use super::enumeration::api_enum;
use super::reference::SecretRef;

/// An image that is built elsewhere: its tags are read every `interval`, one is chosen by the
/// `policy`, and its digest is deployed. Each new choice is a release, as if the spec had named it.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// The image without tag and digest, such as `registry.fly.io/my-app` or `ghcr.io/me/my-app`.
    #[schemars(
        length(min = 1, max = 255),
        regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._/:@-]*$")
    )]
    #[x_kube(validation = Rule::new("!self.contains('@') && !self.matches('(^|/)[^/]*:[^/]*$')").message("`image` must have neither tag nor digest: the `policy` chooses them"))]
    pub image: String,

    /// How a tag is chosen: exactly one of `pinned`, `tag`, `semver`, `newest`.
    pub policy: Policy,

    /// How often the registry is read. Between 1s and 24h; the operator does not read more often
    /// than its flag `--source-interval-min` allows, every 30s unless it was set; `status.source` then
    /// says so. Default: 5m.
    #[serde(default = "interval")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('24h')").message("`interval` must be between 1s and 24h"))]
    pub interval: Duration,

    /// A Secret in the same namespace with credentials for reading the registry: one of the type
    /// `kubernetes.io/dockerconfigjson`, or with the keys `username` and `password`. They are sent
    /// to the registry of `image` alone. Fly.io never gets them: it pulls images without credentials,
    /// except from registry.fly.io, so they allow to read tags but not to run a private image.
    /// Without this field registry.fly.io is read with the Fly token, and every other registry
    /// anonymously.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretRef>,
}

fn interval() -> Duration {
    Duration::from_mins(5)
}

/// How a tag is chosen: exactly one of `pinned`, `tag`, `semver`, `newest`.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.pinned), has(self.tag), has(self.semver), has(self.newest)].filter(x, x).size() == 1").message("exactly one of `pinned`, `tag`, `semver` and `newest` is required"))]
pub struct Policy {
    /// One tag, resolved to its digest once, and again when the spec changes what is deployed. When
    /// the tag moves, the status reports it, and nothing is deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<PinnedPolicy>,

    /// One tag that moves, such as `stable`: the image that it points to is deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<TagPolicy>,

    /// The highest version within a range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub semver: Option<SemverPolicy>,

    /// The last tag in order of those that match a pattern, such as tags with a build time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<NewestPolicy>,
}

/// One tag that is resolved once.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PinnedPolicy {
    /// The tag.
    #[schemars(
        length(min = 1, max = 128),
        regex(pattern = r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")
    )]
    pub tag: String,
}

/// One tag that is followed.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TagPolicy {
    /// The tag.
    #[schemars(
        length(min = 1, max = 128),
        regex(pattern = r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")
    )]
    pub name: String,
}

/// Semantic versions (semver.org).
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SemverPolicy {
    /// The range, such as `1.x`, `^1.4.0`, `~1.4`, `>=1.4.0 <2.0.0` or `1.x || 2.x`. A lone
    /// version matches only itself. Tags are full versions, with or without a leading `v`; all others
    /// are ignored. A pre-release is chosen only if the range names one of the same version:
    /// `>=1.5.0-rc.1` matches `1.5.0-rc.2`.
    #[schemars(
        length(min = 1, max = 128),
        regex(pattern = r"^[0-9A-Za-z.*+<>=~^|, -]+$")
    )]
    pub range: String,
}

/// The last tag in order of those that match a pattern.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewestPolicy {
    /// A regular expression for tags, such as `^main-[a-f0-9]+-(?P<ts>[0-9]+)$`.
    #[schemars(length(min = 1, max = 256))]
    pub pattern: String,

    /// A capture group of the pattern, by its name or number, such as `ts`: tags are sorted by what
    /// it captures. Without it they are sorted by the whole tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 64),
        regex(pattern = r"^\$?([A-Za-z_][A-Za-z0-9_]*|[0-9]{1,2})$")
    )]
    pub extract: Option<String>,

    /// How tags are sorted; the last one is chosen.
    #[serde(default)]
    pub order: Order,
}

api_enum! {
    /// How tags are sorted.
    pub enum Order, strict, default Alphabetical {
        /// As texts, byte by byte: `2026-09-30` comes before `2026-10-01`.
        Alphabetical = "Alphabetical",
        /// As whole numbers: `9` comes before `10`. Tags without a number are ignored.
        Numerical = "Numerical",
    }
}

/// The image that is followed.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// The image that is followed, without tag and digest.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 255))]
    pub image: String,
    /// The chosen tag: it runs, is being rolled out, or was tried last.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub tag: String,
    /// The chosen digest.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub digest: String,
    /// Result of the last observation of the registry, for programs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub reason: String,
    /// What was found, and what a person must do if anything.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub message: String,
    /// An image that the registry has and that is not deployed; the message says why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<PendingImage>,
    /// Since when observations have had this result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
}

/// An image that is not deployed.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PendingImage {
    /// Its tag.
    #[schemars(length(max = 128))]
    pub tag: String,
    /// Its digest, if it was read.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub digest: String,
}
