//! Spec of the phase Preflight.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::duration::Duration;
use super::enumeration::api_enum;

api_enum! {
    /// The checks of the preflight. All run, and all are reported in `status.preflight`.
    pub enum CheckName, strict {
        /// Fly.io accepts the token. Blocking.
        TokenValid = "TokenValid",
        /// The token may do what this activation needs. Blocking.
        TokenScope = "TokenScope",
        /// The token outlives the time that this activation is watched. Warning.
        TokenExpiry = "TokenExpiry",
        /// The organization exists, is not suspended and can pay. Blocking.
        OrganizationUsable = "OrganizationUsable",
        /// The app's name is free, or the app is ours. Blocking.
        AppNameAvailable = "AppNameAvailable",
        /// The region exists, is not deprecated and has room. Blocking.
        RegionUsable = "RegionUsable",
        /// The image exists for the machines' architecture. Blocking.
        ImageResolvable = "ImageResolvable",
        /// The fly.toml is valid. Blocking; keys without an effect are a warning.
        FlyConfigValid = "FlyConfigValid",
        /// The deployment strategy works with the volumes and checks of the fly.toml. Blocking.
        StrategyCompatible = "StrategyCompatible",
        /// No machine would begin on an empty volume beside one that nothing would use any more.
        /// Blocking.
        VolumesKept = "VolumesKept",
        /// A health check is declared, and it covers what the application depends on. Warning.
        HealthCheckDeclared = "HealthCheckDeclared",
        /// The requested addresses support the protocols of the services. Warning.
        AddressesSuffice = "AddressesSuffice",
        /// Every Secret and key that is named exists, and its value can be used. Blocking.
        SecretsResolvable = "SecretsResolvable",
        /// No secret is a placeholder, too short, meant for tests, or probably mistyped. Warning.
        SecretsStrong = "SecretsStrong",
        /// The database's plan and size are available in the region. Blocking.
        DatabasePlanUsable = "DatabasePlanUsable",
        /// The hostnames resolve to the app. Warning.
        HostnamesUsable = "HostnamesUsable",
        /// Somebody holds the right to approve the gates. Warning.
        GatesApprovable = "GatesApprovable",
    }
}

/// The checks before anything is written to Fly.io.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Preflight {
    /// Who is responsible for this phase: a person or a team. Shown in status, events and notifications.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub owner: Option<String>,

    /// Time within which the phase must succeed. Between 10s and 24h. Default: 5m.
    #[serde(default = "deadline")]
    #[x_kube(validation = super::deadline_rule())]
    pub deadline: Duration,

    /// Checks that are skipped, each with a justification that stays in the status.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["check".into()]))]
    pub skip: Vec<SkippedCheck>,
}

impl Default for Preflight {
    fn default() -> Self {
        Self {
            owner: None,
            deadline: deadline(),
            skip: Vec::new(),
        }
    }
}

fn deadline() -> Duration {
    Duration::from_mins(5)
}

/// A check that is skipped, and why.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SkippedCheck {
    /// Name of the check.
    pub check: CheckName,
    /// Why it is safe to skip the check: a sentence of at least 10 characters, for people who read
    /// the status later.
    #[schemars(length(min = 10, max = 512))]
    pub justification: String,
}
