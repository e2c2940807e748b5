//! Contents of the Lease and the decisions about it. Pure: no I/O, and the time is an argument.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::ObjectMeta;

use crate::clock::Now;

/// How long a lease is valid without a renewal. Default 15 s, as in client-go.
pub const LEASE_DURATION: Duration = Duration::from_secs(15);

/// How long the leader tries to renew before it gives up. Default 10 s, as in client-go.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);

/// Interval of reading or renewing the lease. Default 2 s, as in client-go.
pub const RETRY_PERIOD: Duration = Duration::from_secs(2);

/// Configuration of an election.
#[derive(Clone, Debug)]
pub struct Election {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Identity of this process. Must be unique, also among restarts of one pod.
    pub identity: String,
    /// How long the lease is valid without a renewal.
    pub lease_duration: Duration,
    /// How long this process tries to renew before it gives up. Shorter than `lease_duration`.
    pub renew_deadline: Duration,
    /// Interval of attempts. Shorter than `renew_deadline`.
    pub retry_period: Duration,
    /// The wall clock, for the times in the Lease, which decide nothing.
    pub now: Now,
}

/// Largest accepted duration of a foreign lease, as a multiple of our own. A mistyped
/// `leaseDurationSeconds` must not lock every replica out for a day.
const LONGEST_FOREIGN_DURATION: u32 = 4;

/// Result of a renewal.
pub(super) enum Renewal {
    Done(Lease),
    Moved(Lease),
    Taken(String),
}

/// What a changed lease means for its leader. A lease without a holder is available, also to us.
pub(super) fn after_conflict(identity: &str, current: Lease) -> Renewal {
    let holder = Record::of(&current).holder;
    if holder.is_empty() || holder == identity {
        Renewal::Moved(current)
    } else {
        Renewal::Taken(holder)
    }
}

/// The part of a lease whose change proves that its holder is alive.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    pub(super) holder: String,
    seconds: i32,
    transitions: i32,
    renewed: Option<MicroTime>,
}

impl Record {
    pub(super) fn of(lease: &Lease) -> Record {
        let spec = lease.spec.clone().unwrap_or_default();
        Record {
            holder: spec.holder_identity.unwrap_or_default(),
            seconds: spec.lease_duration_seconds.unwrap_or_default(),
            transitions: spec.lease_transitions.unwrap_or_default(),
            renewed: spec.renew_time,
        }
    }
}

/// A record and when it was first observed, by our own monotonic clock.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    pub(super) record: Record,
    since: Instant,
}

impl Observed {
    pub(super) fn next(before: Option<Observed>, lease: &Lease, now: Instant) -> Observed {
        let record = Record::of(lease);
        match before {
            Some(before) if before.record == record => before,
            _ => Observed { record, since: now },
        }
    }
}

/// Next action of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Move {
    /// Acquire the lease.
    Take,
    /// Wait: another replica leads.
    Wait,
}

/// Decides whether the lease is available.
pub(super) fn decide(election: &Election, observed: Option<&Observed>, now: Instant) -> Move {
    let Some(observed) = observed else {
        return Move::Take;
    };
    // Ours already: the response to the claim was lost.
    if observed.record.holder.is_empty() || observed.record.holder == election.identity {
        return Move::Take;
    }
    // The holder's own duration applies, if it is longer than ours.
    let claimed = Duration::from_secs(u64::try_from(observed.record.seconds).unwrap_or(0));
    let holds = claimed.clamp(
        election.lease_duration,
        election.lease_duration * LONGEST_FOREIGN_DURATION,
    );
    if now.saturating_duration_since(observed.since) >= holds {
        Move::Take
    } else {
        Move::Wait
    }
}

/// The lease to write: held by us, renewed now, with the version the decision is based on.
pub(super) fn claim(election: &Election, current: Option<&Lease>, now: jiff::Timestamp) -> Lease {
    let old = current
        .and_then(|lease| lease.spec.clone())
        .unwrap_or_default();
    let ours = old.holder_identity.as_deref() == Some(election.identity.as_str());
    let transitions = old.lease_transitions.unwrap_or(0);
    let mut metadata = current
        .map(|lease| lease.metadata.clone())
        .unwrap_or_default();
    metadata.name = Some(election.name.clone());
    metadata.namespace = Some(election.namespace.clone());
    metadata.managed_fields = None;
    Lease {
        metadata,
        spec: Some(LeaseSpec {
            holder_identity: Some(election.identity.clone()),
            lease_duration_seconds: Some(whole_seconds(election.lease_duration)),
            acquire_time: if ours {
                old.acquire_time
            } else {
                Some(MicroTime(now))
            },
            renew_time: Some(MicroTime(now)),
            lease_transitions: Some(if ours || current.is_none() {
                transitions
            } else {
                transitions.saturating_add(1)
            }),
            preferred_holder: old.preferred_holder,
            strategy: old.strategy,
        }),
    }
}

/// The released lease: without a holder, as client-go writes it.
pub(super) fn freed(lease: Lease, now: jiff::Timestamp) -> Lease {
    let spec = lease.spec.unwrap_or_default();
    Lease {
        metadata: ObjectMeta {
            managed_fields: None,
            ..lease.metadata
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            renew_time: Some(MicroTime(now)),
            ..spec
        }),
    }
}

