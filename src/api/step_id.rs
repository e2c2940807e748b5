//! The names of the steps.

use super::{enumeration::api_enum, preflight::CheckName};

api_enum! {
    /// The steps of all phases, in the order of the pipeline. The name is
    /// used in `status.phases[].steps[].name`, events, logs and metrics.
    pub enum StepId, strict {
        /// Preflight: the check `TokenValid`.
        TokenValid = "TokenValid",
        /// Preflight: the check `TokenScope`.
        TokenScope = "TokenScope",
        /// Preflight: the check `TokenExpiry`.
        TokenExpiry = "TokenExpiry",
        /// Preflight: the check `OrganizationUsable`.
        OrganizationUsable = "OrganizationUsable",
        /// Preflight: the check `AppNameAvailable`.
        AppNameAvailable = "AppNameAvailable",
        /// Preflight: the check `RegionUsable`.
        RegionUsable = "RegionUsable",
        /// Preflight: the check `ImageResolvable`.
        ImageResolvable = "ImageResolvable",
        /// Preflight: the check `FlyConfigValid`.
        FlyConfigValid = "FlyConfigValid",
        /// Preflight: the check `StrategyCompatible`.
        StrategyCompatible = "StrategyCompatible",
        /// Preflight: the check `HealthCheckDeclared`.
        HealthCheckDeclared = "HealthCheckDeclared",
        /// Preflight: the check `AddressesSuffice`.
        AddressesSuffice = "AddressesSuffice",
        /// Preflight: the check `SecretsResolvable`.
        SecretsResolvable = "SecretsResolvable",
        /// Preflight: the check `SecretsStrong`.
        SecretsStrong = "SecretsStrong",
        /// Preflight: the check `DatabasePlanUsable`.
        DatabasePlanUsable = "DatabasePlanUsable",
        /// Preflight: the check `HostnamesUsable`.
        HostnamesUsable = "HostnamesUsable",
        /// Preflight: the check `GatesApprovable`.
        GatesApprovable = "GatesApprovable",
        /// The Fly app.
        App = "App",
        /// The token for the app alone.
        AppToken = "AppToken",
        /// IP addresses of the app.
        Addresses = "Addresses",
        /// Certificates of the hostnames.
        Certificates = "Certificates",
        /// The database server.
        Postgres = "Postgres",
        /// User, database and `DATABASE_URL`.
        Attach = "Attach",
        /// The Redis and `REDIS_URL`.
        Redis = "Redis",
        /// Generated and referenced secrets of the app.
        Secrets = "Secrets",
        /// The image, resolved to a digest.
        Image = "Image",
        /// The decision which release should run.
        Rollback = "Rollback",
        /// The release as Fly.io records it.
        FlyRelease = "FlyRelease",
        /// The release command of fly.toml.
        ReleaseCommand = "ReleaseCommand",
        /// The seed command of fly.toml.
        SeedCommand = "SeedCommand",
        /// Volumes of the machines.
        Volumes = "Volumes",
        /// The machines.
        Machines = "Machines",
        /// Health checks of the machines.
        Health = "Health",
        /// Every machine runs the wanted release.
        Verify = "Verify",
        /// The record of the release.
        Release = "Release",
        /// Smoke checks through the public edge.
        EdgeChecks = "EdgeChecks",
        /// Smoke check of the database.
        DatabaseCheck = "DatabaseCheck",
    }
}

impl From<CheckName> for StepId {
    fn from(check: CheckName) -> Self {
        match check {
            CheckName::TokenValid => Self::TokenValid,
            CheckName::TokenScope => Self::TokenScope,
            CheckName::TokenExpiry => Self::TokenExpiry,
            CheckName::OrganizationUsable => Self::OrganizationUsable,
            CheckName::AppNameAvailable => Self::AppNameAvailable,
            CheckName::RegionUsable => Self::RegionUsable,
            CheckName::ImageResolvable => Self::ImageResolvable,
            CheckName::FlyConfigValid => Self::FlyConfigValid,
            CheckName::StrategyCompatible => Self::StrategyCompatible,
            CheckName::HealthCheckDeclared => Self::HealthCheckDeclared,
            CheckName::AddressesSuffice => Self::AddressesSuffice,
            CheckName::SecretsResolvable => Self::SecretsResolvable,
            CheckName::SecretsStrong => Self::SecretsStrong,
            CheckName::DatabasePlanUsable => Self::DatabasePlanUsable,
            CheckName::HostnamesUsable => Self::HostnamesUsable,
            CheckName::GatesApprovable => Self::GatesApprovable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_and_its_step_have_one_name() {
        for check in CheckName::ALL {
            assert_eq!(StepId::from(*check).as_str(), check.as_str());
        }
    }
}
