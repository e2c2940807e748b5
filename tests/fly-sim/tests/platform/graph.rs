//! GraphQL, the Redis add-on, and legacy Postgres as flyctl sets it up.

use http::Method;
use serde_json::{Value, json};

use crate::client::{Fly, LIMIT, send};

#[tokio::test]
async fn an_app_is_seen_through_aliases_and_fragments_with_the_types_of_fly() {
    let fly = Fly::with_app().await;
    let query = "query ($appName: String!) {
        appcompact: app(name: $appName) { ...Basic organization { internalNumericId slug }
            postgresAppRole: role { name }
            releases: releasesUnprocessed(first: 1) { nodes { version } } newField { x } }
        } fragment Basic on App { id internalNumericId name deployed status }";
    let answer = fly
        .graphql(query, json!({"appName": "demo", "status": "running"}))
        .await;
    let app = &answer["data"]["appcompact"];
    assert!(app["internalNumericId"].is_number(), "{answer}");
    assert!(app["organization"]["internalNumericId"].is_string());
    assert_eq!(
        (&app["status"], &app["deployed"]),
        (&json!("pending"), &json!(false))
    );
    assert_eq!(app["postgresAppRole"], Value::Null);
    assert_eq!(app["newField"], Value::Null);
    assert!(answer.get("errors").is_none(), "{answer}");

    let missing = fly.graphql(query, json!({"appName": "none"})).await;
    assert_eq!(missing["data"], Value::Null);
    assert_eq!(
        missing["errors"][0]["message"],
        "Could not find App \"none\""
    );
    assert_eq!(missing["errors"][0]["path"], json!(["appcompact"]));
    assert_eq!(missing["errors"][0]["extensions"]["code"], "NOT_FOUND");
}

#[tokio::test]
async fn addresses_are_allocated_in_two_shapes() {
    let fly = Fly::with_app().await;
    let query = "mutation($input: AllocateIPAddressInput!) { allocateIpAddress(input: $input) {
        ipAddress { id address type } app { sharedIpAddress } } }";
    let input = |kind: &str| json!({"input": {"appId": "demo", "type": kind, "region": ""}});
    let v6 = fly.graphql(query, input("v6")).await;
    let address = &v6["data"]["allocateIpAddress"]["ipAddress"];
    assert_eq!(address["type"], "v6", "{v6}");
    let shared = fly.graphql(query, input("shared_v4")).await;
    let payload = &shared["data"]["allocateIpAddress"];
    assert_eq!(payload["ipAddress"], Value::Null);
    assert!(payload["app"]["sharedIpAddress"].is_string());
    let bad = json!({"input": {"appId": "demo", "type": "v6", "colour": "red"}});
    let refused = fly.graphql(query, bad).await;
    assert!(
        refused["errors"][0]["message"]
            .as_str()
            .unwrap()
            .contains("colour"),
        "{refused}"
    );

    let release = "mutation($input: ReleaseIPAddressInput!) { releaseIpAddress(input: $input) {
        app { name ipAddresses { nodes { address } } } } }";
    let input = json!({"input": {"appId": "demo", "ipAddressId": address["id"]}});
    let released = fly.graphql(release, input).await;
    let app = &released["data"]["releaseIpAddress"]["app"];
    assert_eq!(app["ipAddresses"]["nodes"], json!([]), "{released}");
    assert_eq!(fly.sim.calls("POST /graphql#allocateIpAddress"), 3);
}

const CREATE: &str = "mutation CreateAddOn($input: CreateAddOnInput!) {
    createAddOn(input: $input) { addOn { id name publicUrl primaryRegion } } }";

#[tokio::test]
async fn an_add_on_is_a_redis_that_answers_until_it_is_deleted() {
    let fly = Fly::start().await;
    let org = fly
        .graphql("{ organization(slug: \"cabanas\") { id } }", Value::Null)
        .await;
    let plans = fly
        .graphql(
            "{ addOnPlans(type: upstash_redis) { nodes { id displayName } } }",
            Value::Null,
        )
        .await;
    let plan = &plans["data"]["addOnPlans"]["nodes"][0]["id"];
    let input = json!({"input": {
        "organizationId": org["data"]["organization"]["id"], "primaryRegion": "eze",
        "name": "demo-redis", "planId": plan, "readRegions": [], "type": "upstash_redis",
        "options": {"eviction": true}}});
    let made = fly.graphql(CREATE, input.clone()).await;
    let url = made["data"]["createAddOn"]["addOn"]["publicUrl"]
        .as_str()
        .unwrap();
    let client = redis::Client::open(url).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let pong: String = redis::cmd("PING")
        .query_async(&mut connection)
        .await
        .unwrap();
    assert_eq!(pong, "PONG");

    let again = fly.graphql(CREATE, input).await;
    let text = again["errors"][0]["message"].as_str().unwrap();
    assert!(text.contains("already been taken"), "{text}");
    let query =
        "query($name: String, $provider: String) { addOn(name: $name, provider: $provider) {
        status publicUrl organization { slug } addOnPlan { displayName } } }";
    let variables = json!({"name": "demo-redis", "provider": "upstash_redis"});
    let found = fly.graphql(query, variables.clone()).await;
    assert_eq!(found["data"]["addOn"]["publicUrl"], url);

    let delete = "mutation($name: String) { deleteAddOn(input: {name: $name, provider: \"upstash_redis\"}) { deletedAddOnName } }";
    let gone = fly.graphql(delete, json!({"name": "demo-redis"})).await;
    assert_eq!(
        gone["data"]["deleteAddOn"]["deletedAddOnName"],
        "demo-redis"
    );
    assert!(client.get_multiplexed_async_connection().await.is_err());
    let missing = fly.graphql(query, variables).await;
    assert_eq!(missing["errors"][0]["extensions"]["code"], "NOT_FOUND");
}

