//! Rules for the values of a `fly.toml`. Source: flyctl `internal/appconfig/validation.go`;
//! Golive's own rules are listed in `docs/fly-toml.md`.

use std::time::Duration;

use super::config::{AppConfig, Mount, Strategy};
use super::groups::known_groups;
use super::reader::Reader;
use super::{containers, guest, size, validate_service, words};

/// Longest `kill_timeout` on shared hosts, in seconds. Source:
/// fly.io/docs/reference/configuration/.
const MAX_KILL_TIMEOUT_S: u64 = 300;

/// Largest number of `[[statics]]`. Source: fly.io/docs/reference/configuration/.
const MAX_STATICS: usize = 10;

/// The signals that Fly.io can send. Source: fly-go machine_types.go, StopConfig.
const SIGNALS: [&str; 8] = [
    "SIGHUP", "SIGINT", "SIGQUIT", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGTERM", "SIGSTOP",
];

/// Reports all violations.
pub(super) fn check(config: &AppConfig, reader: &Reader) {
    top_level(config, reader);
    build(config, reader);
    deploy(config, reader);
    env(config, reader);
    processes(config, reader);
    mounts(config, reader);
    vm(config, reader);
    restart(config, reader);
    files(config, reader);
    statics(config, reader);
    metrics(config, reader);
    validate_service::check(config, reader);
}

fn top_level(config: &AppConfig, reader: &Reader) {
    command(reader, "console_command", config.console_command.as_deref());
    if let Some(signal) = config.kill_signal.as_deref()
        && !SIGNALS.contains(&signal)
    {
        let known = SIGNALS.join(", ");
        reader.warn("kill_signal", format!("Fly.io sends {known}, not {signal}"));
    }
    if config
        .kill_timeout
        .is_some_and(|timeout| timeout.0 > Duration::from_secs(MAX_KILL_TIMEOUT_S))
    {
        reader.warn(
            "kill_timeout",
            format!("Fly.io waits at most {MAX_KILL_TIMEOUT_S} s on shared hosts"),
        );
    }
    if config.experimental.enable_consul {
        reader.warn(
            "experimental.enable_consul",
            "Golive creates no Consul secret; set FLY_CONSUL_URL as a secret",
        );
    }
    let given = if config.experimental.machine_config.is_some() {
        "experimental.machine_config"
    } else {
        "machine_config"
    };
    if let Err(error) = containers::apply(config, &mut Default::default()) {
        let key = match error {
            containers::ContainerError::Compose => "build.compose",
            containers::ContainerError::NoSuchContainer(_) => "container",
            _ => given,
        };
        reader.error(key, error.to_string());
    }
}

fn build(config: &AppConfig, reader: &Reader) {
    let build = &config.build;
    let ways = [
        build.image.is_some(),
        build.builder.is_some() || !build.buildpacks.is_empty(),
        build.dockerfile.is_some() || build.build_target.is_some(),
        build.builtin.is_some(),
    ];
    if ways.iter().filter(|given| **given).count() > 1 {
        reader.warn(
            "build",
            "more than one way to build: give one of image, builder, dockerfile, builtin",
        );
    }
    if let Some(compression) = &build.compression
        && !["gzip", "zstd"].contains(&compression.as_str())
    {
        reader.error(
            "build.compression",
            format!("must be gzip or zstd, not {compression}"),
        );
    }
}

fn deploy(config: &AppConfig, reader: &Reader) {
    let deploy = &config.deploy;
    command(
        reader,
        "deploy.release_command",
        deploy.release_command.as_deref(),
    );
    command(
        reader,
        "deploy.seed_command",
        deploy.seed_command.as_deref(),
    );
    if deploy.strategy == Some(Strategy::Canary) && !config.mounts.is_empty() {
        reader.error(
            "deploy.strategy",
            "canary cannot be used with volumes; use rolling, or remove [[mounts]]",
        );
    }
    // Written this way because NaN is not positive either.
    if deploy
        .max_unavailable
        .is_some_and(|limit| !limit.is_finite() || limit <= 0.0)
    {
        reader.error(
            "deploy.max_unavailable",
            "must be more than 0: a share of the machines below 1, a number of them from 1 on",
        );
    }
    if let Some(vm) = &deploy.release_command_vm {
        sized(reader, "deploy.release_command_vm", vm);
    }
}

