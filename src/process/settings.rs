//! The command line of the operator: flags, each also an environment variable.
//!
//! An invalid value is refused at the start, with a message that says what is required. Nothing
//! here is secret: tokens come from Kubernetes Secrets, never from a flag.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use url::{Host, Url};

use crate::clock::watch::Scale;
use crate::net::prometheus::Allowance;
use crate::net::resolve::Resolve;
use crate::process::leader;

/// Takes web applications live on Fly.io, one Activation object each.
#[derive(Clone, Debug, Parser)]
#[command(name = "golive", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run the operator, on the cluster of the pod's service account or of the current kubeconfig.
    Run(Box<Settings>),
    /// Wait until an operator is ready, and print what it says, for `helm test`.
    Ready {
        /// How long to wait.
        #[arg(long, default_value = "60s", value_parser = duration, value_name = "DURATION")]
        timeout: Duration,
        /// Its readiness probe, such as http://golive-metrics.golive-system.svc:8080/readyz.
        #[arg(value_name = "URL")]
        url: http::Uri,
    },
    /// Print the CustomResourceDefinitions, for `kubectl apply --server-side -f -`.
    Crd,
    /// Write the files that are generated in a copy of the repository: `crds/`, `install.yaml`,
    /// `docs/reference/activation.md`, and parts of `charts/` and `manifests/gitops/`.
    Generate {
        /// The root of the repository.
        #[arg(default_value = ".", value_name = "DIR")]
        root: PathBuf,
    },
}

/// How the operator runs.
#[derive(Clone, Debug, Args)]
pub struct Settings {
    /// Fly.io and image registries.
    #[command(flatten)]
    pub fly: FlySettings,
    /// Outgoing connections.
    #[command(flatten)]
    pub network: NetworkSettings,
    /// Vendors whose webhooks are verified.
    #[command(flatten)]
    pub vendors: VendorSettings,
    /// The watch after Go-Live.
    #[command(flatten)]
    pub watch: WatchSettings,
    /// Receivers of notifications.
    #[command(flatten)]
    pub notifications: NotificationSettings,
    /// Namespaces.
    #[command(flatten)]
    pub namespaces: NamespaceSettings,
    /// Intervals, pauses and time limits of the work.
    #[command(flatten)]
    pub work: WorkSettings,
    /// The process: probes and shutdown.
    #[command(flatten)]
    pub process: ProcessSettings,
    /// The log.
    #[command(flatten)]
    pub log: LogSettings,
    /// The election of a leader.
    #[command(flatten)]
    pub lease: LeaseSettings,
}

/// Fly.io and image registries.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Fly.io")]
pub struct FlySettings {
    /// Base URL of Fly's Machines API. Tokens are sent to these four URLs and nowhere else.
    #[arg(long = "fly-machines-url", env = "GOLIVE_FLY_MACHINES_URL", default_value = "https://api.machines.dev", value_parser = base_url, value_name = "URL")]
    pub machines_url: Url,

    /// Base URL of Fly's GraphQL and log API.
    #[arg(long = "fly-api-url", env = "GOLIVE_FLY_API_URL", default_value = "https://api.fly.io", value_parser = base_url, value_name = "URL")]
    pub api_url: Url,

    /// Base URL of Fly's API for managed Postgres.
    #[arg(long = "fly-uiex-url", env = "GOLIVE_FLY_UIEX_URL", default_value = "https://api.fly.io", value_parser = base_url, value_name = "URL")]
    pub uiex_url: Url,

    /// Base URL of Fly's image registry.
    #[arg(long = "fly-registry-url", env = "GOLIVE_FLY_REGISTRY_URL", default_value = "https://registry.fly.io", value_parser = base_url, value_name = "URL")]
    pub registry_url: Url,

    /// Mirror of the registry DOMAIN, such as `docker.io`. It may have any address. It gets the
    /// credentials that an object names for DOMAIN, never the Fly token. Repeatable.
    #[arg(long, env = "GOLIVE_REGISTRY_MIRROR", value_delimiter = ',', value_parser = Mirror::parse, value_name = "DOMAIN=URL")]
    pub registry_mirror: Vec<Mirror>,

