//! Finding the managed Postgres cluster of an app.

use super::names;
use crate::{
    fly::{self, postgres::Cluster},
    pipeline::Cx,
};

/// Kind of a managed Postgres cluster in `status.external[]` and `status.intents[]`.
pub const MANAGED_POSTGRES: &str = crate::api::status::ExternalKind::ManagedPostgres.as_str();

/// The cluster of this id, unless it is deleted or being deleted.
///
/// # Errors
/// When Fly.io refuses or does not answer.
pub async fn by_id(cx: &Cx, id: &str) -> fly::Result<Option<Cluster>> {
    let found = cx.fly.postgres_cluster(id).await?;
    Ok(found
        .map(|details| details.cluster)
        .filter(|cluster| !cluster.status.is_over()))
}

/// The clusters of our name. Names of clusters are not unique. When exactly one of several is
/// attached to our app, that one is returned alone; otherwise all are, because a guess could choose
/// the one without the data.
///
/// # Errors
/// When Fly.io refuses or does not answer.
pub async fn find_all(cx: &Cx) -> fly::Result<Vec<Cluster>> {
    let wanted = names::postgres(&cx.target.app);
    let all = cx.fly.postgres_clusters(&cx.target.organization).await?;
    let mut clusters: Vec<Cluster> = all
        .into_iter()
        .filter(|cluster| cluster.name == wanted && !cluster.status.is_over())
        .collect();
    if clusters.is_empty() {
        // The list may lag behind what the status recorded.
        for object in cx.recorded.external.iter() {
            if object.kind == MANAGED_POSTGRES
                && let Some(cluster) = by_id(cx, &object.id).await?
                && cluster.name == wanted
            {
                clusters.push(cluster);
            }
        }
    }
    if clusters.len() > 1 {
        let attached = |cluster: &&Cluster| {
            let mut apps = cluster.attached_apps.0.iter();
            apps.any(|attached| attached.name == cx.target.app)
        };
        let mine: Vec<Cluster> = clusters.iter().filter(attached).cloned().collect();
        if mine.len() == 1 {
            return Ok(mine);
        }
    }
    Ok(clusters)
}
