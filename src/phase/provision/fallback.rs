//! The declared fallback of the database (`postgres.fallback`), and when it is used.
//!
//! Once the fallback is in use it stays in use: the application has written there.

use secrecy::SecretString;

use crate::{
    api::{provision::Postgres as Spec, reference::UrlSource, status::FallbackUsed},
    error::Error,
    phase::names::{self, DATABASE_URL},
    pipeline::{Cx, Note, step::Result},
    plan::{Target, fingerprint},
};

/// What the status calls the fallback of the database.
const FALLBACK: &str = "provision.postgres";

/// Fact: an earlier process has switched to the fallback.
#[derive(Debug)]
struct UsedBefore;

/// Journal: this process has switched to the fallback, for this reason.
#[derive(Debug)]
struct Switched {
    reason: String,
}

/// The spec of the database.
pub fn spec(target: &Target) -> Option<&Spec> {
    target.provision.postgres.as_ref()
}

fn source(target: &Target) -> Option<&UrlSource> {
    spec(target).and_then(|spec| spec.fallback.as_ref())
}

/// Whether the spec declares a fallback.
pub fn is_declared(target: &Target) -> bool {
    source(target).is_some()
}

/// Uses the fallback from now on.
pub fn switch(cx: &Cx, reason: String) {
    cx.journal.set(Switched { reason });
}

/// Why the fallback is in use; `None`: it is not. The reason is empty when an earlier process has
/// switched to it.
pub fn reason(cx: &Cx) -> Option<String> {
    match cx.journal.get::<Switched>() {
        Some(switched) => Some(switched.reason.clone()),
        None => cx.facts.get::<UsedBefore>().map(|_| String::new()),
    }
}

/// Observes whether an earlier process has switched to the fallback: the status says so, or the
/// recorded fingerprint of `DATABASE_URL` is that of the fallback's URL.
pub fn observe(cx: &Cx) {
    let Some(source) = source(&cx.target) else {
        cx.facts.clear::<UsedBefore>();
        cx.journal.clear::<Switched>();
        return;
    };
    if reason(cx).is_some() {
        return;
    }
    let mut recorded = cx.recorded.fallbacks.iter();
    if recorded.any(|used| used.what == FALLBACK) || was_pushed(cx, source) {
        cx.facts.set(UsedBefore);
    }
}

/// Whether the URL that was pushed last is that of the fallback.
fn was_pushed(cx: &Cx, source: &UrlSource) -> bool {
    let Ok(url) = url_of(cx, source) else {
        return false;
    };
    let print = fingerprint(&cx.installation.fingerprint_key, &url);
    let pushed = cx.recorded.secrets.get(DATABASE_URL);
    pushed.is_some_and(|pushed| pushed.fingerprint == print)
}

/// The URL in a Secret that the spec names.
fn url_of(cx: &Cx, source: &UrlSource) -> Result<SecretString> {
    let reference = &source.url_secret_ref;
    cx.refs
        .secret(&reference.name, &reference.key)
        .cloned()
        .map_err(|missing| Error::Blocked {
            reason: missing.reason(),
            message: missing.to_string(),
            action: missing.action(&cx.owner.namespace),
        })
}

/// The URL of a database that is not a cluster of ours: the fallback while it is in use, or the
/// external one.
///
/// # Errors
/// When the Secret or its key is missing.
pub fn declared_url(cx: &Cx) -> Result<Option<SecretString>> {
    let in_use = reason(cx).is_some();
    let source = spec(&cx.target).and_then(|spec| match (&spec.fallback, &spec.external) {
        (Some(source), _) if in_use => Some(source),
        (_, external) => external.as_ref(),
    });
    source.map(|source| url_of(cx, source)).transpose()
}

/// The note for the status about a fallback that is in use.
pub fn note(target: &Target, reason: &str) -> Note {
    let to = source(target)
        .map(|source| format!("Secret {}", source.url_secret_ref.name))
        .unwrap_or_default();
    Note::Fallback(FallbackUsed {
        what: FALLBACK.to_owned(),
        from: names::postgres(&target.app),
        to,
        reason: reason.to_owned(),
        time: None,
    })
}
