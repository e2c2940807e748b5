//! Why a value that an Activation names is not available, and what a person does about it. Pure.

use std::fmt;

use crate::{
    api::{ALLOWED, LABEL_ALLOW, Reason},
    plan::{
        named::RefKind,
        room::{MOST_BYTES, MOST_KEYS},
    },
    redact::MOST_PARTS,
};

/// Keys in a message; the rest is counted.
const MAX_KEYS: usize = 8;

/// Why a value that is named is not available.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The object does not exist.
    Object {
        /// Its kind.
        kind: RefKind,
        /// Its name.
        name: String,
        /// The key that is needed of it; `None` if it is named as a whole.
        key: Option<String>,
    },
    /// The object does not have the key.
    Key {
        /// Its kind.
        kind: RefKind,
        /// Its name.
        name: String,
        /// The key.
        key: String,
        /// The keys that it has.
        present: Vec<String>,
    },
    /// The key of a ConfigMap is in `binaryData`, because it is not text.
    NotText {
        /// Name of the ConfigMap.
        name: String,
        /// The key.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// The Secret does not allow its use by Activations, and this installation asks for that.
    NotAllowed {
        /// Name of the Secret.
        name: String,
    },
    /// The Secret is that of the Fly token, and the field is another one.
    HoldsToken {
        /// Name of the Secret.
        name: String,
    },
    /// The object names more data than fits. Only the token was read.
    TooMuch {
        /// Kind of the object that is not read for it.
        kind: RefKind,
        /// Its name.
        name: String,
    },
    /// The value cannot be used.
    Unusable {
        /// Name of the Secret.
        name: String,
        /// The key.
        key: String,
        /// What is wrong.
        defect: Defect,
    },
}

/// Why a value of a Secret cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// A token or an address is empty.
    Empty,
    /// It is not UTF-8 text.
    NotText,
    /// It has a NUL byte, which ends the text of an environment variable.
    Nul,
    /// It is longer than an environment variable can be.
    TooLong,
}

impl Missing {
    /// The reason for conditions.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Object {
                kind: RefKind::Secret,
                ..
            } => Reason::SecretNotFound,
            Self::Object {
                kind: RefKind::ConfigMap,
                ..
            } => Reason::ConfigMapNotFound,
            Self::Key {
                kind: RefKind::Secret,
                ..
            } => Reason::SecretKeyMissing,
            Self::Key {
                kind: RefKind::ConfigMap,
                ..
            } => Reason::ConfigMapKeyMissing,
            Self::NotText { .. } => Reason::FlyConfigInvalid,
            Self::NotAllowed { .. } => Reason::SecretNotAllowed,
            Self::TooMuch { .. } => Reason::ReferencedDataTooLarge,
            Self::HoldsToken { .. } | Self::Unusable { .. } => Reason::SecretInvalid,
        }
    }

    /// What a person does about it, in this namespace. A Secret that is named as a whole is created
    /// with any keys.
    pub fn action(&self, namespace: &str) -> String {
        self.action_among(std::iter::empty(), namespace)
    }

    /// What a person does about it, where all of these are missing: an object that does not exist is
    /// created once, with every key that is needed of it.
    pub fn action_among<'a>(
        &self,
        all: impl IntoIterator<Item = &'a Self>,
        namespace: &str,
    ) -> String {
        let kubectl = kubectl(namespace);
        match self {
            Self::Object { kind, name, key } => {
                let mut keys: Vec<&str> = key.iter().map(String::as_str).collect();
                for other in all {
                    match other {
                        Self::Object { kind: of, name: object, key: Some(key) }
                            if (of, object) == (kind, name) && !keys.contains(&key.as_str()) =>
                        {
                            keys.push(key);
                        }
                        _ => {}
                    }
                }
                keys.sort_unstable();
                format!("create it with `{kubectl} create {}`", creation(*kind, name, &keys))
            }
            Self::Key {
                kind, name, key, present,
            } => {
                let add = match kind {
                    RefKind::Secret => format!(
                        "add it with `{kubectl} patch secret {name} -p '{{\"stringData\":{{\"{key}\":\"VALUE\"}}}}'`"
                    ),
                    RefKind::ConfigMap => format!(
                        "add it with `{kubectl} create configmap {name} --from-file={key}=fly.toml --dry-run=client -o yaml | {kubectl} apply -f -`"
                    ),
                };
                match present.as_slice() {
                    [] => add,
                    // The keys that are there may be those of something else.
                    [one] => format!("{add}; or, if it is there as {one}, set `key: {one}` in that field"),
                    _ => format!("{add}; or, if it is there under another key, name that key in the field"),
                }
            }
            Self::NotText { .. } => {
                "save the file as UTF-8 and create the ConfigMap again".to_owned()
            }
            Self::NotAllowed { name } => format!(
                "if Activations may use it, label it with `{kubectl} label secret {name} {LABEL_ALLOW}={ALLOWED}`"
            ),
            Self::HoldsToken { name } => format!(
                "put the other values into a Secret of their own with `{kubectl} create secret generic {name}-values --from-literal=KEY=VALUE`, and name that one"
            ),
            Self::TooMuch { .. } => format!(
                "name fewer or smaller ones, and have the application read large data from a volume or over the network; `{kubectl} describe secrets` shows the sizes"
            ),
            Self::Unusable { name, key, defect } => match defect {
                Defect::Empty => format!(
                    "put the value there with `{kubectl} patch secret {name} -p '{{\"stringData\":{{\"{key}\":\"VALUE\"}}}}'`"
                ),
                Defect::NotText => "store it as text, for example in base64, and have the application decode it".to_owned(),
                Defect::Nul => "remove the byte, or store the value in base64 and have the application decode it".to_owned(),
                Defect::TooLong => "shorten it, or give the application a file or an address to read it from".to_owned(),
            },
        }
    }
}

