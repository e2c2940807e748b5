//! The engine with steps that are made up here: what runs when, and what is left alone.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::{Barrier, Notify};

use super::*;
use crate::{
    api::Reason,
    error::Error,
    fly,
    phase::PHASES,
    pipeline::{
        Act, ChangeVerb, Fence, PlannedChange, Step, StepChange, Timing, Verdict, Wake, Why,
        advance::BoxFuture,
        announce::Announced,
        recheck,
        record::State,
        verdict::{Result, Slot},
    },
    plan::{Target, refs::Refs, testing},
};

/// Longest time that anything here takes, on a busy computer too.
const LIMIT: Duration = Duration::from_secs(30);

/// The made-up steps borrow the names of real ones.
mod id {
    use super::StepId;
    use crate::api::preflight::CheckName;

    pub const AFTER: StepId = StepId::App;
    pub const ALSO: StepId = StepId::AppToken;
    pub const DONE: StepId = StepId::Certificates;
    pub const FAILS: StepId = StepId::Postgres;
    pub const FIRST: StepId = StepId::Attach;
    pub const FREE: StepId = StepId::Redis;
    pub const NEEDS_FREE: StepId = StepId::Secrets;
    pub const NEEDS_ONE: StepId = StepId::Image;
    pub const NEEDS_THREE: StepId = StepId::Rollback;
    pub const NEEDS_TWO: StepId = StepId::FlyRelease;
    pub const ONE: StepId = StepId::EdgeChecks;
    pub const SECOND: StepId = StepId::SeedCommand;
    pub const SLOW: StepId = StepId::Volumes;
    pub const SPINS: StepId = StepId::Machines;
    pub const STOPPED: StepId = StepId::Health;
    pub const THEN: StepId = StepId::Release;
    pub const TWO: StepId = StepId::ReleaseCommand;
    pub const WAITS: StepId = StepId::DatabaseCheck;
    pub const WRONG: StepId = StepId::Check(CheckName::TokenValid);
    pub const STEP: StepId = StepId::Check(CheckName::TokenScope);
}

/// What a step finds.
enum Is {
    Done,
    Holds,
    Waits,
    /// What this step made is lost.
    Lost(StepId),
    Stopped,
    Wrong,
}

/// A step that is made up.
struct Made {
    id: StepId,
    needs: &'static [StepId],
    observe: fn() -> BoxFuture<'static, Result<Is>>,
    act: fn(),
    /// Its create is announced; `true`: and expected.
    slot: Option<bool>,
    /// What its change does.
    verb: ChangeVerb,
    /// Everything else is inside of what it makes.
    founds: bool,
}

impl Made {
    const fn new(
        id: StepId,
        needs: &'static [StepId],
        observe: fn() -> BoxFuture<'static, Result<Is>>,
    ) -> Self {
        Self {
            id,
            needs,
            observe,
            act: || (),
            slot: None,
            verb: ChangeVerb::Create,
            founds: false,
        }
    }

    fn announced(&self) -> Slot {
        Slot {
            kind: "Made".to_owned(),
            name: self.id.to_string(),
        }
    }
}

/// Writes nothing, and remembers what it was to announce.
#[derive(Default)]
struct Told {
    announced: Mutex<Vec<Vec<String>>>,
    /// What a write waits for.
    until: Option<&'static Notify>,
    fails: bool,
}

impl Told {
    fn announced(&self) -> Vec<Vec<String>> {
        self.announced.lock().unwrap().clone()
    }
}

impl Announcer for Told {
    fn announce(&self, report: Report, intents: Announced) -> BoxFuture<'_, Announced> {
        assert_eq!(report.phases.len(), PHASES.len());
        let names = intents.iter().map(|told| told.slot.name.clone()).collect();
        self.announced.lock().unwrap().push(names);
        Box::pin(async {
            if let Some(until) = self.until {
                until.notified().await;
            }
            if self.fails { Vec::new() } else { intents }
        })
    }
}

