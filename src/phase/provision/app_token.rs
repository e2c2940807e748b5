//! A token of least privilege: created for this one app with the user's token, stored in a Secret
//! in the operator's namespace (`app_token_secret`), and used from then on wherever Fly.io accepts
//! it (`fly::app_token`).
//!
//! Fly.io returns a token's value once. So a token whose reply was lost, or that could not be
//! stored, is found by its name and revoked, and another is created. Only this Activation uses the
//! name.

use std::{collections::BTreeSet, fmt, time::Duration};

use jiff::Timestamp;
use secrecy::ExposeSecret;

use super::{
    app_token_secret::{self as secret, StoredToken},
    ours::{gone, has_claim},
    token_pace::Making,
};
use crate::{
    api::Reason,
    error::Error,
    fly::{self, app_token::LimitedToken, token::Scope},
    phase::{
        absence::{self, Doubt},
        app_name::FoundApp,
        names::app_token as name,
    },
    pipeline::{
        ChangeKind, ChangeVerb, Cx, PlannedChange, Removal, Slot, Step, StepChange, StepId,
        Verdict, Why, step::Result,
    },
    plan::Target,
};

/// Creates, renews and revokes the token for this app.
pub struct AppToken;

/// How long a token should last: 30 days, where flyctl's last 20 years.
const LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// The state of the token.
#[derive(Debug)]
pub enum TokenState {
    /// The operator creates none, for this reason.
    NotCreated(String),
    /// The operator no longer creates any, and one is stored from before.
    Leftover {
        /// Ids of our tokens at Fly.io.
        ids: Vec<String>,
    },
    /// The operator creates one.
    Managed(ManagedToken),
}

/// What is stored, and what Fly.io lists under our name.
#[derive(Debug, Default)]
pub struct ManagedToken {
    /// The stored token, if it can be used.
    stored: Option<UsableToken>,
    /// Ids of our tokens at Fly.io.
    ids: Vec<String>,
    /// The name of our tokens.
    name: String,
    /// None was ever stored.
    first: bool,
    /// No other is made before this time.
    rests_until: Option<Timestamp>,
}

/// A token that is stored and can be used.
#[derive(Debug, Default)]
struct UsableToken {
    /// Its id at Fly.io.
    id: String,
    /// When it should be replaced.
    renew_at: Option<Timestamp>,
    /// It was created so recently that Fly.io need not list it yet: observe again after this time.
    unlisted: Option<Duration>,
}

/// What to do about the token.
#[derive(Debug, PartialEq, Eq)]
pub enum TokenChange {
    /// Create a token and store it.
    Create {
        /// Its name.
        name: String,
        /// It is the first, and is announced. A later one is created without an announcement, so
        /// that a live application does not appear to be in progress; if its reply is lost, the
        /// next observation finds it by its name.
        first: bool,
    },
    /// Revoke these tokens, whose values are lost or no longer needed.
    Revoke {
        /// Ids.
        ids: Vec<String>,
        /// Also delete the stored one.
        forget: bool,
    },
}

impl fmt::Display for TokenChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { .. } => f.write_str("create a token for this app alone"),
            Self::Revoke { ids, .. } => write!(f, "revoke {} tokens of this app", ids.len()),
        }
    }
}

impl StepChange for TokenChange {
    fn planned(&self) -> Vec<PlannedChange> {
        vec![match self {
            Self::Create { name, .. } => PlannedChange::new(ChangeVerb::Create, KIND, name),
            Self::Revoke { ids, .. } => {
                PlannedChange::of_all(ChangeVerb::Destroy, KIND, ids.iter().map(String::as_str))
            }
        }]
    }

    fn kind(&self) -> ChangeKind {
        ChangeKind::Housekeeping
    }
}

/// Kind of a token in `status.intents[]`.
const KIND: &str = "AppToken";

fn slot(name: String) -> Slot {
    Slot {
        kind: KIND.to_owned(),
        name,
    }
}

impl Step for AppToken {
    type Observed = TokenState;
    type Change = TokenChange;

    fn id(&self) -> StepId {
        StepId::AppToken
    }

