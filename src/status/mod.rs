//! `Activation.status`: derived purely from what a pass found, and written at one place.
//!
//! Uses `pipeline/` and everything below it; knows no phase and no step. Start with [`next`]: the
//! next status from the old one and the result of a pass.
//!
//! | file | what it derives or does |
//! |---|---|
//! | `pass_result` | the input: what one pass found |
//! | `next` | the whole status |
//! | `phases` | `status.phases[]` |
//! | `promises` | requests that were handled, and the time of the next action |
//! | `lists` | checks, external objects, secrets, history, intents |
//! | `conditions`, `live`, `drift`, `setter` | the conditions |
//! | `integrations` | `status.integrations[]`, its condition and what is to be done about it |
//! | `events` | events that follow from two statuses |
//! | `debounce` | which writes may wait |
//! | `published` | the status that this process wrote last |
//! | `write` | the one writer |

mod conditions;
pub mod debounce;
mod drift;
pub mod events;
mod integrations;
mod lists;
mod live;
mod messages;
mod next;
mod pass_result;
mod phases;
mod plan;
mod promises;
mod published;
mod setter;
mod watch;
mod write;

pub use drift::left_alone;
pub use lists::{keep_marks, with_others};
pub use live::{Proof, proof};
pub use messages::redact;
pub use next::next;
pub use pass_result::{PassResult, Removing, Runs, Site, serving};
pub use phases::cannot_observe;
pub use plan::{cost, whole as whole_plan};
pub use published::{Published, Unanswered};
pub use write::{Stored, clear, foreign, is_of_stranger, own, unknown, write};

#[cfg(test)]
mod tests;