/// The change of every made-up step.
struct PutRight(ChangeVerb, StepId);

impl std::fmt::Display for PutRight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("put it right")
    }
}

impl StepChange for PutRight {
    fn planned(&self) -> Vec<PlannedChange> {
        vec![PlannedChange::new(self.0, "Made", self.1.as_str())]
    }
}

impl Step for Made {
    type Observed = Is;
    type Change = PutRight;

    fn id(&self) -> StepId {
        self.id
    }

    fn needs(&self) -> &'static [StepId] {
        self.needs
    }

    async fn observe(&self, _cx: &Cx) -> Result<Is> {
        (self.observe)().await
    }

    fn diff(&self, _target: &Target, observed: &Is, _now: Timestamp) -> Verdict<PutRight> {
        match observed {
            Is::Done => Verdict::Done,
            Is::Holds => Verdict::Holds(LIMIT),
            Is::Waits => Verdict::Wait {
                why: Why::new(Reason::MachineStarting, "it starts"),
                wake: Wake::Poll,
            },
            Is::Lost(step) => Verdict::Wait {
                why: Why::new(Reason::MachineStarting, "it is lost"),
                wake: Wake::Earlier {
                    step: *step,
                    pause: LIMIT,
                },
            },
            Is::Stopped => Verdict::Blocked(Why::new(Reason::FlyRefused, "it may not")),
            Is::Wrong => Verdict::Change(PutRight(self.verb, self.id)),
        }
    }

    fn expected_creates(&self, _cx: &Cx) -> Vec<Slot> {
        let expected = self.slot == Some(true);
        expected.then(|| self.announced()).into_iter().collect()
    }

    fn expected(&self, _cx: &Cx) -> Vec<PlannedChange> {
        PutRight(self.verb, self.id).planned()
    }

    fn is_foundation(&self) -> bool {
        self.founds
    }

    fn intent(&self, _target: &Target, _change: &PutRight) -> Option<Slot> {
        self.slot.map(|_| self.announced())
    }

    async fn act(&self, _cx: &Cx, _change: PutRight) -> Result<()> {
        (self.act)();
        Ok(())
    }
}

fn cx() -> Cx {
    super::super::testing::cx(testing::target(""), Refs::default())
}

/// Runs these steps as one phase, once, and says where each of them stands.
async fn pass(
    cx: &Cx,
    memory: &mut Observations,
    fired: &[StepId],
    steps: &'static [&'static dyn AnyStep],
) -> Vec<State> {
    told_pass(cx, memory, fired, steps, &Told::default()).await
}

/// The same, with this one to announce creates.
async fn told_pass(
    cx: &Cx,
    memory: &mut Observations,
    fired: &[StepId],
    steps: &'static [&'static dyn AnyStep],
    announcer: &dyn Announcer,
) -> Vec<State> {
    let phase = Phase {
        id: PhaseName::Provision,
        steps,
    };
    let mut pass = Runner {
        cx,
        phases: PHASES,
        announcements: Announcements::new(announcer, &cx.intents),
        stamp: "digest".to_owned(),
        fired: fired.iter().copied().collect(),
        allowed: None,
        dirty: false,
        sent: Vec::new(),
    };
    let steps_of = [phase];
    expect_creates(cx, &steps_of, &|_| None);
    let [phase] = steps_of;
    let running = Running {
        phase: &phase,
        earlier: &[],
        gate: None,
        cx,
    };
    let ran = tokio::time::timeout(LIMIT, pass.steps(running, memory)).await;
    assert!(
        ran.is_ok(),
        "the pass does not end: steps wait for each other"
    );
    let steps = remembered(&phase, memory, "digest").into_iter();
    steps.map(|(_, record)| record.state).collect()
}

