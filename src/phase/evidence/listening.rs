//! Where the program in a machine listens. Pure.
//!
//! As flyctl: a socket on any address but a loopback one counts as reachable, and a machine without a
//! single socket tells nothing, because the init process of old machines lists none.

use std::net::{IpAddr, SocketAddr};

use crate::fly::Process;

/// Begins the command lines of Fly.io's own programs in a machine, such as its SSH server.
const PLATFORM: &str = "/.fly/";

/// Where the program of a machine listens, as far as one port is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listening {
    /// On the port, and the proxy can reach it.
    OnPort,
    /// On the port, and on a loopback address only.
    OnLoopback(SocketAddr),
    /// On other ports only.
    Elsewhere(Vec<SocketAddr>),
    /// On no port.
    Nowhere,
    /// Not known.
    Unknown,
}

/// The sockets that the program listens on; `None` when the machine does not say.
pub fn sockets(processes: &[Process]) -> Option<Vec<SocketAddr>> {
    let is_tcp = |proto: &Option<String>| {
        let proto = proto.as_deref().unwrap_or("tcp");
        proto.starts_with("tcp")
    };
    let mut any = false;
    let mut sockets = Vec::new();
    for process in processes {
        let command = process.command.as_deref().unwrap_or_default();
        for socket in process.listen_sockets.iter() {
            any = true;
            let address = socket.address.as_deref().unwrap_or_default().parse();
            if let Ok(address) = address
                && is_tcp(&socket.proto)
                && !command.starts_with(PLATFORM)
                && !sockets.contains(&address)
            {
                sockets.push(address);
            }
        }
    }
    any.then_some(sockets)
}

/// Where the program listens, as far as this port is concerned.
pub fn on(port: u16, sockets: Option<&[SocketAddr]>) -> Listening {
    let Some(sockets) = sockets else {
        return Listening::Unknown;
    };
    let mut here = sockets.iter().filter(|socket| socket.port() == port);
    if here.clone().any(|socket| !is_loopback(socket.ip())) {
        return Listening::OnPort;
    }
    if let Some(socket) = here.next() {
        return Listening::OnLoopback(*socket);
    }
    if sockets.is_empty() {
        return Listening::Nowhere;
    }
    // Those that can be reached come first: one of them is what `internal_port` should be.
    let mut elsewhere = sockets.to_vec();
    elsewhere.sort_by_key(|socket| (is_loopback(socket.ip()), socket.port()));
    Listening::Elsewhere(elsewhere)
}

/// Whether only programs of the same machine can connect to an address.
pub fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn read(processes: serde_json::Value) -> Option<Vec<SocketAddr>> {
        let processes: Vec<Process> = serde_json::from_value(processes).unwrap();
        sockets(&processes)
    }

    fn ssh() -> serde_json::Value {
        json!({"pid": 2, "command": "/.fly/hallpass",
            "listen_sockets": [{"proto": "tcp", "address": "[fdaa:0:1:a7b::2]:22"}]})
    }

    fn program(addresses: &[&str]) -> Option<Vec<SocketAddr>> {
        let sockets = addresses.iter();
        let sockets: Vec<_> = sockets
            .map(|address| json!({"proto": "tcp", "address": address}))
            .collect();
        read(json!([ssh(), {"command": "node server.js", "listen_sockets": sockets}]))
    }

    #[test]
    fn a_machine_without_sockets_tells_nothing_and_one_with_ssh_alone_listens_nowhere() {
        assert_eq!(
            on(80, read(json!([{"command": "x"}])).as_deref()),
            Listening::Unknown
        );
        assert_eq!(on(80, read(json!([])).as_deref()), Listening::Unknown);
        assert_eq!(on(22, program(&[]).as_deref()), Listening::Nowhere);
    }

    #[test]
    fn any_address_but_a_loopback_one_is_reachable() {
        for address in ["0.0.0.0:8080", "[::]:8080", "172.19.2.10:8080"] {
            assert_eq!(on(8080, program(&[address]).as_deref()), Listening::OnPort);
        }
        for address in ["127.0.0.1:8080", "[::1]:8080", "[::ffff:127.0.0.1]:8080"] {
            let on = on(8080, program(&[address]).as_deref());
            assert_eq!(on, Listening::OnLoopback(address.parse().unwrap()));
        }
        let both = program(&["127.0.0.1:8080", "0.0.0.0:8080"]);
        assert_eq!(on(8080, both.as_deref()), Listening::OnPort);
    }

    #[test]
    fn other_ports_are_listed_with_the_reachable_ones_first() {
        let found = on(
            8080,
            program(&["127.0.0.1:9229", "0.0.0.0:3000"]).as_deref(),
        );
        let Listening::Elsewhere(sockets) = found else {
            unreachable!("{found:?}");
        };
        let ports: Vec<u16> = sockets.iter().map(SocketAddr::port).collect();
        assert_eq!(ports, [3000, 9229]);
    }
}
