//! The guard against private addresses, beside another one that is written differently.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{bounded, target};
use crate::net::public_address::{is_public, may_be_public};

/// Networks that are not globally reachable, by IANA's registries of special-purpose addresses
/// (iana.org/assignments/iana-ipv4-special-registry and -ipv6-), multicast, and Fly.io's private
/// network. A table of networks, where the guard compares fields.
const PRIVATE: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/128",
    "::1/128",
    "64:ff9b:1::/48",
    "100::/64",
    "2001::/23",
    "2001:db8::/32",
    "3fff::/20",
    "5f00::/16",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
];

/// An address as 128 bits, IPv4 in its mapped form.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn within(address: IpAddr, network: &str) -> bool {
    let (base, length) = network.split_once('/').unwrap();
    let base: IpAddr = base.parse().unwrap();
    let length: u32 = length.parse().unwrap();
    let length = if base.is_ipv4() { length + 96 } else { length };
    let mask = u128::MAX << (128 - length);
    bits(address) & mask == bits(base) & mask
}

/// The IPv4 address that an IPv6 address leads to.
fn embedded(address: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(v6) = address else { return None };
    let bytes = v6.octets();
    let at = |start: usize| {
        let four: [u8; 4] = bytes[start..start + 4].try_into().unwrap();
        IpAddr::V4(Ipv4Addr::from(four))
    };
    match bytes {
        [0x00, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, ..] => Some(at(12)),
        [0x20, 0x02, ..] => Some(at(2)),
        _ => None,
    }
}

fn is_private(address: IpAddr) -> bool {
    PRIVATE.iter().any(|network| within(address, network))
        || embedded(address).is_some_and(is_private)
}

fn check(address: IpAddr) {
    assert!(
        !(is_public(address) && is_private(address)),
        "{address} counts as public"
    );
    if address.is_ipv4() {
        assert_ne!(is_public(address), is_private(address), "{address}");
    }
}

#[test]
fn no_address_is_public_for_us_that_is_not_public_for_an_independent_checker() {
    // The first and the last address of each network, and their neighbours.
    for network in PRIVATE {
        let (base, length) = network.split_once('/').unwrap();
        let base: IpAddr = base.parse().unwrap();
        let length: u32 = length.parse().unwrap();
        let size = match base {
            IpAddr::V4(_) => 1_u128 << (32 - length),
            IpAddr::V6(_) => u128::MAX.checked_shr(length).unwrap_or(0).wrapping_add(1),
        };
        let start = bits(base);
        for at in [
            start,
            start.wrapping_sub(1),
            start.wrapping_add(size - 1),
            start.wrapping_add(size),
        ] {
            let v6 = Ipv6Addr::from_bits(at);
            check(v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4));
            check(IpAddr::V6(v6));
        }
    }
    bolero::check!(name = "address")
        .with_type::<(u8, u8, [u8; 16])>()
        .with_test_time(super::time())
        .cloned()
        .for_each(|(network, keep, random)| {
            bounded(|| {
                let random = u128::from_le_bytes(random);
                check(IpAddr::V4(Ipv4Addr::from_bits(random as u32)));
                check(IpAddr::V6(Ipv6Addr::from_bits(random)));
                // Near a network that matters: some of its bits, and random ones after them.
                let network = PRIVATE[usize::from(network) % PRIVATE.len()];
                let base: IpAddr = network.split_once('/').unwrap().0.parse().unwrap();
                let kept = u128::MAX
                    .checked_shl(128 - u32::from(keep % 128))
                    .unwrap_or(0);
                let near = Ipv6Addr::from_bits((bits(base) & kept) | (random & !kept));
                check(IpAddr::V6(near));
                if let Some(v4) = near.to_ipv4_mapped() {
                    check(IpAddr::V4(v4));
                    let [a, b, c, d] = v4.octets().map(u16::from);
                    let (high, low) = (a << 8 | b, c << 8 | d);
                    check(IpAddr::V6(Ipv6Addr::new(
                        0x64, 0xff9b, 0, 0, 0, 0, high, low,
                    )));
                    check(IpAddr::V6(Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1)));
                }
            });
        });
}

/// The address that a host is, as `inet_aton` reads it: parts in decimal, octal or hexadecimal, the
/// last of which fills the rest.
fn aton(host: &str) -> Option<Ipv4Addr> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let parts: Vec<&str> = host.split('.').collect();
    // The standard library reads a sign too, `inet_aton` does not: `0177.+1` is a name.
    let digits = |digits: &str, base: u32| {
        let plain = digits.bytes().all(|c| c.is_ascii_hexdigit());
        plain
            .then(|| u64::from_str_radix(digits, base).ok())
            .flatten()
    };
    let number = |part: &str| {
        let lower = part.to_ascii_lowercase();
        match lower.strip_prefix("0x") {
            Some("") => Some(0),
            Some(hex) => digits(hex, 16),
            None if part.len() > 1 && part.starts_with('0') => digits(part, 8),
            None => digits(part, 10),
        }
    };
    let numbers: Option<Vec<u64>> = parts.iter().map(|part| number(part)).collect();
    let numbers = numbers.filter(|numbers| (1..=4).contains(&numbers.len()))?;
    let (last, first) = numbers.split_last()?;
    let mut address = 0_u64;
    for (n, part) in first.iter().enumerate() {
        address |= u64::from(u8::try_from(*part).ok()?) << (24 - 8 * n);
    }
    let room = 1_u64 << (8 * (4 - first.len()));
    (*last < room).then(|| Ipv4Addr::from_bits((address | last) as u32))
}

#[test]
fn no_spelling_of_a_host_gets_past_the_guard() {
    let run = |input: &[u8]| {
        let text = String::from_utf8_lossy(input);
        let Ok(url) = url::Url::parse(&format!("https://{text}/")) else {
            return;
        };
        let Some(host) = url.host() else { return };
        if !may_be_public(&host) {
            return;
        }
        let shown = host.to_string();
        let shown = shown.trim_matches(['[', ']']);
        assert!(
            aton(shown).is_none_or(|v4| !is_private(IpAddr::V4(v4))),
            "{text}"
        );
        assert!(
            shown.parse().is_ok_and(|ip: IpAddr| !is_private(ip))
                || shown.parse::<IpAddr>().is_err(),
            "{text}"
        );
        if shown.parse::<IpAddr>().is_err() {
            let name = shown.trim_end_matches('.').to_ascii_lowercase();
            assert!(name.contains('.'), "{text}: a name of the cluster");
            for end in [".svc", ".internal", ".local", ".localhost", ".flycast"] {
                assert!(!name.ends_with(end), "{text}");
            }
        }
    };
    target!("host", run);
}

#[test]
fn the_checker_of_hosts_reads_numbers_as_inet_aton_does() {
    let v4 = |text: &str| aton(text).map(|address| address.to_string());
    assert_eq!(v4("0177.1").as_deref(), Some("127.0.0.1"));
    assert_eq!(v4("0x7f.0.0.1").as_deref(), Some("127.0.0.1"));
    assert_eq!(v4("2130706433").as_deref(), Some("127.0.0.1"));
    for name in [
        "0177.+1",
        "+1",
        "-1",
        "0x+7f.1",
        "1.2.3.4.5",
        "0178.1",
        "a.1",
    ] {
        assert_eq!(aton(name), None, "{name}");
    }
}
