#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};

use super::*;
use crate::{
    fly::machine_config::MachineGuest,
    flytoml,
    phase::{
        deploy::fleet::{
            slots,
            wanted::{FleetSpec, canaries, machines as wanted},
        },
        marks::{CONFIG_KEY, GIVEN_SIZE_KEY, SIZE_KEY},
    },
    pipeline::Owner,
};

mod current;
mod moves;
mod outlook;

const TOML: &str = "app = 'a'\n[http_service]\ninternal_port = 8080\n";
const SIZED: &str = "app = 'a'\n[http_service]\ninternal_port = 8080\n[[vm]]\nmemory = '512mb'\n";

fn owner() -> Owner {
    Owner {
        namespace: "n".to_owned(),
        name: "a".to_owned(),
        uid: "u".to_owned(),
        generation: 1,
    }
}

#[derive(Clone)]
struct Case {
    toml: &'static str,
    scale: BTreeMap<String, u32>,
    regions: BTreeMap<String, BTreeMap<String, u32>>,
    image: &'static str,
}

impl Case {
    fn new(toml: &'static str) -> Self {
        Self {
            toml,
            scale: BTreeMap::new(),
            regions: BTreeMap::new(),
            image: "r/a@sha256:1",
        }
    }

    fn scaled(mut self, count: u32) -> Self {
        self.scale.insert("app".to_owned(), count);
        self
    }

    /// The next release.
    fn next(mut self) -> Self {
        self.image = "r/a@sha256:2";
        self
    }

    fn with_spec<T>(&self, of: impl Fn(&FleetSpec) -> T) -> T {
        self.with_size(None, of)
    }

    /// The first machine with a declared size, for lack of room.
    fn sized(&self, name: &str, guest: &MachineGuest) -> WantedMachine {
        let first = |spec: &FleetSpec| wanted(spec).unwrap().remove(0);
        self.with_size(Some((name, guest)), first)
    }

    fn with_size<T>(&self, size: Option<(&str, &MachineGuest)>, of: impl Fn(&FleetSpec) -> T) -> T {
        let config = flytoml::parse(self.toml).unwrap().config;
        of(&FleetSpec {
            scale: &self.scale,
            regions: &self.regions,
            region: "eze",
            owner: &owner(),
            config: &config,
            image: self.image,
            secrets: "s",
            release: "k",
            size,
        })
    }

    fn wanted(&self) -> Vec<WantedMachine> {
        self.with_spec(|spec| wanted(spec).unwrap())
    }

    fn canaries(&self) -> Vec<WantedMachine> {
        self.with_spec(|spec| canaries(spec).unwrap())
    }
}

/// A started machine that is as wanted, as Fly.io lists it.
fn running(wanted: &WantedMachine, id: &str) -> Machine {
    let mut machine: Machine = serde_json::from_value(json!({
        "id": id,
        "name": wanted.name,
        "state": "started",
        "instance_id": format!("v-{id}"),
        "host_status": "ok",
        "created_at": "2026-01-01T00:00:00Z",
        "image_ref": {"digest": "sha256:1"},
    }))
    .unwrap();
    machine.config = Some(wanted.config.clone());
    machine
}

fn fleet(wanted: &[WantedMachine]) -> Vec<Machine> {
    wanted
        .iter()
        .enumerate()
        .map(|(at, wanted)| running(wanted, &format!("m{at}")))
        .collect()
}

/// Out of the proxy's pool, since these seconds.
fn cordon(machine: &mut Machine, seconds: i64) {
    machine.cordoned = Some(true);
    happened(machine, "cordon", seconds);
}

/// In the proxy's pool, since these seconds.
fn uncordon(machine: &mut Machine, seconds: i64) {
    machine.cordoned = Some(false);
    happened(machine, "uncordon", seconds);
}

fn happened(machine: &mut Machine, kind: &str, seconds: i64) {
    let at = watch().now.as_millisecond() - seconds * 1000;
    let event: Value = json!([{"id": "e", "type": kind, "timestamp": at}]);
    machine.events = serde_json::from_value(event).unwrap();
}

