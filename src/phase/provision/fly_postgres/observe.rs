//! Reads the cluster.

use std::collections::BTreeSet;

use super::{
    machine::{self, primary},
    state::{CONSUL, ClusterState, PASSWORDS, data_volumes, password_keys, unusable},
};
use crate::{
    api::{provision::FlyPostgres as Spec, status::ExternalObject},
    error::Error,
    fly::Machine,
    phase::{
        absence::{self, Doubt},
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

/// Kind of a machine of the cluster, where a look that does not show it is noted.
const MACHINE: &str = "FlyPostgresMachine";

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
        if matches!(state, ClusterState::Inside { .. }) {
            lost::found(cx, StepId::Postgres);
        } else {
            lost::not_missed(cx, StepId::Postgres);
        }
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
    if ours {
        is_there(cx, &name, &lookup)?;
    }
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
    observe_inside(cx, spec, name).await
}

/// Whether the app, which is ours by its claim, is where it was. One look that does not show it, or that
/// shows it as somebody else's, is no proof.
fn is_there(cx: &Cx, app: &str, lookup: &AppLookup) -> Result<()> {
    let recorded = cx.recorded.external.iter();
    let on_record = recorded
        .into_iter()
        .any(|object| object.kind == KIND && object.name == app);
    let doubt = match lookup {
        AppLookup::NotFound => Doubt::Gone,
        AppLookup::Forbidden => Doubt::NotOurs,
        AppLookup::Found(found) if unusable(found, &cx.target).is_some() => Doubt::NotOurs,
        AppLookup::Found(_) => {
            absence::cleared(cx, Doubt::Gone, KIND, app);
            absence::cleared(cx, Doubt::NotOurs, KIND, app);
            return Ok(());
        }
    };
    // What held data is looked at twice by `lost`, which then asks a person.
    let is_asked_about = doubt == Doubt::Gone && lost(cx).is_some();
    if !on_record || is_asked_about {
        return Ok(());
    }
    match absence::seen(cx, doubt, KIND, app) {
        Some(again) => Err(Error::NotSeen {
            what: format!("the Fly Postgres app {app}"),
            again,
        }),
        None => Ok(()),
    }
}

/// A machine or a volume of the cluster that the lists do not name, although the application has used
/// the cluster or this process has seen it complete, is looked for once more before one is made.
fn is_complete(cx: &Cx, spec: &Spec, app: &str, machines: &[Machine]) -> Result<()> {
    let was_complete =
        cx.facts.get::<Database>().is_some() || lost::pushed(cx, DATABASE_URL).is_some();
    for number in 0..spec.count {
        let name = format!("{app}-{number}");
        if machines.iter().any(|machine| machine.name == name) {
            absence::cleared(cx, Doubt::Gone, MACHINE, &name);
        } else if was_complete && let Some(again) = absence::seen(cx, Doubt::Gone, MACHINE, &name) {
            return Err(Error::NotSeen {
                what: format!("the database machine {name}"),
                again,
            });
        }
    }
    Ok(())
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
async fn observe_inside(cx: &Cx, spec: &Spec, app: String) -> Result<ClusterState> {
    let doing = |source| Error::fly(format!("read the Fly Postgres app {app}"), source);
    let secrets = async { cx.fly.secrets(&app, None).await.map_err(doing) };
    let volumes = async { cx.fly.volumes(&app).await.map_err(doing) };
    let (secrets, volumes, machines) =
        futures::try_join!(secrets, volumes, machine::list(cx, &app))?;
    // A cluster without any machine or volume is for `lost`, as far as it has held data.
    let is_empty = machines.is_empty() && data_volumes(&volumes).next().is_none();
    if !is_empty {
        is_complete(cx, spec, &app, &machines)?;
    }
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
