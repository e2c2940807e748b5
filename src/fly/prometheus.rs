//! Fly.io's hosted Prometheus. Source: fly.io/docs/monitoring/metrics: `https://api.fly.io/prometheus/<org-slug>`
//! answers Prometheus' HTTP API to tokens that may read the organization. It is a VictoriaMetrics.

use bytes::Bytes;

use super::call::Endpoint;
use super::error::Result;
use super::token::Surface::Logs;
use crate::fly::call::client::Client;

/// Errors of a query have a body of their own.
const QUERY: Endpoint = Endpoint::read(Logs, "GET /prometheus/{organization}/api/v1/query")
    .list()
    .once()
    .expects(&[400, 422]);

impl Client {
    /// The body of the answer to an instant query with these fields, of the Prometheus of an organization.
    pub async fn prometheus(
        &self,
        organization: &str,
        fields: &[(&'static str, String)],
    ) -> Result<Bytes> {
        let mut call = self.call(&QUERY, &[organization]);
        for (name, value) in fields {
            call = call.query(name, value);
        }
        Ok(call.send().await?.body)
    }
}
