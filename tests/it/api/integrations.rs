//! Which integrations can be written, and what is said of those that cannot.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use serde_json::{Value, json};

use super::objects::{activations, create, message, minimal, with};

/// A webhook with these fields more.
fn hook(more: Value) -> Value {
    let mut hook = json!({"name": "own", "path": "/h", "secretRef": {"name": "s", "key": "k"}});
    let fields = more.as_object().unwrap().clone();
    hook.as_object_mut().unwrap().extend(fields);
    json!({"integrations": {"webhooks": [hook]}})
}

fn whatsapp(more: Value) -> Value {
    let mut whatsapp = json!({
        "path": "/w", "verifyTokenSecretRef": {"name": "s", "key": "a"},
        "appSecretRef": {"name": "s", "key": "b"},
    });
    let fields = more.as_object().unwrap().clone();
    whatsapp.as_object_mut().unwrap().extend(fields);
    json!({"integrations": {"whatsapp": whatsapp}})
}

pub fn refused() -> Vec<(Value, &'static str)> {
    vec![
        (
            json!({"readyWhen": "IntegrationsVerified"}),
            "`readyWhen: IntegrationsVerified` needs `integrations`",
        ),
        (
            json!({"integrations": {"interval": "1m"}}),
            "`interval` must be between 10m and 168h",
        ),
        (
            whatsapp(json!({"wabaId": "1"})),
            "`tokenSecretRef` and `wabaId` belong together",
        ),
        (
            whatsapp(json!({"phoneNumberId": "+54 11"})),
            "must be an id of digits only",
        ),
        (
            json!({"integrations": {"ical": {"exportPath": "/x", "statusPath": "/s"}}}),
            "`statusPath` and `syncAgePointer` belong together",
        ),
        (hook(json!({})), "`header` is required"),
        (
            hook(json!({"scheme": "GitHub", "header": "X-Signature"})),
            "belong to the scheme Custom",
        ),
        (
            hook(json!({"header": "X-S", "signedText": [{"part": "Timestamp"}]})),
            "so `timestamp` is required",
        ),
        (
            hook(json!({"header": "X-S", "signedText": [{"part": "Id"}]})),
            "so `idempotencyKey` is required",
        ),
        (
            hook(json!({"header": "X-S", "signedText": [{"part": "Body", "text": "."}]})),
            "exactly one of `part` and `text`",
        ),
        (
            hook(json!({"header": "X-S", "idempotencyKey": {"jsonPointer": "data.id"}})),
            "must begin with `/`: write `/data/id`",
        ),
        (
            hook(json!({"header": "X-S", "timestamp": {"header": "X-T", "tolerance": "1s"}})),
            "`tolerance` must be between 30s and 24h",
        ),
        (
            hook(
                json!({"header": "X-S", "expect": {"signed": [200, 202], "unsigned": [401, 200]}}),
            ),
            "`signed` and `unsigned` must have no status in common",
        ),
        (
            hook(json!({"header": "HOST"})),
            "name a header of the sender",
        ),
        (
            hook(json!({"header": "X-S", "timestamp": {"header": "Content-Length"}})),
            "name a header of the sender",
        ),
        (
            hook(json!({"header": "X-S", "eventType": {"header": "User-Agent"}})),
            "name a header of the sender",
        ),
        (
            hook(json!({"header": "X-S", "effect": {}})),
            "exactly one of `metric` and `http`",
        ),
    ]
}

#[tokio::test]
async fn an_integration_that_cannot_be_verified_as_written_is_refused_with_what_to_write() {
    let (client, namespace, _) = activations().await;
    for (change, wanted) in refused() {
        let object = with(minimal("refused"), &change);
        match create(&client, &namespace, &object, true).await {
            Ok(_) => panic!("accepted: {change}"),
            Err(error) => {
                let told = message(&error);
                assert!(told.contains(wanted), "{change}: {told}");
            }
        }
    }
}

#[tokio::test]
async fn every_sender_and_every_effect_can_be_written() {
    let (client, namespace, _) = activations().await;
    let metric = json!({"metric": {"name": "events_total", "selector": {"provider": "own"}}});
    let page = json!({"http": {"path": "/effects", "jsonPointer": "/own/a~1b"}});
    let custom = json!({
        "header": "X-S", "prefix": "v1=", "algorithm": "HmacSha512", "encoding": "Base64",
        "timestamp": {"parameter": "t", "unit": "Milliseconds"},
        "signedText": [{"part": "Timestamp"}, {"text": "."}, {"part": "Id"}, {"text": "."}, {"part": "Body"}],
        "idempotencyKey": {"header": "X-Id"}, "eventType": {"jsonPointer": "/type"},
        "effect": page, "method": "PUT", "contentType": "application/json; charset=utf-8",
    });
    let mut accepted = vec![
        hook(json!({"header": "X-S"})),
        hook(custom),
        whatsapp(json!({
            "tokenSecretRef": {"name": "s", "key": "t"}, "wabaId": "102290129340398",
            "phoneNumberId": "106540352242922", "effect": metric,
        })),
        json!({"readyWhen": "IntegrationsVerified", "integrations": {"ical": {
            "exportPath": "/x.ics", "statusPath": "/s", "syncAgePointer": "/age",
            "importedEventsPointer": "/events", "overlapsMetric": "nights",
        }}}),
    ];
    let senders = ["StandardWebhooks", "Stripe", "GitHub", "Slack", "Shopify"];
    accepted.extend(senders.map(|scheme| hook(json!({"scheme": scheme}))));
    for change in accepted {
        let object = with(minimal("accepted"), &change);
        if let Err(error) = create(&client, &namespace, &object, true).await {
            panic!("{change}: {}", message(&error));
        }
    }
}
