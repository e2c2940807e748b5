use super::*;
use crate::api::Reason;
use crate::plan::named::tests::{FULL, activation};

#[test]
fn what_is_missing_is_told_with_the_field_that_names_it() {
    let refs = Refs::of(
        &[
            ("fly", "token", "t"),
            ("db", "URL", "x"),
            ("app", "A", "a\0b"),
        ],
        &[],
    );
    let missing = refs.missing(&activation(FULL));
    let told = |field: &str| {
        let found = missing.iter().find(|(named, _)| named.field == field);
        found.map(|(_, missing)| (missing.reason(), missing.to_string()))
    };
    assert_eq!(told("spec.tokenSecretRef"), None);
    let (reason, text) = told("spec.provision.postgres.fallback.urlSecretRef").unwrap();
    assert_eq!(reason, Reason::SecretKeyMissing);
    assert_eq!(text, "the Secret db has no key url; its key is URL");
    let (reason, text) = told("spec.provision.redis.external.urlSecretRef").unwrap();
    assert_eq!(reason, Reason::SecretNotFound);
    assert!(text.contains("Secret redis does not exist"), "{text}");
    let (reason, text) = told("spec.provision.secrets.from[0].secretRef").unwrap();
    assert_eq!(reason, Reason::SecretInvalid);
    assert!(text.contains("key A of the Secret app"), "{text}");
    let (reason, _) = told("spec.deploy.config.configMapRef").unwrap();
    assert_eq!(reason, Reason::ConfigMapNotFound);
}

#[test]
fn a_fly_toml_that_is_not_found_is_told_with_what_is_there_instead() {
    let map: ConfigMap = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "cfg"},
        "data": {"fly.production.toml": "app = 'x'"},
        "binaryData": {
            "latin.toml": ByteString(b"app = 'x' # caba\xf1a\n".to_vec()),
            "utf16.toml": ByteString(b"\xff\xfea\0p\0p\0".to_vec()),
            "utf8.toml": ByteString(b"app = 'caba\xc3\xb1a'".to_vec()),
        },
    }))
    .unwrap();
    let refs = Refs::of(&[], &[]).with_config_map(map);
    let told = |key| {
        let missing = refs.config_map("cfg", key).unwrap_err();
        (missing.reason(), missing.to_string())
    };
    let (reason, text) = told("fly.toml");
    assert_eq!(reason, Reason::ConfigMapKeyMissing);
    assert!(
        text.contains("fly.production.toml, latin.toml, utf16.toml"),
        "{text}"
    );
    let (reason, text) = told("latin.toml");
    assert_eq!(reason, Reason::FlyConfigInvalid);
    assert!(
        text.contains("has latin.toml in binaryData, because it is not UTF-8 text")
            && text.contains("byte 0xf1 in line 1"),
        "{text}"
    );
    assert!(told("utf16.toml").1.contains("it is UTF-16"));
    assert_eq!(refs.config_map("cfg", "utf8.toml"), Ok("app = 'cabaña'"));
}

#[test]
fn a_token_loses_the_line_break_at_its_end_and_is_never_shown() {
    let refs = Refs::of(&[("fly", "token", "canary-value-123\r\n")], &[]);
    let value = refs.secret("fly", "token").unwrap();
    assert_eq!(value.expose_secret(), "canary-value-123");
    assert!(refs.ends_with_line_break("fly", "token"));
    let shown = format!("{refs:?} {value:?}");
    assert!(!shown.contains("canary"), "{shown}");
}

#[test]
fn only_a_labelled_secret_and_the_own_generated_one_may_be_used_where_that_is_asked_for() {
    let secret = |name: &str, labels: serde_json::Value| -> Secret {
        serde_json::from_value(serde_json::json!({"metadata": {"name": name, "labels": labels}}))
            .unwrap()
    };
    let ours = |instance: &str| serde_json::json!({"app.kubernetes.io/managed-by": "golive", "app.kubernetes.io/instance": instance});
    for (name, labels, expected) in [
        ("db", serde_json::json!({}), false),
        ("db", serde_json::json!({"golive.dev/allow": "true"}), true),
        ("db", serde_json::json!({"golive.dev/allow": "True"}), false),
        ("db", serde_json::json!({"golive.dev/allow": ""}), false),
        ("shop-golive", ours("shop"), true),
        ("shop-golive", serde_json::json!({}), false),
        ("other-golive", ours("other"), false),
        ("db", ours("shop"), false),
    ] {
        let secret = secret(name, labels);
        assert_eq!(
            Allowed::Labelled.allows("shop", &secret),
            expected,
            "{secret:?}"
        );
        assert!(Allowed::All.allows("shop", &secret));
    }
}

#[test]
fn what_may_not_be_used_is_refused_with_the_command_that_allows_it() {
    let mut refs = Refs::of(&[("fly", "token", "x")], &[]);
    refs.refused = ["fly".to_owned()].into();
    for missing in [
        refs.secret("fly", "token").unwrap_err(),
        refs.secret_values("fly").unwrap_err(),
    ] {
        assert_eq!(missing.reason(), Reason::SecretNotAllowed);
        let command = "`kubectl -n shop label secret fly golive.dev/allow=true`";
        assert!(missing.action("shop").contains(command), "{missing:?}");
    }
    assert!(refs.secret_keys("fly").is_empty());
    assert!(!refs.ends_with_line_break("fly", "token"));
}

