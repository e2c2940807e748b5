//! What must hold for every text, and for machines that are already there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::json;

use crate::fly::machine_config::{MachineConfig, MachineGuest};

use crate::flytoml::*;

const TEXTS: [&str; 5] = [
    include_str!("../testdata/processes.toml"),
    include_str!("../testdata/services-old-spellings.toml"),
    include_str!("../testdata/http-service.toml"),
    include_str!("../testdata/deploy.toml"),
    include_str!("../testdata/containers.toml"),
];

/// Small, and the same on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }
}

/// Pieces that are more likely to hurt than random characters.
const PIECES: [&str; 22] = [
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "=",
    "\"",
    "'''",
    "\"\"\"",
    "\n",
    ".",
    ",",
    "#",
    "-",
    "\\",
    "9223372036854775808",
    "1e400",
    "nan",
    "é\u{200d}",
    "1979-05-27",
    "\0",
];

fn mutated(text: &str, random: &mut Random) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..=random.below(6) {
        let at = random.below(bytes.len() + 1);
        match random.below(5) {
            0 => bytes.truncate(at),
            1 => {
                let end = (at + random.below(20)).min(bytes.len());
                bytes.drain(at..end);
            }
            2 => {
                let end = (at + random.below(40)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                let to = random.below(bytes.len() + 1);
                bytes.splice(to..to, copy);
            }
            3 if at < bytes.len() => bytes[at] = random.below(256) as u8,
            _ => {
                let piece = PIECES[random.below(PIECES.len())];
                bytes.splice(at..at, piece.bytes());
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn no_text_makes_it_panic_and_what_parses_converts() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut parsed_anew = 0;
    for round in 0..3_000 {
        let text = mutated(TEXTS[round % TEXTS.len()], &mut random);
        match parse(&text) {
            Ok(parsed) => {
                parsed_anew += 1;
                let context = Context::default();
                let configs = parsed.config.machine_configs(&context);
                assert!(configs.is_ok(), "{configs:?}\n{text}");
                if parsed.config.deploy.release_command.is_some() {
                    let release = parsed.config.release_machine_config(&context, None);
                    assert!(release.is_ok(), "{release:?}\n{text}");
                }
            }
            Err(invalid) => {
                let lines = text.lines().count().max(1) + 1;
                for problem in &invalid.problems {
                    assert!((1..=lines).contains(&problem.line), "{problem}\n{text}");
                    assert!(problem.column >= 1, "{problem}");
                }
                let errors = invalid.problems.iter();
                assert!(errors.map(|p| p.severity).any(|s| s == Severity::Error));
            }
        }
    }
    assert!(
        parsed_anew > 100,
        "the mutations are too wild: {parsed_anew}"
    );
}

#[test]
fn very_deep_and_very_long_texts_are_refused_without_harm() {
    let deep = 100_000;
    for text in [
        format!("a = {}", "[".repeat(deep)),
        format!("a = {}{}", "[".repeat(deep), "]".repeat(deep)),
        format!("[{}a]", "a.".repeat(deep)),
        format!("{}a = 1", "a.".repeat(deep)),
        format!("a = {}", "{b=".repeat(deep)),
        "a".repeat(2 << 20),
    ] {
        assert!(parse(&text).is_err());
    }
}

#[test]
fn a_problem_is_found_at_its_place_counted_in_characters() {
    let invalid = parse("# ñandú\nenv = { \"ñ\" = \"a\", B = [] }").unwrap_err();
    assert_eq!(
        invalid.problems[0].to_string(),
        "2:20: env.B: must be a string, a number or a boolean, not a list"
    );
    let shown = invalid.to_string();
    assert!(shown.starts_with("2:20: env.B"), "{shown}");
}

#[test]
fn values_of_the_environment_are_never_quoted() {
    for text in [
        "[env]\nTOKEN = [\"hunter2\"]",
        "[env]\nFLY_TOKEN = \"hunter2\"",
        "[env]\nTOKEN = \"hunter2\" \"hunter2\"",
        "env = \"hunter2\"",
    ] {
        let shown = match parse(text) {
            Ok(parsed) => format!("{:?}", parsed.warnings),
            Err(invalid) => format!("{invalid} {:?}", invalid.problems),
        };
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

fn live() -> MachineConfig {
    serde_json::from_value(json!({
        "image": "old",
        "env": {"OLD": "1", "FLY_STANDBY_FOR": "x"},
        "init": {"cmd": ["old"], "tty": true},
        "guest": {"cpu_kind": "performance", "cpus": 2, "memory_mb": 4096},
        "metadata": {"fly_process_group": "app", "mine": "kept", "fly_release_version": "1"},
        "mounts": [{"volume": "vol_1", "path": "/old", "name": "data", "encrypted": true}],
        "services": [{"protocol": "tcp", "internal_port": 1}],
        "checks": {"old": {"type": "tcp", "port": 1}},
        "restart": {"policy": "always"},
        "schedule": "daily",
        "standbys": ["x"],
        "dns": {"hostname": "h"},
        "new_field": 1,
    }))
    .unwrap()
}

#[test]
fn an_update_replaces_what_fly_toml_says_and_keeps_the_rest() {
    let text = "
        [[mounts]]
        source = 'data'
        destination = '/new'
        auto_extend_size_threshold = 80
        auto_extend_size_increment = '2gb'
    ";
    let config = parse(text).unwrap().config;
    let live = live();
    let machine = config
        .machine_config(
            "app",
            &Context {
                image: "new",
                live: Some(&live),
                release: Some(Release {
                    id: "rel".into(),
                    version: 2,
                }),
                metadata: [("golive_slot".to_owned(), "app-0".to_owned())].into(),
                ..Context::default()
            },
        )
        .unwrap();

    assert_eq!(
        serde_json::to_value(machine).unwrap(),
        json!({
            "image": "new",
            "env": {"FLY_PROCESS_GROUP": "app"},
            "init": {"tty": true},
            "guest": {"cpu_kind": "performance", "cpus": 2, "memory_mb": 4096},
            "metadata": {
                "fly_process_group": "app", "fly_platform_version": "v2", "mine": "kept",
                "fly_release_id": "rel", "fly_release_version": "2", "golive_slot": "app-0",
            },
            "mounts": [{
                "volume": "vol_1", "path": "/new", "name": "data", "encrypted": true,
                "extend_threshold_percent": 80, "add_size_gb": 2,
            }],
            "schedule": "daily",
            "standbys": ["x"],
            "dns": {"hostname": "h"},
            "new_field": 1,
        })
    );
}

#[test]
fn a_volume_of_another_name_is_not_carried_over() {
    let text = "[[mounts]]\nsource = 'other'\ndestination = '/d'";
    let config = parse(text).unwrap().config;
    let live = live();
    let context = Context {
        live: Some(&live),
        ..Context::default()
    };
    let machine = config.machine_config("app", &context).unwrap();
    assert_eq!(machine.mounts[0].volume, None);
    assert_eq!(machine.mounts[0].name.as_deref(), Some("other"));
}

#[test]
fn a_standby_that_gets_services_stands_by_no_longer() {
    let config = AppConfig::minimal("a", "eze", 8080);
    let live = live();
    let context = Context {
        live: Some(&live),
        ..Context::default()
    };
    let machine = config.machine_config("app", &context).unwrap();
    assert!(machine.standbys.is_empty());
    assert!(!machine.env.contains_key("FLY_STANDBY_FOR"));
}

#[test]
fn a_size_of_the_context_wins_over_all_others() {
    let config = parse("[[vm]]\nsize = 'performance-8x'\n[deploy]\nrelease_command = 'x'")
        .unwrap()
        .config;
    let small = MachineGuest::preset("shared-cpu-1x").unwrap();
    let context = Context {
        size: Some(&small),
        ..Context::default()
    };
    let machine = config.machine_config("app", &context).unwrap();
    let release = config.release_machine_config(&context, None).unwrap();
    assert_eq!(machine.guest, Some(small.clone()));
    assert_eq!(release.guest, Some(small));
}

#[test]
fn the_release_command_runs_on_the_largest_machine_of_the_default_group() {
    let config = parse("[deploy]\nrelease_command = 'x'").unwrap().config;
    let large = MachineGuest::preset("performance-4x").unwrap();
    let context = Context::default();
    let release = config
        .release_machine_config(&context, Some(&large))
        .unwrap();
    assert_eq!(release.guest, Some(large));
}

#[test]
fn a_test_machine_has_the_tested_machines_image_and_its_address() {
    let text = include_str!("../testdata/machine-checks.toml");
    let config = parse(text).unwrap().config;
    let tested = config
        .machine_config(
            "app",
            &Context {
                image: "tested",
                ..Context::default()
            },
        )
        .unwrap();
    let build = |test| {
        config
            .test_machine_config(test, &Context::default(), &tested, "fdaa::1")
            .unwrap()
    };

    let own = build(&config.http_service.as_ref().unwrap().machine_checks[0]);
    let inherited = build(&config.machine_checks[0]);

    assert_eq!(own.image, "curlimages/curl");
    assert_eq!(inherited.image, "tested");
    assert_eq!(inherited.env["FLY_TEST_MACHINE_IP"], "fdaa::1");
    assert_eq!(inherited.env["FLY_PROCESS_GROUP"], TEST_MACHINE_GROUP);
    assert_eq!(own.stop_config.unwrap().signal.as_deref(), Some("SIGKILL"));
    assert_eq!(own.auto_destroy, Some(true));
    assert!(own.services.is_empty());
}

#[test]
fn pools_of_a_rolling_update_have_flys_sizes() {
    for (text, machines, pool) in [
        ("", 3, 1),
        ("", 10, 4),
        ("", 0, 1),
        ("[deploy]\nmax_unavailable = 0.5", 3, 2),
        ("[deploy]\nmax_unavailable = 1", 10, 1),
        ("[deploy]\nmax_unavailable = 2.9", 10, 2),
        ("[deploy]\nmax_unavailable = 1e300", 10, usize::MAX),
    ] {
        let config = parse(text).unwrap().config;
        assert_eq!(config.pool_size(machines), pool, "{text} {machines}");
    }
}

#[test]
fn the_activation_names_app_and_region_and_says_where_fly_toml_differs() {
    let mut parsed = parse("kill_timeout = 5\napp = 'theirs'\nprimary_region = 'eze'").unwrap();
    parsed.bind("ours", "eze");
    let said: Vec<String> = parsed.warnings.iter().map(Problem::to_string).collect();
    assert_eq!(
        said,
        ["2:1: warning: app: theirs has no effect: the Activation's `app` counts, which is ours"]
    );
    let config = parsed.config;
    assert_eq!(config.app.as_deref(), Some("ours"));
    assert_eq!(config.primary_region.as_deref(), Some("eze"));
}

#[test]
fn a_first_deployment_lists_release_command_groups_and_standbys() {
    let text = include_str!("../testdata/processes.toml");
    let mut config = parse(text).unwrap().config;
    config.deploy.release_command = Some("migrate".to_owned());
    let scale = [("web".to_owned(), 3)].into();
    let regions = [("worker".to_owned(), [("gru".to_owned(), 2)].into())].into();
    let listed: Vec<(String, u32, bool)> =
        first_deployment(&config, &Context::default(), &scale, &regions)
            .unwrap()
            .into_iter()
            .map(|m| (m.process_group, m.count, m.skip_launch))
            .collect();
    assert_eq!(
        listed,
        [
            (RELEASE_COMMAND_GROUP.to_owned(), 1, false),
            ("cron".to_owned(), 1, false),
            ("cron".to_owned(), 1, true),
            ("web".to_owned(), 3, false),
            ("worker".to_owned(), 2, false),
        ]
    );
}

#[test]
fn somebody_without_fly_toml_gets_one_https_service() {
    let config = AppConfig::minimal("app", "eze", 3000);
    let machine = config.machine_config("app", &Context::default()).unwrap();
    assert_eq!(config.ip_kind(), Some(IpKind::Shared));
    assert_eq!(machine.services[0].internal_port, Some(3000));
    assert_eq!(machine.services[0].ports[0].force_https, Some(true));
    assert_eq!(machine.env["PRIMARY_REGION"], "eze");
}

#[test]
fn a_group_has_the_machine_checks_of_its_services_and_those_of_all() {
    let text = "[processes]\nweb = 'w'\njobs = 'j'\n\
        [http_service]\ninternal_port = 80\nprocesses = ['web']\n\
        [[http_service.machine_checks]]\ncommand = ['of web']\n\
        [[machine_checks]]\ncommand = ['of all']\n";
    let config = parse(text).unwrap().config;
    let of = |group| -> Vec<String> {
        let tests = config.machine_tests_of(group).into_iter();
        tests.map(|test| test.command.join(" ")).collect()
    };
    assert_eq!(of("web"), ["of web", "of all"]);
    assert_eq!(of("jobs"), ["of all"]);
}

/// With tens of thousands of process groups the work for each must not grow with their number.
#[test]
fn very_many_process_groups_are_converted_in_the_time_of_one_each() {
    let count = 20_000;
    let mut text = String::from("app = 'shop'\nprimary_region = 'eze'\n[processes]\n");
    for number in 0..count {
        text.push_str(&format!("g{number} = 'run {number}'\n"));
    }
    text.push_str("[http_service]\ninternal_port = 8080\nprocesses = ['g0', 'unknown']\n");
    let begun = std::time::Instant::now();
    let error = parse(&text).unwrap_err().to_string();
    assert!(
        error.contains("there is no process group unknown"),
        "{error}"
    );
    assert!(
        error.contains("and 19990 more"),
        "it names some of them: {}",
        error.len()
    );
    let text = text.replace(", 'unknown'", "");
    let config = parse(&text).unwrap().config;
    let context = Context {
        image: "r/a:1",
        ..Context::default()
    };
    let machines = config.machine_configs(&context).unwrap();
    assert_eq!(machines.len(), count);
    // Seconds with a debug build; many minutes when each group looks at all others.
    assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
}
