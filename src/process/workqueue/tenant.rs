//! The work of one namespace. Pure.

use std::{collections::BTreeSet, time::Instant};

use super::Kind;

/// Kinds that are equally urgent are one lane.
pub(super) const LANES: usize = 4;

/// The lane of a kind; 0 is the most urgent.
pub(super) const fn lane(kind: Kind) -> usize {
    match kind {
        Kind::Deletion | Kind::Change => 0,
        Kind::Progress => 1,
        Kind::Retry => 2,
        Kind::Recheck => 3,
    }
}

/// The work of one namespace.
#[derive(Debug, Default)]
pub(super) struct Tenant {
    /// What is due, by lane: since when, and the name.
    pub(super) due: [BTreeSet<(Instant, String)>; LANES],
    /// Objects that are not due yet.
    pub(super) later: usize,
    /// Objects that are being worked on.
    pub(super) running: usize,
    /// The number of the pass that it was given last: of two, the one served longer ago is next.
    pub(super) served: u64,
}

impl Tenant {
    /// The object of a lane that has been due longest.
    pub(super) fn first(&self, lane: usize) -> Option<&(Instant, String)> {
        self.due.get(lane)?.first()
    }

    /// Whether nothing is known of the namespace.
    pub(super) fn is_empty(&self) -> bool {
        self.running == 0 && self.later == 0 && self.due.iter().all(BTreeSet::is_empty)
    }
}
