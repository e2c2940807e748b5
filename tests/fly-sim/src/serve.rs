//! Connections: HTTP/1.1 and HTTP/2 on one port, each connection can be cut.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::http::{ConnectionEnd, Peer};

/// Accepts connections until told to stop; open ones are dropped then.
pub async fn accept(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let _ = stream.set_nodelay(true);
                tokio::spawn(connection(stream, peer, router.clone(), shutdown.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
    }
}

/// Serves one connection until it ends, is cut by a fault, or the simulator ends.
pub async fn connection<S>(stream: S, peer: SocketAddr, router: Router, shutdown: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let end = ConnectionEnd::default();
    let cut = end.clone();
    let service = router.map_request(move |mut request: http::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        request.extensions_mut().insert(end.clone());
        request.map(Body::new)
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    let serve = builder
        .serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service));
    tokio::select! {
        result = serve => {
            if let Err(error) = result {
                tracing::debug!(%peer, %error, "a connection ended early");
            }
        }
        () = cut.0.notified() => {}
        () = shutdown.cancelled() => {}
    }
}