    /// How many times Fly.io's published rate limits the organizations have: 5 sends five times as many
    /// calls. Only after Fly.io has raised the limits of all of them; otherwise it refuses calls.
    #[arg(long = "fly-raised-limits", env = "GOLIVE_FLY_RAISED_LIMITS", default_value = "1", value_parser = times, value_name = "TIMES")]
    pub raised_limits: NonZeroU32,

    /// How long a refused token is retried before the activation stops. Fly.io occasionally
    /// refuses a valid token.
    #[arg(long, env = "GOLIVE_TOKEN_PATIENCE", default_value = "60s", value_parser = duration, value_name = "DURATION")]
    pub token_patience: Duration,

    /// Create a token for each app and use it in place of the user's wherever Fly.io accepts it.
    /// `--app-tokens=false` revokes the existing ones.
    #[arg(long, env = "GOLIVE_APP_TOKENS", default_value_t = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub app_tokens: bool,
}

/// Outgoing connections.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Network")]
pub struct NetworkSettings {
    /// Connect to ADDR instead of resolving hosts that match, as curl's --connect-to does.
    /// HOST may begin with `*.`; `HOST:*=ADDR:*` is for all ports. Names and certificates stay those
    /// of HOST. Repeatable.
    #[arg(long, env = "GOLIVE_RESOLVE", value_delimiter = ',', value_parser = Resolve::parse, value_name = "HOST:PORT=ADDR:PORT")]
    pub resolve: Vec<Resolve>,

    /// PEM file of certificate authorities to trust beside those of the system.
    #[arg(long, env = "GOLIVE_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
}

/// Vendors whose webhooks are verified.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Vendors")]
pub struct VendorSettings {
    /// Base URL of Meta's Graph API. The access tokens that an Activation names for WhatsApp are sent
    /// there and nowhere else.
    #[arg(long, env = "GOLIVE_META_GRAPH_URL", default_value = "https://graph.facebook.com", value_parser = base_url, value_name = "URL")]
    pub meta_graph_url: Url,

    /// Base URL of Mercado Pago's API. The access tokens that an Activation names for Mercado Pago are
    /// sent there and nowhere else.
    #[arg(long, env = "GOLIVE_MERCADO_PAGO_URL", default_value = "https://api.mercadopago.com", value_parser = base_url, value_name = "URL")]
    pub mercado_pago_url: Url,
}

/// The watch after Go-Live.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Watch after Go-Live")]
pub struct WatchSettings {
    /// Let Activations read this Prometheus, whatever its address: those of the named namespaces, or all.
    /// Others must be on the public Internet, with https. Repeatable; in the variable separated by blanks.
    #[arg(long, env = "GOLIVE_ALLOW_PROMETHEUS", value_delimiter = ' ', value_parser = Allowance::parse, value_name = "ORIGIN[=NAMESPACE,…]")]
    pub allow_prometheus: Vec<Allowance>,

    /// How many times faster the time of every watch runs from Go-Live on. For tests and demonstrations:
    /// refused unless every Fly.io address is loopback.
    #[arg(long, env = "GOLIVE_TIME_SCALE", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000), value_name = "TIMES")]
    pub time_scale: u32,
}

/// Receivers of notifications.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Notifications")]
pub struct NotificationSettings {
    /// YAML file with receivers that are told of every activation, beside its own: a list as in
    /// `spec.notifications`. The Secrets that it names are in the operator's own namespace.
    #[arg(long, env = "GOLIVE_DEFAULT_NOTIFICATIONS", value_name = "FILE")]
    pub default_notifications: Option<PathBuf>,

    /// Let the address of a receiver have this origin though it is not on the public Internet, or not
    /// encrypted, such as `http://alertmanager.monitoring.svc:9093` or `smtp://mail.mail.svc:25`.
    /// Repeatable.
    #[arg(long, env = "GOLIVE_ALLOW_RECEIVER", value_delimiter = ',', value_parser = receiver_origin, value_name = "ORIGIN")]
    pub allow_receiver: Vec<Url>,

