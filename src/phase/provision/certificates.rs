//! Certificates for the app's own hostnames. DNS belongs to the user: a record that is missing is
//! told, and does not hold up the go-live of `<app>.fly.dev`. A hostname that is taken out of the
//! spec loses its certificate, if it once stood there; others of the app are left alone.

use std::{collections::BTreeSet, fmt};

use jiff::Timestamp;

use crate::{
    api::{Reason, status::ExternalObject},
    error::Error,
    fly::certificates::{Certificate, CertificateStatus, DnsRequirements},
    pipeline::{Cx, Note, Step, StepChange, StepId, Verdict, Why, step::Result},
    plan::Target,
};

use super::app;

/// The certificates.
pub struct Certificates;

/// Kind of a certificate in `status.external[]`.
const KIND: &str = "Certificate";

/// Hostnames whose DNS records are asked for in one look: as many calls as Fly.io takes at once.
const MOST_ASKED: usize = 3;

/// What there is, and what was asked for before.
#[derive(Debug, Default)]
pub struct Observed {
    certificates: Vec<Certificate>,
    /// Hostnames that the status tells of: they stood in the spec.
    asked_before: BTreeSet<String>,
}

/// One certificate.
#[derive(Debug, PartialEq)]
pub enum Change {
    /// Ask for it.
    Add(String),
    /// Give it up: its hostname is no longer in the spec.
    Remove(String),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add(name) => write!(f, "ask for a certificate for {name}"),
            Self::Remove(name) => write!(f, "give up the certificate for {name}"),
        }
    }
}

impl StepChange for Change {}

impl Step for Certificates {
    type Observed = Observed;
    type Change = Change;

    fn id(&self) -> StepId {
        StepId::Certificates
    }

    fn needs(&self) -> &'static [StepId] {
        &[StepId::App]
    }

    async fn observe(&self, cx: &Cx) -> Result<Observed> {
        let recorded = cx
            .recorded
            .external
            .iter()
            .filter(|object| object.kind == KIND);
        let asked_before: BTreeSet<String> = recorded.map(|object| object.name.clone()).collect();
        if cx.target.provision.hostnames.is_empty() && asked_before.is_empty() {
            return Ok(Observed::default());
        }
        let certificates = cx.fly.certificates(&cx.target.app).await;
        let mut certificates = certificates
            .map_err(|source| Error::fly("list the certificates of the app", source))?;
        let hostnames = &cx.target.provision.hostnames;
        let known = cx.facts.dns.get().unwrap_or_default();
        let mut asked = 0;
        for found in &mut certificates {
            if !hostnames.contains(&found.hostname) || !is_missing(found) {
                continue;
            }
            if let Some(needs) = known.get(&found.hostname) {
                found.dns_requirements = Some(needs.clone());
            } else if asked < MOST_ASKED {
                asked += 1;
                found.dns_requirements = Some(needs(cx, &found.hostname).await?);
            }
        }
        Ok(Observed {
            certificates,
            asked_before,
        })
    }

    fn diff(&self, target: &Target, observed: &Observed, _now: Timestamp) -> Verdict<Change> {
        let hostnames = &target.provision.hostnames;
        let there = |name: &String| {
            let mut all = observed.certificates.iter();
            all.any(|found| found.hostname == *name)
        };
        if let Some(name) = hostnames.iter().find(|name| !there(name)) {
            return Verdict::Change(Change::Add(name.clone()));
        }
        let mut given_up = observed.asked_before.iter();
        if let Some(name) = given_up.find(|name| !hostnames.contains(name) && there(name)) {
            return Verdict::Change(Change::Remove(name.clone()));
        }
        if hostnames.is_empty() {
            return Verdict::Skipped(Why::new(Reason::NotRequested, "no `hostnames`"));
        }
        Verdict::Done
    }

    fn notes(&self, target: &Target, observed: &Observed) -> Vec<Note> {
        let ours = |name: &String| {
            target.provision.hostnames.contains(name) || observed.asked_before.contains(name)
        };
        let mut found: Vec<&Certificate> = observed.certificates.iter().collect();
        found.retain(|found| ours(&found.hostname));
        let mut notes: Vec<Note> = found
            .iter()
            .map(|found| {
                Note::External(ExternalObject {
                    kind: KIND.to_owned(),
                    id: standing(found),
                    name: found.hostname.clone(),
                    last_observed_time: None,
                })
            })
            .collect();
        let wanted = found
            .iter()
            .filter(|found| target.provision.hostnames.contains(&found.hostname));
        let open: Vec<String> = wanted.filter_map(|found| missing(found)).collect();
        if !open.is_empty() {
            notes.push(Note::Remark(Why::new(
                Reason::CertificatePending,
                open.join("; "),
            )));
        }
        notes
    }

    async fn act(&self, cx: &Cx, change: Change) -> Result<()> {
        let doing = change.to_string();
        let app = &cx.target.app;
        let done = match change {
            Change::Add(name) => {
                // What proves that the name is ours is another word each time.
                cx.facts.dns.add(|known| drop(known.remove(&name)));
                let added = cx.fly.add_certificate(app, &name).await;
                added
                    .map(drop)
                    .or_else(|error| match app::is_name_taken(&error) {
                        // Our own first try, whose reply was lost; the list shows it in a moment.
                        true => Ok(()),
                        false => Err(error),
                    })
            }
            Change::Remove(name) => cx.fly.delete_certificate(app, &name).await,
        };
        done.map_err(|source| Error::fly(doing, source))
    }
}

/// Whether a hostname has no certificate, for want of a DNS record.
fn is_missing(certificate: &Certificate) -> bool {
    certificate.status != CertificateStatus::Active
        && certificate.status != CertificateStatus::PendingValidation
        && certificate.configured != Some(true)
}

