//! What is wrong with the address of a service, in words that never repeat it. Pure.
//!
//! Grammar: RFC 3986; libpq's documentation, "Connection URIs". The commonest mistakes are copied
//! commands, quotes, the name of the variable, and passwords whose reserved characters are not
//! percent-encoded.

use data_encoding::{BASE64, BASE64_NOPAD};

mod hosts;
mod problem;

use problem::encode;
pub use problem::{Problem, Service};

/// Quotes that are copied along with an address.
const QUOTES: [char; 12] = ['\'', '"', '`', '“', '”', '„', '‘', '’', '«', '»', '<', '>'];

/// Keys of a list of keys and values, as libpq reads it beside a URI.
const KEYS: [&str; 10] = [
    "host", "hostaddr", "port", "dbname", "user", "password", "passfile", "sslmode", "service",
    "options",
];

/// Judges an address: what makes it unusable, or else what is doubtful about it.
///
/// # Errors
/// What no driver reads, or what a driver reads differently from what is meant.
pub fn judge(service: Service, address: &str) -> Result<Vec<Problem>, Problem> {
    copied(service, address)?;
    let Some((scheme, rest)) = address.split_once("://") else {
        return Err(without_scheme(service, address));
    };
    let mut doubts: Vec<Problem> = scheme_of(service, scheme)?.into_iter().collect();
    characters(service, rest)?;
    doubts.extend(hosts::judge(service, rest)?);
    Ok(doubts)
}

/// What was copied along with the address.
fn copied(service: Service, address: &str) -> Result<(), Problem> {
    let only = |what: &str| Problem {
        what: what.to_owned(),
        action: format!("store the address alone, as {}", service.form()),
    };
    if address.trim().is_empty() {
        return Err(only("is blank"));
    }
    if address.starts_with(['\u{feff}', '\u{200b}', '\u{200e}', '\u{200f}']) {
        return Err(only(
            "begins with an invisible character, which an editor has added",
        ));
    }
    if address.trim().contains(['\n', '\r']) {
        return Err(only("has more than one line"));
    }
    if address.trim() != address {
        return Err(only("begins or ends with a blank"));
    }
    if address.starts_with('{') {
        return Err(only("is JSON and not an address"));
    }
    if has_name(address) {
        return Err(only("has the name of a variable in front, such as `NAME=`"));
    }
    if is_command(address) {
        return Err(only("is a command, such as `psql '…'`, and not an address"));
    }
    if address.starts_with(QUOTES) || address.ends_with(QUOTES) {
        return Err(only("is in quotes, which are taken as a part of it"));
    }
    if is_encoded(address) {
        return Err(Problem {
            what: "is an address in base64: it was encoded twice".to_owned(),
            action: "put the address as it is under `stringData` of the Secret, or encode it once under `data`".to_owned(),
        });
    }
    let first = address.split('=').next().unwrap_or_default();
    if service == Service::Postgres && KEYS.contains(&first.trim()) {
        return Err(
            service.problem("is a list of keys and values, which only libpq reads, and not a URL")
        );
    }
    Ok(())
}

/// Whether a name stands in front: `NAME=…`, `export NAME=…`, `NAME: …`.
fn has_name(address: &str) -> bool {
    let address = ["export ", "set ", "SET ", "$env:"]
        .iter()
        .find_map(|word| address.strip_prefix(word))
        .unwrap_or(address);
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let Some(end) = address.find(|c: char| !is_word(c)) else {
        return false;
    };
    let (name, rest) = address.split_at(end);
    if name.is_empty() || KEYS.contains(&name) {
        return false;
    }
    let rest = rest.trim_start();
    let value = rest.strip_prefix('=').or_else(|| {
        // `postgres://` has a colon too.
        rest.strip_prefix(':').filter(|rest| rest.starts_with(' '))
    });
    value.is_some_and(|value| value.contains("://") || name.to_ascii_uppercase().ends_with("_URL"))
}

/// Whether the address is an argument of a program.
fn is_command(address: &str) -> bool {
    let Some((program, rest)) = address.split_once(' ') else {
        return false;
    };
    let is_name = |c: char| c.is_ascii_lowercase() || "-_./".contains(c);
    program.chars().all(is_name)
        && (rest.contains("://") || ["psql", "redis-cli"].contains(&program))
}

/// Whether it is base64 of an address.
fn is_encoded(address: &str) -> bool {
    let whole: String = address.split_whitespace().collect();
    let decoded = BASE64
        .decode(whole.as_bytes())
        .or_else(|_| BASE64_NOPAD.decode(whole.as_bytes()));
    decoded.is_ok_and(|bytes| String::from_utf8(bytes).is_ok_and(|address| address.contains("://")))
}

/// What a text without `://` is.
fn without_scheme(service: Service, address: &str) -> Problem {
    let lower = address.to_ascii_lowercase();
    if ["file:", "sqlite:"]
        .iter()
        .any(|scheme| lower.starts_with(scheme))
    {
        return a_file();
    }
    service.problem("has no scheme, the part up to `://`")
}

fn a_file() -> Problem {
    Problem {
        what: "is a file and not a server".to_owned(),
        action: "remove `provision.postgres`, and give the path of the file in `[env]` of the fly.toml, on a volume in `[[mounts]]`".to_owned(),
    }
}

