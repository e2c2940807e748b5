//! Looks at a Prometheus: a real one that scrapes the application, and Fly.io's.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use golive::api::metrics_source::{FlyPrometheus, MetricsSource, Prometheus};
use golive::phase::observe::reading::{Last, Question, Reached};
use golive::phase::observe::source::fault::Cause;
use golive::slo::{Selector, Source, Tally};

use super::stage::{Figures, Stage, events, eventually, requests, times};

fn fly() -> MetricsSource {
    MetricsSource {
        metrics_path: None,
        prometheus: None,
        fly_prometheus: Some(FlyPrometheus {}),
    }
}

fn own(url: &str) -> MetricsSource {
    MetricsSource {
        metrics_path: None,
        prometheus: Some(Prometheus {
            url: url.to_owned(),
            token_secret_ref: None,
            basic_auth: None,
            tenant: None,
            ca: None,
        }),
        fly_prometheus: None,
    }
}

#[tokio::test]
async fn flys_prometheus_counts_every_response_of_the_edge_once() {
    let stage = Stage::with(2).await;
    let before = stage.world.sim.core().edge.responses(super::stage::APP);
    let before = before.get(&200).copied().unwrap_or_default();
    let questions = [
        Question::Metric {
            source: Source::Counter {
                metric: "fly_edge_http_responses_count".to_owned(),
                of: Selector::default(),
                bad: Selector::of([("status", "5..")]).unwrap(),
            },
            below: None,
        },
        Question::Metric {
            source: Source::Histogram {
                metric: "fly_edge_http_response_time_seconds".to_owned(),
                of: Selector::default(),
            },
            below: Some(2.5),
        },
    ];
    let of = (&fly(), questions.as_slice());
    let mut figures = Figures::new(of.0, of.1);
    // The responses until now are no part of any window.
    let begun = eventually("all responses until now are scraped", async || {
        let gauge = Source::Gauge {
            metric: "fly_edge_http_response_time_seconds_count".to_owned(),
            of: Selector::of([("status", "200")]).unwrap(),
            bound: golive::slo::Bound::Below(0.0),
        };
        let questions = [Question::Metric {
            source: gauge,
            below: None,
        }];
        let of = (of.0, questions.as_slice());
        let reading = stage.look(&[], of, &[], Last::default()).await;
        let tally = reading.cells.get(&0).and_then(|cell| cell.tally.clone());
        match tally {
            Some(Tally::Values(values)) if values.last >= before as f64 => Some(reading.next),
            _ => None,
        }
    })
    .await;
    stage.guests(20, "text", 200).await;
    stage.guests(5, "text", 500).await;
    let (mut total, mut bad, mut buckets) = (0.0, 0.0, 0.0);
    let mut last = begun;
    eventually("all responses are counted", async || {
        let reading = stage.look(&[], of, &[], last.clone()).await;
        assert_eq!(
            reading.reached,
            Reached::FlyPrometheus,
            "{:?}",
            reading.faults
        );
        last = reading.next.clone();
        let cells = figures.add(reading);
        let (more, worse) = events(&cells[&0]);
        total += more;
        bad += worse;
        if let Some(Tally::Buckets(more)) = &cells[&1].tally {
            buckets += more.counts().last().unwrap();
        }
        (total >= 25.0 && buckets >= 25.0).then_some(())
    })
    .await;
    assert_eq!((total, bad, buckets), (25.0, 5.0, 25.0));
}

#[tokio::test]
async fn a_token_for_one_app_cannot_read_flys_prometheus_and_nothing_is_counted() {
    let stage = Stage::with(1).await;
    let questions = [requests()];
    let of = (&fly(), questions.as_slice());
    stage.world.sim.core().write(|world| {
        for token in world.tokens.values_mut() {
            token.scope = fly_sim::state::Scope::App(super::stage::APP.to_owned());
        }
    });
    let reading = stage.look(&[], of, &[], Last::default()).await;
    assert_eq!(reading.reached, Reached::Nobody);
    assert!(reading.cells.is_empty());
    assert!(
        matches!(&reading.faults[0].why, Cause::Fly(_)),
        "{:?}",
        reading.faults
    );
}

#[tokio::test]
async fn a_real_prometheus_is_asked_for_what_was_added_and_only_where_it_is_allowed() {
    let stage = Stage::with(1).await;
    let dir = tempfile::tempdir().unwrap();
    // Prometheus cannot see a series begin: each begins before the first look.
    stage.guests(2, "text", 200).await;
    stage.guests(2, "text", 500).await;
    let scraped = stage.address(0);
    let prometheus = kube_env::prometheus::Prometheus::scraping(dir.path(), scraped);
    let prometheus = prometheus.await.unwrap();
    let url = format!("http://{}", prometheus.address());
    let questions = [requests(), times("text")];
    let source = own(&url);
    let of = (&source, questions.as_slice());

    for flags in [
        vec![],
        vec![format!("{url}=other")],
        vec!["http://127.0.0.1:1".to_owned()],
    ] {
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let reading = stage.look(&[], of, &flags, Last::default()).await;
        assert_eq!(reading.reached, Reached::Nobody);
        assert_eq!(
            reading.faults[0].why,
            Cause::NotAllowed(url.clone()),
            "{flags:?}"
        );
    }

    let allowed = format!("{url}=shop");
    let allowed = [allowed.as_str()];
    let mut figures = Figures::new(of.0, of.1);
    let mut last = Last::default();
    // Two scrapes of all four series are needed for a first figure.
    eventually("Prometheus knows the series", async || {
        let reading = stage.look(&[], of, &allowed, last.clone()).await;
        last = reading.next.clone();
        let known = reading.cells.len() == 2;
        figures.add(reading);
        stage.interval().await;
        known.then_some(())
    })
    .await;
    // Guests come all the time: what is counted between the last scrape of a window and the first of the
    // next one is estimated from the rest.
    let mut sent = 0.0;
    let guests = async {
        loop {
            stage.guests(3, "text", 200).await;
            stage.guests(1, "text", 500).await;
            sent += 4.0;
        }
    };
    let looks = async {
        let (mut total, mut bad, mut slow, mut windows) = (0.0, 0.0, 0.0, 0);
        eventually("some windows are counted", async || {
            stage.interval().await;
            let reading = stage.look(&[], of, &allowed, last.clone()).await;
            last = reading.next.clone();
            let cells = figures.add(reading);
            let (more, worse) = events(&cells[&0]);
            total += more;
            bad += worse;
            if let Some(Tally::Buckets(more)) = &cells[&1].tally {
                let below = more.bounds().iter().position(|le| *le == 3.0).unwrap();
                slow += more.counts().last().unwrap() - more.counts()[below];
            }
            windows += usize::from(more > 0.0);
            (windows >= 5).then_some(())
        })
        .await;
        (total, bad, slow)
    };
    let (total, bad, slow) = tokio::select! {
        () = guests => unreachable!("they come for ever"),
        counted = looks => counted,
    };
    assert!((0.3..=1.5).contains(&(total / sent)), "{total} of {sent}");
    assert!((0.15..=0.35).contains(&(bad / total)), "{bad} of {total}");
    assert!(slow < 0.01 * total, "none took more than 3 s: {slow}");
}
