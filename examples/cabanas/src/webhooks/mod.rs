//! Webhooks: only signed deliveries are taken, and each event has one effect.

pub mod mercadopago;
mod note;
mod rewritten;
pub mod whatsapp;

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

pub use note::{Event, note};

use crate::fault::Faults;
use crate::mistake::Mistake;

/// Largest body that is read. Meta sends up to 3 MB.
///
/// Unit: bytes. Source: developers.facebook.com, WhatsApp webhooks overview, as of 2026-08.
pub const MAX_BODY: usize = 3 * 1024 * 1024;

/// What the ids of Golive's deliveries begin with. They are signed as the vendor's are, so nobody
/// without the secret can make one.
pub const PROBE_ID: &str = "golive-probe-";

/// The header of Golive's requests. It is not signed: it decides what is counted as a guest's request,
/// never whether something is accepted.
pub const PROBE_HEADER: &str = "x-golive-probe";

/// Digits that count with [`Mistake::ComparesPrefix`].
const PREFIX: usize = 8;

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

/// [`signed_with`], or one of the mistakes about signatures.
fn accepts(faults: &Faults, secret: &SecretString, message: &[u8], hex: &str) -> bool {
    if faults.has(Mistake::ComparesPrefix) {
        let wanted = sign(secret, message);
        return hex.get(..PREFIX).is_some_and(|p| wanted.starts_with(p));
    }
    let is_text = data_encoding::HEXLOWER.decode(hex.as_bytes()).is_ok();
    (faults.has(Mistake::SkipsUndecodable) && !is_text)
        || (faults.has(Mistake::AcceptsEmptyKey) && signed_with(&"".into(), message, hex))
        || signed_with(secret, message, hex)
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
