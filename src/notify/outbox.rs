//! What was told of each topic, and the messages that are on their way. Plain data and pure steps: whoever
//! uses it keeps it where a restart finds it, before a message is sent.
//!
//! A message is sent at least once: after a crash between the sending and the writing of its end it is
//! sent again, with the same id.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    answer::Ended,
    message::{Began, Message, Stage},
    news::{Fact, Manner, Topic},
    route::Route,
};
use crate::api::{NotificationEvent, NotificationSeverity};

/// The most messages that wait, for all receivers. With [`super::message`]'s bounds they stay far below
/// the 1 MiB that a ConfigMap holds.
const MAX_PENDING: usize = 128;
/// How long a message is tried.
const GIVE_UP: Duration = Duration::from_secs(3600);
/// The most messages that are sent as one.
const MAX_GROUP: usize = 12;
/// The first pause after a failed try, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(600));

/// What was told of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    /// The topic.
    pub topic: Topic,
    /// What was true.
    pub state: String,
    /// The beginning of an alarm that has not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<Began>,
    /// The receivers that were sent the beginning of the alarm: they get its end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub receivers: Vec<String>,
}

/// A message that waits for its receiver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pending {
    receiver: String,
    message: Message,
    tries: u32,
    next: Timestamp,
    /// When its first try began: from then on its receiver may have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    begun: Option<Timestamp>,
    /// The id of the first message of those that are sent as one. Fixed when the first try begins, so
    /// that a repeat is the same message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    /// Messages that its receiver did not get, which this one says.
    #[serde(default, skip_serializing_if = "is_zero")]
    left_out: u32,
}

impl Pending {
    /// Its receiver knows nothing of it.
    fn is_unheard(&self) -> bool {
        self.tries == 0 && self.begun.is_none()
    }

    /// Whether it may be one of several that are told in one message: news that nobody must act on.
    fn may_be_grouped(&self) -> bool {
        let message = &self.message;
        message.stage == Stage::Once
            && message.severity == NotificationSeverity::Info
            && message.event != NotificationEvent::Test
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// How one receiver does: the messages that it got in the present hour, and what it did not get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Hour {
    began: Timestamp,
    sent: u32,
    /// Messages that were left out, and of which no message has said so yet.
    left_out: u32,
    /// A message was given up, and none was delivered since.
    #[serde(default)]
    failing: bool,
}

/// What was told, and what is on its way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Outbox {
    /// By the text of the topic.
    told: BTreeMap<String, Told>,
    pending: Vec<Pending>,
    hours: BTreeMap<String, Hour>,
}

/// A message that can be sent now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due<'a> {
    /// The receiver's name.
    pub receiver: &'a str,
    /// What to send.
    pub message: Message,
}

impl Outbox {
    /// An outbox for an activation that nothing was told of yet, though it is live already: what has
    /// happened before is not news, what is wrong now is.
    #[must_use]
    pub fn of_a_live_one(facts: &[Fact]) -> Self {
        let mut outbox = Self::default();
        let past = |fact: &&Fact| !matches!(fact.manner, Manner::Alarm | Manner::Unknown);
        for fact in facts.iter().filter(past) {
            outbox.tell_silently(fact);
        }
        outbox
    }

    /// Takes in what is true now: whatever was not told becomes a message for each receiver that wants
    /// it. Returns whether anything changed, so that it must be kept before the next message is sent.
    pub fn take_in(&mut self, facts: &[Fact], routes: &[Route], uid: &str, now: Timestamp) -> bool {
        let before = self.clone();
        for fact in facts {
            self.consider(fact, routes, uid, now);
        }
        let has = |topic: &Topic| facts.iter().any(|fact| fact.topic == *topic);
        let told = self.told.values().map(|told| told.topic.clone());
        let left: Vec<Topic> = told.filter(|topic| !has(topic)).collect();
        for topic in left {
            self.consider(&topic.left(), routes, uid, now);
            self.told.remove(&topic.to_string());
        }
        self.pending.retain(|pending| {
            routes
                .iter()
                .any(|route| route.receiver == pending.receiver)
        });
        self.hours
            .retain(|name, _| routes.iter().any(|route| route.receiver == *name));
        *self != before
    }