fn env(config: &AppConfig, reader: &Reader) {
    for name in config.env.keys() {
        if name.starts_with("FLY_") {
            reader.warn(
                &format!("env.{name}"),
                "names that begin with FLY_ belong to the platform, which may overwrite them",
            );
        }
    }
}

fn processes(config: &AppConfig, reader: &Reader) {
    for (name, line) in &config.processes {
        command(reader, &format!("processes.{name}"), Some(line));
    }
}

fn command(reader: &Reader, key: &str, line: Option<&str>) {
    if let Some(Err(error)) = line.map(words::split) {
        reader.error(key, format!("cannot be split into words: {error}"));
    }
}

fn mounts(config: &AppConfig, reader: &Reader) {
    for (index, mount) in config.mounts.iter().enumerate() {
        let at = format!("mounts[{index}]");
        if mount.source.is_none() {
            reader.error(
                &format!("{at}.source"),
                "the name of the volume is required",
            );
        }
        if mount.destination.is_none() {
            reader.error(
                &format!("{at}.destination"),
                "the path at which the volume is mounted is required",
            );
        }
        known_groups(config, reader, &at, &mount.processes);
        volume_sizes(mount, &at, reader);
    }
    for group in config.process_groups() {
        let own = |mount: &Mount| config.belongs(&mount.processes, &group);
        let several = config.mounts.iter().enumerate();
        for (index, _) in several.filter(|(_, mount)| own(mount)).skip(1) {
            reader.error(
                &format!("mounts[{index}]"),
                format!("process group {group} has a volume already; a machine has one at most"),
            );
        }
    }
}

fn volume_sizes(mount: &Mount, at: &str, reader: &Reader) {
    let read = |name: &str, text: &Option<String>, highest: i64| {
        let text = text.as_deref()?;
        let key = format!("{at}.{name}");
        match size::volume_gb(text) {
            None => reader.error(&key, format!("must be a size such as \"10gb\", not {text}")),
            Some(gb) if gb < 1 => {
                reader.error(&key, format!("must be at least 1 GB, not {text}"));
            }
            Some(gb) if gb > highest => reader.error(
                &key,
                format!("must be from 1 GB to {highest} GB, not {text}"),
            ),
            Some(_) => {}
        }
        Some(())
    };
    read("initial_size", &mount.initial_size, i64::MAX);
    let threshold = mount.auto_extend_size_threshold;
    let increment = read(
        "auto_extend_size_increment",
        &mount.auto_extend_size_increment,
        100,
    );
    let limit = read("auto_extend_size_limit", &mount.auto_extend_size_limit, 500);
    // flyctl documents "all or none" but accepts a threshold and an increment without a limit.
    if (threshold.is_some() || increment.is_some() || limit.is_some())
        && (threshold.is_none() || increment.is_none())
    {
        reader.error(
            at,
            "auto_extend_size_threshold and auto_extend_size_increment go together \
             (auto_extend_size_limit needs both)",
        );
    }
    if threshold.is_some_and(|percent| !(50..=99).contains(&percent)) {
        reader.error(
            &format!("{at}.auto_extend_size_threshold"),
            "must be from 50 to 99 percent",
        );
    }
}

fn vm(config: &AppConfig, reader: &Reader) {
    for (index, vm) in config.vm.iter().enumerate() {
        let at = format!("vm[{index}]");
        sized(reader, &at, vm);
        known_groups(config, reader, &at, &vm.processes);
    }
    for group in config.process_groups() {
        let names_it = |index: &usize| config.vm[*index].processes.contains(&group);
        let named: Vec<usize> = (0..config.vm.len()).filter(names_it).collect();
        for index in named.iter().rev().skip(1) {
            reader.warn(
                &format!("vm[{index}].processes"),
                format!("process group {group} has another [[vm]] below, which counts"),
            );
        }
        let for_all = |index: &usize| config.vm[*index].processes.is_empty();
        if named.is_empty() {
            for index in (0..config.vm.len()).filter(for_all).skip(1) {
                reader.warn(
                    &format!("vm[{index}]"),
                    "there is another [[vm]] without processes above, which counts",
                );
            }
        }
    }
}

