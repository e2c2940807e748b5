//! Any Activation: it is planned or refused, in bounded time and size.

use super::{corpus, each_json, target};
use crate::{
    api::{Activation, status::one_line},
    plan::{Target, named, refs::Refs},
};

/// Longest text that one thing that is wrong with an object is told in, in bytes.
const LONGEST: usize = 40_000;

#[test]
fn any_activation_is_planned_or_refused_in_bounded_time_and_size() {
    let documents: Vec<serde_json::Value> = corpus("activation")
        .iter()
        .map(|text| serde_json::from_slice(text).unwrap())
        .collect();
    let refs = Refs::of(
        &[
            ("fly", "token", "FlyV1 fm2_x"),
            ("db", "url", "postgres://u:p@db.example.org/x"),
            ("app", "A", "Zt7vQm2rKx9pLw4sNb8dHc3f"),
        ],
        &[(
            "config",
            "fly.toml",
            "[http_service]\ninternal_port = 8080\n",
        )],
    );
    let check = |activation: &Activation| {
        let _ = named::watched(activation);
        match Target::parse(activation, &refs, None, b"key") {
            Err(invalid) => {
                assert!(!invalid.is_empty());
                for one in invalid {
                    assert!(
                        one.to_string().len() < LONGEST,
                        "{} bytes",
                        one.to_string().len()
                    );
                    let _ = one_line(&one.message, 200);
                }
            }
            Ok(target) => {
                assert!(target.digest().len() < 100);
                let again = Target::parse(activation, &refs, None, b"key").unwrap();
                assert_eq!(
                    target.digest(),
                    again.digest(),
                    "the same object is the same plan"
                );
                assert_eq!(target.stamp(), again.stamp());
                if let Ok(config) = target.config() {
                    let _ = (config.app.process_groups(), config.app.health_paths());
                }
                assert!(!format!("{target:?}").contains("Zt7vQm2rKx9pLw4sNb8dHc3f"));
            }
        }
    };
    let run = |input: &[u8]| each_json::<Activation>(&documents, input, check);
    target!("activation", run);
}
