//! Provision: everything that the application needs around it.

mod addresses;
pub mod app;
pub mod app_token;
pub mod attach;
mod certificates;
mod fly_postgres;
mod legacy_attach;
pub mod postgres;
pub mod redis;
pub mod secrets;

use crate::pipeline::AnyStep;

/// All steps. Those whose needs are met run at once; removal goes in reverse, so that the app,
/// which everything else lives in, goes last.
pub static STEPS: &[&dyn AnyStep] = &[
    &app::App,
    &addresses::Addresses,
    &certificates::Certificates,
    &postgres::Postgres,
    &attach::Attach,
    &redis::Redis,
    &secrets::Secrets,
    &app_token::AppToken,
];
