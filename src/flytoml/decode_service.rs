//! Decodes `[http_service]`, `[[services]]` and `[checks]`.
//!
//! As in flyctl, `[http_service]` does not accept the old spellings of `[[services]]`: ports as
//! strings, numbers as milliseconds, `concurrency = "20,25"`.

use std::collections::BTreeMap;

use crate::fly::machine_config::{
    Autostop, Concurrency, HttpOptions, HttpResponseOptions, MachinePort, ProxyProtoOptions,
    ReplayCache, TlsOptions,
};

use super::config::{HttpCheck, HttpService, MachineTest, Service, TcpCheck, TopLevelCheck};
use super::reader::{Field, Section, Unit};
use super::tree::Kind;

pub(super) fn http_service(section: Section) -> HttpService {
    let read = HttpService {
        internal_port: section.port("internal_port"),
        force_https: section.bool("force_https").unwrap_or_default(),
        auto_stop_machines: section.get("auto_stop_machines").and_then(autostop),
        auto_start_machines: section.bool("auto_start_machines"),
        min_machines_running: section.count("min_machines_running"),
        concurrency: section.table("concurrency").map(concurrency),
        tls_options: section.table("tls_options").map(tls_options),
        http_options: section.table("http_options").map(http_options),
        checks: section
            .tables("checks")
            .into_iter()
            .map(|check| http_check(check, Unit::Nanoseconds))
            .collect(),
        machine_checks: section
            .tables("machine_checks")
            .into_iter()
            .map(machine_test)
            .collect(),
        processes: section.texts("processes"),
    };
    section.close();
    read
}

/// `None` for an empty table, which flyctl skips.
pub(super) fn service(section: Section) -> Option<Service> {
    if section.is_empty() {
        return None;
    }
    let checks = |name| {
        section
            .get(name)
            .and_then(|field: Field| field.table_or_tables())
            .unwrap_or_default()
            .into_iter()
    };
    let read = Service {
        protocol: section.text("protocol"),
        internal_port: section.port_or_digits("internal_port"),
        auto_stop_machines: section.get("auto_stop_machines").and_then(autostop),
        auto_start_machines: section.bool("auto_start_machines"),
        min_machines_running: section.count("min_machines_running"),
        ports: checks("ports").map(port).collect(),
        concurrency: section.get("concurrency").and_then(old_concurrency),
        tcp_checks: checks("tcp_checks").map(tcp_check).collect(),
        http_checks: checks("http_checks")
            .map(|check| http_check(check, Unit::Milliseconds))
            .collect(),
        machine_checks: section
            .tables("machine_checks")
            .into_iter()
            .map(machine_test)
            .collect(),
        processes: section.texts("processes"),
    };
    section.close();
    Some(read)
}

fn autostop(field: Field) -> Option<Autostop> {
    match &field.node.value {
        Kind::Bool(true) => return Some(Autostop::Stop),
        Kind::Bool(false) => return Some(Autostop::Off),
        Kind::Text(word) => match word.as_str() {
            "off" => return Some(Autostop::Off),
            "stop" => return Some(Autostop::Stop),
            "suspend" => return Some(Autostop::Suspend),
            _ => {}
        },
        _ => {}
    }
    field.reader.error(
        &field.path,
        "must be one of \"off\", \"stop\", \"suspend\", true, false",
    );
    None
}

fn concurrency(section: Section) -> Concurrency {
    let read = Concurrency {
        kind: section.text("type"),
        soft_limit: section.positive("soft_limit"),
        hard_limit: section.positive("hard_limit"),
        ..Concurrency::default()
    };
    if let Some(kind) = &read.kind
        && !["connections", "requests"].contains(&kind.as_str())
    {
        section.reader.error(
            &section.key("type"),
            format!("must be connections or requests, not {kind}"),
        );
    }
    section.close();
    read
}

/// A table, or the old spelling `"soft,hard"`.
fn old_concurrency(field: Field) -> Option<Concurrency> {
    let Kind::Text(text) = &field.node.value else {
        return field.table().map(concurrency);
    };
    let limits = text
        .split_once(',')
        .and_then(|(soft, hard)| Some((soft.parse::<u32>().ok()?, hard.parse::<u32>().ok()?)));
    match limits {
        Some((soft, hard)) => Some(Concurrency {
            kind: Some("requests".to_owned()),
            soft_limit: Some(soft).filter(|limit| *limit != 0),
            hard_limit: Some(hard).filter(|limit| *limit != 0),
            ..Concurrency::default()
        }),
        None => {
            field.reader.error(
                &field.path,
                "must be a table with type, soft_limit and hard_limit, or \"soft,hard\"",
            );
            None
        }
    }
}

fn port(section: Section) -> MachinePort {
    let read = MachinePort {
        port: section.port_or_digits("port"),
        start_port: section.get("start_port").and_then(|f| any_port(&f)),
        end_port: section.get("end_port").and_then(|f| any_port(&f)),
        handlers: section.texts("handlers"),
        force_https: section.bool("force_https").filter(|force| *force),
        tls_options: section.table("tls_options").map(tls_options),
        http_options: section.table("http_options").map(http_options),
        proxy_proto_options: section.table("proxy_proto_options").map(|options| {
            let read = ProxyProtoOptions {
                version: options.text("version"),
                ..ProxyProtoOptions::default()
            };
            options.close();
            read
        }),
        ..MachinePort::default()
    };
    section.close();
    read
}

