//! The app's public addresses: one shared IPv4, one IPv6. Without them the edge does not answer.

use std::fmt;

use jiff::Timestamp;

use crate::{
    api::status::ExternalObject,
    error::Error,
    fly::addresses::{AddressKind, IpAssignment, NewAddress},
    phase::{Cx, Note, Slot, Step, StepId, Verdict, step::Result},
    target::Target,
};

use super::app;

/// The addresses.
pub struct Addresses;

/// Name of the step.
pub const ID: StepId = "Addresses";

/// Assign one address.
#[derive(Debug, PartialEq)]
pub struct Assign(AddressKind);

impl fmt::Display for Assign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "assign a {} address", self.0.as_str())
    }
}

impl Step for Addresses {
    type Observed = Vec<IpAssignment>;
    type Change = Assign;

    fn id(&self) -> StepId {
        ID
    }

    fn needs(&self) -> &'static [StepId] {
        &[app::ID]
    }

    async fn observe(&self, cx: &Cx) -> Result<Vec<IpAssignment>> {
        cx.fly
            .addresses(&cx.target.app)
            .await
            .map_err(|source| Error::fly("list the addresses of the app", source))
    }

    fn diff(
        &self,
        target: &Target,
        observed: &Vec<IpAssignment>,
        _now: Timestamp,
    ) -> Verdict<Assign> {
        let has = |kind: &AddressKind| {
            observed
                .iter()
                .filter(|address| address.egress != Some(true))
                .any(|address| address.kind().as_ref() == Some(kind))
        };
        let wanted = &target.provision.addresses;
        // A dedicated IPv4 address serves what the shared one would.
        if wanted.shared_v4 && !has(&AddressKind::SharedV4) && !has(&AddressKind::V4) {
            return Verdict::Change(Assign(AddressKind::SharedV4));
        }
        if wanted.v6 && !has(&AddressKind::V6) {
            return Verdict::Change(Assign(AddressKind::V6));
        }
        Verdict::Done
    }

    fn intent(&self, target: &Target, change: &Assign) -> Option<Slot> {
        // An app has one shared address however often it is asked for; of others it would get
        // a second one.
        (change.0 != AddressKind::SharedV4).then(|| Slot {
            kind: "IPv6Address".to_owned(),
            name: target.app.clone(),
        })
    }

    fn notes(&self, _target: &Target, observed: &Vec<IpAssignment>) -> Vec<Note> {
        observed
            .iter()
            .map(|address| {
                Note::External(ExternalObject {
                    kind: "Address".to_owned(),
                    id: address.ip.clone(),
                    name: address.ip.clone(),
                    last_observed_time: None,
                })
            })
            .collect()
    }

    async fn act(&self, cx: &Cx, change: Assign) -> Result<()> {
        let kind = change.0.as_str().to_owned();
        cx.fly
            .assign_address(&cx.target.app, &NewAddress::anycast(change.0))
            .await
            .map(drop)
            .map_err(|source| Error::fly(format!("assign a {kind} address"), source))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::target::testing::target;

    fn next(spec: &str, ips: serde_json::Value) -> Verdict<Assign> {
        let seen: Vec<IpAssignment> = serde_json::from_value(ips).unwrap();
        Addresses.diff(&target(spec), &seen, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn what_is_missing_is_assigned_one_after_the_other() {
        let v4 = serde_json::json!([{"ip": "66.241.125.1", "shared": true}]);
        let both = serde_json::json!([
            {"ip": "66.241.125.1", "shared": true}, {"ip": "2a09:8280:1::1"},
        ]);
        assert_eq!(
            next("", serde_json::json!([])),
            Verdict::Change(Assign(AddressKind::SharedV4))
        );
        assert_eq!(next("", v4), Verdict::Change(Assign(AddressKind::V6)));
        assert_eq!(next("", both), Verdict::Done);
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
            Verdict::Change(Assign(AddressKind::V6))
        );
        let none = "provision: {addresses: {sharedV4: false, v6: false}}";
        assert_eq!(next(none, others), Verdict::Done);
    }

    #[test]
    fn only_what_may_come_twice_is_announced() {
        let target = target("");
        let slot = |kind| Addresses.intent(&target, &Assign(kind));
        assert_eq!(slot(AddressKind::SharedV4), None);
        assert!(slot(AddressKind::V6).is_some());
    }
}
