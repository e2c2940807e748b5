//! Webhooks: only signed deliveries are taken, and each event has one effect.

pub mod mercadopago;
pub mod whatsapp;

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use tokio_postgres::types::Type;

use crate::database::DatabaseError;
use crate::server::App;

/// Largest body that is read. Meta sends up to 3 MB.
///
/// Unit: bytes. Source: developers.facebook.com, WhatsApp webhooks overview, as of 2026-08.
pub const MAX_BODY: usize = 3 * 1024 * 1024;

/// Whether `hex` is the HMAC-SHA256 of `message`. The comparison takes the same time wherever the
/// first difference is.
pub fn signed_with(secret: &SecretString, message: &[u8], hex: &str) -> bool {
    let Ok(signature) = data_encoding::HEXLOWER.decode(hex.as_bytes()) else {
        return false;
    };
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes()) else {
        return false;
    };
    mac.update(message);
    mac.verify_slice(&signature).is_ok()
}

/// The HMAC-SHA256 of `message`, as lower-case hexadecimal text.
pub fn sign(secret: &SecretString, message: &[u8]) -> String {
    match Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes()) {
        Ok(mut mac) => {
            mac.update(message);
            data_encoding::HEXLOWER.encode(&mac.finalize().into_bytes())
        }
        // HMAC takes keys of every length; an empty text is no valid signature anywhere.
        Err(_) => String::new(),
    }
}

/// Notes one event; a second delivery of it changes nothing.
async fn note(
    app: &App,
    provider: &'static str,
    event: &str,
    kind: &str,
) -> Result<(), DatabaseError> {
    let sql = "insert into webhook_event (provider, event_id, kind) values ($1, $2, $3) \
               on conflict do nothing returning event_id";
    let parameters: [crate::database::Parameter<'_>; 3] = [
        (&provider, Type::TEXT),
        (&event, Type::TEXT),
        (&kind, Type::TEXT),
    ];
    let rows = app
        .database
        .rows("note the event", sql, &parameters)
        .await?;
    let outcome = if rows.is_empty() {
        "duplicate"
    } else {
        "processed"
    };
    app.metrics.webhook(provider, outcome);
    Ok(())
}
