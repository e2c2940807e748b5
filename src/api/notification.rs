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
        /// An event for PagerDuty; needs `keySecretRef`, and no `webhook`.
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
        /// A person asked for a test.
        Test = "Test",
    }
}

/// A receiver of notifications.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notification {
    /// An address that receives an HTTPS POST for each notification.
    pub webhook: NotificationWebhook,
    /// How the notification is written.
    #[serde(default)]
    pub format: NotificationFormat,
}

/// An address that receives notifications.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NotificationWebhook {
    /// Key of a Secret that holds the address: it usually contains a token.
    pub url_secret_ref: SecretKeyRef,
}
