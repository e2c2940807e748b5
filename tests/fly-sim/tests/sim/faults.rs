//! Faults, hooks, rate limits and the ledger.

use std::time::Duration;

use fly_sim::{Fault, Kind, Options, Point, Sim};
use serde_json::{Value, json};

use crate::client::{Api, IMAGE, options};

const CREATE: &str = "POST /v1/apps/{app}/machines";
const LIST: &str = "GET /v1/apps/{app}/machines";

async fn world() -> (Sim, Api) {
    let sim = Sim::start(options()).await.unwrap();
    let api = Api::of(&sim);
    api.create_app("demo").await;
    (sim, api)
}

fn body(name: &str) -> Value {
    json!({"name": name, "config": {"image": IMAGE}})
}

#[tokio::test]
async fn a_create_can_be_applied_and_its_answer_lost_in_four_ways() {
    let (sim, api) = world().await;
    let path = "/v1/apps/demo/machines";
    for (at, kind) in [
        Kind::RequestTimeoutApplied,
        Kind::ResetAfter,
        Kind::CutBody,
        Kind::TimeoutApplied { hang_ms: 10 },
    ]
    .into_iter()
    .enumerate()
    {
        sim.fault(Fault::new(CREATE, kind.clone()));
        let answer = api
            .raw("POST", path, Some(&body(&format!("app-{at}"))))
            .await;
        match answer {
            Ok((status, _)) => assert_eq!(status, 408, "{kind:?}"),
            Err(_) => assert_ne!(kind, Kind::RequestTimeoutApplied),
        }
        assert_eq!(sim.machines("demo").len(), at + 1, "{kind:?}");
    }
    let before = sim.machines("demo").len();
    for kind in [Kind::ResetBefore, Kind::TimeoutNotApplied { hang_ms: 10 }] {
        sim.fault(Fault::new(CREATE, kind));
        assert!(api.raw("POST", path, Some(&body("lost"))).await.is_err());
    }
    for (kind, wanted) in [
        (Kind::status(503), 503),
        (Kind::Capacity, 422),
        (Kind::CouldNotReserve, 409),
        (Kind::MachineLimit, 422),
    ] {
        sim.fault(Fault::new(CREATE, kind));
        assert_eq!(api.post(path, body("lost")).await.0, wanted);
    }
    assert_eq!(sim.machines("demo").len(), before);
}

#[tokio::test]
async fn a_duplicated_delivery_answers_for_the_second() {
    let (sim, api) = world().await;
    sim.fault(Fault::new(CREATE, Kind::Duplicated));
    let (status, _) = api.post("/v1/apps/demo/machines", body("app-0")).await;
    assert_eq!(status, 409);
    sim.fault(Fault::new(CREATE, Kind::Duplicated));
    let nameless = json!({"config": {"image": IMAGE}});
    assert_eq!(api.post("/v1/apps/demo/machines", nameless).await.0, 200);
    assert_eq!(sim.machines("demo").len(), 3);
    let creates = sim
        .ledger()
        .into_iter()
        .filter(|e| e.kind == "machine.create");
    assert_eq!(creates.count(), 3);
}

