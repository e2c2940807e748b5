//! The one table at the end: metric, Golive, peer, ratio with its interval, target, met or not.

use std::process::Command;

use crate::stats::{Ratio, median, ratio};
use crate::table;

/// What a figure is held to.
#[derive(Clone, Copy)]
pub enum Target {
    /// Golive's own figure: at most this.
    AtMost(f64),
    /// Golive's figure by the peer's: at most this.
    Ratio(f64),
    /// Shown only.
    None,
}

/// The lines so far.
#[derive(Default)]
pub struct Report {
    rows: Vec<Vec<String>>,
    missed: Vec<String>,
}

impl Report {
    /// Adds a figure of ours beside a peer's; each list has one value a round.
    pub fn beside(
        &mut self,
        metric: (&str, &str, &str),
        ours: &[f64],
        peer: (&str, &[f64]),
        target: Target,
    ) {
        let of = ratio(ours, peer.1);
        let theirs = format!("{} {}", peer.0, figure(median(peer.1)));
        self.add(metric, median(ours), Some((theirs, of)), target);
    }

    /// Adds a figure of ours that has no peer.
    pub fn alone(&mut self, metric: (&str, &str, &str), ours: f64, target: Target) {
        self.add(metric, ours, None, target);
    }

    fn add(
        &mut self,
        (id, metric, unit): (&str, &str, &str),
        ours: f64,
        peer: Option<(String, Ratio)>,
        target: Target,
    ) {
        let of = peer.as_ref().map_or(f64::NAN, |(_, ratio)| ratio.of);
        let (wanted, met) = match target {
            Target::AtMost(most) => (format!("at most {}", figure(most)), Some(ours <= most)),
            Target::Ratio(most) => (format!("at most {most} x"), Some(of <= most)),
            Target::None => (String::new(), None),
        };
        let (theirs, of) =
            peer.map_or_else(Default::default, |(theirs, of)| (theirs, of.to_string()));
        let verdict = match met {
            Some(true) => "met",
            Some(false) => "missed",
            None => "",
        };
        if met == Some(false) {
            self.missed.push(format!(
                "{id} {metric}: {} {unit}, {of}, wanted {wanted}",
                figure(ours)
            ));
        }
        self.rows.push(vec![
            id.to_owned(),
            format!("{metric}, {unit}"),
            figure(ours),
            theirs,
            of,
            wanted,
            verdict.to_owned(),
        ]);
    }

    /// Prints the table with what it was measured on; gives the targets that were missed.
    pub fn print(self, load: (String, String)) -> Vec<String> {
        if !self.rows.is_empty() {
            println!(
                "\n{}; load average {} before, {} after",
                machine(),
                load.0,
                load.1
            );
            table::print(
                "All figures (medians of rounds in turns)",
                &["", "metric", "Golive", "peer", "ratio [95 %]", "target", ""],
                &self.rows,
            );
        }
        self.missed
    }
}

/// Three places that matter.
fn figure(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        small if small >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

/// How many wait for a processor, over one, five and fifteen minutes.
pub fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let words: Vec<&str> = text.split(' ').take(3).collect();
    words.join(" ")
}

/// Cores, memory, build and commit; no name of a machine.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib: u64 = memory
        .lines()
        .find_map(|line| {
            line.strip_prefix("MemTotal:")?
                .trim()
                .strip_suffix(" kB")?
                .parse()
                .ok()
        })
        .unwrap_or_default();
    let build = if cfg!(debug_assertions) {
        "dev"
    } else {
        "release"
    };
    let commit = Command::new("git")
        .args(["describe", "--always", "--dirty"])
        .output();
    let commit = commit.map(|done| String::from_utf8_lossy(&done.stdout).trim().to_owned());
    format!(
        "{cores} cores, {} GiB, {build} build, commit {}",
        kib / 1024 / 1024,
        commit.unwrap_or_default()
    )
}
