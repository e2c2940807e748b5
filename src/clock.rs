//! Time: the one place that reads the wall clock, the clocks of servers, the durations that flags set,
//! and back-off.
//!
//! Nothing that Golive decides depends on the wall clock of its own machine, which may be wrong, may
//! jump, and may differ between replicas. Elapsed time is measured with [`std::time::Instant`], which no
//! administrator and no time server can change. Where a decision needs a date, it is that of the
//! server whose times it is compared with: a [`ServerClock`] for the Kubernetes API server (gates,
//! deadlines, approvals, rotation, the validity of certificates) and one for Fly.io (machines, checks,
//! tokens, logs). Code that decides takes `now` as an argument, so that a test sets the time.

pub mod watch;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use jiff::{SignedDuration, Timestamp};

/// A source of the present time, for texts that decide nothing: log lines, and the times in a Lease.
pub type Now = fn() -> Timestamp;

/// The wall clock of this machine.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the wall clock"
)]
pub fn wall() -> Timestamp {
    Timestamp::now()
}

/// Nanoseconds in a second.
const SECOND: i128 = 1_000_000_000;

/// Two readings of one server's clock that are this far apart, in nanoseconds, are the same clock:
/// clocks drift, and the hosts of one service differ a little.
const SAME_CLOCK: i128 = 5 * SECOND;

/// A wall clock that is this far from a server's, in nanoseconds, is worth a warning.
const SKEWED: i128 = 30 * SECOND;

/// The clock of a server, as the `Date` of its responses shows it, carried on by the monotonic clock.
///
/// RFC 9110, section 6.6.1: an origin server with a clock sends `Date`, in whole seconds. Each response
/// so bounds the server's clock, and further ones narrow the bounds. Within them the wall clock of this
/// machine decides, which is usually right; outside of them it decides nothing. One response alone
/// never moves the clock by more than a few seconds: a second one must agree.
///
/// Before the first response it is the wall clock. Clones share one clock.
#[derive(Clone)]
pub struct ServerClock(Arc<Shared>);

struct Shared {
    /// Whose clock it is, for messages: "the API server".
    server: &'static str,
    /// The instant to which all bounds refer.
    epoch: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    known: Option<Bounds>,
    /// Bounds that contradict the known ones, until the next response.
    doubtful: Option<Bounds>,
    /// The wall clock at the epoch, in nanoseconds since 1970, when the last response was received.
    wall: i128,
    warned: bool,
}

/// Where the server's clock was at the epoch, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bounds {
    from: i128,
    to: i128,
}

impl Bounds {
    /// Of a clock that showed the second `date` at some point between the two instants, which are in
    /// nanoseconds since the epoch.
    fn new(date: Timestamp, sent: i128, received: i128) -> Self {
        Self {
            from: date.as_nanosecond() - received,
            to: date.as_nanosecond() + SECOND - sent,
        }
    }

    /// What both allow; `None` when they contradict each other.
    fn and(self, other: Self) -> Option<Self> {
        let both = Self {
            from: self.from.max(other.from),
            to: self.to.min(other.to),
        };
        (both.from <= both.to).then_some(both)
    }

    /// Whether both are about one clock, give or take a drift.
    fn is_near(self, other: Self) -> bool {
        self.from - other.to <= SAME_CLOCK && other.from - self.to <= SAME_CLOCK
    }

    /// The best value: the wall clock's, if it is possible.
    fn best(self, wall: i128) -> i128 {
        if (self.from..=self.to).contains(&wall) {
            wall
        } else {
            i128::midpoint(self.from, self.to)
        }
    }
}

impl State {
    fn note(&mut self, new: Bounds) {
        let known = match (self.known, self.doubtful.take()) {
            (None, _) => new,
            (Some(known), doubtful) => match known.and(new) {
                Some(both) => both,
                None if known.is_near(new) || doubtful.is_some_and(|old| old.is_near(new)) => new,
                None => {
                    self.doubtful = Some(new);
                    known
                }
            },
        };
        self.known = Some(known);
    }
}

impl ServerClock {
    /// The clock of a server that has not responded yet; `server` is its name for messages.
    pub fn new(server: &'static str) -> Self {
        Self(Arc::new(Shared {
            server,
            epoch: Instant::now(),
            state: Mutex::default(),
        }))
    }

    /// The clock of the Kubernetes API server.
    pub fn of_kubernetes() -> Self {
        Self::new("the Kubernetes API server")
    }

    /// A clock that showed this time just now.
    pub fn at(now: Timestamp) -> Self {
        let clock = Self::new("a test");
        let since = nanos(clock.0.epoch.elapsed());
        let at = now.as_nanosecond() - since;
        clock.lock().known = Some(Bounds { from: at, to: at });
        clock
    }

