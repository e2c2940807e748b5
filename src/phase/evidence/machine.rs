//! What Fly.io knows of the checks and sockets of one machine.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{
    cause::{Finding, declared, findings},
    listening::{self, Listening},
};
use crate::{
    fly::{CheckOutput, Machine, MachineState, machines::CheckResult},
    pipeline::Cx,
};

/// TTL of the sockets of a machine. The Machines API allows one request of a kind each second for each
/// machine, and a message need not be newer.
const SOCKETS_FOR: Duration = Duration::from_secs(5);

/// Sockets of machines as they were last read, by the version of the machine. A fact.
#[derive(Clone, Debug, Default)]
struct Sockets(BTreeMap<String, (Instant, Option<Vec<SocketAddr>>)>);

/// The checks of a machine that do not pass, the most definite cause first. With `may_ask` Fly.io is
/// asked where the program listens, if a check cannot connect.
pub async fn failing(cx: &Cx, machine: &Machine, may_ask: bool) -> Vec<Finding> {
    let Some(config) = &machine.config else {
        return Vec::new();
    };
    let cannot_connect = |output: Option<&str>| {
        let output = CheckOutput::read(output.unwrap_or_default());
        matches!(output, CheckOutput::Refused | CheckOutput::NotRun)
    };
    let mut failing = machine
        .checks
        .iter()
        .filter(|check| check.status != CheckResult::Passing);
    let asks = may_ask && failing.any(|check| cannot_connect(check.output.as_deref()));
    let sockets = match asks {
        true => sockets(cx, machine).await,
        false => None,
    };
    findings(&declared(config), &machine.checks, |port| {
        listening::on(port, sockets.as_deref())
    })
}

/// Where the program listens, as far as this port is concerned.
pub async fn listening(cx: &Cx, machine: &Machine, port: u16) -> Listening {
    listening::on(port, sockets(cx, machine).await.as_deref())
}

/// The sockets that the program of a machine listens on; `None` when they are not known.
async fn sockets(cx: &Cx, machine: &Machine) -> Option<Vec<SocketAddr>> {
    if machine.state != MachineState::Started {
        return None;
    }
    let key = format!("{}/{}", machine.id, machine.instance_id);
    let known = cx.facts.get::<Sockets>();
    if let Some((read, sockets)) = known.as_ref().and_then(|known| known.0.get(&key))
        && read.elapsed() < SOCKETS_FOR
    {
        return sockets.clone();
    }
    // It is evidence for a message, so that it may be missing.
    let processes = cx.fly.processes(&cx.target.app, &machine.id).await;
    let sockets = processes.ok().and_then(|found| listening::sockets(&found));
    cx.facts.change_or_default::<Sockets>(|known| {
        known.0.retain(|_, (read, _)| read.elapsed() < SOCKETS_FOR);
        known.0.insert(key, (Instant::now(), sockets.clone()));
    });
    sockets
}
