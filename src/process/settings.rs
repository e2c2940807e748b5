//! What an operator of the operator can set: flags, each also an environment variable.
//!
//! A value that cannot work is refused at the start, in words that say what is required. Nothing
//! here is secret: tokens come from Kubernetes Secrets, never from a flag.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use url::{Host, Url};

use crate::process::leader;

/// Takes web applications from nothing to live on Fly.io, one Activation object each.
#[derive(Clone, Debug, Parser)]
#[command(name = "golive", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// Something else than running the controller.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How the controller runs.
    #[command(flatten)]
    pub settings: Settings,
}

/// Something else than running the controller.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Print the CustomResourceDefinitions, for `kubectl apply --server-side -f -`.
    Crd,
    /// Write what follows from the API types: `crds/` and `docs/reference/activation.md`.
    Generate {
        /// The root of the repository.
        #[arg(default_value = ".", value_name = "DIR")]
        root: PathBuf,
    },
}

/// How the controller runs.
#[derive(Clone, Debug, Args)]
pub struct Settings {
    /// Base URL of Fly's Machines API. Tokens are sent to these four URLs and nowhere else.
    #[arg(long, env = "GOLIVE_FLY_MACHINES_URL", default_value = "https://api.machines.dev", value_parser = base_url, value_name = "URL")]
    pub fly_machines_url: Url,

    /// Base URL of Fly's GraphQL and log API.
    #[arg(long, env = "GOLIVE_FLY_API_URL", default_value = "https://api.fly.io", value_parser = base_url, value_name = "URL")]
    pub fly_api_url: Url,

    /// Base URL of Fly's API for managed Postgres.
    #[arg(long, env = "GOLIVE_FLY_UIEX_URL", default_value = "https://api.fly.io", value_parser = base_url, value_name = "URL")]
    pub fly_uiex_url: Url,

    /// Base URL of Fly's image registry.
    #[arg(long, env = "GOLIVE_FLY_REGISTRY_URL", default_value = "https://registry.fly.io", value_parser = base_url, value_name = "URL")]
    pub fly_registry_url: Url,

    /// Ask URL for images of the registry DOMAIN, such as `docker.io`: a mirror of your choice, which
    /// may be anywhere. Credentials that an object names for DOMAIN go there, the Fly token never.
    /// Repeatable.
    #[arg(long, env = "GOLIVE_REGISTRY_MIRROR", value_delimiter = ',', value_parser = Mirror::parse, value_name = "DOMAIN=URL")]
    pub registry_mirror: Vec<Mirror>,

    /// Connect to ADDR instead of asking DNS for hosts that match, as curl's --connect-to does.
    /// HOST may begin with `*.`; names and certificates stay those of HOST. Repeatable.
    #[arg(long, env = "GOLIVE_RESOLVE", value_delimiter = ',', value_parser = Resolve::parse, value_name = "HOST:PORT=ADDR:PORT")]
    pub resolve: Vec<Resolve>,

    /// PEM file of certificate authorities to trust beside those of the system.
    #[arg(long, env = "GOLIVE_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,

    /// Watch this namespace only. Repeatable; without it, all namespaces are watched.
    #[arg(long, env = "GOLIVE_NAMESPACE", value_delimiter = ',', value_parser = namespace, value_name = "NAME")]
    pub namespace: Vec<String>,

    /// The operator's own namespace: its Lease and its claims on Fly apps are there.
    #[arg(long, env = "GOLIVE_OWN_NAMESPACE", default_value = "golive-system", value_parser = namespace, value_name = "NAME")]
    pub own_namespace: String,

    /// How often an unchanged activation is compared with Fly.io. At least 1s.
    #[arg(long, env = "GOLIVE_RECHECK_INTERVAL", default_value = "5m", value_parser = duration, value_name = "DURATION")]
    pub recheck_interval: Duration,

