//! Our figures and those of a real Prometheus, on the same series: equal within 1e-9, or different in the way that
//! `docs/slo-arithmetic.md` lists.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper fails its test by a panic"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use kube_env::Prometheus;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use prometheus_oracle::case::{Case, Compare, Sample};
use prometheus_oracle::kinds::{self, WATCH_BEGIN};
use prometheus_oracle::{model, ours};
use reading::promql::query::Shape;
use reading::promql::{Answer, Query, Request, read, tally};
use reading::slo::burn::BurnRates;
use reading::slo::tally::Values;
use reading::slo::{Aim, Buckets, Matcher, Objective, Op, Selector, Tally, judge};

/// Fewest cases that must be compared.
const CASES: usize = 200;

const HOUR: i64 = 3_600_000;

const QUANTILES: [f64; 5] = [0.0, 0.5, 0.9, 0.95, 1.0];

/// The server, and what was compared with it.
struct Oracle {
    server: Prometheus,
    figures: usize,
}

impl Oracle {
    fn ask(&self, request: &Request) -> Answer {
        let fields = request.fields.iter();
        let fields: Vec<String> = fields
            .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)))
            .collect();
        let (status, body) = self.server.post(request.path, &fields.join("&")).unwrap();
        let text = String::from_utf8_lossy(&body);
        assert_eq!(status, 200, "{request:?}: {text}");
        read(&body).unwrap_or_else(|fault| panic!("{fault}: {text}"))
    }

    fn query(&self, query: &Query<'_>, at: i64) -> Answer {
        self.ask(&Request::instant(query, at, 60))
    }

    /// The number of a query that is written out.
    fn number(&self, promql: &str, at: i64) -> Option<f64> {
        let time = format!("{}.{:03}", at / 1000, at % 1000);
        let answer = self.ask(&Request {
            path: "/api/v1/query",
            fields: vec![("query", promql.to_owned()), ("time", time)],
        });
        tally::number(&answer).unwrap()
    }

    /// Both are the same number, or none.
    fn same(&mut self, what: &str, case: &Case, ours: f64, theirs: f64) {
        self.figures += 1;
        let is_same = is_near(ours, theirs);
        let (id, kind) = (case.id, case.kind);
        assert!(
            is_same,
            "case {id}, {kind}: {what} is {ours}, and {theirs} by Prometheus"
        );
    }
}

fn is_near(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-9 * 1.0_f64.max(a.abs())
}

fn seconds(case: &Case) -> u64 {
    u64::try_from((case.to - case.from) / 1000).unwrap()
}

fn of_case(case: &Case) -> Selector {
    Selector::new(vec![
        Matcher::new("case", Op::Equal, case.id.to_string()).unwrap(),
    ])
}

fn is_bad(sample: &Sample) -> bool {
    sample
        .labels
        .iter()
        .any(|(name, value)| *name == "status" && value.starts_with('5'))
}

/// Theirs is one of the two that the documentation allows.
fn is_documented(theirs: Option<f64>, model: Option<[f64; 2]>) -> bool {
    match (theirs, model) {
        (Some(theirs), Some(model)) => model.iter().any(|model| is_near(*model, theirs)),
        (None, None) => true,
        _ => false,
    }
}

#[tokio::test]
async fn figures_are_those_of_a_real_prometheus_or_differ_as_documented() {
    let cases = kinds::all();
    let watches = kinds::watches(cases.len());
    let text = |cases: &[Case]| {
        let mut out = String::new();
        cases.iter().for_each(|case| case.openmetrics(&mut out));
        writeln!(out, "# EOF").unwrap();
        out
    };
    let dir = tempfile::tempdir().unwrap();
    let recorded = [text(&cases), text(&watches)];
    let server = Prometheus::start(dir.path(), &recorded).await.unwrap();
    let mut oracle = Oracle { server, figures: 0 };
    is_version_2(&oracle);
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for case in cases.iter().chain(&watches) {
        *kinds.entry(case.kind).or_default() += 1;
    }
    for case in &cases {
        has(case, "requests_total", |case| requests(&mut oracle, case));
        has(case, "seconds_bucket", |case| latency(&mut oracle, case));
        has(case, "lines_total", |case| lines(&mut oracle, case));
        has(case, "level", |case| gauge(&mut oracle, case));
    }
    for case in &watches {
        burn_rates(&mut oracle, case);
    }
    let count = cases.len() + watches.len();
    assert!(count >= CASES, "only {count} cases");
    println!("{count} cases, {} figures: {kinds:?}", oracle.figures);
}

/// Windows of Prometheus 3 do not hold a sample at their start, which changes every figure of an aligned window.
fn is_version_2(oracle: &Oracle) {
    let version = oracle.server.version().unwrap();
    assert!(
        version.starts_with("2."),
        "Prometheus 2 is wanted, and this is {version}"
    );
}

fn has(case: &Case, name: &str, compare: impl FnOnce(&Case)) {
    let mut samples = case
        .machines
        .iter()
        .flat_map(|pages| pages.values().flatten());
    if samples.any(|sample| sample.name == name) {
        compare(case);
    }
}

