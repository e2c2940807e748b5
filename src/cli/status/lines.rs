//! The report on one Activation as lines for people. Pure.

use jiff::Timestamp;

use super::report::{Phase, SiteState, SpecState, StatusReport, Step, Wait};
use crate::{
    api::{PhaseState, StepState, status::IntegrationState},
    cli::{
        ages::{relative, since},
        style::{Line, Tone},
    },
};

impl SiteState {
    /// The word for people, and how it is marked.
    pub(in crate::cli) const fn word(self) -> (Tone, &'static str) {
        match self {
            Self::Live => (Tone::Good, "Live"),
            Self::Down => (Tone::Bad, "Down"),
            Self::Unknown => (Tone::Warn, "Unknown"),
        }
    }
}

impl SpecState {
    /// The word for people, and how it is marked.
    pub(in crate::cli) const fn word(self) -> (Tone, &'static str) {
        match self {
            Self::NotObserved => (Tone::Warn, "NotObserved"),
            Self::Progressing => (Tone::Warn, "Progressing"),
            Self::AwaitingApproval => (Tone::Warn, "AwaitingApproval"),
            Self::Planned => (Tone::Warn, "Planned"),
            Self::Stopped => (Tone::Bad, "Stopped"),
            Self::Live => (Tone::Good, "Live"),
            Self::Suspended => (Tone::Warn, "Suspended"),
            Self::Deleting => (Tone::Warn, "Deleting"),
        }
    }
}

/// The symbol of a phase.
const fn phase_mark(state: PhaseState) -> (Tone, &'static str) {
    match state {
        PhaseState::Succeeded => (Tone::Good, "✓"),
        PhaseState::Failed => (Tone::Bad, "✗"),
        PhaseState::AwaitingApproval => (Tone::Warn, "?"),
        PhaseState::Running | PhaseState::Waiting => (Tone::Warn, "●"),
        PhaseState::Pending | PhaseState::Skipped => (Tone::Dim, "·"),
    }
}

/// The symbol of a step.
const fn step_mark(state: StepState) -> (Tone, &'static str) {
    match state {
        StepState::Done => (Tone::Good, "✓"),
        StepState::Blocked => (Tone::Bad, "✗"),
        StepState::Running | StepState::Waiting => (Tone::Warn, "●"),
        StepState::Retrying => (Tone::Warn, "↻"),
        StepState::Pending | StepState::Skipped => (Tone::Dim, "·"),
    }
}

/// A text of more characters is said once, at the step that it is about.
const LONG: usize = 100;

/// The step in whose line a long text is said in full.
fn told_by<'r>(report: &'r StatusReport, text: &str) -> Option<(&'r Phase, &'r Step)> {
    let is_long = |text: &str| text.chars().count() > LONG;
    if !is_long(text) {
        return None;
    }
    let all = report.phases.iter();
    let mut steps = all.flat_map(|phase| phase.steps.iter().map(move |step| (phase, step)));
    steps.find(|(_, step)| {
        is_at_work(step) && is_long(&step.message) && text.ends_with(step.message.as_str())
    })
}

/// Whether a step is shown although all that is fine is hidden.
const fn is_at_work(step: &Step) -> bool {
    !matches!(
        step.state,
        StepState::Done | StepState::Skipped | StepState::Pending
    )
}

/// All lines about one Activation. What is fine is hidden, unless `wide`.
pub(in crate::cli) fn lines(report: &StatusReport, now: Timestamp, wide: bool) -> Vec<Line> {
    let mut lines = head(report, now);
    lines.push(Line::default());
    let later = |phase: &&Phase| phase.state == PhaseState::Pending;
    let unasked = |phase: &&Phase| phase.state == PhaseState::Skipped;
    for phase in &report.phases {
        if wide || !later(&phase) && !unasked(&phase) {
            phase_lines(&mut lines, phase, now, wide);
        }
    }
    let later: Vec<&str> = report
        .phases
        .iter()
        .filter(later)
        .map(|phase| phase.name.as_str())
        .collect();
    if !wide && !later.is_empty() {
        let line = format!("· {:<13}{}", "Pending", later.join(", "));
        lines.push(Line::default().and(Tone::Dim, line));
    }
    integrations(&mut lines, report, now, wide);
    people(&mut lines, report, now);
    if !report.notes.is_empty() {
        lines.push(Line::default().and(Tone::Bold, "Notes"));
        for note in &report.notes {
            let line = Line::default().and(Tone::Warn, format!("  {}: ", note.about));
            lines.push(line.and(Tone::Plain, &note.message));
        }
    }
    next(&mut lines, report, now);
    lines
}