#[test]
fn an_application_gets_its_values_byte_for_byte() {
    let values = ["", "\n", "x\n", "a\r\nb\r\n", "-----END-----\n", " x "];
    for exact in values {
        let refs = Refs::of(&[("app", "A", exact)], &[]);
        let values = refs.secret_values("app").unwrap();
        assert_eq!(values["A"].expose_secret(), exact, "{exact:?}");
    }
}

#[test]
fn a_value_that_no_environment_variable_can_have_is_named_by_its_key() {
    let longest = LONGEST_VARIABLE - "A=".len() - 1;
    for (value, part) in [
        ("a\0b".to_owned(), Some("NUL byte")),
        ("x".repeat(longest), None),
        ("x".repeat(longest + 1), Some("longer than")),
    ] {
        let refs = Refs::of(&[("app", "A", &value)], &[]);
        let told = refs
            .secret_values("app")
            .err()
            .map(|missing| missing.to_string());
        match part {
            Some(part) => {
                let told = told.unwrap();
                assert!(
                    told.contains(part) && told.contains("key A of the Secret app"),
                    "{told}"
                );
            }
            None => assert_eq!(told, None),
        }
    }
}

#[test]
fn a_secret_that_only_the_serving_release_needs_takes_no_room_from_what_the_spec_names() {
    let secret = |name: &str, bytes: usize| -> Secret {
        let data = serde_json::json!({"KEY": ByteString(vec![b'x'; bytes])});
        let object = serde_json::json!({
            "metadata": {"name": name, "resourceVersion": "7"}, "data": data,
        });
        serde_json::from_value(object).unwrap()
    };
    let named = |most: usize| {
        let mut found = Found {
            most,
            ..Found::default()
        };
        found.add(
            "of-the-spec",
            Either::Left(Some(secret("of-the-spec", SMALL / 2))),
        );
        found
    };
    let names = |found: &Found| -> Vec<String> {
        found.secrets.iter().map(|(name, _)| name.clone()).collect()
    };
    let mut found = named(MOST_BYTES);
    let size = |found: &Found| (found.size.bytes, found.size.keys, found.size.parts);
    let before = size(&found);
    found.add_beside("large", Some(secret("large", MOST_BYTES)));
    assert_eq!(names(&found), ["of-the-spec"]);
    assert_eq!(size(&found), before);
    assert!(found.fits(), "what the spec names is not too much by it");
    assert!(
        found
            .left_out
            .contains(&(RefKind::Secret, "large".to_owned()))
    );
    assert!(
        found.versions.contains_key("large"),
        "its changes are noticed"
    );
    found.add_beside("small", Some(secret("small", 10)));
    found.add_beside("missing", None);
    assert_eq!(names(&found), ["of-the-spec", "small", "missing"]);

    // With less room than the most, the pass reads again with more.
    let mut found = named(SMALL);
    found.add_beside("large", Some(secret("large", SMALL)));
    assert!(!found.fits() && found.left_out.is_empty());
}

#[test]
fn the_token_goes_to_its_own_field_alone_whatever_else_names_its_secret() {
    let mut refs = Refs::of(&[("fly", "token", "t"), ("fly", "url", "u")], &[]);
    refs.token_secret = Some("fly".to_owned());
    let reference = TokenSecretRef::default();
    assert_eq!(refs.token(&reference).unwrap().expose_secret(), "t");
    let apart = Some(holds_token("fly"));
    assert_eq!(refs.secret("fly", "token").err(), apart);
    assert_eq!(refs.secret("fly", "url").err(), apart);
    assert_eq!(refs.secret_values("fly").err(), apart);
    let missing = holds_token("fly");
    assert_eq!(missing.reason(), Reason::SecretInvalid);
    assert!(
        missing
            .action("shop")
            .contains("a Secret of their own with `kubectl -n shop create")
    );
}

/// What is to be redacted has a bound, so that nothing of it is ever forgotten.
#[test]
fn values_of_more_lines_than_are_redacted_are_too_much_and_the_token_is_kept_alone() {
    let secret = |name: &str, data: serde_json::Value| -> Secret {
        let object = serde_json::json!({"metadata": {"name": name}, "data": data});
        serde_json::from_value(object).unwrap()
    };
    let text = |text: &str| ByteString(text.as_bytes().to_vec());
    let bundle = (0..128).map(|number| format!("line-{number:04}-x7Kp2mQz"));
    let bundle = bundle.collect::<Vec<_>>().join("\n");
    let named: BTreeSet<_> = [(RefKind::Secret, "certs".to_owned())].into();
    for (bundles, fits) in [(23, true), (40, false)] {
        let mut found = Found {
            most: MOST_BYTES,
            ..Found::default()
        };
        let token = serde_json::json!({"token": text("fo1_canary"), "other": text("beside")});
        found.add("fly", Either::Left(Some(secret("fly", token))));
        let data: BTreeMap<String, ByteString> = (0..bundles)
            .map(|number| (format!("ca{number}"), text(&bundle)))
            .collect();
        let certs = secret("certs", serde_json::json!(data));
        found.add("certs", Either::Left(Some(certs)));
        assert_eq!(found.fits(), fits, "{bundles}");
        if !fits {
            found.leave_out(&named, "fly");
            let (name, kept) = found.secrets.pop().unwrap();
            let data = kept.unwrap().data.unwrap();
            assert_eq!((name.as_str(), found.secrets.len()), ("fly", 0));
            assert_eq!(data["token"], text("fo1_canary"));
            assert_eq!(data["other"], text(""));
        }
    }
}
