//! A whole life, told to every kind of receiver.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use vendors::messages::{Kind, Letter};

use super::world::{NAME, Told, is, own};
use crate::support::env::LIMIT;

/// A receiver of every kind. Chats and mail get what matters, and our own webhook everything.
fn receivers() -> Value {
    let chat = |name: &str, format: &str| {
        json!({
            "name": name, "format": format, "minSeverity": "Warning",
            "webhook": {"urlSecretRef": {"name": name, "key": "url"}},
        })
    };
    let mail = |name: &str| {
        json!({
            "name": name, "minSeverity": "Warning",
            "email": {
                "urlSecretRef": {"name": name, "key": "url"},
                "from": "golive@cabanas.example", "to": ["ops@cabanas.example"],
            },
        })
    };
    let of_dba = json!({"name": "dba", "owners": ["DBA"], "events": ["PhasePassed"]});
    json!([
        own(json!({})),
        own(of_dba),
        chat("slack", "Slack"),
        chat("teams", "Teams"),
        chat("discord", "Discord"),
        mail("secure-mail"),
        mail("mail"),
        {"name": "pager", "format": "PagerDuty", "minSeverity": "Warning",
         "keySecretRef": {"name": "pager", "key": "key"}},
    ])
}

/// Waits for so many e-mails with these words in their subject.
async fn letters(told: &Told, words: &str, count: usize) -> Vec<Letter> {
    let end = Instant::now() + LIMIT;
    loop {
        let all = told.messages.mail().letters();
        let found: Vec<Letter> = all
            .iter()
            .filter(|letter| letter.header("Subject").contains(words))
            .cloned()
            .collect();
        if found.len() == count {
            return found;
        }
        let refused = told.messages.mail().refused();
        assert!(
            Instant::now() < end,
            "not {count} e-mails about {words}: {all:#?}, refused: {refused:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_receiver_is_told_once_what_opens_and_what_closes() {
    let mut told = Told::new().await;
    let defaults = told.defaults();
    told.start(&["--default-notifications", &defaults]);
    told.activate(receivers()).await;

    // A gate asks, and everybody is told in the shape that their vendor documents.
    let digest = told.asked().await;
    let asked = told.got(Kind::Json, "question", is("ApprovalRequested", "Open"));
    let asked = asked.await;
    assert_eq!(asked.body["activation"]["name"], NAME);
    let paged = told.got(Kind::PagerDuty, "page", |got| {
        got.body["event_action"] == "trigger"
    });
    let paged = paged.await;
    let platform = is("ApprovalRequested", "Open");
    told.got(Kind::CloudEvents, "question", platform).await;
    for kind in [Kind::Slack, Kind::Teams, Kind::Discord] {
        told.got(kind, "question", |got| {
            got.body.to_string().contains("waits for an approval")
        })
        .await;
    }
    let mails = letters(&told, "waits for an approval", 2).await;
    assert_eq!(
        mails[0].header("Message-ID"),
        mails[1].header("Message-ID"),
        "one message, by two servers"
    );
    assert_eq!(mails[0].to, ["ops@cabanas.example"]);

    // Its end goes to all of them, with the key of its beginning.
    told.env.approve(NAME, "Deploy", &digest).await;
    told.env.wait_live(NAME).await;
    let over = told.got(Kind::PagerDuty, "end", |got| {
        got.body["event_action"] == "resolve"
    });
    assert_eq!(over.await.body["dedup_key"], paged.body["dedup_key"]);
    let granted = told.got(Kind::Json, "answer", is("ApprovalGranted", "Closed"));
    assert_eq!(granted.await.body["key"], asked.body["key"]);
    letters(&told, "Resolved", 2).await;
    told.got(Kind::Json, "Go-Live", |got| {
        got.body.to_string().contains("live")
    })
    .await;

    // A person sees that it works, for each receiver.
    let test = json!({"golive.dev/test-notification": "first"});
    let patch = json!({"metadata": {"annotations": test}});
    told.env.patch(NAME, patch).await;
    letters(&told, "this is a test", 2).await;
    let end = Instant::now() + LIMIT;
    loop {
        let events = told.env.events(NAME).await;
        let arrived = events
            .iter()
            .filter(|(_, reason, _)| reason == "NotificationSent");
        if arrived.count() == 9 {
            break;
        }
        assert!(Instant::now() < end, "not every test was told: {events:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    // Nothing came twice, and nothing was refused by anybody.
    assert_eq!(told.messages.refused(), [""; 0]);
    assert_eq!(told.messages.mail().refused(), [""; 0]);
    let pages = told.messages.got(Kind::PagerDuty);
    let opened = pages
        .iter()
        .filter(|got| got.body["event_action"] == "trigger");
    assert_eq!(opened.count(), 1, "{pages:#?}");
    let mut times: BTreeMap<String, u32> = BTreeMap::new();
    for got in told.messages.got(Kind::Json) {
        *times.entry(got.id).or_default() += 1;
    }
    // Two receivers have this address.
    assert!(times.values().all(|times| *times <= 2), "{times:#?}");
    let passed = told.messages.got(Kind::CloudEvents);
    let mut ids: Vec<&str> = passed.iter().map(|got| got.id.as_str()).collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "one address, one receiver");

    // A deletion leaves nothing.
    assert_eq!(told.outboxes().await.len(), 1);
    told.env.delete(NAME).await;
    assert_eq!(told.outboxes().await, [""; 0]);
}
