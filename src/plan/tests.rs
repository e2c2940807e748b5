//! What must hold for a target, shown with specs as users write them.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use super::{refs::Refs, *};
use crate::api::{Activation, PhaseName, Reason};

const KEY: &[u8] = b"installation";

const FLY_TOML: &str = r#"
app = "another-name"
primary_region = "ams"

[http_service]
internal_port = 8080

[[http_service.checks]]
path = "/alive"
"#;

fn activation(extra: &str) -> Activation {
    let text = format!(
        "
organization: cabanas
app: shop
region: eze
{extra}
"
    );
    let mut spec: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
    if spec["deploy"].is_null() {
        spec["deploy"] = serde_json::json!({});
    }
    if spec["deploy"]["image"].is_null() {
        spec["deploy"]["image"] = "registry.fly.io/shop:1".into();
    }
    serde_json::from_value(serde_json::json!({"metadata": {"name": "shop"}, "spec": spec})).unwrap()
}

fn refs() -> Refs {
    Refs::of(
        &[
            ("fly", "token", "fo1_some-token"),
            ("db", "url", "postgres://user:secret-word@db.example/shop"),
        ],
        &[("config", "fly.toml", FLY_TOML)],
    )
}

/// The target of an Activation of the app `shop` with this in its spec, in YAML.
pub fn target(extra: &str) -> Target {
    match Target::parse(&activation(extra), &refs(), None, KEY) {
        Ok(target) => target,
        Err(invalid) => panic!("{invalid:?}"),
    }
}

#[test]
fn the_smallest_object_is_a_whole_target() {
    let target = target("");
    assert_eq!(target.url(), "https://shop.fly.dev");
    assert_eq!(
        target.image().unwrap().to_string(),
        "registry.fly.io/shop:1"
    );
    assert_eq!(target.database(), None);
    assert_eq!(target.redis(), None);
    assert_eq!(
        target.deadline(PhaseName::Provision),
        Some(Duration::from_secs(720))
    );
    assert_eq!(target.deadline(PhaseName::Observe), None);
    let config = target.config().unwrap();
    assert_eq!(
        config.app.http_service.as_ref().unwrap().internal_port,
        Some(8080)
    );
}

#[test]
fn the_object_decides_name_and_region_and_the_fly_toml_the_rest() {
    let config = target("deploy: {config: {configMapRef: {name: config}}}")
        .config()
        .unwrap();
    assert_eq!(config.app.app.as_deref(), Some("shop"));
    assert_eq!(config.app.primary_region.as_deref(), Some("eze"));
    assert_eq!(config.app.health_paths(), ["/alive"]);
}

#[test]
fn a_missing_or_senseless_token_says_what_to_put_where() {
    let none = Refs::of(&[], &[]);
    let invalid = Target::parse(&activation(""), &none, None, KEY).unwrap_err();
    assert_eq!(invalid[0].field, "spec.tokenSecretRef");
    assert_eq!(invalid[0].reason, Reason::SecretNotFound);
    assert!(invalid[0].message.contains("Secret fly"), "{}", invalid[0]);

    let bad = Refs::of(&[("fly", "token", "two lines\nof-canary-text")], &[]);
    let invalid = Target::parse(&activation(""), &bad, None, KEY).unwrap_err();
    assert_eq!(invalid[0].reason, Reason::TokenInvalid);
    assert!(
        invalid[0].action.contains("fly tokens create"),
        "{}",
        invalid[0]
    );
    assert!(!invalid[0].message.contains("canary"), "{}", invalid[0]);
}

#[test]
fn what_preflight_reports_does_not_keep_a_target_from_being() {
    let target = target("deploy: {image: 'UPPER CASE', config: {inline: 'not = [toml'}}");
    let image = target.image_or_invalid().unwrap_err();
    assert_eq!(image.field, "spec.deploy.image");
    assert!(
        image.action.contains("registry.fly.io/<app>:<tag>"),
        "{image}"
    );
    let config = target.config_or_invalid().unwrap_err();
    assert_eq!(config.reason, Reason::FlyConfigInvalid);

    let target = self::target("deploy: {config: {configMapRef: {name: nowhere}}}");
    assert_eq!(
        target.config_or_invalid().unwrap_err().reason,
        Reason::ConfigMapNotFound
    );
}

#[test]
fn the_kind_of_database_and_redis_has_a_type() {
    let target = target(
        "
provision:
  postgres: {flyPostgres: {count: 3}, fallback: {urlSecretRef: {name: db, key: url}}}
  redis: {upstash: {eviction: true}}
",
    );
    assert!(matches!(target.database(), Some(Database::FlyPostgres(spec)) if spec.count == 3));
    assert_eq!(target.database_fallback().unwrap().name, "db");
    assert!(matches!(target.redis(), Some(Redis::Upstash(spec)) if spec.eviction));

    let external = "provision: {postgres: {external: {urlSecretRef: {name: db, key: url}}}}";
    let target = self::target(external);
    assert!(matches!(target.database(), Some(Database::External(key)) if key.key == "url"));
}

