//! The sockets that a machine's processes listen on, from `/proc`. A process belongs to the machine
//! whose id is in its environment.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use serde_json::{Value, json};

/// A process of a machine and what it listens on.
#[derive(Debug)]
struct Process {
    pid: u32,
    command: String,
    sockets: Vec<SocketAddr>,
}

/// The processes of a machine, as `GET …/ps` lists them. On Fly a machine has one address: what
/// listens on the one that stands for it here is told as listening on all.
pub fn of(machine: &str, own: Ipv4Addr) -> Vec<Value> {
    let listening = listening();
    let mark = format!("FLY_MACHINE_ID={machine}");
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            process(pid, &entry.path(), &mark, &listening)
        })
        .map(|process| {
            let sockets = process.sockets.iter().map(|socket| {
                let mut socket = *socket;
                if socket.ip() == IpAddr::V4(own) {
                    socket.set_ip(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
                }
                json!({"proto": "tcp", "address": socket.to_string()})
            });
            listed(process.pid, &process.command, sockets.collect())
        })
        .collect()
}

/// A process as the API lists it.
pub fn listed(pid: u32, command: &str, sockets: Vec<Value>) -> Value {
    json!({
        "pid": pid,
        "stime": 10,
        "rtime": 5,
        "command": command,
        "directory": "/",
        "cpu": 0,
        "rss": 16_777_216,
        "listen_sockets": sockets,
    })
}

fn process(
    pid: u32,
    dir: &Path,
    mark: &str,
    listening: &BTreeMap<u64, SocketAddr>,
) -> Option<Process> {
    let environment = std::fs::read(dir.join("environ")).ok()?;
    let mut variables = environment.split(|byte| *byte == 0);
    variables.find(|variable| *variable == mark.as_bytes())?;
    let command = std::fs::read(dir.join("cmdline")).unwrap_or_default();
    let words = command.split(|byte| *byte == 0);
    let words: Vec<_> = words.map(String::from_utf8_lossy).collect();
    let files = std::fs::read_dir(dir.join("fd")).into_iter().flatten();
    let mut sockets: Vec<SocketAddr> = files
        .flatten()
        .filter_map(|file| {
            let target = std::fs::read_link(file.path()).ok()?;
            let inode = target
                .to_str()?
                .strip_prefix("socket:[")?
                .strip_suffix(']')?;
            listening.get(&inode.parse().ok()?).copied()
        })
        .collect();
    sockets.sort();
    sockets.dedup();
    Some(Process {
        pid,
        command: words.join(" ").trim().to_owned(),
        sockets,
    })
}

/// All listening TCP sockets of this system by their inode. Source: proc(5), `/proc/net/tcp`.
fn listening() -> BTreeMap<u64, SocketAddr> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let tables = tables.map(|table| std::fs::read_to_string(table).unwrap_or_default());
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    lines.filter_map(socket).collect()
}

/// A row of the table, if it is a socket in the state LISTEN (0A).
fn socket(row: &str) -> Option<(u64, SocketAddr)> {
    let mut fields = row.split_whitespace().skip(1);
    let (address, port) = fields.next()?.split_once(':')?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?.parse().ok()?;
    let port = u16::from_str_radix(port, 16).ok()?;
    (state == "0A").then_some((inode, SocketAddr::new(ip(address)?, port)))
}

/// An address as the kernel writes it: words of 32 bits in the order of the machine.
fn ip(hex: &str) -> Option<IpAddr> {
    let words = hex.as_bytes().chunks(8).map(|word| {
        let word = std::str::from_utf8(word).ok()?;
        Some(u32::from_str_radix(word, 16).ok()?.to_ne_bytes())
    });
    let bytes = words.collect::<Option<Vec<_>>>()?.concat();
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_listening_sockets_are_read_with_their_address() {
        let row = |state: &str| {
            format!(
                "   0: 0100007F:1F90 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0 100"
            )
        };
        let address: SocketAddr = "127.0.0.1:8080".parse().unwrap();
        assert_eq!(socket(&row("0A")), Some((4711, address)));
        assert_eq!(socket(&row("01")), None);
        let any = "00000000000000000000000000000000";
        assert_eq!(ip(any), Some(Ipv6Addr::UNSPECIFIED.into()));
    }

    #[test]
    fn a_socket_of_this_process_is_listed() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert!(listening().values().any(|found| *found == address));
    }
}
