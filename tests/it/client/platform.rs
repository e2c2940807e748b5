//! The Fly client on secrets, addresses, certificates, databases, releases, images and tokens.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::collections::BTreeMap;
use std::time::Duration;

use fly_sim::{Fault, Image, Images, Kind, Options};
use golive::fly::token::Scope;
use golive::fly::{
    AddressKind, Class, Conflict, HttpOptions, NewAddress, NewApp, NewCluster, NewRedis,
    NewRelease, NewVolume, ReleaseStatus, Token,
};
use secrecy::{ExposeSecret, SecretString};

use crate::support::fly::World;

const APP: &str = "cabanas-it";

async fn world() -> World {
    let image = Image::new("registry.fly.io/cabanas-it:1", "/bin/sleep").args(["600"]);
    let hub = Image::new("nginx:1", "/bin/sleep").args(["600"]);
    let images = Images::new([image, hub]);
    let options = Options {
        images,
        ..Options::default()
    };
    let world = World::with(options, HttpOptions::default()).await;
    let app = NewApp {
        name: APP.into(),
        org_slug: "cabanas".into(),
        ..NewApp::default()
    };
    world.client.create_app(&app).await.unwrap();
    world
}

fn secrets(values: &[(&str, Option<&str>)]) -> BTreeMap<String, Option<SecretString>> {
    values
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.map(SecretString::from)))
        .collect()
}

#[tokio::test]
async fn secrets_are_set_together_told_by_digest_and_counted() {
    let world = world().await;
    let client = &world.client;

    let first = client
        .set_secrets(APP, &secrets(&[("A", Some("one")), ("B", Some("two"))]))
        .await;
    let first = first.unwrap().version().unwrap();
    let before = client.secrets(APP, Some(first)).await.unwrap();
    let second = client
        .set_secrets(APP, &secrets(&[("A", Some("three")), ("B", None)]))
        .await;
    let second = second.unwrap().version().unwrap();
    let after = client.secrets(APP, Some(second)).await.unwrap();

    assert!(second > first);
    assert_eq!(before.len(), 2);
    assert_eq!(
        after.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(),
        ["A"]
    );
    let digest = |list: &[golive::fly::AppSecret]| {
        list.iter().find(|s| s.name == "A").unwrap().digest.clone()
    };
    assert_ne!(digest(&before), digest(&after));
}

#[tokio::test]
async fn an_error_that_quotes_a_secret_is_redacted() {
    let world = world().await;
    let body = serde_json::json!({"error": "bad value hunter22secret for A"});
    let kind = Kind::Status {
        status: 422,
        body: Some(body),
        applied: false,
    };
    world
        .sim
        .fault(Fault::new("POST /v1/apps/{app}/secrets", kind));

    let values = secrets(&[("A", Some("hunter22secret"))]);
    let error = world.client.set_secrets(APP, &values).await.unwrap_err();

    assert_eq!(error.class(), &Class::Invalid);
    assert!(
        !format!("{error} {error:?}").contains("hunter22"),
        "{error}"
    );
}

#[tokio::test]
async fn addresses_are_assigned_and_told_apart() {
    let world = world().await;
    let client = &world.client;

    client
        .assign_address(APP, &NewAddress::anycast(AddressKind::V6))
        .await
        .unwrap();
    client
        .assign_address(APP, &NewAddress::anycast(AddressKind::SharedV4))
        .await
        .unwrap();
    let both = client.addresses(APP).await.unwrap();

    let kinds = |list: &[golive::fly::IpAssignment]| {
        let mut kinds: Vec<_> = list.iter().filter_map(|ip| ip.kind()).collect();
        kinds.sort();
        kinds
    };
    assert_eq!(kinds(&both), [AddressKind::V6, AddressKind::SharedV4]);
}

#[tokio::test]
async fn a_certificate_is_asked_for_looked_at_and_removed() {
    let world = world().await;
    let (client, host) = (&world.client, "reservas.cabanas.example");

    assert_eq!(client.certificate(APP, host).await, Ok(None));
    let added = client.add_certificate(APP, host).await.unwrap();
    let again = client.add_certificate(APP, host).await;
    let listed = client.certificates(APP).await.unwrap();

    assert_eq!(added.hostname, host);
    assert_eq!(listed.len(), 1);
    if let Err(error) = again {
        assert_eq!(error.conflict(), Some(&Conflict::Exists), "{error:?}");
    }
    client.delete_certificate(APP, host).await.unwrap();
    client.delete_certificate(APP, host).await.unwrap();
    assert_eq!(client.certificate(APP, host).await, Ok(None));
}