fn whole_seconds(duration: Duration) -> i32 {
    // The API requires a positive integer.
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX).max(1)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn election() -> Election {
        Election {
            namespace: "golive-system".into(),
            name: "golive".into(),
            identity: "pod-a_1".into(),
            lease_duration: LEASE_DURATION,
            renew_deadline: RENEW_DEADLINE,
            retry_period: RETRY_PERIOD,
            now: || "2026-11-24T12:00:00Z".parse().unwrap(),
        }
    }

    fn held_by(holder: &str, renewed: &str) -> Lease {
        let mut lease = claim(&election(), None, renewed.parse().unwrap());
        let spec = lease.spec.as_mut().unwrap();
        spec.holder_identity = Some(holder.into());
        lease.metadata.resource_version = Some("7".into());
        lease
    }

    #[test]
    fn a_lease_is_taken_only_after_it_stood_still_for_its_whole_duration() {
        let t0 = Instant::now();
        let lease = held_by("pod-b_1", "2026-11-24T12:00:00Z");
        let observed = Observed::next(None, &lease, t0);
        let just_before = t0 + LEASE_DURATION - Duration::from_millis(1);
        assert_eq!(
            decide(&election(), Some(&observed), just_before),
            Move::Wait
        );
        let after = t0 + LEASE_DURATION;
        assert_eq!(decide(&election(), Some(&observed), after), Move::Take);
    }

    #[test]
    fn a_renewal_starts_the_wait_again_and_an_unchanged_lease_does_not() {
        let t0 = Instant::now();
        let t1 = t0 + Duration::from_secs(14);
        let observed = Observed::next(None, &held_by("pod-b_1", "2026-11-24T12:00:00Z"), t0);
        let same = Observed::next(
            Some(observed.clone()),
            &held_by("pod-b_1", "2026-11-24T12:00:00Z"),
            t1,
        );
        assert_eq!(same.since, t0);
        let renewed = Observed::next(
            Some(observed),
            &held_by("pod-b_1", "2026-11-24T12:00:02Z"),
            t1,
        );
        assert_eq!(renewed.since, t1);
    }

    #[test]
    fn the_clock_of_another_machine_decides_nothing() {
        let t0 = Instant::now();
        for renewed in ["1999-01-01T00:00:00Z", "2999-01-01T00:00:00Z"] {
            let observed = Observed::next(None, &held_by("pod-b_1", renewed), t0);
            assert_eq!(decide(&election(), Some(&observed), t0), Move::Wait);
            let later = t0 + LEASE_DURATION;
            assert_eq!(decide(&election(), Some(&observed), later), Move::Take);
        }
    }

    #[test]
    fn a_missing_freed_or_own_lease_is_taken_at_once() {
        let now = Instant::now();
        assert_eq!(decide(&election(), None, now), Move::Take);
        for holder in ["", "pod-a_1"] {
            let observed = Observed::next(None, &held_by(holder, "2026-11-24T12:00:00Z"), now);
            assert_eq!(decide(&election(), Some(&observed), now), Move::Take);
        }
    }

    #[test]
    fn a_mistyped_duration_neither_shortens_nor_locks_for_a_day() {
        let t0 = Instant::now();
        let mut lease = held_by("pod-b_1", "2026-11-24T12:00:00Z");
        lease.spec.as_mut().unwrap().lease_duration_seconds = Some(1);
        let short = Observed::next(None, &lease, t0);
        let soon = t0 + Duration::from_secs(14);
        assert_eq!(decide(&election(), Some(&short), soon), Move::Wait);
        lease.spec.as_mut().unwrap().lease_duration_seconds = Some(86_400);
        let long = Observed::next(None, &lease, t0);
        let later = t0 + LEASE_DURATION * LONGEST_FOREIGN_DURATION;
        assert_eq!(decide(&election(), Some(&long), later), Move::Take);
    }

    #[test]
    fn a_claim_keeps_the_version_it_was_decided_on_and_counts_the_change_of_holder() {
        let now = "2026-11-24T12:00:20Z".parse().unwrap();
        let taken = claim(
            &election(),
            Some(&held_by("pod-b_1", "2026-11-24T12:00:00Z")),
            now,
        );
        assert_eq!(taken.metadata.resource_version.as_deref(), Some("7"));
        let spec = taken.spec.clone().unwrap();
        assert_eq!(spec.lease_transitions, Some(1));
        assert_eq!(spec.acquire_time, Some(MicroTime(now)));
        // A renewal changes the time of renewal alone.
        let later = "2026-11-24T12:00:22Z".parse().unwrap();
        let renewed = claim(&election(), Some(&taken), later).spec.unwrap();
        assert_eq!(renewed.lease_transitions, Some(1));
        assert_eq!(renewed.acquire_time, Some(MicroTime(now)));
        assert_eq!(renewed.renew_time, Some(MicroTime(later)));
    }

    #[test]
    fn after_a_conflict_only_another_holder_ends_the_term() {
        let by = |holder| after_conflict("pod-a_1", held_by(holder, "2026-11-24T12:00:00Z"));
        assert!(matches!(by("pod-b_1"), Renewal::Taken(holder) if holder == "pod-b_1"));
        assert!(matches!(by("pod-a_1"), Renewal::Moved(_)));
        assert!(matches!(by(""), Renewal::Moved(_)));
    }
}
