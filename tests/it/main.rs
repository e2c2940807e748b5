//! Integration tests, one target.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
// Tests write what the API server must hold against, and read the clock.
#![allow(clippy::disallowed_methods, clippy::type_complexity)]

mod api;
mod app_token;
mod architecture;
mod canary;
mod conditions;
mod crash;
mod crash_update;
mod deploy;
mod env;
mod examples;
mod failures;
mod fleet;
mod fly_client;
mod fly_client_machines;
mod fly_client_platform;
mod go_live;
mod guarded;
mod installed;
mod leader;
mod limits;
mod manifests;
mod pages;
mod parity;
mod preflight;
mod process;
mod provision;
mod render;
mod rights;
mod rollback;
mod secret_store;
mod server;
mod smoke_test;
mod strategies;
mod tidy;
