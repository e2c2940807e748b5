//! Which object is next. Pure: no clock, no I/O.
//!
//! The rules, in this order:
//!
//! 1. An object is in one pass at a time. What becomes due meanwhile is due again at its end.
//! 2. A namespace holds at most as many workers as it leaves free ([`may_take`]), so that a namespace
//!    that holds none finds one. Retries and re-checks together hold at most half of the workers.
//! 3. The most urgent kind is next: deletions and changes, then what is on its way, then retries, then
//!    re-checks. One of eight passes goes to the lane that has waited longest instead, so that nothing
//!    starves.
//! 4. Of a kind, the namespace with the fewest running passes is next, and of several the one that was
//!    served longest ago. Of a namespace, the object that has been due longest is next.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use super::{
    changes::Changes,
    tenant::{LANES, Tenant, lane},
    work::{Job, Kind, Object, Stall},
};
use crate::process::share::may_take;

/// One of this many passes is not for the most urgent lane but for the one that has waited longest.
const TURN: u64 = 8;

/// Lanes that are behind the others, and share half of the workers.
const BACKGROUND: std::ops::Range<usize> = 2..LANES;

/// Above this number, buckets of changes that are empty are removed.
const SWEEP_ABOVE: usize = 1_000;

/// How much may run at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Passes in all.
    pub workers: usize,
    /// Whether only one namespace is watched: there is nobody to share with.
    pub single: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            workers: 1,
            single: false,
        }
    }
}

/// An object that waits.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    kind: Kind,
    due: Instant,
    /// Whether it stands in a lane of its namespace, and not in `later`.
    ready: bool,
}

/// An object that is being worked on.
#[derive(Clone, Copy, Debug)]
struct Running {
    since: Instant,
    lane: usize,
    /// It became due again.
    again: Option<(Kind, Instant)>,
}

/// The namespaces whose objects are known, so that their work may begin.
#[derive(Debug)]
enum Open {
    All,
    Only(BTreeSet<String>),
}

/// All work.
#[derive(Debug)]
pub struct Queue {
    limits: Limits,
    open: Open,
    waiting: HashMap<Object, Waiting>,
    later: BTreeSet<(Instant, Object)>,
    running: HashMap<Object, Running>,
    tenants: BTreeMap<String, Tenant>,
    changes: HashMap<Object, Changes>,
    /// Passes that began.
    begun: u64,
    /// When a pass began or ended last.
    moved: Instant,
}

impl Queue {
    /// An empty queue that last moved at `now`. No namespace is open.
    pub fn new(limits: Limits, now: Instant) -> Self {
        Self {
            limits,
            open: Open::Only(BTreeSet::new()),
            waiting: HashMap::new(),
            later: BTreeSet::new(),
            running: HashMap::new(),
            tenants: BTreeMap::new(),
            changes: HashMap::new(),
            begun: 0,
            moved: now,
        }
    }

