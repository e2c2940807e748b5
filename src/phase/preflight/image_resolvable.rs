//! The image exists, and for the machines' architecture. Its tag becomes a digest here.

use super::check::{Check, Finding};
use crate::{
    api::{Reason, preflight::CheckName, status::Severity},
    error::Error,
    fly::{self, Class},
    phase::deploy,
    pipeline::{Cx, facts, step::Result},
    plan::Target,
};

/// The image exists, and for the machines' architecture.
pub struct ImageResolvable;

/// What the registry says.
#[derive(Debug)]
pub enum Seen {
    /// There is no image to look for: the text is no reference, or nothing was chosen yet.
    NotAReference,
    /// There is no such image.
    Nothing,
    /// The registry does not give it to us. Says why.
    Refused(String),
    /// Its registry gives it to us, with credentials that Fly.io does not have. Says why not without.
    Private(String),
    /// Here it is.
    There(facts::Image),
}

impl Check for ImageResolvable {
    type Seen = Seen;
    const NAME: CheckName = CheckName::ImageResolvable;
    const SEVERITY: Severity = Severity::Blocking;

    async fn look(&self, cx: &Cx) -> Result<Seen> {
        if cx.target.image_or_invalid().is_err() {
            let source = cx.target.followed();
            let failure = source.and_then(|source| source.failure.as_ref());
            // What may pass by itself is no finding.
            return match failure.and_then(|failure| failure.transient.clone()) {
                Some(error) => Err(Error::fly("choose an image of `deploy.source`", error)),
                None => Ok(Seen::NotAReference),
            };
        }
        match deploy::image::resolve(cx).await {
            Ok(Some(image)) => match private(cx).await? {
                Some(why) => Ok(Seen::Private(why)),
                None => Ok(Seen::There(image)),
            },
            Ok(None) => Ok(Seen::Nothing),
            Err(Error::Fly { source, .. }) if is_refusal(&source) => {
                Ok(Seen::Refused(source.to_string()))
            }
            Err(error) => Err(error),
        }
    }

    fn judge(&self, target: &Target, seen: &Seen) -> Finding {
        let name = target.image_name();
        match seen {
            Seen::NotAReference => match target.image_or_invalid() {
                Err(invalid) => Finding::from_sentence(invalid.reason, &invalid.message),
                Ok(_) => Finding::passed(format!("{name} is an image")),
            },
            Seen::Nothing => Finding::failed(
                Reason::ImageNotFound,
                format!("the registry has no image {name}"),
                "push it, or correct `deploy.image`",
            ),
            Seen::Refused(why) => Finding::failed(
                Reason::ImageForbidden,
                format!("the registry does not give out {name} ({why})"),
                PUBLIC,
            ),
            Seen::Private(why) => Finding::failed(
                Reason::ImageForbidden,
                format!(
                    "{name} can be read only with credentials, and Fly.io pulls images by itself and without any, except from registry.fly.io ({why})"
                ),
                PUBLIC,
            ),
            Seen::There(image) => match image.runs_on_fly {
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

/// What makes an image one that Fly.io can pull.
const PUBLIC: &str =
    "make the image public, or push it to registry.fly.io under an app of this organization";

fn is_refusal(error: &fly::Error) -> bool {
    error.is_forbidden() || matches!(error.class(), Class::Invalid | Class::Auth { hard: true })
}

/// Why Fly.io could not pull what was read with credentials (fly-api.md J): it asks as anybody does.
async fn private(cx: &Cx) -> Result<Option<String>> {
    let source = cx.target.deploy.source.as_ref();
    let image = cx.target.image()?;
    if image.is_fly() || source.is_none_or(|source| source.credentials_secret_ref.is_none()) {
        return Ok(None);
    }
    match cx.fly.resolve_image(image).await {
        Ok(Some(_)) => Ok(None),
        Ok(None) => Ok(Some(
            "anybody else is told that it does not exist".to_owned(),
        )),
        Err(error) if is_refusal(&error) => Ok(Some(error.to_string())),
        Err(error) => Err(Error::fly("ask for the image as Fly.io does", error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::preflight::check::target;

    fn judge(seen: Seen) -> Option<Reason> {
        match ImageResolvable.judge(&target("", &[]), &seen) {
            Finding::Failed { reason, .. } => Some(reason),
            _ => None,
        }
    }

    #[test]
    fn what_cannot_be_had_or_cannot_run_has_a_reason_of_its_own() {
        let image = |runs_on_fly| {
            Seen::There(facts::Image {
                asked: String::new(),
                reference: "registry.fly.io/shop:1".to_owned(),
                pinned: "registry.fly.io/shop@sha256:1".to_owned(),
                digest: "sha256:1".to_owned(),
                runs_on_fly,
            })
        };
        assert_eq!(judge(Seen::Nothing), Some(Reason::ImageNotFound));
        assert_eq!(
            judge(Seen::Refused("403".to_owned())),
            Some(Reason::ImageForbidden)
        );
        assert_eq!(
            judge(Seen::Private("401".to_owned())),
            Some(Reason::ImageForbidden)
        );
        assert_eq!(
            judge(image(Some(false))),
            Some(Reason::ImageArchitectureMissing)
        );
        assert_eq!(judge(image(Some(true))), None);
        assert_eq!(judge(image(None)), None, "unknown is not no");
    }

    #[test]
    fn a_text_that_is_no_reference_says_how_to_write_one() {
        let target = target("deploy: {image: 'UPPER CASE'}", &[]);
        let finding = ImageResolvable.judge(&target, &Seen::NotAReference);
        assert!(
            matches!(
                &finding,
                Finding::Failed {
                    reason: Reason::InvalidSpec,
                    ..
                }
            ),
            "{finding:?}"
        );
    }
}
