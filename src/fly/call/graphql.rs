//! GraphQL, for what has no REST endpoint. Source: fly-api.md D.1.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::classify;
use super::client::Client;
use crate::fly::call::{Endpoint, Reply};
use crate::fly::error::Result;
use crate::fly::token::Surface::Graphql;

impl Endpoint {
    /// A query; the name is `POST /graphql ` and the operation.
    pub(crate) const fn query(name: &'static str) -> Self {
        Self::read(Graphql, name)
    }

    /// A mutation; the name is `POST /graphql ` and the operation.
    pub(crate) const fn mutation(name: &'static str) -> Self {
        Self::change(Graphql, name)
    }
}

impl Client {
    /// Runs an operation and takes what is under `path` in its data; `null` there is the
    /// default of `T`'s reading, so ask for an `Option` where it can be.
    pub(crate) async fn graphql<T: DeserializeOwned>(
        &self,
        endpoint: &'static Endpoint,
        document: &str,
        variables: Value,
        path: &[&str],
    ) -> Result<T> {
        let operation = endpoint.name.rsplit(' ').next().unwrap_or_default();
        let reply = self
            .call(endpoint, &[])
            .json(&json!({
                "query": document,
                "variables": variables,
                "operationName": operation,
            }))
            .send()
            .await?;
        reply.data(endpoint, path)
    }
}

impl Reply {
    /// What is under `path` in the data of a GraphQL answer.
    fn data<T: DeserializeOwned>(&self, endpoint: &'static Endpoint, path: &[&str]) -> Result<T> {
        let mut json: Value = self.json(endpoint)?;
        let mut data = json.get_mut("data").map(Value::take).unwrap_or_default();
        for key in path {
            data = data.get_mut(*key).map(Value::take).unwrap_or_default();
        }
        T::deserialize(&data)
            .map_err(|_| self.unreadable(endpoint, &format!("no usable {}", path.join("."))))
    }
}

/// The first error in an answer that came with HTTP 200.
pub(crate) fn first_error(reply: &Reply, changes: bool) -> Option<classify::Verdict> {
    let json: Value = serde_json::from_slice(&reply.body).ok()?;
    let error = json.get("errors")?.as_array()?.first()?;
    let message = error
        .get("message")
        .and_then(Value::as_str)
        .unwrap_or("unspecified error");
    let code = error
        .get("extensions")
        .and_then(|e| e.get("code"))
        .and_then(Value::as_str);
    Some(classify::graphql(changes, code, message))
}
