//! Golive takes a web application from nothing to live on Fly.io from one Kubernetes object.

pub mod fly;
pub mod clock;
pub mod leader;
