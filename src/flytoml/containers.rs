//! Machines with several containers: `machine_config` holds the machine configuration to start
//! from, as JSON, and `container` names the one that runs the deployed image.
//!
//! flyctl also accepts a file or a compose file. An object in Kubernetes has no files beside it, so
//! both are refused, with an alternative.

use crate::fly::machine_config::MachineConfig;

use super::config::AppConfig;

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
