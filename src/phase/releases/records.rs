//! All records of an Activation, and what they say about a release. Pure.
//!
//! A rollback restores from the records, and a release that failed or was rolled back is not tried
//! again until the spec changes, also by another process.

use super::record::{Outcome, Record, Request};
use crate::{
    api::status::{HistoryEntry, HistoryOutcome},
    pipeline::Note,
    plan::{ServedSpec, Target},
};

/// Releases that are kept.
const KEPT: usize = 10;

/// All records of an Activation, oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Records {
    /// The records.
    pub list: Vec<Record>,
}

/// The release that serves: the last good one.
#[derive(Clone, Debug, PartialEq)]
pub struct ServingRecord {
    /// Its record.
    pub record: Record,
    /// Number of the release with which it began to serve: its own, or that of a failed release in
    /// whose place it was restored.
    pub since: u64,
}

impl Records {
    /// The newest.
    pub fn latest(&self) -> Option<&Record> {
        self.list.last()
    }

    /// The newest that has ended.
    pub fn ended(&self) -> Option<&Record> {
        let mut ended = self.list.iter().rev();
        ended.find(|record| record.outcome != Outcome::Begun)
    }

    /// The release of this number.
    pub fn of(&self, number: u64) -> Option<&Record> {
        self.list.iter().find(|record| record.number == number)
    }

    /// The release that serves: the newest that passed its SmokeTest, or the one that was restored after it.
    pub fn serving(&self) -> Option<ServingRecord> {
        let (record, since) = self.serving_since()?;
        Some(ServingRecord {
            record: record.clone(),
            since,
        })
    }

    /// The record of the release that serves.
    pub fn serving_record(&self) -> Option<&Record> {
        self.serving_since().map(|(record, _)| record)
    }

    fn serving_since(&self) -> Option<(&Record, u64)> {
        self.list.iter().rev().find_map(|record| {
            let serving = match (record.outcome, record.restores) {
                (Outcome::Succeeded, _) => Some(record).filter(|record| record.is_good()),
                (Outcome::Failed, Some(number)) => {
                    self.of(number).filter(|restored| restored.is_good())
                }
                (Outcome::Failed, None) | (Outcome::Begun, _) => None,
            };
            serving.map(|serving| (serving, record.number))
        })
    }

    /// The newest release after this number whose migration is irreversible. The release `key` does
    /// not count: for it the spec says whether its migration is reversible.
    pub fn irreversible_after(&self, number: u64, key: &str) -> Option<&Record> {
        self.list
            .iter()
            .rev()
            .filter(|record| record.number > number && record.key != key)
            .find(|record| record.migration.is_irreversible())
    }

    /// The record of the release `key`, if it is the latest, has failed and was left as it is.
    pub fn left(&self, key: &str) -> Option<&Record> {
        self.latest()
            .filter(|record| record.key == key && record.is_left())
    }

    /// Whether the failure of the release `key` is on record as it is for this target.
    pub fn has_failure(&self, key: &str, target: &Target) -> bool {
        let reversible = target.deploy.migrations.reversible;
        self.left(key)
            .is_some_and(|record| record.migration.reversible == reversible)
    }

    /// Whether the release `key` is the latest and all machines run it well. It serves once it has
    /// passed its SmokeTest too.
    pub fn is_rolled_out(&self, key: &str) -> bool {
        self.latest()
            .is_some_and(|record| record.key == key && record.outcome == Outcome::Succeeded)
    }

    /// Whether the release `key` is the latest and good.
    pub fn is_good(&self, key: &str) -> bool {
        self.latest()
            .is_some_and(|record| record.key == key && record.is_good())
    }

    /// Whether the newest release passed its SmokeTest with this part of the spec.
    pub fn is_proven_as(&self, served: &ServedSpec) -> bool {
        let latest = self.latest().filter(|record| record.is_good());
        let then = latest.and_then(|record| record.content.served.as_ref());
        then.is_some_and(|then| then.is_proven_as(served))
    }

    /// Whether a command has run well for the release of this number and key.
    pub fn has_passed(&self, number: u64, key: &str, program: &str) -> bool {
        self.of(number)
            .is_some_and(|record| record.key == key && record.passed_commands.contains(program))
    }

