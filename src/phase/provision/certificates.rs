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
                Note::External(ExternalObject {
                    kind: "Certificate".to_owned(),
                    id: standing(found),
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
            .or_else(|error| match app::is_name_taken(&error) {
                // Our own first try, whose reply was lost; the list shows it in a moment.
                true => Ok(()),
                false => Err(error),
            })
            .map_err(|source| Error::fly(format!("ask for a certificate for {}", change.0), source))
    }
}

/// Whether it is issued, and if not, the DNS record that is missing. At most 128 characters.
fn standing(certificate: &Certificate) -> String {
    if certificate.status == CertificateStatus::Active {
        return "issued".to_owned();
    }
    let needs = certificate.dns_requirements.as_ref();
    let record = needs.and_then(|needs| {
        let challenge = needs.acme_challenge.as_ref();
        let challenge = challenge.and_then(|challenge| challenge.target.as_deref());
        match (needs.cname.as_deref(), needs.a.first(), challenge) {
            (Some(name), _, _) if !name.is_empty() => Some(format!("CNAME {name}")),
            (_, Some(address), _) => Some(format!("A {address}")),
            (_, _, Some(target)) => Some(format!("CNAME _acme-challenge {target}")),
            _ => None,
        }
    });
    let text = record.map_or_else(
        || "waits for DNS".to_owned(),
        |record| format!("waits for DNS: {record}"),
    );
    crate::api::status::one_line(&text, 128)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::target::testing::target;

    fn certificate(json: serde_json::Value) -> Certificate {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn each_hostname_is_asked_for_once_and_dns_holds_up_nothing() {
        let target = target("provision: {hostnames: [a.example.com, b.example.com]}");
        let pending = |name: &str| {
            certificate(serde_json::json!({
                "hostname": name, "status": "pending_ownership",
                "dns_requirements": {"cname": "x.fly.dev"},
            }))
        };
        let next =
            |seen: &Vec<Certificate>| Certificates.diff(&target, seen, Timestamp::UNIX_EPOCH);
        assert_eq!(
            next(&vec![pending("a.example.com")]),
            Verdict::Change(Add("b.example.com".to_owned()))
        );
        let all = vec![pending("a.example.com"), pending("b.example.com")];
        assert_eq!(next(&all), Verdict::Done);
        assert_eq!(standing(&all[0]), "waits for DNS: CNAME x.fly.dev");
    }
}
