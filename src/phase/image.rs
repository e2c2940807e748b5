//! Which digest the image of the target has. The preflight check and the deployment share the
//! answer.

use crate::{
    error::Error,
    fly::{self, ImageReference, ResolvedImage},
    phase::releases,
    pipeline::{Cx, step::Result},
    store::{
        self,
        image::{Image, Stored},
    },
};

/// The image of the target: the chosen one, the one that was resolved for the same question before,
/// also by another process, or what the registry says now. `None`: the registry has no such image.
///
/// # Errors
/// When the reference cannot be parsed, or the registry or Kubernetes does not answer.
pub async fn resolve(cx: &Cx) -> Result<Option<Image>> {
    let target = &cx.target;
    let reference = target.image()?;
    let of = |digest: &str, runs_on_fly| Image {
        asked: target.asked().to_owned(),
        reference: target.image_name().to_owned(),
        pinned: reference.pinned(digest).to_string(),
        runs_on_fly,
        digest: digest.to_owned(),
    };
    if let Some(choice) = target.choice() {
        let image = of(&choice.digest, choice.runs_on_fly);
        cx.facts.set(image.clone());
        return Ok(Some(image));
    }
    if let Some(image) = cx.facts.get::<Image>()
        && image.asked == target.asked()
    {
        return Ok(Some((*image).clone()));
    }
    let image = match resolved_before(cx, reference).await? {
        Some((digest, runs_on_fly)) => of(&digest, runs_on_fly),
        None => {
            let name = target.image_name();
            let resolved = read(cx, reference)
                .await?
                .map_err(|source| Error::fly(format!("resolve the image {name}"), source))?;
            let Some(resolved) = resolved else {
                return Ok(None);
            };
            of(&resolved.digest, resolved.runs_on_fly())
        }
    };
    cx.facts.set(image.clone());
    Ok(Some(image))
}

/// What the registry says of an image to who has the object's token.
///
/// # Errors
/// While it has not answered; within, when it refuses or fails.
pub async fn read(
    cx: &Cx,
    reference: &ImageReference,
) -> Result<std::result::Result<Option<ResolvedImage>, fly::Error>> {
    let (client, image) = (cx.fly.clone(), reference.clone());
    let ask = || async move { client.resolve_image(&image).await };
    let question = format!("{reference} {}", cx.target.stamp());
    let answer = cx.outside.ask("image", &question, ask).await;
    answer.ok_or_else(|| Error::Awaited(format!("the registry of {reference}")))
}

/// What is stored, as this process has read or written it last. In the journal, because a source
/// that is followed shares it and writes it.
///
/// # Errors
/// When Kubernetes does not answer, or what is stored cannot be parsed.
pub async fn stored(cx: &Cx) -> Result<Stored> {
    if let Some(stored) = cx.journal.get::<Stored>() {
        return Ok((*stored).clone());
    }
    let stored = store::image::load(&cx.kube, &cx.installation.own_namespace, &cx.owner).await?;
    cx.journal.set(stored.clone());
    Ok(stored)
}

/// The digest that the tag was resolved to before, for the same question.
async fn resolved_before(
    cx: &Cx,
    reference: &ImageReference,
) -> Result<Option<(String, Option<bool>)>> {
    if reference.digest.is_some() {
        return Ok(None);
    }
    let stored = stored(cx).await?;
    if let Some(choice) = stored.choice {
        let same = choice.asked == cx.target.asked();
        return Ok(same.then_some((choice.digest, choice.runs_on_fly)));
    }
    // Nothing is stored: the record of what was deployed for this very target. An unreadable record
    // is an error, never a missing one.
    let records = releases::store::load(cx).await?;
    let mut deployed = records.list.iter().rev();
    let same = deployed.find(|record| {
        record.content.image == cx.target.image_name() && record.hold.target == cx.target.digest()
    });
    Ok(same.map(|record| (record.content.digest.clone(), None)))
}
