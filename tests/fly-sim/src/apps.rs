//! Apps: names are global over all organizations.

use axum::Router;

use crate::core::{CallId, Shared};

/// The routes of apps.
pub fn router() -> Router<Shared> {
    Router::new()
}

/// Removes an app and all that is in it.
pub async fn remove(core: &Shared, _call: CallId, name: &str) -> bool {
    core.write(|world| world.apps.remove(name)).is_some()
}
