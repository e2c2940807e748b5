//! What is created, updated and retired, and beside what.

use super::*;

const GROUPS: &str = "app = 'a'\n[processes]\napp = 'serve'\nworker = 'run'\n[http_service]\ninternal_port = 8080\nprocesses = ['app']\n";
const MOUNTED: &str = "app = 'a'\n[http_service]\ninternal_port = 8080\n[[mounts]]\nsource = 'data'\ndestination = '/data'\n";

/// Two groups, both with services, so that neither has a standby.
const SERVICES: &str = "app = 'a'\n[processes]\napp = 'serve'\nweb = 'run'\n[[services]]\ninternal_port = 8080\nprotocol = 'tcp'\nprocesses = ['app', 'web']\n[[services.ports]]\nport = 443\nhandlers = ['tls', 'http']\n";

fn groups(toml: &'static str) -> Case {
    let mut case = Case::new(toml).scaled(2);
    case.scale.insert("web".to_owned(), 2);
    case
}

/// A fleet of this case as it is looked at.
fn look<T>(case: &Case, strategy: Strategy, machines: &[Machine], of: impl Fn(&Fleet) -> T) -> T {
    let wanted = case.wanted();
    of(&Fleet {
        wanted: &wanted,
        canaries: &[],
        machines,
        other_digests: &["sha256:0".to_owned()],
        written: &BTreeSet::new(),
        strategy,
        pools: &BTreeMap::new(),
        careful: true,
        untested: &BTreeSet::new(),
        watch: watch(),
        drain: Duration::from_secs(10),
    })
}

fn lacking(case: &Case, strategy: Strategy, machines: &[Machine]) -> Vec<String> {
    look(case, strategy, machines, |fleet| {
        let lacking = fleet.lacking().into_iter();
        lacking.map(|wanted| wanted.slot.clone()).collect()
    })
}

/// Each machine that was changed, with the fields.
fn drift(case: &Case, machines: &[Machine]) -> Vec<String> {
    look(case, Strategy::Rolling, machines, |fleet| {
        fleet.drift().iter().map(ToString::to_string).collect()
    })
}

/// The same machine with another volume.
fn with_volume(machine: &mut Machine, name: &str) {
    let config = machine.config.as_mut().unwrap();
    config.mounts[0].name = Some(name.to_owned());
    config
        .metadata
        .insert(CONFIG_KEY.to_owned(), "old".to_owned());
}

#[test]
fn a_machine_is_lacking_where_none_is_and_where_one_gets_a_successor() {
    let before = Case::new(TOML).scaled(2);
    let after = before.clone().next();
    let machines = fleet(&before.wanted());
    let (rolling, bluegreen) = (Strategy::Rolling, Strategy::BlueGreen);
    assert!(lacking(&before, bluegreen, &machines).is_empty());
    assert_eq!(lacking(&before, rolling, &machines[..1]), ["app-1"]);
    assert!(
        lacking(&after, rolling, &machines).is_empty(),
        "they are updated in place"
    );
    assert_eq!(lacking(&after, bluegreen, &machines), ["app-0", "app-1"]);
    assert_eq!(lacking(&after, rolling, &[]), ["app-0", "app-1"]);

    let mounted = Case::new(MOUNTED).scaled(2);
    let mut machines = fleet(&mounted.wanted());
    assert!(lacking(&mounted, rolling, &machines).is_empty());
    with_volume(&mut machines[1], "other");
    assert_eq!(lacking(&mounted, rolling, &machines), ["app-1"]);
}

#[test]
fn drift_is_what_was_changed_since_a_machine_was_given_what_it_should_be() {
    let case = Case::new(SIZED).scaled(2);
    let mut machines = fleet(&case.wanted());
    assert!(drift(&case, &machines).is_empty());
    // A machine of another release is no drift: the rollout has not come to it.
    assert!(drift(&case.clone().next(), &machines).is_empty());
    let config = machines[1].config.as_mut().unwrap();
    config.guest.as_mut().unwrap().memory_mb = Some(4096);
    let found = drift(&case, &machines);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("golive-app-1: "), "{found:?}");
    assert!(found[0].contains("4096"), "{found:?}");
    machines[0].image_ref.as_mut().unwrap().digest = Some("sha256:0".to_owned());
    let found = drift(&case, &machines);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("the image of its host"), "{found:?}");
    // Nothing is known of one whose host does not answer.
    machines[0].incomplete_config = machines[0].config.take();
    assert_eq!(drift(&case, &machines).len(), 1);
}

