use super::*;
use crate::api::PhaseName;

const UID: &str = "0000-1111";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn route(receiver: &str) -> Route {
    Route {
        receiver: receiver.to_owned(),
        ..Route::default()
    }
}

fn fact(topic: Topic, state: &str, manner: Manner) -> Fact {
    let (event, severity) = match manner {
        Manner::Alarm => (
            NotificationEvent::IntegrationDegraded,
            NotificationSeverity::Warning,
        ),
        _ => (NotificationEvent::PhasePassed, NotificationSeverity::Info),
    };
    Fact {
        title: state.to_owned(),
        ..Fact::new(topic, state, (manner, event, severity))
    }
}

fn integration(state: &str, manner: Manner) -> Fact {
    fact(Topic::Integration("whatsapp".to_owned()), state, manner)
}

fn failed() -> Fact {
    integration("failed", Manner::Alarm)
}

fn verified() -> Fact {
    integration("verified", Manner::Quiet)
}

/// What a receiver would be sent, in order, each delivered at once.
fn drain(outbox: &mut Outbox, routes: &[Route], now: Timestamp) -> Vec<(String, Stage, String)> {
    let mut sent = Vec::new();
    for _ in 0..1000 {
        outbox.begin(routes, now);
        let due: Vec<(String, Message)> = outbox
            .due(routes, now)
            .into_iter()
            .map(|due| (due.receiver.to_owned(), due.message))
            .collect();
        if due.is_empty() {
            return sent;
        }
        for (receiver, message) in due {
            assert_eq!(
                outbox.ended(&receiver, &message.id, Ended::Delivered, now),
                None
            );
            sent.push((receiver, message.stage, message.title));
        }
    }
    panic!("the outbox never gets empty");
}

fn told(receiver: &str, stage: Stage, title: &str) -> (String, Stage, String) {
    (receiver.to_owned(), stage, title.to_owned())
}

#[test]
fn one_piece_of_news_is_one_message_however_often_it_is_looked_at() {
    let routes = [route("ops")];
    let mut outbox = Outbox::default();
    assert!(outbox.take_in(&[failed()], &routes, UID, at(0)));
    for second in 1..50 {
        assert!(!outbox.take_in(&[failed()], &routes, UID, at(second)));
    }
    let sent = drain(&mut outbox, &routes, at(50));
    assert_eq!(sent, [told("ops", Stage::Open, "failed")]);
}

#[test]
fn the_end_of_an_alarm_is_told_to_whoever_was_told_of_its_beginning() {
    let mut ops = route("ops");
    ops.min_severity = NotificationSeverity::Warning;
    let mut critical = route("critical");
    critical.min_severity = NotificationSeverity::Critical;
    let routes = [ops, critical];
    let mut outbox = Outbox::default();
    outbox.take_in(&[failed()], &routes, UID, at(0));
    let begun = drain(&mut outbox, &routes, at(1));
    assert_eq!(begun, [told("ops", Stage::Open, "failed")]);

    outbox.take_in(&[verified()], &routes, UID, at(60));

    let ended = drain(&mut outbox, &routes, at(61));
    assert_eq!(ended, [told("ops", Stage::Closed, "verified")]);
    assert_eq!(outbox.told(&verified().topic).unwrap().open, None);
}

#[test]
fn what_was_never_wrong_is_not_told_to_be_well_again() {
    let routes = [route("ops")];
    let mut outbox = Outbox::default();
    outbox.take_in(&[verified()], &routes, UID, at(0));
    assert_eq!(outbox.waiting(), 0);
}

