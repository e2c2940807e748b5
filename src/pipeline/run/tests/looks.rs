//! Looks end with what changes the application, and a step that finds the work of an earlier one lost has it
//! look again.

use super::*;

#[tokio::test]
async fn a_change_ends_the_looks_that_are_under_way() {
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
    let cx = cx();
    let look = cx.background.begin();
    assert_eq!(pass(&cx, &mut memory, &[], STEPS).await, [State::Done]);
    assert!(look.is_cancelled());
    let after = cx.background.begin();
    pass(&cx, &mut memory, &[], STEPS).await;
    assert!(!after.is_cancelled(), "nothing was changed");
}

#[tokio::test]
async fn a_step_that_is_not_rechecked_looks_again_when_a_later_one_finds_its_work_lost() {
    static LOOKS: AtomicUsize = AtomicUsize::new(0);
    static LOST: AtomicBool = AtomicBool::new(true);
    static MAKER: Made = Made::new(id::STEP, &[], || {
        Box::pin(async {
            // The second look puts it right.
            LOST.store(LOOKS.fetch_add(1, SeqCst) == 0, SeqCst);
            Ok(Is::Done)
        })
    });
    static FINDER: Made = Made::new(id::WRONG, &[id::STEP], || {
        Box::pin(async {
            Ok(match LOST.load(SeqCst) {
                true => Is::Lost(id::STEP),
                false => Is::Done,
            })
        })
    });
    static STEPS: &[&dyn AnyStep] = &[&MAKER, &FINDER];
    let mut memory = Observations::default();
    let cx = cx();
    let first = pass(&cx, &mut memory, &[], STEPS).await;
    assert_eq!(first, [State::Done, State::Waiting]);

    // The wait itself ends by its wake, as in the controller.
    let second = pass(&cx, &mut memory, &[id::WRONG], STEPS).await;
    assert_eq!(LOOKS.load(SeqCst), 2, "the maker looks again");
    assert_eq!(second, [State::Done, State::Done]);
}
