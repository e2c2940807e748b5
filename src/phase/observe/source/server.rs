//! The Prometheus that is asked: the one that the spec names, or Fly.io's own.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{fault::Cause, whom::Whom};
use crate::{
    api::{
        metrics_source::{CertificateSource, MetricsSource, Prometheus},
        reference::SecretKeyRef,
    },
    clock::ServerClock,
    fly,
    net::{
        probe::{Probe, ProbeError},
        prometheus::{Access, Credentials, Server},
        tls,
    },
    plan::refs::Refs,
    promql::{self, Answer, Request},
};

/// Longest time of one query.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// Who is asked.
#[derive(Clone, Debug)]
pub enum Asked {
    /// The server that the spec names.
    Own(Box<Server>, Probe),
    /// Fly.io, about this organization.
    Fly(fly::Client, String),
}

impl Asked {
    /// The Prometheus of a source; none when pages are read.
    ///
    /// # Errors
    /// When it may not be asked, or what is needed for it is missing.
    pub fn of(whom: &Whom, source: &MetricsSource) -> Result<Option<Self>, Cause> {
        if source.fly_prometheus.is_some() {
            let organization = whom.organization.clone();
            return Ok(Some(Self::Fly(whom.fly.clone(), organization)));
        }
        let Some(prometheus) = &source.prometheus else {
            return Ok(None);
        };
        let access = whom.allowed.access(&prometheus.url, &whom.namespace);
        let server = server(prometheus, access, &whom.refs, &whom.clock)?;
        Ok(Some(Self::Own(Box::new(server), whom.probe.clone())))
    }

    /// Asks, until this instant at the latest.
    ///
    /// # Errors
    /// When there is no answer, or it says nothing.
    pub async fn ask(&self, request: &Request, until: std::time::Instant) -> Result<Answer, Cause> {
        let left = until.saturating_duration_since(std::time::Instant::now());
        let timeout = TIMEOUT.min(left);
        if timeout.is_zero() {
            return Err(ProbeError::TimedOut(TIMEOUT).into());
        }
        match self {
            Self::Own(server, probe) => {
                let question = (request.path, request.fields.as_slice());
                let answer = server.ask(probe, question, timeout).await?;
                match answer.status {
                    // Errors of a query have a body of the same form.
                    200 | 400 | 422 => Ok(promql::read(&answer.body)?),
                    status => Err(Cause::PrometheusStatus(status)),
                }
            }
            Self::Fly(fly, organization) => {
                let asked = fly.prometheus(organization, &request.fields);
                let asked = tokio::time::timeout(timeout, asked).await;
                let answered = asked.map_err(|_| ProbeError::TimedOut(timeout))?;
                let body = answered.map_err(|error| Cause::Fly(error.to_string()))?;
                Ok(promql::read(&body)?)
            }
        }
    }

    /// The time of the server's clock, in milliseconds since 1970.
    ///
    /// # Errors
    /// As [`Asked::ask`].
    pub async fn now(&self, until: std::time::Instant) -> Result<i64, Cause> {
        let request = Request {
            path: "/api/v1/query",
            fields: vec![("query", "time()".to_owned())],
        };
        let answer = self.ask(&request, until).await?;
        let seconds = promql::tally::number(&answer)?;
        let seconds = seconds.filter(|seconds| seconds.is_finite() && *seconds > 0.0);
        let seconds = seconds.ok_or(promql::tally::Unusable::Form)?;
        let millis = (seconds * 1000.0) as i64;
        let is_time = Timestamp::from_millisecond(millis).is_ok();
        match is_time {
            true => Ok(millis),
            false => Err(promql::tally::Unusable::Form.into()),
        }
    }
}

/// The server that the spec names, with what it names.
fn server(
    prometheus: &Prometheus,
    access: Access,
    refs: &Refs,
    clock: &ServerClock,
) -> Result<Server, Cause> {
    if access == Access::Refused {
        return Err(Cause::NotAllowed(prometheus.url.clone()));
    }
    let secret = |reference: &SecretKeyRef| {
        let found = refs.secret(&reference.name, &reference.key);
        let found = found.map_err(|missing| Cause::Credentials(missing.to_string()));
        found.cloned()
    };
    let credentials = match (&prometheus.token_secret_ref, &prometheus.basic_auth) {
        (Some(token), _) => Credentials::Bearer(secret(token)?),
        (None, Some(basic)) => Credentials::Basic(
            secret(&basic.username_secret_ref)?,
            secret(&basic.password_secret_ref)?,
        ),
        (None, None) => Credentials::None,
    };
    let tls = prometheus
        .ca
        .as_ref()
        .map(|ca| certificates(ca, refs, clock));
    let at = (prometheus.url.as_str(), access);
    let server = Server::new(
        at,
        &credentials,
        prometheus.tenant.as_deref(),
        tls.transpose()?,
    );
    Ok(server?)
}

/// TLS that trusts these certificate authorities.
fn certificates(
    ca: &CertificateSource,
    refs: &Refs,
    clock: &ServerClock,
) -> Result<Arc<rustls::ClientConfig>, Cause> {
    use secrecy::ExposeSecret;
    let missing = |missing: crate::plan::missing::Missing| Cause::Credentials(missing.to_string());
    let (name, pem): (&str, &str) = match (&ca.secret_ref, &ca.config_map_ref) {
        (Some(of), _) => {
            let pem = refs.secret(&of.name, &of.key).map_err(missing)?;
            (&of.name, pem.expose_secret())
        }
        (None, Some(of)) => (
            &of.name,
            refs.config_map(&of.name, &of.key).map_err(missing)?,
        ),
        (None, None) => ("", ""),
    };
    let tls = tls::of_pem(pem, clock);
    let tls = tls.map_err(|error| Cause::Credentials(format!("`ca` in {name}: {error}")))?;
    Ok(tls.into())
}
