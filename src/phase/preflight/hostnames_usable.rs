//! The hostnames lead to the app. Before the app exists they can only be known to lead somewhere
//! else, or nowhere; after that, the step on certificates proves the rest.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use futures::future::join_all;

use super::check::{Check, Finding};
use crate::{
    api::{Reason, preflight::CheckName, status::Severity},
    net::probe::ProbeError,
    phase::names::public_host,
    pipeline::{Cx, step::Result},
    plan::Target,
};

/// The hostnames lead to the app.
pub struct HostnamesUsable;

/// Longest time for the resolver to answer: a warning must not hold up a Go-Live.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where a name leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leads {
    /// To these addresses.
    To(BTreeSet<IpAddr>),
    /// Nowhere.
    Nowhere,
    /// The resolver did not answer in time.
    Unknown,
}

/// Where the app's own name and the hostnames lead.
#[derive(Debug)]
pub struct Seen {
    app: Leads,
    hostnames: Vec<(String, Leads)>,
}

async fn resolve(cx: &Cx, name: &str) -> Leads {
    // Any name under a wildcard will do.
    let name = name.replace('*', "golive-check");
    match cx.probe.resolve(&name, PATIENCE).await {
        Ok(addresses) => Leads::To(addresses.into_iter().collect()),
        Err(ProbeError::NotResolved(_)) => Leads::Nowhere,
        Err(_) => Leads::Unknown,
    }
}

impl Check for HostnamesUsable {
    type Seen = Seen;
    const NAME: CheckName = CheckName::HostnamesUsable;
    const SEVERITY: Severity = Severity::Warning;

    async fn look(&self, cx: &Cx) -> Result<Seen> {
        let names = &cx.target.provision.hostnames;
        if names.is_empty() {
            return Ok(Seen {
                app: Leads::Unknown,
                hostnames: Vec::new(),
            });
        }
        let own = public_host(&cx.target.app);
        let app = resolve(cx, &own);
        let hostnames = join_all(
            names
                .iter()
                .map(|name| async { (name.clone(), resolve(cx, name).await) }),
        );
        let (app, hostnames) = futures::join!(app, hostnames);
        Ok(Seen { app, hostnames })
    }

    fn judge(&self, target: &Target, seen: &Seen) -> Finding {
        let own = public_host(&target.app);
        if seen.hostnames.is_empty() {
            return Finding::passed("no hostnames are asked for");
        }
        let reserved: Vec<&str> = seen
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
        for (name, leads) in &seen.hostnames {
            match (leads, &seen.app) {
                (Leads::Nowhere, _) => astray.push(format!("{name} does not resolve")),
                (Leads::Unknown, _) | (_, Leads::Unknown) => unknown.push(name.as_str()),
                (Leads::To(addresses), Leads::To(ours)) if !addresses.is_disjoint(ours) => {}
                (Leads::To(_), Leads::To(_)) => {
                    astray.push(format!("{name} leads to another place than {own}"));
                }
                (Leads::To(_), Leads::Nowhere) => {
                    astray.push(format!("{name} leads elsewhere: {own} has no address yet"));
                }
            }
        }
        if !astray.is_empty() {
            return Finding::failed(
                Reason::HostnameNotPointed,
                astray.join("; "),
                format!(
                    "make a CNAME record to {own} for each; certificates are issued once they are there"
                ),
            );
        }
        if !unknown.is_empty() {
            return Finding::untold(
                format!("no answer from the resolver about {}", unknown.join(", ")),
                format!("see that `dig CNAME` of each says {own}"),
            );
        }
        Finding::passed(format!("all hostnames lead to {own}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::testing::target;

    fn to(address: &str) -> Leads {
        Leads::To(address.parse().into_iter().collect())
    }

    fn judge(app: Leads, name: &str, leads: Leads) -> Finding {
        let hostnames = vec![(name.to_owned(), leads)];
        HostnamesUsable.judge(&target("", &[]), &Seen { app, hostnames })
    }

    #[test]
    fn a_hostname_leads_to_the_app_or_there_is_a_warning() {
        let ours = || to("66.241.124.1");
        for (leads, passes) in [
            (ours(), true),
            (to("93.184.216.34"), false),
            (Leads::Nowhere, false),
        ] {
            let finding = judge(ours(), "a.example", leads);
            assert_eq!(matches!(finding, Finding::Passed(_)), passes, "{finding:?}");
        }
        let reserved = judge(ours(), "a.fly.dev", ours());
        assert!(matches!(reserved, Finding::Failed { .. }), "{reserved:?}");
    }

    #[test]
    fn a_silent_resolver_is_no_verdict() {
        let finding = judge(to("66.241.124.1"), "a.example", Leads::Unknown);
        assert!(matches!(finding, Finding::Untold { .. }), "{finding:?}");
    }
}
