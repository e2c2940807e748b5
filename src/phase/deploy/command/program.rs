//! The programs that run once in a machine of their own. Plain data.

use std::{borrow::Cow, time::Duration};

use crate::api::Reason;

/// A program that runs once in a machine of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// `[deploy] release_command`.
    Release,
    /// `[deploy] seed_command`.
    Seed,
    /// One of `machine_checks`.
    Check {
        /// Its command line.
        command: String,
        /// The machine that it tests: name and id.
        tested: String,
    },
    /// The application itself, which is tried without requests.
    Trial {
        /// How long it must keep running.
        steady: Duration,
    },
}

impl Program {
    /// Its name, for messages.
    pub fn name(&self) -> Cow<'static, str> {
        match self {
            Self::Release => "release command".into(),
            Self::Seed => "seed command".into(),
            Self::Check { command, tested } => {
                format!("machine check `{command}` of the machine {tested}").into()
            }
            Self::Trial { .. } => "trial of the image".into(),
        }
    }

    /// Its kind in a plan.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Release => "ReleaseCommand",
            Self::Seed => "SeedCommand",
            Self::Check { .. } => "MachineCheck",
            Self::Trial { .. } => "Trial",
        }
    }

    /// Its key in fly.toml.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Release => "release_command",
            Self::Seed => "seed_command",
            Self::Check { .. } => "machine_checks",
            Self::Trial { .. } => "[processes] app",
        }
    }

    /// The key in fly.toml that limits its run.
    pub fn limit(&self) -> &'static str {
        match self {
            Self::Release | Self::Seed => "release_command_timeout",
            Self::Check { .. } | Self::Trial { .. } => "wait_timeout",
        }
    }

    /// The key in fly.toml that sets its memory.
    pub fn memory(&self) -> &'static str {
        match self {
            Self::Release | Self::Seed => "[deploy.release_command_vm] memory",
            Self::Check { .. } | Self::Trial { .. } => "[[vm]] memory",
        }
    }

    /// How to mend its failure: `advice` where the exit shows the cause.
    pub fn fix<'a>(&self, advice: Option<&'a str>) -> &'a str {
        advice.unwrap_or(match self {
            Self::Release => {
                "fix the migration and deploy another image, or correct `release_command` in fly.toml"
            }
            Self::Seed => "fix the command or what it depends on",
            Self::Check { .. } => "fix the application or the check",
            Self::Trial { .. } => "fix the application and deploy another image",
        })
    }

    /// The reason while it runs.
    pub fn running_reason(&self) -> Reason {
        match self {
            Self::Release | Self::Seed => Reason::ReleaseCommandRunning,
            Self::Check { .. } => Reason::MachineCheckRunning,
            Self::Trial { .. } => Reason::ImageTrialRunning,
        }
    }

    /// Whether it tests another machine.
    pub fn is_check(&self) -> bool {
        matches!(self, Self::Check { .. })
    }
}
