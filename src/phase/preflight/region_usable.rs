//! The region exists, is not deprecated, and has room.

use std::collections::BTreeSet;

use futures::future::try_join_all;

use super::{
    check::{Check, Finding},
    room::{Need, needs, room},
};
use crate::{
    api::{Reason, preflight::CheckName, status::Severity},
    error::Error,
    fly::Region,
    phase::app_lookup::{AppLookup, look_up},
    pipeline::{Cx, step},
    plan::Target,
};

/// The region exists, is not deprecated, and has room.
pub struct RegionUsable;

/// The regions of Fly.io, and what is known of the requested ones.
#[derive(Debug)]
pub struct Regions {
    all: Vec<Region>,
    /// Whether the organization has a paid plan; `None` when it is not known.
    paid: Option<bool>,
    /// The app has machines already: room for new ones is not needed.
    running: bool,
    /// The machines for which Fly.io says that there is no room.
    crowded: Vec<Crowded>,
}

/// Machines that do not all fit.
#[derive(Clone, Debug, PartialEq)]
struct Crowded {
    need: Need,
    /// How many of them fit.
    fits: u32,
}

/// What a person can do about a region that takes no new machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Another region alone.
    Another,
    /// Or a plan that is paid.
    OrPay,
    /// Or time.
    OrWait,
    /// Or less.
    OrLess,
}

impl Way {
    /// In words. The primary region cannot be changed. Pure.
    fn action(self, is_primary: bool) -> &'static str {
        match (self, is_primary) {
            (Self::Another, false) => "choose another region",
            (Self::Another, true) => "delete this Activation and create it again in another region",
            (Self::OrPay, false) => "choose another region, or a paid plan",
            (Self::OrPay, true) => {
                "choose a paid plan, or delete this Activation and create it again in another region"
            }
            (Self::OrWait, false) => "choose another region, or wait",
            (Self::OrWait, true) => {
                "wait, or delete this Activation and create it again in another region"
            }
            (Self::OrLess, false) => {
                "request fewer or smaller machines, declare `deploy.fallbackSizes`, choose another region, or wait"
            }
            (Self::OrLess, true) => {
                "request fewer or smaller machines, declare `deploy.fallbackSizes`, wait, or delete this Activation and create it again in another region"
            }
        }
    }
}

/// Why a region takes no new machines.
fn obstacle(region: &Region, paid: Option<bool>) -> Option<(Reason, String, Way)> {
    let code = &region.code;
    if region.deprecated == Some(true) {
        return Some((
            Reason::RegionUnusable,
            format!("the region {code} is deprecated and takes no new machines"),
            Way::Another,
        ));
    }
    if region.requires_paid_plan == Some(true) && paid == Some(false) {
        return Some((
            Reason::RegionUnusable,
            format!("the region {code} requires a paid plan, which the organization does not have"),
            Way::OrPay,
        ));
    }
    // The unit of the number is not published; zero or less means full in any unit.
    if region.capacity.is_some_and(|capacity| capacity <= 0) {
        return Some((
            Reason::CapacityUnavailable,
            format!("the region {code} has no room for new machines now"),
            Way::OrWait,
        ));
    }
    None
}

impl Check for RegionUsable {
    type Observed = Regions;
    const NAME: CheckName = CheckName::RegionUsable;
    const SEVERITY: Severity = Severity::Blocking;

    async fn observe(&self, cx: &Cx) -> step::Result<Regions> {
        // Read at the same time, although the room in an unusable region is not used.
        let regions = async {
            let regions = cx.fly.regions().await;
            regions.map_err(|source| Error::fly("list the regions", source))
        };
        let rooms = try_join_all(needs(&cx.target).into_iter().map(|need| async {
            let fits = room(cx, &need).await?;
            Ok::<_, Error>((need, fits))
        }));
        let (regions, rooms) = tokio::try_join!(regions, rooms)?;
        let mut found = Regions {
            all: regions,
            paid: None,
            running: false,
            crowded: Vec::new(),
        };
        let codes = codes(&cx.target);
        let ours: Vec<Region> = codes
            .iter()
            .filter_map(|code| find(&found.all, code).cloned())
            .collect();
        if ours
            .iter()
            .any(|region| region.requires_paid_plan == Some(true))
        {
            match cx.fly.organization(&cx.target.organization).await {
                Ok(organization) => {
                    found.paid = organization.and_then(|organization| organization.paid_plan);
                }
                // OrganizationUsable reports it.
                Err(error) if error.is_forbidden() => {}
                Err(source) => return Err(Error::fly("read the organization", source)),
            }
        }
        let usable = |code: &str| {
            let region = find(&ours, code);
            region.is_some_and(|region| obstacle(region, found.paid).is_none())
        };
        let crowded = rooms.into_iter().filter_map(|(need, fits)| {
            let fits = fits.filter(|fits| *fits < need.count && usable(&need.region))?;
            Some(Crowded { need, fits })
        });
        found.crowded = crowded.collect();
        let obstacles = ours
            .iter()
            .any(|region| obstacle(region, found.paid).is_some());
        if (obstacles || !found.crowded.is_empty())
            && let AppLookup::Found(app) = look_up(cx, &cx.target.app).await?
        {
            found.running = app.machine_count.is_some_and(|count| count > 0);
        }
        Ok(found)
    }

