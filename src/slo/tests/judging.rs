//! What is said of an objective at a time.

use super::super::burn::{BurnRates, Severity};
use super::super::judge::{
    Alert, Burning, Doubt, Judgement, Missing, Standing, Verdict, judge, of_release, verdict,
};
use super::super::store::{HOUR, MINUTE};
use super::super::tally::Values;
use super::super::{Aim, Bound, Buckets, Cell, Objective, Range, Store, Tally};

const BEGIN: i64 = 1_700_000_000_000;
const STEP: i64 = 30_000;
const WATCH: i64 = 72 * HOUR;

fn errors() -> Objective {
    Objective {
        aim: Aim::BadShare { below: 0.01 },
        min_events: 20,
    }
}

/// A watch of one objective.
struct Watch {
    store: Store,
    objective: Objective,
    rates: BurnRates,
}

impl Watch {
    fn of(objective: Objective) -> Self {
        Self {
            store: Store::new(BEGIN, vec![objective.aim.kind()], 90_000),
            objective,
            rates: BurnRates::Standard,
        }
    }

    /// The same tally each 30 s for so long.
    fn each(mut self, length: i64, tally: &Tally) -> Self {
        for _ in 0..length / STEP {
            let at = self.store.end() + STEP;
            let cell = Cell {
                seen: STEP,
                bridged: 0,
                tally: Some(tally.clone()),
            };
            self.store.push(at, vec![cell]).unwrap();
        }
        self
    }

    fn requests(self, length: i64, total: f64, bad: f64) -> Self {
        self.each(length, &Tally::Events { total, bad })
    }

    fn gap(mut self, length: i64) -> Self {
        let at = self.store.end() + length;
        self.store.push(at, vec![Cell::default()]).unwrap();
        self
    }

    fn judged(&self) -> Judgement {
        let now = self.store.end();
        judge(&self.objective, self.rates, (BEGIN, now, WATCH), |from| {
            self.store.window(0, from)
        })
    }
}

#[test]
fn a_healthy_application_is_met_quiet_and_held() {
    let watch = Watch::of(errors()).requests(WATCH, 100.0, 0.1);
    let judged = watch.judged();
    assert_eq!(judged.now, Standing::Met);
    assert_eq!(judged.alert, Alert::Quiet);
    assert!(!judged.may_roll_back());
    let left = judged.budget_left.unwrap();
    assert!(left.is_exact() && (left.low - 0.9).abs() < 1e-9, "{left:?}");
    assert_eq!(verdict(&judged.whole, WATCH), Verdict::Held);
    assert!(judged.pairs.iter().all(|pair| !pair.long.partial));
}

#[test]
fn a_fast_burn_pages_and_a_slow_one_is_a_ticket() {
    let watch = Watch::of(errors()).requests(24 * HOUR, 100.0, 0.0);
    let page = watch.requests(2 * HOUR, 100.0, 20.0).judged();
    assert_eq!(page.alert, Alert::Burning(Severity::Page));
    assert_eq!(page.pairs[0].burning, Burning::Yes);
    let burn = page.pairs[0].long.burn.unwrap();
    assert!((burn.low - 20.0).abs() < 1e-9, "{burn:?}");
    assert!(page.may_roll_back());
    let watch = Watch::of(errors()).requests(24 * HOUR, 100.0, 4.0);
    let ticket = watch.judged();
    assert_eq!(ticket.alert, Alert::Burning(Severity::Ticket));
    assert!(ticket.is_exact_breach(), "and 4 % are a breach");
}

#[test]
fn a_burn_that_ended_is_quiet_because_the_short_window_is() {
    let watch = Watch::of(errors()).requests(40 * HOUR, 100.0, 0.0);
    let watch = watch.requests(30 * MINUTE, 100.0, 30.0);
    assert_eq!(
        watch.judged().alert,
        Alert::Burning(Severity::Page),
        "while it burns"
    );
    let judged = watch.requests(20 * MINUTE, 100.0, 0.0).judged();
    assert_eq!(judged.pairs[0].burning, Burning::No);
    assert!(judged.pairs[0].long.burn.unwrap().low > 5.0);
}

