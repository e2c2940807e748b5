//! The process that holds a world: starts the parts, waits, and ends them in order. If it is killed,
//! the guards end the parts.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kube_env::control_plane::Options;
use kube_env::process::{Identity, Process};
use kube_env::{Cluster, ControlPlane};
use nix::fcntl::{Flock, FlockArg};
use tokio::signal::unix::{SignalKind, signal};

use crate::fault::Fault;
use crate::place::Place;
use crate::state::{Part, State, render_env};
use crate::{Which, install, parts};

/// How often the parts are checked.
const LOOK: Duration = Duration::from_millis(500);

/// Everything that runs, in the order in which it must end: a part ends before those that it uses.
#[derive(Default)]
struct World {
    operator: Option<Process>,
    vendors: Option<Process>,
    fly: Option<Process>,
    control_plane: Option<ControlPlane>,
}

/// Starts a world and holds it until SIGTERM or SIGINT.
pub async fn supervise(place: &Place, which: &Which) -> Result<(), Fault> {
    // A session of our own: the terminal that we were started from may close.
    let _ = nix::unistd::setsid();
    let _lock = lock(place)?;
    let me = Identity::of(std::process::id())
        .ok_or_else(|| Fault::new("cannot read /proc, which tells processes apart"))?;
    let mut state = State::new(me, which.kubeconfig.is_some());
    state.write(place)?;

    let mut ended = [
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
        signal(SignalKind::hangup()),
    ]
    .into_iter()
    .collect::<std::io::Result<Vec<_>>>()
    .map_err(|source| Fault::because("cannot listen to signals", source))?;
    let mut asked = Box::pin(futures::future::select_all(
        ended.iter_mut().map(|signal| Box::pin(signal.recv())),
    ));

    let mut world = World::default();
    let outcome = tokio::select! {
        outcome = start(place, which, &mut state, &mut world) => outcome,
        _ = &mut asked => Err(Fault::new("asked to end while starting")),
    };
    match outcome {
        Ok(()) => {
            state.ready = true;
            state.write(place)?;
        }
        Err(fault) => {
            state.failure = Some(fault.report());
            state.write(place)?;
            return Err(fault);
        }
    }
    let mut again = signal(SignalKind::user_defined1())
        .map_err(|source| Fault::because("cannot listen to signals", source))?;
    loop {
        tokio::select! {
            _ = &mut asked => return Ok(()),
            _ = again.recv() => {
                tokio::select! {
                    _ = &mut asked => return Ok(()),
                    done = restart_operator(place, &mut state, &mut world) => done?,
                }
            }
            () = tokio::time::sleep(LOOK) => note_ends(place, &mut state, &mut world)?,
        }
    }
}

/// Starts the operator again if it has ended, and writes down the result for whoever waits.
async fn restart_operator(
    place: &Place,
    state: &mut State,
    world: &mut World,
) -> Result<(), Fault> {
    note_ends(place, state, world)?;
    let runs = world
        .operator
        .as_mut()
        .is_some_and(|operator| operator.exited().is_none());
    if !runs {
        world.operator = None;
        state.failure = None;
        let access = place.dir().join(OPERATOR_ACCESS);
        match parts::start_operator(place, &access, &state.env).await {
            Ok((operator, listen)) => {
                state.parts.retain(|part| part.name != Part::OPERATOR);
                note_start(state, &operator);
                world.operator = Some(operator);
                state
                    .env
                    .insert(METRICS_URL.to_owned(), metrics_url(listen));
                write_env(place, &state.env)?;
            }
            Err(fault) => state.failure = Some(fault.report()),
        }
    }
    state.restarts += 1;
    state.write(place)
}

/// The variable that names the operator's metrics.
const METRICS_URL: &str = "GOLIVE_METRICS_URL";

/// The operator's rights, in the directory of the world.
const OPERATOR_ACCESS: &str = "operator.kubeconfig";

fn metrics_url(listen: std::net::SocketAddr) -> String {
    format!("http://{listen}/metrics")
}

fn lock(place: &Place) -> Result<Flock<File>, Fault> {
    let path = place.lock_file();
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|source| Fault::because(format!("cannot open {}", path.display()), source))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
        Fault::because(
            format!("world {} is already held by another process", place.name()),
            errno,
        )
    })
}

