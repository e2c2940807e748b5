//! Machine checks: each updated machine is tested once, from a temporary machine, and a rollout
//! continues only when the test passes.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use fly_sim::{Fault, Images, Kind, Options};
use serde_json::json;

use crate::support::deploy::{
    APP, CREATE, UPDATE, alive, another_process_changes_nothing, change, deploy, image, machines,
    until, until_deployed,
};
use crate::support::env::Env;
use crate::support::service::{Load, cordoned, hello, toml};

/// A world whose releases `1` and `2` pass the check, and whose release `3` does not.
struct World {
    env: Env,
    dir: tempfile::TempDir,
}

impl World {
    /// Release 1 is deployed and recorded; calls are counted from here.
    async fn new(strategy: &str, scale: usize, more: serde_json::Value) -> Self {
        let world = Self::empty().await;
        let mut spec = json!({"scale": {"app": scale}});
        crate::support::env::merge(&mut spec, more);
        deploy(&world.env, "1", &world.toml(strategy), spec).await;
        until_deployed(&world.env, "1").await;
        assert_eq!(world.runs(), 0, "a first deployment is not tested");
        world.env.sim.reset();
        world
    }

    async fn empty() -> Self {
        let images: Vec<_> = (1..=3).map(|tag| hello(&tag.to_string())).collect();
        let options = Options {
            images: Images::new(images),
            ..Options::default()
        };
        let mut env = Env::without_operator(options).await;
        env.start_operator(&[]).await;
        let dir = tempfile::tempdir().unwrap();
        Self { env, dir }
    }