#[tokio::test]
async fn steps_whose_needs_are_met_run_at_the_same_time() {
    static BOTH: std::sync::LazyLock<Barrier> = std::sync::LazyLock::new(|| Barrier::new(2));
    static ONE: Made = Made::new(id::ONE, &[], || {
        Box::pin(async {
            BOTH.wait().await;
            Ok(Is::Done)
        })
    });
    static TWO: Made = Made::new(id::TWO, &[], || {
        Box::pin(async {
            BOTH.wait().await;
            Ok(Is::Done)
        })
    });

    static ALL: &[&dyn AnyStep] = &[&ONE, &TWO];
    let states = pass(&cx(), &mut Observations::default(), &[], ALL).await;

    assert_eq!(states, [State::Done, State::Done]);
}

#[tokio::test]
async fn a_slow_step_holds_back_what_needs_it_and_nothing_else() {
    static ENDED: Mutex<Vec<StepId>> = Mutex::new(Vec::new());
    static LAST: Notify = Notify::const_new();
    // It ends only when the chain beside it has ended.
    static SLOW: Made = Made::new(id::SLOW, &[], || {
        Box::pin(async {
            LAST.notified().await;
            ENDED.lock().unwrap().push(id::SLOW);
            Ok(Is::Done)
        })
    });
    static FIRST: Made = Made::new(id::FIRST, &[], || {
        Box::pin(async {
            ENDED.lock().unwrap().push(id::FIRST);
            Ok(Is::Done)
        })
    });
    static SECOND: Made = Made::new(id::SECOND, &[id::FIRST], || {
        Box::pin(async {
            ENDED.lock().unwrap().push(id::SECOND);
            LAST.notify_one();
            Ok(Is::Done)
        })
    });
    static AFTER: Made = Made::new(id::AFTER, &[id::SLOW, id::SECOND], || {
        Box::pin(async {
            ENDED.lock().unwrap().push(id::AFTER);
            Ok(Is::Done)
        })
    });

    let mut memory = Observations::default();
    static ALL: &[&dyn AnyStep] = &[&SLOW, &FIRST, &SECOND, &AFTER];
    let states = pass(&cx(), &mut memory, &[], ALL).await;

    assert!(states.iter().all(|state| *state == State::Done));
    assert_eq!(
        *ENDED.lock().unwrap(),
        [id::FIRST, id::SECOND, id::SLOW, id::AFTER]
    );
}

#[tokio::test]
async fn steps_that_fail_wait_or_are_stopped_hold_only_what_needs_them() {
    static REACHED: AtomicBool = AtomicBool::new(false);
    static FAILS: Made = Made::new(id::FAILS, &[], || {
        Box::pin(async { Err(Error::NotKnown("the app")) })
    });
    static WAITS: Made = Made::new(id::WAITS, &[], || Box::pin(async { Ok(Is::Waits) }));
    static STOPPED: Made = Made::new(id::STOPPED, &[], || Box::pin(async { Ok(Is::Stopped) }));
    fn reached() -> BoxFuture<'static, Result<Is>> {
        REACHED.store(true, SeqCst);
        Box::pin(async { Ok(Is::Done) })
    }
    static NEEDS_ONE: Made = Made::new(id::NEEDS_ONE, &[id::FAILS], reached);
    static NEEDS_TWO: Made = Made::new(id::NEEDS_TWO, &[id::FREE, id::WAITS], reached);
    static NEEDS_THREE: Made = Made::new(id::NEEDS_THREE, &[id::STOPPED], reached);
    static FREE: Made = Made::new(id::FREE, &[], || Box::pin(async { Ok(Is::Done) }));
    static NEEDS_FREE: Made = Made::new(id::NEEDS_FREE, &[id::FREE], || {
        Box::pin(async { Ok(Is::Done) })
    });
    static ALL: &[&dyn AnyStep] = &[
        &FAILS,
        &WAITS,
        &STOPPED,
        &FREE,
        &NEEDS_ONE,
        &NEEDS_TWO,
        &NEEDS_THREE,
        &NEEDS_FREE,
    ];

    let states = pass(&cx(), &mut Observations::default(), &[], ALL).await;

    assert!(!REACHED.load(SeqCst), "a step ran without what it needs");
    assert_eq!(
        states,
        [
            State::Retrying { observing: true },
            State::Waiting,
            State::Blocked,
            State::Done,
            State::Pending,
            State::Pending,
            State::Pending,
            State::Done,
        ]
    );
}

