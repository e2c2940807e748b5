//! What starts a pass besides the queue: long polls on Fly.io, and observations of Secrets.
//!
//! A step never waits in a worker. It returns what would end its wait; [`Waits`] runs the long poll in
//! the background and wakes the object when the poll ends. [`secrets`] reads Secrets by name where no
//! watch may list them.
//!
//! May use: `pipeline` and what is below it. Start reading at [`Waits::ensure`].

pub mod secrets;

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::channel::mpsc;
use kube::runtime::reflector::ObjectRef;
use tokio::task::AbortHandle;

use crate::{
    api::Activation,
    fly,
    pipeline::{StepId, Wake, observations::Fired},
    process::workqueue::Kind,
    redact,
};

/// Longest time of one long poll. Fly.io's proxy ends a call after 60 s
/// (fly.io/docs/machines/api/machines-resource/#wait-for-a-machine-to-reach-a-specified-state).
const POLL: Duration = Duration::from_secs(55);

/// Most polls of one wait. After them the object is woken anyway.
const TRIES: u32 = 5;

/// A long poll that is under way.
#[derive(Debug)]
struct Running {
    wake: Wake,
    task: AbortHandle,
}

/// All waits of this process: at most one for each step of each object.
#[derive(Clone, Debug)]
pub struct Waits {
    scopes: Arc<[Scope]>,
    touched: Arc<Mutex<HashSet<Woken>>>,
    running: Arc<Mutex<BTreeMap<(String, StepId), Running>>>,
}

/// A namespace that is watched (`None`: all), and the stream of objects to wake in it.
type Scope = (Option<String>, mpsc::UnboundedSender<(Woken, Kind)>);

/// An object whose next pass is due now.
pub type Woken = ObjectRef<Activation>;

/// The objects to wake in one scope, each with the kind of work that it then is.
pub type Wakes = mpsc::UnboundedReceiver<(Woken, Kind)>;

impl Waits {
    /// No waits yet. Returns for each scope (a namespace, or `None` for all) the stream of objects to
    /// wake.
    pub fn new(scopes: &[Option<String>]) -> (Self, Vec<Wakes>) {
        let (senders, receivers): (Vec<Scope>, Vec<_>) = scopes
            .iter()
            .map(|scope| {
                let (sender, receiver) = mpsc::unbounded();
                ((scope.clone(), sender), receiver)
            })
            .unzip();
        let waits = Self {
            scopes: senders.into(),
            touched: Arc::default(),
            running: Arc::default(),
        };
        (waits, receivers)
    }

    /// Marks an object: something that it names may have changed, so that its next pass reads it
    /// again.
    pub fn touch(&self, object: &Woken) {
        self.touched().insert(object.clone());
    }

    /// Whether the object was marked since the last call. Removes the mark.
    pub fn take_touched(&self, object: &Woken) -> bool {
        self.touched().remove(object)
    }

    fn touched(&self) -> MutexGuard<'_, HashSet<Woken>> {
        self.touched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes an object now, for this kind of work.
    pub fn wake(&self, object: &Woken, kind: Kind) {
        for (scope, sender) in self.scopes.iter() {
            if scope.is_none() || *scope == object.namespace {
                // The receiver is gone only when the controller has ended.
                let _ = sender.unbounded_send((object.clone(), kind));
            }
        }
    }

    /// Starts the wait of `step` unless it is under way, and ends any other wait of the step.
    pub fn ensure(
        &self,
        object: &Woken,
        uid: &str,
        step: StepId,
        wake: Option<&Wake>,
        fly: &fly::Client,
        fired: &Arc<Fired>,
    ) {
        let key = (uid.to_owned(), step);
        let mut running = self.lock();
        if let Some(current) = running.get(&key) {
            if Some(&current.wake) == wake && !current.task.is_finished() {
                return;
            }
            current.task.abort();
            running.remove(&key);
        }
        let Some(
            wake @ Wake::Machine {
                app,
                id,
                version,
                state,
                ..
            },
        ) = wake
        else {
            return;
        };
        let what = fly::WaitFor {
            state: state.clone(),
            version: version.clone(),
            timeout: POLL,
        };
        let poll = long_poll(fly.clone(), app.clone(), id.clone(), what);
        let (fired, waits, object) = (fired.clone(), self.clone(), object.clone());
        let task = tokio::spawn(redact::carry(async move {
            poll.await;
            fired.fire(step);
            waits.wake(&object, Kind::Progress);
        }));
        running.insert(
            key,
            Running {
                wake: wake.clone(),
                task: task.abort_handle(),
            },
        );
    }

    /// Ends all waits of an object.
    pub fn forget(&self, uid: &str) {
        self.lock().retain(|(owner, _), running| {
            if owner == uid {
                running.task.abort();
            }
            owner != uid
        });
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, StepId), Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Polls until the machine has the state, can no longer reach it, or Fly.io does not answer. However
/// it ends, the object is observed: the answer of the poll decides nothing.
async fn long_poll(fly: fly::Client, app: String, id: String, what: fly::WaitFor) {
    for _ in 0..TRIES {
        match fly.wait_machine(&app, &id, &what).await {
            Ok(fly::Waited::Reached { .. } | fly::Waited::Gone) => return,
            Ok(fly::Waited::NotYet) => {}
            Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}
