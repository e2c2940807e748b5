//! Creates are announced in one write before they are sent.

use super::*;

#[tokio::test]
async fn one_write_announces_what_all_steps_are_about_to_create_and_then_each_creates() {
    static THERE: [AtomicBool; 2] = [const { AtomicBool::new(false) }; 2];
    fn is(there: &AtomicBool) -> Is {
        if there.load(SeqCst) {
            Is::Done
        } else {
            Is::Wrong
        }
    }
    static ONE: Made = Made {
        slot: Some(false),
        act: || THERE[0].store(true, SeqCst),
        ..Made::new(id::ONE, &[], || Box::pin(async { Ok(is(&THERE[0])) }))
    };
    // It looks longer than the other.
    static TWO: Made = Made {
        slot: Some(false),
        act: || THERE[1].store(true, SeqCst),
        ..Made::new(id::TWO, &[], || {
            Box::pin(async {
                for _ in 0..20 {
                    tokio::task::yield_now().await;
                }
                Ok(is(&THERE[1]))
            })
        })
    };
    static ALL: &[&dyn AnyStep] = &[&ONE, &TWO];
    let announcer = Told::default();

    let states = told_pass(&cx(), &mut Observations::default(), &[], ALL, &announcer).await;

    assert_eq!(states, [State::Done, State::Done]);
    assert_eq!(
        announcer.announced(),
        [[id::ONE.as_str(), id::TWO.as_str()]]
    );
}

#[tokio::test]
async fn what_could_not_be_announced_is_not_created() {
    static WRONG: Made = Made {
        slot: Some(false),
        act: || panic!("it was created"),
        ..Made::new(id::WRONG, &[], || Box::pin(async { Ok(Is::Wrong) }))
    };
    static ALSO: Made = Made {
        slot: Some(true),
        act: || panic!("it was created"),
        ..Made::new(id::ALSO, &[], || Box::pin(async { Ok(Is::Wrong) }))
    };
    static ALL: &[&dyn AnyStep] = &[&WRONG, &ALSO];
    let announcer = Told {
        fails: true,
        ..Told::default()
    };
    let cx = cx();

    let states = told_pass(&cx, &mut Observations::default(), &[], ALL, &announcer).await;

    assert_eq!(states, [State::Running, State::Running]);
    assert_eq!(announcer.announced().len(), 1, "it was tried again");
    assert!(cx.intents.to_announce(), "the end of the pass tries again");
}

#[tokio::test]
async fn what_is_foreseen_is_announced_while_earlier_steps_work_and_not_created_before() {
    static WRITTEN: Notify = Notify::const_new();
    static EARLIER: AtomicBool = AtomicBool::new(false);
    static THERE: AtomicBool = AtomicBool::new(false);
    static FIRST: Made = Made::new(id::FIRST, &[], || {
        Box::pin(async {
            EARLIER.store(true, SeqCst);
            Ok(Is::Done)
        })
    });
    // The write ends only once this has looked, and it creates only once the write has ended.
    static THEN: Made = Made {
        slot: Some(true),
        act: || THERE.store(true, SeqCst),
        ..Made::new(id::THEN, &[id::FIRST], || {
            Box::pin(async {
                WRITTEN.notify_one();
                Ok(if THERE.load(SeqCst) {
                    Is::Done
                } else {
                    Is::Wrong
                })
            })
        })
    };
    static ALL: &[&dyn AnyStep] = &[&FIRST, &THEN];
    struct First(Told);
    impl Announcer for First {
        fn announce(&self, report: Report, intents: Announced) -> BoxFuture<'_, Announced> {
            assert!(!EARLIER.load(SeqCst), "it came after the earlier step");
            self.0.announce(report, intents)
        }
    }
    let announcer = Told {
        until: Some(&WRITTEN),
        ..Told::default()
    };
    let announcer = First(announcer);

    let states = told_pass(&cx(), &mut Observations::default(), &[], ALL, &announcer).await;

    assert_eq!(states, [State::Done, State::Done]);
    assert_eq!(announcer.0.announced(), [[id::THEN.as_str()]]);
}

#[test]
fn what_was_only_expected_is_forgotten_when_the_app_cannot_be_had() {
    let mut memory = Observations::default();
    let slot = |name: &str| Slot {
        kind: "Made".to_owned(),
        name: name.to_owned(),
    };
    memory.intents.expect(StepId::Addresses, slot("expected"));
    memory
        .intents
        .recall(StepId::Redis, slot("perhaps sent before"));
    memory.intents.expect(StepId::AppToken, slot("asked for"));
    let reached = StepRecord::pending("digest");
    memory.steps.insert(StepId::AppToken, reached.clone());
    let mut app = reached;
    memory.steps.insert(StepId::App, app.clone());
    forget_expected(&memory, "digest");
    assert_eq!(memory.intents.open().len(), 3, "the app may still be had");
    app.state = State::Blocked;
    memory.steps.insert(StepId::App, app);
    forget_expected(&memory, "another digest");
    assert_eq!(memory.intents.open().len(), 3, "the spec has changed");
    forget_expected(&memory, "digest");
    let left = memory.intents.open().into_iter();
    let left: Vec<String> = left.map(|open| open.slot.name).collect();
    assert_eq!(left, ["asked for", "perhaps sent before"]);
    assert!(
        is_app_stopped(&memory, "digest"),
        "nothing is expected anew"
    );
}
