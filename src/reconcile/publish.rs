//! Publishes what a whole pass found.

use crate::{
    api::{ActivationStatus, status::CostPerMonth},
    error::Error,
    phase,
    pipeline::{Cx, announce::Announced, report::Report},
    plan::cost::Estimate,
    reconcile::{begin::Pass, guard, memory::Memory, requests::Requested},
    status::{self, PassResult, Site, events},
};

/// Publishes what a whole pass found. Returns the announced creates that the status holds.
///
/// # Errors
/// When Kubernetes refuses or does not answer, and when another replica may lead by now.
pub async fn report(
    pass: &Pass<'_>,
    memory: &mut Memory,
    cx: &Cx,
    (report, site): (&Report, Option<Site>),
    (reporting_drift, requested): (bool, Requested),
) -> Result<Announced, Error> {
    // The status may have been written in the middle of the pass.
    let written = memory.published.status();
    let old = written.as_ref().or(pass.old.as_ref());
    let serving = status::serving(report, pass.serving.as_ref());
    let result = PassResult {
        serving: serving.clone(),
        wanted: Some(&cx.target),
        report: Some(report),
        intents: memory.wanted.intents.open(),
        unproven: guard::is_unproven(pass, memory, Some(report), site.as_ref()),
        site,
        reporting_drift,
        requested: requested.new_token(),
        cost: Some(cost(memory, cx, report, old)),
        ..PassResult::default()
    };
    let announced = pass.publisher.publish(old, &result).await?;
    memory.serving = serving;
    let mut incidents = memory.wanted.facts.take_incidents();
    if let Some(kept) = &memory.kept {
        incidents.extend(kept.facts.take_incidents());
    }
    let events = incidents.iter().map(events::incident).collect();
    pass.context.publish(pass.activation, events);
    let began = events::of_changes(&report.sent);
    pass.context.publish(pass.activation, began);
    requested.handled(memory);
    Ok(announced)
}

/// What the application costs with what serves, and with what the spec asks for.
fn cost(
    memory: &mut Memory,
    cx: &Cx,
    report: &Report,
    old: Option<&ActivationStatus>,
) -> CostPerMonth {
    let after = phase::estimate(cx);
    if report.live() {
        memory.cost = Some(after.clone());
    }
    let serves = old.is_some_and(|old| old.release.is_some());
    let unknown = || {
        if serves {
            after.clone()
        } else {
            Estimate::default()
        }
    };
    let before = memory.cost.clone().unwrap_or_else(unknown);
    status::cost(&before, &after)
}
