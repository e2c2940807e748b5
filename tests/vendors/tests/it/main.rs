//! The vendors from outside: their APIs, their deliveries, their calendars.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod apis;
mod deliveries;
mod receiver;
