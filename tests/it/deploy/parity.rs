//! The operator compared with a real flyctl: for the same file both send the same requests, field by
//! field, except for the differences that docs/fly-toml.md explains.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

#[path = "../../../src/flytoml/tests/recorded.rs"]
mod recorded;
#[path = "../../fly-sim/conformance/sent.rs"]
mod sent;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use fly_sim::record::Exchange;
use fly_sim::{Image, Images, Options};
use futures::future::join_all;
use golive::fly::{Endpoints, Fly, HttpOptions, NewApp, Token};
use serde_json::{Value, json};

use crate::support::env::{Env, LIMIT, root};
use recorded::{Case, Comparison, Difference, ON_PURPOSE, Sent, cases, plain};

const REPOSITORY: &str = "registry.fly.io/app";

/// An image whose machines do nothing, and end at once when they run a command.
fn idle(tag: &str) -> Image {
    let mut image = Image::new(format!("{REPOSITORY}:{tag}"), "");
    image.program = None;
    image.builtin = Some(fly_sim::platform::IDLE.to_owned());
    image
}

/// The images of the containers beside the application's.
fn beside() -> impl Iterator<Item = Image> {
    ["busybox:1", "b"].into_iter().map(|name| Image {
        name: name.to_owned(),
        ..idle("1")
    })
}

/// The image as the operator names it: by its digest.
fn pinned(tag: &str) -> String {
    format!("{REPOSITORY}@{}", idle(tag).digest(tag))
}

fn read(case: &Case) -> toml_edit::DocumentMut {
    case.toml.parse().unwrap()
}

/// The file with the options that flyctl had: all machines at once, healthy or not.
fn immediate(case: &Case) -> String {
    let mut document = read(case);
    document["deploy"]["strategy"] = toml_edit::value("immediate");
    document.to_string()
}

/// Where the file says that its first machines are.
fn region(case: &Case) -> Option<String> {
    let document = read(case);
    let region = document.get("primary_region").and_then(|r| r.as_str());
    region.map(str::to_owned)
}

fn has_seed(case: &Case) -> bool {
    let document = read(case);
    let deploy = document
        .get("deploy")
        .and_then(|deploy| deploy.get("seed_command"));
    deploy.is_some()
}

fn app(case: &Case) -> String {
    format!("app-{}", case.name)
}

/// Why a difference is intended, if it is; each is a row of docs/fly-toml.md.
fn meant(case: &Case, difference: &Difference) -> Option<&'static str> {
    let Difference { at, flyctl, ours } = difference;
    let release = ["fly_release_id", "fly_release_version"];
    let is_release = |key: &&str| at.ends_with(&format!(".metadata.{key}"));
    let image =
        |tag| *flyctl == json!(format!("{REPOSITORY}:{tag}")) && *ours == json!(pinned(tag));
    if release.iter().any(is_release) && ours.is_null() {
        Some("`fly_release_id`, `fly_release_version`")
    } else if at.contains(".metadata.golive_") && flyctl.is_null() {
        Some("`golive_…`")
    } else if at.ends_with("image") && (image("1") || image("2")) {
        Some("the image")
    } else if at.ends_with("region") && flyctl.is_null() && region(case).is_none()
        || at.ends_with(".env.PRIMARY_REGION") && flyctl.is_null() && region(case).is_none()
    {
        Some("`region`, `PRIMARY_REGION`")
    } else if at.starts_with("first: fly_app_release_command") && has_seed(case) {
        let seeds = at.ends_with("count") && *flyctl == json!(1) && *ours == json!(2);
        let command = at.contains(".init.cmd");
        (seeds || command).then_some("the seed command's machine")
    } else {
        let on_purpose = |(name, field): &&(&str, &str)| *name == case.name && at.contains(field);
        let found = ON_PURPOSE.iter().find(on_purpose);
        found.map(|_| "`checks.ready.kind`")
    }
}

/// One world with all cases, and the requests that were sent in it.
struct World {
    env: Env,
    cases: Vec<Case>,
    /// Requests that were sent and not compared yet, by app.
    exchanges: BTreeMap<String, Vec<Exchange>>,
    /// Placeholders for ids, by app.
    names: BTreeMap<String, BTreeMap<String, String>>,
}

