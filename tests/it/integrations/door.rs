//! The way to Fly.io's edge, which can be held: connections that come then wait until it is open again.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// Connections that may pass: all.
const ALL: usize = usize::MAX / 2;

/// It forwards bytes: TLS is between its two sides.
pub struct Door {
    address: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

struct State {
    /// How many connections may still pass.
    left: watch::Sender<usize>,
    waiting: AtomicUsize,
    passed: AtomicUsize,
}

impl Door {
    /// An open door to this address.
    pub async fn to(edge: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            left: watch::Sender::new(ALL),
            waiting: AtomicUsize::new(0),
            passed: AtomicUsize::new(0),
        });
        let of = state.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(pass(of.clone(), stream, edge));
            }
        });
        Self {
            address,
            state,
            task,
        }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets only so many more connections pass.
    pub fn hold_after(&self, connections: usize) {
        self.state.waiting.store(0, Ordering::SeqCst);
        self.state.left.send_replace(connections);
    }

    /// Lets all pass, also those that wait.
    pub fn open(&self) {
        self.state.left.send_replace(ALL);
    }

    /// Connections that came while it was held.
    pub fn waiting(&self) -> usize {
        self.state.waiting.load(Ordering::SeqCst)
    }

    /// Connections that have passed.
    pub fn passed(&self) -> usize {
        self.state.passed.load(Ordering::SeqCst)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(state: Arc<State>, mut stream: TcpStream, edge: SocketAddr) {
    let take = |left: &mut usize| {
        let may = *left > 0;
        *left = left.saturating_sub(1);
        may
    };
    let mut may = false;
    state.left.send_if_modified(|left| {
        may = take(left);
        false
    });
    if !may {
        state.waiting.fetch_add(1, Ordering::SeqCst);
        let mut left = state.left.subscribe();
        let opened = left.wait_for(|left| *left > 0).await.is_ok();
        if !opened {
            return;
        }
    }
    state.passed.fetch_add(1, Ordering::SeqCst);
    let Ok(mut edge) = TcpStream::connect(edge).await else {
        return;
    };
    // Either side may go at any time.
    drop(tokio::io::copy_bidirectional(&mut stream, &mut edge).await);
}
