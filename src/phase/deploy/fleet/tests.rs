#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::json;

use super::*;

const TOML: &str = "app = 'a'\n[http_service]\ninternal_port = 8080\n";

fn owner() -> Owner {
    Owner {
        namespace: "n".to_owned(),
        name: "a".to_owned(),
        uid: "u".to_owned(),
        generation: 1,
    }
}

struct Case {
    toml: &'static str,
    scale: BTreeMap<String, u32>,
    image: &'static str,
}

impl Case {
    fn new(toml: &'static str) -> Self {
        Self {
            toml,
            scale: BTreeMap::new(),
            image: "r/a@sha256:1",
        }
    }

    fn scaled(mut self, count: u32) -> Self {
        self.scale.insert("app".to_owned(), count);
        self
    }

    fn wanted(&self) -> Vec<Wanted> {
        let config = flytoml::parse(self.toml).unwrap().config;
        wanted(&Asked {
            scale: &self.scale,
            owner: &owner(),
            config: &config,
            image: self.image,
            secrets: "s",
            release: "k",
            size: None,
        })
        .unwrap()
    }
}

/// A started machine that is as wanted, as Fly.io lists it.
fn running(wanted: &Wanted, id: &str) -> Machine {
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

fn fleet(wanted: &[Wanted]) -> Vec<Machine> {
    wanted
        .iter()
        .enumerate()
        .map(|(at, wanted)| running(wanted, &format!("m{at}")))
        .collect()
}

fn watch() -> Watch {
    Watch {
        span: Duration::from_secs(10),
        now: "2026-01-01T01:00:00Z".parse().unwrap(),
    }
}

fn plan_of(wanted: &[Wanted], machines: &[Machine], pool: usize) -> Move {
    plan(&Fleet {
        wanted,
        machines,
        other_digests: &["sha256:0".to_owned()],
        written: &BTreeSet::new(),
        pool,
        careful: true,
        watch: watch(),
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
    let after = Case {
        image: "r/a@sha256:2",
        ..Case::new(TOML).scaled(5)
    }
    .wanted();
    let mut machines = fleet(&before);
    assert_eq!(updated(&plan_of(&after, &machines, 2)), ["m0"]);
    machines[0] = running(&after[0], "m0");
    assert_eq!(updated(&plan_of(&after, &machines, 2)), ["m1", "m2"]);
    machines[1] = running(&after[1], "m1");
    machines[2] = running(&after[2], "m2");
    machines[1].state = MachineState::Starting;
    let settle = plan_of(&after, &machines, 2);
    assert_eq!(settle, Move::Settle(vec!["app-1".to_owned()]));
}

#[test]
fn a_machine_that_went_back_or_was_changed_by_hand_is_updated() {
    let wanted = Case::new(TOML).scaled(1).wanted();
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
        machines: &machines,
        other_digests: &[],
        written: &written,
        pool: 1,
        careful: true,
        watch: watch(),
    });
    assert_eq!(next, Move::Nothing);
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
    marks.insert(SLOT_KEY.to_owned(), release_slot(1, "0123456789"));
    machines.push(release);
    let less = Case::new(TOML).scaled(1).wanted();
    let Move::Destroy(gone) = plan_of(&less, &machines, 1) else {
        panic!()
    };
    assert_eq!(gone.len(), 1);
    assert_eq!(gone[0].id, "m1");
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