#[tokio::test]
async fn what_holds_is_not_looked_at_again_until_it_is_due_or_its_wait_has_ended() {
    static LOOKS: Mutex<Vec<StepId>> = Mutex::new(Vec::new());
    static DONE: Made = Made::new(id::DONE, &[], || {
        LOOKS.lock().unwrap().push(id::DONE);
        Box::pin(async { Ok(Is::Done) })
    });
    static WAITS: Made = Made::new(id::WAITS, &[id::DONE], || {
        LOOKS.lock().unwrap().push(id::WAITS);
        Box::pin(async { Ok(Is::Waits) })
    });
    static ALL: &[&dyn AnyStep] = &[&DONE, &WAITS];
    let (cx, mut memory) = (cx(), Observations::default());
    let looks = || std::mem::take(&mut *LOOKS.lock().unwrap());

    pass(&cx, &mut memory, &[], ALL).await;
    assert_eq!(looks(), [id::DONE, id::WAITS]);
    pass(&cx, &mut memory, &[], ALL).await;
    assert!(looks().is_empty());
    pass(&cx, &mut memory, &[id::WAITS], ALL).await;
    assert_eq!(looks(), [id::WAITS]);
    memory.steps.get_mut(&id::DONE).unwrap().again = Some(Instant::now());
    pass(&cx, &mut memory, &[], ALL).await;
    assert_eq!(looks(), [id::DONE]);
}

#[tokio::test]
async fn what_depends_on_a_change_is_looked_at_again_in_the_same_pass() {
    static WRONG: AtomicBool = AtomicBool::new(false);
    static LOOKS: Mutex<u32> = Mutex::new(0);
    static FIRST: Made = Made {
        act: || WRONG.store(false, SeqCst),
        ..Made::new(id::FIRST, &[], || {
            Box::pin(async {
                Ok(if WRONG.load(SeqCst) {
                    Is::Wrong
                } else {
                    Is::Done
                })
            })
        })
    };
    static AFTER: Made = Made::new(id::AFTER, &[id::FIRST], || {
        *LOOKS.lock().unwrap() += 1;
        Box::pin(async { Ok(Is::Done) })
    });
    static ALL: &[&dyn AnyStep] = &[&FIRST, &AFTER];
    let (cx, mut memory) = (cx(), Observations::default());
    pass(&cx, &mut memory, &[], ALL).await;

    WRONG.store(true, SeqCst);
    let states = pass(&cx, &mut memory, &[id::FIRST], ALL).await;

    assert_eq!(states, [State::Done, State::Done]);
    assert_eq!(*LOOKS.lock().unwrap(), 2);
}

#[tokio::test]
async fn a_change_without_effect_is_not_sent_for_ever() {
    static SENT: Mutex<usize> = Mutex::new(0);
    static SPINS: Made = Made {
        act: || *SENT.lock().unwrap() += 1,
        ..Made::new(id::SPINS, &[], || Box::pin(async { Ok(Is::Wrong) }))
    };

    static ALL: &[&dyn AnyStep] = &[&SPINS];
    let states = pass(&cx(), &mut Observations::default(), &[], ALL).await;

    assert_eq!(states, [State::Waiting]);
    assert!(*SENT.lock().unwrap() <= 12);
}

#[tokio::test]
async fn a_closed_fence_lets_no_change_begin() {
    static ACTED: AtomicBool = AtomicBool::new(false);
    static WRONG: Made = Made {
        act: || ACTED.store(true, SeqCst),
        ..Made::new(id::WRONG, &[], || Box::pin(async { Ok(Is::Wrong) }))
    };
    let cx = Cx {
        fence: Fence::new(|| false),
        ..cx()
    };

    let mut memory = Observations::default();
    static ALL: &[&dyn AnyStep] = &[&WRONG];
    let states = pass(&cx, &mut memory, &[], ALL).await;

    assert_eq!(states, [State::Waiting]);
    assert_eq!(memory.steps[&id::WRONG].reason, Reason::NotLeading);
    assert!(!ACTED.load(SeqCst));
}

