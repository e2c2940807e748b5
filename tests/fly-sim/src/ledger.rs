//! What happened, in logical time: every call, and every effect that a call or the platform had.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

/// Calls kept with their details; counts are kept for all.
const CALLS_KEPT: usize = 100_000;

/// One change of the simulated platform.
#[derive(Clone, Debug, Serialize)]
pub struct Effect {
    /// Logical time: 1, 2, 3, ... over all effects.
    pub seq: u64,
    /// The call that caused it; `None` for what the platform did by itself (an exit, a restart).
    pub call: Option<u64>,
    /// `app.create`, `machine.update`, `secret.set`, ...
    pub kind: String,
    /// App name, where there is one.
    pub app: Option<String>,
    /// Identifier of the object.
    pub id: String,
    /// Its name, or empty.
    pub name: String,
    /// The marks on it (machine metadata).
    pub owner: BTreeMap<String, String>,
    /// What else is worth knowing. Never a secret value.
    pub detail: Value,
}

/// One request that reached one of Fly's surfaces.
#[derive(Clone, Debug, Serialize)]
pub struct Call {
    /// 1, 2, 3, ... over all calls.
    pub index: u64,
    /// 1, 2, 3, ... over the calls that may change something; `None` for reads.
    pub mutation: Option<u64>,
    /// `POST /v1/apps/{app}/machines`: method and endpoint template; for GraphQL
    /// `POST /graphql#createAddOn` (root field).
    pub endpoint: String,
    /// The path as sent.
    pub path: String,
    /// The query string as sent.
    pub query: String,
    /// Address of the client.
    pub peer: String,
    /// The name or address under which the client called, from its `Host`: it tells clients apart
    /// that were given different ones.
    pub host: String,
    /// Its `User-Agent`.
    pub agent: String,
    /// Status of the answer; `None` while it is under way or when the connection was cut.
    pub status: Option<u16>,
    /// The fault that was injected, if any.
    pub fault: Option<String>,
    /// Milliseconds since the simulator started.
    pub at_ms: u64,
}

/// A line of the journal: an effect with the time when it happened.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When it happened.
    pub at: Instant,
    /// What happened. `seq` is 0 for what is noted in the journal alone.
    pub effect: Effect,
}

/// How often the journal notes that the edge answers an app's requests alike.
const EDGE_NOTES: Duration = Duration::from_millis(250);

/// The append-only record.
#[derive(Debug, Default)]
pub struct Ledger {
    inner: Mutex<Inner>,
    journal: Mutex<Journal>,
}

/// What happened since the start, with its time, whatever is forgotten in between: for a judge who
/// asks whether something was so at a time.
#[derive(Debug, Default)]
struct Journal {
    entries: Vec<Entry>,
    edge: BTreeMap<String, (u16, Instant)>,
}

#[derive(Debug, Default)]
struct Inner {
    effects: Vec<Effect>,
    calls: VecDeque<Call>,
    first_kept: u64,
    counts: BTreeMap<String, u64>,
    next_call: u64,
    next_mutation: u64,
    next_effect: u64,
}

impl Ledger {
    fn with<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        f(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Records a call; fills in `index` and `mutation`, which it returns.
    pub fn begin(&self, mut call: Call, mutates: bool) -> (u64, Option<u64>) {
        self.with(|inner| {
            inner.next_call += 1;
            call.index = inner.next_call;
            if mutates {
                inner.next_mutation += 1;
                call.mutation = Some(inner.next_mutation);
            }
            *inner.counts.entry(call.endpoint.clone()).or_default() += 1;
            let numbers = (call.index, call.mutation);
            if inner.calls.is_empty() {
                inner.first_kept = call.index;
            }
            inner.calls.push_back(call);
            if inner.calls.len() > CALLS_KEPT {
                inner.calls.pop_front();
                inner.first_kept += 1;
            }
            numbers
        })
    }

    /// Completes a call's record.
    pub fn end(&self, index: u64, status: Option<u16>, fault: Option<String>) {
        self.with(|inner| {
            let Some(at) = index.checked_sub(inner.first_kept) else {
                return;
            };
            if let Some(call) = usize::try_from(at)
                .ok()
                .and_then(|at| inner.calls.get_mut(at))
            {
                call.status = status;
                if fault.is_some() {
                    call.fault = fault;
                }
            }
        });
    }

    /// Appends an effect; fills in `seq`.
    pub fn effect(&self, mut effect: Effect) {
        self.with(|inner| {
            inner.next_effect += 1;
            effect.seq = inner.next_effect;
            inner.effects.push(effect.clone());
        });
        self.note(effect);
    }

    /// Appends to the journal alone: a machine has started, a check has changed.
    pub fn note(&self, effect: Effect) {
        let at = Instant::now();
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        journal.entries.push(Entry { at, effect });
    }

    /// Notes in the journal how the edge answered a request to an app: when that changes, and now
    /// and then.
    pub fn note_answer(&self, app: &str, status: u16) {
        let at = Instant::now();
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        let last = journal.edge.get(app);
        let told = last.is_some_and(|(old, since)| {
            *old == status && at.saturating_duration_since(*since) < EDGE_NOTES
        });
        if told {
            return;
        }
        journal.edge.insert(app.to_owned(), (status, at));
        let effect = Effect {
            seq: 0,
            call: None,
            kind: "edge.answer".to_owned(),
            app: Some(app.to_owned()),
            id: String::new(),
            name: String::new(),
            owner: BTreeMap::new(),
            detail: serde_json::json!({"status": status}),
        };
        journal.entries.push(Entry { at, effect });
    }

    /// All that happened since the start, oldest first; `clear` does not shorten it.
    pub fn journal(&self) -> Vec<Entry> {
        let journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        journal.entries.clone()
    }

    /// All effects so far, oldest first.
    pub fn effects(&self) -> Vec<Effect> {
        self.with(|inner| inner.effects.clone())
    }

    /// The calls still kept, oldest first.
    pub fn calls(&self) -> Vec<Call> {
        self.with(|inner| inner.calls.iter().cloned().collect())
    }

    /// How many calls each endpoint got.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.with(|inner| inner.counts.clone())
    }

    /// Number of mutating calls so far.
    pub fn mutations(&self) -> u64 {
        self.with(|inner| inner.next_mutation)
    }

    /// Forgets calls, counts and effects, and counts from 1 again. The journal stays.
    pub fn clear(&self) {
        self.with(|inner| *inner = Inner::default());
    }
}
