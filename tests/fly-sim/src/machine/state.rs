//! The states of a machine.

/// A state. Source: docs, machines/machine-states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Made, not started.
    Created,
    /// On the way up.
    Starting,
    /// Its program runs.
    Started,
    /// On the way down.
    Stopping,
    /// Down.
    Stopped,
    /// On the way to sleep.
    Suspending,
    /// Asleep.
    Suspended,
    /// Being restarted on request.
    Restarting,
    /// Getting a new version.
    Replacing,
    /// Could not boot.
    Failed,
    /// Going away.
    Destroying,
    /// Gone; still readable by id.
    Destroyed,
}

impl State {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Starting => "starting",
            Self::Started => "started",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Suspending => "suspending",
            Self::Suspended => "suspended",
            Self::Restarting => "restarting",
            Self::Replacing => "replacing",
            Self::Failed => "failed",
            Self::Destroying => "destroying",
            Self::Destroyed => "destroyed",
        }
    }

    /// Whether it stays unless something happens.
    pub fn is_settled(self) -> bool {
        matches!(
            self,
            Self::Started | Self::Stopped | Self::Suspended | Self::Failed | Self::Destroyed
        )
    }
}
