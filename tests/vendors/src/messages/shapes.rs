//! What each receiver takes, from its documentation. Fields that it does not name are refused.

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::PAGER_KEY;

type Checked = Result<(), String>;

fn read<T: DeserializeOwned>(body: &Value) -> Result<T, String> {
    T::deserialize(body).map_err(|error| error.to_string())
}

fn at_most(what: &str, text: &str, most: usize) -> Checked {
    let length = text.chars().count();
    match length <= most && !text.is_empty() {
        true => Ok(()),
        false => Err(format!("{what} has {length} characters of 1 to {most}")),
    }
}

fn holds(what: &str, fine: bool) -> Checked {
    fine.then_some(()).ok_or_else(|| what.to_owned())
}

/// docs.slack.dev/reference/block-kit/blocks.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SlackMessage {
    text: String,
    blocks: Vec<SlackBlock>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum SlackBlock {
    Header { text: SlackText },
    Section { text: SlackText },
    Context { elements: Vec<SlackText> },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SlackText {
    #[serde(rename = "type")]
    kind: String,
    text: String,
    #[serde(default)]
    emoji: Option<bool>,
}

impl SlackText {
    fn check(&self, most: usize) -> Checked {
        holds(
            "emoji belongs to plain_text",
            self.kind == "plain_text" || (self.kind == "mrkdwn" && self.emoji.is_none()),
        )?;
        at_most("a text", &self.text, most)
    }
}

pub(super) fn slack(body: &Value) -> Checked {
    let message: SlackMessage = read(body)?;
    at_most("text", &message.text, 40_000)?;
    holds("at most 50 blocks", message.blocks.len() <= 50)?;
    for block in &message.blocks {
        match block {
            SlackBlock::Header { text } => {
                holds("a header is plain_text", text.kind == "plain_text")?;
                text.check(150)?;
            }
            SlackBlock::Section { text } => text.check(3000)?,
            SlackBlock::Context { elements } => {
                holds("1 to 10 elements", (1..=10).contains(&elements.len()))?;
                elements.iter().try_for_each(|text| text.check(2000))?;
            }
        }
    }
    Ok(())
}

/// discord.com/developers/docs/resources/webhook#execute-webhook and resources/message#embed-object.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DiscordMessage {
    embeds: Vec<DiscordEmbed>,
    allowed_mentions: DiscordMentions,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DiscordMentions {
    parse: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DiscordEmbed {
    title: String,
    description: String,
    #[serde(default)]
    url: Option<String>,
    timestamp: Timestamp,
    color: u32,
    fields: Vec<DiscordField>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DiscordField {
    name: String,
    value: String,
}

pub(super) fn discord(body: &Value) -> Checked {
    let message: DiscordMessage = read(body)?;
    holds("1 to 10 embeds", (1..=10).contains(&message.embeds.len()))?;
    holds(
        "nobody is called",
        message.allowed_mentions.parse.is_empty(),
    )?;
    let mut all = 0;
    for embed in &message.embeds {
        at_most("title", &embed.title, 256)?;
        holds("description", embed.description.chars().count() <= 4096)?;
        holds("color", embed.color <= 0xff_ff_ff)?;
        holds("a date", embed.timestamp > Timestamp::UNIX_EPOCH)?;
        let url = embed.url.as_deref();
        holds("url", url.is_none_or(|url| url.starts_with("https://")))?;
        holds("at most 25 fields", embed.fields.len() <= 25)?;
        for field in &embed.fields {
            at_most("name", &field.name, 256)?;
            at_most("value", &field.value, 1024)?;
            all += field.name.chars().count() + field.value.chars().count();
        }
        all += embed.title.chars().count() + embed.description.chars().count();
    }
    holds("at most 6000 characters in all", all <= 6000)
}

/// learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using, and
/// adaptivecards.io/explorer for the card.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TeamsMessage {
    #[serde(rename = "type")]
    kind: String,
    attachments: Vec<TeamsAttachment>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TeamsAttachment {
    content_type: String,
    content_url: Option<String>,
    content: Card,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Card {
    #[serde(rename = "$schema")]
    schema: String,
    #[serde(rename = "type")]
    kind: String,
    version: String,
    body: Vec<CardElement>,
    #[serde(default)]
    actions: Vec<CardAction>,
}

#[derive(Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
enum CardElement {
    TextBlock {
        text: String,
        #[serde(default)]
        wrap: bool,
        #[serde(default)]
        weight: Option<String>,
        #[serde(default)]
        size: Option<String>,
    },
    FactSet {
        facts: Vec<CardFact>,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CardFact {
    title: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
enum CardAction {
    #[serde(rename = "Action.OpenUrl")]
    OpenUrl { title: String, url: String },
}

pub(super) fn teams(body: &Value) -> Checked {
    holds("at most 28 KB", body.to_string().len() <= 28 * 1024)?;
    let message: TeamsMessage = read(body)?;
    holds("a message", message.kind == "message")?;
    holds("one attachment", message.attachments.len() == 1)?;
    for attachment in &message.attachments {
        let kind = "application/vnd.microsoft.card.adaptive";
        holds("the type of a card", attachment.content_type == kind)?;
        holds("no contentUrl", attachment.content_url.is_none())?;
        let card = &attachment.content;
        let schema = "http://adaptivecards.io/schemas/adaptive-card.json";
        holds("the schema", card.schema == schema)?;
        holds(
            "a card",
            card.kind == "AdaptiveCard" && card.version == "1.4",
        )?;
        holds("a body", !card.body.is_empty())?;
        for element in &card.body {
            match element {
                CardElement::TextBlock {
                    text,
                    wrap,
                    weight,
                    size,
                } => {
                    at_most("text", text, 4000)?;
                    holds("long texts wrap", *wrap)?;
                    let weight = weight.as_deref().unwrap_or("Default");
                    holds("weight", ["Default", "Lighter", "Bolder"].contains(&weight))?;
                    let size = size.as_deref().unwrap_or("Default");
                    let sizes = ["Default", "Small", "Medium", "Large", "ExtraLarge"];
                    holds("size", sizes.contains(&size))?;
                }
                CardElement::FactSet { facts } => {
                    holds("facts", !facts.is_empty())?;
                    for fact in facts {
                        at_most("title", &fact.title, 200)?;
                        at_most("value", &fact.value, 2000)?;
                    }
                }
            }
        }
        for CardAction::OpenUrl { title, url } in &card.actions {
            at_most("title", title, 200)?;
            holds("url", url.starts_with("https://"))?;
        }
    }
    Ok(())
}

/// developer.pagerduty.com/docs/events-api-v2/trigger-events and /send-change-events.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PagerAlert {
    routing_key: String,
    event_action: String,
    dedup_key: String,
    #[serde(default)]
    client: String,
    #[serde(default)]
    links: Vec<PagerLink>,
    payload: PagerPayload,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PagerLink {
    href: String,
    text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PagerPayload {
    summary: String,
    source: String,
    severity: String,
    timestamp: Timestamp,
    component: String,
    group: String,
    class: String,
    custom_details: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PagerChange {
    routing_key: String,
    #[serde(default)]
    links: Vec<PagerLink>,
    payload: PagerChangePayload,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PagerChangePayload {
    summary: String,
    source: String,
    timestamp: Timestamp,
    custom_details: Map<String, Value>,
}

fn links(links: &[PagerLink]) -> Checked {
    links.iter().try_for_each(|link| {
        at_most("text", &link.text, 200)?;
        holds("href", link.href.starts_with("https://"))
    })
}

pub(super) fn pager_alert(body: &Value) -> Checked {
    let alert: PagerAlert = read(body)?;
    holds("the key of another service", alert.routing_key == PAGER_KEY)?;
    let actions = ["trigger", "acknowledge", "resolve"];
    holds(
        "event_action",
        actions.contains(&alert.event_action.as_str()),
    )?;
    at_most("dedup_key", &alert.dedup_key, 255)?;
    at_most("client", &alert.client, 200)?;
    links(&alert.links)?;
    let payload = &alert.payload;
    at_most("summary", &payload.summary, 1024)?;
    at_most("source", &payload.source, 1024)?;
    let severities = ["critical", "warning", "error", "info"];
    holds("severity", severities.contains(&payload.severity.as_str()))?;
    holds("a date", payload.timestamp > Timestamp::UNIX_EPOCH)?;
    at_most("component", &payload.component, 255)?;
    at_most("group", &payload.group, 255)?;
    at_most("class", &payload.class, 255)?;
    holds("details", !payload.custom_details.is_empty())
}

pub(super) fn pager_change(body: &Value) -> Checked {
    let change: PagerChange = read(body)?;
    holds(
        "the key of another service",
        change.routing_key == PAGER_KEY,
    )?;
    links(&change.links)?;
    at_most("summary", &change.payload.summary, 1024)?;
    at_most("source", &change.payload.source, 1024)?;
    holds("a date", change.payload.timestamp > Timestamp::UNIX_EPOCH)?;
    holds("details", !change.payload.custom_details.is_empty())
}

/// github.com/cloudevents/spec, cloudevents/spec.md: context attributes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CloudEvent {
    specversion: String,
    id: String,
    source: String,
    #[serde(rename = "type")]
    kind: String,
    subject: String,
    time: Timestamp,
    datacontenttype: String,
    data: Value,
}

pub(super) fn cloud_event(body: &Value) -> Checked {
    let event: CloudEvent = read(body)?;
    holds("specversion", event.specversion == "1.0")?;
    at_most("id", &event.id, 1024)?;
    at_most("source", &event.source, 1024)?;
    at_most("type", &event.kind, 255)?;
    at_most("subject", &event.subject, 255)?;
    holds("a date", event.time > Timestamp::UNIX_EPOCH)?;
    holds(
        "the type of data",
        event.datacontenttype == "application/json",
    )?;
    json(&event.data)
}

/// The page on notifications of Golive's documentation.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Plain {
    version: String,
    id: String,
    key: String,
    event: String,
    severity: String,
    stage: String,
    topic: String,
    owner: Option<String>,
    title: String,
    text: String,
    next_action: String,
    time: Timestamp,
    since: Option<Timestamp>,
    activation: PlainActivation,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlainActivation {
    namespace: String,
    name: String,
    uid: String,
    app: String,
    url: Option<String>,
}

pub(super) fn json(body: &Value) -> Checked {
    let told: Plain = read(body)?;
    holds("version", told.version == "golive.dev/notification/v1")?;
    for (what, text, most) in [
        ("id", &told.id, 512),
        ("key", &told.key, 512),
        ("event", &told.event, 64),
        ("topic", &told.topic, 255),
        ("title", &told.title, 200),
        ("namespace", &told.activation.namespace, 63),
        ("name", &told.activation.name, 63),
        ("uid", &told.activation.uid, 64),
        ("app", &told.activation.app, 63),
    ] {
        at_most(what, text, most)?;
    }
    let severities = ["Info", "Warning", "Critical"];
    holds("severity", severities.contains(&told.severity.as_str()))?;
    let stages = ["Open", "Closed", "Once"];
    holds("stage", stages.contains(&told.stage.as_str()))?;
    holds("texts", told.text.len() + told.next_action.len() <= 2000)?;
    let began = told.since.is_none_or(|since| since <= told.time);
    holds("what ends has begun before", began)?;
    let owner = told.owner.as_deref();
    holds("owner", owner.is_none_or(|owner| !owner.is_empty()))?;
    let url = told.activation.url.as_deref();
    holds("url", url.is_none_or(|url| url.starts_with("https://")))
}