#[test]
fn the_beginning_and_the_end_of_an_alarm_have_one_key_and_the_next_alarm_another() {
    let routes = [route("ops")];
    let mut outbox = Outbox::default();
    let mut keys = Vec::new();
    for (fact, second) in [
        (failed(), 0),
        (verified(), 10),
        (failed(), 20),
        (verified(), 30),
    ] {
        outbox.take_in(&[fact], &routes, UID, at(second));
        keys.extend(
            outbox
                .due(&routes, at(second))
                .iter()
                .map(|due| due.message.key.clone()),
        );
        drain(&mut outbox, &routes, at(second));
    }
    assert_eq!(keys.len(), 4);
    assert_eq!(keys[0], keys[1]);
    assert_eq!(keys[2], keys[3]);
    assert_ne!(keys[0], keys[2]);
}

#[test]
fn an_alarm_that_ends_before_it_was_sent_is_told_to_nobody() {
    let routes = [route("ops")];
    let mut outbox = Outbox::default();
    outbox.take_in(&[failed()], &routes, UID, at(0));
    outbox.take_in(&[verified()], &routes, UID, at(1));
    assert_eq!(drain(&mut outbox, &routes, at(2)), []);
}

#[test]
fn an_alarm_that_may_have_arrived_is_sent_again_before_its_end() {
    let routes = [route("ops")];
    let mut outbox = Outbox::default();
    outbox.take_in(&[failed()], &routes, UID, at(0));
    let id = outbox.due(&routes, at(0))[0].message.id.clone();
    outbox.ended("ops", &id, Ended::Again(None), at(1));
    outbox.take_in(&[verified()], &routes, UID, at(2));
    let sent = drain(&mut outbox, &routes, at(600));
    let both = [
        told("ops", Stage::Open, "failed"),
        told("ops", Stage::Closed, "verified"),
    ];
    assert_eq!(sent, both);
}

#[test]
fn while_nothing_is_known_an_alarm_stays_and_none_begins() {
    let routes = [route("ops")];
    let mut outbox = Outbox::default();
    let unknown = || [Fact::unknown(failed().topic)];
    outbox.take_in(&unknown(), &routes, UID, at(0));
    assert_eq!(outbox.waiting(), 0);
    outbox.take_in(&[failed()], &routes, UID, at(1));
    drain(&mut outbox, &routes, at(1));
    outbox.take_in(&unknown(), &routes, UID, at(2));
    outbox.take_in(&[failed()], &routes, UID, at(3));
    assert_eq!(outbox.waiting(), 0);
    outbox.take_in(&[verified()], &routes, UID, at(4));
    assert_eq!(outbox.waiting(), 1);
}

#[test]
fn a_phase_that_fails_is_told_once_though_it_is_tried_again_and_again() {
    let routes = [route("ops")];
    let topic = || Topic::Phase(PhaseName::Deploy);
    let begun = |n: u32| fact(topic(), &format!("begun {n}"), Manner::Between);
    let failed = || fact(topic(), "failed", Manner::Alarm);
    let mut outbox = Outbox::default();
    for n in 0..20 {
        outbox.take_in(&[begun(n)], &routes, UID, at(i64::from(n) * 10));
        outbox.take_in(&[failed()], &routes, UID, at(i64::from(n) * 10 + 5));
    }
    outbox.take_in(
        &[fact(topic(), "passed", Manner::Once)],
        &routes,
        UID,
        at(500),
    );
    let sent = drain(&mut outbox, &routes, at(501));
    let all = [
        told("ops", Stage::Once, "begun 0"),
        told("ops", Stage::Open, "failed"),
        told("ops", Stage::Closed, "passed"),
    ];
    // The beginning of the alarm was not sent yet when it ended, so neither is told.
    assert_eq!(sent, all[..1]);
}

#[test]
fn an_alarm_about_what_left_the_spec_is_ended() {
    let routes = [route("ops")];
    let mut outbox = Outbox::default();
    outbox.take_in(&[failed()], &routes, UID, at(0));
    drain(&mut outbox, &routes, at(0));
    outbox.take_in(&[], &routes, UID, at(10));
    let sent = drain(&mut outbox, &routes, at(10));
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].1, Stage::Closed);
    assert!(outbox.told(&failed().topic).is_none());
}

