//! Why a figure is missing, and what a person can do about it.

use std::fmt;

use crate::{exposition, net::probe::ProbeError, promql};

/// What could not be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// Of whom.
    pub of: Subject,
    /// Why.
    pub why: Cause,
}

/// Whose figures are missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Those of this machine.
    Machine(String),
    /// Those of the page that the edge gives.
    Edge,
    /// Those of all objectives on metrics.
    Metrics,
    /// Those of this objective, by its number.
    Objective(usize),
}

/// Why they are missing. No variant has anything that was fetched.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Cause {
    /// There was no answer.
    #[error(transparent)]
    NoAnswer(#[from] ProbeError),
    /// The answer has another status than 200.
    #[error("it answered {0}")]
    Status(u16),
    /// The answer is no page of metrics.
    #[error("what it answered is no page of metrics")]
    NoMetrics,
    /// The page cannot be read.
    #[error("its page of metrics cannot be read: {0}")]
    Unreadable(#[from] exposition::Problem),
    /// The answer came from another machine than was asked.
    #[error("another machine answered")]
    OtherMachine,
    /// No machine runs.
    #[error("no machine runs")]
    NoMachine,
    /// No machine has a service, so that nothing of them can be reached from outside.
    #[error("no machine has a service, so its metrics cannot be reached from outside")]
    NoService,
    /// Prometheus refused, or what it answered cannot be read.
    #[error(transparent)]
    Prometheus(#[from] promql::Fault),
    /// Prometheus answered, and the answer counts nothing.
    #[error(transparent)]
    Uncounted(#[from] promql::tally::Unusable),
    /// Prometheus answered with a status that says nothing about the query.
    #[error("Prometheus answered {0}")]
    PrometheusStatus(u16),
    /// This address is not one that this installation may ask.
    #[error("this installation does not allow the Prometheus at {0} in this namespace")]
    NotAllowed(String),
    /// A credential or a certificate that is named is not there, or cannot be used.
    #[error("{0}")]
    Credentials(String),
    /// Fly.io did not answer, or refused.
    #[error("Fly.io: {0}")]
    Fly(String),
    /// More lines were logged than one look reads, so the rest is not counted.
    #[error("more lines were logged than one look reads")]
    ManyLines,
    /// Fly.io's log does not reach back to the last look.
    #[error("the log does not reach back to the last look")]
    ShortLog,
}

impl Cause {
    /// What a person does about it; empty if it may pass by itself.
    #[must_use]
    pub fn action(&self) -> &'static str {
        match self {
            Self::Status(404) | Self::NoMetrics => {
                "check `spec.observe.source.metricsPath`: the application must show its metrics there, on the port of its HTTPS service"
            }
            Self::Status(401 | 403) => {
                "let requests without credentials read the metrics, or use `spec.observe.source.prometheus`"
            }
            Self::NoService => {
                "use `flyPrometheus` with `[metrics]` in fly.toml, or a Prometheus that reaches the machines"
            }
            Self::Unreadable(_) => "correct the page of metrics: `promtool check metrics` reads it",
            Self::Prometheus(promql::Fault::Refused(kind)) if !kind.may_pass() => {
                "check the name of the metric and the labels of the objective"
            }
            Self::PrometheusStatus(401 | 403) => {
                "check the credentials that `spec.observe.source.prometheus` names"
            }
            Self::PrometheusStatus(404) => {
                "check `spec.observe.source.prometheus.url`: the path is the one before `/api/v1/query`"
            }
            Self::PrometheusStatus(300..=399) => {
                "name the address that it leads to: credentials are not sent on"
            }
            Self::Uncounted(promql::tally::Unusable::NoSeries) => {
                "check that Prometheus scrapes the application at least every minute, and the labels of the objective"
            }
            Self::NotAllowed(_) => {
                "ask the administrator to allow it with `--allow-prometheus`, or use an address with https on the public Internet"
            }
            _ => "",
        }
    }

    /// A word for metrics and logs of Golive.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NoAnswer(_) => "no-answer",
            Self::Status(_) => "status",
            Self::NoMetrics => "no-metrics",
            Self::Unreadable(_) => "unreadable",
            Self::OtherMachine => "other-machine",
            Self::NoMachine => "no-machine",
            Self::NoService => "no-service",
            Self::Prometheus(_) | Self::PrometheusStatus(_) => "prometheus",
            Self::Uncounted(_) => "no-series",
            Self::NotAllowed(_) => "not-allowed",
            Self::Credentials(_) => "credentials",
            Self::Fly(_) => "fly",
            Self::ManyLines => "many-lines",
            Self::ShortLog => "short-log",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.of {
            Subject::Machine(id) => write!(f, "machine {id}: {}", self.why),
            Subject::Edge => write!(f, "the application: {}", self.why),
            Subject::Metrics | Subject::Objective(_) => write!(f, "{}", self.why),
        }
    }
}
