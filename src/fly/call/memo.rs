//! Answers that are the same for many activations, asked for once.
//!
//! Fly.io counts calls that are about no app by organization, one a second: a thousand
//! activations that each ask for the regions would wait a quarter of an hour. Whoever asks while
//! another asks the same with the same token waits for that answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::fly::call::{Call, Reply};
use crate::fly::error::{Class, Result};

/// Remembered answers, by token, endpoint, address and question.
#[derive(Debug, Default)]
pub(crate) struct Memo {
    entries: Mutex<HashMap<String, Entry>>,
}

/// One answer; locked while it is being asked for.
type Entry = Arc<tokio::sync::Mutex<Option<(Instant, Reply)>>>;

/// Entries above this number are swept of those that nobody uses.
const SWEEP_ABOVE: usize = 4096;

impl Memo {
    fn entry(&self, key: String) -> Entry {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() > SWEEP_ABOVE {
            entries.retain(|_, entry| Arc::strong_count(entry) > 1);
        }
        entries.entry(key).or_default().clone()
    }
}

impl Call<'_> {
    /// Sends it, or takes an answer that is not older than `age`. Errors are not remembered.
    pub(crate) async fn send_or_recall(self, age: Duration) -> Result<Reply> {
        let shared = self.shared();
        let entry = shared.memo.entry(self.memo_key());
        let patience = Instant::now() + shared.options.read_deadline;
        let Ok(mut remembered) = tokio::time::timeout_at(patience, entry.lock()).await else {
            let text = "somebody else's same question is not answered in time";
            return Err(self.refused(Class::Transient, text));
        };
        if let Some((when, reply)) = &*remembered
            && when.elapsed() <= age
        {
            return Ok(reply.clone());
        }
        let reply = self.send().await?;
        *remembered = Some((Instant::now(), reply.clone()));
        Ok(reply)
    }
}
