//! Objects of another organization that name somebody's app: they get nothing, and cost its owner
//! nothing.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use serde_json::json;

use crate::support::env::{Env, is};
use crate::support::trouble::{options, stopped};

/// Objects that name the app.
const STRANGERS: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn sixty_objects_that_name_somebody_elses_app_do_not_delay_its_owner() {
    let mut env = Env::without_operator(fly_sim::Options {
        rate_limits: true,
        ..options()
    })
    .await;
    let token = env.sim.token("acme").unwrap();
    env.secret("acme", &[("token", &token)]).await;
    // Workers enough for all, and pauses as they are in real life: this is about the limits of Fly.io
    // and not about a computer that is busy with sixty objects every second.
    env.start_operator(&["--max-concurrent-reconciles", "100", "--backoff-max", "60s"])
        .await;
    env.activation("hola", json!({})).await;
    env.wait_live("hola").await;
    let update = async |image: &str| {
        let image = format!("registry.fly.io/hola-cabanas:{image}");
        env.patch("hola", json!({"spec": {"deploy": {"image": image}}}))
            .await;
        env.wait("hola", &image, |status| {
            let release = status.release.as_ref();
            release.is_some_and(|release| release.image.contains(&image))
                && is(status, "Ready", "True")
        })
        .await;
    };
    update("again").await;

    for number in 0..STRANGERS {
        let name = format!("stranger-{number}");
        let spec = json!({"organization": "acme", "tokenSecretRef": {"name": "acme"}});
        env.activation(&name, spec).await;
    }
    let from = env.sim.call_list().len();
    // All of them are known: what they ask for from now on is what they cost.
    for number in 0..STRANGERS {
        stopped(&env, &format!("stranger-{number}"), "AppClaimed").await;
    }
    // How much longer it takes is measured by `make bench`.
    update("1.0.0").await;

    let calls = env.sim.call_list();
    let refused: Vec<_> = calls
        .iter()
        .filter(|call| call.status == Some(429))
        .collect();
    assert!(refused.is_empty(), "{refused:#?}");
    let asked = calls[from..].iter().filter(|call| {
        call.endpoint == "GET /v1/apps/{app}" && call.path == "/v1/apps/hola-cabanas"
    });
    let asked = asked.count();
    assert!(
        asked < STRANGERS,
        "asked {asked} times: who has not claimed an app does not ask"
    );
}
