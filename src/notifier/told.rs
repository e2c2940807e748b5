//! The events about receivers: a person who is not reached must hear of it elsewhere. Pure.

use kube::runtime::events::{Event, EventType};

use super::{
    deliver::{Trouble, references},
    snapshot::{Receiver, Snapshot},
};
use crate::{
    api::{ANNOTATION_TEST_NOTIFICATION, Reason, status::one_line},
    notify::{Ended, Message},
};

/// Longest note of an event, in bytes (kubernetes/api, events/v1/types.go).
const MAX_NOTE: usize = 1024;

/// Longest title of a message in a note, in bytes.
const MAX_TITLE: usize = 80;

fn event(type_: EventType, reason: &str, note: &str) -> Event {
    Event {
        type_,
        reason: reason.to_owned(),
        note: Some(one_line(note, MAX_NOTE)),
        action: "Notify".to_owned(),
        secondary: None,
    }
}

fn warning(note: &str) -> Event {
    event(
        EventType::Warning,
        Reason::NotificationFailed.as_str(),
        note,
    )
}

/// A test of an object that has no receivers.
pub(super) fn no_receiver() -> Event {
    warning(
        "nobody is told of this activation, so a test reaches nobody; next: name receivers in `spec.notifications`",
    )
}

/// A test has arrived.
pub(super) fn test_arrived(receiver: &Receiver) -> Event {
    let note = format!(
        "the test has reached the receiver {}",
        receiver.route.receiver
    );
    event(EventType::Normal, "NotificationSent", &note)
}

/// A test has not arrived.
pub(super) fn test_failed(snapshot: &Snapshot, receiver: &Receiver, trouble: &Trouble) -> Event {
    warning(&format!(
        "the test has not reached the receiver {}: {trouble}; next: {}",
        receiver.route.receiver,
        action(snapshot, receiver, trouble)
    ))
}

/// A message was given up.
pub(super) fn given_up(
    snapshot: &Snapshot,
    receiver: &Receiver,
    (message, ended): (&Message, Ended),
    trouble: &Trouble,
) -> Event {
    let name = &receiver.route.receiver;
    let what = match ended {
        Ended::Refused => format!("the receiver {name} refuses messages"),
        _ => format!("the receiver {name} has taken no message for an hour"),
    };
    warning(&format!(
        "{what}: {trouble}; it was not told: {}; next: {}",
        one_line(&message.title, MAX_TITLE),
        action(snapshot, receiver, trouble)
    ))
}

/// What a person can do about it.
fn action(snapshot: &Snapshot, receiver: &Receiver, trouble: &Trouble) -> String {
    let owner = &snapshot.owner;
    let places: Vec<String> = references(&receiver.spec)
        .map(|reference| format!("`{}` of the Secret {}", reference.key, reference.name))
        .collect();
    let places = places.join(" and ");
    let mend = match trouble {
        Trouble::NotAllowed(secret) => format!(
            "`kubectl -n {} label secret {secret} golive.dev/allow=true`",
            owner.namespace
        ),
        Trouble::HoldsToken(_) => {
            "put the values of the receiver into a Secret of their own, and name that one".to_owned()
        }
        Trouble::NotPublic => {
            "use a public address, or let the operator's administrator allow its origin with --allow-receiver".to_owned()
        }
        Trouble::Unread(_) | Trouble::Unwritten => "look at the operator's log".to_owned(),
        Trouble::Unconnected | Trouble::TimedOut(_) | Trouble::NoHttp => {
            format!("see whether the receiver works and {places} names it")
        }
        _ => format!("correct {places}"),
    };
    format!(
        "{mend}; then test it: `kubectl -n {} annotate activation {} --overwrite {ANNOTATION_TEST_NOTIFICATION}=$(date +%s)`",
        owner.namespace, owner.name
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notifier::snapshot::testing::{receiver, snapshot};

    #[test]
    fn a_person_reads_which_receiver_why_and_what_to_do() {
        let snapshot = snapshot(vec![receiver("ops")]);
        let note = |trouble: Trouble| {
            let event = test_failed(&snapshot, &snapshot.receivers[0], &trouble);
            event.note.unwrap_or_default()
        };
        assert_eq!(
            note(Trouble::Answered(404)),
            "the test has not reached the receiver ops: it answered 404; next: correct `url` of the Secret chat; then test it: `kubectl -n cabanas annotate activation mvp --overwrite golive.dev/test-notification=$(date +%s)`"
        );
        assert!(note(Trouble::NotPublic).contains("--allow-receiver"));
        let label = "`kubectl -n cabanas label secret chat golive.dev/allow=true`";
        assert!(note(Trouble::NotAllowed("chat".to_owned())).contains(label));
    }
}