#[tokio::test]
async fn a_legacy_cluster_serves_its_admin_api_and_its_databases() {
    let fly = Fly::start().await;
    let app = json!({"name": "pg", "org_slug": "cabanas", "app_role_id": "postgres_cluster"});
    assert_eq!(fly.post("/v1/apps?wait=true", app).await.status, 201);
    fly.make_app("demo").await;
    let tag = fly
        .graphql(
            "{ latestImageTag(repository: \"flyio/postgres-flex\") }",
            Value::Null,
        )
        .await;
    assert_eq!(tag["data"]["latestImageTag"], "flyio/postgres-flex:17.2");
    let values = json!({"values": {
        "SU_PASSWORD": "su", "REPL_PASSWORD": "repl", "OPERATOR_PASSWORD": "operator"}});
    assert_eq!(fly.post("/v1/apps/pg/secrets", values).await.status, 200);
    let check = |path: &str| {
        json!({
        "type": "http", "port": 5500, "path": path, "interval": "15s", "timeout": "10s"})
    };
    let machine = json!({"region": "eze", "config": {
        "image": "flyio/postgres-flex:17.2",
        "checks": {"pg": check("/flycheck/pg"), "role": check("/flycheck/role"), "vm": check("/flycheck/vm")},
        "restart": {"policy": "always"}}});
    let made = fly.post("/v1/apps/pg/machines", machine).await;
    assert_eq!(made.status, 200, "{}", made.json);
    let id = made.json["id"].as_str().unwrap();
    let wait = format!("/v1/apps/pg/machines/{id}/wait?state=started&timeout=60");
    assert_eq!(fly.get(&wait).await.status, 200);

    let path = format!("/v1/apps/pg/machines/{id}");
    let started = std::time::Instant::now();
    loop {
        let checks = fly.get(&path).await.json["checks"].clone();
        let all = checks.as_array().unwrap();
        let role = all.iter().find(|c| c["name"] == "role").unwrap();
        if all.iter().all(|c| c["status"] == "passing") {
            assert_eq!(role["output"], "primary");
            break;
        }
        assert!(started.elapsed() < LIMIT, "{checks}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }

    let ip = fly
        .sim
        .core()
        .read(|world| world.apps["pg"].machines[id].ip);
    let admin = |path: &str| format!("http://{ip}:5500/commands/{path}");
    let get = async |path: &str| send(Method::GET, &admin(path), None, None).await;
    let post =
        async |path: &str, body: Value| send(Method::POST, &admin(path), None, Some(body)).await;
    assert_eq!(get("databases/demo").await.status, 404);
    assert_eq!(
        post("databases/create", json!({"name": "demo"}))
            .await
            .status,
        200
    );
    assert_eq!(
        post("databases/create", json!({"name": "demo"}))
            .await
            .status,
        409
    );
    let user = json!({"username": "demo", "password": "secret", "superuser": true});
    assert_eq!(
        post("users/create", user).await.json,
        json!({"result": true})
    );
    assert_eq!(get("users/demo").await.json["result"]["username"], "demo");
    let url = format!("postgres://demo:secret@{ip}:5432/demo?sslmode=disable");
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    client
        .batch_execute("CREATE TABLE t (x int)")
        .await
        .unwrap();

    let script = "PGPASSWORD=$OPERATOR_PASSWORD psql -h localhost -p 5433 -U postgres -d demo -tAc 'select 6 * 7'";
    let exec = json!({"command": ["sh", "-c", script], "timeout": 30});
    let done = fly.post(&format!("{path}/exec"), exec).await;
    assert_eq!(
        done.json["stdout"].as_str().map(str::trim),
        Some("42"),
        "{}",
        done.json
    );

    let attach =
        "mutation($input: AttachPostgresClusterInput!) { attachPostgresCluster(input: $input) {
        postgresClusterApp { name } environmentVariableName } }";
    let input = json!({"input": {"appId": "demo", "postgresClusterAppId": "pg", "databaseName": "demo",
        "databaseUser": "demo", "variableName": "DATABASE_URL", "manualEntry": true}});
    let attached = fly.graphql(attach, input.clone()).await;
    assert_eq!(
        attached["data"]["attachPostgresCluster"]["environmentVariableName"],
        "DATABASE_URL"
    );
    assert_eq!(
        fly.graphql(attach, input).await["errors"][0]["extensions"]["code"],
        "UNPROCESSABLE"
    );
    let list = fly.graphql("{ postgresAttachments(appName: \"demo\", postgresAppName: \"pg\") { nodes { databaseUser } } }", Value::Null).await;
    assert_eq!(
        list["data"]["postgresAttachments"]["nodes"][0]["databaseUser"],
        "demo"
    );
}
