//! The hostnames resolve to the app. Before the app exists, it can only be known that they resolve
//! to something else or to nothing; the step `Certificates` proves the rest.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use futures::future::join_all;

use super::check::{Check, Finding};
use crate::{
    api::{Reason, preflight::CheckName, status::Severity},
    error::Error,
    net::probe::{Probe, ProbeError},
    phase::names::public_host,
    pipeline::{Cx, step::Result},
    plan::Target,
};

/// The hostnames resolve to the app.
pub struct HostnamesUsable;

/// Time limit for the resolver: a warning must not delay the go-live.
const MAX_WAIT: Duration = Duration::from_secs(2);

/// What a name resolves to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// These addresses.
    To(BTreeSet<IpAddr>),
    /// Nothing.
    Nowhere,
    /// The resolver did not answer in time.
    Unknown,
}

/// What the app's own name and the hostnames resolve to.
#[derive(Debug)]
pub struct Resolutions {
    app: Resolved,
    hostnames: Vec<(String, Resolved)>,
}

async fn resolve(probe: &Probe, name: &str) -> Resolved {
    // A wildcard is tested with any name under it.
    let name = name.replace('*', "golive-check");
    match probe.resolve(&name, MAX_WAIT).await {
        Ok(addresses) => Resolved::To(addresses.into_iter().collect()),
        Err(ProbeError::NotResolved(_)) => Resolved::Nowhere,
        Err(_) => Resolved::Unknown,
    }
}

impl Check for HostnamesUsable {
    type Observed = Resolutions;
    const NAME: CheckName = CheckName::HostnamesUsable;
    const SEVERITY: Severity = Severity::Warning;

    async fn observe(&self, cx: &Cx) -> Result<Resolutions> {
        let names = &cx.target.provision.hostnames;
        if names.is_empty() {
            return Ok(Resolutions {
                app: Resolved::Unknown,
                hostnames: Vec::new(),
            });
        }
        let (own, probe) = (public_host(&cx.target.app), cx.probe.clone());
        let (question, names) = (names.join(" "), names.clone());
        let look = || async move {
            let app = resolve(&probe, &own);
            let hostnames = names
                .iter()
                .map(|name| async { (name.clone(), resolve(&probe, name).await) });
            let (app, hostnames) = futures::join!(app, join_all(hostnames));
            Resolutions { app, hostnames }
        };
        let found = cx.outside.ask("names", &question, look).await;
        found.ok_or_else(|| Error::Awaited("the resolver".to_owned()))
    }

    fn judge(&self, target: &Target, observed: &Resolutions) -> Finding {
        let own = public_host(&target.app);
        if observed.hostnames.is_empty() {
            return Finding::passed("no hostnames are requested");
        }
        let reserved: Vec<&str> = observed
            .hostnames
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|name| name.ends_with(".fly.dev") || name.ends_with(".internal"))
            .collect();
        if !reserved.is_empty() {
            return Finding::failed(
                Reason::HostnameNotPointed,
                format!("{} belongs to Fly.io", reserved.join(", ")),
                "name hostnames of your own in `provision.hostnames`",
            );
        }
        let (mut astray, mut unknown) = (Vec::new(), Vec::new());
        for (name, resolved) in &observed.hostnames {
            match (resolved, &observed.app) {
                (Resolved::Nowhere, _) => astray.push(format!("{name} does not resolve")),
                (Resolved::Unknown, _) | (_, Resolved::Unknown) => unknown.push(name.as_str()),
                (Resolved::To(addresses), Resolved::To(ours)) if !addresses.is_disjoint(ours) => {}
                (Resolved::To(_), Resolved::To(_)) => {
                    astray.push(format!("{name} does not resolve to the addresses of {own}"));
                }
                (Resolved::To(_), Resolved::Nowhere) => {
                    astray.push(format!(
                        "{name} resolves to something else: {own} has no address yet"
                    ));
                }
            }
        }
        if !astray.is_empty() {
            return Finding::failed(
                Reason::HostnameNotPointed,
                astray.join("; "),
                records(&own, observed),
            );
        }
        if !unknown.is_empty() {
            return Finding::unknown(
                format!("no answer from the resolver about {}", unknown.join(", ")),
                format!("check that `dig CNAME` of each returns {own}"),
            );
        }
        Finding::passed(format!("all hostnames resolve to {own}"))
    }
}

/// The DNS records to create.
fn records(own: &str, observed: &Resolutions) -> String {
    let names = observed.hostnames.iter().map(|(name, _)| name.as_str());
    let wild = names.filter_map(|name| name.strip_prefix("*."));
    let wild: Vec<String> = wild
        .map(|name| format!("`_acme-challenge.{name}`"))
        .collect();
    let mut text =
        format!("create a CNAME record to {own} for each; certificates are issued once they exist");
    if !wild.is_empty() {
        text.push_str(&format!(
            ". A wildcard also needs the CNAME record {}: the step Certificates has its target once the app exists, and so has `fly certs setup`",
            wild.join(" and ")
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::testing::target;

    fn to(address: &str) -> Resolved {
        Resolved::To(address.parse().into_iter().collect())
    }

    fn judge(app: Resolved, name: &str, resolved: Resolved) -> Finding {
        let hostnames = vec![(name.to_owned(), resolved)];
        HostnamesUsable.judge(&target("", &[]), &Resolutions { app, hostnames })
    }

    #[test]
    fn a_hostname_that_does_not_resolve_to_the_app_is_warned_about() {
        let ours = || to("66.241.124.1");
        for (resolved, passes) in [
            (ours(), true),
            (to("93.184.216.34"), false),
            (Resolved::Nowhere, false),
        ] {
            let finding = judge(ours(), "a.example", resolved);
            assert_eq!(matches!(finding, Finding::Passed(_)), passes, "{finding:?}");
        }
        let reserved = judge(ours(), "a.fly.dev", ours());
        assert!(matches!(reserved, Finding::Failed { .. }), "{reserved:?}");
    }

    #[test]
    fn a_wildcard_names_the_record_that_proves_its_domain() {
        let action = |name: &str| match judge(to("66.241.124.1"), name, Resolved::Nowhere) {
            Finding::Failed { action, .. } => action,
            other => format!("{other:?}"),
        };
        let wild = action("*.example.org");
        assert!(wild.contains("`_acme-challenge.example.org`"), "{wild}");
        assert!(!action("www.example.org").contains("_acme-challenge"));
    }

    #[test]
    fn a_resolver_that_does_not_answer_is_unknown() {
        let finding = judge(to("66.241.124.1"), "a.example", Resolved::Unknown);
        assert!(matches!(finding, Finding::Unknown { .. }), "{finding:?}");
    }
}