    /// First pause after a failure; it doubles with every further one.
    #[arg(long, env = "GOLIVE_BACKOFF_MIN", default_value = "1s", value_parser = duration, value_name = "DURATION")]
    pub backoff_min: Duration,

    /// Longest pause after failures.
    #[arg(long, env = "GOLIVE_BACKOFF_MAX", default_value = "5m", value_parser = duration, value_name = "DURATION")]
    pub backoff_max: Duration,

    /// How long something must be seen not to exist before a create whose outcome is unknown is
    /// sent again.
    #[arg(long, env = "GOLIVE_SETTLE", default_value = "10s", value_parser = duration, value_name = "DURATION")]
    pub settle: Duration,

    /// Pause between two looks at what Fly.io offers no long poll for, such as a database that
    /// is being created.
    #[arg(long, env = "GOLIVE_POLL_INTERVAL", default_value = "2s", value_parser = duration, value_name = "DURATION")]
    pub poll_interval: Duration,

    /// How often each Secret that an activation names is looked at, by name and its metadata alone,
    /// where the operator may not watch Secrets: in all namespaces. A round that would take more
    /// than 25 looks a second takes longer. At least 1s.
    #[arg(long, env = "GOLIVE_SECRET_LOOK_INTERVAL", default_value = "15s", value_parser = duration, value_name = "DURATION")]
    pub secret_look_interval: Duration,

    /// For how long a token that Fly.io refuses is tried again before the activation stops:
    /// Fly.io refuses a good token now and then.
    #[arg(long, env = "GOLIVE_TOKEN_PATIENCE", default_value = "60s", value_parser = duration, value_name = "DURATION")]
    pub token_patience: Duration,

    /// Make a token for each app alone, and use it in place of the user's wherever Fly.io takes it.
    /// With `--app-tokens=false` those that were made are revoked.
    #[arg(long, env = "GOLIVE_APP_TOKENS", default_value_t = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub app_tokens: bool,

    /// The shortest pause between two looks at the registry of an activation's `deploy.source`,
    /// whatever its `interval` says. At least 1s.
    #[arg(long, env = "GOLIVE_SOURCE_INTERVAL_MIN", default_value = "30s", value_parser = duration, value_name = "DURATION")]
    pub source_interval_min: Duration,

    /// How many activations are worked on at once. From 1 to 1000.
    #[arg(long, env = "GOLIVE_MAX_CONCURRENT_RECONCILES", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1000), value_name = "COUNT")]
    pub max_concurrent_reconciles: u16,

    /// After how long one look at one activation is cut off, to be tried again.
    #[arg(long, env = "GOLIVE_RECONCILE_TIMEOUT", default_value = "60s", value_parser = duration, value_name = "DURATION")]
    pub reconcile_timeout: Duration,

    /// How long work under way may take to end after SIGTERM. Longer than --reconcile-timeout
    /// and shorter than the pod's terminationGracePeriodSeconds.
    #[arg(long, env = "GOLIVE_SHUTDOWN_GRACE", default_value = "75s", value_parser = duration, value_name = "DURATION")]
    pub shutdown_grace: Duration,

