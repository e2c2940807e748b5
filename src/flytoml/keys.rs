//! Keys that are not read: mistyped, in another section, without an effect any more, or unknown.

use super::problem::{Topic, nearest};

/// Keys that flyctl itself once wrote into files and that nothing reads any more: the last part of
/// the section's path, the key, and what replaces it. Sources: flyctl `internal/appconfig/config.go`,
/// whose types no longer have them; `fly.toml` files that `fly launch` generated until 2023.
const OBSOLETE: &[(&str, &str, &str)] = &[
    ("services", "script_checks", "use http_checks or tcp_checks"),
    ("tcp_checks", "restart_limit", RESTART),
    ("http_checks", "restart_limit", RESTART),
    ("http_service.checks", "restart_limit", RESTART),
    ("checks.", "restart_limit", RESTART),
    ("experimental", "allowed_public_ports", "remove it"),
    ("experimental", "private_network", "remove it"),
    (
        "experimental",
        "auto_rollback",
        "`deploy.onFailure` of the Activation decides that",
    ),
    ("experimental", "enable_etcd", "remove it"),
    ("experimental", "lazy_load_images", "remove it"),
    ("experimental", "attached", "remove it"),
    (
        "experimental",
        "use_zstd",
        "the Activation names an image that is built already",
    ),
];

const RESTART: &str = "a failing check restarts no machine; see [[restart]]";

/// The section in which a key is read, for keys that stand in another one.
const HOMES: &[(&str, &[&str])] = &[
    (
        "at the top of the file, before the first section",
        &[
            "app",
            "primary_region",
            "kill_signal",
            "kill_timeout",
            "swap_size_mb",
            "console_command",
        ],
    ),
    (
        "in [deploy]",
        &[
            "release_command",
            "release_command_timeout",
            "release_command_vm",
            "seed_command",
            "strategy",
            "max_unavailable",
            "wait_timeout",
        ],
    ),
    (
        "in [http_service]",
        &[
            "internal_port",
            "force_https",
            "auto_stop_machines",
            "auto_start_machines",
            "min_machines_running",
            "concurrency",
        ],
    ),
    (
        "in [[vm]]",
        &["size", "memory", "memory_mb", "cpu_kind", "cpus"],
    ),
    (
        "in [build]",
        &["image", "dockerfile", "builder", "buildpacks"],
    ),
    ("in [experimental]", &["cmd", "entrypoint", "exec"]),
    ("in [[mounts]]", &["source", "destination", "initial_size"]),
];

/// What to say about a key without an effect; `None` for every other key. `section` is its path,
/// without indices.
pub(super) fn obsolete(section: &str, name: &str) -> Option<String> {
    let applies = |place: &str| match place.strip_suffix('.') {
        Some(_) => section.starts_with(place),
        None => section == place || section.ends_with(&format!(".{place}")),
    };
    let (_, _, instead) = OBSOLETE
        .iter()
        .find(|(place, key, _)| *key == name && applies(place))?;
    Some(format!("no longer has an effect; {instead}"))
}

/// What to say about a key that is not read. `known` are the keys of its section, `has` says which
/// of them are there already.
pub(super) fn unread(
    section: &str,
    name: &str,
    known: &[&'static str],
    has: impl Fn(&str) -> bool,
) -> (Topic, String) {
    if let Some(message) = obsolete(section, name) {
        return (Topic::ObsoleteKey, message);
    }
    let free: Vec<&str> = known.iter().filter(|key| !has(key)).copied().collect();
    if let Some(meant) = nearest(name, &free) {
        let message = format!("unknown key, ignored; did you mean {meant}?");
        return (Topic::MistypedKey, message);
    }
    if let Some((home, _)) = HOMES.iter().find(|(_, keys)| keys.contains(&name)) {
        let message = format!("unknown key here, ignored; it is read {home}");
        return (Topic::MistypedKey, message);
    }
    let message = match nearest(name, known) {
        Some(there) => format!("unknown key, ignored; {there} is there already"),
        None => "unknown key, ignored".to_owned(),
    };
    (Topic::UnknownKey, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suggestion_is_never_a_key_that_is_there_already() {
        let known = ["internal_port", "force_https"];
        let said = |has: bool| unread("http_service", "internal_prot", &known, |_| has);
        assert_eq!(said(false).0, Topic::MistypedKey);
        assert!(said(false).1.contains("did you mean internal_port?"));
        assert_eq!(said(true).0, Topic::UnknownKey);
        assert!(!said(true).1.contains("did you mean"));
    }

    #[test]
    fn a_key_in_the_wrong_section_is_told_where_it_is_read() {
        for (section, name, home) in [
            ("", "release_command", "in [deploy]"),
            ("http_service", "kill_timeout", "at the top of the file"),
            ("", "internal_port", "in [http_service]"),
            ("deploy", "memory", "in [[vm]]"),
        ] {
            let (topic, message) = unread(section, name, &["env"], |_| false);
            assert_eq!(topic, Topic::MistypedKey);
            assert!(message.contains(home), "{name}: {message}");
        }
    }

    #[test]
    fn keys_that_flyctl_once_wrote_have_no_effect_any_more() {
        for (section, name) in [
            ("services", "script_checks"),
            ("services.tcp_checks", "restart_limit"),
            ("services.http_checks", "restart_limit"),
            ("http_service.checks", "restart_limit"),
            ("checks.alive", "restart_limit"),
            ("experimental", "allowed_public_ports"),
            ("experimental", "private_network"),
        ] {
            let (topic, message) = unread(section, name, &["tcp_checks"], |_| false);
            assert_eq!(topic, Topic::ObsoleteKey, "{section}.{name}");
            assert!(message.contains("no longer has an effect"), "{message}");
        }
    }
}
