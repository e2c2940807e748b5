//! Sends one message to one receiver. Where it is and its key are read from Secrets now, and kept no
//! longer than this takes.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use lettre::{
    Message as Email,
    message::{
        Mailbox,
        header::{ContentType, HeaderName, HeaderValue, MIME_VERSION_1_0},
    },
};
use secrecy::{ExposeSecret, SecretString};

use super::{
    address::{self, Web, Wrong},
    parts::Parts,
    snapshot::{Receiver, Snapshot},
};
use crate::{
    api::{
        NotificationFormat,
        notification::{Notification, NotificationEmail},
        reference::SecretKeyRef,
    },
    net::{probe::ProbeError, receiver::Post, smtp::MailError},
    notify::{self, Ended, Message, format},
    redact,
};

/// Limit of one try, without the time to connect.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Limit of one try of an e-mail.
const MAIL_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a try failed. No text of it has a part of an address, or of an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Trouble {
    #[error("the Secret {0} cannot be read now")]
    Unread(String),
    #[error("the Secret {0} does not exist")]
    NoSecret(String),
    #[error("the Secret {0} has no usable key {1}")]
    NoKey(String, String),
    #[error("the Secret {0} does not allow its use: it has no label golive.dev/allow=true")]
    NotAllowed(String),
    #[error("the Secret {0} holds the Fly token, which is sent to Fly.io alone")]
    HoldsToken(String),
    #[error("{0}")]
    Wrong(Wrong),
    #[error("it answered {0}")]
    Answered(u16),
    #[error("the name of its host does not resolve")]
    NotResolved,
    #[error("its address is not on the public Internet")]
    NotPublic,
    #[error("it cannot be connected to")]
    Unconnected,
    #[error("its certificate is not valid, or not trusted")]
    Tls,
    #[error("it does not answer as HTTP requires")]
    NoHttp,
    #[error("it did not answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    #[error("{0}")]
    Mail(String),
    #[error("a message cannot be written for it")]
    Unwritten,
}

/// What came of a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tried {
    pub(super) ended: Ended,
    /// Why it failed; `None`: it did not.
    pub(super) trouble: Option<Trouble>,
}

impl From<Trouble> for Tried {
    fn from(trouble: Trouble) -> Self {
        let ended = match trouble {
            Trouble::Wrong(_)
            | Trouble::NotPublic
            | Trouble::NotAllowed(_)
            | Trouble::HoldsToken(_)
            | Trouble::Unwritten => Ended::Refused,
            // It may come, or pass.
            _ => Ended::Again(None),
        };
        Self {
            ended,
            trouble: Some(trouble),
        }
    }
}

impl From<ProbeError> for Trouble {
    fn from(error: ProbeError) -> Self {
        match error {
            ProbeError::NotResolved(_) => Self::NotResolved,
            ProbeError::NotPublic(_) => Self::NotPublic,
            ProbeError::Tls(_) | ProbeError::TlsRefused(_) => Self::Tls,
            ProbeError::TimedOut(limit) => Self::TimedOut(limit),
            ProbeError::BadToken => Self::Wrong(Wrong::Key),
            ProbeError::BadPath => Self::Wrong(Wrong::NoUrl),
            ProbeError::Connect(_) | ProbeError::NoRoute(_) | ProbeError::NoResolver(_) => {
                Self::Unconnected
            }
            ProbeError::Closed(_)
            | ProbeError::Http(_)
            | ProbeError::TooLarge(_)
            | ProbeError::Redirected
            | ProbeError::RedirectLoop => Self::NoHttp,
        }
    }
}

/// The Secrets of the receivers of one round.
#[derive(Default)]
pub(super) struct Secrets {
    read: BTreeMap<(bool, String), Result<Secret, Trouble>>,
}

impl Secrets {
    /// Reads what a receiver names, once for a round.
    pub(super) async fn read(&mut self, parts: &Parts, snapshot: &Snapshot, receiver: &Receiver) {
        for reference in references(&receiver.spec) {
            let key = (receiver.of_installation, reference.name.clone());
            if self.read.contains_key(&key) {
                continue;
            }
            if !receiver.of_installation && reference.name == snapshot.token_secret {
                let refused = Trouble::HoldsToken(reference.name.clone());
                self.read.insert(key, Err(refused));
                continue;
            }
            let namespace = match receiver.of_installation {
                true => &parts.own_namespace,
                false => &snapshot.owner.namespace,
            };
            let api: Api<Secret> = Api::namespaced(parts.kube.clone(), namespace);
            let name = reference.name.clone();
            let found = match api.get_opt(&name).await {
                Err(error) => {
                    let error = crate::causes::chain(&error);
                    tracing::warn!(error, secret = name, "cannot read the Secret of a receiver");
                    Err(Trouble::Unread(name))
                }
                Ok(None) => Err(Trouble::NoSecret(name)),
                Ok(Some(secret)) => {
                    let of_operator = receiver.of_installation;
                    match of_operator || parts.allowed.allows(&snapshot.owner.name, &secret) {
                        true => Ok(secret),
                        false => Err(Trouble::NotAllowed(name)),
                    }
                }
            };
            self.read.insert(key, found);
        }
    }