#[test]
fn a_machine_without_a_configuration_is_updated_only_if_its_host_answers() {
    let case = Case::new(TOML).scaled(1);
    let (before, after) = (case.wanted(), case.next().wanted());
    for (wanted, host, is_updated) in [
        (&before, HostStatus::Ok, false),
        (&before, HostStatus::Unreachable, false),
        (&after, HostStatus::Ok, true),
        (&after, HostStatus::Unknown, false),
        (&after, HostStatus::Unreachable, false),
    ] {
        let mut machines = fleet(&before);
        machines[0].incomplete_config = machines[0].config.take();
        machines[0].host_status = host.clone();
        let next = plan_of(wanted, &machines, 1);
        assert_eq!(
            matches!(next, Move::Update(_)),
            is_updated,
            "{host:?}: {next:?}"
        );
    }
}

#[test]
fn a_standby_names_the_first_machine_of_its_own_group() {
    let case = Case::new(GROUPS);
    let wanted = case.wanted();
    let standby = wanted.iter().position(|wanted| wanted.standby).unwrap();
    let primary = wanted.iter().position(|wanted| wanted.group == "worker");
    let primary = primary.unwrap();
    assert!(
        primary > 0 && !wanted[primary].standby,
        "another group comes first"
    );
    let mut machines = fleet(&wanted);
    machines[standby].state = MachineState::Stopped;
    let config = machines[standby].config.as_mut().unwrap();
    config.standbys = vec![format!("m{primary}")];
    assert_eq!(plan_of(&wanted, &machines, 1), Move::Nothing);
    for others in [vec!["m0".to_owned()], Vec::new()] {
        let config = machines[standby].config.as_mut().unwrap();
        config.standbys = others;
        let next = plan_of(&wanted, &machines, 1);
        let Move::Update(pairs) = &next else {
            panic!("{next:?}")
        };
        assert_eq!(pairs.len(), 1);
        assert_eq!(pairs[0].1.config.standbys, [format!("m{primary}")]);
    }
}

#[test]
fn only_a_set_that_takes_over_as_a_whole_is_created_cordoned() {
    let created =
        |strategy, case: &Case, machines: &[Machine]| match planned(strategy, case, machines, true)
            .next
        {
            Move::Create(new) => new
                .iter()
                .map(|new| (new.slot.clone(), new.cordoned))
                .collect(),
            other => panic!("{other:?}"),
        };
    let one = |slot: &str, cordoned| (slot.to_owned(), cordoned);
    let before = Case::new(TOML).scaled(1);
    let machines = fleet(&before.wanted());
    let more = before.clone().scaled(2);
    // One more of the same release takes requests at once.
    for strategy in [Strategy::BlueGreen, Strategy::Rolling] {
        let new: Vec<_> = created(strategy, &more, &machines);
        assert_eq!(new, [one("app-1", false)], "{strategy:?}");
    }
    let more = more.next();
    let new: Vec<_> = created(Strategy::BlueGreen, &more, &machines);
    assert_eq!(new, [one("app-1", true), one("app-0", true)]);
    let new: Vec<_> = created(Strategy::Rolling, &more, &machines);
    assert_eq!(new, [one("app-1", false)]);
    // A successor for another volume moves the traffic of its own place alone.
    let mounted = Case::new(MOUNTED).scaled(2);
    let mut machines = fleet(&mounted.wanted()[..1]);
    with_volume(&mut machines[0], "other");
    let new: Vec<_> = created(Strategy::Rolling, &mounted, &machines);
    assert_eq!(new, [one("app-1", false), one("app-0", true)]);
}

#[test]
fn each_group_has_its_own_canary_until_a_machine_of_it_runs_the_release_well() {
    let before = groups(SERVICES);
    let after = before.clone().next();
    let wanted = after.wanted();
    let at = |slot: &str| {
        wanted
            .iter()
            .position(|wanted| wanted.slot == slot)
            .unwrap()
    };
    let mut machines = fleet(&before.wanted());
    let next = |machines: &[Machine]| planned(Strategy::Canary, &after, machines, true);
    // A group that runs the release already needs none, and the other one does.
    machines[at("app-0")] = running(&wanted[at("app-0")], "a0");
    let new = created(next(&machines).next, &mut machines);
    let slots: Vec<&str> = new.iter().map(|new| new.slot.as_str()).collect();
    assert_eq!(slots, ["canary/web"]);
    // What proves one group proves nothing of the other.
    let canary = machines.len() - 1;
    let plan = next(&machines);
    assert_eq!(updated(&plan.next), ["m1", "m2"], "{plan:?}");
    machines[at("web-0")] = running(&wanted[at("web-0")], "w0");
    machines[at("web-0")].state = MachineState::Starting;
    let plan = next(&machines);
    assert_eq!(
        updated(&plan.next),
        ["m1"],
        "the canary serves while web-0 starts: {plan:?}"
    );
    machines[at("web-0")].state = MachineState::Started;
    let gone = next(&machines).next;
    assert!(
        matches!(&gone, Move::Cordon(of) if of[0].id == machines[canary].id),
        "{gone:?}"
    );
}

