//! Whatever is sent to Fly.io is in the plan: if two objects lead to something else, their digests differ
//! and so do the plans that people are shown.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use crate::{
    api::Activation,
    phase::{PHASES, deploy::rollout},
    pipeline::{Cx, testing},
    plan::{Target, refs::Refs},
};

/// Numbers that look random and are the same in every run: xorshift.
/// Source: G. Marsaglia, "Xorshift RNGs", Journal of Statistical Software 8 (14), 2003.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(end).unwrap()).unwrap()
    }
}

/// A field of the spec, by its path, and values that it may have; `null`: it is absent.
fn deployed() -> Vec<(&'static str, Vec<Value>)> {
    let toml = |vm: &str, env: &str, rest: &str| {
        json!({"inline": format!(
            "[http_service]\ninternal_port = 8080\n[env]\nMODE = '{env}'\n[[vm]]\nmemory = '{vm}'\n{rest}"
        )})
    };
    let two = json!({"inline": "[http_service]\ninternal_port = 8080\nprocesses = ['app']\n[processes]\napp = 'serve'\nworker = 'work'\n"});
    let release = |command: &str| format!("[deploy]\nrelease_command = '{command}'\n");
    let mount = |size: u32| {
        format!("[[mounts]]\nsource = 'data'\ndestination = '/data'\ninitial_size = '{size}gb'\n")
    };
    let services = |port: u32, protocol: &str| {
        format!(
            "[[services]]\ninternal_port = {port}\nprotocol = '{protocol}'\n[[services.ports]]\nport = 9000\n"
        )
    };
    let check = |path: &str| {
        format!(
            "[checks.alive]\ntype = 'http'\nport = 8080\npath = '{path}'\ninterval = '15s'\ntimeout = '2s'\n"
        )
    };
    let file = |text: &str| format!("[[files]]\nguest_path = '/etc/motd'\nraw_value = '{text}'\n");
    vec![
        ("organization", vec![json!("one"), json!("two")]),
        ("app", vec![json!("shop"), json!("store")]),
        ("region", vec![json!("eze"), json!("gru")]),
        (
            "deploy.image",
            vec![
                json!("r.example/shop:1"),
                json!("r.example/shop:2"),
                json!("r.example/other:1"),
            ],
        ),
        (
            "deploy.config",
            vec![
                Value::Null,
                toml("512mb", "a", ""),
                toml("1gb", "a", ""),
                toml("512mb", "b", ""),
                toml("512mb", "a", &release("migrate")),
                toml("512mb", "a", &release("migrate --twice")),
                two,
                toml("512mb", "a", &mount(1)),
                toml("512mb", "a", &mount(5)),
                toml("512mb", "a", &services(9001, "tcp")),
                toml("512mb", "a", &services(9002, "tcp")),
                toml("512mb", "a", &services(9001, "udp")),
                toml("512mb", "a", &check("/up")),
                toml("512mb", "a", &check("/ready")),
                toml("512mb", "a", &file("aGVsbG8=")),
                toml("512mb", "a", &file("d29ybGQ=")),
            ],
        ),
        (
            "deploy.scale",
            vec![Value::Null, json!({"app": 1}), json!({"app": 3})],
        ),
    ]
}

/// All such fields.
fn fields() -> Vec<(&'static str, Vec<Value>)> {
    [deployed(), provisioned()].concat()
}

