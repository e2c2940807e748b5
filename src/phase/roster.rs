//! Our machines as they were last observed. The Machines API allows one list of an app's machines a
//! second (burst 3), and five reads of each machine by its id (fly.io/docs/machines/api, rate
//! limits). So a list shows which machines exist, and observations soon after it read them by id.
//!
//! Only this process creates machines with our metadata, so that between two lists there are no
//! others than those that it created. After a call of unknown outcome all machines are listed.
//!
//! A list may lag behind, or be empty without a reason, so that it is never the only evidence about a
//! machine on record: what it shows older than it was seen before, and what it shows of a machine that
//! this process has destroyed, is read by id; and one that is not found counts as gone only after two
//! looks (`absence`).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use futures::future::try_join_all;

use super::{
    absence::{self, Doubt},
    marks::{RELEASE_KEY, SLOT_KEY, is_named_by_us, is_ours},
};
use crate::{
    error::Error,
    fly::{Machine, MachineState, machines::CheckResult},
    pipeline::{Cx, Owner, facts::Facts, step::Result, typed_map::TypedMap},
};

/// How old an observation may be that steps of one pass share.
const SHARED_FOR: Duration = Duration::from_millis(500);

/// How long after a list machines are read by id: lists at this pace stay within the rate limit.
const LISTED_FOR: Duration = Duration::from_millis(900);

/// Most machines that are read one by one; for more of them a list is cheaper. Only those are read
/// that change or were just changed: healthy and stopped machines are as they were listed.
const ONE_BY_ONE: usize = 12;

/// The kind of a machine in `status.external`.
pub const MACHINE: &str = crate::api::status::ExternalKind::Machine.as_str();

/// Our machines as they were last observed. A fact.
#[derive(Debug)]
struct Roster {
    /// The pass that observed them: in a later pass they may have changed.
    pass: u64,
    /// When all machines were last listed.
    listed: Instant,
    /// When they were last listed or read.
    read: Instant,
    machines: Vec<Machine>,
    /// Live machines of the app that are not ours, when all were last listed.
    others: Vec<Machine>,
    /// A machine was not found, which one look does not prove: pause until the next one.
    doubt: Option<Duration>,
}

/// Most destroyed machines that are remembered.
const REMEMBERED: usize = 256;

/// Journal: the machines whose destruction Fly.io has accepted, by id, and when.
#[derive(Clone, Debug, Default)]
struct Destroyed(BTreeMap<String, Instant>);

/// What this process has sent since the machines were last observed. In the journal.
#[derive(Clone, Debug, Default)]
struct Sent {
    /// Ids of the machines that it changed.
    changed: BTreeSet<String>,
    /// Machines that it created.
    created: Vec<Machine>,
    /// The newest that the answer to an update said of a machine, by its id.
    updated: BTreeMap<String, i64>,
    /// The outcome of a call is unknown, so that only a list shows which machines exist.
    unknown: bool,
}

/// What is known before machines are read.
struct Known {
    listed: Instant,
    changed: BTreeSet<String>,
    updated: BTreeMap<String, i64>,
    unknown: bool,
    machines: Vec<Machine>,
    others: Vec<Machine>,
}

impl Known {
    /// Whether the machine may have changed by itself since it was listed.
    fn may_have_changed(&self, machine: &Machine) -> bool {
        let settled = match machine.state {
            // One without checks is watched, and only a read shows whether it has ended.
            MachineState::Started => {
                let mut checks = machine.checks.iter();
                !machine.checks.is_empty()
                    && checks.all(|check| check.status == CheckResult::Passing)
            }
            MachineState::Stopped | MachineState::Suspended => true,
            _ => false,
        };
        !settled || self.changed.contains(&machine.id)
    }