#[test]
fn of_an_activation_that_is_live_already_only_what_is_wrong_is_news() {
    let routes = [route("ops")];
    let passed = fact(Topic::Phase(PhaseName::Deploy), "passed 1", Manner::Once);
    let facts = [passed, failed()];
    let mut outbox = Outbox::of_a_live_one(&facts);
    outbox.take_in(&facts, &routes, UID, at(0));
    let sent = drain(&mut outbox, &routes, at(0));
    assert_eq!(sent, [told("ops", Stage::Open, "failed")]);
}

#[test]
fn a_failed_try_is_repeated_with_growing_pauses_and_given_up_after_an_hour() {
    let routes = [route("ops")];
    let mut outbox = Outbox::default();
    outbox.take_in(&[failed()], &routes, UID, at(0));
    let mut now = at(0);
    let mut pauses = Vec::new();
    let given_up = loop {
        let next = outbox.next_time(&routes, now).unwrap();
        pauses.push(next.duration_since(now).as_secs());
        now = next;
        let id = outbox.due(&routes, now)[0].message.id.clone();
        if let Some(message) = outbox.ended("ops", &id, Ended::Again(None), now) {
            break message;
        }
    };
    assert_eq!(given_up.title, "failed");
    assert_eq!(pauses[..9], [0, 5, 10, 20, 40, 80, 160, 320, 600]);
    let hour = now.duration_since(at(0)).as_secs();
    assert!((3600..=4200).contains(&hour), "{hour}");
    assert_eq!(outbox.waiting(), 0);
}

#[test]
fn a_pause_that_the_receiver_names_is_kept_and_a_refusal_is_final() {
    let routes = [route("ops")];
    let mut outbox = Outbox::default();
    outbox.take_in(&[failed()], &routes, UID, at(0));
    let id = outbox.due(&routes, at(0))[0].message.id.clone();
    let minute = Ended::Again(Some(Duration::from_secs(60)));
    outbox.ended("ops", &id, minute, at(0));
    assert!(outbox.due(&routes, at(59)).is_empty());
    assert_eq!(outbox.due(&routes, at(60)).len(), 1);
    let refused = outbox.ended("ops", &id, Ended::Refused, at(60));
    assert_eq!(refused.unwrap().id, id);
}

#[test]
fn a_receiver_that_does_not_answer_holds_back_no_other() {
    let routes = [route("deaf"), route("ops")];
    let mut outbox = Outbox::default();
    outbox.take_in(&[failed()], &routes, UID, at(0));
    let id = outbox.due(&routes, at(0))[0].message.id.clone();
    outbox.ended("deaf", &id, Ended::Again(None), at(0));
    let sent = drain(&mut outbox, &routes, at(1));
    assert_eq!(sent, [told("ops", Stage::Open, "failed")]);
}

#[test]
fn a_receiver_gets_at_most_its_messages_an_hour_and_whatever_is_critical() {
    let mut ops = route("ops");
    ops.max_per_hour = 2;
    let routes = [ops];
    let news = |n: i64, severity| Fact {
        severity,
        ..fact(Topic::Integration(n.to_string()), "failed", Manner::Alarm)
    };
    let mut facts: Vec<Fact> = (0..4)
        .map(|n| news(n, NotificationSeverity::Warning))
        .collect();
    let mut outbox = Outbox::default();
    outbox.take_in(&facts, &routes, UID, at(0));
    assert_eq!(drain(&mut outbox, &routes, at(0)).len(), 2);
    assert_eq!(outbox.next_time(&routes, at(0)), Some(at(3600)));
    assert_eq!(drain(&mut outbox, &routes, at(3600)).len(), 2);

    facts.push(news(9, NotificationSeverity::Critical));
    outbox.take_in(&facts, &routes, UID, at(3601));
    assert_eq!(drain(&mut outbox, &routes, at(3601)).len(), 1);
}