/// One line for an Activation that is as it should be.
pub(in crate::cli) fn fine(report: &StatusReport) -> Line {
    let url = report.url.as_deref().unwrap_or_default();
    let notes = match report.notes.len() {
        0 => String::new(),
        1 => "  1 note".to_owned(),
        count => format!("  {count} notes"),
    };
    Line::default()
        .and(Tone::Good, "✓ ")
        .and(Tone::Bold, name(report))
        .and(Tone::Plain, format!(" is live  {url}"))
        .and(Tone::Dim, notes)
}

fn name(report: &StatusReport) -> String {
    format!("{}/{}", report.namespace, report.name)
}

fn head(report: &StatusReport, now: Timestamp) -> Vec<Line> {
    let title = Line::default().and(Tone::Bold, name(report));
    let url = report.url.as_deref().unwrap_or_default();
    let age = |since_: Option<Timestamp>| {
        since_.map_or_else(String::new, |then| format!(" for {}", since(then, now)))
    };
    let state = |label: &str, (tone, word): (Tone, &str), then, message: &str| {
        Line::plain(format!("{label:<6}"))
            .and(tone, word)
            .and(Tone::Dim, age(then))
            .and(Tone::Plain, format!("  {message}"))
    };
    // Of what was never proven there is nothing more to say than of the spec.
    let same = report.site.state == SiteState::Unknown && report.site.reason == report.spec.reason;
    let about_site = if same { "" } else { &report.site.message };
    let about_spec = match told_by(report, &report.spec.message) {
        Some((phase, step)) => format!(
            "{}: {}: {}, which the step below says in full",
            phase.name, step.name, step.reason
        ),
        None => report.spec.message.clone(),
    };
    vec![
        title.and(Tone::Dim, format!("  {url}")),
        state(
            "Site",
            report.site.state.word(),
            report.site.since,
            about_site,
        ),
        state(
            "Spec",
            report.spec.state.word(),
            report.spec.since,
            &about_spec,
        ),
    ]
}

/// When a phase began, ended and must be done.
fn times(phase: &Phase, now: Timestamp) -> (Tone, String) {
    let took = match (phase.started, phase.finished) {
        (Some(start), Some(end)) => format!("took {}", since(start, end)),
        _ => String::new(),
    };
    match (phase.state, phase.started, phase.deadline) {
        (PhaseState::Pending | PhaseState::Skipped, _, _) => (Tone::Dim, String::new()),
        (PhaseState::Succeeded, _, _) => (Tone::Dim, took),
        (_, Some(start), Some(end)) if end > now => (
            Tone::Plain,
            format!("for {}, deadline {}", since(start, now), relative(end, now)),
        ),
        (_, _, Some(end)) => (
            Tone::Bad,
            format!("its deadline was {}", relative(end, now)),
        ),
        (_, Some(start), None) => (Tone::Plain, format!("for {}", since(start, now))),
        _ => (Tone::Plain, String::new()),
    }
}

fn phase_lines(lines: &mut Vec<Line>, phase: &Phase, now: Timestamp, wide: bool) {
    let fine = matches!(
        phase.state,
        PhaseState::Succeeded | PhaseState::Pending | PhaseState::Skipped
    );
    let (tone, mark) = phase_mark(phase.state);
    let (time_tone, time) = times(phase, now);
    let mut line = Line::default()
        .and(tone, mark)
        .and(Tone::Bold, format!(" {:<13}", phase.name))
        .and(tone, format!("{:<17}", phase.state))
        .and(time_tone, time);
    if let Some(owner) = phase.owner.as_ref().filter(|_| wide || !fine) {
        line = line.and(Tone::Dim, format!("  owner {owner}"));
    }
    lines.push(line);
    let steps = phase.steps.iter();
    let steps = steps.filter(|step| wide || is_at_work(step));
    let steps: Vec<&Step> = steps.collect();
    // The message of a phase is that of a step, if it has the reason of one.
    let said = steps.iter().any(|step| phase.reason == step.reason);
    // What a gate waits for is said below.
    let gate = phase.state == PhaseState::AwaitingApproval;
    if !phase.message.is_empty() && (!fine || wide) && !said && !gate {
        lines.push(Line::plain(format!("    {}", phase.message)));
    }
    for step in steps {
        lines.push(step_line(step, now));
    }
}

