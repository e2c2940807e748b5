//! The step: the watch of this pass, what is said of it, and the looks that begin now.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{
    breach::{self, Follows, Releases, Suspect},
    evidence::{self, Damaged, Found},
    incidents,
    life::{self, About, Ended, Restored},
    question::Wanted,
    report::{self, Judged},
    source::look::{Look, Terms},
    watch::{Round, State, Watch, look_every, seen_by_spec},
};
use crate::{
    api::{
        Reason,
        condition::whole_seconds,
        policy::Mode,
        status::{IncidentStatus, ObjectiveStatus, WatchDecision, WatchState, WatchStatus},
    },
    clock::watch::WatchClock,
    phase::{
        breach as request, incident,
        releases::{
            record::{Outcome, Record},
            records::Records,
            store,
        },
        roster,
    },
    pipeline::{
        Care, Cx, Note, ObjectiveFigures, Removal, Step, StepId, Verdict, Wake, Why, step::Result,
    },
    plan::Target,
    slo::DecodeFault,
    store::watch as stored,
};

/// Watches the objectives.
pub struct Objectives;

/// What follows from a breach, for programs and in words.
type Decided = (Option<WatchDecision>, String);

/// What is known of the watch.
#[derive(Debug)]
pub enum Observed {
    /// The spec asks for none.
    NotRequested,
    /// Changes are only planned.
    Planned,
    /// No release serves yet, or nobody has begun a watch of it.
    NotBegun,
    /// An objective cannot be watched.
    Unusable(String),
    /// What is stored of it cannot be read.
    Damaged(Damaged, String),
    /// It runs, or has ended.
    Watch(Box<Seen>),
}

/// What is known of a watch.
#[derive(Debug)]
pub struct Seen {
    watch: WatchStatus,
    reason: Reason,
    objectives: Vec<(ObjectiveStatus, Option<ObjectiveFigures>)>,
    incidents: Vec<IncidentStatus>,
    /// The time until it needs a look.
    pause: Duration,
}

/// The watch in this pass.
struct Now<'a> {
    cx: &'a Cx,
    wanted: Arc<Wanted>,
    records: Records,
    serving: Record,
    watch: Watch,
    clock: WatchClock,
    /// A rollback that this watch has asked for is being carried out.
    is_rolling_back: bool,
}

