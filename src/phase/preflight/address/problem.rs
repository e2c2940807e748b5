//! What is wrong with an address.

/// The service that an address is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// PostgreSQL.
    Postgres,
    /// Redis.
    Redis,
    /// An endpoint that is called by HTTPS.
    Https,
}

/// What is wrong, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong: continues "the address …".
    pub what: String,
    /// What a person must do.
    pub action: String,
}

/// How a percent-encoded text is made.
const ENCODE: &str = "percent-encode user name and password: `printf %s 'PASSWORD' | jq -sRr @uri`";

impl Service {
    /// How an address of the service is written.
    pub fn form(self) -> &'static str {
        match self {
            Self::Postgres => "`postgres://USER:PASSWORD@HOST:5432/NAME`",
            Self::Redis => "`redis://USER:PASSWORD@HOST:6379`, or with `rediss://` for TLS",
            Self::Https => "`https://HOST/PATH`",
        }
    }

    /// A problem whose action is the form of an address.
    pub fn problem(self, what: impl Into<String>) -> Problem {
        Problem {
            what: what.into(),
            action: format!("write it as {}", self.form()),
        }
    }
}

/// A character that must be percent-encoded.
pub fn encode(what: &str) -> Problem {
    Problem {
        what: what.to_owned(),
        action: ENCODE.to_owned(),
    }
}
