//! The task of one machine: starts and ends its program, and moves its state.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::event::exit_request;
use super::process::{Exit, Program, Running};
use super::{Machine, Source, State, boot, check, containers};
use crate::core::{CallId, Shared};
use crate::logs::Line;
use crate::platform;

/// Something for a machine to do, in order.
#[derive(Clone, Debug)]
pub enum Command {
    /// Boot.
    Launch(Source),
    /// Made with `skip_launch`: settle.
    Settle,
    /// Stop and stay down.
    Stop {
        /// Instead of the configured signal.
        signal: Option<Signal>,
        /// Instead of the configured time until SIGKILL.
        timeout: Option<Duration>,
        /// Who asks.
        source: Source,
    },
    /// Sleep.
    Suspend,
    /// Stop and start.
    Restart {
        /// SIGKILL at once.
        force: bool,
        /// Instead of the configured signal.
        signal: Option<Signal>,
        /// Instead of the configured time until SIGKILL.
        timeout: Option<Duration>,
    },
    /// A new version has been set: stop the old program and, unless told not to, start the new.
    Replace {
        /// Start it.
        launch: bool,
        /// How the old version wants to be stopped.
        stop: (Signal, Duration),
    },
    /// Go away.
    Destroy {
        /// SIGKILL at once.
        kill: bool,
    },
    /// Send a signal to the program.
    Signal(Signal),
    /// As if the kernel had killed it for its memory.
    OutOfMemory,
}

enum Body {
    /// The machine's program, and its other containers, which end with it.
    Process(
        Box<Running>,
        #[expect(dead_code, reason = "held until the program ends")] Vec<Running>,
    ),
    Builtin(JoinHandle<i32>),
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Self::Builtin(task) = self {
            task.abort();
        }
    }
}

impl Body {
    async fn wait(&mut self) -> Exit {
        match self {
            Self::Process(running, _) => running.wait().await,
            Self::Builtin(task) => Exit {
                code: task.await.unwrap_or(0),
                signal: -1,
            },
        }
    }

    fn signal(&self, signal: Signal) {
        match self {
            Self::Process(running, _) => running.signal(signal),
            Self::Builtin(task) => {
                if !matches!(signal, Signal::SIGSTOP | Signal::SIGCONT | Signal::SIGHUP) {
                    task.abort();
                }
            }
        }
    }
}

struct Actor {
    core: Shared,
    app: String,
    id: String,
    hurry: Arc<Notify>,
    body: Option<Body>,
    checks: CancellationToken,
    restart_at: Option<Instant>,
    /// When its schedule starts it again.
    due: Option<Instant>,
    retries: u32,
    window: Instant,
    oom: bool,
    pulled: bool,
}

/// Starts the task of a machine.
pub fn spawn(
    core: &Shared,
    app: &str,
    id: &str,
    commands: mpsc::UnboundedReceiver<Command>,
    cancel: CancellationToken,
    hurry: Arc<Notify>,
) {
    let actor = Actor {
        core: Arc::clone(core),
        app: app.to_owned(),
        id: id.to_owned(),
        hurry,
        body: None,
        checks: CancellationToken::new(),
        restart_at: None,
        due: None,
        retries: 0,
        window: Instant::now(),
        oom: false,
        pulled: false,
    };
    core.spawn(async move {
        tokio::select! {
            () = cancel.cancelled() => {}
            () = actor.run(commands) => {}
        }
    });
}

/// Shortest time between two scheduled runs, after scaling.
const SHORTEST_PERIOD: Duration = Duration::from_millis(100);

/// How often a scheduled machine runs. Source: docs, machines/flyctl/fly-machine-run: about once
/// an hour, a day, a week, a month.
fn period(schedule: &str) -> Option<Duration> {
    const HOUR: u64 = 3_600;
    let hours = match schedule {
        "hourly" => 1,
        "daily" => 24,
        "weekly" => 7 * 24,
        "monthly" => 30 * 24,
        _ => return None,
    };
    Some(Duration::from_secs(hours * HOUR))
}

/// How a machine wants to be stopped. Defaults: SIGINT, 5 s (docs, reference/configuration).
pub fn stop_config(machine: &Machine) -> (Signal, Duration) {
    let stop = machine.config.stop_config.clone().unwrap_or_default();
    let signal = stop
        .signal
        .and_then(|name| super::signal::parse(&name).ok())
        .unwrap_or(Signal::SIGINT);
    let timeout = stop
        .timeout
        .map_or(Duration::from_secs(5), |timeout| timeout.0);
    (signal, timeout)
}

