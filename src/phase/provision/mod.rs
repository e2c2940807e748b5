//! Provision: creates everything that the application needs around it.
//!
//! A step is a file with the name of the step; the files that lie below the steps hold what several
//! of them share (`ours`, `fallback`, `attachment`, `stored_values`) or one part of a step that has
//! kinds (`managed_postgres` and `fly_postgres` of `Postgres`, `attach_managed` and
//! `attach_fly_postgres` of `Attach`). This folder may use `pipeline` and what lies below it, and
//! the files directly in `src/phase/`; it uses no other phase. Start with `app`, then `redis`, the
//! shortest step that creates a resource and pushes a secret.

mod added_by_hand;
mod addresses;
pub mod app;
mod app_token;
pub mod app_token_secret;
mod attach;
mod attach_fly_postgres;
mod attach_managed;
mod attachment;
mod certificates;
mod emptying;
mod fallback;
mod fly_postgres;
pub mod kept_secrets;
mod managed_postgres;
mod ours;
mod postgres;
mod redis;
mod secrets;
mod stored_values;
mod token_pace;

use crate::pipeline::AnyStep;

/// All steps. Those whose needs are met run at the same time. Removal goes in reverse order, so
/// that the app, which contains everything else, is removed last.
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

/// What is kept around the release that serves while the spec cannot be brought live.
pub static KEPT: &[&dyn AnyStep] = &[
    &app::App,
    &addresses::Addresses,
    &certificates::Certificates,
];

/// Its secrets.
pub static KEPT_SECRETS: &[&dyn AnyStep] = &[&kept_secrets::ALL];

/// Of its secrets, the address of the database.
pub static KEPT_DATABASE: &[&dyn AnyStep] = &[&kept_secrets::DATABASE];

/// Of its secrets, the address of Redis.
pub static KEPT_REDIS: &[&dyn AnyStep] = &[&kept_secrets::REDIS];
