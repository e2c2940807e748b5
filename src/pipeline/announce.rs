//! The write of the status in the middle of a pass, which announces creates before they are sent.

use super::{
    StepId,
    advance::{BoxFuture, Phase},
    cx::Cx,
    intent::{Announcement, Attending, Attention, Intents},
    observations::Observations,
    record::State,
    report::Report,
};
use crate::{api::PhaseName, plan::gate::GateReport};

/// Announced creates.
pub type Announced = Vec<Announcement>;

/// Writes the status in the middle of a pass, with the creates that steps are about to send.
pub trait Announcer: Sync {
    /// Writes what was found so far, with these intents. Returns the intents that the status now
    /// holds: none when it could not be written.
    fn announce(&self, report: Report, intents: Announced) -> BoxFuture<'_, Announced>;
}

/// The announcements of one pass: at most one write at a time.
pub struct Announcements<'a> {
    announcer: &'a dyn Announcer,
    intents: &'a Intents,
    /// The write that is under way.
    writing: Option<BoxFuture<'a, Announced>>,
    /// Until a write fails: from then on each step that needs one waits for the next pass.
    attending: Option<Attending<'a>>,
}

impl<'a> Announcements<'a> {
    /// From now until this is dropped, steps may wait for their intents to be written.
    pub fn new(announcer: &'a dyn Announcer, intents: &'a Intents) -> Self {
        Self {
            announcer,
            intents,
            writing: None,
            attending: Some(intents.attend()),
        }
    }

    /// Whether to write now. What one step waits for, others will need soon: one write serves all
    /// when it begins once every running step waits for it or has begun to act. No step waits for
    /// intents that are only expected.
    pub fn is_due(&self, attention: Attention, running: usize) -> bool {
        let nobody_observes = attention.waiting + attention.acting >= running;
        let only_expected = attention.waiting == 0;
        self.attending.is_some()
            && self.writing.is_none()
            && (nobody_observes || only_expected)
            && self.intents.to_announce()
    }

    /// Begins to write.
    pub fn begin(&mut self, report: Report) {
        let intents = self.intents.open();
        self.writing = Some(self.announcer.announce(report, intents));
    }

    /// Waits for the write that is under way; for ever if there is none.
    pub async fn written(&mut self) {
        let announced = match &mut self.writing {
            Some(writing) => writing.await,
            None => std::future::pending().await,
        };
        self.writing = None;
        if announced.is_empty() {
            self.attending = None;
        } else {
            self.intents.written(&announced);
        }
    }

    /// Waits for the write that is under way, if there is one: two writers at once would not know
    /// what the other has written.
    pub async fn finish(&mut self) {
        if self.writing.is_some() {
            self.written().await;
        }
    }
}

/// Requests the intents of everything that will be created until the next gate, while the app is
/// being created: an app that does not exist yet holds nothing. `phases` begins with the phase that
/// runs. Not before the first phase is done: it decides whether anything may be created.
pub fn expect_creates(cx: &Cx, phases: &[Phase], gate: &impl Fn(PhaseName) -> Option<GateReport>) {
    if !cx.recorded.external.is_empty() || !cx.may_act() {
        return;
    }
    let later = phases.iter().skip(1);
    let later = later.take_while(|phase| gate(phase.id).is_none());
    let this = phases.iter().take(1);
    for step in this.chain(later).flat_map(|phase| phase.steps) {
        for slot in step.expected_creates(cx) {
            cx.intents.expect(step.id(), slot);
        }
    }
}

/// Whether the app cannot be had: another object has claimed it, or Fly.io refuses it. Nothing is expected to be
/// created in it then.
pub fn is_app_stopped(observations: &Observations, stamp: &str) -> bool {
    let app = observations.steps.get(&StepId::App);
    app.is_some_and(|app| app.stamp == stamp && app.state == State::Blocked)
}

/// Forgets what was only expected, at the end of a pass, if the app cannot be had: an object that makes nothing announces
/// nothing, and its deletion asks Fly.io about nothing. What a step has asked for by itself stays.
pub fn forget_expected(observations: &Observations, stamp: &str) {
    if is_app_stopped(observations, stamp) {
        let was_reached = |step| observations.steps.contains_key(&step);
        observations.intents.unexpected(was_reached);
    }
}
