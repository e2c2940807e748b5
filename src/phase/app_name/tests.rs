use super::*;
use crate::{plan::testing::target, store::claim::tests::claim};

fn there(organization: &str) -> AppLookup {
    let app = serde_json::json!({
        "id": "shop", "name": "shop", "organization": {"slug": organization},
    });
    AppLookup::Found(Box::new(serde_json::from_value(app).unwrap()))
}

fn next(adoption: &str, lookup: AppLookup, claim: Option<Claim>) -> Verdict<AppChange> {
    marked(adoption, (lookup, claim), AppMarks::default())
}

fn marked(
    adoption: &str,
    (lookup, claim): (AppLookup, Option<Claim>),
    marks: AppMarks,
) -> Verdict<AppChange> {
    let observed = AppObservation {
        marks,
        ..observation(lookup, claim)
    };
    decide(&target(&format!("adoption: {adoption}")), &observed)
}

fn observation(lookup: AppLookup, claim: Option<Claim>) -> AppObservation {
    let owner = Owner {
        namespace: "cabanas".into(),
        name: "shop".into(),
        uid: "uid-1".into(),
        generation: 1,
    };
    AppObservation {
        lookup,
        claim,
        owner,
        absent: BTreeSet::from([claim::DATABASE.to_owned()]),
        contents: Some(Contents {
            machines: vec!["golive-app-0 (17811)".into()],
            volumes: Vec::new(),
        }),
        marks: AppMarks::default(),
        look_again: None,
        recorded: None,
        doubt: None,
    }
}

fn blocked(verdict: Verdict<AppChange>) -> Reason {
    match verdict {
        Verdict::Blocked(why) => why.reason,
        other => unreachable!("{other:?}"),
    }
}

fn adopts(verdict: &Verdict<AppChange>) -> bool {
    matches!(
        verdict,
        Verdict::Change(AppChange::Claim { adopt: Some(_), .. })
    )
}

#[test]
fn a_name_is_claimed_before_the_app_is_created() {
    let ours = claim("uid-1", "cabanas", "shop", false);
    let first = next("Never", AppLookup::NotFound, None);
    assert!(matches!(
        &first,
        Verdict::Change(AppChange::Claim { adopt: None, before: None, made, .. }) if made.contains("database")
    ));
    let second = next("Never", AppLookup::NotFound, Some(ours.clone()));
    assert!(matches!(second, Verdict::Change(AppChange::Create { .. })));
    assert_eq!(next("Never", there("cabanas"), Some(ours)), Verdict::Done);
}

#[test]
fn an_app_of_somebody_else_is_left_alone() {
    let theirs = claim("uid-9", "other", "shop", false);
    for seen in [AppLookup::NotFound, there("cabanas")] {
        assert_eq!(
            blocked(next("Always", seen, Some(theirs.clone()))),
            Reason::AppClaimed
        );
    }
    assert_eq!(
        blocked(next("Always", AppLookup::Forbidden, None)),
        Reason::NameTaken
    );
    assert_eq!(
        blocked(next("Always", there("acme"), None)),
        Reason::NameTaken
    );
}

#[test]
fn the_loser_of_a_claim_learns_nothing_of_other_namespaces() {
    let told = |claim| match next("Never", AppLookup::NotFound, Some(claim)) {
        Verdict::Blocked(why) => why.sentence(),
        other => unreachable!("{other:?}"),
    };
    let foreign = told(claim("uid-9", "finance", "payroll", false));
    assert!(
        foreign.contains("an Activation of another namespace"),
        "{foreign}"
    );
    assert!(
        !foreign.contains("finance") && !foreign.contains("payroll"),
        "{foreign}"
    );
    let near = told(claim("uid-9", "cabanas", "first", false));
    assert!(near.contains("the Activation cabanas/first"), "{near}");
}

#[test]
fn an_app_on_record_that_one_look_does_not_show_counts_as_it_was() {
    let again = Duration::from_secs(10);
    for lookup in [AppLookup::NotFound, AppLookup::Forbidden, there("acme")] {
        let mut observed = observation(lookup, Some(claim("uid-1", "cabanas", "shop", false)));
        observed.doubt = Some(again);
        assert_eq!(decide(&target(""), &observed), Verdict::Holds(again));
    }
}

