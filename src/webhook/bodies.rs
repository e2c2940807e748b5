//! The bodies of probes, byte for byte as their senders write them: order of the keys, escapes, blanks,
//! and no line break at the end.

/// A message of WhatsApp Cloud API.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Id of the message; in a real one it begins with `wamid.`.
    pub id: &'a str,
    /// Id of the phone number that it was sent to.
    pub phone_number_id: &'a str,
    /// When, in seconds since 1970.
    pub seconds: i64,
    /// The name of the sender, already escaped.
    pub name: &'a str,
    /// Type and content, in JSON: `"type":"text","text":{"body":"…"}`.
    pub content: &'a str,
}

/// The id of the phone number in probes when nobody has said one: that of Meta's examples.
pub const PHONE_NUMBER_ID: &str = "106540352242922";

/// The content of a text of these characters, which are already escaped.
pub fn text(escaped: &str) -> String {
    format!(r#""type":"text","text":{{"body":"{escaped}"}}"#)
}

/// The content of a message of a type that the API cannot show.
///
/// Source: developers.facebook.com, WhatsApp Cloud API, "Webhooks, payload examples", section
/// "Unsupported messages".
pub const UNSUPPORTED: &str = r#""errors":[{"code":131051,"title":"Message type unknown","message":"Message type unknown","error_data":{"details":"Message type is currently not supported."}}],"type":"unsupported""#;

/// One message, as WhatsApp delivers it. Meta writes everything beyond ASCII as `\u00f1`, with lower-case
/// digits, and `/` as `\/`.
///
/// Source: developers.facebook.com, WhatsApp Cloud API, "Webhooks, payload examples", as of 2026-08.
pub fn whatsapp(message: &Message<'_>) -> String {
    let Message {
        id,
        phone_number_id,
        seconds,
        name,
        content,
    } = message;
    format!(
        r#"{{"object":"whatsapp_business_account","entry":[{{"id":"102290129340398","changes":[{{"value":{{"messaging_product":"whatsapp","metadata":{{"display_phone_number":"15550783881","phone_number_id":"{phone_number_id}"}},"contacts":[{{"profile":{{"name":"{name}"}},"wa_id":"16505551234"}}],"messages":[{{"from":"16505551234","id":"{id}","timestamp":"{seconds}",{content}}}]}},"field":"messages"}}]}}]}}"#
    )
}

/// A change of a field that the application may not know: Meta adds fields, and sends all that the app is
/// subscribed to.
pub fn whatsapp_unknown_field(id: &str) -> String {
    format!(
        r#"{{"object":"whatsapp_business_account","entry":[{{"id":"102290129340398","changes":[{{"value":{{"event":"GOLIVE_PROBE","id":"{id}"}},"field":"golive_probe"}}]}}]}}"#
    )
}

/// A notification of Mercado Pago.
#[derive(Clone, Copy, Debug)]
pub struct Notification<'a> {
    /// Id of the notification.
    pub number: u64,
    /// What it is about, such as `payment`.
    pub topic: &'a str,
    /// When, as `2026-01-31T18:00:00Z`.
    pub date: &'a str,
    /// Id of the resource.
    pub data_id: &'a str,
}

/// One notification, as Mercado Pago delivers it.
///
/// Source: mercadopago.com developers, "Webhooks" (repository mercadopago/devsite-docs,
/// `guides/additional-content/your-integrations/webhooks.en.md`), as of 2026-08.
pub fn mercado_pago(notification: &Notification<'_>) -> String {
    let Notification {
        number,
        topic,
        date,
        data_id,
    } = notification;
    format!(
        r#"{{"id":{number},"live_mode":false,"type":"{topic}","date_created":"{date}","user_id":44444,"api_version":"v1","action":"{topic}.created","data":{{"id":"{data_id}"}}}}"#
    )
}

/// A body of Standard Webhooks: compact JSON (specification 1.0.0, section "Payload structure").
pub const STANDARD_WEBHOOKS: &str = r#"{"type":"golive.probe","timestamp":"2022-11-03T20:26:10.344522Z","data":{"id":"golive-probe","name":"Caba\u00f1as"}}"#;

