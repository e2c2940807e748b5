//! The image: the tag is resolved to a digest once, and machines get the digest, so that a moved tag
//! changes nothing. The digest is stored before anything runs it, so that a restart does not resolve
//! the tag again. An image that `deploy.source` chose is resolved already.

use std::fmt;

use jiff::Timestamp;

use crate::phase::image::{resolve, stored};
use crate::{
    api::Reason,
    pipeline::{
        ChangeKind, ChangeVerb, Cx, PlannedChange, Removal, Step, StepChange, StepId, Verdict, Why,
        facts, step::Result,
    },
    plan::Target,
    store::image::{self as store, Choice, Stored},
};

/// The image.
pub struct Image;

/// The image, and whether its digest is stored.
#[derive(Debug)]
pub struct Observed {
    image: Option<facts::Image>,
    /// Whether a restart finds the same image.
    is_stored: bool,
}

/// Stores the digest of the image.
#[derive(Debug)]
pub struct StoreDigest(facts::Image);

impl fmt::Display for StoreDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "keep {} at {}", self.0.reference, self.0.digest)
    }
}

impl StepChange for StoreDigest {
    fn planned(&self) -> Vec<PlannedChange> {
        let record = PlannedChange::new(ChangeVerb::Record, "Image", &self.0.reference);
        vec![record.set("digest", &self.0.digest)]
    }

    fn kind(&self) -> ChangeKind {
        ChangeKind::Housekeeping
    }
}

impl Step for Image {
    type Observed = Observed;
    type Change = StoreDigest;

    fn id(&self) -> StepId {
        StepId::Image
    }

    /// Machines are pinned to the digest: there is nothing to re-check.
    fn rechecked(&self) -> bool {
        false
    }

    async fn observe(&self, cx: &Cx) -> Result<Observed> {
        let image = resolve(cx).await?;
        // A plan stores nothing, and a digest in the spec need not be stored.
        let fixed = cx.target.choice().is_some() || cx.target.image()?.digest.is_some();
        let is_stored = !cx.may_act() || fixed || {
            let stored = stored(cx).await?;
            stored
                .choice
                .zip(image.as_ref())
                .is_some_and(|(choice, image)| {
                    choice.asked == image.asked && choice.digest == image.digest
                })
        };
        Ok(Observed { image, is_stored })
    }

    fn diff(&self, target: &Target, observed: &Observed, _now: Timestamp) -> Verdict<StoreDigest> {
        match &observed.image {
            Some(_) if observed.is_stored => Verdict::Done,
            Some(image) => Verdict::Change(StoreDigest(image.clone())),
            None => Verdict::Blocked(Why::new(
                Reason::ImageNotFound,
                format!(
                    "the registry has no image {}: push it, or correct `deploy.image`",
                    target.image_name()
                ),
            )),
        }
    }

    async fn act(&self, cx: &Cx, StoreDigest(image): StoreDigest) -> Result<()> {
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
