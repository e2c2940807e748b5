//! Lets a limited number in at a time, fairly between tenants: one holds its share at most, and of
//! those that wait, the one that holds least is next. Questions to servers outside and looks at
//! applications in the background take their places here.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use super::share::may_take;

/// A limited number of places.
#[derive(Debug)]
pub struct Turnstile {
    all: usize,
    /// The most that one tenant may hold, however many are free.
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Places that each tenant holds.
    held: BTreeMap<String, usize>,
    taken: usize,
    /// Who waits, longest first.
    waiting: VecDeque<(String, oneshot::Sender<Entered>)>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub struct Entered {
    turnstile: Arc<Turnstile>,
    tenant: String,
}

impl Turnstile {
    /// With `all` places, of which a tenant may hold fewer than are free: see [`may_take`].
    pub fn new(all: usize) -> Arc<Self> {
        Self::with_share(all, all)
    }

    /// With `all` places, of which a tenant may hold fewer than are free, and at most `most`.
    pub fn with_share(all: usize, most: usize) -> Arc<Self> {
        Arc::new(Self {
            all,
            most,
            state: Mutex::default(),
        })
    }

    /// Waits for a place.
    pub async fn enter(self: &Arc<Self>, tenant: &str) -> Entered {
        let (sender, place) = oneshot::channel();
        self.lock().waiting.push_back((tenant.to_owned(), sender));
        self.admit();
        match place.await {
            Ok(entered) => entered,
            // The sender is dropped only with the turnstile, which lives as long as this.
            Err(_) => std::future::pending().await,
        }
    }

    /// Lets in who may enter.
    fn admit(self: &Arc<Self>) {
        loop {
            let next = self.lock().next(self.all, self.most);
            let Some((tenant, sender)) = next else { return };
            let entered = Entered {
                turnstile: self.clone(),
                tenant,
            };
            // Who no longer waits gives the place back.
            drop(sender.send(entered));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes a place for the next of those that wait.
    fn next(&mut self, all: usize, most: usize) -> Option<(String, oneshot::Sender<Entered>)> {
        let held = |tenant: &String| self.held.get(tenant).copied().unwrap_or_default();
        let may = |tenant: &String| {
            let held = held(tenant);
            held < most && may_take(held, self.taken, all)
        };
        let waiting = self.waiting.iter().enumerate();
        let (at, _) = waiting
            .filter(|(_, (tenant, _))| may(tenant))
            .min_by_key(|(at, (tenant, _))| (held(tenant), *at))?;
        let next = self.waiting.remove(at)?;
        *self.held.entry(next.0.clone()).or_default() += 1;
        self.taken += 1;
        Some(next)
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        {
            let mut state = self.turnstile.lock();
            state.taken = state.taken.saturating_sub(1);
            if let Some(held) = state.held.get_mut(&self.tenant) {
                *held = held.saturating_sub(1);
                if *held == 0 {
                    state.held.remove(&self.tenant);
                }
            }
        }
        self.turnstile.admit();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_tenant_with_many_leaves_places_to_others_and_a_place_goes_to_who_holds_least() {
        let turnstile = Turnstile::new(4);
        let enter = |tenant: &'static str| {
            let turnstile = turnstile.clone();
            async move { turnstile.enter(tenant).await }.boxed()
        };
        let mut tarpits: Vec<_> = (0..9).map(|_| enter("tarpits")).collect();
        let held: Vec<Entered> = tarpits
            .iter_mut()
            .filter_map(FutureExt::now_or_never)
            .collect();
        assert_eq!(held.len(), 2, "half of the places");
        let mut shop = enter("shop");
        let shop = (&mut shop).now_or_never();
        assert!(shop.is_some(), "another one enters at once");
        // The places of those that no longer wait are not lost.
        drop(tarpits);
        drop(held);
        let mut books: Vec<_> = (0..2).map(|_| enter("books")).collect();
        let books: Vec<Entered> = books
            .iter_mut()
            .filter_map(FutureExt::now_or_never)
            .collect();
        assert!(!books.is_empty());
        drop((shop, books));
        let state = turnstile.lock();
        assert_eq!(
            (state.taken, state.held.len(), state.waiting.len()),
            (0, 0, 0)
        );
    }

    #[test]
    fn with_a_fixed_share_one_tenant_takes_that_and_no_more_and_leaves_room_for_others() {
        let turnstile = Turnstile::with_share(16, 6);
        let enter = |tenant: &'static str, many: usize| {
            let waiting = (0..many).map(|_| {
                let turnstile = turnstile.clone();
                async move { turnstile.enter(tenant).await }.boxed()
            });
            let mut waiting: Vec<_> = waiting.collect();
            let entered = waiting.iter_mut().filter_map(FutureExt::now_or_never);
            entered.collect::<Vec<Entered>>()
        };
        let one = enter("a", 9);
        assert_eq!(one.len(), 6, "its share");
        let (two, three) = (enter("b", 9), enter("c", 9));
        assert_eq!((two.len(), three.len()), (5, 3), "fewer than are free");
        let four = enter("d", 1);
        assert_eq!(four.len(), 1, "who holds nothing finds a place");
        drop(one);
        assert_eq!(enter("d", 9).len(), 3);
    }
}
