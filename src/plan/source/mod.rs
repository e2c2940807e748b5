//! The image that is built elsewhere: `deploy.source`. It is read as everything else that an object
//! names is, before there is a target, so that a new choice is a new target like any change of the
//! spec: checked, asked about at the gates, rolled out, recorded, held when it fails.
//!
//! `choose` and `decide` are pure; here is what asks the registry, at the interval and never between.

use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::{
    api::{
        Activation, Reason,
        source::{Policy, Source},
    },
    error::Error,
    fly::{self, Class, ImageReference},
    pipeline::{Owner, cx::backoff},
    plan::{self as target, refs::Refs},
    reconcile::{context::Context, memory::Memory},
};

pub mod choose;
pub mod credentials;
pub mod decide;

use crate::store::image::{self as store, Choice};
use choose::{Pick, Rule};
use decide::{Asked, Failure, Followed, Seen};

/// Time of one look at a registry, with all its pages: a slow one must not use up the pass.
const LOOK: Duration = Duration::from_secs(15);

/// What this process remembers of the looks at one object's source.
#[derive(Debug, Default)]
pub struct Watch {
    /// What was asked, and with which credentials.
    key: String,
    /// When to look again.
    due: Option<Instant>,
    /// Looks in a row that failed.
    failures: u32,
    /// What came of the last one.
    decision: Option<Followed>,
}

impl Watch {
    /// The next pass looks.
    pub fn forget(&mut self) {
        self.due = None;
    }

    /// When to look again.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }
}

/// Looks at the source, if it is time, and puts what is known of it into `refs`.
///
/// # Errors
/// Only when Kubernetes could not be read or written; everything about the registry is in `refs`.
pub async fn read(
    activation: &Activation,
    context: &Context,
    owner: &Owner,
    memory: &mut Memory,
    refs: &mut Refs,
) -> Result<(), Error> {
    let Some(source) = &activation.spec.deploy.source else {
        return Ok(());
    };
    // Without a token there is no target either, and parsing says so.
    let Ok(token) = target::token(activation, refs) else {
        return Ok(());
    };
    let mark = target::asked(activation);
    let key = key(&mark, source, refs, &context.installation.fingerprint_key);
    let now = Instant::now();
    let same = memory.source.key == key;
    if same && memory.source.due.is_some_and(|due| due > now) {
        refs.set_source(memory.source.decision.clone());
        return Ok(());
    }
    let (kube, namespace) = (&context.kube, &context.installation.own_namespace);
    let stored = store::load(kube, namespace, owner, &memory.wanted.facts).await?;
    let held = stored.choice.as_ref();
    let failed = |failure| Followed {
        choice: None,
        reason: Reason::InvalidSpec,
        message: String::new(),
        pending: None,
        failure: Some(failure),
    };
    let decision = match (Rule::parse(&source.policy), source.image.parse()) {
        (Err(why), _) => failed(invalid(why, "policy")),
        (_, Err(why)) => {
            let why: fly::image::ReferenceError = why;
            failed(invalid(why.to_string(), "image"))
        }
        (Ok(rule), Ok(image)) => {
            let asked = Asked {
                mark: &mark,
                image: &source.image,
                rule: &rule,
            };
            let serving = memory.wanted.facts.releases.get();
            let serving = serving.as_ref().and_then(|records| records.last_good());
            let client = context
                .fly
                .client(token)
                .with_deadline(tokio::time::Instant::now() + LOOK);
            let on = held.filter(|choice| choice.asked == mark);
            let seen = look(&client, refs, source, &image, &rule, on).await;
            decide::decide(&asked, held, serving.map(|good| good.digest.as_str()), seen)
        }
    };
    if let Some(choice) = &decision.choice
        && Some(choice) != held
    {
        if !context.fence.open() {
            // Nothing is done any more, and the next one that may look finds it again.
            refs.set_source(Some(decision));
            return Ok(());
        }
        // Before anything follows from it: a restart must find the same.
        store::save(kube, namespace, owner, &memory.wanted.facts, choice).await?;
        tracing::info!(tag = %choice.tag, digest = %choice.digest, why = %choice.why, "image chosen");
    }
    let interval = source.interval.get().max(context.source_interval_min);
    let passing = decision
        .failure
        .as_ref()
        .is_some_and(|f| f.passing.is_some());
    let pause = if passing {
        memory.source.failures = memory.source.failures.saturating_add(1);
        // Ever more seldom, but no more seldom than without a failure.
        backoff(&context.installation.timing, memory.source.failures).min(interval)
    } else {
        memory.source.failures = 0;
        interval
    };
    refs.set_source(Some(decision.clone()));
    memory.source.key = key;
    memory.source.due = Some(Instant::now() + pause);
    memory.source.decision = Some(decision);
    Ok(())
}

fn invalid(what: String, field: &str) -> Failure {
    Failure {
        reason: Reason::InvalidSpec,
        message: format!("{what}: correct `deploy.source.{field}`"),
        passing: None,
    }
}

/// Tells one look from another: another question, other credentials, another interval.
fn key(mark: &str, source: &Source, refs: &Refs, key: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(mark);
    hash.update(source.interval.to_string());
    if let Some(reference) = &source.credentials_secret_ref {
        hash.update(&reference.name);
        match refs.secret_values(&reference.name) {
            Ok(values) => {
                for (name, value) in values {
                    hash.update(name);
                    hash.update(target::fingerprint(key, value));
                }
            }
            Err(missing) => hash.update(missing.to_string()),
        }
    }
    data_encoding::HEXLOWER.encode(&hash.finalize())
}

