//! How one delivery shows in the application: a metric or a number of a page, asked before and after.

use std::time::Duration;

use super::application::Application;
use crate::{
    api::integrations::{Effect, EffectHttp, EffectMetric},
    exposition::{self, Format, Pointer},
    net::probe::{Answer, MAX_BODY, MAX_METRICS},
};

/// The check that the readings are marked with.
const CHECK: &str = "effect";

/// Longest time of one reading.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Greatest number of which one more is another number: 2^52. What is greater or not finite is no count.
const GREATEST: f64 = 4_503_599_627_370_496.0;

/// The number that a delivery increases. `None`: the page has no such metric, as before the first one.
///
/// # Errors
/// Why it cannot be read, in a few words, without anything that was fetched.
pub async fn count(application: &Application, effect: &Effect) -> Result<Option<f64>, String> {
    let (path, accept, limit) = match (&effect.metric, &effect.http) {
        (Some(metric), _) => (&metric.path, exposition::ACCEPT, MAX_METRICS),
        (None, Some(page)) => (&page.path, "application/json", MAX_BODY),
        (None, None) => return Err("`effect` says neither `metric` nor `http`".to_owned()),
    };
    let page = application.page(CHECK, path, (accept, limit), TIMEOUT);
    let answer = page.await.map_err(|error| format!("{path}: {error}"))?;
    if answer.status != 200 {
        return Err(format!("{path} answered {}", answer.status));
    }
    let number = match (&effect.metric, &effect.http) {
        (Some(metric), _) => of_metric(metric, &answer),
        (None, Some(page)) => of_page(page, &answer.body).map(Some),
        (None, None) => return Err(String::new()),
    };
    let number = number.and_then(|number| match number {
        Some(number) if !is_count(number) => Err("the number is no count".to_owned()),
        number => Ok(number),
    });
    number.map_err(|why| format!("{path}: {why}"))
}

/// Whether one more shows.
fn is_count(number: f64) -> bool {
    number.is_finite() && number.abs() < GREATEST
}

/// What a metric that is nowhere on its page means, even after a delivery.
pub fn absent(effect: &Effect) -> String {
    let metric = effect.metric.as_ref();
    let (path, name) = metric.map_or(("", ""), |metric| (&metric.path, &metric.name));
    format!("{path} has no series of {name} with these labels, also after a delivery")
}

/// The sum of the series that match. A counter that was never increased may be absent.
fn of_metric(metric: &EffectMetric, answer: &Answer) -> Result<Option<f64>, String> {
    let type_ = answer.headers.get("content-type");
    let type_ = type_.and_then(|value| value.to_str().ok());
    let format = Format::of(type_).ok_or("it is no page of metrics")?;
    let selector: Vec<(&String, &String)> = metric.selector.iter().collect();
    let found = exposition::value(&answer.body, format, &metric.name, &selector);
    let found = found.map_err(|problem| problem.to_string())?;
    Ok(found.map(|found| found.sum))
}

fn of_page(page: &EffectHttp, body: &[u8]) -> Result<f64, String> {
    let pointer = Pointer::parse(&page.json_pointer).map_err(|fault| fault.to_string())?;
    pointer.number(body).map_err(|fault| fault.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn metric(selector: &[(&str, &str)]) -> EffectMetric {
        let pairs = selector.iter();
        EffectMetric {
            path: "/metrics".to_owned(),
            name: "events_total".to_owned(),
            selector: pairs
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
        }
    }

    fn read(selector: &[(&str, &str)], page: &str) -> Result<Option<f64>, String> {
        let answer = Answer {
            status: 200,
            headers: hyper::HeaderMap::new(),
            body: page.to_owned().into(),
            took: Duration::ZERO,
        };
        of_metric(&metric(selector), &answer)
    }

    #[test]
    fn the_series_that_match_are_added_up_and_none_is_told_from_zero() {
        let page = "events_total{p=\"a\",m=\"1\"} 2\nevents_total{p=\"a\",m=\"2\"} 3\nevents_total{p=\"b\"} 9\n";
        assert_eq!(read(&[("p", "a")], page), Ok(Some(5.0)));
        assert_eq!(read(&[], page), Ok(Some(14.0)));
        assert_eq!(read(&[("p", "c")], page), Ok(None), "never increased");
        let broken = read(&[], "<html>").unwrap_err();
        assert!(
            !broken.contains("html"),
            "nothing fetched is shown: {broken}"
        );
    }

    #[test]
    fn a_number_to_which_one_cannot_be_added_is_no_count() {
        for number in [0.0, -3.0, 1e15] {
            assert!(is_count(number) && number + 1.0 > number, "{number}");
        }
        for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e17, 1e300] {
            assert!(!is_count(number), "{number}");
        }
    }

    #[test]
    fn a_number_of_a_page_is_found_by_its_pointer() {
        let page = |pointer: &str| EffectHttp {
            path: "/effects".to_owned(),
            json_pointer: pointer.to_owned(),
        };
        let body = br#"{"whatsapp":{"effects":3,"name":"x"}}"#;
        assert_eq!(of_page(&page("/whatsapp/effects"), body), Ok(3.0));
        assert!(of_page(&page("/whatsapp/name"), body).is_err());
        assert!(of_page(&page("/gone"), body).is_err());
    }
}
