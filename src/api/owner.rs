//! The identity of an Activation.

/// The Activation that something is done for, by what identifies it in Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`: the mark on everything that is created for this object.
    pub uid: String,
    /// `metadata.generation`.
    pub generation: i64,
}
