//! Meta, Mercado Pago, Airbnb and Booking.com on loopback, as far as an application that receives their
//! webhooks and calendars can tell: for tests and the local world. And those who take messages about it:
//! chats, pagers, mail servers ([`messages`]).
//!
//! Types and signatures are its own, written from the vendors' documentation, and shared with nothing
//! that it tests: a stand-in that signs with the code of its client agrees with the client's mistakes.
//!
//! ```no_run
//! # async fn demo() -> Result<(), vendors::StartError> {
//! let vendors = vendors::Vendors::start(vendors::Options::default()).await?;
//! println!("{} {}", vendors.graph_url(), vendors.mercado_pago_url());
//! # Ok(())
//! # }
//! ```

#![allow(
    clippy::disallowed_methods,
    reason = "a vendor reads the clock; only the operator's decisions get the time as an argument"
)]

pub mod ca;
pub mod channels;
pub mod client;
pub mod control;
pub mod delivery;
pub mod mercado_pago;
pub mod messages;
pub mod meta;
pub mod serve;
pub mod sign;
pub mod state;

mod vendors;

pub use state::{Shared, State};
pub use vendors::{Options, StartError, Vendors};
