//! Values of secrets: how they are made, stored, used and kept out of sight.

mod allowed;
mod app_token;
mod canary;
mod changes;
mod credentials;
mod generated;
mod tenants;