impl Now<'_> {
    /// The watch as it is, or as it begins. None: there is none, and this pass may not begin one.
    async fn of<'a>(cx: &'a Cx, wanted: Wanted) -> Result<std::result::Result<Now<'a>, Observed>> {
        let records = store::load(cx).await?;
        let Some(serving) = records.serving_record().cloned() else {
            return Ok(Err(Observed::NotBegun));
        };
        let found = match evidence::open(cx).await? {
            Found::Damaged(damaged) => {
                return Ok(Err(Observed::Damaged(damaged, stored_name(cx))));
            }
            Found::Nothing => None,
            Found::Watch(watch) => Some(watch),
        };
        let about_these = |watch: &Watch| is_about(&watch.state(), &wanted);
        if found.as_ref().is_some_and(|watch| !about_these(watch)) {
            let name = stored_name(cx);
            let damaged = Damaged::Evidence(DecodeFault::Content);
            evidence::forget(cx);
            return Ok(Err(Observed::Damaged(damaged, name)));
        }
        // Only a pass over the spec knows that the gate is open.
        if found.is_none() && cx.care == Care::Serving {
            return Ok(Err(Observed::NotBegun));
        }
        let about = found.as_ref().map(|watch| watch.state().about.clone());
        let carried_out = carried_out(&records, &serving, about.as_ref());
        let is_rolling_back = carried_out.is_some();
        let settled = request::is_restored(&cx.journal, serving.number);
        let restored = carried_out.filter(|_| settled);
        let begins = life::begins(about.as_ref(), &wanted.digest, restored.as_ref());
        let watch = match (begins, found) {
            (None, Some(watch)) => watch,
            (why, found) => {
                let why = why.unwrap_or(life::Begin::First);
                let begin = cx.now().as_millisecond();
                let about = About::begun(why, about.as_ref(), begin, &wanted.digest);
                begun(cx, found.as_ref(), about, &wanted)
            }
        };
        let begin = watch.state().about.begin;
        let begin = Timestamp::from_millisecond(begin).unwrap_or_else(|_| cx.now());
        Ok(Ok(Now {
            is_rolling_back: is_rolling_back && !settled,
            clock: cx.installation.watch_clock(begin),
            wanted: Arc::new(wanted),
            cx,
            records,
            serving,
            watch,
        }))
    }

    fn end(&self) -> Timestamp {
        let begin = self.watch.state().about.begin;
        let end = begin.saturating_add(self.wanted.length());
        Timestamp::from_millisecond(end).unwrap_or(Timestamp::MAX)
    }

    /// Everything that this pass has to do with the watch.
    async fn seen(self) -> Result<Seen> {
        let now = self.clock.now();
        self.note_release();
        self.note_incidents();
        let mut follows = (None, String::new());
        let has_ended = self.watch.state().about.ended.is_some();
        if !has_ended {
            follows = self.follow(now);
            if now >= self.end() {
                self.end_with_a_verdict(now);
            }
        }
        let seen = self.told(now, follows);
        let is_over = self.watch.state().about.ended.is_some();
        if is_over {
            self.watch.stop();
        } else {
            self.look();
        }
        evidence::store(self.cx, &self.watch, &self.wanted, &self.clock).await?;
        Ok(seen)
    }

    /// Notes which release serves, and since when.
    fn note_release(&self) {
        let number = u32::try_from(self.serving.number).unwrap_or(u32::MAX);
        let mut state = self.watch.state();
        if state.about.ended.is_none() {
            let since = match state.store.served().last() {
                None => self.clock.of(self.serving.time),
                Some(_) => self.clock.now(),
            };
            state.store.serve(since.as_millisecond(), number);
        }
        let beside = || seen_by_spec(&self.cx.journal);
        if let Some(machines) = roster::last_seen(&self.cx.facts).or_else(beside) {
            state.machines = machines;
        }
    }

    /// Notes what happened since the watch began, as far as the pipeline has observed it.
    fn note_incidents(&self) {
        let mut state = self.watch.state();
        let mut found = incident::take(self.cx);
        if state.about.ended.is_some() {
            return;
        }
        let begin = Timestamp::from_millisecond(state.about.begin);
        let begin = begin.unwrap_or(Timestamp::UNIX_EPOCH);
        let now = self.cx.fly_now();
        let machines = state.machines.iter();
        found.extend(machines.flat_map(|machine| incidents::of_machine(machine, begin, now)));
        let failed = self
            .records
            .list
            .iter()
            .filter(|record| record.outcome == Outcome::Failed && record.time >= begin);
        found.extend(failed.filter_map(|record| {
            let to = record.restores?;
            let why = &record.reason;
            Some(incidents::rolled_back(record.number, to, record.time, why))
        }));
        let before = state.about.incidents.clone();
        for incident in found {
            incidents::merge(&mut state.about.incidents, incident);
        }
        state.is_news |= state.about.incidents != before;
    }

    /// What follows from the figures now; a rollback is asked for here.
    fn follow(&self, now: Timestamp) -> Decided {
        let nothing = (None, String::new());
        if self.is_rolling_back {
            return nothing;
        }
        let follows = {
            let state = self.watch.state();
            let judged = state.judged(&self.wanted, self.serving.number, now);
            let suspects = judged.iter().filter_map(|judged| {
                let (_, figure) = judged.release.as_ref()?;
                let named = judged.named;
                Some(Suspect::of(
                    &named.name,
                    named.severity,
                    &judged.judgement,
                    figure.standing,
                ))
            });
            let suspects: Vec<Suspect<'_>> = suspects.collect();
            breach::follows(&suspects, self.wanted.on_breach, self.releases(&state))
        };
        let serving = self.serving.number;
        let owner = &self.cx.owner;
        let words = follows.words(serving, (&owner.namespace, &owner.name));
        match &follows {
            // A rollout is under way: it decides first.
            Follows::RollBack { .. } if self.cx.care == Care::Serving => nothing,
            Follows::RollBack { to, objective } => {
                let why = format!("the objective {objective} is in breach");
                request::ask(self.cx, (serving, *to), self.cx.now(), &why);
                (follows.decision(), words)
            }
            Follows::Nothing => self.refused().unwrap_or(nothing),
            _ => (follows.decision(), words),
        }
    }

    /// That the rollback which was asked for was refused.
    fn refused(&self) -> Option<Decided> {
        let serving = self.serving.number;
        let decision = request::decision(&self.records, serving)?;
        let why = decision.refused.as_ref()?;
        let words = format!("release {serving} is not rolled back: {why}");
        Some((Some(WatchDecision::Refused), words))
    }

    fn releases(&self, state: &State) -> Releases {
        let serving = self.serving.number;
        let begin = Timestamp::from_millisecond(state.about.begin);
        let begin = begin.unwrap_or(Timestamp::MAX);
        let mut earlier = self.records.list.iter().rev();
        let before = earlier.find(|record| record.number < serving && record.is_good());
        Releases {
            serving,
            is_of_watch: self.serving.time >= begin,
            before: before.map(|record| record.number),
            was_asked: request::decision(&self.records, serving).is_some(),
        }
    }

    fn end_with_a_verdict(&self, now: Timestamp) {
        let mut state = self.watch.state();
        let ended = {
            let length = self.wanted.length();
            let until = state.about.verdict_until(length, state.store.end());
            let end = Timestamp::from_millisecond(until).unwrap_or(Timestamp::MAX);
            let judged = state.judged(&self.wanted, self.serving.number, end);
            let critical = state.about.incidents.iter();
            let critical = critical.filter(|incident| incident.critical);
            let critical: Vec<String> = critical.map(|found| found.message.clone()).collect();
            let (verdict, reason, told) = report::verdict(&self.wanted, &judged, &critical);
            Ended {
                at: now.as_millisecond(),
                until: Some(until),
                state: verdict,
                reason: reason.to_string(),
                verdict: told,
                objectives: judged.iter().map(report::entry).collect(),
            }
        };
        state.about.ended = Some(ended);
    }

    fn end_of(&self, state: &State) -> Timestamp {
        let end = state.about.until(self.wanted.length());
        Timestamp::from_millisecond(end).unwrap_or(Timestamp::MAX)
    }

    /// What is said of it.
    fn told(&self, now: Timestamp, (decision, follows): Decided) -> Seen {
        let state = self.watch.state();
        let about = &state.about;
        let time = |at: i64| Timestamp::from_millisecond(at).ok().map(whole_seconds);
        let until = self.end_of(&state);
        let mut watch = WatchStatus {
            state: WatchState::Running,
            since: time(about.begin),
            until: Some(whole_seconds(until)),
            number: i64::from(about.number),
            cause: about.cause.clone(),
            decision,
            follows,
            verdict: String::new(),
        };
        let (reason, objectives) = match &about.ended {
            Some(ended) => {
                watch.state = ended.state;
                watch.verdict.clone_from(&ended.verdict);
                let entries = ended.objectives.iter().cloned();
                let reason = Reason::parse(&ended.reason).unwrap_or_default();
                (reason, entries.map(|entry| (entry, None)).collect())
            }
            None => {
                let judged = state.judged(&self.wanted, self.serving.number, now);
                let entries = judged.iter().map(of);
                (Reason::Watching, entries.collect())
            }
        };
        let left = self.clock.takes(self.clock.until(until));
        let timing = &self.cx.installation.timing;
        let every = life::write_every(|time| self.clock.takes(time));
        let pause = match about.ended {
            Some(_) => timing.recheck,
            None => left
                .min(every)
                .clamp(timing.poll, timing.recheck.max(timing.poll)),
        };
        Seen {
            watch,
            reason,
            objectives,
            incidents: about.incidents.clone(),
            pause,
        }
    }

    /// Begins the looks of the next minutes, unless they are under way.
    fn look(&self) {
        let cx = self.cx;
        if self.watch.is_looking(&cx.waker) {
            return;
        }
        let every = look_every(&self.wanted, &self.clock);
        let terms = Terms {
            asked: self.wanted.asked.clone(),
            source: self.wanted.source.clone(),
            clock: self.clock.clone(),
            gap_after: every * 3,
            release: self.serving.number,
        };
        let machines = self.watch.state().machines.clone();
        self.watch.look(Round {
            look: Look::new(cx, terms, &machines),
            wanted: self.wanted.clone(),
            clock: self.clock.clone(),
            places: (cx.installation.looks.clone(), cx.owner.namespace.clone()),
            waker: cx.waker.clone(),
            until: Instant::now() + life::write_every(|time| self.clock.takes(time)),
        });
    }
}