#[tokio::test]
async fn lists_can_be_empty_or_stale_and_new_things_not_found_yet() {
    let (sim, api) = world().await;
    sim.fault(Fault::new(LIST, Kind::StaleList { mutations: 1 }));
    let (_, first) = api.post("/v1/apps/demo/machines", body("app-0")).await;
    let (_, _) = api.post("/v1/apps/demo/machines", body("app-1")).await;
    let length = async || {
        api.get("/v1/apps/demo/machines")
            .await
            .1
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(length().await, 1);
    assert_eq!(length().await, 2);
    sim.fault(Fault::new(LIST, Kind::EmptyList));
    assert_eq!(length().await, 0);
    let id = first["id"].as_str().unwrap();
    let hidden = Kind::NotFoundAfterCreate { for_ms: 60_000 };
    sim.fault(Fault::new("GET /v1/apps/{app}/machines/{id}", hidden).always());
    assert_eq!(
        api.get(&format!("/v1/apps/demo/machines/{id}")).await.0,
        404
    );
    sim.clear_faults();
    assert_eq!(
        api.get(&format!("/v1/apps/demo/machines/{id}")).await.0,
        200
    );
}

#[tokio::test]
async fn an_update_can_be_taken_back_silently() {
    let (sim, api) = world().await;
    let machine = api.create("demo", "app-0", json!({"image": IMAGE})).await;
    let id = machine["id"].as_str().unwrap();
    api.wait("demo", id, "started").await;
    sim.fault(Fault::new(
        "POST /v1/apps/{app}/machines/{id}",
        Kind::SilentRevert,
    ));
    let update = json!({"config": {"image": "registry.fly.io/demo:2"}});
    let (status, _) = api
        .post(&format!("/v1/apps/demo/machines/{id}"), update)
        .await;
    assert_eq!(status, 200);
    api.until("demo", id, "back", |now| {
        now["config"]["image"] == IMAGE
            && now["instance_id"] != machine["instance_id"]
            && now["state"] == "started"
    })
    .await;
}

#[tokio::test]
async fn answers_can_be_strange() {
    let (sim, api) = world().await;
    api.create("demo", "app-0", json!({"image": IMAGE})).await;
    sim.fault(Fault::new(LIST, Kind::UnknownEnum));
    let (_, list) = api.get("/v1/apps/demo/machines").await;
    assert_eq!(list[0]["state"], "unheard_of");
    sim.fault(Fault::new(
        LIST,
        Kind::Patch {
            pointer: "/0/config".to_owned(),
            value: Value::Null,
        },
    ));
    let (_, list) = api.get("/v1/apps/demo/machines").await;
    assert!(list[0]["config"].is_null());
    sim.fault(Fault::new(LIST, Kind::InvalidUtf8));
    let (_, bytes) = api
        .raw("GET", "/v1/apps/demo/machines", None)
        .await
        .unwrap();
    assert!(std::str::from_utf8(&bytes).is_err());
    sim.fault(Fault::new(LIST, Kind::HugeBody { bytes: 1_000_000 }));
    let (_, bytes) = api
        .raw("GET", "/v1/apps/demo/machines", None)
        .await
        .unwrap();
    assert!(bytes.len() > 900_000);
    sim.fault(Fault::new(LIST, Kind::EndlessBody));
    let read = api.raw("GET", "/v1/apps/demo/machines", None);
    assert!(
        tokio::time::timeout(Duration::from_millis(200), read)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn somebody_else_can_delete_things_and_fly_can_be_down() {
    let (sim, api) = world().await;
    let machine = api.create("demo", "app-0", json!({"image": IMAGE})).await;
    let id = machine["id"].as_str().unwrap();
    let deletion = Kind::ExternalDeletion {
        target: format!("machine:{id}"),
        app: None,
    };
    sim.fault(Fault::new(LIST, deletion));
    assert_eq!(api.get("/v1/apps/demo/machines").await.1, json!([]));
    sim.fault(Fault::new("*", Kind::Down { for_ms: 60_000 }));
    assert_eq!(api.get("/v1/apps/demo").await.0, 503);
    sim.clear_faults();
    sim.fault(Fault::new("*", Kind::RevokedToken));
    assert_eq!(api.get("/v1/apps/demo").await.0, 401);
    assert_eq!(api.get("/v1/apps/demo").await.0, 401);
}

#[tokio::test]
async fn a_call_can_be_held_before_and_after_its_effect() {
    let (sim, api) = world().await;
    sim.reset();
    let mut before = sim.pause_at(1, Point::BeforeApply);
    let mut after = sim.pause_at(1, Point::AfterApply);
    let base = api.with_token(&api.token);
    let call =
        tokio::spawn(async move { base.post("/v1/apps/demo/machines", body("app-0")).await });
    let held = before.reached().await.unwrap();
    assert_eq!(held.endpoint, CREATE);
    assert!(sim.machines("demo").is_empty());
    before.resume();
    after.reached().await.unwrap();
    assert_eq!(sim.machines("demo").len(), 1);
    after.resume();
    assert_eq!(call.await.unwrap().0, 200);
    let mut replied = sim.pause_at(2, Point::AfterReply);
    assert_eq!(
        api.post("/v1/apps/demo/machines", body("app-1")).await.0,
        200
    );
    assert_eq!(replied.reached().await.unwrap().number, 2);
}

#[tokio::test]
async fn the_ledger_has_every_effect_in_order_with_its_marks_and_call() {
    let (sim, api) = world().await;
    let config = json!({"image": IMAGE, "metadata": {"golive_slot": "app-0"}});
    api.create("demo", "app-0", config).await;
    api.get("/v1/apps/demo/machines").await;
    let effects = sim.ledger();
    let create = effects.iter().find(|e| e.kind == "machine.create").unwrap();
    assert_eq!(create.owner["golive_slot"], "app-0");
    assert_eq!(create.app.as_deref(), Some("demo"));
    let call = sim
        .call_list()
        .into_iter()
        .find(|c| Some(c.index) == create.call);
    assert_eq!(call.unwrap().endpoint, CREATE);
    assert!(
        effects
            .windows(2)
            .all(|pair| pair[0].seq + 1 == pair[1].seq)
    );
    assert_eq!(sim.calls(LIST), 1);
    assert_eq!(sim.calls(CREATE), 1);
    assert_eq!(sim.mutations(), 2);
}

#[tokio::test]
async fn the_journal_keeps_what_a_reset_forgets_and_has_the_starts_of_machines() {
    let (sim, api) = world().await;
    let machine = api.create("demo", "app-0", json!({"image": IMAGE})).await;
    let id = machine["id"].as_str().unwrap();
    api.wait("demo", id, "started").await;
    sim.reset();
    assert!(sim.ledger().is_empty());
    let journal = sim.journal();
    assert!(journal.is_sorted_by_key(|entry| entry.at));
    let started = journal
        .iter()
        .find(|entry| entry.effect.kind == "machine.started");
    let started = &started.unwrap().effect;
    assert_eq!(
        (started.id.as_str(), &started.detail["image"]),
        (id, &json!(IMAGE))
    );
}

#[tokio::test]
async fn over_the_documented_rate_the_answer_is_429() {
    let sim = Sim::start(Options {
        rate_limits: true,
        ..options()
    })
    .await
    .unwrap();
    let api = Api::of(&sim);
    api.create_app("demo").await;
    let mut answers = Vec::new();
    for _ in 0..5 {
        answers.push(api.get("/v1/apps/demo/machines").await.0);
    }
    assert_eq!(answers[..3], [200; 3]);
    assert!(answers.contains(&429), "{answers:?}");
}

#[tokio::test]
async fn the_control_port_takes_faults_and_shows_the_ledger() {
    let (sim, api) = world().await;
    let mut control = api.with_token("");
    control.base = sim.control_url();
    let fault =
        json!({"endpoint": "GET /v1/apps/{app}", "kind": {"type": "status", "status": 500}});
    assert_eq!(control.post("/faults", fault).await.0, 201);
    assert_eq!(
        control
            .post("/faults", json!({"endpoint": "*", "kind": "x"}))
            .await
            .0,
        400
    );
    assert_eq!(api.get("/v1/apps/demo").await.0, 500);
    assert_eq!(api.get("/v1/apps/demo").await.0, 200);
    let (_, ledger) = control.get("/ledger").await;
    assert_eq!(ledger["effects"][0]["kind"], "app.create");
    let (_, calls) = control.get("/calls").await;
    assert_eq!(calls["counts"]["GET /v1/apps/{app}"], 2);
    assert_eq!(
        control.post("/tokens/revoke", json!({})).await.1["changed"],
        2
    );
    assert_eq!(api.get("/v1/apps/demo").await.0, 401);
    let (_, state) = control.get("/state").await;
    assert_eq!(state["apps"][0]["name"], "demo");
}