    fn consider(&mut self, fact: &Fact, routes: &[Route], uid: &str, now: Timestamp) {
        let told = self.told.get(&fact.topic.to_string());
        if told.is_some_and(|told| told.state == fact.state) {
            return;
        }
        let open = told.and_then(|told| told.open.clone());
        match (fact.manner, open) {
            (Manner::Between, Some(_)) | (Manner::Unknown, _) => {}
            (Manner::Between | Manner::Once, None) => {
                self.post(fact, (Stage::Once, None), routes, uid, now);
                self.tell_silently(fact);
            }
            (Manner::Quiet | Manner::Once, Some(began)) => {
                self.close(fact, &began, routes, uid, now);
            }
            (Manner::Quiet, None) => self.tell_silently(fact),
            (Manner::Alarm, open) => {
                let was = told.map(|told| told.receivers.clone()).unwrap_or_default();
                self.raise(fact, (open, was), routes, uid, now);
            }
        }
    }

    /// Another cause of an alarm that is open goes on from its beginning.
    fn raise(
        &mut self,
        fact: &Fact,
        (open, was): (Option<Began>, Vec<String>),
        routes: &[Route],
        uid: &str,
        now: Timestamp,
    ) {
        let began = open.unwrap_or_else(|| Began {
            time: now,
            severity: fact.severity,
            owner: fact.owner.clone(),
        });
        let mut receivers = self.post(fact, (Stage::Open, Some(&began)), routes, uid, now);
        receivers.extend(was);
        receivers.sort_unstable();
        receivers.dedup();
        let told = Told {
            topic: fact.topic.clone(),
            state: fact.state.clone(),
            open: Some(began),
            receivers,
        };
        self.told.insert(fact.topic.to_string(), told);
    }

    fn tell_silently(&mut self, fact: &Fact) {
        let told = Told {
            topic: fact.topic.clone(),
            state: fact.state.clone(),
            open: None,
            receivers: Vec::new(),
        };
        self.told.insert(fact.topic.to_string(), told);
    }

    /// Ends an alarm for all who were told of its beginning. Whoever has not received the beginning
    /// gets neither.
    fn close(&mut self, fact: &Fact, began: &Began, routes: &[Route], uid: &str, now: Timestamp) {
        let told = self.told.get(&fact.topic.to_string());
        let mut concerned = told.map(|told| told.receivers.clone()).unwrap_or_default();
        self.pending.retain(|pending| {
            let unheard = pending.message.topic == fact.topic
                && pending.message.stage == Stage::Open
                && pending.is_unheard();
            // The first message of the alarm: its receiver knows nothing yet.
            if unheard && pending.message.time == began.time {
                concerned.retain(|receiver| *receiver != pending.receiver);
            }
            !unheard
        });
        let message = Message::of(fact, Stage::Closed, uid, now, Some(began));
        for route in routes
            .iter()
            .filter(|route| concerned.contains(&route.receiver))
        {
            self.enqueue(&route.receiver, message.clone(), now);
        }
        self.tell_silently(fact);
    }

    /// Puts a message into the outbox for each receiver that wants it. Returns their names.
    fn post(
        &mut self,
        fact: &Fact,
        (stage, began): (Stage, Option<&Began>),
        routes: &[Route],
        uid: &str,
        now: Timestamp,
    ) -> Vec<String> {
        let message = Message::of(fact, stage, uid, now, began);
        let wanted = routes.iter().filter(|route| route.wants(&message));
        let names: Vec<String> = wanted.map(|route| route.receiver.clone()).collect();
        for name in &names {
            self.enqueue(name, message.clone(), now);
        }
        names
    }

    /// The least important message that waits gives way when there is no place.
    fn enqueue(&mut self, receiver: &str, message: Message, now: Timestamp) {
        self.pending.push(Pending {
            receiver: receiver.to_owned(),
            message,
            tries: 0,
            next: now,
            begun: None,
            group: None,
            left_out: 0,
        });
        if self.pending.len() > MAX_PENDING {
            let least = self
                .pending
                .iter()
                .enumerate()
                // What is under way may have arrived: it goes on.
                .filter(|(_, pending)| pending.is_unheard())
                .min_by_key(|(at, pending)| (pending.message.severity, *at))
                .map(|(at, _)| at);
            if let Some(at) = least {
                let left = self.pending.remove(at);
                self.leave_out(&left.receiver, now);
            }
        }
    }

    fn leave_out(&mut self, receiver: &str, now: Timestamp) {
        self.hour(receiver, now).left_out += 1;
    }

    fn hour(&mut self, receiver: &str, now: Timestamp) -> &mut Hour {
        let new = Hour {
            began: now,
            sent: 0,
            left_out: 0,
            failing: false,
        };
        let hour = self.hours.entry(receiver.to_owned()).or_insert(new);
        if now.duration_since(hour.began) >= SignedDuration::from_hours(1) {
            (hour.began, hour.sent) = (now, 0);
        }
        hour
    }

