//! The proof of applications of many shapes.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::plan::testing::target;

/// The proof of an application with this fly.toml, and this in its spec.
fn proof(toml: &str, more: &str) -> Proof {
    let spec = serde_json::json!({"config": {"inline": toml}}).to_string();
    target(&format!("deploy: {spec}\n{more}")).proof
}

/// The checks in short: name, then path or port, and `tls`.
fn checks(proof: &Proof) -> Vec<String> {
    let one = |smoke: &SmokeCheck| {
        let check = &smoke.check;
        let http = check.http.as_ref().map(|http| http.path.clone());
        let tls = if smoke.tls { " tls" } else { "" };
        let tcp = check.tcp.as_ref().map(|tcp| format!("{}{tls}", tcp.port));
        format!("{} {}", check.name, http.or(tcp).unwrap_or_default())
    };
    proof.checks.iter().map(one).collect()
}

fn why(proof: &Proof) -> &str {
    proof.machines.as_ref().map_or("", |machines| &machines.why)
}

const WEB: &str = "[http_service]\ninternal_port = 8080\n";

#[test]
fn a_web_application_is_asked_for_its_own_health_paths_and_its_homepage() {
    let toml = format!(
        "{WEB}[[http_service.checks]]\npath = '/alive'\n[[http_service.checks]]\npath = '/deep'\n\
         [[http_service.checks]]\npath = '/'\n[[http_service.checks]]\npath = '/hook'\nmethod = 'POST'\n"
    );
    let web = proof(&toml, "");
    assert_eq!(
        checks(&web),
        ["health /alive", "health-2 /deep", "homepage /"]
    );
    assert!(
        web.checks
            .iter()
            .all(|smoke| smoke.expects == Expects::AnAnswer)
    );
    assert_eq!(web.machines, None);
    // Nothing that the example has and this application has not.
    assert_eq!(checks(&proof(WEB, "")), ["homepage /"]);
    let with_database = proof(WEB, "provision: {postgres: {managed: {}}}");
    assert_eq!(checks(&with_database), ["homepage /"]);
    assert_eq!(checks(&target("").proof), ["homepage /"]);
}

#[test]
fn an_old_style_web_service_is_one_too() {
    let toml = "[[services]]\ninternal_port = 8080\nprotocol = 'tcp'\n\
        [[services.ports]]\nport = 80\nhandlers = ['http']\n\
        [[services.ports]]\nport = 443\nhandlers = ['tls', 'http']\n\
        [[services.http_checks]]\npath = '/up'\n";
    assert_eq!(checks(&proof(toml, "")), ["health /up", "homepage /"]);
}

#[test]
fn other_tcp_ports_are_connected_to_with_tls_where_the_edge_ends_it() {
    let toml = "[[services]]\ninternal_port = 22\nprotocol = 'tcp'\n\
        [[services.ports]]\nport = 10022\n\
        [[services]]\ninternal_port = 6667\nprotocol = 'tcp'\n\
        [[services.ports]]\nport = 6697\nhandlers = ['tls']\n";
    let raw = proof(toml, "");
    assert_eq!(checks(&raw), ["port-6697 6697 tls", "port-10022 10022"]);
    assert_eq!(raw.machines.as_ref().unwrap().groups, ["app"]);
    // A shared IPv4 address does not carry these ports.
    let closed = proof(toml, "provision: {addresses: {v6: false}}");
    assert!(checks(&closed).is_empty());
    assert!(why(&closed).contains("10022"), "{}", why(&closed));
}

#[test]
fn a_port_on_which_the_edge_speaks_http_is_asked_by_http() {
    let toml = "[[services]]\ninternal_port = 8080\nprotocol = 'tcp'\n\
        [[services.ports]]\nport = 80\nhandlers = ['http']\n";
    let plain = proof(toml, "");
    assert_eq!(checks(&plain), ["port-80 80"]);
    assert_eq!(plain.checks[0].expects, Expects::HttpAnswer);
    assert_eq!(plain.machines, None, "the answer is the proof");
    let other = proof(
        &toml
            .replace("80\nh", "8443\nh")
            .replace("'http'", "'tls', 'http'"),
        "",
    );
    assert_eq!(checks(&other), ["port-8443 8443 tls"]);
    assert_eq!(other.checks[0].expects, Expects::HttpAnswer);
    assert!(why(&other).contains("IPv6"), "{}", why(&other));
}

#[test]
fn a_grpc_service_is_called_because_the_edge_accepts_every_connection() {
    let toml =
        "[http_service]\ninternal_port = 50051\n[http_service.http_options]\nh2_backend = true\n";
    let grpc = proof(toml, "");
    assert_eq!(checks(&grpc), ["grpc 443 tls"]);
    assert_eq!(grpc.checks[0].expects, Expects::GrpcAnswer);
    assert_eq!(grpc.machines, None);
}