    /// Address of /healthz, /readyz and /metrics. Port 0 lets the system choose; the log says
    /// which.
    #[arg(
        long,
        env = "GOLIVE_LISTEN",
        default_value = "0.0.0.0:8080",
        value_name = "ADDR:PORT"
    )]
    pub listen: SocketAddr,

    /// How log lines look.
    #[arg(long, env = "GOLIVE_LOG_FORMAT", default_value = "json", value_enum)]
    pub log_format: LogFormat,

    /// Which log lines are written: a level, or `target=level` pairs, as of tracing's EnvFilter.
    #[arg(
        long,
        env = "GOLIVE_LOG",
        default_value = "info",
        value_name = "FILTER"
    )]
    pub log: String,

    /// Elect one leader among several replicas. `--leader-elect=false` for a single one.
    #[arg(long, env = "GOLIVE_LEADER_ELECT", default_value_t = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub leader_elect: bool,

    /// Name of the Lease.
    #[arg(long, env = "GOLIVE_LEASE_NAME", default_value = "golive", value_parser = namespace, value_name = "NAME")]
    pub lease_name: String,

    /// How long the lease holds without a renewal. Whole seconds.
    #[arg(long, env = "GOLIVE_LEASE_DURATION", default_value = "15s", value_parser = duration, value_name = "DURATION")]
    pub lease_duration: Duration,

    /// After how long without a renewal the leader gives up and exits.
    #[arg(long, env = "GOLIVE_LEASE_RENEW_DEADLINE", default_value = "10s", value_parser = duration, value_name = "DURATION")]
    pub lease_renew_deadline: Duration,

    /// Pause between two looks at the lease.
    #[arg(long, env = "GOLIVE_LEASE_RETRY_PERIOD", default_value = "2s", value_parser = duration, value_name = "DURATION")]
    pub lease_retry_period: Duration,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line, for machines.
    Json,
    /// For people.
    Text,
}

/// A setting that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{flag} {required}")]
pub struct Invalid {
    flag: &'static str,
    required: &'static str,
}

impl Settings {
    /// Checks what one flag alone cannot tell. Returns the first thing that is wrong.
    pub fn validate(&self) -> Result<(), Invalid> {
        let second = Duration::from_secs(1);
        let rules = [
            (
                self.recheck_interval >= second,
                "--recheck-interval",
                "must be at least 1s",
            ),
            (
                self.source_interval_min >= second,
                "--source-interval-min",
                "must be at least 1s",
            ),
            (
                self.secret_look_interval >= second,
                "--secret-look-interval",
                "must be at least 1s",
            ),
            (
                self.reconcile_timeout >= second,
                "--reconcile-timeout",
                "must be at least 1s",
            ),
            (
                self.shutdown_grace > self.reconcile_timeout,
                "--shutdown-grace",
                "must be longer than --reconcile-timeout, or work is cut off in the middle",
            ),
            (
                self.lease_duration.subsec_nanos() == 0 && self.lease_duration >= second,
                "--lease-duration",
                "must be whole seconds, at least 1s",
            ),
            (
                self.lease_renew_deadline < self.lease_duration,
                "--lease-renew-deadline",
                "must be shorter than --lease-duration, or two replicas can lead at once",
            ),
            (
                // client-go asks for the same: a jittered period must fit into the deadline.
                self.lease_retry_period.mul_f64(1.2) < self.lease_renew_deadline,
                "--lease-retry-period",
                "must be shorter than --lease-renew-deadline divided by 1.2",
            ),
            (
                self.lease_retry_period >= Duration::from_millis(10),
                "--lease-retry-period",
                "must be at least 10ms",
            ),
        ];
        match rules.into_iter().find(|(holds, ..)| !holds) {
            Some((_, flag, required)) => Err(Invalid { flag, required }),
            None => Ok(()),
        }
    }

    /// The election these settings ask for.
    pub fn election(&self, identity: String, now: crate::clock::Now) -> leader::Election {
        leader::Election {
            namespace: self.own_namespace.clone(),
            name: self.lease_name.clone(),
            identity,
            lease_duration: self.lease_duration,
            renew_deadline: self.lease_renew_deadline,
            retry_period: self.lease_retry_period,
            now,
        }
    }
}

/// Where to ask for images of a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// The registry as images name it, in lower case.
    pub domain: String,
    /// The base URL.
    pub url: Url,
}

impl Mirror {
    /// Reads `DOMAIN=URL`.
    pub fn parse(text: &str) -> Result<Mirror, String> {
        let wanted = "must look like `docker.io=https://mirror.example`";
        let (domain, url) = text.split_once('=').ok_or(wanted)?;
        if domain.is_empty() || domain.contains(['/', ' ', '@', '*']) {
            return Err(wanted.to_owned());
        }
        Ok(Mirror {
            domain: domain.to_ascii_lowercase(),
            url: base_url(url)?,
        })
    }
}

