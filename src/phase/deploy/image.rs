//! The image: the tag is resolved to a digest once, and machines get the digest, so that a tag
//! that moves changes nothing behind our back. What was resolved is kept before anything runs it,
//! so that a restart does not resolve it again. What `deploy.source` chose is resolved already.

use std::fmt;

use jiff::Timestamp;

use crate::phase::image::{resolve, stored};
use crate::{
    api::Reason,
    pipeline::{
        ChangeKind, Cx, Removal, Step, StepChange, StepId, Verdict, Why, facts, step::Result,
    },
    plan::Target,
    store::image::{self as store, Choice, Stored},
};

/// The image.
pub struct Image;

/// What is known of the image.
#[derive(Debug)]
pub struct Observed {
    image: Option<facts::Image>,
    /// Whether a restart finds the same.
    kept: bool,
}

/// The image is kept.
#[derive(Debug)]
pub struct Keep(facts::Image);

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "keep {} at {}", self.0.reference, self.0.digest)
    }
}

impl StepChange for Keep {
    fn kind(&self) -> ChangeKind {
        ChangeKind::Housekeeping
    }
}

impl Step for Image {
    type Observed = Observed;
    type Change = Keep;

    fn id(&self) -> StepId {
        StepId::Image
    }

    /// What runs is pinned to the digest: a re-check has nothing to see here.
    fn rechecked(&self) -> bool {
        false
    }

    async fn observe(&self, cx: &Cx) -> Result<Observed> {
        let image = resolve(cx).await?;
        // A plan keeps nothing, and a digest in the spec needs no keeping.
        let fixed = cx.target.choice().is_some() || cx.target.image()?.digest.is_some();
        let kept = !cx.may_act() || fixed || {
            let stored = stored(cx).await?;
            stored
                .choice
                .zip(image.as_ref())
                .is_some_and(|(choice, image)| {
                    choice.asked == image.asked && choice.digest == image.digest
                })
        };
        Ok(Observed { image, kept })
    }

    fn diff(&self, target: &Target, observed: &Observed, _now: Timestamp) -> Verdict<Keep> {
        match &observed.image {
            Some(_) if observed.kept => Verdict::Done,
            Some(image) => Verdict::Change(Keep(image.clone())),
            None => Verdict::Blocked(Why::new(
                Reason::ImageNotFound,
                format!(
                    "the registry has no image {}: push it, or correct `deploy.image`",
                    target.image_name()
                ),
            )),
        }
    }

    async fn act(&self, cx: &Cx, Keep(image): Keep) -> Result<()> {
        let choice = Choice {
            asked: image.asked,
            image: image.reference,
            tag: String::new(),
            digest: image.digest,
            runs_on_fly: image.runs_on_fly,
            why: String::new(),
        };
        let before = stored(cx).await?;
        // Whatever becomes of the write, what was read before it counts no longer.
        cx.journal.clear::<Stored>();
        let namespace = &cx.installation.own_namespace;
        let after = store::save(&cx.kube, namespace, &cx.owner, &before, &choice).await?;
        cx.journal.set(after);
        Ok(())
    }

    async fn remove(&self, cx: &Cx) -> Result<Removal> {
        cx.journal.clear::<Stored>();
        store::delete(&cx.kube, &cx.installation.own_namespace, &cx.owner.uid).await?;
        Ok(Removal::Gone)
    }
}
