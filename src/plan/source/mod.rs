//! The image that is built elsewhere: `deploy.source`. It is chosen before there is a target, so that
//! a new choice is a new target like any change of the spec: checked, approved at the gates, rolled
//! out, recorded, and held when it fails.
//!
//! [`choose`] and [`decide`] are pure; [`registry`] reads the registry, once an interval. Start
//! reading at [`follow`]. May use: the rest of `plan` but the target, `store` and what is below it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};

use crate::{
    api::{Activation, Owner, Reason, source::Source},
    clock::{Timing, backoff},
    error::Error,
    fly::{self, ImageReference},
    plan::{
        digest::{asked, fingerprint},
        refs::Refs,
        token::token,
    },
    process::outside::Outside,
    store::image::{self as store, Stored},
};

pub mod choose;
pub mod credentials;
pub mod decide;
mod registry;

use choose::Rule;
use decide::{Failure, Followed, Question};

/// Deadline of one observation of a registry, with all its pages: a slow registry must not use up the
/// deadline of the pass.
const OBSERVATION: Duration = Duration::from_secs(15);

/// How registries are read and choices are stored.
#[derive(Clone, Copy)]
pub struct Registry<'a> {
    /// Kubernetes, where choices are stored.
    pub kube: &'a kube::Client,
    /// The operator's own namespace.
    pub own_namespace: &'a str,
    /// Fly.io, whose registry takes the object's token.
    pub fly: &'a fly::Fly,
    /// Asks the registry without waiting for an answer that takes long.
    pub outside: &'a Outside,
    /// Pauses after failures.
    pub timing: &'a Timing,
    /// Shortest interval between two observations, whatever the spec requests.
    pub interval_min: Duration,
    /// Key of the fingerprints of secrets.
    pub key: &'a [u8],
    /// Whether this process may still write.
    pub may_write: &'a (dyn Fn() -> bool + Sync),
}

/// The last observation of the source of one object, as this process remembers it.
#[derive(Debug, Default)]
pub struct Watch {
    /// What is stored, as far as this process has read or written it.
    pub stored: Option<Stored>,
    /// Hash of the question, the credentials and the interval.
    key: String,
    /// When to observe again.
    due: Option<Instant>,
    /// Observations in a row that failed.
    failures: u32,
    /// The result of the last one.
    followed: Option<Followed>,
}

impl Watch {
    /// Makes the next pass observe the registry.
    pub fn forget(&mut self) {
        self.due = None;
    }

    /// When to observe again.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The last result, while it counts.
    fn current(&self, key: &str, now: Instant) -> Option<Followed> {
        let counts = self.key == key && self.due.is_some_and(|due| due > now);
        self.followed.clone().filter(|_| counts)
    }

    /// Remembers a result. A failure that may pass shortens the pause, never prolongs it.
    fn record(&mut self, key: String, followed: &Followed, interval: Duration, timing: &Timing) {
        let failure = followed.failure.as_ref();
        let pause = if failure.is_some_and(|failure| failure.transient.is_some()) {
            self.failures = self.failures.saturating_add(1);
            backoff(timing, self.failures).min(interval)
        } else {
            self.failures = 0;
            interval
        };
        self.key = key;
        self.due = Some(Instant::now() + pause);
        self.followed = Some(followed.clone());
    }
}

/// Chooses the image of `deploy.source`: reads the registry when the interval has passed, and returns
/// the last result otherwise. `serving` is the digest of the image that serves, when it is known.
/// `None` when the spec has no source, or no usable token, which [`Target::parse`] reports.
///
/// [`Target::parse`]: crate::plan::Target::parse
///
/// # Errors
/// Only when Kubernetes could not be read or written; everything about the registry is in the result.
pub async fn follow(
    registry: &Registry<'_>,
    owner: &Owner,
    activation: &Activation,
    refs: &Arc<Refs>,
    watch: &mut Watch,
    serving: Option<&str>,
) -> Result<Option<Followed>, Error> {
    let Some(source) = &activation.spec.deploy.source else {
        return Ok(None);
    };
    let Ok(token) = token(activation, refs) else {
        return Ok(None);
    };
    let id = asked(activation);
    let key = observation_key(&id, source, refs, registry.key);
    if let Some(followed) = watch.current(&key, Instant::now()) {
        return Ok(Some(followed));
    }
    // Taken out: an error below leaves nothing, so that the next pass loads it again.
    let (kube, namespace) = (registry.kube, registry.own_namespace);
    let before = match watch.stored.take() {
        Some(stored) => stored,
        None => store::load(kube, namespace, owner).await?,
    };
    let client = registry.fly.client(token);
    let observed = {
        let (id, source, refs) = (id.clone(), source.clone(), refs.clone());
        let (before, serving) = (before.clone(), serving.map(str::to_owned));
        let work = || async move {
            let client = client.with_deadline(tokio::time::Instant::now() + OBSERVATION);
            observe(&client, &id, &source, &refs, &before, serving.as_deref()).await
        };
        registry.outside.ask("registry", &key, work).await
    };
    watch.stored = Some(before.clone());
    let Some(followed) = observed else {
        // What it said last still counts, if it was asked the same.
        let last = watch.followed.clone().filter(|_| watch.key == key);
        return Ok(Some(last.unwrap_or_else(|| awaited(&id, source, &before))));
    };
    if let Some(choice) = &followed.choice
        && Some(choice) != before.choice.as_ref()
    {
        if !(registry.may_write)() {
            // Nothing is done any more, and the process that may write chooses again.
            return Ok(Some(followed));
        }
        // Before anything follows from it: a restart must find the same.
        watch.stored = None;
        let after = store::save(kube, namespace, owner, &before, choice).await?;
        watch.stored = Some(after);
        tracing::info!(tag = %choice.tag, digest = %choice.digest, why = %choice.why, "image chosen");
    }
    let interval = source.interval.get().max(registry.interval_min);
    let followed = raised(followed, source.interval.get(), interval);
    watch.record(key, &followed, interval, registry.timing);
    Ok(Some(followed))
}