    /// Whether a list shows a machine as it was before: older than it was seen already, or without
    /// the change that this process has sent since. Fly.io's own times are compared with each other.
    fn is_stale(&self, listed: &Machine) -> bool {
        let shown = news(listed);
        if let Some(updated) = self.updated.get(&listed.id) {
            return shown < *updated;
        }
        let mut before = self.machines.iter();
        let before = before.find(|machine| machine.id == listed.id).map(news);
        match before {
            None => false,
            Some(before) if self.changed.contains(&listed.id) => shown <= before,
            Some(before) => shown < before,
        }
    }
}

/// The time of the newest thing that Fly.io says of a machine, in milliseconds.
fn news(machine: &Machine) -> i64 {
    let changed = machine.updated_at.map(|at| at.as_millisecond());
    let events = machine.events.iter().filter_map(|event| event.timestamp);
    let checks = machine.checks.0.iter();
    let checks = checks.filter_map(|check| Some(check.updated_at?.as_millisecond()));
    events
        .chain(checks)
        .chain(changed)
        .max()
        .unwrap_or(i64::MIN)
}

/// The app's machines that are ours and not destroyed.
///
/// # Errors
/// When Fly.io does not answer.
pub async fn ours(cx: &Cx) -> Result<Vec<Machine>> {
    let roster = cx.facts.get::<Roster>();
    let sent = cx.journal.get::<Sent>();
    if let Some(roster) = &roster
        && sent.is_none()
        && roster.pass == cx.pass
        && roster.read.elapsed() < SHARED_FOR
    {
        return Ok(roster.machines.clone());
    }
    let sent = sent.map(|sent| (*sent).clone()).unwrap_or_default();
    let known_ids = known_ids(cx, roster.as_deref());
    let known = roster.map(|roster| with_sent(&roster, sent));
    let mut doubt = None;
    let read = match &known {
        Some(known) if !known.unknown && known.listed.elapsed() < LISTED_FOR => {
            let (moving, settled): (Vec<&Machine>, Vec<&Machine>) = known
                .machines
                .iter()
                .partition(|machine| known.may_have_changed(machine));
            if moving.len() <= ONE_BY_ONE {
                let read = read(cx, &moving).await?;
                read.map(|mut machines| {
                    machines.extend(settled.into_iter().cloned());
                    (known.listed, machines)
                })
            } else {
                None
            }
        }
        _ => None,
    };
    let (listed, machines, others) = match read {
        Some((listed, machines)) => (listed, machines, known.map(|known| known.others)),
        None => {
            let begun = Instant::now();
            let listed = list(cx).await?;
            let (unlisted, left) = unlisted(cx, known.as_ref(), &listed).await?;
            doubt = left;
            let listed = confirmed(cx, known.as_ref(), listed).await?;
            (begun, listed.into_iter().chain(unlisted).collect(), None)
        }
    };
    let live = machines
        .into_iter()
        .filter(|machine| !machine.state.is_over());
    let (ours, not_ours) = divide(live.collect(), &cx.owner, &known_ids);
    if ours.iter().any(|machine| of_app(&machine)) {
        cx.journal.clear::<AppGone>();
    }
    cx.facts.set(Roster {
        pass: cx.pass,
        listed,
        read: Instant::now(),
        machines: ours.clone(),
        others: others.unwrap_or(not_ours),
        doubt,
    });
    cx.journal.clear::<Sent>();
    Ok(ours)
}

/// The pause until the next look, while a machine on record was not found at the last one. It counts
/// as it was seen before.
pub fn doubt(cx: &Cx) -> Option<Duration> {
    cx.facts.get::<Roster>()?.doubt
}

/// Whether it is one of the application's, and not one for a command.
fn of_app(machine: &&Machine) -> bool {
    let slot = machine.metadata(SLOT_KEY);
    !slot.is_some_and(|slot| slot.contains('/'))
}

