//! The app's public addresses: one IPv4, shared or dedicated, and one IPv6. Without them Fly.io's
//! edge does not answer for the app.

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
    phase::{app_overview, left_behind, names::ADDRESS},
    pipeline::{
        ChangeVerb, Cx, Note, PlannedChange, Slot, Step, StepChange, StepId, Verdict, Wake, Why,
        step::Result,
    },
    plan::{Target, cost::Billed},
};

/// Assigns the addresses.
pub struct Addresses;

/// Journal: the addresses that this process assigned.
#[derive(Clone, Debug, Default)]
struct Assigned(BTreeSet<String>);

/// Fact: since when addresses that the app had are not listed.
#[derive(Debug)]
struct UnlistedSince(Instant);

/// Addresses that the app had and that are not listed.
#[derive(Debug)]
struct Unlisted {
    addresses: Vec<String>,
    /// Time until another address may be assigned.
    remaining: Duration,
}

/// Addresses that are on record, or that this process assigned, and that are not listed. A list may
/// lag, so that no other address is assigned before the settle time has passed.
fn unlisted(cx: &Cx, listed: &[IpAssignment]) -> Option<Unlisted> {
    let recorded = cx
        .recorded
        .external
        .iter()
        .filter(|object| object.kind == ADDRESS);
    let recorded = recorded.map(|object| object.id.clone());
    let assigned = cx.journal.get::<Assigned>().unwrap_or_default();
    let known: BTreeSet<String> = recorded.chain(assigned.0.iter().cloned()).collect();
    let is_listed = |ip: &String| listed.iter().any(|address| address.ip == *ip);
    let addresses: Vec<String> = known.into_iter().filter(|ip| !is_listed(ip)).collect();
    if addresses.is_empty() {
        cx.facts.clear::<UnlistedSince>();
        return None;
    }
    let since = match cx.facts.get::<UnlistedSince>() {
        Some(since) => since.0,
        None => {
            let now = Instant::now();
            cx.facts.set(UnlistedSince(now));
            now
        }
    };
    let remaining = cx.installation.timing.settle.checked_sub(since.elapsed());
    match remaining.filter(|remaining| !remaining.is_zero()) {
        Some(remaining) => Some(Unlisted {
            addresses,
            remaining,
        }),
        None => {
            cx.journal.clear::<Assigned>();
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

impl StepChange for Assign {
    fn planned(&self) -> Vec<PlannedChange> {
        let kinds = self.0.iter();
        let create = |kind: &AddressKind| {
            PlannedChange::new(ChangeVerb::Create, ADDRESS, "").set("type", kind.as_str())
        };
        kinds.map(create).collect()
    }
}

/// The addresses of the app.
#[derive(Debug, Default)]
pub struct AddressList {
    listed: Vec<IpAssignment>,
    unlisted: Option<Unlisted>,
}

impl Step for Addresses {
    type Observed = AddressList;
    type Change = Assign;

    fn id(&self) -> StepId {
        StepId::Addresses
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

    fn expected_creates(&self, cx: &Cx) -> Vec<Slot> {
        let all = self.diff(&cx.target, &AddressList::default(), cx.fly_now());
        match all {
            Verdict::Change(assign) => self.intent(&cx.target, &assign).into_iter().collect(),
            _ => Vec::new(),
        }
    }

    /// The other kinds are free of charge.
    fn billed(&self, cx: &Cx) -> Vec<Billed> {
        let dedicated = cx.target.provision.addresses.v4;
        dedicated
            .then_some(Billed::DedicatedIpv4)
            .into_iter()
            .collect()
    }

    fn expected(&self, cx: &Cx) -> Vec<PlannedChange> {
        match self.diff(&cx.target, &AddressList::default(), Timestamp::UNIX_EPOCH) {
            Verdict::Change(assign) => assign.planned(),
            _ => Vec::new(),
        }
    }

    async fn observe(&self, cx: &Cx) -> Result<AddressList> {
        let list = async {
            let listed = cx.fly.addresses(&cx.target.app).await;
            listed.map_err(|source| Error::fly("list the addresses of the app", source))
        };
        let listed = app_overview::read(cx, list).await?;
        let unlisted = unlisted(cx, &listed);
        Ok(AddressList { listed, unlisted })
    }

    fn diff(&self, target: &Target, observed: &AddressList, _now: Timestamp) -> Verdict<Assign> {
        let has = |kind: &AddressKind| {
            observed
                .listed
                .iter()
                .filter(|address| address.egress != Some(true))
                .any(|address| address.kind().as_ref() == Some(kind))
        };
        let wanted = &target.provision.addresses;
        // A dedicated IPv4 address also serves what a shared one does.
        let mut missing = Vec::new();
        if wanted.v4 && !has(&AddressKind::V4) {
            missing.push(AddressKind::V4);
        } else if wanted.shared_v4 && !has(&AddressKind::SharedV4) && !has(&AddressKind::V4) {
            missing.push(AddressKind::SharedV4);
        }
        if wanted.v6 && !has(&AddressKind::V6) {
            missing.push(AddressKind::V6);
        }
        match &observed.unlisted {
            _ if missing.is_empty() => Verdict::Done,
            Some(unlisted) => Verdict::Wait {
                why: Why::new(
                    Reason::ObservationUnknown,
                    format!(
                        "Fly.io does not list {}, which the app had; the list is read again before another address is assigned",
                        unlisted.addresses.join(" and ")
                    ),
                ),
                wake: Wake::After(unlisted.remaining),
            },
            None => Verdict::Change(Assign(missing)),
        }
    }

    fn intent(&self, target: &Target, change: &Assign) -> Option<Slot> {
        // An app has at most one shared address; a repeated request for another kind assigns a
        // second address.
        let twice = change.0.iter().any(|kind| *kind != AddressKind::SharedV4);
        // One announcement covers all addresses: it is not known which calls of an interrupted
        // change were sent.
        twice.then(|| Slot {
            kind: ADDRESS.to_owned(),
            name: target.app.clone(),
        })
    }

    fn notes(&self, target: &Target, observed: &AddressList) -> Vec<Note> {
        let objects = observed.listed.iter().map(|address| {
            // The other kinds are free of charge (fly.io/docs/about/pricing/, "Anycast IP addresses").
            let costs = address.kind() == Some(AddressKind::V4) && address.egress != Some(true);
            let retained = (costs && !target.provision.addresses.v4).then(|| {
                format!(
                    "`provision.addresses.v4` does not ask for a dedicated address, and it costs money; `fly ips release {} -a {}` releases it",
                    address.ip, target.app
                )
            });
            ExternalObject {
                kind: ADDRESS.to_owned(),
                id: address.ip.clone(),
                name: address.ip.clone(),
                retained,
                ..ExternalObject::default()
            }
        });
        let objects: Vec<ExternalObject> = objects.collect();
        let left = objects.iter().filter(|object| object.retained.is_some());
        let remark = left_behind::remark(&left.cloned().collect::<Vec<_>>());
        objects
            .into_iter()
            .map(Note::External)
            .chain(remark)
            .collect()
    }

    async fn act(&self, cx: &Cx, change: Assign) -> Result<()> {
        let assign = |kind: AddressKind| async move {
            let doing = format!("assign a {} address", kind.as_str());
            let new = NewAddress::anycast(kind);
            let assigned = cx.fly.assign_address(&cx.target.app, &new).await;
            let assigned = assigned.map_err(|source| Error::fly(doing, source))?;
            cx.journal.change_or_default::<Assigned>(|known| {
                known.0.insert(assigned.ip);
            });
            Ok(())
        };
        // All run to their end, also when one fails: the outcome of a cancelled call is unknown.
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
        let observed = AddressList {
            listed: serde_json::from_value(ips).unwrap(),
            unlisted: None,
        };
        Addresses.diff(&target(spec), &observed, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn missing_addresses_are_assigned() {
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
    fn a_dedicated_address_replaces_the_shared_one() {
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
    fn a_dedicated_address_counts_and_a_private_or_egress_address_does_not() {
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
    fn a_dedicated_address_that_is_no_longer_asked_for_is_told_with_its_cost() {
        let listed = serde_json::json!([{"ip": "149.248.1.1"}, {"ip": "2a09:8280:1::1"}]);
        let observed = AddressList {
            listed: serde_json::from_value(listed).unwrap(),
            unlisted: None,
        };
        let remark = |spec: &str| {
            let notes = Addresses.notes(&target(spec), &observed);
            notes.iter().find_map(Note::remark).cloned()
        };
        let text = remark("").unwrap().message;
        assert!(
            text.contains("fly ips release 149.248.1.1 -a shop"),
            "{text}"
        );
        assert_eq!(remark("provision: {addresses: {v4: true}}"), None);
    }

    #[test]
    fn all_addresses_and_the_remaining_ones_have_the_same_announcement() {
        let target = target("provision: {addresses: {v4: true}}");
        let slot = |kinds| Addresses.intent(&target, &Assign(kinds));
        let all = slot(vec![AddressKind::V4, AddressKind::V6]);
        assert!(all.is_some());
        assert_eq!(slot(vec![AddressKind::V6]), all);
        assert_eq!(slot(vec![AddressKind::V4]), all);
    }

    #[test]
    fn only_addresses_that_could_be_assigned_twice_are_announced() {
        let target = target("");
        let slot = |kinds| Addresses.intent(&target, &Assign(kinds));
        assert_eq!(slot(vec![AddressKind::SharedV4]), None);
        assert!(slot(vec![AddressKind::V6]).is_some());
        assert!(slot(vec![AddressKind::SharedV4, AddressKind::V6]).is_some());
    }
}
