//! Overrides of DNS, set by the operator's flags.

use std::net::{IpAddr, SocketAddr};

/// An override of DNS: the address to connect to for matching hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolve {
    /// A host name in lower case, or `*.` and a suffix.
    host: String,
    /// The port; `None`: every port.
    port: Option<u16>,
    /// The address to connect to.
    to: IpAddr,
    /// The port to connect to; `None`: the same.
    to_port: Option<u16>,
}

impl Resolve {
    /// Parses `HOST:PORT=ADDR:PORT`, or `HOST:*=ADDR:*` for every port to the same port there.
    pub fn parse(text: &str) -> Result<Resolve, String> {
        let wanted = || "must look like `*.fly.dev:443=127.0.0.1:34443`".to_owned();
        let (from, to) = text.split_once('=').ok_or_else(wanted)?;
        let (host, port) = from.rsplit_once(':').ok_or_else(wanted)?;
        let name = host.strip_prefix("*.").unwrap_or(host);
        if name.is_empty() || name.contains(['*', '/', ' ', '@']) {
            return Err(wanted());
        }
        if let Some(address) = to.strip_suffix(":*").filter(|_| port == "*") {
            let address = address.trim_start_matches('[').trim_end_matches(']');
            return Ok(Resolve {
                host: host.to_ascii_lowercase(),
                port: None,
                to: address.parse().map_err(|_| wanted())?,
                to_port: None,
            });
        }
        let to: SocketAddr = to.parse().map_err(|_| wanted())?;
        Ok(Resolve {
            host: host.to_ascii_lowercase(),
            port: Some(port.parse().map_err(|_| wanted())?),
            to: to.ip(),
            to_port: Some(to.port()),
        })
    }

    /// Where a connection to this port of a matching host goes.
    pub fn target(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.to, self.to_port.unwrap_or(port))
    }

    /// Whether a connection to this host and port goes to [`Resolve::target`]. `*.` matches one or more
    /// labels; a trailing dot of the host is ignored.
    pub fn applies(&self, host: &str, port: u16) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        if self.port.is_some_and(|own| own != port) {
            return false;
        }
        match self.host.strip_prefix('*') {
            Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
            None => host == self.host,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_override_applies_to_its_hosts_and_its_port_alone() {
        let edge = Resolve::parse("*.fly.dev:443=127.0.0.1:34443").unwrap();
        assert!(edge.applies("sist-cabanas-mvp.fly.dev", 443));
        assert!(edge.applies("SIST-cabanas-mvp.fly.dev.", 443));
        assert!(!edge.applies("fly.dev", 443));
        assert!(!edge.applies("evilfly.dev", 443));
        assert!(!edge.applies("sist-cabanas-mvp.fly.dev", 80));
        let one = Resolve::parse("Reservas.Cabanas.Example:443=[::1]:1").unwrap();
        assert!(one.applies("reservas.cabanas.example", 443));
        let every = Resolve::parse("*.fly.dev:*=127.9.8.7:*").unwrap();
        assert!(every.applies("shop.fly.dev", 10022) && !every.applies("fly.io", 10022));
        assert_eq!(every.target(10022).to_string(), "127.9.8.7:10022");
        assert_eq!(edge.target(443).to_string(), "127.0.0.1:34443");
        for bad in [
            "",
            "*.fly.dev:*=127.0.0.1:1",
            "*.fly.dev:1=127.0.0.1:*",
            "a=b",
            "a:443",
            "a:443=b:1",
            "*:443=127.0.0.1:1",
            "a*b:443=127.0.0.1:1",
        ] {
            assert!(Resolve::parse(bad).is_err(), "{bad}");
        }
    }
}
