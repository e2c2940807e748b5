//! Failures of commands that were published. A failure is published once before its command is run
//! again.

use std::collections::BTreeSet;

use crate::pipeline::Cx;

/// Machines whose failure was published before their command is run again, by id. A fact.
#[derive(Clone, Debug, Default)]
struct Published(BTreeSet<String>);

/// This process has recorded a failure, which is published before the command is run again. In the
/// journal.
#[derive(Debug)]
struct FailureRecorded;

/// Whether the failure of this machine was published.
pub fn is_published(cx: &Cx, id: &str) -> bool {
    if cx.journal.get::<FailureRecorded>().is_some() {
        cx.facts.clear::<Published>();
        cx.journal.clear::<FailureRecorded>();
    }
    let published = cx.facts.get::<Published>();
    published.is_some_and(|published| published.0.contains(id))
}

/// Notes that a failure was recorded: it is published before the command is run again.
pub fn note_failure_recorded(cx: &Cx) {
    cx.journal.set(FailureRecorded);
}

/// Notes that the failure of this machine is published now.
pub fn note_published(cx: &Cx, id: &str) {
    cx.facts.change_or_default::<Published>(|published| {
        published.0.insert(id.to_owned());
    });
}