/// A live object whose steps are all due, the later ones looked at longer ago.
fn settled(digest: &str) -> Observations {
    let mut memory = Observations::default();
    let steps: Vec<_> = PHASES.iter().flat_map(|phase| phase.steps).collect();
    let now = Instant::now();
    for (at, step) in steps.iter().enumerate() {
        let ago = Duration::from_millis(at.try_into().unwrap());
        let mut record = StepRecord::pending(digest);
        record.state = State::Done;
        record.observed_at = now.checked_sub(ago).unwrap();
        record.again = step.rechecked().then_some(now);
        memory.steps.insert(step.id(), record);
    }
    memory
}

fn earliest(memory: &Observations) -> Instant {
    memory
        .steps
        .values()
        .filter_map(|step| step.again)
        .min()
        .unwrap()
}

/// All phases as they are remembered, the first of them done and those after it not reached.
fn stuck(memory: &Observations, state: PhaseProgress) -> Report {
    let reports = PHASES.iter().zip(0..).map(|(phase, at)| PhaseReport {
        id: phase.id,
        progress: match at {
            0 => PhaseProgress::Succeeded,
            1 => state,
            _ => PhaseProgress::Pending,
        },
        gate: None,
        steps: remembered(phase, memory, "digest"),
    });
    Report {
        sent: Vec::new(),
        phases: reports.collect(),
        ahead: Vec::new(),
        unknown: Vec::new(),
    }
}

#[test]
fn what_is_due_in_a_phase_that_is_not_reached_makes_no_look_at_once() {
    let timing = Timing::default();
    let mut memory = settled("digest");
    let later = Instant::now() + timing.recheck;
    for phase in PHASES.iter().take(2) {
        for step in phase.steps {
            memory.steps.get_mut(&step.id()).unwrap().again = Some(later);
        }
    }
    for state in [
        PhaseProgress::Failed,
        PhaseProgress::Running,
        PhaseProgress::Planned,
    ] {
        let next = recheck::next(&stuck(&memory, state), &memory, &timing);
        assert!(next > timing.recheck / 2, "{state:?}: {next:?}");
    }
    let first = PHASES[1].steps[0].id();
    memory.steps.get_mut(&first).unwrap().again = Some(Instant::now());
    for state in [PhaseProgress::AwaitingApproval, PhaseProgress::Rejected] {
        let next = recheck::next(&stuck(&memory, state), &memory, &timing);
        assert!(next > timing.recheck / 2, "{state:?}: {next:?}");
    }
    let reached = stuck(&memory, PhaseProgress::Failed);
    assert!(recheck::next(&reached, &memory, &timing) < timing.recheck / 2);
}

#[test]
fn a_recheck_of_what_is_live_spends_three_reads_and_reaches_every_step_in_its_turn() {
    let mut memory = settled("digest");
    let due: BTreeSet<StepId> = memory
        .steps
        .iter()
        .filter(|(_, record)| record.again.is_some())
        .map(|(id, _)| *id)
        .collect();
    let mut reached = BTreeSet::new();
    for _ in 0..due.len() {
        let chosen = recheck::choose(PHASES, &mut memory, "digest", &Timing::default()).unwrap();
        let steps = PHASES.iter().flat_map(|phase| phase.steps);
        let chosen_steps: Vec<_> = steps.filter(|step| chosen.contains(&step.id())).collect();
        let overview = chosen_steps.iter().any(|step| step.reads_overview());
        let own: u32 = chosen_steps.iter().map(|step| step.reads()).sum();
        let reads = own + u32::from(overview);
        assert!(reads <= recheck::RECHECK_READS, "{reads} reads: {chosen:?}");
        assert!(
            chosen.contains(&StepId::Verify),
            "machines are looked at each time"
        );
        let shared = PHASES.iter().flat_map(|phase| phase.steps);
        for step in shared.filter(|step| step.reads_overview()) {
            assert!(chosen.contains(&step.id()), "{} is looked at", step.id());
        }
        let now = Instant::now();
        let next = earliest(&memory);
        for id in &chosen {
            let record = memory.steps.get_mut(id).unwrap();
            (record.observed_at, record.again) = (now, Some(next + Timing::default().recheck));
        }
        // Nothing is due before the next re-check, which comes an interval later.
        let waits = earliest(&memory).saturating_duration_since(now);
        assert!(waits > Timing::default().recheck / 2, "{waits:?}");
        for id in &due {
            memory.steps.get_mut(id).unwrap().again = Some(now);
        }
        reached.extend(chosen);
    }
    assert_eq!(reached, due);
}

