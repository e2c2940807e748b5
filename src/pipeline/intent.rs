//! Write-ahead intents: a create that Fly does not make idempotent is announced in
//! `status.intents[]` before it is sent, and looked up before it is sent a second time.
//!
//! This file answers one question: may this create be sent now? Whether an earlier create happened
//! is answered by observation alone.
//!
//! Several processes may work on one object: replicas without an election, or a leader that does not
//! know yet that it no longer leads. Each write of the status names the version that it follows from,
//! so of two announcements of one create the API server accepts one. Whoever finds the announcement of
//! another process waits for [`OTHERS_WAIT`] settling windows; an announcement of its own is good for
//! [`GOOD_FOR`], and is then written again before anything is sent.
//!
//! During a pass the runner persists requested intents: it writes the status in the middle of the
//! pass, and a step that needs its intent written waits for that. Outside of a pass nobody does, and
//! [`Intents::announce`] returns false.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{StepId, verdict::Slot};

/// For how many settling windows an announcement allows to send the create: longer than most go-lives
/// take, so that what is announced at their beginning need not be announced again.
const GOOD_FOR: u32 = 60;

/// For how many settling windows a create that another process has announced must not be observed
/// before it is announced anew: longer than the other one may send it.
const OTHERS_WAIT: u32 = GOOD_FOR + 1;

/// An announced create, for the status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The step that creates it.
    pub step: StepId,
    /// What is created.
    pub slot: Slot,
    /// The status must hold it anew, also if it holds an earlier announcement of the same slot.
    pub anew: bool,
    /// Another process has announced it, and this one has taken it over.
    pub of_others: bool,
    /// When it was given to the writer of the status.
    pub at: Instant,
}

/// May the create be sent?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// Announced, and certainly not yet sent; or sent, settled, and observed twice not to exist.
    Send,
    /// Write the intent into the status first.
    Announce,
    /// The outcome of an earlier create is unknown. Observe again after this time.
    Settle(Duration),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Requested in this pass; the status that holds it is not written yet.
    Requested,
    /// Written to the status and not sent since.
    Announced,
    /// Sent by this process, or found in the status of another one: the outcome is unknown. `windows`
    /// is how many settling windows it must not be observed.
    Unknown {
        empty_since: Option<Instant>,
        windows: u32,
    },
}

/// What is known of one announced create.
#[derive(Clone, Copy, Debug)]
struct Entry {
    step: StepId,
    state: State,
    /// When this process began the write that announced it last.
    announced: Option<Instant>,
}

impl Entry {
    fn new(step: StepId, state: State) -> Self {
        Self {
            step,
            state,
            announced: None,
        }
    }

    /// Whether another process has announced it, and may send it yet.
    fn is_of_others(&self) -> bool {
        matches!(self.state, State::Unknown { windows, .. } if windows == OTHERS_WAIT)
    }

    /// Whether what this process has announced may still be sent.
    fn is_good(&self, now: Instant, settle: Duration) -> bool {
        self.announced
            .is_some_and(|at| now.saturating_duration_since(at) < settle * GOOD_FOR)
    }
}

/// The intents of one Activation, in the memory of this process.
#[derive(Debug, Default)]
pub struct Intents {
    slots: Mutex<BTreeMap<Slot, Entry>>,
    attention: watch::Sender<Attention>,
}

/// What the steps and the runner of the pass know of each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attention {
    /// The runner writes requested intents.
    attended: bool,
    /// How often the status was written.
    written: u64,
    /// Steps that wait for their intent to be written.
    pub waiting: usize,
    /// Steps that have begun to send a change.
    pub acting: usize,
}

/// Counts one until it is dropped.
struct Counted<'a>(&'a Intents, fn(&mut Attention) -> &mut usize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0
            .attention
            .send_modify(|attention| *(self.1)(attention) -= 1);
    }
}

/// The runner writes requested intents until this is dropped.
pub struct Attending<'a>(&'a Intents);

impl Drop for Attending<'_> {
    fn drop(&mut self) {
        self.0
            .attention
            .send_modify(|attention| attention.attended = false);
    }
}