/// Where to connect for some hosts instead of asking DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolve {
    /// A host name in lower case, or `*.` and a suffix.
    host: String,
    port: u16,
    /// The address to connect to.
    pub to: SocketAddr,
}

impl Resolve {
    /// Reads `HOST:PORT=ADDR:PORT`.
    pub fn parse(text: &str) -> Result<Resolve, String> {
        let wanted = || "must look like `*.fly.dev:443=127.0.0.1:34443`".to_owned();
        let (from, to) = text.split_once('=').ok_or_else(wanted)?;
        let (host, port) = from.rsplit_once(':').ok_or_else(wanted)?;
        let name = host.strip_prefix("*.").unwrap_or(host);
        if name.is_empty() || name.contains(['*', '/', ' ', '@']) {
            return Err(wanted());
        }
        Ok(Resolve {
            host: host.to_ascii_lowercase(),
            port: port.parse().map_err(|_| wanted())?,
            to: to.parse().map_err(|_| wanted())?,
        })
    }

    /// Whether a connection to this host and port goes to [`Resolve::to`]. `*.` stands for one or
    /// more labels; a trailing dot of the host does not matter.
    pub fn applies(&self, host: &str, port: u16) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        if port != self.port {
            return false;
        }
        match self.host.strip_prefix('*') {
            Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
            None => host == self.host,
        }
    }
}

/// A length of time as everywhere in Kubernetes: `30s`, `5m`, `1h30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let parsed: kube::core::Duration = text
        .parse()
        .map_err(|error| format!("must be a duration such as `30s` or `5m`: {error}"))?;
    if parsed.is_negative() {
        return Err("must not be negative".to_owned());
    }
    Ok(parsed.into())
}

/// An https URL that paths can be appended to; http is for the same machine only, since tokens
/// are sent there.
fn base_url(text: &str) -> Result<Url, String> {
    let url: Url = text
        .parse()
        .map_err(|error| format!("must be a URL: {error}"))?;
    let local = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => return Err("must name a host".to_owned()),
    };
    match url.scheme() {
        "https" => {}
        "http" if local => {}
        "http" => return Err("must be https: tokens are sent there".to_owned()),
        _ => return Err("must be an https URL".to_owned()),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user name or password".to_owned());
    }
    if url.path() != "/" {
        return Err("must not hold a path".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must not hold a query or fragment".to_owned());
    }
    Ok(url)
}

