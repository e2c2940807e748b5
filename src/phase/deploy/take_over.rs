//! The machines of an app that was taken over: they get the marks of their new owner, which restarts
//! none of them. One that runs what it should is left alone; one that differs is updated in place by
//! the rollout, like any other.
//!
//! Only machines whose owner's claim has passed to us are taken over, and with `adoption: Always` all
//! that were there when the app was taken over. Metadata is set without a new version of the machine
//! (fly.io/docs/machines/api/machines-resource/, "Set metadata").

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use futures::future::join_all;
use jiff::Timestamp;

use super::{
    fleet::{readback, slots, wanted::WantedMachine},
    rollout,
};
use crate::{
    api::Reason,
    error::Error,
    fly::Machine,
    phase::{
        app_name::OwnClaim,
        app_secrets,
        marks::{CONFIG_KEY, RELEASE_KEY, SIZE_KEY, SLOT_KEY, UID_KEY},
        roster,
    },
    pipeline::{
        ChangeVerb, Cx, Owner, PlannedChange, Step, StepChange, StepId, Verdict, Why, step::Result,
    },
    plan::Target,
    store::{claim::Claim, owners},
};

/// The process group of a machine, as flyctl and Golive write it into its metadata.
const GROUP: &str = "fly_process_group";

/// Takes over the machines.
pub struct TakeOver;

/// Machines to take over.
#[derive(Debug)]
pub struct Observed {
    /// Whether the app was taken over.
    applies: bool,
    /// Machines carry the mark of another Activation, which exists.
    of_another: bool,
    taking: Vec<Taking>,
}

/// A machine that is taken over.
#[derive(Clone, Debug, PartialEq)]
pub struct Taking {
    id: String,
    name: String,
    marks: BTreeMap<String, Option<String>>,
}

/// Take over these machines.
#[derive(Debug)]
pub struct Change(Vec<Taking>);

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (same, other): (Vec<&Taking>, Vec<&Taking>) = self
            .0
            .iter()
            .partition(|taking| taking.marks.contains_key(CONFIG_KEY));
        let names = |list: &[&Taking]| {
            let names: Vec<&str> = list.iter().map(|taking| taking.name.as_str()).collect();
            names.join(", ")
        };
        match (same.is_empty(), other.is_empty()) {
            (_, true) => write!(f, "take over the machines {} as they run", names(&same)),
            (true, false) => write!(
                f,
                "take over the machines {}, which differ from the spec",
                names(&other)
            ),
            (false, false) => write!(
                f,
                "take over the machines {} as they run, and {}, which differ from the spec",
                names(&same),
                names(&other)
            ),
        }
    }
}

impl StepChange for Change {
    fn planned(&self) -> Vec<PlannedChange> {
        let of = |same: bool| {
            let all = self.0.iter();
            let some = all.filter(move |taking| taking.marks.contains_key(CONFIG_KEY) == same);
            let names: Vec<&str> = some.map(|taking| taking.name.as_str()).collect();
            (!names.is_empty()).then(|| {
                let claim = PlannedChange::of_all(ChangeVerb::Claim, roster::MACHINE, names);
                claim.set("differs from the spec", if same { "no" } else { "yes" })
            })
        };
        of(true).into_iter().chain(of(false)).collect()
    }
}

/// What decides which machines are taken over, and as what.
struct Inventory<'a> {
    /// The machines that should exist, with our marks.
    wanted: &'a [WantedMachine],
    /// The same with the marks of each former owner, by UID.
    former: &'a BTreeMap<String, Vec<WantedMachine>>,
    /// Our machines.
    ours: &'a [Machine],
    /// The secrets that were pushed are those that the app had.
    same_secrets: bool,
}

impl Inventory<'_> {
    /// What becomes of each of these machines. One for which there is no place is left alone.
    fn taking(&self, others: &[Machine]) -> Vec<Taking> {
        let marked = |machine: &&Machine| machine.metadata(SLOT_KEY).is_some();
        let all = || self.ours.iter().chain(others);
        let mut filled: BTreeSet<&str> = all().filter_map(|m| m.metadata(SLOT_KEY)).collect();
        let mut taking: Vec<Taking> = Vec::new();
        for machine in others.iter().filter(marked) {
            taking.push(self.known(machine));
        }
        for machine in others.iter().filter(|machine| !marked(machine)) {
            let fits = |wanted: &&WantedMachine| {
                let is_standby = machine
                    .config
                    .as_ref()
                    .is_some_and(|config| !config.standbys.is_empty());
                machine.metadata(GROUP) == Some(wanted.group.as_str())
                    && machine.region == wanted.region
                    && is_standby == wanted.standby
                    && !filled.contains(wanted.slot.as_str())
            };
            if let Some(wanted) = self.wanted.iter().find(fits) {
                filled.insert(&wanted.slot);
                taking.push(self.place(machine, wanted));
            }
        }
        taking
    }

    /// A machine that an Activation has made: it fills its slot.
    fn known(&self, machine: &Machine) -> Taking {
        let slot = machine.metadata(SLOT_KEY).unwrap_or_default();
        let in_slot = |list: &[WantedMachine]| list.iter().find(|w| w.slot == slot).cloned();
        let uid = self
            .wanted
            .first()
            .and_then(|w| w.config.metadata.get(UID_KEY));
        let only_owner = || Taking {
            id: machine.id.clone(),
            name: machine.name.clone(),
            marks: [(UID_KEY.to_owned(), uid.cloned())].into(),
        };
        let Some(wanted) = in_slot(self.wanted).filter(|_| !slots::runs_a_command(machine)) else {
            return only_owner();
        };
        let before = machine
            .metadata(UID_KEY)
            .and_then(|uid| self.former.get(uid));
        let given = before
            .and_then(|list| in_slot(list))
            .is_some_and(|before| before.was_given_to(machine));
        if given {
            marks_of(machine, &wanted, true)
        } else {
            self.place(machine, &wanted)
        }
    }

    /// A machine that is to fill this slot: whether it runs what it should is found by comparison.
    fn place(&self, machine: &Machine, wanted: &WantedMachine) -> Taking {
        let same = self.same_secrets
            && wanted.has_image_of(machine)
            && machine.config.as_ref().is_some_and(|config| {
                readback::differences(&wanted.sized_as(Some(machine)).config, config).is_empty()
            });
        marks_of(machine, wanted, same)
    }
}