fn sized(reader: &Reader, at: &str, vm: &super::config::Vm) {
    let key = |error: &guest::GuestError| match error {
        guest::GuestError::UnknownSize(_) => format!("{at}.size"),
        guest::GuestError::BadMemory(_) => format!("{at}.memory"),
        guest::GuestError::MemoryOutOfBounds { .. } if vm.guest.memory_mb.is_some() => {
            format!("{at}.memory_mb")
        }
        guest::GuestError::MemoryOutOfBounds { .. } if vm.memory.is_some() => {
            format!("{at}.memory")
        }
        guest::GuestError::MemoryOutOfBounds { .. } => at.to_owned(),
    };
    if let Some(kind) = vm.guest.cpu_kind.as_deref()
        && !["shared", "performance"].contains(&kind)
    {
        reader.error(
            &format!("{at}.cpu_kind"),
            format!("must be shared or performance, not {kind}"),
        );
    }
    let checked = guest::of_vm(vm).and_then(|guest| guest::check_limits(&guest));
    if let Err(error) = checked {
        let nearest = vm
            .size
            .as_deref()
            .filter(|_| matches!(error, guest::GuestError::UnknownSize(_)));
        let meant = nearest
            .and_then(|size| super::problem::nearest(size, &guest::SIZES))
            .map(|size| format!("; did you mean {size}?"))
            .unwrap_or_default();
        reader.error(&key(&error), format!("{error}{meant}"));
    }
}

fn restart(config: &AppConfig, reader: &Reader) {
    let groups = config.process_groups();
    for (index, restart) in config.restart.iter().enumerate() {
        let at = format!("restart[{index}]");
        for name in &restart.processes {
            if !groups.contains(name) {
                reader.error(
                    &format!("{at}.processes"),
                    format!(
                        "there is no process group {name}; there are {}",
                        groups.join(", ")
                    ),
                );
            }
        }
        match restart.policy.as_deref() {
            Some("always" | "never" | "on-failure") => {}
            Some(other) => reader.error(
                &format!("{at}.policy"),
                format!("must be one of always, never, on-failure, not {other}"),
            ),
            None => reader.error(
                &format!("{at}.policy"),
                "is required: one of always, never, on-failure",
            ),
        }
    }
}

fn files(config: &AppConfig, reader: &Reader) {
    let several_groups = config.process_groups().len() > 1;
    for (index, file) in config.files.iter().enumerate() {
        let at = format!("files[{index}]");
        match file.guest_path.as_deref() {
            Some(path) if path.starts_with('/') => {}
            Some(_) => reader.error(&format!("{at}.guest_path"), "must be an absolute path"),
            None => reader.error(
                &format!("{at}.guest_path"),
                "the path in the machine is required",
            ),
        }
        if file.local_path.is_some() {
            reader.error(
                &format!("{at}.local_path"),
                "there is no directory beside an Activation to read it from; \
                 use raw_value, or secret_name with an app secret",
            );
        } else if file.raw_value.is_some() && file.secret_name.is_some() {
            reader.warn(
                &format!("{at}.raw_value"),
                "ignored: secret_name is given too and counts",
            );
        } else if file.raw_value.is_none() && file.secret_name.is_none() {
            reader.error(&at, "needs raw_value or secret_name");
        }
        known_groups(config, reader, &at, &file.processes);
        if several_groups && !file.processes.is_empty() {
            reader.warn(
                &format!("{at}.processes"),
                "without effect, as in flyctl: the file is written into the machines of every group",
            );
        }
    }
}

fn statics(config: &AppConfig, reader: &Reader) {
    for (index, files) in config.statics.iter().enumerate() {
        let at = format!("statics[{index}]");
        if files.guest_path.is_none() {
            reader.error(
                &format!("{at}.guest_path"),
                "the directory with the files is required",
            );
        }
        if files.url_prefix.is_none() {
            reader.error(
                &format!("{at}.url_prefix"),
                "the prefix of the path is required",
            );
        }
    }
    if config.statics.len() > MAX_STATICS {
        reader.warn(
            &format!("statics[{MAX_STATICS}]"),
            format!("Fly.io serves at most {MAX_STATICS} of them"),
        );
    }
}

fn metrics(config: &AppConfig, reader: &Reader) {
    for (index, metrics) in config.metrics.iter().enumerate() {
        let at = format!("metrics[{index}]");
        known_groups(config, reader, &at, &metrics.processes);
        if metrics.endpoint.port.is_none() {
            reader.warn(&at, "has no port, so nothing is scraped");
        }
    }
}
