//! Tells people: takes each status as it was written, keeps what is news in the outbox of its object, and
//! sends it to the receivers. It works beside the passes; none of them waits for it, and it writes no
//! status.
//!
//! One *round* of an object reads its outbox if this process has not, takes in what is true now, stores
//! that before anything is sent, sends what is due, and stores how that ended. A round that would change
//! nothing writes nothing. Only a process that leads begins one. Start reading in `round.rs`.
//!
//! | file | what it does |
//! |---|---|
//! | `snapshot` | what a round works with: the facts of the status, and the receivers |
//! | `desk` | whose round is due. Pure |
//! | `parts` | what all rounds share |
//! | `round` | one round of one object |
//! | `address` | where a receiver is, from the values of its Secret. Pure |
//! | `deliver` | sends one message |
//! | `told` | the events about receivers. Pure |

mod address;
mod deliver;
mod desk;
mod parts;
mod round;
mod snapshot;
mod told;

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::FutureExt;
use tokio::{sync::Notify, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use self::{
    desk::{Ended, Job},
    parts::Shared,
    snapshot::Snapshot,
};
use crate::{
    api::{Activation, ActivationStatus, Owner},
    process::{turnstile::Turnstile, workqueue::Object},
    redact,
};

pub use self::parts::Parts;

/// Rounds at once, of all objects.
const AT_ONCE: usize = 32;

/// Most of them that are for the objects of one namespace.
const AT_ONCE_OF_ONE: usize = 8;

/// Pause before the round of an object that could not be brought to its end.
const AFTER_A_BUG: Duration = Duration::from_secs(60);

/// Time for rounds that are under way when the process ends.
const LAST_WORDS: Duration = Duration::from_secs(30);

/// Longest time that a deletion waits for the end of a round.
const DEPARTURE: Duration = Duration::from_secs(5);

/// Tells people. Clones share it.
#[derive(Clone)]
pub struct Notifier(Arc<Shared>);

impl Notifier {
    /// A notifier that has told nothing yet. It tells while [`Notifier::run`] runs.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(Shared {
            parts,
            desk: Mutex::default(),
            added: Notify::new(),
            limit: Turnstile::with_share(AT_ONCE, AT_ONCE_OF_ONE),
            stop: CancellationToken::new(),
        }))
    }

    /// Whether anybody is told of this object.
    #[must_use]
    pub fn concerns(&self, activation: &Activation) -> bool {
        !activation.spec.notifications.is_empty() || !self.0.parts.defaults.is_empty()
    }

    /// Takes note of a status as it was written. To be called in the scope of the object's secrets.
    pub fn tell(&self, activation: &Activation, status: &ActivationStatus) {
        let Some(snapshot) = Snapshot::of(activation, status, &self.0.parts.defaults) else {
            return;
        };
        let unheard = self.0.desk().tell(snapshot, redact::current());
        match unheard {
            Some(about) => self
                .0
                .parts
                .publisher
                .publish(&about, vec![told::no_receiver()]),
            None => self.0.added.notify_one(),
        }
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, object: &Object) {
        drop(self.0.desk().remove(object));
    }

    /// Ends what is told of an object that is about to go: when this returns, nothing more is stored for
    /// it.
    pub async fn leave(&self, owner: &Owner) {
        let object = Object::new(&owner.namespace, &owner.name);
        let running = self.0.desk().remove(&object);
        if let Some(turn) = running {
            drop(tokio::time::timeout(DEPARTURE, turn.lock()).await);
        }
    }

    /// Tells people until `stop`, then waits for rounds that are under way.
    pub async fn run(&self, stop: CancellationToken) {
        let shared = &self.0;
        let mut rounds = JoinSet::new();
        loop {
            let added = shared.added.notified();
            let (due, next) = shared.desk().due(Instant::now());
            for job in due {
                rounds.spawn(begin(shared.clone(), job));
            }
            let pause = next.map(|at| at.saturating_duration_since(Instant::now()));
            tokio::select! {
                () = added => {}
                () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
                Some(_) = rounds.join_next(), if !rounds.is_empty() => {}
                () = stop.cancelled() => break,
            }
        }
        shared.stop.cancel();
        let all = async { while rounds.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_WORDS, all).await.is_err() {
            tracing::warn!("some notifications were cut off; the next process sends them");
        }
    }
}

/// One round, to its end.
async fn begin(shared: Arc<Shared>, job: Job) {
    let turn = job.turn.clone();
    let _turn = turn.lock().await;
    let (object, redactor) = (job.object.clone(), job.redactor.clone());
    let uid = job.snapshot.owner.uid.clone();
    let span = tracing::info_span!("notify", namespace = %object.namespace, name = %object.name);
    let round = async {
        let _place = shared.limit.enter(&object.namespace).await;
        round::run(&shared, job).await
    };
    let round = AssertUnwindSafe(redact::scope(redactor, round.instrument(span)));
    let ended = round.catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!(object = %object, "a bug: a notification panicked");
        Ended {
            stored: None,
            next: Some(AFTER_A_BUG),
        }
    });
    shared.desk().ended(&object, &uid, ended, Instant::now());
    shared.added.notify_one();
}
