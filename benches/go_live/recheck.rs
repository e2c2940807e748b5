//! What an unchanged, live activation costs each time it is looked at again.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::Result;
use crate::table;
use crate::time::Inputs;
use crate::world::{World, scaled};

/// How often it is looked at here, and for how long that is watched.
const INTERVAL: &str = "1s";
const WATCHED: Duration = Duration::from_secs(15);

/// Measures and prints, with the whole example; gives the targets that were missed.
pub async fn measure(world: &World) -> Result<Vec<String>> {
    let run = world.run(scaled(0.0, 1)).await?;
    let inputs = Inputs::read()?;
    for object in &inputs.others {
        run.apply(object.clone()).await?;
    }
    let operator = run.operator(&[("recheck-interval", INTERVAL)]).await?;
    run.go_live(inputs.activation("bench-recheck")).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    run.sim.reset();
    let from = run.recorded()?;
    let before = operator
        .metric("controller_runtime_reconcile_total")
        .await?;
    tokio::time::sleep(WATCHED).await;
    let calls = run.sim.call_counts();
    let after = operator
        .metric("controller_runtime_reconcile_total")
        .await?;
    tokio::time::sleep(Duration::from_millis(700)).await;
    let asked = run.asked(from)?;
    let looks = (after - before).max(1.0);
    let each = |counts: &BTreeMap<String, u64>| {
        let sum: u64 = counts.values().sum();
        sum as f64 / looks
    };
    let per = |counts: &BTreeMap<String, u64>| format!("{:.2}", each(counts));
    let mut missed = Vec::new();
    if each(&calls) > 3.0 {
        missed.push(format!("{} Fly reads a re-check, not 3", per(&calls)));
    }
    if !asked.writes.is_empty() || run.sim.mutations() > 0 {
        missed.push("a re-check of an unchanged activation writes".to_owned());
    }
    table::print(
        &format!("An unchanged activation, {looks} re-checks"),
        &["what", "each", "target"],
        &[
            vec!["Fly reads".into(), per(&calls), "at most 3".into()],
            vec![
                "Fly changes".into(),
                format!("{:.2}", run.sim.mutations() as f64 / looks),
                "0".into(),
            ],
            vec!["Kubernetes writes".into(), per(&asked.writes), "0".into()],
            vec!["Kubernetes reads".into(), per(&asked.reads), String::new()],
        ],
    );
    table::counts("Fly calls of all these re-checks", "call", &calls);
    table::counts("Kubernetes writes of them", "write", &asked.writes);
    table::counts("Kubernetes reads of them", "read", &asked.reads);
    drop(operator);
    Ok(missed)
}
