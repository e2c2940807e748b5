//! Signed and forged requests of a scheme. Pure.

use bytes::Bytes;
use http::Method;

use super::probe::Request;
use crate::webhook::{
    scheme::{Delivery, Place, Scheme},
    sign::Spoiled,
};

/// How a request is signed.
#[derive(Clone, Copy, Debug)]
pub enum Signature<'a> {
    /// As the sender signs it.
    Right,
    /// Not at all.
    None,
    /// Not at all, but with the time that stands in the signature's header.
    TimeOnly,
    /// With another key.
    WrongKey,
    /// With a signature that is wrong in one way.
    Spoiled(Spoiled),
    /// With the signature of another body.
    Of(&'a str),
    /// With an empty key, as an application checks that tries a second secret which is not set.
    EmptyKey,
    /// With a text that is no signature in any encoding.
    Malformed,
    /// With a version of signature that no sender has, made with another key.
    OtherVersion,
}

/// Signs requests, and forges them.
pub struct Signer<'a> {
    /// How the sender signs.
    pub scheme: Scheme,
    /// The key.
    pub key: Vec<u8>,
    /// A key that is not the sender's.
    pub wrong_key: Vec<u8>,
    /// The method.
    pub method: Method,
    /// Path and query.
    pub path: &'a str,
    /// The type of the body.
    pub content_type: &'a str,
}

impl Signer<'_> {
    /// A request with this event id, sent at this time (milliseconds since 1970). `event_type` replaces
    /// the type of the event, if the scheme has it in a header.
    pub fn request(
        &self,
        id: &str,
        millis: i64,
        body: &str,
        event_type: Option<&str>,
        signature: Signature<'_>,
    ) -> Request {
        let delivery = Delivery {
            method: self.method.as_str(),
            path: self.path,
            id,
            millis,
            body: body.as_bytes(),
        };
        let right = || self.scheme.code(&self.key, &delivery);
        let code = match signature {
            Signature::Right => Some(right()),
            Signature::None
            | Signature::TimeOnly
            | Signature::Malformed
            | Signature::OtherVersion => None,
            Signature::EmptyKey => Some(self.scheme.code(&[], &delivery)),
            Signature::WrongKey => Some(self.scheme.code(&self.wrong_key, &delivery)),
            Signature::Spoiled(how) => Some(how.apply(&right())),
            Signature::Of(other) => {
                let body = other.as_bytes();
                Some(self.scheme.code(&self.key, &Delivery { body, ..delivery }))
            }
        };
        let mut headers = vec![("Content-Type".to_owned(), self.content_type.to_owned())];
        let text = match signature {
            Signature::Malformed => Some(self.scheme.malformed()),
            Signature::OtherVersion => {
                let code = self.scheme.code(&self.wrong_key, &delivery);
                self.scheme.other_version(&code)
            }
            _ => None,
        };
        headers.extend(match text {
            Some(text) => self.scheme.headers_with(&delivery, Some(&text)),
            None => self.scheme.headers(&delivery, code.as_deref()),
        });
        if matches!(signature, Signature::TimeOnly) {
            headers.extend(self.scheme.time_only(&delivery));
        }
        if let (Some(value), Some(Place::Header(name))) = (event_type, &self.scheme.event_type) {
            headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
            headers.push((name.clone(), value.to_owned()));
        }
        Request {
            method: self.method.clone(),
            path: self.path.to_owned(),
            headers,
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }
}