/// A DNS label, as names of namespaces are.
fn namespace(text: &str) -> Result<String, String> {
    let fine = (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-');
    if fine {
        Ok(text.to_owned())
    } else {
        Err("must be lower-case letters, digits and `-`, at most 63".to_owned())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(flags: &[&str]) -> Result<Settings, String> {
        let args = std::iter::once("golive").chain(flags.iter().copied());
        let cli = Cli::try_parse_from(args).map_err(|error| error.to_string())?;
        cli.settings.validate().map_err(|error| error.to_string())?;
        Ok(cli.settings)
    }

    #[test]
    fn a_mirror_is_a_domain_and_a_url_that_credentials_may_go_to() {
        let mirror = Mirror::parse("Docker.io=https://mirror.example").unwrap();
        assert_eq!(mirror.domain, "docker.io");
        assert!(Mirror::parse("ghcr.io=http://127.0.0.1:5000").is_ok());
        for wrong in [
            "docker.io",
            "=https://x.example",
            "a/b=https://x.example",
            "a=http://x.example",
        ] {
            assert!(Mirror::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_defaults_are_valid_and_those_of_client_go() {
        let settings = parse(&[]).unwrap();
        assert_eq!(settings.lease_duration, leader::LEASE_DURATION);
        assert_eq!(settings.lease_renew_deadline, leader::RENEW_DEADLINE);
        assert_eq!(settings.lease_retry_period, leader::RETRY_PERIOD);
        assert_eq!(
            settings.fly_machines_url.as_str(),
            "https://api.machines.dev/"
        );
        assert!(settings.leader_elect);
        assert!(settings.namespace.is_empty());
    }

    #[test]
    fn every_flag_has_a_variable_and_a_description() {
        let mut command = Cli::command();
        command.build();
        for arg in command.get_arguments() {
            let name = arg.get_id().as_str();
            if ["help", "version"].contains(&name) {
                continue;
            }
            let env = arg.get_env().and_then(|env| env.to_str()).unwrap_or("");
            assert!(env.starts_with("GOLIVE_"), "{name} has no GOLIVE_ variable");
            assert!(arg.get_help().is_some(), "{name} has no description");
        }
    }

    #[test]
    fn a_token_never_travels_in_the_clear_to_another_machine() {
        let error = parse(&["--fly-api-url", "http://fly.example"]).unwrap_err();
        assert!(error.contains("must be https"), "{error}");
        for local in [
            "http://127.0.0.1:4000",
            "http://[::1]:4000",
            "http://localhost:1",
        ] {
            parse(&["--fly-api-url", local]).unwrap();
        }
        for bad in [
            "ftp://fly.io",
            "https://user:pw@fly.io",
            "https://fly.io/?a=b",
            "https://fly.io/v1",
            "fly.io",
        ] {
            assert!(parse(&["--fly-api-url", bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_that_would_let_two_replicas_lead_are_refused() {
        for (flags, word) in [
            (["--lease-renew-deadline", "15s"], "--lease-renew-deadline"),
            (["--lease-retry-period", "9s"], "--lease-retry-period"),
            (["--lease-duration", "1500ms"], "--lease-duration"),
            (["--shutdown-grace", "60s"], "--shutdown-grace"),
            (["--recheck-interval", "10ms"], "--recheck-interval"),
            (["--secret-look-interval", "0s"], "--secret-look-interval"),
            (["--recheck-interval", "soon"], "must be a duration"),
        ] {
            let error = parse(&flags).unwrap_err();
            assert!(error.contains(word), "{flags:?}: {error}");
        }
    }

    #[test]
    fn a_boolean_flag_can_be_given_bare_or_with_a_value() {
        assert!(parse(&["--leader-elect"]).unwrap().leader_elect);
        assert!(!parse(&["--leader-elect=false"]).unwrap().leader_elect);
    }

    #[test]
    fn namespaces_can_be_repeated_or_listed() {
        let repeated = parse(&["--namespace", "a", "--namespace", "b"]).unwrap();
        let listed = parse(&["--namespace", "a,b"]).unwrap();
        assert_eq!(repeated.namespace, ["a", "b"]);
        assert_eq!(repeated.namespace, listed.namespace);
        assert!(parse(&["--namespace", "Not_A_Name"]).is_err());
    }

    #[test]
    fn an_override_applies_to_its_hosts_and_its_port_alone() {
        let edge = Resolve::parse("*.fly.dev:443=127.0.0.1:34443").unwrap();
        assert!(edge.applies("sist-cabanas-mvp.fly.dev", 443));
        assert!(edge.applies("SIST-cabanas-mvp.fly.dev.", 443));
        assert!(!edge.applies("fly.dev", 443));
        assert!(!edge.applies("evilfly.dev", 443));
        assert!(!edge.applies("sist-cabanas-mvp.fly.dev", 80));
        let one = Resolve::parse("Reservas.Cabanas.Example:443=[::1]:1").unwrap();
        assert!(one.applies("reservas.cabanas.example", 443));
        for bad in [
            "",
            "a=b",
            "a:443",
            "a:443=b:1",
            "*:443=127.0.0.1:1",
            "a*b:443=127.0.0.1:1",
        ] {
            assert!(Resolve::parse(bad).is_err(), "{bad}");
        }
    }
}
