//! Responses that are the same for many activations, requested once.
//!
//! Fly.io counts calls that concern no app by organization, one a second: a thousand activations
//! that each list the regions would wait a quarter of an hour. Concurrent callers with the same
//! token and the same request wait for one response.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use super::reply::Reply;

/// Remembered responses, by token, endpoint, address and body.
#[derive(Debug, Default)]
pub(crate) struct Memo {
    entries: Mutex<HashMap<String, Entry>>,
}

/// One response and when it came; locked while it is being requested.
pub(super) type Entry = Arc<tokio::sync::Mutex<Option<(Instant, Reply)>>>;

/// Above this number, entries that nobody holds are removed.
const SWEEP_ABOVE: usize = 4096;

impl Memo {
    pub(super) fn entry(&self, key: String) -> Entry {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() > SWEEP_ABOVE {
            entries.retain(|_, entry| Arc::strong_count(entry) > 1);
        }
        entries.entry(key).or_default().clone()
    }
}