#[test]
fn what_cannot_be_reached_from_outside_is_proven_by_its_machines_and_says_why() {
    let udp =
        "[[services]]\ninternal_port = 5060\nprotocol = 'udp'\n[[services.ports]]\nport = 5060\n";
    for (toml, more, says) in [
        (
            "[processes]\nworker = 'run'\n",
            "",
            "no service that can be reached",
        ),
        (udp, "", "UDP (port 5060)"),
        (
            WEB,
            "provision: {addresses: {sharedV4: false, v6: false}}",
            "no public address",
        ),
        (WEB, "smokeTest: {checks: []}", "no other proof"),
        (
            "[[services]]\ninternal_port = 5432\nprotocol = 'tcp'\n[[services.tcp_checks]]\n",
            "",
            "no service that can be reached",
        ),
    ] {
        let proof = proof(toml, more);
        assert!(proof.checks.is_empty(), "{toml}: {:?}", checks(&proof));
        assert_eq!(proof.machines.as_ref().unwrap().groups.len(), 1, "{toml}");
        assert!(why(&proof).contains(says), "{says}: {}", why(&proof));
    }
}

#[test]
fn udp_beside_http_is_told_and_both_are_proven() {
    let toml = format!(
        "[processes]\napp = 'a'\nsip = 'b'\n{WEB}processes = ['app']\n\
         [[services]]\ninternal_port = 5060\nprotocol = 'udp'\nprocesses = ['sip']\n\
         [[services.ports]]\nport = 5060\n"
    );
    let both = proof(&toml, "");
    assert_eq!(checks(&both), ["homepage /"]);
    assert_eq!(both.machines.as_ref().unwrap().groups, ["sip"]);
    assert!(why(&both).contains("UDP"), "{}", why(&both));
}

#[test]
fn a_group_without_machines_is_not_asked() {
    let spec = |scale: &str| {
        let toml = format!("[processes]\nweb = 'a'\nworker = 'b'\n{WEB}processes = ['web']\n");
        let deploy = serde_json::json!({
            "config": {"inline": toml},
            "scale": serde_json::from_str::<serde_json::Value>(scale).unwrap(),
        });
        target(&format!("deploy: {deploy}"))
    };
    let worker = spec(r#"{"web": 0}"#);
    assert!(worker.proof.checks.is_empty());
    assert_eq!(worker.proof.machines.as_ref().unwrap().groups, ["worker"]);
    let nothing = spec(r#"{"web": 0, "worker": 0}"#);
    assert!(nothing.proof.machines.as_ref().unwrap().groups.is_empty());
    assert!(
        why(&nothing.proof).contains("no machine"),
        "{}",
        why(&nothing.proof)
    );
    assert!(!nothing.proof.runs);
    assert_eq!(nothing.public_url(), None);
    assert_eq!(
        spec("{}").public_url().as_deref(),
        Some("https://shop.fly.dev")
    );
}

#[test]
fn declared_checks_keep_what_they_say() {
    let declared = proof(
        "[[services]]\ninternal_port = 22\nprotocol = 'tcp'\n[[services.ports]]\nport = 22\nhandlers = ['tls']\n",
        "smokeTest: {interval: 10m, checks: [{name: up, http: {path: /up}}, {name: ssh, tcp: {port: 22}}]}",
    );
    assert_eq!(checks(&declared), ["up /up", "ssh 22 tls"]);
    assert!(
        declared
            .checks
            .iter()
            .all(|smoke| smoke.expects == Expects::Declared)
    );
    assert_eq!(declared.machines, None);
    assert_eq!(declared.interval, Some(std::time::Duration::from_secs(600)));
}

#[test]
fn a_check_of_a_database_that_the_spec_does_not_have_is_no_proof() {
    let check = "smokeTest: {checks: [{name: database, database: {}}]}";
    assert!(proof(WEB, check).machines.is_some(), "the machines are");
    let with = format!("provision: {{postgres: {{managed: {{}}}}}}\n{check}");
    assert_eq!(proof(WEB, &with).machines, None);
}

#[test]
fn a_database_falls_back_to_the_checks_that_the_spec_has_and_to_nothing_else() {
    let fallbacks = |checks: &str| {
        let spec =
            format!("provision: {{postgres: {{managed: {{}}}}}}\nsmokeTest: {{checks: {checks}}}");
        let proof = target(&spec).proof;
        let check = proof.checks.last().unwrap().check.clone();
        let paths = check.fallbacks.unwrap().into_iter().map(|fallback| {
            let http = fallback.http.map(|http| http.path);
            http.or(fallback.metrics.map(|metrics| metrics.path))
                .unwrap()
        });
        paths.collect::<Vec<_>>()
    };
    assert_eq!(
        fallbacks(
            "[{name: health, http: {path: /up}}, {name: metrics, metrics: {path: /m}}, {name: database, database: {}}]"
        ),
        ["/up", "/m"]
    );
    assert_eq!(
        fallbacks(
            "[{name: health, http: {path: /up}}, {name: ready, http: {path: /ready}}, {name: database, database: {}}]"
        ),
        ["/ready"]
    );
    assert!(fallbacks("[{name: database, database: {}}]").is_empty());
    assert!(
        fallbacks(
            "[{name: health, http: {path: /up}}, {name: strict, database: {}, fallbacks: []}]"
        )
        .is_empty()
    );
}