    /// One value, as text without a line break at its end.
    fn value(
        &self,
        of_installation: bool,
        reference: &SecretKeyRef,
    ) -> Result<SecretString, Trouble> {
        let found = self.read.get(&(of_installation, reference.name.clone()));
        let secret = match found {
            Some(Ok(secret)) => secret,
            Some(Err(trouble)) => return Err(trouble.clone()),
            None => return Err(Trouble::Unread(reference.name.clone())),
        };
        let data = secret.data.as_ref();
        let bytes = data.and_then(|data| data.get(&reference.key));
        let text = bytes.and_then(|bytes| std::str::from_utf8(&bytes.0).ok());
        let text = text.map(|text| text.trim_end_matches(['\r', '\n']));
        let text = text.filter(|text| !text.is_empty());
        let no_key = || Trouble::NoKey(reference.name.clone(), reference.key.clone());
        let value = redact::guard(SecretString::from(text.ok_or_else(no_key)?));
        Ok(value.secret().clone())
    }
}

/// The values that a receiver names.
pub(super) fn references(spec: &Notification) -> impl Iterator<Item = &SecretKeyRef> {
    let webhook = spec.webhook.iter().map(|webhook| &webhook.url_secret_ref);
    let email = spec.email.iter().map(|email| &email.url_secret_ref);
    webhook.chain(email).chain(&spec.key_secret_ref)
}

/// Sends a message to a receiver.
pub(super) async fn deliver(
    parts: &Parts,
    secrets: &Secrets,
    (snapshot, receiver): (&Snapshot, &Receiver),
    message: &Message,
) -> Tried {
    let sent = match &receiver.spec.email {
        Some(email) => mail(parts, secrets, (snapshot, receiver, email), message).await,
        None => post(parts, secrets, (snapshot, receiver), message).await,
    };
    sent.unwrap_or_else(Tried::from)
}

async fn post(
    parts: &Parts,
    secrets: &Secrets,
    (snapshot, receiver): (&Snapshot, &Receiver),
    message: &Message,
) -> Result<Tried, Trouble> {
    let spec = &receiver.spec;
    let key = spec.key_secret_ref.as_ref();
    let key = key.map(|key| secrets.value(receiver.of_installation, key));
    let key = key.transpose()?;
    let pager = spec.format == NotificationFormat::PagerDuty;
    let in_body = match (pager, &key) {
        (true, Some(key)) => Some(address::pager_key(key).map_err(Trouble::Wrong)?),
        _ => None,
    };
    let outgoing = format::write(spec.format, message, &snapshot.place, in_body);
    let outgoing = outgoing.ok_or(Trouble::Unwritten)?;
    let web = match &spec.webhook {
        None => address::pager(&parts.pager_duty, outgoing.path),
        Some(webhook) => {
            let address = secrets.value(receiver.of_installation, &webhook.url_secret_ref)?;
            let key = key.as_ref().filter(|_| !pager);
            address::web(&address, outgoing.path, key, &parts.origins)
        }
    };
    let Web {
        origin,
        path,
        authorization,
    } = web.map_err(Trouble::Wrong)?;
    let body = serde_json::to_vec(&outgoing.body).map_err(|_| Trouble::Unwritten)?;
    let post = Post {
        path: path.expose_secret(),
        content_type: outgoing.content_type,
        authorization: authorization.as_ref(),
        id: &message.id,
        body: Bytes::from(body),
    };
    let probe = parts.probe.for_strangers();
    let taken = probe.post(&origin, &post, TIMEOUT).await?;
    let ended = notify::judge(taken.status, taken.retry_after.as_deref());
    Ok(Tried {
        ended,
        trouble: (ended != Ended::Delivered).then_some(Trouble::Answered(taken.status)),
    })
}