/// The DNS records that a hostname needs. The list of certificates does not tell them, and they stay
/// as they are: each is asked for once.
async fn needs(cx: &Cx, hostname: &str) -> Result<DnsRequirements> {
    let found = cx.fly.certificate(&cx.target.app, hostname).await;
    let found = found
        .map_err(|source| Error::fly(format!("read what DNS must say of {hostname}"), source))?;
    let needs = found.and_then(|found| found.dns_requirements);
    let needs = needs.unwrap_or_default();
    let (name, kept) = (hostname.to_owned(), needs.clone());
    cx.facts.dns.add(|known| drop(known.insert(name, kept)));
    Ok(needs)
}

/// What a hostname without a certificate waits for: the DNS records to set, each as it stands in a
/// zone file.
fn missing(certificate: &Certificate) -> Option<String> {
    if certificate.status == CertificateStatus::Active {
        return None;
    }
    let name = &certificate.hostname;
    let needs = certificate.dns_requirements.as_ref();
    let mut records: Vec<String> = Vec::new();
    if let Some(needs) = needs {
        let set = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        // A zone's own name can have no CNAME (RFC 1034, 3.6.2).
        let apex = name.matches('.').count() == 1 && !needs.a.is_empty();
        match set(&needs.cname).filter(|_| !apex) {
            Some(to) => records.push(format!("`{name} CNAME {to}`")),
            None => {
                let a = needs.a.iter().map(|to| format!("`{name} A {to}`"));
                let aaaa = needs.aaaa.iter().map(|to| format!("`{name} AAAA {to}`"));
                records.extend(a.chain(aaaa));
            }
        }
        // Of a wildcard nothing else proves that it is yours.
        let challenge = needs.acme_challenge.as_ref();
        if (name.starts_with("*.") || records.is_empty())
            && let Some(to) = challenge.and_then(|challenge| set(&challenge.target))
        {
            let bare = name.trim_start_matches("*.");
            let from = challenge.and_then(|challenge| set(&challenge.name));
            let from = from.unwrap_or_else(|| format!("_acme-challenge.{bare}"));
            records.push(format!("`{from} CNAME {to}`"));
        }
    }
    if !is_missing(certificate) {
        return Some(format!("the certificate for {name} is being issued"));
    }
    if records.is_empty() {
        return Some(format!(
            "{name} waits for DNS: `fly certs setup {name}` names the records"
        ));
    }
    Some(format!(
        "{name} waits for DNS: set {}",
        records.join(" and ")
    ))
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
    use crate::plan::testing::target;

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
        let next = |certificates: Vec<Certificate>| {
            let seen = Observed {
                certificates,
                asked_before: BTreeSet::new(),
            };
            Certificates.diff(&target, &seen, Timestamp::UNIX_EPOCH)
        };
        assert_eq!(
            next(vec![pending("a.example.com")]),
            Verdict::Change(Change::Add("b.example.com".to_owned()))
        );
        let all = vec![pending("a.example.com"), pending("b.example.com")];
        assert_eq!(standing(&all[0]), "waits for DNS: CNAME x.fly.dev");
        assert_eq!(next(all), Verdict::Done);
    }

    #[test]
    fn a_missing_record_is_told_as_it_is_to_be_set() {
        let target =
            target("provision: {hostnames: [example.com, '*.b.example.com', c.example.com]}");
        let seen = Observed {
            certificates: vec![
                certificate(serde_json::json!({
                    "hostname": "example.com", "status": "pending_ownership",
                    "dns_requirements": {"a": ["10.0.0.1"], "aaaa": ["fc00::1"], "cname": "x.fly.dev"},
                })),
                certificate(serde_json::json!({
                    "hostname": "*.b.example.com", "status": "pending_ownership",
                    "dns_requirements": {
                        "cname": "x.fly.dev",
                        "acme_challenge": {"target": "b.example.com.x.flydns.net"},
                    },
                })),
                certificate(serde_json::json!({"hostname": "c.example.com", "status": "active"})),
            ],
            asked_before: BTreeSet::new(),
        };
        let notes = Certificates.notes(&target, &seen);
        let told = notes.iter().find_map(Note::remark).unwrap();
        assert_eq!(told.reason, Reason::CertificatePending);
        assert_eq!(
            told.message,
            "example.com waits for DNS: set `example.com A 10.0.0.1` and `example.com AAAA fc00::1`; \
             *.b.example.com waits for DNS: set `*.b.example.com CNAME x.fly.dev` and `_acme-challenge.b.example.com CNAME b.example.com.x.flydns.net`"
        );
        assert_eq!(
            Certificates.diff(&target, &seen, Timestamp::UNIX_EPOCH),
            Verdict::Done
        );
    }

    #[test]
    fn a_hostname_that_leaves_the_spec_loses_its_certificate_and_a_strangers_is_left_alone() {
        let target = target("provision: {hostnames: [a.example.com]}");
        let active =
            |name: &str| certificate(serde_json::json!({"hostname": name, "status": "active"}));
        let mut seen = Observed {
            certificates: ["a", "old", "theirs"]
                .map(|name| active(&format!("{name}.example.com")))
                .into(),
            asked_before: ["a.example.com", "old.example.com"]
                .map(str::to_owned)
                .into(),
        };
        let next = |seen: &Observed| Certificates.diff(&target, seen, Timestamp::UNIX_EPOCH);
        assert_eq!(
            next(&seen),
            Verdict::Change(Change::Remove("old.example.com".to_owned()))
        );
        seen.certificates.remove(1);
        assert_eq!(next(&seen), Verdict::Done);
    }
}
