//! Integration tests, one target.

mod fly_client;
mod fly_client_machines;
mod pages;
mod leader;
mod secret_store;
mod server;
