//! A token of least privilege: made for this one app with the user's token, kept in a Secret in the
//! operator's namespace, and used from then on wherever Fly.io takes it (`fly::app_token`).
//!
//! Fly.io tells a token's value once. So a token whose reply was lost, or that could not be kept, is
//! found by its name and revoked, and another is made. Its name is this object's alone.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams},
    core::ObjectMeta,
};
use secrecy::{ExposeSecret, SecretString};

use crate::{
    api::{FIELD_MANAGER, LABEL_UID, LABEL_VERSION, Reason},
    error::Error,
    fly::{self, app_token::LimitedToken, token::Scope},
    pipeline::{
        ChangeKind, Cx, Removal, Slot, Step, StepChange, StepId, Verdict, Why, step::Result,
    },
    plan::{Target, fingerprint},
};

/// The token for this app alone.
pub struct AppToken;

/// How long a token lasts: 30 days, where flyctl's last 20 years.
const LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long before its end a token is replaced.
const RENEW_BEFORE: SignedDuration = SignedDuration::from_hours(10 * 24);

/// Keys of the Secret.
const TOKEN: &str = "token";
const TOKEN_ID: &str = "id";

/// The token that is kept.
#[derive(Clone)]
struct Kept {
    id: String,
    value: SecretString,
    version: Option<String>,
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// What is known of the token.
#[derive(Debug)]
pub enum Observed {
    /// The operator makes none; says why.
    NotMade(String),
    /// The operator makes none any more, and one is left from before.
    Left {
        /// Ids at Fly.io.
        ids: Vec<String>,
    },
    /// What is kept, and what Fly.io has under our name.
    There {
        /// Id of the one that is kept, if it can be used.
        kept: Option<String>,
        /// When the kept one should be replaced.
        renew_at: Option<Timestamp>,
        /// It was made so short a time ago that Fly.io need not list it yet: look again after this.
        unlisted: Option<Duration>,
        /// Ids at Fly.io.
        ids: Vec<String>,
        /// Our name.
        name: String,
        /// None was ever kept.
        first: bool,
    },
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// Make one and keep it.
    Make {
        /// Its name.
        name: String,
        /// It is the first, and is announced. A later one is made within one look, so that an
        /// application that is live does not seem to be at work; should it be lost, the next look
        /// finds it by its name.
        first: bool,
    },
    /// Revoke these, whose values nobody knows or needs.
    Revoke {
        /// Ids.
        ids: Vec<String>,
        /// Also forget the one that is kept.
        forget: bool,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Make { .. } => f.write_str("make a token for this app alone"),
            Self::Revoke { ids, .. } => write!(f, "revoke {} tokens of this app", ids.len()),
        }
    }
}

impl StepChange for Change {
    fn kind(&self) -> ChangeKind {
        ChangeKind::Housekeeping
    }
}

/// The name of our tokens at Fly.io.
fn name(uid: &str) -> String {
    format!("golive-{uid}")
}

/// The name of the Secret.
fn secret_name(uid: &str) -> String {
    format!("golive-app-token-{uid}")
}

fn slot(name: String) -> Slot {
    Slot {
        kind: "AppToken".to_owned(),
        name,
    }
}

impl Step for AppToken {
    type Observed = Observed;
    type Change = Change;

    fn id(&self) -> StepId {
        StepId::AppToken
    }

