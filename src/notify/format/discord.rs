//! Discord's webhooks (discord.com/developers/docs/resources/webhook#execute-webhook, and
//! resources/message#embed-object for the limits).

use serde_json::{Value, json};

use super::words::{command, heading};
use crate::{
    api::{NotificationSeverity, status::one_line},
    notify::message::{Message, Place, Stage},
};

/// Longest title of an embed, in characters.
const MAX_TITLE: usize = 256;
/// Longest value of a field, in characters.
const MAX_FIELD: usize = 1024;

/// Discord reads Markdown in the texts of embeds.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(
            character,
            '\\' | '*' | '_' | '~' | '`' | '|' | '>' | '<' | '[' | ']' | '#' | '@'
        ) {
            out.push('\\');
        }
        out.push(character);
    }
    out
}

/// The body of a message.
pub fn body(message: &Message, place: &Place) -> Value {
    let color = match (message.stage, message.severity) {
        (Stage::Closed, _) => 0x2e_a0_43,
        (_, NotificationSeverity::Critical) => 0xd1_24_2f,
        (_, NotificationSeverity::Warning) => 0xbf_87_00,
        (_, NotificationSeverity::Info) => 0x09_69_da,
    };
    let mut fields = Vec::new();
    let mut field = |name: &str, value: &str| {
        if !value.is_empty() {
            fields.push(json!({"name": name, "value": one_line(&escaped(value), MAX_FIELD)}));
        }
    };
    field("Next", &message.next_action);
    field("Owner", message.owner.as_deref().unwrap_or_default());
    field("Show", &command(place));
    let mut embed = json!({
        "title": one_line(&escaped(&heading(message, place)), MAX_TITLE),
        "description": escaped(&message.text),
        "color": color,
        "timestamp": message.time,
        "fields": fields,
    });
    if let Some(url) = &place.url {
        embed["url"] = json!(url);
    }
    // Whatever a text says, it calls nobody.
    json!({"embeds": [embed], "allowed_mentions": {"parse": []}})
}