#[tokio::test]
async fn regions_and_organizations_are_asked_for_once() {
    let world = world().await;
    world.sim.reset();

    let asked = (0..20).map(|_| async {
        let regions = world.client.regions().await.unwrap();
        let organization = world.client.organization("cabanas").await.unwrap().unwrap();
        let tokens = world.client.current_tokens().await.unwrap();
        (regions, organization, tokens)
    });
    let answers = futures::future::join_all(asked).await;

    let (regions, organization, tokens) = &answers[0];
    assert!(regions.iter().any(|region| region.code == "eze"));
    assert!(organization.billing_status.can_create());
    assert!(organization.numeric_id().is_some());
    assert_eq!(tokens[0].org_slug.as_deref(), Some("cabanas"));
    assert_eq!(world.client.organization("nobody").await, Ok(None));
    assert_eq!(world.sim.calls("GET /v1/platform/regions"), 1);
    assert_eq!(world.sim.calls("GET /v1/tokens/current"), 1);
}

#[expect(clippy::disallowed_methods, reason = "a test reads the clock")]
#[tokio::test]
async fn a_deploy_token_tells_its_app_and_its_end_offline() {
    let world = world().await;
    let app = world.client.app(APP).await.unwrap().unwrap();

    let organization = world.client.organization("cabanas").await.unwrap().unwrap();
    let made = world
        .client
        .create_app_token(
            &organization.id,
            &app.id,
            "one",
            Duration::from_secs(86_400),
        )
        .await
        .unwrap();
    let listed = world.client.limited_tokens(APP).await.unwrap().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (&listed[0].id, listed[0].name.as_deref()),
        (&made.id, Some("one"))
    );
    let token = Token::parse(made.value.expose_secret()).unwrap();

    let facts = token.facts();
    let Scope::Apps { apps, .. } = &facts.scope else {
        panic!("{facts:?}")
    };
    assert_eq!(apps, &[app.internal_numeric_id.unwrap()]);
    let left = facts
        .expires_at
        .unwrap()
        .duration_since(jiff::Timestamp::now());
    assert!((left.as_hours() - 24).abs() <= 1, "{left:?}");
    assert_eq!(
        (facts.read_only, facts.needs_discharge),
        (Some(false), false)
    );
    let narrow = world.fly.client(token);
    assert!(narrow.app(APP).await.unwrap().is_some());
}

#[tokio::test]
async fn volumes_are_created_and_listed() {
    let world = world().await;
    let new = NewVolume {
        name: "data".into(),
        region: "eze".into(),
        size_gb: Some(1),
        ..NewVolume::default()
    };

    let volume = world.client.create_volume(APP, &new).await.unwrap();
    let listed = world.client.volumes(APP).await.unwrap();

    let ids: Vec<&str> = listed.iter().map(|listed| listed.id.as_str()).collect();
    assert_eq!(ids, [volume.id.as_str()]);
}

#[tokio::test]
async fn releases_are_counted_and_end_complete() {
    let world = world().await;
    let new = NewRelease {
        app_name: APP.into(),
        image: "registry.fly.io/cabanas-it:1".into(),
        strategy: "ROLLING".into(),
        definition: serde_json::json!({"app": APP}),
        build_id: 0,
    };

    assert_eq!(world.client.releases(APP, 10).await, Ok(Vec::new()));
    let release = world.client.create_release(&new).await.unwrap();
    for status in [ReleaseStatus::Running, ReleaseStatus::Complete] {
        world
            .client
            .set_release_status(&release.id, &status, None)
            .await
            .unwrap();
    }
    let releases = world.client.releases(APP, 10).await.unwrap();

    assert_eq!(release.version, Some(1));
    assert_eq!(releases[0].status, ReleaseStatus::Complete);
}

