//! Spec of notifications: who is told what, and how.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::enumeration::api_enum;
use super::reference::SecretKeyRef;

api_enum! {
    /// How a notification is written.
    pub enum NotificationFormat, strict, default Json {
        /// A JSON object with the activation, phase, reason and message.
        Json = "Json",
        /// The same as a CloudEvent 1.0.
        CloudEvents = "CloudEvents",
        /// A message for an incoming webhook of Slack, or a compatible one.
        Slack = "Slack",
        /// An adaptive card for a workflow of Microsoft Teams.
        Teams = "Teams",
        /// A message for a webhook of Discord.
        Discord = "Discord",
        /// An event for PagerDuty. It needs `keySecretRef`, and no `webhook`.
        PagerDuty = "PagerDuty",
        /// An alert for an Alertmanager.
        Alertmanager = "Alertmanager",
    }
}

api_enum! {
    /// How much a piece of news matters.
    pub enum NotificationSeverity, lenient, default Info {
        /// All goes on.
        Info = "Info",
        /// A person should look.
        Warning = "Warning",
        /// The site, its data or its safety is concerned.
        Critical = "Critical",
    }
}

api_enum! {
    /// The kinds of news.
    pub enum NotificationEvent, lenient, default Test {
        /// A phase began.
        PhaseStarted = "PhaseStarted",
        /// A phase has succeeded.
        PhasePassed = "PhasePassed",
        /// A phase has stopped.
        PhaseFailed = "PhaseFailed",
        /// A gate asks for an approval.
        ApprovalRequested = "ApprovalRequested",
        /// A gate was approved.
        ApprovalGranted = "ApprovalGranted",
        /// A gate was rejected, or nobody decided in time.
        ApprovalRefused = "ApprovalRefused",
        /// A gate still waits, after its timeout has passed once more.
        ApprovalReminder = "ApprovalReminder",
        /// A gate will soon decide by itself.
        ApprovalExpiring = "ApprovalExpiring",
        /// Three quarters of the time of a phase have passed.
        DeadlineNear = "DeadlineNear",
        /// A phase exceeded its deadline.
        DeadlinePassed = "DeadlinePassed",
        /// The application is live.
        GoLive = "GoLive",
        /// The site does not answer as it should.
        SiteDown = "SiteDown",
        /// The site answers again.
        SiteRecovered = "SiteRecovered",
        /// An integration failed its checks.
        IntegrationDegraded = "IntegrationDegraded",
        /// An integration passes its checks again.
        IntegrationRecovered = "IntegrationRecovered",
        /// The error budget of an objective burns too fast.
        BudgetBurning = "BudgetBurning",
        /// An objective is breached.
        ObjectiveBreached = "ObjectiveBreached",
        /// An objective is met again.
        ObjectiveRecovered = "ObjectiveRecovered",
        /// A release breaches an objective and is not rolled back: nobody asked for it, or it cannot be.
        WouldRollBack = "WouldRollBack",
        /// Something happened to the application while it was watched.
        IncidentSeen = "IncidentSeen",
        /// An earlier release was restored.
        RolledBack = "RolledBack",
        /// Something at Fly.io differs from the object.
        Drifted = "Drifted",
        /// Nothing differs any more.
        DriftCorrected = "DriftCorrected",
        /// The activation is suspended for long.
        SuspendedTooLong = "SuspendedTooLong",
        /// It is resumed.
        Resumed = "Resumed",
        /// The watch ended well.
        Stabilized = "Stabilized",
        /// The watch ended with an objective missed, or without enough data.
        NotStabilized = "NotStabilized",
        /// What was told is over for another reason: it left the spec, or the activation is deleted.
        Withdrawn = "Withdrawn",
        /// A person asked for a test.
        Test = "Test",
    }
}

