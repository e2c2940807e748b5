//! The checks that are under way, in the background of the passes. A journal of this process: a crash
//! drops them, and they are made again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::{
    ask::Set,
    life::Subject,
    outcome::{Ended, Outcome},
    sets::{self, Found, Round},
};
use crate::{
    pipeline::{Cx, StepId},
    process::waker::Waker,
    redact,
};

/// Longest time of one set of checks, from the moment that it has a place. An application that is slow in
/// everything takes minutes.
const LIMIT: Duration = Duration::from_secs(900);

/// The jobs of an object, by the name of the integration.
#[derive(Clone, Debug, Default)]
pub struct Jobs(pub BTreeMap<String, Job>);

impl Jobs {
    /// Ends all of them.
    pub fn end(&mut self) {
        for job in std::mem::take(&mut self.0).into_values() {
            job.drop_it();
        }
    }
}

/// One set of checks that is under way, or has ended and was not picked up yet.
#[derive(Clone, Debug)]
pub struct Job {
    /// What its outcomes belong to.
    pub subject: Subject,
    token: CancellationToken,
    found: Arc<Mutex<Option<Found>>>,
    /// Who waits for it.
    waker: Arc<Mutex<Waker>>,
}

/// How far a job has come.
#[derive(Clone, Debug)]
pub enum Progress {
    /// Its checks are being made, or wait for a place.
    Running,
    /// They were made.
    Ended(Found),
    /// What they looked at has changed.
    Dropped,
}

impl Job {
    /// Begins a set of checks. Its end wakes the object.
    pub fn start(cx: &Cx, set: Set, round: Round, subject: Subject) -> Self {
        let (looks, tenant) = (cx.installation.looks.clone(), cx.owner.namespace.clone());
        let work = async move {
            let _place = looks.enter(&tenant).await;
            let checks = sets::run(&set, round);
            let ended = tokio::time::timeout(LIMIT, Box::pin(checks)).await;
            ended.unwrap_or_else(|_| Found {
                outcomes: vec![too_long()],
                ..Found::default()
            })
        };
        Self::spawn(subject, cx.background.begin(), cx.waker.clone(), work)
    }

    /// Begins this work. What it finds counts unless the token is cancelled before it ends.
    fn spawn(
        subject: Subject,
        token: CancellationToken,
        waker: Waker,
        work: impl Future<Output = Found> + Send + 'static,
    ) -> Self {
        let found: Arc<Mutex<Option<Found>>> = Arc::default();
        let job = Self {
            subject,
            token: token.clone(),
            found: found.clone(),
            waker: Arc::new(Mutex::new(waker)),
        };
        let waits = job.waker.clone();
        tokio::spawn(redact::carry(async move {
            let ended = tokio::select! {
                () = token.cancelled() => return,
                ended = work => ended,
            };
            *found.lock().unwrap_or_else(PoisonError::into_inner) = Some(ended);
            let waker = waits.lock().unwrap_or_else(PoisonError::into_inner).clone();
            waker.wake(Some(StepId::IntegrationChecks));
        }));
        job
    }

    /// How far it has come.
    pub fn progress(&self) -> Progress {
        if self.token.is_cancelled() {
            return Progress::Dropped;
        }
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        match &*found {
            Some(found) => Progress::Ended(found.clone()),
            None => Progress::Running,
        }
    }

    /// Has its end wake this one: the pass over the spec and the guard of what serves take over from each
    /// other.
    pub fn wake_with(&self, waker: Waker) {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = waker;
    }

    /// Ends it.
    pub fn drop_it(&self) {
        self.token.cancel();
    }
}

fn too_long() -> Outcome {
    Outcome {
        id: "S2",
        name: "the checks end in time",
        ended: Ended::Unknown,
        forgery: false,
        took: Some(LIMIT),
        evidence: format!(
            "the checks did not end within {} s, so nothing is known",
            LIMIT.as_secs()
        ),
        change: String::new(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::sync::{mpsc, oneshot};

    use super::{super::life::tests::subject, *};

    /// A job that ends when the sender says so, and what it wakes.
    fn job(
        token: &CancellationToken,
    ) -> (
        Job,
        oneshot::Sender<Found>,
        mpsc::UnboundedReceiver<Option<StepId>>,
    ) {
        let (end, ends) = oneshot::channel();
        let (woken, wakes) = mpsc::unbounded_channel();
        let waker = Waker::new(move |step| woken.send(step).unwrap_or_default());
        let work = async { ends.await.unwrap_or_default() };
        let job = Job::spawn(subject(1), token.clone(), waker, work);
        (job, end, wakes)
    }

    #[tokio::test]
    async fn the_end_of_the_checks_wakes_the_object_and_is_picked_up() {
        let (job, end, mut wakes) = job(&CancellationToken::new());
        assert!(matches!(job.progress(), Progress::Running));
        let found = Found {
            outcomes: vec![too_long()],
            ..Found::default()
        };
        end.send(found).unwrap();
        assert_eq!(wakes.recv().await, Some(Some(StepId::IntegrationChecks)));
        let Progress::Ended(found) = job.progress() else {
            unreachable!("it has ended");
        };
        assert_eq!(found.outcomes.len(), 1);
    }

    #[tokio::test]
    async fn checks_that_nobody_may_make_any_more_end_at_once() {
        let token = CancellationToken::new();
        let (under_way, _end, mut wakes) = job(&token.child_token());
        let mut jobs = Jobs([("whatsapp".to_owned(), under_way)].into());
        jobs.end();
        assert!(jobs.0.is_empty());
        drop(jobs);
        assert_eq!(wakes.recv().await, None, "its work ended without a word");
        assert!(!token.is_cancelled(), "other looks go on");
    }

    #[tokio::test]
    async fn checks_of_what_has_changed_are_dropped_also_when_they_have_ended() {
        let token = CancellationToken::new();
        let (under_way, _end, mut wakes) = job(&token);
        let (ended, end, mut woken) = job(&token);
        end.send(Found::default()).unwrap();
        woken.recv().await.unwrap();
        token.cancel();
        assert!(matches!(under_way.progress(), Progress::Dropped));
        assert!(matches!(ended.progress(), Progress::Dropped));
        drop(under_way);
        assert_eq!(wakes.recv().await, None, "its work ended without a word");
    }
}
