//! Responses as values: which fields are required, and which may be missing.
//!
//! Any field may be missing except the one that identifies the object. An object without it, or
//! a list with an unreadable element, makes the response an error, never a shorter list: a list
//! that is wrongly short would make Golive create things twice.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{endpoint::Endpoint, reply::Reply, request::Call};
use crate::fly::error::Result;

/// An object with an id or a name.
pub(crate) trait Identified {
    /// Empty when the response does not contain it.
    fn identity(&self) -> &str;
}

impl Call<'_> {
    /// Sends the call and decodes the response.
    pub(crate) async fn read<T: DeserializeOwned>(self) -> Result<T> {
        let endpoint = self.endpoint();
        self.send().await?.json(endpoint)
    }

    /// Sends the call and ignores the body.
    pub(crate) async fn done(self) -> Result<()> {
        self.send().await.map(drop)
    }

    /// Sends the call and reads one object.
    pub(crate) async fn object<T: DeserializeOwned + Identified>(self) -> Result<T> {
        self.object_in(&[]).await
    }

    /// Sends the call and reads one object under these keys.
    pub(crate) async fn object_in<T>(self, keys: &[&str]) -> Result<T>
    where
        T: DeserializeOwned + Identified,
    {
        let endpoint = self.endpoint();
        let reply = self.send().await?;
        reply.object_in(endpoint, keys)
    }

    /// Sends the call and reads a list; `null` is an empty one.
    pub(crate) async fn array<T: DeserializeOwned + Identified>(self) -> Result<Vec<T>> {
        let endpoint = self.endpoint();
        let reply = self.send().await?;
        let json: Value = reply.json(endpoint)?;
        items(&reply, endpoint, Some(&json))
    }

    /// Sends the call and reads the list under `key`. A missing list is empty (Go's `omitempty`).
    pub(crate) async fn array_in<T>(self, key: &str) -> Result<Vec<T>>
    where
        T: DeserializeOwned + Identified,
    {
        let endpoint = self.endpoint();
        let reply = self.send().await?;
        reply.items_in(endpoint, key)
    }
}

impl Reply {
    /// The list under `key`. A missing list is empty.
    pub(crate) fn items_in<T>(&self, endpoint: &'static Endpoint, key: &str) -> Result<Vec<T>>
    where
        T: DeserializeOwned + Identified,
    {
        let json: Value = self.json(endpoint)?;
        if !json.is_object() {
            return Err(self.unreadable(endpoint, "it is not an object"));
        }
        items(self, endpoint, json.get(key))
    }

    /// The object under these keys.
    pub(crate) fn object_in<T>(&self, endpoint: &'static Endpoint, keys: &[&str]) -> Result<T>
    where
        T: DeserializeOwned + Identified,
    {
        let mut json: Value = self.json(endpoint)?;
        for key in keys {
            json = json.get_mut(*key).map(Value::take).unwrap_or_default();
        }
        T::deserialize(&json)
            .ok()
            .filter(|object| !object.identity().is_empty())
            .ok_or_else(|| self.unreadable(endpoint, "its id or name is missing"))
    }
}

/// The elements of a list. `null` elements are skipped; any other unreadable element is an error.
fn items<T>(reply: &Reply, endpoint: &'static Endpoint, list: Option<&Value>) -> Result<Vec<T>>
where
    T: DeserializeOwned + Identified,
{
    let elements = match list {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(elements)) => elements,
        Some(_) => return Err(reply.unreadable(endpoint, "it is not a list")),
    };
    elements
        .iter()
        .filter(|element| !element.is_null())
        .map(|element| {
            T::deserialize(element)
                .ok()
                .filter(|item: &T| !item.identity().is_empty())
                .ok_or_else(|| reply.unreadable(endpoint, "an element of the list is unreadable"))
        })
        .collect()
}

/// Turns "not found" into `None`.
pub(crate) fn optional<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_gone() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Treats "not found" as success, for deletions.
pub(crate) fn gone_is_done(result: Result<()>) -> Result<()> {
    optional(result).map(drop)
}
