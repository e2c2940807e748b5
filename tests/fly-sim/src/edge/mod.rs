//! The edge: TLS for `<app>.fly.dev` and added hostnames, in front of the machines.
//!
//! One port takes both TLS (Fly's 443) and plain HTTP (Fly's 80): the first byte tells. All public ports
//! of services are also open at an address of the simulator's own (`ports`).

mod autostop;
pub mod metrics;
mod ports;
mod proxy;
mod tls;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::core::Shared;
use crate::serve;

/// First byte of a TLS record that starts a handshake.
const HANDSHAKE: u8 = 0x16;

/// Serves the edge until the simulator ends.
pub async fn serve(core: Shared, listener: TcpListener) {
    let acceptor = match tls::config(&core) {
        Ok(config) => TlsAcceptor::from(Arc::new(config)),
        Err(error) => {
            tracing::error!(%error, "the edge cannot serve TLS");
            return;
        }
    };
    if let Some(addresses) = core.addresses() {
        let ip = std::net::IpAddr::V4(addresses.edge_ip);
        core.spawn(ports::run(Arc::clone(&core), ip, acceptor.clone()));
    }
    if core.options.autostop {
        core.spawn(autostop::run(Arc::clone(&core)));
    }
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true);
                let (core, acceptor) = (Arc::clone(&core), acceptor.clone());
                tokio::spawn(connection(core, acceptor, stream));
            }
            Err(error) => {
                tracing::warn!(%error, "the edge cannot accept a connection");
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
    }
}

fn router(core: &Shared, door: proxy::Door) -> Router {
    let core = Arc::clone(core);
    Router::new().fallback(move |request: Request<Body>| {
        let core = Arc::clone(&core);
        async move { proxy::handle(core, door, request).await }
    })
}

async fn connection(core: Shared, acceptor: TlsAcceptor, stream: TcpStream) {
    let Ok(peer) = stream.peer_addr() else {
        return;
    };
    let mut first = [0];
    match stream.peek(&mut first).await {
        Ok(1..) => {}
        _ => return,
    }
    let shutdown = core.shutdown.clone();
    if first[0] != HANDSHAKE {
        serve::connection(stream, peer, router(&core, proxy::Door::HTTP), shutdown).await;
        return;
    }
    ports::named(core, acceptor, stream, (peer, proxy::Door::HTTPS.port)).await;
}
