//! An app that is deleted and has volumes. At Fly.io volumes exist only in an app, so the app stays
//! with those that stay; what serves and what costs money besides them is deleted.

use std::time::Duration;

use futures::future::join_all;

use super::ours::{unclear, unconfirmed};
use crate::{
    api::{Reason, policy::Deletion},
    error::Error,
    fly::volumes::Volume,
    phase::{
        absence::{self, Doubt},
        app_volumes, roster,
    },
    pipeline::{Cx, Removal, Why, step::Result},
    plan::Target,
    store::claim::Claim,
};

/// Pause before it is observed whether something is gone.
const AGAIN: Duration = Duration::from_millis(500);

/// What is in an app besides its volumes, where a look that shows none of it is noted.
const CONTENTS: &str = "Contents";

/// How far the deletion of an app with volumes has come.
#[derive(Debug)]
pub enum Emptying {
    /// No volume stays: the app can be deleted as a whole.
    Whole,
    /// It goes on, or waits for a person.
    Pending(Removal),
    /// Only the app is left, with these volumes.
    Kept(Vec<Volume>),
}

/// What happens to the volumes of an app that is deleted.
#[derive(Debug, PartialEq)]
struct Division {
    /// They stay.
    kept: Vec<Volume>,
    /// They are deleted.
    deleted: Vec<Volume>,
}

/// Which volumes stay. Only those that Golive has created are ever deleted. Pure.
fn divide(target: &Target, claim: &Claim, volumes: Vec<Volume>) -> Division {
    let made = claim.volumes();
    let delete = target.deletion.volumes == Deletion::Delete;
    let (deleted, kept) = volumes
        .into_iter()
        .filter(|volume| !volume.state.is_over())
        .partition(|volume| delete && made.contains(volume.id.as_str()));
    Division { kept, deleted }
}

/// The volumes, for people.
fn list(volumes: &[Volume]) -> String {
    let one = |volume: &Volume| {
        format!(
            "{} ({}, {} GB in {})",
            volume.name,
            volume.id,
            volume.size_gb.unwrap_or_default(),
            volume.region
        )
    };
    volumes.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// What is said of an app that is kept with its volumes.
pub fn kept(app: &str, volumes: &[Volume]) -> String {
    format!(
        "the Fly app {app} with its volumes {}, which keep their data and go on costing money until `fly apps destroy {app}`; its machines, addresses and certificates are deleted",
        list(volumes)
    )
}

/// Takes the deletion of an app one step further.
///
/// # Errors
/// When Fly.io refuses or does not answer.
pub async fn advance(cx: &Cx, claim: &Claim) -> Result<Emptying> {
    // One look that shows none is no proof that there are none: the app goes with all of them.
    let volumes = app_volumes::list(cx, &claim.volumes()).await?;
    let division = divide(&cx.target, claim, volumes);
    if !division.deleted.is_empty() && !cx.target.data_deletion_confirmed {
        let what = format!("the volumes {}", list(&division.deleted));
        return Ok(Emptying::Pending(unconfirmed(cx, &what)));
    }
    let app = cx.target.app.as_str();
    if division.kept.is_empty() {
        // Also one that is on no record, which somebody has made by hand, would go with its data.
        return Ok(
            match absence::seen(cx, Doubt::Gone, app_volumes::VOLUME, app) {
                None => Emptying::Whole,
                Some(again) => {
                    let what = format!("Fly.io shows no volume in the app {app} that stays");
                    Emptying::Pending(unclear(&what, again))
                }
            },
        );
    }
    absence::cleared(cx, Doubt::Gone, app_volumes::VOLUME, app);
    let going = match step(cx, &division.deleted).await? {
        // Lists that are empty once are no proof that nothing serves any more.
        None => match absence::seen(cx, Doubt::Gone, CONTENTS, app) {
            None => return Ok(Emptying::Kept(division.kept)),
            Some(again) => {
                let what = format!("Fly.io shows only volumes in the app {app}");
                return Ok(Emptying::Pending(unclear(&what, again)));
            }
        },
        Some(going) => going,
    };
    absence::cleared(cx, Doubt::Gone, CONTENTS, app);
    Ok(Emptying::Pending(Removal::Pending {
        why: Why::new(
            Reason::Deleting,
            format!(
                "the app {} stays with its volumes {}; {going} are being deleted",
                cx.target.app,
                list(&division.kept)
            ),
        ),
        again: AGAIN,
    }))
}

/// Deletes what serves, then the volumes that do not stay; `None` when nothing of it is left.
async fn step(cx: &Cx, volumes: &[Volume]) -> Result<Option<&'static str>> {
    let (fly, app) = (&cx.fly, cx.target.app.as_str());
    let (ours, others) = roster::all(cx).await?;
    let live = ours.iter().chain(&others);
    let sent = join_all(live.map(|machine| fly.delete_machine(app, &machine.id, true, None))).await;
    if !sent.is_empty() {
        all(sent, "destroy the machines of the app")?;
        return Ok(Some("its machines"));
    }
    let addresses = fly.addresses(app).await;
    let addresses =
        addresses.map_err(|source| Error::fly("list the addresses of the app", source))?;
    let sent = join_all(addresses.iter().map(|at| fly.release_address(app, &at.ip))).await;
    if !sent.is_empty() {
        all(sent, "release the addresses of the app")?;
        return Ok(Some("its addresses"));
    }
    let certificates = fly.certificates(app).await;
    let certificates =
        certificates.map_err(|source| Error::fly("list the certificates of the app", source))?;
    let removals = certificates.iter();
    let sent = join_all(removals.map(|found| fly.delete_certificate(app, &found.hostname))).await;
    if !sent.is_empty() {
        all(sent, "delete the certificates of the app")?;
        return Ok(Some("its certificates"));
    }
    let sent = join_all(
        volumes
            .iter()
            .map(|volume| fly.delete_volume(app, &volume.id)),
    )
    .await;
    if !sent.is_empty() {
        all(sent, "delete the volumes that Golive has created")?;
        return Ok(Some("the volumes that Golive has created"));
    }
    Ok(None)
}

