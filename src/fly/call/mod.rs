//! How a call to Fly.io is made.
//!
//! [`client`] holds what the process shares (connections, limits, refusals) and [`endpoint`] what
//! is known of an endpoint. A call is built in [`request`] and sent in [`send`], which waits for
//! [`limit`], classifies the response ([`classify`]) and retries reads. [`answer`] and [`graphql`]
//! turn responses into values. Uses `net`, the parent's `token` and `error`, nothing else of
//! `fly`. Start reading in [`send`].

pub(crate) mod answer;
pub mod claimed;
pub(crate) mod classify;
pub mod client;
pub(crate) mod endpoint;
pub(crate) mod graphql;
pub mod limit;
mod memo;
pub mod narrow;
pub(crate) mod reply;
pub(crate) mod request;
pub(crate) mod send;

pub(crate) use endpoint::Endpoint;
pub(crate) use reply::Reply;
pub(crate) use request::{Auth, Call};