fn watch() -> Watch {
    Watch {
        span: Duration::from_secs(10),
        now: "2026-01-01T01:00:00Z".parse().unwrap(),
    }
}

/// The plan of a strategy, with pools of two.
fn planned(strategy: Strategy, case: &Case, machines: &[Machine], careful: bool) -> Plan {
    planned_with(strategy, case, machines, careful, &[])
}

/// The same, while these machines have not passed their `machine_checks`.
fn planned_with(
    strategy: Strategy,
    case: &Case,
    machines: &[Machine],
    careful: bool,
    untested: &[&str],
) -> Plan {
    let wanted = case.wanted();
    let groups = wanted.iter().map(|w| (w.group.clone(), 2)).collect();
    let canaries = match strategy {
        Strategy::Canary => case.canaries(),
        _ => Vec::new(),
    };
    plan(&Fleet {
        wanted: &wanted,
        canaries: &canaries,
        machines,
        other_digests: &["sha256:0".to_owned()],
        written: &BTreeSet::new(),
        strategy,
        pools: &groups,
        careful,
        untested: &untested.iter().map(|id| (*id).to_owned()).collect(),
        watch: watch(),
        drain: Duration::from_secs(10),
    })
}

fn plan_of(wanted: &[WantedMachine], machines: &[Machine], pool: usize) -> Move {
    whole_plan(wanted, machines, pool).next
}

fn whole_plan(wanted: &[WantedMachine], machines: &[Machine], pool: usize) -> Plan {
    plan(&Fleet {
        wanted,
        canaries: &[],
        machines,
        other_digests: &["sha256:0".to_owned()],
        written: &BTreeSet::new(),
        strategy: Strategy::Rolling,
        pools: &wanted.iter().map(|w| (w.group.clone(), pool)).collect(),
        careful: true,
        untested: &BTreeSet::new(),
        watch: watch(),
        drain: Duration::from_secs(10),
    })
}