#[test]
fn a_group_that_has_no_machine_yet_needs_no_canary() {
    let after = groups(SERVICES).next();
    let before = groups(SERVICES);
    let machines: Vec<Machine> = before
        .wanted()
        .iter()
        .filter(|wanted| wanted.group == "app")
        .map(|wanted| running(wanted, &wanted.slot))
        .collect();
    let Move::Create(new) = planned(Strategy::Canary, &after, &machines, true).next else {
        panic!()
    };
    let slots: Vec<&str> = new.iter().map(|new| new.slot.as_str()).collect();
    assert_eq!(slots, ["canary/app"]);
}

#[test]
fn a_rollout_that_does_not_wait_updates_a_whole_pool_whatever_is_not_well() {
    let before = Case::new(TOML).scaled(4);
    let after = before.clone().next();
    let mut machines = fleet(&before.wanted());
    machines[0] = running(&after.wanted()[0], "m0");
    machines[0].state = MachineState::Starting;
    let plan = planned(Strategy::Rolling, &after, &machines, true);
    assert_eq!(
        (plan.next, plan.settling),
        (Move::Settle, vec!["app-0".to_owned()])
    );
    let plan = planned(Strategy::Rolling, &after, &machines, false);
    assert_eq!(updated(&plan.next), ["m1", "m2"]);
    assert!(plan.settling.is_empty());
    let plan = planned(Strategy::Immediate, &after, &machines, true);
    assert_eq!(updated(&plan.next), ["m1", "m2", "m3"]);
}

#[test]
fn what_is_surplus_waits_for_the_proxies_only_while_it_takes_requests_itself() {
    let two = Case::new(TOML).scaled(2);
    let one = Case::new(TOML).scaled(1).wanted();
    let mut machines = fleet(&two.wanted());
    uncordon(&mut machines[0], 1);
    assert_eq!(
        plan_of(&one, &machines, 1),
        Move::Pause(Duration::from_secs(9))
    );
    uncordon(&mut machines[0], 10);
    assert!(matches!(plan_of(&one, &machines, 1), Move::Cordon(of) if of[0].id == "m1"));
    uncordon(&mut machines[0], 1);
    cordon(&mut machines[1], 20);
    assert!(matches!(plan_of(&one, &machines, 1), Move::Stop(of) if of[0].id == "m1"));
    // Without services there is no traffic.
    machines[1].cordoned = Some(false);
    machines[1].events.0.clear();
    machines[1].config.as_mut().unwrap().services.clear();
    assert!(matches!(plan_of(&one, &machines, 1), Move::Stop(of) if of[0].id == "m1"));
}

#[test]
fn what_serves_is_retired_only_when_the_others_are_well() {
    let two = Case::new(TOML).scaled(2);
    let one = Case::new(TOML).scaled(1);
    let next = |strategy, machines: &[Machine], careful| planned(strategy, &one, machines, careful);
    let mut machines = fleet(&two.wanted());
    machines[0].state = MachineState::Starting;
    for strategy in [Strategy::Rolling, Strategy::BlueGreen] {
        let plan = next(strategy, &machines, true);
        assert_eq!(
            (plan.next, plan.settling),
            (Move::Settle, vec!["app-0".to_owned()])
        );
    }
    assert!(matches!(
        next(Strategy::Rolling, &machines, false).next,
        Move::Cordon(_)
    ));
    assert!(matches!(
        next(Strategy::Immediate, &machines, true).next,
        Move::Cordon(_)
    ));
    cordon(&mut machines[1], 20);
    assert!(matches!(
        next(Strategy::Rolling, &machines, true).next,
        Move::Stop(_)
    ));
}

#[test]
fn a_machine_that_the_proxy_starts_is_well_while_it_is_stopped_and_no_other_is() {
    let health = |toml: &'static str, state: MachineState| {
        let wanted = &Case::new(toml).scaled(1).wanted()[0];
        let mut machine = running(wanted, "m0");
        machine.state = state;
        health_of(&machine, wanted, watch())
    };
    let on_demand = "app = 'a'\n[http_service]\ninternal_port = 8080\nauto_start_machines = true\n";
    let always = "app = 'a'\n[http_service]\ninternal_port = 8080\nauto_start_machines = false\n";
    for state in [MachineState::Stopped, MachineState::Suspended] {
        assert_eq!(health(on_demand, state.clone()), Health::Healthy);
        assert_eq!(health(always, state.clone()), Health::Down(state));
    }
    let failed = MachineState::Failed;
    assert_eq!(health(on_demand, failed.clone()), Health::Down(failed));
}
