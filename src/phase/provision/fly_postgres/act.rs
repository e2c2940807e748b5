//! Changes the cluster, and removes it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use secrecy::SecretString;

use super::{
    decide::ClusterChange,
    machine,
    observe::KIND,
    state::{CONSUL, PASSWORDS, VOLUME, password_keys},
};
use crate::{
    api::{Reason, policy::Deletion, provision::FlyPostgres as Spec},
    error::Error,
    fly::{self, NewVolume, fly_postgres::POSTGRES_CLUSTER},
    phase::{
        absence, already,
        app_lookup::{AppLookup, is_name_taken, look_up},
        app_name::APP,
        names,
        provision::{
            ours::{Presence, presence, unconfirmed},
            stored_values,
        },
    },
    pipeline::{Cx, Removal, Why, step::Result},
    store::claim::{self, TakenOver, Terms},
};

/// Journal: the version of the app's secrets that this process set, which its machines must see.
#[derive(Debug)]
struct SecretsVersion(u64);

/// Makes one change.
///
/// # Errors
/// When Fly.io or Kubernetes refuses or does not answer.
pub async fn act(cx: &Cx, spec: &Spec, change: ClusterChange) -> Result<()> {
    let doing = change.to_string();
    let fly = |result: fly::Result<()>| result.map_err(|source| Error::fly(doing, source));
    match change {
        ClusterChange::Claim { app, before } => {
            let terms = Terms {
                organization: &cx.target.organization,
                taken: Some(cx.fly_now()),
                made: &BTreeSet::new(),
                taken_over: &TakenOver::default(),
            };
            let (kube, namespace) = (&cx.kube, &cx.installation.own_namespace);
            claim::take(kube, namespace, &app, &cx.owner, before.as_deref(), &terms).await
        }
        ClusterChange::Create(app) => fly(create(cx, app).await),
        ClusterChange::Generate(_) => stored_values::ensure_passwords(cx, &password_keys())
            .await
            .map(drop),
        ClusterChange::Secrets(app, names) => set_secrets(cx, &app, &names).await,
        ClusterChange::Volume(app, _) => {
            let volume = NewVolume {
                name: VOLUME.to_owned(),
                region: cx.target.region.clone(),
                size_gb: Some(spec.volume_size_gb),
                encrypted: Some(true),
                require_unique_zone: Some(true),
                compute: crate::flytoml::parse_size(&spec.size).ok(),
                ..NewVolume::default()
            };
            fly(cx.fly.create_volume(&app, &volume).await.map(drop))
        }
        ClusterChange::Machine { app, name, volume } => {
            let secrets = cx.journal.get::<SecretsVersion>().map(|version| version.0);
            let new = machine::request(cx, spec, name, volume, secrets).await?;
            // Names are unique in the app, and the app is ours.
            let doing = format!("create a machine of the app {app}");
            let created = cx.fly.create_machine(&app, &new).await;
            already::exists_once(cx, doing, created)
        }
        ClusterChange::Start(app, id) => fly(cx.fly.start_machine(&app, &id, None).await),
        ClusterChange::Extend(app, id, size) => {
            fly(cx.fly.extend_volume(&app, &id, size).await.map(drop))
        }
    }
}

/// Creates the app that is the cluster.
async fn create(cx: &Cx, name: String) -> fly::Result<()> {
    let new = fly::NewApp {
        name,
        org_slug: cx.target.organization.clone(),
        role: Some(POSTGRES_CLUSTER.to_owned()),
        ..fly::NewApp::default()
    };
    match cx.fly.create_app(&new).await {
        // Our first request, whose reply was lost: the next observation tells.
        Err(error) if is_name_taken(&error) && is_visible(cx, &new.name).await => Ok(()),
        other => other.map(drop),
    }
}

async fn is_visible(cx: &Cx, app: &str) -> bool {
    matches!(look_up(cx, app).await, Ok(AppLookup::Found(_)))
}

/// Sets the secrets that are missing; the passwords are stored already.
async fn set_secrets(cx: &Cx, app: &str, names: &BTreeSet<&'static str>) -> Result<()> {
    let stored = stored_values::ensure_passwords(cx, &password_keys()).await?;
    let mut values: BTreeMap<String, Option<SecretString>> = PASSWORDS
        .iter()
        .filter(|(name, _)| names.contains(name))
        .filter_map(|(name, key)| Some(((*name).to_owned(), Some(stored.get(*key)?.clone()))))
        .collect();
    if names.contains(CONSUL) {
        let url = cx.fly.enable_postgres_consul(app).await;
        let url = url.map_err(|source| Error::fly("have Fly.io set up Consul", source))?;
        values.insert(CONSUL.to_owned(), Some(url));
    }
    let written = cx.fly.set_secrets(app, &values).await;
    let written =
        written.map_err(|source| Error::fly(format!("set the secrets of {app}"), source))?;
    if let Some(version) = written.version() {
        cx.journal.set(SecretsVersion(version));
    }
    Ok(())
}

/// A server whose claim is lost is not deleted, for nothing proves whose it is; one that is on record as
/// ours and exists is told.
async fn without_claim(cx: &Cx, name: &str) -> Result<Removal> {
    let mut recorded = cx.recorded.external.iter();
    if !recorded.any(|object| object.kind == KIND && object.name == name) {
        return Ok(Removal::Gone);
    }
    Ok(match presence(cx, name).await? {
        Presence::Unclear(removal) => removal,
        Presence::Here => Removal::Retained(format!(
            "the Fly Postgres app {name}, on which there is no claim any more"
        )),
        Presence::Nowhere | Presence::Elsewhere(_) => Removal::Gone,
    })
}

/// Deletes the cluster with its data, or retains it, as the deletion policy says.
///
/// # Errors
/// When Fly.io or Kubernetes refuses or does not answer.
pub async fn remove(cx: &Cx) -> Result<Removal> {
    let name = names::postgres(&cx.target.app);
    let (kube, namespace) = (&cx.kube, &cx.installation.own_namespace);
    let Some(claim) = claim::read(kube, namespace, &name).await? else {
        return without_claim(cx, &name).await;
    };
    if !claim.is_of(&cx.owner) {
        return Ok(Removal::Gone);
    }
    let found = presence(cx, &name).await?;
    if let Presence::Unclear(removal) = found {
        return Ok(removal);
    }
    if found == Presence::Here {
        if cx.target.deletion.database == Deletion::Retain {
            claim::retain(kube, namespace, &name, &cx.owner, &claim, &claim.made).await?;
            return Ok(Removal::Retained(format!("the Fly Postgres app {name}")));
        }
        if !cx.target.data_deletion_confirmed {
            return Ok(unconfirmed(cx, &format!("the Fly Postgres app {name}")));
        }
        let deleted = cx.fly.delete_app(&name, true).await;
        deleted.map_err(|source| Error::fly(format!("delete the app {name}"), source))?;
        absence::deletion_accepted(cx, APP, &name);
        match presence(cx, &name).await? {
            Presence::Here => {
                return Ok(Removal::Pending {
                    why: Why::new(Reason::Deleting, format!("the app {name} is being deleted")),
                    again: Duration::from_secs(1),
                });
            }
            Presence::Unclear(removal) => return Ok(removal),
            Presence::Nowhere | Presence::Elsewhere(_) => {}
        }
    }
    claim::give_back(kube, namespace, &name, &claim).await?;
    Ok(Removal::Gone)
}
