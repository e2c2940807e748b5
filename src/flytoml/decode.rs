//! Decodes the tree to an [`AppConfig`]: every section and key, with the old spellings that flyctl
//! still accepts. Sources: flyctl `internal/appconfig/config.go`, `patches.go`;
//! fly.io/docs/reference/configuration/.

use std::collections::BTreeMap;

use crate::fly::machine_config::{MachineGuest, MachineMetrics};

use super::config::{
    AppConfig, Build, Deploy, Experimental, File, Metrics, Mount, Restart, Static, Strategy, Vm,
};
use super::decode_service::{http_service, machine_test, service, top_level_checks};
use super::problem::nearest;
use super::reader::{Field, Reader, Section, Unit};
use super::tree::{Kind, Table};

/// Decodes the whole file.
pub(super) fn app_config(reader: &Reader, table: &Table) -> AppConfig {
    let root = Section::new(reader, table, "");
    let experimental = root.table("experimental");
    let mut config = AppConfig {
        app: root.text("app"),
        primary_region: root.text("primary_region"),
        kill_signal: root.text("kill_signal"),
        kill_timeout: root.duration("kill_timeout", Unit::Seconds),
        swap_size_mb: root.get("swap_size_mb").and_then(|field| {
            let number = field.integer(0, i64::from(u32::MAX))?;
            u64::try_from(number).ok()
        }),
        console_command: root.text("console_command"),
        host_dedication_id: root.text("host_dedication_id"),
        build: root.table("build").map(build).unwrap_or_default(),
        deploy: root.table("deploy").map(deploy).unwrap_or_default(),
        env: root.get("env").map(env).unwrap_or_default(),
        processes: root.get("processes").map(processes).unwrap_or_default(),
        mounts: several(&root, &["mount", "mounts"], |section| Some(mount(section))),
        http_service: root.table("http_service").map(http_service),
        services: several(&root, &["services"], service),
        checks: root.get("checks").map(top_level_checks).unwrap_or_default(),
        files: root.tables("files").into_iter().map(file).collect(),
        machine_config: root.text("machine_config"),
        container: root.text("container"),
        machine_checks: root
            .tables("machine_checks")
            .into_iter()
            .map(machine_test)
            .collect(),
        restart: root.tables("restart").into_iter().map(restart).collect(),
        vm: several(&root, &["compute", "computes", "vm"], |section| {
            Some(vm(section))
        }),
        statics: root.tables("statics").into_iter().map(statics).collect(),
        metrics: several(&root, &["metric", "metrics"], |section| {
            Some(metrics(section))
        }),
        ..AppConfig::default()
    };
    if let Some(section) = experimental {
        read_experimental(section, &root, &mut config);
    }
    root.close();
    config
}

