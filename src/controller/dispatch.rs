//! Between the queue and the passes: puts in what is due, and begins what the queue gives out. It
//! decides nothing; the rules are in `process::workqueue`.

use std::time::Instant;

use futures::{Stream, StreamExt};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::process::workqueue::{Job, WorkQueue};

/// Runs until `stop`, then waits for the passes that run. `apply` is called for each trigger, and
/// `begin` for what the queue gives out; the pass must tell the queue its end before it returns.
pub(super) async fn run<T, P>(
    queue: &WorkQueue,
    triggers: impl Stream<Item = T>,
    apply: impl Fn(T),
    begin: impl Fn(Job) -> P,
    stop: CancellationToken,
) where
    P: Future<Output = ()> + Send + 'static,
{
    let mut triggers = std::pin::pin!(triggers.fuse());
    let mut passes = JoinSet::new();
    while !stop.is_cancelled() {
        while let Some(job) = queue.next(Instant::now()) {
            passes.spawn(begin(job));
        }
        tokio::select! {
            () = stop.cancelled() => {}
            Some(trigger) = triggers.next() => apply(trigger),
            Some(_) = passes.join_next() => {}
            () = until(queue.wakes_at()) => {}
        }
    }
    // What waits is left to the next process.
    while passes.join_next().await.is_some() {}
}

/// Never, without an instant.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex, PoisonError},
        time::Duration,
    };

    use futures::{channel::mpsc, stream};

    use super::*;
    use crate::process::workqueue::{Kind, Limits, Object};

    fn open(workers: usize) -> Arc<WorkQueue> {
        let queue = WorkQueue::new(Instant::now());
        queue.limit(Limits {
            workers,
            single: false,
        });
        queue.open(None);
        Arc::new(queue)
    }

    #[tokio::test]
    async fn what_is_due_begins_also_while_another_pass_hangs() {
        let queue = open(4);
        let (sender, triggers) = mpsc::unbounded::<(Object, Kind)>();
        let begun: Arc<Mutex<Vec<Object>>> = Arc::default();
        let stop = CancellationToken::new();
        for name in ["hangs", "ends"] {
            let sent = sender.unbounded_send((Object::new(name, "x"), Kind::Change));
            assert!(sent.is_ok());
        }
        let (all, seen) = (queue.clone(), begun.clone());
        let (end, freed) = (stop.clone(), CancellationToken::new());
        let free = freed.clone();
        let run = run(
            &queue,
            triggers,
            |(object, kind)| {
                let now = Instant::now();
                queue.add(&object, kind, now, now);
            },
            move |job| {
                let mut begun = seen.lock().unwrap_or_else(PoisonError::into_inner);
                begun.push(job.object.clone());
                if begun.len() == 3 {
                    end.cancel();
                    free.cancel();
                }
                let (queue, free) = (all.clone(), free.clone());
                async move {
                    let now = Instant::now();
                    match job.object.namespace.as_str() {
                        "hangs" => free.cancelled().await,
                        // Due again a moment later.
                        _ => queue.add(
                            &job.object,
                            Kind::Recheck,
                            now + Duration::from_millis(5),
                            now,
                        ),
                    }
                    queue.finished(&job.object, Instant::now());
                }
            },
            stop,
        );
        assert!(
            tokio::time::timeout(Duration::from_secs(30), run)
                .await
                .is_ok()
        );
        let begun = begun.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(begun.len(), 3, "{begun:?}");
        assert_eq!(queue.running(), 0, "it waits for what has begun");
    }

    #[tokio::test]
    async fn after_the_signal_nothing_begins_and_nothing_is_waited_for() {
        let queue = open(1);
        let stop = CancellationToken::new();
        stop.cancel();
        let now = Instant::now();
        queue.add(&Object::new("a", "x"), Kind::Change, now, now);
        let begin = |_| async {};
        run(&queue, stream::pending::<()>(), |()| {}, begin, stop).await;
        assert_eq!(queue.depth(Instant::now()), 1);
    }
}
