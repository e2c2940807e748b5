//! Where the figures of a watch come from: looks at real processes behind the simulator's edge, a real
//! Prometheus, and Fly.io's own as the simulator has it.

mod looks;
mod series;
mod stage;
