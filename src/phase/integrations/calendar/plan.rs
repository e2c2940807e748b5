//! What is checked of calendars, what is asked for, and what came back. Plain data.

use std::time::Duration;

use crate::{
    exposition::{self, Pointer},
    ical::Calendar,
    net::probe::{Answer, MAX_BODY, MAX_METRICS, ProbeError},
};

/// Pause before a number that proves nothing yet is read again: an age of exactly 0, or none.
pub const PAUSE: Duration = Duration::from_millis(1_500);

/// What is checked.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Path and query of the export.
    pub export_path: String,
    /// Greatest age of the last import.
    pub max_sync_age: Duration,
    /// How the application shows the age of its last import, in minutes.
    pub age: Option<Shown>,
    /// How it shows the number of imported events.
    pub events: Option<Shown>,
    /// How it shows the number of bookings that overlap an imported event.
    pub conflicts: Option<Shown>,
    /// For how long an age may be exactly 0 at every reading until it counts as one that nothing updates.
    pub zero_for: Duration,
    /// See [`PAUSE`].
    pub pause: Duration,
}

impl Plan {
    /// A plan for an application that shows nothing but its export.
    #[must_use]
    pub fn new(export_path: String, max_sync_age: Duration) -> Self {
        Self {
            export_path,
            max_sync_age,
            age: None,
            events: None,
            conflicts: None,
            zero_for: zero_for(max_sync_age),
            pause: PAUSE,
        }
    }
}

/// An age in whole minutes is 0 for one minute after each import. The age that an owner allows is usually
/// twice the interval of imports: over one interval an age that is right is above 0 at some reading.
pub(super) fn zero_for(max_sync_age: Duration) -> Duration {
    (max_sync_age / 2).clamp(Duration::from_secs(120), Duration::from_secs(900))
}

/// Where the application shows a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// A gauge on a page of metrics.
    Metric {
        /// Path of the page.
        path: String,
        /// Name of the gauge.
        name: String,
        /// Labels that the samples must have.
        selector: Vec<(String, String)>,
    },
    /// A number in a JSON document.
    Status {
        /// Path of the document.
        path: String,
        /// Where in the document.
        pointer: Pointer,
    },
}

impl Shown {
    pub(super) fn request(&self, check: &'static str) -> Request {
        let (path, accept, limit) = match self {
            Self::Metric { path, .. } => (path, exposition::ACCEPT, MAX_METRICS),
            Self::Status { path, .. } => (path, "application/json", MAX_BODY),
        };
        Request {
            check,
            path: path.clone(),
            accept,
            limit,
        }
    }
}

/// A `GET` of the application's own host. It goes out with `Accept` and `Cache-Control: no-cache`, so that no
/// cache in between answers for the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The check that it is for.
    pub check: &'static str,
    /// Path and query.
    pub path: String,
    /// Value of `Accept`.
    pub accept: &'static str,
    /// Largest body.
    ///
    /// Unit: bytes.
    pub limit: usize,
}

/// What came back for a request.
pub type Fetched = Result<Answer, ProbeError>;

/// An export that was asked for.
pub(super) struct Exported {
    /// The answer, without its body.
    pub(super) fetched: Fetched,
    /// The length of its body.
    pub(super) bytes: usize,
    /// Whether it begins as a page of HTML or XML does.
    pub(super) is_page: bool,
    /// What was read of it; none without an answer of the application.
    pub(super) calendar: Option<Calendar>,
}
