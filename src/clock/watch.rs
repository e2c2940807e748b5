//! The clock of a watch: a server's clock that may run faster from Go-Live on, with its timers.
//!
//! A watch lasts 72 hours, and a test or a demonstration does not. `--time-scale` makes the time of every
//! watch run faster, against a simulated Fly.io alone. Time before Go-Live is that of the server. So the
//! clock of an Activation needs nothing that a restart could lose: Go-Live is in the status.

use std::{num::NonZeroU32, time::Duration};

use jiff::{SignedDuration, Timestamp};

use super::ServerClock;

/// How many times faster than the server's clock the time of a watch runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale(NonZeroU32);

impl Scale {
    /// The time of the server.
    pub const REAL: Self = Self(NonZeroU32::MIN);

    /// This many times faster; none for 0.
    #[must_use]
    pub fn new(times: u32) -> Option<Self> {
        NonZeroU32::new(times).map(Self)
    }

    /// How many times faster.
    #[must_use]
    pub fn times(self) -> u32 {
        self.0.get()
    }

    /// Whether it is the time of the server.
    #[must_use]
    pub fn is_real(self) -> bool {
        self == Self::REAL
    }
}

impl Default for Scale {
    fn default() -> Self {
        Self::REAL
    }
}

/// The clock of one watch.
///
/// A wall clock ([`WatchClock::now`]), a monotonic one ([`WatchClock::lasted`]), and timers
/// ([`WatchClock::sleep`]). Whatever watches takes all its times from here, also those that other servers
/// report ([`WatchClock::of`]).
#[derive(Clone, Debug)]
pub struct WatchClock {
    server: ServerClock,
    scale: Scale,
    since: Timestamp,
}

impl WatchClock {
    /// The clock of the watch that began at this time of the server: Go-Live.
    #[must_use]
    pub fn new(server: ServerClock, scale: Scale, since: Timestamp) -> Self {
        Self {
            server,
            scale,
            since,
        }
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.of(self.server.now())
    }

    /// A time that a server's clock shows, as time of the watch.
    #[must_use]
    pub fn of(&self, real: Timestamp) -> Timestamp {
        let passed = real.duration_since(self.since);
        if !passed.is_positive() {
            return real;
        }
        let scaled = i32::try_from(self.scale.times()).ok();
        let scaled = scaled.and_then(|times| passed.checked_mul(times));
        let scaled = scaled.and_then(|passed| self.since.checked_add(passed).ok());
        scaled.unwrap_or(Timestamp::MAX)
    }

    /// The same for seconds since 1970, as metrics have them.
    #[must_use]
    pub fn of_seconds(&self, real: f64) -> f64 {
        let since = self.since.as_millisecond() as f64 / 1000.0;
        match real > since {
            true => since + (real - since) * f64::from(self.scale.times()),
            false => real,
        }
    }

    /// How much time of the watch a stretch of real time is.
    #[must_use]
    pub fn lasted(&self, real: Duration) -> Duration {
        real.saturating_mul(self.scale.times())
    }

    /// How long a stretch of time of the watch takes.
    #[must_use]
    pub fn takes(&self, of_watch: Duration) -> Duration {
        of_watch / self.scale.times()
    }

    /// Waits for this long, in time of the watch.
    pub async fn sleep(&self, of_watch: Duration) {
        tokio::time::sleep(self.takes(of_watch)).await;
    }

    /// How much time of the watch is left until this time; zero when it is over.
    #[must_use]
    pub fn until(&self, time: Timestamp) -> Duration {
        let left: SignedDuration = time.duration_since(self.now());
        Duration::try_from(left).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn clock(times: u32, since: i64) -> WatchClock {
        let server = ServerClock::at(at(100));
        WatchClock::new(server, Scale::new(times).unwrap(), at(since))
    }

    #[test]
    fn time_runs_faster_from_go_live_on_and_never_backwards() {
        let clock = clock(2160, 40);
        let times: Vec<Timestamp> = [0, 39, 40, 41, 160]
            .map(|second| clock.of(at(second)))
            .into();
        let hours = 72 * 3600;
        assert_eq!(times, [at(0), at(39), at(40), at(2200), at(40 + hours)]);
        assert!(times.is_sorted());
        let seconds = |second| 1_800_000_000.0 + f64::from(second);
        assert_eq!(clock.of_seconds(seconds(41)), seconds(2200));
        assert_eq!(clock.of_seconds(seconds(39)), seconds(39));
        // 60 s of the server since Go-Live.
        let now = clock.now().duration_since(at(40)).as_secs();
        assert!((129_600..129_600 + 2160 * 60).contains(&now), "{now}");
    }

    #[test]
    fn a_restart_changes_nothing_and_the_real_scale_is_the_server() {
        let real = clock(1, 40);
        assert_eq!(real.of(at(99)), at(99));
        assert_eq!(real.takes(Duration::from_secs(30)), Duration::from_secs(30));
        // Another process, another server clock, the same Go-Live.
        assert_eq!(clock(10, 40).of(at(50)), at(140));
        assert_eq!(clock(10, 40).of(at(50)), clock(10, 40).of(at(50)));
    }

    #[test]
    fn what_takes_a_time_of_the_watch_lasted_as_long() {
        let clock = clock(2160, 40);
        let half = Duration::from_secs(30);
        assert_eq!(clock.lasted(clock.takes(half)).as_millis(), 29_999);
        assert_eq!(clock.until(at(0)), Duration::ZERO, "it is over");
    }

    #[test]
    fn times_that_do_not_fit_are_the_last_one() {
        let clock = WatchClock::new(
            ServerClock::at(at(0)),
            Scale::new(u32::MAX).unwrap(),
            Timestamp::UNIX_EPOCH,
        );
        assert_eq!(clock.of(at(0)), Timestamp::MAX);
    }
}
