//! Tokens in the format that Fly.io uses for its limited access tokens.
//!
//! A macaroon is a msgpack array of nonce, location, caveats and tail; caveats are a flat array of
//! type and body. The tail is a chain of HMACs, so anybody can add a caveat and nobody can take one
//! away. Source: superfly/macaroon, `macaroon.go`, `caveat.go`, `flyio/caveats.go`,
//! `resset/action.go`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use rand::RngExt;
use rmpv::Value;
use sha2::Sha256;

/// Location of permission tokens.
pub const LOCATION: &str = "https://api.fly.io/v1";

/// Read, write, create, delete and control.
pub const ALL: u16 = 0b1_1111;
/// Read only.
pub const READ: u16 = 0b1;

const ORGANIZATION: u64 = 0;
const APPS: u64 = 3;
const VALIDITY_WINDOW: u64 = 4;

/// A restriction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caveat {
    /// One organization by its number, and a mask of actions.
    Organization {
        /// `internal_numeric_id`.
        id: u64,
        /// Actions.
        mask: u16,
    },
    /// Some apps by their numbers, each with a mask of actions.
    Apps(Vec<(u64, u16)>),
    /// Between two points in time, unix seconds.
    ValidityWindow {
        /// Not before.
        from: i64,
        /// Not after.
        until: i64,
    },
}

impl Caveat {
    fn encode(&self) -> [Value; 2] {
        match self {
            Self::Organization { id, mask } => [
                ORGANIZATION.into(),
                Value::Array(vec![(*id).into(), (*mask).into()]),
            ],
            Self::Apps(apps) => {
                // Sorted, because the encoding is canonical.
                let mut apps = apps.clone();
                apps.sort_unstable();
                let map = apps
                    .into_iter()
                    .map(|(id, mask)| (id.into(), mask.into()))
                    .collect();
                [APPS.into(), Value::Array(vec![Value::Map(map)])]
            }
            Self::ValidityWindow { from, until } => [
                VALIDITY_WINDOW.into(),
                Value::Array(vec![(*from).into(), (*until).into()]),
            ],
        }
    }
}

/// Makes a token: `fm2_` and base64.
pub fn mint(key: &[u8; 32], kid: &str, caveats: &[Caveat]) -> String {
    let random: [u8; 16] = rand::rng().random();
    let nonce = Value::Array(vec![
        Value::Binary(kid.as_bytes().to_vec()),
        Value::Binary(random.to_vec()),
        Value::Boolean(false),
    ]);
    let mut tail = sign(key, &encode(&nonce));
    let mut flat = Vec::new();
    for caveat in caveats {
        let pair = caveat.encode().to_vec();
        tail = sign(&tail, &encode(&Value::Array(pair.clone())));
        flat.extend(pair);
    }
    let token = Value::Array(vec![
        nonce,
        LOCATION.into(),
        Value::Array(flat),
        Value::Binary(tail.to_vec()),
    ]);
    format!("fm2_{}", STANDARD.encode(encode(&token)))
}

/// Whether the text is a macaroon that this key made, and that nobody has changed except by
/// adding caveats; then its key id.
pub fn verify(key: &[u8; 32], token: &str) -> Option<String> {
    let (kid, caveats, nonce, tail) = decode(token)?;
    let mut wanted = sign(key, &encode(&nonce));
    for pair in caveats.chunks(2) {
        wanted = sign(&wanted, &encode(&Value::Array(pair.to_vec())));
    }
    (wanted.as_slice() == tail).then_some(kid)
}

type Decoded = (String, Vec<Value>, Value, Vec<u8>);

fn decode(token: &str) -> Option<Decoded> {
    let (prefix, body) = token.split_once('_')?;
    if !matches!(prefix, "fm2" | "fm1r") {
        return None;
    }
    let bytes = STANDARD.decode(body).ok()?;
    let value = rmpv::decode::read_value(&mut bytes.as_slice()).ok()?;
    let [nonce, _location, caveats, tail] = value.as_array()?.as_slice() else {
        return None;
    };
    let kid = nonce.as_array()?.first()?.as_slice()?;
    Some((
        String::from_utf8(kid.to_vec()).ok()?,
        caveats.as_array()?.clone(),
        nonce.clone(),
        tail.as_slice()?.to_vec(),
    ))
}

fn encode(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Writing to a vector cannot fail.
    let _ = rmpv::encode::write_value(&mut bytes, value);
    bytes
}

fn sign(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    // A key of any length is accepted.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return [0; 32];
    };
    mac.update(message);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_verified_by_its_key_and_no_other_and_not_when_changed() {
        let caveats = [
            Caveat::Organization { id: 7, mask: ALL },
            Caveat::Apps(vec![(42, READ)]),
            Caveat::ValidityWindow {
                from: 1_700_000_000,
                until: 1_900_000_000,
            },
        ];
        let token = mint(&[1; 32], "tok1", &caveats);
        assert_eq!(verify(&[1; 32], &token).as_deref(), Some("tok1"));
        assert_eq!(verify(&[2; 32], &token), None);

        let (_, flat, _, _) = decode(&token).unwrap();
        assert_eq!(flat.len(), 6);
        assert_eq!(flat[0].as_u64(), Some(ORGANIZATION));
        assert_eq!(
            flat[3],
            Value::Array(vec![Value::Map(vec![(42.into(), 1.into())])])
        );

        let weaker = mint(&[1; 32], "tok1", &[]);
        let (_, _, nonce, _) = decode(&weaker).unwrap();
        let (_, _, _, tail) = decode(&token).unwrap();
        let forged = Value::Array(vec![
            nonce,
            LOCATION.into(),
            Value::Array(vec![]),
            Value::Binary(tail),
        ]);
        let forged = format!("fm2_{}", STANDARD.encode(encode(&forged)));
        assert_eq!(verify(&[1; 32], &forged), None);
    }
}
