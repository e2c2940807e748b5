//! The plan's scripts (`benches/seed`) with a real flyctl beside Golive with the whole example, in turns, each
//! at a Fly.io of its own with the same latencies.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::Result;
use crate::report::{Report, Target};
use crate::time::{Inputs, activation};
use crate::world::{ORGANIZATION, World, fly, root, scaled};

/// No run of the scripts takes longer.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// Share of Fly's latencies.
const SCALE: f64 = 0.1;

/// Measures both and adds to the report; says so when there is no flyctl.
pub async fn measure(world: &World, report: &mut Report) -> Result<()> {
    let Some(flyctl) = std::env::var_os("FLYCTL").map(PathBuf::from) else {
        println!("\nseed: skipped, since FLYCTL names no flyctl");
        return Ok(());
    };
    let flyctl = std::path::absolute(flyctl)?;
    let rounds = crate::number("BENCH_ROUNDS", 5)?.min(5);
    let inputs = Inputs::read()?;
    let (mut ours, mut theirs) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for round in 0..rounds {
        let seed = u64::try_from(round)? + 1;
        let measured = activation(world, scaled(SCALE, seed), SCALE, &inputs, round).await?;
        ours[0].push(measured.took.as_secs_f64());
        ours[1].push(measured.calls.values().sum::<u64>() as f64);
        let (took, calls) = scripts(&inputs, &flyctl, seed, round).await?;
        theirs[0].push(took.as_secs_f64());
        theirs[1].push(calls as f64);
        println!("seed: round {} of {rounds}", round + 1);
    }
    let time = format!("the plan, at {SCALE} of Fly's latencies");
    report.beside(
        ("B1", &time, "s"),
        &ours[0],
        ("seed", &theirs[0]),
        Target::Ratio(0.35),
    );
    report.beside(
        ("B2", "Fly calls of the plan", "calls"),
        &ours[1],
        ("seed", &theirs[1]),
        Target::None,
    );
    Ok(())
}

/// One run of the scripts: how long it took, and how many calls.
async fn scripts(
    inputs: &Inputs,
    flyctl: &Path,
    seed: u64,
    round: usize,
) -> Result<(Duration, u64)> {
    // The agent stands for flyctl's tunnels, which the check of the database goes through.
    let mut options = scaled(SCALE, seed);
    options.agent = true;
    let sim = fly(options).await?;
    let app = format!("seed-{round}");
    let work = sim.dir().join("seed");
    std::fs::create_dir_all(&work)?;
    std::fs::write(work.join("fly.toml"), &inputs.fly_toml)?;
    let ca = work.join("ca.pem");
    std::fs::write(&ca, sim.ca_pem())?;
    let base = sim.base_url();
    let curl = format!("--cacert {} --connect-to ::{}", ca.display(), sim.edge());
    let mut command = tokio::process::Command::new("bash");
    command
        .arg(root().join("benches/seed/activation_complete.sh"))
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap_or_default())
        .env("HOME", &work)
        .env("WORK", &work)
        .env("FLYCTL", flyctl)
        .env("FLY_CONFIG_DIR", sim.core().flyctl_dir())
        .env("FLY_ACCESS_TOKEN", sim.org_token().unwrap_or_default())
        .env("FLY_REGISTRY_HOST", base.trim_start_matches("http://"))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    for name in ["API", "FLAPS", "UIEX"] {
        command.env(format!("FLY_{name}_BASE_URL"), &base);
    }
    for (name, value) in [
        ("APP", app.as_str()),
        ("ORG", ORGANIZATION),
        ("REGION", "eze"),
        ("IMAGE", &inputs.image),
        ("CURL_OPTIONS", &curl),
        ("FLY_SEND_METRICS", "0"),
        ("FLY_NO_UPDATE_CHECK", "1"),
        ("FLY_NO_INCIDENTS_CHECK", "1"),
        ("NO_COLOR", "1"),
    ] {
        command.env(name, value);
    }
    sim.reset();
    let started = Instant::now();
    let done = tokio::time::timeout(LIMIT, command.output()).await??;
    let took = started.elapsed();
    let calls = sim.call_counts().values().sum();
    if !done.status.success() {
        let text = [done.stdout, done.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        let last: Vec<&str> = text.lines().rev().take(15).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        return Err(format!(
            "the scripts ended with {}\n{}",
            done.status,
            last.join("\n")
        )
        .into());
    }
    sim.stop().await;
    Ok((took, calls))
}
