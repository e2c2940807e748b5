//! Plots as SVG, for a page that loads nothing. Pure.
//!
//! Source: W3C, "Scalable Vector Graphics (SVG) 2". Colours are classes that the page's style defines.

use std::fmt::Write as _;

use super::curves::{Curve, Point};
use super::page::Bar;
use super::text::{html as escape, short};

/// The size of a plot, and of the parts around it.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 190.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 24.0;

/// Distances between marks of time, in seconds, and most marks.
const STEPS: [i64; 12] = [
    60, 300, 900, 1_800, 3_600, 10_800, 21_600, 43_200, 86_400, 259_200, 604_800, 2_592_000,
];
const MARKS: i64 = 8;

/// A curve.
pub(super) fn plot(name: &str, curve: &Curve) -> String {
    let scale = Scale::of(curve);
    let mut svg = String::new();
    let label = escape(&format!("{name}: {}", curve.what));
    let _ = write!(
        svg,
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{label}\">"
    );
    gaps(&mut svg, curve, &scale);
    axes(&mut svg, curve, &scale);
    releases(&mut svg, curve, &scale);
    line(&mut svg, curve, &scale);
    bound(&mut svg, curve, &scale);
    svg.push_str("</svg>");
    svg
}

/// Where a time and a value are.
struct Scale {
    begin: f64,
    length: f64,
    low: f64,
    high: f64,
}

impl Scale {
    fn of(curve: &Curve) -> Self {
        let begin = curve.begin.as_second() as f64;
        let length = (curve.end.as_second() as f64 - begin).max(1.0);
        let values = curve
            .points
            .iter()
            .flat_map(|point| [point.low, point.high]);
        let (mut low, mut high) = (curve.bound.min(0.0), curve.bound.max(0.0) * 1.6);
        for value in values.flatten() {
            low = low.min(value);
            high = high.max(value * 1.05);
        }
        if curve.unit == "%" {
            high = high.min(100.0);
        }
        if high <= low {
            high = low + 1.0;
        }
        Self {
            begin,
            length,
            low,
            high,
        }
    }

    fn x(&self, at: jiff::Timestamp) -> f64 {
        let share = (at.as_millisecond() as f64 / 1000.0 - self.begin) / self.length;
        LEFT + share.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        let share = (value - self.low) / (self.high - self.low);
        TOP + (1.0 - share.clamp(0.0, 1.0)) * (HEIGHT - TOP - BOTTOM)
    }
}

fn gaps(svg: &mut String, curve: &Curve, scale: &Scale) {
    for point in curve.points.iter().filter(|point| point.gap) {
        let (from, to) = (scale.x(point.from), scale.x(point.to));
        let _ = write!(
            svg,
            "<rect class=\"gap\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{}\"><title>not observed</title></rect>",
            (to - from).max(1.0),
            HEIGHT - TOP - BOTTOM
        );
    }
}

fn axes(svg: &mut String, curve: &Curve, scale: &Scale) {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    let _ = write!(
        svg,
        "<path class=\"axis\" d=\"M{LEFT} {TOP}V{bottom}H{right}\"/>"
    );
    for value in [scale.low, scale.high] {
        let unit = if curve.unit == "%" { " %" } else { "" };
        let _ = write!(
            svg,
            "<text class=\"tick end\" x=\"{}\" y=\"{:.1}\">{}{unit}</text>",
            LEFT - 5.0,
            scale.y(value) + 4.0,
            short(value)
        );
    }
    let length = scale.length as i64;
    let step = STEPS.into_iter().find(|step| length / step <= MARKS);
    let step = step.unwrap_or(length.max(1));
    let mut at = 0;
    while at <= length {
        let x = LEFT + at as f64 / scale.length * (right - LEFT);
        let _ = write!(
            svg,
            "<path class=\"axis\" d=\"M{x:.1} {bottom}v4\"/><text class=\"tick middle\" x=\"{x:.1}\" y=\"{}\">{}</text>",
            bottom + 16.0,
            after(at)
        );
        at += step;
    }
}

/// A time since the begin: `0`, `30 min`, `6 h`, `2 d`.
fn after(seconds: i64) -> String {
    match seconds {
        0 => "0".to_owned(),
        s if s % 86_400 == 0 && s > 2 * 86_400 => format!("{} d", s / 86_400),
        s if s % 3_600 == 0 => format!("{} h", s / 3_600),
        s => format!("{} min", s / 60),
    }
}

fn releases(svg: &mut String, curve: &Curve, scale: &Scale) {
    for release in &curve.releases {
        let x = scale.x(release.since);
        let _ = write!(
            svg,
            "<path class=\"release\" d=\"M{x:.1} {TOP}V{}\"><title>release {}</title></path>",
            HEIGHT - BOTTOM,
            release.number
        );
    }
}

