//! One round of one object: what is true now, what of it is news, and who is told.
//!
//! The outbox is stored before anything is sent, and after it was taken. A process that ends in between
//! leaves a message that may have arrived: the next one sends it again under the same id. Of two
//! processes that store at once one gets a conflict, and sends nothing that the other has not stored.

use std::time::{Duration, Instant};

use futures::future;
use jiff::Timestamp;

use super::{
    deliver::{self, Secrets, Tried},
    desk::{Ended, Job},
    parts::Shared,
    snapshot::Receiver,
    told,
};
use crate::{
    notify::{self, Message, Outbox, Route},
    store::{
        Write,
        outbox::{self, Stored},
    },
};

/// Most messages that one round sends to one receiver.
const TURNS: usize = 16;

/// Pause after Kubernetes could not be read or written.
const PAUSE: Duration = Duration::from_secs(5);

/// Pause of a process that no longer leads; it ends soon.
const NOT_LEADING: Duration = Duration::from_secs(60);

/// Why a round ends early.
enum Stop {
    /// Kubernetes could not be read or written, or somebody else has written.
    Again(Duration),
    /// The object goes, or this process may not go on.
    Ends,
}

/// A message that was sent to a receiver.
struct Sent {
    receiver: Receiver,
    message: Message,
    tried: Tried,
}

/// One round.
pub(super) async fn run(shared: &Shared, job: Job) -> Ended {
    let mut round = Round {
        shared,
        stored: None,
        outbox: Outbox::default(),
        routes: job.snapshot.routes(),
        job,
    };
    match round.all().await {
        // Failed tries are remembered, and not stored.
        Ok(next) => Ended {
            stored: round.stored.map(|stored| stored.holding(round.outbox)),
            next,
        },
        // What is stored is not known any more.
        Err(Stop::Again(pause)) => Ended {
            stored: None,
            next: Some(pause),
        },
        Err(Stop::Ends) => Ended {
            stored: None,
            next: Some(NOT_LEADING),
        },
    }
}

struct Round<'a> {
    shared: &'a Shared,
    job: Job,
    routes: Vec<Route>,
    stored: Option<Stored>,
    outbox: Outbox,
}