/// Increases, shares and rates.
fn requests(oracle: &mut Oracle, case: &Case) {
    let (of, window) = (of_case(case), seconds(case));
    let bad = of.and(&Selector::of([("status", "5..")]).unwrap());
    let metric = "requests_total";
    let query = |of| Query::Increase { metric, of, window };
    let all = oracle.query(&query(&of), case.to);
    let wrong = oracle.query(&query(&bad), case.to);
    let shown = ours::window(case, 0);
    if case.compare == Compare::NoNumber {
        assert!(tally::number(&all).unwrap().is_some_and(f64::is_nan));
        assert_eq!(tally::events(&all, &wrong), Err(tally::Unusable::Form));
        assert_eq!((shown.tally, shown.seen), (None, 0), "case {}", case.id);
        oracle.figures += 1;
        return;
    }
    let Some(Tally::Events { total, bad }) = shown.tally else {
        panic!("case {}: {shown:?}", case.id);
    };
    oracle.same("the true number of requests", case, total, case.truth.total);
    oracle.same("the true number of errors", case, bad, case.truth.bad);
    let documented = |answer: &Answer, has: &dyn Fn(&Sample) -> bool| {
        let model = model::sum(&case.series(metric, has), case.from, case.to);
        let theirs = tally::number(answer).unwrap();
        assert!(
            is_documented(theirs, model),
            "case {}, {}: {theirs:?} {model:?}",
            case.id,
            case.kind
        );
    };
    documented(&all, &|_| true);
    documented(&wrong, &is_bad);
    oracle.figures += 2;
    if case.compare == Compare::Documented {
        return;
    }
    let Ok(Tally::Events {
        total: theirs,
        bad: worse,
    }) = tally::events(&all, &wrong)
    else {
        panic!("case {}", case.id);
    };
    oracle.same("the increase", case, total, theirs);
    oracle.same("the increase of errors", case, bad, worse);
    let id = case.id;
    let series = format!("requests_total{{case=\"{id}\"}}[{window}s]");
    let errors = format!("requests_total{{case=\"{id}\",status=~\"5..\"}}[{window}s]");
    let rate = oracle.number(&format!("sum(rate({series}))"), case.to);
    oracle.same("the rate", case, total / window as f64, rate.unwrap());
    let share = format!("sum(rate({errors})) / sum(rate({series}))");
    let share = oracle.number(&share, case.to);
    oracle.same("the share of errors", case, bad / total, share.unwrap());
}

/// Buckets, quantiles and shares below a bound.
fn latency(oracle: &mut Oracle, case: &Case) {
    let (of, window) = (of_case(case), seconds(case));
    let metric = "seconds";
    let answer = oracle.query(
        &Query::Buckets {
            metric,
            of: &of,
            window,
        },
        case.to,
    );
    let shown = ours::window(case, 1);
    if case.compare == Compare::NoNumber {
        assert!(tally::buckets(&answer).is_err());
        assert_eq!(shown.tally, None, "case {}", case.id);
        oracle.figures += 1;
        return;
    }
    let Some(Tally::Buckets(own)) = shown.tally else {
        panic!("case {}: {shown:?}", case.id);
    };
    let Ok(Tally::Buckets(theirs)) = tally::buckets(&answer) else {
        panic!("case {}: {answer:?}", case.id);
    };
    for (bound, count) in theirs.bounds().iter().zip(theirs.counts()) {
        let is_bound = |sample: &Sample| {
            let le = sample.labels.iter().find(|(name, _)| *name == "le");
            le.is_some_and(|(_, le)| le.parse() == Ok(*bound))
        };
        let model = model::sum(
            &case.series("seconds_bucket", &is_bound),
            case.from,
            case.to,
        );
        assert!(
            is_documented(Some(*count), model),
            "case {}: {bound}",
            case.id
        );
        oracle.figures += 1;
    }
    truth_of_buckets(oracle, case, &own);
    if case.compare == Compare::CommonBounds {
        assert!(own.is_narrowed() && own.bounds().len() < theirs.bounds().len());
    }
    if case.compare == Compare::Documented {
        return;
    }
    for (bound, count) in own.bounds().iter().zip(own.counts()) {
        let at = theirs
            .bounds()
            .iter()
            .position(|theirs| theirs == bound)
            .unwrap();
        oracle.same("a bucket", case, *count, theirs.counts()[at]);
    }
    if case.compare == Compare::CommonBounds {
        return;
    }
    for quantile in QUANTILES {
        let shape = Shape::Classic;
        let query = Query::Quantile {
            metric,
            of: &of,
            quantile,
            window,
            shape,
        };
        let theirs = tally::number(&oracle.query(&query, case.to)).unwrap();
        let value = own.quantile(quantile).value();
        oracle.same("a quantile", case, value, theirs.unwrap_or(f64::NAN));
    }
    let (id, limit) = (case.id, 3.0);
    if own.bounds().contains(&limit) && own.monotone().0 == own.counts() {
        let of =
            |le| format!("sum(increase(seconds_bucket{{case=\"{id}\",le=~\"{le}\"}}[{window}s]))");
        let share = format!("{} / {}", of("3|3[.]0"), of("[+]Inf"));
        let theirs = oracle.number(&share, case.to).unwrap();
        let share = own.at_most(limit);
        assert!(share.is_exact());
        oracle.same("the share below 3 s", case, share.low / own.total(), theirs);
    }
}