    /// The check sends a request to the tested machine, at its private address and port.
    fn toml(&self, strategy: &str) -> String {
        let dir = self.dir.path().display();
        let script = format!(
            r#"test "$FLY_TEST_COMMAND" = 1 || exit 9
            echo "$FLY_TEST_MACHINE_IP" >> {dir}/runs
            exec 3<>/dev/tcp/$FLY_TEST_MACHINE_IP/8080 || exit 8
            printf 'GET /api/v1/healthz HTTP/1.0\r\n\r\n' >&3
            answer=$(cat <&3)
            while [ -e {dir}/hold ]; do read -t 0.05 <> <(:); done
            case $answer in
                *'"version":"3"'*) echo 'no cabins on offer'; exit 4 ;;
                *'"version"'*) exit 0 ;;
            esac
            exit 7"#
        );
        format!(
            "{}[[http_service.machine_checks]]\ncommand = ['/bin/bash', '-c', '''{script}''']\n",
            toml(strategy)
        )
    }

    /// How many tests have run, and on how many machines.
    fn tested(&self) -> (usize, usize) {
        let runs = std::fs::read_to_string(self.dir.path().join("runs")).unwrap_or_default();
        let mut lines: Vec<&str> = runs.lines().collect();
        let count = lines.len();
        lines.sort_unstable();
        lines.dedup();
        (count, lines.len())
    }

    fn runs(&self) -> usize {
        self.tested().0
    }

    /// Lets held tests end.
    fn release(&self) {
        std::fs::remove_file(self.dir.path().join("hold")).unwrap();
    }

    fn hold(&self) {
        std::fs::write(self.dir.path().join("hold"), "").unwrap();
    }

    /// Live machines that test others.
    fn testers(&self) -> usize {
        let group = "fly_app_test_machine_command";
        let tests = |m: &&serde_json::Value| m["config"]["metadata"]["fly_process_group"] == group;
        alive(&self.env).iter().filter(tests).count()
    }

    /// Waits until the failure is reported and no tester is left.
    async fn fails(&self, name: &str, reason: &str, machine: &str) {
        let (_, message) = until(&self.env, name, reason).await;
        for told in [machine, "/bin/bash -c", "code 4", "no cabins on offer"] {
            assert!(message.contains(told), "{told}: {message}");
        }
        self.env
            .wait("hola", "no tester", |_| self.testers() == 0)
            .await;
    }

    /// Every machine of the application runs release 1.
    fn all_as_before(&self, count: usize) -> bool {
        let machines = machines(&self.env);
        let first = &machines[0].1;
        machines.len() == count && machines.iter().all(|m| m.1 == *first && m.2 == "started")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_passes_lets_the_rollout_go_on_and_leaves_nothing_behind() {
    let mut world = World::new("rolling", 2, json!({})).await;
    change(&world.env, json!({"image": image("2")})).await;
    until_deployed(&world.env, "2").await;
    assert_eq!(world.tested(), (2, 2), "once for each machine");
    assert_eq!(
        (world.env.sim.calls(UPDATE), world.env.sim.calls(CREATE)),
        (2, 2)
    );
    assert_eq!(world.testers(), 0);
    assert_eq!(machines(&world.env).len(), 2);
    let intents = |status: &golive::api::ActivationStatus| status.intents.is_empty();
    world.env.wait("hola", "no intent", intents).await;

    another_process_changes_nothing(&mut world.env).await;
    // Scaling up is no deployment.
    change(&world.env, json!({"scale": {"app": 3}})).await;
    world
        .env
        .wait("hola", "a third", |_| machines(&world.env).len() == 3)
        .await;
    assert_eq!(world.runs(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_fails_stops_rolling_at_its_machine_and_what_served_is_restored() {
    let world = World::new("rolling", 2, json!({})).await;
    let load = Load::start(&world.env);
    change(&world.env, json!({"image": image("3")})).await;
    world.fails("Release", "RolledBack", "golive-app-").await;
    world
        .env
        .wait("hola", "release 1 again", |_| world.all_as_before(2))
        .await;
    assert_eq!(
        world.env.sim.calls(UPDATE),
        2,
        "one was updated, and put back"
    );
    assert_eq!(world.runs(), 1);
    let (_, failed) = load.end().await;
    assert_eq!(failed, 0, "what serves goes on serving");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_fails_leaves_everything_as_it_is_when_that_is_asked_for() {
    let world = World::new("rolling", 2, json!({"onFailure": "Pause"})).await;
    change(&world.env, json!({"image": image("3")})).await;
    world
        .fails("Machines", "MachineCheckFailed", "golive-app-")
        .await;
    assert_eq!(world.env.sim.calls(UPDATE), 1);
    change(&world.env, json!({"image": image("2")})).await;
    until_deployed(&world.env, "2").await;
    assert_eq!(world.testers(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_fails_its_check_goes_and_no_other_machine_is_touched() {
    let world = World::new("canary", 2, json!({})).await;
    change(&world.env, json!({"image": image("3")})).await;
    world
        .fails("Release", "RolledBack", "golive-canary-app-")
        .await;
    world
        .env
        .wait("hola", "the canary is gone", |_| world.all_as_before(2))
        .await;
    assert_eq!((world.env.sim.calls(UPDATE), world.runs()), (0, 1));
    change(&world.env, json!({"image": image("2")})).await;
    until_deployed(&world.env, "2").await;
    assert_eq!(
        world.tested(),
        (4, 4),
        "the canary, and each machine after it"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_traffic_never_moves_to_a_green_machine_that_fails_its_check() {
    let world = World::new("bluegreen", 2, json!({})).await;
    let load = Load::start(&world.env);
    change(&world.env, json!({"image": image("3")})).await;
    world.fails("Release", "RolledBack", "golive-app-").await;
    world
        .env
        .wait("hola", "green is gone", |_| world.all_as_before(2))
        .await;
    let uncordon = "POST /v1/apps/{app}/machines/{id}/uncordon";
    assert_eq!(world.env.sim.calls(uncordon), 0);
    change(&world.env, json!({"image": image("2")})).await;
    until_deployed(&world.env, "2").await;
    assert!(cordoned(&world.env).is_empty());
    assert_eq!(world.testers(), 0);
    let (_, failed) = load.end().await;
    assert_eq!(failed, 0, "blue serves until green has passed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_whose_create_lost_its_reply_runs_once() {
    for kind in [Kind::ResetAfter, Kind::ResetBefore] {
        let world = World::new("rolling", 1, json!({})).await;
        world.env.sim.fault(Fault::new(CREATE, kind).nth(1));
        change(&world.env, json!({"image": image("2")})).await;
        until_deployed(&world.env, "2").await;
        assert_eq!(world.tested(), (1, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_goes_on_without_the_operator_and_is_not_run_again_by_the_next() {
    let mut world = World::new("rolling", 2, json!({})).await;
    world.hold();
    change(&world.env, json!({"image": image("2")})).await;
    for tested in 1..=2 {
        world
            .env
            .wait("hola", "a test that runs", |_| world.runs() == tested)
            .await;
        world.env.kill_operator();
        // One test ends while no operator runs, the other while the next one does.
        if tested == 1 {
            world.release();
            world
                .env
                .wait("hola", "it ends", |_| world.testers() == 0)
                .await;
            world.hold();
            world.env.start_operator(&[]).await;
        } else {
            world.env.start_operator(&[]).await;
            world.release();
        }
    }
    until_deployed(&world.env, "2").await;
    assert_eq!(world.tested(), (2, 2));
    assert_eq!((world.env.sim.calls(UPDATE), world.testers()), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_that_hangs_is_ended_in_time_and_counts_as_failed() {
    let world = World::empty().await;
    let toml = world
        .toml("rolling")
        .replace("[deploy]\n", "[deploy]\nwait_timeout = '3s'\n");
    let spec = json!({"scale": {"app": 1}});
    deploy(&world.env, "1", &toml, spec).await;
    until_deployed(&world.env, "1").await;
    world.hold();
    change(&world.env, json!({"image": image("2")})).await;
    let (_, message) = until(&world.env, "Release", "RolledBack").await;
    assert!(message.contains("took longer than 3 s"), "{message}");
    assert_eq!((world.runs(), world.testers()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_that_somebody_ends_proves_nothing_and_is_run_again() {
    let world = World::new("rolling", 1, json!({})).await;
    world.hold();
    change(&world.env, json!({"image": image("2")})).await;
    world
        .env
        .wait("hola", "a test that runs", |_| world.runs() == 1)
        .await;
    let tester = world.env.sim.machines(APP).into_iter().find(|machine| {
        machine["name"]
            .as_str()
            .unwrap()
            .starts_with("golive-check-")
    });
    let target = format!("machine:{}", tester.unwrap()["id"].as_str().unwrap());
    assert!(fly_sim::deletion::delete(world.env.sim.core(), APP, &target).await);
    world.release();
    until_deployed(&world.env, "2").await;
    assert_eq!(world.runs(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_test_outlives_the_deletion_of_its_activation_though_the_app_stays() {
    let world = World::new("rolling", 1, json!({})).await;
    world
        .env
        .patch(
            "hola",
            json!({"spec": {"deletionPolicy": {"app": "Retain"}}}),
        )
        .await;
    world.hold();
    change(&world.env, json!({"image": image("2")})).await;
    world
        .env
        .wait("hola", "a test that runs", |_| world.runs() == 1)
        .await;
    world.env.delete("hola").await;
    assert_eq!((world.testers(), machines(&world.env).len()), (0, 1));
}
