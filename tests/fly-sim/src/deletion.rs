//! Deletions that nobody asked the operator for: somebody at a console, or a fault.

use serde_json::json;

use crate::core::{CallId, Shared};

/// Deletes an app (`app`), its machines (`machines`), one of them (`machine:<id>`), its volumes
/// (`volumes`), a token by its name (`token:<name>`), a user or a database in a managed cluster
/// (`postgres-user:<name>`, `postgres-database:<name>`), or something else that the platform side knows.
/// Says whether anything went.
pub async fn delete(core: &Shared, app: &str, target: &str) -> bool {
    let done = match target {
        "app" => crate::apps::remove(core, CallId(None), app).await,
        "machines" => crate::machine::destroy_all(core, CallId(None), app, None).await,
        "volumes" => core.write(|world| {
            world.apps.get_mut(app).is_some_and(|app| {
                let any = !app.volumes.is_empty();
                app.volumes.clear();
                any
            })
        }),
        _ => match target.strip_prefix("machine:") {
            Some(id) => crate::machine::destroy_all(core, CallId(None), app, Some(id)).await,
            None => crate::platform::external_deletion(core, app, target).await,
        },
    };
    core.effect(
        CallId(None),
        "external.deletion",
        Some(app),
        target,
        "",
        std::collections::BTreeMap::new(),
        json!({"done": done}),
    );
    done
}
