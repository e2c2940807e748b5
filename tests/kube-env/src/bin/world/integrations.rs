//! What the demo adds so that every integration can be proven: what their owner has from the vendors. And
//! the wait until they are.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use kube::Api;
use kube::api::DynamicObject;
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::{Value, json};

use crate::demo::condition;
use crate::fault::Fault;
use crate::progress::Progress;

/// The Secret with what the application gets of its owner, in the example.
const APPLICATION: &str = "cabanas-integrations";

/// The Secret with what Golive alone asks the vendors with.
const TOKENS: &str = "cabanas-vendors";

/// The names of the channels, which the operator looks up as their calendars' addresses say: an address on
/// loopback is none that it asks.
pub const AIRBNB: &str = "www.airbnb.com";

/// See [`AIRBNB`].
pub const BOOKING: &str = "ical.booking.com";

/// Checks take seconds. A calendar that is imported only now takes until the next look.
const LIMIT: Duration = Duration::from_secs(120);

/// Adds the calendars that the application imports to its Secret, and returns the Secret with the tokens.
pub fn secrets(inputs: &mut [Value], env: &BTreeMap<String, String>, namespace: &str) -> Value {
    let of = |name: &str| env.get(name).cloned().unwrap_or_default();
    for object in inputs {
        if object["kind"] == "Secret" && object["metadata"]["name"] == APPLICATION {
            object["stringData"]["ICAL_FEEDS"] = json!(format!(
                "airbnb-1/1={} booking-2/2={}",
                of("AIRBNB_CALENDAR_URL"),
                of("BOOKING_CALENDAR_URL")
            ));
        }
    }
    let at = |host: &str, url: &str| {
        let path = url.splitn(4, '/').nth(3).unwrap_or_default().to_owned();
        format!("https://{host}/{path}")
    };
    let feeds = format!(
        "airbnb={} booking={}",
        at(AIRBNB, &of("AIRBNB_CALENDAR_URL")),
        at(BOOKING, &of("BOOKING_CALENDAR_URL"))
    );
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": TOKENS, "namespace": namespace},
        "stringData": {
            "meta": of("META_TOKEN"), "mercado-pago": of("MERCADO_PAGO_TOKEN"), "feeds": feeds,
        },
    })
}

/// Sets the fields of the example that need an account at a vendor.
pub fn accounts(example: &mut [Value], env: &BTreeMap<String, String>) {
    let of = |name: &str| env.get(name).cloned().unwrap_or_default();
    for object in example {
        let integrations = &mut object["spec"]["integrations"];
        if !integrations["whatsapp"].is_object() {
            continue;
        }
        integrations["whatsapp"]["tokenSecretRef"] = json!({"name": TOKENS, "key": "meta"});
        integrations["whatsapp"]["wabaId"] = json!(of("META_WABA_ID"));
        integrations["whatsapp"]["phoneNumberId"] = json!(of("META_PHONE_NUMBER_ID"));
        integrations["mercadoPago"]["accessTokenSecretRef"] =
            json!({"name": TOKENS, "key": "mercado-pago"});
        integrations["ical"]["feedsSecretRef"] = json!({"name": TOKENS, "key": "feeds"});
    }
}

/// Shows each check as it is decided. True once all integrations are verified.
pub async fn follow(
    activations: Api<DynamicObject>,
    name: &str,
    progress: &mut Progress,
) -> Result<bool, Fault> {
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut changes = watcher::watcher(activations, config)
        .default_backoff()
        .applied_objects()
        .boxed();
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    let limit = tokio::time::sleep(LIMIT);
    tokio::pin!(limit);
    loop {
        let object = tokio::select! {
            change = changes.next() => match change {
                Some(Ok(object)) => object,
                // The backoff tries again.
                Some(Err(_)) => continue,
                None => return Err(Fault::new("the watch of the activation has ended")),
            },
            _ = tick.tick() => {
                progress.tick();
                continue;
            }
            () = &mut limit => return Ok(false),
        };
        let status = &object.data["status"];
        progress.show_integrations(status);
        match condition(status, "IntegrationsHealthy") {
            "True" => return Ok(true),
            "False" => return Ok(false),
            _ => {}
        }
    }
}
