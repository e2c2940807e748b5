//! Answers as Prometheus 2.42, Prometheus 3 and VictoriaMetrics send them, and queries.

use super::answer::{Bounds, ErrorKind, MAX_BYTES};
use super::query::Shape;
use super::tally::{Unusable, buckets, events, number, values};
use super::{Answer, Data, Fault, Query, Request, fly, read};
use crate::slo::histogram::HistogramFault;
use crate::slo::{Bound, Matcher, Op, Range, Selector, Tally};

fn answer(data: &str) -> Result<Answer, Fault> {
    read(format!(r#"{{"status":"success","data":{data}}}"#).as_bytes())
}

fn vector(result: &str) -> Answer {
    answer(&format!(r#"{{"resultType":"vector","result":[{result}]}}"#)).unwrap()
}

#[test]
fn vectors_matrices_and_scalars_are_read() {
    let one = vector(r#"{"metric":{"le":"+Inf"},"value":[1700000000.123,"12.5"]}"#);
    let series = &one.data.series()[0];
    assert_eq!(series.labels["le"], "+Inf");
    assert_eq!(series.values[0].at, 1_700_000_000_123);
    assert_eq!(series.values[0].value, 12.5);
    assert!(one.is_complete());
    let matrix = answer(
        r#"{"resultType":"matrix","result":[{"metric":{},"values":[[1,"NaN"],[2,"+Inf"],[3,"-Inf"]]}]}"#,
    );
    let matrix = matrix.unwrap();
    let values = &matrix.data.series()[0].values;
    assert!(values[0].value.is_nan());
    assert_eq!(values[1].value, f64::INFINITY);
    assert_eq!(values[2].value, f64::NEG_INFINITY);
    let scalar = answer(r#"{"resultType":"scalar","result":[1.5,"3"]}"#).unwrap();
    assert_eq!(number(&scalar), Ok(Some(3.0)));
}

#[test]
fn a_native_histogram_is_read_with_its_bounds() {
    let found = vector(
        r#"{"metric":{"a":"b"},"histogram":[1700000000,{"count":"10","sum":"12.5","buckets":[
            [3,"-0.001","0.001","2"],[0,"0.5","1","5"],[0,"1","2","3"]]}]}"#,
    );
    let series = &found.data.series()[0];
    let histogram = &series.histograms[0].value;
    assert_eq!((histogram.count, histogram.sum), (10.0, 12.5));
    assert_eq!(histogram.buckets[0].bounds, Bounds::ClosedBoth);
    assert_eq!(histogram.at_most(1.0), Range::exact(7.0));
    assert_eq!(
        histogram.at_most(1.5),
        Range {
            low: 7.0,
            high: 10.0
        }
    );
    assert_eq!(histogram.at_most(9.0), Range::exact(10.0));
    assert_eq!(histogram.at_most(0.2), Range::exact(2.0));
    assert!(series.values.is_empty());
    assert_eq!(number(&found), Err(Unusable::Form));
    let empty = r#"{"metric":{},"histogram":[1,{"count":"0","sum":"0"}]}"#;
    assert_eq!(vector(empty).data.series()[0].histograms.len(), 1);
}

#[test]
fn warnings_and_partial_answers_are_no_complete_ones() {
    let with = |more: &str| {
        let body = format!(
            r#"{{"status":"success","data":{{"resultType":"vector","result":[]}},{more}}}"#
        );
        read(body.as_bytes()).unwrap()
    };
    assert_eq!(with(r#""warnings":["a","b"]"#).warnings, 2);
    assert!(with(r#""isPartial":true"#).is_partial);
    for incomplete in [r#""warnings":["a"]"#, r#""isPartial":true"#] {
        let incomplete = with(incomplete);
        assert_eq!(number(&incomplete), Err(Unusable::Incomplete));
        assert_eq!(buckets(&incomplete), Err(Unusable::Incomplete));
        let bound = Bound::Below(1.0);
        assert_eq!(values(&incomplete, bound), Err(Unusable::Incomplete));
    }
    for complete in [
        r#""warnings":[]"#,
        r#""warnings":null"#,
        r#""infos":["x"]"#,
        r#""isPartial":false,"stats":{"seriesFetched":"1"}"#,
    ] {
        assert!(with(complete).is_complete(), "{complete}");
    }
}

#[test]
fn an_error_is_its_kind_and_never_its_text() {
    let error = |kind: &str| {
        let body = format!(r#"{{"status":"error","errorType":"{kind}","error":"secret"}}"#);
        match read(body.as_bytes()) {
            Err(Fault::Refused(kind)) => kind,
            other => panic!("{other:?}"),
        }
    };
    for (name, kind, may_pass) in [
        ("bad_data", ErrorKind::BadData, false),
        ("timeout", ErrorKind::Timeout, true),
        ("canceled", ErrorKind::Canceled, true),
        ("execution", ErrorKind::Execution, false),
        ("internal", ErrorKind::Internal, true),
        ("unavailable", ErrorKind::Unavailable, true),
        ("422", ErrorKind::Other, false),
    ] {
        assert_eq!(error(name), kind);
        assert_eq!(kind.may_pass(), may_pass);
        assert!(!Fault::Refused(kind).to_string().contains("secret"));
    }
    assert_eq!(read(br#"{"status":"error"}"#), Err(Fault::Malformed));
}

#[test]
fn what_is_no_answer_of_prometheus_is_refused() {
    for body in [
        "",
        "null",
        "[]",
        "<html>",
        r#"{"status":"success"}"#,
        r#"{"status":"done","data":{"resultType":"vector","result":[]}}"#,
        r#"{"data":{"resultType":"vector","result":[]}}"#,
        r#"{"status":"success","data":{"resultType":"vector"}}"#,
        r#"{"status":"success","data":{"resultType":"string","result":[1,"x"]}}"#,
        r#"{"status":"success","data":{"resultType":"vector","result":{}}}"#,
        r#"{"status":"success","data":{"resultType":"vector","result":[]}} x"#,
    ] {
        assert_eq!(read(body.as_bytes()), Err(Fault::Malformed), "{body}");
    }
    for series in [
        r#"{"metric":{}}"#,
        r#"{"value":[1,"2"]}"#,
        r#"{"metric":{},"value":[1,2]}"#,
        r#"{"metric":{},"value":["1","2"]}"#,
        r#"{"metric":{},"value":[1,""]}"#,
        r#"{"metric":{},"value":[1e300,"2"]}"#,
        r#"{"metric":{},"value":[1,"2","3"]}"#,
        r#"{"metric":{"a":1},"value":[1,"2"]}"#,
        r#"{"metric":{"a":"1","a":"2"},"value":[1,"2"]}"#,
        r#"{"metric":{},"value":[1,"2"],"values":[]}"#,
        r#"{"metric":{},"value":[1,"2"],"histogram":[1,{"count":"1","sum":"1"}]}"#,
        r#"{"metric":{},"histogram":[1,{"count":"1"}]}"#,
        r#"{"metric":{},"histogram":[1,{"count":"-1","sum":"1"}]}"#,
        r#"{"metric":{},"histogram":[1,{"count":"1","sum":"1","buckets":[[7,"0","1","1"]]}]}"#,
        r#"{"metric":{},"histogram":[1,{"count":"1","sum":"1","buckets":[[0,"2","1","1"]]}]}"#,
        r#"{"metric":{},"histogram":[1,{"count":"1","sum":"1","buckets":[[0,"1","2","1"],[0,"0","1","1"]]}]}"#,
    ] {
        let data = format!(r#"{{"resultType":"vector","result":[{series}]}}"#);
        assert_eq!(answer(&data), Err(Fault::Malformed), "{series}");
    }
    for series in [
        r#"{"metric":{}}"#,
        r#"{"metric":{},"values":[]}"#,
        r#"{"metric":{},"values":[[2,"1"],[1,"1"]]}"#,
        r#"{"metric":{},"values":[[1,"1"],[1,"1"]]}"#,
    ] {
        let data = format!(r#"{{"resultType":"matrix","result":[{series}]}}"#);
        assert_eq!(answer(&data), Err(Fault::Malformed), "{series}");
    }
}

#[test]
fn an_answer_is_bounded() {
    assert_eq!(read(&vec![b' '; MAX_BYTES + 1]), Err(Fault::Long));
    let many = vec![r#"{"metric":{},"value":[1,"2"]}"#; 4097].join(",");
    let data = format!(r#"{{"resultType":"vector","result":[{many}]}}"#);
    assert_eq!(answer(&data), Err(Fault::TooMuch));
    let points: Vec<String> = (0..11_001).map(|n| format!(r#"[{n},"1"]"#)).collect();
    let points = points.join(",");
    let data =
        format!(r#"{{"resultType":"matrix","result":[{{"metric":{{}},"values":[{points}]}}]}}"#);
    assert_eq!(answer(&data), Err(Fault::TooMuch));
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    assert_eq!(answer(&deep), Err(Fault::Malformed));
}

#[test]
fn answers_count_what_scrapes_count() {
    let of = |number: &str| vector(&format!(r#"{{"metric":{{}},"value":[1,"{number}"]}}"#));
    let none = vector("");
    let (total, bad) = (100.0, 2.5);
    let found = events(&of("100"), &of("2.5"));
    assert_eq!(found, Ok(Tally::Events { total, bad }));
    let bad = 0.0;
    assert_eq!(events(&of("100"), &none), Ok(Tally::Events { total, bad }));
    assert_eq!(events(&none, &none), Err(Unusable::NoSeries));
    assert_eq!(events(&of("NaN"), &none), Err(Unusable::Form));
    let le =
        |le: &str, count: &str| format!(r#"{{"metric":{{"le":"{le}"}},"value":[1,"{count}"]}}"#);
    let all = [le("+Inf", "9"), le("1.0", "4"), le("1", "1")].join(",");
    let Ok(Tally::Buckets(found)) = buckets(&vector(&all)) else {
        panic!("they are a histogram");
    };
    assert_eq!(found.bounds(), [1.0, f64::INFINITY]);
    assert_eq!(found.counts(), [5.0, 9.0]);
    let no_infinity = buckets(&vector(&le("1", "4")));
    assert_eq!(no_infinity, Err(HistogramFault::NoInfinity.into()));
    assert_eq!(buckets(&none), Err(Unusable::NoSeries));
    let gauge = values(&of("31"), Bound::Below(30.0)).unwrap();
    assert_eq!(gauge.events(), 1.0);
    assert_eq!(
        values(&of("NaN"), Bound::Below(3.0)),
        Err(Unusable::NoSeries)
    );
}

#[test]
fn a_query_says_what_is_meant_and_no_value_leaves_its_quotes() {
    let of = Selector::new(vec![
        Matcher::new("app", Op::Equal, "x\"} or vector(1) #").unwrap(),
        Matcher::new("route", Op::NoMatch, "/a\\.b\n.*").unwrap(),
        Matcher::new("my.label", Op::NotEqual, "\u{7}é").unwrap(),
    ]);
    let window = 300;
    let query = Query::Increase {
        metric: "requests_total",
        of: &of,
        window,
    };
    assert_eq!(
        query.promql(),
        r#"sum(increase(requests_total{app="x\"} or vector(1) #",route!~"/a\\.b\n.*","my.label"!="\u0007é"}[300s]))"#
    );
    let of = fly::of_app("cabanas").unwrap();
    let metric = fly::RESPONSE_TIME;
    let classic = Query::Quantile {
        metric,
        of: &of,
        quantile: 0.95,
        window,
        shape: Shape::Classic,
    };
    assert_eq!(
        classic.promql(),
        r#"histogram_quantile(0.95, sum by (le) (rate(fly_edge_http_response_time_seconds_bucket{app="cabanas"}[300s])))"#
    );
    let bad = of.and(&fly::errors().unwrap());
    let errors = Query::Increase {
        metric: fly::RESPONSES,
        of: &bad,
        window,
    };
    assert_eq!(
        errors.promql(),
        r#"sum(increase(fly_edge_http_responses_count{app="cabanas",status=~"5.."}[300s]))"#
    );
    let none = Selector::default();
    let gauge = Query::Gauge {
        metric: "my.gauge",
        of: &none,
    };
    assert_eq!(gauge.promql(), r#"{"my.gauge"}"#);
    let metric = "d";
    let fraction = Query::Fraction {
        metric,
        of: &none,
        below: 3.0,
        window,
    };
    assert_eq!(
        fraction.promql(),
        "histogram_fraction(-Inf, 3, sum(rate(d{}[300s])))"
    );
    let native = Query::Quantile {
        metric,
        of: &none,
        quantile: 0.95,
        window,
        shape: Shape::Native,
    };
    assert_eq!(
        native.promql(),
        "histogram_quantile(0.95, sum(rate(d{}[300s])))"
    );
}

#[test]
fn a_call_has_exact_times_and_never_more_points_than_prometheus_allows() {
    let none = Selector::default();
    let query = Query::Gauge {
        metric: "g",
        of: &none,
    };
    let instant = Request::instant(&query, 1_700_000_000_123, 10);
    assert_eq!(instant.path, "/api/v1/query");
    let field = |request: &Request, name| {
        let found = request.fields.iter().find(|(field, _)| *field == name);
        found.map(|(_, value)| value.clone())
    };
    assert_eq!(field(&instant, "time").as_deref(), Some("1700000000.123"));
    assert_eq!(field(&instant, "timeout").as_deref(), Some("10s"));
    let day = 86_400_000;
    let range = Request::range(&query, 0, 3 * day, 1000, 10);
    let step: f64 = field(&range, "step").unwrap().parse().unwrap();
    assert!(259_200.0 / step + 1.0 <= 11_000.0, "{step}");
    let range = Request::range(&query, 0, day, 60_000, 10);
    assert_eq!(field(&range, "step").as_deref(), Some("60.000"));
}

#[test]
fn the_hosted_prometheus_of_an_organization_has_a_path() {
    assert_eq!(
        fly::path("cabanas-1").as_deref(),
        Some("/prometheus/cabanas-1")
    );
    for other in ["", "a/b", "..", "A", "a b", "a?x"] {
        assert_eq!(fly::path(other), None, "{other}");
    }
    assert!(matches!(vector("").data, Data::Vector(_)));
}
