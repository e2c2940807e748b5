//! Resets, restarts, machines that come and go, and scrapes that fail.

use super::super::histogram::HistogramFault;
use super::super::page::{Absence, Source};
use super::super::tracker::{MAX_INSTANCES, MAX_NUMBERS, Round};
use super::super::{Bound, Instance, Page, Selector, Tracker};
use super::{counts, events, machine, page, requests, sources};
use crate::exposition::Format;

/// Observations every 30 s, from 1,000,000 s on.
struct Watch {
    tracker: Tracker,
    at: i64,
}

impl Watch {
    fn new() -> Self {
        Self {
            tracker: Tracker::new(90_000),
            at: 1_000_000_000,
        }
    }

    fn round(&mut self, expected: usize, pages: Vec<(Instance, Page)>) -> Round {
        self.after(30_000, expected, pages)
    }

    fn after(&mut self, millis: i64, expected: usize, pages: Vec<(Instance, Page)>) -> Round {
        self.at += millis;
        self.tracker
            .observe(&sources(), self.at, expected, pages)
            .unwrap()
    }
}

#[test]
fn the_first_page_is_the_base_and_the_second_says_what_was_added() {
    let mut watch = Watch::new();
    let first = watch.round(1, vec![(machine("a"), requests(100, 5, None))]);
    assert_eq!((events(&first.cells[0]), first.cells[0].seen), (None, 0));
    assert_eq!(first.first, 1);
    let second = watch.round(1, vec![(machine("a"), requests(130, 6, None))]);
    assert_eq!(events(&second.cells[0]), Some((31.0, 1.0)));
    assert_eq!(counts(&second.cells[1]), Some(vec![30.0, 31.0]));
    assert_eq!(second.cells[0].seen, 30_000);
    assert_eq!((second.first, second.restarts), (0, 0));
}

#[test]
fn a_series_that_a_known_machine_did_not_have_began_at_zero_since() {
    let empty = || page("up 1\n");
    let mut watch = Watch::new();
    watch.round(1, vec![(machine("a"), empty())]);
    let round = watch.round(1, vec![(machine("a"), requests(4, 2, None))]);
    assert_eq!(events(&round.cells[0]), Some((6.0, 2.0)));
    assert_eq!(counts(&round.cells[1]), Some(vec![4.0, 6.0]));
    // Behind the edge, without a start, the next page may be of a machine that had it all the time.
    let mut watch = Watch::new();
    watch.round(2, vec![(Instance::Edge, empty())]);
    let round = watch.round(2, vec![(Instance::Edge, requests(4, 2, None))]);
    assert_eq!(events(&round.cells[0]), None);
}

#[test]
fn a_restart_of_one_machine_adds_its_new_counts_and_leaves_the_others_alone() {
    let mut watch = Watch::new();
    let both = |a, b| vec![(machine("a"), a), (machine("b"), b)];
    watch.round(2, both(requests(100, 5, None), requests(50, 0, None)));
    let round = watch.round(2, both(requests(7, 1, None), requests(55, 0, None)));
    assert_eq!(events(&round.cells[0]), Some((13.0, 1.0)));
    assert_eq!(counts(&round.cells[1]), Some(vec![12.0, 13.0]));
    assert_eq!(round.restarts, 1);
}

#[test]
fn a_restart_whose_counts_overtook_the_old_ones_shows_in_its_start() {
    let mut watch = Watch::new();
    watch.round(1, vec![(machine("a"), requests(10, 0, Some(900_000.0)))]);
    let page = requests(12, 0, Some(1_000_040.0));
    let round = watch.round(1, vec![(machine("a"), page)]);
    assert_eq!(events(&round.cells[0]), Some((12.0, 0.0)));
    assert_eq!(round.restarts, 1);
}

#[test]
fn one_counter_that_fell_shows_that_the_others_began_at_zero_too() {
    let mut watch = Watch::new();
    watch.round(1, vec![(machine("a"), requests(100, 5, None))]);
    // The errors overtook their old count.
    let round = watch.round(1, vec![(machine("a"), requests(40, 6, None))]);
    assert_eq!(events(&round.cells[0]), Some((46.0, 6.0)));
}

