//! Questions to servers of others that a pass does not wait for: an application, its registry, a
//! resolver, a command in a machine, logs.
//!
//! A pass stays for an answer that comes at once. Otherwise it goes on without it, and the object is
//! woken when the answer is there. So a server that answers slowly holds no worker, and a limit for
//! each namespace and in all bounds what is under way. Start reading at [`Outside::ask`].

use std::{
    any::Any,
    collections::BTreeMap,
    fmt,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures::FutureExt;
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use super::{turnstile::Turnstile, waker::Waker};
use crate::{api::StepId, causes, redact};

/// How long a pass stays for an answer. An answer that takes longer is not waited for the next time.
const STAY: Duration = Duration::from_secs(1);

/// How long an answer that nobody has taken counts. The object is woken when it comes: one that is older is of
/// another time, and the question is asked again.
const FRESH: Duration = Duration::from_mins(5);

/// Questions that are under way at once, of all objects.
pub const AT_ONCE: usize = 256;

tokio::task_local! {
    static CURRENT: StepId;
}

/// Runs a step: what it asks belongs to it, and an answer has it observe again.
pub async fn of_step<F: Future>(step: StepId, work: F) -> F::Output {
    CURRENT.scope(step, work).await
}

/// Whose question it is: a step's, or one before there is a target; and its name.
type Key = (Option<StepId>, String);

/// An answer, or the text of a panic.
type Answer = Result<Box<dyn Any + Send>, String>;

/// A question that is under way.
struct Running {
    question: String,
    answer: oneshot::Receiver<Answer>,
    /// The pass has gone on without the answer.
    left: Arc<AtomicBool>,
    /// When the answer came.
    came: Arc<OnceLock<Instant>>,
    _task: AbortOnDropHandle<()>,
}

impl Running {
    /// Whether it is this question, and its answer is younger than `fresh`.
    fn is(&self, question: &str, fresh: Duration) -> bool {
        let outdated = self.came.get().is_some_and(|came| came.elapsed() >= fresh);
        self.question == question && !outdated
    }
}

/// An answer that a step keeps until it has all that it asked for.
struct Kept {
    question: String,
    answer: Box<dyn Any + Send>,
}

/// The questions of one object for one of its targets, between its passes.
#[derive(Default)]
pub struct Questions {
    running: Mutex<BTreeMap<Key, Running>>,
    kept: Mutex<BTreeMap<Key, Kept>>,
    /// The last answer took longer than a pass stays.
    slow: AtomicBool,
}

impl fmt::Debug for Questions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(lock(&self.running).keys()).finish()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a pass asks outside with.
#[derive(Clone)]
pub struct Outside {
    questions: Arc<Questions>,
    limit: Arc<Turnstile>,
    namespace: String,
    waker: Waker,
    stay: Duration,
    fresh: Duration,
}

impl Outside {
    /// For one object: its questions, the limit of this process, its namespace, and how it is woken.
    pub fn new(
        questions: Arc<Questions>,
        limit: Arc<Turnstile>,
        namespace: String,
        waker: Waker,
    ) -> Self {
        Self {
            questions,
            limit,
            namespace,
            waker,
            stay: STAY,
            fresh: FRESH,
        }
    }

    /// The answer of `work`, if it is there or comes at once; `None` while it is under way: the object
    /// is woken when it is there, and must ask again. `question` identifies what is asked: another one
    /// of the same name ends the former. An answer that was not taken for minutes is asked for again.
    pub async fn ask<T, F>(&self, name: &str, question: &str, work: impl FnOnce() -> F) -> Option<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let step = CURRENT.try_with(|step| *step).ok();
        let key = (step, name.to_owned());
        let known = lock(&self.questions.running).remove(&key);
        let (mut running, stay) = match known.filter(|known| known.is(question, self.fresh)) {
            Some(running) => (running, Duration::ZERO),
            None => (self.send(step, question, Box::pin(work())), self.stay()),
        };
        let answer = match tokio::time::timeout(stay, &mut running.answer).await {
            Ok(answer) => answer,
            Err(_) => {
                running.left.store(true, Ordering::SeqCst);
                // It may have come before it was told that nobody waits.
                match running.answer.try_recv() {
                    Ok(answer) => Ok(answer),
                    Err(TryRecvError::Empty) => {
                        lock(&self.questions.running).insert(key, running);
                        return None;
                    }
                    Err(TryRecvError::Closed) => return None,
                }
            }
        };
        match answer {
            Ok(Ok(answer)) => answer.downcast().ok().map(|answer| *answer),
            // A bug: reported on the object, as any other of its pass.
            Ok(Err(panic)) => std::panic::resume_unwind(Box::new(panic)),
            // The runtime stops.
            Err(_) => None,
        }
    }

    /// The same, for one of several answers that a step needs: it is kept until the step has observed
    /// everything.
    pub async fn ask_and_keep<T, F>(
        &self,
        name: &str,
        question: &str,
        work: impl FnOnce() -> F,
    ) -> Option<T>
    where
        T: Clone + Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let key = (CURRENT.try_with(|step| *step).ok(), name.to_owned());
        if let Some(kept) = lock(&self.questions.kept).get(&key)
            && kept.question == question
            && let Some(answer) = kept.answer.downcast_ref::<T>()
        {
            return Some(answer.clone());
        }
        let answer = self.ask(name, question, work).await?;
        let kept = Kept {
            question: question.to_owned(),
            answer: Box::new(answer.clone()),
        };
        lock(&self.questions.kept).insert(key, kept);
        Some(answer)
    }

    /// The step has observed everything: answers that were kept for it are outdated.
    pub fn observed(&self, step: StepId) {
        lock(&self.questions.kept).retain(|(of, _), _| *of != Some(step));
    }

    /// Ends all questions of this step but those with these names.
    pub fn keep_only(&self, step: StepId, names: &[&str]) {
        let mut running = lock(&self.questions.running);
        running.retain(|(of, name), _| *of != Some(step) || names.contains(&name.as_str()));
    }

    /// Whether the question of this name is under way, or its answer is there.
    pub fn awaits(&self, step: StepId, name: &str) -> bool {
        lock(&self.questions.running).contains_key(&(Some(step), name.to_owned()))
    }

    fn stay(&self) -> Duration {
        match self.questions.slow.load(Ordering::SeqCst) {
            true => Duration::ZERO,
            false => self.stay,
        }
    }

    /// Sends a question.
    fn send<T, F>(&self, step: Option<StepId>, question: &str, work: F) -> Running
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let (sender, answer) = oneshot::channel();
        let left = Arc::new(AtomicBool::new(false));
        let came = Arc::new(OnceLock::new());
        let (of, went, comes) = (self.clone(), left.clone(), came.clone());
        let task = async move {
            let began = Instant::now();
            let place = of.limit.enter(&of.namespace).await;
            let answer = caught(work).await;
            drop(place);
            let slow = began.elapsed() > of.stay;
            of.questions.slow.store(slow, Ordering::SeqCst);
            comes.get_or_init(Instant::now);
            // Nobody is there any more: the object is gone, or asks something else.
            drop(sender.send(answer));
            if went.load(Ordering::SeqCst) {
                of.waker.wake(step);
            }
        };
        // With the secrets of its object, which no log line, error or panic of it may show.
        let task = redact::carry(task.instrument(tracing::Span::current()));
        let task = tokio::spawn(task);
        Running {
            question: question.to_owned(),
            answer,
            left,
            came,
            _task: AbortOnDropHandle::new(task),
        }
    }
}

