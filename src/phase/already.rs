//! Creates that Fly.io refuses because the object exists already.
//!
//! The first such refusal is usually our own first request, whose reply was lost: the next
//! observation shows the object. When it does not, somebody else has the name, and what Fly.io
//! answers is reported.

use std::collections::BTreeSet;

use super::app_lookup::is_name_taken;
use crate::{
    error::Error,
    fly,
    pipeline::{Cx, step::Result},
};

/// Journal: what was refused because it exists already.
#[derive(Clone, Debug, Default)]
struct Refused(BTreeSet<String>);

/// The result of a create that tries to do `doing`. A refusal because the object exists already
/// counts as a success once: the engine then observes again.
///
/// # Errors
/// When Fly.io refuses for another reason, or refuses once more although nothing was observed.
pub fn exists_once<T>(cx: &Cx, doing: String, result: fly::Result<T>) -> Result<()> {
    match result {
        Ok(_) => {
            cx.journal.change_or_default::<Refused>(|refused| {
                refused.0.remove(&doing);
            });
            Ok(())
        }
        Err(error) if is_name_taken(&error) => {
            let mut first = false;
            cx.journal.change_or_default::<Refused>(|refused| {
                first = refused.0.insert(doing.clone());
            });
            if first {
                return Ok(());
            }
            Err(Error::fly(doing, error))
        }
        Err(error) => Err(Error::fly(doing, error)),
    }
}
