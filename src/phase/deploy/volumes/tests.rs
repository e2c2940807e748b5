#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;
use crate::phase::testing::target;

fn need(group: &str, name: &str, region: &str) -> Needed {
    Needed {
        group: group.to_owned(),
        name: name.to_owned(),
        region: region.to_owned(),
        size_gb: 1,
        retention: None,
        snapshots: None,
        guest: None,
        image: "r/a@sha256:1".to_owned(),
    }
}

fn volume(id: &str, name: &str, region: &str, machine: Option<&str>, state: &str) -> Volume {
    serde_json::from_value(json!({
        "id": id, "name": name, "state": state, "attached_machine_id": machine,
        "region": region, "size_gb": 1,
    }))
    .unwrap()
}

fn free(id: &str, name: &str, region: &str) -> Volume {
    volume(id, name, region, None, "created")
}

fn taken(id: &str, name: &str, region: &str) -> Volume {
    volume(id, name, region, Some("m"), "created")
}

fn mount(id: &str, group: &str, name: &str, stays: bool) -> Mounted {
    Mounted {
        id: id.to_owned(),
        group: group.to_owned(),
        name: name.to_owned(),
        stays,
    }
}

fn next(spec: &str, observed: &Observed) -> Verdict<Change> {
    Volumes.diff(&target(spec, &[]), observed, Timestamp::UNIX_EPOCH)
}

#[test]
fn a_volume_is_created_only_where_no_free_one_of_its_name_is_left() {
    let needed = [
        need("app", "data", "eze"),
        need("app", "data", "eze"),
        need("app", "logs", "eze"),
    ];
    let before = |volumes: &[Volume]| {
        let lacking = lacking(&needed, volumes);
        let first = lacking.first().map(|volume| create(volume, volumes, &[]));
        first.map(|change| (change.volume.name, change.before))
    };
    let data = |count| Some(("data".to_owned(), count));
    let (one, two) = (free("1", "data", "eze"), free("2", "data", "eze"));
    let logs = free("3", "logs", "eze");
    assert_eq!(before(&[]), data(0));
    assert_eq!(before(&[taken("4", "data", "eze"), one.clone()]), data(2));
    let gone = volume("5", "data", "eze", None, "pending_destroy");
    assert_eq!(before(&[one.clone(), gone]), data(1));
    assert_eq!(
        before(&[one.clone(), two.clone()]),
        Some(("logs".to_owned(), 0))
    );
    assert_eq!(before(&[one.clone(), two, logs.clone()]), None);
    // One elsewhere is of no use.
    assert_eq!(before(&[one, free("6", "data", "gru"), logs]), data(1));
}

#[test]
fn a_volume_that_takes_the_place_of_a_lost_one_says_so() {
    let lost = ExternalObject {
        id: "vol_1".to_owned(),
        name: "data".to_owned(),
        region: "eze".to_owned(),
        ..ExternalObject::default()
    };
    let text = |region: &str| {
        create(
            &need("app", "data", region),
            &[],
            std::slice::from_ref(&lost),
        )
        .to_string()
    };
    assert_eq!(
        text("eze"),
        "create a volume data of 1 GB in eze, empty, because vol_1 is gone"
    );
    assert_eq!(text("gru"), "create a volume data of 1 GB in gru");
}

/// Whether a machine of this group would begin on an empty volume unasked.
fn refused(spec: &str, observed: Observed) -> Option<String> {
    let observed = Observed {
        requested: true,
        ..observed
    };
    match next(spec, &observed) {
        Verdict::Blocked(why) => {
            assert_eq!(why.reason, Reason::VolumeLeftBehind);
            Some(why.sentence())
        }
        Verdict::Change(_) => None,
        other => unreachable!("{other:?}"),
    }
}