/// A receiver of notifications.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.webhook), has(self.email), self.format == 'PagerDuty'].filter(x, x).size() == 1").message("exactly one of `webhook` and `email` is required, and with `format: PagerDuty` neither: its key says where it goes"))]
#[x_kube(validation = Rule::new("self.format != 'PagerDuty' || has(self.keySecretRef)").message("`format: PagerDuty` needs `keySecretRef`: the integration key of a service").reason(Reason::FieldValueRequired))]
#[x_kube(validation = Rule::new("!has(self.email) || self.format == 'Json'").message("`format` belongs to `webhook`: an e-mail is plain text").reason(Reason::FieldValueForbidden))]
#[x_kube(validation = Rule::new("!has(self.keySecretRef) || (!has(self.email) && self.format in ['PagerDuty', 'Json', 'CloudEvents', 'Alertmanager'])").message("`keySecretRef` belongs to the formats PagerDuty, Json, CloudEvents and Alertmanager: the address of any other receiver holds its key").reason(Reason::FieldValueForbidden))]
#[x_kube(validation = Rule::new("!has(self.keySecretRef) || !has(self.webhook) || self.keySecretRef.name == self.webhook.urlSecretRef.name").message("`keySecretRef` and `webhook.urlSecretRef` must name one Secret: the key goes to that address alone"))]
pub struct Notification {
    /// Name of the receiver, as events and metrics show it; unique in the list. Default: the Secret and
    /// the key of its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")
    )]
    pub name: Option<String>,

    /// An address that receives an HTTPS POST for each notification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<NotificationWebhook>,

    /// People who receive an e-mail for each notification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<NotificationEmail>,

    /// How the notification is written.
    #[serde(default)]
    pub format: NotificationFormat,

    /// Key of a Secret that holds the integration key of PagerDuty, or a token that is sent to the
    /// `webhook` as `Authorization: Bearer`. It is never sent anywhere else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_secret_ref: Option<SecretKeyRef>,

    /// The owners whose news it gets, as `owner` of a phase or an integration names them. News that has
    /// no owner goes to everybody. Default: the news of all owners.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 128)))]
    pub owners: Vec<String>,

    /// The kinds of news that it gets. Whoever was told that something is wrong is also told when it is
    /// over. Default: all kinds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 40))]
    pub events: Vec<NotificationEvent>,

    /// The least severity that it gets. Default: `Info`.
    #[serde(default)]
    pub min_severity: NotificationSeverity,

    /// Most messages an hour about this activation. What is critical, and a test, is always sent; the
    /// rest waits, and what cannot wait is counted in the next message. Between 1 and 600. Default: 30.
    #[serde(default = "thirty")]
    #[schemars(range(min = 1, max = 600))]
    pub max_per_hour: u32,
}

fn thirty() -> u32 {
    30
}

/// An address that receives notifications.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NotificationWebhook {
    /// Key of a Secret that holds the address: it usually contains a token. It begins with `https://`;
    /// a user and a password in it are sent as `Authorization: Basic`.
    pub url_secret_ref: SecretKeyRef,
}

/// People who receive notifications by e-mail.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NotificationEmail {
    /// Key of a Secret that holds the address of the mail server, with user and password, such as
    /// `smtps://user:password@mail.example.org`, or `smtp://` for STARTTLS on port 587.
    pub url_secret_ref: SecretKeyRef,

    /// The sender, such as `golive@example.org`.
    #[schemars(length(min = 3, max = 254))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+([.][A-Za-z0-9-]+)*$')").message("`from` must be an e-mail address, such as `golive@example.org`"))]
    pub from: String,

    /// Who receives it. Between 1 and 10 addresses.
    #[schemars(length(min = 1, max = 10), inner(length(min = 3, max = 254)))]
    #[x_kube(validation = Rule::new("self.all(a, a.matches('^[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+([.][A-Za-z0-9-]+)*$'))").message("`to` must be e-mail addresses, such as `ops@example.org`"))]
    pub to: Vec<String>,
}