    /// Base URL of PagerDuty's Events API; `https://events.eu.pagerduty.com` for accounts in the EU.
    /// The integration keys that an Activation names are sent there and nowhere else.
    #[arg(long, env = "GOLIVE_PAGERDUTY_URL", default_value = "https://events.pagerduty.com", value_parser = base_url, value_name = "URL")]
    pub pagerduty_url: Url,
}

/// Namespaces.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Namespaces")]
pub struct NamespaceSettings {
    /// Watch this namespace only. Repeatable. Default: all namespaces.
    #[arg(long = "namespace", env = "GOLIVE_NAMESPACE", value_delimiter = ',', value_parser = namespace, value_name = "NAME")]
    pub watched: Vec<String>,

    /// The operator's own namespace, which contains its Lease and its claims on Fly apps.
    #[arg(long = "own-namespace", env = "GOLIVE_OWN_NAMESPACE", default_value = "golive-system", value_parser = namespace, value_name = "NAME")]
    pub own: String,

    /// Let an Activation use only Secrets with the label `golive.dev/allow: "true"`. The one that
    /// Golive generates for it needs no label.
    #[arg(long, env = "GOLIVE_REQUIRE_SECRET_OPT_IN", default_value_t = false, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub require_secret_opt_in: bool,
}

/// Intervals, pauses and time limits of the work.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Work")]
pub struct WorkSettings {
    /// How often an unchanged activation is compared with Fly.io. At least 1s.
    #[arg(long, env = "GOLIVE_RECHECK_INTERVAL", default_value = "5m", value_parser = duration, value_name = "DURATION")]
    pub recheck_interval: Duration,

    /// First pause after a failure; it doubles with every further one.
    #[arg(long, env = "GOLIVE_BACKOFF_MIN", default_value = "1s", value_parser = duration, value_name = "DURATION")]
    pub backoff_min: Duration,

    /// Longest pause after failures.
    #[arg(long, env = "GOLIVE_BACKOFF_MAX", default_value = "5m", value_parser = duration, value_name = "DURATION")]
    pub backoff_max: Duration,

    /// How long a resource must be absent before a create with an unknown outcome is sent again.
    #[arg(long, env = "GOLIVE_SETTLE", default_value = "10s", value_parser = duration, value_name = "DURATION")]
    pub settle: Duration,

    /// Interval of polling where Fly.io offers no long poll, such as for a database that is being
    /// created.
    #[arg(long, env = "GOLIVE_POLL_INTERVAL", default_value = "2s", value_parser = duration, value_name = "DURATION")]
    pub poll_interval: Duration,

    /// How often the metadata of each Secret that an activation names is read where the operator
    /// may not watch Secrets, which is the case with all namespaces. At most 25 are read per
    /// second; with more Secrets the interval is longer. At least 1s.
    #[arg(long, env = "GOLIVE_SECRET_LOOK_INTERVAL", default_value = "15s", value_parser = duration, value_name = "DURATION")]
    pub secret_look_interval: Duration,

    /// Shortest interval of reading the registry of an activation's `deploy.source`, whatever its
    /// `interval` says. At least 1s.
    #[arg(long, env = "GOLIVE_SOURCE_INTERVAL_MIN", default_value = "30s", value_parser = duration, value_name = "DURATION")]
    pub source_interval_min: Duration,

    /// Number of activations that are reconciled concurrently. From 1 to 1000. Where several
    /// namespaces are watched, one holds at most as many as it leaves free: alone, half of them.
    #[arg(long, env = "GOLIVE_MAX_CONCURRENT_RECONCILES", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1000), value_name = "COUNT")]
    pub max_concurrent_reconciles: u16,

    /// Time limit of one reconcile of one activation. It is retried after that.
    #[arg(long, env = "GOLIVE_RECONCILE_TIMEOUT", default_value = "60s", value_parser = duration, value_name = "DURATION")]
    pub reconcile_timeout: Duration,
}

