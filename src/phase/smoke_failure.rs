//! The proven failure of a SmokeTest: why a release that is rolled out, and healthy by its own
//! checks, is not good. The pass that finds it notes it here; Deploy rolls the release back.

use crate::pipeline::{Cx, facts::Facts};

/// Fact: the application of this target failed its SmokeTest.
#[derive(Debug)]
struct SmokeFailure {
    stamp: String,
    message: String,
}

/// Notes the failure. True when it was not known.
pub fn note(facts: &Facts, stamp: &str, message: &str) -> bool {
    let known = facts.get::<SmokeFailure>();
    if known.is_some_and(|known| known.stamp == stamp) {
        return false;
    }
    facts.set(SmokeFailure {
        stamp: stamp.to_owned(),
        message: message.to_owned(),
    });
    true
}

/// The application passes again.
pub fn forget(facts: &Facts) {
    facts.clear::<SmokeFailure>();
}

/// Why the application of this target failed its SmokeTest, if it did.
pub fn of(cx: &Cx) -> Option<String> {
    let known = cx.facts.get::<SmokeFailure>()?;
    (known.stamp == cx.target.stamp()).then(|| known.message.clone())
}