/// The same for what is provisioned.
fn provisioned() -> Vec<(&'static str, Vec<Value>)> {
    vec![
        (
            "provision.postgres",
            vec![
                Value::Null,
                json!({"managed": {"plan": "basic", "volumeSizeGb": 10}}),
                json!({"managed": {"plan": "starter", "volumeSizeGb": 10}}),
                json!({"managed": {"plan": "basic", "volumeSizeGb": 20}}),
                json!({"flyPostgres": {"size": "shared-cpu-1x", "count": 1}}),
                json!({"flyPostgres": {"size": "shared-cpu-2x", "count": 1}}),
                json!({"flyPostgres": {"size": "shared-cpu-1x", "count": 3}}),
                json!({"external": {"urlSecretRef": {"name": "keys", "key": "API_KEY"}}}),
            ],
        ),
        (
            "provision.redis",
            vec![
                Value::Null,
                json!({"upstash": {"plan": "free"}}),
                json!({"upstash": {"plan": "free", "eviction": true}}),
                json!({"upstash": {"plan": "free", "region": "iad"}}),
            ],
        ),
        (
            "provision.addresses",
            vec![Value::Null, json!({"v4": true}), json!({"v6": false})],
        ),
        (
            "provision.hostnames",
            vec![
                Value::Null,
                json!(["a.example"]),
                json!(["a.example", "b.example"]),
            ],
        ),
        (
            "provision.secrets",
            vec![
                Value::Null,
                json!({"generate": [{"name": "JWT"}]}),
                json!({"from": [{"secretRef": {"name": "keys"}}]}),
                json!({"from": [{"secretRef": {"name": "others"}}]}),
            ],
        ),
    ]
}

fn put(spec: &mut Value, path: &str, value: &Value) {
    let pointer = path.split_once('.');
    match (pointer, value) {
        (_, Value::Null) => {}
        (None, value) => spec[path] = value.clone(),
        (Some((section, field)), value) => spec[section][field] = value.clone(),
    }
}

/// The object with these choices, and the Secrets of its namespace with values of this kind.
fn cx(base: &Cx, choices: &[usize], value: &str) -> Cx {
    of_generation(base, choices, value, 1)
}

fn of_generation(base: &Cx, choices: &[usize], value: &str, generation: i64) -> Cx {
    let mut spec = json!({"deploy": {}, "provision": {}});
    for ((path, values), choice) in fields().iter().zip(choices) {
        put(&mut spec, path, &values[*choice]);
    }
    let object = json!({
        "metadata": {"name": "shop", "namespace": "ns", "generation": generation}, "spec": spec,
    });
    let object: Activation = serde_json::from_value(object).unwrap();
    let refs = Refs::of(
        &[
            ("fly", "token", "fo1_some-token"),
            ("keys", "API_KEY", value),
            ("others", "OTHER_KEY", value),
        ],
        &[],
    );
    let target = Target::parse(&object, &refs, None, b"key").unwrap();
    Cx {
        target: target.into(),
        refs: refs.into(),
        ..base.clone()
    }
}

fn base() -> Cx {
    testing::cx(crate::plan::testing::target(""), Refs::default())
}

/// What is sent to Fly.io for a new object, written down without the plan. With `hidden` also the values that
/// no plan shows: those of secrets, and commands.
fn sent(cx: &Cx, hidden: bool) -> Value {
    let target = &cx.target;
    let machines = rollout::expected(cx).into_iter().map(|machine| {
        json!([
            machine.name,
            machine.region,
            machine.standby,
            machine.volume,
            machine.config
        ])
    });
    let config = target.config().unwrap();
    let provision = &target.provision;
    let (deploy, secrets) = (&config.app.deploy, &provision.secrets);
    let named: Vec<Value> = secrets
        .from
        .iter()
        .flat_map(|source| cx.refs.secret_values(&source.secret_ref.name).unwrap())
        .map(|(name, value)| {
            use secrecy::ExposeSecret;
            let value = hidden.then(|| value.expose_secret().to_owned());
            json!([name, value])
        })
        .collect();
    let command = |command: &Option<String>| match hidden {
        true => json!(command),
        false => json!(command.is_some()),
    };
    json!({
        "organization": target.organization, "app": target.app,
        "machines": machines.collect::<Vec<Value>>(),
        "sizes": config.app.mounts.iter().map(|m| m.initial_size.clone()).collect::<Vec<_>>(),
        "release": command(&deploy.release_command),
        "postgres": provision.postgres, "redis": provision.redis,
        // Where the databases are made.
        "region": (provision.postgres.is_some() || provision.redis.is_some()).then_some(&target.region),
        "addresses": provision.addresses, "hostnames": provision.hostnames,
        "generated": secrets.generate.iter().map(|s| s.name.clone()).collect::<Vec<_>>(),
        "secrets": named,
    })
}

