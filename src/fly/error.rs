//! Errors of calls to Fly.io, classified once.
//!
//! Callers decide by the class, never by a text. A `status` code in the body takes precedence over
//! the message, because messages of Fly.io's 503 responses quote other errors.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

/// The result of a call.
pub type Result<T> = std::result::Result<T, Error>;

/// A call to Fly.io that did not succeed.
///
/// Display is one line: method and path template, status, Fly.io's message (redacted and truncated)
/// and Fly.io's request id. It never contains a token, a header or a whole body.
#[derive(Clone, PartialEq)]
pub struct Error {
    details: Box<Details>,
}

/// The parts of an [`Error`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Details {
    pub(crate) endpoint: &'static str,
    pub(crate) status: Option<u16>,
    pub(crate) code: Option<String>,
    pub(crate) message: String,
    pub(crate) request_id: Option<String>,
    pub(crate) class: Class,
    pub(crate) ambiguous: bool,
    /// The path that was requested; `None`: nothing was sent, or the endpoint says it.
    pub(crate) path: Option<String>,
    /// The registry that was called, if it is not Fly.io's.
    pub(crate) registry: Option<String>,
}

/// What a caller may conclude from an error.
#[derive(Clone, Debug, PartialEq)]
pub enum Class {
    /// Had no effect and is probably temporary: retry later.
    Transient,
    /// Had no effect: too many requests. Retry after `after`, if Fly.io named a time.
    Throttled {
        /// How long to wait.
        after: Option<Duration>,
    },
    /// A change whose outcome is unknown: observe before a retry.
    Ambiguous,
    /// Had no effect: a conflict with the present state.
    Conflict(Conflict),
    /// The token was refused (401), or lacks the permission (403).
    ///
    /// Soft until it has happened three times over at least 60 s, because Fly.io occasionally
    /// refuses a valid token. Hard: stop until the token changes.
    Auth {
        /// Whether to stop.
        hard: bool,
    },
    /// Had no effect, and will not succeed until the request changes.
    Invalid,
    /// Not found. Also returned for a short time after creation.
    Gone,
}

/// What a change conflicts with.
#[derive(Clone, Debug, PartialEq)]
pub enum Conflict {
    /// Somebody else holds the lease of the machine.
    Lease {
        /// When it expires, if Fly.io says so.
        expires_at: Option<Timestamp>,
    },
    /// The resource has changed since it was read: read it again.
    Version,
    /// No capacity.
    Capacity(Scope),
    /// The name is in use. For a machine, Fly.io names the one that has it.
    NameTaken {
        /// The machine that has the name.
        machine_id: Option<String>,
    },
    /// Exists already, without a name to identify it.
    Exists,
    /// The machine's state does not allow it now (412): wait until it has settled.
    State,
    /// The volume is in use by another machine.
    VolumeBusy,
    /// The requested version of the secrets has not reached that region yet.
    SecretsNotVisible,
    /// A limit of the organization or its billing, which a person must resolve.
    Quota,
    /// An unknown conflict.
    Other,
}

/// Where capacity is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// On this host; another host may have capacity.
    Host,
    /// On the host of the volume.
    Volume,
    /// In the region.
    Region,
}

/// When to retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// After this time, which Fly.io named.
    After(Duration),
    /// With backoff.
    Backoff,
    /// When the request, the token or the account changes.
    OnChange,
}

impl Error {
    pub(crate) fn new(details: Details) -> Self {
        Self {
            details: Box::new(details),
        }
    }

    /// The same for a request that is not sent to this registry.
    pub(crate) fn unsent_to(mut self, registry: Option<&str>) -> Self {
        self.details.path = None;
        self.details.registry = registry.map(str::to_owned);
        self
    }

    pub(crate) fn set_ambiguous(&mut self, ambiguous: bool) {
        self.details.ambiguous = ambiguous;
    }

    pub(crate) fn set_answer(&mut self, status: u16, request_id: Option<String>) {
        self.details.status = Some(status);
        self.details.request_id = request_id;
    }