#[test]
fn a_machine_that_started_inside_the_watch_counts_from_zero_and_an_old_one_from_its_first_page() {
    let mut watch = Watch::new();
    let a = |good| (machine("a"), requests(good, 0, Some(900_000.0)));
    watch.round(1, vec![a(100)]);
    let new = (machine("b"), requests(20, 0, Some(1_000_035.0)));
    let round = watch.round(2, vec![a(101), new]);
    assert_eq!(events(&round.cells[0]), Some((21.0, 0.0)));
    let old = (machine("c"), requests(5000, 0, Some(500_000.0)));
    let round = watch.round(2, vec![a(102), old]);
    assert_eq!(events(&round.cells[0]), Some((1.0, 0.0)));
    assert_eq!(
        round.cells[0].seen, 15_000,
        "half of the machines are known"
    );
    let unknown = (machine("d"), requests(5000, 0, None));
    let round = watch.round(2, vec![a(103), unknown]);
    assert_eq!(events(&round.cells[0]), Some((1.0, 0.0)));
}

#[test]
fn behind_the_edge_machines_are_told_apart_by_their_start() {
    let mut watch = Watch::new();
    let edge = |good, start| vec![(Instance::Edge, requests(good, 0, Some(start)))];
    watch.round(1, edge(100, 900_000.0));
    let other = watch.round(1, edge(5, 800_000.0));
    assert_eq!(
        events(&other.cells[0]),
        None,
        "another machine, not a reset"
    );
    let again = watch.round(1, edge(103, 900_000.0));
    assert_eq!(events(&again.cells[0]), Some((3.0, 0.0)));
    let again = watch.round(1, edge(9, 800_000.0));
    assert_eq!(events(&again.cells[0]), Some((4.0, 0.0)));
    // It restarted, and is met three rounds later.
    let new = watch.after(90_000, 1, edge(2, 1_000_130.0));
    assert_eq!(events(&new.cells[0]), Some((2.0, 0.0)));
    // Without a start a decrease is a reset: there is nothing else to tell them by.
    let mut watch = Watch::new();
    watch.round(1, vec![(Instance::Edge, requests(100, 0, None))]);
    let round = watch.round(1, vec![(Instance::Edge, requests(4, 0, None))]);
    assert_eq!(events(&round.cells[0]), Some((4.0, 0.0)));
}

#[test]
fn a_scrape_that_failed_is_added_later_and_is_not_observed_time() {
    let mut watch = Watch::new();
    let both = |a, b| {
        vec![
            (machine("a"), requests(a, 0, None)),
            (machine("b"), requests(b, 0, None)),
        ]
    };
    watch.round(2, both(10, 10));
    let round = watch.round(2, both(11, 10).into_iter().take(1).collect());
    assert_eq!(events(&round.cells[0]), Some((1.0, 0.0)));
    assert_eq!(round.cells[0].seen, 15_000);
    let round = watch.round(2, both(12, 17));
    assert_eq!(events(&round.cells[0]), Some((8.0, 0.0)));
    assert_eq!(round.cells[0].seen, 30_000);
}

#[test]
fn a_gap_has_a_known_sum_when_the_counters_went_on() {
    let mut watch = Watch::new();
    watch.round(1, vec![(machine("a"), requests(10, 0, Some(9e5)))]);
    let page = requests(510, 4, Some(9e5));
    let round = watch.after(3_600_000, 1, vec![(machine("a"), page)]);
    assert_eq!(events(&round.cells[0]), Some((504.0, 4.0)));
    assert_eq!(
        (round.cells[0].seen, round.cells[0].bridged),
        (0, 3_600_000)
    );
    let nothing = watch.round(1, Vec::new());
    assert_eq!(
        (nothing.cells[0].seen, events(&nothing.cells[0])),
        (0, None)
    );
}

#[test]
fn shares_of_observed_time_are_never_more_than_the_time() {
    let mut watch = Watch::new();
    let both = |a, b| {
        let (a, b) = (requests(a, 0, None), requests(b, 0, None));
        vec![(machine("a"), a), (machine("b"), b)]
    };
    watch.round(2, both(1, 1));
    for n in 2..6 {
        watch.round(2, both(n, 1).into_iter().take(1).collect());
    }
    // One was away for long, and half of an odd time is rounded.
    let round = watch.after(30_001, 2, both(9, 9));
    let cell = &round.cells[0];
    assert_eq!((cell.seen, cell.bridged), (15_001, 15_000));
}

