//! What changes with the right to act, and tables that lack the needs of their steps.

use super::*;
use crate::api::status::{GateState, GateStatus};

#[tokio::test]
async fn what_was_planned_is_done_as_soon_as_changes_are_allowed() {
    static RIGHT: AtomicBool = AtomicBool::new(false);
    static ONCE: Made = Made {
        act: || RIGHT.store(true, SeqCst),
        ..Made::new(id::STEP, &[], || {
            Box::pin(async {
                Ok(match RIGHT.load(SeqCst) {
                    true => Is::Done,
                    false => Is::Wrong,
                })
            })
        })
    };
    static STEPS: &[&dyn AnyStep] = &[&ONCE];
    let mut memory = Observations::default();
    let plan = Cx {
        act: Act::Plan,
        ..cx()
    };
    assert_eq!(pass(&plan, &mut memory, &[], STEPS).await, [State::Planned]);
    assert_eq!(pass(&cx(), &mut memory, &[], STEPS).await, [State::Done]);
}

#[tokio::test]
async fn a_need_that_the_table_lacks_holds_up_nothing() {
    static NEEDY: Made = Made::new(id::SECOND, &[id::FIRST], || {
        Box::pin(async { Ok(Is::Done) })
    });
    static STEPS: &[&dyn AnyStep] = &[&NEEDY];
    let mut memory = Observations::default();
    assert_eq!(pass(&cx(), &mut memory, &[], STEPS).await, [State::Done]);
}

#[tokio::test]
async fn whichever_step_meets_a_refused_token_says_how_a_new_one_is_stored() {
    static REFUSED: Made = Made::new(id::STEP, &[], || {
        Box::pin(async {
            let refused = fly::Error::of_refused_token();
            Err(Error::fly("list the regions", refused))
        })
    });
    static STEPS: &[&dyn AnyStep] = &[&REFUSED];
    let mut memory = Observations::default();
    assert_eq!(pass(&cx(), &mut memory, &[], STEPS).await, [State::Blocked]);
    let record = &memory.steps[&id::STEP];
    let command = "create secret generic fly --from-literal=token=\"$(fly tokens create org ";
    assert!(record.action.contains(command), "{record:?}");
    assert!(record.message.ends_with(&record.action), "{record:?}");
    assert!(record.message.contains("answered 401"), "{record:?}");
}

#[tokio::test]
async fn a_gate_is_not_asked_about_a_plan_that_changes_nothing() {
    static WRONG: AtomicBool = AtomicBool::new(false);
    static LOST: AtomicBool = AtomicBool::new(false);
    static BEHIND: Made = Made::new(id::STEP, &[], || {
        Box::pin(async {
            match (WRONG.load(SeqCst), LOST.load(SeqCst)) {
                (_, true) => Err(Error::NotKnown("the world")),
                (true, _) => Ok(Is::Wrong),
                (false, _) => Ok(Is::Done),
            }
        })
    });
    static STEPS: &[&dyn AnyStep] = &[&BEHIND];
    static DEPLOY: &[Phase] = &[Phase {
        id: PhaseName::Deploy,
        steps: STEPS,
    }];
    static SMOKE_TEST: &[Phase] = &[Phase {
        id: PhaseName::SmokeTest,
        steps: STEPS,
    }];
    async fn progress(phases: &'static [Phase], state: GateState) -> (PhaseProgress, bool) {
        pass_of((cx(), &mut Observations::default()), phases, state).await
    }
    use PhaseProgress::{AwaitingApproval, Planned, Rejected, Succeeded};
    let asked = GateState::Requested;
    assert_eq!(progress(DEPLOY, asked).await, (Succeeded, false));
    assert_eq!(
        progress(DEPLOY, GateState::Pending).await,
        (Succeeded, false)
    );
    // Nobody had to answer.
    let late = progress(DEPLOY, GateState::Expired).await;
    assert_eq!(late, (Succeeded, false));
    // Who rejected it is not passed over, and what a check would find is not known.
    assert_eq!(
        progress(DEPLOY, GateState::Rejected).await,
        (Rejected, true)
    );
    assert_eq!(progress(SMOKE_TEST, asked).await, (AwaitingApproval, true));
    let mut memory = Observations::default();
    let found = pass_of((cx(), &mut memory), DEPLOY, asked).await;
    assert_eq!(found, (Succeeded, false));
    LOST.store(true, SeqCst);
    assert_eq!(progress(DEPLOY, asked).await, (AwaitingApproval, true));
    LOST.store(false, SeqCst);
    WRONG.store(true, SeqCst);
    // It was well for this plan, and another try is requested of it.
    let mut again = cx();
    let target = Arc::make_mut(&mut again.target);
    target.retry.insert("again".to_owned());
    let found = pass_of((again, &mut memory), DEPLOY, asked).await;
    assert_eq!(found, (AwaitingApproval, true));
    assert_eq!(progress(DEPLOY, asked).await, (AwaitingApproval, true));
    assert_eq!(progress(DEPLOY, GateState::Pending).await, (Planned, true));
    let late = progress(DEPLOY, GateState::Expired).await;
    assert_eq!(late, (Rejected, true));
}

