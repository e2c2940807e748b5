//! Why an application gave no answer to a request.

use std::time::Duration;

/// Largest number of redirects that are followed, on the same host only.
pub const MAX_REDIRECTS: usize = 3;

/// Why there is no response. No variant contains fetched content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// The name has no address.
    #[error("{0} does not resolve")]
    NotResolved(String),
    /// The resolver of this process does not answer, so it is unknown whether the name has an
    /// address.
    #[error("the resolver gives no answer for {0}")]
    NoResolver(String),
    /// The name resolves to an address that is not public.
    #[error("{0} resolves to an address that is not public")]
    NotPublic(String),
    /// The connection fails.
    #[error("cannot connect to {0}")]
    Connect(String),
    /// No address of the name can be reached from here, because this network has no IPv6.
    #[error("{0} can only be reached over IPv6 there, and this cluster has no IPv6")]
    NoRoute(String),
    /// The certificate is not valid for the name, or not trusted.
    #[error("TLS with {0} fails: its certificate is not valid for the name or not trusted")]
    Tls(String),
    /// The handshake was refused or cut off.
    #[error("TLS with {0} is refused: Fly.io's edge has no certificate for the name")]
    TlsRefused(String),
    /// The connection was opened, and closed at once without a byte.
    #[error("{0} closes the connection at once: nothing accepts it behind the edge")]
    Closed(String),
    /// The connection was closed, or the response is not HTTP.
    #[error("{0} did not answer with HTTP")]
    Http(String),
    /// The response exceeds the limit.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// The time limit was reached.
    #[error("no answer within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    /// Redirected to another host, or too often.
    #[error("redirected to another host, or more than {MAX_REDIRECTS} times")]
    Redirected,
    /// Redirected to the page that was requested.
    #[error("redirected to itself for ever")]
    RedirectLoop,
    /// A token has bytes that no header can have.
    #[error("the token has characters that no token has")]
    BadToken,
    /// The path is not valid.
    #[error("the path cannot be requested")]
    BadPath,
}

impl ProbeError {
    /// Whether the request could not be made for a reason that says nothing about the application.
    pub fn is_ours(&self) -> bool {
        matches!(
            self,
            Self::NotResolved(_)
                | Self::NoResolver(_)
                | Self::NotPublic(_)
                | Self::NoRoute(_)
                | Self::BadPath
                | Self::BadToken
                | Self::TooLarge(_)
        )
    }
}
