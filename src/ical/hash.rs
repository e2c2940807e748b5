//! Hashes stand for texts that are not kept.

use std::hash::{DefaultHasher, Hash, Hasher};

/// A hash that is the same in the whole process.
pub(super) fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
