//! The record that is to be written about the wanted release now.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    changes,
    record::{Content, Hold, Migration, Outcome, Provenance, Record},
    wanted::WantedRelease,
};
use crate::{
    api::status::{SecretStatus, one_line},
    phase::release_secrets,
    pipeline::Cx,
};

/// The record of a release with this outcome; `serving` is what it is compared with.
pub fn draft(
    cx: &Cx,
    release: &WantedRelease,
    outcome: Outcome,
    reason: &str,
    serving: Option<&Record>,
) -> Record {
    let target = &cx.target;
    let mut record = Record {
        number: release.number,
        key: release.key.clone(),
        content: content(cx, release),
        outcome,
        proven: false,
        reason: one_line(&crate::redact::redact(reason), 1_000),
        restores: None,
        time: cx.now(),
        hold: Hold {
            target: target.digest().to_owned(),
            retry: target.retry.clone(),
        },
        provenance: Provenance {
            by: one_line(&cx.origin.by(), 256),
            why: one_line(&crate::redact::redact(why(cx, release, serving)), 512),
            changes: String::new(),
        },
        migration: Migration {
            migrated: release.migrates,
            reversible: target.deploy.migrations.reversible,
        },
        requests: Vec::new(),
        fly_version: None,
        failed_command: None,
        passed_commands: BTreeSet::new(),
    };
    record.provenance.changes =
        serving.map_or_else(String::new, |serving| changes::between(serving, &record));
    record
}

fn content(cx: &Cx, release: &WantedRelease) -> Content {
    // Without those that are removed once it serves.
    let secrets = release_secrets::expected(cx);
    let of = |part: fn(&SecretStatus) -> &String| {
        let parts = secrets.iter();
        parts.map(move |(name, secret)| (name.clone(), part(secret).clone()))
    };
    Content {
        image: release.image.reference.clone(),
        pinned: release.image.pinned.clone(),
        digest: release.image.digest.clone(),
        config: cx.target.config_text().map(str::to_owned),
        served: None,
        port: cx.target.port(),
        config_hash: release.config_hash.clone(),
        env: release.env.clone(),
        secrets: of(|secret| &secret.digest).collect(),
        fingerprints: of(|secret| &secret.fingerprint).collect(),
        fallback: Some(release_secrets::uses_fallback(cx)),
        since: BTreeMap::new(),
    }
}

/// Why there is a release: because another image was chosen, or what its author said.
fn why<'c>(cx: &'c Cx, release: &WantedRelease, serving: Option<&Record>) -> &'c str {
    let choice = cx.target.choice().filter(|choice| !choice.why.is_empty());
    let is_other = serving.is_none_or(|serving| serving.content.digest != release.image.digest);
    choice
        .filter(|_| is_other)
        .map_or(&cx.origin.cause, |choice| &choice.why)
}
