//! The declared fallback size that is in use because Fly.io had no room for the wanted one.

use super::wanted::WantedMachine;
use crate::{
    api::{
        Reason,
        status::{FallbackUsed, one_line},
    },
    error::Error,
    fly::{self, Machine, machine_config::MachineGuest},
    flytoml::{self, AppConfig},
    phase::marks::{RELEASE_KEY, SIZE_KEY},
    pipeline::{Cx, step::Result},
};

/// The size that this process has fallen back to, and the release that was refused a larger one:
/// another release tries the wanted size first.
#[derive(Debug)]
struct InUse {
    release: String,
    used: FallbackUsed,
}

/// The declared size in use: the one that this process has taken, or the one that the marks of the
/// machines name, so that a restart does not request the refused size again.
pub fn in_use(
    cx: &Cx,
    config: &AppConfig,
    release: &str,
    machines: &[Machine],
) -> Option<FallbackUsed> {
    let sizes = &cx.target.deploy.fallback_sizes;
    if let Some(known) = cx.journal.get::<InUse>()
        && known.release == release
        && sizes.contains(&known.used.to)
    {
        return Some(known.used.clone());
    }
    let to = machines
        .iter()
        .filter(|machine| machine.metadata(RELEASE_KEY) == Some(release))
        .filter_map(|machine| machine.metadata(SIZE_KEY))
        .find(|size| sizes.iter().any(|declared| declared == size))?;
    let used = FallbackUsed {
        what: "deploy.size".to_owned(),
        from: wanted_size(config),
        to: to.to_owned(),
        reason: String::new(),
        time: None,
    };
    cx.journal.set(InUse {
        release: release.to_owned(),
        used: used.clone(),
    });
    Some(used)
}

/// Whether Fly.io refused a machine for lack of room.
pub fn is_no_room(error: &fly::Error) -> bool {
    matches!(
        error.conflict(),
        Some(fly::Conflict::Capacity(_) | fly::Conflict::Quota)
    )
}

/// Takes the next declared size, because Fly.io refused the wanted one with `error`.
///
/// # Errors
/// That error, when no declared size is left.
pub fn take_next(cx: &Cx, wanted: &WantedMachine, error: fly::Error, doing: String) -> Result<()> {
    let sizes = &cx.target.deploy.fallback_sizes;
    let release = wanted.config.metadata.get(RELEASE_KEY);
    let release = release.cloned().unwrap_or_default();
    // Other machines of the same move may have fallen back already: the size that was refused to
    // this machine counts.
    let used = wanted.config.metadata.get(SIZE_KEY);
    let next = match used {
        None => sizes.first(),
        Some(used) => sizes
            .iter()
            .position(|size| size == used)
            .and_then(|at| sizes.get(at + 1)),
    };
    let Some(next) = next else {
        return Err(Error::fly(doing, error));
    };
    let used = FallbackUsed {
        what: "deploy.size".to_owned(),
        from: wanted_size(&cx.target.config()?.app),
        to: next.clone(),
        reason: one_line(error.message(), 500),
        time: None,
    };
    cx.journal.set(InUse { release, used });
    Ok(())
}

/// The machine size of this name.
///
/// # Errors
/// When there is no such size.
pub fn guest(name: &str) -> Result<MachineGuest> {
    flytoml::parse_size(name).map_err(|error| Error::Blocked {
        reason: Reason::FlyConfigInvalid,
        message: format!("`deploy.fallbackSizes`: {error}"),
        action: "correct `deploy.fallbackSizes`".to_owned(),
    })
}

/// The size that fly.toml requests, as Fly.io names sizes.
fn wanted_size(config: &AppConfig) -> String {
    let machine = config.machine_config(&config.default_group(), &flytoml::Context::default());
    let guest = machine.ok().and_then(|machine| machine.guest);
    let guest = guest.unwrap_or_default();
    format!(
        "{}-cpu-{}x",
        guest.cpu_kind.as_deref().unwrap_or("shared"),
        guest.cpus.unwrap_or(1)
    )
}
