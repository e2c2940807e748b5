//! Certificates for the app's own hostnames. DNS belongs to the user: a missing record is reported
//! and does not delay the go-live of `<app>.fly.dev`. A hostname that is removed from the spec
//! loses its certificate; certificates that were never in the spec are left alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use crate::{
    api::{
        Reason,
        status::{ExternalObject, one_line},
    },
    error::Error,
    fly::certificates::{Certificate, CertificateStatus, DnsRequirements},
    phase::{
        absence::{self, Doubt},
        app_lookup::is_name_taken,
        app_overview, incident,
    },
    pipeline::{
        Care, ChangeVerb, Cx, Note, PlannedChange, Step, StepChange, StepId, Verdict, Why,
        step::Result,
    },
    plan::Target,
};

/// Requests and removes certificates.
pub struct Certificates;

/// Kind of a certificate in `status.external[]`.
const KIND: &str = crate::api::status::ExternalKind::Certificate.as_str();

/// Hostnames whose required DNS records are read in one observation: Fly.io accepts so many calls
/// at once.
const MAX_DNS_READS: usize = 3;

/// Fact: the DNS records that hostnames need, and when they were read. The list of certificates
/// does not contain them.
#[derive(Clone, Debug, Default)]
struct RequiredDns(BTreeMap<String, (Instant, DnsRequirements)>);

/// Journal: when this process last requested a certificate for a hostname. Fly.io then requires
/// another record as proof of ownership.
#[derive(Clone, Debug, Default)]
struct Requested(BTreeMap<String, Instant>);

/// Journal: hostnames that Fly.io refuses because they exist already, and its answers.
#[derive(Clone, Debug, Default)]
struct Refusals(BTreeMap<String, Refusal>);

/// The last refusal of a hostname that exists already.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// Fly.io's answer.
    answer: String,
    /// The app of the same organization that has it, if one was found.
    holder: Option<String>,
    /// When it was refused last.
    at: Instant,
}

/// Apps of the organization that are asked whether they hold a hostname: Fly.io does not say which
/// one does.
const MAX_ASKED: usize = 20;

/// The certificates of the app.
#[derive(Debug, Default)]
pub struct CertificateList {
    certificates: Vec<Certificate>,
    /// Hostnames that were refused a moment ago because they exist already, although this app does
    /// not have them.
    refused: BTreeMap<String, Refusal>,
    /// Hostnames that the status has certificates of: they were in the spec.
    recorded: BTreeSet<String>,
    /// Requested hostnames on record that this look does not show, which is no proof, each with the
    /// pause until the next look.
    unseen: BTreeMap<String, Duration>,
    /// What serves is only kept: which hostnames are given up, the spec alone says.
    keeps_serving: bool,
}

/// What to do, with the hostname.
#[derive(Debug, PartialEq)]
pub enum CertificateChange {
    /// Request a certificate.
    Add(String),
    /// Remove the certificate: the hostname is no longer in the spec.
    Remove(String),
}

impl fmt::Display for CertificateChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add(name) => write!(f, "request a certificate for {name}"),
            Self::Remove(name) => write!(f, "remove the certificate for {name}"),
        }
    }
}

impl StepChange for CertificateChange {
    fn planned(&self) -> Vec<PlannedChange> {
        let (verb, name) = match self {
            Self::Add(name) => (ChangeVerb::Create, name),
            Self::Remove(name) => (ChangeVerb::Destroy, name),
        };
        vec![PlannedChange::new(verb, KIND, name)]
    }
}

impl Step for Certificates {
    type Observed = CertificateList;
    type Change = CertificateChange;

    fn id(&self) -> StepId {
        StepId::Certificates
    }

