//! CloudEvents 1.0, structured content mode over HTTP
//! (cloudevents/spec, `cloudevents/bindings/http-protocol-binding.md`, 3.2).

use serde_json::{Value, json};

use super::json::body as data;
use crate::notify::message::{Message, Place};

/// The body of an event.
pub fn body(message: &Message, place: &Place) -> Value {
    json!({
        "specversion": "1.0",
        "id": message.id,
        "source": format!(
            "/apis/golive.dev/v1alpha1/namespaces/{}/activations/{}",
            place.namespace, place.name
        ),
        "type": format!("dev.golive.activation.{}", message.event),
        "subject": message.topic.to_string(),
        "time": message.time,
        "datacontenttype": "application/json",
        "data": data(message, place),
    })
}
