//! Leader election by a Lease.
//!
//! Algorithm and defaults (15 s, 10 s, 2 s) are those of client-go, with two additions. Every write
//! carries the `resourceVersion` it was decided on, so of two candidates exactly one succeeds and
//! the other gets a 409. And clocks of different machines are never compared: a lease has expired
//! when *this* process has observed it unchanged for its whole duration by its own monotonic clock.
//! (That clock continues while a process is stopped by a signal, so a leader that resumes late
//! knows at once that its term is over.)
//!
//! A lease alone is no fence: a call to Fly.io that began in time may end after another replica has
//! taken over. [`Leader::remaining`] is the time for which leadership is certain, so that a call
//! that would not end in time is not sent. The other fences are deterministic names and Fly.io's
//! machine leases.
//!
//! Uses `causes`, `clock` and `process::kube_client` only. Start reading in `lease.rs`, which decides
//! without I/O; [`thread`] is how the operator runs an election.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::lease::{Move, Observed, Record, Renewal, after_conflict, claim, decide, freed};

mod lease;
pub mod thread;

pub use self::lease::{Election, LEASE_DURATION, RENEW_DEADLINE, RETRY_PERIOD};

/// Why a term ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// Another replica holds the lease.
    #[error("the lease is held by {holder}")]
    Taken {
        /// Its identity.
        holder: String,
    },
    /// The API server was unavailable, or refused the renewal, for too long.
    #[error("the lease could not be renewed for {} s: {last}", after.as_secs())]
    NotRenewed {
        /// Duration of the attempts.
        after: Duration,
        /// The last error.
        last: String,
    },
}

/// A replica that wants to lead.
pub struct Candidate {
    api: Api<Lease>,
    election: Election,
}

impl Candidate {
    /// Creates a candidate. Sends nothing yet.
    pub fn new(kube: Client, election: Election) -> Candidate {
        let api = Api::namespaced(kube, &election.namespace);
        Candidate { api, election }
    }

    /// Waits until this process leads. `None` after `shutdown`.
    pub async fn acquire(self, shutdown: &CancellationToken) -> Option<Term> {
        let mut observed: Option<Observed> = None;
        let mut logged = String::new();
        loop {
            let tried = shutdown
                .run_until_cancelled(self.attempt(&mut observed))
                .await?;
            match tried {
                Ok(Some((lease, sent))) => {
                    tracing::info!(lease = %self.election.name, identity = %self.election.identity, "leading");
                    return Some(Term::start(self.api, self.election, lease, sent));
                }
                Ok(None) => {
                    let holder = observed.as_ref().map(|s| s.record.holder.clone());
                    let holder = holder.unwrap_or_default();
                    if logged != holder {
                        tracing::info!(lease = %self.election.name, %holder, "standing by");
                        logged = holder;
                    }
                }
                Err(error) => {
                    tracing::warn!(lease = %self.election.name, %error, "cannot acquire the lease; retrying");
                }
            }
            let pause = jittered(self.election.retry_period);
            shutdown
                .run_until_cancelled(tokio::time::sleep(pause))
                .await?;
        }
    }

