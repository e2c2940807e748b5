//! Answers as values: what must be in them, and what may be missing.
//!
//! A field may be missing, but not the one that says which thing it is: an object without it,
//! or a list with something unreadable in it, is an answer that cannot be understood, never a
//! shorter list. The platform has answered with lists that were wrongly empty, and machines
//! were created twice because of it (reliability-and-security.md 1.2).

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::fly::call::{Call, Endpoint, Reply};
use crate::fly::error::Result;

/// A thing that has an id or a name.
pub(crate) trait Identified {
    /// Empty when the answer did not say.
    fn identity(&self) -> &str;
}

impl Call<'_> {
    /// Sends it and reads one thing.
    pub(crate) async fn object<T: DeserializeOwned + Identified>(self) -> Result<T> {
        self.object_in(&[]).await
    }

    /// Sends it and reads one thing under these keys.
    pub(crate) async fn object_in<T>(self, keys: &[&str]) -> Result<T>
    where
        T: DeserializeOwned + Identified,
    {
        let endpoint = self.endpoint();
        let reply = self.send().await?;
        reply.object_in(endpoint, keys)
    }

    /// Sends it and reads a list; `null` is an empty one.
    pub(crate) async fn array<T: DeserializeOwned + Identified>(self) -> Result<Vec<T>> {
        let endpoint = self.endpoint();
        let reply = self.send().await?;
        let json: Value = reply.json(endpoint)?;
        items(&reply, endpoint, Some(&json))
    }

    /// Sends it and reads the list under `key`; none there is an empty one (Go's `omitempty`).
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
    /// Reads the list under `key`; none there is an empty one.
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

    /// Reads one thing under these keys.
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
            .ok_or_else(|| self.unreadable(endpoint, "it does not say what it is about"))
    }
}

/// The elements of a list. `null` elements are left out; anything else unreadable is an error.
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

/// Turns "there is no such thing" into `None`.
pub(crate) fn optional<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_gone() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Takes "there is no such thing" as success, for deletions.
pub(crate) fn gone_is_done(result: Result<()>) -> Result<()> {
    optional(result).map(drop)
}
