//! Integration tests, one target.

mod fly_client;
