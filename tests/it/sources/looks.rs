//! Looks at the application itself: its pages, its log, and whether it answers.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::time::Duration;

use golive::api::metrics_source::MetricsSource;
use golive::fly::MachineState;
use golive::phase::observe::reading::{Last, ProbePage, Question, Reached};
use golive::phase::observe::source::fault::{Cause, Subject};
use golive::phase::observe::source::lines::Pattern;
use golive::slo::{Instance, Tally};

use super::stage::{Figures, Stage, events, eventually, requests, times};

fn pages() -> MetricsSource {
    MetricsSource::default()
}

#[tokio::test]
async fn each_machine_is_read_by_itself_and_golives_own_requests_do_not_count() {
    let stage = Stage::with(2).await;
    let questions = [requests(), times("audio")];
    let of = (&pages(), questions.as_slice());
    let mut figures = Figures::new(of.0, of.1);
    stage.guests(4, "text", 200).await;
    let first = stage.look(&stage.machines, of, &[], Last::default()).await;
    assert_eq!(first.reached, Reached::EachMachine, "{:?}", first.faults);
    let last = first.next.clone();
    figures.add(first);

    stage.guests(30, "text", 200).await;
    stage.guests(6, "audio", 500).await;
    let second = stage.look(&stage.machines, of, &[], last).await;
    assert_eq!(
        (second.expected, second.asleep, second.faults.len()),
        (2, 0, 0)
    );
    let mut ids: Vec<Instance> = second.pages.iter().map(|(of, _)| of.clone()).collect();
    ids.sort();
    let mut wanted: Vec<Instance> = stage
        .machines
        .iter()
        .map(|machine| Instance::Machine(machine.id.clone()))
        .collect();
    wanted.sort();
    assert_eq!(ids, wanted);
    let starts: Vec<Option<f64>> = second.pages.iter().map(|(_, page)| page.start).collect();
    assert!(
        starts.iter().all(Option::is_some) && starts[0] != starts[1],
        "{starts:?}"
    );
    let cells = figures.add(second);
    assert_eq!(events(&cells[&0]), (36.0, 6.0));
    let Some(Tally::Buckets(buckets)) = &cells[&1].tally else {
        panic!("{:?}", cells[&1]);
    };
    assert_eq!(buckets.counts().last(), Some(&6.0));
}

#[tokio::test]
async fn a_look_wakes_no_machine_that_sleeps_and_says_that_nothing_is_served() {
    let mut stage = Stage::with(2).await;
    let home = ProbePage {
        path: "/".to_owned(),
        good: vec![200],
        within: Duration::from_secs(30),
        interval: Duration::from_millis(1),
    };
    let questions = [requests(), Question::Probe(home)];
    let of = (&pages(), questions.as_slice());
    stage.stop(0).await;
    let one = stage.look(&stage.machines, of, &[], Last::default()).await;
    assert_eq!(
        (one.reached, one.expected, one.asleep),
        (Reached::EachMachine, 1, 1)
    );
    let other = Instance::Machine(stage.machines[1].id.clone());
    assert_eq!(
        one.pages.iter().map(|(of, _)| of).collect::<Vec<_>>(),
        [&other]
    );
    assert_eq!(events(&one.cells[&1]), (1.0, 0.0));

    stage.stop(1).await;
    let none = stage.look(&stage.machines, of, &[], one.next).await;
    assert_eq!(none.reached, Reached::Asleep);
    assert!(
        none.pages.is_empty() && none.faults.is_empty(),
        "{:?}",
        none.faults
    );
    for objective in [0, 1] {
        assert_eq!(events(&none.cells[&objective]), (0.0, 0.0));
        assert!(
            none.cells[&objective].seen > 0,
            "observed: nothing was served"
        );
    }
    for machine in &stage.machines {
        let machine = stage.read(&machine.id).await;
        assert_eq!(
            machine.state,
            MachineState::Stopped,
            "nobody has started it"
        );
    }
}

#[tokio::test]
async fn where_only_the_edge_answers_it_is_said_and_machines_are_told_apart_by_their_start() {
    let stage = Stage::with(1).await;
    // A machine that Fly.io does not know any more: the header leads nowhere, and there is no other way.
    let mut gone = stage.machines[0].clone();
    gone.id = "ffffffffffffff".to_owned();
    let questions = [requests()];
    let of = (&pages(), questions.as_slice());
    let reading = stage.look(&[gone], of, &[], Last::default()).await;
    assert_eq!(reading.reached, Reached::EdgeOnly);
    let [(Instance::Edge, page)] = reading.pages.as_slice() else {
        panic!("{:?}", reading.pages);
    };
    assert!(page.start.is_some());
    let [fault] = reading.faults.as_slice() else {
        panic!("{:?}", reading.faults);
    };
    assert_eq!(fault.of, Subject::Machine("ffffffffffffff".to_owned()));
    assert!(matches!(fault.why, Cause::Status(502 | 503)), "{fault}");

    let mut nowhere = pages();
    nowhere.metrics_path = Some("/nowhere".to_owned());
    let of = (&nowhere, questions.as_slice());
    let reading = stage.look(&stage.machines, of, &[], Last::default()).await;
    assert_eq!(reading.reached, Reached::Nobody);
    assert!(reading.pages.is_empty());
    let causes = reading.faults.iter().map(|fault| &fault.why);
    assert!(causes.into_iter().all(|why| *why == Cause::Status(404)));
}

#[tokio::test]
async fn lines_of_the_log_are_counted_once_each_and_a_probe_is_made_once_in_its_interval() {
    let stage = Stage::with(1).await;
    let lines = Pattern::new("/api/v1/rehearsal").unwrap();
    let probe = |path: &str| {
        Question::Probe(ProbePage {
            path: path.to_owned(),
            good: vec![200],
            within: Duration::from_secs(30),
            interval: Duration::from_secs(3600),
        })
    };
    let questions = [
        Question::Lines(lines),
        probe("/"),
        probe("/there-is-nothing-here"),
    ];
    let of = (&pages(), questions.as_slice());
    let first = stage.look(&stage.machines, of, &[], Last::default()).await;
    assert_eq!(first.reached, Reached::NotAsked);
    assert_eq!(events(&first.cells[&1]), (1.0, 0.0));
    assert_eq!(events(&first.cells[&2]), (1.0, 1.0));

    stage.guests(120, "text", 200).await;
    let mut counted = 0.0;
    let mut last = first.next;
    eventually("all lines were counted", async || {
        let reading = stage.look(&stage.machines, of, &[], last.clone()).await;
        assert!(reading.faults.is_empty(), "{:?}", reading.faults);
        for probe in [1, 2] {
            assert_eq!(events(&reading.cells[&probe]), (0.0, 0.0), "not due");
            assert!(reading.cells[&probe].seen > 0);
        }
        let Some(Tally::Lines(lines)) = reading.cells[&0].tally else {
            panic!("{:?}", reading.cells);
        };
        counted += lines;
        last = reading.next;
        (counted >= 120.0).then_some(())
    })
    .await;
    let reading = stage.look(&stage.machines, of, &[], last).await;
    assert_eq!(
        reading.cells[&0].tally,
        Some(Tally::Lines(0.0)),
        "nothing new"
    );
    assert_eq!(counted, 120.0, "more than a page, and no line twice");
}
