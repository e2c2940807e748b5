//! Credentials for a registry, from the Secret that `deploy.source.credentialsSecretRef` names. Pure.
//! They are redacted from all output until they are dropped.

use std::{collections::BTreeMap, fmt};

use data_encoding::BASE64;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::{
    api::Reason,
    fly::{self, ImageReference},
    plan::{missing::Missing, refs::Refs},
    redact::{self, Guarded},
};

/// Key of a Secret of the type `kubernetes.io/dockerconfigjson`.
const DOCKER_CONFIG: &str = ".dockerconfigjson";

/// Names of Docker Hub in Docker's configuration.
const HUB: [&str; 3] = ["index.docker.io", "registry-1.docker.io", "docker.io"];

/// Credentials that are redacted from all output until this is dropped.
#[derive(Clone)]
pub struct GuardedCredentials {
    /// For the client.
    pub credentials: fly::Credentials,
    /// The texts to redact: the password, and the pair as the Secret holds it.
    _guarded: [Guarded; 2],
}

impl fmt::Debug for GuardedCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(redact::REDACTED)
    }
}

/// Why there are no credentials, with what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// The reason for the status.
    pub reason: Reason,
    /// What is wrong.
    pub message: String,
    /// The next action of a person.
    pub action: String,
}

impl From<Missing> for Unusable {
    fn from(missing: Missing) -> Self {
        Self {
            reason: missing.reason(),
            message: missing.to_string(),
            action: missing.action(""),
        }
    }
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    username: Option<String>,
    #[serde(default, deserialize_with = "secret")]
    password: Option<SecretString>,
    #[serde(default, deserialize_with = "secret")]
    auth: Option<SecretString>,
}

fn secret<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<SecretString>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.map(SecretString::from))
}

/// The credentials for the registry of `image` in the Secret `name`.
///
/// # Errors
/// When the Secret does not exist, or holds no credentials for this registry.
pub fn of(refs: &Refs, name: &str, image: &ImageReference) -> Result<GuardedCredentials, Unusable> {
    match refs.secret(name, DOCKER_CONFIG) {
        Ok(config) => of_docker(config, name, &image.domain),
        Err(Missing::Key { .. }) => {
            let username = refs.secret(name, "username");
            let password = refs.secret(name, "password");
            match (username, password) {
                (Ok(username), Ok(password)) => Ok(guarded(username.expose_secret(), password)),
                (Err(Missing::Key { .. }), Err(Missing::Key { .. })) => Err(Unusable {
                    reason: Reason::SecretKeyMissing,
                    message: format!("the Secret {name} holds no credentials"),
                    action: "create it with `kubectl create secret docker-registry`, or with the keys username and password".to_owned(),
                }),
                (Err(missing), _) | (_, Err(missing)) => Err(missing.into()),
            }
        }
        Err(missing @ Missing::Object { .. }) => Err(Unusable {
            reason: missing.reason(),
            message: missing.to_string(),
            action: creation(name, &image.domain),
        }),
        Err(missing) => Err(missing.into()),
    }
}

/// How the Secret is created.
fn creation(name: &str, domain: &str) -> String {
    format!(
        "create it in the namespace of the Activation with `kubectl create secret docker-registry {name} --docker-server={domain} --docker-username=USER --docker-password=TOKEN`"
    )
}

fn of_docker(
    config: &SecretString,
    name: &str,
    domain: &str,
) -> Result<GuardedCredentials, Unusable> {
    let unusable = |what: String| Unusable {
        reason: Reason::SecretInvalid,
        message: what,
        action: creation(name, domain),
    };
    // The error of serde is dropped: it may quote the text.
    let config: DockerConfig = serde_json::from_str(config.expose_secret()).map_err(|_| {
        unusable(format!(
            "key {DOCKER_CONFIG} of the Secret {name} is no Docker configuration"
        ))
    })?;
    let found = config.auths.iter().find(|(key, _)| server(key) == domain);
    let Some((_, entry)) = found else {
        let known: Vec<&str> = config.auths.keys().map(|key| server(key)).collect();
        let known = if known.is_empty() {
            "none".to_owned()
        } else {
            known.join(", ")
        };
        return Err(unusable(format!(
            "the Secret {name} has no credentials for {domain}, only for {known}"
        )));
    };
    if let (Some(username), Some(password)) = (&entry.username, &entry.password) {
        return Ok(guarded(username, password));
    }
    let pair = entry.auth.as_ref().and_then(|auth| {
        let bytes = BASE64.decode(auth.expose_secret().trim().as_bytes()).ok()?;
        let text = SecretString::from(String::from_utf8(bytes).ok()?);
        let (username, password) = text.expose_secret().split_once(':')?;
        Some((username.to_owned(), SecretString::from(password)))
    });
    match pair {
        Some((username, password)) if !username.is_empty() => Ok(guarded(&username, &password)),
        _ => Err(unusable(format!(
            "the Secret {name} has neither user and password nor `auth` for {domain}"
        ))),
    }
}

