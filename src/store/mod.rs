//! What Golive keeps in Kubernetes.

pub mod claim;
pub mod finalizers;
pub mod generated;
pub mod image;
pub mod installation_key;
