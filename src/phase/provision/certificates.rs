//! Certificates for the app's own hostnames. DNS belongs to the user: a record that is missing is
//! told, and does not hold up the go-live of `<app>.fly.dev`.

use std::fmt;

use jiff::Timestamp;

use crate::{
    api::{Reason, status::ExternalObject},
    error::Error,
    fly::certificates::{Certificate, CertificateStatus},
    phase::{Cx, Note, Step, StepId, Verdict, Why, step::Result},
    target::Target,
};

use super::app;

/// The certificates.
pub struct Certificates;

/// Name of the step.
pub const ID: StepId = "Certificates";

/// Ask for one certificate.
#[derive(Debug, PartialEq)]
pub struct Add(String);

impl fmt::Display for Add {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ask for a certificate for {}", self.0)
    }
}

impl Step for Certificates {
    type Observed = Vec<Certificate>;
    type Change = Add;

    fn id(&self) -> StepId {
        ID
    }

    fn needs(&self) -> &'static [StepId] {
        &[app::ID]
    }

    async fn observe(&self, cx: &Cx) -> Result<Vec<Certificate>> {
        if cx.target.provision.hostnames.is_empty() {
            return Ok(Vec::new());
        }
        cx.fly
            .certificates(&cx.target.app)
            .await
            .map_err(|source| Error::fly("list the certificates of the app", source))
    }

    fn diff(&self, target: &Target, observed: &Vec<Certificate>, _now: Timestamp) -> Verdict<Add> {
        let hostnames = &target.provision.hostnames;
        if hostnames.is_empty() {
            return Verdict::Skipped(Why::new(Reason::NotRequested, "no `hostnames`"));
        }
        let missing = hostnames
            .iter()
            .find(|name| !observed.iter().any(|found| found.hostname == **name));
        match missing {
            Some(name) => Verdict::Change(Add(name.clone())),
            None => Verdict::Done,
        }
    }

    fn notes(&self, target: &Target, observed: &Vec<Certificate>) -> Vec<Note> {
        observed
            .iter()
            .filter(|found| target.provision.hostnames.contains(&found.hostname))
            .map(|found| {
                let issued = found.status == CertificateStatus::Active;
                Note::External(ExternalObject {
                    kind: "Certificate".to_owned(),
                    id: if issued { "issued" } else { "waits for DNS" }.to_owned(),
                    name: found.hostname.clone(),
                    last_observed_time: None,
                })
            })
            .collect()
    }

    async fn act(&self, cx: &Cx, change: Add) -> Result<()> {
        cx.fly
            .add_certificate(&cx.target.app, &change.0)
            .await
            .map(drop)
            .map_err(|source| Error::fly(format!("ask for a certificate for {}", change.0), source))
    }
}
