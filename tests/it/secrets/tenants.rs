//! What one tenant puts into its Secrets affects its own objects alone: their size, and the words that
//! they consist of.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use golive::redact::REDACTED;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, api::PostParams};
use serde_json::json;

use crate::support::env::{Env, message};
use crate::support::trouble::{options, recovered, stopped};

/// A Secret whose values are no secrets of this world.
async fn words(env: &Env, name: &str, values: &[(String, String)]) {
    let secret = json!({
        "metadata": {"name": name},
        "stringData": values.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
    });
    let secret: Secret = serde_json::from_value(secret).unwrap();
    let api: Api<Secret> = Api::namespaced(env.kube.clone(), &env.namespace);
    api.create(&PostParams::default(), &secret).await.unwrap();
}

fn from(names: &[&str]) -> serde_json::Value {
    let list = names
        .iter()
        .map(|name| json!({"secretRef": {"name": name}}));
    json!({"provision": {"secrets": {"from": list.collect::<Vec<_>>()}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_names_more_than_fits_is_refused_until_it_names_less() {
    let mut env = Env::without_operator(options()).await;
    for name in ["large-0", "large-1", "large-2"] {
        let key = |n: usize| (format!("KEY_{n}"), format!("{name}-{n}-").repeat(9_000));
        words(&env, name, &(0..9).map(key).collect::<Vec<_>>()).await;
    }
    let small = ("GREETING".to_owned(), "hello-from-x7Kp2mQz".to_owned());
    words(&env, "small", &[small]).await;
    env.start_operator(&[]).await;
    env.activation("hola", from(&["small", "large-0", "large-1", "large-2"]))
        .await;

    let status = stopped(&env, "hola", "ReferencedDataTooLarge").await;

    let text = message(&status, "Ready");
    assert!(
        text.contains("more than 2 MiB, 2000 keys or 3072 values and lines of Secrets in all"),
        "{text}"
    );
    let next = status.next_action.clone().unwrap_or_default();
    assert!(next.contains("name fewer or smaller ones"), "{next}");
    assert!(env.sim.apps().is_empty());

    // Two of them fit, but for their keys: an environment variable has at most 128 kB.
    env.patch("hola", json!({"spec": from(&["small"])})).await;
    recovered(&env, "hola").await;
    let given = env
        .sim
        .core()
        .read(|world| world.apps["hola-cabanas"].platform.boot_secrets());
    assert!(
        given.iter().any(|(name, _)| name == "GREETING"),
        "{given:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn words_in_a_secret_of_one_tenant_stay_in_the_texts_of_the_others() {
    let mut env = Env::without_operator(options()).await;
    let values = [
        ("A", "object"),
        ("B", "create"),
        ("C", "started"),
        ("D", "production"),
        // Long enough to be hidden, and in every log of every object, once the Secret has been read.
        ("E", "a pass ended"),
        ("F", "the smallest release is deployed"),
    ];
    values.iter().for_each(|(_, value)| env.is_public(value));
    let values = values.map(|(key, value)| (key.to_owned(), value.to_owned()));
    words(&env, "words", &values).await;
    env.start_operator_process(&["--log", "debug"]);
    env.activation("wordy", from(&["words"])).await;
    env.activation(
        "hola",
        json!({"app": "another-cabanas", "preflight": {"skip": []}}),
    )
    .await;

    let wordy = env.wait_live("wordy").await;
    let other = env.wait_live("hola").await;

    let told = wordy.preflight.iter().find(|c| c.check == "SecretsStrong");
    let told = told.expect("the check").message.clone();
    assert!(
        told.contains("too short or too common to be removed from logs and messages")
            && told.contains("D of the Secret words")
            && !told.contains("E of the Secret words"),
        "{told}"
    );
    let other = serde_json::to_string(&other).unwrap();
    assert!(!other.contains(REDACTED), "{other}");
    let log = std::fs::read_to_string(env.log()).unwrap();
    let about = |name: &str| {
        let object = format!("{}/{name}", env.namespace);
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(&object)).collect();
        assert!(!lines.is_empty(), "no line about {object}");
        lines.join("\n")
    };
    let (wordy, other) = (about("wordy"), about("hola"));
    assert!(other.contains("a pass ended") && !other.contains(REDACTED));
    assert!(wordy.contains(REDACTED) && !wordy.contains("a pass ended"));
    assert!(
        wordy.contains("started") || wordy.contains("create"),
        "{wordy}"
    );
    let rest = log.lines().filter(|line| !line.contains("wordy"));
    let redacted: Vec<&str> = rest.filter(|line| line.contains(REDACTED)).collect();
    assert!(redacted.is_empty(), "{redacted:#?}");
}