impl Round<'_> {
    /// To the end. Returns the time until the next one.
    async fn all(&mut self) -> Result<Option<Duration>, Stop> {
        self.load().await?;
        for _ in 0..TURNS {
            let now = self.now();
            let (snapshot, routes) = (self.job.snapshot.clone(), self.routes.clone());
            let facts = snapshot.facts(now);
            let uid = &snapshot.owner.uid;
            let news = self.outbox.take_in(&facts, &routes, uid, now);
            let begins = self.outbox.begin(&routes, now);
            if news || begins || self.is_new() {
                self.save().await?;
            }
            let due = self.outbox.due(&routes, now);
            if due.is_empty() {
                break;
            }
            let due: Vec<(Receiver, Message)> = due
                .into_iter()
                .filter_map(|due| Some((snapshot.receiver(due.receiver)?.clone(), due.message)))
                .collect();
            let sent = self.send(due).await?;
            if self.take(sent) {
                self.save().await?;
            }
        }
        let now = self.now();
        let waiting = self.outbox.waiting();
        self.shared
            .parts
            .metrics
            .set_notifications_waiting(&self.job.object, waiting);
        let next = self.outbox.next_time(&self.routes, now);
        let change = self.job.snapshot.next_change(now);
        let next = next.into_iter().chain(change).min();
        Ok(next.map(|at| pause(now, at)))
    }

    fn now(&self) -> Timestamp {
        self.shared.parts.clock.now()
    }

    /// Whether nothing is stored yet of an object that stays.
    fn is_new(&self) -> bool {
        let stored = self.stored.as_ref();
        let stays = !self.routes.is_empty() && !self.job.snapshot.deleted;
        stored.is_none_or(|stored| stored.outbox.is_none()) && stays
    }

    /// Whether this round may go on.
    fn may_go_on(&self) -> Result<(), Stop> {
        let leads = self.shared.parts.leads.open();
        match leads && !self.job.leaves.is_cancelled() {
            true => Ok(()),
            false => Err(Stop::Ends),
        }
    }

    async fn load(&mut self) -> Result<(), Stop> {
        self.may_go_on()?;
        let parts = &self.shared.parts;
        let uid = &self.job.snapshot.owner.uid;
        let stored = match self.job.stored.take() {
            Some(stored) => stored,
            None => {
                let found = outbox::load(&parts.kube, &parts.own_namespace, uid).await;
                found.map_err(|error| {
                    tracing::warn!(error = %crate::causes::chain(&error), "people are told later");
                    Stop::Again(PAUSE)
                })?
            }
        };
        let known = stored.outbox.clone();
        self.outbox = known.unwrap_or_else(|| {
            let facts = self.job.snapshot.facts(self.now());
            self.job.snapshot.first_outbox(&facts)
        });
        self.stored = Some(stored);
        Ok(())
    }

    async fn save(&mut self) -> Result<(), Stop> {
        self.may_go_on()?;
        let parts = &self.shared.parts;
        let before = self.stored.take().unwrap_or_default();
        let owner = &self.job.snapshot.owner;
        let (kube, namespace) = (&parts.kube, &parts.own_namespace);
        match outbox::save(kube, namespace, owner, &before, &self.outbox).await {
            Ok(Write::Done(stored)) => {
                self.stored = Some(stored);
                Ok(())
            }
            // An earlier write of this process whose answer was lost, or another process.
            Ok(Write::Conflict(_)) => Err(Stop::Again(Duration::ZERO)),
            Err(error) => {
                tracing::warn!(error = %crate::causes::chain(&error), "people are told later");
                Err(Stop::Again(PAUSE))
            }
        }
    }

    /// Sends messages to different receivers, all at once.
    async fn send(&self, due: Vec<(Receiver, Message)>) -> Result<Vec<Sent>, Stop> {
        self.may_go_on()?;
        if self.shared.stop.is_cancelled() {
            return Err(Stop::Ends);
        }
        let (parts, snapshot) = (&self.shared.parts, &self.job.snapshot);
        let mut secrets = Secrets::default();
        for (receiver, _) in &due {
            secrets.read(parts, snapshot, receiver).await;
        }
        let secrets = &secrets;
        let sent = due.into_iter().map(|(receiver, message)| async move {
            let began = Instant::now();
            let of = (&**snapshot, &receiver);
            let tried = deliver::deliver(parts, secrets, of, &message).await;
            let kind = receiver.spec.kind();
            parts
                .metrics
                .notified(kind, result(&tried), began.elapsed());
            Sent {
                receiver,
                message,
                tried,
            }
        });
        let sent = future::join_all(sent);
        tokio::select! {
            sent = sent => Ok(sent),
            // Whoever deletes the object does not wait for a receiver.
            () = self.job.leaves.cancelled() => Err(Stop::Ends),
        }
    }

    /// Takes in how messages ended. Returns whether that must be stored: a failed try that is repeated
    /// costs no write.
    fn take(&mut self, sent: Vec<Sent>) -> bool {
        let now = self.now();
        let snapshot = self.job.snapshot.clone();
        let mut events = Vec::new();
        let mut ended = false;
        for Sent {
            receiver,
            message,
            tried,
        } in sent
        {
            let name = &receiver.route.receiver;
            let given_up = self.outbox.ended(name, &message.id, tried.ended, now);
            let is_test = message.event == crate::api::NotificationEvent::Test;
            ended |= given_up.is_some() || tried.ended == notify::Ended::Delivered;
            match (given_up, &tried.trouble) {
                (Some(_), Some(trouble)) if is_test => {
                    events.push(told::test_failed(&snapshot, &receiver, trouble));
                }
                (Some(lost), Some(trouble)) => {
                    tracing::warn!(receiver = name, %trouble, "a notification is given up");
                    self.shared.parts.metrics.gave_up(receiver.spec.kind());
                    if self.outbox.fails(name, now) {
                        let lost = (&lost, tried.ended);
                        events.push(told::given_up(&snapshot, &receiver, lost, trouble));
                    }
                }
                (None, Some(trouble)) => {
                    tracing::info!(receiver = name, %trouble, "a notification is tried again");
                }
                (_, None) if is_test => events.push(told::test_arrived(&receiver)),
                (_, None) => {}
            }
        }
        if !events.is_empty() {
            let about = &snapshot.reference;
            self.shared.parts.publisher.publish(about, events);
        }
        ended
    }
}

fn result(tried: &Tried) -> &'static str {
    match tried.ended {
        notify::Ended::Delivered => "delivered",
        notify::Ended::Again(_) => "failed",
        notify::Ended::Refused => "refused",
    }
}

/// The time until an instant, and a moment more: what begins then has begun.
fn pause(now: Timestamp, at: Timestamp) -> Duration {
    let pause = Duration::try_from(at.duration_since(now)).unwrap_or_default();
    pause + Duration::from_millis(50)
}
