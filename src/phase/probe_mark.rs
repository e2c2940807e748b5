//! The mark of Golive's own requests, by which an application leaves them out of its data and objectives.

/// The header that says whose probe it is: `<activation>/<release>/<check>`.
pub const HEADER: &str = "X-Golive-Probe";

/// The value of `User-Agent` of every probe.
pub const AGENT: &str = concat!("golive-probe/", env!("CARGO_PKG_VERSION"));
