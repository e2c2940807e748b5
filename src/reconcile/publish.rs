//! Publishes what a whole pass found.

use crate::{
    error::Error,
    pipeline::{Cx, announce::Announced, report::Report},
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