    fn judge(&self, target: &Target, found: &Regions) -> Finding {
        let mut good = Vec::new();
        for code in codes(target) {
            match found.judge(code, code == target.region) {
                Ok(message) => good.push(message),
                Err(bad) => return bad,
            }
        }
        Finding::passed(good.join("; "))
    }
}

/// What the choice of another primary region needs.
const ANOTHER: &str =
    "`region` cannot be changed: to choose another one, delete this Activation and create it again";

/// The primary region, and those of `deploy.regions`.
fn codes(target: &Target) -> BTreeSet<&str> {
    let more = target.deploy.regions.values();
    let more = more.flat_map(|counts| counts.keys());
    more.chain([&target.region]).map(String::as_str).collect()
}

impl Regions {
    /// The evidence that a region is usable, or the finding that it is not.
    fn judge(&self, code: &str, is_primary: bool) -> Result<String, Finding> {
        let Some(region) = find(&self.all, code) else {
            let usable: Vec<&str> = self
                .all
                .iter()
                .filter(|region| obstacle(region, self.paid).is_none())
                .map(|region| region.code.as_str())
                .collect();
            let unknown = Finding::failed(
                Reason::RegionUnusable,
                format!("Fly.io has no region {code}"),
                format!("choose one of {}", usable.join(", ")),
            );
            return Err(match is_primary {
                true => unknown.also(ANOTHER),
                false => unknown,
            });
        };
        let name = region.name.as_deref().unwrap_or(code);
        let full = self
            .crowded
            .iter()
            .find(|crowded| crowded.need.region == code);
        let full = full.map(|crowded| {
            (
                Reason::CapacityUnavailable,
                format!(
                    "the region {code} has room for {} of {}",
                    crowded.fits, crowded.need
                ),
                Way::OrLess,
            )
        });
        match obstacle(region, self.paid).or(full) {
            None => Ok(format!("{code} ({name}) exists and has room")),
            Some((_, message, _)) if self.running => Ok(format!(
                "{message}; the app's machines run there already and stay"
            )),
            Some((reason, message, way)) => {
                Err(Finding::failed(reason, message, way.action(is_primary)))
            }
        }
    }
}

fn find<'a>(regions: &'a [Region], code: &str) -> Option<&'a Region> {
    regions.iter().find(|region| region.code == code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::testing::target;

    fn region(code: &str) -> Region {
        Region {
            code: code.to_owned(),
            capacity: Some(100),
            ..Region::default()
        }
    }

    fn judge(region: Region, paid: Option<bool>, running: bool) -> Finding {
        let found = Regions {
            all: vec![self::region("ams"), region],
            paid,
            running,
            crowded: Vec::new(),
        };
        RegionUsable.judge(&target("", &[]), &found)
    }

    #[test]
    fn every_region_of_the_machines_is_checked() {
        let spec = "deploy: {regions: {app: {ams: 1, gru: 1}}}";
        let found = Regions {
            all: vec![region("eze"), region("ams")],
            paid: None,
            running: false,
            crowded: Vec::new(),
        };
        let finding = RegionUsable.judge(&target(spec, &[]), &found);
        assert!(
            matches!(&finding, Finding::Failed { message, .. } if message.contains("gru")),
            "{finding:?}"
        );
    }

    #[test]
    fn a_region_must_exist_take_new_machines_and_have_room() {
        let fails = |finding: &Finding| matches!(finding, Finding::Failed { .. });
        assert!(!fails(&judge(region("eze"), None, false)));
        let unknown = judge(region("gru"), None, false);
        assert!(
            matches!(&unknown, Finding::Failed { action, .. } if action
                == "choose one of ams, gru; `region` cannot be changed: to choose another one, delete this Activation and create it again"),
            "{unknown:?}"
        );
        let deprecated = || Region {
            deprecated: Some(true),
            ..region("eze")
        };
        assert!(fails(&judge(deprecated(), None, false)));
        assert!(
            !fails(&judge(deprecated(), None, true)),
            "its machines run there"
        );
        let full = Region {
            capacity: Some(0),
            ..region("eze")
        };
        let full = judge(full, None, false);
        assert!(
            matches!(&full, Finding::Failed { action, .. } if action
                == "wait, or delete this Activation and create it again in another region"),
            "it cannot be changed: {full:?}"
        );
        let paid = || Region {
            requires_paid_plan: Some(true),
            ..region("eze")
        };
        assert!(fails(&judge(paid(), Some(false), false)));
        assert!(!fails(&judge(paid(), Some(true), false)));
        assert!(
            !fails(&judge(paid(), None, false)),
            "an unknown plan passes"
        );
    }

    #[test]
    fn too_little_room_fails_unless_machines_run_already() {
        let spec = "deploy: {scale: {app: 3}}";
        let crowded = |running| {
            let target = target(spec, &[]);
            let need = needs(&target).remove(0);
            let found = Regions {
                all: vec![region("eze")],
                paid: None,
                running,
                crowded: vec![Crowded { need, fits: 1 }],
            };
            RegionUsable.judge(&target, &found)
        };
        let finding = crowded(false);
        assert!(
            matches!(&finding, Finding::Failed { reason: Reason::CapacityUnavailable, message, .. }
                if message == "the region eze has room for 1 of 3 machines (1 shared CPU, 256 MB)"),
            "{finding:?}"
        );
        assert!(matches!(crowded(true), Finding::Passed(_)));
    }
}