fn of(judged: &Judged<'_>) -> (ObjectiveStatus, Option<ObjectiveFigures>) {
    (report::entry(judged), Some(report::figures(judged)))
}

/// Where the watch of this object is stored.
fn stored_name(cx: &Cx) -> String {
    let place = &cx.installation.own_namespace;
    format!("{place}/{}", stored::name(&cx.owner.uid))
}

/// Whether what was observed can be of these objectives, if it says that it is: somebody may have edited it.
fn is_about(state: &State, wanted: &Wanted) -> bool {
    state.about.digest != wanted.digest || state.store.kinds() == wanted.asked.kinds()
}

/// A watch that begins now, in the place of the former one.
fn begun(cx: &Cx, former: Option<&Watch>, about: About, wanted: &Wanted) -> Watch {
    tracing::info!(number = about.number, cause = %about.cause, "a watch begins");
    let stored = former.map(|former| former.state().stored.clone());
    if let Some(former) = former {
        former.stop();
    }
    let begin = Timestamp::from_millisecond(about.begin).unwrap_or_else(|_| cx.now());
    let clock = cx.installation.watch_clock(begin);
    let every = look_every(wanted, &clock);
    let gap_after = i64::try_from((every * 3).as_millis()).unwrap_or(i64::MAX);
    let store = evidence::begin(wanted, about.begin, gap_after);
    let watch = Watch::new(about, store, stored.unwrap_or_default());
    evidence::keep(cx, watch.clone());
    watch
}