    /// Method and template of the endpoint, such as `GET /v1/apps/{app}`.
    pub fn endpoint(&self) -> &'static str {
        self.details.endpoint
    }

    /// The HTTP status; `None` without a response.
    pub fn status(&self) -> Option<u16> {
        self.details.status
    }

    /// Fly.io's own code (`status` of the Machines API, `extensions.code` of GraphQL).
    pub fn code(&self) -> Option<&str> {
        self.details.code.as_deref()
    }

    /// Fly.io's message or ours: one line, at most [`MESSAGE_LIMIT`] bytes, without secrets.
    pub fn message(&self) -> &str {
        &self.details.message
    }

    /// Fly.io's id of the request, for its support.
    pub fn request_id(&self) -> Option<&str> {
        self.details.request_id.as_deref()
    }

    /// The class.
    pub fn class(&self) -> &Class {
        &self.details.class
    }

    /// Whether this was a change that may have happened nevertheless.
    ///
    /// True for every [`Class::Ambiguous`], and for conflicts with a 5xx status, which may follow a
    /// successful attempt that Fly.io itself retried.
    pub fn is_ambiguous(&self) -> bool {
        self.details.ambiguous
    }

    /// Whether the resource was not found (404, 410, GraphQL `NOT_FOUND`).
    pub fn is_gone(&self) -> bool {
        self.details.class == Class::Gone
    }

    /// Whether the request itself was refused.
    pub fn is_invalid(&self) -> bool {
        self.details.class == Class::Invalid
    }

    /// Whether Fly.io refuses the token (401), also when that is not final yet.
    pub fn is_token_refused(&self) -> bool {
        self.details.status == Some(401) && matches!(self.details.class, Class::Auth { .. })
    }

    /// The registry that was called, if it is not Fly.io's.
    pub fn registry(&self) -> Option<&str> {
        self.details.registry.as_deref()
    }

    /// Whose call failed, as the beginning of a sentence.
    pub fn failed(&self) -> String {
        match self.registry() {
            Some(registry) => format!("the call to the registry {registry} failed"),
            None => "Fly.io call failed".to_owned(),
        }
    }

    /// Whether the token lacks the permission (403).
    pub fn is_forbidden(&self) -> bool {
        self.details.status == Some(403) && matches!(self.details.class, Class::Auth { .. })
    }

    /// The conflict, if it is one.
    pub fn conflict(&self) -> Option<&Conflict> {
        match &self.details.class {
            Class::Conflict(conflict) => Some(conflict),
            _ => None,
        }
    }

    /// When to retry.
    pub fn retry(&self) -> Retry {
        match &self.details.class {
            Class::Throttled { after: Some(after) } => Retry::After(*after),
            Class::Invalid | Class::Auth { hard: true } | Class::Conflict(Conflict::Quota) => {
                Retry::OnChange
            }
            _ => Retry::Backoff,
        }
    }

    /// The next action of a person, as a clause in lower case.
    pub fn next_action(&self) -> &'static str {
        match &self.details.class {
            Class::Transient if self.details.registry.is_some() => {
                "if it stays: compare the registry in `deploy`, and see that the operator's network reaches it; Golive retries"
            }
            Class::Throttled { .. } if self.details.registry.is_some() => {
                "no action needed; Golive retries when the registry allows it"
            }
            Class::Invalid if self.details.registry.is_some() => {
                "correct the name, make the image public, or push it to registry.fly.io under an app of this organization"
            }
            Class::Transient | Class::Ambiguous => "no action needed; Golive retries",
            Class::Throttled { .. } => "no action needed; Golive retries when Fly.io allows it",
            Class::Gone => "check the name, and whether it was deleted on Fly.io",
            Class::Auth { hard: false } => "no action needed yet; Golive retries the token",
            Class::Auth { hard: true } if self.details.status == Some(403) => {
                "use a token with this permission, or a name that belongs to your organization"
            }
            Class::Auth { hard: true } => "put a valid token into the Secret",
            Class::Invalid => "correct what Fly.io reports",
            Class::Conflict(conflict) => match conflict {
                Conflict::Lease { .. } => "no action needed; Golive retries when the lease expires",
                Conflict::Version | Conflict::State | Conflict::SecretsNotVisible => {
                    "no action needed; Golive observes again and retries"
                }
                Conflict::Capacity(_) => "choose another region or size, or wait",
                Conflict::NameTaken { .. } | Conflict::Exists => "choose another name",
                Conflict::VolumeBusy => "free the volume, or name another",
                Conflict::Quota => {
                    "raise the limit, or resolve the billing problem of the organization"
                }
                Conflict::Other => "follow Fly.io's message",
            },
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.details.path, &self.details.registry) {
            (Some(path), registry) => {
                let method = self.details.endpoint.split(' ').next().unwrap_or_default();
                let host = registry.as_deref().unwrap_or_default();
                write!(f, "{method} {host}{path}")?;
            }
            // Nothing was sent: the message says why.
            (None, Some(_)) => return f.write_str(&self.details.message),
            (None, None) => f.write_str(self.details.endpoint)?,
        }
        match self.details.status {
            Some(status) => write!(f, " answered {status}: ")?,
            None => f.write_str(" failed: ")?,
        }
        f.write_str(&self.details.message)?;
        if let Some(id) = &self.details.request_id {
            write!(f, " (fly-request-id {id})")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.details, f)
    }
}

