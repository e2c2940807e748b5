//! Machines with several containers: the one of the machine's own image is its program, and each other
//! one a process beside it, with the same address and the same files.
//!
//! As on Fly.io, an image that does not exist is refused when the machine is configured. What is left
//! out: health checks of containers, and the order of `depends_on`; the others begin first.

use std::path::Path;

use super::config::{Config, Container, Init};
use super::process::Program;
use super::{BootEnv, boot};
use crate::core::Shared;
use crate::error::FlyResult;

/// What replaces the program of the machine's own image.
pub(super) fn init(config: &Config) -> Init {
    let mut containers = config.containers.iter().flatten();
    match containers.find(|container| is_main(config, container)) {
        Some(container) => init_of(container),
        None => config.init.clone().unwrap_or_default(),
    }
}

fn init_of(container: &Container) -> Init {
    Init {
        exec: container.exec.clone(),
        entrypoint: container.entrypoint.clone(),
        cmd: container.cmd.clone(),
        ..Init::default()
    }
}

fn is_main(config: &Config, container: &Container) -> bool {
    container.image == config.image
}

fn others(config: &Config) -> impl Iterator<Item = &Container> {
    let containers = config.containers.iter().flatten();
    containers.filter(|container| !is_main(config, container))
}

/// Whether all their images exist, or Fly's refusal.
pub(super) fn check(core: &Shared, config: &Config) -> FlyResult<()> {
    for container in others(config) {
        super::api::resolve(core, container.image.as_deref().unwrap_or_default())?;
    }
    Ok(())
}

/// What runs beside the machine's program, by name.
pub(super) fn programs(
    core: &Shared,
    config: &Config,
    main: &BootEnv,
    dir: &Path,
) -> Result<Vec<(String, Program)>, String> {
    let beside = others(config).map(|container| {
        let name = container.name.clone().unwrap_or_default();
        let image = container.image.as_deref().unwrap_or_default();
        let image = super::api::resolve(core, image).map_err(|error| error.message)?;
        let mut boot = main.clone();
        boot.env.extend(image.image.env.clone());
        boot.env.extend(container.env.clone().unwrap_or_default());
        let path = boot.env.get("PATH").map_or("", String::as_str);
        boot.args = boot::arguments(&image, init_of(container), path);
        Ok((name, boot::program(&boot, dir)?))
    });
    beside.collect()
}
