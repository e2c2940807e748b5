//! The app's public addresses: one IPv4, shared or its own, and one IPv6. Without them the edge does
//! not answer.

use std::{
    collections::BTreeSet,
    fmt,
    time::{Duration, Instant},
};

use futures::future::join_all;
use jiff::Timestamp;

use crate::{
    api::{Reason, status::ExternalObject},
    error::Error,
    fly::addresses::{AddressKind, IpAssignment, NewAddress},
    pipeline::{Cx, Note, Slot, Step, StepChange, StepId, Verdict, Wake, Why, step::Result},
    plan::Target,
};

/// The addresses.
pub struct Addresses;

/// What an address is called in `status`.
const ADDRESS: &str = "Address";

/// What is on record, or was made by this process, and is not on the list: for as long as anything is
/// given to settle, a list that lags or is empty is no reason to assign another one.
fn lacking(cx: &Cx, listed: &[IpAssignment]) -> Option<(Vec<String>, Duration)> {
    let recorded = cx
        .recorded
        .external
        .iter()
        .filter(|object| object.kind == ADDRESS);
    let recorded = recorded.map(|object| object.id.clone());
    let made = cx.facts.addresses.get().unwrap_or_default();
    let known: BTreeSet<String> = recorded.chain(made.iter().cloned()).collect();
    let is_listed = |ip: &String| listed.iter().any(|address| address.ip == *ip);
    let lacking: Vec<String> = known.into_iter().filter(|ip| !is_listed(ip)).collect();
    if lacking.is_empty() {
        cx.facts.addresses_lack_since.clear();
        return None;
    }
    let since = match cx.facts.addresses_lack_since.get() {
        Some(since) => *since,
        None => {
            let now = Instant::now();
            cx.facts.addresses_lack_since.set(now);
            now
        }
    };
    let left = cx.installation.timing.settle.checked_sub(since.elapsed());
    match left.filter(|left| !left.is_zero()) {
        Some(left) => Some((lacking, left)),
        None => {
            cx.facts.addresses.clear();
            None
        }
    }
}

/// Assign these addresses.
#[derive(Debug, PartialEq)]
pub struct Assign(Vec<AddressKind>);

impl fmt::Display for Assign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<&str> = self.0.iter().map(AddressKind::as_str).collect();
        write!(f, "assign a {} address", kinds.join(" and a "))
    }
}

impl StepChange for Assign {}

/// What there is.
#[derive(Debug, Default)]
pub struct Observed {
    listed: Vec<IpAssignment>,
    /// Addresses that are on record and not on the list: they are looked for again after this time.
    lacking: Option<(Vec<String>, Duration)>,
}

impl Step for Addresses {
    type Observed = Observed;
    type Change = Assign;

    fn id(&self) -> StepId {
        StepId::Addresses
    }