    /// When a message may be sent to a receiver: after the pause of its last try, and not in a full hour.
    fn ready_at(&self, route: &Route, at: usize, now: Timestamp) -> Option<Timestamp> {
        let pending = self.pending.get(at)?;
        if !self.is_full(route, at, now) {
            return Some(pending.next);
        }
        let hour = self.hours.get(&route.receiver)?;
        let end = hour.began.checked_add(SignedDuration::from_hours(1)).ok()?;
        Some(end.max(pending.next))
    }

    /// The places of the messages that may be the next ones of a receiver: its first one, and the first
    /// urgent one, which waits for none that is less urgent. A receiver that fails is not tried with each
    /// urgent one: those keep their order.
    fn heads(&self, route: &Route) -> [Option<usize>; 2] {
        let own = self.pending.iter().enumerate();
        let own = own.filter(|(_, pending)| pending.receiver == route.receiver);
        let own: Vec<usize> = own.map(|(at, _)| at).collect();
        let urgent = own.iter().find(|at| self.is_urgent(**at));
        [urgent.copied(), own.first().copied()]
    }

    /// Whether a message is critical or a test, or comes before one that is and tells of the same topic: the
    /// end of an alarm never arrives before its beginning.
    fn is_urgent(&self, at: usize) -> bool {
        let Some(this) = self.pending.get(at) else {
            return false;
        };
        let later = self.pending.iter().skip(at);
        let mut later = later.filter(|later| {
            later.receiver == this.receiver && later.message.topic == this.message.topic
        });
        later.any(|later| {
            later.message.severity == NotificationSeverity::Critical
                || later.message.event == NotificationEvent::Test
        })
    }

    /// The places of the messages that are sent next to a receiver, as one: none while it has to wait.
    fn parcel(&self, route: &Route, now: Timestamp) -> Vec<usize> {
        let mut heads = self.heads(route).into_iter().flatten();
        let is_ready = |at: &usize| self.ready_at(route, *at, now).is_some_and(|at| at <= now);
        let Some(head) = heads.find(is_ready) else {
            return Vec::new();
        };
        let own = self.pending.iter().enumerate();
        let mut own = own.filter(|(_, pending)| pending.receiver == route.receiver);
        let Some((at, first)) = own.find(|(at, _)| *at == head) else {
            return Vec::new();
        };
        if first.group.is_some() || !first.is_unheard() {
            // As it was sent before.
            let same = own.filter(|(_, next)| next.group.is_some() && next.group == first.group);
            return std::iter::once(at).chain(same.map(|(at, _)| at)).collect();
        }
        let more = own.take_while(|(_, next)| {
            first.may_be_grouped() && next.may_be_grouped() && next.is_unheard()
        });
        std::iter::once(at)
            .chain(more.map(|(at, _)| at))
            .take(MAX_GROUP)
            .collect()
    }

    /// Notes that the messages of [`Self::due`] are about to be sent. Returns whether that was news, so
    /// that it must be kept before they are: a restart then knows that a receiver may have them.
    pub fn begin(&mut self, routes: &[Route], now: Timestamp) -> bool {
        let mut news = false;
        for route in routes {
            let parcel = self.parcel(route, now);
            let Some(first) = parcel.first().and_then(|at| self.pending.get(*at)) else {
                continue;
            };
            if first.begun.is_some() {
                continue;
            }
            news = true;
            let group = (parcel.len() > 1).then(|| first.message.id.clone());
            let unsaid = std::mem::take(&mut self.hour(&route.receiver, now).left_out);
            for (place, at) in parcel.iter().enumerate() {
                if let Some(pending) = self.pending.get_mut(*at) {
                    pending.begun = Some(now);
                    pending.group.clone_from(&group);
                    pending.left_out = if place == 0 { unsaid } else { 0 };
                }
            }
        }
        news
    }