impl Intents {
    /// From now until the result is dropped, requested intents are written and
    /// [`Intents::written`] is called. The runner drops it when a write fails: then nobody waits.
    pub fn attend(&self) -> Attending<'_> {
        self.attention
            .send_modify(|attention| attention.attended = true);
        Attending(self)
    }

    /// The numbers of steps that wait and act, and their changes.
    pub fn attention(&self) -> watch::Receiver<Attention> {
        self.attention.subscribe()
    }

    /// Waits until the requested intent of `slot` is written. `false`: it was not written, and the
    /// step waits for the next pass.
    pub async fn announce(&self, slot: &Slot) -> bool {
        let mut told = self.attention.subscribe();
        let before = told.borrow_and_update().written;
        let _counted = self.count(|attention| &mut attention.waiting);
        loop {
            let now = *told.borrow_and_update();
            if !self.is_requested(slot) {
                return true;
            }
            // A write that was under way already may not hold it; the next one does.
            if !now.attended || now.written > before + 1 {
                return false;
            }
            if told.changed().await.is_err() {
                return false;
            }
        }
    }

    /// A step sends a change until the result is dropped.
    pub fn act(&self) -> impl Drop + '_ {
        self.count(|attention| &mut attention.acting)
    }

    fn count(&self, which: fn(&mut Attention) -> &mut usize) -> Counted<'_> {
        self.attention
            .send_modify(|attention| *which(attention) += 1);
        Counted(self, which)
    }

    fn is_requested(&self, slot: &Slot) -> bool {
        let slots = self.lock();
        slots
            .get(slot)
            .is_some_and(|entry| entry.state == State::Requested)
    }

    /// Requests the announcement of an expected create, before it is known to be needed.
    pub fn expect(&self, step: StepId, slot: Slot) {
        self.lock()
            .entry(slot)
            .or_insert(Entry::new(step, State::Requested));
    }

    /// Forgets what was certainly not sent, except for the creates of the steps that `was_reached` names: those ask
    /// for them.
    pub fn unexpected(&self, was_reached: impl Fn(StepId) -> bool) {
        self.lock().retain(|_, entry| {
            matches!(entry.state, State::Unknown { .. }) || was_reached(entry.step)
        });
    }

    /// Whether this create is announced, or about to be.
    pub fn knows(&self, slot: &Slot) -> bool {
        self.lock().contains_key(slot)
    }

    /// Takes over an intent that an earlier process wrote to the status: it may have been sent.
    pub fn recall(&self, step: StepId, slot: Slot) {
        self.lock().entry(slot).or_insert(Entry::new(
            step,
            State::Unknown {
                empty_since: None,
                windows: 1,
            },
        ));
    }

    /// Takes over an intent that another process has written to the status meanwhile: it may send it
    /// now, whatever this process has announced before.
    pub fn adopt(&self, step: StepId, slot: Slot) {
        let state = State::Unknown {
            empty_since: None,
            windows: OTHERS_WAIT,
        };
        self.lock().insert(slot, Entry::new(step, state));
    }

    /// Whether the create of `slot` may be sent at `now`, given that the caller has just observed
    /// that it does not exist. `Send` is returned once; the slot then counts as sent.
    pub fn before_create(
        &self,
        step: StepId,
        slot: &Slot,
        now: Instant,
        settle: Duration,
    ) -> Permit {
        let mut slots = self.lock();
        let known = slots.entry(slot.clone());
        let entry = known.or_insert(Entry::new(step, State::Requested));
        match entry.state {
            State::Requested => Permit::Announce,
            State::Announced => Self::send(&mut slots, slot, now, settle),
            State::Unknown {
                empty_since,
                windows,
            } => {
                let since = empty_since.unwrap_or(now);
                let left = (settle * windows).checked_sub(now.saturating_duration_since(since));
                match left.filter(|left| !left.is_zero()) {
                    Some(left) => {
                        entry.state = State::Unknown {
                            empty_since: Some(since),
                            windows,
                        };
                        // What another process has announced is there soon: nobody need wait for the
                        // whole time to see it.
                        Permit::Settle(left.min(settle))
                    }
                    None => Self::send(&mut slots, slot, now, settle),
                }
            }
        }
    }

    /// Sends, if the announcement is still good. Otherwise it is written again, with all others that
    /// are as old: steps that come soon need not write by themselves.
    fn send(
        slots: &mut BTreeMap<Slot, Entry>,
        slot: &Slot,
        now: Instant,
        settle: Duration,
    ) -> Permit {
        if let Some(entry) = slots.get_mut(slot) {
            if entry.is_good(now, settle) {
                entry.state = State::Unknown {
                    empty_since: None,
                    windows: 1,
                };
                return Permit::Send;
            }
            entry.state = State::Requested;
        }
        for entry in slots.values_mut() {
            if entry.state == State::Announced && !entry.is_good(now, settle) {
                entry.state = State::Requested;
            }
        }
        Permit::Announce
    }

    /// Fly.io refused the create for certain: nothing was created, so the next try need not settle.
    pub fn refused(&self, slot: &Slot) {
        if let Some(entry) = self.lock().get_mut(slot) {
            entry.state = State::Announced;
        }
    }

    /// The status that holds these intents is written. True when a step was waiting for one of them.
    pub fn written(&self, intents: &[Announcement]) -> bool {
        let mut awaited = false;
        {
            let mut slots = self.lock();
            for told in intents.iter().filter(|told| told.anew) {
                if let Some(entry) = slots.get_mut(&told.slot)
                    && entry.state == State::Requested
                {
                    entry.state = State::Announced;
                    entry.announced = Some(told.at);
                    awaited = true;
                }
            }
        }
        self.attention
            .send_modify(|attention| attention.written += 1);
        awaited
    }

    /// An announced create of `step` that may still appear, although the caller has just
    /// observed that it does not exist; and the pause before it must be observed again.
    pub fn lost(&self, step: StepId, now: Instant, settle: Duration) -> Option<(Slot, Duration)> {
        let mut slots = self.lock();
        let mine = slots.iter_mut().filter(|(_, entry)| entry.step == step);
        let mut left = mine.filter_map(|(slot, entry)| match &mut entry.state {
            State::Unknown {
                empty_since,
                windows,
            } => {
                let since = *empty_since.get_or_insert(now);
                let wait = settle * *windows;
                let left = wait.checked_sub(now.saturating_duration_since(since))?;
                (!left.is_zero()).then(|| (slot.clone(), left))
            }
            State::Requested | State::Announced => None,
        });
        left.next()
    }

    /// The created object was observed to have run to its end: its intent is removed.
    pub fn served(&self, slot: &Slot) {
        self.lock().remove(slot);
    }

    /// The step was observed to be done: its intents are removed.
    pub fn settled(&self, step: StepId) {
        self.lock().retain(|_, entry| entry.step != step);
    }

    /// Whether the step has announced a create, or is about to.
    pub fn has_open(&self, step: StepId) -> bool {
        self.lock().values().any(|entry| entry.step == step)
    }

    /// All intents that the status must hold.
    pub fn open(&self) -> Vec<Announcement> {
        let at = Instant::now();
        self.lock()
            .iter()
            .map(|(slot, entry)| Announcement {
                step: entry.step,
                slot: slot.clone(),
                anew: entry.state == State::Requested,
                of_others: entry.is_of_others(),
                at,
            })
            .collect()
    }

    /// True while an intent waits to be written.
    pub fn to_announce(&self) -> bool {
        self.lock()
            .values()
            .any(|entry| entry.state == State::Requested)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Slot, Entry>> {
        // A panic while the map is held cannot leave it half changed: each change is one write.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTLE: Duration = Duration::from_secs(10);

    fn slot() -> Slot {
        Slot {
            kind: "ManagedPostgres".into(),
            name: "cabanas-db".into(),
        }
    }

    #[test]
    fn a_create_is_sent_only_after_its_intent_is_written() {
        let intents = Intents::default();
        let now = Instant::now();
        assert_eq!(
            intents.before_create(StepId::Postgres, &slot(), now, SETTLE),
            Permit::Announce
        );
        assert_eq!(
            intents.before_create(StepId::Postgres, &slot(), now, SETTLE),
            Permit::Announce
        );
        assert!(intents.to_announce());
        intents.written(&intents.open());
        assert!(!intents.to_announce());
        assert_eq!(
            intents.before_create(StepId::Postgres, &slot(), now, SETTLE),
            Permit::Send
        );
    }

    #[test]
    fn a_create_whose_outcome_is_unknown_is_sent_again_only_after_two_empty_looks_a_window_apart() {
        let intents = Intents::default();
        let now = Instant::now();
        intents.before_create(StepId::Postgres, &slot(), now, SETTLE);
        intents.written(&intents.open());
        intents.before_create(StepId::Postgres, &slot(), now, SETTLE);

        assert_eq!(
            intents.before_create(StepId::Postgres, &slot(), now, SETTLE),
            Permit::Settle(SETTLE)
        );
        let later = now + Duration::from_secs(4);
        assert_eq!(
            intents.before_create(StepId::Postgres, &slot(), later, SETTLE),
            Permit::Settle(Duration::from_secs(6))
        );
        let almost = now + SETTLE - Duration::from_millis(1);
        assert_eq!(
            intents.before_create(StepId::Postgres, &slot(), almost, SETTLE),
            Permit::Settle(Duration::from_millis(1))
        );
        assert_eq!(
            intents.before_create(StepId::Postgres, &slot(), now + SETTLE, SETTLE),
            Permit::Send
        );
    }

    #[test]
    fn an_intent_of_an_earlier_process_settles_before_it_is_sent() {
        let intents = Intents::default();
        let now = Instant::now();
        intents.recall(StepId::Postgres, slot());
        assert_eq!(
            intents.before_create(StepId::Postgres, &slot(), now, SETTLE),
            Permit::Settle(SETTLE)
        );
        // Then this process announces it itself: the earlier one may be there yet.
        let later = now + SETTLE;
        let permit = intents.before_create(StepId::Postgres, &slot(), later, SETTLE);
        assert_eq!(permit, Permit::Announce);
        assert!(intents.open()[0].anew);
        intents.written(&intents.open());
        let permit = intents.before_create(StepId::Postgres, &slot(), later, SETTLE);
        assert_eq!(permit, Permit::Send);
    }

    #[test]
    fn an_announcement_is_good_for_a_while_and_is_then_written_again() {
        let intents = Intents::default();
        intents.expect(StepId::Postgres, slot());
        let told = intents.open();
        intents.written(&told);
        let at = told[0].at;
        let late = at + SETTLE * GOOD_FOR;
        let permit = intents.before_create(StepId::Postgres, &slot(), late, SETTLE);
        assert_eq!(permit, Permit::Announce);
        assert!(intents.to_announce());
        // Refused for certain, it is sent again without a write, but not for ever.
        intents.written(&intents.open());
        let in_time = Instant::now() + SETTLE;
        let permit = intents.before_create(StepId::Postgres, &slot(), in_time, SETTLE);
        assert_eq!(permit, Permit::Send);
        intents.refused(&slot());
        let permit = intents.before_create(StepId::Postgres, &slot(), in_time, SETTLE);
        assert_eq!(permit, Permit::Send);
        intents.refused(&slot());
        let late = Instant::now() + SETTLE * GOOD_FOR;
        let permit = intents.before_create(StepId::Postgres, &slot(), late, SETTLE);
        assert_eq!(permit, Permit::Announce);
    }

    #[test]
    fn what_another_process_announces_is_awaited_for_longer_than_it_may_send_it_and_looked_at() {
        let intents = Intents::default();
        // Whatever this one has announced before.
        intents.expect(StepId::Postgres, slot());
        intents.written(&intents.open());
        assert!(!intents.open()[0].of_others);
        intents.adopt(StepId::Postgres, slot());
        assert!(!intents.open()[0].anew && intents.open()[0].of_others);
        let now = Instant::now();
        let wait = SETTLE * OTHERS_WAIT;
        assert!(wait > SETTLE * GOOD_FOR);
        let permit = intents.before_create(StepId::Postgres, &slot(), now, SETTLE);
        assert_eq!(permit, Permit::Settle(SETTLE), "it is looked for meanwhile");
        let almost = now + wait - Duration::from_millis(1);
        let permit = intents.before_create(StepId::Postgres, &slot(), almost, SETTLE);
        assert_eq!(permit, Permit::Settle(Duration::from_millis(1)));
        let later = now + wait;
        let permit = intents.before_create(StepId::Postgres, &slot(), later, SETTLE);
        assert_eq!(permit, Permit::Announce);
        assert_eq!(intents.lost(StepId::Postgres, later, SETTLE), None);
        intents.adopt(StepId::Postgres, slot());
        let left = intents.lost(StepId::Postgres, now, SETTLE);
        assert_eq!(left, Some((slot(), wait)));
    }

    #[test]
    fn a_refused_create_may_be_sent_again_at_once() {
        let intents = Intents::default();
        let now = Instant::now();
        intents.before_create(StepId::Postgres, &slot(), now, SETTLE);
        intents.written(&intents.open());
        intents.before_create(StepId::Postgres, &slot(), now, SETTLE);
        intents.refused(&slot());
        assert_eq!(
            intents.before_create(StepId::Postgres, &slot(), now, SETTLE),
            Permit::Send
        );
    }

    #[test]
    fn an_intent_that_has_served_is_dropped_and_a_later_create_is_announced_anew() {
        let intents = Intents::default();
        let now = Instant::now();
        intents.before_create(StepId::Machines, &slot(), now, SETTLE);
        intents.written(&intents.open());
        intents.before_create(StepId::Machines, &slot(), now, SETTLE);
        intents.served(&slot());
        assert!(intents.open().is_empty());
        let permit = intents.before_create(StepId::Machines, &slot(), now, SETTLE);
        assert_eq!(permit, Permit::Announce);
    }

    #[test]
    fn the_intents_of_a_done_step_are_dropped_and_no_others() {
        let intents = Intents::default();
        let other = Slot {
            kind: "Redis".into(),
            name: "cabanas-redis".into(),
        };
        intents.recall(StepId::Postgres, slot());
        intents.recall(StepId::Redis, other.clone());
        intents.settled(StepId::Postgres);
        assert!(intents.has_open(StepId::Redis) && !intents.has_open(StepId::Postgres));
        assert_eq!(intents.open()[0].slot, other);
    }

    /// What became of one step's wait for its announcement, after `meanwhile`.
    async fn waited(meanwhile: impl FnOnce(&Intents)) -> Option<bool> {
        let intents = Intents::default();
        let attending = intents.attend();
        intents.expect(StepId::Postgres, slot());
        let slot = slot();
        let mut wait = std::pin::pin!(intents.announce(&slot));
        assert!(futures::poll!(&mut wait).is_pending());
        assert_eq!(intents.attention().borrow().waiting, 1);
        meanwhile(&intents);
        let ended = match futures::poll!(&mut wait) {
            std::task::Poll::Ready(written) => Some(written),
            std::task::Poll::Pending => None,
        };
        drop(attending);
        if ended.is_none() {
            let unattended = futures::poll!(&mut wait);
            assert_eq!(unattended, std::task::Poll::Ready(false), "nobody writes");
        }
        assert_eq!(intents.attention().borrow().waiting, 0);
        ended
    }

    #[tokio::test]
    async fn a_step_waits_until_its_intent_is_written_or_certainly_not() {
        let is_written = waited(|intents| {
            intents.written(&intents.open());
        });
        assert_eq!(is_written.await, Some(true));
        // This write may have begun before the step asked: the next one holds its intent.
        let without = |intents: &Intents| {
            intents.written(&[]);
        };
        assert_eq!(waited(without).await, None);
        let twice = |intents: &Intents| {
            intents.written(&[]);
            intents.written(&[]);
        };
        assert_eq!(waited(twice).await, Some(false));
        assert_eq!(waited(|_| ()).await, None);
    }

    #[test]
    fn a_change_counts_as_being_sent_until_it_has_ended() {
        let intents = Intents::default();
        let acting = intents.act();
        assert_eq!(intents.attention().borrow().acting, 1);
        drop(acting);
        assert_eq!(intents.attention().borrow().acting, 0);
    }

    #[test]
    fn a_lost_create_may_appear_until_it_was_missing_for_a_settle_window() {
        let intents = Intents::default();
        let now = Instant::now();
        assert_eq!(intents.lost(StepId::Postgres, now, SETTLE), None);
        intents.expect(StepId::Postgres, slot());
        assert_eq!(
            intents.lost(StepId::Postgres, now, SETTLE),
            None,
            "not sent"
        );
        intents.written(&intents.open());
        intents.before_create(StepId::Postgres, &slot(), now, SETTLE);
        assert_eq!(
            intents.lost(StepId::Postgres, now, SETTLE),
            Some((slot(), SETTLE))
        );
        let half = now + SETTLE / 2;
        assert_eq!(
            intents.lost(StepId::Postgres, half, SETTLE),
            Some((slot(), SETTLE / 2))
        );
        assert_eq!(intents.lost(StepId::Redis, half, SETTLE), None, "another's");
        assert_eq!(intents.lost(StepId::Postgres, now + SETTLE, SETTLE), None);
    }
}
