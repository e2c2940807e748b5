//! Reads a registry: its tags, and the digest of the tag that the policy chooses.

use super::{
    choose::{Pick, Rule},
    credentials,
    decide::{Failure, Found, TaggedImage},
};
use crate::{
    api::{
        Reason,
        source::{Policy, Source},
        status::one_line,
    },
    fly::{self, Class, ImageReference},
    plan::refs::Refs,
    store::image::Choice,
};

/// Tags that a message lists, so that a person sees what is wrong.
const LISTED_TAGS: usize = 5;

/// Reads the registry. `held` is the image that the same policy chose before.
pub(super) async fn find(
    client: &fly::Client,
    refs: &Refs,
    source: &Source,
    image: &ImageReference,
    rule: &Rule,
    held: Option<&Choice>,
) -> Found {
    let secret = source.credentials_secret_ref.as_ref();
    let secret = secret.map(|reference| reference.name.as_str());
    let guarded = match secret.map(|name| credentials::of(refs, name, image)) {
        None => None,
        Some(Ok(guarded)) => Some(guarded),
        Some(Err(unusable)) => {
            return Found::Nothing(Failure {
                reason: unusable.reason,
                message: unusable.message,
                action: unusable.action,
                transient: None,
            });
        }
    };
    let reading = Reading {
        client,
        source,
        image,
        credentials: guarded.as_ref().map(|guarded| &guarded.credentials),
        secret,
    };
    let held_tag = held.map(|held| held.tag.as_str());
    let (tag, older) = match reading.tag(rule, held_tag).await {
        Ok(picked) => picked,
        Err(failure) => return Found::Nothing(failure),
    };
    match reading.image(tag, held).await {
        Ok(image) if older => Found::Older(image),
        Ok(image) => Found::Image(image),
        Err(failure) => Found::Nothing(failure),
    }
}

/// One observation of one registry.
struct Reading<'a> {
    client: &'a fly::Client,
    source: &'a Source,
    image: &'a ImageReference,
    credentials: Option<&'a fly::Credentials>,
    /// Name of the Secret with the credentials.
    secret: Option<&'a str>,
}

impl Reading<'_> {
    /// The tag that the policy chooses, and whether it is older than the held one.
    async fn tag(&self, rule: &Rule, held: Option<&str>) -> Result<(String, bool), Failure> {
        if let Some(tag) = rule.tag() {
            return Ok((tag.to_owned(), false));
        }
        let tags = self.client.image_tags(self.image, self.credentials).await;
        let tags = tags
            .map_err(|error| failure(error, self.source, self.secret))?
            .unwrap_or_default();
        match rule.pick(&tags, held) {
            Pick::Take(tag) => Ok((tag.to_owned(), false)),
            Pick::Older(tag) => Ok((tag.to_owned(), true)),
            Pick::Nothing => Err(no_match(self.source, &tags)),
        }
    }

    /// The image that a tag points to. When it still points to the held one, one small request is
    /// enough.
    async fn image(&self, tag: String, held: Option<&Choice>) -> Result<TaggedImage, Failure> {
        let mut tagged = self.image.clone();
        tagged.tag = Some(tag.clone());
        if let Some(held) = held.filter(|held| held.tag == tag)
            && let Ok(Some(digest)) = self.client.image_digest(&tagged, self.credentials).await
            && digest == held.digest
        {
            return Ok(TaggedImage {
                tag,
                digest,
                runs_on_fly: held.runs_on_fly,
            });
        }
        let resolved = self
            .client
            .resolve_image_as(&tagged, self.credentials)
            .await
            .map_err(|error| failure(error, self.source, self.secret))?;
        match resolved {
            Some(resolved) => Ok(TaggedImage {
                tag,
                digest: resolved.digest.clone(),
                runs_on_fly: resolved.runs_on_fly(),
            }),
            None => Err(Failure {
                reason: Reason::ImageNotFound,
                message: format!("the registry has no image {}:{tag}", self.source.image),
                action: "push it, or correct `deploy.source`".to_owned(),
                transient: None,
            }),
        }
    }
}

/// No tag matches the policy.
fn no_match(source: &Source, tags: &[String]) -> Failure {
    let (message, action) = if tags.is_empty() {
        let message = format!(
            "the registry has no image {}, or none with a tag",
            source.image
        );
        (message, "push one, or correct `deploy.source.image`")
    } else {
        let mut tags: Vec<&str> = tags.iter().map(String::as_str).collect();
        tags.sort_unstable();
        let total = tags.len();
        let some: Vec<&str> = tags.into_iter().rev().take(LISTED_TAGS).collect();
        let message = format!(
            "none of the {total} tags of {} matches {}; some of them are {}",
            source.image,
            policy(&source.policy),
            one_line(&some.join(", "), 300),
        );
        (
            message,
            "push one that matches, or correct `deploy.source.policy`",
        )
    };
    Failure {
        reason: Reason::NoMatchingTag,
        message,
        action: action.to_owned(),
        transient: None,
    }
}

/// A policy, for people.
fn policy(policy: &Policy) -> String {
    match (&policy.semver, &policy.newest) {
        (Some(semver), _) => format!("the range {}", semver.range),
        (_, Some(newest)) => format!("the pattern {}", newest.pattern),
        _ => "the policy".to_owned(),
    }
}

/// What an error of the registry means for the source. `secret` is the name of the Secret with the
/// credentials.
fn failure(error: fly::Error, source: &Source, secret: Option<&str>) -> Failure {
    let image = &source.image;
    let denied = error.is_forbidden() || error.status() == Some(401);
    let hard = matches!(error.class(), Class::Invalid | Class::Auth { hard: true });
    // One refusal of a Fly token proves nothing: Fly.io refuses valid tokens now and then.
    if denied && (hard || secret.is_some() || error.is_forbidden()) {
        let action = match secret {
            Some(name) => format!("correct the Secret {name}"),
            None => "name a Secret with credentials in `deploy.source.credentialsSecretRef`, or make the image public"
                .to_owned(),
        };
        return Failure {
            reason: Reason::SourceForbidden,
            message: format!("the registry denies access to {image} ({error})"),
            action,
            transient: None,
        };
    }
    if *error.class() == Class::Invalid {
        return Failure {
            reason: Reason::SourceUnreadable,
            message: format!("the tags of {image} cannot be read ({error})"),
            action: "correct `deploy.source`".to_owned(),
            transient: None,
        };
    }
    Failure {
        reason: Reason::SourceUnreadable,
        message: format!("the registry of {image} cannot be read ({error})"),
        action: "no action needed, Golive retries".to_owned(),
        transient: Some(error),
    }
}