    fn needs(&self) -> &'static [StepId] {
        &[StepId::App]
    }

    /// It is observed again when Fly.io refuses it or it is about to expire.
    fn rechecked(&self) -> bool {
        false
    }

    fn expected_creates(&self, cx: &Cx) -> Vec<Slot> {
        match why_not_created(cx) {
            None => vec![slot(name(&cx.owner.uid))],
            Some(_) => Vec::new(),
        }
    }

    fn expected(&self, cx: &Cx) -> Vec<PlannedChange> {
        match why_not_created(cx) {
            None => vec![PlannedChange::new(
                ChangeVerb::Create,
                KIND,
                name(&cx.owner.uid),
            )],
            Some(_) => Vec::new(),
        }
    }

    async fn observe(&self, cx: &Cx) -> Result<TokenState> {
        let stored = secret::read(cx).await?;
        if let Some(why) = why_not_created(cx) {
            cx.facts.app_token.clear();
            if stored.is_none() {
                return Ok(TokenState::NotCreated(why.to_owned()));
            }
            let ids = listed(cx).await?.unwrap_or_default();
            // A list may lack the one that is stored, or the whole app.
            let ids = ids.into_iter().map(|token| token.id);
            let ids: BTreeSet<String> = ids.chain(stored.map(|stored| stored.id)).collect();
            return Ok(TokenState::Leftover {
                ids: ids.into_iter().collect(),
            });
        }
        let ours = match listed(cx).await {
            Ok(ours) => ours.unwrap_or_default(),
            Err(error) if refused(&error) => {
                cx.facts.app_token.clear();
                let why = format!("the token may not list tokens: {error}");
                return Ok(TokenState::NotCreated(why));
            }
            Err(error) => return Err(error),
        };
        let first = stored.is_none();
        let made = stored.as_ref().and_then(|stored| stored.made);
        let rests_until =
            made.map(|made| made.next_at(cx.fly_now(), cx.installation.timing.backoff_min));
        let stored = stored.and_then(|stored| use_stored(cx, &stored, &ours));
        if stored.is_none() {
            cx.facts.app_token.clear();
        }
        Ok(TokenState::Managed(ManagedToken {
            stored,
            ids: ours.into_iter().map(|token| token.id).collect(),
            name: name(&cx.owner.uid),
            first,
            rests_until,
        }))
    }

    fn diff(
        &self,
        _target: &Target,
        observed: &TokenState,
        now: Timestamp,
    ) -> Verdict<TokenChange> {
        match observed {
            TokenState::NotCreated(why) => Verdict::Skipped(Why::new(
                Reason::NotRequested,
                format!("the user's own token is used: {why}"),
            )),
            TokenState::Leftover { ids } => Verdict::Change(TokenChange::Revoke {
                ids: ids.clone(),
                forget: true,
            }),
            TokenState::Managed(token) => decide(token, now),
        }
    }

    fn intent(&self, _target: &Target, change: &TokenChange) -> Option<Slot> {
        match change {
            TokenChange::Create { name, first: true } => Some(slot(name.clone())),
            TokenChange::Create { .. } | TokenChange::Revoke { .. } => None,
        }
    }

    async fn act(&self, cx: &Cx, change: TokenChange) -> Result<()> {
        match change {
            TokenChange::Create { name, .. } => create(cx, &name).await,
            TokenChange::Revoke { ids, forget } => {
                for id in ids {
                    revoke(cx, &id).await?;
                }
                if forget {
                    secret::delete(&cx.kube, &cx.installation.own_namespace, &cx.owner.uid).await?;
                }
                Ok(())
            }
        }
    }

    async fn remove(&self, cx: &Cx) -> Result<Removal> {
        // A token is created after the claim, and only where the operator creates any.
        let announced = cx.intents.has_open(StepId::AppToken);
        let possible = announced || (why_not_created(cx).is_none() && has_claim(cx).await?);
        if !possible && secret::read(cx).await?.is_none() {
            return Ok(Removal::Gone);
        }
        let own = name(&cx.owner.uid);
        match listed(cx).await {
            Ok(ours) => {
                let ours = ours.unwrap_or_default();
                // A list may lack the token that is stored.
                let stored = secret::read(cx).await?.map(|stored| stored.id);
                let listed = ours.into_iter().map(|token| token.id);
                let ids: BTreeSet<String> = listed.chain(stored).collect();
                for id in &ids {
                    revoke(cx, id).await?;
                }
                if !ids.is_empty() {
                    // It was found: the outcome of its create is known.
                    cx.intents.settled(StepId::AppToken);
                    absence::deletion_accepted(cx, KIND, &own);
                }
            }
            // Then it could not be created either.
            Err(error) if refused(&error) => {}
            Err(error) => return Err(error),
        }
        if let removal @ Removal::Pending { .. } = gone(cx, KIND, &own) {
            return Ok(removal);
        }
        cx.facts.app_token.clear();
        secret::delete(&cx.kube, &cx.installation.own_namespace, &cx.owner.uid).await?;
        Ok(Removal::Gone)
    }
}

/// Why the operator creates no token.
fn why_not_created(cx: &Cx) -> Option<&'static str> {
    if !cx.installation.app_tokens {
        return Some("the operator runs with `--app-tokens=false`");
    }
    is_narrow(cx).then_some("the token is one for single apps already")
}

fn is_narrow(cx: &Cx) -> bool {
    matches!(cx.target.token.facts().scope, Scope::Apps { .. })
}

