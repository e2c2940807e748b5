//! One look at Fly.io that is wrong, at every place where the operator looks: a list as it was before
//! or empty, a 404, a 401, a 403, each once. Nothing may follow from it: the same end and the same
//! history as without it.

use std::collections::BTreeMap;

use fly_sim::{Fault, Kind, Sim};

use crate::support::deploy::LIST;

/// How often each read was made.
pub type Reads = BTreeMap<String, u64>;

/// The reads so far, by endpoint. Long polls and logs are no looks: nothing is concluded from them.
pub fn reads(sim: &Sim) -> Reads {
    let mut reads = Reads::new();
    for call in sim.call_list() {
        let endpoint = call.endpoint;
        if call.mutation.is_none() && !endpoint.ends_with("/wait") && !endpoint.contains("/logs") {
            *reads.entry(endpoint).or_default() += 1;
        }
    }
    reads
}

/// The reads that were made since `before`.
pub fn since(before: &Reads, now: &Reads) -> Reads {
    let count = |endpoint: &String| before.get(endpoint).copied().unwrap_or_default();
    let later = now
        .iter()
        .map(|(endpoint, n)| (endpoint.clone(), n - count(endpoint)));
    later.filter(|(_, n)| *n > 0).collect()
}

/// What a look at this endpoint may wrongly answer, once.
fn kinds(endpoint: &str) -> Vec<Kind> {
    let mut kinds = vec![Kind::status(404), Kind::status(401), Kind::status(403)];
    // Of a single object there is no empty list.
    if !endpoint.ends_with('}') {
        kinds.push(Kind::EmptyList);
    }
    if endpoint == LIST {
        kinds.extend((1..=5).map(|mutations| Kind::StaleList { mutations }));
    }
    kinds
}

/// Every wrong look at these reads, each at one occurrence.
pub fn faults(reads: &Reads) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (endpoint, count) in reads {
        for nth in 1..=*count {
            for kind in kinds(endpoint) {
                faults.push(Fault::new(endpoint.clone(), kind).nth(nth));
            }
        }
    }
    faults
}

/// All of them in the full campaign; else about `wanted`, spread over all.
pub fn sample(faults: Vec<Fault>, wanted: usize) -> Vec<Fault> {
    if full() {
        return faults;
    }
    let every = (faults.len() / wanted).max(1);
    let spread = faults.into_iter().enumerate();
    spread
        .filter(|(n, _)| n % every == every / 2)
        .map(|(_, fault)| fault)
        .collect()
}

/// Whether every look is tried.
pub fn full() -> bool {
    std::env::var("GOLIVE_STALE_TEST").is_ok_and(|value| value == "full")
}