/// The process: probes and shutdown.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Process")]
pub struct ProcessSettings {
    /// How long running work may take to end after SIGTERM. Longer than --reconcile-timeout
    /// and shorter than the pod's terminationGracePeriodSeconds.
    #[arg(long, env = "GOLIVE_SHUTDOWN_GRACE", default_value = "75s", value_parser = duration, value_name = "DURATION")]
    pub shutdown_grace: Duration,

    /// Address of /healthz, /readyz and /metrics. With port 0 the system chooses one, which is
    /// logged.
    #[arg(
        long,
        env = "GOLIVE_LISTEN",
        default_value = "0.0.0.0:8080",
        value_name = "ADDR:PORT"
    )]
    pub listen: SocketAddr,
}

/// The log.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Log")]
pub struct LogSettings {
    /// Format of log lines.
    #[arg(
        long = "log-format",
        env = "GOLIVE_LOG_FORMAT",
        default_value = "json",
        value_enum
    )]
    pub format: LogFormat,

    /// Which log lines are written: a level, or `target=level` pairs, as for tracing's EnvFilter.
    #[arg(
        long = "log",
        env = "GOLIVE_LOG",
        default_value = "info",
        value_name = "FILTER"
    )]
    pub filter: String,
}

/// The election of a leader.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Leader election")]
pub struct LeaseSettings {
    /// Elect one leader among several replicas. `--leader-elect=false` for a single one.
    #[arg(long = "leader-elect", env = "GOLIVE_LEADER_ELECT", default_value_t = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub elect: bool,

    /// Name of the Lease.
    #[arg(long = "lease-name", env = "GOLIVE_LEASE_NAME", default_value = "golive", value_parser = namespace, value_name = "NAME")]
    pub name: String,

    /// How long the lease is valid without a renewal. Whole seconds.
    #[arg(long = "lease-duration", env = "GOLIVE_LEASE_DURATION", default_value = "15s", value_parser = duration, value_name = "DURATION")]
    pub duration: Duration,

    /// How long the leader tries to renew the lease before it gives up and exits.
    #[arg(long = "lease-renew-deadline", env = "GOLIVE_LEASE_RENEW_DEADLINE", default_value = "10s", value_parser = duration, value_name = "DURATION")]
    pub renew_deadline: Duration,

    /// Interval of reading or renewing the lease.
    #[arg(long = "lease-retry-period", env = "GOLIVE_LEASE_RETRY_PERIOD", default_value = "2s", value_parser = duration, value_name = "DURATION")]
    pub retry_period: Duration,
}

/// Format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line, for machines.
    Json,
    /// Plain text, for people.
    Text,
}

/// An invalid setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{flag} {required}")]
pub struct Invalid {
    flag: &'static str,
    required: &'static str,
}

impl Settings {
    /// Checks the ranges of values and the relations between flags.
    ///
    /// # Errors
    /// The first violation.
    pub fn validate(&self) -> Result<(), Invalid> {
        let second = Duration::from_secs(1);
        let rules = [
            (
                self.work.recheck_interval >= second,
                "--recheck-interval",
                "must be at least 1s",
            ),
            (
                self.work.source_interval_min >= second,
                "--source-interval-min",
                "must be at least 1s",
            ),
            (
                self.work.secret_look_interval >= second,
                "--secret-look-interval",
                "must be at least 1s",
            ),
            (
                self.work.reconcile_timeout >= second,
                "--reconcile-timeout",
                "must be at least 1s",
            ),
            (
                self.process.shutdown_grace > self.work.reconcile_timeout,
                "--shutdown-grace",
                "must be longer than --reconcile-timeout, or work is cut off in the middle",
            ),
            (
                self.lease.duration.subsec_nanos() == 0 && self.lease.duration >= second,
                "--lease-duration",
                "must be whole seconds, at least 1s",
            ),
            (
                self.lease.renew_deadline < self.lease.duration,
                "--lease-renew-deadline",
                "must be shorter than --lease-duration, or two replicas can lead at once",
            ),
            (
                // As in client-go: a period with jitter must be shorter than the deadline.
                self.lease.retry_period.mul_f64(1.2) < self.lease.renew_deadline,
                "--lease-retry-period",
                "must be shorter than --lease-renew-deadline divided by 1.2",
            ),
            (
                self.lease.retry_period >= Duration::from_millis(10),
                "--lease-retry-period",
                "must be at least 10ms",
            ),
            (
                self.watch.time_scale == 1 || self.fly.is_simulated(),
                "--time-scale",
                "must be 1 unless every Fly.io address is loopback: what is live is watched in real time",
            ),
        ];
        match rules.into_iter().find(|(holds, ..)| !holds) {
            Some((_, flag, required)) => Err(Invalid { flag, required }),
            None => Ok(()),
        }
    }

