//! Cabin reservations: the application that Golive takes live.
//!
//! A small real service with PostgreSQL, Redis, signed webhooks and calendars, and with named
//! switches that break it in one way each ([`fault::Faults`]). The README beside this crate lists
//! endpoints, variables and switches.

pub mod cache;
pub mod calendar;
pub mod config;
pub mod database;
pub mod effects;
pub mod fault;
pub mod feed;
pub mod health;
pub mod hello;
pub mod ical;
pub mod metrics;
pub mod migrate;
pub mod mistake;
pub mod pages;
pub mod problem;
pub mod rehearsal;
pub mod reservations;
pub mod schema;
pub mod server;
pub mod telemetry;
pub mod traffic;
pub mod visitors;
pub mod webhooks;