fn updated(next: &Move) -> Vec<&str> {
    match next {
        Move::Update(pairs) => pairs.iter().map(|(m, _)| m.id.as_str()).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_first_deployment_creates_all_machines_at_once() {
    let wanted = Case::new(TOML).scaled(3).wanted();
    let Move::Create(created) = plan_of(&wanted, &[], 1) else {
        panic!()
    };
    assert_eq!(created, wanted);
    assert_eq!(created.last().unwrap().name, "golive-app-2");
    assert_eq!(plan_of(&wanted, &fleet(&wanted), 1), Move::Nothing);
}

#[test]
fn an_update_takes_the_first_machine_alone_and_then_as_many_as_may_be_unavailable() {
    let before = Case::new(TOML).scaled(5).wanted();
    let after = Case::new(TOML).scaled(5).next().wanted();
    let mut machines = fleet(&before);
    assert_eq!(updated(&plan_of(&after, &machines, 2)), ["m0"]);
    machines[0] = running(&after[0], "m0");
    assert_eq!(updated(&plan_of(&after, &machines, 2)), ["m1", "m2"]);
    machines[1] = running(&after[1], "m1");
    machines[2] = running(&after[2], "m2");
    // As soon as one of them is healthy the next one is updated, and the other one still settles.
    machines[1].state = MachineState::Starting;
    let next = whole_plan(&after, &machines, 2);
    assert_eq!(updated(&next.next), ["m3"]);
    assert_eq!(next.settling, ["app-1"]);
    machines[2].state = MachineState::Starting;
    let next = whole_plan(&after, &machines, 2);
    assert_eq!(next.next, Move::Settle);
    assert_eq!(next.settling, ["app-1", "app-2"]);
}

#[test]
fn a_machine_whose_host_cannot_be_reached_is_left_alone() {
    let wanted = Case::new(TOML).scaled(1).wanted();
    let mut machines = fleet(&wanted);
    machines[0].incomplete_config = machines[0].config.take();
    machines[0].host_status = HostStatus::Unreachable;
    assert_eq!(plan_of(&wanted, &machines, 1), Move::Nothing);
}

#[test]
fn surplus_machines_go_and_those_of_the_release_command_stay() {
    let wanted = Case::new(TOML).scaled(2).wanted();
    let mut machines = fleet(&wanted);
    let mut release = running(&wanted[0], "r");
    let marks = &mut release.config.as_mut().unwrap().metadata;
    marks.insert(SLOT_KEY.to_owned(), slots::release_command(1, "0123456789"));
    machines.push(release);
    let less = Case::new(TOML).scaled(1).wanted();
    let next = |machines: &[Machine]| plan_of(&less, machines, 1);
    let only = |next| match next {
        Move::Cordon(of) | Move::Stop(of) | Move::Destroy(of) | Move::Await(of) => {
            assert_eq!(of.len(), 1);
            assert_eq!(of[0].id, "m1");
        }
        other => panic!("{other:?}"),
    };
    assert!(matches!(next(&machines), Move::Cordon(_)));
    only(next(&machines));
    cordon(&mut machines[1], 3);
    assert_eq!(next(&machines), Move::Pause(Duration::from_secs(7)));
    cordon(&mut machines[1], 10);
    assert!(matches!(next(&machines), Move::Stop(_)));
    only(next(&machines));
    machines[1].state = MachineState::Stopping;
    assert!(matches!(next(&machines), Move::Await(_)));
    only(next(&machines));
    machines[1].state = MachineState::Stopped;
    assert!(matches!(next(&machines), Move::Destroy(_)));
    only(next(&machines));
}

#[test]
fn a_group_without_services_gets_a_standby_that_names_its_machine() {
    let case = Case::new("app = 'a'\n[processes]\nworker = 'run'\n");
    let wanted = case.wanted();
    let Move::Create(first) = plan_of(&wanted, &[], 1) else {
        panic!()
    };
    assert_eq!(first.len(), 1);
    let machines = vec![running(&wanted[0], "m0")];
    let Move::Create(standby) = plan_of(&wanted, &machines, 1) else {
        panic!()
    };
    assert_eq!(standby[0].config.standbys, ["m0"]);
    let mut machines = machines;
    machines.push(running(&standby[0], "m1"));
    machines[1].state = MachineState::Stopped;
    assert_eq!(plan_of(&wanted, &machines, 1), Move::Nothing);
}

#[test]
fn what_somebody_stopped_is_started_and_what_ended_rests_first() {
    let wanted = Case::new(TOML).scaled(1).wanted();
    let stopped = |exited_at: Option<&str>| {
        let mut machine = running(&wanted[0], "m0");
        machine.state = MachineState::Stopped;
        if let Some(at) = exited_at {
            machine.events = serde_json::from_value(json!([{
                "id": "e", "type": "exit", "timestamp": 1,
                "request": {"exit_event": {"exit_code": 3, "exited_at": at}},
            }]))
            .unwrap();
        }
        vec![machine]
    };
    let starts = |machines: &[Machine]| matches!(plan_of(&wanted, machines, 1), Move::Start(_));
    assert!(starts(&stopped(None)));
    assert!(starts(&stopped(Some("2026-01-01T00:10:00Z"))));
    assert!(!starts(&stopped(Some("2026-01-01T00:59:00Z"))));
}

#[test]
fn a_new_number_of_machines_is_the_same_configuration() {
    let one = Case::new(TOML).scaled(1).wanted();
    let two = Case::new(TOML).scaled(2).wanted();
    assert_eq!(one[0].hash, two[0].hash);
    assert_ne!(one[0].hash, two[1].hash);
}

#[test]
fn only_a_machine_without_checks_is_watched_after_its_start() {
    let check = "[[http_service.checks]]\npath = '/'\n";
    let started = |toml: &'static str, seconds: i64| {
        let wanted = Case::new(toml).scaled(1).wanted();
        let mut machine = running(&wanted[0], "m0");
        let at = watch().now.as_millisecond() - seconds * 1000;
        machine.events =
            serde_json::from_value(json!([{"id": "e", "type": "start", "timestamp": at}])).unwrap();
        machine.checks =
            serde_json::from_value(json!([{"name": "c", "status": "passing"}])).unwrap();
        health_of(&machine, &wanted[0], watch())
    };
    assert_eq!(started(TOML, 3), Health::Watched(Duration::from_secs(7)));
    assert_eq!(started(TOML, 10), Health::Healthy);
    let checked: &'static str = Box::leak(format!("{TOML}{check}").into_boxed_str());
    assert_eq!(started(checked, 3), Health::Healthy);
}

/// The machines that the plan creates, started.
fn created(next: Move, machines: &mut Vec<Machine>) -> Vec<WantedMachine> {
    let Move::Create(wanted) = next else {
        panic!("{next:?}")
    };
    for new in &wanted {
        let mut machine = running(new, &new.name);
        machine.cordoned = Some(new.cordoned);
        if new.standby {
            machine.state = MachineState::Stopped;
        }
        machines.push(machine);
    }
    wanted
}

fn names(machines: &[Machine]) -> BTreeSet<&str> {
    machines.iter().map(|m| m.name.as_str()).collect()
}

#[test]
fn bluegreen_serves_from_one_whole_set_and_removes_the_other() {
    let strategy = Strategy::BlueGreen;
    let before = Case::new(TOML).scaled(3);
    let after = before.clone().next();
    let blue = fleet(&before.wanted());
    let mut machines = blue.clone();
    let next = |machines: &[Machine]| planned(strategy, &after, machines, true);

    let green = created(next(&machines).next, &mut machines);
    assert_eq!(green.len(), 3);
    assert!(green.iter().all(|green| green.cordoned));
    assert_eq!(names(&machines).len(), 6, "all names differ");
    // A second pass makes no third set; it waits for every green machine.
    machines[4].state = MachineState::Starting;
    assert_eq!(next(&machines).next, Move::Settle);
    assert_eq!(next(&machines).settling, ["app-1"]);
    machines[4].state = MachineState::Started;
    let Move::Uncordon(serving) = next(&machines).next else {
        panic!()
    };
    assert_eq!(serving.len(), 3);
    // Cut off after two of them: the third is still to come.
    uncordon(&mut machines[3], 3);
    uncordon(&mut machines[4], 3);
    assert!(matches!(next(&machines).next, Move::Uncordon(of) if of.len() == 1));
    uncordon(&mut machines[5], 2);
    assert_eq!(next(&machines).next, Move::Pause(Duration::from_secs(8)));
    for machine in &mut machines[3..] {
        uncordon(machine, 20);
    }
    assert_eq!(next(&machines).next, Move::Cordon(blue));
    for machine in &mut machines[..3] {
        cordon(machine, 20);
    }
    assert!(matches!(next(&machines).next, Move::Stop(of) if of.len() == 3));
    machines[0].state = MachineState::Stopped;
    machines[1].state = MachineState::Stopping;
    machines[2].state = MachineState::Stopping;
    assert!(matches!(next(&machines).next, Move::Destroy(of) if of[0].id == "m0"));
    machines.drain(..3);
    assert_eq!(next(&machines).next, Move::Nothing);
}

#[test]
fn bluegreen_goes_back_at_every_point_with_what_is_there() {
    let strategy = Strategy::BlueGreen;
    let before = Case::new(TOML).scaled(2);
    let after = before.clone().next();
    let mut machines = fleet(&before.wanted());
    created(
        planned(strategy, &after, &machines, true).next,
        &mut machines,
    );
    let back = |machines: &[Machine]| planned(strategy, &before, machines, true).next;
    let of = |machines: &[Machine]| machines.iter().map(|m| m.id.clone()).collect::<Vec<_>>();
    let green = of(&machines[2..]);

    // Before green serves: it is stopped, and blue is not touched.
    assert!(matches!(back(&machines), Move::Stop(gone) if of(&gone) == green));
    // Also when blue is unhealthy at this moment.
    machines[0].state = MachineState::Starting;
    assert!(matches!(back(&machines), Move::Stop(gone) if of(&gone) == green));
    machines[0].state = MachineState::Started;
    // While both serve.
    uncordon(&mut machines[2], 20);
    uncordon(&mut machines[3], 20);
    assert!(matches!(back(&machines), Move::Cordon(gone) if of(&gone) == green));
    // After blue was taken out, and one of it stopped: first it runs, then it serves.
    cordon(&mut machines[0], 1);
    cordon(&mut machines[1], 1);
    machines[1].state = MachineState::Stopped;
    assert!(matches!(back(&machines), Move::Start(of) if of[0].id == "m1"));
    machines[1].state = MachineState::Started;
    assert!(matches!(back(&machines), Move::Uncordon(of) if of.len() == 2));
    // After half of blue is gone, its slot is filled again by a cordoned machine.
    machines.remove(1);
    let new = created(back(&machines), &mut machines);
    assert_eq!(new.len(), 1);
    assert!(new[0].cordoned);
    assert!(matches!(back(&machines), Move::Uncordon(of) if of.len() == 2));
}

#[test]
fn bluegreen_clears_away_an_earlier_green_set_before_it_makes_another() {
    let strategy = Strategy::BlueGreen;
    let before = Case::new(TOML).scaled(2);
    let mut machines = fleet(&before.wanted());
    let second = before.clone().next();
    created(
        planned(strategy, &second, &machines, true).next,
        &mut machines,
    );
    let third = Case {
        image: "r/a@sha256:3",
        ..before
    };
    let next = planned(strategy, &third, &machines, true).next;
    assert!(matches!(next, Move::Stop(of) if of.len() == 2 && of[0].cordoned == Some(true)));
    machines.truncate(2);
    assert_eq!(
        created(
            planned(strategy, &third, &machines, true).next,
            &mut machines
        )
        .len(),
        2
    );
}

#[test]
fn bluegreen_never_moves_the_traffic_to_machines_that_are_not_well() {
    let before = Case::new(TOML).scaled(2);
    let after = before.clone().next();
    let mut machines = fleet(&before.wanted());
    for careful in [true, false] {
        let next = |machines: &[Machine]| planned(Strategy::BlueGreen, &after, machines, careful);
        if machines.len() == 2 {
            created(next(&machines).next, &mut machines);
        }
        let unwell = [
            MachineState::Starting,
            MachineState::Created,
            MachineState::Failed,
        ];
        for state in unwell {
            let told = format!("{state:?}, careful: {careful}");
            machines[3].state = state;
            assert_eq!(next(&machines).next, Move::Settle, "{told}");
        }
        // Nor goes the old set when the new one falls ill after the move.
        let mut moved = machines.clone();
        uncordon(&mut moved[2], 20);
        uncordon(&mut moved[3], 20);
        assert_eq!(next(&moved).next, Move::Settle, "careful: {careful}");
    }
}

#[test]
fn a_machine_that_has_not_passed_its_checks_is_not_well_yet() {
    let before = Case::new(TOML).scaled(3);
    let after = before.clone().next();
    let old = fleet(&before.wanted());
    let settles = |strategy, machines: &[Machine], untested: &str| {
        let plan = planned_with(strategy, &after, machines, true, &[untested]);
        assert_eq!(plan.next, Move::Settle, "{strategy}");
        assert_eq!(plan.settling.len(), 1, "{strategy}");
        let tested = planned(strategy, &after, machines, true).next;
        assert!(tested.changes(), "{strategy}: {tested:?}");
    };
    let mut machines = old.clone();
    machines[0].config = Some(after.wanted()[0].config.clone());
    settles(Strategy::Rolling, &machines, "m0");

    for strategy in [Strategy::Canary, Strategy::BlueGreen] {
        let mut machines = old.clone();
        created(planned(strategy, &after, &old, true).next, &mut machines);
        let last = machines.last().unwrap().id.clone();
        settles(strategy, &machines, &last);
    }
}

#[test]
fn bluegreen_mends_what_was_changed_by_hand_in_place() {
    let case = Case::new(SIZED).scaled(2);
    let mut machines = fleet(&case.wanted());
    let config = machines[1].config.as_mut().unwrap();
    config.guest.as_mut().unwrap().memory_mb = Some(4096);
    let next = planned(Strategy::BlueGreen, &case, &machines, true).next;
    assert_eq!(updated(&next), ["m1"]);
}

#[test]
fn bluegreen_gives_a_standby_its_new_machine() {
    let before = Case::new("app = 'a'\n[processes]\nworker = 'run'\n");
    let after = before.clone().next();
    let mut machines = fleet(&before.wanted());
    machines[1].state = MachineState::Stopped;
    machines[1].config.as_mut().unwrap().standbys = vec!["m0".to_owned()];
    let next = |machines: &[Machine]| planned(Strategy::BlueGreen, &after, machines, true).next;
    let first = created(next(&machines), &mut machines);
    let standby = created(next(&machines), &mut machines);
    assert_eq!((first.len(), standby.len()), (1, 1));
    assert_eq!(standby[0].config.standbys, [machines[2].id.clone()]);
    assert!(matches!(next(&machines), Move::Uncordon(of) if of.len() == 2));
    for machine in &mut machines[2..] {
        machine.cordoned = Some(false);
    }
    // Without services there is no traffic to move: it is stopped at once.
    assert!(matches!(next(&machines), Move::Stop(of) if of.len() == 1 && of[0].id == "m0"));
}

#[test]
fn a_canary_goes_first_and_away_while_the_others_are_rolled() {
    let strategy = Strategy::Canary;
    let before = Case::new(TOML).scaled(3);
    let after = before.clone().next();
    let mut machines = fleet(&before.wanted());
    let next = |machines: &[Machine]| planned(strategy, &after, machines, true);
    assert_eq!(
        planned(strategy, &before, &[], true).next,
        Move::Create(before.wanted())
    );

    let canary = created(next(&machines).next, &mut machines);
    assert_eq!(canary.len(), 1);
    assert!(!canary[0].cordoned, "it takes requests");
    machines[3].state = MachineState::Starting;
    for careful in [true, false] {
        let plan = planned(strategy, &after, &machines, careful);
        assert_eq!(
            (plan.next, plan.settling),
            (Move::Settle, vec!["canary/app".to_owned()])
        );
    }
    machines[3].state = MachineState::Started;
    assert_eq!(updated(&next(&machines).next), ["m0"]);
    let wanted = after.wanted();
    machines[0] = running(&wanted[0], "m0");
    assert!(matches!(next(&machines).next, Move::Cordon(of) if of[0].id == machines[3].id));
    cordon(&mut machines[3], 1);
    assert_eq!(
        updated(&next(&machines).next),
        ["m1", "m2"],
        "its drain delays nothing"
    );
    // Gone meanwhile, it is not made again: a machine has proven the release.
    let without = machines[..3].to_vec();
    assert_eq!(updated(&next(&without).next), ["m1", "m2"]);
    machines[1] = running(&wanted[1], "m1");
    machines[2] = running(&wanted[2], "m2");
    assert_eq!(next(&machines).next, Move::Pause(Duration::from_secs(9)));
    cordon(&mut machines[3], 20);
    assert!(matches!(next(&machines).next, Move::Stop(of) if of.len() == 1));
    machines.pop();
    assert_eq!(next(&machines).next, Move::Nothing);
}

#[test]
fn a_canary_of_another_release_goes_before_the_next_one_comes() {
    let before = Case::new(TOML).scaled(2);
    let mut machines = fleet(&before.wanted());
    let second = before.clone().next();
    created(
        planned(Strategy::Canary, &second, &machines, true).next,
        &mut machines,
    );
    let third = Case {
        image: "r/a@sha256:3",
        ..before.clone()
    };
    let next = planned(Strategy::Canary, &third, &machines, true).next;
    assert!(matches!(next, Move::Cordon(of) if of.len() == 1 && of[0].id == machines[2].id));
    // Going back rolls without a canary, and takes the failed one away.
    machines[2].state = MachineState::Failed;
    let next = planned(Strategy::Rolling, &before, &machines, true).next;
    assert!(matches!(next, Move::Destroy(of) if of.len() == 1));
}

#[test]
fn immediate_updates_all_at_once_and_waits_for_none() {
    let before = Case::new(TOML).scaled(3);
    let after = before.clone().next();
    let mut machines = fleet(&before.wanted());
    machines[1].state = MachineState::Failed;
    let next = planned(Strategy::Immediate, &after, &machines, true);
    assert_eq!(updated(&next.next), ["m0", "m1", "m2"]);
    assert!(next.settling.is_empty());
}

#[test]
fn each_process_group_is_rolled_on_its_own() {
    let toml = "app = 'a'\n[processes]\napp = 'serve'\nworker = 'run'\n[http_service]\ninternal_port = 8080\nprocesses = ['app']\n";
    let before = Case::new(toml).scaled(2);
    let mut machines = fleet(&before.wanted());
    machines[3].state = MachineState::Stopped;
    machines[3].config.as_mut().unwrap().standbys = vec!["m2".to_owned()];
    let after = before.next();
    let next = planned(Strategy::Rolling, &after, &machines, true).next;
    assert_eq!(updated(&next), ["m0", "m2"]);
    machines[2] = running(&after.wanted()[2], "m2");
    machines[2].state = MachineState::Starting;
    // The worker holds only its own group back.
    let next = planned(Strategy::Rolling, &after, &machines, true);
    assert_eq!(updated(&next.next), ["m0"]);
    assert_eq!(next.settling, ["worker-0"]);
}

#[test]
fn machines_of_other_regions_have_places_of_their_own() {
    let mut case = Case::new(TOML).scaled(1);
    let one = case.wanted();
    case.scale.clear();
    let counts = [("eze".to_owned(), 1), ("gru".to_owned(), 2)];
    case.regions = [("app".to_owned(), counts.into())].into();
    let wanted = case.wanted();
    assert_eq!(wanted[0], one[0], "the primary region's stay as they are");
    let regions: Vec<_> = wanted
        .iter()
        .map(|w| (w.slot.as_str(), w.region.as_str()))
        .collect();
    assert_eq!(
        regions,
        [("app-0", "eze"), ("app-0@gru", "gru"), ("app-1@gru", "gru")]
    );
    let Move::Create(new) = plan_of(&wanted, &fleet(&one), 1) else {
        panic!()
    };
    assert_eq!(new[0].name, "golive-app-0-gru");
    assert_eq!(new.len(), 2);
}

#[test]
fn a_machine_whose_volume_changes_gets_a_successor() {
    let mount = "[[mounts]]\nsource = 'data'\ndestination = '/data'\n";
    let with = |name: &str| -> &'static str {
        Box::leak(format!("{TOML}{}", mount.replace("data'", &format!("{name}'"))).into_boxed_str())
    };
    let before = Case::new(with("data")).scaled(1);
    let machines = fleet(&before.wanted());
    // A size is no other volume.
    assert_eq!(
        planned(Strategy::Rolling, &before, &machines, true).next,
        Move::Nothing
    );
    for toml in [with("other"), TOML] {
        let after = Case::new(toml).scaled(1);
        let next = planned(Strategy::Rolling, &after, &machines, true).next;
        let new = created(next, &mut Vec::new());
        assert!(new[0].cordoned);
        assert_ne!(new[0].name, machines[0].name);
    }
    let bare = Case::new(TOML).scaled(1).wanted();
    let next = planned(Strategy::Rolling, &before, &fleet(&bare), true).next;
    assert!(matches!(next, Move::Create(new) if new[0].volume.is_some() && new[0].cordoned));
}