/// Has the client use the stored token, if it can be parsed, until two looks a settling window apart
/// have not shown it: one list may lag behind, or lack the whole app.
fn use_stored(cx: &Cx, stored: &StoredToken, listed: &[LimitedToken]) -> Option<UsableToken> {
    let found = listed.iter().find(|token| token.id == stored.id);
    let unlisted = match found {
        Some(_) => {
            absence::cleared(cx, Doubt::Gone, KIND, &stored.id);
            None
        }
        None => Some(absence::seen(cx, Doubt::Gone, KIND, &stored.id)?),
    };
    let renew_at = found
        .and_then(LimitedToken::expires_at)
        .map(|end| Making::renew_at(stored.made, end));
    let token = fly::Token::parse(stored.value.expose_secret()).ok()?;
    crate::redact::guard(stored.value.clone());
    // One that is refused and not listed is not tried again until it is certain what became of it.
    if unlisted.is_none() || !cx.facts.app_token.is_refused() {
        cx.facts.app_token.set(&cx.target.app, token, renew_at);
    }
    Some(UsableToken {
        id: stored.id.clone(),
        renew_at,
        unlisted,
    })
}

/// Decides what comes next: tokens that are not stored are revoked before another is created.
fn decide(token: &ManagedToken, now: Timestamp) -> Verdict<TokenChange> {
    let stored = token.stored.as_ref();
    let unknown: Vec<String> = token
        .ids
        .iter()
        .filter(|id| stored.is_none_or(|stored| stored.id != **id))
        .cloned()
        .collect();
    if !unknown.is_empty() {
        return Verdict::Change(TokenChange::Revoke {
            ids: unknown,
            forget: false,
        });
    }
    match stored {
        Some(UsableToken {
            unlisted: Some(again),
            ..
        }) => Verdict::Holds(*again),
        Some(stored) if stored.renew_at.is_none_or(|at| now < at) => Verdict::Done,
        _ => match rest(token.rests_until, now) {
            // Meanwhile the user's token, or the one that ends soon, is used.
            Some(left) => Verdict::Holds(left),
            None => Verdict::Change(TokenChange::Create {
                name: token.name.clone(),
                first: token.first,
            }),
        },
    }
}

/// How long no other token is made.
fn rest(until: Option<Timestamp>, now: Timestamp) -> Option<Duration> {
    let left = Duration::try_from(until?.duration_since(now)).ok()?;
    (!left.is_zero()).then_some(left)
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

/// Whether Fly.io refuses for good, and not for the moment.
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

async fn create(cx: &Cx, name: &str) -> Result<()> {
    let organization = &cx.target.organization;
    let found = cx
        .fly
        .organization(organization)
        .await
        .map_err(|source| Error::fly(format!("read the organization {organization}"), source))?
        .ok_or(Error::NotKnown("the organization"))?;
    let app = cx
        .facts
        .get::<FoundApp>()
        .ok_or(Error::NotKnown("the app"))?;
    let made = cx
        .fly
        .create_app_token(&found.id, &app.app.id, name, LIFETIME)
        .await
        .map_err(|source| Error::fly("create a token for the app", source))?;
    crate::redact::guard(made.value.clone());
    secret::save(cx, &made).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::target;

    fn diff(stored: Option<&str>, ids: &[&str], renew_at: Option<i64>) -> Verdict<TokenChange> {
        let observed = TokenState::Managed(ManagedToken {
            stored: stored.map(|id| UsableToken {
                id: id.to_owned(),
                renew_at: renew_at.and_then(|at| Timestamp::from_second(at).ok()),
                unlisted: None,
            }),
            ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            name: "golive-u".to_owned(),
            first: stored.is_none(),
            rests_until: None,
        });
        AppToken.diff(&target(""), &observed, Timestamp::UNIX_EPOCH)
    }

    fn revoke(ids: &[&str]) -> Verdict<TokenChange> {
        Verdict::Change(TokenChange::Revoke {
            ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            forget: false,
        })
    }

    fn create(first: bool) -> Verdict<TokenChange> {
        Verdict::Change(TokenChange::Create {
            name: "golive-u".to_owned(),
            first,
        })
    }

    #[test]
    fn one_token_is_created_after_those_with_lost_values_are_revoked() {
        assert_eq!(diff(None, &[], None), create(true));
        assert_eq!(diff(None, &["lost"], None), revoke(&["lost"]));
        assert_eq!(diff(Some("a"), &["a"], None), Verdict::Done);
        assert_eq!(diff(Some("a"), &["a", "lost"], None), revoke(&["lost"]));
    }

    #[test]
    fn a_token_that_is_unusable_soon_after_its_making_is_not_replaced_at_once() {
        let at = |second| Timestamp::from_second(second).ok();
        let observed = TokenState::Managed(ManagedToken {
            name: "golive-u".to_owned(),
            rests_until: at(8),
            ..ManagedToken::default()
        });
        let now = |second| at(second).unwrap_or_default();
        let rests = Verdict::Holds(Duration::from_secs(5));
        assert_eq!(AppToken.diff(&target(""), &observed, now(3)), rests);
        assert_eq!(AppToken.diff(&target(""), &observed, now(8)), create(false));
    }

    #[test]
    fn a_token_is_replaced_before_it_expires() {
        assert_eq!(diff(Some("a"), &["a"], Some(60)), Verdict::Done);
        assert_eq!(diff(Some("a"), &["a"], Some(-60)), create(false));
    }
}
