//! The requested addresses carry the protocols of the fly.toml's services.
//!
//! A shared IPv4 address carries only HTTP on port 80 and TLS on 443
//! (fly.io/docs/networking/services/). For everything else flyctl asks at the first deployment
//! whether to allocate a dedicated address, which costs money; here the spec says so.

use super::check::{Check, Finding};
use crate::{
    api::{Reason, preflight::CheckName, status::Severity},
    flytoml::IpKind,
    pipeline::{Cx, step::Result},
    plan::Target,
};

/// The requested addresses carry the protocols of the services.
pub struct AddressesSuffice;

impl Check for AddressesSuffice {
    type Observed = ();
    const NAME: CheckName = CheckName::AddressesSuffice;
    const SEVERITY: Severity = Severity::Warning;

    async fn observe(&self, _cx: &Cx) -> Result<()> {
        Ok(())
    }

    fn judge(&self, target: &Target, (): &()) -> Finding {
        let Ok(config) = target.config_or_invalid() else {
            return Finding::passed("there is no usable fly.toml: FlyConfigValid says why");
        };
        let addresses = &target.provision.addresses;
        let fails =
            |message, action| Finding::failed(Reason::AddressesInsufficient, message, action);
        let udp = config.app.has_udp_service();
        match config.app.ip_kind() {
            None => Finding::passed("fly.toml has no services to reach"),
            Some(_) if addresses.v4 => {
                Finding::passed("a dedicated IPv4 address carries everything")
            }
            Some(IpKind::Dedicated) if udp => fails(
                "fly.toml has a UDP service, and Fly.io carries UDP over a dedicated IPv4 address only",
                "set `provision.addresses.v4` to true; that address costs money",
            ),
            Some(IpKind::Dedicated) => fails(
                if addresses.v6 {
                    "fly.toml has services beside HTTP on port 80 and TLS on 443: they are reached over IPv6 only, because a shared IPv4 address does not carry them"
                } else {
                    "fly.toml has services beside HTTP on port 80 and TLS on 443, and a shared IPv4 address does not carry them"
                },
                "set `provision.addresses.v4` to true; that address costs money",
            ),
            Some(IpKind::Shared) if !addresses.shared_v4 && !addresses.v6 => fails(
                "fly.toml has services, and no address is requested to reach them",
                "set `provision.addresses.sharedV4` and `v6` to true, unless the addresses are assigned by somebody else",
            ),
            Some(IpKind::Shared) => Finding::passed("HTTP and TLS on their usual ports"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::testing::target;

    /// Message and action, if it fails.
    fn failure(addresses: &str, toml: &str) -> Option<String> {
        let spec = format!(
            "provision: {{addresses: {{{addresses}}}}}\ndeploy: {{config: {{inline: \"{toml}\"}}}}"
        );
        match AddressesSuffice.judge(&target(&spec, &[]), &()) {
            Finding::Failed {
                reason: Reason::AddressesInsufficient,
                message,
                action,
            } => Some(format!("{message}: {action}")),
            _ => None,
        }
    }

    const HTTP: &str = "[http_service]\\ninternal_port = 80\\n";
    const RAW: &str = "[[services]]\\nprotocol = 'tcp'\\ninternal_port = 53\\n[[services.ports]]\\nport = 5432\\n";
    const UDP: &str =
        "[[services]]\\nprotocol = 'udp'\\ninternal_port = 53\\n[[services.ports]]\\nport = 53\\n";

    #[test]
    fn services_that_the_addresses_do_not_carry_are_warned_about_with_what_to_do() {
        for (addresses, toml, says) in [
            ("", RAW, "IPv6 only"),
            ("v6: false", RAW, "does not carry them"),
            ("", UDP, "UDP"),
            (
                "sharedV4: false, v6: false",
                HTTP,
                "no address is requested",
            ),
        ] {
            let text = failure(addresses, toml).unwrap_or_default();
            assert!(text.contains(says), "{addresses} {toml}: {text}");
            assert!(text.contains("set `provision.addresses."), "{text}");
        }
    }

    #[test]
    fn addresses_that_carry_all_services_are_not_warned_about() {
        for (addresses, toml) in [
            ("", HTTP),
            ("", ""),
            ("sharedV4: false, v6: false", "kill_timeout = '5s'"),
            ("v4: true", RAW),
            ("v4: true", UDP),
        ] {
            assert_eq!(failure(addresses, toml), None, "{addresses} {toml}");
        }
    }
}
