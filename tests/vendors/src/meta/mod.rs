//! Meta: the Graph API as far as WhatsApp needs it, and the sender of its webhooks.

pub mod graph;
pub mod payload;
pub mod sender;

use serde::{Deserialize, Serialize};

/// A token of the Graph API.
#[derive(Clone, Debug, Deserialize)]
pub struct Token {
    /// Its text.
    pub value: String,
    /// What it may do, such as `whatsapp_business_management`.
    pub permissions: Vec<String>,
    /// Whether its time is over.
    #[serde(default)]
    pub expired: bool,
}

/// Whether real customers are served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Mode {
    /// Yes.
    #[default]
    Live,
    /// Only for trying: messages of a few known numbers.
    Sandbox,
}

/// What Meta knows.
#[derive(Clone, Debug)]
pub struct Meta {
    /// The WhatsApp Business Account.
    pub waba_id: String,
    /// Its phone number.
    pub phone_number_id: String,
    /// The app that gets the webhooks.
    pub app_id: String,
    /// The app's secret: signs the webhooks.
    pub app_secret: String,
    /// Tokens that are accepted.
    pub tokens: Vec<Token>,
    /// The apps that the account's webhooks go to, by id.
    pub subscribed: Vec<String>,
    /// The mode of the number.
    pub mode: Mode,
    /// Whether the app is in development: then it sends and gets nothing of real customers.
    pub development: bool,
    /// Where webhooks go, once the handshake has passed.
    pub callback: Option<String>,
    /// How many of the next calls are refused because there were too many.
    pub throttled: u32,
}

/// The permission that reading an account needs.
///
/// Source: developers.facebook.com, WhatsApp, "Manage webhooks".
pub const MANAGEMENT: &str = "whatsapp_business_management";

impl Default for Meta {
    fn default() -> Self {
        Self {
            waba_id: "102290129340398".to_owned(),
            phone_number_id: "106540352242922".to_owned(),
            app_id: "670843887433847".to_owned(),
            // The one of examples/sist-cabanas-inputs.yaml.
            app_secret: "59c3330781715efd040ae625b7699406".to_owned(),
            tokens: vec![Token {
                value: "EAAG-local-world-token-of-meta".to_owned(),
                permissions: vec![
                    MANAGEMENT.to_owned(),
                    "whatsapp_business_messaging".to_owned(),
                ],
                expired: false,
            }],
            subscribed: vec!["670843887433847".to_owned()],
            mode: Mode::Live,
            development: false,
            callback: None,
            throttled: 0,
        }
    }
}