/// The rollback that this watch has asked for, once it is decided and the watch has not begun anew for it.
fn carried_out(records: &Records, serving: &Record, about: Option<&About>) -> Option<Restored> {
    let about = about?;
    let (from, request) = request::carried_out(records)?;
    let begin = Timestamp::from_millisecond(about.begin).ok()?;
    let is_of_watch = request.time >= begin && serving.number == request.to;
    let is_new = about.after.as_ref() != Some(&request.uid);
    (is_of_watch && is_new).then(|| Restored {
        request: request.uid.clone(),
        from,
        to: request.to,
    })
}

impl Step for Objectives {
    type Observed = Observed;
    type Change = Infallible;

    fn id(&self) -> StepId {
        StepId::Objectives
    }

    /// It asks the application.
    fn reads(&self) -> u32 {
        0
    }

    async fn observe(&self, cx: &Cx) -> Result<Observed> {
        let Some(spec) = &cx.target.observe else {
            evidence::forget(cx);
            return Ok(Observed::NotRequested);
        };
        if cx.target.mode == Mode::Plan {
            return Ok(Observed::Planned);
        }
        let wanted = match Wanted::of(spec) {
            Ok(wanted) => wanted,
            Err(unusable) => return Ok(Observed::Unusable(unusable.to_string())),
        };
        match Now::of(cx, wanted).await? {
            Ok(now) => Ok(Observed::Watch(Box::new(Box::pin(now.seen()).await?))),
            Err(observed) => Ok(observed),
        }
    }

