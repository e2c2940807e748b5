//! The life of one object without failures, from creation to removal, and what it costs in calls and
//! writes.

mod budget;
mod coming_back;
mod conditions;
mod go_live;
mod limits;
mod pipeline;
mod preflight;
mod provision;
mod smoke_test;
mod volumes;