#[test]
fn an_empty_volume_beside_one_that_would_be_left_is_refused_until_it_is_allowed() {
    // The process group, the mount or the region has another name; or one waits elsewhere.
    let cases = [
        (need("jobs", "data", "eze"), taken("vol_1", "data", "eze")),
        (
            need("worker", "files", "eze"),
            taken("vol_1", "data", "eze"),
        ),
        (need("worker", "data", "gru"), taken("vol_1", "data", "eze")),
        (need("worker", "data", "gru"), free("vol_1", "data", "eze")),
        (need("worker", "files", "eze"), free("vol_1", "data", "eze")),
    ];
    for (needed, there) in cases {
        let observed = || Observed {
            needed: vec![needed.clone()],
            mounted: vec![mount("vol_1", "worker", "data", false)],
            volumes: vec![there.clone()],
            ..Observed::default()
        };
        let text = refused("", observed()).unwrap();
        assert!(text.contains("data (vol_1, 1 GB in eze)"), "{text}");
        assert!(text.contains("fly volumes fork vol_1 -a shop"), "{text}");
        let allowed = format!("deploy: {{volumes: {{allowNew: [{}]}}}}", needed.name);
        assert_eq!(refused(&allowed, observed()), None);
        // A copy of the data under the new name or in the new place.
        let mut copied = observed();
        copied
            .volumes
            .push(free("vol_2", &needed.name, &needed.region));
        copied.requested = true;
        assert!(!matches!(
            next("", &copied),
            Verdict::Blocked(_) | Verdict::Change(_)
        ));
        let other = "deploy: {volumes: {allowNew: [unrelated]}}";
        assert!(refused(other, observed()).is_some());
    }
}

#[test]
fn a_first_deployment_and_a_larger_scale_begin_with_empty_volumes() {
    let needs = |needed: &[Needed]| Observed {
        needed: needed.to_vec(),
        ..Observed::default()
    };
    assert_eq!(refused("", needs(&[need("app", "data", "eze")])), None);
    let grown = |needed: Needed| Observed {
        mounted: vec![mount("vol_1", "app", "data", true)],
        volumes: vec![taken("vol_1", "data", "eze")],
        ..needs(&[needed])
    };
    // One more machine, one more region, one more group with a volume of its own.
    assert_eq!(refused("", grown(need("app", "data", "eze"))), None);
    assert_eq!(refused("", grown(need("app", "data", "gru"))), None);
    assert_eq!(refused("", grown(need("jobs", "queue", "eze"))), None);
    // What was left behind before is no news, unless it has the very name.
    let beside = |needed: Needed, name: &str| Observed {
        known: ["vol_0".to_owned()].into(),
        volumes: vec![taken("vol_1", "data", "eze"), free("vol_0", name, "gru")],
        ..grown(needed)
    };
    assert_eq!(
        refused("", beside(need("jobs", "queue", "eze"), "old")),
        None
    );
    assert!(refused("", beside(need("jobs", "queue", "eze"), "queue")).is_some());
    // A volume in a machine of somebody else is in use.
    let others = Observed {
        volumes: vec![taken("vol_9", "data", "eze")],
        ..needs(&[need("app", "data", "eze")])
    };
    assert_eq!(refused("", others), None);
}

#[test]
fn a_volume_without_a_machine_is_told_with_its_cost_also_when_nothing_is_mounted_any_more() {
    let observed = Observed {
        volumes: vec![free("vol_1", "data", "eze"), taken("vol_2", "data", "eze")],
        later: Duration::from_secs(60),
        ..Observed::default()
    };
    assert_eq!(next("", &observed), Verdict::Holds(observed.later));
    let notes = Volumes.notes(&target("", &[]), &observed);
    let retained = |id: &str| {
        notes.iter().find_map(|note| match note {
            Note::External(object) if object.id == id => Some(object.retained.clone()),
            _ => None,
        })
    };
    let text = retained("vol_1").unwrap().unwrap();
    assert!(text.contains("fly volumes destroy vol_1 -a shop"), "{text}");
    assert_eq!(retained("vol_2"), Some(None));
    let remark = notes.iter().find_map(Note::remark).unwrap();
    assert_eq!(remark.reason, Reason::LeftBehind);
    // One whose machine is about to go is looked at again soon.
    let leaving = Observed {
        mounted: vec![mount("vol_2", "app", "data", false)],
        soon: Duration::from_secs(5),
        ..observed
    };
    assert_eq!(next("", &leaving), Verdict::Holds(leaving.soon));
    assert!(matches!(
        next("", &Observed::default()),
        Verdict::Skipped(_)
    ));
}