/// The marks for a machine in this slot; with `same` also that it was given its configuration.
fn marks_of(machine: &Machine, wanted: &WantedMachine, same: bool) -> Taking {
    let keys: &[&str] = if same {
        &[UID_KEY, SLOT_KEY, CONFIG_KEY, RELEASE_KEY, SIZE_KEY]
    } else {
        &[UID_KEY, SLOT_KEY]
    };
    let marks = keys.iter().filter_map(|key| {
        let value = wanted.config.metadata.get(*key)?;
        Some(((*key).to_owned(), Some(value.clone())))
    });
    Taking {
        id: machine.id.clone(),
        name: machine.name.clone(),
        marks: marks.collect(),
    }
}

/// Whether a machine that is not ours passes to us with the app.
fn passes(claim: &Claim, machine: &Machine) -> bool {
    let over = &claim.taken_over;
    let of_former = machine
        .metadata(UID_KEY)
        .is_some_and(|uid| over.former.contains(uid));
    let was_there = match (machine.created_at, claim.taken) {
        (Some(created), Some(taken)) => created <= taken,
        _ => true,
    };
    of_former || (over.everything && was_there)
}

/// Whether one of these machines carries the mark of an Activation that exists and whose app did not
/// pass to us.
async fn is_of_another(cx: &Cx, claim: &Claim, machines: &[Machine]) -> Result<bool> {
    let uids = machines
        .iter()
        .filter_map(|machine| machine.metadata(UID_KEY));
    let uids = uids.filter(|uid| !claim.taken_over.former.contains(*uid));
    let uids = uids.map(str::to_owned).collect();
    owners::exist(&cx.kube, &cx.installation.watched, &uids).await
}

impl Step for TakeOver {
    type Observed = Observed;
    type Change = Change;

    fn id(&self) -> StepId {
        StepId::TakeOver
    }

    fn needs(&self) -> &'static [StepId] {
        &[StepId::SetSecrets]
    }

    /// What was there when the app was taken over is taken over once.
    fn rechecked(&self) -> bool {
        false
    }

    async fn observe(&self, cx: &Cx) -> Result<Observed> {
        let claim = cx.facts.get::<OwnClaim>();
        let Some(claim) = claim.filter(|claim| claim.0.taken_over.is_any()) else {
            return Ok(Observed {
                applies: false,
                of_another: false,
                taking: Vec::new(),
            });
        };
        let (ours, mut others) = roster::all(cx).await?;
        others.retain(|machine| passes(&claim.0, machine));
        if others.is_empty() {
            return Ok(Observed {
                applies: true,
                of_another: false,
                taking: Vec::new(),
            });
        }
        if is_of_another(cx, &claim.0, &others).await? {
            return Ok(Observed {
                applies: true,
                of_another: true,
                taking: Vec::new(),
            });
        }
        let machines: Vec<Machine> = ours.iter().chain(&others).cloned().collect();
        let wanted = rollout::wanted_by(cx, &cx.owner, &machines).await?;
        let mut former = BTreeMap::new();
        for uid in others
            .iter()
            .filter_map(|machine| machine.metadata(UID_KEY))
        {
            if !former.contains_key(uid) {
                let owner = Owner {
                    uid: uid.to_owned(),
                    ..cx.owner.clone()
                };
                let list = rollout::wanted_by(cx, &owner, &machines).await?;
                former.insert(uid.to_owned(), list);
            }
        }
        let inventory = Inventory {
            wanted: &wanted,
            former: &former,
            ours: &ours,
            same_secrets: app_secrets::had_same_values(cx),
        };
        Ok(Observed {
            applies: true,
            of_another: false,
            taking: inventory.taking(&others),
        })
    }

    fn diff(&self, _target: &Target, observed: &Observed, _now: Timestamp) -> Verdict<Change> {
        if observed.of_another {
            return Verdict::Blocked(
                Why::new(
                    Reason::AppClaimed,
                    "the machines of the app carry the mark of another Activation of this cluster, which exists",
                )
                .next("delete one of the two; the app and its machines stay with the other"),
            );
        }
        if !observed.applies {
            return Verdict::Skipped(Why::new(
                Reason::NotRequested,
                "the app was created by this Activation",
            ));
        }
        if observed.taking.is_empty() {
            return Verdict::Done;
        }
        Verdict::Change(Change(observed.taking.clone()))
    }

    async fn act(&self, cx: &Cx, Change(taking): Change) -> Result<()> {
        let app = &cx.target.app;
        // All run to their end, also when one fails: the outcome of a cancelled call is unknown.
        let sent = taking.iter().map(|taking| async move {
            let done = cx.fly.patch_metadata(app, &taking.id, &taking.marks, None);
            let doing = format!("take over the machine {} ({})", taking.name, taking.id);
            done.await.map_err(|source| Error::fly(doing, source))
        });
        let sent: Result<()> = join_all(sent).await.into_iter().collect();
        // They are listed from now on as ours.
        roster::note_unknown(cx);
        sent
    }
}

#[cfg(test)]
mod tests;
