//! Slack's incoming webhooks (docs.slack.dev/messaging/sending-messages-using-incoming-webhooks, and
//! docs.slack.dev/reference/block-kit/blocks for the limits of each block).

use serde_json::{Value, json};

use super::words::{command, heading};
use crate::{
    api::status::one_line,
    notify::message::{Message, Place},
};

/// Longest text of a header block, in characters.
const MAX_HEADER: usize = 150;

/// In a text of Slack, `&`, `<` and `>` are control characters (docs.slack.dev/messaging/formatting-message-text):
/// `<!channel>` would call everybody.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// The body of a message.
pub fn body(message: &Message, place: &Place) -> Value {
    let heading = heading(message, place);
    let mut blocks = vec![json!({
        "type": "header",
        "text": {"type": "plain_text", "text": one_line(&heading, MAX_HEADER), "emoji": false},
    })];
    let mut section = |text: &str| {
        if !text.is_empty() {
            // Plain text: asterisks and backticks of an application are no markup.
            blocks.push(json!({
                "type": "section",
                "text": {"type": "plain_text", "text": text, "emoji": false},
            }));
        }
    };
    section(&message.text);
    if !message.next_action.is_empty() {
        section(&format!("Next: {}", message.next_action));
    }
    let mut context = vec![command(place)];
    context.extend(message.owner.iter().map(|owner| format!("Owner: {owner}")));
    context.extend(place.url.clone());
    let elements: Vec<Value> = context
        .iter()
        .map(|text| json!({"type": "plain_text", "text": text, "emoji": false}))
        .collect();
    blocks.push(json!({"type": "context", "elements": elements}));
    json!({"text": escaped(&heading), "blocks": blocks})
}