#[test]
fn a_window_counts_from_a_quarter_on_and_is_partial_until_it_has_passed() {
    let early = Watch::of(errors()).requests(14 * MINUTE, 100.0, 50.0);
    let judged = early.judged();
    let needed = 15 * MINUTE;
    let seen = 14 * MINUTE;
    assert_eq!(
        judged.pairs[0].long.standing,
        Standing::Unknown(Doubt::TooEarly { seen, needed })
    );
    assert_eq!(judged.pairs[0].burning, Burning::Unknown);
    assert_eq!(judged.alert, Alert::Unknown);
    assert_eq!(judged.now, Standing::Breached, "what is seen is a breach");
    let later = early.requests(2 * MINUTE, 100.0, 50.0).judged();
    assert!(later.pairs[0].long.partial);
    assert!(!later.pairs[0].short.partial);
    assert_eq!(later.alert, Alert::Burning(Severity::Page));
}

#[test]
fn few_events_say_nothing() {
    let watch = Watch::of(errors()).requests(6 * HOUR, 0.01, 0.01);
    let judged = watch.judged();
    let doubt = Standing::Unknown(Doubt::InsufficientTraffic {
        events: judged.whole.events,
        needed: 20,
    });
    assert_eq!(judged.now, doubt);
    assert!((judged.whole.events - 7.2).abs() < 1e-6);
    assert_eq!(judged.alert, Alert::Unknown);
    assert!(!judged.may_roll_back());
    assert_eq!(judged.budget_left, None);
}

#[test]
fn a_few_bad_events_of_few_are_chance_while_the_watch_runs_and_count_at_its_end() {
    // One error in the first minutes of a quiet morning.
    let watch = Watch::of(errors()).requests(30 * MINUTE, 1.0, 0.0);
    let watch = watch.requests(STEP, 1.0, 1.0);
    let judged = watch.judged();
    let doubt = Doubt::Chance {
        bad: 1.0,
        events: 61.0,
    };
    assert_eq!(judged.now, Standing::Unknown(doubt));
    assert!(!judged.may_roll_back());
    assert!(
        judged.budget_left.unwrap().low < 0.0,
        "the figures are told"
    );
    let window = watch.store.window(0, BEGIN);
    let figure = of_release(&watch.objective, window.as_ref());
    assert_eq!(figure.standing, Standing::Unknown(doubt));
    // Six of them are none.
    let judged = watch.requests(5 * STEP, 1.0, 1.0).judged();
    assert_eq!(judged.now, Standing::Breached);
    assert!(judged.is_exact_breach());

    // A day with few guests, of whom one saw an error: no ticket.
    let quiet = Watch::of(errors()).requests(19 * HOUR, 0.03, 0.0);
    let judged = quiet.requests(STEP, 1.0, 1.0).judged();
    assert!(judged.pairs[3].long.burn.unwrap().low >= 1.0);
    assert_eq!(judged.alert, Alert::Unknown);

    // The verdict is by the numbers alone.
    let whole = Watch::of(errors()).requests(WATCH - STEP, 0.01, 0.0);
    let judged = whole.requests(STEP, 1.0, 1.0).judged();
    assert_eq!(judged.now, Standing::Breached);
    assert_eq!(verdict(&judged.whole, WATCH), Verdict::Broken);
}

#[test]
fn a_budget_of_nothing_is_used_up_by_the_first_bad_event() {
    let objective = Objective {
        aim: Aim::BadShare { below: 0.0 },
        min_events: 20,
    };
    let watch = Watch::of(objective).requests(HOUR, 1.0, 0.0);
    let judged = watch.requests(STEP, 1.0, 1.0).judged();
    assert_eq!(judged.now, Standing::Breached);
}

#[test]
fn no_data_is_never_met_and_never_breached() {
    let nothing = Watch::of(errors()).judged();
    assert_eq!(nothing.now, Standing::Unknown(Doubt::NoData));
    assert_eq!(nothing.alert, Alert::Unknown);
    // Scrapes that fail for the last hour.
    let blind = Watch::of(errors()).requests(24 * HOUR, 100.0, 20.0);
    let judged = blind.gap(2 * HOUR).judged();
    assert_eq!(
        judged.pairs[0].short.standing,
        Standing::Unknown(Doubt::NoData)
    );
    assert_eq!(judged.pairs[0].burning, Burning::Unknown);
}