#[test]
fn the_digest_changes_with_what_is_done_and_only_with_that() {
    let base = target("").digest().to_owned();
    for same in [
        "preflight: {owner: me, deadline: 1m}",
        "deploy: {owner: somebody, deadline: 1h}",
        "gates: [{before: Deploy}]",
        "suspend: false",
        "notifications: [{webhook: {urlSecretRef: {name: a, key: b}}}]",
    ] {
        assert_eq!(target(same).digest(), base, "{same}");
    }
    for other in [
        "deploy: {image: 'registry.fly.io/shop:2'}",
        "deploy: {scale: {app: 2}}",
        "provision: {postgres: {managed: {}}}",
        "provision: {hostnames: [a.example]}",
        "preflight: {skip: [{check: TokenExpiry, justification: short-lived on purpose}]}",
        "adoption: Always",
    ] {
        assert_ne!(target(other).digest(), base, "{other}");
    }
}

#[test]
fn the_digest_follows_the_text_and_the_secrets_that_are_named() {
    let object = activation(
        "
provision: {secrets: {from: [{secretRef: {name: app}}]}}
deploy: {config: {configMapRef: {name: config}}}
",
    );
    let digest = |value: &str, toml: &str, token: &str| {
        let refs = Refs::of(
            &[("fly", "token", token), ("app", "A", value)],
            &[("config", "fly.toml", toml)],
        );
        Target::parse(&object, &refs, None, KEY)
            .unwrap()
            .digest()
            .to_owned()
    };
    let base = digest("1", FLY_TOML, "fo1_a");
    assert_eq!(
        base,
        digest("1", FLY_TOML, "fo1_b"),
        "another token does the same"
    );
    assert_ne!(base, digest("2", FLY_TOML, "fo1_a"));
    assert_ne!(base, digest("1", "app = 'x'", "fo1_a"));
}

#[test]
fn the_stamp_follows_the_token_as_well() {
    let with = |token: &str| {
        let refs = Refs::of(&[("fly", "token", token)], &[]);
        Target::parse(&activation(""), &refs, None, KEY)
            .unwrap()
            .stamp()
            .to_owned()
    };
    assert_eq!(with("fo1_a"), with("fo1_a"));
    assert_ne!(with("fo1_a"), with("fo1_b"));
}

#[test]
fn a_fingerprint_needs_the_key_of_the_installation() {
    let value = "1234".into();
    assert_eq!(fingerprint(KEY, &value), fingerprint(KEY, &value));
    assert_ne!(fingerprint(KEY, &value), fingerprint(b"another", &value));
    assert_ne!(fingerprint(KEY, &value), fingerprint(KEY, &"1235".into()));
}

#[test]
fn a_target_shows_no_secret() {
    let external = "provision: {postgres: {external: {urlSecretRef: {name: db, key: url}}}}";
    let shown = format!("{:?} {:?}", target(external), refs());
    assert!(
        !shown.contains("fo1_some") && !shown.contains("secret-word"),
        "{shown}"
    );
}

/// The target of an Activation that follows an image, and the identity of its image question.
fn following(source: &str, more: &str, tag: &str, digest: &str) -> (Target, String) {
    use crate::{plan::source::decide::Followed, store::image::Choice};
    let mut object = activation(more);
    object.spec.deploy.image = None;
    object.spec.deploy.source = Some(serde_saphyr::from_str(source).unwrap());
    let choice = Choice {
        asked: asked(&object),
        image: "registry.fly.io/shop".to_owned(),
        tag: tag.to_owned(),
        digest: digest.to_owned(),
        runs_on_fly: Some(true),
        why: String::new(),
    };
    let followed = Followed {
        choice: (!tag.is_empty()).then_some(choice),
        reason: Reason::SourceFollowed,
        message: String::new(),
        pending: None,
        failure: None,
    };
    let target = Target::parse(&object, &refs(), Some(&followed), KEY).unwrap();
    (target, asked(&object))
}

const FOLLOWS: &str = "{image: registry.fly.io/shop, policy: {semver: {range: 1.x}}";

#[test]
fn the_digest_covers_the_image_that_was_chosen_and_not_how_it_was_found() {
    let of = |source: &str, tag: &str, digest: &str| {
        let digest = format!("sha256:{}", digest.repeat(64));
        following(source, "", tag, &digest).0
    };
    let source = format!("{FOLLOWS}}}");
    let first = of(&source, "1.4.0", "a");
    assert_eq!(first.image_name(), "registry.fly.io/shop:1.4.0");
    assert!(first.image().unwrap().digest.is_some());
    let often = format!("{FOLLOWS}, interval: 1m, credentialsSecretRef: {{name: pull}}}}");
    assert_eq!(of(&often, "1.4.0", "a").digest(), first.digest());
    assert_ne!(of(&source, "1.5.0", "b").digest(), first.digest());
    assert_ne!(of(&source, "1.4.0", "b").digest(), first.digest());
    let none = of(&source, "", "a");
    assert_eq!(
        none.image_or_invalid().unwrap_err().field,
        "spec.deploy.source"
    );
}

#[test]
fn one_tag_is_asked_about_anew_with_another_spec_and_a_policy_that_goes_on_is_not() {
    let question = |source: &str, more: &str| following(source, more, "1", "sha256:a").1;
    let scaled = "deploy: {scale: {app: 2}}";
    let source = format!("{FOLLOWS}}}");
    assert_eq!(question(&source, ""), question(&source, scaled));
    let pinned = "{image: registry.fly.io/shop, policy: {pinned: {tag: '1'}}}";
    assert_ne!(question(pinned, ""), question(pinned, scaled));
    assert_eq!(
        question(pinned, ""),
        question(pinned, "deploy: {owner: me}")
    );
    assert_ne!(asked(&activation("")), asked(&activation(scaled)));
    assert_eq!(
        asked(&activation("")),
        asked(&activation("deploy: {deadline: 1h}"))
    );
}
