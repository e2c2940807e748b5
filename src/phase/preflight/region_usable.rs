//! The region exists, is not deprecated, and has room.

use std::collections::BTreeSet;

use super::check::{Check, Finding};
use crate::{
    api::{Reason, preflight::CheckName, status::Severity},
    error::Error,
    fly::Region,
    phase::{Cx, provision::app, step},
    target::Target,
};

/// The region exists, is not deprecated, and has room.
pub struct RegionUsable;

/// The regions, and what matters about ours.
#[derive(Debug)]
pub struct Seen {
    regions: Vec<Region>,
    /// Whether the organization has a paid plan; `None` when it is not known.
    paid: Option<bool>,
    /// The app has machines already: what new ones would need does not matter.
    running: bool,
}

/// Something that keeps new machines out of a region.
fn obstacle(region: &Region, paid: Option<bool>) -> Option<(Reason, String, &'static str)> {
    let code = &region.code;
    if region.deprecated == Some(true) {
        return Some((
            Reason::RegionUnusable,
            format!("the region {code} is deprecated and takes no new machines"),
            "choose another `region`",
        ));
    }
    if region.requires_paid_plan == Some(true) && paid == Some(false) {
        return Some((
            Reason::RegionUnusable,
            format!("the region {code} takes a paid plan, which the organization does not have"),
            "choose another `region`, or a paid plan",
        ));
    }
    // The unit of the number is not published; nothing or less means full in any.
    if region.capacity.is_some_and(|capacity| capacity <= 0) {
        return Some((
            Reason::CapacityUnavailable,
            format!("the region {code} has no room for new machines now"),
            "choose another `region`, or wait",
        ));
    }
    None
}

impl Check for RegionUsable {
    type Seen = Seen;
    const NAME: CheckName = CheckName::RegionUsable;
    const SEVERITY: Severity = Severity::Blocking;

    async fn look(&self, cx: &Cx) -> step::Result<Seen> {
        let regions = cx
            .fly
            .regions()
            .await
            .map_err(|source| Error::fly("list the regions", source))?;
        let mut seen = Seen {
            regions,
            paid: None,
            running: false,
        };
        let codes = codes(&cx.target);
        let ours: Vec<Region> = codes
            .iter()
            .filter_map(|code| find(&seen.regions, code).cloned())
            .collect();
        if ours
            .iter()
            .any(|region| region.requires_paid_plan == Some(true))
        {
            match cx.fly.organization(&cx.target.organization).await {
                Ok(found) => seen.paid = found.and_then(|found| found.paid_plan),
                // OrganizationUsable tells about it.
                Err(error) if error.is_forbidden() => {}
                Err(source) => return Err(Error::fly("read the organization", source)),
            }
        }
        if ours
            .iter()
            .any(|region| obstacle(region, seen.paid).is_some())
            && let app::Seen::There(app) = app::look(cx, &cx.target.app).await?
        {
            seen.running = app.machine_count.is_some_and(|count| count > 0);
        }
        Ok(seen)
    }

    fn judge(&self, target: &Target, seen: &Seen) -> Finding {
        let mut good = Vec::new();
        for code in codes(target) {
            match seen.judge(code) {
                Ok(message) => good.push(message),
                Err(bad) => return bad,
            }
        }
        Finding::passed(good.join("; "))
    }
}

/// The primary region, and those of `deploy.regions`.
fn codes(target: &Target) -> BTreeSet<&str> {
    let more = target.deploy.regions.values();
    let more = more.flat_map(|counts| counts.keys());
    more.chain([&target.region]).map(String::as_str).collect()
}

impl Seen {
    /// What is well about one region, or the finding that it is not.
    fn judge(&self, code: &str) -> Result<String, Finding> {
        let Some(region) = find(&self.regions, code) else {
            let usable: Vec<&str> = self
                .regions
                .iter()
                .filter(|region| obstacle(region, self.paid).is_none())
                .map(|region| region.code.as_str())
                .collect();
            return Err(Finding::failed(
                Reason::RegionUnusable,
                format!("Fly.io has no region {code}"),
                format!(
                    "set `region`, or the key in `deploy.regions`, to one of {}",
                    usable.join(", ")
                ),
            ));
        };
        let name = region.name.as_deref().unwrap_or(code);
        match obstacle(region, self.paid) {
            None => Ok(format!("{code} ({name}) is there and has room")),
            Some((_, message, _)) if self.running => Ok(format!(
                "{message}; the app's machines run there already and stay"
            )),
            Some((reason, message, action)) => Err(Finding::failed(reason, message, action)),
        }
    }
}

fn find<'a>(regions: &'a [Region], code: &str) -> Option<&'a Region> {
    regions.iter().find(|region| region.code == code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::preflight::check::target;

    fn region(code: &str) -> Region {
        Region {
            code: code.to_owned(),
            capacity: Some(100),
            ..Region::default()
        }
    }

    fn judge(region: Region, paid: Option<bool>, running: bool) -> Finding {
        let seen = Seen {
            regions: vec![self::region("ams"), region],
            paid,
            running,
        };
        RegionUsable.judge(&target("", &[]), &seen)
    }

    #[test]
    fn every_region_of_the_machines_is_looked_at() {
        let spec = "deploy: {regions: {app: {ams: 1, gru: 1}}}";
        let seen = Seen {
            regions: vec![region("eze"), region("ams")],
            paid: None,
            running: false,
        };
        let finding = RegionUsable.judge(&target(spec, &[]), &seen);
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
            matches!(&unknown, Finding::Failed { action, .. } if action.contains("ams, gru")),
            "{unknown:?}"
        );
        let deprecated = || Region {
            deprecated: Some(true),
            ..region("eze")
        };
        assert!(fails(&judge(deprecated(), None, false)));
        assert!(!fails(&judge(deprecated(), None, true)), "it runs there");
        let full = Region {
            capacity: Some(0),
            ..region("eze")
        };
        assert!(fails(&judge(full, None, false)));
        let paid = || Region {
            requires_paid_plan: Some(true),
            ..region("eze")
        };
        assert!(fails(&judge(paid(), Some(false), false)));
        assert!(!fails(&judge(paid(), Some(true), false)));
        assert!(!fails(&judge(paid(), None, false)), "unknown is not no");
    }
}