/// The end of the command that creates an object with these keys; any, if there are none.
fn creation(kind: RefKind, name: &str, keys: &[&str]) -> String {
    let (create, any) = match kind {
        RefKind::Secret => ("secret generic", "--from-literal=KEY=VALUE"),
        RefKind::ConfigMap => ("configmap", "--from-file=fly.toml"),
    };
    let mut command = format!("{create} {name}");
    for key in keys {
        command.push_str(&match kind {
            RefKind::Secret => format!(" --from-literal={key}=VALUE"),
            RefKind::ConfigMap if *key == "fly.toml" => format!(" {any}"),
            RefKind::ConfigMap => format!(" --from-file={key}=fly.toml"),
        });
    }
    if keys.is_empty() {
        command.push_str(&format!(" {any}"));
    }
    command
}

/// Why objects are not used that are too much together.
pub fn too_much() -> String {
    format!(
        "the Secrets and ConfigMaps that the spec names have more than {} MiB, {MOST_KEYS} keys or {MOST_PARTS} values and lines of Secrets in all",
        MOST_BYTES >> 20
    )
}

/// The beginning of a command in a namespace; an empty one is that of the person.
pub fn kubectl(namespace: &str) -> String {
    if namespace.is_empty() {
        return "kubectl".to_owned();
    }
    format!("kubectl -n {namespace}")
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object { kind, name, .. } => {
                write!(f, "the {kind:?} {name} does not exist in this namespace")
            }
            Self::Key {
                kind,
                name,
                key,
                present,
            } => {
                write!(f, "the {kind:?} {name} has no key {key}; ")?;
                match present.as_slice() {
                    [] => f.write_str("it is empty"),
                    [one] => write!(f, "its key is {one}"),
                    _ => {
                        let shown = present.iter().take(MAX_KEYS).map(String::as_str);
                        let shown: Vec<&str> = shown.collect();
                        write!(f, "its keys are {}", shown.join(", "))?;
                        match present.len() - shown.len() {
                            0 => Ok(()),
                            more => write!(f, " and {more} more"),
                        }
                    }
                }
            }
            Self::NotText { name, key, why } => write!(
                f,
                "the ConfigMap {name} has {key} in binaryData, because it is not UTF-8 text ({why})"
            ),
            Self::NotAllowed { name } => write!(
                f,
                "the Secret {name} does not have the label {LABEL_ALLOW}={ALLOWED}, without which no Activation may use it here (`--require-secret-opt-in`)"
            ),
            Self::HoldsToken { name } => write!(
                f,
                "the Secret {name} holds the Fly token, which is sent to Fly.io alone"
            ),
            Self::TooMuch { kind, name } => {
                write!(f, "the {kind:?} {name} is not used: {}", too_much())
            }
            Self::Unusable { name, key, defect } => {
                write!(f, "the value of key {key} of the Secret {name} {defect}")
            }
        }
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "is empty",
            Self::NotText => "is not UTF-8 text, which an environment variable must be",
            Self::Nul => "has a NUL byte, which no environment variable can have",
            Self::TooLong => "is longer than an environment variable can be, 128 kB with its name",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_that_does_not_exist_is_created_by_one_command_with_every_key_that_is_needed() {
        let object = |kind, name: &str, key: Option<&str>| Missing::Object {
            kind,
            name: name.to_owned(),
            key: key.map(str::to_owned),
        };
        let secret = |name, key| object(RefKind::Secret, name, key);
        assert_eq!(
            secret("fly", Some("token")).action("shop"),
            "create it with `kubectl -n shop create secret generic fly --from-literal=token=VALUE`"
        );
        assert_eq!(
            secret("app", None).action("shop"),
            "create it with `kubectl -n shop create secret generic app --from-literal=KEY=VALUE`"
        );
        let all = [
            secret("db", Some("redis")),
            secret("db", Some("postgres")),
            secret("other", Some("x")),
        ];
        for missing in &all[..2] {
            assert_eq!(
                missing.action_among(&all, "shop"),
                "create it with `kubectl -n shop create secret generic db --from-literal=postgres=VALUE --from-literal=redis=VALUE`"
            );
        }
        let config = |key| object(RefKind::ConfigMap, "hola", Some(key)).action("");
        assert_eq!(
            config("fly.toml"),
            "create it with `kubectl create configmap hola --from-file=fly.toml`"
        );
        assert_eq!(
            config("prod.toml"),
            "create it with `kubectl create configmap hola --from-file=prod.toml=fly.toml`"
        );
    }

    #[test]
    fn the_keys_that_are_there_are_named_and_the_action_is_a_command() {
        let missing = |present: &[&str]| Missing::Key {
            kind: RefKind::Secret,
            name: "fly".to_owned(),
            key: "token".to_owned(),
            present: present.iter().map(|key| (*key).to_owned()).collect(),
        };
        let one = missing(&["FLY_API_TOKEN"]);
        assert_eq!(
            one.to_string(),
            "the Secret fly has no key token; its key is FLY_API_TOKEN"
        );
        assert!(
            one.action("shop").contains("set `key: FLY_API_TOKEN`"),
            "{}",
            one.action("shop")
        );
        assert!(
            missing(&[])
                .action("shop")
                .starts_with("add it with `kubectl -n shop patch secret fly"),
            "{}",
            missing(&[]).action("shop")
        );
        assert!(missing(&[]).to_string().ends_with("it is empty"));
        let many: Vec<String> = (0..20).map(|n| format!("K{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let text = missing(&many).to_string();
        assert!(text.ends_with("K7 and 12 more"), "{text}");
    }
}
