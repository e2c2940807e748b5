//! Errors of a reconcile, and when to retry. Stands above `api` and `fly`, whose reasons and errors
//! it joins.

use std::time::Duration;

use crate::{api::Reason, fly};

/// Pause before a pass that found no room tries again.
const CROWDED: Duration = Duration::from_secs(5);

/// Why a reconcile or a step stopped early. Messages say what was being done, in lower case,
/// without a full stop, and do not repeat their source.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A call to the Kubernetes API failed.
    #[error("cannot {doing}")]
    Kube {
        /// What was being done, such as `write the status`.
        doing: String,
        /// The error of kube.
        source: Box<kube::Error>,
    },

    /// A call to Fly.io failed.
    #[error("{} while trying to {doing}", .source.failed())]
    Fly {
        /// What was being done.
        doing: String,
        /// The classified error of the client.
        source: Box<fly::Error>,
    },

    /// Something that Golive stores in Kubernetes cannot be used.
    #[error("cannot {doing}")]
    Store {
        /// What was being done.
        doing: &'static str,
        /// The reason for conditions and events.
        reason: Reason,
        /// When to try again.
        retry: Retry,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// A fact that an earlier step observes is not known yet.
    #[error("{0} is not known yet")]
    NotKnown(&'static str),

    /// A server outside has not answered yet; the object is woken when it has.
    #[error("{0} has not answered yet")]
    Awaited(String),

    /// Something on record was not found, which one look does not prove.
    #[error(
        "{what} is on record and Fly.io does not show it: Golive checks again before it treats it as gone"
    )]
    NotSeen {
        /// What it is.
        what: String,
        /// When to look again.
        again: Duration,
    },

    /// A command may have run before this process, or before a pass that was cut off, which one look does not
    /// disprove.
    #[error(
        "{what} may have run before, and its machine may not be listed yet: Golive looks again before it runs it"
    )]
    MayHaveRun {
        /// Which command.
        what: String,
        /// When to look again.
        again: Duration,
    },

    /// Something a person must change first.
    #[error("{message}{}{action}", if action.is_empty() { "" } else { ": " })]
    Blocked {
        /// The reason for conditions and events.
        reason: Reason,
        /// The evidence.
        message: String,
        /// What the person does; empty where the message says it all.
        action: String,
    },

    /// There is no room in memory for what the object names.
    #[error(
        "other objects hold as much data of Secrets and ConfigMaps as there is memory for; it is tried again"
    )]
    Crowded,

    /// The resolver of this process does not answer, so the state of the application is unknown.
    #[error(
        "cannot look up {0}: the resolver of this process gives no answer; look at the DNS of the cluster"
    )]
    Resolver(String),

    /// The object has no namespace or uid, which the API server never does.
    #[error("the object has no {0}")]
    Malformed(&'static str),

    /// One reconcile took longer than its deadline.
    #[error("the reconcile did not finish within {0:?}")]
    Deadline(Duration),

    /// A bug: the reconcile panicked. Counted, and reported on this object alone.
    #[error("the reconcile panicked: {0}")]
    Panicked(String),
}

/// When to retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// After this time, which the server named.
    After(Duration),
    /// With backoff.
    Backoff,
    /// When the spec, a Secret, a token or the state of Fly.io changes. Observed again at the
    /// interval of an unchanged object.
    OnChange,
}

impl Error {
    /// A Fly.io error with what was being done.
    pub fn fly(doing: impl Into<String>, source: fly::Error) -> Self {
        Self::Fly {
            doing: doing.into(),
            source: Box::new(source),
        }
    }

