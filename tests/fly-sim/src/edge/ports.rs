//! Public TCP ports beside the edge's own: each is a listener of the same number at the simulator's
//! own loopback address, as long as a machine's service names it.
//!
//! As on Fly.io, the edge accepts a connection before it has found a machine for it, starts one that
//! sleeps, and closes the connection when it finds none in time. Handlers as documented
//! (fly.io/docs/networking/services): none is raw TCP; `tls` ends TLS; `pg_tls` ends TLS after
//! PostgreSQL's negotiation; `proxy_proto` begins with a line about the client; `http` is HTTP. UDP is
//! not carried.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use super::proxy::{self, Door, Found, app_for};
use crate::core::Shared;
use crate::machine::config::Port;
use crate::serve;
use crate::state::App;

/// Most ports of one range that are listened on.
const MAX_RANGE: usize = 16;

/// PostgreSQL's request for TLS: length 8, code 80877103 (postgresql.org/docs, protocol flow).
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// Keeps a listener for each public port that a service names, until the simulator ends.
pub async fn run(core: Shared, address: IpAddr, acceptor: TlsAcceptor) {
    let mut open: BTreeMap<u16, AbortOnDropHandle<()>> = BTreeMap::new();
    let mut changes = core.changes();
    loop {
        changes.mark_unchanged();
        let wanted = wanted(&core);
        open.retain(|port, _| wanted.contains(port));
        for port in wanted {
            if open.contains_key(&port) {
                continue;
            }
            match TcpListener::bind(SocketAddr::new(address, port)).await {
                Ok(listener) => {
                    let task = listen(Arc::clone(&core), acceptor.clone(), listener, port);
                    open.insert(port, AbortOnDropHandle::new(tokio::spawn(task)));
                }
                Err(error) => tracing::warn!(%error, %address, port, "the edge cannot listen"),
            }
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// The numbers of a port, the first ones of a range.
fn numbers(port: &Port) -> impl Iterator<Item = u16> {
    let (start, end) = match (port.port, port.start_port, port.end_port) {
        (Some(one), _, _) => (one, one),
        (None, Some(start), Some(end)) => (start, end),
        // An empty range.
        _ => (1, 0),
    };
    (start..=end).take(MAX_RANGE)
}

/// The public TCP ports of all live machines.
fn wanted(core: &Shared) -> Vec<u16> {
    core.read(|world| {
        let machines = world.apps.values().flat_map(App::live_machines);
        let services = machines.flat_map(|machine| machine.config.services.iter().flatten());
        let tcp = services.filter(|service| service.protocol.as_deref() != Some("udp"));
        let ports = tcp.flat_map(|service| service.ports.iter().flatten());
        let mut all: Vec<u16> = ports.flat_map(numbers).collect();
        all.sort_unstable();
        all.dedup();
        all
    })
}

async fn listen(core: Shared, acceptor: TlsAcceptor, listener: TcpListener, port: u16) {
    while let Ok((stream, peer)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let (core, acceptor) = (Arc::clone(&core), acceptor.clone());
        tokio::spawn(connection(core, acceptor, stream, (peer, port)));
    }
}

/// The app and the handlers of a port that is reached without a name: the address decides on Fly.io,
/// and here the only app with an address of its own and this port.
fn unnamed(core: &Shared, port: u16) -> Option<(String, Vec<String>)> {
    let found: Vec<(String, Vec<String>)> = core.read(|world| {
        let apps = world.apps.values();
        let apps = apps.filter(|app| app.platform.has_public_address());
        apps.filter_map(|app| Some((app.name.clone(), handlers(app, port)?)))
            .collect()
    });
    match <[_; 1]>::try_from(found) {
        Ok([one]) => Some(one),
        Err(several) if several.is_empty() => None,
        Err(several) => {
            tracing::warn!(port, apps = several.len(), "several apps have this port");
            None
        }
    }
}

/// The handlers of a port of an app.
fn handlers(app: &App, port: u16) -> Option<Vec<String>> {
    let services = app
        .live_machines()
        .flat_map(|machine| machine.config.services.iter().flatten());
    let mut ports = services
        .filter(|service| service.protocol.as_deref() != Some("udp"))
        .flat_map(|service| service.ports.iter().flatten());
    let found = ports.find(|candidate| numbers(candidate).any(|number| number == port))?;
    Some(found.handlers.clone().unwrap_or_default())
}

/// Whether an address of the app carries a port without a name: a shared one does not.
fn carries_raw(core: &Shared, app: &str) -> bool {
    core.read(|world| {
        let app = world.apps.get(app);
        app.is_some_and(|app| app.platform.has_own_address())
    })
}

async fn connection(
    core: Shared,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    (peer, port): (SocketAddr, u16),
) {
    let Some((app, handlers)) = unnamed(&core, port) else {
        return;
    };
    let has = |name: &str| handlers.iter().any(|handler| handler == name);
    if port != 443 && !carries_raw(&core, &app) {
        return;
    }
    let door = Door {
        tls: has("tls"),
        port,
        http: has("http"),
    };
    match (has("tls"), has("pg_tls"), has("http")) {
        (true, _, _) => named(core, acceptor, stream, (peer, port)).await,
        (false, true, _) => postgres(core, acceptor, stream, (&app, door)).await,
        (false, false, true) => {
            let shutdown = core.shutdown.clone();
            serve::connection(stream, peer, super::router(&core, door), shutdown).await;
        }
        (false, false, false) => {
            let hello = has("proxy_proto").then(|| {
                let (ip, from) = (peer.ip(), peer.port());
                format!("PROXY TCP4 {ip} {ip} {from} {port}\r\n").into_bytes()
            });
            carry(&core, &app, door, stream, hello.unwrap_or_default()).await;
        }
    }
}

/// Ends TLS; the name in it decides which app is meant, and the app's handlers whether it is HTTP.
pub async fn named(
    core: Shared,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    (peer, port): (SocketAddr, u16),
) {
    let stream = match acceptor.accept(stream).await {
        Ok(stream) => stream,
        Err(error) => {
            core.edge.handshake_failed();
            tracing::debug!(%peer, %error, "TLS handshake failed");
            return;
        }
    };
    let name = stream
        .get_ref()
        .1
        .server_name()
        .map(str::to_ascii_lowercase);
    let app = name.and_then(|name| app_for(&core, &name));
    let handlers = app
        .as_ref()
        .and_then(|app| core.read(|world| handlers(world.apps.get(app)?, port)));
    let http = handlers.is_none_or(|all| all.iter().any(|handler| handler == "http"));
    let door = Door {
        tls: true,
        port,
        http,
    };
    match app {
        Some(app) if !http => carry(&core, &app, door, stream, Vec::new()).await,
        _ => {
            let shutdown = core.shutdown.clone();
            serve::connection(stream, peer, super::router(&core, door), shutdown).await;
        }
    }
}

/// Ends TLS after PostgreSQL's negotiation.
async fn postgres(
    core: Shared,
    acceptor: TlsAcceptor,
    mut stream: TcpStream,
    (app, door): (&str, Door),
) {
    let mut first = [0; 8];
    if stream.read_exact(&mut first).await.is_err() {
        return;
    }
    if first != SSL_REQUEST {
        carry(&core, app, door, stream, first.to_vec()).await;
        return;
    }
    if stream.write_all(b"S").await.is_err() {
        return;
    }
    if let Ok(stream) = acceptor.accept(stream).await {
        carry(&core, app, door, stream, Vec::new()).await;
    }
}

/// Carries bytes between a client and a machine of the app.
async fn carry(
    core: &Shared,
    app: &str,
    door: Door,
    mut client: impl AsyncRead + AsyncWrite + Unpin,
    hello: Vec<u8>,
) {
    let Some((mut machine, load)) = machine(core, app, door).await else {
        return;
    };
    load.fetch_add(1, Ordering::Relaxed);
    if machine.write_all(&hello).await.is_ok() {
        let _ = copy_bidirectional(&mut client, &mut machine).await;
    }
    load.fetch_sub(1, Ordering::Relaxed);
}

/// A connection to a machine of the app, and its count of connections.
async fn machine(core: &Shared, app: &str, door: Door) -> Option<(TcpStream, Arc<AtomicUsize>)> {
    let deadline = tokio::time::Instant::now() + core.options.edge_patience;
    let mut changes = core.changes();
    loop {
        changes.mark_unchanged();
        if let Found::Machine(target) = proxy::choose(core, app, door, &[], None)
            && let Ok(stream) = TcpStream::connect((target.ip, target.port)).await
        {
            return Some((stream, target.in_flight));
        }
        if tokio::time::Instant::now() >= deadline {
            return None;
        }
        let pause = tokio::time::Instant::now() + Duration::from_millis(50);
        let _ = tokio::time::timeout_at(pause, changes.changed()).await;
    }
}
