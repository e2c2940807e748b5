//! The names of the steps.

use std::fmt;

use super::preflight::CheckName;

/// Declares the steps, in the order of the pipeline. Each check of the preflight is a step with the
/// name of the check.
macro_rules! steps {
    ($( $(#[doc = $doc:literal])+ $step:ident, )+) => {
        /// The steps of all phases, in the order of the pipeline. The name is in
        /// `status.phases[].steps[].name`, in events, logs and metrics.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum StepId {
            /// A check of the preflight.
            Check(CheckName),
            $( $(#[doc = $doc])+ $step, )+
        }

        impl StepId {
            /// The name: PascalCase, unique.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    Self::Check(check) => check.as_str(),
                    $( Self::$step => stringify!($step), )+
                }
            }

            /// The step with this name, if there is one.
            #[must_use]
            pub fn parse(name: &str) -> Option<Self> {
                $( if name == stringify!($step) { return Some(Self::$step); } )+
                CheckName::parse(name).map(Self::Check)
            }
        }

        #[cfg(test)]
        const STEPS: &[StepId] = &[$( StepId::$step, )+];
    };
}

steps! {
    /// The Fly app.
    App,
    /// The token for the app alone.
    AppToken,
    /// IP addresses of the app.
    Addresses,
    /// Certificates of the hostnames.
    Certificates,
    /// The database server.
    Postgres,
    /// User, database and `DATABASE_URL`.
    Attach,
    /// The Redis and `REDIS_URL`.
    Redis,
    /// Generated and referenced secrets of the app.
    Secrets,
    /// The image, resolved to a digest.
    Image,
    /// The app's secrets as the release needs them, if another release serves.
    SetSecrets,
    /// Machines of an app that was taken over.
    TakeOver,
    /// The decision which release should run.
    Rollback,
    /// The release as Fly.io records it.
    FlyRelease,
    /// Volumes of the machines.
    Volumes,
    /// The release command of fly.toml.
    ReleaseCommand,
    /// The seed command of fly.toml.
    SeedCommand,
    /// The trial of the image in a machine without services.
    TryImage,
    /// The machines.
    Machines,
    /// Health checks of the machines.
    Health,
    /// Every machine runs the wanted release.
    Verify,
    /// The record of the release.
    Release,
    /// Smoke checks through the public edge.
    EdgeChecks,
    /// Smoke check of the database.
    DatabaseCheck,
    /// The machines run steadily, where nothing can be proven from outside.
    SteadyMachines,
    /// The release that passed its SmokeTest is the one that serves.
    Promote,
    /// Webhooks and calendars of third parties.
    IntegrationChecks,
    /// The objectives after Go-Live.
    Objectives,
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl From<CheckName> for StepId {
    fn from(check: CheckName) -> Self {
        Self::Check(check)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_and_every_check_is_found_by_its_name() {
        let checks = CheckName::ALL.iter().map(|check| StepId::from(*check));
        for step in checks.chain(STEPS.iter().copied()) {
            assert_eq!(StepId::parse(step.as_str()), Some(step));
        }
        assert_eq!(StepId::parse("Nothing"), None);
    }
}
