//! What a plan says that is not carried out: it is whole from the first look, and what is approved is what
//! was seen.

use super::*;
use crate::plan::gate::{GateReport, Opening};

/// A step whose observation would be a mistake.
const fn unseen(id: StepId, needs: &'static [StepId]) -> Made {
    Made::new(id, needs, || panic!("it cannot be observed yet"))
}

/// One pass over these phases, with this gate before each of them.
async fn pass_over(
    cx: &Cx,
    memory: &mut Observations,
    phases: &'static [Phase],
    gate: Option<GateReport>,
) -> Report {
    let first = std::future::ready(Ok(()));
    let told = Told::default();
    run(cx, phases, memory, &told, |_| gate.clone(), first)
        .await
        .unwrap()
}

fn lines(report: &Report) -> Vec<String> {
    let lines = report.ahead.iter();
    lines
        .map(|ahead| format!("{} {}", ahead.phase, ahead.change))
        .collect()
}

fn gate(state: GateState, opens: Option<Vec<String>>) -> Option<GateReport> {
    Some(GateReport {
        status: crate::api::status::GateStatus {
            state,
            ..Default::default()
        },
        message: String::new(),
        opens: opens.map(|destroys| Opening {
            destroys,
            ..Opening::default()
        }),
    })
}

static APP: Made = Made {
    founds: true,
    ..Made::new(id::AFTER, &[], || Box::pin(async { Ok(Is::Wrong) }))
};
static INSIDE: Made = unseen(id::FIRST, &[id::AFTER]);
static MACHINES: Made = unseen(id::SPINS, &[]);
static CHECKS: Made = unseen(id::ONE, &[]);
static NEW: &[Phase] = &[
    Phase {
        id: PhaseName::Provision,
        steps: &[&APP, &INSIDE],
    },
    Phase {
        id: PhaseName::Deploy,
        steps: &[&MACHINES],
    },
    Phase {
        id: PhaseName::SmokeTest,
        steps: &[&CHECKS],
    },
];

const REST: [&str; 3] = [
    "Provision create Made Attach (after App)",
    "Deploy create Made Machines (after App)",
    "SmokeTest create Made EdgeChecks (after App)",
];

#[tokio::test]
async fn the_plan_of_a_new_object_is_whole_at_the_first_look_and_observes_nothing_that_cannot_be_there()
 {
    let mut planning =
        super::super::super::testing::cx(testing::target("mode: Plan"), Refs::default());
    planning.act = Act::Plan;
    let report = pass_over(&planning, &mut Observations::default(), NEW, None).await;
    assert_eq!(lines(&report), REST);
    assert!(report.unknown.is_empty());
    let app = &report.phases[0].steps[0].1;
    assert_eq!(app.changes[0].to_string(), "create Made App");

    // Behind its first gate it is the same, whatever became of the gate.
    for state in [
        GateState::Requested,
        GateState::Rejected,
        GateState::Expired,
    ] {
        let mut memory = Observations::default();
        let report = pass_over(&cx(), &mut memory, NEW, gate(state, None)).await;
        let lines = lines(&report);
        assert_eq!(lines[0], "Provision create Made App", "{state}");
        assert_eq!(lines[1..], REST, "{state}");
    }
}

#[tokio::test]
async fn a_step_that_could_not_be_observed_leaves_the_plan_open() {
    static LOST: Made = Made::new(id::SECOND, &[], || {
        Box::pin(async { Err(Error::NotKnown("the world")) })
    });
    static WRONG: Made = Made::new(id::TWO, &[], || Box::pin(async { Ok(Is::Wrong) }));
    static AFTER: Made = Made::new(id::SPINS, &[id::TWO], || {
        Box::pin(async { Err(Error::NotKnown("what is not there yet")) })
    });
    static DEPLOY: &[Phase] = &[Phase {
        id: PhaseName::Deploy,
        steps: &[&LOST, &WRONG, &AFTER],
    }];
    let waits = gate(GateState::Requested, None);
    let report = pass_over(&cx(), &mut Observations::default(), DEPLOY, waits).await;
    assert_eq!(report.unknown, [id::SECOND]);
    assert_eq!(
        lines(&report),
        [
            "Deploy create Made ReleaseCommand",
            "Deploy create Made Machines (after ReleaseCommand)",
        ]
    );
}

