//! Everything together.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::ca::{Ca, CaError};
use crate::client::Client;
use crate::state::{Shared, State};
use crate::{channels, control, mercado_pago, meta, serve};

/// How the vendors are started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the vendors listen, each on a port of its own: a token that reaches the wrong one is seen.
    pub listen: SocketAddr,
    /// Where tests and people steer them, in plain HTTP.
    pub control_listen: SocketAddr,
    /// Authorities that sign the certificates of applications, in PEM.
    pub authorities: String,
    /// The address that every name of an application stands for.
    pub edge: Option<SocketAddr>,
    /// Factor on the pauses between tries of a delivery.
    pub scale: f64,
}

impl Default for Options {
    fn default() -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            listen: any,
            control_listen: any,
            authorities: String::new(),
            edge: None,
            scale: 0.001,
        }
    }
}

/// Why the vendors do not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No certificate.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// No TLS.
    #[error("cannot prepare TLS")]
    Tls(#[from] rustls::Error),
    /// The port is taken, for one.
    #[error("cannot listen")]
    Listen(#[from] std::io::Error),
}

/// The vendors, until dropped.
pub struct Vendors {
    state: Shared,
    ca_pem: String,
    graph: SocketAddr,
    mercado_pago: SocketAddr,
    channels: SocketAddr,
    control: SocketAddr,
}

impl Vendors {
    /// Starts them in this process.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let ca = Ca::new()?;
        let client = Client::new(&options.authorities, options.edge)?;
        let (channels_listener, channels) = serve::listen(options.listen).await?;
        let (graph_listener, graph) = serve::listen(options.listen).await?;
        let (payments_listener, mercado_pago) = serve::listen(options.listen).await?;
        let (control_listener, control) = serve::listen(options.control_listen).await?;
        let state = State::new(client, options.scale, https(channels));
        let tls = || Some(Arc::clone(&ca.tls));
        let stop = || state.stop.clone();
        for (listener, tls, router) in [
            (channels_listener, tls(), channels::router(state.clone())),
            (graph_listener, tls(), meta::graph::router(state.clone())),
            (
                payments_listener,
                tls(),
                mercado_pago::api::router(state.clone()),
            ),
            (control_listener, None, control::router(state.clone())),
        ] {
            tokio::spawn(serve::serve(listener, tls, router, stop()));
        }
        Ok(Self {
            state,
            ca_pem: ca.pem,
            graph,
            mercado_pago,
            channels,
            control,
        })
    }

    /// What they know.
    pub fn state(&self) -> &Shared {
        &self.state
    }

    /// The authority of their certificates, as PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Where the Graph API is.
    pub fn graph_url(&self) -> String {
        https(self.graph)
    }

    /// Where Mercado Pago's API is.
    pub fn mercado_pago_url(&self) -> String {
        https(self.mercado_pago)
    }

    /// Where the calendars are.
    pub fn channels_url(&self) -> String {
        https(self.channels)
    }

    /// Where the names of the channels lead.
    pub fn channels_address(&self) -> SocketAddr {
        self.channels
    }

    /// Where they are steered.
    pub fn control_url(&self) -> String {
        format!("http://{}", self.control)
    }
}

impl Drop for Vendors {
    fn drop(&mut self) {
        self.state.stop.cancel();
    }
}

fn https(address: SocketAddr) -> String {
    format!("https://localhost:{}", address.port())
}
