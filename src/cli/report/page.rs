//! The report as blocks: what Markdown and HTML both show. Pure; nothing here knows either language.

use jiff::{SignedDuration, Timestamp};

use super::checklist::{ChecklistBox, Mark};
use super::collect::{Objective, Phase, Report};
use super::curves::Curve;
use crate::{
    api::status::{
        CheckResult, HistoryOutcome, IntegrationResult, IntegrationState, PhaseState, WatchState,
    },
    cli::{ages::duration, style::Tone},
};

/// A piece of text.
pub(super) type Piece = (Tone, String);

/// A part of the page.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Block {
    /// A heading of the second level.
    Heading(&'static str),
    /// A paragraph.
    Text(Vec<Piece>),
    /// An address, after what it is.
    Link(&'static str, String),
    /// The checklist.
    Boxes(Vec<ChecklistBox>),
    /// A table.
    Table(&'static [&'static str], Vec<Vec<Piece>>),
    /// Phases against the plan.
    Bars(Vec<Bar>),
    /// A curve.
    Plot(String, Curve),
}

/// How long a phase took, in seconds, and the plan's time for it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bar {
    /// The phase.
    pub(super) name: String,
    /// What it took.
    pub(super) took: f64,
    /// The plan's time, from and to.
    pub(super) plan: (f64, f64),
    /// What it took, in words.
    pub(super) words: String,
}

fn plain(text: impl Into<String>) -> Piece {
    (Tone::Plain, text.into())
}

fn dim(text: impl Into<String>) -> Piece {
    (Tone::Dim, text.into())
}

fn time(time: Option<Timestamp>) -> String {
    let whole = time.map(|time| {
        let seconds = Timestamp::from_second(time.as_second());
        seconds.unwrap_or(time).to_string()
    });
    whole.unwrap_or_else(|| "-".to_owned())
}

fn number(number: Option<i64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

fn seconds(seconds: i64) -> String {
    duration(SignedDuration::from_secs(seconds))
}

/// How an outcome of a check is shown.
fn checked(result: CheckResult) -> Piece {
    let tone = match result {
        CheckResult::Passed => Tone::Good,
        CheckResult::Failed => Tone::Bad,
        CheckResult::Warning => Tone::Warn,
        CheckResult::Skipped | CheckResult::Unknown => Tone::Dim,
    };
    (tone, result.to_string())
}

/// All of it, below the title.
pub(super) fn blocks(report: &Report) -> Vec<Block> {
    let mut blocks = head(report);
    blocks.push(Block::Heading("Checklist"));
    blocks.push(Block::Boxes(report.checklist.clone()));
    blocks.extend(phases(report));
    blocks.extend(watch(report));
    blocks.extend(incidents(report));
    blocks.extend(releases(report));
    blocks.extend(checks(report));
    blocks.extend(integrations(report));
    blocks.extend(approvals(report));
    if !report.notes.is_empty() {
        blocks.push(Block::Heading("What this report lacks"));
        let notes = report.notes.iter();
        blocks.extend(notes.map(|note| Block::Text(vec![plain(note)])));
    }
    blocks
}

fn head(report: &Report) -> Vec<Block> {
    let all = report
        .checklist
        .iter()
        .filter(|one| one.mark != Mark::NotAsked);
    let done = report.checklist.iter().filter(|one| one.mark == Mark::Done);
    let facts = format!(
        "App {} in {}; {}; live since {}; {} of {} boxes are checked.",
        report.app,
        report.region,
        report.phase,
        time(report.live_since),
        done.count(),
        all.count()
    );
    let mut blocks: Vec<Block> = Vec::new();
    if let Some(url) = &report.url {
        blocks.push(Block::Link("Address", url.clone()));
    }
    blocks.push(Block::Text(vec![plain(facts)]));
    if let Some(action) = &report.next_action {
        blocks.push(Block::Text(vec![
            (Tone::Warn, "Next action: ".to_owned()),
            plain(action),
        ]));
    }
    let read = format!("Read at {}.", time(Some(report.time)));
    blocks.push(Block::Text(vec![dim(read)]));
    blocks
}

/// A table with its heading; nothing without a row.
fn section(
    heading: &'static str,
    columns: &'static [&'static str],
    rows: Vec<Vec<Piece>>,
) -> Vec<Block> {
    match rows.is_empty() {
        true => Vec::new(),
        false => vec![Block::Heading(heading), Block::Table(columns, rows)],
    }
}

