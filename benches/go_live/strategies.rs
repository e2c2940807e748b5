//! An update of ten machines with each strategy: Golive, a client that knows everything
//! beforehand, and, when `FLYCTL` names its program, flyctl; in turns, each at a simulated Fly.io of
//! its own with the same latencies.
//!
//! The bound is what the rate limits, the boots, the health checks and `max_unavailable` leave to
//! anybody, and the pauses in which Fly.io's proxies learn where the traffic goes: they are the
//! same for all three, so they are in the bound as well. Each has ended when its ten machines run the
//! new image and pass their checks, Golive when it says so too.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use fly_sim::{Image, Images, Options, Sim};
use futures::StreamExt;
use futures::future::try_join_all;
use golive::api::status::PhaseState;
use golive::fly::{Client, Machine, MachineUpdate, NewApp, NewMachine};
use golive::flytoml::{self, AppConfig, Context};
use serde_json::{Value, json};

use crate::Result;
use crate::floor::client;
use crate::table::{self, median, seconds};
use crate::world::{ORGANIZATION, Run, World, fly, scaled};

/// The longest that an update may take, by the bound.
const MOST: f64 = 1.1;

/// Machines of each app.
const MACHINES: usize = 10;

/// Pause in which the proxies learn where the traffic goes. As flyctl.
const PAUSE: Duration = Duration::from_secs(10);

/// Nothing takes longer.
const LIMIT: Duration = Duration::from_secs(300);

const STRATEGIES: [&str; 4] = ["rolling", "canary", "bluegreen", "immediate"];

/// Share of Fly's latencies: all of them, unless `BENCH_SCALE` says otherwise. What nobody can
/// shorten, such as the pause between two looks, weighs more when everything else is made faster.
fn scale() -> Result<f64> {
    match std::env::var("BENCH_SCALE") {
        Ok(text) => Ok(text.parse()?),
        Err(_) => Ok(1.0),
    }
}

/// One update: how long it took, and how many calls.
#[derive(Clone, Copy)]
struct Took(Duration, u64);