/// Whether one of our machines had this release when they were last observed, by its key and by the digest
/// of its image; those that run a command do not count. Two releases may have one image and differ in their
/// environment. `None`: there were none, or none of them says what it has.
pub fn runs(facts: &Facts, key: &str, digest: &str) -> Option<bool> {
    let roster = facts.get::<Roster>()?;
    let machines: Vec<&Machine> = roster.machines.iter().filter(of_app).collect();
    let release = |machine: &&Machine| {
        let image = machine.image_ref.as_ref();
        let image = image.and_then(|image| image.digest.as_deref());
        let key = machine.metadata(RELEASE_KEY).map(|marked| marked == key);
        // Fly.io may have reverted an update: then the mark is that of one release, and the image of another.
        match (key, image.map(|image| image == digest)) {
            (None, None) => None,
            (key, image) => Some(key.unwrap_or(true) && image.unwrap_or(true)),
        }
    };
    let known: Vec<bool> = machines.iter().filter_map(release).collect();
    let all_are_known = !known.is_empty() && known.len() == machines.len();
    match known.contains(&true) {
        true => Some(true),
        false => all_are_known.then_some(false),
    }
}

/// Whether our machines have this release and no other, by its key, as they were last observed for any of
/// these targets; those that run a command do not count. `None`: there were none, or nobody has looked.
pub fn runs_only<'f>(facts: impl IntoIterator<Item = &'f Facts>, key: &str) -> Option<bool> {
    let rosters = facts.into_iter().filter_map(Facts::get::<Roster>);
    let roster = rosters.max_by_key(|roster| roster.read)?;
    let mut machines = roster.machines.iter().filter(of_app).peekable();
    machines.peek()?;
    Some(machines.all(|machine| machine.metadata(RELEASE_KEY) == Some(key)))
}

/// The machines of the application as they were last observed, those that run a command left out; `None`
/// if nobody has looked.
pub fn last_seen(facts: &Facts) -> Option<Vec<Machine>> {
    let roster = facts.get::<Roster>()?;
    let machines = roster.machines.iter().filter(of_app);
    Some(machines.cloned().collect())
}

/// The live machines of the app that are not ours, when all were last listed. [`ours`] lists them.
pub fn others(cx: &Cx) -> Vec<Machine> {
    let roster = cx.facts.get::<Roster>();
    roster.map_or_else(Vec::new, |roster| roster.others.clone())
}

/// Ids of the machines that were ours before: as observed last, and as the status records them.
fn known_ids(cx: &Cx, roster: Option<&Roster>) -> BTreeSet<String> {
    let observed = roster.into_iter().flat_map(|roster| &roster.machines);
    let recorded = cx.recorded.external.iter();
    let recorded = recorded.filter(|object| object.kind == MACHINE);
    observed
        .map(|machine| machine.id.clone())
        .chain(recorded.map(|object| object.id.clone()))
        .collect()
}

/// Divides machines into ours and others. A copy of one of our machines has our metadata too, as
/// `fly scale count` and `fly machine clone` make it (flyctl, `internal/command/scale`): it was made
/// by somebody else while the machine that it copies is there. Pure.
fn divide(
    machines: Vec<Machine>,
    owner: &Owner,
    known: &BTreeSet<String>,
) -> (Vec<Machine>, Vec<Machine>) {
    let original = |machine: &Machine| is_named_by_us(machine) || known.contains(&machine.id);
    let slots: BTreeSet<String> = machines
        .iter()
        .filter(|machine| is_ours(machine, owner) && original(machine))
        .filter_map(|machine| machine.metadata(SLOT_KEY).map(str::to_owned))
        .collect();
    let filled = |machine: &Machine| {
        let slot = machine.metadata(SLOT_KEY);
        slot.is_some_and(|slot| slots.contains(slot))
    };
    machines
        .into_iter()
        .partition(|machine| is_ours(machine, owner) && (original(machine) || !filled(machine)))
}

/// All machines of the app that are not destroyed: ours, and those of others.
///
/// # Errors
/// When Fly.io does not answer.
pub async fn all(cx: &Cx) -> Result<(Vec<Machine>, Vec<Machine>)> {
    let listed = list(cx).await?;
    let (unlisted, _) = unlisted(cx, None, &listed).await?;
    Ok(listed
        .into_iter()
        .chain(unlisted)
        .filter(|machine| !machine.state.is_over())
        .partition(|machine| is_ours(machine, &cx.owner)))
}

