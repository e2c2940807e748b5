//! `world up` and `world status`.

use std::os::fd::AsFd;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::Which;
use crate::down;
use crate::fault::Fault;
use crate::out::say;
use crate::place::Place;
use crate::state::{Part, State};

/// A whole world is up within 10 s on two idle cores.
const LIMIT: Duration = Duration::from_secs(240);

/// Starts a world unless it runs, waits until it is ready, and returns what it consists of.
pub async fn up(place: &Place, which: &Which) -> Result<State, Fault> {
    if let Some(state) = State::read(place).filter(State::is_alive) {
        if state.own_cluster != which.kubeconfig.is_some() {
            return Err(Fault::new(format!(
                "world {} already runs on another cluster: end it first (make down{})",
                place.name(),
                place.make_flag()
            )));
        }
        if state.ready && !state.ended().is_empty() {
            return restart(place, state).await;
        }
        if state.ready {
            say!(
                "world {} is already running: . {}",
                place.name(),
                place.shown(&place.env_file())
            );
            return Ok(state);
        }
        say!("world {} is being started: waiting for it", place.name());
        return wait(place, None, state.progress.len()).await;
    }
    // What an earlier world left when it was killed.
    if place.dir().exists() {
        down::down(place).await?;
    }
    let child = start_supervisor(place, which)?;
    let state = wait(place, Some(child), 0).await?;
    say!(
        "world {} is ready. Its variables: . {}",
        place.name(),
        place.shown(&place.env_file())
    );
    say!("To end it: make down{}", place.make_flag());
    Ok(state)
}

/// Starts the operator of a world again; the rest goes on as it is.
async fn restart(place: &Place, state: State) -> Result<State, Fault> {
    let name = place.name();
    let ended = state.ended();
    if let Some(part) = ended.iter().find(|part| part.name != Part::OPERATOR) {
        return Err(Fault::new(format!(
            "{} of world {name} has ended{}, and what it held is lost: make down{flag}, then make \
             up{flag}. Its last lines are in {}",
            part.name,
            part.how(),
            place.shown(&part.log),
            flag = place.make_flag(),
        )));
    }
    let how = ended.first().map(|part| part.how()).unwrap_or_default();
    say!("the operator of world {name} has ended{how}: starting it again");
    state.supervisor.signal(Signal::SIGUSR1);
    let started = Instant::now();
    loop {
        let now = State::read(place).filter(State::is_alive);
        let tried = now.filter(|now| now.restarts > state.restarts);
        if let Some(now) = tried {
            if let Some(failure) = now.failure {
                return Err(Fault::new(format!(
                    "the operator of world {name} does not start: {failure}"
                )));
            }
            say!(
                "world {name} is ready. Its variables, some of them new: . {}",
                place.shown(&place.env_file())
            );
            return Ok(now);
        }
        if started.elapsed() > LIMIT {
            return Err(Fault::new(format!(
                "the operator of world {name} was not started again: make down{}",
                place.make_flag()
            )));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn start_supervisor(place: &Place, which: &Which) -> Result<std::process::Child, Fault> {
    let cannot = |what: &str| {
        let what = format!("cannot {what} for world {}", place.name());
        move |source: std::io::Error| Fault::because(what, source)
    };
    std::fs::create_dir_all(place.dir()).map_err(cannot("create a directory"))?;
    let log =
        std::fs::File::create(place.dir().join("world.log")).map_err(cannot("create the log"))?;
    let log_copy = log
        .as_fd()
        .try_clone_to_owned()
        .map_err(cannot("create the log"))?;
    let program = std::env::current_exe().map_err(cannot("find this program"))?;
    let mut command = Command::new(program);
    command
        .args([
            "supervise",
            "--name",
            place.name(),
            "--latency",
            &which.latency,
            "--time-scale",
            &which.time_scale.to_string(),
        ])
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(log_copy);
    if let Some(kubeconfig) = &which.kubeconfig {
        let path = kubeconfig
            .canonicalize()
            .map_err(cannot("find the kubeconfig"))?;
        command.arg("--kubeconfig").arg(path);
    }
    command.spawn().map_err(cannot("start the supervisor"))
}

async fn wait(
    place: &Place,
    mut child: Option<std::process::Child>,
    mut shown: usize,
) -> Result<State, Fault> {
    let log = place.dir().join("world.log");
    let started = Instant::now();
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    loop {
        let ended = child
            .as_mut()
            .is_some_and(|child| child.try_wait().is_ok_and(|status| status.is_some()));
        let state = State::read(place);
        if let Some(state) = &state {
            for line in state.progress.iter().skip(shown) {
                say!("{line}");
            }
            shown = shown.max(state.progress.len());
            if state.ready && state.is_alive() {
                return Ok(state.clone());
            }
            if let Some(failure) = &state.failure {
                return Err(Fault::new(format!(
                    "world {} did not start: {failure}\nIts logs are in {}",
                    place.name(),
                    place.shown(&place.dir())
                )));
            }
        }
        if ended || started.elapsed() > LIMIT {
            return Err(Fault::new(format!(
                "world {} did not start; the last lines of {}:\n{}",
                place.name(),
                place.shown(&log),
                kube_env::process::tail(&log)
            )));
        }
        tokio::select! {
            _ = &mut interrupted => {
                down::down(place).await?;
                return Err(Fault::new("interrupted"));
            }
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
    }
}

/// The state of a world in one line, with what to do.
fn summary(place: &Place, state: &State, ended: &[&Part]) -> String {
    let flag = place.make_flag();
    if !state.is_alive() {
        return format!("its supervisor has gone: make down{flag} removes the rest");
    }
    if !state.ready {
        return "starting".to_owned();
    }
    let Some(part) = ended.iter().find(|part| part.name != Part::OPERATOR) else {
        return match ended.first() {
            Some(operator) => format!(
                "the operator has ended{}, nothing is reconciled: make up{flag} starts it again",
                operator.how()
            ),
            None => "ready".to_owned(),
        };
    };
    format!(
        "{} has ended{}: make down{flag}, then make up{flag}",
        part.name,
        part.how()
    )
}

/// Says what runs. Exit code 1 if the world does not run or one of its parts has ended.
pub fn status(place: &Place) -> Result<ExitCode, Fault> {
    let Some(state) = State::read(place) else {
        say!(
            "world {} does not run: make up{}",
            place.name(),
            place.make_flag()
        );
        return Ok(ExitCode::FAILURE);
    };
    let (alive, ended) = (state.is_alive(), state.ended());
    say!("world {}: {}", place.name(), summary(place, &state, &ended));
    let well = alive && state.ready && ended.is_empty();
    for part in &state.parts {
        let running = part.identity.is_alive();
        say!(
            "  {:<14} {:<8} {}{}",
            part.name,
            if running { "running" } else { "ended" },
            place.shown(&part.log),
            part.how()
        );
    }
    for (key, value) in &state.env {
        say!(
            "  {key}={}",
            if key.contains("TOKEN") {
                "(in the env file)"
            } else {
                value
            }
        );
    }
    Ok(if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