/// Measures and prints; gives the targets that were missed.
pub async fn measure(world: &World) -> Result<Vec<String>> {
    let mut missed = Vec::new();
    let rounds = crate::number("BENCH_ROUNDS", 3)?;
    let flyctl = std::env::var_os("FLYCTL").map(PathBuf::from);
    let only = std::env::var("BENCH_STRATEGY").unwrap_or_default();
    let mut rows = Vec::new();
    for strategy in STRATEGIES {
        if !only.is_empty() && only != strategy {
            continue;
        }
        let (mut bound, mut ours, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..rounds {
            let (first, second, third) = once(world, strategy, round, flyctl.as_deref()).await?;
            let times = [Some(first), Some(second), third];
            let times: Vec<String> = times.iter().flatten().map(|took| seconds(took.0)).collect();
            println!("{strategy}, round {round}: {}", times.join(", "));
            bound.push(first);
            ours.push(second);
            theirs.extend(third);
        }
        let base = time(&bound);
        let times = time(&ours).as_secs_f64() / base.as_secs_f64();
        if times > MOST {
            missed.push(format!("{strategy}: {times:.2} x the bound, not {MOST}"));
        }
        if !theirs.is_empty() && time(&ours) >= time(&theirs) {
            missed.push(format!("{strategy}: not faster than flyctl"));
        }
        for (who, took) in [("bound", &bound), ("golive", &ours), ("flyctl", &theirs)] {
            if took.is_empty() {
                continue;
            }
            let mut calls: Vec<u64> = took.iter().map(|took| took.1).collect();
            calls.sort_unstable();
            rows.push(vec![
                strategy.to_owned(),
                who.to_owned(),
                seconds(time(took)),
                format!("{:.2}", time(took).as_secs_f64() / base.as_secs_f64()),
                calls[calls.len() / 2].to_string(),
            ]);
        }
    }
    table::print(
        &format!(
            "An update of {MACHINES} machines at {} of Fly's latencies, medians of {rounds} (target: at most {MOST} x the bound, faster than flyctl)",
            scale()?
        ),
        &["strategy", "who", "time", "to the bound", "calls"],
        &rows,
    );
    Ok(missed)
}

fn time(took: &[Took]) -> Duration {
    median(&took.iter().map(|took| took.0).collect::<Vec<_>>())
}

/// All of one round: each at a Fly.io of its own with the same latencies, drawn in the same order,
/// so that chance favours nobody.
async fn once(
    world: &World,
    strategy: &str,
    round: usize,
    flyctl: Option<&Path>,
) -> Result<(Took, Took, Option<Took>)> {
    let seed = u64::try_from(round)? + 1;
    let cabanas = PathBuf::from(env!("CARGO_BIN_EXE_golive")).with_file_name("cabanas");
    let options = |app: &str| -> Result<Options> {
        let image = |tag: &str| {
            Image::new(reference(app, tag), cabanas.clone())
                .args(["hello"])
                .env("CABANAS_VERSION", tag)
        };
        Ok(Options {
            images: Images::new(vec![image("1"), image("2")]),
            ..scaled(scale()?, seed)
        })
    };
    let began = |sim: &Sim| {
        sim.reset();
        Instant::now()
    };
    let took = |sim: &Sim, started: Instant| {
        let took = started.elapsed();
        Took(took, sim.call_counts().values().sum())
    };

    let sim = fly(options("bound")?).await?;
    let client = client(&sim)?;
    let before = bound_deploys(&sim, &client, strategy).await?;
    let started = began(&sim);
    bound_updates(&sim, &client, strategy, &before).await?;
    let bound = took(&sim, started);
    sim.stop().await;

    let run = world.run(options("golive")?).await?;
    let operator = run.operator(&[]).await?;
    golive_deploys(&run, strategy, "1").await?;
    quiet(&run.sim).await;
    let started = began(&run.sim);
    golive_deploys(&run, strategy, "2").await?;
    let ours = took(&run.sim, started);
    drop(operator);
    run.sim.stop().await;

    let Some(flyctl) = flyctl else {
        return Ok((bound, ours, None));
    };
    let sim = fly(options("flyctl")?).await?;
    flyctl_deploys(&sim, flyctl, strategy).await?;
    quiet(&sim).await;
    let started = began(&sim);
    let theirs = match flyctl_updates(&sim, flyctl, strategy).await {
        Ok(()) => Some(took(&sim, started)),
        // What it does not achieve is told, and is no failure of the bench.
        Err(error) => {
            println!("{strategy}, round {round}: {error}");
            None
        }
    };
    sim.stop().await;
    Ok((bound, ours, theirs))
}

fn reference(app: &str, tag: &str) -> String {
    format!("registry.fly.io/{app}:{tag}")
}

fn fly_toml(app: &str, strategy: &str) -> String {
    format!(
        "app = '{app}'\nprimary_region = 'eze'\n[deploy]\nstrategy = '{strategy}'\n\
         [http_service]\ninternal_port = 8080\n[[http_service.checks]]\npath = '/'\n\
         interval = '5s'\ntimeout = '2s'\ngrace_period = '1s'\n"
    )
}

/// Waits until nobody calls any more.
async fn quiet(sim: &Sim) {
    let mut before = u64::MAX;
    loop {
        let now = sim.call_counts().values().sum();
        if now == before {
            return;
        }
        before = now;
        tokio::time::sleep(Duration::from_millis(1_500)).await;
    }
}

/// Golive: applies the image and waits until it is deployed and recorded.
async fn golive_deploys(run: &Run<'_>, strategy: &str, tag: &str) -> Result<()> {
    let image = reference("golive", tag);
    run.apply(json!({
        "apiVersion": "golive.dev/v1alpha1", "kind": "Activation",
        "metadata": {"name": "update"},
        "spec": {
            "organization": ORGANIZATION, "app": "golive", "region": "eze",
            "deploy": {
                "image": image, "scale": {"app": MACHINES},
                "config": {"inline": fly_toml("golive", strategy)},
            },
        },
    }))
    .await?;
    let started = Instant::now();
    loop {
        let object = run.activations().get("update").await?;
        let status = object.status.unwrap_or_default();
        let deployed = status
            .phases
            .iter()
            .any(|phase| phase.name.as_str() == "Deploy" && phase.state == PhaseState::Succeeded);
        if deployed && status.release.is_some_and(|release| release.image == image) {
            return Ok(());
        }
        if started.elapsed() > LIMIT {
            return Err(format!("{strategy}: not deployed within {LIMIT:?}").into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn machine(config: &AppConfig, tag: &str) -> Result<golive::fly::MachineConfig> {
    let image = reference("bound", tag);
    let context = Context {
        image: &image,
        ..Context::default()
    };
    Ok(config.machine_config("app", &context)?)
}

/// The client that knows everything: its first ten machines.
async fn bound_deploys(sim: &Sim, client: &Client, strategy: &str) -> Result<Vec<Machine>> {
    let app = NewApp {
        name: "bound".to_owned(),
        org_slug: ORGANIZATION.to_owned(),
        ..NewApp::default()
    };
    client.create_app(&app).await?;
    let config = parsed(strategy)?;
    let made = (0..MACHINES).map(|n| create(sim, client, &config, "1", format!("old-{n}"), false));
    try_join_all(made).await
}

fn parsed(strategy: &str) -> Result<AppConfig> {
    let parsed = flytoml::parse(&fly_toml("bound", strategy));
    Ok(parsed.map_err(|invalid| format!("{invalid:?}"))?.config)
}

async fn create(
    sim: &Sim,
    client: &Client,
    config: &AppConfig,
    tag: &str,
    name: String,
    cordoned: bool,
) -> Result<Machine> {
    let new = NewMachine {
        name,
        region: "eze".to_owned(),
        config: machine(config, tag)?,
        skip_service_registration: cordoned,
        ..NewMachine::default()
    };
    let made = client.create_machine("bound", &new).await?;
    healthy(sim, &made.id, &made.instance_id).await;
    Ok(made)
}

/// Waits until a machine is well in this version; known at once, without asking.
async fn healthy(sim: &Sim, id: &str, version: &str) {
    until(sim, id, |machine| {
        machine["instance_id"] == version
            && machine["state"] == "started"
            && machine["checks"]
                .as_array()
                .is_some_and(|checks| checks.iter().all(|check| check["status"] == "passing"))
    })
    .await;
}

async fn until(sim: &Sim, id: &str, holds: impl Fn(&Value) -> bool) {
    while !sim
        .machines("bound")
        .iter()
        .any(|machine| machine["id"] == id && holds(machine))
    {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn update(sim: &Sim, client: &Client, config: &AppConfig, id: &str) -> Result<()> {
    let update = MachineUpdate {
        config: machine(config, "2")?,
        ..MachineUpdate::default()
    };
    let updated = client.update_machine("bound", id, &update, None).await?;
    healthy(sim, id, &updated.instance_id).await;
    Ok(())
}

async fn bound_updates(sim: &Sim, client: &Client, strategy: &str, old: &[Machine]) -> Result<()> {
    let config = parsed(strategy)?;
    let one = |machine: &Machine| {
        let id = machine.id.clone();
        let (sim, client, config) = (sim, client, &config);
        async move { update(sim, client, config, &id).await }
    };
    let (first, others) = old.split_first().ok_or("no machines")?;
    let rest = async {
        let pool = config.pool_size(MACHINES);
        let mut others = futures::stream::iter(others.iter().map(one)).buffer_unordered(pool);
        while let Some(updated) = others.next().await {
            updated?;
        }
        Ok::<(), crate::BenchError>(())
    };
    match strategy {
        "immediate" => {
            try_join_all(old.iter().map(one)).await?;
        }
        "rolling" => {
            one(first).await?;
            rest.await?;
        }
        "canary" => {
            let canary = create(sim, client, &config, "2", "canary".to_owned(), false).await?;
            one(first).await?;
            let canary = [canary];
            tokio::try_join!(rest, retire(sim, client, &canary))?;
        }
        _ => {
            let new =
                (0..MACHINES).map(|n| create(sim, client, &config, "2", format!("new-{n}"), true));
            let new = try_join_all(new).await?;
            let uncordoned = new
                .iter()
                .map(|machine| client.uncordon_machine("bound", &machine.id, None));
            try_join_all(uncordoned).await?;
            tokio::time::sleep(PAUSE).await;
            retire(sim, client, old).await?;
        }
    }
    Ok(())
}

/// Out of the pool, stopped in good order, destroyed.
async fn retire(sim: &Sim, client: &Client, old: &[Machine]) -> Result<()> {
    let ids = || old.iter().map(|machine| machine.id.as_str());
    try_join_all(ids().map(|id| client.cordon_machine("bound", id, None))).await?;
    tokio::time::sleep(PAUSE).await;
    let gone = ids().map(|id| async move {
        client.stop_machine("bound", id, None, None).await?;
        until(sim, id, |machine| machine["state"] == "stopped").await;
        client.delete_machine("bound", id, true, None).await
    });
    try_join_all(gone).await?;
    Ok(())
}

async fn flyctl_deploys(sim: &Sim, flyctl: &Path, strategy: &str) -> Result<()> {
    let dir = sim.dir().join("flyctl");
    std::fs::create_dir_all(dir.join("config"))?;
    std::fs::write(dir.join("fly.toml"), fly_toml("flyctl", strategy))?;
    let image = reference("flyctl", "1");
    call(
        sim,
        flyctl,
        &["apps", "create", "flyctl", "-o", ORGANIZATION],
    )
    .await?;
    call(sim, flyctl, &deploy(&image, "rolling")).await?;
    // It creates them faster than Fly.io's rate limit allows, and gives up: so a few at a time.
    for count in (4..=MACHINES).step_by(2) {
        tokio::time::sleep(Duration::from_secs(4)).await;
        call(
            sim,
            flyctl,
            &["scale", "count", &count.to_string(), "--yes"],
        )
        .await?;
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    Ok(())
}

async fn flyctl_updates(sim: &Sim, flyctl: &Path, strategy: &str) -> Result<()> {
    call(sim, flyctl, &deploy(&reference("flyctl", "2"), strategy)).await?;
    // With `immediate` it ends before the machines are well. What counts is when they are.
    let well = |machine: &Value| {
        let image = machine["config"]["image"].as_str().unwrap_or_default();
        let checks = machine["checks"].as_array();
        image.contains(":2")
            && machine["state"] == "started"
            && checks.is_some_and(|checks| checks.iter().all(|check| check["status"] == "passing"))
    };
    let started = Instant::now();
    loop {
        let machines = sim.machines("flyctl");
        if machines.iter().filter(|machine| well(machine)).count() >= MACHINES {
            return Ok(());
        }
        if started.elapsed() > LIMIT {
            return Err(format!("flyctl: not well within {LIMIT:?}: {machines:?}").into());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Without its look at the name service, which is not simulated, and without the ten seconds that
/// it looks at each machine, which Golive does not do where there are checks.
fn deploy<'a>(image: &'a str, strategy: &'a str) -> [&'a str; 8] {
    [
        "deploy",
        "--image",
        image,
        "--strategy",
        strategy,
        "--remote-only",
        "--dns-checks=false",
        "--smoke-checks=false",
    ]
}

async fn call(sim: &Sim, flyctl: &Path, args: &[&str]) -> Result<()> {
    let dir = sim.dir().join("flyctl");
    let base = sim.base_url();
    let mut command = tokio::process::Command::new(flyctl);
    command
        .args(args)
        .current_dir(&dir)
        .env_clear()
        .env("HOME", &dir)
        .env("FLY_CONFIG_DIR", dir.join("config"))
        .env(
            "FLY_ACCESS_TOKEN",
            sim.token(ORGANIZATION).unwrap_or_default(),
        )
        .stdin(Stdio::null())
        .kill_on_drop(true);
    for name in ["API", "FLAPS", "UIEX"] {
        command.env(format!("FLY_{name}_BASE_URL"), &base);
    }
    for (name, value) in [
        ("FLY_SEND_METRICS", "0"),
        ("FLY_NO_UPDATE_CHECK", "1"),
        ("FLY_NO_INCIDENTS_CHECK", "1"),
        ("NO_COLOR", "1"),
    ] {
        command.env(name, value);
    }
    let ended = tokio::time::timeout(LIMIT, command.output()).await??;
    if ended.status.success() {
        return Ok(());
    }
    let text = [ended.stdout, ended.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    let last: Vec<&str> = text.lines().rev().take(12).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    Err(format!(
        "flyctl {}: {}\n{}",
        args.join(" "),
        ended.status,
        last.join("\n")
    )
    .into())
}
