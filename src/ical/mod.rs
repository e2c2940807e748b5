//! Calendars as text (RFC 5545): a lenient reader that notes whatever a strict writer must not do. Pure.
//!
//! [`read()`] goes through the bytes once. It never stops at a mistake, because one calendar may have several,
//! and never shows what it read: a [`Complaint`] is a [`Rule`], the [`Class`] of the content and the number of
//! a line. What it keeps of an event is its times and hashes. [`changed_uids`] compares two exports.
//!
//! A crate for iCalendar would not do as the reader: such crates unfold the text, or decode it to a tree,
//! before they look at it, so that the ends of lines, the places of folds, the bytes before `BEGIN` and the
//! numbers of lines are gone. Those are half of what is checked here. That holds for `icalendar` 0.17 and
//! `calcard` 0.3, both well kept; `ical` 0.11 is archived.
//!
//! Not checked: recurrence rules, time zones (a time with a `TZID` is compared with one of the same zone
//! alone), the values of properties other than those of an event's identity and time, and components other
//! than `VEVENT` beyond their balance. Start with `read.rs`.

mod compare;
mod given_names;
mod hash;
mod line;
mod names;
mod phone;
mod privacy;
mod property;
mod read;
mod rule;
#[cfg(test)]
mod tests;
mod time;

pub use compare::{Changed, changed_uids};
pub use read::{Calendar, Event, MAX_BYTES, MAX_CONTENT, MAX_DEPTH, MAX_EVENTS, read};
pub use rule::{Check, Class, Complaint, Rule, Weight};