#[test]
fn a_watch_with_too_large_a_hole_ends_unknown_and_says_how_much_is_missing() {
    let holed = Watch::of(errors()).requests(60 * HOUR, 100.0, 0.0);
    let judged = holed.gap(12 * HOUR).judged();
    assert_eq!(judged.now, Standing::Met);
    let (lost, most) = (12 * HOUR, (WATCH as f64 * 0.05) as i64);
    assert_eq!(
        verdict(&judged.whole, WATCH),
        Verdict::Unknown(Missing::Lost { lost, most })
    );
    let small = Watch::of(errors()).requests(69 * HOUR, 100.0, 0.0);
    let judged = small.gap(3 * HOUR).judged();
    assert_eq!(verdict(&judged.whole, WATCH), Verdict::Held);
    let breached = Watch::of(errors()).requests(60 * HOUR, 100.0, 2.0);
    let judged = breached.gap(12 * HOUR).judged();
    assert_eq!(verdict(&judged.whole, WATCH), Verdict::Broken);
}

#[test]
fn a_latency_between_two_bounds_is_unknown_and_pages_only_when_certain() {
    let objective = Objective {
        aim: Aim::Latency {
            quantile: 0.95,
            below: 3.0,
        },
        min_events: 20,
    };
    let tally = |low: f64, high: f64| {
        Tally::Buckets(Buckets::new([(2.5, low), (5.0, high), (f64::INFINITY, 100.0)]).unwrap())
    };
    let judged = Watch::of(objective)
        .each(24 * HOUR, &tally(80.0, 99.0))
        .judged();
    assert_eq!(judged.now, Standing::Unknown(Doubt::BetweenBounds));
    let burn = judged.pairs[0].long.burn.unwrap();
    assert!((burn.low - 0.2).abs() < 1e-9 && (burn.high - 4.0).abs() < 1e-9);
    assert_eq!(judged.pairs[0].burning, Burning::No);
    assert_eq!(judged.pairs[2].burning, Burning::Unknown);
    assert!(!judged.may_roll_back());
    let judged = Watch::of(objective)
        .each(24 * HOUR, &tally(1.0, 2.0))
        .judged();
    assert_eq!(judged.alert, Alert::Burning(Severity::Page));
    assert!(!judged.is_exact_breach(), "its share is an estimate");
    assert!(judged.may_roll_back());
}

#[test]
fn a_gauge_is_judged_by_its_last_value_and_over_the_watch_by_all() {
    let objective = Objective {
        aim: Aim::Level(Bound::Below(30.0)),
        min_events: 1,
    };
    let value = |value: f64| Tally::Values(Values::at_once([value], Bound::Below(30.0)).unwrap());
    let watch = Watch::of(objective).each(HOUR, &value(3.0));
    assert_eq!(watch.judged().now, Standing::Met);
    let watch = watch.each(MINUTE, &value(31.0));
    assert_eq!(watch.judged().now, Standing::Breached);
    assert!(!watch.judged().is_exact_breach(), "two values");
    let watch = watch.each(HOUR, &value(3.0));
    let judged = watch.judged();
    assert_eq!(judged.now, Standing::Met, "it is well again");
    assert_eq!(verdict(&judged.whole, WATCH), Verdict::Broken);
    assert!(judged.pairs.is_empty());
    let judged = watch.gap(HOUR).judged();
    assert_eq!(judged.now, Standing::Unknown(Doubt::NoData), "old news");
}

#[test]
fn lines_of_a_log_are_counted_a_minute_and_none_is_good() {
    let objective = Objective {
        aim: Aim::Lines { per_minute: 4.0 },
        min_events: 20,
    };
    let silent = Watch::of(objective).each(HOUR, &Tally::Lines(0.0));
    assert_eq!(silent.judged().now, Standing::Met);
    let judged = silent.each(6 * MINUTE, &Tally::Lines(3.0)).judged();
    assert_eq!(judged.now, Standing::Breached, "6 a minute now");
    assert_eq!(judged.whole.standing, Standing::Met, "and few over all");
    let short = judged.pairs[0].short.burn;
    assert_eq!(short, Some(Range::exact(1.5)));
}

