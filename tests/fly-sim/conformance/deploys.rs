//! Lets a real flyctl deploy every `fly.toml` of a directory to the simulator, twice, and writes
//! the machine configurations that it sent: `NAME.flyctl.json` beside `NAME.toml`. By hand; see
//! `docs/fly-toml.md`.
//!
//! ```sh
//! cargo build -p fly-sim --bins
//! FLYCTL=/path/to/flyctl cargo run -p fly-sim --example deploys -- src/flytoml/testdata
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::print_stdout, reason = "its output is what it is for")]

#[path = "client.rs"]
mod client;
#[path = "sent.rs"]
mod sent;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use client::Flyctl;
use fly_sim::{Image, Images, Options, OrgSeed, Sim};
use serde_json::{Value, json};

fn options() -> Options {
    let mut image = Image::new("registry.fly.io/app", "");
    image.program = None;
    image.builtin = Some(fly_sim::platform::IDLE.to_owned());
    // Of the containers beside the application's.
    let beside = |name: &str| Image {
        name: name.to_owned(),
        ..image.clone()
    };
    let (one, other) = (beside("busybox:1"), beside("b"));
    Options {
        images: Images::new([image, one, other]),
        orgs: vec![OrgSeed::new("cabanas", "deploys-token")],
        record: true,
        agent: true,
        ..Options::default()
    }
}

#[tokio::main]
async fn main() {
    let directory = std::env::args()
        .nth(1)
        .expect("a directory with fly.toml files");
    let only = std::env::args().nth(2);
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    files.sort();
    let sim = Sim::start(options()).await.unwrap();
    let flyctl = Flyctl::new(&sim);
    for (number, file) in files.iter().enumerate() {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        // Golive is stricter than flyctl on purpose: what it refuses has no counterpart.
        if name.starts_with("bad-") || only.as_ref().is_some_and(|only| *only != name) {
            continue;
        }
        let app = format!("app-{number}");
        let file = std::path::absolute(file).unwrap();
        match deploys(&sim, &flyctl, &app, &file).await {
            Ok(sent) => {
                let text = serde_json::to_string_pretty(&sent).unwrap();
                std::fs::write(file.with_extension("flyctl.json"), text + "\n").unwrap();
                println!("ok     {name}");
            }
            Err(why) => println!("FAILED {name}\n{why}"),
        }
    }
    sim.stop().await;
}

async fn deploys(sim: &Sim, flyctl: &Flyctl, app: &str, file: &Path) -> Result<Value, String> {
    let create = words(&["apps", "create", app, "-o", "cabanas"]);
    let made = flyctl.run(sim, create).await;
    if !made.passed {
        return Err(made.output);
    }
    let mut names = BTreeMap::new();
    let mut both = Vec::new();
    let mut all = Vec::new();
    for tag in ["1", "2"] {
        sim.take_exchanges();
        // What `immediate` sends is what every strategy sends, without the waits for machines that
        // do nothing here.
        let image = format!("registry.fly.io/app:{tag}");
        let outcome = flyctl
            .run(
                sim,
                words(&[
                    "deploy",
                    "--app",
                    app,
                    "--config",
                    file.to_str().unwrap(),
                    "--image",
                    &image,
                    "--strategy",
                    "immediate",
                    "--remote-only",
                    "--dns-checks=false",
                    "--smoke-checks=false",
                ]),
            )
            .await;
        let exchanges = sim.take_exchanges();
        if !outcome.passed {
            let refused = exchanges
                .iter()
                .filter(|exchange| exchange.status >= 400 && exchange.endpoint == sent::CREATE)
                .find_map(|exchange| exchange.answer["error"].as_str());
            // What Fly.io does not take was sent all the same.
            return match refused {
                Some(why) if tag == "1" => Ok(json!({
                    "first": sent::machines(&exchanges, &mut names),
                    "refused": why,
                    "volumes": sent::volumes(&exchanges),
                    "addresses": sent::addresses(&exchanges),
                })),
                _ => Err(format!(
                    "deploy {tag}, after {:?}: {}",
                    outcome.took, outcome.output
                )),
            };
        }
        both.push(sent::machines(&exchanges, &mut names));
        all.extend(exchanges);
    }
    let update = both.pop();
    Ok(json!({
        "first": both.pop(),
        "update": update,
        "volumes": sent::volumes(&all),
        "addresses": sent::addresses(&all),
    }))
}

fn words(all: &[&str]) -> Vec<String> {
    all.iter().map(|word| (*word).to_owned()).collect()
}
