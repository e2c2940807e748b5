//! User, hosts and ports of an address. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::problem::{Problem, Service, encode};

/// Judges what follows the scheme: a problem, or doubts.
///
/// # Errors
/// When it has no usable host, or characters that must be percent-encoded.
pub fn judge(service: Service, rest: &str) -> Result<Vec<Problem>, Problem> {
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, after) = rest.split_at(end);
    let hosts = match authority.rsplit_once('@') {
        Some((user, _)) if user.contains('@') => return Err(at_sign()),
        Some((user, _)) if user.contains(['[', ']']) => {
            return Err(encode("has a `[` or `]` in user name or password"));
        }
        Some((_, hosts)) => hosts,
        // What looks like a host is the part of a password before its first `/` or `?`.
        None if cut_short(authority, after) => {
            return Err(encode(
                "has a `/` or `?` in user name or password, which is written as `%2F` or `%3F`",
            ));
        }
        None => authority,
    };
    let mut doubts = Vec::new();
    let named = named_hosts(service, after);
    doubts.extend(named.iter().filter_map(|host| doubt(service, host)));
    if hosts.is_empty() && !named.is_empty() {
        return Ok(doubts);
    }
    for host in hosts.split(',') {
        let name = host_of(service, host)?;
        doubts.extend(doubt(service, name));
    }
    Ok(doubts)
}

/// The hosts in the parameters `host` and `hostaddr`, which libpq reads in place of the one before them.
/// A directory with a socket may be one that the application makes itself.
fn named_hosts(service: Service, after: &str) -> Vec<String> {
    let query = after.split_once('?').map_or("", |(_, query)| query);
    if service != Service::Postgres {
        return Vec::new();
    }
    let parameters = url::form_urlencoded::parse(query.as_bytes());
    let named = parameters.filter(|(key, _)| key == "host" || key == "hostaddr");
    named.map(|(_, host)| host.into_owned()).collect()
}

/// Whether an `@` follows although there is none where the user ends.
fn cut_short(authority: &str, after: &str) -> bool {
    let path = after.split('?').next().unwrap_or_default();
    let no_port = authority
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_err());
    path.contains('@') || (after.contains('@') && no_port)
}

fn at_sign() -> Problem {
    encode("has an `@` in user name or password, which is written as `%40`")
}

/// The host of `HOST:PORT`, without the port.
fn host_of(service: Service, part: &str) -> Result<&str, Problem> {
    let problem = |what: &str| service.problem(what);
    let (host, port) = match part.strip_prefix('[') {
        Some(rest) => {
            let Some((host, port)) = rest.split_once(']') else {
                return Err(problem("has a `[` that is not closed"));
            };
            if host.parse::<Ipv6Addr>().is_err() {
                return Err(problem("has no IPv6 address between `[` and `]`"));
            }
            (host, port.strip_prefix(':'))
        }
        None => match part.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (part, None),
        },
    };
    if host.is_empty() {
        return Err(problem("names no host"));
    }
    if port.is_some_and(|port| !port.is_empty() && port.parse::<u16>().unwrap_or(0) == 0) {
        return Err(problem("has a port that is not a number from 1 to 65535"));
    }
    let is_socket = host.starts_with("%2F") || host.starts_with("%2f");
    let fits = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    if !is_socket && !host.chars().all(fits) {
        return Err(problem("has a host with a character that no hostname has"));
    }
    if !part.starts_with('[') && host.contains(':') {
        return Err(problem(
            "has more than one `:` after the host; an IPv6 address is written in `[` and `]`",
        ));
    }
    Ok(host)
}

/// Why machines at Fly.io probably do not reach a host.
fn doubt(service: Service, host: &str) -> Option<Problem> {
    let lower = host.trim_end_matches('.').to_ascii_lowercase();
    let unreachable = |what: &str| {
        Some(Problem {
            what: format!("names {what}"),
            action: match service {
                Service::Https => "name a host of the public Internet",
                _ => "name a host that the machines at Fly.io reach: one of the public Internet, `APP.flycast` or `APP.internal`",
            }
            .to_owned(),
        })
    };
    let ip = lower.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
    if lower.starts_with('/') {
        return None;
    }
    let digits = |c: char| c.is_ascii_digit() || c == '.';
    if ip.is_none() && !lower.is_empty() && lower.chars().all(digits) {
        return unreachable("a host of digits that is not a whole IPv4 address");
    }
    let loopback = ip.is_some_and(|ip| ip.is_loopback() || ip.is_unspecified());
    if loopback || lower == "localhost" || lower.ends_with(".localhost") || lower.starts_with("%2f")
    {
        return unreachable(
            "the machine itself (localhost), where only a program of the same machine answers",
        );
    }
    match ip {
        Some(IpAddr::V4(ip)) if is_private(ip) => {
            return unreachable("a private IPv4 address, which machines at Fly.io do not reach");
        }
        Some(IpAddr::V6(ip)) if is_elsewhere(ip) => {
            return unreachable("a private IPv6 address of another network than Fly.io's");
        }
        _ => {}
    }
    let cluster = [
        ".local",
        ".localdomain",
        ".svc",
        ".lan",
        ".home",
        ".home.arpa",
        ".docker.internal",
    ];
    if cluster.iter().any(|end| lower.ends_with(end)) {
        return unreachable(
            "a host of another private network, such as that of a Kubernetes cluster",
        );
    }
    if ip.is_none() && !lower.contains('.') {
        return unreachable("a host without a domain, which machines at Fly.io do not resolve");
    }
    None
}

fn is_private(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    ip.is_private() || ip.is_link_local() || (a == 100 && (64..128).contains(&b))
}

/// Whether the address is private (RFC 4193) or of one link (RFC 4291), and not in `fdaa::/16`, which
/// Fly.io uses (fly.io/docs/networking/private-networking).
fn is_elsewhere(ip: Ipv6Addr) -> bool {
    let own = ip.segments()[0] == 0xfdaa;
    (ip.is_unique_local() || ip.is_unicast_link_local()) && !own
}
