//! The critical path, walked by a client that knows everything beforehand: no check, no record,
//! no second look, every call as early as its inputs are there. What it needs no controller can
//! beat.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fly_sim::Sim;
use futures::future::{join_all, try_join_all};
use golive::clock::ServerClock;
use golive::fly::{
    AddressKind, Client, Endpoints, ExecRequest, Fly, HttpOptions, ImageReference, MachineState,
    NewAddress, NewApp, NewCluster, NewMachine, NewRedis, Token, WaitFor,
};
use golive::flytoml::{self, AppConfig, Context};
use golive::net::probe::Probe;
use golive::net::resolve::Resolve;
use secrecy::{ExposeSecret, SecretString};

use crate::Result;
use crate::world::ORGANIZATION;

/// Pause between two looks at what has no long poll: short, since the simulator is in this process.
const LOOK: Duration = Duration::from_millis(5);

/// Walks it and says how long it took.
pub async fn walk(sim: &Sim, app: &str, image: &str, fly_toml: &str) -> Result<Duration> {
    let client = client(sim)?;
    let probe = probe(sim)?;
    let mut config = flytoml::parse(fly_toml)
        .map_err(|invalid| format!("{invalid:?}"))?
        .config;
    config.bind(app, "eze");
    let reference: ImageReference = image.parse()?;

    let started = Instant::now();
    let (digest, ()) = tokio::try_join!(resolve(&client, &reference), create_app(&client, app))?;
    let (database, redis, ()) = tokio::try_join!(
        database(&client, app),
        redis(&client, app),
        addresses(&client, app)
    )?;
    let mut secrets = BTreeMap::from([
        ("DATABASE_URL".to_owned(), Some(database)),
        ("REDIS_URL".to_owned(), Some(redis)),
    ]);
    for name in [
        "JWT_SECRET",
        "REDIS_PASSWORD",
        "ICS_SALT",
        "ADMIN_CSRF_SECRET",
        "GRAFANA_ADMIN_PASSWORD",
    ] {
        secrets.insert(name.to_owned(), Some(SecretString::from("x".repeat(48))));
    }
    let written = client.set_secrets(app, &secrets).await?;
    let pinned = reference.pinned(&digest).to_string();
    let context = Context {
        image: &pinned,
        ..Context::default()
    };
    release(&client, app, &config, &context, written.version()).await?;
    machines(sim, &client, app, &config, &context, written.version()).await?;
    smoke(sim, &client, &probe, app).await?;
    Ok(started.elapsed())
}

/// A client with the organization's token.
pub fn client(sim: &Sim) -> Result<Client> {
    let base = sim.base_url();
    let endpoints = Endpoints {
        machines: base.clone(),
        api: base.clone(),
        uiex: base.clone(),
        registry: base,
    };
    let token = Token::parse(&sim.token(ORGANIZATION).unwrap_or_default())?;
    Ok(Fly::new(endpoints, HttpOptions::default())?.client(token))
}

fn probe(sim: &Sim) -> Result<Probe> {
    let ca = sim.dir().join("floor-ca.pem");
    std::fs::write(&ca, sim.ca_pem())?;
    let edge = Resolve::parse(&format!("*.fly.dev:443={}", sim.edge()))?;
    Ok(Probe::new(
        &[edge],
        Some(&ca),
        &ServerClock::of_kubernetes(),
    )?)
}

async fn resolve(client: &Client, reference: &ImageReference) -> Result<String> {
    let found = client.resolve_image(reference).await?;
    Ok(found.ok_or("no such image")?.digest)
}

async fn create_app(client: &Client, app: &str) -> Result<()> {
    let new = NewApp {
        name: app.to_owned(),
        org_slug: ORGANIZATION.to_owned(),
        ..NewApp::default()
    };
    client.create_app(&new).await?;
    Ok(())
}

async fn database(client: &Client, app: &str) -> Result<SecretString> {
    let new = NewCluster {
        name: format!("{app}-db"),
        region: "eze".to_owned(),
        org_slug: ORGANIZATION.to_owned(),
        plan: "basic".to_owned(),
        pg_major_version: "16".to_owned(),
        storage_in_gb: 10,
        postgis_enabled: false,
    };
    let id = client.create_postgres_cluster(&new).await?.id;
    let base = loop {
        let details = client.postgres_cluster(&id).await?;
        let url = details
            .and_then(|details| details.credentials)
            .and_then(|credentials| credentials.pgbouncer_uri);
        match url {
            Some(url) => break url,
            None => tokio::time::sleep(LOOK).await,
        }
    };
    let role = app.replace('-', "_");
    tokio::try_join!(
        client.create_postgres_user(&id, &role, "schema_admin"),
        client.create_postgres_database(&id, &role),
        client.attach_postgres(&id, app),
    )?;
    let user = client.postgres_user_credentials(&id, &role).await?;
    let password = user.and_then(|user| user.password).ok_or("no password")?;
    let mut url = url::Url::parse(base.expose_secret())?;
    url.set_username(&role).map_err(|()| "no user in the URL")?;
    url.set_password(Some(password.expose_secret()))
        .map_err(|()| "no password in the URL")?;
    url.set_path(&role);
    Ok(SecretString::from(url.to_string()))
}

