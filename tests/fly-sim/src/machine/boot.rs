//! What a machine boots with: program, arguments, environment, files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::config::Init;
use super::process::{self, Program};
use super::{BootEnv, Machine, containers};
use crate::images::Resolved;
use crate::state::App;

/// Where a machine's files are.
pub fn root(dir: &Path, machine: &str) -> PathBuf {
    dir.join("machines").join(machine)
}

/// Where a volume's files are.
pub fn volume_dir(dir: &Path, volume: &str) -> PathBuf {
    dir.join("volumes").join(volume)
}

/// The directories in which programs are found: those of the image, then ours.
fn search_path(machine: &Machine) -> String {
    let mut path = std::env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".to_owned());
    if let Some(dir) = machine.image.program.as_deref().and_then(Path::parent) {
        path = format!("{}:{path}", dir.display());
    }
    path
}

/// Everything that the program sees, decided now: secrets as they are at this boot.
pub fn environment(app: &App, machine: &Machine, dir: &Path) -> BootEnv {
    let mut env = BTreeMap::new();
    let mut set = |key: &str, value: String| {
        env.insert(key.to_owned(), value);
    };
    set("PATH", search_path(machine));
    set("HOME", root(dir, &machine.id).display().to_string());
    set("LANG", "C.UTF-8".to_owned());
    // What an image has below /etc/ssl/certs.
    if let Ok(authorities) = std::env::var("FLY_SIM_CA_FILE") {
        set("SSL_CERT_FILE", authorities);
    }
    for (key, value) in &machine.image.image.env {
        set(key, value.clone());
    }
    for (key, value) in machine.config.env.iter().flatten() {
        set(key, value.clone());
    }
    if !machine.skip_secrets {
        for (key, value) in app.platform.boot_secrets() {
            set(&key, value);
        }
    }
    let memory = machine.config_json["guest"]["memory_mb"]
        .as_u64()
        .unwrap_or(256);
    set("FLY_APP_NAME", app.name.clone());
    set("FLY_MACHINE_ID", machine.id.clone());
    set("FLY_ALLOC_ID", machine.id.clone());
    set("FLY_MACHINE_VERSION", machine.version.clone());
    set("FLY_REGION", machine.region.clone());
    set("FLY_PUBLIC_IP", machine.ip.to_string());
    set("FLY_PRIVATE_IP", machine.ip.to_string());
    set(
        "FLY_IMAGE_REF",
        machine.config.image.clone().unwrap_or_default(),
    );
    set("FLY_VM_MEMORY_MB", memory.to_string());
    // Not on Fly: a process shares our loopback, so it must be told which address is its own.
    set("FLY_SIM_BIND_IP", machine.ip.to_string());
    if let Some(volume) = machine
        .config
        .mounts
        .iter()
        .flatten()
        .find_map(|mount| mount.volume.as_deref())
    {
        let dir = volume_dir(dir, volume);
        set("FLY_SIM_VOLUME_DIR", dir.display().to_string());
    }

    let init = containers::init(&machine.config);
    let args = arguments(&machine.image, init, &search_path(machine));
    BootEnv {
        app: app.name.clone(),
        machine: machine.id.clone(),
        bind_ip: machine.ip,
        args,
        env,
    }
}

/// What is run of an image: its program with its arguments, as far as `init` does not replace them.
pub(super) fn arguments(image: &Resolved, init: Init, path: &str) -> Vec<String> {
    let given = |list: Option<Vec<String>>| list.filter(|list| !list.is_empty());
    let program = image.program.as_deref();
    let program = program.map(|path| path.display().to_string());
    let image = &image.image;
    let cmd = given(init.cmd);
    if let Some(exec) = given(init.exec) {
        return exec;
    }
    if let Some(entrypoint) = given(init.entrypoint) {
        return [entrypoint, cmd.unwrap_or_else(|| image.args.clone())].concat();
    }
    // A command that names a program (`cabanas migrate`, `sh -c ...`) replaces the image's;
    // anything else is arguments to it, as with an ENTRYPOINT. The image's own arguments
    // always are.
    let names_a_program = image.entrypoint.is_empty()
        && cmd
            .as_ref()
            .and_then(|cmd| cmd.first())
            .is_some_and(|first| first.starts_with('/') || process::find(first, path).is_some());
    let cmd = cmd.unwrap_or_else(|| image.args.clone());
    if names_a_program {
        return cmd;
    }
    let mut args: Vec<String> = program.into_iter().collect();
    args.extend(image.entrypoint.iter().cloned());
    args.extend(cmd);
    args
}

/// The program of a machine; the error is what Fly's log would say.
pub fn program(boot: &BootEnv, dir: &Path) -> Result<Program, String> {
    let path = boot.env.get("PATH").map_or("", String::as_str);
    let mut argv = boot.args.clone();
    let Some(first) = argv.first_mut() else {
        return Err("no command specified".to_owned());
    };
    // An absolute path inside the image: its program, or one of the system's.
    let found = process::find(first, path).or_else(|| {
        let name = Path::new(first.as_str()).file_name()?.to_str()?;
        process::find(name, path)
    });
    match found {
        Some(file) => *first = file.display().to_string(),
        None => return Err(format!("{first}: executable file not found in $PATH")),
    }
    Ok(Program {
        argv,
        env: boot.env.clone(),
        dir: root(dir, &boot.machine),
    })
}

/// Prepares the machine's directory: fresh at each boot unless `rootfs.persist` keeps it.
pub fn prepare(
    dir: &Path,
    machine: &Machine,
    secrets: &BTreeMap<String, String>,
) -> Result<(), String> {
    let root = root(dir, &machine.id);
    let keep = machine
        .config
        .rootfs
        .as_ref()
        .and_then(|rootfs| rootfs.persist.as_deref())
        .is_some_and(|persist| matches!(persist, "restart" | "always"));
    if !keep {
        let _ = std::fs::remove_dir_all(&root);
    }
    std::fs::create_dir_all(&root).map_err(|error| error.to_string())?;
    for mount in machine.config.mounts.iter().flatten() {
        if let (Some(volume), Some(path)) = (&mount.volume, &mount.path) {
            let data = volume_dir(dir, volume);
            std::fs::create_dir_all(&data).map_err(|error| error.to_string())?;
            let link = inside(&root, path)?;
            let _ = std::fs::remove_file(&link);
            let _ = std::os::unix::fs::symlink(&data, &link);
        }
    }
    for file in machine.config.files.iter().flatten() {
        let encoded = match (&file.raw_value, &file.secret_name) {
            (Some(raw), _) => raw,
            (None, Some(name)) => secrets
                .get(name)
                .ok_or_else(|| format!("secret {name} for file {} is not set", file.guest_path))?,
            (None, None) => continue,
        };
        let bytes = STANDARD
            .decode(encoded)
            .map_err(|error| format!("decode file {}: {error}", file.guest_path))?;
        let path = inside(&root, &file.guest_path)?;
        std::fs::write(&path, bytes).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn inside(root: &Path, guest_path: &str) -> Result<PathBuf, String> {
    let relative = Path::new(guest_path.trim_start_matches('/'));
    if relative
        .components()
        .any(|part| !matches!(part, std::path::Component::Normal(_)))
    {
        return Err(format!("path {guest_path} is not usable"));
    }
    let path = root.join(relative);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|error| error.to_string())?;
    }
    Ok(path)
}
