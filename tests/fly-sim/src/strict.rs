//! Extractors that refuse what Fly refuses: malformed JSON, unknown fields, wrong types.

use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::error::FlyError;

/// A JSON body. Types use `#[serde(deny_unknown_fields)]`, so unknown fields are 400.
#[derive(Debug)]
pub struct Strict<T>(pub T);

/// A JSON body that may be absent.
#[derive(Debug)]
pub struct StrictOptional<T>(pub Option<T>);

/// A query string; wrong values are 400.
#[derive(Debug)]
pub struct StrictQuery<T>(pub T);

/// Parses a body, or says in Fly's words what is wrong with it.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, FlyError> {
    serde_json::from_slice(body)
        .map_err(|error| FlyError::bad_request(format!("invalid_argument: invalid JSON: {error}")))
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Strict<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let body = Bytes::from_request(request, state)
            .await
            .map_err(IntoResponse::into_response)?;
        parse(&body).map(Self).map_err(IntoResponse::into_response)
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for StrictOptional<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let body = Bytes::from_request(request, state)
            .await
            .map_err(IntoResponse::into_response)?;
        if body.trim_ascii().is_empty() || body.trim_ascii() == b"null" {
            return Ok(Self(None));
        }
        parse(&body)
            .map(|value| Self(Some(value)))
            .map_err(IntoResponse::into_response)
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for StrictQuery<T> {
    type Rejection = FlyError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, FlyError> {
        Query::<T>::try_from_uri(&parts.uri)
            .map(|Query(value)| Self(value))
            .map_err(|error| FlyError::bad_request(format!("invalid_argument: {error}")))
    }
}