    /// Notes the header `Date` of a response to a request that was sent at this instant. One that
    /// cannot be read is ignored.
    pub fn note(&self, date: Option<&str>, sent: Instant) {
        if let Some(date) = date.and_then(http_date) {
            self.note_at(date, sent, Instant::now(), wall());
        }
    }

    fn note_at(&self, date: Timestamp, sent: Instant, received: Instant, wall: Timestamp) {
        let since = |at: Instant| nanos(at.saturating_duration_since(self.0.epoch));
        let (sent, received) = (since(sent), since(received));
        let mut state = self.lock();
        state.note(Bounds::new(date, sent, received));
        state.wall = wall.as_nanosecond() - received;
        let ahead = state
            .known
            .map_or(0, |known| state.wall - known.best(state.wall));
        let is_skewed = ahead.abs() > SKEWED;
        if is_skewed && !state.warned {
            let seconds = i64::try_from(ahead / SECOND).unwrap_or(i64::MAX);
            tracing::warn!(
                server = self.0.server,
                seconds_ahead = seconds,
                "the clock of this machine differs from the server's; Golive decides by the servers' clocks, and only the times of its log lines are wrong"
            );
        }
        state.warned = is_skewed;
    }

    /// The server's time now; the wall clock's before the first response.
    pub fn now(&self) -> Timestamp {
        self.known().unwrap_or_else(wall)
    }

    /// The server's time now; `None` before the first response.
    pub fn known(&self) -> Option<Timestamp> {
        let since = nanos(self.0.epoch.elapsed());
        let state = self.lock();
        let known = state.known?;
        Timestamp::from_nanosecond(known.best(state.wall) + since).ok()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ServerClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ServerClock").field(&self.0.server).finish()
    }
}

/// The validity of certificates is judged by the server's time.
impl rustls::time_provider::TimeProvider for ServerClock {
    fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
        let since = SystemTime::from(self.now()).duration_since(SystemTime::UNIX_EPOCH);
        since
            .ok()
            .map(rustls::pki_types::UnixTime::since_unix_epoch)
    }
}

fn nanos(time: Duration) -> i128 {
    i128::try_from(time.as_nanos()).unwrap_or(i128::MAX)
}

/// A time that an earlier process recorded, or now if that is in the future: then it was written by
/// a clock that was wrong, and waiting for it may take for ever.
pub fn not_in_the_future(recorded: Timestamp, now: Timestamp) -> Timestamp {
    let latest = now.saturating_add(SignedDuration::from_secs(5));
    if latest.is_ok_and(|latest| recorded > latest) {
        return now;
    }
    recorded
}

/// A date of HTTP (RFC 9110, section 5.6.7).
pub fn http_date(text: &str) -> Option<Timestamp> {
    let parsed = jiff::fmt::rfc2822::parse(text.trim()).ok()?;
    Some(parsed.timestamp())
}

/// Durations that the operator's flags set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Pause between two rechecks of an object that matches its spec.
    pub recheck: Duration,
    /// Pause after the first failure.
    pub backoff_min: Duration,
    /// Longest pause after failures.
    pub backoff_max: Duration,
    /// Time between two lists without the object before a create of unknown outcome is sent again.
    pub settle: Duration,
    /// Deadline of one reconcile.
    pub deadline: Duration,
    /// Pause between two observations of something that Fly.io offers no long poll for.
    pub poll: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            recheck: Duration::from_secs(300),
            backoff_min: Duration::from_secs(1),
            backoff_max: Duration::from_secs(300),
            settle: Duration::from_secs(10),
            deadline: Duration::from_secs(120),
            poll: Duration::from_secs(2),
        }
    }
}

/// Pause after `attempts` failures in a row: doubles from the minimum to the maximum.
pub fn backoff_without_jitter(timing: &Timing, attempts: u32) -> Duration {
    let doublings = attempts.saturating_sub(1);
    let factor = 1u32.checked_shl(doublings).unwrap_or(u32::MAX);
    timing
        .backoff_min
        .saturating_mul(factor)
        .min(timing.backoff_max)
}

