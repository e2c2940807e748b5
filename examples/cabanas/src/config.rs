//! Configuration by environment, read once at start.

use std::net::IpAddr;
use std::time::Duration;

use secrecy::SecretString;

use crate::fault::{FaultError, Faults};

/// Secrets without which the service refuses to start, because each protects something.
pub const REQUIRED_SECRETS: [&str; 5] = [
    "JWT_SECRET",
    "REDIS_PASSWORD",
    "ICS_SALT",
    "ADMIN_CSRF_SECRET",
    "GRAFANA_ADMIN_PASSWORD",
];

/// Port when `PORT` is not set; the one that Fly's own examples use.
pub const DEFAULT_PORT: u16 = 8080;

/// How long `serve` lets running requests finish after SIGINT or SIGTERM.
///
/// Unit: seconds. One less than Fly's default `kill_timeout` of 5 s, after which the machine is
/// killed. Source: fly.io/docs/reference/configuration/#kill_timeout-option.
pub const DEFAULT_SHUTDOWN_GRACE_SECONDS: u64 = 4;

/// Seconds between two imports of the calendars named by `ICAL_FEEDS`.
pub const DEFAULT_ICAL_SYNC_SECONDS: u64 = 600;

/// Everything that the environment says.
#[derive(Debug)]
pub struct Config {
    /// `DATABASE_URL`.
    pub database_url: SecretString,
    /// `REDIS_URL`.
    pub redis_url: SecretString,
    /// Address to listen on; `None` means every address of the machine, IPv6 and IPv4.
    pub bind: Option<IpAddr>,
    /// `PORT`. 0 lets the system choose.
    pub port: u16,
    /// Name for the homepage: `FLY_APP_NAME`, else `cabanas`.
    pub app: String,
    /// Version for the homepage, and what decides how far `migrate` goes; see [`version`].
    pub version: String,
    /// `HEALTHZ_CHECKS_REDIS`: whether `/api/v1/healthz` also looks at Redis.
    pub healthz_checks_redis: bool,
    /// `ICS_SALT`: keys the tokens that let a channel import its calendar.
    pub ics_salt: SecretString,
    /// `WHATSAPP_VERIFY_TOKEN`.
    pub whatsapp_verify_token: Option<SecretString>,
    /// `WHATSAPP_APP_SECRET`.
    pub whatsapp_app_secret: Option<SecretString>,
    /// `MERCADOPAGO_WEBHOOK_SECRET`.
    pub mercadopago_webhook_secret: Option<SecretString>,
    /// `ICAL_FEEDS`: calendars to import, secret because feed addresses carry a token.
    pub ical_feeds: Option<SecretString>,
    /// `ICAL_SYNC_SECONDS`.
    pub ical_sync: Duration,
    /// `SHUTDOWN_GRACE_SECONDS`.
    pub shutdown_grace: Duration,
    /// `CABANAS_REHEARSAL`: whether there is an endpoint for rehearsals of the watch.
    pub rehearsal: bool,
    /// `CABANAS_FAULT`.
    pub faults: Faults,
}

/// Why the environment is not enough to start.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Names of all that is missing, so that one look mends everything.
    #[error("these environment variables are missing or empty: {}; set them as Fly secrets", .0.join(", "))]
    Missing(Vec<&'static str>),
    /// A value that does not parse.
    #[error("the environment variable {name} must be {wanted}")]
    Invalid {
        /// The variable.
        name: &'static str,
        /// What it must be.
        wanted: &'static str,
    },
    /// A switch that does not parse.
    #[error(transparent)]
    Fault(#[from] FaultError),
}

impl Config {
    /// Reads the configuration of `serve` through `get`, usually the environment of the process.
    pub fn from_env(get: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        let missing: Vec<_> = ["DATABASE_URL", "REDIS_URL"]
            .into_iter()
            .chain(REQUIRED_SECRETS)
            .filter(|name| get(name).is_none())
            .collect();
        if !missing.is_empty() {
            return Err(ConfigError::Missing(missing));
        }
        // Present, as just checked; an empty value cannot come back.
        let secret = |name: &str| SecretString::from(get(name).unwrap_or_default());
        let optional = |name: &str| get(name).map(SecretString::from);
        Ok(Self {
            database_url: secret("DATABASE_URL"),
            redis_url: secret("REDIS_URL"),
            bind: bind(&get)?,
            port: port(&get)?,
            app: app(&get),
            version: version(&get),
            healthz_checks_redis: flag(&get, "HEALTHZ_CHECKS_REDIS")?,
            ics_salt: secret("ICS_SALT"),
            whatsapp_verify_token: optional("WHATSAPP_VERIFY_TOKEN"),
            whatsapp_app_secret: optional("WHATSAPP_APP_SECRET"),
            mercadopago_webhook_secret: optional("MERCADOPAGO_WEBHOOK_SECRET"),
            ical_feeds: optional("ICAL_FEEDS"),
            ical_sync: seconds(&get, "ICAL_SYNC_SECONDS", DEFAULT_ICAL_SYNC_SECONDS)?,
            shutdown_grace: seconds(
                &get,
                "SHUTDOWN_GRACE_SECONDS",
                DEFAULT_SHUTDOWN_GRACE_SECONDS,
            )?,
            rehearsal: rehearsal(&get)?,
            faults: faults(&get)?,
        })
    }
}

/// What `migrate` and `db-check` need: they run beside the service and use only the database.
#[derive(Debug)]
pub struct DatabaseConfig {
    /// `DATABASE_URL`.
    pub database_url: SecretString,
    /// See [`version`].
    pub version: String,
    /// `CABANAS_FAULT`.
    pub faults: Faults,
}

impl DatabaseConfig {
    /// Reads the configuration through `get`.
    pub fn from_env(get: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        Ok(Self {
            database_url: get("DATABASE_URL")
                .map(SecretString::from)
                .ok_or_else(|| ConfigError::Missing(vec!["DATABASE_URL"]))?,
            version: version(&get),
            faults: faults(&get)?,
        })
    }
}

/// The name that the homepage shows.
pub fn app(get: &impl Fn(&str) -> Option<String>) -> String {
    get("FLY_APP_NAME").unwrap_or_else(|| "cabanas".to_owned())
}

/// The version of the running release: `CABANAS_VERSION`, else the tag of `FLY_IMAGE_REF`, else the
/// version of this crate.
pub fn version(get: &impl Fn(&str) -> Option<String>) -> String {
    get("CABANAS_VERSION")
        .or_else(|| get("FLY_IMAGE_REF").as_deref().and_then(image_tag))
        .unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_owned())
}

