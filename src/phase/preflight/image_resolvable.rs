//! The image exists for the machines' architecture. Its tag is resolved to a digest here.

use super::check::{Check, Finding};
use crate::{
    api::{Reason, preflight::CheckName, status::Severity},
    error::Error,
    fly::{self, Class},
    phase::image,
    pipeline::{Cx, step::Result},
    plan::Target,
    store::image::Image,
};

/// The image exists for the machines' architecture.
pub struct ImageResolvable;

/// What the registry answers.
#[derive(Debug)]
pub enum RegistryAnswer {
    /// No request was sent: the text is no reference, or no image was chosen yet.
    NoReference,
    /// There is no such image.
    NotFound,
    /// It refuses the image, for this reason.
    Refused(String),
    /// It returns the image only with credentials, which Fly.io does not have; with the answer
    /// without credentials.
    Private(String),
    /// The image.
    Found(Image),
}

impl Check for ImageResolvable {
    type Observed = RegistryAnswer;
    const NAME: CheckName = CheckName::ImageResolvable;
    const SEVERITY: Severity = Severity::Blocking;

    async fn observe(&self, cx: &Cx) -> Result<RegistryAnswer> {
        if cx.target.image_or_invalid().is_err() {
            let source = cx.target.followed();
            let failure = source.and_then(|source| source.failure.as_ref());
            if failure.is_some_and(|failure| failure.reason == Reason::Waiting) {
                return Err(Error::Awaited("the registry".to_owned()));
            }
            // What may pass without a change is no finding.
            return match failure.and_then(|failure| failure.transient.clone()) {
                Some(error) => Err(Error::fly("choose an image of `deploy.source`", error)),
                None => Ok(RegistryAnswer::NoReference),
            };
        }
        match image::resolve(cx).await {
            Ok(Some(image)) => match private(cx).await? {
                Some(why) => Ok(RegistryAnswer::Private(why)),
                None => Ok(RegistryAnswer::Found(image)),
            },
            Ok(None) => Ok(RegistryAnswer::NotFound),
            Err(Error::Fly { source, .. }) if is_refusal(&source) => {
                Ok(RegistryAnswer::Refused(source.to_string()))
            }
            Err(error) => Err(error),
        }
    }

    fn judge(&self, target: &Target, answer: &RegistryAnswer) -> Finding {
        let name = target.image_name();
        match answer {
            RegistryAnswer::NoReference => match target.image_or_invalid() {
                Err(invalid) => Finding::failed(
                    invalid.reason,
                    invalid.message.as_str(),
                    invalid.action.as_str(),
                ),
                Ok(_) => Finding::passed(format!("{name} is an image")),
            },
            RegistryAnswer::NotFound => not_found(target),
            RegistryAnswer::Refused(why) => Finding::failed(
                Reason::ImageForbidden,
                format!("the registry refuses {name} ({why})"),
                MISTYPED,
            ),
            RegistryAnswer::Private(why) => Finding::failed(
                Reason::ImageForbidden,
                format!(
                    "{name} can be read only with credentials, and Fly.io pulls images by itself and without any, except from registry.fly.io ({why})"
                ),
                PUBLIC,
            ),
            RegistryAnswer::Found(image) => match image.runs_on_fly {
                Some(false) => Finding::failed(
                    Reason::ImageArchitectureMissing,
                    format!("{name} is not built for linux/amd64, which Fly.io's machines are"),
                    "build it with `docker build --platform linux/amd64`",
                ),
                Some(true) => {
                    Finding::passed(format!("{name} is {} for linux/amd64", image.digest))
                }
                None => Finding::passed(format!(
                    "{name} is {}; the registry does not say for which architecture",
                    image.digest
                )),
            },
        }
    }
}

/// What is told of an image that does not exist.
fn not_found(target: &Target) -> Finding {
    let name = target.image_name();
    let reference = target.image_or_invalid();
    let (Ok(reference), None) = (reference, &target.deploy.source) else {
        let action = "push it, or correct `deploy.source`";
        return Finding::failed(
            Reason::ImageNotFound,
            format!("the registry has no image {name}"),
            action,
        );
    };
    let untagged = reference.digest.is_none() && reference.tag.as_deref() == Some("latest");
    let message = if untagged && !name.ends_with(":latest") {
        format!(
            "the registry has no image {name}:latest; no tag was given, so `:latest` was looked for"
        )
    } else {
        format!("the registry has no image {name}")
    };
    Finding::failed(
        Reason::ImageNotFound,
        message,
        format!("{}, or correct `deploy.image`", push(reference, name)),
    )
}

/// How a person pushes this image. Only a tag can be pushed; in Fly.io's registry the repository is an
/// app (flags of `fly deploy`: <https://fly.io/docs/flyctl/deploy/>).
fn push(reference: &fly::ImageReference, name: &str) -> String {
    match (&reference.digest, &reference.tag) {
        (None, tag) if reference.is_fly() => format!(
            "push it with `fly deploy --build-only --push -a {} --image-label {}`",
            reference.repository,
            tag.as_deref().unwrap_or("latest")
        ),
        (None, _) => format!("push it with `docker push {name}`"),
        (Some(_), _) => "push an image with this digest".to_owned(),
    }
}