/// A body of Stripe, which writes JSON over several lines (docs.stripe.com/api/events/object).
pub const STRIPE: &str = "{\n  \"id\": \"golive-probe\",\n  \"object\": \"event\",\n  \"api_version\": \"2024-06-20\",\n  \"created\": 1686089970,\n  \"data\": {\n    \"object\": {\n      \"id\": \"golive-probe\",\n      \"object\": \"setup_intent\",\n      \"description\": \"Caba\\u00f1as\",\n      \"livemode\": false,\n      \"metadata\": {},\n      \"status\": \"requires_confirmation\"\n    }\n  },\n  \"livemode\": false,\n  \"pending_webhooks\": 0,\n  \"request\": {\n    \"id\": null,\n    \"idempotency_key\": null\n  },\n  \"type\": \"setup_intent.created\"\n}";

/// A body of GitHub: the event `ping` (docs.github.com, "Webhook events and payloads").
pub const GITHUB: &str = r#"{"zen":"Keep it logically awesome. \u00f1","hook_id":1,"hook":{"type":"Repository","id":1,"name":"web","active":true,"events":["push"],"config":{"content_type":"json","insecure_ssl":"0","url":"https://example.com/webhook"}},"repository":{"id":1296269,"name":"golive-probe","full_name":"octocat/golive-probe","private":true},"sender":{"login":"octocat","id":1,"type":"User"}}"#;

/// A body of Slack's Events API, which escapes `/` (api.slack.com/apis/events-api).
pub const SLACK: &str = r#"{"token":"golive-probe","team_id":"T0GOLIVE","api_app_id":"A0GOLIVE","event":{"type":"message","channel":"C0GOLIVE","user":"U0GOLIVE","text":"golive probe: caba\u00f1as 24\/7","ts":"1355517523.000005","event_ts":"1355517523.000005","channel_type":"channel"},"type":"event_callback","event_id":"golive-probe","event_time":1355517523}"#;

/// A body of Shopify: an order (shopify.dev, "Webhooks", topic `orders/create`).
pub const SHOPIFY: &str = r##"{"id":990000000000000,"admin_graphql_api_id":"gid:\/\/shopify\/Order\/990000000000000","created_at":"2021-12-31T19:00:00-05:00","currency":"USD","email":null,"name":"#golive-probe","note":"Caba\u00f1as","test":true,"total_price":"0.00","line_items":[]}"##;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_written_as_meta_writes_it() {
        let body = whatsapp(&Message {
            id: "wamid.PROBE0001",
            phone_number_id: PHONE_NUMBER_ID,
            seconds: 1_749_416_383,
            name: r"Caba\u00f1as",
            content: &text(r"\u00bfHay caba\u00f1a libre?"),
        });
        assert_eq!(
            body,
            r#"{"object":"whatsapp_business_account","entry":[{"id":"102290129340398","changes":[{"value":{"messaging_product":"whatsapp","metadata":{"display_phone_number":"15550783881","phone_number_id":"106540352242922"},"contacts":[{"profile":{"name":"Caba\u00f1as"},"wa_id":"16505551234"}],"messages":[{"from":"16505551234","id":"wamid.PROBE0001","timestamp":"1749416383","type":"text","text":{"body":"\u00bfHay caba\u00f1a libre?"}}]},"field":"messages"}]}]}"#
        );
    }

    #[test]
    fn every_body_is_json_in_ascii_without_a_line_break_at_its_end() {
        let message = |content: &str| {
            whatsapp(&Message {
                id: "golive-probe-1",
                phone_number_id: PHONE_NUMBER_ID,
                seconds: 1,
                name: "x",
                content,
            })
        };
        let payment = mercado_pago(&Notification {
            number: 1,
            topic: "payment",
            date: "2026-01-31T18:00:00Z",
            data_id: "2",
        });
        for body in [
            &message(UNSUPPORTED),
            &message(&text("x")),
            &whatsapp_unknown_field("golive-probe-1"),
            &payment,
            STANDARD_WEBHOOKS,
            STRIPE,
            GITHUB,
            SLACK,
            SHOPIFY,
        ] {
            let read: serde_json::Value = serde_json::from_str(body).unwrap();
            assert!(
                read.is_object() && body.is_ascii() && body.ends_with('}'),
                "{body}"
            );
        }
        // What an application that writes a body again cannot get right.
        for body in [STANDARD_WEBHOOKS, STRIPE, GITHUB, SLACK, SHOPIFY] {
            let read: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_ne!(serde_json::to_string(&read).unwrap(), body);
        }
    }
}
