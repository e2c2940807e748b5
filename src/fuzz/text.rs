//! Texts of users: fly.toml, tokens, references of images.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};

use super::target;
use crate::{
    api::observe::Observe,
    fly::{CheckOutput, ImageReference, Token, token},
    flytoml,
    phase::observe::question::Wanted,
};

/// Longest text of all problems of a fly.toml for each of its bytes, and a constant.
const PROBLEMS: (usize, usize) = (200, 20_000);

#[test]
fn no_fly_toml_panics_takes_long_or_converts_without_bound() {
    let run = |input: &[u8]| {
        let text = String::from_utf8_lossy(input);
        let _ = flytoml::not_utf8(input);
        match flytoml::parse(&text) {
            Err(invalid) => {
                assert!(!invalid.problems.is_empty(), "a refusal says why");
                let told: usize = invalid.problems.iter().map(|p| p.to_string().len()).sum();
                assert!(told < PROBLEMS.0 * text.len() + PROBLEMS.1, "{told} bytes");
            }
            Ok(mut parsed) => {
                parsed.bind("shop", "eze");
                let _ = (parsed.config.strategy(), parsed.config.health_paths());
                for group in parsed.config.process_groups() {
                    let _ = parsed.config.services_of(&group);
                    let _ = parsed.config.health_checks(&group);
                    let _ = parsed.config.guest(&group);
                    let _ = parsed.config.first_machines(&group, true);
                }
                // What is recorded with a release is read back the same.
                let recorded = flytoml::definition(Some(&text), "shop", "eze", 8080);
                assert!(recorded.is_object());
            }
        }
    };
    target!("fly_toml", run);
}

#[test]
fn no_token_panics_or_shows_itself() {
    let run = |input: &[u8]| {
        let macaroon = format!("FlyV1 fm2_{}", STANDARD.encode(input));
        for text in [&*String::from_utf8_lossy(input), &macaroon] {
            let _ = token::looks_like_one(text);
            match Token::parse(text) {
                Err(error) => {
                    let shown = format!("{error} {error:?}");
                    assert!(text.trim().len() < 16 || !shown.contains(text.trim()));
                }
                Ok(token) => {
                    assert!(token.is_same(&token));
                    let shown = format!("{token:?} {:?}", token.facts());
                    let longest = text.split([' ', ',']).max_by_key(|part| part.len());
                    let longest = longest.unwrap_or_default();
                    assert!(longest.len() < 24 || !shown.contains(longest), "{shown}");
                }
            }
        }
    };
    target!("token", run);
}

#[test]
fn a_reference_of_an_image_reads_back_as_it_is_shown_and_names_a_host() {
    let run = |input: &[u8]| {
        let text = String::from_utf8_lossy(input);
        let Ok(reference) = text.parse::<ImageReference>() else {
            return;
        };
        let shown = reference.to_string();
        assert_eq!(
            shown.parse::<ImageReference>().unwrap(),
            reference,
            "{shown}"
        );
        let url = url::Url::parse(&format!("https://{}/v2/", reference.domain)).unwrap();
        assert!(url.username().is_empty() && url.password().is_none());
        assert_eq!(url.path(), "/v2/", "{shown}");
        assert!(
            shown.bytes().all(|byte| byte.is_ascii_graphic()),
            "{shown:?}"
        );
    };
    target!("image", run);
}

#[test]
fn no_output_of_a_check_panics() {
    let run = |input: &[u8]| {
        let text = String::from_utf8_lossy(input);
        let shown = format!("{:?}", CheckOutput::read(&text));
        assert!(shown.len() <= 16 * text.len() + 200);
    };
    target!("check_output", run);
}

#[test]
fn no_name_of_a_tag_makes_its_choice_panic() {
    use crate::{api::source::Policy, plan::source::choose::Rule};
    let policies = [
        r#"{"semver": {"range": ">=1.0.0 <2.0.0-0"}}"#,
        r#"{"newest": {"pattern": "^main-[a-f0-9]+-(?P<ts>[0-9]+)$", "extract": "$ts", "order": "Numerical"}}"#,
        r#"{"tag": {"name": "stable"}}"#,
    ];
    let rules: Vec<Rule> = policies
        .iter()
        .map(|text| Rule::parse(&serde_json::from_str::<Policy>(text).unwrap()).unwrap())
        .collect();
    let run = |input: &[u8]| {
        let text = String::from_utf8_lossy(input);
        let tags: Vec<String> = text.split('\n').map(str::to_owned).collect();
        let found: BTreeMap<usize, String> = rules
            .iter()
            .enumerate()
            .map(|(n, rule)| {
                (
                    n,
                    format!("{:?}", rule.pick(&tags, tags.first().map(String::as_str))),
                )
            })
            .collect();
        assert_eq!(found.len(), rules.len());
        // Whatever a pattern is, it is refused or compiled within its limits.
        let policy = serde_json::json!({"newest": {"pattern": text, "extract": "$1"}});
        if let Ok(policy) = serde_json::from_value::<Policy>(policy)
            && let Ok(rule) = Rule::parse(&policy)
        {
            let _ = rule.pick(&tags, None);
        }
    };
    target!("tags", run);
}

#[test]
fn no_document_of_another_tool_panics_or_becomes_an_objective_that_nobody_takes() {
    let run = |input: &[u8]| {
        let text = String::from_utf8_lossy(input);
        match crate::cli::import_of(&text) {
            Err(said) => assert!(!said.is_empty()),
            Ok(part) => {
                let part: serde_json::Value = serde_saphyr::from_str(&part).unwrap();
                let observe: Observe = serde_json::from_value(part["observe"].clone()).unwrap();
                assert!(Wanted::of(&observe).is_ok(), "{part}");
            }
        }
    };
    target!("slos", run);
}