    fn needs(&self) -> &'static [StepId] {
        &[StepId::App]
    }

    fn reads(&self) -> u32 {
        0
    }

    fn reads_overview(&self) -> bool {
        true
    }

    async fn observe(&self, cx: &Cx) -> Result<CertificateList> {
        let objects = cx
            .recorded
            .external
            .iter()
            .filter(|object| object.kind == KIND);
        let recorded: BTreeSet<String> = objects.map(|object| object.name.clone()).collect();
        if cx.target.provision.hostnames.is_empty() && recorded.is_empty() {
            return Ok(CertificateList::default());
        }
        let list = async {
            let listed = cx.fly.certificates(&cx.target.app).await;
            listed.map_err(|source| Error::fly("list the certificates of the app", source))
        };
        let mut certificates = app_overview::read(cx, list).await?;
        let hostnames = &cx.target.provision.hostnames;
        let unseen = look_again(cx, &recorded, &mut certificates).await?;
        let mut reads = 0;
        for found in certificates
            .iter()
            .filter(|found| hostnames.contains(&found.hostname))
        {
            let expires = found
                .certificates
                .0
                .iter()
                .filter_map(|issued| issued.expires_at);
            if let Some(expires) = expires.max() {
                incident::certificate(cx, &found.hostname, expires);
            }
        }
        for found in &mut certificates {
            if !hostnames.contains(&found.hostname) || !is_missing(found) {
                continue;
            }
            if let Some(known) = known_dns(cx, &found.hostname) {
                found.dns_requirements = Some(known);
            } else if reads < MAX_DNS_READS {
                reads += 1;
                found.dns_requirements = Some(read_dns(cx, &found.hostname).await?);
            }
        }
        Ok(CertificateList {
            refused: refused(cx, &certificates),
            certificates,
            recorded,
            unseen,
            keeps_serving: cx.care == Care::Serving,
        })
    }

    fn diff(
        &self,
        target: &Target,
        observed: &CertificateList,
        _now: Timestamp,
    ) -> Verdict<CertificateChange> {
        let hostnames = &target.provision.hostnames;
        if let Some(change) = changes(target, observed).into_iter().next() {
            return Verdict::Change(change);
        }
        if let Some((name, refusal)) = observed.refused.first_key_value() {
            return Verdict::Blocked(held(target, name, refusal));
        }
        if hostnames.is_empty() {
            return Verdict::Skipped(Why::new(Reason::NotRequested, "no `hostnames`"));
        }
        match observed.unseen.values().min() {
            // It counts as there until the second look.
            Some(again) => Verdict::Holds(*again),
            None => Verdict::Done,
        }
    }

    fn plan(
        &self,
        target: &Target,
        observed: &CertificateList,
        _: &CertificateChange,
    ) -> Vec<PlannedChange> {
        let all = changes(target, observed);
        all.iter().flat_map(CertificateChange::planned).collect()
    }

    fn expected(&self, cx: &Cx) -> Vec<PlannedChange> {
        let all = changes(&cx.target, &CertificateList::default());
        all.iter().flat_map(CertificateChange::planned).collect()
    }

    fn notes(&self, target: &Target, observed: &CertificateList) -> Vec<Note> {
        let ours = |name: &String| {
            target.provision.hostnames.contains(name) || observed.recorded.contains(name)
        };
        let mut found: Vec<&Certificate> = observed.certificates.iter().collect();
        found.retain(|found| ours(&found.hostname));
        let names = found.iter().map(|found| &found.hostname);
        let mut notes: Vec<Note> = names
            .chain(observed.unseen.keys())
            .map(|hostname| {
                Note::External(ExternalObject {
                    kind: KIND.to_owned(),
                    // Fly.io's Machines API knows a certificate by its hostname alone.
                    id: one_line(hostname, 128),
                    name: hostname.clone(),
                    ..ExternalObject::default()
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

    async fn act(&self, cx: &Cx, change: CertificateChange) -> Result<()> {
        let doing = change.to_string();
        let app = &cx.target.app;
        let done = match change {
            CertificateChange::Add(name) => {
                cx.journal.change_or_default::<Requested>(|requested| {
                    requested.0.insert(name.clone(), Instant::now());
                });
                match cx.fly.add_certificate(app, &name).await {
                    Ok(_) => Ok(()),
                    // Either our own first request, whose reply was lost, or another app has it: the
                    // next observation shows which.
                    Err(error) if is_name_taken(&error) => {
                        let refusal = Refusal {
                            answer: error.to_string(),
                            holder: holder(cx, &name).await,
                            at: Instant::now(),
                        };
                        cx.journal.change_or_default::<Refusals>(|known| {
                            known.0.insert(name.clone(), refusal);
                        });
                        Ok(())
                    }
                    Err(error) => Err(error),
                }
            }
            CertificateChange::Remove(name) => cx.fly.delete_certificate(app, &name).await,
        };
        done.map_err(|source| Error::fly(doing, source))
    }
}

/// All that is to be requested and removed, one after the other. Pure.
fn changes(target: &Target, observed: &CertificateList) -> Vec<CertificateChange> {
    let hostnames = &target.provision.hostnames;
    let there = |name: &String| {
        let mut all = observed.certificates.iter();
        all.any(|found| found.hostname == *name)
    };
    let taken =
        |name: &String| observed.refused.contains_key(name) || observed.unseen.contains_key(name);
    // What the last spec gave up is no longer on record, and is not requested for what serves.
    let given_up = |name: &String| observed.keeps_serving && !observed.recorded.contains(name);
    let add = hostnames.iter();
    let add = add.filter(|name| !there(name) && !taken(name) && !given_up(name));
    let mut changes: Vec<CertificateChange> = add.cloned().map(CertificateChange::Add).collect();
    if !observed.keeps_serving {
        let over = observed.recorded.iter();
        let over = over.filter(|name| !hostnames.contains(name) && there(name));
        changes.extend(over.cloned().map(CertificateChange::Remove));
    }
    changes
}

/// Looks for the requested hostnames that are on record and not in the list by themselves, and adds what
/// is found. Returns those that two looks a settling window apart have not missed yet.
async fn look_again(
    cx: &Cx,
    recorded: &BTreeSet<String>,
    certificates: &mut Vec<Certificate>,
) -> Result<BTreeMap<String, Duration>> {
    let mut unseen = BTreeMap::new();
    for name in recorded.intersection(&cx.target.provision.hostnames.iter().cloned().collect()) {
        if certificates.iter().all(|found| found.hostname != *name) {
            let found = cx.fly.certificate(&cx.target.app, name).await;
            let found = found
                .map_err(|source| Error::fly(format!("read the certificate of {name}"), source))?;
            match found {
                Some(found) => certificates.push(found),
                None => {
                    let again = absence::seen(cx, Doubt::Gone, KIND, name);
                    unseen.extend(again.map(|again| (name.clone(), again)));
                    continue;
                }
            }
        }
        absence::cleared(cx, Doubt::Gone, KIND, name);
    }
    Ok(unseen)
}

/// The requested hostnames that were refused a moment ago and are not in this list.
fn refused(cx: &Cx, certificates: &[Certificate]) -> BTreeMap<String, Refusal> {
    let Some(known) = cx.journal.get::<Refusals>() else {
        return BTreeMap::new();
    };
    // After the longest pause it is requested again: the other app may have let it go.
    let pause = cx.installation.timing.backoff_max;
    let requested = |name: &String| cx.target.provision.hostnames.contains(name);
    let absent = |name: &String| certificates.iter().all(|found| found.hostname != *name);
    let all = known.0.iter();
    all.filter(|(name, refusal)| requested(name) && absent(name) && refusal.at.elapsed() < pause)
        .map(|(name, refusal)| (name.clone(), refusal.clone()))
        .collect()
}

/// The app of the organization that has this hostname, as far as the token may see it.
async fn holder(cx: &Cx, hostname: &str) -> Option<String> {
    let refusals = cx.journal.get::<Refusals>();
    let known = refusals.and_then(|refusals| refusals.0.get(hostname)?.holder.clone());
    if let Some(app) = known
        && matches!(cx.fly.certificate(&app, hostname).await, Ok(Some(_)))
    {
        return Some(app);
    }
    let apps = cx.fly.apps(&cx.target.organization).await.ok()?;
    let others = apps.into_iter().filter(|app| app.name != cx.target.app);
    for app in others.take(MAX_ASKED) {
        if let Ok(Some(_)) = cx.fly.certificate(&app.name, hostname).await {
            return Some(app.name);
        }
    }
    None
}

/// Why a hostname cannot be requested.
fn held(target: &Target, name: &str, refusal: &Refusal) -> Why {
    let (who, app) = match &refusal.holder {
        Some(app) => (format!("the Fly app {app}"), app.as_str()),
        None => ("another Fly app".to_owned(), "OTHER-APP"),
    };
    Why::new(
        Reason::HostnameTaken,
        format!("{who} holds the hostname {name} ({})", refusal.answer),
    )
    .next(format!(
        "when the site may move to {}, `fly certs remove {name} -a {app}`, and Golive requests it again by itself; else remove it from `provision.hostnames`",
        target.app
    ))
}

/// Whether a hostname has no certificate because a DNS record is missing.
fn is_missing(certificate: &Certificate) -> bool {
    certificate.status != CertificateStatus::Active
        && certificate.status != CertificateStatus::PendingValidation
        && certificate.configured != Some(true)
}

/// The DNS records that a hostname needs, if they were read since its certificate was requested.
fn known_dns(cx: &Cx, hostname: &str) -> Option<DnsRequirements> {
    let known = cx.facts.get::<RequiredDns>()?;
    let (read, needs) = known.0.get(hostname)?;
    let requested = cx.journal.get::<Requested>();
    let requested = requested.and_then(|requested| requested.0.get(hostname).copied());
    (requested.is_none_or(|at| at < *read)).then(|| needs.clone())
}

/// Reads the DNS records that a hostname needs. They stay the same, so that each hostname is read
/// once.
async fn read_dns(cx: &Cx, hostname: &str) -> Result<DnsRequirements> {
    let found = cx.fly.certificate(&cx.target.app, hostname).await;
    let found = found.map_err(|source| {
        Error::fly(
            format!("read the DNS records that {hostname} needs"),
            source,
        )
    })?;
    let needs = found.and_then(|found| found.dns_requirements);
    let needs = needs.unwrap_or_default();
    let entry = (Instant::now(), needs.clone());
    cx.facts.change_or_default::<RequiredDns>(|known| {
        known.0.insert(hostname.to_owned(), entry);
    });
    Ok(needs)
}

/// Why a hostname has no certificate yet: the DNS records to set, each as in a zone file.
fn missing(certificate: &Certificate) -> Option<String> {
    if certificate.status == CertificateStatus::Active {
        return None;
    }
    let name = &certificate.hostname;
    if !is_missing(certificate) {
        return Some(format!("the certificate for {name} is being issued"));
    }
    let records = records(certificate);
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

/// The DNS records to set.
fn records(certificate: &Certificate) -> Vec<String> {
    let name = &certificate.hostname;
    let Some(needs) = certificate.dns_requirements.as_ref() else {
        return Vec::new();
    };
    let mut records: Vec<String> = Vec::new();
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
    // Nothing else proves the ownership of a wildcard's domain.
    let challenge = needs.acme_challenge.as_ref();
    if (name.starts_with("*.") || records.is_empty())
        && let Some(to) = challenge.and_then(|challenge| set(&challenge.target))
    {
        let bare = name.trim_start_matches("*.");
        let from = challenge.and_then(|challenge| set(&challenge.name));
        let from = from.unwrap_or_else(|| format!("_acme-challenge.{bare}"));
        records.push(format!("`{from} CNAME {to}`"));
    }
    records
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
    fn each_hostname_is_requested_once_and_missing_dns_delays_nothing() {
        let target = target("provision: {hostnames: [a.example.com, b.example.com]}");
        let pending = |name: &str| {
            certificate(serde_json::json!({
                "hostname": name, "status": "pending_ownership",
                "dns_requirements": {"cname": "x.fly.dev"},
            }))
        };
        let next = |certificates: Vec<Certificate>| {
            let observed = CertificateList {
                certificates,
                ..CertificateList::default()
            };
            Certificates.diff(&target, &observed, Timestamp::UNIX_EPOCH)
        };
        assert_eq!(
            next(vec![pending("a.example.com")]),
            Verdict::Change(CertificateChange::Add("b.example.com".to_owned()))
        );
        let all = vec![pending("a.example.com"), pending("b.example.com")];
        let observed = CertificateList {
            certificates: all.clone(),
            ..CertificateList::default()
        };
        let notes = Certificates.notes(&target, &observed);
        let known = notes.iter().filter_map(|note| match note {
            Note::External(object) => Some((object.id.as_str(), object.name.as_str())),
            _ => None,
        });
        // The API has no other id of a certificate than its hostname.
        let names = ["a.example.com", "b.example.com"];
        assert_eq!(known.collect::<Vec<_>>(), names.map(|name| (name, name)));
        assert_eq!(next(all), Verdict::Done);
    }

    #[test]
    fn a_certificate_on_record_that_one_look_does_not_show_counts_as_there_until_the_second() {
        let target = target("provision: {hostnames: [a.example.com]}");
        let pause = Duration::from_secs(10);
        let mut observed = CertificateList {
            recorded: ["a.example.com".to_owned()].into(),
            unseen: [("a.example.com".to_owned(), pause)].into(),
            ..CertificateList::default()
        };
        let next = |observed: &CertificateList| {
            Certificates.diff(&target, observed, Timestamp::UNIX_EPOCH)
        };
        assert_eq!(next(&observed), Verdict::Holds(pause));
        assert!(
            !Certificates.notes(&target, &observed).is_empty(),
            "it stays on record"
        );
        observed.unseen.clear();
        let add = CertificateChange::Add("a.example.com".to_owned());
        assert_eq!(next(&observed), Verdict::Change(add));
    }

    #[test]
    fn a_hostname_of_another_app_blocks_with_its_holder_after_the_others_are_requested() {
        let target = target("provision: {hostnames: [a.example.com, b.example.com]}");
        let refusal = |holder: Option<&str>| Refusal {
            answer: "Hostname already exists on app".to_owned(),
            holder: holder.map(str::to_owned),
            at: Instant::now(),
        };
        let mut observed = CertificateList {
            refused: [("a.example.com".to_owned(), refusal(Some("old-shop")))].into(),
            ..CertificateList::default()
        };
        let next = |observed: &CertificateList| {
            Certificates.diff(&target, observed, Timestamp::UNIX_EPOCH)
        };
        assert_eq!(
            next(&observed),
            Verdict::Change(CertificateChange::Add("b.example.com".to_owned()))
        );
        observed.certificates.push(certificate(
            serde_json::json!({"hostname": "b.example.com", "status": "active"}),
        ));
        let Verdict::Blocked(why) = next(&observed) else {
            unreachable!("it cannot be had")
        };
        assert_eq!(why.reason, Reason::HostnameTaken);
        let said = why.sentence();
        for part in [
            "the Fly app old-shop holds",
            "already exists on app",
            "-a old-shop",
        ] {
            assert!(said.contains(part), "{said}");
        }
        let unknown = held(&target, "a.example.com", &refusal(None)).sentence();
        assert!(unknown.contains("another Fly app holds"), "{unknown}");
    }

    #[test]
    fn a_missing_record_is_reported_as_it_must_be_set() {
        let target =
            target("provision: {hostnames: [example.com, '*.b.example.com', c.example.com]}");
        let observed = CertificateList {
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
            ..CertificateList::default()
        };
        let notes = Certificates.notes(&target, &observed);
        let remark = notes.iter().find_map(Note::remark).unwrap();
        assert_eq!(remark.reason, Reason::CertificatePending);
        assert_eq!(
            remark.message,
            "example.com waits for DNS: set `example.com A 10.0.0.1` and `example.com AAAA fc00::1`; \
             *.b.example.com waits for DNS: set `*.b.example.com CNAME x.fly.dev` and `_acme-challenge.b.example.com CNAME b.example.com.x.flydns.net`"
        );
        assert_eq!(
            Certificates.diff(&target, &observed, Timestamp::UNIX_EPOCH),
            Verdict::Done
        );
    }

    #[test]
    fn a_hostname_removed_from_the_spec_loses_its_certificate_and_others_keep_theirs() {
        let target = target("provision: {hostnames: [a.example.com]}");
        let active =
            |name: &str| certificate(serde_json::json!({"hostname": name, "status": "active"}));
        let mut observed = CertificateList {
            certificates: ["a", "old", "theirs"]
                .map(|name| active(&format!("{name}.example.com")))
                .into(),
            recorded: ["a.example.com", "old.example.com"]
                .map(str::to_owned)
                .into(),
            ..CertificateList::default()
        };
        let next = |observed: &CertificateList| {
            Certificates.diff(&target, observed, Timestamp::UNIX_EPOCH)
        };
        assert_eq!(
            next(&observed),
            Verdict::Change(CertificateChange::Remove("old.example.com".to_owned()))
        );
        // What serves is kept while the spec asks for other hostnames, perhaps: nothing is removed.
        observed.keeps_serving = true;
        assert_eq!(next(&observed), Verdict::Done);
        // One that somebody has removed is requested again; one that the last spec gave up, and that
        // is no longer on record, is not.
        let mut removed = CertificateList {
            certificates: Vec::new(),
            recorded: observed.recorded.clone(),
            ..CertificateList::default()
        };
        removed.keeps_serving = true;
        let again = CertificateChange::Add("a.example.com".to_owned());
        assert_eq!(next(&removed), Verdict::Change(again));
        removed.recorded.clear();
        assert_eq!(next(&removed), Verdict::Done);
        observed.keeps_serving = false;
        observed.certificates.remove(1);
        assert_eq!(next(&observed), Verdict::Done);
    }
}