/// The tag in `registry/repository:tag@digest`; a colon before a slash belongs to a port.
fn image_tag(reference: &str) -> Option<String> {
    let name = reference.split('@').next()?;
    let last = name.rsplit('/').next()?;
    last.split_once(':').map(|(_, tag)| tag.to_owned())
}

/// Address to listen on. `FLY_SIM_BIND_IP` exists only in Golive's local world, where every machine
/// is a process with an address of its own on loopback.
pub fn bind(get: &impl Fn(&str) -> Option<String>) -> Result<Option<IpAddr>, ConfigError> {
    get("FLY_SIM_BIND_IP")
        .map(|text| {
            text.parse().map_err(|_| ConfigError::Invalid {
                name: "FLY_SIM_BIND_IP",
                wanted: "an IP address",
            })
        })
        .transpose()
}

/// `PORT`, or [`DEFAULT_PORT`].
pub fn port(get: &impl Fn(&str) -> Option<String>) -> Result<u16, ConfigError> {
    get("PORT").map_or(Ok(DEFAULT_PORT), |text| {
        text.parse().map_err(|_| ConfigError::Invalid {
            name: "PORT",
            wanted: "a number from 0 to 65535",
        })
    })
}

/// `CABANAS_REHEARSAL`.
pub fn rehearsal(get: &impl Fn(&str) -> Option<String>) -> Result<bool, ConfigError> {
    flag(get, "CABANAS_REHEARSAL")
}

fn flag(get: &impl Fn(&str) -> Option<String>, name: &'static str) -> Result<bool, ConfigError> {
    match get(name).as_deref() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(ConfigError::Invalid {
            name,
            wanted: "'true' or 'false'",
        }),
    }
}

fn seconds(
    get: &impl Fn(&str) -> Option<String>,
    name: &'static str,
    default: u64,
) -> Result<Duration, ConfigError> {
    get(name)
        .map_or(Ok(default), |text| {
            text.parse().map_err(|_| ConfigError::Invalid {
                name,
                wanted: "a whole number of seconds",
            })
        })
        .map(Duration::from_secs)
}

fn faults(get: &impl Fn(&str) -> Option<String>) -> Result<Faults, ConfigError> {
    Ok(get("CABANAS_FAULT").unwrap_or_default().parse()?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn env(extra: &[(&str, &str)]) -> impl Fn(&str) -> Option<String> {
        let mut all: Vec<(String, String)> = ["DATABASE_URL", "REDIS_URL"]
            .into_iter()
            .chain(REQUIRED_SECRETS)
            .map(|name| (name.to_owned(), "set".to_owned()))
            .collect();
        for (name, value) in extra {
            all.retain(|(n, _)| n != name);
            all.push(((*name).to_owned(), (*value).to_owned()));
        }
        move |name| all.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone())
    }

    #[test]
    fn every_missing_variable_is_named_at_once_and_an_empty_one_is_missing() {
        let got = Config::from_env(env(&[("JWT_SECRET", ""), ("REDIS_URL", "")]));
        let Err(ConfigError::Missing(names)) = got else {
            panic!("{got:?}");
        };
        assert_eq!(names, ["REDIS_URL", "JWT_SECRET"]);
    }

    #[test]
    fn the_version_is_the_tag_of_the_image_unless_it_is_given() {
        let image = (
            "FLY_IMAGE_REF",
            "registry.fly.io/sist-cabanas-mvp:1.4.0@sha256:ab",
        );
        assert_eq!(Config::from_env(env(&[image])).unwrap().version, "1.4.0");
        let given = ("CABANAS_VERSION", "2.0.0");
        assert_eq!(
            Config::from_env(env(&[image, given])).unwrap().version,
            "2.0.0"
        );
        let untagged = ("FLY_IMAGE_REF", "localhost:5000/cabanas");
        let crate_version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            Config::from_env(env(&[untagged])).unwrap().version,
            crate_version
        );
    }

    #[test]
    fn no_secret_shows_in_the_debug_output() {
        let config = Config::from_env(env(&[("ICS_SALT", "canary-4711")])).unwrap();
        assert!(!format!("{config:?}").contains("canary-4711"));
    }

    #[test]
    fn a_value_that_does_not_parse_names_its_variable() {
        for (name, value) in [
            ("PORT", "http"),
            ("FLY_SIM_BIND_IP", "localhost"),
            ("HEALTHZ_CHECKS_REDIS", "yes"),
            ("SHUTDOWN_GRACE_SECONDS", "4s"),
        ] {
            let error = Config::from_env(env(&[(name, value)]))
                .unwrap_err()
                .to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
