//! Whether events keep their `UID` from one export to the next.

use std::collections::{HashMap, HashSet};

use super::read::Event;

/// How the events of two exports differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Events with the same `UID` in both.
    pub kept: usize,
    /// Events whose `UID` is gone while another one has come with the same times and text.
    pub renamed: usize,
}

/// Compares two exports. A booking that comes or goes in between is neither kept nor renamed.
#[must_use]
pub fn changed_uids(before: &[Event], after: &[Event]) -> Changed {
    let uids = |events: &[Event]| -> HashSet<u64> { events.iter().filter_map(|e| e.uid).collect() };
    let (old, new) = (uids(before), uids(after));
    let mut gone: HashMap<_, usize> = HashMap::new();
    for event in before {
        if event.uid.is_some_and(|uid| !new.contains(&uid)) {
            *gone.entry(event.content()).or_default() += 1;
        }
    }
    let mut renamed = 0;
    for event in after {
        let is_new = event.uid.is_some_and(|uid| !old.contains(&uid));
        if is_new && let Some(count @ 1..) = gone.get_mut(&event.content()) {
            *count -= 1;
            renamed += 1;
        }
    }
    Changed {
        kept: old.intersection(&new).count(),
        renamed,
    }
}