impl Notification {
    /// The name by which it is told from the others: its own, or the Secret and the key of its address.
    #[must_use]
    pub fn title(&self) -> String {
        let webhook = self.webhook.as_ref().map(|webhook| &webhook.url_secret_ref);
        let email = self.email.as_ref().map(|email| &email.url_secret_ref);
        let secret = webhook.or(email).or(self.key_secret_ref.as_ref());
        match (&self.name, secret) {
            (Some(name), _) => name.clone(),
            (None, Some(secret)) => format!("{}/{}", secret.name, secret.key),
            (None, None) => "unnamed".to_owned(),
        }
    }

    /// What it is, in one word: the format, or `Email`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.email {
            Some(_) => "Email",
            None => self.format.as_str(),
        }
    }

    /// What is wrong with it, where no API server has checked it: the rules of the schema in words.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn check(&self) -> Result<(), &'static str> {
        let pager = self.format == NotificationFormat::PagerDuty;
        let places = [self.webhook.is_some(), self.email.is_some(), pager];
        let takes_a_key = matches!(
            self.format,
            NotificationFormat::PagerDuty
                | NotificationFormat::Json
                | NotificationFormat::CloudEvents
                | NotificationFormat::Alertmanager
        );
        let of_one_secret = match (&self.key_secret_ref, &self.webhook) {
            (Some(key), Some(webhook)) => key.name == webhook.url_secret_ref.name,
            _ => true,
        };
        let rules = [
            (
                places.into_iter().filter(|place| *place).count() == 1,
                "exactly one of `webhook` and `email` is required, and with `format: PagerDuty` neither",
            ),
            (
                !pager || self.key_secret_ref.is_some(),
                "`format: PagerDuty` needs `keySecretRef`",
            ),
            (
                self.email.is_none() || self.format == NotificationFormat::Json,
                "`format` belongs to `webhook`: an e-mail is plain text",
            ),
            (
                self.key_secret_ref.is_none() || (self.email.is_none() && takes_a_key),
                "`keySecretRef` belongs to the formats PagerDuty, Json, CloudEvents and Alertmanager",
            ),
            (
                of_one_secret,
                "`keySecretRef` and `webhook.urlSecretRef` must name one Secret",
            ),
            (
                (1..=600).contains(&self.max_per_hour),
                "`maxPerHour` must be between 1 and 600",
            ),
        ];
        match rules.into_iter().find(|(holds, _)| !holds) {
            Some((_, rule)) => Err(rule),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn receiver(value: Value) -> Notification {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_receiver_of_an_earlier_version_stays_what_it_was() {
        let one = receiver(json!({"webhook": {"urlSecretRef": {"name": "chat", "key": "url"}}}));
        assert_eq!(one.check(), Ok(()));
        assert_eq!(
            (one.title().as_str(), one.kind(), one.max_per_hour),
            ("chat/url", "Json", 30)
        );
        assert!(one.owners.is_empty() && one.events.is_empty());
    }

    #[test]
    fn what_no_api_server_has_checked_keeps_the_same_rules() {
        let url = json!({"urlSecretRef": {"name": "chat", "key": "url"}});
        let mail =
            json!({"urlSecretRef": {"name": "chat", "key": "url"}, "from": "a@b", "to": ["c@d"]});
        let key = |name: &str| json!({"name": name, "key": "key"});
        for (value, fine) in [
            (json!({"email": mail}), true),
            (
                json!({"format": "PagerDuty", "keySecretRef": key("pd")}),
                true,
            ),
            (json!({"webhook": url, "keySecretRef": key("chat")}), true),
            (
                json!({"webhook": url, "keySecretRef": key("another")}),
                false,
            ),
            (json!({"webhook": url, "email": mail}), false),
            (json!({}), false),
            (json!({"format": "PagerDuty"}), false),
            (
                json!({"format": "PagerDuty", "keySecretRef": key("pd"), "webhook": url}),
                false,
            ),
            (json!({"email": mail, "format": "Slack"}), false),
            (
                json!({"webhook": url, "format": "Slack", "keySecretRef": key("chat")}),
                false,
            ),
            (json!({"webhook": url, "maxPerHour": 0}), false),
        ] {
            assert_eq!(receiver(value.clone()).check().is_ok(), fine, "{value}");
        }
    }
}