fn phases(report: &Report) -> Vec<Block> {
    let rows = report.phases.iter().map(|phase| {
        let state = match phase.state {
            PhaseState::Succeeded => Tone::Good,
            PhaseState::Failed => Tone::Bad,
            PhaseState::Skipped | PhaseState::Pending => Tone::Dim,
            _ => Tone::Warn,
        };
        let plan = phase
            .plan_minutes
            .map(|[from, to]| format!("{from} to {to} min"));
        let took = phase.seconds.map(seconds);
        vec![
            plain(phase.letter.unwrap_or_default()),
            plain(phase.name.to_string()),
            (state, phase.state.to_string()),
            plain(phase.owner.clone().unwrap_or_default()),
            plain(plan.unwrap_or_else(|| "-".to_owned())),
            (pace(phase), took.unwrap_or_else(|| "-".to_owned())),
            plain(time(phase.started)),
            plain(time(phase.deadline)),
            plain(phase.message.clone()),
        ]
    });
    let columns = &[
        "", "Phase", "State", "Owner", "Plan", "Took", "Began", "Deadline", "Message",
    ];
    let mut blocks = section("Phases against the plan", columns, rows.collect());
    let bars: Vec<Bar> = report.phases.iter().filter_map(bar).collect();
    if !bars.is_empty() {
        blocks.insert(1, Block::Bars(bars));
    }
    blocks
}

/// Within the plan's minutes, or beyond.
fn pace(phase: &Phase) -> Tone {
    match (phase.seconds, phase.plan_minutes) {
        (Some(took), Some([_, most])) if took > i64::from(most) * 60 => Tone::Warn,
        (Some(_), Some(_)) => Tone::Good,
        _ => Tone::Plain,
    }
}

fn bar(phase: &Phase) -> Option<Bar> {
    let ([from, to], took) = (phase.plan_minutes?, phase.seconds?);
    if phase.state == PhaseState::Skipped {
        return None;
    }
    let so_far = if phase.finished.is_none() {
        " so far"
    } else {
        ""
    };
    Some(Bar {
        name: format!("{} {}", phase.letter.unwrap_or_default(), phase.name),
        took: took as f64,
        plan: (f64::from(from) * 60.0, f64::from(to) * 60.0),
        words: format!("{}{so_far}; plan {from} to {to} min", seconds(took)),
    })
}

fn checks(report: &Report) -> Vec<Block> {
    let smoke = report.smoke_test.iter().map(|check| {
        let took = check.duration_ms.map(|ms| format!("{ms} ms"));
        vec![
            plain(check.check.clone()),
            checked(check.result),
            plain(took.unwrap_or_else(|| "-".to_owned())),
            plain(time(check.time.as_ref().map(|time| time.0))),
            plain(check.message.clone()),
        ]
    });
    let preflight = report.preflight.iter().map(|check| {
        let mut found = check.message.clone();
        if let Some(why) = &check.justification {
            found = format!("{found} (skipped: {why})");
        }
        vec![
            plain(check.check.clone()),
            checked(check.result),
            plain(check.severity.to_string()),
            plain(found),
        ]
    });
    let mut blocks = section(
        "Smoke tests",
        &["Check", "Result", "Took", "Time", "Found"],
        smoke.collect(),
    );
    blocks.extend(section(
        "Preflight",
        &["Check", "Result", "Severity", "Found"],
        preflight.collect(),
    ));
    blocks
}