impl Actor {
    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        loop {
            let restart_at = self.restart_at;
            let restart = async {
                match restart_at {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            let due_at = self.due;
            let due = async {
                match due_at {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            let exit = async {
                match &mut self.body {
                    Some(body) => body.wait().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(Command::Destroy { kill }) => {
                        self.destroy(kill).await;
                        return;
                    }
                    Some(command) => self.obey(command).await,
                    None => return,
                },
                exit = exit => {
                    if self.on_exit(exit).await {
                        return;
                    }
                }
                () = restart => {
                    self.restart_at = None;
                    self.launch(Source::Flyd).await;
                }
                () = due => self.on_schedule().await,
            }
        }
    }

    /// The hour, day, week or month has come. A program that still runs is left alone.
    async fn on_schedule(&mut self) {
        self.set_due();
        if self.body.is_none() && self.restart_at.is_none() {
            self.retries = 0;
            self.effect("machine.schedule", json!({}));
            self.launch(Source::Flyd).await;
        }
    }

    /// A schedule begins with the first launch: a machine that was never launched is never due.
    fn set_due(&mut self) {
        let scale = self.core.options.timer_scale;
        let period = self.with(|machine| machine.config.schedule.as_deref().and_then(period));
        let next = |period: Duration| Instant::now() + period.mul_f64(scale).max(SHORTEST_PERIOD);
        self.due = period.flatten().map(next);
    }

    fn with<T>(&self, f: impl FnOnce(&mut Machine) -> T) -> Option<T> {
        self.core.write(|world| {
            Some(f(world
                .apps
                .get_mut(&self.app)?
                .machines
                .get_mut(&self.id)?))
        })
    }

    fn log(&self, message: impl Into<String>) {
        log(&self.core, &self.app, &self.id, "runner", message.into());
    }

    fn effect(&self, kind: &str, detail: Value) {
        let known = self.with(|machine| (machine.name.clone(), machine.metadata.clone()));
        if let Some((name, owner)) = known {
            self.core.effect(
                CallId(None),
                kind,
                Some(&self.app),
                &self.id,
                &name,
                owner,
                detail,
            );
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Launch(source) => {
                self.retries = 0;
                self.restart_at = None;
                if self.due.is_none() {
                    self.set_due();
                }
                self.launch(source).await;
            }
            Command::Settle => {
                self.core.options.latency.pause("machine.stop").await;
                self.with(|machine| {
                    if machine.state == State::Created {
                        machine.state = State::Stopped;
                    }
                });
            }
            Command::Stop {
                signal,
                timeout,
                source,
            } => {
                let stop = self.with(|machine| stop_config(machine));
                let (own_signal, own_timeout) = stop.unwrap_or((Signal::SIGINT, Duration::ZERO));
                self.core.options.latency.pause("machine.stop").await;
                self.stop(
                    signal.unwrap_or(own_signal),
                    timeout
                        .filter(|limit| !limit.is_zero())
                        .unwrap_or(own_timeout),
                )
                .await;
                self.with(|machine| {
                    machine.state = State::Stopped;
                    machine.event("stop", "stopped", source, json!({}));
                });
            }
            Command::Suspend => {
                self.core.options.latency.pause("machine.suspend").await;
                self.checks.cancel();
                if let Some(body) = &self.body {
                    body.signal(Signal::SIGSTOP);
                }
                self.with(|machine| {
                    machine.state = State::Suspended;
                    machine.event("suspend", "suspended", Source::Flyd, json!({}));
                });
            }
            Command::Restart {
                force,
                signal,
                timeout,
            } => {
                let stop = self.with(|machine| stop_config(machine));
                let (own_signal, own_timeout) = stop.unwrap_or((Signal::SIGINT, Duration::ZERO));
                let signal = if force {
                    Signal::SIGKILL
                } else {
                    signal.unwrap_or(own_signal)
                };
                self.stop(
                    signal,
                    timeout
                        .filter(|limit| !limit.is_zero())
                        .unwrap_or(own_timeout),
                )
                .await;
                self.retries = 0;
                self.launch(Source::Flyd).await;
            }
            Command::Replace { launch, stop } => {
                self.restart_at = None;
                self.stop(stop.0, stop.1).await;
                self.pulled = false;
                self.with(|machine| {
                    machine.event("update", "replaced", Source::Flyd, json!({}));
                });
                if launch || self.due.is_some() {
                    self.set_due();
                }
                if launch {
                    self.retries = 0;
                    self.launch(Source::Flyd).await;
                } else {
                    self.with(|machine| machine.state = State::Stopped);
                }
            }
            Command::Signal(signal) => {
                if let Some(body) = &self.body {
                    body.signal(signal);
                }
            }
            Command::OutOfMemory => {
                if let Some(body) = &self.body {
                    self.oom = true;
                    self.log("Out of memory: Killed process");
                    body.signal(Signal::SIGKILL);
                }
            }
            Command::Destroy { .. } => {}
        }
    }

    /// Waits, unless somebody is in a hurry to have the machine gone.
    async fn pause(&self, what: &str) {
        tokio::select! {
            () = self.core.options.latency.pause(what) => {}
            () = self.hurry.notified() => self.hurry.notify_one(),
        }
    }

    /// Notes in the journal with which image the machine has started.
    fn note_start(&self) {
        let known = self
            .with(|machine| json!({"image": machine.config.image, "metadata": machine.metadata}));
        let detail = known.unwrap_or_default();
        self.core
            .note("machine.started", &self.app, &self.id, detail);
    }

    async fn launch(&mut self, source: Source) {
        if let Some(body) = &self.body {
            // Asleep: wake it.
            body.signal(Signal::SIGCONT);
            self.with(|machine| {
                machine.state = State::Started;
                machine.event("start", "started", Source::Flyd, json!({}));
            });
            self.note_start();
            self.start_checks();
            return;
        }
        let delay = self.with(|machine| {
            machine.state = State::Starting;
            machine.event("start", "starting", source, json!({}));
            machine.boot_delay
        });
        if !self.pulled {
            self.log("Pulling container image");
            self.pause("machine.pull").await;
            self.pulled = true;
        }
        self.pause("machine.boot").await;
        if let Some(delay) = delay.filter(|delay| !delay.is_zero()) {
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = self.hurry.notified() => self.hurry.notify_one(),
            }
        }
        match self.boot() {
            Ok(body) => {
                self.oom = false;
                self.body = Some(body);
                self.with(|machine| {
                    machine.state = State::Started;
                    machine.event("start", "started", Source::Flyd, json!({}));
                });
                self.note_start();
                self.start_checks();
            }
            Err(why) => {
                self.log(format!("failed to launch VM: {why}"));
                self.with(|machine| {
                    machine.state = State::Failed;
                    machine.event(
                        "launch",
                        "launch_failed",
                        Source::Flyd,
                        json!({"error": why}),
                    );
                });
                self.effect("machine.launch_failed", json!({}));
            }
        }
    }

    fn boot(&self) -> Result<Body, String> {
        let dir = &self.core.dir;
        let (boot, builtin, config) = self.core.read(|world| {
            let app = world.apps.get(&self.app).ok_or("the app has gone")?;
            let machine = app.machines.get(&self.id).ok_or("the machine has gone")?;
            let image = &machine.image.image;
            if image.architecture != "amd64" {
                return Err(format!(
                    "image {} is for {}, not amd64",
                    image.name, image.architecture
                ));
            }
            boot::prepare(dir, machine, &app.platform.boot_secrets())?;
            let mut boot = boot::environment(app, machine, dir);
            platform::hosts::resolve(world, app, &mut boot.env);
            Ok((boot, image.builtin.clone(), machine.config.clone()))
        })?;
        self.with(|machine| machine.boot = Some(boot.clone()));
        // Before the program can print anything: its own lines are the last ones.
        let started = || self.log("Machine started");
        if let Some(name) = builtin {
            started();
            let core = Arc::clone(&self.core);
            return Ok(Body::Builtin(tokio::spawn(platform::builtin(
                core, name, boot,
            ))));
        }
        let program = boot::program(&boot, dir)?;
        let others = containers::programs(&self.core, &config, &boot, dir)?;
        started();
        let others = others.iter().map(|(_, program)| self.spawn(program));
        let others = others.collect::<Result<_, String>>()?;
        Ok(Body::Process(Box::new(self.spawn(&program)?), others))
    }

    /// Starts a program whose lines go to the machine's log.
    fn spawn(&self, program: &Program) -> Result<Running, String> {
        let (core, app, id) = (Arc::clone(&self.core), self.app.clone(), self.id.clone());
        let line = move |line, _| log(&core, &app, &id, "app", line);
        Running::spawn(program, line).map_err(|error| error.to_string())
    }

    fn start_checks(&mut self) {
        self.checks.cancel();
        self.checks = self.core.shutdown.child_token();
        check::start(&self.core, &self.app, &self.id, &self.checks);
    }

    /// Ends the program as asked for, and records its exit.
    async fn stop(&mut self, signal: Signal, timeout: Duration) {
        self.checks.cancel();
        self.restart_at = None;
        let Some(mut body) = self.body.take() else {
            return;
        };
        body.signal(Signal::SIGCONT);
        body.signal(signal);
        self.log(format!("Sending signal {signal} to main child process"));
        let exit = tokio::select! {
            exit = body.wait() => exit,
            () = async {
                tokio::select! {
                    () = tokio::time::sleep(timeout) => {}
                    () = self.hurry.notified() => self.hurry.notify_one(),
                }
            } => {
                body.signal(Signal::SIGKILL);
                body.wait().await
            }
        };
        drop(body);
        self.say_exit(exit);
        let count = self.retries;
        self.with(|machine| {
            let request = exit_request(exit, true, false, false, count);
            machine.event("exit", "stopped", Source::Flyd, request);
            check::not_running(machine);
        });
    }

    fn say_exit(&self, exit: Exit) {
        if exit.signal >= 0 {
            self.log(format!(
                "Main child exited with signal (with signal {})",
                exit.signal
            ));
        } else {
            self.log(format!(
                "Main child exited normally with code: {}",
                exit.code
            ));
        }
    }

    /// The program has ended by itself. True when the machine has gone with it.
    async fn on_exit(&mut self, exit: Exit) -> bool {
        self.body = None;
        self.checks.cancel();
        self.say_exit(exit);
        let oom = std::mem::take(&mut self.oom);
        let scale = self.core.options.timer_scale;
        // Retries count within five minutes (docs).
        if self.window.elapsed() > Duration::from_secs(300).mul_f64(scale.max(0.01)) {
            self.retries = 0;
            self.window = Instant::now();
        }
        let Some((policy, most, auto_destroy)) = self.with(|machine| {
            let (policy, most) = machine.restart_policy();
            (
                policy.to_owned(),
                most,
                machine.config.auto_destroy.unwrap_or(false),
            )
        }) else {
            return true;
        };
        let wanted = match policy.as_str() {
            "no" => false,
            "always" => true,
            _ => exit.code != 0,
        };
        let restarting = wanted && self.retries < most;
        if restarting {
            self.retries += 1;
        } else if wanted {
            self.log(format!(
                "machine has reached its max restart count of {most}"
            ));
        }
        let count = self.retries;
        self.with(|machine| {
            machine.restart_count = count;
            machine.state = if restarting {
                State::Starting
            } else {
                State::Stopped
            };
            let request = exit_request(exit, false, oom, restarting, count);
            machine.event("exit", "stopped", Source::Flyd, request);
            check::not_running(machine);
        });
        self.effect(
            "machine.exit",
            json!({"exit_code": exit.code, "oom_killed": oom, "restarting": restarting}),
        );
        if restarting {
            let back_off = Duration::from_secs(1 << (count - 1).min(5)).mul_f64(scale);
            self.restart_at = Some(Instant::now() + back_off.max(Duration::from_millis(20)));
        } else if auto_destroy {
            self.with(|machine| {
                machine.state = State::Destroying;
                machine.event("destroy", "destroying", Source::Flyd, Value::Null);
            });
            self.destroy(true).await;
            return true;
        }
        false
    }

    async fn destroy(&mut self, kill: bool) {
        if kill {
            self.stop(Signal::SIGKILL, Duration::from_secs(5)).await;
        } else {
            let stop = self.with(|machine| stop_config(machine));
            let (signal, timeout) = stop.unwrap_or((Signal::SIGKILL, Duration::ZERO));
            self.stop(signal, timeout).await;
        }
        self.core.options.latency.pause("machine.destroy").await;
        let _ = std::fs::remove_dir_all(boot::root(&self.core.dir, &self.id));
        self.core.write(|world| {
            let app = world.apps.get_mut(&self.app)?;
            let machine = app.machines.get_mut(&self.id)?;
            machine.state = State::Destroyed;
            machine.lease = None;
            machine.event("destroy", "destroyed", Source::Flyd, Value::Null);
            let (name, owner) = (machine.name.clone(), machine.metadata.clone());
            for volume in app.volumes.values_mut() {
                if volume.attached_machine_id.as_deref() == Some(self.id.as_str()) {
                    volume.attached_machine_id = None;
                }
            }
            // With the state, in one step: whoever sees the state may remove the app, and the machine's
            // name with it.
            self.core.effect(
                CallId(None),
                "machine.destroyed",
                Some(&self.app),
                &self.id,
                &name,
                owner,
                json!({}),
            );
            Some(())
        });
    }
}

/// Adds a line to the log of a machine.
pub fn log(core: &Shared, app: &str, id: &str, provider: &'static str, message: String) {
    let region = core
        .read(|world| Some(world.apps.get(app)?.machines.get(id)?.region.clone()))
        .unwrap_or_default();
    core.logs.push(
        app,
        Line {
            nanos: 0,
            message,
            level: "info",
            instance: id.to_owned(),
            region,
            provider,
        },
    );
}
