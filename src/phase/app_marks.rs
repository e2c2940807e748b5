//! Whose marks an app carries at Fly.io. An app itself has none, but its machines name the UID of their
//! Activation, and so does the token for the app alone. So the owner is known also when the claim in
//! Kubernetes is lost.

use std::collections::BTreeSet;

use super::{marks::UID_KEY, names};
use crate::{
    error::Error,
    fly,
    pipeline::{Cx, step::Result},
    store::owners,
};

/// Whose marks an app carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AppMarks {
    /// Those of this Activation.
    pub ours: bool,
    /// Those of another Activation, which exists in this cluster.
    pub of_another: bool,
    /// Any at all, also of Activations that no longer exist.
    pub any: bool,
}

/// Reads the marks of an app. `former`: UIDs of Activations whose app has passed to this one.
///
/// # Errors
/// When Fly.io or Kubernetes does not answer.
pub async fn read(cx: &Cx, app: &str, former: &BTreeSet<String>) -> Result<AppMarks> {
    let reading = |source| Error::fly("read whose marks the app has", source);
    let (machines, tokens) = futures::join!(cx.fly.machines(app, &[]), cx.fly.limited_tokens(app));
    let machines = machines.map_err(reading)?;
    let machines = machines.iter().filter(|machine| !machine.state.is_over());
    let machines = machines.filter_map(|machine| machine.metadata(UID_KEY));
    // A token that may not list tokens has made none.
    let tokens = match tokens {
        Ok(tokens) => tokens.unwrap_or_default(),
        Err(error) if is_refused(&error) => Vec::new(),
        Err(error) => return Err(reading(error)),
    };
    let tokens = tokens.iter().filter_map(|token| token.name.as_deref());
    let tokens = tokens.filter_map(names::uid_of_app_token);
    let uids: BTreeSet<String> = machines.chain(tokens).map(str::to_owned).collect();
    let ours = uids.contains(&cx.owner.uid);
    let any = !uids.is_empty();
    let others = uids.into_iter();
    let others = others.filter(|uid| *uid != cx.owner.uid && !former.contains(uid));
    let watched = &cx.installation.watched;
    Ok(AppMarks {
        ours,
        any,
        of_another: owners::exist(&cx.kube, watched, &others.collect()).await?,
    })
}

/// Whether Fly.io refuses for good, and not for the moment.
fn is_refused(error: &fly::Error) -> bool {
    matches!(
        error.class(),
        fly::Class::Invalid | fly::Class::Auth { hard: true }
    )
}