#[test]
fn what_is_not_settled_has_no_limit_of_reads() {
    let mut memory = settled("digest");
    let timing = Timing::default();
    assert_eq!(
        recheck::choose(PHASES, &mut memory, "another digest", &timing),
        None
    );
    memory.steps.values_mut().next().unwrap().state = State::Waiting;
    assert_eq!(
        recheck::choose(PHASES, &mut memory, "digest", &timing),
        None
    );
}

#[test]
fn a_phase_is_stopped_before_it_waits_and_done_when_all_its_steps_are() {
    let of = |states: &[State]| {
        let steps: Vec<(StepId, StepRecord)> = states
            .iter()
            .map(|state| {
                let mut record = StepRecord::pending("digest");
                record.state = state.clone();
                (id::STEP, record)
            })
            .collect();
        phase_progress(&steps)
    };
    use State::{Blocked, Done, Pending, Planned, Skipped, Waiting};
    assert_eq!(of(&[Done, Skipped]), PhaseProgress::Succeeded);
    assert_eq!(of(&[Done, Waiting, Pending]), PhaseProgress::Running);
    assert_eq!(of(&[Waiting, Blocked, Planned]), PhaseProgress::Failed);
    assert_eq!(of(&[Planned, Pending]), PhaseProgress::Planned);
}

#[test]
fn what_was_looked_at_at_different_times_shares_one_recheck_an_interval() {
    let timing = Timing::default();
    let mut memory = settled("digest");
    let now = Instant::now();
    let mut records = memory.steps.values_mut().filter(|r| r.again.is_some());
    records.next().unwrap().again = Some(now);
    for record in records {
        record.again = Some(now + timing.recheck / 2);
    }

    let chosen = recheck::choose(PHASES, &mut memory, "digest", &timing).unwrap();

    assert!(chosen.contains(&StepId::Verify), "{chosen:?}");
    // What comes after Go-Live keeps its own times.
    let before = PHASES.iter().filter(|phase| phase.id.before_live());
    let others = before.flat_map(|phase| phase.steps).map(|step| step.id());
    let others = others.filter(|id| !chosen.contains(id));
    for again in others.filter_map(|id| memory.steps.get(&id)?.again) {
        assert!(again >= now + timing.recheck);
    }
}

#[test]
fn what_holds_for_a_moment_is_looked_at_when_that_is_over_and_nothing_else_with_it() {
    let timing = Timing::default();
    let mut memory = settled("digest");
    let now = Instant::now();
    for record in memory.steps.values_mut().filter(|r| r.again.is_some()) {
        record.again = Some(now + timing.recheck / 2);
    }
    let addresses = memory.steps.get_mut(&StepId::Addresses).unwrap();
    (addresses.again, addresses.holds) = (Some(now), true);

    let chosen = recheck::choose(PHASES, &mut memory, "digest", &timing).unwrap();

    assert_eq!(chosen, BTreeSet::from([StepId::Addresses]));
    let verify = memory.steps[&StepId::Verify].again.unwrap();
    assert_eq!(verify, now + timing.recheck / 2);
}

mod ahead;
mod announced;
mod kept;
mod looks;
mod overview;