async fn start(
    place: &Place,
    which: &Which,
    state: &mut State,
    world: &mut World,
) -> Result<(), Fault> {
    let started = Instant::now();
    let dir = place.dir();
    let kubeconfig = which.kubeconfig.as_deref();
    let fly_side = async {
        let (fly, mut env) = parts::start_fly(place, &which.latency).await?;
        let vendors = parts::start_vendors(place, &which.latency, &mut env).await?;
        let scale = which.time_scale.to_string();
        env.insert(parts::TIME_SCALE.to_owned(), scale);
        Ok::<_, Fault>((fly, vendors, env))
    };
    let cluster_side = async {
        let plane = match kubeconfig {
            Some(_) => None,
            None => Some(
                ControlPlane::start(Options {
                    dir: Some(dir.join("control-plane")),
                    ..Options::default()
                })
                .await?,
            ),
        };
        let cluster = match (&plane, kubeconfig) {
            (Some(plane), _) => plane.cluster().clone(),
            (None, Some(path)) => Cluster::from_kubeconfig(path).await?,
            (None, None) => return Err(Fault::new("no cluster")),
        };
        let objects = install::install(place, &cluster).await?;
        let access = dir.join(OPERATOR_ACCESS);
        install::operator_access(&cluster, &access).await?;
        Ok::<_, Fault>((plane, cluster, objects, access))
    };
    let (fly_side, cluster_side) = tokio::join!(fly_side, cluster_side);
    let (fly, vendors, mut env) = fly_side?;
    let (mut plane, cluster, objects, access) = cluster_side?;

    if let Some(process) = plane.as_mut().and_then(ControlPlane::process) {
        note_start(state, process);
    }
    note_start(state, &fly);
    note_start(state, &vendors);
    let cluster_is = if plane.is_some() { "local" } else { "your own" };
    progress(
        place,
        state,
        started,
        format!(
            "Fly.io (simulated, latency {}) and the vendors; cluster ({cluster_is}) with {objects} objects installed",
            which.latency
        ),
    )?;
    world.control_plane = plane;
    world.vendors = Some(vendors);
    world.fly = Some(fly);

    let (operator, listen) = parts::start_operator(place, &access, &env).await?;
    note_start(state, &operator);
    world.operator = Some(operator);
    progress(
        place,
        state,
        started,
        "operator, with its own rights".to_owned(),
    )?;

    let shown = |path: &Path| path.display().to_string();
    env.insert("KUBECONFIG".to_owned(), shown(cluster.kubeconfig()));
    env.insert(METRICS_URL.to_owned(), metrics_url(listen));
    env.insert("WORLD".to_owned(), place.name().to_owned());
    write_env(place, &env)?;
    state.env = env;
    Ok(())
}

fn progress(place: &Place, state: &mut State, started: Instant, what: String) -> Result<(), Fault> {
    let seconds = started.elapsed().as_secs_f32();
    state.progress.push(format!("{seconds:5.1} s  {what}"));
    state.write(place)
}

fn write_env(place: &Place, env: &BTreeMap<String, String>) -> Result<(), Fault> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = place.env_file();
    // It has a token in it.
    OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&path)
        .and_then(|mut file| file.write_all(render_env(env).as_bytes()))
        .map_err(|source| Fault::because(format!("cannot write {}", path.display()), source))
}

fn note_start(state: &mut State, process: &Process) {
    if let Some(identity) = Identity::of(process.id()) {
        state.parts.push(Part {
            name: process.name().to_owned(),
            identity,
            log: PathBuf::from(process.log()),
            ended: None,
        });
    }
}

/// Writes down which parts have ended by themselves. The others go on: whoever looks into it
/// wants to see them.
fn note_ends(place: &Place, state: &mut State, world: &mut World) -> Result<(), Fault> {
    let processes = [
        world.operator.as_mut(),
        world.vendors.as_mut(),
        world.fly.as_mut(),
        world.control_plane.as_mut().and_then(ControlPlane::process),
    ];
    let mut changed = false;
    for process in processes.into_iter().flatten() {
        let Some(status) = process.exited() else {
            continue;
        };
        for part in &mut state.parts {
            if part.name == process.name() && part.ended.is_none() {
                part.ended = Some(status.to_string());
                changed = true;
            }
        }
    }
    if changed { state.write(place) } else { Ok(()) }
}
