//! `world down`: ends exactly the processes of one world and removes its files.

use std::path::Path;
use std::time::{Duration, Instant};

use kube_env::process::Identity;
use nix::sys::signal::Signal;

use crate::fault::Fault;
use crate::out::say;
use crate::place::Place;
use crate::state::State;

/// How long the supervisor may take to end the parts in order.
const ORDERLY: Duration = Duration::from_secs(60);

/// How long a guard may take after its supervisor has gone.
const ALONE: Duration = Duration::from_secs(30);

/// Ends the world. It is no error if there is none.
pub async fn down(place: &Place) -> Result<(), Fault> {
    let Some(state) = State::read(place) else {
        remove(place)?;
        say!("world {}: nothing was running", place.name());
        return Ok(());
    };
    let was_alive = state.is_alive();
    // On SIGTERM the supervisor ends the parts in order. If it is killed instead, their guards end
    // them.
    state.supervisor.signal(Signal::SIGTERM);
    if !gone(&[state.supervisor], ORDERLY).await {
        state.supervisor.signal(Signal::SIGKILL);
    }
    let parts: Vec<_> = state.parts.iter().map(|part| part.identity).collect();
    if !gone(&parts, ALONE).await {
        for part in &parts {
            part.signal(Signal::SIGKILL);
        }
        if !gone(&parts, ALONE).await {
            return Err(Fault::new(format!(
                "some parts do not end: see the process ids in {}",
                place.shown(&place.state_file())
            )));
        }
    }
    remove(place)?;
    say!(
        "world {}: {}",
        place.name(),
        if was_alive {
            "ended, nothing is left"
        } else {
            "had ended before; its files are removed"
        }
    );
    if state.own_cluster {
        say!(
            "In your own cluster these are left, on purpose. To remove them:\n  \
             kubectl delete namespace cabanas   # after its Activations are deleted\n  \
             then, if no other Golive is in it: docs/install.md, \"Uninstall\""
        );
    }
    Ok(())
}

async fn gone(identities: &[Identity], limit: Duration) -> bool {
    let started = Instant::now();
    while identities.iter().any(Identity::is_alive) {
        if started.elapsed() > limit {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    true
}

fn remove(place: &Place) -> Result<(), Fault> {
    let cannot = |path: &Path| {
        let what = format!("cannot remove {}", path.display());
        move |source| Fault::because(what, source)
    };
    if place.dir().exists() {
        std::fs::remove_dir_all(place.dir()).map_err(cannot(&place.dir()))?;
    }
    for file in [place.env_file(), place.lock_file()] {
        if file.exists() {
            std::fs::remove_file(&file).map_err(cannot(&file))?;
        }
    }
    // The last world removes the common directory.
    let _ = std::fs::remove_dir(place.root().join(".golive"));
    Ok(())
}
