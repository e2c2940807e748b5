//! The parts that this repository builds: the simulated Fly.io and the operator.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use kube_env::port;
use kube_env::process::{Process, Spec};

use crate::fault::Fault;
use crate::install::OWN_NAMESPACE;
use crate::integrations::{AIRBNB, BOOKING};
use crate::place::Place;
use crate::state::{Part, parse_env};

/// The simulated Fly.io is ready in well under a second.
const SIM_READY: Duration = Duration::from_secs(60);

/// The vendors are ready at once.
const VENDORS_READY: Duration = Duration::from_secs(30);

/// The operator is ready when its caches are filled and it leads or stands by.
const OPERATOR_READY: Duration = Duration::from_secs(60);

/// Images that exist in the simulated registry. Every other one cannot be pulled.
const IMAGES: &str = "examples/cabanas/images.toml";

/// The variable with the number of times that a watch runs faster.
pub const TIME_SCALE: &str = "GOLIVE_TIME_SCALE";

/// A program beside this one.
pub fn beside(name: &str) -> Result<PathBuf, Fault> {
    let path = std::env::current_exe()
        .map_err(|source| Fault::because("cannot find this program", source))?
        .with_file_name(name);
    if path.exists() {
        Ok(path)
    } else {
        Err(Fault::new(format!(
            "{} is not built: make binaries",
            path.display()
        )))
    }
}

/// Starts the simulated Fly.io and returns its variables. `latency` is how long things take there:
/// `off`, `real`, or a factor. It starts PostgreSQL and Redis itself when a database is wanted.
pub async fn start_fly(
    place: &Place,
    latency: &str,
) -> Result<(Process, BTreeMap<String, String>), Fault> {
    // Asked first: the images run it.
    beside("cabanas")?;
    let env_file = place.dir().join("fly.env");
    let mut process = Spec::new(
        "fly-sim",
        beside("fly-sim")?,
        place.dir().join("fly-sim.log"),
    )
    .arg("--dir")
    .arg(place.dir().join("fly"))
    .arg("--images")
    .arg(place.root().join(IMAGES))
    .arg("--env-file")
    .arg(&env_file)
    .arg(format!("--latency={latency}"))
    .arg("--rate-limits=on")
    // Written there before the first machine starts: programs in it trust this world's certificates.
    .env("FLY_SIM_CA_FILE", place.dir().join("fly/ca-bundle.pem"))
    // Its input is not a pipe of ours: the guard watches over it.
    .arg("--ignore-stdin")
    .spawn()?;
    process.wait_for_line("ready", SIM_READY).await?;
    let text = std::fs::read_to_string(&env_file)
        .map_err(|source| Fault::because(format!("cannot read {}", env_file.display()), source))?;
    Ok((process, parse_env(&text)))
}

/// Starts the stand-in for the vendors and adds its variables to those of the simulated Fly.io, whose edge
/// its webhooks go to. Whoever trusts the certificates of the one trusts those of the other.
pub async fn start_vendors(
    place: &Place,
    latency: &str,
    env: &mut BTreeMap<String, String>,
) -> Result<Process, Fault> {
    let env_file = place.dir().join("vendors.env");
    let fly = |name: &str| env.get(name).map_or("", String::as_str);
    // Real pauses between two tries of a delivery are minutes.
    let scale = match latency {
        "real" => "1",
        _ => "0.001",
    };
    let mut process = Spec::new(
        Part::VENDORS,
        beside("vendors")?,
        place.dir().join("vendors.log"),
    )
    .arg(format!("--ca-file={}", fly("SSL_CERT_FILE")))
    .arg(format!("--edge={}", fly("FLY_SIM_EDGE")))
    .arg(format!("--scale={scale}"))
    .arg("--env-file")
    .arg(&env_file)
    .arg("--ignore-stdin")
    .spawn()?;
    process.wait_for_line("ready", VENDORS_READY).await?;
    let text = std::fs::read_to_string(&env_file)
        .map_err(|source| Fault::because(format!("cannot read {}", env_file.display()), source))?;
    env.extend(parse_env(&text));
    Ok(process)
}

/// Starts the operator with the rights of `kubeconfig` against the simulated Fly.io and the vendors of `env`, and
/// returns the address of its probes and metrics.
pub async fn start_operator(
    place: &Place,
    kubeconfig: &Path,
    env: &BTreeMap<String, String>,
) -> Result<(Process, SocketAddr), Fault> {
    let variable = |name: &str| {
        env.get(name)
            .cloned()
            .ok_or_else(|| Fault::new(format!("no part of the world said {name}")))
    };
    let registry = variable("FLY_REGISTRY_HOST")?;
    let registry = if registry.contains("://") {
        registry
    } else {
        format!("http://{registry}")
    };
    let edge = variable("FLY_SIM_EDGE")?;
    let edge_ip = variable("FLY_SIM_EDGE_IP")?;
    let channels = variable("CHANNELS_ADDRESS")?;
    let listen = SocketAddr::from(([127, 0, 0, 1], port::free()?));
    let log = place.dir().join("operator.log");
    let mut process = Spec::new(Part::OPERATOR, beside("golive")?, &log)
        .arg("run")
        .arg(format!(
            "--fly-machines-url={}",
            variable("FLY_FLAPS_BASE_URL")?
        ))
        .arg(format!("--fly-api-url={}", variable("FLY_API_BASE_URL")?))
        .arg(format!("--fly-uiex-url={}", variable("FLY_UIEX_BASE_URL")?))
        .arg(format!("--fly-registry-url={registry}"))
        // The simulator has the images of this registry too: private ones, for example.
        .arg(format!("--registry-mirror=ghcr.io={registry}"))
        .arg(format!("--resolve=*.fly.dev:443={edge}"))
        .arg(format!("--resolve=*.fly.dev:*={edge_ip}:*"))
        .arg(format!("--resolve={AIRBNB}:443={channels}"))
        .arg(format!("--resolve={BOOKING}:443={channels}"))
        .arg(format!("--ca-file={}", variable("SSL_CERT_FILE")?))
        .arg(format!("--meta-graph-url={}", variable("META_GRAPH_URL")?))
        .arg(format!(
            "--mercado-pago-url={}",
            variable("MERCADO_PAGO_API_URL")?
        ))
        .arg(format!("--time-scale={}", variable(TIME_SCALE)?))
        .arg(format!("--own-namespace={OWN_NAMESPACE}"))
        .arg(format!("--listen={listen}"))
        .arg("--log-format=text")
        .env("KUBECONFIG", kubeconfig)
        .env("NO_COLOR", "1")
        .stop_with("TERM", Duration::from_secs(20))
        .spawn()?;
    process
        .wait_until(OPERATOR_READY, |_| Ok(is_ready(listen).then_some(())))
        .await?;
    Ok((process, listen))
}

/// Whether `/readyz` there answers 200.
fn is_ready(address: SocketAddr) -> bool {
    let ask = || {
        let limit = Duration::from_millis(500);
        let mut stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.write_all(b"GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    ask().is_ok_and(|answer| answer.ends_with(b" 200"))
}
