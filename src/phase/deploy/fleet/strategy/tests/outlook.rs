//! What a plan says of the machines is what the rollout then does, move by move.

use super::{super::super::outlook, *};
use crate::{api::status::ChangeVerb, fly::MachineState};

/// Numbers that look random and are the same in every run: xorshift.
/// Source: G. Marsaglia, "Xorshift RNGs", Journal of Statistical Software 8 (14), 2003.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// What was done to which machines, by name.
#[derive(Debug, Default, PartialEq, Eq)]
struct Done {
    created: BTreeSet<String>,
    updated: BTreeSet<String>,
    destroyed: BTreeSet<String>,
}

/// Machines that exist: those of the case, some gone, stopped, changed by hand or cloned, and some that nobody
/// asked for.
fn world(case: &Case, numbers: &mut Numbers) -> Vec<Machine> {
    let mut machines = fleet(&case.clone().scaled(4).wanted());
    machines.retain(|_| numbers.below(4) > 0);
    for machine in &mut machines {
        match numbers.below(5) {
            0 => machine.state = MachineState::Stopped,
            1 => {
                let guest = MachineGuest {
                    memory_mb: Some(2048),
                    ..MachineGuest::default()
                };
                machine.config.as_mut().unwrap().guest = Some(guest);
            }
            _ => {}
        }
    }
    if numbers.below(3) == 0
        && let Some(first) = machines.first().cloned()
    {
        machines.push(Machine {
            id: "clone".to_owned(),
            name: "by-hand".to_owned(),
            ..first
        });
    }
    machines
}

/// Carries out a move, as Fly.io does when all goes well.
fn carry_out(next: Move, machines: &mut Vec<Machine>, done: &mut Done, number: usize) -> bool {
    let find = |machines: &[Machine], id: &str| {
        machines
            .iter()
            .position(|machine| machine.id == id)
            .unwrap()
    };
    match next {
        Move::Nothing => return false,
        Move::Create(wanted) => {
            for (at, wanted) in wanted.into_iter().enumerate() {
                done.created.insert(wanted.name.clone());
                let mut made = running(&wanted, &format!("new-{number}-{at}"));
                made.created_at = "2026-01-01T00:30:00Z".parse().ok();
                if wanted.cordoned {
                    cordon(&mut made, 100);
                }
                machines.push(made);
            }
        }
        Move::Update(pairs) => {
            for (machine, wanted) in pairs {
                done.updated.insert(machine.name.clone());
                let at = find(machines, &machine.id);
                machines[at].config = Some(wanted.sized_as(Some(&machine)).config);
                machines[at].instance_id = format!("v-{number}");
                machines[at].state = MachineState::Started;
            }
        }
        Move::Start(of) => {
            for machine in of {
                let at = find(machines, &machine.id);
                machines[at].state = MachineState::Started;
            }
        }
        Move::Uncordon(of) => {
            for machine in of {
                let at = find(machines, &machine.id);
                uncordon(&mut machines[at], 100);
            }
        }
        Move::Cordon(of) => {
            for machine in of {
                let at = find(machines, &machine.id);
                cordon(&mut machines[at], 100);
            }
        }
        Move::Stop(of) | Move::Await(of) => {
            for machine in of {
                let at = find(machines, &machine.id);
                machines[at].state = MachineState::Stopped;
            }
        }
        Move::Destroy(of) => {
            for machine in of {
                done.destroyed.insert(machine.name.clone());
                machines.retain(|kept| kept.id != machine.id);
            }
        }
        Move::Settle => {
            for machine in machines {
                machine.state = MachineState::Started;
            }
        }
        Move::Pause(_) => {
            for machine in machines {
                if machine.cordoned == Some(false) {
                    uncordon(machine, 1000);
                }
            }
        }
    }
    true
}

/// What the plan says, without what a canary is for.
fn told(fleet: &Fleet) -> Done {
    let mut told = Done::default();
    for change in outlook::changes(fleet) {
        let names = change.name.split(", ").map(str::to_owned);
        match change.verb {
            ChangeVerb::Create => told.created.extend(names),
            ChangeVerb::Update => told.updated.extend(names),
            ChangeVerb::Destroy => told.destroyed.extend(names),
            other => panic!("{other}"),
        }
    }
    told
}

#[test]
fn what_a_plan_says_of_the_machines_is_what_is_done_to_them() {
    let mut numbers = Numbers(0x9E37_79B9_7F4A_7C15);
    let strategies = [
        Strategy::Rolling,
        Strategy::Canary,
        Strategy::BlueGreen,
        Strategy::Immediate,
    ];
    let mut changed = 0;
    for round in 0..400 {
        let now = Case::new(SIZED);
        let mut machines = world(&now, &mut numbers);
        let count = u32::try_from(numbers.below(5)).unwrap();
        let case = if numbers.below(2) == 0 {
            now
        } else {
            now.next()
        };
        let case = case.scaled(count);
        let strategy = strategies[usize::try_from(numbers.below(4)).unwrap()];
        let wanted = case.wanted();
        let pools = wanted.iter().map(|w| (w.group.clone(), 2)).collect();
        let canaries = match strategy {
            Strategy::Canary => case.canaries(),
            _ => Vec::new(),
        };
        let before = machines.clone();
        let of = |machines: &[Machine]| {
            let fleet = Fleet {
                wanted: &wanted,
                canaries: &canaries,
                machines,
                other_digests: &["sha256:0".to_owned()],
                written: &BTreeSet::new(),
                strategy,
                pools: &pools,
                careful: true,
                untested: &BTreeSet::new(),
                watch: watch(),
                drain: Duration::from_secs(10),
            };
            (plan(&fleet), told(&fleet))
        };
        let (_, told) = of(&machines);
        let mut done = Done::default();
        for number in 0..100 {
            let (next, _) = of(&machines);
            if !carry_out(next.next, &mut machines, &mut done, number) {
                break;
            }
        }
        let (last, left) = of(&machines);
        assert_eq!(last.next, Move::Nothing, "{round}");
        assert_eq!(left, Done::default(), "nothing is left to do: {round}");
        // It is made for the rollout, and goes with it.
        let names: BTreeSet<String> = canaries.iter().map(|c| c.name.clone()).collect();
        done.destroyed.retain(|name| !names.contains(name));
        assert_eq!(told, done, "{round} {strategy:?} {count} of {before:#?}");
        changed += usize::from(done != Done::default());
    }
    assert!(changed > 300, "{changed}");
}
