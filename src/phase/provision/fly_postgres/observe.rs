//! Reads the cluster.

use std::collections::BTreeSet;

use super::{
    machine::{self, primary},
    state::{CONSUL, ClusterState, PASSWORDS, data_volumes, password_keys, unusable},
};
use crate::{
    api::{provision::FlyPostgres as Spec, status::ExternalObject},
    error::Error,
    phase::{
        app_lookup::{AppLookup, look_up},
        database::Database,
        lost::{self, Lost},
        names::{self, DATABASE_URL},
        provision::stored_values,
    },
    pipeline::{Cx, Note, StepId, step::Result},
    plan::Target,
    store::claim,
};

/// Kind of the cluster in `status.external[]`.
pub const KIND: &str = crate::api::status::ExternalKind::FlyPostgres.as_str();

/// Fact: the size of the smallest volume, in GB.
#[derive(Debug)]
struct SmallestVolume(u32);

/// Reads the cluster.
///
/// # Errors
/// When Fly.io or Kubernetes does not answer.
pub async fn observe(cx: &Cx, spec: &Spec) -> Result<ClusterState> {
    let before = cx.facts.get::<Database>();
    let state = observe_cluster(cx, spec).await?;
    let gone = match &state {
        ClusterState::Outside { lookup, .. } => matches!(lookup, AppLookup::NotFound),
        ClusterState::Inside {
            volumes, machines, ..
        } => machines.is_empty() && data_volumes(volumes).next().is_none(),
        ClusterState::Lost { .. } => false,
    };
    let lost = if gone { lost(cx) } else { None };
    let Some(lost) = lost else {
        lost::found(cx, StepId::Postgres);
        return Ok(state);
    };
    if !lost.is_sure()
        && let Some(before) = before
    {
        cx.facts.set((*before).clone());
    }
    let left = Box::new(state);
    Ok(ClusterState::Lost { lost, left })
}

/// The cluster that is on record, if the application has got its URL: then it has held data.
fn lost(cx: &Cx) -> Option<Lost> {
    let recorded = lost::recorded(cx, KIND)?.clone();
    let pushed = lost::pushed(cx, DATABASE_URL)?;
    let what = format!("the database of the Fly Postgres app {}", recorded.name);
    let marks = vec![lost::mark(&recorded.name, &pushed.fingerprint)];
    let records = vec![Note::External(recorded)];
    Some(Lost::new(cx, StepId::Postgres, what, (marks, records)))
}

/// Reads what there is of the cluster.
async fn observe_cluster(cx: &Cx, spec: &Spec) -> Result<ClusterState> {
    if let Some(unchanged) = observe_known(cx, spec).await? {
        return Ok(unchanged);
    }
    let name = names::postgres(&cx.target.app);
    let (lookup, claim) = futures::try_join!(
        look_up(cx, &name),
        claim::read(&cx.kube, &cx.installation.own_namespace, &name)
    )?;
    let ours = claim.as_ref().is_some_and(|claim| claim.is_of(&cx.owner));
    let usable =
        matches!(&lookup, AppLookup::Found(found) if unusable(found, &cx.target).is_none());
    if !ours || !usable {
        cx.facts.clear::<Database>();
        return Ok(ClusterState::Outside {
            lookup,
            claim: claim.map(Box::new),
            owner: cx.owner.clone(),
        });
    }
    observe_inside(cx, name).await
}

/// Reads only the machines of a cluster that was complete before: they show whether it still is.
async fn observe_known(cx: &Cx, spec: &Spec) -> Result<Option<ClusterState>> {
    let known = cx.facts.get::<Database>();
    let Some(Database::FlyPostgres { app, .. }) = known.as_deref() else {
        return Ok(None);
    };
    let machines = machine::list(cx, app).await?;
    let smallest = cx.facts.get::<SmallestVolume>();
    let large = smallest.is_some_and(|smallest| smallest.0 >= spec.volume_size_gb);
    let complete = machines.len() >= spec.count as usize && primary(&machines).is_some();
    Ok((large && complete).then_some(ClusterState::Inside {
        missing: BTreeSet::new(),
        stored: true,
        volumes: Vec::new(),
        machines,
    }))
}

/// Reads the secrets, volumes and machines of the app that is the cluster.
async fn observe_inside(cx: &Cx, app: String) -> Result<ClusterState> {
    let doing = |source| Error::fly(format!("read the Fly Postgres app {app}"), source);
    let secrets = async { cx.fly.secrets(&app, None).await.map_err(doing) };
    let volumes = async { cx.fly.volumes(&app).await.map_err(doing) };
    let (secrets, volumes, machines) =
        futures::try_join!(secrets, volumes, machine::list(cx, &app))?;
    let missing: BTreeSet<&'static str> = PASSWORDS
        .iter()
        .map(|(secret, _)| *secret)
        .chain([CONSUL])
        .filter(|wanted| !secrets.iter().any(|secret| secret.name == *wanted))
        .collect();
    let stored = missing.is_empty() || stored_values::are_stored(cx, &password_keys()).await?;
    let sizes = data_volumes(&volumes).map(|volume| volume.size_gb.unwrap_or(0));
    match sizes.min() {
        Some(size) => cx.facts.set(SmallestVolume(size)),
        None => cx.facts.clear::<SmallestVolume>(),
    }
    match primary(&machines) {
        Some(primary) => cx.facts.set(Database::FlyPostgres {
            app,
            primary: primary.id.clone(),
        }),
        None => cx.facts.clear::<Database>(),
    }
    Ok(ClusterState::Inside {
        missing,
        stored,
        volumes,
        machines,
    })
}

/// The notes for the status.
pub fn notes(target: &Target, state: &ClusterState) -> Vec<Note> {
    match state {
        ClusterState::Inside { .. } => vec![Note::External(ExternalObject {
            kind: KIND.to_owned(),
            id: names::postgres(&target.app),
            name: names::postgres(&target.app),
            ..ExternalObject::default()
        })],
        ClusterState::Lost { lost, .. } => lost.notes(),
        ClusterState::Outside { .. } => Vec::new(),
    }
}