/// The first failure of several calls, all of which ran to their end.
fn all(sent: Vec<crate::fly::Result<()>>, doing: &str) -> Result<()> {
    let sent = sent.into_iter().collect::<crate::fly::Result<()>>();
    sent.map_err(|source| Error::fly(doing.to_owned(), source))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{
        plan::testing::target,
        store::claim::{self, tests::claim},
    };

    fn volumes(of: &[(&str, &str)]) -> Vec<Volume> {
        let volumes = of.iter().map(|(id, state)| {
            serde_json::json!({
                "id": id, "name": "data", "state": state, "region": "eze", "size_gb": 3,
            })
        });
        volumes
            .map(|volume| serde_json::from_value(volume).unwrap())
            .collect()
    }

    #[test]
    fn only_volumes_that_golive_has_created_are_deleted_and_only_where_the_policy_says_so() {
        let mut ours = claim("uid-1", "cabanas", "shop", false);
        ours.made.insert(claim::volume("vol_1"));
        let ids = |spec: &str| {
            let all = volumes(&[
                ("vol_1", "created"),
                ("vol_2", "created"),
                ("vol_3", "pending_destroy"),
            ]);
            let Division { kept, deleted } = divide(&target(spec), &ours, all);
            let ids = |of: Vec<Volume>| of.into_iter().map(|v| v.id).collect::<Vec<_>>();
            (ids(kept), ids(deleted))
        };
        let both = vec!["vol_1".to_owned(), "vol_2".to_owned()];
        assert_eq!(ids(""), (both, vec![]));
        assert_eq!(
            ids("deletionPolicy: {volumes: Delete}"),
            (vec!["vol_2".to_owned()], vec!["vol_1".to_owned()])
        );
    }

    #[test]
    fn what_is_kept_is_named_with_its_cost_and_the_way_to_delete_it() {
        assert_eq!(
            kept("shop", &volumes(&[("vol_1", "created")])),
            "the Fly app shop with its volumes data (vol_1, 3 GB in eze), which keep their data and go on costing money until `fly apps destroy shop`; its machines, addresses and certificates are deleted"
        );
    }
}
