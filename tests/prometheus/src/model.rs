//! What Prometheus' `increase()` is documented to return: the difference of the last and the first sample in the
//! window, with resets, extrapolated to the ends of the window.
//!
//! Source: prometheus/prometheus, `docs/querying/functions.md` (`increase`, `rate`) and `promql/functions.go`
//! (`extrapolatedRate`).

/// The increase of one series, in the order of versions up to 2.51 and of later ones; none with fewer than two
/// samples in the window.
#[must_use]
pub fn increase(samples: &[(i64, f64)], from: i64, to: i64) -> Option<[f64; 2]> {
    let inside = samples.iter().filter(|(at, _)| (from..=to).contains(at));
    let inside: Vec<(f64, f64)> = inside.map(|(at, v)| (*at as f64 / 1000.0, *v)).collect();
    let (&(begin, first), &(end, last)) = (inside.first()?, inside.last()?);
    if inside.len() < 2 {
        return None;
    }
    let resets = inside.windows(2).filter(|pair| pair[1].1 < pair[0].1);
    let added = last - first + resets.map(|pair| pair[0].1).sum::<f64>();
    let sampled = end - begin;
    let average = sampled / (inside.len() - 1) as f64;
    let threshold = average * 1.1;
    let (to_start, to_end) = (begin - from as f64 / 1000.0, to as f64 / 1000.0 - end);
    // A counter is not extrapolated below zero.
    let to_zero = match added > 0.0 && first >= 0.0 {
        true => sampled * (first / added),
        false => f64::INFINITY,
    };
    let cut = |length: f64| {
        if length < threshold {
            length
        } else {
            average / 2.0
        }
    };
    let starts = [cut(to_start.min(to_zero)), cut(to_start).min(to_zero)];
    Some(starts.map(|start| added * ((sampled + start + cut(to_end)) / sampled)))
}

/// The sum of the increases of several series.
#[must_use]
pub fn sum(series: &[Vec<(i64, f64)>], from: i64, to: i64) -> Option<[f64; 2]> {
    let increases = series
        .iter()
        .filter_map(|samples| increase(samples, from, to));
    increases.reduce(|a, b| [a[0] + b[0], a[1] + b[1]])
}