/// The machines that were observed, and those that this process has created since.
fn with_sent(roster: &Roster, sent: Sent) -> Known {
    let mut machines = roster.machines.clone();
    machines.retain(|machine| sent.created.iter().all(|new| new.id != machine.id));
    machines.extend(sent.created);
    Known {
        listed: roster.listed,
        changed: sent.changed,
        updated: sent.updated,
        unknown: sent.unknown,
        machines,
        others: roster.others.clone(),
    }
}

/// Lists the machines before the steps that need them run. A failure is only logged: the steps list
/// them again.
pub async fn ahead(cx: &Cx) {
    if let Err(error) = ours(cx).await {
        tracing::debug!(%error, "the machines were not listed ahead");
    }
}

async fn list(cx: &Cx) -> Result<Vec<Machine>> {
    let machines = cx.fly.machines(&cx.target.app, &[]).await;
    machines.map_err(|source| Error::fly("list the machines of the app", source))
}

/// Reads by id what a list shows older than it is known, and the machines that this process has
/// destroyed: what is going is not ours any more.
async fn confirmed(cx: &Cx, known: Option<&Known>, listed: Vec<Machine>) -> Result<Vec<Machine>> {
    let destroyed = cx.journal.get::<Destroyed>().unwrap_or_default();
    let settle = cx.installation.timing.settle;
    let one = |machine: Machine| {
        let destroyed = destroyed.0.get(&machine.id).copied();
        async move {
            let is_stale = known.is_some_and(|known| known.is_stale(&machine));
            if machine.state.is_over() || destroyed.is_none() && !is_stale {
                return Ok::<_, Error>(Some(machine));
            }
            let found = by_id(cx, &machine.id).await?;
            Ok(match destroyed {
                // A look that does not find what the list shows proves nothing.
                None => found.or(Some(machine)),
                // It goes on living: whatever has become of the request, it is not done.
                Some(at) => found.filter(|_| at.elapsed() > settle),
            })
        }
    };
    let all = try_join_all(listed.into_iter().map(one)).await?;
    Ok(all.into_iter().flatten().collect())
}

/// Machines that are on record and not on the list. A machine that can be read by its id exists,
/// whatever the list says. One that cannot counts as it was seen before until a second look, after the
/// pause that is returned.
async fn unlisted(
    cx: &Cx,
    known: Option<&Known>,
    listed: &[Machine],
) -> Result<(Vec<Machine>, Option<Duration>)> {
    let before = known.into_iter().flat_map(|known| &known.machines);
    let known = before.clone().map(|machine| machine.id.as_str());
    let destroyed = cx.journal.get::<Destroyed>().unwrap_or_default();
    let recorded = cx
        .recorded
        .external
        .iter()
        .filter(|object| object.kind == MACHINE);
    let recorded = recorded.map(|object| object.id.as_str());
    let missing: BTreeSet<&str> = known
        .chain(recorded)
        .filter(|id| !id.is_empty() && !listed.iter().any(|machine| machine.id == *id))
        .filter(|id| !destroyed.0.contains_key(*id))
        .collect();
    for machine in listed {
        absence::cleared(cx, Doubt::Gone, MACHINE, &machine.id);
    }
    let read = missing.iter().map(|id| by_id(cx, id));
    let found = try_join_all(read).await?;
    let mut machines = Vec::new();
    let mut doubts = Vec::new();
    // The look counts for each of them before anything is decided: those that went together are gone together.
    for (id, found) in missing.into_iter().zip(found) {
        if let Some(found) = found {
            absence::cleared(cx, Doubt::Gone, MACHINE, id);
            machines.push(found);
        } else if let Some(left) = absence::seen(cx, Doubt::Gone, MACHINE, id) {
            doubts.push((id, left));
        }
    }
    let (held, doubt) = held(&doubts, before)?;
    machines.extend(held);
    Ok((machines, doubt))
}

