//! The commands, in order: each goes on where the one before it left the world.

/// Files in the directory that flyctl runs in.
pub const FILES: &[(&str, &str)] = &[
    (
        "fly.toml",
        r#"app = "demo"
primary_region = "eze"

[deploy]
  release_command = "sleep 0.3"

[env]
  LOG = "info"

[http_service]
  internal_port = 8080
  force_https = true

[[http_service.checks]]
  path = "/healthz"
  interval = "5s"
  timeout = "2s"
  grace_period = "1s"
"#,
    ),
    (
        "disk.toml",
        r#"app = "disk"
primary_region = "eze"

[[mounts]]
  source = "data"
  destination = "/data"
"#,
    ),
];

/// What flyctl is asked, without its own name. `{machine}` is a machine of `demo`. Behind ` => ` is
/// what it must say when the platform has to refuse it.
pub const COMMANDS: &[&str] = &[
    "version",
    "orgs list",
    "apps create demo -o cabanas",
    "apps create disk -o cabanas",
    "apps list",
    "platform regions",
    "deploy --image registry.fly.io/demo:1 --remote-only --dns-checks=false",
    "status -a demo",
    "status -a demo --json",
    "machine list -a demo",
    "machine status {machine} -a demo",
    "machine stop {machine} -a demo",
    "machine start {machine} -a demo",
    "machine restart {machine} -a demo",
    "machine suspend {machine} -a demo",
    "machine start {machine} -a demo",
    "machine cordon {machine} -a demo",
    "machine uncordon {machine} -a demo",
    "machine exec {machine} 'echo hello' -a demo",
    "machine update {machine} -a demo --metadata team=blue --yes",
    "deploy --image registry.fly.io/demo:2 --strategy rolling --remote-only --dns-checks=false --smoke-checks=false",
    "deploy --image registry.fly.io/demo:3 --strategy immediate --remote-only --dns-checks=false --smoke-checks=false",
    "deploy --image registry.fly.io/demo:2 --strategy canary --remote-only --dns-checks=false --smoke-checks=false",
    "deploy --image registry.fly.io/demo:1 --strategy bluegreen --remote-only --dns-checks=false --smoke-checks=false",
    "deploy --config disk.toml --image registry.fly.io/demo:1 --remote-only --dns-checks=false --smoke-checks=false",
    "releases -a demo",
    "releases -a demo --image",
    "checks list -a demo",
    "logs --no-tail -a demo",
    "secrets set --stage TOKEN=one -a demo",
    "secrets set LEVEL=debug -a demo --detach",
    "secrets list -a demo",
    "secrets deploy -a demo",
    "secrets unset TOKEN -a demo --detach",
    "ips list -a demo",
    "ips allocate-v6 -a demo",
    "ips allocate-v4 --shared -a demo",
    "ips allocate-v4 -a demo --yes",
    "ips list -a disk",
    "certs add reservas.cabanas.example -a demo",
    "certs check reservas.cabanas.example -a demo",
    "certs list -a demo",
    "certs remove reservas.cabanas.example -a demo --yes",
    "volumes create data -a disk --region eze --size 1 --yes",
    "volumes list -a disk",
    "scale show -a demo",
    "scale count 3 -a demo --yes",
    "scale count 2 -a demo --yes",
    "config show -a demo",
    "config validate -c fly.toml",
    "image show -a demo",
    "tokens create deploy -a demo",
    "tokens list -a demo",
    "mpg list -o cabanas",
    "mpg create -o cabanas -n demo-db -r eze --plan basic",
    "mpg list -o cabanas",
    "mpg status {cluster}",
    "mpg attach {cluster} -a demo -d fly-db -u fly-user",
    "postgres create -n demo-pg -o cabanas -r eze --vm-size shared-cpu-1x --initial-cluster-size 1 --volume-size 1",
    "postgres list",
    "postgres attach demo-pg -a disk --yes",
    "redis create -n demo-redis -o cabanas -r eze --no-replicas --enable-eviction --enable-prodpack=false",
    "redis list",
    "redis status demo-redis",
    "ssh console -a demo -C 'echo hello'",
    "machine clone {machine} -a demo --region eze",
    "machine run registry.fly.io/demo:1 -a disk --region eze",
    "status -a nobody => Could not find App",
    "secrets list -a nobody => Could not find App",
    "apps create demo -o cabanas => Name has already been taken",
    "apps create Not_A_Name -o cabanas => Name under 63 chars",
    "apps create other -o nobody => not found",
    "machine status 00000000000000 -a demo => not found",
    "machine run registry.fly.io/demo:1 -a disk --region eze --volume {volume}:/data => failed_precondition",
    "volumes destroy {volume} -a disk --yes => failed_precondition",
    "deploy --image registry.fly.io/nobody:1 --remote-only --dns-checks=false => could not find image",
    "machine update {machine} -a demo --vm-memory 300 --yes => memory",
    "certs add nodots -a demo => hostname",
    "postgres attach demo-pg -a disk --yes => already contains a secret named DATABASE_URL",
    "mpg status nothing => not found",
    "machine destroy {machine} -a demo --force",
    "apps destroy demo --yes",
    "apps destroy disk --yes",
];
