//! The release that serves. Pure.
//!
//! An object has two targets: the release that serves, and the wanted [`Target`]. They are the same
//! while nothing is rolled out. During an update, and after one that was rolled back, an earlier
//! release serves.
//!
//! [`Target`]: crate::plan::Target

use jiff::Timestamp;

use crate::api::status::{ActivationStatus, ReleaseStatus};

/// The last good release, which serves the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServingRelease {
    /// Number of the release within this Activation; `None` when it is not recorded.
    pub number: Option<u64>,
    /// Fly.io's number of the release where it is known, else ours.
    pub version: Option<i64>,
    /// The image as the spec named it, or with the tag that was chosen.
    pub image: String,
    /// Digest of the image: `sha256:...`.
    pub digest: String,
    /// Hash of the machines' configuration.
    pub config_hash: String,
    /// When it was rolled out.
    pub since: Option<Timestamp>,
}

impl ServingRelease {
    /// The release that a status names as serving; `None` when it names none. A status is a report:
    /// the records of releases take precedence where they were read.
    pub fn of_status(status: &ActivationStatus) -> Option<Self> {
        status.release.as_ref().and_then(Self::of_release)
    }

    /// The release of this entry of a status; `None` when its digest is not known.
    pub fn of_release(release: &ReleaseStatus) -> Option<Self> {
        if release.digest.is_empty() {
            return None;
        }
        Some(Self {
            number: release.number.and_then(|number| u64::try_from(number).ok()),
            version: release.version,
            image: release.image.clone(),
            digest: release.digest.clone(),
            config_hash: release.config_hash.clone(),
            since: release.time.as_ref().map(|time| time.0),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(release: serde_json::Value) -> ActivationStatus {
        serde_json::from_value(json!({ "release": release })).unwrap()
    }

    #[test]
    fn a_status_names_the_release_that_serves() {
        let serving = ServingRelease::of_status(&status(json!({
            "number": 3,
            "image": "registry.fly.io/shop:1.4.0",
            "digest": "sha256:a",
            "configHash": "sha256:c",
            "time": "2026-01-02T03:04:05Z",
        })))
        .unwrap();
        assert_eq!(serving.number, Some(3));
        assert_eq!(serving.image, "registry.fly.io/shop:1.4.0");
        assert_eq!(serving.digest, "sha256:a");
        assert_eq!(serving.config_hash, "sha256:c");
        assert_eq!(serving.since, "2026-01-02T03:04:05Z".parse().ok());
    }

    #[test]
    fn a_release_without_a_digest_serves_nothing() {
        assert_eq!(
            ServingRelease::of_status(&ActivationStatus::default()),
            None
        );
        assert_eq!(
            ServingRelease::of_status(&status(json!({"number": 1}))),
            None
        );
    }
}
