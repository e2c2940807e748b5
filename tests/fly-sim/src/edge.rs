//! The edge: TLS for `<app>.fly.dev` and added hostnames, in front of the machines.

use tokio::net::TcpListener;

use crate::core::Shared;

/// Serves the edge until the simulator ends.
pub async fn serve(_core: Shared, _listener: TcpListener) {}
