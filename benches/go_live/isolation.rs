//! What one namespace's trouble costs another one: the go-live and an update of an application
//! alone, and beside servers that hang, objects that are broken, and an object that is edited fifty
//! times a second. Alone and beside take turns, each with a Fly.io and an operator of its own.

use std::time::{Duration, Instant};

use golive::api::Activation;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::Result;
use crate::table::{self, median, seconds};
use crate::world::{ORGANIZATION, Operator, Run, World, scaled};

/// The longest that it may take beside others, by what it takes alone.
const MOST: f64 = 1.1;

/// Pause between two edits.
const EDIT: Duration = Duration::from_millis(20);

/// How long a neighbour may take to make its trouble.
const PREPARED: Duration = Duration::from_secs(600);

/// The trouble that a neighbour makes.
#[derive(Clone, Copy)]
enum Noise {
    /// Applications that accept a connection and never answer.
    Tarpits(usize),
    /// Objects whose image does not exist.
    Broken(usize),
    /// One object that is edited without a pause.
    Edits,
}

impl Noise {
    fn name(self) -> String {
        match self {
            Noise::Tarpits(count) => format!("{count} that hang"),
            Noise::Broken(count) => format!("{count} broken"),
            Noise::Edits => "50 edits a second".to_owned(),
        }
    }

    /// The neighbour's objects.
    fn objects(self) -> Vec<Value> {
        let slow = json!({"checks": [{
            "name": "homepage", "http": {"path": "/"}, "timeout": "30s",
        }]});
        match self {
            Noise::Tarpits(count) => (0..count)
                .map(|number| activation(&format!("tarpit-{number}"), "1.0.0", &slow))
                .collect(),
            Noise::Broken(count) => (0..count)
                .map(|number| activation(&format!("broken-{number}"), "none", &json!({})))
                .collect(),
            Noise::Edits => vec![activation("edited", "none", &json!({}))],
        }
    }
}

/// The smallest Activation.
fn activation(app: &str, tag: &str, smoke_test: &Value) -> Value {
    json!({
        "apiVersion": "golive.dev/v1alpha1", "kind": "Activation", "metadata": {"name": app},
        "spec": {
            "organization": ORGANIZATION, "app": app, "region": "eze",
            "deploy": {
                "image": format!("registry.fly.io/hola-cabanas:{tag}"), "scale": {"app": 1},
            },
            "smokeTest": smoke_test,
        },
    })
}

/// Measures and prints; gives the targets that were missed.
pub async fn measure(world: &World) -> Result<Vec<String>> {
    let rounds = crate::number("BENCH_ROUNDS", 5)?.min(3);
    let all = [
        Noise::Tarpits(crate::number("BENCH_TARPITS", 64)?),
        Noise::Broken(crate::number("BENCH_BROKEN", 300)?),
        Noise::Edits,
    ];
    let (mut rows, mut missed) = (Vec::new(), Vec::new());
    for noise in all {
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            alone.push(once(world, None).await?);
            beside.push(once(world, Some(noise)).await?);
        }
        for (what, at) in [("go-live", 0), ("update", 1)] {
            let of = |all: &[[Duration; 2]]| {
                let times: Vec<Duration> = all
                    .iter()
                    .filter_map(|both| both.get(at))
                    .copied()
                    .collect();
                median(&times)
            };
            let (alone, beside) = (of(&alone), of(&beside));
            let ratio = beside.as_secs_f64() / alone.as_secs_f64().max(f64::EPSILON);
            rows.push(vec![
                noise.name(),
                what.to_owned(),
                seconds(alone),
                seconds(beside),
                format!("{ratio:.2}"),
            ]);
            if ratio > MOST {
                missed.push(format!(
                    "{what} beside {}: {ratio:.2} x what it takes alone, not {MOST}",
                    noise.name()
                ));
            }
        }
    }
    table::print(
        &format!(
            "One namespace beside another (target: at most {MOST} x alone; median of {rounds})"
        ),
        &[
            "the neighbour",
            "of the other",
            "alone",
            "beside it",
            "ratio",
        ],
        &rows,
    );
    Ok(missed)
}

/// A go-live and an update, beside this noise.
async fn once(world: &World, noise: Option<Noise>) -> Result<[Duration; 2]> {
    let run = world.run(scaled(0.2, 1)).await?;
    let neighbour = run.neighbour().await?;
    let (tarpit, held) = tarpit().await?;
    let count = match noise {
        Some(Noise::Tarpits(count)) => count,
        _ => 0,
    };
    // The first rule that applies counts.
    let rules: Vec<String> = (0..count)
        .map(|number| format!("tarpit-{number}.fly.dev:443={tarpit}"))
        .chain([format!("*.fly.dev:443={}", run.sim.edge())])
        .collect();
    let flags = [
        ("namespace", neighbour.as_str()),
        ("resolve", &rules.join(",")),
        ("poll-interval", "400ms"),
        ("backoff-max", "10s"),
    ];
    let operator = run.operator(&flags).await?;
    // The first go-live of a process opens its connections.
    run.go_live(activation("warm", "1.0.0", &json!({}))).await?;
    let edits = match noise {
        Some(noise) => prepare(&run, &operator, &neighbour, noise).await?,
        None => None,
    };
    let live = run.go_live(activation("shop", "1.0.0", &json!({}))).await?;
    let mut changed = activation("shop", "1.0.0", &json!({}));
    changed["spec"]["deploy"]["config"] =
        json!({"inline": "[env]\nROUND = '2'\n[http_service]\ninternal_port = 8080\n"});
    let update = run.go_live(changed).await?;
    if let Some(edits) = edits {
        edits.abort();
    }
    held.abort();
    drop(operator);
    Ok([live, update])
}

/// Where connections are accepted and never answered.
async fn tarpit() -> Result<(std::net::SocketAddr, JoinHandle<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let held = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    Ok((address, held))
}

/// Makes the trouble, and waits until all of it is under way.
async fn prepare(
    run: &Run<'_>,
    operator: &Operator,
    neighbour: &str,
    noise: Noise,
) -> Result<Option<JoinHandle<()>>> {
    for object in noise.objects() {
        run.apply_in(neighbour, object).await?;
    }
    let api = run.activations_in(neighbour);
    let word = match noise {
        Noise::Tarpits(_) => "SmokeCheckRunning",
        Noise::Broken(_) | Noise::Edits => "ImageNotFound",
    };
    let began = Instant::now();
    loop {
        let all = api.list(&ListParams::default()).await?;
        let ready = all
            .items
            .iter()
            .filter(|object| json!(object.status).to_string().contains(word));
        let count = ready.count();
        if count == all.items.len() {
            break;
        }
        if began.elapsed() > PREPARED {
            let waits = operator.get("/metrics").await?;
            let waits = waits.lines().filter(|line| line.contains("longest_wait"));
            let waits: Vec<&str> = waits.collect();
            return Err(format!("{count} of {} are at {word}: {waits:?}", all.items.len()).into());
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    Ok(match noise {
        Noise::Edits => Some(tokio::spawn(edit(api))),
        _ => None,
    })
}

/// Edits an object until it is aborted.
async fn edit(api: Api<Activation>) {
    let mut pause = tokio::time::interval(EDIT);
    for number in 0_u64.. {
        pause.tick().await;
        let patch = json!({"spec": {"deploy": {"image": format!("registry.fly.io/hola-cabanas:none-{number}")}}});
        // One that is refused is one edit less.
        let _ = api
            .patch("edited", &PatchParams::default(), &Patch::Merge(patch))
            .await;
    }
}
