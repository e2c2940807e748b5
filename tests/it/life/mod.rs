//! The life of one object without failures, from creation to removal, and what it costs in calls and
//! writes.

mod approvals;
mod budget;
mod by_hand;
mod coming_back;
mod conditions;
mod go_live;
mod kept_secrets;
mod limits;
mod pipeline;
mod preflight;
mod proof;
mod provision;
mod serving;
mod smoke_test;
mod values;
mod volumes;
mod watch;
