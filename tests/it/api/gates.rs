//! Ways around a gate, tried by somebody who may edit Activations and not approve them.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use golive::api::Activation;

use super::rights::bind;
use crate::support::installed::{cluster, eventually};

fn shop(gates: Value) -> Activation {
    serde_json::from_value(json!({
        "apiVersion": "golive.dev/v1alpha1", "kind": "Activation", "metadata": {"name": "shop"},
        "spec": {
            "organization": "o", "app": "shop", "region": "eze", "deploy": {"image": "x:1"},
            "gates": gates,
        },
    }))
    .unwrap()
}

fn two_hours() -> Value {
    json!([{"before": "Deploy", "approvals": 2, "timeout": "2h", "onTimeout": "Reject"}])
}

/// A namespace with an editor, an approver who edits too, and the gate of [`two_hours`].
async fn gated(prefix: &str) -> (String, Api<Activation>) {
    let cluster = cluster().await;
    let admin = cluster.client().unwrap();
    let namespace = cluster.create_namespace(prefix).await.unwrap();
    bind(&admin, &namespace, "ed", "edit").await;
    bind(&admin, &namespace, "ed", "activation-edit").await;
    bind(&admin, &namespace, "ana", "edit").await;
    bind(&admin, &namespace, "ana", "activation-edit").await;
    bind(&admin, &namespace, "ana", "activation-approver").await;
    let api: Api<Activation> = Api::namespaced(admin, &namespace);
    api.create(&PostParams::default(), &shop(two_hours()))
        .await
        .unwrap();
    let ed = cluster.client_impersonating("ed", &[]).unwrap();
    let ed: Api<Activation> = Api::namespaced(ed, &namespace);
    eventually("the policy to take effect", async || {
        let dry = PatchParams {
            dry_run: true,
            ..PatchParams::default()
        };
        let none = Patch::Merge(json!({"spec": {"gates": null}}));
        let tried = ed.patch("shop", &dry, &none).await;
        tried
            .is_err_and(|error| error.to_string().contains("weaken"))
            .then_some(())
    })
    .await;
    (namespace, ed)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test writes a status as an attacker would"
)]
#[tokio::test]
async fn no_way_of_writing_weakens_a_gate() {
    let (namespace, ed) = gated("around").await;
    let params = PatchParams::default();
    let mut refusals = Vec::new();
    // Every verb, and every form of a patch.
    let applied = json!({
        "apiVersion": "golive.dev/v1alpha1", "kind": "Activation",
        "spec": {"gates": [{"before": "Deploy", "approvals": 1}]},
    });
    let force = PatchParams::apply("ed").force();
    refusals.push((
        "server-side apply",
        ed.patch("shop", &force, &Patch::Apply(applied)).await,
    ));
    for (what, patch) in [
        (
            "a gate taken out",
            json!([{"op": "remove", "path": "/spec/gates/0"}]),
        ),
        (
            "all gates taken out",
            json!([{"op": "remove", "path": "/spec/gates"}]),
        ),
        (
            "fewer approvals",
            json!([{"op": "replace", "path": "/spec/gates/0/approvals", "value": 1}]),
        ),
        (
            "the default of approvals",
            json!([{"op": "remove", "path": "/spec/gates/0/approvals"}]),
        ),
        (
            "the default of timeout",
            json!([{"op": "remove", "path": "/spec/gates/0/timeout"}]),
        ),
        (
            "another phase",
            json!([{"op": "replace", "path": "/spec/gates/0/before", "value": "SmokeTest"}]),
        ),
        (
            "a timeout in other units",
            json!([{"op": "replace", "path": "/spec/gates/0/timeout", "value": "7201s"}]),
        ),
        (
            "a gate that opens by itself",
            json!([{"op": "replace", "path": "/spec/gates/0", "value":
                {"before": "Deploy", "approvals": 10, "timeout": "720h", "onTimeout": "Continue"}}]),
        ),
    ] {
        let patch: Patch<Value> = Patch::Json(serde_json::from_value(patch).unwrap());
        refusals.push((what, ed.patch("shop", &params, &patch).await));
    }
    let mut replaced = ed.get("shop").await.unwrap();
    replaced.spec.gates.clear();
    let put = ed.replace("shop", &PostParams::default(), &replaced).await;
    refusals.push(("a replacement", put));
    for (what, answer) in refusals {
        match answer {
            Err(kube::Error::Api(status)) => assert!(
                status
                    .message
                    .contains("remove or weaken the gate before Deploy"),
                "{what}: {}",
                status.message
            ),
            other => panic!("{what}: {other:?}"),
        }
    }
    // Sub-resources change no gate, whoever writes them, and an editor writes none.
    let body = json!({"spec": {"gates": null}, "status": {"observedGeneration": 1}});
    assert!(
        ed.patch_status("shop", &params, &Patch::Merge(&body))
            .await
            .is_err()
    );
    let admin: Api<Activation> = Api::namespaced(cluster().await.client().unwrap(), &namespace);
    admin
        .patch_status("shop", &params, &Patch::Merge(&body))
        .await
        .unwrap();
    let kept = admin.get("shop").await.unwrap();
    assert_eq!(serde_json::to_value(&kept.spec.gates).unwrap(), two_hours());
    // In another order, in other units, and beside others, it is the same gate.
    let same = json!([
        {"before": "SmokeTest"},
        {"before": "Deploy", "approvals": 2, "timeout": "120m", "onTimeout": "Reject"},
    ]);
    let same = Patch::Merge(json!({"spec": {"gates": same}}));
    ed.patch("shop", &params, &same).await.unwrap();
}

