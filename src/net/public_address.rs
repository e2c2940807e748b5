//! Which hosts may be connected to when a user names them.
//!
//! Such a host must be on the public Internet. Otherwise anybody who can write an Activation could
//! make the operator send requests to the cluster, the cloud's metadata service or Fly.io's private
//! network (server-side request forgery). Addresses are checked when connecting, so DNS rebinding
//! has no effect.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns::Name;

/// Whether an address is on the public Internet.
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

/// Whether a host of a URL may be connected to: literal addresses are decided here, names when they
/// are resolved.
pub fn may_be_public(host: &url::Host<&str>) -> bool {
    match host {
        url::Host::Ipv4(ip) => is_public_v4(*ip),
        url::Host::Ipv6(ip) => is_public_v6(*ip),
        url::Host::Domain(name) => {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            let private = ["localhost", "internal", "local", "svc", "flycast"];
            let last = name.rsplit('.').next().unwrap_or_default();
            // A name without a dot is resolved in the cluster's search domains.
            name.contains('.') && !private.contains(&last)
        }
    }
}

/// IANA's IPv4 Special-Purpose Address Registry: addresses that are not globally reachable.
fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    !(a == 0
        || a >= 224
        || ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_documentation()
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (18..20).contains(&b)))
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let segments = ip.segments();
    if let Some(v4) = ip.to_ipv4_mapped() {
        return is_public_v4(v4);
    }
    // NAT64 and 6to4 addresses contain an IPv4 address.
    let embedded = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments[0] {
        0x0064 if segments[1] == 0xff9b && segments[2..6] == [0; 4] => {
            embedded(segments[6], segments[7])
        }
        0x2002 => embedded(segments[1], segments[2]),
        0x2001 => segments[1] >= 0x0200 && segments[1] != 0x0db8,
        // Global unicast is 2000::/3.
        first => (0x2000..0x4000).contains(&first) && first != 0x3fff,
    }
}

/// Resolves names and refuses those with an address that is not public.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PublicResolver;

impl tower::Service<Name> for PublicResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        Box::pin(async move {
            let addresses: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if addresses.iter().any(|address| !is_public(address.ip())) {
                let text = format!("{} has an address that is not public", name.as_str());
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
            }
            Ok(addresses.into_iter())
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn private_and_special_addresses_are_not_public() {
        for text in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "192.0.0.1",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
            "2001:db8::1",
            "2001::1",
            "fc00::1",
            "fd00:ec2::254",
            "fdaa:0:1::3",
            "fe80::1",
            "ff02::1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
        for text in [
            "1.1.1.1",
            "66.241.124.1",
            "2a09:8280:1::1",
            "2606:4700::1111",
        ] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn hosts_of_the_cluster_and_odd_spellings_of_loopback_are_not_public() {
        for url in [
            "https://localhost/",
            "https://localhost./",
            "https://kubernetes/",
            "https://kubernetes.default.svc/",
            "https://x.cluster.local/",
            "https://app.internal/",
            "https://app.flycast/",
            "https://127.1/",
            "https://0x7f000001/",
            "https://017700000001/",
            "https://[::ffff:127.0.0.1]/",
        ] {
            let url = url::Url::parse(url).unwrap();
            assert!(!may_be_public(&url.host().unwrap()), "{url}");
        }
        let url = url::Url::parse("https://ghcr.io/").unwrap();
        assert!(may_be_public(&url.host().unwrap()));
    }
}
