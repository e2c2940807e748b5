//! The API as the real API server has it: schemas, rules, rights, examples. No operator runs.

mod attacker;
mod authors;
mod columns;
mod examples;
mod gates;
mod integrations;
mod objects;
mod rights;
mod source;
mod warnings;
mod words;

pub use objects::{minimal, with};
pub use rights::bind;

use serde_json::Value;

/// Every change that a test of the API expects to be refused, or warned of.
pub fn wrong_specs() -> Vec<Value> {
    let refused = [
        objects::refused(),
        integrations::refused(),
        words::explained(),
        warnings::warned(),
    ];
    let all = refused.into_iter().flatten();
    all.map(|(change, _)| change).collect()
}