/// Asks the registry. `held` is what the same policy chose before.
async fn look(
    client: &fly::Client,
    refs: &Refs,
    source: &Source,
    image: &ImageReference,
    rule: &Rule,
    held: Option<&Choice>,
) -> Seen {
    let credentials = match &source.credentials_secret_ref {
        None => None,
        Some(reference) => match credentials::of(refs, &reference.name, image) {
            Ok(held) => Some(held),
            Err(unusable) => {
                return Seen::Failed(Failure {
                    reason: unusable.reason,
                    message: unusable.message,
                    passing: None,
                });
            }
        },
    };
    let credentials = credentials.as_ref().map(|held| &held.credentials);
    let named = source.credentials_secret_ref.as_ref();
    let named = named.map(|reference| reference.name.as_str());
    let (tag, older) = match rule.tag() {
        Some(tag) => (tag.to_owned(), false),
        None => {
            let tags = match client.image_tags(image, credentials).await {
                Ok(tags) => tags.unwrap_or_default(),
                Err(error) => return Seen::Failed(failure(error, source, named)),
            };
            match rule.pick(&tags, held.map(|held| held.tag.as_str())) {
                Pick::Take(tag) => (tag.to_owned(), false),
                Pick::Older(tag) => (tag.to_owned(), true),
                Pick::Nothing => return Seen::Failed(nothing(source, &tags)),
            }
        }
    };
    let mut tagged = image.clone();
    tagged.tag = Some(tag.clone());
    if let Some(held) = held.filter(|held| held.tag == tag)
        && let Ok(Some(digest)) = client.image_digest(&tagged, credentials).await
        && digest == held.digest
    {
        return Seen::Image {
            tag,
            digest,
            runs_on_fly: held.runs_on_fly,
        };
    }
    match client.resolve_image_as(&tagged, credentials).await {
        Err(error) => Seen::Failed(failure(error, source, named)),
        Ok(None) => Seen::Failed(Failure {
            reason: Reason::ImageNotFound,
            message: format!(
                "the registry has no image {}:{tag}: push it, or correct `deploy.source`",
                source.image
            ),
            passing: None,
        }),
        Ok(Some(found)) => {
            let (digest, runs_on_fly) = (found.digest.clone(), found.runs_on_fly());
            if older {
                Seen::Older {
                    tag,
                    digest,
                    runs_on_fly,
                }
            } else {
                Seen::Image {
                    tag,
                    digest,
                    runs_on_fly,
                }
            }
        }
    }
}

/// No tag fits: how many there are, and a few of them, so that a person sees what is wrong.
fn nothing(source: &Source, tags: &[String]) -> Failure {
    if tags.is_empty() {
        return Failure {
            reason: Reason::NoMatchingTag,
            message: format!(
                "the registry has no image {}, or none with a tag: push one, or correct `deploy.source.image`",
                source.image
            ),
            passing: None,
        };
    }
    let mut last: Vec<&str> = tags.iter().map(String::as_str).collect();
    last.sort_unstable();
    let some: Vec<&str> = last.into_iter().rev().take(5).collect();
    Failure {
        reason: Reason::NoMatchingTag,
        message: format!(
            "of {} tags of {} none fits {}; some of them are {}: push one that fits, or correct `deploy.source.policy`",
            tags.len(),
            source.image,
            asks(&source.policy),
            crate::api::status::one_line(&some.join(", "), 300),
        ),
        passing: None,
    }
}

fn asks(policy: &Policy) -> String {
    match (&policy.semver, &policy.newest) {
        (Some(semver), _) => format!("the range {}", semver.range),
        (_, Some(newest)) => format!("the pattern {}", newest.pattern),
        _ => "the policy".to_owned(),
    }
}

/// What an error of the registry means for the source.
fn failure(error: fly::Error, source: &Source, secret: Option<&str>) -> Failure {
    let denied = error.is_forbidden() || error.status() == Some(401);
    let hard = matches!(error.class(), Class::Invalid | Class::Auth { hard: true });
    // A Fly token that is refused once is no proof: Fly.io refuses good ones now and then.
    if denied && (hard || secret.is_some() || error.is_forbidden()) {
        let action = match secret {
            Some(name) => format!("mend the Secret {name}"),
            None => "name a Secret with credentials in `deploy.source.credentialsSecretRef`, or make the image public"
                .to_owned(),
        };
        return Failure {
            reason: Reason::SourceForbidden,
            message: format!(
                "the registry does not let {} be read ({error}): {action}",
                source.image
            ),
            passing: None,
        };
    }
    if *error.class() == Class::Invalid {
        return Failure {
            reason: Reason::SourceUnreadable,
            message: format!(
                "the tags of {} cannot be read ({error}): correct `deploy.source`",
                source.image
            ),
            passing: None,
        };
    }
    Failure {
        reason: Reason::SourceUnreadable,
        message: format!(
            "{} cannot be read at its registry ({error}): nothing, it is tried again",
            source.image
        ),
        passing: Some(error),
    }
}