#[test]
fn a_clock_that_was_set_back_loses_nothing() {
    let mut watch = Watch::new();
    let a = |good| vec![(machine("a"), requests(good, 0, None))];
    watch.round(1, a(10));
    let back = watch.tracker.observe(&sources(), watch.at - 5, 1, a(20));
    assert_eq!(back, None);
    let round = watch.round(1, a(25));
    assert_eq!(events(&round.cells[0]), Some((15.0, 0.0)));
}

#[test]
fn a_series_that_appears_began_at_zero_and_one_that_vanishes_adds_nothing() {
    let mut watch = Watch::new();
    let one = page("requests_total{status=\"200\"} 10\n");
    watch.round(1, vec![(machine("a"), one)]);
    let two = page("requests_total{status=\"200\"} 12\nrequests_total{status=\"503\"} 3\n");
    let round = watch.round(1, vec![(machine("a"), two)]);
    assert_eq!(events(&round.cells[0]), Some((5.0, 3.0)));
    let three = page("requests_total{status=\"503\"} 4\n");
    let round = watch.round(1, vec![(machine("a"), three)]);
    assert_eq!(events(&round.cells[0]), Some((1.0, 1.0)));
    assert_eq!(round.restarts, 0);
}

#[test]
fn a_changed_layout_is_another_program_and_two_layouts_have_their_common_bounds() {
    let mut watch = Watch::new();
    let at = |bound: &str, fast: u32| {
        page(&format!(
            "seconds_bucket{{le=\"{bound}\"}} {fast}\nseconds_bucket{{le=\"3\"}} 8\n\
             seconds_bucket{{le=\"+Inf\"}} 9\n"
        ))
    };
    watch.round(1, vec![(machine("a"), at("1", 5))]);
    let round = watch.round(1, vec![(machine("a"), at("2", 6))]);
    assert_eq!(counts(&round.cells[1]), Some(vec![6.0, 8.0, 9.0]));
    assert_eq!(round.restarts, 1);
    // le="1" and le="1.0" are one bound.
    let round = watch.round(1, vec![(machine("a"), at("2.0", 6))]);
    assert_eq!(counts(&round.cells[1]), Some(vec![0.0, 0.0, 0.0]));
}

#[test]
fn what_cannot_be_read_leaves_its_base_for_the_next_page() {
    let mut watch = Watch::new();
    watch.round(1, vec![(machine("a"), requests(10, 0, None))]);
    let broken = page("requests_total NaN\nseconds_bucket{le=\"3\"} 1\n");
    let round = watch.round(1, vec![(machine("a"), broken)]);
    assert_eq!(round.absent[0], Some(Absence::NoCount));
    let no_infinity = HistogramFault::NoInfinity.into();
    assert_eq!(round.absent[1], Some(no_infinity));
    assert_eq!((round.cells[0].seen, events(&round.cells[0])), (0, None));
    let round = watch.round(1, vec![(machine("a"), requests(15, 0, None))]);
    assert_eq!(events(&round.cells[0]), Some((5.0, 0.0)));
}

#[test]
fn the_instances_that_are_kept_are_bounded_and_one_that_returns_is_not_new() {
    let mut watch = Watch::new();
    for n in 0..MAX_INSTANCES + 10 {
        let page = requests(10, 0, Some(1_000_000.0 + n as f64));
        watch.round(1, vec![(machine(&n.to_string()), page)]);
    }
    assert_eq!(watch.tracker.instances(), MAX_INSTANCES);
    let page = requests(20, 0, Some(1_000_000.0));
    let round = watch.round(1, vec![(machine("0"), page)]);
    assert_eq!(events(&round.cells[0]), None, "it was forgotten");
}

