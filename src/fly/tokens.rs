//! The token in use as Fly.io sees it. Source: the OpenAPI specification of the Machines API,
//! `/tokens/current`.

use std::time::Duration;

use super::call::Endpoint;
use super::error::Result;
use super::token::Surface::Machines;
use super::wire::wire;
use crate::fly::call::answer::Identified;
use crate::fly::call::client::Client;

wire! {
    /// One of the tokens in use.
    pub struct CurrentToken {
        /// Its id.
        pub token_id: String,
        /// Its user.
        pub user: Option<String>,
        /// Its organization.
        pub organization: Option<String>,
        /// Slug of that organization.
        pub org_slug: Option<String>,
        /// Apps that it is restricted to.
        pub apps: Vec<String>,
        /// Machine that it is restricted to.
        pub restricted_to_machine: Option<String>,
        /// Machine of the caller.
        pub source_machine_id: Option<String>,
    }
}

impl Identified for CurrentToken {
    fn identity(&self) -> &str {
        // No field is required.
        if self.token_id.is_empty() {
            "token"
        } else {
            &self.token_id
        }
    }
}

const CURRENT: Endpoint = Endpoint::read(Machines, "GET /v1/tokens/current");

/// Age up to which a remembered response is used: many activations share a token.
const AGE: Duration = Duration::from_secs(5);

impl Client {
    /// The token in use, up to five seconds old. The cheapest proof that Fly.io accepts it.
    pub async fn current_tokens(&self) -> Result<Vec<CurrentToken>> {
        let call = self
            .call(&CURRENT, &[])
            .counted_by(self.token.fingerprint());
        call.send_or_recall(AGE).await?.items_in(&CURRENT, "tokens")
    }
}