/// What to do about an image that a registry refuses: many say so of one that does not exist.
const MISTYPED: &str = "correct the name, make the image public, or push it to registry.fly.io under an app of this organization";

/// How to make an image one that Fly.io can pull.
const PUBLIC: &str =
    "make the image public, or push it to registry.fly.io under an app of this organization";

fn is_refusal(error: &fly::Error) -> bool {
    error.is_forbidden() || matches!(error.class(), Class::Invalid | Class::Auth { hard: true })
}

/// Why Fly.io could not pull an image that was read with credentials: it pulls without any.
async fn private(cx: &Cx) -> Result<Option<String>> {
    let source = cx.target.deploy.source.as_ref();
    let image = cx.target.image()?;
    if image.is_fly() || source.is_none_or(|source| source.credentials_secret_ref.is_none()) {
        return Ok(None);
    }
    match image::read(cx, image).await? {
        Ok(Some(_)) => Ok(None),
        Ok(None) => Ok(Some(
            "without them the registry answers that it does not exist".to_owned(),
        )),
        Err(error) if is_refusal(&error) => Ok(Some(error.to_string())),
        Err(error) => Err(Error::fly("read the image as Fly.io does", error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::testing::target;

    fn judge(answer: RegistryAnswer) -> Option<Reason> {
        match ImageResolvable.judge(&target("", &[]), &answer) {
            Finding::Failed { reason, .. } => Some(reason),
            _ => None,
        }
    }

    #[test]
    fn each_failure_has_its_own_reason() {
        let image = |runs_on_fly| {
            RegistryAnswer::Found(Image {
                asked: String::new(),
                reference: "registry.fly.io/shop:1".to_owned(),
                pinned: "registry.fly.io/shop@sha256:1".to_owned(),
                digest: "sha256:1".to_owned(),
                runs_on_fly,
            })
        };
        assert_eq!(judge(RegistryAnswer::NotFound), Some(Reason::ImageNotFound));
        assert_eq!(
            judge(RegistryAnswer::Refused("403".to_owned())),
            Some(Reason::ImageForbidden)
        );
        assert_eq!(
            judge(RegistryAnswer::Private("401".to_owned())),
            Some(Reason::ImageForbidden)
        );
        assert_eq!(
            judge(image(Some(false))),
            Some(Reason::ImageArchitectureMissing)
        );
        assert_eq!(judge(image(Some(true))), None);
        assert_eq!(judge(image(None)), None, "an unknown architecture passes");
    }

    #[test]
    fn an_image_without_a_tag_says_which_one_was_looked_for() {
        let judge = |image: &str| {
            let target = target(&format!("deploy: {{image: {image}}}"), &[]);
            match ImageResolvable.judge(&target, &RegistryAnswer::NotFound) {
                Finding::Failed {
                    message, action, ..
                } => format!("{message}: {action}"),
                other => format!("{other:?}"),
            }
        };
        let untagged = judge("registry.fly.io/shop");
        assert!(untagged.contains("`:latest` was looked for"), "{untagged}");
        assert!(untagged.contains("--push -a shop"), "{untagged}");
        for tagged in ["registry.fly.io/shop:1", "registry.fly.io/shop:latest"] {
            assert!(!judge(tagged).contains("looked for"), "{tagged}");
        }
        assert!(judge("ghcr.io/me/shop:1").contains("docker push ghcr.io/me/shop:1"));
    }

    #[test]
    fn the_command_that_pushes_an_image_pushes_this_image() {
        let action = |image: &str| {
            // The app of the object has another name than the image.
            let target = target(&format!("deploy: {{image: '{image}'}}"), &[]);
            match ImageResolvable.judge(&target, &RegistryAnswer::NotFound) {
                Finding::Failed { action, .. } => action,
                other => format!("{other:?}"),
            }
        };
        assert_eq!(
            action("registry.fly.io/other:1.5.0"),
            "push it with `fly deploy --build-only --push -a other --image-label 1.5.0`, or correct `deploy.image`"
        );
        let digest = format!("registry.fly.io/other@sha256:{}", "a".repeat(64));
        assert_eq!(
            action(&digest),
            "push an image with this digest, or correct `deploy.image`"
        );
    }

    #[test]
    fn a_text_that_is_no_reference_says_how_to_write_one() {
        let said = |image: &str| {
            let target = target(&format!("deploy: {{image: '{image}'}}"), &[]);
            match ImageResolvable.judge(&target, &RegistryAnswer::NoReference) {
                Finding::Failed {
                    reason: Reason::InvalidSpec,
                    message,
                    action,
                } => format!("{message}: {action}"),
                other => format!("{other:?}"),
            }
        };
        assert!(said("UPPER CASE").contains("write it as registry.fly.io/"));
        let scheme = said("https://registry.fly.io/shop:1");
        assert!(scheme.contains("remove the part up to `://`"), "{scheme}");
    }
}
