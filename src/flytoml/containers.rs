//! Machines with several containers: `machine_config` holds the machine configuration to start
//! from, as JSON, and `container` names the one that runs the deployed image.
//!
//! flyctl also accepts a file or a compose file. An object in Kubernetes has no files beside it, so
//! both are refused, with an alternative.

use crate::fly::machine_config::{MachineConfig, MachineGuest};

use super::config::AppConfig;
use super::guest::{self, GuestError};
use super::validate_service::wrong_path;

/// Placeholder for the deployed image.
const DEPLOYED_IMAGE: &str = ".";

/// Why a machine configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContainerError {
    /// It names a file.
    #[error("it names a file; write the JSON itself, beginning with an opening brace")]
    File,
    /// `[build.compose]`.
    #[error("a compose file cannot be read here; write its containers as machine_config")]
    Compose,
    /// It is not JSON of an object.
    #[error("it is not a JSON object: {0}")]
    Json(String),
    /// `container` names no container.
    #[error("there is no container {0}")]
    NoSuchContainer(String),
    /// Another container than the deployed one has no image.
    #[error("container {0} must have an image")]
    NoImage(String),
    /// A container has no name, or that of another one.
    #[error("each container must have a name of its own")]
    Name,
    /// It waits for a container that is not there.
    #[error("container {0} waits in depends_on for a container that is not there")]
    NoDependency(String),
    /// The path of a container's health check cannot be requested.
    #[error("the health check of container {container} has a path that {wrong}")]
    Path {
        /// The container.
        container: String,
        /// What is wrong, and what to write.
        wrong: String,
    },
    /// A size that Fly.io does not have.
    #[error("guest: {0}")]
    Guest(#[from] GuestError),
    /// A word that Fly.io does not know.
    #[error("{field} must be one of {allowed}, not {found}")]
    Word {
        /// The field.
        field: &'static str,
        /// The words that it knows.
        allowed: String,
        /// The word that was given.
        found: String,
    },
}

/// Merges the given machine configuration into `machine` and sets the image of the deployed
/// container.
pub(super) fn apply(config: &AppConfig, machine: &mut MachineConfig) -> Result<(), ContainerError> {
    if config.build.compose {
        return Err(ContainerError::Compose);
    }
    let text = config
        .experimental
        .machine_config
        .as_ref()
        .or(config.machine_config.as_ref());
    let Some(text) = text else {
        return Ok(());
    };
    if !text.starts_with('{') {
        return Err(ContainerError::File);
    }
    let unreadable = |error: serde_json::Error| ContainerError::Json(error.to_string());
    let over: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(text).map_err(unreadable)?;
    let mut whole = serde_json::to_value(&*machine).map_err(unreadable)?;
    if let Some(fields) = whole.as_object_mut() {
        fields.extend(over);
    }
    *machine = serde_json::from_value(whole).map_err(unreadable)?;
    mark(config, machine)
}

/// Checks what `fly.toml` does not overwrite.
///
/// # Errors
/// When Fly.io refuses it.
pub(super) fn check(config: &AppConfig) -> Result<(), ContainerError> {
    let mut machine = MachineConfig::default();
    apply(config, &mut machine)?;
    check_names(&machine)?;
    check_paths(&machine)?;
    if let Some(guest) = &machine.guest {
        one_of(
            "guest.cpu_kind",
            guest.cpu_kind.as_deref(),
            &["shared", "performance"],
        )?;
        guest::check_limits(guest)?;
    }
    if let Some(size) = &machine.size
        && MachineGuest::preset(size).is_none()
    {
        return Err(GuestError::UnknownSize(size.clone()).into());
    }
    let schedule = machine.schedule.as_deref().filter(|word| !word.is_empty());
    one_of(
        "schedule",
        schedule,
        &["hourly", "daily", "weekly", "monthly"],
    )?;
    let persist = machine
        .rootfs
        .as_ref()
        .and_then(|rootfs| rootfs.persist.as_deref());
    let persist = persist.filter(|word| !word.is_empty());
    one_of("rootfs.persist", persist, &["never", "restart", "always"])
}

