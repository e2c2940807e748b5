//! O8 of what a person must mend: an object that is stopped costs little, and its status is written
//! once.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::time::Instant;

use serde_json::{Value, json};

use crate::support::{
    env::{Env, LIMIT, is, reason},
    trouble::world,
};

/// Calls to Fly.io and the registry that one look at a stopped object may cost. With the default
/// recheck interval there are twelve looks in an hour.
const CALLS_PER_LOOK: u64 = 6;

/// What nobody but a person can mend, and what the object says about it.
fn causes() -> [(&'static str, Value, &'static str); 3] {
    [
        (
            "imagen",
            json!({"deploy": {"image": "registry.fly.io/hola-cabanas:nowhere"}}),
            "ImageNotFound",
        ),
        ("region", json!({"region": "zzz"}), "RegionUnusable"),
        (
            "secreto",
            json!({"provision": {"secrets": {"from": [{"secretRef": {"name": "nowhere"}}]}}}),
            "SecretNotFound",
        ),
    ]
}

fn looks(env: &Env) -> u64 {
    let text = env.metrics();
    let lines = text.lines();
    lines
        .filter(|line| line.starts_with("controller_runtime_reconcile_total{"))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_only_a_person_can_mend_costs_a_few_reads_a_look_and_one_write_a_try() {
    for (name, spec, cause) in causes() {
        let env = world(&["--recheck-interval", "1s"]).await;
        env.activation(name, spec).await;
        let status = env
            .wait(name, cause, |status| is(status, "Stalled", "True"))
            .await;
        assert_eq!(reason(&status, "Stalled"), cause, "{status:?}");
        let calls = || env.sim.call_counts().values().sum::<u64>();
        // Messages that may wait are written first.
        let first = looks(&env);
        wait_for_looks(&env, first + 3).await;
        // What is read first and last is such that no look or write in between counts against it.
        let before = (looks(&env), calls(), writes(&env, name).await);
        wait_for_looks(&env, before.0 + 5).await;
        let (written, called) = (writes(&env, name).await - before.2, calls() - before.1);
        let looked = looks(&env) - before.0;
        assert!(
            called <= CALLS_PER_LOOK * (looked + 1),
            "{cause}: {called} calls in {looked} looks: {:?}",
            env.sim.call_counts()
        );
        // Each try is told: how many there were, and when the next one is.
        assert!(
            u64::try_from(written).unwrap() <= looked + 1,
            "{cause}: {written} writes in {looked} looks"
        );
        assert_eq!(env.sim.mutations(), 0, "{cause}");
        println!("O8: {cause}: {called} calls in {looked} looks");
    }
}

/// How many versions of the object there are, once the watch has brought the present one.
async fn writes(env: &Env, name: &str) -> usize {
    let object = env.get(name).await.unwrap();
    let end = Instant::now() + LIMIT;
    loop {
        let histories = env.record().histories();
        let mut versions = histories.values().flatten();
        let present = object.metadata.resource_version.as_ref();
        if versions.any(|version| version.object.metadata.resource_version.as_ref() == present) {
            return histories.values().map(Vec::len).sum();
        }
        assert!(Instant::now() < end, "the watch does not bring {present:?}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

async fn wait_for_looks(env: &Env, wanted: u64) {
    let end = Instant::now() + LIMIT;
    while looks(env) < wanted {
        assert!(Instant::now() < end, "no look: {}", env.metrics());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
