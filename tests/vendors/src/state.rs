//! What the vendors know, and what was asked of them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::channels::Channels;
use crate::client::Client;
use crate::delivery::Try;
use crate::mercado_pago::MercadoPago;
use crate::meta::Meta;

/// Most calls and tries that are kept.
const KEPT: usize = 10_000;

/// Who is asked, or sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Vendor {
    /// Meta, with WhatsApp.
    Meta,
    /// Mercado Pago.
    MercadoPago,
    /// Airbnb and Booking.com.
    Channels,
}

/// What an `Authorization` header carried, without its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bearer {
    /// There was none.
    None,
    /// A token of the vendor that was asked.
    Own,
    /// A token of another vendor: a leak.
    OfAnother,
    /// A token that nobody knows.
    Unknown,
}

/// A call of a vendor's API.
#[derive(Clone, Debug, Serialize)]
pub struct Call {
    /// Who was asked.
    pub vendor: Vendor,
    /// Method.
    pub method: String,
    /// Path without its query, which may carry tokens.
    pub path: String,
    /// What was shown.
    pub bearer: Bearer,
    /// The answer.
    pub status: u16,
}

/// The world of the vendors.
#[derive(Debug)]
pub struct State {
    /// Sends webhooks.
    pub client: Client,
    /// Ends deliveries that go on.
    pub stop: CancellationToken,
    /// Factor on the pauses between tries.
    pub scale: f64,
    /// Where the feeds are, for the addresses that channels tell.
    pub channels_url: String,
    world: Mutex<World>,
}

/// All that changes.
#[derive(Debug, Default)]
pub struct World {
    /// Meta.
    pub meta: Meta,
    /// Mercado Pago.
    pub mercado_pago: MercadoPago,
    /// Airbnb and Booking.com.
    pub channels: Channels,
    /// Calls, oldest first.
    pub calls: Vec<Call>,
    /// Tries of deliveries, oldest first.
    pub tries: Vec<Try>,
}

/// The state, for all who serve.
pub type Shared = Arc<State>;

impl State {
    /// With a world of defaults.
    pub fn new(client: Client, scale: f64, channels_url: String) -> Shared {
        Arc::new(Self {
            client,
            stop: CancellationToken::new(),
            scale,
            channels_url,
            world: Mutex::default(),
        })
    }

    /// The world, for a moment: never across an await.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a try.
    pub fn note(&self, one: Try) {
        let mut world = self.world();
        if world.tries.len() < KEPT {
            world.tries.push(one);
        }
    }

    /// Keeps a call.
    pub fn note_call(&self, call: Call) {
        let mut world = self.world();
        if world.calls.len() < KEPT {
            world.calls.push(call);
        }
    }

    /// Whose token this is, for the vendor that was asked.
    pub fn bearer(&self, asked: Vendor, authorization: Option<&str>) -> Bearer {
        let Some(text) = authorization else {
            return Bearer::None;
        };
        let token = text.strip_prefix("Bearer ").unwrap_or_default();
        let world = self.world();
        let of_meta = world.meta.tokens.iter().any(|known| known.value == token);
        let of_mercado_pago = world.mercado_pago.tokens.iter().any(|known| known == token);
        match (asked, of_meta, of_mercado_pago) {
            (Vendor::Meta, true, _) | (Vendor::MercadoPago, _, true) => Bearer::Own,
            (_, false, false) => Bearer::Unknown,
            _ => Bearer::OfAnother,
        }
    }
}