impl std::error::Error for Error {}

impl Class {
    /// Its name in metrics and logs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Throttled { .. } => "throttled",
            Self::Ambiguous => "ambiguous",
            Self::Conflict(_) => "conflict",
            Self::Auth { .. } => "auth",
            Self::Invalid => "invalid",
            Self::Gone => "gone",
        }
    }
}

/// Longest message of an error, in bytes.
pub const MESSAGE_LIMIT: usize = 400;

/// Sanitizes foreign text for logs and status: one line, truncated, without control and direction
/// characters, without `secrets`, passwords in URLs and Fly.io tokens.
pub(crate) fn clean(text: &str, secrets: &[&str]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|secret| secret.len() >= 4) {
        text = text.replace(secret, "***");
    }
    let mut out = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        if word.is_empty() {
            continue;
        }
        if !out.is_empty() {
            out.push(' ');
        }
        let masked = mask(word);
        for c in masked.chars().filter(|c| !is_direction_mark(*c)) {
            if out.len() + c.len_utf8() > MESSAGE_LIMIT {
                out.push('…');
                return out;
            }
            out.push(c);
        }
    }
    out
}

/// Masks what looks like a credential in one word.
fn mask(word: &str) -> String {
    let mut word = word.to_owned();
    for prefix in ["fm1r_", "fm1a_", "fm2_", "fo1_"] {
        while let Some(start) = word.find(prefix) {
            let rest = &word[start + prefix.len()..];
            let end = rest
                .find(|c: char| !(c.is_ascii_alphanumeric() || "+/=_-".contains(c)))
                .unwrap_or(rest.len());
            word.replace_range(start..start + prefix.len() + end, "***");
        }
    }
    if let Some(scheme) = word.find("://") {
        let rest = &word[scheme + 3..];
        let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        if let Some(at) = authority.rfind('@') {
            word.replace_range(scheme + 3..scheme + 3 + at, "***");
        }
    }
    word
}

fn is_direction_mark(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
impl Error {
    /// Fly.io refuses the token for good.
    pub fn of_refused_token() -> Self {
        Self::new(Details {
            endpoint: "GET /v1/platform/regions",
            status: Some(401),
            code: None,
            message: "unauthorized".to_owned(),
            request_id: None,
            class: Class::Auth { hard: true },
            ambiguous: false,
            path: None,
            registry: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_becomes_one_bounded_line_without_secrets() {
        let text = "could not\n\x1b[2Jreach \u{202e}postgres://user:pw@host/db with fm2_abc+/=,x \
                    and hunter22";
        let clean = clean(text, &["hunter22", ""]);
        assert_eq!(
            clean,
            "could not [2Jreach postgres://***@host/db with ***,x and ***"
        );
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        let clean = clean(&"ñ".repeat(1000), &[]);
        assert!(clean.len() <= MESSAGE_LIMIT + '…'.len_utf8());
        assert!(clean.ends_with('…'));
    }

    #[test]
    fn the_failure_of_a_registry_names_its_host_and_the_path() {
        let error = Error::new(Details {
            endpoint: "GET /v2/{repository}/manifests/{reference}",
            status: None,
            code: None,
            message: "cannot connect: dns error".to_owned(),
            request_id: None,
            class: Class::Transient,
            ambiguous: false,
            path: Some("/v2/library/nginx/manifests/latest".to_owned()),
            registry: Some("registry-1.docker.io".to_owned()),
        });
        assert_eq!(
            error.to_string(),
            "GET registry-1.docker.io/v2/library/nginx/manifests/latest failed: cannot connect: dns error"
        );
        assert!(error.failed().contains("registry-1.docker.io"));
        assert!(
            !error.next_action().contains("Fly.io"),
            "{}",
            error.next_action()
        );
        let unsent = error.unsent_to(Some("localhost"));
        assert_eq!(unsent.to_string(), "cannot connect: dns error");
    }

    #[test]
    fn an_error_reads_as_one_line_with_the_request_id() {
        let error = Error::new(Details {
            endpoint: "GET /v1/apps/{app}",
            status: Some(404),
            code: None,
            message: "Could not find App \"x\"".to_owned(),
            request_id: Some("01J-eze".to_owned()),
            class: Class::Gone,
            ambiguous: false,
            path: None,
            registry: None,
        });
        assert_eq!(
            error.to_string(),
            "GET /v1/apps/{app} answered 404: Could not find App \"x\" (fly-request-id 01J-eze)"
        );
        assert!(error.is_gone());
    }
}