#[test]
fn when_too_many_wait_the_least_important_ones_are_left_out_and_counted() {
    let routes = [route("ops")];
    let mut facts: Vec<Fact> = (0..200)
        .map(|n| fact(Topic::Integration(n.to_string()), "failed", Manner::Alarm))
        .collect();
    facts.push(Fact {
        severity: NotificationSeverity::Critical,
        ..fact(Topic::Site, "down", Manner::Alarm)
    });
    let mut outbox = Outbox::default();
    outbox.take_in(&facts, &routes, UID, at(0));
    assert_eq!(outbox.waiting(), MAX_PENDING);
    assert_eq!(outbox.left_out("ops"), 201 - MAX_PENDING as u32);
    let sent = drain(&mut outbox, &routes, at(0));
    assert_eq!(sent[0].2, "down", "what is critical goes first");
}

#[test]
fn after_a_restart_nothing_is_told_twice_and_what_waits_is_sent_with_the_same_id() {
    let routes = [route("ops")];
    let mut outbox = Outbox::default();
    outbox.take_in(&[failed()], &routes, UID, at(0));
    let text = serde_json::to_string(&outbox).unwrap();

    let mut again: Outbox = serde_json::from_str(&text).unwrap();

    assert_eq!(again, outbox);
    assert!(!again.take_in(&[failed()], &routes, UID, at(100)));
    let before = outbox.due(&routes, at(100))[0].message.id.clone();
    assert_eq!(again.due(&routes, at(100))[0].message.id, before);
}

#[test]
fn the_largest_outbox_fits_a_config_map() {
    let routes: Vec<Route> = (0..8)
        .map(|n| route(&format!("{n}-{}", "r".repeat(60))))
        .collect();
    // As many as there are integrations, objectives and incidents at most.
    let facts: Vec<Fact> = (0..128)
        .map(|n| Fact {
            owner: Some("o".repeat(128)),
            title: "t".repeat(5000),
            text: "\u{1}".repeat(5000),
            next_action: "\"".repeat(5000),
            ..fact(Topic::Integration(n.to_string()), "failed", Manner::Alarm)
        })
        .collect();
    let mut outbox = Outbox::default();
    outbox.take_in(&facts, &routes, UID, at(0));
    let size = serde_json::to_string(&outbox).unwrap().len();
    assert!(size < 700 * 1024, "{size} bytes");
}

fn passed(phase: PhaseName) -> Fact {
    fact(
        Topic::Phase(phase),
        &format!("{phase} passed"),
        Manner::Once,
    )
}

#[test]
fn news_that_waits_together_is_one_message_and_a_repeat_of_it_is_the_same() {
    let routes = [route("ops")];
    let mut outbox = Outbox::default();
    let facts = [
        passed(PhaseName::Preflight),
        passed(PhaseName::Provision),
        failed(),
    ];
    outbox.take_in(&facts, &routes, UID, at(0));
    assert!(outbox.begin(&routes, at(0)));
    assert!(!outbox.begin(&routes, at(0)), "it is noted once");
    let first = outbox.due(&routes, at(0))[0].message.clone();
    assert_eq!(first.title, "Provision passed (and 1 more)");
    assert_eq!(first.text, "Preflight passed; Provision passed");
    outbox.ended("ops", &first.id, Ended::Again(None), at(1));
    // What happens meanwhile is another message.
    let later = [&facts[..], &[passed(PhaseName::Deploy)]].concat();
    outbox.take_in(&later, &routes, UID, at(2));
    outbox.begin(&routes, at(60));
    assert_eq!(outbox.due(&routes, at(60))[0].message, first);
    let sent = drain(&mut outbox, &routes, at(60));
    let titles: Vec<&str> = sent.iter().map(|(_, _, title)| title.as_str()).collect();
    assert_eq!(
        titles,
        ["Provision passed (and 1 more)", "failed", "Deploy passed"]
    );
}

