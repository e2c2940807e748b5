//! What changes with the right to act, and tables that lack the needs of their steps.

use super::*;

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
