//! The daemon that keeps flyctl's WireGuard tunnels, as flyctl meets it: a Unix socket.
//!
//! On Fly.io a tunnel leads into the private network of an organization. Here the machines are
//! processes on loopback, so there is nothing to encrypt: the daemon is served by the simulator
//! itself, takes the private address of a machine and connects to where it really listens. No
//! WireGuard packet is ever sent. flyctl finds it as `fly-agent.sock` in its `FLY_CONFIG_DIR`.
//!
//! A message is its length in two bytes, low byte first, and words separated by spaces.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpStream, UnixListener, UnixStream};

use crate::core::{Core, Shared};
use crate::state::{App, Caller};

/// Name of the socket in flyctl's directory.
pub const SOCKET: &str = "fly-agent.sock";

/// The version we say we are. flyctl only warns when it is another than its own, as long as we do
/// not say that we run in the background.
const VERSION: &str = "2026.8.21";

/// Opens the socket for this user alone, in a directory that is made if need be.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves the socket until the simulator ends.
pub async fn serve(core: Shared, listener: UnixListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => core.spawn(session(core.clone(), stream)),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection of flyctl");
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
    }
}

async fn read(stream: &mut UnixStream) -> io::Result<Vec<String>> {
    let length = stream.read_u16_le().await?;
    let mut text = vec![0; usize::from(length)];
    stream.read_exact(&mut text).await?;
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok(text.split(' ').map(str::to_owned).collect())
}

async fn write(stream: &mut UnixStream, text: &str) -> io::Result<()> {
    let length = u16::try_from(text.len())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the answer is too long"))?;
    stream.write_u16_le(length).await?;
    stream.write_all(text.as_bytes()).await
}

/// What one connection asks: who it is, and then one thing.
async fn session(core: Shared, mut stream: UnixStream) {
    let mut caller = Caller::default();
    while let Ok(words) = read(&mut stream).await {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let answer = match words.as_slice() {
            ["set-token", "str", token] => {
                let tokens: Vec<String> = token.split(',').map(str::to_owned).collect();
                caller = core.caller(&tokens);
                Ok(String::new())
            }
            // A token in a file of flyctl's: we read no files of others.
            ["set-token", ..] => Err("only set-token str is served here".to_owned()),
            ["connect", _, target, _, _] => match connect(&core, target).await {
                Ok(mut machine) => {
                    if write(&mut stream, "ok").await.is_ok() {
                        let _ = copy_bidirectional(&mut stream, &mut machine).await;
                    }
                    return;
                }
                Err(why) => Err(why),
            },
            words => answer(&core, &caller, words),
        };
        let text = match answer {
            Ok(text) if text.is_empty() => "ok".to_owned(),
            Ok(text) => format!("ok {text}"),
            Err(why) => format!("err {why}"),
        };
        if write(&mut stream, &text).await.is_err() {
            return;
        }
    }
}

fn answer(core: &Core, caller: &Caller, words: &[&str]) -> Result<String, String> {
    match words {
        ["ping"] => {
            let about = json!({"PID": std::process::id(), "Version": VERSION, "Background": false});
            Ok(about.to_string())
        }
        ["establish" | "reestablish", org, _] => tunnel(core, caller, org),
        ["probe", org, _] => tunnel(core, caller, org).map(|_| String::new()),
        ["resolve", _, name, _] => Ok(resolve(core, name).unwrap_or_default()),
        ["instances", _, app] => {
            let (labels, addresses): (Vec<_>, Vec<_>) = instances(core, app).into_iter().unzip();
            if addresses.is_empty() {
                return Err(format!("no running hosts for \"{app}\" found"));
            }
            Ok(json!({"Labels": labels, "Addresses": addresses}).to_string())
        }
        ["lookupTxt", _, name] => Ok(texts(core, name).to_string()),
        [verb, ..] => Err(format!("unsupported command {verb}")),
        [] => Err("no command".to_owned()),
    }
}

