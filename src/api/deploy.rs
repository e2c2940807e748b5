//! Spec of the phase Deploy: what runs, and how it is rolled out.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::duration::Duration;
use super::enumeration::api_enum;
use super::reference::ConfigMapKeyRef;
use super::source::Source;

/// What runs, and how it is rolled out.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.image) != has(self.source)").message("exactly one of `image` and `source` is required"))]
#[x_kube(validation = Rule::new("!has(self.port) || !has(self.config)").message("`port` must not be set with `config`: the fly.toml declares the port"))]
#[x_kube(validation = Rule::new("!has(self.scale) || !has(self.regions) || self.regions.all(g, !(g in self.scale))").message("a process group must be in `scale` or in `regions`, not in both"))]
pub struct Deploy {
    /// Who is responsible for this phase: a person or a team. Shown in status, events and notifications.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub owner: Option<String>,

    /// Time within which the phase must succeed. Between 10s and 24h. Default: 10m.
    #[serde(default = "deadline")]
    #[x_kube(validation = super::deadline_rule())]
    pub deadline: Duration,

    /// The image, such as `registry.fly.io/my-app:1.4.0` or `ghcr.io/me/my-app@sha256:…`. A tag is
    /// resolved to its digest once, and again when the spec changes what is deployed; every machine
    /// runs that digest. Exactly one of `image` and `source` is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 512),
        regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._/:@-]*$")
    )]
    pub image: Option<String>,

    /// An image that is built elsewhere: its registry is read at an interval, and the image that the
    /// policy chooses is deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,

    /// The fly.toml. Without it: one HTTP service on `port`, with HTTPS forced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<FlyConfig>,

    /// The port on which the application listens, when there is no `config`. Default: 8080.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,

    /// Number of machines for each process group of the fly.toml, such as `{app: 2}`. A group
    /// that is not named gets what `fly deploy` creates first: one with a volume, two with
    /// services, else one and a standby. A larger number creates machines with the running release; with
    /// a smaller one those with the highest numbers finish their requests and are destroyed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    #[x_kube(validation = Rule::new("self.all(g, g.size() <= 63 && g.matches('^[a-z0-9_-]+$'))").message("`scale` must have names of process groups as keys"))]
    #[x_kube(validation = Rule::new("self.all(g, self[g] >= 0 && self[g] <= 100)").message("`scale` must be between 0 and 100 machines a group"))]
    pub scale: BTreeMap<String, u32>,

    /// Number of machines for each process group and region, such as `{app: {eze: 2, gru: 1}}`,
    /// for groups that run in more than the primary region. A group that is named here is not
    /// named in `scale`. Machines that are no longer named finish their requests and are
    /// destroyed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16, "additionalProperties" = {
        "type": "object", "maxProperties": 16,
        "additionalProperties": {"type": "integer", "minimum": 0, "maximum": 100},
    }))]
    #[x_kube(validation = Rule::new("self.all(g, self[g].all(r, r.size() == 3))").message("`regions` must have regions of three letters as keys, such as `eze`"))]
    pub regions: BTreeMap<String, BTreeMap<String, u32>>,

    /// Machine sizes that are tried in this order when Fly.io refuses the one in the fly.toml for
    /// lack of quota or capacity, each as `shared-cpu-2x` or with its memory, `shared-cpu-2x:1gb`.
    /// The status records which one was used, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 8),
        inner(
            length(min = 1, max = 64),
            regex(pattern = r"^[a-z0-9][a-z0-9.-]*(:[0-9]+[a-z]*)?$")
        )
    )]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub fallback_sizes: Vec<String>,

    /// Which volumes may be created beside others that hold data.
    #[serde(default, skip_serializing_if = "VolumePolicy::is_default")]
    pub volumes: VolumePolicy,

    /// What is known about the migrations that the release command runs.
    #[serde(default)]
    pub migrations: Migrations,

    /// How often a release command or a seed command that has failed runs again by itself for the same
    /// release, after pauses that grow. Whatever it says, it runs again for a new release, and once when
    /// the annotation `golive.dev/retry` gets a new value. Set it only for commands that are safe to
    /// repeat after they have failed halfway. Between 0 and 10. Default: 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0, max = 10))]
    pub release_command_retries: u8,

    /// Tries each release in one machine before any machine that serves is touched: it boots the image
    /// with the environment and the secrets of the first process group, without services and
    /// volumes, so that it gets no requests. It runs after the release command. When it has been
    /// steady it is destroyed and the rollout begins; when it exits, or its checks do not pass within
    /// `[deploy] wait_timeout`, the release has failed and what serves stays as it is. `{}` takes the
    /// defaults. Default: no trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub try_image: Option<TryImage>,

    /// What happens when a deployment has certainly failed. In every case the application keeps
    /// serving: with the strategy `canary` nothing else is updated before the canary is healthy, and with
    /// `bluegreen` the old machines serve until all new ones are healthy.
    #[serde(default)]
    pub on_failure: OnFailure,
}

fn is_zero(number: &u8) -> bool {
    *number == 0
}

fn deadline() -> Duration {
    Duration::from_mins(10)
}

/// The port of an application without a fly.toml.
/// Source: `fly launch` writes `internal_port = 8080` when it finds no other.
pub const DEFAULT_PORT: u16 = 8080;

/// The source of the fly.toml: exactly one of `configMapRef`, `inline`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.configMapRef) != has(self.inline)").message("exactly one of `configMapRef` and `inline` is required"))]
pub struct FlyConfig {
    /// A key of a ConfigMap in the same namespace. It is watched: a change is deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<ConfigMapKeyRef>,

    /// The text of the fly.toml.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65536))]
    pub inline: Option<String>,
}

/// A trial of each release in one machine that gets no requests.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TryImage {
    /// How long the program must keep running, with all its checks passing at the end. Between 1s
    /// and 10m. Default: 10s.
    #[serde(default = "steady_for")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('10m')").message("`steadyFor` must be between 1s and 10m"))]
    pub steady_for: Duration,
}

fn steady_for() -> Duration {
    Duration::from_secs(10)
}

/// Which volumes may be created beside others that hold data.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumePolicy {
    /// Names of volumes (`source` of `[[mounts]]`) that may be created empty although the app has a
    /// volume that nothing would use any more: after a process group, a mount or the region was
    /// renamed. Without it such a release is refused before any machine is changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 30)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[x_kube(validation = Rule::new("self.all(n, n.matches('^[A-Za-z0-9_]+$'))").message("`allowNew` must have names of volumes: letters, digits and `_`"))]
    pub allow_new: Vec<String>,
}

impl VolumePolicy {
    /// Whether nothing is declared.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What is known about the migrations that the release command runs.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Migrations {
    /// Whether the previous release can run on the migrated database. When false, Golive does not
    /// roll back over a release command that has run: it stops and reports it. Default: false.
    #[serde(default)]
    pub reversible: bool,
}

api_enum! {
    /// What happens when a deployment has certainly failed. Never when its result is only unknown.
    pub enum OnFailure, strict, default RollBack {
        /// The last good release is restored: image and configuration, while secrets keep their values.
        RollBack = "RollBack",
        /// Everything stays as it is, and a person decides.
        Pause = "Pause",
        /// The rollout continues with the remaining machines, and is retried. With `canary` and
        /// `bluegreen` it continues only once the new machines are healthy.
        Leave = "Leave",
    }
}
