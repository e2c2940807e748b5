//! Integration tests, one target.

mod fly_client;
mod fly_client_machines;
mod pages;