/// The answer, or what a panic says.
async fn caught<T: Send + 'static>(work: impl Future<Output = T>) -> Answer {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(answer) => Ok(Box::new(answer)),
        Err(panic) => Err(redact::redact(&causes::panic(panic.as_ref())).into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outside(
        limit: usize,
    ) -> (
        Outside,
        tokio::sync::mpsc::UnboundedReceiver<Option<StepId>>,
    ) {
        let (sender, woken) = tokio::sync::mpsc::unbounded_channel();
        let waker = Waker::new(move |step| sender.send(step).unwrap_or_default());
        let limit = Turnstile::new(limit);
        let outside = Outside {
            stay: Duration::from_millis(100),
            ..Outside::new(Arc::default(), limit, "ns".to_owned(), waker)
        };
        (outside, woken)
    }

    const STEP: StepId = StepId::EdgeChecks;

    async fn ask(
        outside: &Outside,
        question: &str,
        work: impl Future<Output = u32> + Send + 'static,
    ) -> Option<u32> {
        of_step(STEP, outside.ask("it", question, || work)).await
    }

    #[tokio::test]
    async fn an_answer_that_comes_at_once_is_there_and_a_slow_one_wakes_its_step() {
        let (outside, mut woken) = outside(4);
        assert_eq!(ask(&outside, "q", async { 1 }).await, Some(1));
        assert!(woken.try_recv().is_err(), "nobody was told to come back");

        let (answers, slow) = oneshot::channel();
        let slow = async { slow.await.unwrap_or_default() };
        assert_eq!(ask(&outside, "q", slow).await, None);
        assert!(outside.awaits(STEP, "it"));
        // Asked again in the meantime, it is the same question.
        assert_eq!(ask(&outside, "q", async { 3 }).await, None);
        assert!(answers.send(2).is_ok());
        assert_eq!(woken.recv().await, Some(Some(STEP)));
        assert_eq!(ask(&outside, "q", async { 3 }).await, Some(2));
        assert!(!outside.awaits(STEP, "it"));
        // Who was slow is not waited for.
        assert_eq!(outside.stay(), Duration::ZERO);
    }

    #[tokio::test]
    async fn an_answer_that_nobody_took_in_time_is_asked_for_again() {
        let (mut outside, mut woken) = outside(4);
        for (fresh, answer) in [(Duration::ZERO, 1), (FRESH, 2)] {
            let (answers, slow) = oneshot::channel();
            let slow = async { slow.await.unwrap_or_default() };
            // The first time nothing is there, and the second time an answer of long ago, which says nothing of now.
            assert_eq!(ask(&outside, "q", slow).await, None);
            assert!(answers.send(answer).is_ok());
            assert_eq!(woken.recv().await, Some(Some(STEP)));
            outside.fresh = fresh;
        }
        assert_eq!(ask(&outside, "q", async { 3 }).await, Some(2));
    }

    #[tokio::test]
    async fn another_question_ends_the_former_and_what_nobody_needs_ends() {
        let (outside, _woken) = outside(1);
        let never = std::future::pending::<u32>;
        assert_eq!(ask(&outside, "old", never()).await, None);
        // The only place is free again.
        assert_eq!(ask(&outside, "new", async { 1 }).await, Some(1));
        assert_eq!(ask(&outside, "old", never()).await, None);
        outside.keep_only(STEP, &["another"]);
        assert!(!outside.awaits(STEP, "it"));
        assert_eq!(ask(&outside, "new", async { 1 }).await, Some(1));
    }

    #[tokio::test]
    async fn an_answer_is_kept_until_the_step_has_all_that_it_needs() {
        let (outside, _woken) = outside(1);
        let keep = |answer: u32| {
            let outside = outside.clone();
            async move {
                of_step(
                    STEP,
                    outside.ask_and_keep("it", "q", || async move { answer }),
                )
                .await
            }
        };
        assert_eq!(keep(1).await, Some(1));
        assert_eq!(keep(2).await, Some(1));
        outside.observed(STEP);
        assert_eq!(keep(2).await, Some(2));
    }

    #[tokio::test]
    async fn a_question_hides_the_secrets_of_its_object_also_those_that_it_learns() {
        let (outside, _woken) = outside(1);
        let object = redact::Redactor::default();
        let asked = redact::scope(object.clone(), async {
            redact::guard("canary-of-the-pass-71c0".into());
            let text = || async {
                redact::guard("canary-of-a-question-0d3e".into());
                redact::redact("canary-of-the-pass-71c0").into_owned()
            };
            of_step(STEP, outside.ask("it", "q", text)).await
        });
        assert_eq!(asked.await.as_deref(), Some(redact::REDACTED));
        assert_eq!(
            object.redact("canary-of-a-question-0d3e"),
            redact::REDACTED,
            "what it learned is hidden in what the pass writes"
        );
        let panics = async {
            let value = redact::guard("canary-of-a-panic-88ab".into());
            assert!(
                std::hint::black_box(false),
                "no column {}",
                value.expose_secret()
            );
            1
        };
        let asked = redact::scope(object, ask(&outside, "q", panics));
        let told = AssertUnwindSafe(asked).catch_unwind().await;
        let told = told.map_err(|panic| causes::panic(panic.as_ref()));
        assert_eq!(told, Err("no column [redacted]".to_owned()));
    }

    #[tokio::test]
    async fn a_panic_of_a_question_is_one_of_the_pass_that_asked() {
        let (outside, _woken) = outside(1);
        let panics = async {
            assert!(std::hint::black_box(false), "index 7 is out of bounds");
            1
        };
        let asked = AssertUnwindSafe(ask(&outside, "q", panics)).catch_unwind();
        let told = asked.await.map_err(|panic| causes::panic(panic.as_ref()));
        assert_eq!(told, Err("index 7 is out of bounds".to_owned()));
        assert_eq!(
            ask(&outside, "q", async { 1 }).await,
            Some(1),
            "its place is free"
        );
    }
}
