//! A crash between the sending of a message and the record of it, and a receiver that is down.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use serde_json::json;
use vendors::messages::Kind;

use super::world::{NAME, Told, is, own};
use crate::support::crash::Victim;

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_between_sending_and_recording_a_message_comes_again_under_the_same_id_and_no_other()
 {
    let told = Told::new().await;
    let flags = told.flags(&[]);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let victim = Victim::of(told.env.operator_command(&flags));
    // The question at the gate has arrived, and the operator never learns it.
    let killed = Arc::new(AtomicU32::new(0));
    let (killer, count) = (victim.clone(), killed.clone());
    told.messages.on_arrival(Arc::new(move |got| {
        let asks = is("ApprovalRequested", "Open")(got);
        if asks && count.fetch_add(1, Ordering::SeqCst) == 0 {
            killer.crash();
        }
    }));
    told.activate(json!([own(json!({}))])).await;
    let digest = told.asked().await;
    let asked = || {
        let got = told.messages.got(Kind::Json).into_iter();
        let asked = got.filter(is("ApprovalRequested", "Open"));
        asked.collect::<Vec<_>>()
    };
    let again = told.got(Kind::Json, "second question", |got| {
        is("ApprovalRequested", "Open")(got) && asked().len() == 2
    });
    again.await;
    assert_eq!(victim.crashes(), 1);
    assert_eq!(asked()[0].id, asked()[1].id, "a repeat can be told");

    // And once more while nothing is on its way: nothing is repeated, and nothing is lost.
    told.settled().await;
    victim.crash();
    told.env.approve(NAME, "Deploy", &digest).await;
    told.env.wait_live(NAME).await;
    told.got(Kind::Json, "the end", is("ApprovalGranted", "Closed"))
        .await;
    told.got(Kind::Json, "Go-Live", |got| {
        got.body.to_string().contains("live")
    })
    .await;
    let mut count: BTreeMap<String, u32> = BTreeMap::new();
    for got in told.messages.got(Kind::Json) {
        *count.entry(got.id).or_default() += 1;
    }
    let twice: Vec<_> = count.iter().filter(|(_, count)| **count > 1).collect();
    assert_eq!(twice.len(), 1, "{twice:?}");
    assert_eq!(told.messages.refused(), [""; 0]);
    victim.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_down_gets_the_message_when_it_is_back_and_holds_up_nothing() {
    let mut told = Told::new().await;
    let down = [(503, None), (429, Some(1)), (502, None)];
    told.messages.answer(Kind::Json, &down);
    told.start(&[]);
    let slack = json!({
        "name": "slack", "format": "Slack", "webhook": {"urlSecretRef": {"name": "slack", "key": "url"}},
    });
    told.activate(json!([own(json!({"minSeverity": "Warning"})), slack]))
        .await;
    let digest = told.asked().await;
    // The other receiver is told, and the object goes on.
    told.got(Kind::Slack, "question", |got| {
        got.body.to_string().contains("waits for an approval")
    })
    .await;
    told.env.approve(NAME, "Deploy", &digest).await;
    told.env.wait_live(NAME).await;
    // What opened comes before what closes, though both waited.
    let asked = told.got(Kind::Json, "question", is("ApprovalRequested", "Open"));
    let asked = asked.await;
    let granted = told.got(Kind::Json, "answer", is("ApprovalGranted", "Closed"));
    assert_eq!(granted.await.body["key"], asked.body["key"]);
    let got = told.messages.got(Kind::Json);
    assert_eq!(got[0].id, asked.id, "{got:#?}");
}
