//! Integration tests, one target.

mod examples;
mod fly_client;
mod fly_client_machines;
mod leader;
mod pages;
mod secret_store;
mod server;
mod tidy;