/// A port of a range, whose first may be 0.
fn any_port(field: &Field) -> Option<u16> {
    u16::try_from(field.integer(0, u16::MAX.into())?).ok()
}

fn tls_options(section: Section) -> TlsOptions {
    let read = TlsOptions {
        alpn: section.texts("alpn"),
        versions: section.texts("versions"),
        default_self_signed: section.bool("default_self_signed"),
        ..TlsOptions::default()
    };
    section.close();
    read
}

fn http_options(section: Section) -> HttpOptions {
    let read = HttpOptions {
        compress: section.bool("compress"),
        h2_backend: section.bool("h2_backend"),
        idle_timeout: section.count("idle_timeout"),
        headers_read_timeout: section.count("headers_read_timeout"),
        response: section.table("response").map(|response| {
            let read = HttpResponseOptions {
                headers: response
                    .get("headers")
                    .and_then(|field| field.map(|value| Some(value.json())))
                    .unwrap_or_default(),
                pristine: response.bool("pristine"),
                ..HttpResponseOptions::default()
            };
            response.close();
            read
        }),
        replay_cache: section
            .tables("replay_cache")
            .into_iter()
            .map(replay_cache)
            .collect(),
        ..HttpOptions::default()
    };
    section.close();
    read
}

fn replay_cache(section: Section) -> ReplayCache {
    // fly-go always writes the first four.
    let text = |name| Some(section.text(name).unwrap_or_default());
    let read = ReplayCache {
        path_prefix: text("path_prefix"),
        ttl_seconds: Some(section.count("ttl_seconds").unwrap_or_default()),
        kind: text("type"),
        name: text("name"),
        allow_bypass: section.bool("allow_bypass").filter(|allow| *allow),
        ..ReplayCache::default()
    };
    if let Some(kind) = &read.kind
        && !["cookie", "header"].contains(&kind.as_str())
    {
        section
            .reader
            .missing(&section.key("type"), "must be cookie or header");
    }
    section.close();
    read
}

fn times(section: &Section, unit: Unit) -> TcpCheck {
    TcpCheck {
        interval: section.duration("interval", unit),
        timeout: section.duration("timeout", unit),
        grace_period: section.duration("grace_period", unit),
    }
}

fn tcp_check(section: Section) -> TcpCheck {
    let read = times(&section, Unit::Milliseconds);
    section.close();
    read
}

fn http_check(section: Section, unit: Unit) -> HttpCheck {
    let read = request(&section, unit);
    section.close();
    read
}

fn request(section: &Section, unit: Unit) -> HttpCheck {
    HttpCheck {
        times: times(section, unit),
        method: section.text("method"),
        path: section.text("path"),
        protocol: section.text("protocol"),
        tls_skip_verify: section.bool("tls_skip_verify"),
        tls_server_name: section.text("tls_server_name"),
        headers: section
            .get("headers")
            .and_then(|field| {
                if unit == Unit::Milliseconds {
                    old_headers(&field)
                } else {
                    field.text_map()
                }
            })
            .unwrap_or_default(),
    }
}

/// A table, or the old spelling: a list of tables with name and value.
fn old_headers(field: &Field) -> Option<BTreeMap<String, String>> {
    if !matches!(field.node.value, Kind::List(_)) {
        return field.map(Field::text_or_scalar);
    }
    let mut headers = BTreeMap::new();
    for section in field.tables()? {
        let read = |name| section.get(name).and_then(|field| field.text_or_scalar());
        let value = read("value").unwrap_or_default();
        match read("name") {
            Some(name) => {
                headers.insert(name, value);
            }
            None => section
                .reader
                .missing(&section.key("name"), "every header needs a name"),
        }
        section.close();
    }
    Some(headers)
}

/// `[checks.NAME]`, or the old spelling: a list of tables with a name.
pub(super) fn top_level_checks(field: Field) -> BTreeMap<String, TopLevelCheck> {
    let mut checks = BTreeMap::new();
    if let Kind::List(_) = field.node.value {
        for mut section in field.tables().unwrap_or_default() {
            match section.text("name") {
                Some(name) => {
                    let path = format!("checks.{name}");
                    section.reader.alias(&section.path, &path);
                    section.path = path;
                    checks.insert(name, top_level_check(section));
                }
                None => section
                    .reader
                    .missing(&section.key("name"), "every check needs a name"),
            }
        }
        return checks;
    }
    for (name, field) in field.table().map(|s| s.fields()).unwrap_or_default() {
        if let Some(section) = field.table() {
            checks.insert(name.to_owned(), top_level_check(section));
        }
    }
    checks
}

fn top_level_check(section: Section) -> TopLevelCheck {
    let read = TopLevelCheck {
        kind_of_probe: section.text("type"),
        port: section.port("port"),
        kind: section.text("kind"),
        request: request(&section, Unit::Milliseconds),
        processes: section.texts("processes"),
    };
    section.close();
    read
}

pub(super) fn machine_test(section: Section) -> MachineTest {
    let read = MachineTest {
        command: section.texts("command"),
        image: section.text("image"),
        entrypoint: section.get("entrypoint").and_then(|field| field.texts()),
        kill_signal: section.text("kill_signal"),
        kill_timeout: section.duration("kill_timeout", Unit::Nanoseconds),
    };
    section.close();
    read
}