fn releases(report: &Report) -> Vec<Block> {
    let rows = report.releases.iter().map(|release| {
        let tone = match release.outcome {
            HistoryOutcome::Succeeded => Tone::Good,
            HistoryOutcome::RolledBack | HistoryOutcome::Failed => Tone::Bad,
            _ => Tone::Warn,
        };
        let serves = release.number.is_some() && release.number == report.serves;
        let mark = if serves { " (serves)" } else { "" };
        vec![
            plain(format!("{}{mark}", number(release.number))),
            (tone, release.outcome.to_string()),
            plain(time(release.time.as_ref().map(|time| time.0))),
            plain(format!("{} {}", release.image, release.digest_short)),
            plain(release.changes.clone()),
            plain(release.by.clone()),
            plain(release.why.clone()),
        ]
    });
    let columns = &[
        "Release", "Outcome", "Ended", "Image", "Changes", "By", "Why",
    ];
    section("Releases", columns, rows.collect())
}

fn integrations(report: &Report) -> Vec<Block> {
    let mut rows = Vec::new();
    for one in &report.integrations {
        let tone = match one.state {
            IntegrationState::Verified => Tone::Good,
            IntegrationState::Failed => Tone::Bad,
            IntegrationState::Pending | IntegrationState::Waiting => Tone::Warn,
            IntegrationState::Unknown => Tone::Dim,
        };
        rows.push(vec![
            (Tone::Bold, one.name.clone()),
            (tone, one.state.to_string()),
            plain(one.owner.clone().unwrap_or_default()),
            plain(time(one.verified_at.as_ref().map(|time| time.0))),
            plain(one.message.clone()),
        ]);
        for check in &one.checks {
            let tone = match check.result {
                IntegrationResult::Passed => Tone::Good,
                IntegrationResult::Failed => Tone::Bad,
                IntegrationResult::Warned => Tone::Warn,
                _ => Tone::Dim,
            };
            let found = match check.change.is_empty() {
                true => check.evidence.clone(),
                false => format!("{}; {}", check.evidence, check.change),
            };
            rows.push(vec![
                plain(format!("{} {}", check.id, check.name)),
                (tone, check.result.to_string()),
                plain(""),
                plain(""),
                plain(found),
            ]);
        }
    }
    let columns = &["Integration", "State", "Owner", "Verified since", "Found"];
    section("Integrations", columns, rows)
}

fn watch(report: &Report) -> Vec<Block> {
    let Some(watch) = &report.watch else {
        return Vec::new();
    };
    let tone = match watch.state {
        WatchState::Stabilized => Tone::Good,
        WatchState::NotStabilized => Tone::Bad,
        WatchState::Running => Tone::Warn,
        WatchState::Inconclusive => Tone::Dim,
    };
    let [since, until] = [&watch.since, &watch.until].map(|t| time(t.as_ref().map(|t| t.0)));
    let mut blocks = vec![
        Block::Heading("The watch"),
        Block::Text(vec![
            (tone, watch.state.to_string()),
            plain(format!(": watch {} from {since} to {until}.", watch.number)),
        ]),
    ];
    for text in [&watch.cause, &watch.verdict, &watch.follows] {
        if !text.is_empty() {
            blocks.push(Block::Text(vec![plain(text)]));
        }
    }
    let rows: Vec<_> = report.objectives.iter().map(objective).collect();
    if !rows.is_empty() {
        let columns = &[
            "Objective",
            "Result",
            "Value",
            "Bound",
            "Events",
            "Observed",
            "Budget left",
            "Burn rates",
            "Found",
        ];
        blocks.push(Block::Table(columns, rows));
    }
    for one in &report.objectives {
        if let Some(curve) = &one.curve {
            blocks.push(Block::Plot(one.status.name.clone(), curve.clone()));
        }
    }
    blocks
}

