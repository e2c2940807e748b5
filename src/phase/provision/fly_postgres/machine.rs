//! The machines of a Fly Postgres cluster, configured as `fly postgres create` configures them.
//! Source: fly-apps/postgres-flex.

use crate::{
    api::{Reason, provision::FlyPostgres as Spec},
    error::Error,
    fly::{
        self, Machine, MachineState, NewMachine,
        fly_postgres::POSTGRES_IMAGE,
        machine_config::{
            Autostop, Concurrency, MachineCheck, MachineConfig, MachineMetrics, MachineMount,
            MachinePort, MachineRestart, MachineService, RestartPolicy,
        },
        machines::CheckResult,
    },
    phase::marks::UID_KEY,
    pipeline::{Cx, Owner, step::Result},
};

/// The checks of every machine.
pub const CHECKS: [&str; 3] = ["pg", "role", "vm"];

/// Whether a check of a machine passes.
pub fn passes(machine: &Machine, check: &str) -> bool {
    let mut checks = machine.checks.iter();
    checks.any(|found| found.name == check && found.status == CheckResult::Passing)
}

/// The machine that takes writes: its check `role` passes and prints `primary`.
pub fn primary(machines: &[Machine]) -> Option<&Machine> {
    machines.iter().find(|machine| {
        machine.state == MachineState::Started
            && machine.checks.iter().any(|check| {
                let output = check.output.as_deref().unwrap_or_default();
                check.name == "role"
                    && check.status == CheckResult::Passing
                    && output.contains("primary")
            })
    })
}

/// The machines of the cluster, without those that are destroyed or being destroyed.
///
/// # Errors
/// When Fly.io does not answer.
pub async fn list(cx: &Cx, app: &str) -> Result<Vec<Machine>> {
    let machines = cx.fly.machines(app, &[]).await;
    let machines = machines.map_err(|source| Error::fly("list the database machines", source))?;
    let live = machines.into_iter();
    Ok(live.filter(|machine| !machine.state.is_over()).collect())
}

/// The request that creates a machine of this name with this volume. `secrets` is the version of
/// the app's secrets that it must see.
///
/// # Errors
/// When Fly.io does not name the newest image, or the size in the spec is none.
pub async fn request(
    cx: &Cx,
    spec: &Spec,
    name: String,
    volume: String,
    secrets: Option<u64>,
) -> Result<NewMachine> {
    let tag = cx.fly.latest_image_tag(POSTGRES_IMAGE).await;
    let image = tag.map_err(|source| Error::fly("find the Postgres image", source))?;
    let guest = crate::flytoml::parse_size(&spec.size);
    let guest = guest.map_err(|error| Error::Blocked {
        reason: Reason::InvalidSpec,
        message: format!("`postgres.flyPostgres.size`: {error}"),
        action: "correct `postgres.flyPostgres.size`".to_owned(),
    })?;
    Ok(NewMachine {
        name,
        region: cx.target.region.clone(),
        config: MachineConfig {
            image,
            guest: Some(guest),
            ..config(&cx.owner, &cx.target.region, volume)
        },
        min_secrets_version: secrets,
        ..NewMachine::default()
    })
}

/// The configuration of a machine without image and size.
fn config(owner: &Owner, region: &str, volume: String) -> MachineConfig {
    let text = |pairs: &[(&str, &str)]| {
        let pairs = pairs.iter();
        pairs
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    };
    let service = |port: u16| MachineService {
        protocol: Some("tcp".to_owned()),
        internal_port: Some(port),
        ports: vec![MachinePort {
            port: Some(port),
            handlers: vec!["pg_tls".to_owned()],
            ..MachinePort::default()
        }],
        autostop: Some(Autostop::Off),
        concurrency: Some(Concurrency {
            kind: Some("connections".to_owned()),
            soft_limit: Some(1000),
            hard_limit: Some(1000),
            ..Concurrency::default()
        }),
        ..MachineService::default()
    };
    let check = |name: &str| {
        let check = MachineCheck {
            type_: Some("http".to_owned()),
            port: Some(5500),
            path: Some(format!("/flycheck/{name}")),
            interval: Some(fly::GoDuration::from_secs(15)),
            timeout: Some(fly::GoDuration::from_secs(10)),
            ..MachineCheck::default()
        };
        (name.to_owned(), check)
    };
    MachineConfig {
        env: text(&[("PRIMARY_REGION", region)]),
        metadata: text(&[
            ("fly-managed-postgres", "true"),
            ("managed-by-fly-deploy", "true"),
            ("fly_platform_version", "v2"),
            (UID_KEY, &owner.uid),
        ]),
        mounts: vec![MachineMount {
            volume: Some(volume),
            path: "/data".to_owned(),
            ..MachineMount::default()
        }],
        services: vec![service(5432), service(5433)],
        checks: CHECKS.into_iter().map(check).collect(),
        metrics: Some(MachineMetrics {
            port: Some(9187),
            path: Some("/metrics".to_owned()),
            ..MachineMetrics::default()
        }),
        restart: Some(MachineRestart {
            policy: Some(RestartPolicy::Always),
            ..MachineRestart::default()
        }),
        ..MachineConfig::default()
    }
}