/// One pass over the phases whose gates are in this state: the progress of the first, and whether its gate is
/// reported.
async fn pass_of(
    (cx, memory): (Cx, &mut Observations),
    phases: &'static [Phase],
    state: GateState,
) -> (PhaseProgress, bool) {
    let gate = |_| {
        Some(GateReport {
            status: GateStatus {
                state,
                ..GateStatus::default()
            },
            message: String::new(),
            opens: None,
        })
    };
    let first = std::future::ready(Ok(()));
    let report = run(&cx, phases, memory, &Told::default(), gate, first).await;
    let phase = report.unwrap().phases.remove(0);
    (phase.progress, phase.gate.is_some())
}

#[tokio::test]
async fn a_change_that_comes_up_behind_a_gate_that_nobody_was_asked_at_is_not_made_unasked() {
    static WRONG: AtomicBool = AtomicBool::new(false);
    static ACTED: AtomicBool = AtomicBool::new(false);
    static BEHIND: Made = Made {
        act: || ACTED.store(true, SeqCst),
        ..Made::new(id::STEP, &[], || {
            Box::pin(async {
                Ok(match WRONG.load(SeqCst) {
                    true => Is::Wrong,
                    false => Is::Done,
                })
            })
        })
    };
    static STEPS: &[&dyn AnyStep] = &[&BEHIND];
    static DEPLOY: &[Phase] = &[Phase {
        id: PhaseName::Deploy,
        steps: STEPS,
    }];
    let mut memory = Observations::default();
    let asked = GateState::Requested;
    let found = pass_of((cx(), &mut memory), DEPLOY, asked).await;
    assert_eq!(found, (PhaseProgress::Succeeded, false));

    // The same plan; the step is due again, and the preview is not.
    WRONG.store(true, SeqCst);
    memory.steps.clear();
    let found = pass_of((cx(), &mut memory), DEPLOY, asked).await;

    assert_eq!(found, (PhaseProgress::AwaitingApproval, true));
    assert!(!ACTED.load(SeqCst));
    let preview = memory.preview.as_ref().unwrap();
    assert_eq!(preview.changes.len(), 1, "it is what the gate asks about");
}

#[tokio::test]
async fn a_gate_is_not_asked_because_a_step_holds_or_could_not_be_observed_once() {
    static LOST: AtomicBool = AtomicBool::new(true);
    static HOLDS: Made = Made::new(id::STEP, &[], || {
        Box::pin(async {
            match LOST.load(SeqCst) {
                true => Err(Error::NotKnown("the world")),
                false => Ok(Is::Holds),
            }
        })
    });
    static STEPS: &[&dyn AnyStep] = &[&HOLDS];
    static DEPLOY: &[Phase] = &[Phase {
        id: PhaseName::Deploy,
        steps: STEPS,
    }];
    let mut memory = Observations::default();
    let asked = GateState::Requested;
    let found = pass_of((cx(), &mut memory), DEPLOY, asked).await;
    assert_eq!(found, (PhaseProgress::AwaitingApproval, true));
    let pause = memory.preview.as_ref().unwrap().again - Instant::now();
    assert!(pause < Timing::default().recheck, "{pause:?}");

    LOST.store(false, SeqCst);
    memory.preview.as_mut().unwrap().again = Instant::now();
    let found = pass_of((cx(), &mut memory), DEPLOY, asked).await;
    assert_eq!(found, (PhaseProgress::Succeeded, false));
}