/// The scheme: a doubt about it, or a problem.
fn scheme_of(service: Service, scheme: &str) -> Result<Option<Problem>, Problem> {
    let lower = scheme.to_ascii_lowercase();
    let known: &[&str] = match service {
        Service::Postgres => &["postgres", "postgresql"],
        Service::Redis => &["redis", "rediss"],
        Service::Https => &["https"],
    };
    if known.contains(&lower.as_str()) {
        return Ok((lower != scheme).then(|| {
            service.problem("has a scheme in capital letters, which some drivers do not read")
        }));
    }
    let dialects: &[&str] = match service {
        Service::Postgres => &[
            "postgres+",
            "postgresql+",
            "jdbc:postgresql",
            "ecto",
            "postgis",
            "cockroachdb",
            "prisma",
            "prisma+postgres",
            "pgx",
            "pgx5",
        ],
        Service::Redis => &[
            "valkey",
            "valkeys",
            "redis+",
            "redis-sentinel",
            "redis-socket",
            "rediss+",
            "unix",
        ],
        Service::Https => &[],
    };
    let is_dialect = |word: &str| lower == word || (word.ends_with('+') && lower.starts_with(word));
    if dialects.iter().any(|word| is_dialect(word)) {
        return Ok(Some(Problem {
            what: "has a scheme that only some drivers read; psql and redis-cli do not, and with them not Golive's check of the database".to_owned(),
            action: format!("if the application does not need it, write it as {}", service.form()),
        }));
    }
    Err(other_scheme(service, &lower))
}

/// What an address of something else is, and where that belongs.
fn other_scheme(service: Service, scheme: &str) -> Problem {
    let field = match service {
        Service::Postgres => "provision.postgres",
        Service::Redis => "provision.redis",
        Service::Https => "notifications",
    };
    let elsewhere = |what: &str| Problem {
        what: format!("is that of {what}"),
        action: format!(
            "remove `{field}`, and give that address to the application through a Secret in `provision.secrets.from`"
        ),
    };
    match (service, scheme) {
        (Service::Https, "http") => Problem {
            what: "begins with `http://`, and is sent unencrypted".to_owned(),
            action: "use the address that begins with `https://`".to_owned(),
        },
        (Service::Redis, "http" | "https") => Problem {
            what: "is that of a web API, such as Upstash's REST API, and not of Redis itself"
                .to_owned(),
            action: "use the address that begins with `rediss://` or `redis://`".to_owned(),
        },
        (Service::Postgres, "http" | "https") => Problem {
            what: "is that of a web page or web API, and not of PostgreSQL".to_owned(),
            action: "use the connection string that begins with `postgres://` or `postgresql://`"
                .to_owned(),
        },
        (Service::Postgres, "redis" | "rediss" | "valkey") => Problem {
            what: "is that of Redis, and is given for PostgreSQL".to_owned(),
            action: "name this key in `provision.redis`, and PostgreSQL's in `provision.postgres`"
                .to_owned(),
        },
        (Service::Redis, "postgres" | "postgresql") => Problem {
            what: "is that of PostgreSQL, and is given for Redis".to_owned(),
            action: "name this key in `provision.postgres`, and that of Redis in `provision.redis`"
                .to_owned(),
        },
        (Service::Postgres, "file" | "sqlite" | "sqlite3" | "libsql") => a_file(),
        (Service::Postgres, "mysql" | "mysql2" | "mariadb" | "jdbc:mysql") => {
            elsewhere("MySQL, and not of PostgreSQL")
        }
        (Service::Postgres, "mongodb" | "mongodb+srv") => {
            elsewhere("MongoDB, and not of PostgreSQL")
        }
        (Service::Postgres, "sqlserver" | "mssql" | "jdbc:sqlserver") => {
            elsewhere("SQL Server, and not of PostgreSQL")
        }
        _ => service.problem("has a scheme that is none of this service"),
    }
}

/// Characters that no address has, whatever they are a part of.
fn characters(service: Service, rest: &str) -> Result<(), Problem> {
    let upper = rest.to_ascii_uppercase();
    let templates = [
        "${",
        "$(",
        "{{",
        "<",
        "[YOUR",
        "YOUR_PASSWORD",
        "YOUR-PASSWORD",
        "****",
    ];
    if templates.iter().any(|word| upper.contains(word)) {
        return Err(Problem {
            what: "has a placeholder, which nothing replaces".to_owned(),
            action: "put the real address there, as the provider of the database shows it"
                .to_owned(),
        });
    }
    if service != Service::Https && rest.contains('#') {
        return Err(encode("has a `#`, which is written as `%23`"));
    }
    if rest.chars().any(char::is_whitespace) {
        return Err(encode("has a blank, which is written as `%20`"));
    }
    if rest.chars().any(|c| c.is_control() || !c.is_ascii()) {
        return Err(encode(
            "has a character outside ASCII, which must be percent-encoded",
        ));
    }
    if rest.contains(['"', '\\', '^', '`', '{', '|', '}', '>']) {
        return Err(encode(
            "has a character that must be percent-encoded: `\"`, `\\`, `^`, `{`, `|`, `}` or a backtick",
        ));
    }
    let stray = rest.match_indices('%').any(|(at, _)| {
        let code = rest.get(at + 1..at + 3).unwrap_or_default();
        code.len() != 2 || !code.bytes().all(|byte| byte.is_ascii_hexdigit())
    });
    if stray {
        return Err(encode(
            "has a `%` that begins no percent-encoding: a percent sign is written as `%25`",
        ));
    }
    if rest.contains("%00") {
        return Err(encode("has an encoded NUL byte, `%00`"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