#[test]
fn what_was_about_to_be_sent_when_the_process_ended_may_have_arrived() {
    let routes = [route("ops")];
    let mut outbox = Outbox::default();
    outbox.take_in(&[failed()], &routes, UID, at(0));
    outbox.begin(&routes, at(0));
    let text = serde_json::to_string(&outbox).unwrap();

    let mut again: Outbox = serde_json::from_str(&text).unwrap();

    // So its end is told, though no answer was ever seen.
    again.take_in(&[verified()], &routes, UID, at(1));
    let sent = drain(&mut again, &routes, at(2));
    let stages: Vec<Stage> = sent.iter().map(|(_, stage, _)| *stage).collect();
    assert_eq!(stages, [Stage::Open, Stage::Closed]);
}

#[test]
fn what_was_left_out_is_said_by_the_next_message_and_once() {
    let routes = [route("ops")];
    let mut outbox = Outbox::default();
    outbox.take_in(&[failed()], &routes, UID, at(0));
    outbox.begin(&routes, at(0));
    let id = outbox.due(&routes, at(0))[0].message.id.clone();
    assert!(outbox.ended("ops", &id, Ended::Refused, at(1)).is_some());
    assert!(outbox.fails("ops", at(1)), "the first one");
    assert!(!outbox.fails("ops", at(2)), "it is told once");

    // An hour later as well: nobody has been told yet.
    let facts = [failed(), passed(PhaseName::Deploy)];
    outbox.take_in(&facts, &routes, UID, at(4000));
    outbox.begin(&routes, at(4000));
    let message = outbox.due(&routes, at(4000))[0].message.clone();
    assert_eq!(message.text, "1 message before this one did not reach you");
    outbox.ended("ops", &message.id, Ended::Delivered, at(4001));
    assert!(outbox.fails("ops", at(4002)), "it had worked again");
    let facts = [failed(), passed(PhaseName::SmokeTest)];
    outbox.take_in(&facts, &routes, UID, at(4003));
    outbox.begin(&routes, at(4003));
    assert_eq!(outbox.due(&routes, at(4003))[0].message.text, "");
}

#[test]
fn a_test_is_tried_once_because_a_person_waits_for_its_result() {
    let routes = [route("ops")];
    let mut outbox = Outbox::default();
    let how = (
        Manner::Once,
        NotificationEvent::Test,
        NotificationSeverity::Info,
    );
    let test = Fact::new(Topic::Test, "now", how);
    outbox.take_in(&[test], &routes, UID, at(0));
    outbox.begin(&routes, at(0));
    let id = outbox.due(&routes, at(0))[0].message.id.clone();
    assert!(
        outbox
            .ended("ops", &id, Ended::Again(None), at(1))
            .is_some()
    );
    assert_eq!((outbox.waiting(), outbox.left_out("ops")), (0, 0));
}

#[test]
fn an_hour_is_counted_from_the_first_try_and_not_from_the_news() {
    let mut ops = route("ops");
    ops.max_per_hour = 1;
    let routes = [ops];
    let facts: Vec<Fact> = (0..2)
        .map(|n| fact(Topic::Integration(n.to_string()), "failed", Manner::Alarm))
        .collect();
    let mut outbox = Outbox::default();
    outbox.take_in(&facts, &routes, UID, at(0));
    assert_eq!(drain(&mut outbox, &routes, at(0)).len(), 1);
    // The second one waited for its hour, and is not given up by its first failure.
    assert!(outbox.begin(&routes, at(3700)));
    let id = outbox.due(&routes, at(3700))[0].message.id.clone();
    let ended = outbox.ended("ops", &id, Ended::Again(None), at(3701));
    assert_eq!((ended, outbox.waiting()), (None, 1));
}