/// What was counted in truth, by bucket.
fn truth_of_buckets(oracle: &mut Oracle, case: &Case, own: &Buckets) {
    if case.truth.buckets.is_empty() {
        return;
    }
    for (bound, count) in own.bounds().iter().zip(own.counts()) {
        let below = case.truth.buckets.iter();
        let below = below.filter(|(bits, _)| f64::from_bits(**bits) <= *bound);
        let truth = below.map(|(_, count)| count).sum();
        oracle.same("the true number of a bucket", case, *count, truth);
    }
}

/// Lines of a log a minute.
fn lines(oracle: &mut Oracle, case: &Case) {
    let shown = ours::window(case, 3);
    let Some(Tally::Events { total, .. }) = shown.tally else {
        return;
    };
    oracle.same("the true number of lines", case, total, case.truth.lines);
    if case.compare != Compare::Equal {
        return;
    }
    let (id, window) = (case.id, seconds(case));
    let rate = format!("sum(rate(lines_total{{case=\"{id}\"}}[{window}s])) * 60");
    let theirs = oracle.number(&rate, case.to).unwrap();
    let minutes = window as f64 / 60.0;
    oracle.same("the lines a minute", case, total / minutes, theirs);
}

/// The last, least and greatest value of a gauge, and the share of observations inside of its bound.
fn gauge(oracle: &mut Oracle, case: &Case) {
    let Some(Tally::Values(own)) = ours::window(case, 2).tally else {
        panic!("case {}", case.id);
    };
    let of = of_case(case);
    let query = Query::Gauge {
        metric: "level",
        of: &of,
    };
    let answer = oracle.query(&query, case.to);
    let Ok(Tally::Values(theirs)) = tally::values(&answer, ours::BOUND) else {
        panic!("case {}: {answer:?}", case.id);
    };
    oracle.same("the last value", case, own.last, theirs.last);
    // A window of Prometheus 2 has the sample at its start, and ours begins after it.
    let (id, window) = (case.id, seconds(case) - 1);
    let level = format!("level{{case=\"{id}\"}}");
    let Values {
        low,
        high,
        samples,
        outside,
        ..
    } = own;
    let greatest = oracle.number(&format!("max(max_over_time({level}[{window}s]))"), case.to);
    oracle.same("the greatest value", case, high, greatest.unwrap());
    let least = oracle.number(&format!("min(min_over_time({level}[{window}s]))"), case.to);
    oracle.same("the least value", case, low, least.unwrap());
    let good = format!("avg_over_time((max({level}) < bool 50)[{window}s:30s])");
    let good = oracle.number(&good, case.to).unwrap();
    oracle.same("the share inside", case, 1.0 - outside / samples, good);
}

/// The burn rates of both kinds of windows, and of the watch so far, at several times of a watch.
fn burn_rates(oracle: &mut Oracle, case: &Case) {
    let errors = Objective {
        aim: Aim::BadShare { below: 0.01 },
        min_events: 20,
    };
    let latency = Objective {
        aim: Aim::Latency {
            quantile: 0.95,
            below: 3.0,
        },
        min_events: 20,
    };
    let id = case.id;
    for hour in [20, 40, 72] {
        let now = WATCH_BEGIN + hour * HOUR;
        let store = ours::store(case, now, 180_000);
        let mut lengths = BTreeSet::new();
        for (at, objective, bad, all, budget) in [
            (
                0,
                errors,
                "requests_total{S,status=~\"5..\"}",
                "requests_total{S}",
                0.01,
            ),
            (
                1,
                latency,
                "seconds_bucket{S,le=\"3\"}",
                "seconds_bucket{S,le=\"+Inf\"}",
                0.05,
            ),
        ] {
            let judged = judge(
                &objective,
                BurnRates::Standard,
                (WATCH_BEGIN, now, 72 * HOUR),
                |from| store.window(at, from),
            );
            let windows = judged.pairs.iter().flat_map(|pair| [pair.long, pair.short]);
            for figure in windows.chain([judged.whole]) {
                let length = figure.length.min(now - WATCH_BEGIN);
                lengths.insert(length);
                let sum = |series: &str| {
                    let series = series.replace('S', &format!("case=\"{id}\""));
                    format!("sum(increase({series}[{}s]))", length / 1000)
                };
                let share = oracle
                    .number(&format!("{} / {}", sum(bad), sum(all)), now)
                    .unwrap();
                let share = if at == 1 { 1.0 - share } else { share };
                let what = format!("the burn rate of {} min at hour {hour}", length / 60_000);
                let Some(burn) = figure.burn else {
                    panic!("case {id}, {what}: {figure:?}");
                };
                assert!(burn.is_exact());
                oracle.same(&what, case, burn.low, share / budget);
            }
        }
        assert!(lengths.len() >= 6, "{lengths:?}");
    }
}
