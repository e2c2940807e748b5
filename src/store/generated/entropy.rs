//! Generates values from the random source of the operating system.

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use rand::TryRng;
use rand::rngs::SysRng;
use zeroize::Zeroizing;

use super::error::Error;
use crate::api::provision::{Encoding, GeneratedSecret};

/// Fills a buffer with random bytes.
pub type Entropy = fn(&mut [u8]) -> Result<(), Error>;

/// Letters and digits, in the order of ASCII.
const ALPHANUMERIC: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Bytes below this are used, so that all 62 characters are equally likely: 248 is four times 62.
const FAIR: u8 = 248;

/// The random source of the operating system.
pub fn operating_system(buffer: &mut [u8]) -> Result<(), Error> {
    let filled = SysRng.try_fill_bytes(buffer);
    filled.map_err(|error| Error::Entropy(error.to_string()))
}

/// Generates a value as the spec requests it.
pub fn generate(wanted: &GeneratedSecret, entropy: Entropy) -> Result<Zeroizing<String>, Error> {
    let count = usize::try_from(wanted.bytes).unwrap_or(usize::MAX);
    if wanted.encoding == Encoding::Alphanumeric {
        return alphanumeric(count, entropy);
    }
    let mut bytes = Zeroizing::new(vec![0; count]);
    entropy(&mut bytes)?;
    Ok(Zeroizing::new(match wanted.encoding {
        Encoding::Hex => HEXLOWER.encode(&bytes),
        _ => BASE64URL_NOPAD.encode(&bytes),
    }))
}

fn alphanumeric(count: usize, entropy: Entropy) -> Result<Zeroizing<String>, Error> {
    let mut text = Zeroizing::new(String::with_capacity(count));
    let mut bytes = Zeroizing::new([0; 64]);
    while text.len() < count {
        entropy(bytes.as_mut_slice())?;
        let fair = bytes.iter().filter(|byte| **byte < FAIR);
        for byte in fair.take(count - text.len()) {
            text.push(char::from(ALPHANUMERIC[usize::from(byte % 62)]));
        }
    }
    Ok(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn wanted(bytes: u32, encoding: Encoding) -> GeneratedSecret {
        GeneratedSecret {
            name: "JWT_SECRET".into(),
            bytes,
            encoding,
        }
    }

    fn make(bytes: u32, encoding: Encoding) -> String {
        generate(&wanted(bytes, encoding), operating_system)
            .unwrap()
            .to_string()
    }

    #[test]
    fn a_value_has_the_entropy_and_the_encoding_that_were_asked_for() {
        let hex = make(16, Encoding::Hex);
        assert_eq!(hex.len(), 32);
        assert!(
            hex.bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        );
        let base64 = make(48, Encoding::Base64Url);
        assert_eq!(BASE64URL_NOPAD.decode(base64.as_bytes()).unwrap().len(), 48);
        let plain = make(200, Encoding::Alphanumeric);
        assert_eq!(plain.len(), 200);
        assert!(plain.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        // 256 draws of 48 bytes: one pair alike would take longer than the universe.
        assert_ne!(make(48, Encoding::Base64Url), base64);
    }

    #[test]
    fn every_character_is_as_likely_as_the_others() {
        // All byte values once, over and over: what is left after the unfair ones is even.
        let even: Entropy = |buffer| {
            use std::sync::atomic::{AtomicU8, Ordering};
            static NEXT: AtomicU8 = AtomicU8::new(0);
            for byte in buffer {
                *byte = NEXT.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        };
        let text = generate(&wanted(248, Encoding::Alphanumeric), even).unwrap();
        for character in ALPHANUMERIC {
            let count = text.bytes().filter(|byte| byte == character).count();
            assert_eq!(count, 4, "{}", char::from(*character));
        }
    }

    #[test]
    fn without_entropy_there_is_no_value() {
        let broken: Entropy = |_| Err(Error::Entropy("not ready".into()));
        for encoding in [Encoding::Hex, Encoding::Base64Url, Encoding::Alphanumeric] {
            assert!(generate(&wanted(32, encoding), broken).is_err());
        }
    }
}