    /// Sets how much may run at once.
    pub fn limit(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// The objects of this namespace, or of all, have been listed: from now on they are worked on.
    /// Before that a change that is still to come in the list could stand behind older work.
    pub fn open(&mut self, namespace: Option<&str>) {
        match (namespace, &mut self.open) {
            (None, open) => *open = Open::All,
            (Some(_), Open::All) => {}
            (Some(namespace), Open::Only(open)) => {
                open.insert(namespace.to_owned());
            }
        }
    }

    /// An object is due at `due`. Of several, the earliest time and the most urgent kind count.
    /// Frequent changes of one object are delayed.
    pub fn add(&mut self, object: &Object, kind: Kind, due: Instant, now: Instant) {
        let counted = |kind| kind == Kind::Change;
        let known = match self.running.get(object) {
            Some(running) => running.again,
            None => self.waiting.get(object).map(|old| (old.kind, old.due)),
        };
        let due = if counted(kind) && !known.is_some_and(|(kind, _)| counted(kind)) {
            self.count_change(object, now).max(due)
        } else {
            due
        };
        let (kind, due) = match known {
            // The next pass sees both; a change that is delayed stays so.
            Some((old, at)) if counted(old) && counted(kind) => (kind, at),
            Some((old, at)) => (old.min(kind), at.min(due)),
            None => (kind, due),
        };
        match self.running.get_mut(object) {
            Some(running) => running.again = Some((kind, due)),
            None => self.wait(object, kind, due, now),
        }
    }

    /// The object whose pass begins now, if one may.
    pub fn next(&mut self, now: Instant) -> Option<Job> {
        self.promote(now);
        let lanes = self.order();
        let chosen = lanes.into_iter().find_map(|lane| self.choose(lane))?;
        let waiting = self.take_out(&chosen)?;
        self.begun += 1;
        self.moved = now;
        let running = Running {
            since: now,
            lane: lane(waiting.kind),
            again: None,
        };
        self.running.insert(chosen.clone(), running);
        let tenant = self.tenants.entry(chosen.namespace.clone()).or_default();
        tenant.running += 1;
        tenant.served = self.begun;
        Some(Job {
            object: chosen,
            kind: waiting.kind,
            waited: now.saturating_duration_since(waiting.due),
        })
    }

    /// The pass of an object has ended.
    pub fn finished(&mut self, object: &Object, now: Instant) {
        self.moved = now;
        let Some(ended) = self.running.remove(object) else {
            return;
        };
        if let Some(tenant) = self.tenants.get_mut(&object.namespace) {
            tenant.running = tenant.running.saturating_sub(1);
        }
        if let Some((kind, due)) = ended.again {
            self.wait(object, kind, due, now);
        }
        self.clear(&object.namespace);
    }

    /// The object is gone: nothing of it waits.
    pub fn forget(&mut self, object: &Object) {
        self.take_out(object);
        self.changes.remove(object);
        if let Some(running) = self.running.get_mut(object) {
            running.again = None;
        }
        self.clear(&object.namespace);
    }

    /// When the next object becomes due by itself.
    pub fn wakes_at(&self) -> Option<Instant> {
        self.later.first().map(|(due, _)| *due)
    }

    /// Number of objects that are due at `now`.
    pub fn depth(&self, now: Instant) -> usize {
        self.due(now).count()
    }

    /// Number of objects that are being worked on.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Age of all running work: the sum and the longest.
    pub fn under_way(&self, now: Instant) -> (Duration, Duration) {
        let times = self.running.values();
        let times = times.map(|running| now.saturating_duration_since(running.since));
        times.fold((Duration::ZERO, Duration::ZERO), |(sum, longest), time| {
            (sum.saturating_add(time), longest.max(time))
        })
    }

    /// The longest time that an object of each kind has been due; zero without one.
    pub fn longest_waits(&self, now: Instant) -> BTreeMap<Kind, Duration> {
        let mut longest: BTreeMap<Kind, Duration> =
            Kind::ALL.map(|kind| (kind, Duration::ZERO)).into();
        for (_, waiting) in self.due(now) {
            let known = longest.entry(waiting.kind).or_default();
            *known = (*known).max(now.saturating_duration_since(waiting.due));
        }
        longest
    }

    /// Whether work has been due for `limit` while nothing began or ended. What waits because its own
    /// namespace holds its share of the workers does not count.
    pub fn stalled(&self, now: Instant, limit: Duration) -> Option<Stall> {
        if now.saturating_duration_since(self.moved) < limit {
            return None;
        }
        let full = self.running.len() >= self.limits.workers;
        let waits = self.due(now);
        let waits = waits.filter(|(object, _)| full || self.may_take(&object.namespace));
        let since = waits
            .map(|(_, waiting)| now.saturating_duration_since(waiting.due))
            .max()?;
        (since >= limit).then(|| Stall {
            waiting: self.depth(now),
            since,
        })
    }

    /// What is due in open namespaces.
    fn due(&self, now: Instant) -> impl Iterator<Item = (&Object, &Waiting)> {
        self.waiting
            .iter()
            .filter(move |(object, waiting)| waiting.due <= now && self.is_open(&object.namespace))
    }

    /// Whether a namespace may hold one worker more.
    fn may_take(&self, namespace: &str) -> bool {
        let (all, taken) = (self.limits.workers, self.running.len());
        let held = self.tenants.get(namespace);
        let held = held.map_or(0, |tenant| tenant.running);
        taken < all && (self.limits.single || may_take(held, taken, all))
    }

    fn is_open(&self, namespace: &str) -> bool {
        match &self.open {
            Open::All => true,
            Open::Only(open) => open.contains(namespace),
        }
    }

    /// Counts a change, and returns when its pass may begin.
    fn count_change(&mut self, object: &Object, now: Instant) -> Instant {
        if self.changes.len() > SWEEP_ABOVE {
            self.changes.retain(|_, changes| !changes.is_over(now));
        }
        let changes = self.changes.entry(object.clone());
        changes.or_insert_with(|| Changes::none(now)).count(now)
    }

    /// Puts an object in its place, instead of where it waits.
    fn wait(&mut self, object: &Object, kind: Kind, due: Instant, now: Instant) {
        self.take_out(object);
        let ready = due <= now;
        let tenant = self.tenants.entry(object.namespace.clone()).or_default();
        if ready {
            if let Some(lane) = tenant.due.get_mut(lane(kind)) {
                lane.insert((due, object.name.clone()));
            }
        } else {
            tenant.later += 1;
            self.later.insert((due, object.clone()));
        }
        let waiting = Waiting { kind, due, ready };
        self.waiting.insert(object.clone(), waiting);
    }

    /// Takes an object out of where it waits.
    fn take_out(&mut self, object: &Object) -> Option<Waiting> {
        let waiting = self.waiting.remove(object)?;
        if let Some(tenant) = self.tenants.get_mut(&object.namespace) {
            if waiting.ready {
                if let Some(lane) = tenant.due.get_mut(lane(waiting.kind)) {
                    lane.remove(&(waiting.due, object.name.clone()));
                }
            } else {
                tenant.later = tenant.later.saturating_sub(1);
                self.later.remove(&(waiting.due, object.clone()));
            }
        }
        Some(waiting)
    }

    /// Moves what is due by now into the lanes.
    fn promote(&mut self, now: Instant) {
        while let Some((due, object)) = self.later.first().cloned() {
            if due > now {
                break;
            }
            let Some(waiting) = self.waiting.get(&object).copied() else {
                self.later.remove(&(due, object));
                continue;
            };
            self.wait(&object, waiting.kind, waiting.due, now);
        }
    }

    /// The lanes in the order in which they are served now.
    fn order(&self) -> [usize; LANES] {
        let mut lanes: [usize; LANES] = std::array::from_fn(|lane| lane);
        if self.begun % TURN == TURN - 1 {
            let since = |lane: usize| {
                let firsts = self.tenants.iter().filter(|(name, _)| self.is_open(name));
                firsts
                    .filter_map(|(_, tenant)| tenant.first(lane))
                    .map(|(due, _)| *due)
                    .min()
            };
            // Without work it is last.
            lanes.sort_by_key(|lane| (since(*lane).is_none(), since(*lane), *lane));
        }
        lanes
    }

    /// The next object of a lane, if one of it may begin.
    fn choose(&self, lane: usize) -> Option<Object> {
        let half = self.limits.workers.div_ceil(2);
        if BACKGROUND.contains(&lane) && self.background() >= half {
            return None;
        }
        let tenants = self.tenants.iter();
        let tenants = tenants.filter(|(name, _)| self.is_open(name) && self.may_take(name));
        let firsts = tenants.filter_map(|(name, tenant)| Some((name, tenant, tenant.first(lane)?)));
        let next = firsts.min_by_key(|(_, tenant, (due, _))| (tenant.running, tenant.served, *due));
        next.map(|(namespace, _, (_, name))| Object::new(namespace, name))
    }

    /// Passes of the lanes behind the others.
    fn background(&self) -> usize {
        let running = self.running.values();
        running
            .filter(|running| BACKGROUND.contains(&running.lane))
            .count()
    }

    /// Forgets a namespace of which nothing is known.
    fn clear(&mut self, namespace: &str) {
        if self.tenants.get(namespace).is_some_and(Tenant::is_empty) {
            self.tenants.remove(namespace);
        }
    }
}
