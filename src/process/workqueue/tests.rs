use std::time::{Duration, Instant};

use super::{Job, Kind, Limits, Object, Queue};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn queue(workers: usize) -> (Queue, Instant) {
    let t0 = Instant::now();
    let limits = Limits {
        workers,
        single: false,
    };
    let mut queue = Queue::new(limits, t0);
    queue.open(None);
    (queue, t0)
}

fn object(namespace: &str, name: impl ToString) -> Object {
    Object::new(namespace, name.to_string())
}

/// Adds `count` objects of a namespace that are due now.
fn add_many(queue: &mut Queue, namespace: &str, count: u32, kind: Kind, now: Instant) {
    for name in 0..count {
        queue.add(&object(namespace, name), kind, now, now);
    }
}

/// Takes all that may begin now.
fn take_all(queue: &mut Queue, now: Instant) -> Vec<Job> {
    std::iter::from_fn(|| queue.next(now)).collect()
}

fn namespaces(jobs: &[Job]) -> Vec<&str> {
    jobs.iter()
        .map(|job| job.object.namespace.as_str())
        .collect()
}

#[test]
fn an_object_waits_from_when_it_is_due_not_from_when_it_was_added() {
    let (mut queue, t0) = queue(1);
    let a = object("cabanas", "a");
    queue.add(&a, Kind::Recheck, t0 + 30 * SECOND, t0);
    assert_eq!(queue.next(t0), None);
    assert_eq!(queue.depth(t0), 0);
    assert_eq!(queue.wakes_at(), Some(t0 + 30 * SECOND));
    assert_eq!(queue.depth(t0 + 30 * SECOND), 1);
    let job = queue.next(t0 + 33 * SECOND).map(|job| job.waited);
    assert_eq!(job, Some(3 * SECOND));
}

#[test]
fn the_earliest_time_and_the_most_urgent_kind_count() {
    let (mut queue, t0) = queue(1);
    let a = object("cabanas", "a");
    queue.add(&a, Kind::Retry, t0 + 30 * SECOND, t0);
    queue.add(&a, Kind::Change, t0, t0);
    queue.add(&a, Kind::Recheck, t0 + 90 * SECOND, t0);
    let job = queue.next(t0).map(|job| job.kind);
    assert_eq!(job, Some(Kind::Change));
    assert_eq!(queue.wakes_at(), None, "nothing else is left of it");
}

#[test]
fn an_object_is_in_one_pass_at_a_time_and_due_again_at_its_end() {
    let (mut queue, t0) = queue(8);
    let a = object("cabanas", "a");
    queue.add(&a, Kind::Change, t0, t0);
    assert!(queue.next(t0).is_some());
    queue.add(&a, Kind::Recheck, t0 + MINUTE, t0);
    queue.add(&a, Kind::Change, t0, t0);
    assert_eq!(queue.next(t0), None);
    queue.finished(&a, t0 + SECOND);
    let job = queue.next(t0 + SECOND).map(|job| job.kind);
    assert_eq!(job, Some(Kind::Change));
}

#[test]
fn a_change_is_next_however_many_retries_wait_in_its_own_namespace() {
    let (mut queue, t0) = queue(1);
    add_many(&mut queue, "cabanas", 1500, Kind::Retry, t0);
    queue.add(&object("cabanas", "seen"), Kind::Progress, t0, t0);
    queue.add(&object("cabanas", "edited"), Kind::Change, t0 + SECOND, t0);
    let now = t0 + SECOND;
    let kinds = ["edited", "seen", "0"].map(|name| {
        let job = queue.next(now).map(|job| job.object);
        assert_eq!(job, Some(object("cabanas", name)));
        queue.finished(&object("cabanas", name), now);
    });
    assert_eq!(kinds.len(), 3);
}

