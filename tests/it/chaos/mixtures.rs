//! Fleets under mixtures of faults, with kills of one of two replicas. The seed is printed and
//! repeats a run: the same calls of the same app go wrong in the same way.
//!
//! `GOLIVE_CHAOS=full` runs fleets of 50 at 5, 10 and 20 % in turn for `GOLIVE_CHAOS_SECONDS`, from
//! `GOLIVE_CHAOS_SEED` on; `make test-chaos` sets them.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    fleet::{Outcome, Plan, run},
    full,
};

/// The seed of the run that is part of every test.
const SEED: u64 = 11;

/// A number from the environment.
fn number(name: &str, default: u64) -> u64 {
    let value = std::env::var(name).ok();
    value
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

fn show(plan: &Plan, outcome: &Outcome) {
    let hits: u64 = outcome.faults.values().sum();
    println!(
        "chaos: seed {} at {} %: {} objects, {} calls, {hits} faults, {} kills, {} status writes, \
         {:.0} s, {} violations",
        plan.seed,
        plan.percent,
        plan.objects,
        outcome.calls,
        outcome.kills,
        outcome.writes,
        outcome.took.as_secs_f64(),
        outcome.violations.len(),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_fleet_goes_live_changes_and_goes_under_faults_and_kills() {
    let plan = Plan {
        objects: 4,
        seed: number("GOLIVE_CHAOS_SEED", SEED),
        percent: 10,
        kills: 2,
        quiet: Duration::from_secs(3),
    };
    let outcome = run(&plan).await;
    show(&plan, &outcome);
    assert!(
        outcome.violations.is_empty(),
        "repeat with GOLIVE_CHAOS_SEED={}: {:#?}",
        plan.seed,
        outcome.violations
    );
    assert!(outcome.faults.len() > 3, "{:?}", outcome.faults);
}

#[tokio::test(flavor = "multi_thread")]
async fn fleets_of_fifty_under_five_to_twenty_percent_of_faults_break_no_promise() {
    if !full() {
        return;
    }
    let end = Instant::now() + Duration::from_secs(number("GOLIVE_CHAOS_SECONDS", 3_600));
    let first = number("GOLIVE_CHAOS_SEED", SEED);
    let only = number("GOLIVE_CHAOS_PERCENT", 0);
    let mut faults: BTreeMap<String, u64> = BTreeMap::new();
    let (mut runs, mut kills, mut violations) = (0, 0, Vec::new());
    while Instant::now() < end {
        let percent = match only {
            0 => [5, 10, 20][usize::try_from(runs % 3).unwrap()],
            only => only,
        };
        let plan = Plan {
            objects: usize::try_from(number("GOLIVE_CHAOS_OBJECTS", 50)).unwrap(),
            seed: first + runs,
            percent,
            kills: 12,
            quiet: Duration::from_secs(20),
        };
        println!("chaos: seed {} at {percent} % begins", plan.seed);
        let outcome = run(&plan).await;
        show(&plan, &outcome);
        for (kind, count) in outcome.faults {
            *faults.entry(kind).or_default() += count;
        }
        for violation in outcome.violations {
            println!("chaos: seed {}: {violation}", plan.seed);
            violations.push(format!("seed {}: {violation}", plan.seed));
        }
        kills += u64::from(outcome.kills);
        runs += 1;
    }
    println!("chaos: {runs} runs, {kills} kills, faults by kind: {faults:#?}");
    assert!(violations.is_empty(), "{violations:#?}");
}
