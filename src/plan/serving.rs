//! The release that serves. Pure.
//!
//! An object has two targets: the release that serves, and the wanted [`Target`]. They are the same
//! while nothing is rolled out. They differ during an update, while the spec is invalid, planned or
//! waits for an approval, and after a release was rolled back. The target of the release that serves
//! follows from its record: the part of the spec that it went live with, its fly.toml and its image.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Target, invalid::Invalid, refs::Refs};
use crate::{
    api::{
        Activation,
        deploy::{Deploy, FlyConfig},
        integrations::Integrations,
        policy::Mode,
        provision::Provision,
        smoke_test::SmokeTest,
        status::{ActivationStatus, ReleaseStatus},
    },
    fly,
};

/// The part of a spec that a release went live with: what it takes to keep that release and to
/// prove it again. It contains no value of a secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServedSpec {
    /// Primary region.
    pub region: String,
    /// Addresses, hostnames, and what else the application has around it.
    pub provision: Provision,
    /// Sizes, regions and numbers of machines. Without image and fly.toml, which the record of the
    /// release has.
    pub deploy: Deploy,
    /// How it was proven.
    pub smoke_test: SmokeTest,
    /// What of others it works with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub integrations: Option<Integrations>,
}

impl ServedSpec {
    /// The part of this target that a record keeps.
    pub fn of(target: &Target) -> Self {
        let mut deploy = target.deploy.clone();
        (deploy.image, deploy.source, deploy.config) = (None, None, None);
        Self {
            region: target.region.clone(),
            provision: target.provision.clone(),
            deploy,
            smoke_test: target.smoke_test.clone(),
            integrations: target.integrations.as_deref().cloned(),
        }
    }

    /// Whether both are kept and proven alike. Integrations are verified after that.
    pub fn is_proven_as(&self, other: &Self) -> bool {
        let (one, two) = (self, other);
        (&one.region, &one.provision, &one.deploy, &one.smoke_test)
            == (&two.region, &two.provision, &two.deploy, &two.smoke_test)
    }
}

/// What the record of the release that serves says of its target.
#[derive(Clone, Copy, Debug)]
pub struct Served<'a> {
    /// The spec that it went live with; `None` in records of older versions.
    pub spec: Option<&'a ServedSpec>,
    /// The text of its fly.toml, if it had one.
    pub config: Option<&'a str>,
    /// The port, when it had no fly.toml.
    pub port: u16,
    /// The image with its digest.
    pub pinned: &'a str,
}

/// The target of the release that serves. What keeps and observes it now is what the present spec
/// says: token, drift policy, deletion. It has no gates, because it was approved.
///
/// # Errors
/// When there is no usable token.
pub fn target(
    activation: &Activation,
    served: &Served<'_>,
    refs: &Refs,
    key: &[u8],
) -> Result<Target, Vec<Invalid>> {
    Target::parse(&as_served(activation, served), refs, None, key)
}

/// The same with this token instead of the one that the spec names: for what needs no token.
pub fn target_with(
    activation: &Activation,
    served: &Served<'_>,
    refs: &Refs,
    (token, key): (fly::Token, &[u8]),
) -> Target {
    Target::parse_with(&as_served(activation, served), refs, None, (token, key))
}

/// The object as it was when the release went live.
fn as_served(activation: &Activation, served: &Served<'_>) -> Activation {
    let mut object = activation.clone();
    let spec = &mut object.spec;
    if let Some(then) = served.spec {
        spec.region.clone_from(&then.region);
        spec.provision.clone_from(&then.provision);
        spec.deploy.clone_from(&then.deploy);
        spec.smoke_test.clone_from(&then.smoke_test);
        spec.integrations.clone_from(&then.integrations);
    }
    spec.deploy.source = None;
    spec.deploy.image = Some(served.pinned.to_owned());
    spec.deploy.port = Some(served.port);
    spec.deploy.config = served.config.map(|text| FlyConfig {
        inline: Some(text.to_owned()),
        config_map_ref: None,
    });
    spec.mode = Mode::Apply;
    spec.gates.clear();
    object
}

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
    fn what_serves_has_the_integrations_that_it_went_live_with() {
        let spec = |integrations: serde_json::Value| -> Activation {
            let object = json!({"metadata": {"name": "shop"}, "spec": {
                "organization": "o", "app": "shop", "region": "eze", "deploy": {"image": "x:1"},
                "integrations": integrations,
            }});
            serde_json::from_value(object).unwrap()
        };
        let then = spec(json!({"ical": {"exportPath": "/then.ics"}}));
        let refs = Refs::of(&[("fly", "token", "fo1_some-token")], &[]);
        let target = Target::parse(&then, &refs, None, b"key").unwrap();
        let served = ServedSpec::of(&target);
        let written = serde_json::to_value(&served).unwrap();
        let read: ServedSpec = serde_json::from_value(written.clone()).unwrap();
        assert_eq!(read, served);
        let served = Served {
            spec: Some(&served),
            config: None,
            port: 8080,
            pinned: "x@sha256:1",
        };
        let now = spec(json!({"ical": {"exportPath": "/now.ics"}}));
        let object = as_served(&now, &served);
        assert_eq!(object.spec.integrations, then.spec.integrations);

        // A record of an older version says nothing of them, and is proven alike.
        let mut older = written;
        older.as_object_mut().unwrap().remove("integrations");
        let older: ServedSpec = serde_json::from_value(older).unwrap();
        assert!(older.integrations.is_none() && older.is_proven_as(&read));
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