#[test]
fn a_release_has_its_own_figure() {
    let mut watch = Watch::of(errors());
    watch.store.serve(BEGIN, 1);
    let mut watch = watch.requests(10 * HOUR, 100.0, 5.0);
    let now = watch.store.end();
    watch.store.serve(now, 2);
    let watch = watch.requests(HOUR, 100.0, 0.0);
    let figure = |release| {
        let window = watch.store.of_release(0, release);
        of_release(&watch.objective, window.as_ref())
    };
    assert_eq!(figure(1).standing, Standing::Breached);
    assert_eq!(figure(2).standing, Standing::Met);
    assert_eq!(figure(3).standing, Standing::Unknown(Doubt::NoData));
    assert_eq!(watch.judged().now, Standing::Breached);
}

#[test]
fn scaled_windows_fit_a_watch_of_three_days() {
    let mut watch = Watch::of(errors()).requests(12 * HOUR, 100.0, 0.0);
    watch.rates = BurnRates::Scaled;
    let judged = watch.requests(10 * MINUTE, 100.0, 20.0).judged();
    assert_eq!(judged.pairs[0].long.length, 6 * MINUTE);
    assert_eq!(judged.alert, Alert::Burning(Severity::Page));
}

#[test]
fn lines_that_came_while_nobody_looked_are_divided_by_the_time_that_they_took() {
    let lines = Objective {
        aim: Aim::Lines { per_minute: 2.0 },
        min_events: 20,
    };
    let mut watch = Watch::of(lines).each(30 * MINUTE, &Tally::Lines(0.5));
    let at = watch.store.end() + HOUR;
    let meanwhile = Cell {
        seen: 0,
        bridged: HOUR,
        tally: Some(Tally::Lines(60.0)),
    };
    watch.store.push(at, vec![meanwhile]).unwrap();
    let judged = watch.each(2 * MINUTE, &Tally::Lines(0.5)).judged();
    assert_eq!(judged.whole.standing, Standing::Met, "one a minute");
    assert_eq!(judged.now, Standing::Met);
    assert!(!judged.may_roll_back());
}

#[test]
fn a_few_lines_at_the_begin_of_a_watch_roll_nothing_back() {
    let lines = Objective {
        aim: Aim::Lines { per_minute: 2.0 },
        min_events: 20,
    };
    let few = Watch::of(lines).each(2 * MINUTE, &Tally::Lines(1.5));
    assert_eq!(few.judged().now, Standing::Breached, "three a minute");
    assert!(!few.judged().may_roll_back(), "six lines may be chance");
    let many = few.each(2 * HOUR, &Tally::Lines(1.5));
    assert!(many.judged().may_roll_back());
}

#[test]
fn one_value_of_a_gauge_rolls_nothing_back_and_values_that_stay_outside_do() {
    let age = Objective {
        aim: Aim::Level(Bound::Below(30.0)),
        min_events: 20,
    };
    let value = |value| Tally::Values(Values::at_once([value], Bound::Below(30.0)).unwrap());
    let watch = Watch::of(age).each(2 * HOUR, &value(5.0));
    let once = watch.each(STEP, &value(31.0));
    assert_eq!(once.judged().now, Standing::Breached);
    assert!(!once.judged().may_roll_back(), "one value");
    let again = once.each(20 * MINUTE, &value(5.0)).each(STEP, &value(31.0));
    assert!(!again.judged().may_roll_back(), "one value, and another");
    let stays = again.each(20 * MINUTE, &value(31.0));
    assert!(stays.judged().may_roll_back());
}

#[test]
fn a_budget_of_nothing_holds_until_the_first_bad_event() {
    let none = Objective {
        aim: Aim::BadShare { below: 0.0 },
        min_events: 20,
    };
    let clean = Watch::of(none).requests(HOUR, 100.0, 0.0);
    assert_eq!(clean.judged().now, Standing::Met);
    let bad = clean.requests(STEP, 100.0, 1.0);
    assert_eq!(bad.judged().now, Standing::Breached);
}
