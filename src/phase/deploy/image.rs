//! The image: the tag is resolved to a digest once, and machines get the digest, so that a tag
//! that moves changes nothing behind our back. What was resolved is kept before anything runs it,
//! so that a restart does not resolve it again. What `deploy.source` chose is resolved already.

use std::fmt;

use jiff::Timestamp;

use crate::phase::deploy::release::records;
use crate::{
    api::Reason,
    error::Error,
    fly::ImageReference,
    pipeline::{
        ChangeKind, Cx, Removal, Step, StepChange, StepId, Verdict, Why, facts, step::Result,
    },
    plan::Target,
    store::image::{self as store, Choice},
};

/// The image.
pub struct Image;

/// Gives the image of the target: the one that was chosen, the one that was resolved for the same
/// question before, also by another process, or what the registry says now. `None`: the registry has
/// no such image.
///
/// # Errors
/// When the reference cannot be read, or the registry or Kubernetes does not answer.
pub async fn resolve(cx: &Cx) -> Result<Option<facts::Image>> {
    let target = &cx.target;
    let reference = target.image()?;
    let of = |digest: &str, runs_on_fly| facts::Image {
        asked: target.asked().to_owned(),
        reference: target.image_name().to_owned(),
        pinned: reference.pinned(digest).to_string(),
        runs_on_fly,
        digest: digest.to_owned(),
    };
    if let Some(choice) = target.choice() {
        let image = of(&choice.digest, choice.runs_on_fly);
        cx.facts.image.set(image.clone());
        return Ok(Some(image));
    }
    if let Some(image) = cx.facts.image.get()
        && image.asked == target.asked()
    {
        return Ok(Some((*image).clone()));
    }
    let image = match kept(cx, reference).await? {
        Some((digest, runs_on_fly)) => of(&digest, runs_on_fly),
        None => {
            let name = target.image_name();
            let resolved = cx
                .fly
                .resolve_image(reference)
                .await
                .map_err(|source| Error::fly(format!("resolve the image {name}"), source))?;
            let Some(resolved) = resolved else {
                return Ok(None);
            };
            of(&resolved.digest, resolved.runs_on_fly())
        }
    };
    cx.facts.image.set(image.clone());
    Ok(Some(image))
}

/// The digest that the tag was resolved to before, for the same question.
async fn kept(cx: &Cx, reference: &ImageReference) -> Result<Option<(String, Option<bool>)>> {
    if reference.digest.is_some() {
        return Ok(None);
    }
    let stored = store::load(
        &cx.kube,
        &cx.installation.own_namespace,
        &cx.owner,
        &cx.facts,
    )
    .await?;
    if let Some(choice) = stored.choice {
        let same = choice.asked == cx.target.asked();
        return Ok(same.then_some((choice.digest, choice.runs_on_fly)));
    }
    // An installation that did not keep it yet: what ran for this very target.
    let records = records::load(cx).await?;
    let record = records.list.iter().rev().find(|record| {
        record.image == cx.target.image_name() && record.target == cx.target.digest()
    });
    Ok(record.map(|record| (record.digest.clone(), None)))
}

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
            let stored = store::load(
                &cx.kube,
                &cx.installation.own_namespace,
                &cx.owner,
                &cx.facts,
            )
            .await?;
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
        store::save(
            &cx.kube,
            &cx.installation.own_namespace,
            &cx.owner,
            &cx.facts,
            &choice,
        )
        .await
    }

    async fn remove(&self, cx: &Cx) -> Result<Removal> {
        cx.facts.stored_image.clear();
        store::delete(&cx.kube, &cx.installation.own_namespace, &cx.owner.uid).await?;
        Ok(Removal::Gone)
    }
}
