//! The release that the spec requests. Pure.

use sha2::{Digest, Sha256};

use super::{record::Record, records::Records};
use crate::{
    flytoml,
    phase::deploy::fleet::wanted::not_convertible,
    pipeline::{facts, step::Result},
    plan::Target,
};

/// The release that the spec requests.
#[derive(Clone, Debug, PartialEq)]
pub struct WantedRelease {
    /// Its number within the Activation.
    pub number: u64,
    /// What identifies it: the same image, configuration and secrets are the same release.
    pub key: String,
    /// The image.
    pub image: facts::Image,
    /// Hash of the machines' configuration without image and secrets.
    pub config_hash: String,
    /// Names of the environment variables.
    pub env: Vec<String>,
    /// Whether it has a release command.
    pub migrates: bool,
}

impl WantedRelease {
    /// The release of this target, image and digest of the secrets.
    ///
    /// # Errors
    /// When the fly.toml cannot be converted; preflight finds that first.
    pub fn of(
        target: &Target,
        image: &facts::Image,
        secrets: &str,
        records: &Records,
    ) -> Result<Self> {
        let app = &target.config()?.app;
        let context = flytoml::Context::default();
        let machines = app.machine_configs(&context);
        let machines = machines.map_err(|error| not_convertible("machines", &error))?;
        let mut hash = Sha256::new();
        for (group, machine) in machines {
            hash.update(group);
            hash.update([0]);
            hash.update(serde_json::to_vec(&machine).unwrap_or_default());
        }
        hash.update([0]);
        hash.update(app.deploy.release_command.as_deref().unwrap_or_default());
        let config_hash = hex(hash);
        let mut hash = Sha256::new();
        for part in [&config_hash, &image.pinned, secrets] {
            hash.update(part);
            hash.update([0]);
        }
        let key = hex(hash);
        Ok(Self {
            number: records.number(&key, target),
            key,
            image: image.clone(),
            config_hash,
            env: app.env.keys().cloned().collect(),
            migrates: app.deploy.release_command.is_some(),
        })
    }
}

impl WantedRelease {
    /// The release of this record.
    pub fn of_record(record: &Record) -> Self {
        let content = &record.content;
        Self {
            number: record.number,
            key: record.key.clone(),
            image: facts::Image {
                asked: String::new(),
                reference: content.image.clone(),
                pinned: content.pinned.clone(),
                digest: content.digest.clone(),
                runs_on_fly: None,
            },
            config_hash: content.config_hash.clone(),
            env: content.env.clone(),
            migrates: false,
        }
    }
}

fn hex(hash: Sha256) -> String {
    data_encoding::HEXLOWER.encode(&hash.finalize()[..12])
}