/// A tunnel into an organization; refused when the caller's tokens are not for it.
fn tunnel(core: &Core, caller: &Caller, org: &str) -> Result<String, String> {
    let number = core.read(|world| Some(world.orgs.get(org)?.internal_numeric_id));
    let number = number
        .filter(|_| caller.in_org(org))
        .ok_or("no such organization")?;
    // Of all this flyctl uses the address of the peer, to find the log server of the network.
    // There is none here: it then reads the logs over HTTP.
    let state = json!({
        "org": org,
        "name": "interactive-fly-sim",
        "region": super::platform::NEAREST,
        "dns": "",
        "peer": {
            "peerip": format!("fdaa:0:{number:x}:a7b::2"),
            "endpointip": "127.0.0.1",
            "pubkey": "",
        },
    });
    Ok(json!({"WireGuardState": state, "TunnelConfig": {}}).to_string())
}

/// Where a private address, or a name of the private network, really listens.
async fn connect(core: &Core, target: &str) -> Result<TcpStream, String> {
    let (host, port) = target
        .rsplit_once(':')
        .ok_or_else(|| format!("{target} has no port"))?;
    let port: u16 = port.parse().map_err(|_| format!("{target} has no port"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let ip = address(core, host).ok_or_else(|| format!("no route to {host}"))?;
    let at = SocketAddr::from((ip, port));
    TcpStream::connect(at)
        .await
        .map_err(|error| format!("connect to {target}: {error}"))
}

fn address(core: &Core, host: &str) -> Option<Ipv4Addr> {
    let private = match host.parse::<std::net::IpAddr>() {
        Ok(_) => host.to_owned(),
        Err(_) => resolve(core, host)?,
    };
    core.read(|world| {
        let mut machines = world.apps.values().flat_map(App::live_machines);
        machines
            .find(|machine| same(&machine.private_ip, &private))
            .map(|machine| machine.ip)
    })
}

fn same(one: &str, other: &str) -> bool {
    let parse = |text: &str| text.parse::<std::net::Ipv6Addr>();
    matches!((parse(one), parse(other)), (Ok(a), Ok(b)) if a == b)
}

/// `name -> private address` of the started machines of an app.
fn instances(core: &Core, app: &str) -> Vec<(String, String)> {
    core.read(|world| {
        let machines = world.apps.get(app).into_iter().flat_map(App::live_machines);
        machines
            .filter(|machine| machine.state.as_str() == "started")
            .map(|machine| {
                let label = format!("{} ({})", machine.region, machine.name);
                (label, machine.private_ip.clone())
            })
            .collect()
    })
}

/// The first address of a name in `.internal` or `.flycast`, with the port that came with it.
fn resolve(core: &Core, name: &str) -> Option<String> {
    let (host, port) = match name.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') => (host, Some(port)),
        _ => (name, None),
    };
    let host = host.trim_end_matches('.');
    let short = host
        .strip_suffix(".internal")
        .or_else(|| host.strip_suffix(".flycast"))?;
    let labels: Vec<&str> = short.split('.').collect();
    let app = *labels.last()?;
    let found = match labels.as_slice() {
        [id, "vm", _] => core.read(|world| {
            let mut machines = world.apps.get(app)?.live_machines();
            let machine = machines.find(|machine| machine.id == *id)?;
            Some(machine.private_ip.clone())
        }),
        _ => instances(core, app).into_iter().next().map(|(_, ip)| ip),
    }?;
    Some(match port {
        Some(port) => format!("[{found}]:{port}"),
        None => found,
    })
}

/// What the name server of the private network says in TXT records.
fn texts(core: &Core, name: &str) -> Value {
    let name = name.trim_end_matches('.').trim_end_matches(".internal");
    let labels: Vec<&str> = name.split('.').collect();
    core.read(|world| match labels.as_slice() {
        ["_apps"] => json!([world.apps.keys().cloned().collect::<Vec<_>>().join(",")]),
        [.., "vms", app] => {
            let machines = world
                .apps
                .get(*app)
                .into_iter()
                .flat_map(App::live_machines);
            let all: Vec<String> = machines
                .map(|machine| format!("{} {}", machine.id, machine.region))
                .collect();
            json!([all.join(",")])
        }
        [.., "regions", app] => {
            let machines = world
                .apps
                .get(*app)
                .into_iter()
                .flat_map(App::live_machines);
            let all: std::collections::BTreeSet<&str> =
                machines.map(|machine| machine.region.as_str()).collect();
            json!([all.into_iter().collect::<Vec<_>>().join(",")])
        }
        _ => json!([]),
    })
}