/// A section that may be one table or a list, under any of several names. The entries are numbered
/// consecutively; each keeps its position under the last, current name.
fn several<T>(
    root: &Section,
    names: &[&'static str],
    read: impl Fn(Section) -> Option<T>,
) -> Vec<T> {
    let current = names.last().copied().unwrap_or_default();
    let mut found = Vec::new();
    for name in names {
        let Some(field) = root.get(name) else {
            continue;
        };
        for mut section in field.table_or_tables().unwrap_or_default() {
            let path = format!("{current}[{}]", found.len());
            if section.path != path {
                section.reader.alias(&section.path, &path);
                section.path = path;
            }
            found.extend(read(section));
        }
    }
    found
}

fn env(field: Field) -> BTreeMap<String, String> {
    let tables = match &field.node.value {
        // Old spelling: a list of tables, of which the later ones take precedence.
        Kind::List(_) => field.list().unwrap_or_default(),
        _ => vec![field],
    };
    let mut env = BTreeMap::new();
    for table in tables {
        env.extend(table.map(Field::text_or_scalar).unwrap_or_default());
    }
    env
}

fn processes(field: Field) -> BTreeMap<String, String> {
    if !matches!(field.node.value, Kind::List(_)) {
        return field.text_map().unwrap_or_default();
    }
    // Old spelling: a list of tables with name and command.
    let mut processes = BTreeMap::new();
    for section in field.tables().unwrap_or_default() {
        let name = section.get("name").and_then(|name| name.text_or_scalar());
        let command = section
            .get("command")
            .and_then(|command| command.text_or_scalar())
            .unwrap_or_default();
        match name {
            Some(name) => {
                section
                    .reader
                    .alias(&section.path, &format!("processes.{name}"));
                processes.insert(name, command);
            }
            None => section.reader.missing(
                &section.key("name"),
                "every entry needs the name of its process group",
            ),
        }
        section.close();
    }
    processes
}

fn read_experimental(section: Section, root: &Section, config: &mut AppConfig) {
    let command = |name| {
        section
            .get(name)
            .and_then(|field| field.text_or_texts())
            .unwrap_or_default()
    };
    config.experimental = Experimental {
        cmd: command("cmd"),
        entrypoint: command("entrypoint"),
        exec: command("exec"),
        auto_rollback: section.bool("auto_rollback").unwrap_or_default(),
        enable_consul: section.bool("enable_consul").unwrap_or_default(),
        enable_etcd: section.bool("enable_etcd").unwrap_or_default(),
        lazy_load_images: section.bool("lazy_load_images").unwrap_or_default(),
        exported_secrets: section
            .table("attached")
            .map(attached_secrets)
            .unwrap_or_default(),
        machine_config: section.text("machine_config"),
    };
    for name in [
        "auto_rollback",
        "enable_etcd",
        "lazy_load_images",
        "attached",
    ] {
        if section.has(name) {
            section.reader.obsolete("experimental", name);
        }
    }
    // Former places of keys that are at the top level now, which takes precedence.
    let kill_timeout = section.duration("kill_timeout", Unit::Seconds);
    if !root.has("kill_timeout") {
        config.kill_timeout = kill_timeout;
    }
    let endpoint = MachineMetrics {
        port: section.port("metrics_port"),
        path: section.text("metrics_path"),
        ..MachineMetrics::default()
    };
    let is_read = !section.reader.has_error("experimental.metrics_port");
    if !root.has("metrics") && is_read && endpoint != MachineMetrics::default() {
        config.metrics.push(Metrics {
            endpoint,
            processes: Vec::new(),
        });
    }
    section.close();
}

fn attached_secrets(attached: Section) -> BTreeMap<String, String> {
    let mut exported = BTreeMap::new();
    if let Some(secrets) = attached.table("secrets") {
        if let Some(export) = secrets.get("export") {
            exported = export.text_map().unwrap_or_default();
        }
        secrets.close();
    }
    attached.close();
    exported
}

fn build(section: Section) -> Build {
    let compose = section.table("compose");
    let read = Build {
        image: section.text("image"),
        dockerfile: section.text("dockerfile"),
        builder: section.text("builder"),
        buildpacks: section.texts("buildpacks"),
        builtin: section.text("builtin"),
        args: section
            .get("args")
            .and_then(|field| field.text_map())
            .unwrap_or_default(),
        settings: section
            .get("settings")
            .and_then(|field| field.map(|value| Some(value.json())))
            .unwrap_or_default(),
        ignorefile: section.text("ignorefile"),
        build_target: section
            .text("build-target")
            // Old spelling. It takes precedence in flyctl, which copies it over the new one.
            .into_iter()
            .chain(section.text("build_target"))
            .next_back(),
        compose: compose.is_some(),
        compose_file: compose.and_then(|compose| {
            let file = compose.text("file");
            compose.close();
            file
        }),
        compression: section.text("compression"),
        compression_level: section
            .get("compression_level")
            .and_then(|field| field.integer(0, 9)),
    };
    section.close();
    read
}

fn deploy(section: Section) -> Deploy {
    let read = Deploy {
        strategy: section.get("strategy").and_then(|field| strategy(&field)),
        max_unavailable: section
            .get("max_unavailable")
            .and_then(|field| field.float()),
        wait_timeout: section.duration("wait_timeout", Unit::Nanoseconds),
        release_command: section.text("release_command"),
        release_command_timeout: section.duration("release_command_timeout", Unit::Nanoseconds),
        release_command_vm: section.table("release_command_vm").map(strict_vm),
        seed_command: section.text("seed_command"),
    };
    section.close();
    read
}

fn strategy(field: &Field) -> Option<Strategy> {
    let word = field.text()?;
    let known = Strategy::ALL.map(Strategy::as_str);
    let found = Strategy::ALL.into_iter().find(|s| s.as_str() == word);
    if found.is_none() {
        let meant = nearest(&word, &known)
            .map(|meant| format!("; did you mean {meant}?"))
            .unwrap_or_default();
        field.reader.error(
            &field.path,
            format!("must be one of {}, not {word}{meant}", known.join(", ")),
        );
    }
    found
}

fn mount(section: Section) -> Mount {
    let read = Mount {
        source: section.text("source"),
        destination: section.text("destination"),
        initial_size: section
            .get("initial_size")
            .and_then(|field| field.text_or_scalar())
            .filter(|text| !text.is_empty()),
        snapshot_retention: section
            .get("snapshot_retention")
            .and_then(|field| field.integer(1, 60)),
        scheduled_snapshots: section.bool("scheduled_snapshots"),
        auto_extend_size_threshold: section
            .get("auto_extend_size_threshold")
            .and_then(|field| field.integer(i64::MIN, i64::MAX))
            .filter(|number| *number != 0),
        auto_extend_size_increment: section.text("auto_extend_size_increment"),
        auto_extend_size_limit: section.text("auto_extend_size_limit"),
        processes: section.texts("processes"),
    };
    section.close();
    read
}

fn file(section: Section) -> File {
    let read = File {
        guest_path: section.text("guest_path"),
        local_path: section.text("local_path"),
        raw_value: section.text("raw_value"),
        secret_name: section.text("secret_name"),
        processes: section.texts("processes"),
    };
    section.close();
    read
}

fn restart(section: Section) -> Restart {
    let read = Restart {
        policy: section.text("policy"),
        retries: section.positive("retries"),
        processes: section.texts("processes"),
    };
    section.close();
    read
}

fn vm(section: Section) -> Vm {
    let memory = section
        .get("memory")
        .and_then(|field| field.text_or_scalar())
        .filter(|text| !text.is_empty());
    finish_vm(section, memory)
}

/// `release_command_vm`, where flyctl accepts memory as a string only.
fn strict_vm(section: Section) -> Vm {
    let memory = section.text("memory");
    finish_vm(section, memory)
}

fn finish_vm(section: Section, memory: Option<String>) -> Vm {
    let read = Vm {
        size: section.text("size"),
        memory,
        guest: MachineGuest {
            cpu_kind: section.text("cpu_kind"),
            cpus: section.positive("cpus"),
            memory_mb: section.positive("memory_mb"),
            max_memory_mb: section.positive("max_memory_mb"),
            gpus: section.positive("gpus"),
            gpu_kind: section.text("gpu_kind"),
            host_dedication_id: section.text("host_dedication_id"),
            kernel_args: section.texts("kernel_args"),
            persist_rootfs: section
                .get("persist_rootfs")
                .and_then(|field| persist_rootfs(&field)),
            ..MachineGuest::default()
        },
        processes: section.texts("processes"),
    };
    section.close();
    read
}

/// `never`, `restart` or `always`, or the number of one of them; `none` is absent.
fn persist_rootfs(field: &Field) -> Option<serde_json::Value> {
    let word = match &field.node.value {
        Kind::Text(word) => word.as_str(),
        Kind::Integer(0) => "none",
        Kind::Integer(1) => "never",
        Kind::Integer(2) => "restart",
        Kind::Integer(3) => "always",
        _ => "",
    };
    match word {
        "none" => None,
        "" if matches!(field.node.value, Kind::Text(_)) => None,
        "never" | "restart" | "always" => Some(word.into()),
        _ => {
            field
                .reader
                .error(&field.path, "must be one of none, never, restart, always");
            None
        }
    }
}

fn statics(section: Section) -> Static {
    let read = Static {
        guest_path: section.text("guest_path"),
        url_prefix: section.text("url_prefix"),
        tigris_bucket: section.text("tigris_bucket"),
        index_document: section.text("index_document"),
    };
    section.close();
    read
}

fn metrics(section: Section) -> Metrics {
    let read = Metrics {
        endpoint: MachineMetrics {
            port: section.port("port"),
            path: section.text("path"),
            https: section.bool("https").filter(|https| *https),
            ..MachineMetrics::default()
        },
        processes: section.texts("processes"),
    };
    section.close();
    read
}
