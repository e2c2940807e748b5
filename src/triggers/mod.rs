//! Waits in the background: a long poll on Fly.io that wakes the object the moment the fact
//! changes. No worker waits.

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
};

/// Longest time of one long poll. Fly.io's proxy ends a call after 60 s
/// (fly.io/docs/machines/api/machines-resource/#wait-for-a-machine-to-reach-a-specified-state).
const POLL: Duration = Duration::from_secs(55);

/// Tries of one wait before the object looks for itself.
const TRIES: u32 = 5;

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

/// One namespace that is watched, or all of them, and where its wakes go.
type Scope = (Option<String>, mpsc::UnboundedSender<Woken>);

/// An object that is to be looked at now.
pub type Woken = ObjectRef<Activation>;

impl Waits {
    /// The waits, and for each scope (a namespace, or `None` for all) the stream of objects that
    /// they wake.
    pub fn new(scopes: &[Option<String>]) -> (Self, Vec<mpsc::UnboundedReceiver<Woken>>) {
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

    /// Notes that something which an object names may have changed: its next pass reads it anew.
    pub fn touch(&self, object: &Woken) {
        self.touched().insert(object.clone());
    }

    /// Whether an object was touched since this was asked last.
    pub fn take_touched(&self, object: &Woken) -> bool {
        self.touched().remove(object)
    }

    fn touched(&self) -> MutexGuard<'_, HashSet<Woken>> {
        self.touched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes an object now.
    pub fn wake(&self, object: &Woken) {
        for (scope, sender) in self.scopes.iter() {
            if scope.is_none() || *scope == object.namespace {
                // The receiver is gone only when the controller has ended.
                let _ = sender.unbounded_send(object.clone());
            }
        }
    }

    /// Sees to it that the wait of `step` is under way, and that no other one of this step is.
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
        let task = tokio::spawn(async move {
            poll.await;
            fired.fire(step);
            waits.wake(&object);
        });
        running.insert(
            key,
            Running {
                wake: wake.clone(),
                task: task.abort_handle(),
            },
        );
    }

    /// Ends all waits of an object that is gone.
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

/// Polls until the machine is in the state, cannot get there any more, or Fly.io does not answer.
/// Whatever ends it, the object looks for itself: the answer is not believed.
async fn long_poll(fly: fly::Client, app: String, id: String, what: fly::WaitFor) {
    for _ in 0..TRIES {
        match fly.wait_machine(&app, &id, &what).await {
            Ok(fly::Waited::Reached { .. } | fly::Waited::Gone) => return,
            Ok(fly::Waited::NotYet) => {}
            Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}