fn objective(one: &Objective) -> Vec<Piece> {
    let status = &one.status;
    let rates = status
        .burn_rates
        .iter()
        .filter(|rate| !rate.burn.is_empty());
    let rates =
        rates.map(|rate| format!("{} in {} (limit {})", rate.burn, rate.window, rate.factor));
    let name = match &status.description {
        Some(description) => format!("{}: {description}", status.name),
        None => status.name.clone(),
    };
    vec![
        plain(name),
        checked(status.result),
        plain(status.value.clone()),
        plain(status.bound.clone()),
        plain(status.events.to_string()),
        plain(format!("{} %", status.observed_percent)),
        plain(status.budget_left.clone()),
        plain(rates.collect::<Vec<_>>().join("; ")),
        plain(status.message.clone()),
    ]
}

fn incidents(report: &Report) -> Vec<Block> {
    let rows = report.incidents.iter().map(|incident| {
        let (tone, urgency) = match incident.critical {
            true => (Tone::Bad, "critical"),
            false => (Tone::Warn, "no"),
        };
        vec![
            plain(time(incident.time.as_ref().map(|time| time.0))),
            plain(incident.kind.to_string()),
            (tone, urgency.to_owned()),
            plain(incident.subject.clone()),
            plain(incident.count.to_string()),
            plain(incident.message.clone()),
        ]
    });
    let columns = &["Time", "Incident", "Critical", "Of", "Seen", "Evidence"];
    section("Incidents", columns, rows.collect())
}

fn approvals(report: &Report) -> Vec<Block> {
    let mut rows: Vec<Vec<Piece>> = Vec::new();
    for gate in &report.gates {
        let by = match &gate.status.rejected_by {
            Some(who) => who.clone(),
            None => gate.status.approved_by.join(", "),
        };
        rows.push(vec![
            plain(time(gate.status.requested_at.as_ref().map(|time| time.0))),
            plain(format!("gate before {}", gate.before)),
            plain(gate.status.state.to_string()),
            plain(by),
            plain(format!("plan {}", gate.status.digest)),
        ]);
    }
    for approval in &report.approvals {
        let to = approval.to_release.map(|to| format!(" to release {to}"));
        let state = approval.state.as_deref().unwrap_or("not judged yet");
        rows.push(vec![
            plain(time(approval.time)),
            plain(format!("{}{}", approval.gate, to.unwrap_or_default())),
            plain(format!("{} ({state})", approval.decision)),
            plain(approval.approver.clone()),
            plain(approval.message.clone().unwrap_or_default()),
        ]);
    }
    section(
        "Approvals",
        &["Time", "About", "Decision", "By", "Why"],
        rows,
    )
}

#[cfg(test)]
mod tests {
    use super::super::collect::tests::with;
    use super::*;

    #[test]
    fn every_part_of_a_report_is_on_the_page() {
        let blocks = blocks(&with("text"));
        let headings = blocks.iter().filter_map(|block| match block {
            Block::Heading(heading) => Some(*heading),
            _ => None,
        });
        let wanted = [
            "Checklist",
            "Phases against the plan",
            "The watch",
            "Incidents",
            "Releases",
            "Smoke tests",
            "Preflight",
            "Integrations",
            "Approvals",
            "What this report lacks",
        ];
        assert_eq!(headings.collect::<Vec<_>>(), wanted);
        let tables = blocks.iter().filter_map(|block| match block {
            Block::Table(columns, rows) => Some((columns, rows)),
            _ => None,
        });
        for (columns, rows) in tables {
            assert!(!rows.is_empty());
            for row in rows {
                assert_eq!(row.len(), columns.len(), "{row:?}");
            }
        }
    }

    #[test]
    fn a_phase_beyond_the_plan_is_marked() {
        let report = with("x");
        assert_eq!(
            pace(&report.phases[0]),
            Tone::Warn,
            "15 min, and the plan has 12"
        );
        assert_eq!(pace(&report.phases[1]), Tone::Good);
        let bar = bar(&report.phases[1]);
        assert_eq!(
            bar.map(|bar| bar.words).as_deref(),
            Some("2m so far; plan 3 to 5 min")
        );
    }
}