/// A registry as Docker's configuration names it: `https://index.docker.io/v1/`.
fn server(key: &str) -> &str {
    let rest = key.split_once("://").map_or(key, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or_default();
    if HUB.contains(&host) {
        "docker.io"
    } else {
        host
    }
}

fn guarded(username: &str, password: &SecretString) -> GuardedCredentials {
    let pair = SecretString::from(format!("{username}:{}", password.expose_secret()));
    GuardedCredentials {
        credentials: fly::Credentials {
            username: username.to_owned(),
            password: password.clone(),
        },
        _guarded: [redact::guard(password.clone()), redact::guard(pair)],
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const PASSWORD: &str = "canary-of-a-registry-77";

    fn docker(server: &str) -> String {
        let auth = BASE64.encode(format!("robot:{PASSWORD}").as_bytes());
        format!(r#"{{"auths":{{"{server}":{{"auth":"{auth}"}}}}}}"#)
    }

    fn found(secrets: &[(&str, &str, &str)], image: &str) -> Result<GuardedCredentials, Unusable> {
        of(&Refs::of(secrets, &[]), "pull", &image.parse().unwrap())
    }

    #[test]
    fn credentials_are_read_as_kubectl_and_docker_write_them() {
        let plain =
            format!(r#"{{"auths":{{"ghcr.io":{{"username":"robot","password":"{PASSWORD}"}}}}}}"#);
        for (config, image) in [
            (docker("ghcr.io"), "ghcr.io/me/app"),
            (docker("https://ghcr.io/v2/"), "ghcr.io/me/app"),
            (docker("https://index.docker.io/v1/"), "me/app"),
            (docker("localhost:5000"), "localhost:5000/app"),
            (plain, "ghcr.io/me/app"),
        ] {
            let held = found(&[("pull", DOCKER_CONFIG, &config)], image).unwrap();
            assert_eq!(held.credentials.username, "robot", "{image}");
            assert_eq!(held.credentials.password.expose_secret(), PASSWORD);
        }
        let pair = [
            ("pull", "username", "robot"),
            ("pull", "password", PASSWORD),
        ];
        let held = found(&pair, "ghcr.io/me/app").unwrap();
        assert_eq!(held.credentials.password.expose_secret(), PASSWORD);
    }

    #[test]
    fn credentials_of_another_registry_are_not_used_and_what_is_missing_is_named() {
        let other = docker("ghcr.io");
        for (secrets, reason, said) in [
            (
                vec![],
                Reason::SecretNotFound,
                "the Secret pull does not exist in this namespace: create it in the namespace of the Activation with `kubectl create secret docker-registry pull --docker-server=",
            ),
            (
                vec![("pull", "token", "x-y-z")],
                Reason::SecretKeyMissing,
                "keys username and password",
            ),
            (
                vec![("pull", "username", "robot")],
                Reason::SecretKeyMissing,
                "no key password",
            ),
            (
                vec![("pull", DOCKER_CONFIG, "{")],
                Reason::SecretInvalid,
                "no Docker configuration",
            ),
            (
                vec![("pull", DOCKER_CONFIG, other.as_str())],
                Reason::SecretInvalid,
                "no credentials for quay.io, only for ghcr.io",
            ),
            (
                vec![(
                    "pull",
                    DOCKER_CONFIG,
                    r#"{"auths":{"quay.io":{"auth":"-"}}}"#,
                )],
                Reason::SecretInvalid,
                "neither user and password",
            ),
        ] {
            let unusable = found(&secrets, "quay.io/me/app").unwrap_err();
            assert_eq!(unusable.reason, reason, "{}", unusable.message);
            let told = format!("{}: {}", unusable.message, unusable.action);
            assert!(told.contains(said), "{told}");
        }
    }

    #[test]
    fn a_password_is_in_no_output_in_any_form_it_stands_in() {
        let config = docker("ghcr.io");
        let held = found(&[("pull", DOCKER_CONFIG, &config)], "ghcr.io/me/app").unwrap();
        let pair = BASE64.encode(format!("robot:{PASSWORD}").as_bytes());
        let text = format!("{held:?} {:?} {PASSWORD} Basic {pair}", held.credentials);
        let shown = redact::redact(&text);
        assert!(
            !shown.contains(PASSWORD) && !shown.contains(&pair),
            "{shown}"
        );
    }
}