    /// Whether Kubernetes refused a write because of a concurrent one.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Kube { source, .. }
            if matches!(&**source, kube::Error::Api(status) if status.is_conflict()))
    }

    /// A Kubernetes error with what was being done.
    pub fn kube(doing: impl Into<String>, source: kube::Error) -> Self {
        Self::Kube {
            doing: doing.into(),
            source: Box::new(source),
        }
    }

    /// Fly.io's id of the request that failed, from the header `fly-request-id`.
    pub fn fly_request_id(&self) -> Option<&str> {
        match self {
            Self::Fly { source, .. } => source.request_id(),
            _ => None,
        }
    }

    /// When to try again.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Fly { source, .. } => match source.retry() {
                fly::Retry::After(time) => Retry::After(time),
                fly::Retry::Backoff => Retry::Backoff,
                fly::Retry::OnChange => Retry::OnChange,
            },
            Self::Store { retry, .. } => *retry,
            Self::Crowded => Retry::After(CROWDED),
            Self::NotSeen { again, .. } | Self::MayHaveRun { again, .. } => Retry::After(*again),
            Self::Blocked { .. } => Retry::OnChange,
            _ => Retry::Backoff,
        }
    }

    /// The reason for conditions and events.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Fly { source, .. } if source.registry().is_some() => match source.class() {
                fly::Class::Throttled { .. } => Reason::RateLimited,
                fly::Class::Gone => Reason::ImageNotFound,
                fly::Class::Invalid | fly::Class::Auth { .. } => Reason::ImageForbidden,
                _ => Reason::RegistryUnavailable,
            },
            Self::Fly { source, .. } => match source.class() {
                fly::Class::Throttled { .. } => Reason::RateLimited,
                fly::Class::Auth { .. } => Reason::TokenInvalid,
                fly::Class::Ambiguous => Reason::OutcomeUnknown,
                fly::Class::Conflict(conflict) => match conflict {
                    fly::Conflict::Lease { .. } => Reason::MachineLeased,
                    fly::Conflict::Capacity(_) => Reason::CapacityUnavailable,
                    fly::Conflict::NameTaken { .. } => Reason::NameTaken,
                    fly::Conflict::Quota => Reason::QuotaExceeded,
                    _ => Reason::FlyRefused,
                },
                fly::Class::Invalid | fly::Class::Gone => Reason::FlyRefused,
                fly::Class::Transient => Reason::FlyUnavailable,
            },
            Self::Kube { .. } => Reason::KubernetesUnavailable,
            Self::Blocked { reason, .. } | Self::Store { reason, .. } => *reason,
            Self::NotKnown(_) => Reason::Pending,
            Self::Awaited(_) => Reason::Waiting,
            Self::Crowded => Reason::ReferencedDataCrowded,
            Self::Resolver(_) | Self::NotSeen { .. } | Self::MayHaveRun { .. } => {
                Reason::ObservationUnknown
            }
            Self::Deadline(_) => Reason::DeadlineExceeded,
            Self::Malformed(_) | Self::Panicked(_) => Reason::InternalError,
        }
    }

    /// Joins the results of several calls that make one change. If the outcome of one is unknown or
    /// one has succeeded, the error counts as ambiguous, not as refused.
    ///
    /// # Errors
    /// When one of them failed.
    pub fn of_several<T>(calls: Vec<Result<T, Self>>) -> Result<(), Self> {
        let all = calls.len();
        let mut failed: Vec<Self> = calls.into_iter().filter_map(Result::err).collect();
        let some_done = failed.len() < all;
        let unknown = failed.iter().position(|error| !error.surely_not_applied());
        if failed.is_empty() {
            return Ok(());
        }
        let mut told = failed.swap_remove(unknown.unwrap_or_default());
        if let (true, Self::Fly { source, .. }) = (some_done, &mut told) {
            source.set_ambiguous(true);
        }
        Err(told)
    }

    /// Whether the failed call certainly had no effect.
    pub fn surely_not_applied(&self) -> bool {
        match self {
            // An earlier attempt of the same call may have succeeded.
            Self::Fly { source, .. } => !source.is_ambiguous(),
            Self::NotKnown(_)
            | Self::Awaited(_)
            | Self::NotSeen { .. }
            | Self::MayHaveRun { .. }
            | Self::Blocked { .. } => true,
            _ => false,
        }
    }
}

/// Whether the next action says something without the answer of Fly.io, which the message has.
pub fn says_what_to_do(error: &Error) -> bool {
    match error {
        Error::Fly { source, .. } => {
            source.registry().is_some()
                || !matches!(
                    source.class(),
                    fly::Class::Invalid
                        | fly::Class::Gone
                        | fly::Class::Conflict(fly::Conflict::Other)
                )
        }
        _ => false,
    }
}

/// The next action of a person, if Fly.io's refusal is permanent.
pub fn next_action(error: &Error) -> Option<&'static str> {
    match error {
        Error::Fly { source, .. } if error.retry() == Retry::OnChange => Some(source.next_action()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_may_have_run_is_looked_for_again_and_is_not_said_to_be_on_record() {
        let again = Duration::from_secs(9);
        let error = Error::MayHaveRun {
            what: "the command in release".to_owned(),
            again,
        };
        assert!(matches!(error.retry(), Retry::After(after) if after == again));
        assert_eq!(error.reason(), Reason::ObservationUnknown);
        assert!(error.surely_not_applied());
        let told = error.to_string();
        assert!(told.len() <= 200 && !told.contains("on record"), "{told}");
    }
}