    /// What can be sent now: for each receiver its first message, with those that are told together with
    /// it. [`Self::begin`] comes before.
    #[must_use]
    pub fn due(&self, routes: &[Route], now: Timestamp) -> Vec<Due<'_>> {
        let parcels = routes.iter().filter_map(|route| {
            let places = self.parcel(route, now);
            let members: Vec<&Pending> = places
                .iter()
                .filter_map(|at| self.pending.get(*at))
                .collect();
            let first = members.first()?;
            let messages: Vec<&Message> = members.iter().map(|member| &member.message).collect();
            Some(Due {
                receiver: &first.receiver,
                message: Message::of_all(&messages, first.left_out)?,
            })
        });
        parcels.collect()
    }

    /// Whether the hour of a receiver is full. What is urgent is always sent.
    fn is_full(&self, route: &Route, at: usize, now: Timestamp) -> bool {
        let exempt = self.is_urgent(at);
        let in_hour = |hour: &&Hour| now.duration_since(hour.began) < SignedDuration::from_hours(1);
        let sent = self.hours.get(&route.receiver).filter(in_hour);
        !exempt
            && route.max_per_hour > 0
            && sent.is_some_and(|hour| hour.sent >= route.max_per_hour)
    }

    /// When there is something to send next, if anything waits.
    #[must_use]
    pub fn next_time(&self, routes: &[Route], now: Timestamp) -> Option<Timestamp> {
        let times = routes.iter().filter_map(|route| {
            let heads = self.heads(route).into_iter().flatten();
            heads.filter_map(|at| self.ready_at(route, at, now)).min()
        });
        times.min()
    }

    /// Takes in how a try ended. Returns the message when it is given up: after an hour, or at once when
    /// the receiver refuses it or a person waits for the result.
    pub fn ended(
        &mut self,
        receiver: &str,
        id: &str,
        ended: Ended,
        now: Timestamp,
    ) -> Option<Message> {
        let own = |pending: &Pending| pending.receiver == receiver;
        let is_of = |pending: &Pending| {
            own(pending) && (pending.message.id == id || pending.group.as_deref() == Some(id))
        };
        let first = self.pending.iter().find(|pending| is_of(pending))?;
        let since = first.begun.unwrap_or(first.message.time);
        let age = now.duration_since(since);
        let is_late = age >= SignedDuration::try_from(GIVE_UP).unwrap_or(SignedDuration::MAX);
        let is_test = first.message.event == NotificationEvent::Test;
        match ended {
            Ended::Again(pause) if !is_late && !is_test => {
                for pending in self.pending.iter_mut().filter(|pending| is_of(pending)) {
                    pending.tries = pending.tries.saturating_add(1);
                    let own = own_pause(pending.tries);
                    let pause = pause.unwrap_or(own).max(own);
                    let pause = SignedDuration::try_from(pause).unwrap_or(SignedDuration::MAX);
                    pending.next = now.checked_add(pause).unwrap_or(Timestamp::MAX);
                }
                None
            }
            Ended::Delivered => {
                self.pending.retain(|pending| !is_of(pending));
                let hour = self.hour(receiver, now);
                hour.sent += 1;
                hour.failing = false;
                None
            }
            Ended::Again(_) | Ended::Refused => {
                let members = self.pending.iter().filter(|pending| is_of(pending));
                let members: Vec<&Message> = members.map(|member| &member.message).collect();
                let given_up = Message::of_all(&members, 0);
                // What it would have said is said by the next one.
                let unsaid: u32 = self
                    .pending
                    .iter()
                    .filter(|pending| is_of(pending))
                    .map(|pending| 1 + pending.left_out)
                    .sum();
                self.pending.retain(|pending| !is_of(pending));
                if !is_test {
                    self.hour(receiver, now).left_out += unsaid;
                }
                given_up
            }
        }
    }

    /// Notes that a message for this receiver was given up. Returns whether it is the first one since a
    /// message was delivered: it is told once.
    pub fn fails(&mut self, receiver: &str, now: Timestamp) -> bool {
        let hour = self.hour(receiver, now);
        !std::mem::replace(&mut hour.failing, true)
    }

    /// Messages that a receiver did not get, because too many waited or they were given up, and that no
    /// other message has told of yet.
    #[must_use]
    pub fn left_out(&self, receiver: &str) -> u32 {
        self.hours.get(receiver).map_or(0, |hour| hour.left_out)
    }

    /// How many messages wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.pending.len()
    }

    /// What was told of a topic.
    #[must_use]
    pub fn told(&self, topic: &Topic) -> Option<&Told> {
        self.told.get(&topic.to_string())
    }
}

/// The pause after this many failed tries.
fn own_pause(tries: u32) -> Duration {
    let (first, longest) = PAUSES;
    let factor = 2_u32.saturating_pow(tries.saturating_sub(1));
    first.saturating_mul(factor).min(longest)
}

#[cfg(test)]
mod tests;
