//! Rules for the values of a `fly.toml`. Source: flyctl `internal/appconfig/validation.go`;
//! Golive's own rules are listed in `docs/fly-toml.md`.

use crate::fly::machine_config::MachineMetrics;

use super::config::{AppConfig, Mount, Strategy};
use super::groups::{known_groups, required_groups};
use super::reader::Reader;
use super::validate_service::wrong_path;
use super::{containers, guest, size, stop, text, validate_service, words};

/// Largest number of `[[statics]]`. Source: fly.io/docs/reference/configuration/.
const MAX_STATICS: usize = 10;

/// Longest name of a volume. Source: the Volumes API (fly.io/docs/machines/api/volumes-resource/).
const MAX_VOLUME_NAME: usize = 30;

/// Largest volume that the documentation promises, in GB (fly.io/docs/volumes/).
const MAX_VOLUME_GB: i64 = 500;

/// Longest name of a process group: the machine of a group is called `golive-GROUP-INDEX-REGION`,
/// and Fly.io allows 63 characters.
const MAX_GROUP: usize = 48;

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
    stop::check(
        reader,
        ("kill_signal", config.kill_signal.as_deref()),
        ("kill_timeout", config.kill_timeout),
    );
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
    let unknown = containers::unknown_fields(config);
    if !unknown.is_empty() {
        let message = format!("Fly.io has no field {} there", unknown.join(", "));
        reader.warn(given, message);
    }
    let overwritten = containers::overwritten_fields(config);
    if !overwritten.is_empty() {
        let message = format!(
            "{} there have no effect: write them in fly.toml itself",
            overwritten.join(", ")
        );
        reader.warn(given, message);
    }
    if let Err(error) = containers::check(config) {
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
    for (name, value) in &config.env {
        let key = format!("env.{name}");
        if name.is_empty() || name.contains(['=', '\0']) {
            reader.error(&key, "no variable of the environment can have this name");
        } else if value.contains('\0') {
            reader.error(&key, "no variable of the environment can hold a NUL");
        }
        if name == "PRIMARY_REGION" {
            reader.warn(&key, "has no effect: the Activation's `region` sets it");
        }
        if name.starts_with("FLY_") {
            reader.warn(
                &key,
                "names that begin with FLY_ belong to the platform, which may overwrite them",
            );
        }
    }
}

fn processes(config: &AppConfig, reader: &Reader) {
    for (name, line) in &config.processes {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if name.is_empty() || name.len() > MAX_GROUP || !name.bytes().all(plain) {
            reader.error(
                &format!("processes.{name}"),
                format!(
                    "the name of a process group must be 1 to {MAX_GROUP} letters, digits, dashes, \
                     underscores or points, because it is part of the machines' names"
                ),
            );
        }
        command(reader, &format!("processes.{name}"), Some(line));
    }
}

fn command(reader: &Reader, key: &str, line: Option<&str>) {
    let Some(line) = line else { return };
    if let Err(error) = words::split(line) {
        reader.error(key, format!("cannot be split into words: {error}"));
    }
    // Those that cannot be seen are told of every value.
    let visible = |character: &char| *character != '`' && text::unseen(*character).is_none();
    let mut odd = line.chars().filter(visible);
    let odd = odd.find_map(|character| Some((character, text::odd(character)?)));
    if let Some((character, (what, instead))) = odd {
        let named = text::named(character, what);
        reader.warn(key, format!("the command has {named} in it; {instead}"));
    }
}