impl World {
    /// All cases are activated at once.
    async fn start() -> Self {
        let options = Options {
            images: Images::new([idle("1"), idle("2")].into_iter().chain(beside())),
            record: true,
            ..Options::default()
        };
        let mut env = Env::without_operator(options).await;
        // A token for each app alone and looks in between are not of interest here.
        let flags = ["--recheck-interval", "60s", "--app-tokens=false"];
        env.start_operator(&flags).await;
        let world = Self {
            env,
            cases: cases(),
            exchanges: BTreeMap::new(),
            names: BTreeMap::new(),
        };
        join_all(world.cases.iter().map(|case| world.activate(case))).await;
        world
    }

    /// The app is there already: one client creates one app a second, and so does the operator.
    async fn activate(&self, case: &Case) {
        let url = self.env.sim.base_url();
        let endpoints = Endpoints {
            machines: url.clone(),
            api: url.clone(),
            uiex: url.clone(),
            registry: url,
        };
        let token = Token::parse(&self.env.sim.token("cabanas").unwrap()).unwrap();
        let fly = Fly::new(endpoints, HttpOptions::default()).unwrap();
        let new = NewApp {
            name: app(case),
            org_slug: "cabanas".to_owned(),
            ..NewApp::default()
        };
        fly.client(token).create_app(&new).await.unwrap();
        // An Activation says which addresses it wants; flyctl takes them from the services.
        let addresses = !case.run.addresses.is_empty();
        let spec = json!({
            "app": app(case),
            "adoption": "Always",
            "region": region(case).unwrap_or_else(|| "eze".to_owned()),
            "provision": {"addresses": {"sharedV4": addresses, "v6": addresses}},
            // What comes after the machines is not of interest here.
            "gates": [{"before": "SmokeTest"}],
            "deploy": {
                "image": format!("{REPOSITORY}:1"),
                "config": {"inline": immediate(case)},
            },
        });
        self.env.activation(&case.name, spec).await;
    }

    fn listen(&mut self) {
        for exchange in self.env.sim.take_exchanges() {
            let mut parts = exchange.path.split('/').skip_while(|part| *part != "apps");
            if let Some(app) = parts.nth(1) {
                let app = app.to_owned();
                self.exchanges.entry(app).or_default().push(exchange);
            }
        }
    }

    /// Waits until as many machines were sent for each case as flyctl sent, and all are up.
    async fn until_sent(&mut self, flyctl: impl Fn(&Case) -> Option<&[Sent]>) {
        // All objects go live at once, on whatever else runs here.
        let end = Instant::now() + 2 * LIMIT;
        let mut look = tokio::time::interval(Duration::from_millis(100));
        loop {
            look.tick().await;
            self.listen();
            let late = |case: &&Case| flyctl(case).is_some_and(|sent| !self.is_done(case, sent));
            let late: Vec<&Case> = self.cases.iter().filter(late).collect();
            if late.is_empty() {
                return;
            }
            if Instant::now() > end {
                let mut told = Vec::new();
                for case in late {
                    let status = self.env.status(&case.name).await;
                    let steps = status.phases.iter().flat_map(|phase| &phase.steps);
                    let steps = steps.filter(|step| !step.message.is_empty());
                    let steps: Vec<_> = steps
                        .map(|s| format!("{}: {}", s.name, s.message))
                        .collect();
                    told.push(format!("{}: {steps:#?}", case.name));
                }
                panic!("not all machines came: {}", told.join("\n"));
            }
        }
    }

    fn is_done(&self, case: &Case, flyctl: &[Sent]) -> bool {
        let sent = self.exchanges.get(&app(case)).into_iter().flatten();
        let changes = || {
            let of = [sent::CREATE, sent::UPDATE];
            sent.clone()
                .filter(move |exchange| of.contains(&exchange.endpoint.as_str()))
        };
        if case.run.refused.is_some() {
            return changes().any(|exchange| exchange.status >= 400);
        }
        let wanted: u32 = flyctl.iter().map(|sent| sent.count).sum();
        let machines = self.env.sim.machines(&app(case));
        changes().count() >= wanted as usize && machines.iter().all(is_up)
    }