#[test]
fn of_two_namespaces_each_gets_its_turn_however_much_one_has_to_do() {
    let (mut queue, t0) = queue(1);
    add_many(&mut queue, "broken", 1500, Kind::Retry, t0);
    add_many(&mut queue, "shop", 3, Kind::Retry, t0 + SECOND);
    let now = t0 + SECOND;
    let mut served = Vec::new();
    for _ in 0..6 {
        let job = queue.next(now).map(|job| job.object);
        let Some(job) = job else {
            unreachable!("there is work")
        };
        queue.finished(&job, now);
        served.push(job.namespace);
    }
    let shop = served.iter().filter(|namespace| *namespace == "shop");
    assert_eq!(shop.count(), 3, "{served:?}");
}

#[test]
fn a_namespace_that_holds_its_share_leaves_workers_to_the_others() {
    let (mut queue, t0) = queue(32);
    add_many(&mut queue, "tarpits", 64, Kind::Progress, t0);
    assert_eq!(take_all(&mut queue, t0).len(), 16);
    // They hang; another one is served at once, and a third one as well.
    queue.add(&object("shop", "a"), Kind::Progress, t0, t0);
    queue.add(&object("books", "a"), Kind::Recheck, t0, t0);
    let jobs = take_all(&mut queue, t0);
    assert_eq!(namespaces(&jobs), ["shop", "books"]);
    // With one namespace alone there is nobody to share with.
    let single = Limits {
        workers: 32,
        single: true,
    };
    queue.limit(single);
    assert_eq!(take_all(&mut queue, t0).len(), 14);
}

#[test]
fn retries_and_rechecks_leave_half_of_the_workers_to_what_is_more_urgent() {
    let (mut queue, t0) = queue(8);
    for namespace in ["a", "b", "c", "d", "e"] {
        add_many(&mut queue, namespace, 9, Kind::Retry, t0);
        add_many(&mut queue, namespace, 9, Kind::Recheck, t0);
    }
    assert_eq!(take_all(&mut queue, t0).len(), 4);
    queue.add(&object("f", "new"), Kind::Progress, t0, t0);
    assert_eq!(namespaces(&take_all(&mut queue, t0)), ["f"]);
}

#[test]
fn what_is_least_urgent_gets_a_turn_though_more_urgent_work_never_ends() {
    let (mut queue, t0) = queue(1);
    queue.add(&object("shop", "old"), Kind::Recheck, t0, t0);
    let mut passes = 0;
    loop {
        let now = t0 + SECOND;
        queue.add(&object("busy", passes), Kind::Progress, now, now);
        let Some(job) = queue.next(now) else {
            unreachable!("there is work")
        };
        queue.finished(&job.object, now);
        if job.kind == Kind::Recheck {
            break;
        }
        passes += 1;
        assert!(passes < 8, "it starves");
    }
}

#[test]
fn an_object_that_is_edited_fifty_times_a_second_starts_one_pass_a_second() {
    let (mut queue, t0) = queue(8);
    let a = object("cabanas", "a");
    let mut passes = 0;
    for edit in 0..500 {
        let now = t0 + Duration::from_millis(20) * edit;
        queue.add(&a, Kind::Change, now, now);
        if queue.next(now).is_some() {
            passes += 1;
            queue.finished(&a, now);
        }
    }
    assert!((15..=19).contains(&passes), "{passes} passes in 10 s");
    // The last edit is seen, and at most a second late.
    let end = t0 + 10 * SECOND;
    let last = queue.wakes_at().map(|at| at.saturating_duration_since(end));
    assert!(last.is_some_and(|wait| wait <= SECOND), "{last:?}");
    // After a quiet minute it is served at once again, and its deletion always is.
    let quiet = end + MINUTE;
    assert!(queue.next(quiet).is_some());
    queue.finished(&a, quiet);
    queue.add(&a, Kind::Change, quiet, quiet);
    assert!(queue.next(quiet).is_some());
    queue.finished(&a, quiet);
    for _ in 0..20 {
        queue.add(&a, Kind::Change, quiet, quiet);
        queue.next(quiet);
        queue.finished(&a, quiet);
    }
    queue.add(&a, Kind::Deletion, quiet, quiet);
    let job = queue.next(quiet).map(|job| job.kind);
    assert_eq!(job, Some(Kind::Deletion));
}