fn line(svg: &mut String, curve: &Curve, scale: &Scale) {
    // Without values a line is interrupted.
    let runs = curve.points.split(|point| point.high.is_none());
    for run in runs.filter(|run| !run.is_empty()) {
        let (mut upper, mut lower) = (String::new(), String::new());
        for (at, point) in run.iter().enumerate() {
            step(&mut upper, point, point.high, scale, at == 0);
        }
        for point in run.iter().rev() {
            back(&mut lower, point, scale);
        }
        let _ = write!(
            svg,
            "<path class=\"area\" d=\"{upper}{lower}Z\"/><path class=\"line\" d=\"{upper}\"/>"
        );
    }
}

fn step(path: &mut String, point: &Point, value: Option<f64>, scale: &Scale, first: bool) {
    let (from, to) = (scale.x(point.from), scale.x(point.to));
    let y = scale.y(value.unwrap_or_default());
    let _ = match first {
        true => write!(path, "M{from:.1} {y:.1}H{to:.1}"),
        false => write!(path, "V{y:.1}H{to:.1}"),
    };
}

/// The lower edge of what the value can be; of an exact value the axis.
fn back(path: &mut String, point: &Point, scale: &Scale) {
    let is_exact = point.low == point.high;
    let low = point.low.filter(|_| !is_exact).unwrap_or(scale.low);
    let (from, to) = (scale.x(point.from), scale.x(point.to));
    let y = scale.y(low);
    let _ = write!(path, "L{to:.1} {y:.1}L{from:.1} {y:.1}");
}

fn bound(svg: &mut String, curve: &Curve, scale: &Scale) {
    let y = scale.y(curve.bound);
    let unit = match curve.unit {
        "" => String::new(),
        unit => format!(" {unit}"),
    };
    let side = if curve.below { "below" } else { "above" };
    let _ = write!(
        svg,
        "<path class=\"bound\" d=\"M{LEFT} {y:.1}H{}\"/><text class=\"tick end bad\" x=\"{}\" y=\"{:.1}\">{side} {}{unit}</text>",
        WIDTH - RIGHT,
        WIDTH - RIGHT,
        y - 4.0,
        short(curve.bound)
    );
}

/// Phases against the plan: the shaded part is the plan's time.
pub(super) fn bars(bars: &[Bar]) -> String {
    const ROW: f64 = 30.0;
    let height = ROW * bars.len() as f64;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"Phases against the plan\">"
    );
    for (row, bar) in bars.iter().enumerate() {
        let (left, y) = (130.0, ROW * row as f64);
        let full = bar.plan.1.max(bar.took) * 1.1;
        let x = |seconds: f64| left + seconds / full.max(1.0) * (WIDTH - left - 200.0);
        let class = if bar.took > bar.plan.1 {
            "late"
        } else {
            "good"
        };
        let _ = write!(
            svg,
            "<text class=\"name\" x=\"0\" y=\"{:.1}\">{}</text>\
             <rect class=\"plan\" x=\"{left}\" y=\"{:.1}\" width=\"{:.1}\" height=\"20\"/>\
             <rect class=\"plan\" x=\"{left}\" y=\"{:.1}\" width=\"{:.1}\" height=\"20\"/>\
             <rect class=\"{class}\" x=\"{left}\" y=\"{:.1}\" width=\"{:.1}\" height=\"10\"/>\
             <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            y + 19.0,
            escape(&bar.name),
            y + 5.0,
            x(bar.plan.0) - left,
            y + 5.0,
            x(bar.plan.1) - left,
            y + 10.0,
            (x(bar.took) - left).max(2.0),
            WIDTH - 190.0,
            y + 19.0,
            escape(&bar.words)
        );
    }
    svg.push_str("</svg>");
    svg
}

#[cfg(test)]
mod tests {
    use super::super::curves::tests::curve_of_an_hour;
    use super::*;

    #[test]
    fn a_plot_has_the_line_the_bound_and_the_gap_inside_its_frame() {
        let svg = plot("errors", &curve_of_an_hour());
        for class in ["gap", "line", "bound", "release", "area"] {
            assert!(
                svg.contains(&format!("class=\"{class}\"")),
                "{class}: {svg}"
            );
        }
        assert!(svg.contains("below 1 %"), "{svg}");
        assert_eq!(
            svg.matches("class=\"line\"").count(),
            2,
            "the gap interrupts it"
        );
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn a_curve_without_a_point_or_of_one_value_is_drawn_too() {
        let mut curve = curve_of_an_hour();
        curve.points.clear();
        curve.bound = 0.0;
        let svg = plot("empty", &curve);
        assert!(svg.ends_with("</svg>") && !svg.contains("NaN"), "{svg}");
    }

    #[test]
    fn marks_of_time_are_few_and_round() {
        for (seconds, words) in [
            (0, "0"),
            (1800, "30 min"),
            (21_600, "6 h"),
            (259_200, "3 d"),
        ] {
            assert_eq!(after(seconds), words);
        }
    }
}
