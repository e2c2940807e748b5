//! What people are told, and how each kind of receiver wants it written. No I/O.
//!
//! [`facts`] says what is true of an activation now, topic by topic. An [`Outbox`] remembers what was told
//! of each topic, so that one piece of news is one message also after a restart: what is true and was not
//! told becomes a message for each receiver that [`Route`] chooses, and stays in the outbox until the
//! receiver has it or an hour has passed. [`format`] writes a message for a receiver, [`judge`] reads
//! its answer. Start with `outbox.rs`.

mod answer;
mod facts;
pub mod format;
mod message;
mod news;
mod outbox;
mod route;

pub use answer::{Ended, judge};
pub use facts::{Subject, essence, facts, next_change};
pub use message::{Began, Message, Place, Stage};
pub use news::{Fact, Manner, Topic};
pub use outbox::{Due, Outbox, Told};
pub use route::Route;
