//! An endpoint of Fly.io: method, path template, and how calls to it are made.

use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::limit::Rate;
use crate::fly::token::Surface;

/// Limit of a response body, in bytes. Larger bodies are an error, so that no response can fill
/// the memory of the process.
const BODY_LIMIT: usize = 1 << 20;

/// Limit of the body of a list, in bytes.
const LIST_LIMIT: usize = 4 << 20;

/// Attempts of a read.
const READ_ATTEMPTS: u32 = 3;

/// Everything but RFC 3986's unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// An endpoint of Fly.io and how it is called. Declared as a constant beside the call that uses it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(super) surface: Surface,
    /// Method and path template, such as `GET /v1/apps/{app}`; for GraphQL
    /// `POST /graphql ` and the name of the operation.
    pub(crate) name: &'static str,
    /// Whether a call changes something.
    pub(super) changes: bool,
    pub(super) rate: Rate,
    /// Limit of the response body, in bytes.
    pub(super) limit: usize,
    pub(super) attempts: u32,
    /// Statuses other than 2xx that the caller handles itself.
    pub(super) expects: &'static [u16],
}

impl Endpoint {
    /// A call that changes nothing. Transient failures are retried.
    pub(crate) const fn read(surface: Surface, name: &'static str) -> Self {
        let rate = match surface {
            Surface::Machines => Rate::ACTION,
            _ => Rate::UNPUBLISHED,
        };
        Self {
            surface,
            name,
            changes: false,
            rate,
            limit: BODY_LIMIT,
            attempts: READ_ATTEMPTS,
            expects: &[],
        }
    }

    /// A call that changes something. Never retried by the client.
    pub(crate) const fn change(surface: Surface, name: &'static str) -> Self {
        let mut endpoint = Self::read(surface, name);
        endpoint.changes = true;
        endpoint.attempts = 1;
        endpoint
    }

    /// A GraphQL query; the name is `POST /graphql ` and the operation.
    pub(crate) const fn query(name: &'static str) -> Self {
        Self::read(Surface::Graphql, name)
    }

    /// A GraphQL mutation; the name is `POST /graphql ` and the operation.
    pub(crate) const fn mutation(name: &'static str) -> Self {
        Self::change(Surface::Graphql, name)
    }

    /// The response is a list and may be longer.
    pub(crate) const fn list(mut self) -> Self {
        self.limit = LIST_LIMIT;
        self
    }

    /// Sets a rate limit of its own.
    pub(crate) const fn rate(mut self, rate: Rate) -> Self {
        self.rate = rate;
        self
    }

    /// Disables the retries of a read.
    pub(crate) const fn once(mut self) -> Self {
        self.attempts = 1;
        self
    }

    /// The caller handles these statuses itself; they are no errors.
    pub(crate) const fn expects(mut self, statuses: &'static [u16]) -> Self {
        self.expects = statuses;
        self
    }

    pub(crate) fn surface(&self) -> Surface {
        self.surface
    }

    pub(super) fn method(&self) -> Method {
        let method = self.name.split(' ').next().unwrap_or_default();
        Method::from_bytes(method.as_bytes()).unwrap_or_default()
    }

    /// The path template. The name of a GraphQL operation is not part of it.
    pub(super) fn template(&self) -> &'static str {
        self.name.split(' ').nth(1).unwrap_or_default()
    }

    /// The path with `args` in place of the template's `{name}` placeholders, in order, each
    /// percent-encoded.
    ///
    /// # Errors
    /// When an argument is missing or would change the path: empty, `.` or `..`.
    pub(super) fn path(&self, args: &[&str]) -> Result<String, String> {
        fill(self.template(), args)
    }
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
pub(crate) fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

fn fill(template: &str, args: &[&str]) -> Result<String, String> {
    let mut path = String::new();
    let mut args = args.iter();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').unwrap_or((after, ""));
        path.push_str(before);
        match args.next() {
            None | Some(&("" | "." | "..")) => return Err(format!("there is no usable {name}")),
            Some(arg) => path.push_str(&encode(arg)),
        }
        rest = after;
    }
    path.push_str(rest);
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_cannot_leave_their_place_in_the_path() {
        let template = "/v1/apps/{app}/secrets/{name}";
        assert_eq!(
            fill(template, &["a", "x/../y?z#%"]).as_deref(),
            Ok("/v1/apps/a/secrets/x%2F..%2Fy%3Fz%23%25")
        );
        assert_eq!(
            fill(template, &["a", "-._~ñ"]).as_deref(),
            Ok("/v1/apps/a/secrets/-._~%C3%B1")
        );
        for bad in ["", ".", ".."] {
            assert!(fill(template, &["a", bad]).is_err(), "{bad}");
        }
        assert!(fill(template, &["a"]).is_err());
    }
}
