//! The name of a plan, which people approve.

use sha2::{Digest, Sha256};

/// How many earlier generations are tried to find out whether a digest is of the same work.
const EARLIER: i64 = 1_000;

/// The name of a plan: what is to be done, for one generation of the object. People approve its digest, which covers
/// both. Whether the work is the same, whatever the generation, is another question: [`PlanId::is_same_work`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanId {
    target: String,
    generation: i64,
    digest: String,
}

impl PlanId {
    /// The plan of a target with this digest, that this generation asks for.
    pub fn new(target: impl Into<String>, generation: i64) -> Self {
        let target = target.into();
        Self {
            digest: of_generation(&target, generation),
            target,
            generation,
        }
    }

    /// What an approval names.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The generation of the object.
    pub fn generation(&self) -> i64 {
        self.generation
    }

    /// Whether this is the digest of a plan of this generation that leads to the same. One of an earlier version of
    /// Golive did not cover the generation, and an object without one is judged by that.
    pub fn leads_to_same(&self, digest: &str, generation: Option<i64>) -> bool {
        digest == self.digest
            || digest == self.target
            || generation.is_some_and(|then| digest == of_generation(&self.target, then))
    }

    /// Whether a person who gave this digest meant the same work, in this generation or an earlier one: what is done
    /// is the same after only an owner has changed, say.
    pub fn is_same_work(&self, digest: &str) -> bool {
        let first = self.generation.saturating_sub(EARLIER);
        self.leads_to_same(digest, None)
            || (first..self.generation)
                .rev()
                .any(|then| digest == of_generation(&self.target, then))
    }
}

fn of_generation(target: &str, generation: i64) -> String {
    let mut hash = Sha256::new();
    hash.update(target);
    hash.update(generation.to_le_bytes());
    format!(
        "sha256:{}",
        data_encoding::HEXLOWER.encode(&hash.finalize())
    )
}