/// The same, with a word about an interval that the operator raised. A failure is told alone.
fn raised(mut followed: Followed, asked: Duration, interval: Duration) -> Followed {
    if asked < interval && followed.failure.is_none() {
        let between = if followed.message.is_empty() {
            ""
        } else {
            "; "
        };
        followed.message += &format!(
            "{between}the registry is read every {} s and not every {} s, because the operator's flag `--source-interval-min` says so",
            interval.as_secs(),
            asked.as_secs()
        );
    }
    followed
}

/// While the registry has not answered yet: what was chosen before for the same question stays.
fn awaited(id: &str, source: &Source, stored: &Stored) -> Followed {
    let message = format!("the registry of {} has not answered yet", source.image);
    let choice = Rule::parse(&source.policy).ok().and_then(|rule| {
        let question = Question {
            id,
            image: &source.image,
            rule: &rule,
        };
        decide::answer(&question, stored.choice.as_ref()).cloned()
    });
    let failure = choice.is_none().then(|| Failure {
        reason: Reason::Waiting,
        message: message.clone(),
        action: String::new(),
        transient: None,
    });
    Followed {
        choice,
        reason: Reason::Waiting,
        message,
        pending: None,
        failure,
    }
}

/// Observes the registry and decides.
async fn observe(
    client: &fly::Client,
    id: &str,
    source: &Source,
    refs: &Refs,
    stored: &Stored,
    serving: Option<&str>,
) -> Followed {
    let (rule, image) = match (Rule::parse(&source.policy), source.image.parse()) {
        (Ok(rule), Ok(image)) => (rule, image),
        (Err(why), _) => return invalid(&why, "policy"),
        (_, Err(why)) => {
            let why: fly::image::ReferenceError = why;
            return invalid(&why.to_string(), "image");
        }
    };
    let image: ImageReference = image;
    let stored = stored.choice.as_ref();
    let held = stored.filter(|choice| choice.asked == id);
    let found = registry::find(client, refs, source, &image, &rule, held).await;
    let question = Question {
        id,
        image: &source.image,
        rule: &rule,
    };
    decide::decide(&question, stored, serving, found)
}

fn invalid(what: &str, field: &str) -> Followed {
    Followed {
        choice: None,
        reason: Reason::InvalidSpec,
        message: String::new(),
        pending: None,
        failure: Some(Failure {
            reason: Reason::InvalidSpec,
            message: what.to_owned(),
            action: format!("correct `deploy.source.{field}`"),
            transient: None,
        }),
    }
}

/// Hash that identifies an observation: another question, other credentials or another interval make
/// another one.
fn observation_key(question: &str, source: &Source, refs: &Refs, key: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(question);
    hash.update(source.interval.to_string());
    if let Some(reference) = &source.credentials_secret_ref {
        hash.update(&reference.name);
        match refs.secret_values(&reference.name) {
            Ok(values) => {
                for (name, value) in values {
                    hash.update(name);
                    hash.update(fingerprint(key, value));
                }
            }
            Err(missing) => hash.update(missing.to_string()),
        }
    }
    data_encoding::HEXLOWER.encode(&hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn followed(transient: bool) -> Followed {
        let mut followed = invalid("x", "policy");
        if let Some(failure) = &mut followed.failure
            && transient
        {
            failure.transient = Some(fly::Error::new(fly::error::Details {
                endpoint: "image_tags",
                status: Some(503),
                code: None,
                message: "down".to_owned(),
                request_id: None,
                class: fly::Class::Transient,
                ambiguous: false,
                path: None,
                registry: None,
            }));
        }
        followed
    }

    #[test]
    fn a_result_counts_for_its_key_until_the_interval_has_passed() {
        let mut watch = Watch::default();
        let hour = Duration::from_secs(3600);
        watch.record("a".to_owned(), &followed(false), hour, &Timing::default());
        let now = Instant::now();
        assert_eq!(watch.current("a", now), Some(followed(false)));
        assert_eq!(watch.current("b", now), None);
        assert_eq!(watch.current("a", now + hour), None);
        watch.forget();
        assert_eq!(watch.current("a", now), None);
    }

    #[test]
    fn an_interval_that_is_raised_is_told() {
        let second = Duration::from_secs(1);
        let chosen = || Followed {
            failure: None,
            message: "newest of three".to_owned(),
            ..followed(false)
        };
        let told = raised(chosen(), second, 30 * second).message;
        assert!(told.starts_with("newest of three; "), "{told}");
        assert!(told.contains("every 30 s and not every 1 s"), "{told}");
        assert_eq!(raised(chosen(), second, second), chosen());
        assert_eq!(
            raised(followed(false), second, 30 * second),
            followed(false)
        );
    }

    #[test]
    fn a_failure_that_may_pass_is_retried_before_the_interval_has_passed() {
        let mut watch = Watch::default();
        let hour = Duration::from_secs(3600);
        let timing = Timing::default();
        watch.record("a".to_owned(), &followed(true), hour, &timing);
        let soon = Instant::now() + Duration::from_secs(10);
        assert!(watch.due().is_some_and(|due| due < soon));
        watch.record("a".to_owned(), &followed(false), hour, &timing);
        assert!(watch.due().is_some_and(|due| due > soon));
        // A spec may request an interval that is shorter than the back-off.
        watch.record("a".to_owned(), &followed(true), Duration::ZERO, &timing);
        assert!(watch.due().is_some_and(|due| due <= Instant::now()));
    }
}