fn check_names(machine: &MachineConfig) -> Result<(), ContainerError> {
    let names = machine.containers.iter();
    let names: Vec<&str> = names
        .map(|container| container.name.as_deref().unwrap_or_default())
        .collect();
    for (index, name) in names.iter().enumerate() {
        if name.is_empty() || names.iter().take(index).any(|other| other == name) {
            return Err(ContainerError::Name);
        }
    }
    for container in &machine.containers {
        for other in &container.depends_on {
            if !names.contains(&other.name.as_deref().unwrap_or_default()) {
                let name = container.name.clone().unwrap_or_default();
                return Err(ContainerError::NoDependency(name));
            }
            one_of(
                "depends_on.condition",
                other.condition.as_deref(),
                &["started", "healthy", "exited_successfully"],
            )?;
        }
    }
    Ok(())
}

/// Checks the paths of the health checks of containers, which are sent as they are given: `http.path`
/// (docs.machines.dev, `fly.ContainerHealthcheck`). Services, checks and metrics have theirs in fly.toml.
fn check_paths(machine: &MachineConfig) -> Result<(), ContainerError> {
    for container in &machine.containers {
        let checks = container.healthchecks.iter();
        let paths = checks.filter_map(|check| check.get("http")?.get("path")?.as_str());
        if let Some(wrong) = paths.filter_map(wrong_path).next() {
            let container = container.name.clone().unwrap_or_default();
            return Err(ContainerError::Path { container, wrong });
        }
    }
    Ok(())
}

/// Fields of the given machine configuration that have no effect, because fly.toml says what they are.
pub(super) fn overwritten_fields(config: &AppConfig) -> Vec<&'static str> {
    let mut machine = MachineConfig::default();
    if apply(config, &mut machine).is_err() {
        return Vec::new();
    }
    let given = [
        ("services", !machine.services.is_empty()),
        ("checks", !machine.checks.is_empty()),
        ("metrics", machine.metrics.is_some()),
        ("env", !machine.env.is_empty()),
        ("image", !machine.image.is_empty()),
    ];
    let given = given.into_iter().filter(|(_, is_given)| *is_given);
    given.map(|(field, _)| field).collect()
}

fn one_of(
    field: &'static str,
    found: Option<&str>,
    allowed: &[&str],
) -> Result<(), ContainerError> {
    match found {
        Some(word) if !allowed.contains(&word) => Err(ContainerError::Word {
            field,
            allowed: allowed.join(", "),
            found: word.to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Fields of the given machine configuration that Fly.io does not have.
pub(super) fn unknown_fields(config: &AppConfig) -> Vec<String> {
    let mut machine = MachineConfig::default();
    if apply(config, &mut machine).is_err() {
        return Vec::new();
    }
    let inside = |at: &str, extra: &serde_json::Map<String, serde_json::Value>| -> Vec<String> {
        extra.keys().map(|key| format!("{at}{key}")).collect()
    };
    let mut unknown = inside("", &machine.extra);
    if let Some(guest) = &machine.guest {
        unknown.extend(inside("guest.", &guest.extra));
    }
    if let Some(init) = &machine.init {
        unknown.extend(inside("init.", &init.extra));
    }
    unknown
}

fn mark(config: &AppConfig, machine: &mut MachineConfig) -> Result<(), ContainerError> {
    if machine.containers.is_empty() {
        return Ok(());
    }
    let wanted = config.container.as_deref();
    let position = machine
        .containers
        .iter()
        .position(|container| container.name.as_deref() == Some(wanted.unwrap_or("app")));
    let deployed = match (position, wanted) {
        (Some(position), _) => position,
        (None, Some(name)) => return Err(ContainerError::NoSuchContainer(name.to_owned())),
        (None, None) => 0,
    };
    for (position, container) in machine.containers.iter_mut().enumerate() {
        if position == deployed {
            container.image = Some(DEPLOYED_IMAGE.to_owned());
        } else if container.image.as_deref().unwrap_or_default().is_empty() {
            let name = container.name.clone().unwrap_or_default();
            return Err(ContainerError::NoImage(name));
        }
    }
    Ok(())
}

/// Replaces the placeholder with the machine's image.
pub(super) fn set_image(machine: &mut MachineConfig) {
    let image = machine.image.clone();
    let deployed = |reference: &mut Option<String>| {
        if reference.as_deref() == Some(DEPLOYED_IMAGE) {
            *reference = Some(image.clone());
        }
    };
    for file in &mut machine.files {
        deployed(&mut file.image_config);
    }
    for container in &mut machine.containers {
        deployed(&mut container.image);
        for file in &mut container.files {
            deployed(&mut file.image_config);
        }
    }
}
