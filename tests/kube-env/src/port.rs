//! Free ports on loopback, chosen by the system.

use std::net::{Ipv4Addr, TcpListener};

use crate::{Error, Result};

/// A port of 127.0.0.1 on which nothing listened a moment ago.
///
/// Another process may take it first: a start that fails on a taken port is repeated with another
/// one.
pub fn free() -> Result<u16> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|source| Error::Port { source })
}
