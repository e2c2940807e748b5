//! What happened, in logical time: every call, and every effect that a call or the platform had.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

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
    /// Its `User-Agent`.
    pub agent: String,
    /// Status of the answer; `None` while it is under way or when the connection was cut.
    pub status: Option<u16>,
    /// The fault that was injected, if any.
    pub fault: Option<String>,
    /// Milliseconds since the simulator started.
    pub at_ms: u64,
}

/// The append-only record.
#[derive(Debug, Default)]
pub struct Ledger {
    inner: Mutex<Inner>,
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
            inner.effects.push(effect);
        });
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

    /// Forgets calls, counts and effects, and counts from 1 again.
    pub fn clear(&self) {
        self.with(|inner| *inner = Inner::default());
    }
}
