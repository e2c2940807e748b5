//! What Fly.io says about the token in use. Source: fly-api.md A.3, B.12.

use std::time::Duration;

use super::call::Endpoint;
use super::error::Result;
use super::token::Surface::Machines;
use super::wire::wire;
use crate::fly::call::answer::Identified;
use crate::fly::call::client::Client;

wire! {
    /// One of the tokens in use, as Fly.io sees it.
    pub struct CurrentToken {
        /// Its id.
        pub token_id: String,
        /// User it stands for.
        pub user: Option<String>,
        /// Organization it is for.
        pub organization: Option<String>,
        /// Slug of that organization.
        pub org_slug: Option<String>,
        /// Apps it is narrowed to.
        pub apps: Vec<String>,
        /// Machine it may be used from.
        pub restricted_to_machine: Option<String>,
        /// Machine it is used from.
        pub source_machine_id: Option<String>,
    }
}

impl Identified for CurrentToken {
    fn identity(&self) -> &str {
        // Only facts are read from it; none is needed.
        if self.token_id.is_empty() {
            "token"
        } else {
            &self.token_id
        }
    }
}

const CURRENT: Endpoint = Endpoint::read(Machines, "GET /v1/tokens/current");

/// Many activations with one token ask at the same time.
const AGE: Duration = Duration::from_secs(5);

impl Client {
    /// What Fly.io says about the token in use: the cheapest proof that it is accepted. Up to
    /// five seconds old.
    pub async fn current_tokens(&self) -> Result<Vec<CurrentToken>> {
        let call = self
            .call(&CURRENT, &[])
            .counted_by(self.token.fingerprint());
        call.send_or_recall(AGE).await?.items_in(&CURRENT, "tokens")
    }
}