    /// The requests since the last call of this, in the form of flyctl's recording.
    fn take(&mut self, case: &Case) -> (Vec<Sent>, Vec<Exchange>) {
        let exchanges = self.exchanges.remove(&app(case)).unwrap_or_default();
        let names = self.names.entry(app(case)).or_default();
        let machines = sent::machines(&exchanges, names);
        (serde_json::from_value(machines).unwrap(), exchanges)
    }
}

/// A machine that has a file from a secret which is not there is failed; flyctl's was, too.
fn is_up(machine: &Value) -> bool {
    let standby = machine["config"]["standbys"].is_array();
    let up: &[&str] = if standby {
        &["stopped"]
    } else {
        &["started", "failed"]
    };
    let state = machine["state"].as_str().unwrap_or_default();
    state == "destroyed" || up.contains(&state)
}

/// The volumes by name, and the kinds of addresses.
fn volumes_and_addresses(case: &Case, exchanges: &[Exchange], found: &mut Comparison) {
    let by_name = |bodies: &Value| -> Value {
        let bodies = bodies.as_array().unwrap().iter();
        bodies
            .map(|body| (body["name"].as_str().unwrap().to_owned(), plain(body)))
            .collect()
    };
    let (theirs, ours) = (json!(case.run.volumes), sent::volumes(exchanges));
    found.values("first: volumes", &by_name(&theirs), &by_name(&ours));
    let kinds = |bodies: &Value| -> BTreeSet<String> {
        let kinds = bodies.as_array().unwrap().iter();
        kinds
            .map(|body| body["type"].as_str().unwrap().to_owned())
            .collect()
    };
    let (theirs, ours) = (json!(case.run.addresses), sent::addresses(exchanges));
    let (theirs, ours) = (json!(kinds(&theirs)), json!(kinds(&ours)));
    found.values("first: addresses", &theirs, &ours);
}

#[derive(Default)]
struct Result {
    fields: usize,
    wrong: Vec<String>,
    met: BTreeSet<&'static str>,
}

impl Result {
    fn add(&mut self, case: &Case, found: Comparison) {
        self.fields += found.fields;
        for difference in found.differences {
            match meant(case, &difference) {
                Some(why) => {
                    self.met.insert(why);
                }
                None => self
                    .wrong
                    .push(format!("{}: {}", case.name, difference.text())),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_sends_what_flyctl_sends_field_by_field() {
    let started = Instant::now();
    let mut result = Result::default();
    let mut world = World::start().await;
    world.until_sent(|case| Some(&case.run.first)).await;
    let first = started.elapsed();
    for case in cases() {
        let (ours, exchanges) = world.take(&case);
        let mut found = Comparison::default();
        found.machines("first:", &case.run.first, &ours, case.run.refused.is_some());
        volumes_and_addresses(&case, &exchanges, &mut found);
        result.add(&case, found);
    }
    let updated = world.cases.iter().filter(|case| case.run.update.is_some());
    let image = || json!({"spec": {"deploy": {"image": format!("{REPOSITORY}:2")}}});
    join_all(updated.map(|case| world.env.patch(&case.name, image()))).await;
    world.until_sent(|case| case.run.update.as_deref()).await;
    for case in cases() {
        let (ours, _) = world.take(&case);
        if let Some(theirs) = &case.run.update {
            let mut found = Comparison::default();
            found.machines("update:", theirs, &ours, false);
            result.add(&case, found);
        }
    }
    println!(
        "{} cases, {} fields, first {first:?}, all {:?}",
        cases().len(),
        result.fields,
        started.elapsed()
    );
    assert!(result.wrong.is_empty(), "{}", result.wrong.join("\n"));
    let page = std::fs::read_to_string(root().join("docs/fly-toml.md")).unwrap();
    let (_, rest) = page.split_once("## The comparison with flyctl").unwrap();
    for why in &result.met {
        assert!(
            rest.contains(&format!("| {why}")),
            "the page does not explain {why}"
        );
    }
    assert_eq!(
        result.met.len(),
        6,
        "some are no longer met: {:?}",
        result.met
    );
    let cases = format!("{} files", cases().len());
    assert!(rest.contains(&cases), "the page does not say {cases}");
}