#[test]
fn an_existing_app_is_taken_over_as_far_as_adoption_allows() {
    let namesake = claim("uid-0", "cabanas", "shop", true);
    let stranger = claim("uid-0", "other", "shop", true);
    let refused = Reason::AdoptionRefused;
    let look =
        |adoption: &str, claim: Option<&Claim>| next(adoption, there("cabanas"), claim.cloned());
    assert_eq!(blocked(look("Never", Some(&namesake))), refused);
    assert_eq!(blocked(look("IfOwned", None)), refused);
    assert_eq!(blocked(look("IfOwned", Some(&stranger))), refused);
    assert!(adopts(&look("IfOwned", Some(&namesake))));
    assert!(adopts(&look("Always", None)));
    assert!(adopts(&look("Always", Some(&stranger))));
}

#[test]
fn an_app_that_is_only_looked_at_is_on_no_record() {
    let there = || there("cabanas");
    let found = |claim| observation(there(), claim);
    assert_eq!(found(None).id_on_record("app"), None);
    let another = claim("uid-9", "cabanas", "first", false);
    assert_eq!(found(Some(another)).id_on_record("app"), None);
    let ours = claim("uid-1", "cabanas", "shop", false);
    let id = found(Some(ours)).id_on_record("app");
    assert!(id.is_some());
    // It stays on record while the claim is lost, and so it is claimed again.
    let mut lost = found(None);
    lost.recorded = id.clone();
    assert_eq!(lost.id_on_record("app"), id);
    assert!(matches!(
        decide(&target("adoption: Never"), &lost),
        Verdict::Change(AppChange::Reclaim { .. })
    ));
    lost.recorded = Some("an-app-before".into());
    assert_eq!(lost.id_on_record("app"), None);
    blocked(decide(&target("adoption: Never"), &lost));
}

#[test]
fn an_app_with_our_marks_is_claimed_again_and_one_with_anothers_is_never_taken() {
    let marks = |ours, of_another| AppMarks {
        ours,
        of_another,
        any: true,
    };
    for adoption in ["Never", "IfOwned", "Always"] {
        let seen = |claim: Option<Claim>, marks| marked(adoption, (there("cabanas"), claim), marks);
        assert!(matches!(
            seen(None, marks(true, false)),
            Verdict::Change(AppChange::Reclaim { .. })
        ));
        let retained = claim("uid-0", "cabanas", "shop", true);
        for claim in [None, Some(retained)] {
            for ours in [false, true] {
                let verdict = seen(claim.clone(), marks(ours, true));
                assert_eq!(blocked(verdict), Reason::AppClaimed);
            }
        }
    }
}

#[test]
fn a_retained_app_passes_to_another_name_of_its_namespace_with_its_machines() {
    let renamed = claim("uid-0", "cabanas", "former", true);
    let verdict = next("IfOwned", there("cabanas"), Some(renamed));
    let Verdict::Change(AppChange::Claim { taken_over, .. }) = &verdict else {
        unreachable!("{verdict:?}")
    };
    assert_eq!(taken_over.former, ["uid-0".to_owned()].into());
    assert!(taken_over.served && !taken_over.everything);
    let Verdict::Change(change) = &verdict else {
        unreachable!("a change")
    };
    assert_eq!(
        change.to_string(),
        "take over the Fly app shop with the machine golive-app-0 (17811) and no volumes; they stay, and a machine that differs from the spec is updated in place"
    );
    // One that is not retained belongs to an object that exists.
    let held = claim("uid-0", "cabanas", "former", false);
    let reason = blocked(next("Always", there("cabanas"), Some(held)));
    assert_eq!(reason, Reason::AppClaimed);
    // With `Always`, everything of the app is taken over, and no former owner is believed.
    let stranger = claim("uid-0", "other", "shop", true);
    let verdict = next("Always", there("cabanas"), Some(stranger));
    let Verdict::Change(AppChange::Claim { taken_over, .. }) = verdict else {
        unreachable!("a claim")
    };
    assert!(taken_over.everything && taken_over.former.is_empty());
}

#[test]
fn what_an_earlier_activation_of_this_name_made_stays_known_and_anothers_does_not() {
    for (namespace, known) in [("cabanas", true), ("other", false)] {
        let mut left = claim("uid-0", namespace, "shop", true);
        left.made.insert("redis".to_owned());
        let Verdict::Change(AppChange::Claim { made, .. }) =
            next("Never", AppLookup::NotFound, Some(left))
        else {
            unreachable!("a claim")
        };
        assert_eq!(made.contains("redis"), known);
        assert!(made.contains("database"));
    }
}
