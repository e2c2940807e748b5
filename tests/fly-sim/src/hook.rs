//! Places where a test can stop the world: before, after, and after the reply of the k-th
//! mutating call.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Where in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Point {
    /// The request has arrived, nothing has happened yet.
    BeforeApply,
    /// The effect is there, the client does not know.
    AfterApply,
    /// The answer has been handed to the connection.
    AfterReply,
}

/// A mutating call, as an action sees it.
#[derive(Clone, Debug, Serialize)]
pub struct Mutation {
    /// 1, 2, 3, ... since the start or the last reset.
    pub number: u64,
    /// `POST /v1/apps/{app}/machines`, ...
    pub endpoint: String,
    /// The path as sent.
    pub path: String,
    /// Address of the client.
    pub peer: String,
}

/// What to do there; the call goes on when the future is done.
pub type Action = Arc<dyn Fn(Mutation) -> BoxFuture<'static, ()> + Send + Sync>;

/// All hooks that wait.
#[derive(Default)]
pub struct Hooks {
    inner: Mutex<BTreeMap<(u64, Point), Action>>,
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_set().entries(inner.keys()).finish()
    }
}

impl Hooks {
    /// Sets the action for one mutation and point; it runs once.
    pub fn set(&self, number: u64, point: Point, action: Action) {
        self.inner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert((number, point), action);
    }

    /// Removes all.
    pub fn clear(&self) {
        self.inner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// Takes the action of one mutation and point.
    pub fn take(&self, number: u64, point: Point) -> Option<Action> {
        self.inner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&(number, point))
    }

    /// Runs the action of one mutation and point, if there is one.
    pub async fn run(&self, mutation: &Mutation, point: Point) {
        if let Some(action) = self.take(mutation.number, point) {
            action(mutation.clone()).await;
        }
    }
}

/// A call that is held at a point until it is let go. Dropping it lets go.
#[derive(Debug)]
pub struct Pause {
    pub(crate) reached: watch::Receiver<Option<Mutation>>,
    pub(crate) resume: watch::Sender<bool>,
}

impl Pause {
    /// A pause and the action that goes with it.
    pub fn new() -> (Self, Action) {
        let (reached_tx, reached) = watch::channel(None);
        let (resume, resume_rx) = watch::channel(false);
        let action: Action = Arc::new(move |mutation| {
            let reached = reached_tx.clone();
            let mut resume = resume_rx.clone();
            Box::pin(async move {
                reached.send_replace(Some(mutation));
                let _ = resume.wait_for(|go| *go).await;
            })
        });
        (Self { reached, resume }, action)
    }

    /// Waits until a call is held here, and says which.
    pub async fn reached(&mut self) -> Option<Mutation> {
        self.reached
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|mutation| mutation.clone())
    }

    /// Lets the call go on.
    pub fn resume(&self) {
        self.resume.send_replace(true);
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        self.resume();
    }
}