/// The machines that one look did not find, each as it was seen before, and the pause until the second look. Pure.
///
/// # Errors
/// When one of them was never seen: nothing is known of it.
fn held<'m>(
    doubts: &[(&str, Duration)],
    before: impl Iterator<Item = &'m Machine> + Clone,
) -> Result<(Vec<Machine>, Option<Duration>)> {
    let mut machines = Vec::new();
    for (id, left) in doubts {
        let Some(last) = before.clone().find(|machine| machine.id == *id) else {
            return Err(Error::NotSeen {
                what: format!("the machine {id}"),
                again: *left,
            });
        };
        machines.push(last.clone());
    }
    let soonest = doubts.iter().map(|(_, left)| *left).min();
    Ok((machines, soonest))
}

async fn by_id(cx: &Cx, id: &str) -> Result<Option<Machine>> {
    let found = cx.fly.machine(&cx.target.app, id).await;
    found.map_err(|source| Error::fly(format!("read the machine {id}"), source))
}

/// Reads these machines again, each by its id; `None` when one is not found: it may be gone, or too
/// new for the server that answered.
async fn read(cx: &Cx, machines: &[&Machine]) -> Result<Option<Vec<Machine>>> {
    let read = machines.iter().map(|machine| by_id(cx, &machine.id));
    let found = try_join_all(read).await?;
    Ok(found.into_iter().collect())
}

/// Notes that this process has changed these machines, by id: they are read again.
pub fn note_changed(cx: &Cx, ids: impl IntoIterator<Item = String>) {
    cx.journal
        .change_or_default::<Sent>(|sent| sent.changed.extend(ids));
}

/// Notes that the app was created anew: the machines on record went with the one before, so that the first look which
/// does not find one of them is the second evidence.
pub fn note_app_created(cx: &Cx) {
    note_app_gone(cx);
    for id in known_ids(cx, cx.facts.get::<Roster>().as_deref()) {
        absence::deletion_accepted(cx, MACHINE, &id);
    }
    note_unknown(cx);
}

/// Journal: the app is gone, and every machine with it.
#[derive(Debug)]
struct AppGone;

/// Notes that the app is gone: two looks have shown it, or it was created anew.
pub fn note_app_gone(cx: &Cx) {
    cx.journal.set(AppGone);
}

/// Whether no machine of the application is left, as far as was observed: what was proven of them is gone. One look
/// proves nothing: a machine that it does not find counts as it was.
pub fn is_gone<'f>(facts: impl IntoIterator<Item = &'f Facts>, journal: &TypedMap) -> bool {
    let rosters = facts.into_iter().filter_map(Facts::get::<Roster>);
    let roster = rosters.max_by_key(|roster| roster.read);
    let is_empty = roster.is_some_and(|roster| !roster.machines.iter().any(|one| of_app(&one)));
    journal.get::<AppGone>().is_some() || is_empty
}

/// Journal: how often the first machine of the application was created, where there was none.
#[derive(Clone, Copy, Debug, Default)]
struct Fleets(u64);

/// How often this process has created a machine where the application had none. What was proven of the machines
/// before shows nothing of those that came after.
pub fn fleets(cx: &Cx) -> u64 {
    cx.journal.get::<Fleets>().map_or(0, |fleets| fleets.0)
}

/// Whether a machine that is created now is the first one of the application. Pure.
fn is_first<'m>(machine: &Machine, known: impl IntoIterator<Item = &'m Machine>) -> bool {
    let mut known = known.into_iter();
    of_app(&machine) && !known.any(|known| of_app(&known))
}

/// Notes that this process has created a machine, which a list may not name yet.
pub fn note_created(cx: &Cx, machine: &Machine) {
    let (roster, sent) = (cx.facts.get::<Roster>(), cx.journal.get::<Sent>());
    let observed = roster.iter().flat_map(|roster| &roster.machines);
    let created = sent.iter().flat_map(|sent| &sent.created);
    if is_first(machine, observed.chain(created)) {
        cx.journal
            .change_or_default::<Fleets>(|fleets| fleets.0 += 1);
    }
    cx.journal.change_or_default::<Sent>(|sent| {
        sent.created.retain(|other| other.id != machine.id);
        sent.created.push(machine.clone());
    });
}