#[test]
fn what_happens_in_one_second_is_not_one_message() {
    let routes = [route("ops")];
    let topic = || Topic::Phase(PhaseName::Preflight);
    let mut outbox = Outbox::default();
    let soon = at(0).checked_add(SignedDuration::from_millis(2)).unwrap();
    let begun = fact(topic(), "begun 1", Manner::Between);
    outbox.take_in(&[begun], &routes, UID, at(0));
    let ids = |outbox: &Outbox| outbox.due(&routes, soon)[0].message.id.clone();
    let first = ids(&outbox);
    outbox.ended("ops", &first, Ended::Delivered, at(0));
    outbox.take_in(
        &[fact(topic(), "passed 1", Manner::Once)],
        &routes,
        UID,
        soon,
    );
    assert_ne!(ids(&outbox), first);
}

fn critical(name: &str) -> Fact {
    Fact {
        severity: NotificationSeverity::Critical,
        ..fact(Topic::Integration(name.to_owned()), "lost", Manner::Alarm)
    }
}

fn titles(outbox: &Outbox, routes: &[Route], now: Timestamp) -> Vec<String> {
    let due = outbox.due(routes, now).into_iter();
    due.map(|due| format!("{:?}", due.message.topic)).collect()
}

#[test]
fn what_is_critical_waits_for_no_hour_and_for_no_retry_of_something_less_urgent() {
    let mut ops = route("ops");
    ops.max_per_hour = 1;
    let routes = [ops];
    let mut outbox = Outbox::default();
    outbox.take_in(&[failed()], &routes, UID, at(0));
    drain(&mut outbox, &routes, at(1));
    // The hour is full: the next warning waits.
    let other = fact(
        Topic::Integration("other".to_owned()),
        "failed",
        Manner::Alarm,
    );
    let facts = [failed(), other.clone()];
    outbox.take_in(&facts, &routes, UID, at(2));
    assert!(outbox.due(&routes, at(3)).is_empty());
    let facts = [failed(), other, critical("database")];
    outbox.take_in(&facts, &routes, UID, at(4));
    assert_eq!(outbox.next_time(&routes, at(4)), Some(at(4)));
    outbox.begin(&routes, at(4));
    let due = titles(&outbox, &routes, at(4));
    assert_eq!(due.len(), 1, "{due:?}");
    assert!(due[0].contains("database"), "{due:?}");

    // A warning waits for its next try.
    let routes = [route("ops")];
    let mut outbox = Outbox::default();
    outbox.take_in(&[failed()], &routes, UID, at(0));
    outbox.begin(&routes, at(0));
    let id = outbox.due(&routes, at(0))[0].message.id.clone();
    let again = Ended::Again(Some(Duration::from_secs(500)));
    outbox.ended("ops", &id, again, at(1));
    outbox.take_in(&[failed(), critical("database")], &routes, UID, at(2));
    outbox.begin(&routes, at(2));
    let due = titles(&outbox, &routes, at(2));
    assert!(due.len() == 1 && due[0].contains("database"), "{due:?}");
}

#[test]
fn the_end_of_an_alarm_overtakes_its_beginning_never_however_critical_it_is() {
    let mut ops = route("ops");
    ops.max_per_hour = 1;
    let routes = [ops];
    let mut outbox = Outbox::default();
    outbox.take_in(&[failed()], &routes, UID, at(0));
    drain(&mut outbox, &routes, at(1));
    let topic = |severity, state: &str| Fact {
        severity,
        ..fact(
            Topic::Integration("database".to_owned()),
            state,
            Manner::Alarm,
        )
    };
    // It grows worse before its beginning was told.
    for (second, severity, state) in [
        (2, NotificationSeverity::Warning, "slow"),
        (3, NotificationSeverity::Critical, "lost"),
    ] {
        outbox.take_in(
            &[failed(), topic(severity, state)],
            &routes,
            UID,
            at(second),
        );
    }
    let sent = drain(&mut outbox, &routes, at(4));
    let sent: Vec<&str> = sent.iter().map(|(_, _, title)| title.as_str()).collect();
    assert_eq!(sent, ["slow", "lost"]);
}
