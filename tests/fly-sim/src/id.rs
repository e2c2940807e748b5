//! Identifiers in Fly's formats.

use std::sync::{Mutex, PoisonError};

use rand::RngExt;

const HEX: &[u8] = b"0123456789abcdef";
const ALNUM: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";

fn random(alphabet: &[u8], length: usize) -> String {
    let mut rng = rand::rng();
    (0..length)
        .map(|_| char::from(alphabet[rng.random_range(0..alphabet.len())]))
        .collect()
}

/// A machine id: 14 hex digits.
pub fn machine() -> String {
    random(HEX, 14)
}

/// A volume id: `vol_` and 16 characters.
pub fn volume() -> String {
    format!("vol_{}", random(ALNUM, 16))
}

/// A lease nonce: 12 hex digits.
pub fn nonce() -> String {
    random(HEX, 12)
}

/// Lower-case letters and digits, for whatever has no format of its own.
pub fn short(length: usize) -> String {
    random(ALNUM, length)
}

/// Makes each ULID greater than the one before, also within a millisecond.
static ULIDS: Mutex<ulid::Generator> = Mutex::new(ulid::Generator::new());

/// A 26-character ULID: machine versions, events, requests. They sort as they were made.
pub fn ulid() -> String {
    let mut ulids = ULIDS.lock().unwrap_or_else(PoisonError::into_inner);
    let next = ulids.generate();
    next.unwrap_or_else(|overflow| overflow.commit_overflow_increment())
        .to_string()
}

/// A short word that follows from a text.
pub fn stable(text: &str) -> String {
    use sha2::{Digest, Sha256};
    data_encoding::BASE32_NOPAD
        .encode(&Sha256::digest(text.as_bytes())[..5])
        .to_ascii_lowercase()
}
