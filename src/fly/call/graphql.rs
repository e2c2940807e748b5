//! GraphQL, for what has no REST endpoint. The operations are those that flyctl sends
//! (github.com/superfly/fly-go).

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::client::Client;
use super::endpoint::Endpoint;
use super::reply::Reply;
use crate::fly::error::Result;

impl Client {
    /// Runs an operation and decodes what is under `path` in its data. `null` there is decoded as
    /// JSON `null`: use an `Option` where it can occur.
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
    /// Decodes what is under `path` in the data of a GraphQL response.
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
