//! What a step runs beside its passes: a look at the application that takes longer than a pass may.
//!
//! It is an observation, so its end wakes the object and the next pass picks up what was found. A look
//! at an application that changes meanwhile proves nothing: whatever changes the application ends it.

use std::sync::{Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

/// The looks of one object that are under way. They end with it.
#[derive(Debug, Default)]
pub struct Background(Mutex<CancellationToken>);

impl Background {
    /// The token of a look that begins now: it is cancelled when what is looked at changes.
    pub fn begin(&self) -> CancellationToken {
        let current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        current.child_token()
    }

    /// Ends all looks.
    pub fn end(&self) {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *current).cancel();
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_ends_the_looks_before_it_and_not_those_after_it() {
        let background = Background::default();
        let before = background.begin();
        background.end();
        let after = background.begin();
        assert!(before.is_cancelled());
        assert!(!after.is_cancelled());
        drop(background);
        assert!(after.is_cancelled(), "the object is forgotten");
    }
}
