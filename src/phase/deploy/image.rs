//! The image: the tag is resolved to a digest once, and machines get the digest, so that a tag
//! that moves changes nothing behind our back.

use std::convert::Infallible;

use jiff::Timestamp;

use crate::{
    api::Reason,
    error::Error,
    fly,
    phase::{Cx, Step, StepId, Verdict, Why, facts, step::Result},
    target::Target,
};

/// The image.
pub struct Image;

/// Name of the step.
pub const ID: StepId = "Image";

/// Resolves the image of the target, or recalls what was resolved for the same reference.
/// `None`: the registry has no such image.
///
/// # Errors
/// When the reference cannot be read, or the registry does not answer.
pub async fn resolve(cx: &Cx) -> Result<Option<facts::Image>> {
    let reference = &cx.target.deploy.image;
    if let Some(image) = cx.facts.image.get()
        && image.reference == *reference
    {
        return Ok(Some((*image).clone()));
    }
    let parsed: fly::image::ImageReference = reference.parse().map_err(|error| Error::Blocked {
        reason: Reason::ImageNotFound,
        message: format!("{error}: correct `deploy.image`"),
    })?;
    let resolved = cx
        .fly
        .resolve_image(&parsed)
        .await
        .map_err(|source| Error::fly(format!("resolve the image {reference}"), source))?;
    Ok(resolved.map(|resolved| {
        let image = facts::Image {
            reference: reference.clone(),
            pinned: parsed.pinned(&resolved.digest).to_string(),
            runs_on_fly: resolved.runs_on_fly(),
            digest: resolved.digest,
        };
        cx.facts.image.set(image.clone());
        image
    }))
}

impl Step for Image {
    type Observed = Option<facts::Image>;
    type Change = Infallible;

    fn id(&self) -> StepId {
        ID
    }

    /// What runs is pinned to the digest: a re-check has nothing to see here.
    fn rechecked(&self) -> bool {
        false
    }

    async fn observe(&self, cx: &Cx) -> Result<Option<facts::Image>> {
        resolve(cx).await
    }

    fn diff(
        &self,
        target: &Target,
        observed: &Option<facts::Image>,
        _now: Timestamp,
    ) -> Verdict<Infallible> {
        match observed {
            Some(_) => Verdict::Done,
            None => Verdict::Blocked(Why::new(
                Reason::ImageNotFound,
                format!(
                    "the registry has no image {}: push it, or correct `deploy.image`",
                    target.deploy.image
                ),
            )),
        }
    }

    async fn act(&self, _cx: &Cx, change: Infallible) -> Result<()> {
        match change {}
    }
}