    /// Whether a command has run well for any release.
    pub fn has_ever_passed(&self, program: &str) -> bool {
        let mut all = self.list.iter();
        all.any(|record| record.passed_commands.contains(program))
    }

    /// Whether any release was ever rolled out.
    pub fn was_any_rolled_out(&self) -> bool {
        let mut all = self.list.iter();
        all.any(|record| record.outcome == Outcome::Succeeded)
    }

    /// The record of the failure that holds the release `key` back for this target.
    pub fn held(&self, key: &str, target: &Target) -> Option<&Record> {
        self.latest().filter(|record| {
            let retried = !target.retry.is_subset(&record.hold.retry);
            record.outcome == Outcome::Failed
                && !record.is_left()
                && record.key == key
                && record.hold.target == target.digest()
                && !retried
        })
    }

    /// The number of the release `key`: the next one, unless it is recorded already.
    pub fn number(&self, key: &str, target: &Target) -> u64 {
        match self.latest() {
            Some(last)
                if self.is_rolled_out(key)
                    || last.key == key && last.outcome == Outcome::Begun
                    || self.left(key).is_some()
                    || self.held(key, target).is_some() =>
            {
                last.number
            }
            Some(last) => last.number.saturating_add(1),
            None => 1,
        }
    }

    /// The decision on the request for a rollback with this UID.
    pub fn request(&self, uid: &str) -> Option<&Request> {
        let mut all = self.list.iter().flat_map(|record| &record.requests);
        all.find(|request| request.uid == uid)
    }

    /// The request that was decided last.
    pub fn last_request(&self) -> Option<&Request> {
        self.list
            .iter()
            .flat_map(|record| &record.requests)
            .max_by_key(|request| request.time)
    }

    /// Numbers of the oldest records beyond those that are kept. The release that serves, the one
    /// that is held, and the migrations that keep it from being restored always stay.
    pub fn superfluous(&self) -> Vec<u64> {
        let mut stay = Vec::new();
        if let Some((serving, since)) = self.serving_since() {
            let newest = self.irreversible_after(since, "");
            // The spec may declare the newest reversible; then the one before it counts.
            let other = newest.and_then(|newest| self.irreversible_after(since, &newest.key));
            let kept = [Some(serving), newest, other];
            stay.extend(kept.into_iter().flatten().map(|record| record.number));
            stay.push(since);
        }
        let old = self.list.len().saturating_sub(KEPT);
        let numbers = self.list.iter().map(|record| record.number);
        let going = numbers.filter(|number| !stay.contains(number));
        going.take(old).collect()
    }

    /// The records with one more, or with this one in the place of the one with its number.
    #[must_use]
    pub fn with(&self, record: Record) -> Self {
        let mut next = self.without(record.number);
        next.list.push(record);
        next.list.sort_by_key(|record| record.number);
        next
    }

    /// The records without this number.
    #[must_use]
    pub fn without(&self, number: u64) -> Self {
        let mut next = self.clone();
        next.list.retain(|record| record.number != number);
        next
    }

    /// What the status shows before the step `Release` is reached: which releases were superseded,
    /// and that the release `key` has failed and was left as it is.
    pub fn notes(&self, key: &str) -> Vec<Note> {
        let left = self.left(key).map(Record::entry);
        let superseded = self.history().into_iter();
        let superseded = superseded.filter(|entry| entry.outcome == HistoryOutcome::Superseded);
        left.into_iter()
            .chain(superseded)
            .map(Note::Ended)
            .collect()
    }

    /// The history in the status, newest first.
    pub fn history(&self) -> Vec<HistoryEntry> {
        let mut entries: Vec<HistoryEntry> = self.list.iter().rev().map(Record::entry).collect();
        entries.truncate(KEPT);
        for entry in entries.iter_mut().skip(1) {
            if entry.outcome == HistoryOutcome::Begun {
                entry.outcome = HistoryOutcome::Superseded;
            }
        }
        entries
    }
}

#[cfg(test)]
pub(in crate::phase) mod tests;