#[tokio::test]
async fn what_nobody_has_seen_is_not_destroyed_when_a_gate_opens() {
    static ACTED: AtomicBool = AtomicBool::new(false);
    static DESTROYS: Made = Made {
        act: || ACTED.store(true, SeqCst),
        verb: ChangeVerb::Destroy,
        ..Made::new(id::SPINS, &[], || {
            Box::pin(async {
                Ok(match ACTED.load(SeqCst) {
                    true => Is::Done,
                    false => Is::Wrong,
                })
            })
        })
    };
    static DEPLOY: &[Phase] = &[Phase {
        id: PhaseName::Deploy,
        steps: &[&DESTROYS],
    }];
    let opens = |seen: &[&str]| {
        let seen = seen.iter().map(|entry| (*entry).to_owned());
        gate(GateState::Approved, Some(seen.collect()))
    };
    let mut memory = Observations::default();
    let report = pass_over(&cx(), &mut memory, DEPLOY, opens(&["Made other"])).await;
    let deploy = &report.phases[0];
    assert_eq!(deploy.progress, PhaseProgress::AwaitingApproval);
    let asks = deploy.gate.as_ref().unwrap();
    assert_eq!(asks.status.state, GateState::Requested);
    assert!(asks.message.contains("Made Machines"), "{}", asks.message);
    assert!(!ACTED.load(SeqCst));
    assert_eq!(lines(&report), ["Deploy destroy Made Machines"]);

    let report = pass_over(&cx(), &mut memory, DEPLOY, opens(&["Made Machines"])).await;
    assert_eq!(report.phases[0].progress, PhaseProgress::Succeeded);
    assert!(ACTED.load(SeqCst));
}

#[tokio::test]
async fn a_gate_does_not_open_while_it_cannot_be_observed_what_would_be_destroyed() {
    static SEEN: AtomicBool = AtomicBool::new(false);
    static LOST: Made = Made {
        verb: ChangeVerb::Destroy,
        ..Made::new(id::SPINS, &[id::TWO], || {
            Box::pin(async {
                match SEEN.load(SeqCst) {
                    true => Ok(Is::Done),
                    false => Err(Error::Awaited("Fly.io".to_owned())),
                }
            })
        })
    };
    static WRONG: Made = Made::new(id::TWO, &[], || Box::pin(async { Ok(Is::Done) }));
    static DEPLOY: &[Phase] = &[Phase {
        id: PhaseName::Deploy,
        steps: &[&WRONG, &LOST],
    }];
    let opens = || gate(GateState::Approved, Some(Vec::new()));
    let mut memory = Observations::default();
    for tries in 1..3 {
        let report = pass_over(&cx(), &mut memory, DEPLOY, opens()).await;
        let deploy = &report.phases[0];
        assert_eq!(deploy.progress, PhaseProgress::AwaitingApproval);
        let message = &deploy.gate.as_ref().unwrap().message;
        assert!(message.contains("what Machines would do"), "{message}");
        assert_eq!(report.unknown, [id::SPINS]);
        assert_eq!(memory.preview.as_ref().unwrap().tries, tries);
    }
    let due = preview::due(&memory).unwrap();
    assert!(
        due <= cx().installation.timing.recheck,
        "it is looked at again"
    );

    SEEN.store(true, SeqCst);
    let report = pass_over(&cx(), &mut memory, DEPLOY, opens()).await;
    assert_eq!(report.phases[0].progress, PhaseProgress::Succeeded);
}

#[tokio::test]
async fn a_step_that_could_not_be_observed_is_unknown_though_it_needs_one_that_plans() {
    static WRONG: Made = Made::new(id::TWO, &[], || Box::pin(async { Ok(Is::Wrong) }));
    static LOST: Made = Made::new(id::SPINS, &[id::TWO], || {
        Box::pin(async { Err(Error::Crowded) })
    });
    static DEPLOY: &[Phase] = &[Phase {
        id: PhaseName::Deploy,
        steps: &[&WRONG, &LOST],
    }];
    let waits = gate(GateState::Requested, None);
    let mut memory = Observations::default();
    let report = pass_over(&cx(), &mut memory, DEPLOY, waits).await;
    assert_eq!(report.unknown, [id::SPINS]);
    assert_eq!(lines(&report), ["Deploy create Made ReleaseCommand"]);
    assert!(preview::due(&memory).is_some());
}