    /// Reads the lease and, if it is available, tries once to acquire it.
    async fn attempt(
        &self,
        observed: &mut Option<Observed>,
    ) -> Result<Option<(Lease, Instant)>, Failed> {
        let limit = self.election.renew_deadline / 2;
        let lease = within(limit, self.api.get_opt(&self.election.name)).await?;
        let now = Instant::now();
        *observed = lease
            .as_ref()
            .map(|lease| Observed::next(observed.take(), lease, now));
        if decide(&self.election, observed.as_ref(), now) == Move::Wait {
            return Ok(None);
        }
        let claim = claim(&self.election, lease.as_ref(), (self.election.now)());
        let sent = Instant::now();
        match within(limit, put(&self.api, &claim)).await {
            Ok(lease) => Ok(Some((lease, sent))),
            // Another candidate was faster.
            Err(Failed::Kube(error)) if is_conflict(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A term as leader: renews the lease in the background until it is lost or released.
pub struct Term {
    leader: Leader,
    stop: CancellationToken,
    renewals: JoinHandle<Option<Lost>>,
    end: Option<Lost>,
    api: Api<Lease>,
    election: Election,
}

impl Term {
    fn start(api: Api<Lease>, election: Election, lease: Lease, sent: Instant) -> Term {
        let tenure = Arc::new(Mutex::new(Tenure::Held {
            sent,
            lease: Box::new(lease),
        }));
        let leader = Leader {
            lease_duration: election.lease_duration,
            margin: election
                .lease_duration
                .saturating_sub(election.renew_deadline),
            tenure: Some(tenure.clone()),
        };
        let stop = CancellationToken::new();
        let renewals = tokio::spawn(renew(api.clone(), election.clone(), tenure, stop.clone()));
        Term {
            leader,
            stop,
            renewals,
            end: None,
            api,
            election,
        }
    }

    /// A handle to the remaining time of the term.
    pub fn leader(&self) -> Leader {
        self.leader.clone()
    }

    /// Returns when the term is over. The process must then stop at once.
    pub async fn lost(&mut self) -> Lost {
        if let Some(end) = &self.end {
            return end.clone();
        }
        let end = match (&mut self.renewals).await {
            Ok(Some(end)) => end,
            Ok(None) => Lost::NotRenewed {
                after: Duration::ZERO,
                last: "renewals were stopped".to_owned(),
            },
            Err(error) => Lost::NotRenewed {
                after: Duration::ZERO,
                last: error.to_string(),
            },
        };
        self.leader.end();
        self.end = Some(end.clone());
        end
    }

    /// Releases the lease, so that another replica need not wait for its expiry. To be called after
    /// the last write to Fly.io has ended.
    pub async fn release(mut self) {
        self.stop.cancel();
        if self.end.is_none() {
            let _ = (&mut self.renewals).await;
        }
        let Some(lease) = self.leader.end() else {
            return;
        };
        let free = freed(lease, (self.election.now)());
        let limit = self.election.renew_deadline / 2;
        let name = &self.election.name;
        let mut result = within(limit, put(&self.api, &free)).await.map(drop);
        if matches!(&result, Err(Failed::Kube(error)) if is_conflict(error)) {
            // Perhaps it was only edited, or the response to our last renewal was lost. Release it
            // if it is still ours.
            result = match within(limit, self.api.get_opt(name)).await {
                Ok(Some(lease)) if Record::of(&lease).holder == self.election.identity => {
                    let free = freed(lease, (self.election.now)());
                    within(limit, put(&self.api, &free)).await.map(drop)
                }
                Ok(_) => Ok(()),
                Err(error) => Err(error),
            };
        }
        match result {
            Ok(()) => tracing::info!(lease = %name, "released the lease"),
            Err(error) => {
                tracing::warn!(lease = %name, %error, "cannot release the lease; it expires");
            }
        }
    }
}

impl Drop for Term {
    /// A dropped term is not renewed, so the lease expires.
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Whether this process leads, and for how long that is certain. Cheap to clone.
#[derive(Clone)]
pub struct Leader {
    lease_duration: Duration,
    /// Remaining time that a change needs to begin: the time between giving up and the expiry of
    /// the lease.
    margin: Duration,
    tenure: Option<Arc<Mutex<Tenure>>>,
}

#[derive(Debug)]
enum Tenure {
    /// Held. `sent` is when the last successful renewal was sent.
    Held { sent: Instant, lease: Box<Lease> },
    /// The term is over.
    Over,
}

impl Leader {
    /// A leader without an election, for a single replica (`--leader-elect=false`).
    pub fn always() -> Leader {
        Leader {
            lease_duration: Duration::MAX,
            margin: Duration::ZERO,
            tenure: None,
        }
    }

    /// How long no other replica can hold the lease. Zero when this process does not lead.
    ///
    /// Counted from *before* the last successful renewal was sent: no other replica can have
    /// observed that renewal earlier, and each waits a whole lease duration after observing it.
    pub fn remaining(&self) -> Duration {
        self.remaining_at(Instant::now())
    }

    /// Whether a change may begin now, or why not.
    ///
    /// It may until the leader gives up, by this process's own clock: a process that was suspended
    /// is refused as soon as it resumes. The margin between giving up and expiry then remains.
    pub fn permit(&self) -> Result<(), String> {
        let remaining = self.remaining();
        if remaining > self.margin {
            return Ok(());
        }
        Err(format!(
            "this replica does not lead, or only for {} ms more",
            remaining.as_millis()
        ))
    }

    fn remaining_at(&self, now: Instant) -> Duration {
        let Some(tenure) = &self.tenure else {
            return Duration::MAX;
        };
        match &*tenure.lock().unwrap_or_else(PoisonError::into_inner) {
            Tenure::Held { sent, .. } => self
                .lease_duration
                .saturating_sub(now.saturating_duration_since(*sent)),
            Tenure::Over => Duration::ZERO,
        }
    }

    fn end(&self) -> Option<Lease> {
        let tenure = self.tenure.as_ref()?;
        let mut tenure = tenure.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *tenure, Tenure::Over) {
            Tenure::Held { lease, .. } => Some(*lease),
            Tenure::Over => None,
        }
    }
}

/// Renews the lease until stopped (`None`) or lost.
async fn renew(
    api: Api<Lease>,
    election: Election,
    tenure: Arc<Mutex<Tenure>>,
    stop: CancellationToken,
) -> Option<Lost> {
    let lock = || tenure.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let pause = tokio::time::sleep(election.retry_period);
        stop.run_until_cancelled(pause).await?;
        let (sent, lease) = match &*lock() {
            Tenure::Held { sent, lease } => (*sent, Lease::clone(lease)),
            Tenure::Over => return None,
        };
        match renew_in_time(&api, &election, lease, sent, &stop).await? {
            Ok((sent, lease)) => {
                let lease = Box::new(lease);
                *lock() = Tenure::Held { sent, lease };
            }
            Err(lost) => {
                *lock() = Tenure::Over;
                return Some(lost);
            }
        }
    }
}

/// One renewal, retried until it succeeds, another replica holds the lease, or the deadline has
/// passed. `None` when stopped. A running renewal is never cancelled: its unknown outcome might
/// change the version that the release needs.
async fn renew_in_time(
    api: &Api<Lease>,
    election: &Election,
    mut lease: Lease,
    last_good: Instant,
    stop: &CancellationToken,
) -> Option<Result<(Instant, Lease), Lost>> {
    let mut last = None;
    loop {
        let left = election.renew_deadline.saturating_sub(last_good.elapsed());
        if left.is_zero() {
            let after = last_good.elapsed();
            let last = last.unwrap_or_else(|| String::from("the process was suspended"));
            return Some(Err(Lost::NotRenewed { after, last }));
        }
        let sent = Instant::now();
        let longest = election.renew_deadline / 2;
        let limit = left.min(longest);
        let pause = match renewal(api, election, &lease, limit).await {
            Ok(Renewal::Done(renewed)) => return Some(Ok((sent, renewed))),
            Ok(Renewal::Taken(holder)) => return Some(Err(Lost::Taken { holder })),
            // Edited by hand, or the response to an earlier renewal was lost: still ours.
            Ok(Renewal::Moved(current)) => {
                lease = current;
                last = Some(String::from("the lease was changed by another client"));
                election.retry_period / 20
            }
            Err(error) => {
                tracing::warn!(lease = %election.name, %error, "cannot renew the lease; retrying");
                // An attempt just before the deadline had no time for its response: the error
                // before it is more informative.
                let cut_short = matches!(error, Failed::TimedOut(limit) if limit < longest);
                if last.is_none() || !cut_short {
                    last = Some(error.to_string());
                }
                election.retry_period
            }
        };
        let left = election.renew_deadline.saturating_sub(last_good.elapsed());
        let pause = tokio::time::sleep(pause.min(left));
        stop.run_until_cancelled(pause).await?;
    }
}

/// One renewal, with the known version. After a 409 or 404 the lease is read.
async fn renewal(
    api: &Api<Lease>,
    election: &Election,
    lease: &Lease,
    limit: Duration,
) -> Result<Renewal, Failed> {
    let next = claim(election, Some(lease), (election.now)());
    match within(limit, put(api, &next)).await {
        Ok(renewed) => return Ok(Renewal::Done(renewed)),
        Err(Failed::Kube(error)) if is_conflict(&error) || is_not_found(&error) => {}
        Err(error) => return Err(error),
    }
    Ok(match within(limit, api.get_opt(&election.name)).await? {
        Some(current) => after_conflict(&election.identity, current),
        // Deleted by hand. The first to create it leads; others get a 409.
        None => Renewal::Moved(Lease::default()),
    })
}

/// Creates a lease without a version, replaces one with a version.
async fn put(api: &Api<Lease>, lease: &Lease) -> kube::Result<Lease> {
    let params = PostParams::default();
    match (&lease.metadata.resource_version, &lease.metadata.name) {
        (Some(_), Some(name)) => api.replace(name, &params, lease).await,
        _ => api.create(&params, lease).await,
    }
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Kube(#[from] kube::Error),
    #[error("no answer from the API server within {} ms", .0.as_millis())]
    TimedOut(Duration),
}

async fn within<T>(
    limit: Duration,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, Failed> {
    match tokio::time::timeout(limit, call).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Failed::TimedOut(limit)),
    }
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// Adds up to 20 % jitter, so that candidates do not all read at the same time.
fn jittered(period: Duration) -> Duration {
    period.mul_f64(1.0 + rand::random::<f64>() * 0.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_counts_from_before_the_renewal_and_ends_at_zero() {
        let sent = Instant::now();
        let leader = Leader {
            lease_duration: LEASE_DURATION,
            margin: LEASE_DURATION - RENEW_DEADLINE,
            tenure: Some(Arc::new(Mutex::new(Tenure::Held {
                sent,
                lease: Box::default(),
            }))),
        };
        let at = |seconds| leader.remaining_at(sent + Duration::from_secs(seconds));
        assert_eq!(at(0), LEASE_DURATION);
        assert_eq!(at(4), Duration::from_secs(11));
        assert_eq!(at(60), Duration::ZERO);
        leader.end();
        assert_eq!(at(0), Duration::ZERO);
        assert!(leader.permit().is_err());
        assert_eq!(Leader::always().remaining(), Duration::MAX);
        assert_eq!(Leader::always().permit(), Ok(()));
    }
}
