//! Why the edge answers with an error of its own (502, 503, 504) instead of the program's answer.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use super::{
    cause::{Cause, DeclaredCheck},
    listening::Listening,
    machine,
};
use crate::{
    api::status::one_line,
    fly::{
        CheckOutput, LogLine, Machine, MachineState, logs::LogProvider,
        machine_config::MachineService,
    },
    flytoml,
    phase::roster,
    pipeline::Cx,
};

/// TTL of the evidence: several checks fail at the same time, and try after try.
const FOR: Duration = Duration::from_secs(5);

/// How old a line of the proxy may be.
const RECENT: SignedDuration = SignedDuration::from_secs(120);

/// Most bytes of the proxy's line.
const PROXY_LINE: usize = 160;

/// The name of the question for the evidence: none of a check, which are DNS labels.
pub const QUESTION: &str = "the edge";

/// The HTTP statuses that Fly.io's proxy answers by itself.
/// Source: fly.io/docs/monitoring/error-codes.
pub const OWN_ERRORS: [u16; 3] = [502, 503, 504];

/// The evidence as it was last gathered. A fact.
#[derive(Clone, Debug)]
struct Gathered {
    at: Instant,
    evidence: Option<String>,
}

/// Why the edge cannot pass on requests to the app, for a message: cause and advice, then what the
/// proxy says. `None` when nothing is known.
pub async fn why(cx: &Cx) -> Option<String> {
    let known = cx.facts.get::<Gathered>();
    if let Some(known) = known.filter(|known| known.at.elapsed() < FOR) {
        return known.evidence.clone();
    }
    let of = cx.clone();
    let gather = || async move { gather(&of).await };
    // Told once it is there.
    let evidence = cx.outside.ask(QUESTION, cx.target.stamp(), gather).await?;
    cx.facts.set(Gathered {
        at: Instant::now(),
        evidence: evidence.clone(),
    });
    evidence
}

/// It is evidence for a message, so that any part of it may be missing.
async fn gather(cx: &Cx) -> Option<String> {
    let machines = roster::ours(cx).await.unwrap_or_default();
    let of_machines = of_machines(cx, &machines).await;
    let lines = cx.fly.logs(&cx.target.app, None, None).await;
    let lines = lines.map(|page| page.lines).unwrap_or_default();
    let said = proxy_line(&lines, cx.fly_now()).map(|said| format!("Fly.io's proxy: {said}"));
    let parts: Vec<String> = [of_machines, said].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// Why the machines with services do not get requests.
async fn of_machines(cx: &Cx, machines: &[Machine]) -> Option<String> {
    let serving: Vec<&Machine> = machines.iter().filter(|machine| serves(machine)).collect();
    let Some(started) = serving
        .iter()
        .find(|machine| machine.state == MachineState::Started)
    else {
        let first = serving.first()?;
        return Some(format!(
            "no machine that serves is started: {} is {}",
            first.name,
            first.state.as_str()
        ));
    };
    let failing = machine::failing(cx, started, true).await;
    if let Some(found) = failing.first() {
        let said = match found.output.as_str() {
            "" => String::new(),
            output => format!(" ({output})"),
        };
        return Some(format!(
            "the machine {} does not pass {}{said}: {found}",
            started.name, found.check.name
        ));
    }
    let services = started.config.iter().flat_map(|config| &config.services);
    for service in services {
        let Some(port) = service.internal_port.filter(|_| is_tcp(service)) else {
            continue;
        };
        let listening = machine::listening(cx, started, port).await;
        if let Some(advice) = unreachable(port, &listening) {
            return Some(format!("the machine {}: {advice}", started.name));
        }
    }
    None
}

/// Whether the proxy sends requests to a machine.
fn serves(machine: &Machine) -> bool {
    let group = machine.metadata(flytoml::PROCESS_GROUP_KEY);
    let config = machine.config.as_ref();
    group != Some(flytoml::RELEASE_COMMAND_GROUP)
        && config.is_some_and(|config| !config.services.is_empty())
}

fn is_tcp(service: &MachineService) -> bool {
    service.protocol.as_deref() != Some("udp")
}

/// Why the proxy cannot connect to a service without checks, if that is known. Pure.
fn unreachable(port: u16, listening: &Listening) -> Option<String> {
    let service = DeclaredCheck {
        port,
        of_service: true,
        ..DeclaredCheck::default()
    };
    match listening {
        Listening::OnPort | Listening::Unknown => None,
        listening => Some(Cause::of(&service, CheckOutput::Refused, listening).advice(&service)),
    }
}

/// The last recent line of the proxy about a request that it could not pass on: one about a machine
/// before one that only says that there is none. Pure.
fn proxy_line(lines: &[LogLine], now: Timestamp) -> Option<String> {
    let is_recent = |entry: &&LogLine| {
        let logged = entry.timestamp.as_deref().and_then(|at| at.parse().ok());
        logged.is_some_and(|at: Timestamp| now.duration_since(at) <= RECENT)
    };
    let recent: Vec<&LogLine> = lines
        .iter()
        .filter(|entry| entry.provider() == Some(&LogProvider::Proxy))
        .filter(is_recent)
        .collect();
    let names_machine =
        |entry: &&&LogLine| entry.instance.as_ref().is_some_and(|id| !id.is_empty());
    let last = recent.iter().rev().find(names_machine).or(recent.last())?;
    let said = last.message.as_deref().unwrap_or_default().trim();
    (!said.is_empty()).then(|| one_line(&crate::redact::redact(said), PROXY_LINE))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn a_service_is_unreachable_only_when_it_is_known_to_be() {
        assert_eq!(unreachable(8080, &Listening::Unknown), None);
        assert_eq!(unreachable(8080, &Listening::OnPort), None);
        let other = Listening::Elsewhere(vec!["0.0.0.0:9999".parse().unwrap()]);
        let message = unreachable(8080, &other).unwrap();
        assert!(message.contains("the program listens on 9999"), "{message}");
        assert!(message.contains("`internal_port = 9999`"), "{message}");
        assert!(unreachable(8080, &Listening::Nowhere).is_some());
    }

    #[test]
    fn the_proxys_last_word_counts_while_it_is_recent() {
        let now: Timestamp = "2026-08-01T10:00:00Z".parse().unwrap();
        let line = |provider: &str, time: &str, message: &str| -> LogLine {
            let instance = if message.contains("PC01") { "m1" } else { "" };
            serde_json::from_value(json!({
                "timestamp": time, "message": message, "instance": instance,
                "meta": {"event": {"provider": provider}},
            }))
            .unwrap()
        };
        let old = line(
            "proxy",
            "2026-08-01T09:50:00Z",
            "[PR01] no healthy machines",
        );
        let fresh = line(
            "proxy",
            "2026-08-01T09:59:30.123456789Z",
            "[PC01] instance refused connection",
        );
        let own = line("app", "2026-08-01T09:59:59Z", "listening");
        assert_eq!(proxy_line(&[old.clone(), own.clone()], now), None);
        let none = line(
            "proxy",
            "2026-08-01T09:59:50Z",
            "[PR01] no healthy machines",
        );
        assert!(proxy_line(std::slice::from_ref(&none), now).is_some());
        let last = proxy_line(&[old, fresh, none, own], now);
        assert_eq!(last.as_deref(), Some("[PC01] instance refused connection"));
        assert_eq!(proxy_line(&[], now), None);
    }
}
