//! Twenty applications of other shapes than the example, each a small program in the world with the
//! `fly.toml` of `examples/shapes/`: the good ones go live without a word about smoke checks, and the
//! bad ones are told in words that their authors understand, and go live when they do what was said.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

mod bad;
mod good;

use std::collections::BTreeSet;
use std::path::PathBuf;

use fly_sim::{Image, Images, Options};
use serde_json::{Value, json};

use crate::support::env::{Env, merge, root};

/// An application: its folder in `examples/shapes/`, and its program.
struct App {
    name: &'static str,
    image: Image,
    /// What its spec has beside the image and the fly.toml.
    more: Value,
}

/// The folder of a shape.
fn folder(name: &str) -> PathBuf {
    root().join("examples/shapes").join(name)
}

/// Its fly.toml.
fn toml(name: &str) -> String {
    std::fs::read_to_string(folder(name).join("fly.toml")).unwrap()
}

/// The reference of its image.
fn reference(name: &str) -> String {
    format!("registry.fly.io/{name}:1")
}

fn program() -> String {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_golive")).with_file_name("fly-sim");
    program.display().to_string()
}

/// The simulator's small program with these arguments.
fn echo(name: &'static str, args: &[&str]) -> App {
    let args = ["echo"].iter().chain(args).copied();
    let image = Image::new(reference(name), program()).args(args);
    App {
        name,
        image,
        more: json!({}),
    }
}

/// A shell script; `$0` is the command of the process group, and `$ECHO` the small program.
fn script(name: &'static str, script: &str) -> App {
    let mut image = Image::new(reference(name), "/bin/sh").env("ECHO", program());
    image.entrypoint = ["-c", script].map(str::to_owned).to_vec();
    App {
        name,
        image,
        more: json!({}),
    }
}

impl App {
    fn with(self, more: Value) -> Self {
        Self { more, ..self }
    }
}

/// A world in which these applications, and these other images, can run.
async fn world(apps: &[&App], others: impl IntoIterator<Item = Image>) -> Env {
    let images = apps.iter().map(|app| app.image.clone()).chain(others);
    let options = Options {
        images: Images::new(images),
        ..Options::default()
    };
    let mut env = Env::without_operator(options).await;
    env.start_operator(&[]).await;
    env
}

/// Its Activation: organization, app, region, image and fly.toml, and what the shape needs. There is no
/// `smokeTest`.
async fn apply(env: &Env, app: &App, toml: &str) {
    let mut spec = json!({
        "app": app.name,
        "deploy": {"image": reference(app.name), "config": {"inline": toml}},
        "smokeTest": null,
    });
    merge(&mut spec, app.more.clone());
    env.activation(app.name, spec).await;
}

#[test]
fn every_shape_is_tried_and_is_in_the_list_of_shapes() {
    let folders = std::fs::read_dir(root().join("examples/shapes")).unwrap();
    let folders: BTreeSet<String> = folders
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    let tried = good::apps()
        .into_iter()
        .map(|(app, ..)| app.name.to_owned());
    let tried = tried.chain(
        bad::cases()
            .into_iter()
            .map(|case| case.app.name.to_owned()),
    );
    let tried: BTreeSet<String> = tried.collect();
    assert_eq!(folders, tried);
    let list = std::fs::read_to_string(root().join("examples/shapes/README.md")).unwrap();
    for name in folders {
        assert!(
            list.contains(&format!("[{name}]({name}/fly.toml)")),
            "{name}"
        );
    }
}
