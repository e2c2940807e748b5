//! Microsoft Teams, by a workflow "When a Teams webhook request is received": a message with one adaptive card
//! (learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using,
//! adaptivecards.io/explorer).

use serde_json::{Value, json};

use super::words::{command, heading};
use crate::notify::message::{Message, Place};

/// Text blocks of adaptive cards read a part of Markdown: its characters are escaped.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(
            character,
            '\\' | '*' | '_' | '[' | ']' | '(' | ')' | '#' | '`' | '<' | '>' | '~'
        ) {
            out.push('\\');
        }
        out.push(character);
    }
    out
}

/// The body of a message.
pub fn body(message: &Message, place: &Place) -> Value {
    let block = |text: &str| json!({"type": "TextBlock", "text": escaped(text), "wrap": true});
    let mut card = vec![json!({
        "type": "TextBlock",
        "text": escaped(&heading(message, place)),
        "weight": "Bolder",
        "size": "Medium",
        "wrap": true,
    })];
    if !message.text.is_empty() {
        card.push(block(&message.text));
    }
    if !message.next_action.is_empty() {
        card.push(block(&format!("Next: {}", message.next_action)));
    }
    let mut facts = vec![json!({"title": "Show", "value": escaped(&command(place))})];
    if let Some(owner) = &message.owner {
        facts.push(json!({"title": "Owner", "value": escaped(owner)}));
    }
    card.push(json!({"type": "FactSet", "facts": facts}));
    let mut content = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": card,
    });
    if let Some(url) = &place.url {
        content["actions"] =
            json!([{"type": "Action.OpenUrl", "title": "Open the site", "url": url}]);
    }
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": content,
        }],
    })
}
