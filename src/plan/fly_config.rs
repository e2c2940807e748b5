//! The fly.toml of an application, parsed. Pure.

use std::sync::Arc;

use kube::ResourceExt;

use crate::{
    api::{Activation, Reason, deploy::DEFAULT_PORT},
    flytoml,
    plan::{invalid::ConfigInvalid, refs::Refs},
};

/// The fly.toml of an application, or the minimal one when the object has none.
#[derive(Clone, Debug)]
pub struct FlyConfig {
    /// The configuration.
    pub app: flytoml::AppConfig,
    /// Unknown keys, what the object overrides, and the like: reported, but no obstacle.
    pub warnings: Vec<flytoml::Problem>,
    /// The text; `None` when the object has no fly.toml.
    pub text: Option<String>,
}

/// Longest fly.toml, in bytes. It stays in memory as long as its object, and in the records of releases.
const LONGEST: usize = 256 * 1024;

/// Parses the fly.toml that the spec holds or names. App and primary region come from the object, as
/// flyctl's `-a` and `--primary-region` override the file.
///
/// # Errors
/// When it is missing or not valid.
pub(super) fn config(
    activation: &Activation,
    refs: &Refs,
) -> Result<Arc<FlyConfig>, ConfigInvalid> {
    let spec = &activation.spec;
    let Some(text) = text(activation, refs)? else {
        let port = spec.deploy.port.unwrap_or(DEFAULT_PORT);
        return Ok(Arc::new(FlyConfig {
            app: flytoml::AppConfig::minimal(&spec.app, &spec.region, port),
            warnings: Vec::new(),
            text: None,
        }));
    };
    if text.len() > LONGEST {
        return Err(ConfigInvalid {
            reason: Reason::FlyConfigInvalid,
            message: format!(
                "the fly.toml has {} KiB, and at most {} are accepted",
                text.len().div_ceil(1024),
                LONGEST / 1024
            ),
            action: "shorten it; have the image contain what is not configuration".to_owned(),
        });
    }
    let mut parsed = flytoml::parse(&text).map_err(|invalid| ConfigInvalid {
        reason: Reason::FlyConfigInvalid,
        message: format!("the fly.toml is not valid: {invalid}"),
        action: "correct the fly.toml at the lines and columns named".to_owned(),
    })?;
    parsed.bind(&spec.app, &spec.region);
    Ok(Arc::new(FlyConfig {
        app: parsed.config,
        warnings: parsed.warnings,
        text: Some(text),
    }))
}

/// The text of the fly.toml; `None` when the spec has none.
fn text(activation: &Activation, refs: &Refs) -> Result<Option<String>, ConfigInvalid> {
    let Some(config) = &activation.spec.deploy.config else {
        return Ok(None);
    };
    match (&config.config_map_ref, &config.inline) {
        (Some(reference), _) => match refs.config_map(&reference.name, &reference.key) {
            Ok(text) => Ok(Some(text.to_owned())),
            Err(missing) => Err(ConfigInvalid {
                reason: missing.reason(),
                message: missing.to_string(),
                action: missing.action(&activation.namespace().unwrap_or_default()),
            }),
        },
        (None, Some(inline)) => Ok(Some(inline.clone())),
        (None, None) => Ok(Some(String::new())),
    }
}