    fn needs(&self) -> &'static [StepId] {
        &[StepId::App]
    }

    /// It is looked at again when Fly.io refuses it or its end comes near.
    fn rechecked(&self) -> bool {
        false
    }

    fn foresees(&self, cx: &Cx) -> Vec<Slot> {
        let narrow = matches!(cx.target.token.facts().scope, Scope::Apps { .. });
        if cx.installation.app_tokens && !narrow {
            vec![slot(name(&cx.owner.uid))]
        } else {
            Vec::new()
        }
    }

    async fn observe(&self, cx: &Cx) -> Result<Observed> {
        let app_name = &cx.target.app;
        let kept = read(cx).await?;
        let why = if !cx.installation.app_tokens {
            Some("the operator runs with `--app-tokens=false`")
        } else if matches!(cx.target.token.facts().scope, Scope::Apps { .. }) {
            Some("the token is one for single apps already")
        } else {
            None
        };
        if let Some(why) = why {
            cx.facts.app_token.clear();
            if kept.is_none() {
                return Ok(Observed::NotMade(why.to_owned()));
            }
            let ids = listed(cx).await?.unwrap_or_default();
            return Ok(Observed::Left {
                ids: ids.into_iter().map(|token| token.id).collect(),
            });
        }
        let ours = match listed(cx).await {
            Ok(ours) => ours.unwrap_or_default(),
            Err(error) if refused(&error) => {
                cx.facts.app_token.clear();
                let why = format!("the token may not list tokens: {error}");
                return Ok(Observed::NotMade(why));
            }
            Err(error) => return Err(error),
        };
        let first = kept.is_none();
        let mut unlisted = None;
        let known = kept.and_then(|kept| {
            let there = ours.iter().find(|token| token.id == kept.id);
            if there.is_none() {
                let made = cx.facts.app_token_made.get();
                let made = made.filter(|made| made.0 == kept.id)?;
                unlisted = Some(
                    cx.installation
                        .timing
                        .settle
                        .checked_sub(made.1.elapsed())?,
                );
            }
            let renew_at = there
                .and_then(LimitedToken::expires_at)
                .and_then(|end| end.checked_sub(RENEW_BEFORE).ok());
            let token = fly::Token::parse(kept.value.expose_secret()).ok()?;
            Some((kept, token, renew_at))
        });
        let ids = ours.iter().map(|token| token.id.clone()).collect();
        let renew_at = known.as_ref().and_then(|(_, _, renew_at)| *renew_at);
        let kept = known.map(|(kept, token, renew_at)| {
            let print = fingerprint(&cx.installation.fingerprint_key, &kept.value);
            cx.facts.guard(&print, &kept.value);
            cx.facts.app_token.set(app_name, token, renew_at);
            kept.id
        });
        if kept.is_none() {
            cx.facts.app_token.clear();
        }
        Ok(Observed::There {
            kept,
            renew_at,
            unlisted,
            ids,
            name: name(&cx.owner.uid),
            first,
        })
    }

    fn diff(&self, _target: &Target, observed: &Observed, now: Timestamp) -> Verdict<Change> {
        match observed {
            Observed::NotMade(why) => Verdict::Skipped(Why::new(
                Reason::NotRequested,
                format!("the user's own token is used: {why}"),
            )),
            Observed::Left { ids } => Verdict::Change(Change::Revoke {
                ids: ids.clone(),
                forget: true,
            }),
            Observed::There {
                kept,
                renew_at,
                unlisted,
                ids,
                name,
                first,
            } => {
                let strays: Vec<String> = ids
                    .iter()
                    .filter(|id| Some(*id) != kept.as_ref())
                    .cloned()
                    .collect();
                if !strays.is_empty() {
                    return Verdict::Change(Change::Revoke {
                        ids: strays,
                        forget: false,
                    });
                }
                if let (Some(_), Some(again)) = (kept, unlisted) {
                    return Verdict::Holds(*again);
                }
                if kept.is_some() && renew_at.is_none_or(|at| now < at) {
                    return Verdict::Done;
                }
                Verdict::Change(Change::Make {
                    name: name.clone(),
                    first: *first,
                })
            }
        }
    }

    fn intent(&self, _target: &Target, change: &Change) -> Option<Slot> {
        match change {
            Change::Make { name, first: true } => Some(slot(name.clone())),
            Change::Make { .. } | Change::Revoke { .. } => None,
        }
    }

    async fn act(&self, cx: &Cx, change: Change) -> Result<()> {
        match change {
            Change::Make { name, .. } => make(cx, &name).await,
            Change::Revoke { ids, forget } => {
                for id in ids {
                    revoke(cx, &id).await?;
                }
                if forget {
                    delete(&cx.kube, &cx.installation.own_namespace, &cx.owner.uid).await?;
                }
                Ok(())
            }
        }
    }

    async fn remove(&self, cx: &Cx) -> Result<Removal> {
        if !cx.installation.app_tokens && read(cx).await?.is_none() {
            return Ok(Removal::Gone);
        }
        match listed(cx).await {
            Ok(ours) => {
                for token in ours.unwrap_or_default() {
                    revoke(cx, &token.id).await?;
                }
            }
            // Then it could not be made either.
            Err(error) if refused(&error) => {}
            Err(error) => return Err(error),
        }
        cx.facts.app_token.clear();
        delete(&cx.kube, &cx.installation.own_namespace, &cx.owner.uid).await?;
        Ok(Removal::Gone)
    }
}

/// Our tokens at Fly.io; `None` when the app is gone.
async fn listed(cx: &Cx) -> Result<Option<Vec<LimitedToken>>> {
    let name = name(&cx.owner.uid);
    let found = cx
        .fly
        .limited_tokens(&cx.target.app)
        .await
        .map_err(|source| Error::fly("list the tokens of the app", source))?;
    Ok(found.map(|tokens| {
        tokens
            .into_iter()
            .filter(|token| token.name.as_deref() == Some(name.as_str()))
            .collect()
    }))
}

/// Whether Fly.io says no for certain, rather than not now.
fn refused(error: &Error) -> bool {
    match error {
        Error::Fly { source, .. } => matches!(
            source.class(),
            fly::Class::Invalid | fly::Class::Auth { hard: true }
        ),
        _ => false,
    }
}

async fn revoke(cx: &Cx, id: &str) -> Result<()> {
    cx.fly
        .revoke_limited_token(id)
        .await
        .map_err(|source| Error::fly("revoke a token of the app", source))
}