/// Pause after `attempts` failures in a row, with up to 10 % of jitter on top, so that objects that
/// failed together are not retried together.
pub fn backoff(timing: &Timing, attempts: u32) -> Duration {
    let base = backoff_without_jitter(timing, attempts);
    let jitter = u32::try_from(base.as_millis() / 10).unwrap_or(u32::MAX);
    base + Duration::from_millis(u64::from(rand::random_range(0..=jitter)))
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss
    )]

    use super::*;

    #[test]
    fn back_off_doubles_to_its_maximum_and_never_overflows() {
        let timing = Timing {
            backoff_min: Duration::from_secs(1),
            backoff_max: Duration::from_secs(300),
            ..Timing::default()
        };
        for (attempts, least) in [
            (0, 1),
            (1, 1),
            (2, 2),
            (5, 16),
            (9, 256),
            (10, 300),
            (99, 300),
        ] {
            let pause = backoff(&timing, attempts);
            assert!(pause >= Duration::from_secs(least), "{attempts}: {pause:?}");
            assert!(
                pause <= Duration::from_secs(least) * 11 / 10,
                "{attempts}: {pause:?}"
            );
        }
    }

    /// A clock, with its epoch, that the test moves in seconds.
    fn clock() -> (
        ServerClock,
        impl Fn(f64) -> Instant,
        impl Fn(f64) -> Timestamp,
    ) {
        let clock = ServerClock::new("a test");
        let epoch = clock.0.epoch;
        (
            clock,
            move |second| epoch + Duration::from_secs_f64(second),
            |second| {
                let nanos = (second * 1e9) as i128 + 1_800_000_000 * SECOND;
                Timestamp::from_nanosecond(nanos).unwrap()
            },
        )
    }

    /// What the clock would show at its epoch.
    fn at_epoch(clock: &ServerClock) -> f64 {
        let state = clock.lock();
        let best = state.known.unwrap().best(state.wall) - 1_800_000_000 * SECOND;
        best as f64 / 1e9
    }

    #[test]
    fn whatever_the_wall_clock_says_the_server_decides_within_a_second() {
        for wrong in [0.0, 400.0, -400.0, 86_400.0, -86_400.0, 3.2e7, -3.2e7] {
            let (clock, at, time) = clock();
            // The server shows 10 s when 10.2 s have passed: its clock was at 0 at our epoch.
            clock.note_at(time(10.0), at(10.1), at(10.3), time(10.3 + wrong));
            let error = at_epoch(&clock);
            assert!(error.abs() <= 1.0, "{wrong}: {error}");
            // Further responses narrow it.
            clock.note_at(time(20.0), at(20.9), at(21.0), time(21.0 + wrong));
            clock.note_at(time(31.0), at(31.0), at(31.1), time(31.1 + wrong));
            let error = at_epoch(&clock);
            assert!(error.abs() <= 0.2, "{wrong}: {error}");
        }
    }

    #[test]
    fn a_wall_clock_that_jumps_changes_nothing() {
        let (clock, at, time) = clock();
        for (second, jump) in [(1.0, 0.0), (2.0, 86_400.0), (3.0, -86_400.0), (4.0, 3.2e7)] {
            clock.note_at(
                time(second),
                at(second),
                at(second + 0.1),
                time(second + jump),
            );
            assert!(
                at_epoch(&clock).abs() <= 0.5,
                "{second}: {}",
                at_epoch(&clock)
            );
        }
    }

    #[test]
    fn a_server_is_believed_to_have_moved_when_two_responses_agree() {
        let (clock, at, time) = clock();
        clock.note_at(time(1.0), at(1.0), at(1.1), time(1.0));
        clock.note_at(time(1_000.0), at(2.0), at(2.1), time(2.0));
        assert!(at_epoch(&clock).abs() <= 1.0, "one is not enough");
        clock.note_at(time(3.0), at(3.0), at(3.1), time(3.0));
        clock.note_at(time(1_002.0), at(4.0), at(4.1), time(4.0));
        assert!(
            at_epoch(&clock).abs() <= 1.0,
            "nor are two with another between them"
        );
        clock.note_at(time(1_003.0), at(5.0), at(5.1), time(5.0));
        assert!(
            (at_epoch(&clock) - 998.0).abs() <= 1.0,
            "{}",
            at_epoch(&clock)
        );
        // A drift is followed at once.
        clock.note_at(time(1_006.0), at(6.0), at(6.1), time(6.0));
        assert!(
            (at_epoch(&clock) - 1_000.0).abs() <= 1.0,
            "{}",
            at_epoch(&clock)
        );
    }

    #[test]
    fn a_recorded_time_is_never_in_the_future() {
        let (_, _, time) = clock();
        assert_eq!(not_in_the_future(time(9.0), time(10.0)), time(9.0));
        assert_eq!(
            not_in_the_future(time(12.0), time(10.0)),
            time(12.0),
            "a drift"
        );
        assert_eq!(not_in_the_future(time(400.0), time(10.0)), time(10.0));
    }

    #[test]
    fn before_the_first_response_and_without_a_date_it_is_the_wall_clock() {
        let clock = ServerClock::new("a test");
        clock.note(None, Instant::now());
        clock.note(Some("yesterday"), Instant::now());
        assert_eq!(clock.known(), None);
        let difference = clock.now().duration_since(wall());
        assert!(difference.abs() < jiff::SignedDuration::from_secs(5));
        clock.note(Some("Sun, 06 Nov 1994 08:49:37 GMT"), Instant::now());
        let known = clock.known().unwrap().as_second();
        assert!((784_111_777..784_111_790).contains(&known), "{known}");
    }
}