    fn diff(&self, _target: &Target, observed: &Observed, _now: Timestamp) -> Verdict<Infallible> {
        let wait = |reason, message: &str, wake| Verdict::Wait {
            why: Why::new(reason, message),
            wake,
        };
        match observed {
            Observed::NotRequested => {
                Verdict::Skipped(Why::new(Reason::NotRequested, "no `observe`"))
            }
            Observed::Planned => wait(
                Reason::Planned,
                "nothing is watched while `mode` is Plan",
                Wake::Poll,
            ),
            Observed::NotBegun => wait(
                Reason::Pending,
                "no release is on record that serves",
                Wake::Poll,
            ),
            Observed::Unusable(why) => Verdict::Blocked(
                Why::new(Reason::InvalidSpec, why).next("correct the objective in the spec"),
            ),
            Observed::Damaged(damaged, name) => Verdict::Blocked(
                Why::new(
                    Reason::WatchDamaged,
                    format!("the ConfigMap {name} does not hold a watch: {damaged}"),
                )
                .next("restore it, or delete it: then the watch begins anew"),
            ),
            Observed::Watch(seen) => seen.verdict(),
        }
    }

    fn notes(&self, _target: &Target, observed: &Observed) -> Vec<Note> {
        let Observed::Watch(seen) = observed else {
            return Vec::new();
        };
        let watch = Note::Watch(Box::new(seen.watch.clone()), seen.incidents.clone());
        let objectives = seen.objectives.iter().cloned();
        let objectives =
            objectives.map(|(entry, figures)| Note::Objective(Box::new(entry), figures));
        std::iter::once(watch).chain(objectives).collect()
    }

    async fn act(&self, _cx: &Cx, change: Infallible) -> Result<()> {
        match change {}
    }

    async fn remove(&self, cx: &Cx) -> Result<Removal> {
        evidence::forget(cx);
        stored::delete(&cx.kube, &cx.installation.own_namespace, &cx.owner.uid).await?;
        Ok(Removal::Gone)
    }
}

impl Seen {
    fn verdict(&self) -> Verdict<Infallible> {
        let until = self.watch.until.as_ref();
        let until = until.map_or_else(String::new, |time| time.0.to_string());
        let told = &self.watch.verdict;
        match self.watch.state {
            WatchState::Stabilized => Verdict::Done,
            WatchState::NotStabilized => Verdict::Blocked(Why::new(
                self.reason,
                format!("the watch has ended: {told}"),
            )),
            WatchState::Inconclusive => Verdict::Wait {
                why: Why::new(
                    self.reason,
                    format!("the watch has ended without a verdict: {told}"),
                ),
                wake: Wake::After(self.pause),
            },
            WatchState::Running => Verdict::Wait {
                why: Why::new(Reason::Watching, format!("watched until {until}")),
                wake: Wake::After(self.pause),
            },
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::slo::{Kind, Store};

    #[test]
    fn observations_of_other_kinds_than_the_objectives_are_none_of_this_watch() {
        let spec = serde_json::json!({"objectives": [
            {"name": "age", "gauge": {"metric": "age", "below": 30}},
        ]});
        let wanted = Wanted::of(&serde_json::from_value(spec).unwrap()).unwrap();
        let is = |digest: &str, kinds: Vec<Kind>| {
            let about = About::begun(life::Begin::First, None, 1_000, digest);
            let store = Store::new(1_000, kinds, 1);
            let watch = Watch::new(about, store, stored::Stored::default());
            is_about(&watch.state(), &wanted)
        };
        assert!(is(&wanted.digest, vec![Kind::Values]));
        assert!(!is(&wanted.digest, vec![Kind::Lines]));
        assert!(is("another", vec![Kind::Lines]), "then it begins anew");
    }
}