#[tokio::test]
async fn a_tag_is_resolved_to_a_digest_and_a_platform() {
    let world = world().await;
    let image = "registry.fly.io/cabanas-it:1".parse().unwrap();

    let by_tag = world.client.resolve_image(&image).await.unwrap().unwrap();
    let pinned = image.pinned(&by_tag.digest);
    let by_digest = world.client.resolve_image(&pinned).await.unwrap().unwrap();
    let missing = "registry.fly.io/cabanas-it-none:1".parse().unwrap();

    assert_eq!(by_tag.runs_on_fly(), Some(true));
    assert_eq!(by_digest.digest, by_tag.digest);
    assert_eq!(world.client.resolve_image(&missing).await, Ok(None));
}

#[tokio::test]
async fn a_registry_that_is_not_on_the_public_internet_is_not_asked() {
    let world = world().await;
    for image in [
        "localhost:5000/a:1",
        "10.0.0.1/a/b:1",
        "registry.default.svc/a:1",
    ] {
        let error = world
            .client
            .resolve_image(&image.parse().unwrap())
            .await
            .unwrap_err();
        assert_eq!(error.class(), &Class::Invalid, "{image}: {error}");
    }
}

#[tokio::test]
async fn a_mirror_stands_in_for_another_registry_and_never_sees_our_token() {
    let first = world().await;
    let registries = BTreeMap::from([("docker.io".to_owned(), first.sim.base_url())]);
    let http = HttpOptions {
        registries,
        ..HttpOptions::default()
    };
    let second = World::with(Options::default(), http).await;

    let found = second
        .client
        .resolve_image(&"nginx:1".parse().unwrap())
        .await
        .unwrap();

    assert_eq!(found.unwrap().runs_on_fly(), Some(true));
}

/// A private registry outside of Fly.io, and a client that can reach it.
async fn private(bearer: bool) -> (World, World) {
    let shop = |n: usize| Image::new(format!("quay.io/me/shop:1.{n}.0"), "/bin/sleep");
    let options = Options {
        images: Images::new((0..120).map(shop)),
        ..Options::default()
    };
    let first = World::with(options, HttpOptions::default()).await;
    let private = fly_sim::platform::private::Private {
        username: "robot".into(),
        password: "canary-password".into(),
        bearer,
        public_pull: false,
    };
    first.sim.core().write(|world| {
        let images = &mut world.platform.private_images;
        images.insert("quay.io/me/shop".into(), private)
    });
    let registries = BTreeMap::from([("quay.io".to_owned(), first.sim.base_url())]);
    let http = HttpOptions {
        registries,
        ..HttpOptions::default()
    };
    let second = World::with(Options::default(), http).await;
    (first, second)
}

#[tokio::test]
async fn a_private_registry_is_read_with_credentials_page_by_page_and_refuses_others() {
    for bearer in [false, true] {
        let (_registry, world) = private(bearer).await;
        let client = &world.client;
        let image = "quay.io/me/shop:1.7.0".parse().unwrap();
        let robot = |password: &str| golive::fly::Credentials {
            username: "robot".into(),
            password: SecretString::from(password),
        };
        let right = robot("canary-password");

        let tags = client.image_tags(&image, Some(&right)).await.unwrap();
        let found = client.resolve_image_as(&image, Some(&right)).await.unwrap();

        assert_eq!(tags.unwrap().len(), 120, "all pages are read");
        assert_eq!(found.unwrap().runs_on_fly(), Some(true));
        let wrong = client
            .image_tags(&image, Some(&robot("canary-wrong")))
            .await;
        let anonymous = client.resolve_image(&image).await;
        for error in [wrong.unwrap_err(), anonymous.unwrap_err()] {
            assert_eq!(error.status(), Some(401), "{error}");
            assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        }
    }
}

