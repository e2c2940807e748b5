//! Runs a real flyctl against the simulator, command by command, and writes down what it asked and
//! what it was answered: by hand, because flyctl is no part of this project. See
//! `docs/fly-simulator.md`.
//!
//! ```sh
//! cargo build -p fly-sim --bins
//! FLYCTL=/path/to/flyctl cargo run -p fly-sim --example conformance -- --write
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::print_stdout, reason = "its output is what it is for")]

#[path = "client.rs"]
mod client;
#[path = "commands.rs"]
mod commands;
#[path = "fixture.rs"]
mod fixture;
#[path = "shape.rs"]
mod shape;
#[path = "world.rs"]
mod world;

use std::path::{Path, PathBuf};

use client::{Flyctl, Outcome};
use fly_sim::Sim;

struct Run {
    flyctl: Flyctl,
    sim: Sim,
}

impl Run {
    /// Fills in what only the running world knows.
    fn filled(&self, word: &str) -> String {
        let machines = |app: &str| -> Vec<String> {
            let mut all: Vec<String> = self
                .sim
                .machines(app)
                .iter()
                .map(|machine| machine["id"].as_str().unwrap().to_owned())
                .collect();
            all.sort();
            all
        };
        let mut word = word.to_owned();
        for (name, app) in [
            ("{machine}", "demo"),
            ("{worker}", "jobs"),
            ("{volume-machine}", "disk"),
        ] {
            if word.contains(name) {
                let id = machines(app).first().cloned().unwrap_or_default();
                word = word.replace(name, &id);
            }
        }
        if word.contains("{volume}") {
            let id = self.sim.core().read(|world| {
                let mut volumes = world.apps.get("disk")?.volumes.values();
                let mounted = volumes.find(|volume| volume.attached_machine_id.is_some())?;
                Some(mounted.id.clone())
            });
            word = word.replace("{volume}", &id.unwrap_or_default());
        }
        if word.contains("{cluster}") {
            let id = self.sim.core().read(|world| {
                let mut clusters = world.platform.clusters.values();
                clusters.next().map(|cluster| cluster.id.clone())
            });
            word = word.replace("{cluster}", &id.unwrap_or_default());
        }
        word
    }

    async fn command(&self, words: &str) -> Outcome {
        let words = shell_words::split(words).unwrap();
        let words = words.iter().map(|word| self.filled(word)).collect();
        self.flyctl.run(&self.sim, words).await
    }
}

/// The simulator's program, beside which this one was built.
fn program() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let target = program.parent().unwrap().parent().unwrap();
    target.join("fly-sim")
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let write = arguments.iter().any(|word| word == "--write");
    let verbose = arguments.iter().any(|word| word == "--verbose");
    let sim = Sim::start(world::options(&program())).await.unwrap();
    let flyctl = Flyctl::new(&sim);
    for (name, text) in commands::FILES {
        std::fs::write(flyctl.dir.join(name), text).unwrap();
    }
    let run = Run { flyctl, sim };

    let mut recorded = Vec::new();
    let mut failed = 0;
    for line in commands::COMMANDS {
        let (words, refused) = match line.split_once(" => ") {
            Some((words, text)) => (words, Some(text)),
            None => (*line, None),
        };
        let mut outcome = run.command(words).await;
        if let Some(text) = refused {
            let said = outcome.output.to_lowercase();
            outcome.passed = !outcome.passed && said.contains(&text.to_lowercase());
        }
        // What is still under way belongs to this command.
        let exchanges = run.sim.take_exchanges();
        let word = if outcome.passed { "ok    " } else { "FAILED" };
        println!(
            "{word} {:6.1} s {:3} requests  fly {line}",
            outcome.took.as_secs_f64(),
            exchanges.len()
        );
        if !outcome.passed || verbose {
            println!("{}", indented(&outcome.output));
            for exchange in &exchanges {
                println!(
                    "      {} {} {}",
                    exchange.status, exchange.endpoint, exchange.query
                );
                if exchange.status >= 400 || exchange.answer.get("errors").is_some() || verbose {
                    println!(
                        "         {}\n         {}",
                        short(&exchange.body),
                        short(&exchange.answer)
                    );
                }
            }
        }
        for exchange in &exchanges {
            let unknown = exchange.endpoint.ends_with(&exchange.path)
                && exchange.status == 404
                && exchange.answer["error"] == "404 page not found";
            if unknown {
                println!("       no such route: {}", exchange.endpoint);
            }
        }
        failed += usize::from(!outcome.passed);
        recorded.push((*line, outcome.passed, exchanges));
    }
    println!(
        "{} of {} commands work",
        recorded.len() - failed,
        recorded.len()
    );
    if write {
        let text = fixture::render(&recorded);
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/recorded.json");
        std::fs::write(path, text).unwrap();
    }
    run.sim.stop().await;
}

fn indented(text: &str) -> String {
    let lines: Vec<String> = text
        .lines()
        .map(|line| format!("       | {line}"))
        .collect();
    lines.join("\n")
}

fn short(value: &serde_json::Value) -> String {
    value.to_string().chars().take(1500).collect()
}
