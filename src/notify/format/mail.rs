//! A message as an e-mail: subject and plain text.

use super::words::{command, heading};
use crate::notify::message::{Message, Place};

/// The parts of an e-mail that the message decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// The left part of `Message-ID`, the same for each try.
    pub id: String,
    /// One line, no line ends.
    pub subject: String,
    /// Plain text, lines ended by `\n`.
    pub text: String,
}

/// Writes a message as an e-mail.
#[must_use]
pub fn mail(message: &Message, place: &Place) -> Mail {
    let mut text = format!("{}\n", message.text);
    if !message.next_action.is_empty() {
        text.push_str(&format!("\nNext: {}\n", message.next_action));
    }
    text.push_str(&format!("\nShow: {}\n", command(place)));
    if let Some(url) = &place.url {
        text.push_str(&format!("Site: {url}\n"));
    }
    if let Some(owner) = &message.owner {
        text.push_str(&format!("Owner: {owner}\n"));
    }
    text.push_str(&format!("Time: {}\n", message.time));
    let id = message
        .id
        .replace(|c: char| !c.is_ascii_alphanumeric() && c != '-', ".");
    Mail {
        id,
        subject: heading(message, place),
        text,
    }
}
