//! The service against a real PostgreSQL and a real Redis.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod calendars;
mod faults;
mod http;
mod migrations;
mod mistakes;
mod program;
mod reservations;
mod service;
mod webhooks;
mod world;
