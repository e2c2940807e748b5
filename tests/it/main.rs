//! Integration tests, one target: a program and its world per test. Each folder is a subject.

mod api;
mod chaos;
mod client;
mod deploy;
mod gitops;
mod install;
mod integrations;
mod life;
mod mistakes;
mod monitoring;
mod process;
mod repo;
mod secrets;
mod shapes;
mod sources;
mod support;
mod told;
mod trouble;
