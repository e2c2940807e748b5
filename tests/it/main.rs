//! Integration tests, one target.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
// Tests write what the API server must hold against, and read the clock.
#![allow(clippy::disallowed_methods, clippy::type_complexity)]

mod api;
mod api_source;
mod app_token;
mod architecture;
mod budget;
mod canary;
mod conditions;
mod crash;
mod crash_update;
mod credentials;
mod deploy;
mod env;
mod examples;
mod failure_matrix;
mod failures;
mod fleet;
mod fly_client;
mod fly_client_machines;
mod fly_client_platform;
mod fly_release;
mod go_live;
mod guarded;
mod installed;
mod isolation;
mod leader;
mod leaks;
mod limits;
mod machine_checks;
mod manifests;
mod pages;
mod parity;
mod pipeline;
mod preflight;
mod prereqs;
mod process;
mod provision;
mod read_back;
mod render;
mod rights;
mod rollback;
mod secret_looks;
mod secret_store;
mod server;
mod smoke_test;
mod source;
mod strategies;
mod tidy;
