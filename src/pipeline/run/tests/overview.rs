//! Re-checks while the overview of the app cannot be read.

use super::*;

#[test]
fn without_the_overview_a_recheck_stays_within_three_reads_and_starves_no_step() {
    let mut memory = settled("digest");
    memory.facts.set(recheck::OverviewFails);
    let due: BTreeSet<StepId> = memory
        .steps
        .iter()
        .filter(|(_, record)| record.again.is_some())
        .map(|(id, _)| *id)
        .collect();
    let mut reached = BTreeSet::new();
    for _ in 0..due.len() {
        let chosen = recheck::choose(PHASES, &mut memory, "digest", &Timing::default()).unwrap();
        let steps = PHASES.iter().flat_map(|phase| phase.steps);
        let chosen_steps: Vec<_> = steps.filter(|step| chosen.contains(&step.id())).collect();
        let alone = chosen_steps
            .iter()
            .filter(|step| step.reads_overview())
            .count();
        let own: u32 = chosen_steps.iter().map(|step| step.reads()).sum();
        assert!(alone <= 1 && own + 2 * alone as u32 <= 3, "{chosen:?}");
        for id in &due {
            memory.steps.get_mut(id).unwrap().again = Some(Instant::now());
        }
        for id in &chosen {
            memory.steps.get_mut(id).unwrap().observed_at = Instant::now();
        }
        reached.extend(chosen);
    }
    assert_eq!(reached, due);
}
