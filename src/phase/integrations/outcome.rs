//! What a check of an integration found. Plain data: checks make it, the status shows it.

use std::time::Duration;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ended {
    /// The application does what the sender of the vendor needs.
    Passed,
    /// The application was proven to do something else.
    Failed,
    /// It was proven to do something that works and is risky. Holds nothing up.
    Warned,
    /// Nothing shows whether it does: a replay without an `effect`, for one.
    Unproven,
    /// A person must hand something in first: a Secret, for one.
    Waiting,
    /// The question could not be asked: no answer, or one from something in between. Never a failure.
    Unknown,
}

/// The outcome of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Which check, such as `W4`.
    pub id: &'static str,
    /// Its plain name, such as `message without a signature is refused`.
    pub name: &'static str,
    /// How it ended.
    pub ended: Ended,
    /// Whether a forged or unsigned request was accepted: a security failure.
    pub forgery: bool,
    /// Time until the answer.
    pub took: Option<Duration>,
    /// One line: what was sent and what came back. Never a body, a value of a Secret or a name of a guest.
    pub evidence: String,
    /// What to change in the application or at the vendor; empty if nothing.
    pub change: String,
}