    /// The election with these settings.
    pub fn election(&self, identity: String, now: crate::clock::Now) -> leader::Election {
        leader::Election {
            namespace: self.namespaces.own.clone(),
            name: self.lease.name.clone(),
            identity,
            lease_duration: self.lease.duration,
            renew_deadline: self.lease.renew_deadline,
            retry_period: self.lease.retry_period,
            now,
        }
    }
}

impl FlySettings {
    /// Whether every address of Fly.io is on this machine.
    fn is_simulated(&self) -> bool {
        let urls = [
            &self.machines_url,
            &self.api_url,
            &self.uiex_url,
            &self.registry_url,
        ];
        urls.into_iter().all(is_local)
    }
}

impl WatchSettings {
    /// How much faster the time of a watch runs.
    pub fn scale(&self) -> Scale {
        Scale::new(self.time_scale).unwrap_or_default()
    }
}

/// A mirror of an image registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// The registry's domain as in image references, in lower case.
    pub domain: String,
    /// The base URL.
    pub url: Url,
}

impl Mirror {
    /// Parses `DOMAIN=URL`.
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

/// How many times something may be raised.
fn times(text: &str) -> Result<NonZeroU32, String> {
    const MOST: u32 = 1000;
    let parsed = text.parse().ok();
    let fits = parsed.filter(|times: &NonZeroU32| times.get() <= MOST);
    fits.ok_or_else(|| format!("must be a whole number from 1 to {MOST}"))
}

/// Parses a length of time as in Kubernetes: `30s`, `5m`, `1h30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let parsed: kube::core::Duration = text
        .parse()
        .map_err(|error| format!("must be a duration such as `30s` or `5m`: {error}"))?;
    if parsed.is_negative() {
        return Err("must not be negative".to_owned());
    }
    Ok(parsed.into())
}

