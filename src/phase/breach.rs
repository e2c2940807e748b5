//! The request of a watch to roll back the release that breaches its objectives. Observe notes it; Deploy
//! decides on it as on one of a person, once.

use jiff::Timestamp;

use super::releases::{record::Request, records::Records};
use crate::{
    pipeline::{Cx, StepId, typed_map::TypedMap},
    plan::refs::RollbackRequest,
};

/// What the UID of such a request begins with.
const UID: &str = "watch-of-release-";

/// Who asks for it.
const BY: &str = "Observe";

/// Journal: the request.
#[derive(Clone, Debug)]
struct Asked(RollbackRequest);

/// The UID of the request to roll back this release: there is one for each.
fn uid(release: u64) -> String {
    format!("{UID}{release}")
}

/// Asks that this release of the present plan is rolled back, and has Deploy decide on it.
pub fn ask(cx: &Cx, (from, to): (u64, u64), at: Timestamp, why: &str) {
    let request = RollbackRequest {
        uid: uid(from),
        name: format!("the watch of release {from}"),
        created: at,
        digest: cx.target.digest().to_owned(),
        to,
        by: BY.to_owned(),
        message: Some(why.to_owned()),
    };
    cx.journal.set(Asked(request));
    cx.waker.wake(Some(StepId::Rollback));
}

/// What was asked for.
pub fn asked(journal: &TypedMap) -> Option<RollbackRequest> {
    journal.get::<Asked>().map(|asked| asked.0.clone())
}

/// Journal: the release that alone runs on the machines beside a spec that cannot be brought live.
#[derive(Clone, Copy, Debug)]
struct Restored(u64);

/// Notes that this release alone runs, beside a spec that cannot be brought live.
pub fn note_restored(journal: &TypedMap, release: u64) {
    journal.set(Restored(release));
}

/// The spec is live: nothing was restored in its place.
pub fn forget_restored(journal: &TypedMap) {
    journal.clear::<Restored>();
}

/// Whether it was observed that this release alone runs, beside a spec that cannot be brought live.
pub fn is_restored(journal: &TypedMap, release: u64) -> bool {
    let restored = journal.get::<Restored>();
    restored.is_some_and(|restored| restored.0 == release)
}

/// What Deploy decided on the rollback of this release, if the watch has asked for it.
pub fn decision(records: &Records, release: u64) -> Option<&Request> {
    records.request(&uid(release))
}

/// The last rollback that a watch has asked for and that was carried out: the release that failed by it,
/// and the decision.
pub fn carried_out(records: &Records) -> Option<(u64, &Request)> {
    let all = records.list.iter().rev().flat_map(|record| {
        let requests = record.requests.iter();
        requests.map(|request| (record.number, request))
    });
    let mut asked = all.filter(|(_, request)| request.uid.starts_with(UID));
    asked.find(|(_, request)| request.refused.is_none())
}
