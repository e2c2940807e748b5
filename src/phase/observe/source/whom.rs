//! Whom a look asks, and in whose name.

use std::sync::Arc;

use crate::{
    clock::ServerClock,
    fly,
    net::{probe::Probe, prometheus::Allowed},
    pipeline::Cx,
    plan::refs::Refs,
};

/// Whom a look asks, and in whose name.
#[derive(Clone, Debug)]
pub struct Whom {
    /// The application, from outside.
    pub probe: Probe,
    /// Fly.io, with the activation's token.
    pub fly: fly::Client,
    /// The organization at Fly.io.
    pub organization: String,
    /// The app at Fly.io.
    pub app: String,
    /// The namespace of the activation.
    pub namespace: String,
    /// Its name.
    pub activation: String,
    /// The values that it names.
    pub refs: Arc<Refs>,
    /// The Prometheus servers that the installation allows.
    pub allowed: Allowed,
    /// The clock by which certificates are valid.
    pub clock: ServerClock,
}

impl Whom {
    /// Those of a pass.
    #[must_use]
    pub fn of(cx: &Cx) -> Self {
        Self {
            probe: cx.probe.clone(),
            fly: cx.fly.clone(),
            organization: cx.target.organization.clone(),
            app: cx.target.app.clone(),
            namespace: cx.owner.namespace.clone(),
            activation: cx.owner.name.clone(),
            refs: cx.refs.clone(),
            allowed: cx.installation.prometheus.clone(),
            clock: cx.installation.clock.clone(),
        }
    }
}