/// The plan of a new object, as people see it.
fn shown(cx: &Cx) -> Vec<String> {
    let phases = PHASES.iter().filter(|phase| phase.id.before_live());
    let steps = phases.flat_map(|phase| phase.steps);
    let changes = steps.flat_map(|step| step.expected(cx));
    changes.map(|change| change.to_string()).collect()
}

#[tokio::test]
async fn if_anything_that_is_sent_differs_the_digest_and_the_shown_plan_differ() {
    let mut numbers = Numbers(0x9E37_79B9_7F4A_7C15);
    let (fields, base) = (fields(), base());
    let (mut different, mut visible) = (0, 0);
    for _ in 0..1_000 {
        let mut choices: Vec<usize> = fields
            .iter()
            .map(|(_, values)| numbers.below(values.len()))
            .collect();
        let one = cx(&base, &choices, "a-secret-value");
        // Mostly one field: then nothing else can tell the two apart.
        for _ in 0..=numbers.below(2) {
            let at = numbers.below(fields.len());
            choices[at] = numbers.below(fields[at].1.len());
        }
        let value = ["a-secret-value", "another-value"][numbers.below(2)];
        let other = cx(&base, &choices, value);
        if sent(&one, true) != sent(&other, true) {
            different += 1;
            assert_ne!(one.target.digest(), other.target.digest(), "{choices:?}");
            // Also of another generation: no number of it makes up for what differs.
            for generation in [1, 2] {
                let other = of_generation(&base, &choices, value, generation);
                let (one, other) = (one.target.plan(), other.target.plan());
                assert_ne!(one.digest(), other.digest(), "{choices:?}");
                assert!(!one.is_same_work(other.digest()), "{choices:?}");
            }
        }
        let (later, now) = (of_generation(&base, &choices, value, 2), &other.target);
        assert_eq!(later.target.digest(), now.digest());
        assert_ne!(later.target.plan().digest(), now.plan().digest());
        if sent(&one, false) != sent(&other, false) {
            visible += 1;
            let (one_plan, other_plan) = (shown(&one), shown(&other));
            assert_ne!(
                one_plan,
                other_plan,
                "{} and {}",
                sent(&one, false),
                sent(&other, false)
            );
        }
    }
    assert!(different > 400 && visible > 400, "{different} {visible}");
}

#[tokio::test]
async fn the_plan_of_a_new_object_has_every_step_up_to_go_live_and_no_value_of_a_secret() {
    let choices: Vec<usize> = fields()
        .iter()
        .map(|(_, values)| values.len() - 1)
        .collect();
    let mut all = choices;
    // The release command, a database, an address, and values from a Secret.
    (all[4], all[6], all[8]) = (4, 1, 1);
    let lines = shown(&cx(&base(), &all, "a-secret-value"));
    let has = |text: &str| lines.iter().any(|line| line.starts_with(text));
    for line in [
        "create Fly app store: organization two",
        "create address: type v4",
        "create certificate b.example",
        "create managed Postgres store-db: plan basic, storage 10 GB",
        "create Attachment store-db: user store, database store",
        "update Secrets store: DATABASE_URL changed",
        "create Redis database store-redis: plan free, region iad",
        "update Secrets store: OTHER_KEY changed",
        "run ReleaseCommand: image r.example/other:1, declared reversible no",
        "create machines golive-app-0, golive-app-1, golive-app-2: of app, image r.example/other:1",
        "verify SmokeCheck",
    ] {
        assert!(has(line), "{line} is not in {lines:#?}");
    }
    assert!(!lines.iter().any(|line| line.contains("a-secret-value")));
    assert!(
        lines.iter().any(|line| line.contains("env MODE set")),
        "{lines:#?}"
    );
}
