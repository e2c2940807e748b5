//! What people read about a mistake in the text itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::flytoml::*;

/// Errors and warnings, as they are shown.
fn told(text: &str) -> Vec<String> {
    let problems = match parse(text) {
        Ok(parsed) => parsed.warnings,
        Err(invalid) => invalid.problems,
    };
    problems.iter().map(Problem::to_string).collect()
}

#[test]
fn a_character_that_nobody_sees_is_named_with_its_line() {
    for (text, said) in [
        (
            "app = \u{201c}demo\u{201d}",
            "1:7: not TOML: \u{201c} (U+201C, a typographic quote)",
        ),
        (
            "app = \u{2018}demo\u{2019}",
            "1:7: not TOML: \u{2018} (U+2018, a typographic quote)",
        ),
        (
            "[http_service]\n\u{a0}internal_port = 8080",
            "2:1: not TOML: U+00A0 (a no-break space)",
        ),
        (
            "[http_service]\ninternal_port\u{a0}= 8080",
            "2:14: not TOML: U+00A0",
        ),
        (
            "[http_service]\ninternal_port = 8080\u{a0}",
            "2:21: not TOML: U+00A0",
        ),
        (
            "[http_service]\ninternal\u{2011}port = 1",
            "2:9: not TOML: \u{2011} (U+2011, a typographic dash)",
        ),
        (
            "[env]\n\u{200b}A = 'x'",
            "2:1: not TOML: U+200B (a zero-width character)",
        ),
        (
            "[env]\n\u{feff}A = 'x'",
            "2:1: not TOML: U+FEFF (a byte order mark)",
        ),
        ("a\0p\0p\0", "UTF-16"),
        (
            "app = 'x' # caba\u{fffd}a\n\u{fffd} = 1",
            "save the file as UTF-8",
        ),
        (
            "[mounts]\nsource = 'data\u{200b}'\ndestination = '/data'",
            "2:1: mounts[0].source",
        ),
        (
            "[deploy]\nrelease_command = 'npm run\u{a0}migrate'",
            "2:1: warning: deploy.release_command: the value has U+00A0 (a no-break space) in it",
        ),
        (
            "[deploy]\nrelease_command = 'migrate \u{2013}\u{2013}all'",
            "2:1: warning: deploy.release_command: the command has \u{2013} (U+2013, a typographic dash)",
        ),
        (
            "primary_region = 'ez\u{200d}e'",
            "1:1: warning: primary_region: the value has U+200D",
        ),
    ] {
        let told = told(text);
        assert!(
            told.iter().any(|told| told.contains(said)),
            "{text:?}: {told:#?}"
        );
    }
}

#[test]
fn a_byte_order_mark_at_the_beginning_is_accepted() {
    let parsed = parse("\u{feff}app = 'demo'\n").unwrap();
    assert_eq!(parsed.config.app.as_deref(), Some("demo"));
    assert!(parsed.warnings.is_empty(), "{:?}", parsed.warnings);
    let recorded = definition(Some("\u{feff}kill_timeout = 7\n"), "demo", "eze", 1);
    assert_eq!(recorded["kill_timeout"], 7);
}

#[test]
fn a_key_that_is_there_twice_is_named() {
    for (text, said) in [
        (
            "[env]\nA = 'hunter2'\nA = 'hunter3'",
            "3:1: not TOML: A is there twice",
        ),
        ("app = 'a'\napp = 'b'", "2:1: not TOML: app is there twice"),
        (
            "[http_service]\n[http_service]",
            "not TOML: http_service is there twice",
        ),
    ] {
        let told = told(text);
        assert!(told[0].contains(said), "{told:?}");
        assert!(!told[0].contains("hunter"), "{told:?}");
    }
}

#[test]
fn following_a_suggestion_never_breaks_the_file() {
    let before = "[http_service]\ninternal_port = 8080\nmin_machines_running = 1\n\
        max_machines_running = 3\n[[services]]\ninternal_port = 22\nprotocol = 'tcp'\n\
        script_checks = []\n[[services.ports]]\nport = 10022\n[[services.tcp_checks]]\n\
        interval = '15s'\ntimeout = '2s'\nrestart_limit = 0\n[deploy]\n\
        release_command_compute = 'x'\n[experimental]\nallowed_public_ports = []\n\
        private_network = true\nauto_rollback = true\n";
    assert_eq!(
        told(before),
        [
            "4:1: warning: http_service.max_machines_running: unknown key, ignored",
            "8:1: warning: services[0].script_checks: no longer has an effect; use http_checks or \
             tcp_checks",
            "14:1: warning: services[0].tcp_checks[0].restart_limit: no longer has an effect; a \
             failing check restarts no machine; see [[restart]]",
            "16:1: warning: deploy.release_command_compute: unknown key, ignored",
            "18:1: warning: experimental.allowed_public_ports: no longer has an effect; remove it",
            "19:1: warning: experimental.private_network: no longer has an effect; remove it",
            "20:1: warning: experimental.auto_rollback: no longer has an effect; \
             `deploy.onFailure` of the Activation decides that",
        ]
    );
}