async fn make(cx: &Cx, name: &str) -> Result<()> {
    let organization = &cx.target.organization;
    let found = cx
        .fly
        .organization(organization)
        .await
        .map_err(|source| Error::fly(format!("read the organization {organization}"), source))?
        .ok_or(Error::NotKnown("the organization"))?;
    let app = cx.facts.app.get().ok_or(Error::NotKnown("the app"))?;
    let made = cx
        .fly
        .create_app_token(&found.id, &app.id, name, LIFETIME)
        .await
        .map_err(|source| Error::fly("make a token for the app", source))?;
    let print = fingerprint(&cx.installation.fingerprint_key, &made.value);
    cx.facts.guard(&print, &made.value);
    keep(cx, &made).await?;
    cx.facts.app_token_made.set((made.id, Instant::now()));
    Ok(())
}

fn api(kube: &Client, own_namespace: &str) -> Api<Secret> {
    Api::namespaced(kube.clone(), own_namespace)
}

/// The token that is kept. One that cannot be read is none: then it is revoked by its name.
async fn read(cx: &Cx) -> Result<Option<Kept>> {
    let name = secret_name(&cx.owner.uid);
    let found = api(&cx.kube, &cx.installation.own_namespace)
        .get_opt(&name)
        .await
        .map_err(|source| Error::kube(format!("read the Secret {name}"), source))?;
    Ok(found.map(|secret| {
        let data = secret.data.unwrap_or_default();
        let text = |key: &str| {
            let bytes = data.get(key).map(|bytes| bytes.0.clone());
            bytes
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .unwrap_or_default()
        };
        Kept {
            id: text(TOKEN_ID),
            value: text(TOKEN).into(),
            version: secret.metadata.resource_version,
        }
    }))
}

async fn keep(cx: &Cx, made: &fly::app_token::MadeToken) -> Result<()> {
    let name = secret_name(&cx.owner.uid);
    let before = read(cx).await?;
    let labels = [
        ("app.kubernetes.io/name", "golive"),
        ("app.kubernetes.io/component", "app-token"),
        ("app.kubernetes.io/managed-by", "golive"),
        LABEL_VERSION,
        (LABEL_UID, cx.owner.uid.as_str()),
    ];
    let annotations = [
        ("golive.dev/namespace", cx.owner.namespace.as_str()),
        ("golive.dev/activation", cx.owner.name.as_str()),
    ];
    let text = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    };
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            labels: Some(text(&labels)),
            annotations: Some(text(&annotations)),
            resource_version: before.as_ref().and_then(|kept| kept.version.clone()),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([
            (
                TOKEN_ID.to_owned(),
                ByteString(made.id.clone().into_bytes()),
            ),
            (
                TOKEN.to_owned(),
                ByteString(made.value.expose_secret().as_bytes().to_vec()),
            ),
        ])),
        ..Secret::default()
    };
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let api = api(&cx.kube, &cx.installation.own_namespace);
    let written = match before {
        None => api.create(&params, &secret).await,
        Some(_) => api.replace(&name, &params, &secret).await,
    };
    written
        .map(drop)
        .map_err(|source| Error::kube(format!("keep the token in the Secret {name}"), source))
}

/// Removes the Secret. Already gone is fine.
///
/// # Errors
/// When Kubernetes refuses or does not answer.
pub async fn delete(kube: &Client, own_namespace: &str, uid: &str) -> Result<()> {
    let name = secret_name(uid);
    let gone = api(kube, own_namespace)
        .delete(&name, &DeleteParams::default())
        .await;
    match gone {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(source) => Err(Error::kube(format!("delete the Secret {name}"), source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::target;

    fn diff(kept: Option<&str>, ids: &[&str], renew_at: Option<i64>) -> Verdict<Change> {
        let observed = Observed::There {
            kept: kept.map(str::to_owned),
            renew_at: renew_at.and_then(|at| Timestamp::from_second(at).ok()),
            unlisted: None,
            ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            name: "golive-u".to_owned(),
            first: kept.is_none(),
        };
        AppToken.diff(&target(""), &observed, Timestamp::UNIX_EPOCH)
    }

    fn revoke(ids: &[&str]) -> Verdict<Change> {
        Verdict::Change(Change::Revoke {
            ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            forget: false,
        })
    }

    fn make(first: bool) -> Verdict<Change> {
        Verdict::Change(Change::Make {
            name: "golive-u".to_owned(),
            first,
        })
    }

    #[test]
    fn one_token_is_made_and_what_nobody_knows_is_revoked_first() {
        assert_eq!(diff(None, &[], None), make(true));
        assert_eq!(diff(None, &["lost"], None), revoke(&["lost"]));
        assert_eq!(diff(Some("a"), &["a"], None), Verdict::Done);
        assert_eq!(diff(Some("a"), &["a", "lost"], None), revoke(&["lost"]));
    }

    #[test]
    fn a_token_is_replaced_before_its_end() {
        assert_eq!(diff(Some("a"), &["a"], Some(60)), Verdict::Done);
        assert_eq!(diff(Some("a"), &["a"], Some(-60)), make(false));
    }
}
