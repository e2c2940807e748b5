//! Any old status: whatever somebody has written there, the next one is whole, bounded, and the same
//! when nothing changes.

use jiff::Timestamp;

use super::{corpus, each_json, target};
use crate::{
    api::{Activation, ActivationStatus, Reason, bounds},
    pipeline::cx::{Care, EarlierProof, Recorded},
    plan::PlanId,
    status::{self, PassResult, events},
};

/// Most bytes of a status, as it is written.
const LONGEST: usize = 64 * 1024;

/// Most events that follow from one change.
const MOST_EVENTS: usize = 200;

#[test]
fn any_old_status_has_a_next_one_that_is_bounded_and_stays() {
    bounds::prepare();
    let documents: Vec<serde_json::Value> = corpus("status")
        .iter()
        .map(|text| serde_json::from_slice(text).unwrap())
        .collect();
    let activation: Activation = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "shop", "namespace": "n", "uid": "u", "generation": 3},
        "spec": {
            "organization": "o", "app": "shop", "region": "eze", "deploy": {"image": "x:1"},
            "gates": [{"before": "Deploy"}],
        },
    }))
    .unwrap();
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let check = |old: &ActivationStatus| {
        let recorded = Recorded::of(old);
        let proof = EarlierProof::of(old);
        let results = proof.results(&PlanId::new("sha256:a", 3), Care::Serving);
        assert!(results.len() <= old.smoke_test.len());
        assert!(recorded.external.len() <= old.external.len());
        for failed in [
            None,
            Some((Reason::KubernetesUnavailable, "no answer".to_owned())),
        ] {
            let seen = PassResult {
                failed,
                ..PassResult::default()
            };
            let next = status::next(Some(old), &activation, &seen, now).bounded();
            let size = serde_json::to_string(&next).unwrap().len();
            assert!(size <= LONGEST, "{size} bytes");
            let news = events::between(Some(old), &next).len();
            assert!(news <= MOST_EVENTS, "{news} events");
            // A pass that finds the same writes the same.
            let again = status::next(Some(&next), &activation, &seen, now).bounded();
            let third = status::next(Some(&again), &activation, &seen, now).bounded();
            assert_eq!(again, third, "it never settles");
        }
    };
    let run = |input: &[u8]| each_json::<ActivationStatus>(&documents, input, check);
    target!("status", run);
}
