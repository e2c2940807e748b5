//! Incidents that steps come across while they observe: noted here, and taken by the watch.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::{
    api::{
        StepId,
        condition::whole_seconds,
        status::{IncidentKind, IncidentStatus},
    },
    pipeline::{Cx, typed_map::TypedMap},
};

/// A certificate that expires within this time should have been renewed long before.
///
/// Source: Let's Encrypt, "Integration Guide": certificates of 90 days are renewed 30 days before their end.
const SOON: SignedDuration = SignedDuration::from_hours(14 * 24);

/// Journal: what was come across and not taken yet, by what it happened to.
#[derive(Clone, Debug, Default)]
struct Noted(BTreeMap<(IncidentKind, String), IncidentStatus>);

fn note(journal: &TypedMap, incident: IncidentStatus) {
    let key = (incident.kind, incident.subject.clone());
    journal.change_or_default::<Noted>(|noted| drop(noted.0.insert(key, incident)));
}

/// Takes what was noted.
pub fn take(cx: &Cx) -> Vec<IncidentStatus> {
    let noted = cx.journal.get::<Noted>();
    cx.journal.clear::<Noted>();
    noted.map_or_else(Vec::new, |noted| noted.0.values().cloned().collect())
}

/// A step has found that something with data is gone.
pub fn lost(cx: &Cx, step: StepId, what: &str) {
    if matches!(step, StepId::Postgres | StepId::Attach | StepId::Redis) {
        let incident = IncidentStatus {
            kind: IncidentKind::DatabaseLost,
            subject: step.to_string(),
            time: Some(whole_seconds(cx.now())),
            critical: true,
            message: format!("{what} is gone at Fly.io, with its data"),
            count: 1,
        };
        note(&cx.journal, incident);
    }
}

/// A certificate expires at this time.
pub fn certificate(cx: &Cx, hostname: &str, expires: Timestamp) {
    if let Some(incident) = of_certificate(hostname, expires, cx.fly_now()) {
        note(&cx.journal, incident);
    }
}

fn of_certificate(hostname: &str, expires: Timestamp, now: Timestamp) -> Option<IncidentStatus> {
    let left = expires.duration_since(now);
    let message = match left {
        _ if left > SOON => return None,
        _ if left.is_positive() => {
            format!("the certificate for {hostname} expires at {expires} and was not renewed")
        }
        _ => format!("the certificate for {hostname} has expired at {expires}"),
    };
    Some(IncidentStatus {
        kind: IncidentKind::CertificateExpiring,
        subject: hostname.to_owned(),
        // One certificate is one incident, however often it is seen.
        time: Some(whole_seconds(expires)),
        critical: !left.is_positive(),
        message,
        count: 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_an_incident_near_its_end_and_critical_after_it() {
        let days = |days: i64| SignedDuration::from_hours(24 * days);
        let now = Timestamp::UNIX_EPOCH;
        let of = |left: SignedDuration| of_certificate("shop.example", now + left, now);
        assert_eq!(of(days(30)), None);
        assert!(of(days(3)).is_some_and(|found| !found.critical));
        assert!(of(days(-1)).is_some_and(|found| found.critical));
    }
}