#[tokio::test]
async fn credentials_are_not_sent_to_where_a_registry_points_in_the_clear() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let realm = format!("http://{}/token", elsewhere.local_addr().unwrap());
    let registry = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", registry.local_addr().unwrap());
    let answers = tokio::spawn(async move {
        loop {
            let (mut stream, _) = registry.accept().await.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let answer = format!(
                "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"{realm}\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    let http = HttpOptions {
        registries: BTreeMap::from([("quay.io".to_owned(), base)]),
        ..HttpOptions::default()
    };
    let world = World::with(Options::default(), http).await;
    let robot = golive::fly::Credentials {
        username: "robot".into(),
        password: SecretString::from("canary-password"),
    };

    let image = "quay.io/me/shop".parse().unwrap();
    let error = world.client.image_tags(&image, Some(&robot)).await;

    assert_eq!(error.unwrap_err().status(), Some(401));
    let came = tokio::time::timeout(Duration::from_millis(200), elsewhere.accept()).await;
    assert!(came.is_err(), "somebody came with the credentials");
    answers.abort();
}

#[tokio::test]
async fn an_image_that_does_not_exist_has_no_tags() {
    let world = world().await;
    let missing = "registry.fly.io/cabanas-it-none".parse().unwrap();
    assert_eq!(world.client.image_tags(&missing, None).await, Ok(None));
}

#[tokio::test]
async fn a_managed_cluster_becomes_ready_with_users_and_databases() {
    let world = world().await;
    let client = &world.client;
    let new = NewCluster {
        name: "cabanas-db".into(),
        region: "eze".into(),
        org_slug: "cabanas".into(),
        plan: "basic".into(),
        pg_major_version: "16".into(),
        storage_in_gb: 10,
        postgis_enabled: false,
    };
    let cluster = client.create_postgres_cluster(&new).await.unwrap();
    let ready = async {
        loop {
            let details = client.postgres_cluster(&cluster.id).await.unwrap().unwrap();
            assert!(!details.cluster.status.is_failed(), "{:?}", details.cluster);
            if details.cluster.status == golive::fly::ClusterStatus::Ready {
                break details;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let details = tokio::time::timeout(Duration::from_secs(60), ready)
        .await
        .unwrap();
    client
        .create_postgres_user(&cluster.id, "app", "schema_admin")
        .await
        .unwrap();
    let again = client
        .create_postgres_user(&cluster.id, "app", "schema_admin")
        .await
        .unwrap_err();
    client
        .create_postgres_database(&cluster.id, "app")
        .await
        .unwrap();
    client.attach_postgres(&cluster.id, APP).await.unwrap();

    assert_eq!(again.conflict(), Some(&Conflict::Exists), "{again:?}");
    assert!(details.credentials.unwrap().pgbouncer_uri.is_some());
    let app = client
        .postgres_user_credentials(&cluster.id, "app")
        .await
        .unwrap()
        .unwrap();
    assert!(app.password.is_some());
    assert!(
        client
            .postgres_databases(&cluster.id)
            .await
            .unwrap()
            .iter()
            .any(|d| d.name == "app")
    );
    let listed = client.postgres_clusters("cabanas").await.unwrap();
    assert_eq!(
        listed.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(),
        ["cabanas-db"]
    );
    client
        .delete_postgres_cluster("cabanas", &cluster.id)
        .await
        .unwrap();
    client
        .delete_postgres_cluster("cabanas", &cluster.id)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_redis_database_is_created_once_and_found_by_its_name() {
    let world = world().await;
    let client = &world.client;
    let organization = client.organization("cabanas").await.unwrap().unwrap();
    let plans = client.redis_plans().await.unwrap();
    let new = NewRedis {
        name: "cabanas-redis".into(),
        organization_id: organization.id,
        primary_region: "eze".into(),
        plan_id: plans[0].id.clone(),
        eviction: true,
    };

    assert!(client.redis("cabanas-redis").await.unwrap().is_none());
    let made = client.create_redis(&new).await.unwrap();
    let again = client.create_redis(&new).await.unwrap_err();
    let found = client.redis("cabanas-redis").await.unwrap().unwrap();

    assert!(made.url.is_some());
    assert!(again.conflict().is_some(), "{again:?}");
    assert_eq!(found.organization.unwrap().slug.as_deref(), Some("cabanas"));
    assert!(!format!("{made:?}").contains("redis://"));
    client.delete_redis("cabanas-redis").await.unwrap();
    client.delete_redis("cabanas-redis").await.unwrap();
}

#[tokio::test]
async fn the_newest_image_of_legacy_postgres_is_told() {
    let world = world().await;
    let tag = world
        .client
        .latest_image_tag("flyio/postgres-flex")
        .await
        .unwrap();
    assert!(tag.starts_with("flyio/postgres-flex:"), "{tag}");
}