#[tokio::test]
async fn where_a_namespace_requires_a_gate_deleting_and_creating_is_no_way_around_it() {
    let (namespace, ed) = gated("require").await;
    let admin = cluster().await.client().unwrap();
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(admin);
    let label = json!({"metadata": {"labels": {"golive.dev/require-gate": "Deploy"}}});
    let label = Patch::Merge(label);
    namespaces
        .patch(&namespace, &PatchParams::default(), &label)
        .await
        .unwrap();
    ed.delete("shop", &DeleteParams::default()).await.unwrap();
    let again = async |who: &str, gates: Value| {
        let client = cluster().await.client_impersonating(who, &[]).unwrap();
        let api: Api<Activation> = Api::namespaced(client, &namespace);
        let dry = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        match api.create(&dry, &shop(gates)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) => Err(status.message),
            Err(other) => panic!("{other}"),
        }
    };
    let by_itself = json!([{"before": "Deploy", "onTimeout": "Continue"}]);
    let refusal = eventually("the label to take effect", async || {
        again("ed", json!([])).await.err()
    })
    .await;
    assert!(
        refusal.contains("requires a gate before Deploy (label golive.dev/require-gate)"),
        "{refusal}"
    );
    for gates in [by_itself.clone(), json!([{"before": "SmokeTest"}])] {
        assert!(again("ed", gates.clone()).await.is_err(), "{gates}");
    }
    again("ed", json!([{"before": "Deploy"}])).await.unwrap();
    again("ana", json!([])).await.unwrap();

    // An object from before the label keeps what it has, and needs the gate for the next change.
    let ana = cluster().await.client_impersonating("ana", &[]).unwrap();
    let ana: Api<Activation> = Api::namespaced(ana, &namespace);
    ana.create(&PostParams::default(), &shop(by_itself))
        .await
        .unwrap();
    let change = |body: Value| {
        let ed = ed.clone();
        async move {
            ed.patch("shop", &PatchParams::default(), &Patch::Merge(body))
                .await
        }
    };
    change(json!({"metadata": {"annotations": {"note": "x"}}}))
        .await
        .unwrap();
    assert!(
        change(json!({"spec": {"deploy": {"image": "x:2"}}}))
            .await
            .is_err()
    );
    change(json!({"spec": {"deploy": {"image": "x:2"}, "gates": [{"before": "Deploy"}]}}))
        .await
        .unwrap();
}
