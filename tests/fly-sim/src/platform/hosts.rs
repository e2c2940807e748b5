//! Names and addresses of the private network, resolved where a machine reads them.
//!
//! On Fly a machine asks its DNS server for `<app>.internal` and `<app>.flycast`. A local process
//! has no such server, so the names in its environment are replaced by addresses when it boots.
//! Source: docs, networking/private-networking.
//!
//! An address of the private network (6PN) leads nowhere here, so it is replaced as well: by the
//! address that the machine listens on, written as IPv6, because that is what a program expects that
//! writes `http://[$FLY_TEST_MACHINE_IP]:8080`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::machine::State;
use crate::state::{App, World};

/// Replaces the names and addresses of machines of the same organization in an environment.
pub fn resolve(world: &World, app: &App, env: &mut BTreeMap<String, String>) {
    for value in env.values_mut() {
        if value.contains(".internal") || value.contains(".flycast") {
            *value = replace(value, |host| address(world, &app.org_slug, host));
        }
        if value.contains(PRIVATE) {
            let same_org = world.apps.values().filter(|a| a.org_slug == app.org_slug);
            for machine in same_org.flat_map(App::live_machines) {
                *value = value.replace(&machine.private_ip, &reachable(machine.ip));
            }
        }
    }
}

/// How every address of the private network begins.
const PRIVATE: &str = "fdaa:";

/// A loopback address as IPv6.
fn reachable(ip: Ipv4Addr) -> String {
    ip.to_ipv6_mapped().to_string()
}

/// The address of a started machine of the app that a name means.
fn address(world: &World, org_slug: &str, host: &str) -> Option<String> {
    let labels = host
        .strip_suffix(".internal")
        .or_else(|| host.strip_suffix(".flycast"))?;
    let name = labels.rsplit('.').next()?;
    let app = world
        .apps
        .get(name)
        .filter(|app| app.org_slug == org_slug)?;
    let mut machines = app.live_machines();
    let found = match labels.strip_suffix(&format!(".vm.{name}")) {
        Some(id) => machines.find(|machine| machine.id == id),
        None => {
            // A program on Fly asks again when a machine is lost; here the answer is kept until it
            // boots again. All machines of a cluster of databases answer alike, and the one that gets
            // lost, and matters, is the primary: another one is named where there is one.
            let primary = world.platform.primaries.get(&app.internal_numeric_id);
            let started = machines.filter(|machine| machine.state == State::Started);
            started.min_by_key(|machine| primary == Some(&machine.id))
        }
    };
    found.map(|machine| machine.ip.to_string())
}

fn replace(text: &str, resolve: impl Fn(&str) -> Option<String>) -> String {
    let is_host = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let host_end = rest.find(|c| !is_host(c)).unwrap_or(rest.len());
        let (host, after) = rest.split_at(host_end);
        match resolve(host) {
            Some(address) => out.push_str(&address),
            None => out.push_str(host),
        }
        let other_end = after.find(is_host).unwrap_or(after.len());
        out.push_str(&after[..other_end]);
        rest = &after[other_end..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_names_are_replaced() {
        let known = |host: &str| {
            matches!(host, "db.flycast" | "top2.nearest.of.db.internal")
                .then(|| "127.1.2.3".to_owned())
        };
        assert_eq!(
            replace("postgres://u:p@db.flycast:5432/x", known),
            "postgres://u:p@127.1.2.3:5432/x"
        );
        assert_eq!(
            replace("a=mydb.flycast,top2.nearest.of.db.internal é", known),
            "a=mydb.flycast,127.1.2.3 é"
        );
    }

    #[test]
    fn an_address_keeps_its_form() {
        assert_eq!(reachable(Ipv4Addr::new(127, 1, 2, 3)), "::ffff:127.1.2.3");
    }
}