    fn needs(&self) -> &'static [StepId] {
        &[StepId::App]
    }

    fn foresees(&self, cx: &Cx) -> Vec<Slot> {
        let all = self.diff(&cx.target, &Observed::default(), cx.now());
        match all {
            Verdict::Change(assign) => self.intent(&cx.target, &assign).into_iter().collect(),
            _ => Vec::new(),
        }
    }

    async fn observe(&self, cx: &Cx) -> Result<Observed> {
        let listed = cx
            .fly
            .addresses(&cx.target.app)
            .await
            .map_err(|source| Error::fly("list the addresses of the app", source))?;
        let lacking = lacking(cx, &listed);
        Ok(Observed { listed, lacking })
    }

    fn diff(&self, target: &Target, observed: &Observed, _now: Timestamp) -> Verdict<Assign> {
        let has = |kind: &AddressKind| {
            observed
                .listed
                .iter()
                .filter(|address| address.egress != Some(true))
                .any(|address| address.kind().as_ref() == Some(kind))
        };
        let wanted = &target.provision.addresses;
        // A dedicated IPv4 address serves what the shared one would.
        let mut missing = Vec::new();
        if wanted.v4 && !has(&AddressKind::V4) {
            missing.push(AddressKind::V4);
        } else if wanted.shared_v4 && !has(&AddressKind::SharedV4) && !has(&AddressKind::V4) {
            missing.push(AddressKind::SharedV4);
        }
        if wanted.v6 && !has(&AddressKind::V6) {
            missing.push(AddressKind::V6);
        }
        match &observed.lacking {
            _ if missing.is_empty() => Verdict::Done,
            Some((ips, again)) => Verdict::Wait {
                why: Why::new(
                    Reason::ObservationUnknown,
                    format!(
                        "Fly.io does not list {}, which the app had; it is looked for once more before another one is assigned",
                        ips.join(" and ")
                    ),
                ),
                wake: Wake::After(*again),
            },
            None => Verdict::Change(Assign(missing)),
        }
    }

    fn intent(&self, target: &Target, change: &Assign) -> Option<Slot> {
        // An app has one shared address however often it is asked for; of others it would get
        // a second one.
        let twice = change.0.iter().any(|kind| *kind != AddressKind::SharedV4);
        // One for all: of a change that was cut off nobody knows which of its calls were sent.
        twice.then(|| Slot {
            kind: ADDRESS.to_owned(),
            name: target.app.clone(),
        })
    }

    fn notes(&self, _target: &Target, observed: &Observed) -> Vec<Note> {
        observed
            .listed
            .iter()
            .map(|address| {
                Note::External(ExternalObject {
                    kind: ADDRESS.to_owned(),
                    id: address.ip.clone(),
                    name: address.ip.clone(),
                    last_observed_time: None,
                })
            })
            .collect()
    }

    async fn act(&self, cx: &Cx, change: Assign) -> Result<()> {
        let assign = |kind: AddressKind| async move {
            let doing = format!("assign a {} address", kind.as_str());
            let new = NewAddress::anycast(kind);
            let assigned = cx.fly.assign_address(&cx.target.app, &new).await;
            let assigned = assigned.map_err(|source| Error::fly(doing, source))?;
            cx.facts.addresses.add(|known| {
                known.insert(assigned.ip);
            });
            Ok(())
        };
        // All run to their end, also when one fails: a call that is cut off is one more unknown.
        let assigned = join_all(change.0.into_iter().map(assign)).await;
        Error::of_several(assigned)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::plan::testing::target;

    fn next(spec: &str, ips: serde_json::Value) -> Verdict<Assign> {
        let seen = Observed {
            listed: serde_json::from_value(ips).unwrap(),
            lacking: None,
        };
        Addresses.diff(&target(spec), &seen, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn what_is_missing_is_assigned() {
        let v4 = serde_json::json!([{"ip": "66.241.125.1", "shared": true}]);
        let both = serde_json::json!([
            {"ip": "66.241.125.1", "shared": true}, {"ip": "2a09:8280:1::1"},
        ]);
        assert_eq!(
            next("", serde_json::json!([])),
            Verdict::Change(Assign(vec![AddressKind::SharedV4, AddressKind::V6]))
        );
        assert_eq!(next("", v4), Verdict::Change(Assign(vec![AddressKind::V6])));
        assert_eq!(next("", both), Verdict::Done);
    }

    #[test]
    fn an_address_of_its_own_stands_in_for_the_shared_one() {
        let own = "provision: {addresses: {v4: true}}";
        let shared = serde_json::json!([
            {"ip": "66.241.125.1", "shared": true}, {"ip": "2a09:8280:1::1"},
        ]);
        let both = vec![AddressKind::V4, AddressKind::V6];
        assert_eq!(
            next(own, serde_json::json!([])),
            Verdict::Change(Assign(both))
        );
        assert_eq!(
            next(own, shared),
            Verdict::Change(Assign(vec![AddressKind::V4]))
        );
        let has = serde_json::json!([{"ip": "149.248.1.1"}, {"ip": "2a09:8280:1::1"}]);
        assert_eq!(next(own, has), Verdict::Done);
    }

    #[test]
    fn a_private_or_outgoing_address_does_not_count_and_an_own_one_does() {
        let others = serde_json::json!([
            {"ip": "149.248.1.1"},
            {"ip": "fdaa:0:1::3"},
            {"ip": "2a09:8280:e::1", "egress": true},
        ]);
        assert_eq!(
            next("", others.clone()),
            Verdict::Change(Assign(vec![AddressKind::V6]))
        );
        let none = "provision: {addresses: {sharedV4: false, v6: false}}";
        assert_eq!(next(none, others), Verdict::Done);
    }

    #[test]
    fn what_was_announced_for_all_addresses_is_what_is_announced_for_those_still_missing() {
        let target = target("provision: {addresses: {v4: true}}");
        let slot = |kinds| Addresses.intent(&target, &Assign(kinds));
        let all = slot(vec![AddressKind::V4, AddressKind::V6]);
        assert!(all.is_some());
        assert_eq!(slot(vec![AddressKind::V6]), all);
        assert_eq!(slot(vec![AddressKind::V4]), all);
    }

    #[test]
    fn only_what_may_come_twice_is_announced() {
        let target = target("");
        let slot = |kinds| Addresses.intent(&target, &Assign(kinds));
        assert_eq!(slot(vec![AddressKind::SharedV4]), None);
        assert!(slot(vec![AddressKind::V6]).is_some());
        assert!(slot(vec![AddressKind::SharedV4, AddressKind::V6]).is_some());
    }
}
