//! Leases on the machines of a rollout, so that nobody else changes them during it.
//!
//! This process holds them only while a rollout makes progress, and never on a machine that is
//! down: Fly.io's proxy does not start a leased machine. They are short and refreshed in the
//! background, so that they expire soon after a crash.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures::future::join_all;
use tokio::task::AbortHandle;

use super::slots;
use crate::{
    error::Error,
    fly::{self, Machine, MachineState, machines::HostStatus},
    pipeline::{Cx, step::Result, typed_map::TypedMap},
    redact,
};

/// How long a lease lasts without a refresh. As flyctl.
pub const LEASE: Duration = Duration::from_secs(13);

/// Pause between two refreshes. As flyctl.
const REFRESH: Duration = Duration::from_secs(4);

/// After this long without a move a rollout is idle, and its leases expire.
const IDLE: Duration = Duration::from_secs(60);

/// The description of the lease, which others see.
pub const DESCRIPTION: &str = "golive deploys";

/// The leases that this process holds for one object. In the journal.
#[derive(Debug)]
struct Leases {
    held: Arc<Mutex<Held>>,
    refresh: AbortHandle,
}

/// The state that the background refresh shares.
#[derive(Debug)]
struct Held {
    /// Nonce by machine.
    nonces: BTreeMap<String, String>,
    /// When a move last used them.
    used: Instant,
    /// Whether they are no longer refreshed.
    ended: bool,
}

impl Drop for Leases {
    fn drop(&mut self) {
        self.refresh.abort();
    }
}

fn lock(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The machines that a rollout leases, by id and name: ours that run.
pub fn leasable(machines: &[Machine]) -> Vec<(String, String)> {
    machines
        .iter()
        .filter(|machine| machine.state == MachineState::Started)
        // An unreachable host grants no lease.
        .filter(|machine| machine.host_status == HostStatus::Ok)
        .filter(|machine| !slots::runs_a_command(machine))
        .map(|machine| (machine.id.clone(), machine.name.clone()))
        .collect()
}

/// The nonce to send with a change to a machine, if this process holds its lease.
pub fn nonce(cx: &Cx, id: &str) -> Option<String> {
    let leases = cx.journal.get::<Leases>()?;
    lock(&leases.held).nonces.get(id).cloned()
}

/// Acquires the leases that are not held yet; each machine by id and name.
///
/// # Errors
/// When a lease is refused: then all are released, and nothing was changed.
pub async fn hold(cx: &Cx, machines: &[(String, String)]) -> Result<()> {
    let app = &cx.target.app;
    let missing: Vec<_> = machines
        .iter()
        .filter(|(id, _)| nonce(cx, id).is_none())
        .collect();
    let taken = missing.into_iter().map(|(id, name)| async move {
        let lease = cx.fly.acquire_lease(app, id, LEASE, DESCRIPTION).await;
        let doing = || format!("lease the machine {name}");
        lease
            .map(|lease| (id.clone(), lease.nonce))
            .map_err(|source| {
                (
                    *source.class() == fly::Class::Gone,
                    Error::fly(doing(), source),
                )
            })
    });
    let mut failed = None;
    let mut nonces = BTreeMap::new();
    for taken in join_all(taken).await {
        match taken {
            Ok((id, nonce)) => {
                nonces.insert(id, nonce);
            }
            // The machine is gone, which the next observation finds.
            Err((true, _)) => {}
            Err((false, error)) => failed = Some(error),
        }
    }
    store(cx, nonces);
    match failed {
        None => Ok(()),
        Some(error) => {
            release(cx).await;
            Err(error)
        }
    }
}

fn store(cx: &Cx, nonces: BTreeMap<String, String>) {
    if let Some(leases) = cx.journal.get::<Leases>() {
        let mut held = lock(&leases.held);
        if !held.ended {
            held.nonces.extend(nonces);
            held.used = Instant::now();
            return;
        }
    }
    if nonces.is_empty() {
        return;
    }
    let held = Arc::new(Mutex::new(Held {
        nonces,
        used: Instant::now(),
        ended: false,
    }));
    let refresh = refresh(cx.fly.clone(), cx.target.app.clone(), held.clone());
    cx.journal.set(Leases {
        held,
        refresh: tokio::spawn(redact::carry(refresh)).abort_handle(),
    });
}

/// Refreshes all leases until the rollout is idle.
async fn refresh(fly: fly::Client, app: String, held: Arc<Mutex<Held>>) {
    loop {
        tokio::time::sleep(REFRESH).await;
        let nonces = {
            let mut held = lock(&held);
            if held.used.elapsed() > IDLE {
                // They expire soon. A rollout that continues acquires others.
                held.nonces.clear();
                held.ended = true;
                return;
            }
            held.nonces.clone()
        };
        let refreshed = nonces.iter().map(|(id, nonce)| {
            let (fly, app) = (&fly, &app);
            async move { (id, fly.refresh_lease(app, id, nonce, LEASE).await) }
        });
        for (id, lease) in join_all(refreshed).await {
            if let Err(error) = lease {
                // It expired, or its machine is gone. The next move acquires another one.
                tracing::debug!(machine = %id, %error, "the lease was not refreshed");
                lock(&held).nonces.remove(id);
            }
        }
    }
}

/// Stops the refresh, so that the leases expire: nothing moves before it is requested, and until
/// then others may change the machines.
pub fn let_end(journal: &TypedMap) {
    journal.clear::<Leases>();
}

/// Keeps the leases of a rollout that continues. The lease of a machine that has stopped is
/// released, so that the proxy can start it.
pub async fn keep_for(cx: &Cx, machines: &[Machine]) {
    let Some(leases) = cx.journal.get::<Leases>() else {
        return;
    };
    let asleep = |machine: &&Machine| {
        matches!(
            machine.state,
            MachineState::Stopped | MachineState::Suspended
        ) && machine.cordoned != Some(true)
    };
    let ended: BTreeMap<String, String> = {
        let mut held = lock(&leases.held);
        held.used = Instant::now();
        let asleep = machines.iter().filter(asleep);
        asleep
            .filter_map(|machine| held.nonces.remove_entry(&machine.id))
            .collect()
    };
    send_releases(cx, ended).await;
}

/// Forgets the lease of a machine that is gone.
pub fn forget(cx: &Cx, id: &str) {
    if let Some(leases) = cx.journal.get::<Leases>() {
        lock(&leases.held).nonces.remove(id);
    }
}

/// Releases all leases: the rollout has ended or is blocked.
pub async fn release(cx: &Cx) {
    let Some(leases) = cx.journal.get::<Leases>() else {
        return;
    };
    cx.journal.clear::<Leases>();
    leases.refresh.abort();
    let nonces = std::mem::take(&mut lock(&leases.held).nonces);
    send_releases(cx, nonces).await;
}

async fn send_releases(cx: &Cx, nonces: BTreeMap<String, String>) {
    let app = &cx.target.app;
    let released = nonces.iter().map(|(id, nonce)| async move {
        if let Err(error) = cx.fly.release_lease(app, id, nonce).await {
            tracing::warn!(machine = %id, %error, "the lease was not released; it expires by itself");
        }
    });
    join_all(released).await;
}