fn mounts(config: &AppConfig, reader: &Reader) {
    for (index, mount) in config.mounts.iter().enumerate() {
        let at = format!("mounts[{index}]");
        volume_name(reader, &format!("{at}.source"), mount.source.as_deref());
        let key = format!("{at}.destination");
        match mount.destination.as_deref() {
            None => reader.error(&key, "the path at which the volume is mounted is required"),
            Some(path) if !path.starts_with('/') => {
                reader.error(&key, format!("must be an absolute path such as /{path}"));
            }
            Some(_) => {}
        }
        known_groups(config, reader, &at, &mount.processes);
        volume_sizes(mount, &at, reader);
    }
    let groups_are_read = |index| !reader.has_unread(&format!("mounts[{index}].processes"));
    for group in config.process_groups() {
        let own = |mount: &Mount| config.belongs(&mount.processes, &group);
        let several = config.mounts.iter().enumerate();
        if reader.has_unread("processes") {
            break;
        }
        let several = several.filter(|(index, mount)| groups_are_read(*index) && own(mount));
        for (index, _) in several.skip(1) {
            reader.error(
                &format!("mounts[{index}]"),
                format!("process group {group} has a volume already; a machine has one at most"),
            );
        }
    }
}

fn volume_name(reader: &Reader, key: &str, name: Option<&str>) {
    let Some(name) = name else {
        reader.error(key, "the name of the volume is required");
        return;
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.len() <= MAX_VOLUME_NAME && name.chars().all(plain) {
        return;
    }
    let allowed = format!(
        "the name of a volume must be 1 to {MAX_VOLUME_NAME} letters, digits or underscores"
    );
    let mended = name.replace(['-', '.', ' '], "_");
    if name.len() > MAX_VOLUME_NAME {
        let length = name.chars().count();
        reader.error(key, format!("{allowed}; this one has {length} characters"));
    } else if mended.chars().all(plain) {
        reader.error(key, format!("{allowed}, such as {mended}, not {name}"));
    } else {
        reader.error(key, format!("{allowed}, not {name}"));
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
    let initial = mount.initial_size.as_deref().and_then(size::volume_gb);
    if initial.is_some_and(|gb| gb > MAX_VOLUME_GB) {
        reader.warn(
            &format!("{at}.initial_size"),
            format!(
                "Fly.io documents at most {MAX_VOLUME_GB} GB for a volume, and may refuse more"
            ),
        );
    }
    let given = |name: &str, found: bool| found || reader.is_unread(&format!("{at}.{name}"));
    let threshold = mount.auto_extend_size_threshold;
    let increment = read(
        "auto_extend_size_increment",
        &mount.auto_extend_size_increment,
        100,
    );
    let limit = read("auto_extend_size_limit", &mount.auto_extend_size_limit, 500);
    // flyctl documents "all or none" but accepts a threshold and an increment without a limit.
    let has_threshold = given("auto_extend_size_threshold", threshold.is_some());
    let has_increment = given("auto_extend_size_increment", increment.is_some());
    if (has_threshold || has_increment || limit.is_some()) && !(has_threshold && has_increment) {
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
        guest::GuestError::BadCpus { .. } if vm.guest.cpus.is_some() => format!("{at}.cpus"),
        guest::GuestError::BadCpus { .. } => at.to_owned(),
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
    let keys = [
        "size",
        "memory",
        "memory_mb",
        "cpu_kind",
        "cpus",
        "gpu_kind",
    ];
    if keys
        .iter()
        .any(|key| reader.is_unread(&format!("{at}.{key}")))
    {
        return;
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
    for (index, restart) in config.restart.iter().enumerate() {
        let at = format!("restart[{index}]");
        required_groups(config, reader, &at, &restart.processes);
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
        } else if file.raw_value.is_none()
            && file.secret_name.is_none()
            && !["local_path", "raw_value", "secret_name"]
                .iter()
                .any(|key| reader.is_unread(&format!("{at}.{key}")))
        {
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
        if let Some(wrong) = metrics.endpoint.path.as_deref().and_then(wrong_path) {
            reader.error(&format!("{at}.path"), wrong);
        }
        let key = format!("{at}.port");
        if metrics.endpoint.port.is_some() || reader.is_unread(&key) {
            continue;
        }
        if metrics.endpoint == MachineMetrics::default() {
            reader.warn(&at, "has no port, so nothing is scraped");
        } else {
            reader.error(&key, "is required: the port that serves the metrics");
        }
    }
}