async fn mail(
    parts: &Parts,
    secrets: &Secrets,
    (snapshot, receiver, to): (&Snapshot, &Receiver, &NotificationEmail),
    message: &Message,
) -> Result<Tried, Trouble> {
    let address = secrets.value(receiver.of_installation, &to.url_secret_ref)?;
    let server = address::mail_server(&address, &parts.origins).map_err(Trouble::Wrong)?;
    let written = format::mail(message, &snapshot.place);
    let email = email(&written, to, parts.clock.now()).ok_or(Trouble::Unwritten)?;
    let probe = parts.probe.for_strangers();
    let (envelope, bytes) = (email.envelope().clone(), email.formatted());
    let sent = probe
        .mail(
            &server.origin,
            server.login.as_ref(),
            (&envelope, &bytes),
            MAIL_TIMEOUT,
        )
        .await;
    let Err(error) = sent else {
        return Ok(Tried {
            ended: Ended::Delivered,
            trouble: None,
        });
    };
    let permanent = error.is_permanent();
    let trouble = match error {
        MailError::Connect(error) => Trouble::from(error),
        other => Trouble::Mail(other.to_string()),
    };
    Ok(Tried {
        ended: match permanent {
            true => Ended::Refused,
            false => Ended::Again(None),
        },
        trouble: Some(trouble),
    })
}

/// An e-mail, as RFC 5322 has it. `None`: an address is none.
fn email(written: &format::Mail, to: &NotificationEmail, now: Timestamp) -> Option<Email> {
    let from: Mailbox = to.from.parse().ok()?;
    let id = format!("<{}@{}>", written.id, from.email.domain());
    let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
    let automatic = HeaderValue::new(automatic, "auto-generated".to_owned());
    let mut email = Email::builder()
        .from(from)
        .subject(&written.subject)
        .date(SystemTime::from(now))
        .message_id(Some(id))
        .raw_header(automatic)
        .header(MIME_VERSION_1_0)
        .header(ContentType::TEXT_PLAIN);
    for to in &to.to {
        email = email.to(to.parse().ok()?);
    }
    email.body(written.text.clone()).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_email_names_its_sender_its_receivers_and_the_same_id_for_each_try() {
        let written = format::Mail {
            id: "u-1.phase.Deploy.open".to_owned(),
            subject: "Warning: cabañas/mvp: Deploy has failed".to_owned(),
            text: "Línea\n.\nNext: correct it\n".to_owned(),
        };
        let to: NotificationEmail = serde_json::from_value(serde_json::json!({
            "urlSecretRef": {"name": "mail", "key": "url"},
            "from": "golive@cabanas.example", "to": ["ops@cabanas.example", "lead@cabanas.example"],
        }))
        .unwrap();
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let email = email(&written, &to, now).unwrap();
        assert_eq!(email.envelope().to().len(), 2);
        let text = String::from_utf8(email.formatted()).unwrap();
        assert!(text.is_ascii(), "{text}");
        for part in [
            "From: golive@cabanas.example\r\n",
            "Message-ID: <u-1.phase.Deploy.open@cabanas.example>\r\n",
            "Auto-Submitted: auto-generated\r\n",
            "MIME-Version: 1.0\r\n",
            "Date: Fri, 15 Jan 2027 08:00:00 +0000\r\n",
            "Content-Type: text/plain; charset=utf-8\r\n",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn no_trouble_names_the_host_of_an_address() {
        let host = "hooks.secret.example".to_owned();
        for error in [
            ProbeError::NotResolved(host.clone()),
            ProbeError::NotPublic(host.clone()),
            ProbeError::Connect(host.clone()),
            ProbeError::Tls(host.clone()),
            ProbeError::TlsRefused(host.clone()),
            ProbeError::Http(host.clone()),
            ProbeError::NoRoute(host.clone()),
        ] {
            let told = Trouble::from(error).to_string();
            assert!(!told.contains(&host), "{told}");
        }
    }

    #[test]
    fn what_only_a_person_can_mend_is_told_at_once_and_the_rest_is_tried_again() {
        for (trouble, refused) in [
            (Trouble::Wrong(Wrong::NotHttps), true),
            (Trouble::NotPublic, true),
            (Trouble::NoSecret("chat".to_owned()), false),
            (Trouble::NotResolved, false),
            (Trouble::Tls, false),
        ] {
            let tried = Tried::from(trouble.clone());
            assert_eq!(tried.ended == Ended::Refused, refused, "{trouble}");
        }
    }
}
