//! The room in memory for what Activations name: Secrets and ConfigMaps.
//!
//! A Secret has up to 1 MiB, and a spec may name many. How much an object may name is bounded, and so
//! is what all passes hold at the same time. A pass takes the most that it may need before it reads,
//! gives back what it does not need afterwards, and the rest when it ends: between passes nothing is
//! held. A namespace has a quarter of the room: what one tenant names delays its own passes only.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most bytes of data that the Secrets and ConfigMaps of one Activation may have in all. An
/// environment has at most 2 MiB on Linux (execve(2), a quarter of the limit of the stack).
pub const MOST_BYTES: usize = 2 << 20;

/// Most keys that they may have in all.
pub const MOST_KEYS: usize = 2_000;

/// What a Secret or a ConfigMap has at most: 1 MiB of data
/// (kubernetes.io/docs/concepts/configuration/secret/#restriction-data-size).
const LARGEST: usize = 1 << 20;

/// What a pass may hold while it reads much: it notices too much after the object that is too much.
const READING: u32 = kib(MOST_BYTES + LARGEST);

/// What nearly every object names less than, in bytes. A pass begins with room for so much.
pub const SMALL: usize = 256 * 1024;

/// The whole room: twelve passes that read at the same time.
const ALL: u32 = 12 * READING;

/// The share of one namespace.
const SHARE: u32 = ALL / 4;

/// Longest wait of a pass for room.
const PATIENCE: Duration = Duration::from_secs(5);

/// The room of this process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Room {
    all: Arc<Semaphore>,
    shares: Arc<Mutex<HashMap<String, Weak<Semaphore>>>>,
    patience: Duration,
}

/// A part of the room, until it is dropped.
#[derive(Debug)]
pub struct Taken {
    _share: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

/// There is no room: other objects, of the same namespace or of all, hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

impl Default for Room {
    fn default() -> Self {
        Self {
            all: Arc::new(Semaphore::new(ALL as usize)),
            shares: Arc::default(),
            patience: PATIENCE,
        }
    }
}

impl Room {
    /// Takes the room that a pass over an object of this namespace may need: [`SMALL`], or for a `large`
    /// object the most. First come, first served. A pass that holds room must not ask for more.
    ///
    /// # Errors
    /// When there is no room for some seconds.
    pub async fn take(&self, namespace: &str, large: bool) -> Result<Taken, NoRoom> {
        let size = if large { READING } else { kib(SMALL) };
        let share = self.share(namespace);
        let both = async {
            // The share first: who waits for its own share holds up nobody else.
            let share = share.acquire_many_owned(size).await;
            let all = self.all.clone().acquire_many_owned(size).await;
            Some(Taken {
                _share: share.ok()?,
                _all: all.ok()?,
            })
        };
        let taken = tokio::time::timeout(self.patience, both).await;
        taken.ok().flatten().ok_or(NoRoom)
    }

    fn share(&self, namespace: &str) -> Arc<Semaphore> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = shares.get(namespace).and_then(Weak::upgrade) {
            return share;
        }
        shares.retain(|_, share| share.strong_count() > 0);
        let share = Arc::new(Semaphore::new(SHARE as usize));
        shares.insert(namespace.to_owned(), Arc::downgrade(&share));
        share
    }
}

impl Taken {
    /// Gives back all but what these bytes need.
    pub fn shrink(&mut self, bytes: usize) {
        let needed = kib(bytes).max(1) as usize;
        for permit in [&mut self._share, &mut self._all] {
            drop(permit.split(permit.num_permits().saturating_sub(needed)));
        }
    }
}

/// In KiB, rounded up.
const fn kib(bytes: usize) -> u32 {
    let kib = bytes.div_ceil(1024);
    if kib > u32::MAX as usize {
        u32::MAX
    } else {
        kib as u32
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_namespace_that_holds_its_share_does_not_delay_another() {
        let room = Room {
            patience: Duration::from_millis(20),
            ..Room::default()
        };
        let mut held = Vec::new();
        for _ in 0..SHARE / READING {
            held.push(room.take("greedy", true).await.unwrap());
        }
        assert_eq!(room.take("greedy", true).await.unwrap_err(), NoRoom);
        assert!(room.take("other", true).await.is_ok());
        drop(held.pop());
        assert!(room.take("greedy", true).await.is_ok());
    }

    #[tokio::test]
    async fn what_small_objects_name_leaves_room_for_many() {
        let room = Room::default();
        let mut held = Vec::new();
        for _ in 0..1_000 {
            let mut taken = room.take("shop", false).await.unwrap();
            taken.shrink(2_000);
            held.push(taken);
        }
        drop(held);
        assert_eq!(
            room.all.available_permits(),
            ALL as usize,
            "all is given back"
        );
    }
}
