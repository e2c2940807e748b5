//! The thread of the lease: an election with a runtime and a connection of its own.
//!
//! A lease that is renewed by the runtime that also works is lost when that runtime is held up, for
//! example by a long computation. Then the replicas take turns in losing it, and none of them works.
//! So the election runs on its own thread. The other side reads [`Leader`], a deadline on the
//! monotonic clock in shared memory: it needs no message to know that a term is over.
//!
//! The thread renews the lease of a process whose runtime hangs, too. That such a process is
//! restarted is the task of the liveness probe, which the hanging runtime does not answer.

use std::time::Duration;

use kube::Client;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{Candidate, Election, Leader, Lost, Term};
use crate::process::kube_client;

/// Why there is no election.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The thread cannot be started.
    #[error("cannot start the thread that renews the lease")]
    Thread(#[from] std::io::Error),
    /// The thread has no client for the API server.
    #[error(transparent)]
    Kube(#[from] kube_client::Error),
    /// The thread ended before it was elected.
    #[error("the thread that renews the lease has ended")]
    Ended,
}

/// A term as leader, which another thread keeps. Dropping it ends the renewals, so that the lease
/// expires.
pub struct Elected {
    leader: Leader,
    lost: oneshot::Receiver<Lost>,
    end: Option<Lost>,
    release: oneshot::Sender<()>,
    released: oneshot::Receiver<()>,
}

/// Waits on a thread of its own until this process leads. `None` after `shutdown`. `connect` creates
/// the client of that thread.
///
/// # Errors
/// When the thread or its client cannot be created.
pub async fn elect(
    connect: impl FnOnce() -> Result<Client, kube_client::Error> + Send + 'static,
    election: Election,
    shutdown: CancellationToken,
) -> Result<Option<Elected>, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (won, elected) = oneshot::channel();
    let life = async move {
        let kube = match connect() {
            Ok(kube) => kube,
            Err(error) => {
                let _ = won.send(Err(error));
                return;
            }
        };
        match Candidate::new(kube, election).acquire(&shutdown).await {
            Some(term) => lead(term, won).await,
            None => {
                let _ = won.send(Ok(None));
            }
        }
    };
    std::thread::Builder::new()
        .name("lease".to_owned())
        .spawn(move || runtime.block_on(life))?;
    Ok(elected.await.map_err(|_| Error::Ended)??)
}

/// Keeps a term until it is lost, or the other side releases or drops it.
async fn lead(mut term: Term, won: oneshot::Sender<Result<Option<Elected>, kube_client::Error>>) {
    let (tell, lost) = oneshot::channel();
    let (release, asked) = oneshot::channel();
    let (done, released) = oneshot::channel();
    let elected = Elected {
        leader: term.leader(),
        lost,
        end: None,
        release,
        released,
    };
    if won.send(Ok(Some(elected))).is_err() {
        // Nobody waits any more: the process stops.
        term.release().await;
        return;
    }
    let asked = tokio::select! {
        asked = asked => asked,
        end = term.lost() => {
            let _ = tell.send(end);
            return;
        }
    };
    if asked.is_ok() {
        term.release().await;
    }
    let _ = done.send(());
}

impl Elected {
    /// A handle to the remaining time of the term.
    pub fn leader(&self) -> Leader {
        self.leader.clone()
    }

    /// Returns when the term is over. The process must then stop at once.
    pub async fn lost(&mut self) -> Lost {
        if let Some(end) = &self.end {
            return end.clone();
        }
        let end = (&mut self.lost).await.unwrap_or_else(|_| Lost::NotRenewed {
            after: Duration::ZERO,
            last: "the thread that renews the lease has ended".to_owned(),
        });
        self.end = Some(end.clone());
        end
    }

    /// Releases the lease, so that another replica need not wait for its expiry. To be called after
    /// the last write to Fly.io has ended.
    pub async fn release(self) {
        // Errors mean that the term is over already.
        let _ = self.release.send(());
        let _ = self.released.await;
    }
}
