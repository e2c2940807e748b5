//! Looks at the application in the background end with what changes it.

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