#[test]
fn nothing_begins_before_the_objects_are_listed() {
    let t0 = Instant::now();
    let limits = Limits {
        workers: 4,
        single: false,
    };
    let mut queue = Queue::new(limits, t0);
    queue.add(&object("a", "x"), Kind::Progress, t0, t0);
    queue.add(&object("b", "x"), Kind::Change, t0, t0);
    assert_eq!(queue.next(t0), None);
    let late = t0 + MINUTE * 2;
    assert_eq!(queue.stalled(late, MINUTE), None, "no restart lists them");
    queue.open(Some("b"));
    assert_eq!(namespaces(&take_all(&mut queue, t0)), ["b"]);
    queue.open(None);
    assert_eq!(namespaces(&take_all(&mut queue, t0)), ["a"]);
}

#[test]
fn a_queue_stalls_only_with_work_due_and_no_movement() {
    let (mut queue, t0) = queue(1);
    // Idle is healthy, however long.
    assert_eq!(queue.stalled(t0 + MINUTE * 60, MINUTE), None);
    // Work that is not due yet is no stall either.
    let a = object("cabanas", "a");
    queue.add(&a, Kind::Recheck, t0 + MINUTE * 10, t0);
    assert_eq!(queue.stalled(t0 + MINUTE * 10, MINUTE), None);
    let late = t0 + MINUTE * 11;
    let stall = queue.stalled(late, MINUTE);
    let stall = stall.map(|stall| (stall.waiting, stall.since));
    assert_eq!(stall, Some((1, MINUTE)));
    // Something moves: the queue is busy, not stuck.
    let b = object("cabanas", "b");
    queue.add(&b, Kind::Change, late, late);
    assert!(queue.next(late).is_some());
    assert_eq!(queue.stalled(late, MINUTE), None);
    assert!(queue.stalled(late + MINUTE, MINUTE).is_some());
}

#[test]
fn a_namespace_that_waits_for_its_own_share_is_no_stall() {
    let (mut queue, t0) = queue(4);
    add_many(&mut queue, "tarpits", 9, Kind::Progress, t0);
    assert_eq!(take_all(&mut queue, t0).len(), 2);
    assert_eq!(queue.stalled(t0 + MINUTE * 2, MINUTE), None);
    // Another one that could be served and is not: nobody serves it.
    queue.add(&object("shop", "a"), Kind::Progress, t0, t0);
    assert!(queue.stalled(t0 + MINUTE * 2, MINUTE).is_some());
}

#[test]
fn the_longest_wait_is_known_by_kind() {
    let (mut queue, t0) = queue(1);
    queue.add(&object("a", "x"), Kind::Retry, t0, t0);
    queue.add(&object("b", "x"), Kind::Retry, t0 + SECOND, t0);
    queue.add(&object("c", "x"), Kind::Change, t0 + 2 * SECOND, t0);
    let waits = queue.longest_waits(t0 + 3 * SECOND);
    assert_eq!(waits.get(&Kind::Retry), Some(&(3 * SECOND)));
    assert_eq!(waits.get(&Kind::Change), Some(&SECOND));
    assert_eq!(waits.get(&Kind::Recheck), Some(&Duration::ZERO));
}

#[test]
fn work_under_way_is_summed_and_the_longest_is_known() {
    let (mut queue, t0) = queue(4);
    queue.add(&object("a", "x"), Kind::Change, t0, t0);
    queue.add(&object("b", "x"), Kind::Change, t0 + 6 * SECOND, t0);
    assert!(queue.next(t0).is_some());
    assert!(queue.next(t0 + 6 * SECOND).is_some());
    assert_eq!(
        queue.under_way(t0 + 10 * SECOND),
        (14 * SECOND, 10 * SECOND)
    );
    queue.finished(&object("a", "x"), t0 + 10 * SECOND);
    assert_eq!(queue.running(), 1);
}
