//! What a deletion is about: whether anything was made or announced, and what remains.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    api::{ActivationStatus, StepId, policy::Deletion, status::ExternalKind},
    error::Error,
    phase::{names, provision::app_token_secret, releases::store as records},
    pipeline::Removal,
    reconcile::{begin::Pass, memory::Memory},
    store::{claim, generated::SecretStore, image},
};

/// Whether nothing was made for the object, and nothing was announced. A claim comes before the first
/// create, and what the status records is on Fly.io perhaps: then Fly.io is asked.
///
/// # Errors
/// When Kubernetes could not be read.
pub async fn is_nothing(pass: &Pass<'_>, memory: &Memory) -> Result<bool, Error> {
    let recorded = |status: &ActivationStatus| {
        !status.external.is_empty() || !status.intents.is_empty() || status.release.is_some()
    };
    let written = memory.published.status();
    let statuses = [written.as_ref(), pass.old.as_ref()];
    if statuses.into_iter().flatten().any(recorded) || !memory.wanted.intents.open().is_empty() {
        return Ok(false);
    }
    let (kube, own) = (&pass.context.kube, &pass.context.installation.own_namespace);
    let app = &pass.activation.spec.app;
    for app in [app, &names::postgres(app)] {
        let found = claim::read(kube, own, app).await?;
        if found.is_some_and(|claim| claim.is_of(pass.owner)) {
            return Ok(false);
        }
    }
    Ok(!app_token_secret::is_stored(kube, own, &pass.owner.uid).await?)
}

/// Removes what is stored in Kubernetes for an object that made nothing on Fly.io.
///
/// # Errors
/// When Kubernetes could not be read or written.
pub async fn remove_stored(pass: &Pass<'_>) -> Result<(), Error> {
    let (kube, owner) = (&pass.context.kube, pass.owner);
    let own = &pass.context.installation.own_namespace;
    if pass.activation.spec.deletion_policy.secrets == Deletion::Delete {
        let store = SecretStore::new(kube.clone(), owner.clone());
        store.delete().await?;
    }
    records::delete_all(kube, own, &owner.uid).await?;
    image::delete(kube, own, &owner.uid).await
}

/// The step whose removal removes things of this kind in `status.external`. One of a kind that this
/// version does not know counts as a part of the app.
fn step_of(kind: Option<ExternalKind>) -> StepId {
    use ExternalKind::{
        Address, App, Certificate, FlyPostgres, Machine, ManagedPostgres, UpstashRedis, Volume,
    };
    match kind {
        Some(ManagedPostgres | FlyPostgres) => StepId::Postgres,
        Some(UpstashRedis) => StepId::Redis,
        // They go with the app.
        Some(App | Machine | Volume | Address | Certificate) | None => StepId::App,
    }
}

/// What was removed so far, and what remains on Fly.io, from what the status records. Pure.
pub fn progress(old: Option<&ActivationStatus>, removals: &BTreeMap<StepId, Removal>) -> String {
    let mut removed = BTreeSet::new();
    let mut remaining: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
    for object in old.into_iter().flat_map(|old| &old.external) {
        let kind = object.kind.as_str();
        match removals.get(&step_of(ExternalKind::parse(kind))) {
            Some(Removal::Gone) => drop(removed.insert(format!("{kind} {}", object.name))),
            // It stays, as the deletion policy requires.
            Some(_) => {}
            None => {
                let (count, _) = remaining.entry(kind).or_insert((0, &object.name));
                *count += 1;
            }
        }
    }
    let removed = match removed.is_empty() {
        true => "nothing removed yet".to_owned(),
        false => format!(
            "removed {}",
            removed.into_iter().collect::<Vec<_>>().join(", ")
        ),
    };
    let remaining: Vec<String> = remaining
        .into_iter()
        .map(|(kind, (count, name))| match count {
            1 => format!("{kind} {name}"),
            _ => format!("{count} of kind {kind}"),
        })
        .collect();
    match remaining.as_slice() {
        [] => removed,
        remaining => format!("{removed}, remaining on Fly.io: {}", remaining.join(", ")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn status(external: &[(&str, &str)]) -> ActivationStatus {
        let external: Vec<_> = external
            .iter()
            .map(|(kind, name)| serde_json::json!({"kind": kind, "name": name}))
            .collect();
        serde_json::from_value(serde_json::json!({ "external": external })).unwrap()
    }

    #[test]
    fn each_kind_goes_with_the_step_that_removes_it() {
        let own: Vec<(&str, StepId)> = ExternalKind::ALL
            .iter()
            .map(|kind| (kind.as_str(), step_of(Some(*kind))))
            .filter(|(_, step)| *step != StepId::App)
            .collect();
        let expected = [
            ("ManagedPostgres", StepId::Postgres),
            ("FlyPostgres", StepId::Postgres),
            ("UpstashRedis", StepId::Redis),
        ];
        assert_eq!(own, expected);
        assert_eq!(step_of(ExternalKind::parse("Tigris")), StepId::App);
    }

    #[test]
    fn progress_names_what_was_removed_and_what_remains() {
        let old = status(&[
            ("App", "shop"),
            ("Machine", "a"),
            ("Machine", "b"),
            ("UpstashRedis", "shop-redis"),
            ("ManagedPostgres", "shop-db"),
        ]);
        assert_eq!(
            progress(Some(&old), &BTreeMap::new()),
            "nothing removed yet, remaining on Fly.io: App shop, 2 of kind Machine, ManagedPostgres shop-db, UpstashRedis shop-redis"
        );
        let removals = BTreeMap::from([
            (StepId::Redis, Removal::Gone),
            (StepId::Postgres, Removal::Retained(String::new())),
            (StepId::Verify, Removal::Gone),
        ]);
        assert_eq!(
            progress(Some(&old), &removals),
            "removed UpstashRedis shop-redis, remaining on Fly.io: App shop, 2 of kind Machine"
        );
        assert_eq!(progress(None, &BTreeMap::new()), "nothing removed yet");
    }
}
