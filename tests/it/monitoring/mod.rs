//! What a team sees of Golive in its own monitoring: rules, dashboards, and the report. Real promtool, Prometheus
//! and Chromium.

mod dashboards;
mod manifests;
mod objectives;
mod promtool;
mod report;
mod world;