/// Parses an https origin. http is allowed for loopback only, because tokens are sent there.
fn base_url(text: &str) -> Result<Url, String> {
    let url: Url = text
        .parse()
        .map_err(|error| format!("must be a URL: {error}"))?;
    if url.host().is_none() {
        return Err("must name a host".to_owned());
    }
    match url.scheme() {
        "https" => {}
        "http" if is_local(&url) => {}
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

/// Whether a URL leads to this machine.
fn is_local(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => false,
    }
}

/// Parses the origin of a receiver of notifications: scheme, host, and a port if it is not the usual one.
fn receiver_origin(text: &str) -> Result<Url, String> {
    let wanted = "must be an origin such as `http://alertmanager.monitoring.svc:9093`";
    let url: Url = text.parse().map_err(|_| wanted.to_owned())?;
    let known = ["https", "http", "smtps", "smtp"].contains(&url.scheme());
    let bare = matches!(url.path(), "" | "/")
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    match known && bare && url.host_str().is_some_and(|host| !host.is_empty()) {
        true => Ok(url),
        false => Err(wanted.to_owned()),
    }
}

/// Parses a DNS label, such as the name of a namespace.
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
        let args = ["golive", "run"].into_iter().chain(flags.iter().copied());
        let cli = Cli::try_parse_from(args).map_err(|error| error.to_string())?;
        let Command::Run(settings) = cli.command else {
            return Err("not `run`".to_owned());
        };
        settings.validate().map_err(|error| error.to_string())?;
        Ok(*settings)
    }

    #[test]
    fn an_allowed_receiver_is_an_origin_without_a_path_or_a_password() {
        let flags = [
            "--allow-receiver",
            "http://alertmanager.monitoring.svc:9093,smtp://mail.mail.svc:25",
        ];
        let settings = parse(&flags).unwrap();
        assert_eq!(settings.notifications.allow_receiver.len(), 2);
        for wrong in [
            "alertmanager:9093",
            "http://",
            "ftp://x.example",
            "http://x.example/path",
            "http://user:password@x.example",
            "http://x.example/?a=b",
        ] {
            assert!(parse(&["--allow-receiver", wrong]).is_err(), "{wrong}");
        }
        assert!(parse(&["--pagerduty-url", "http://events.pagerduty.com"]).is_err());
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
        assert_eq!(settings.lease.duration, leader::LEASE_DURATION);
        assert_eq!(settings.lease.renew_deadline, leader::RENEW_DEADLINE);
        assert_eq!(settings.lease.retry_period, leader::RETRY_PERIOD);
        assert_eq!(
            settings.fly.machines_url.as_str(),
            "https://api.machines.dev/"
        );
        assert!(settings.lease.elect);
        assert!(settings.namespaces.watched.is_empty());
    }

    #[test]
    fn every_flag_has_a_variable_and_a_description() {
        let mut command = Cli::command();
        command.build();
        let run = command.find_subcommand("run").expect("`run`");
        assert!(
            run.get_arguments().count() > 20,
            "the flags belong to `run`"
        );
        for arg in run.get_arguments() {
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
    fn time_runs_faster_against_a_simulated_fly_io_alone() {
        let local = "http://127.0.0.1:4000";
        let urls = |machines: &'static str| {
            [
                "--fly-machines-url",
                machines,
                "--fly-api-url",
                local,
                "--fly-uiex-url",
                "http://[::1]:4000",
                "--fly-registry-url",
                "http://localhost:4000",
                "--time-scale",
                "2160",
            ]
        };
        assert_eq!(parse(&urls(local)).unwrap().watch.scale().times(), 2160);
        let error = parse(&urls("https://api.machines.dev")).unwrap_err();
        assert!(
            error.contains("every Fly.io address is loopback"),
            "{error}"
        );
        assert!(
            parse(&["--time-scale", "2"]).is_err(),
            "the defaults are Fly.io's"
        );
        assert!(parse(&["--time-scale", "0"]).is_err());
        assert!(parse(&[]).unwrap().watch.scale().is_real());
    }

    #[test]
    fn each_prometheus_that_is_allowed_has_namespaces_of_its_own() {
        let flag = "--allow-prometheus";
        let inside = "http://prometheus.monitoring.svc:9090=shop,web";
        let parsed = parse(&[flag, inside, flag, "https://thanos.example.org"]).unwrap();
        assert_eq!(parsed.watch.allow_prometheus.len(), 2);
        let error = parse(&[flag, "prometheus:9090"]).unwrap_err();
        assert!(error.contains("must look like"), "{error}");
    }

    #[test]
    fn published_limits_are_raised_only_by_a_whole_number() {
        let raised = |times: &str| {
            let settings = parse(&["--fly-raised-limits", times]);
            settings.map(|settings| settings.fly.raised_limits.get())
        };
        assert_eq!(parse(&[]).unwrap().fly.raised_limits, NonZeroU32::MIN);
        assert_eq!(raised("5").unwrap(), 5);
        for bad in ["0", "1001", "1.5", "off"] {
            assert!(raised(bad).unwrap_err().contains("from 1 to 1000"), "{bad}");
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
        assert!(parse(&["--leader-elect"]).unwrap().lease.elect);
        assert!(!parse(&["--leader-elect=false"]).unwrap().lease.elect);
    }

    #[test]
    fn namespaces_can_be_repeated_or_listed() {
        let repeated = parse(&["--namespace", "a", "--namespace", "b"]).unwrap();
        let listed = parse(&["--namespace", "a,b"]).unwrap();
        assert_eq!(repeated.namespaces.watched, ["a", "b"]);
        assert_eq!(repeated.namespaces.watched, listed.namespaces.watched);
        assert!(parse(&["--namespace", "Not_A_Name"]).is_err());
    }
}