async fn redis(client: &Client, app: &str) -> Result<SecretString> {
    let (organization, plans) =
        tokio::try_join!(client.organization(ORGANIZATION), client.redis_plans())?;
    let plan = plans.into_iter().next().ok_or("no Redis plan")?;
    let new = NewRedis {
        name: format!("{app}-redis"),
        organization_id: organization.ok_or("no organization")?.id,
        primary_region: "eze".to_owned(),
        plan_id: plan.id,
        eviction: true,
    };
    let made = client.create_redis(&new).await?;
    match made.url {
        Some(url) => Ok(url),
        None => {
            let found = client.redis(&new.name).await?;
            Ok(found.and_then(|redis| redis.url).ok_or("no Redis URL")?)
        }
    }
}

async fn addresses(client: &Client, app: &str) -> Result<()> {
    let kinds = [AddressKind::SharedV4, AddressKind::V6];
    let new = kinds.map(NewAddress::anycast);
    try_join_all(new.iter().map(|new| client.assign_address(app, new))).await?;
    Ok(())
}

async fn release(
    client: &Client,
    app: &str,
    config: &AppConfig,
    context: &Context<'_>,
    secrets: Option<u64>,
) -> Result<()> {
    let new = NewMachine {
        name: "floor-release".to_owned(),
        region: "eze".to_owned(),
        config: config.release_machine_config(context, None)?,
        min_secrets_version: secrets,
        ..NewMachine::default()
    };
    let id = client.create_machine(app, &new).await?.id;
    wait(client, app, &id, MachineState::Destroyed).await
}

async fn machines(
    sim: &Sim,
    client: &Client,
    app: &str,
    config: &AppConfig,
    context: &Context<'_>,
    secrets: Option<u64>,
) -> Result<()> {
    let configs = config.machine_configs(context)?;
    let (_, machine) = configs.into_iter().next().ok_or("no process group")?;
    let made = [0, 1].map(|number| {
        let new = NewMachine {
            name: format!("floor-app-{number}"),
            region: "eze".to_owned(),
            config: machine.clone(),
            min_secrets_version: secrets,
            ..NewMachine::default()
        };
        async move {
            let id = client.create_machine(app, &new).await?.id;
            wait(client, app, &id, MachineState::Started).await
        }
    });
    try_join_all(made).await?;
    // Known at once, without asking: no client can know it earlier.
    while !sim.machines(app).iter().all(|machine| {
        let checks = machine["checks"].as_array();
        checks.is_some_and(|checks| checks.iter().all(|check| check["status"] == "passing"))
    }) {
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

async fn wait(client: &Client, app: &str, id: &str, state: MachineState) -> Result<()> {
    let what = WaitFor {
        state,
        version: None,
        timeout: Duration::from_secs(60),
    };
    client.wait_machine(app, id, &what).await?;
    Ok(())
}

async fn smoke(sim: &Sim, client: &Client, probe: &Probe, app: &str) -> Result<()> {
    let host = format!("{app}.fly.dev");
    let ask = |path: &'static str| {
        let host = host.clone();
        async move {
            let timeout = Duration::from_secs(10);
            let ask = golive::net::probe::Ask {
                door: golive::net::probe::Door::HTTPS,
                method: http::Method::GET,
                path,
                limit: 1 << 20,
                wanted: &[200],
                any_answer: false,
            };
            let answer = probe.request(&host, &ask, timeout).await?;
            match answer.status {
                200 => Ok(()),
                other => Err(format!("{path} answers {other}").into()),
            }
        }
    };
    let paths = ["/api/v1/healthz", "/api/v1/readyz", "/metrics", "/"];
    let id = sim
        .machines(app)
        .iter()
        .find_map(|machine| machine["id"].as_str().map(str::to_owned))
        .ok_or("no machine")?;
    let command = ExecRequest {
        // The application's own check of its database, which is what the smoke test asks for.
        command: vec!["cabanas".to_owned(), "db-check".to_owned()],
        timeout: Some(10),
        stdin: None,
        container: None,
    };
    let (asked, executed) = tokio::join!(
        join_all(paths.map(ask)),
        client.exec(app, &id, &command, None)
    );
    let executed = executed?;
    if executed.exit_code != Some(0) {
        return Err(format!("the database check failed: {executed:?}").into());
    }
    asked.into_iter().collect::<Result<()>>()
}
