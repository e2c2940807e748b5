//! Leases on the machines of a rollout: nobody else changes them in the middle of it.
//!
//! They are held by this process only while a rollout moves, and never on a machine that is down:
//! a lease keeps Fly.io's proxy from starting it (fly-api.md L). They are short and refreshed in the
//! background, so they end by themselves soon after a crash.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures::future::join_all;
use tokio::task::AbortHandle;

use crate::phase::deploy::fleet;
use crate::{
    error::Error,
    fly::{self, Machine, MachineState, machines::HostStatus},
    pipeline::{Cx, step::Result, typed_map::TypedMap},
};

/// How long a lease lasts that is not refreshed. As flyctl (fly-api.md B.6).
pub const LEASE: Duration = Duration::from_secs(13);

/// Pause between two refreshes. As flyctl.
const REFRESH: Duration = Duration::from_secs(4);

/// A rollout that nobody has moved on for this long is idle: its leases are left to end.
const IDLE: Duration = Duration::from_secs(60);

/// What the lease is for, as others see it.
pub const WHY: &str = "golive deploys";

/// The leases that this process holds for one object. In the journal.
#[derive(Debug)]
struct Leases {
    held: Arc<Mutex<Held>>,
    refresh: AbortHandle,
}

#[derive(Debug)]
struct Held {
    /// Nonce by machine.
    nonces: BTreeMap<String, String>,
    touched: Instant,
    /// They are refreshed no more.
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

/// Machines that a rollout holds: ours that run.
pub fn wanted(machines: &[Machine]) -> Vec<(String, String)> {
    machines
        .iter()
        .filter(|machine| machine.state == MachineState::Started)
        // No lease can be had where nobody answers.
        .filter(|machine| machine.host_status == HostStatus::Ok)
        .filter(|machine| !fleet::runs_a_command(machine))
        .map(|machine| (machine.id.clone(), machine.name.clone()))
        .collect()
}

/// The nonce to show with a change to a machine, if its lease is held.
pub fn nonce(cx: &Cx, id: &str) -> Option<String> {
    let leases = cx.journal.get::<Leases>()?;
    lock(&leases.held).nonces.get(id).cloned()
}

/// Takes the leases that are not held yet; each machine by id and name.
///
/// # Errors
/// When one of them cannot be had: then none is kept, and nothing was changed.
pub async fn hold(cx: &Cx, machines: &[(String, String)]) -> Result<()> {
    let app = &cx.target.app;
    let missing: Vec<_> = machines
        .iter()
        .filter(|(id, _)| nonce(cx, id).is_none())
        .collect();
    let taken = missing.into_iter().map(|(id, name)| async move {
        let lease = cx.fly.acquire_lease(app, id, LEASE, WHY).await;
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
            // Gone meanwhile: the next look knows.
            Err((true, _)) => {}
            Err((false, error)) => failed = Some(error),
        }
    }
    keep(cx, nonces);
    match failed {
        None => Ok(()),
        Some(error) => {
            release(cx).await;
            Err(error)
        }
    }
}

fn keep(cx: &Cx, nonces: BTreeMap<String, String>) {
    if let Some(leases) = cx.journal.get::<Leases>() {
        let mut held = lock(&leases.held);
        if !held.ended {
            held.nonces.extend(nonces);
            held.touched = Instant::now();
            return;
        }
    }
    if nonces.is_empty() {
        return;
    }
    let held = Arc::new(Mutex::new(Held {
        nonces,
        touched: Instant::now(),
        ended: false,
    }));
    let refresh = refresh(cx.fly.clone(), cx.target.app.clone(), held.clone());
    cx.journal.set(Leases {
        held,
        refresh: tokio::spawn(refresh).abort_handle(),
    });
}

/// Refreshes all leases until the rollout is idle.
async fn refresh(fly: fly::Client, app: String, held: Arc<Mutex<Held>>) {
    loop {
        tokio::time::sleep(REFRESH).await;
        let nonces = {
            let mut held = lock(&held);
            if held.touched.elapsed() > IDLE {
                // They end by themselves soon: who goes on takes others.
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
                // It ended, or its machine did. The next move takes another one, if it can.
                tracing::debug!(machine = %id, %error, "the lease was not refreshed");
                lock(&held).nonces.remove(id);
            }
        }
    }
}

/// Nothing moves before somebody asks for it: the leases are refreshed no more, and end by themselves
/// soon. They would keep others from changing the machines.
pub fn let_end(journal: &TypedMap) {
    journal.clear::<Leases>();
}

/// The rollout goes on. The lease of a machine that is down by now, and might be wanted, is given
/// back.
pub async fn go_on(cx: &Cx, machines: &[Machine]) {
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
        held.touched = Instant::now();
        let asleep = machines.iter().filter(asleep);
        asleep
            .filter_map(|machine| held.nonces.remove_entry(&machine.id))
            .collect()
    };
    give_back(cx, ended).await;
}

/// A machine is gone, and its lease with it.
pub fn forget(cx: &Cx, id: &str) {
    if let Some(leases) = cx.journal.get::<Leases>() {
        lock(&leases.held).nonces.remove(id);
    }
}

/// Gives all leases back: the rollout has ended, or stands still.
pub async fn release(cx: &Cx) {
    let Some(leases) = cx.journal.get::<Leases>() else {
        return;
    };
    cx.journal.clear::<Leases>();
    leases.refresh.abort();
    let nonces = std::mem::take(&mut lock(&leases.held).nonces);
    give_back(cx, nonces).await;
}

async fn give_back(cx: &Cx, nonces: BTreeMap<String, String>) {
    let app = &cx.target.app;
    let released = nonces.iter().map(|(id, nonce)| async move {
        if let Err(error) = cx.fly.release_lease(app, id, nonce).await {
            tracing::warn!(machine = %id, %error, "the lease was not given back; it ends by itself");
        }
    });
    join_all(released).await;
}
