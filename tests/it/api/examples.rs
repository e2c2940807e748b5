//! Every example is taken by a real API server as it stands.

use std::path::PathBuf;

use kube_env::ControlPlane;
use kube_env::cluster::parse_yaml;
use serde_json::json;

#[tokio::test]
async fn every_example_is_taken_by_the_api_server() {
    let cluster = ControlPlane::shared().await.unwrap().cluster();
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    cluster.apply_paths([root.join("crds")]).await.unwrap();
    let mut activations = 0;
    for entry in std::fs::read_dir(root.join("examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        // Into a namespace of its own, so that examples may name the same things.
        let namespace = cluster.create_namespace("example").await.unwrap();
        let mut objects = parse_yaml(&std::fs::read_to_string(&path).unwrap()).unwrap();
        objects.retain(|object| object["kind"] != "Namespace");
        for object in &mut objects {
            object["metadata"]["namespace"] = json!(namespace);
            activations += usize::from(object["kind"] == "Activation");
        }
        let wanted = objects.clone();
        let applied = cluster.apply_objects(objects).await;
        let applied = applied.unwrap_or_else(|error| panic!("{}: {error:?}", path.display()));
        assert_eq!(applied.len(), wanted.len());
        // No field was dropped on the way: what was written is what is there.
        for object in wanted
            .iter()
            .filter(|object| object["kind"] == "Activation")
        {
            let name = object["metadata"]["name"].as_str().unwrap();
            let stored = applied
                .iter()
                .find(|stored| stored.metadata.name.as_deref() == Some(name));
            let stored = &stored.unwrap().data["spec"];
            for (field, _) in object["spec"].as_object().unwrap() {
                assert!(
                    stored.get(field).is_some(),
                    "{}: {field} was dropped",
                    path.display()
                );
            }
        }
    }
    assert!(activations >= 2, "the examples have moved");
}
