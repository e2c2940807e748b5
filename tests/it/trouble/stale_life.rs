//! One look that is wrong, at every place where a go-live and the deletion after it look at Fly.io: an
//! empty list, a list as it was before, a 404, a 401, a 403. Nothing is left behind, nothing is made
//! twice, and the end is the same.
//!
//! `make test` takes a sample; `GOLIVE_STALE_TEST=full` (`make test-stale`) takes every look.

use super::crash::{Trouble, all, reference};
use crate::support::looks::{faults, sample};

#[tokio::test(flavor = "multi_thread")]
async fn one_wrong_look_during_a_deletion_ends_the_same() {
    let reference = reference().await;
    let looks = faults(&reference.reads.1);
    println!("{} looks until gone", looks.len());
    let looks = sample(looks, 8).into_iter();
    all(reference, looks.map(Trouble::LookWhenDeleted).collect()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_wrong_look_during_a_go_live_ends_the_same() {
    let reference = reference().await;
    let looks = faults(&reference.reads.0);
    println!("{} looks until live", looks.len());
    let looks = sample(looks, 8).into_iter();
    all(reference, looks.map(Trouble::Look).collect()).await;
}
