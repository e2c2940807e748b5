//! Message authentication codes, and how they are written in a header.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use data_encoding::HEXLOWER;
use ring::hmac;

/// The algorithm of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    HmacSha256,
    /// HMAC with SHA-512.
    HmacSha512,
    /// HMAC with SHA-1; only for senders that offer no other.
    HmacSha1,
}

/// How a signature is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Hexadecimal digits in lower case.
    Hex,
    /// Base64 with padding (RFC 4648, section 4).
    Base64,
}

/// The message authentication code of these parts, one after the other.
pub fn mac(algorithm: Algorithm, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let algorithm = match algorithm {
        Algorithm::HmacSha256 => hmac::HMAC_SHA256,
        Algorithm::HmacSha512 => hmac::HMAC_SHA512,
        Algorithm::HmacSha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
    };
    let key = hmac::Key::new(algorithm, key);
    let mut context = hmac::Context::with_key(&key);
    for part in parts {
        context.update(part);
    }
    context.sign().as_ref().to_vec()
}

/// A code as it stands in a header.
pub fn write(encoding: Encoding, code: &[u8]) -> String {
    match encoding {
        Encoding::Hex => HEXLOWER.encode(code),
        Encoding::Base64 => BASE64.encode(code),
    }
}

/// A code that is wrong in one way. Changes are made to the bytes and not to the text, because the last
/// letter of Base64 has bits that count for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Spoiled {
    /// The last byte is another one.
    LastByte,
    /// The second half is another one.
    SecondHalf,
    /// Only the first four bytes are there.
    Truncated,
    /// Nothing is there.
    Empty,
}

impl Spoiled {
    /// All ways.
    pub const ALL: [Self; 4] = [
        Self::LastByte,
        Self::SecondHalf,
        Self::Truncated,
        Self::Empty,
    ];

    /// What it is, for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LastByte => "signature with another last byte",
            Self::SecondHalf => "signature with another second half",
            Self::Truncated => "first 4 bytes of the signature",
            Self::Empty => "empty signature",
        }
    }

    /// The code, spoiled.
    pub fn apply(self, code: &[u8]) -> Vec<u8> {
        let keep = match self {
            Self::LastByte => code.len().saturating_sub(1),
            Self::SecondHalf => code.len() / 2,
            Self::Truncated => return code.iter().take(4).copied().collect(),
            Self::Empty => return Vec::new(),
        };
        let bytes = code.iter().enumerate();
        bytes
            .map(|(at, byte)| if at < keep { *byte } else { !*byte })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with Python 3.11: `hmac.new(b"custom-secret", text, "sha1" | "sha256" | "sha512")`.
    #[test]
    fn each_algorithm_agrees_with_an_independent_implementation() {
        let text = b"POST\n/hooks/acme\ngolive-probe-1\n1700000000123\n{\"a\":1}";
        for (algorithm, hex, base64) in [
            (
                Algorithm::HmacSha1,
                "15fb4845b26e62ee0c7dcfa1a467983113f8a279",
                "FftIRbJuYu4Mfc+hpGeYMRP4onk=",
            ),
            (
                Algorithm::HmacSha256,
                "0662936eada0167d1db1d5b377ab6c73d7e62ace018f98b9575269fd9b3ae369",
                "BmKTbq2gFn0dsdWzd6tsc9fmKs4Bj5i5V1Jp/Zs642k=",
            ),
            (
                Algorithm::HmacSha512,
                "7981863634d69c08edeb353012816c37d916dc4d46558df6ac27fd937c30eec5a503cdb4305bb3fb5c166d891755b38fc96b84f39fcc01032a6fdd89945f6040",
                "eYGGNjTWnAjt6zUwEoFsN9kW3E1GVY32rCf9k3ww7sWlA820MFuz+1wWbYkXVbOPyWuE85/MAQMqb92JlF9gQA==",
            ),
        ] {
            let whole = mac(algorithm, b"custom-secret", &[text]);
            let parts = mac(algorithm, b"custom-secret", &[&text[..7], &text[7..]]);
            assert_eq!(whole, parts);
            assert_eq!(write(Encoding::Hex, &whole), hex);
            assert_eq!(write(Encoding::Base64, &whole), base64);
        }
    }

    #[test]
    fn a_spoiled_code_differs_from_the_right_one_where_it_says() {
        let code: Vec<u8> = (0..32).collect();
        let last = Spoiled::LastByte.apply(&code);
        assert_eq!((last.len(), &last[..31]), (32, &code[..31]));
        let half = Spoiled::SecondHalf.apply(&code);
        assert_eq!((half.len(), &half[..16]), (32, &code[..16]));
        assert!(half.iter().skip(16).zip(&code[16..]).all(|(a, b)| a != b));
        assert_eq!(Spoiled::Truncated.apply(&code), code[..4]);
        assert!(Spoiled::Empty.apply(&code).is_empty());
        for spoiled in Spoiled::ALL {
            let spoiled = spoiled.apply(&code);
            assert_ne!(
                write(Encoding::Base64, &spoiled),
                write(Encoding::Base64, &code)
            );
        }
    }
}
