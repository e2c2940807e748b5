//! A limited number of places for work in the background, of which one tenant may hold a part.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places of this process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Places {
    all: Arc<Semaphore>,
    share: usize,
    shares: Arc<Mutex<HashMap<String, Weak<Semaphore>>>>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub struct Place {
    _share: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl Places {
    /// So many places in all, and so many for one tenant.
    pub fn new(all: usize, share: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(all)),
            share,
            shares: Arc::default(),
        }
    }

    /// Takes a place for this tenant, as soon as there is one: first come, first served. `None` never
    /// comes before the process ends.
    pub async fn take(&self, tenant: &str) -> Option<Place> {
        // The share first: who waits for its own share holds up nobody else.
        let share = self.share(tenant).acquire_owned().await.ok()?;
        let all = self.all.clone().acquire_owned().await.ok()?;
        Some(Place {
            _share: share,
            _all: all,
        })
    }

    fn share(&self, tenant: &str) -> Arc<Semaphore> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = shares.get(tenant).and_then(Weak::upgrade) {
            return share;
        }
        shares.retain(|_, share| share.strong_count() > 0);
        let share = Arc::new(Semaphore::new(self.share));
        shares.insert(tenant.to_owned(), Arc::downgrade(&share));
        share
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn one_tenant_that_takes_all_it_can_leaves_room_for_others() {
        let places = Places::new(3, 2);
        let take = |tenant: &str| places.take(tenant).now_or_never().flatten();
        let (one, two) = (take("a"), take("a"));
        assert!(one.is_some() && two.is_some());
        assert!(take("a").is_none(), "its share is used up");
        let other = take("b");
        assert!(other.is_some());
        assert!(take("c").is_none(), "all are taken");
        drop(one);
        assert!(take("c").is_some());
        drop((two, other));
        assert!(take("a").is_some());
    }
}