#[test]
fn a_mistyped_key_that_changes_what_runs_is_told_apart_from_an_unknown_one() {
    for (text, topic) in [
        ("[deploy]\nrelease_comand = 'x'", Topic::MistypedKey),
        ("[deploy]\nreleaseCommand = 'x'", Topic::MistypedKey),
        ("release_command = 'x'", Topic::MistypedKey),
        (
            "[http_service]\ninternal_port = 1\nforce-https = true",
            Topic::MistypedKey,
        ),
        ("colour = 'red'", Topic::UnknownKey),
        ("[experimental]\nprivate_network = true", Topic::ObsoleteKey),
    ] {
        let warnings = parse(text).unwrap().warnings;
        assert_eq!(warnings[0].topic, topic, "{text}: {warnings:?}");
    }
    // Without the port, Fly.io would refuse the machine.
    let invalid = parse("[http_service]\ninternal_prot = 8080\ncolour = 1").unwrap_err();
    assert_eq!(
        invalid.to_string(),
        "2:1: http_service.internal_prot: unknown key, ignored; did you mean internal_port?; \
         1:2: http_service.internal_port: is required: the port that the program listens on"
    );
}

#[test]
fn what_has_no_effect_is_a_warning() {
    for (text, said) in [
        (
            "[env]\nFLY_REGION = 'ams'",
            "env.FLY_REGION: names that begin with FLY_",
        ),
        (
            "[env]\nPRIMARY_REGION = 'ams'",
            "env.PRIMARY_REGION: has no effect",
        ),
        (
            "[mounts]\nsource = 'd'\ndestination = '/d'\ninitial_size = '800gb'",
            "at most 500 GB",
        ),
        (
            "machine_config = '{\"colour\": 1, \"guest\": {\"memory\": 1}}'",
            "no field colour, guest.memory",
        ),
    ] {
        let told = told(text);
        assert!(
            told[0].contains("warning: ") && told[0].contains(said),
            "{told:?}"
        );
    }
}

#[test]
fn what_machine_config_says_of_checks_is_looked_at_where_it_counts_and_told_where_it_does_not() {
    let with = |path: &str| {
        let check =
            format!("{{\"name\": \"up\", \"http\": {{\"port\": 80, \"path\": \"{path}\"}}}}");
        told(&format!(
            "machine_config = '{{\"containers\": [{{\"name\": \"app\", \"healthchecks\": [{check}]}}]}}'"
        ))
    };
    for (path, said) in [
        ("/a#b", "must have no `#`"),
        ("/a b", "must have no blanks"),
        ("healthz", "must begin with a slash: /healthz"),
    ] {
        let told = with(path);
        let text = format!("the health check of container app has a path that {said}");
        assert!(told.iter().any(|told| told.contains(&text)), "{told:?}");
    }
    assert!(with("/up?b=%23").is_empty());

    let told = told(
        "machine_config = '{\"checks\": {\"a\": {\"type\": \"http\", \"path\": \"/a#b\"}}, \"env\": {\"A\": \"b\"}}'",
    );
    assert!(
        told[0].contains("warning: ") && told[0].contains("checks, env there have no effect"),
        "{told:?}"
    );
}

#[test]
fn a_path_that_cannot_be_requested_as_it_is_written_is_refused_wherever_it_stands() {
    let check = "[http_service]\ninternal_port = 8080\n[[http_service.checks]]\npath = ";
    let service = "[[services]]\ninternal_port = 8080\n[[services.http_checks]]\npath = ";
    let top = "[checks.a]\ntype = 'http'\nport = 8080\npath = ";
    let metrics = "[metrics]\nport = 9091\npath = ";
    for before in [check, service, top, metrics] {
        for (path, said) in [
            (
                "'/a#b'",
                "must have no `#`, because what follows it is never sent: /a, or %23",
            ),
            ("'/#'", "must have no `#`"),
            ("'/a b'", "must have no blanks"),
            ("\"/a\\nb\"", "must have no blanks"),
            ("'healthz'", "must begin with a slash: /healthz"),
        ] {
            let told = told(&format!("{before}{path}"));
            assert!(
                told.iter().any(|told| told.contains(said)),
                "{before}{path}: {told:?}"
            );
        }
        let told = told(&format!("{before}'/a?b=%23'"));
        assert!(told.iter().all(|told| !told.contains("path: ")), "{told:?}");
    }
}