/// Notes what the answer to an update said of a machine: an older list does not count.
pub fn note_updated(cx: &Cx, machine: &Machine) {
    let (id, news) = (machine.id.clone(), news(machine));
    cx.journal.change_or_default::<Sent>(|sent| {
        sent.updated.insert(id, news);
    });
}

/// Notes that Fly.io has accepted the destruction of a machine. It is not ours any more, whatever a
/// list shows of it.
pub fn note_destroyed(cx: &Cx, id: &str) {
    cx.journal.change_or_default::<Destroyed>(|destroyed| {
        destroyed.0.insert(id.to_owned(), Instant::now());
        if destroyed.0.len() > REMEMBERED {
            let first = destroyed.0.iter().min_by_key(|(_, at)| **at);
            if let Some(first) = first.map(|(id, _)| id.clone()) {
                destroyed.0.remove(&first);
            }
        }
    });
}

/// Notes that the outcome of a call is unknown: all machines are listed again.
pub fn note_unknown(cx: &Cx) {
    cx.journal
        .change_or_default::<Sent>(|sent| sent.unknown = true);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn machine(id: &str, name: &str, marks: serde_json::Value) -> Machine {
        let json = json!({
            "id": id, "name": name, "state": "started",
            "config": {"image": "x", "metadata": marks},
        });
        serde_json::from_value(json).unwrap()
    }

    fn ours_of(machines: &[Machine], known: &[&str]) -> Vec<String> {
        let owner = Owner {
            namespace: "ns".into(),
            name: "shop".into(),
            uid: "u1".into(),
            generation: 1,
        };
        let known = known.iter().map(|id| (*id).to_owned()).collect();
        let (ours, others) = divide(machines.to_vec(), &owner, &known);
        assert_eq!(ours.len() + others.len(), machines.len());
        ours.into_iter().map(|machine| machine.id).collect()
    }

    fn seen(id: &str, at: i64) -> Machine {
        let json = json!({
            "id": id, "name": id, "state": "started",
            "events": [{"type": "start", "timestamp": at}, {"type": "launch", "timestamp": 1}],
        });
        serde_json::from_value(json).unwrap()
    }

    fn known(machines: Vec<Machine>, changed: &[&str], updated: &[(&str, i64)]) -> Known {
        Known {
            listed: Instant::now(),
            changed: changed.iter().map(|id| (*id).to_owned()).collect(),
            updated: updated
                .iter()
                .map(|(id, at)| ((*id).to_owned(), *at))
                .collect(),
            unknown: false,
            machines,
            others: Vec::new(),
        }
    }

    #[test]
    fn of_two_looks_at_the_machines_the_later_one_says_what_runs() {
        let (earlier, later) = (Facts::default(), Facts::default());
        let (one, two) = (
            machine("m1", "m1", json!({RELEASE_KEY: "one"})),
            machine("m2", "m2", json!({RELEASE_KEY: "two"})),
        );
        let read = Instant::now();
        let roster = |machines: Vec<Machine>, read| Roster {
            pass: 1,
            listed: read,
            read,
            machines,
            others: Vec::new(),
            doubt: None,
        };
        let only = |key: &str| runs_only([&earlier, &later], key);
        assert_eq!(only("one"), None, "nobody has looked");
        earlier.set(roster(vec![one.clone()], read));
        assert_eq!(only("one"), Some(true));
        // A rollout has begun, which the other target has observed.
        later.set(roster(
            vec![one.clone(), two],
            read + Duration::from_secs(1),
        ));
        assert_eq!(only("one"), Some(false));
        earlier.set(roster(vec![one], read + Duration::from_secs(2)));
        assert_eq!(only("one"), Some(true), "it was taken back");
    }

    #[test]
    fn the_application_is_gone_when_its_last_machine_is_and_not_while_that_is_in_doubt() {
        let (facts, journal) = (Facts::default(), TypedMap::default());
        let roster = |machines: Vec<Machine>| Roster {
            pass: 1,
            listed: Instant::now(),
            read: Instant::now(),
            machines,
            others: Vec::new(),
            doubt: None,
        };
        assert!(!is_gone([&facts], &journal), "nobody has looked");
        // What one look did not find is held as it was.
        facts.set(roster(vec![machine("m1", "m1", json!({}))]));
        assert!(!is_gone([&facts], &journal));
        let command = json!({SLOT_KEY: "command/migrate"});
        facts.set(roster(vec![machine("c1", "c1", command)]));
        assert!(is_gone([&facts], &journal), "it serves nothing");
        facts.set(roster(vec![machine("m2", "m2", json!({}))]));
        assert!(!is_gone([&facts], &journal));
        journal.set(AppGone);
        assert!(is_gone([&facts], &journal), "they went with the app");
    }

    #[test]
    fn machines_that_one_look_did_not_find_are_as_they_were_until_the_next_one() {
        let before = [seen("m1", 1), seen("m2", 1)];
        let (soon, later) = (Duration::from_secs(3), Duration::from_secs(9));
        let (machines, pause) = held(&[("m1", later), ("m2", soon)], before.iter()).unwrap();
        let ids: Vec<&str> = machines.iter().map(|machine| machine.id.as_str()).collect();
        assert_eq!((ids, pause), (vec!["m1", "m2"], Some(soon)));
        let (none, pause) = held(&[], before.iter()).unwrap();
        assert_eq!((none.len(), pause), (0, None));
        // One that only the status knows.
        let unknown = held(&[("m1", later), ("m3", soon)], before.iter());
        assert!(
            matches!(&unknown, Err(Error::NotSeen { what, again }) if what.contains("m3") && *again == soon),
            "{unknown:?}"
        );
    }

    #[test]
    fn only_a_machine_that_is_created_where_there_is_none_begins_a_fleet() {
        let app = |id: &str| machine(id, id, json!({SLOT_KEY: "app-0"}));
        let command = machine("c1", "c1", json!({SLOT_KEY: "command/migrate"}));
        assert!(is_first(&app("m1"), []));
        assert!(is_first(&app("m1"), [&command]), "it runs a command");
        assert!(!is_first(&app("m2"), [&app("m1")]));
        assert!(!is_first(&command, []));
    }

    #[test]
    fn what_a_list_shows_older_than_it_was_seen_is_stale() {
        let before = known(vec![seen("m1", 50)], &[], &[]);
        assert!(before.is_stale(&seen("m1", 49)));
        assert!(!before.is_stale(&seen("m1", 50)));
        assert!(!before.is_stale(&seen("m2", 1)), "it was never seen");
        let cordoned = known(vec![seen("m1", 50)], &["m1"], &[]);
        assert!(cordoned.is_stale(&seen("m1", 50)), "without our change");
        assert!(!cordoned.is_stale(&seen("m1", 51)));
        let updated = known(vec![seen("m1", 50)], &["m1"], &[("m1", 60)]);
        assert!(updated.is_stale(&seen("m1", 55)));
        assert!(!updated.is_stale(&seen("m1", 60)), "as the answer said");
    }

    #[test]
    fn a_copy_of_our_machine_is_not_ours_while_the_machine_is_there() {
        let marks = json!({"golive_activation_uid": "u1", "golive_slot": "app-0"});
        let first = machine("m1", "golive-app-0", marks.clone());
        let copy = machine("m2", "silent-moon-1", marks.clone());
        let person = machine("m3", "person", json!({}));
        assert_eq!(ours_of(&[copy.clone(), first, person], &[]), ["m1"]);
        assert_eq!(
            ours_of(std::slice::from_ref(&copy), &[]),
            ["m2"],
            "it fills the slot"
        );
        // One that was taken over keeps its name; the status knows it.
        let adopted = machine("m4", "old-sun-2", marks);
        assert_eq!(ours_of(&[copy, adopted], &["m4"]), ["m4"]);
    }
}