#[test]
fn a_summary_of_two_machines_has_no_quantile_and_a_gauge_its_worst_value() {
    let bound = Bound::Below(3.0);
    let of = Selector::default();
    let sources = [
        Source::Summary {
            metric: "s".into(),
            of: of.clone(),
            quantile: 0.95,
            bound,
        },
        Source::Gauge {
            metric: "g".into(),
            of,
            bound,
        },
    ];
    let read = |text: &str| super::super::page::read(text.as_bytes(), Format::Text, &sources);
    let a = read("s{quantile=\"0.95\"} 2\ng 1\n").unwrap();
    let b = read("s{quantile=\"0.95\"} 4\ng 5\n").unwrap();
    let mut tracker = Tracker::new(90_000);
    tracker.observe(&sources, 0, 1, vec![(machine("a"), a.clone())]);
    let one = tracker.observe(&sources, 30_000, 1, vec![(machine("a"), a.clone())]);
    let one = one.unwrap();
    assert_eq!(one.cells[0].seen, 30_000);
    let both = vec![(machine("a"), a), (machine("b"), b)];
    let two = tracker.observe(&sources, 60_000, 2, both).unwrap();
    assert_eq!(two.absent[0], Some(Absence::SeveralQuantiles));
    assert_eq!((two.cells[0].seen, &two.cells[0].tally), (0, &None));
    let Some(super::super::Tally::Values(values)) = &two.cells[1].tally else {
        panic!("{two:?}");
    };
    assert_eq!((values.last, values.outside), (5.0, 1.0));
}

#[test]
fn a_page_of_the_edge_after_a_failed_scrape_counts_no_process_twice() {
    for start in [Some(1_000_010.0), Some(900_000.0), None] {
        let mut watch = Watch::new();
        let own = |good| vec![(machine("a"), requests(good, 0, start))];
        let edge = |good| vec![(Instance::Edge, requests(good, 0, start))];
        watch.round(1, own(100));
        let mut total = 0.0;
        for pages in [
            own(110),
            edge(120),
            edge(130),
            own(140),
            edge(150),
            own(160),
        ] {
            let round = watch.round(1, pages);
            total += events(&round.cells[0]).map_or(0.0, |(total, _)| total);
        }
        assert_eq!(total, 60.0, "{start:?}");
    }
}

#[test]
fn a_process_that_the_edge_showed_first_goes_on_when_its_machine_answers() {
    let mut watch = Watch::new();
    let start = Some(1_000_100.0);
    watch.round(1, vec![(machine("a"), requests(100, 0, Some(900_000.0)))]);
    // The machine restarts, and only the edge can be asked.
    watch.after(90_000, 1, vec![(Instance::Edge, requests(7, 0, start))]);
    let round = watch.round(1, vec![(machine("a"), requests(9, 0, start))]);
    assert_eq!(events(&round.cells[0]), Some((2.0, 0.0)));
}

#[test]
fn where_machines_answer_no_more_the_edge_is_believed_after_a_while() {
    let mut watch = Watch::new();
    watch.round(1, vec![(machine("a"), requests(100, 0, None))]);
    let edge = |good| vec![(Instance::Edge, requests(good, 0, None))];
    for good in [110, 120, 130, 140, 150] {
        watch.round(1, edge(good));
    }
    let round = watch.round(1, edge(160));
    assert_eq!(events(&round.cells[0]), Some((10.0, 0.0)));
    assert_eq!(round.cells[0].seen, 30_000);
    // The base of a machine that answers again is what it shows then.
    let round = watch.round(1, vec![(machine("a"), requests(170, 0, None))]);
    assert_eq!(events(&round.cells[0]), None);
}

#[test]
fn the_readings_of_many_machines_and_series_stay_bounded_and_what_is_left_out_has_a_reason() {
    let many = |from: u32| {
        let mut text = String::new();
        for series in 0..2_000 {
            let count = from + series;
            text += &format!("requests_total{{route=\"{series}\"}} {count}\n");
            for bound in ["1", "3", "+Inf"] {
                text += &format!("seconds_bucket{{route=\"{series}\",le=\"{bound}\"}} {count}\n");
            }
        }
        page(&text)
    };
    let mut watch = Watch::new();
    let pages = |from| {
        let machines = (0..20).map(|n| (machine(&format!("m{n}")), many(from)));
        machines.collect::<Vec<_>>()
    };
    watch.round(20, pages(0));
    assert!(watch.tracker.numbers() <= MAX_NUMBERS);
    let round = watch.round(20, pages(1));
    assert!(watch.tracker.numbers() <= MAX_NUMBERS);
    assert_eq!(round.absent[1], Some(Absence::TooMuch));
    let cell = &round.cells[0];
    assert!(
        cell.seen > 0 && cell.seen < 30_000,
        "in part: {}",
        cell.seen
    );
}
