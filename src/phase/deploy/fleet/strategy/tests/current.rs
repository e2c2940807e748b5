//! What counts as the wanted machine, and what is a change of it.

use super::*;

#[test]
fn a_machine_that_went_back_or_was_changed_by_hand_is_updated() {
    let wanted = Case::new(SIZED).scaled(1).wanted();
    for change in [
        |m: &mut Machine| m.image_ref.as_mut().unwrap().digest = Some("sha256:0".to_owned()),
        |m: &mut Machine| {
            let config = m.config.as_mut().unwrap();
            config.guest.as_mut().unwrap().memory_mb = Some(4096);
        },
        |m: &mut Machine| {
            let config = m.config.as_mut().unwrap();
            config
                .env
                .insert("PRIMARY_REGION".to_owned(), "x".to_owned());
            config.env.remove("FLY_PROCESS_GROUP");
        },
        |m: &mut Machine| {
            let marks = &mut m.config.as_mut().unwrap().metadata;
            marks.insert(CONFIG_KEY.to_owned(), "old".to_owned());
        },
    ] {
        let mut machines = fleet(&wanted);
        change(&mut machines[0]);
        assert_eq!(updated(&plan_of(&wanted, &machines, 1)), ["m0"]);
    }
}

/// Somebody gave it more memory, or it has a declared fallback size.
fn resize(machine: &mut Machine, memory_mb: u32, for_lack_of_room: bool) {
    let config = machine.config.as_mut().unwrap();
    config.guest.as_mut().unwrap().memory_mb = Some(memory_mb);
    if for_lack_of_room {
        let size = "shared-cpu-2x".to_owned();
        config.metadata.insert(SIZE_KEY.to_owned(), size);
    }
}

#[test]
fn a_size_that_fly_toml_does_not_give_and_nobody_recorded_is_the_machines_own() {
    let before = Case::new(TOML).scaled(1);
    let after = before.clone().next();
    let mut machines = fleet(&before.wanted());
    resize(&mut machines[0], 4096, false);
    // As on a machine that was taken over, or made by an earlier version.
    let marks = &mut machines[0].config.as_mut().unwrap().metadata;
    marks.remove(GIVEN_SIZE_KEY);
    assert_eq!(plan_of(&before.wanted(), &machines, 1), Move::Nothing);
    let wanted = &after.wanted()[0];
    assert_eq!(wanted.size_for(&machines[0]), None, "an update keeps it");
    // So does a machine that comes beside it.
    for strategy in [Strategy::BlueGreen, Strategy::Canary] {
        let Move::Create(new) = planned(strategy, &after, &machines, true).next else {
            panic!("{strategy:?}")
        };
        let guest = new[0].config.guest.as_ref().unwrap();
        assert_eq!(guest.memory_mb, Some(4096), "{strategy:?}");
    }
    let sized = &Case::new(SIZED).scaled(1).wanted()[0];
    let guest = sized.size_for(&machines[0]).unwrap();
    assert_eq!(guest.memory_mb, Some(512), "what fly.toml gives wins");
}

#[test]
fn a_size_that_somebody_changed_is_put_back_to_what_the_machine_was_given() {
    let case = Case::new(TOML).scaled(2);
    let mut machines = fleet(&case.wanted());
    assert_eq!(plan_of(&case.wanted(), &machines, 1), Move::Nothing);
    let before = machines[0].config.clone().unwrap().guest;
    resize(&mut machines[0], 4096, false);
    assert_eq!(updated(&plan_of(&case.wanted(), &machines, 1)), ["m0"]);
    let wanted = &case.wanted()[0];
    assert_eq!(wanted.size_for(&machines[0]), before);
    // A machine of its own size keeps it over an update, and is marked with it then.
    let other = case.clone().next();
    let sized = other.wanted()[1].sized_as(Some(&machines[1]));
    assert_eq!(sized.config.metadata[GIVEN_SIZE_KEY], "shared-1-256");
}

#[test]
fn a_size_for_lack_of_room_is_given_and_taken_back() {
    let case = Case::new(TOML).scaled(1);
    let usual = &case.wanted()[0];
    let mut machine = running(usual, "m0");
    let small = flytoml::parse_size("shared-cpu-2x").unwrap();
    let for_lack = case.sized("shared-cpu-2x", &small);
    assert_eq!(for_lack.size_for(&machine), Some(small));
    resize(&mut machine, 512, true);
    assert_eq!(usual.size_for(&machine), usual.config.guest);
}

#[test]
fn what_the_platform_adds_or_makes_of_our_own_words_is_no_drift() {
    let wanted = Case::new(TOML).scaled(1).wanted();
    let mut machines = fleet(&wanted);
    let config = machines[0].config.as_mut().unwrap();
    config.extra.insert("new".to_owned(), json!({"a": 1}));
    config.env.insert("FLY_X".to_owned(), "1".to_owned());
    assert_eq!(plan_of(&wanted, &machines, 1), Move::Nothing);
    // Another digest than the resolved one that no release of ours had: an index has several.
    machines[0].image_ref.as_mut().unwrap().digest = Some("sha256:platform".to_owned());
    assert_eq!(plan_of(&wanted, &machines, 1), Move::Nothing);
    machines[0].config.as_mut().unwrap().guest = None;
    let written = ["v-m0".to_owned()].into();
    let next = plan(&Fleet {
        wanted: &wanted,
        canaries: &[],
        machines: &machines,
        other_digests: &[],
        written: &written,
        strategy: Strategy::Rolling,
        pools: &BTreeMap::new(),
        careful: true,
        untested: &BTreeSet::new(),
        watch: watch(),
        drain: Duration::ZERO,
    });
    assert_eq!(next.next, Move::Nothing);
}

#[test]
fn a_host_that_runs_another_release_is_believed_before_our_own_version() {
    let wanted = Case::new(TOML).scaled(1).wanted();
    let mut machines = fleet(&wanted);
    machines[0].image_ref.as_mut().unwrap().digest = Some("sha256:0".to_owned());
    let written = ["v-m0".to_owned()].into();
    let next = |machines: &[Machine]| {
        plan(&Fleet {
            wanted: &wanted,
            canaries: &[],
            machines,
            other_digests: &["sha256:0".to_owned()],
            written: &written,
            strategy: Strategy::Rolling,
            pools: &BTreeMap::new(),
            careful: true,
            untested: &BTreeSet::new(),
            watch: watch(),
            drain: Duration::ZERO,
        })
        .next
    };
    assert_eq!(updated(&next(&machines)), ["m0"]);
    // On its way to what we wrote it may not have heard of it yet.
    machines[0].state = MachineState::Replacing;
    assert!(!matches!(next(&machines), Move::Update(_)));
}