fn step_line(step: &Step, now: Timestamp) -> Line {
    let (tone, mark) = step_mark(step.state);
    let mut line = Line::plain("    ")
        .and(tone, mark)
        .and(Tone::Plain, format!(" {:<20}", step.name))
        .and(tone, format!("{:<9}", step.state));
    if !step.reason.is_empty() && !matches!(step.state, StepState::Done) {
        line = line.and(Tone::Dim, format!("{}  ", step.reason));
    }
    line = line.and(Tone::Plain, &step.message);
    if step.attempts > 0 {
        let next = step.next_try.map_or_else(String::new, |next| {
            format!(", next try {}", relative(next, now))
        });
        let failed = format!("  ({} failed tries{next})", step.attempts);
        line = line.and(Tone::Warn, failed);
    }
    line
}

fn integrations(lines: &mut Vec<Line>, report: &StatusReport, now: Timestamp, wide: bool) {
    let shown = report.integrations.iter();
    let shown = shown.filter(|one| wide || one.state != IntegrationState::Verified);
    for one in shown {
        let tone = match one.state {
            IntegrationState::Verified => Tone::Good,
            IntegrationState::Failed => Tone::Bad,
            _ => Tone::Warn,
        };
        let mut line = Line::plain(format!("    {:<20}", one.name))
            .and(tone, format!("{:<9}", one.state))
            .and(Tone::Plain, &one.message);
        if let Some(owner) = &one.owner {
            line = line.and(Tone::Dim, format!("  owner {owner}"));
        }
        if let Some(deadline) = one
            .deadline
            .filter(|_| one.state != IntegrationState::Verified)
        {
            line = line.and(Tone::Dim, format!("  deadline {}", relative(deadline, now)));
        }
        lines.push(line);
        if !one.next_action.is_empty() {
            lines.push(Line::plain(format!("      → {}", one.next_action)));
        }
    }
}

/// What only a person can end.
fn people(lines: &mut Vec<Line>, report: &StatusReport, now: Timestamp) {
    let waits: Vec<&Wait> = report.waits.iter().filter(|wait| wait.person).collect();
    if waits.is_empty() {
        return;
    }
    lines.push(Line::default().and(Tone::Bold, "Waiting for a person"));
    for wait in waits {
        let for_what = match told_by(report, &wait.for_what) {
            Some((_, step)) => format!("{}, as said above", step.reason),
            None => wait.for_what.clone(),
        };
        let mut line = Line::default()
            .and(Tone::Warn, format!("  {}: ", wait.who))
            .and(Tone::Plain, for_what);
        if let Some(start) = wait.since {
            line = line.and(Tone::Dim, format!("; for {}", since(start, now)));
        }
        if let Some(end) = wait.until {
            line = line.and(Tone::Dim, format!(", ends {}", relative(end, now)));
        }
        if let Some(owner) = &wait.owner {
            line = line.and(Tone::Dim, format!("; owner {owner}"));
        }
        lines.push(line);
    }
}

fn next(lines: &mut Vec<Line>, report: &StatusReport, now: Timestamp) {
    if report.next_action.is_none() && report.next_command.is_none() {
        if let Some(then) = report.next_action_time {
            let line = Line::plain("Nothing to do. Something happens by itself ");
            lines.push(line.and(Tone::Plain, relative(then, now)));
        }
        return;
    }
    lines.push(Line::default().and(Tone::Bold, "Next"));
    // At a gate and after a suspension the command does the same.
    let same = [SpecState::AwaitingApproval, SpecState::Suspended].contains(&report.spec.state);
    if let Some(action) = report.next_action.as_ref().filter(|_| !same) {
        lines.push(Line::plain(format!("  {action}")));
    }
    if let Some(command) = &report.next_command {
        lines.push(Line::plain("  ").and(Tone::Bold, command));
    }
}
