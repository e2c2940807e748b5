//! A response with an expected status, and how its body is read.

use bytes::Bytes;
use http::header::HeaderMap;
use serde::de::DeserializeOwned;

use super::endpoint::Endpoint;
use crate::fly::error::{Class, Details, Error, Result};

/// A response with an expected status.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// `fly-request-id`, cleaned.
    pub(super) request_id: Option<String>,
    /// The path that was requested, for errors.
    pub(super) path: Option<String>,
    /// The registry that was called, if it is not Fly.io's.
    pub(super) registry: Option<String>,
}

impl Reply {
    /// A response without a body.
    #[cfg(test)]
    pub(crate) fn of(status: u16, headers: HeaderMap) -> Self {
        Self {
            status,
            headers,
            body: Bytes::new(),
            request_id: None,
            path: None,
            registry: None,
        }
    }

    /// Decodes the body.
    ///
    /// # Errors
    /// An undecodable body proves nothing: a read becomes transient, a change ambiguous.
    pub(crate) fn json<T: DeserializeOwned>(&self, endpoint: &'static Endpoint) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|source| {
            // serde's message can quote the body, so only the position is reported.
            let (line, column) = (source.line(), source.column());
            self.unreadable(endpoint, &format!("at line {line}, column {column}"))
        })
    }

    /// The error for a response that lacks something it must contain.
    pub(crate) fn unreadable(&self, endpoint: &'static Endpoint, what: &str) -> Error {
        Error::new(Details {
            endpoint: endpoint.name,
            status: Some(self.status),
            code: None,
            message: format!("the answer cannot be understood: {what}"),
            request_id: self.request_id.clone(),
            class: if endpoint.changes {
                Class::Ambiguous
            } else {
                Class::Transient
            },
            ambiguous: endpoint.changes,
            path: self.path.clone(),
            registry: self.registry.clone(),
        })
    }
}

/// A header as text; `None` when it is absent or not ASCII.
pub(super) fn header_text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}
