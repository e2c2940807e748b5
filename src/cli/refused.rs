//! What the cluster refuses, with the next step: the role that is missing, the login, the definitions.

use kube::{Error as KubeError, core::Status};

/// Which right a command needs, as a ClusterRole that Golive installs or Kubernetes has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// To read Activations and approvals.
    View,
    /// To change Activations.
    Edit,
    /// To decide at gates and to roll back.
    Approver,
    /// To read events; Kubernetes has this role.
    Events,
    /// To read ConfigMaps; Kubernetes has this role.
    ConfigMaps,
    /// To read what belongs to the whole cluster.
    Cluster,
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Self::View => "activation-view",
            Self::Edit => "activation-edit",
            Self::Approver => "activation-approver",
            Self::Events | Self::ConfigMaps => "view",
            // No role of its own: never one that may do everything.
            Self::Cluster => "",
        }
    }

    /// What gives the right; `None` as the namespace means all of them.
    fn advice(self, namespace: Option<&str>, user: &str) -> String {
        if self == Self::Cluster {
            return "Ask an administrator for the right to read it".to_owned();
        }
        let role = self.name();
        // A binding has one role and a name of its own: one that exists may be of somebody else.
        let name = quoted(&format!("{role}-{}", user.replace(['/', '%'], "-")));
        let user = quoted(user);
        let grant = match namespace {
            Some(namespace) => format!(
                "kubectl -n {namespace} create rolebinding {name} --clusterrole={role} --user={user}"
            ),
            None => format!(
                "kubectl create clusterrolebinding {name} --clusterrole={role} --user={user}"
            ),
        };
        format!("The role {role} is missing; an administrator gives it with: {grant}")
    }
}

/// A word of a command for a POSIX shell: a user's name may have any character.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:@/".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// Resources of an impersonation. Source: Kubernetes, "Authenticating", user impersonation.
const IMPERSONATED: [&str; 5] = ["users", "groups", "serviceaccounts", "uids", "userextras"];

/// Who refused with 403.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refuser {
    /// The authorizer, the request: a right is missing.
    Rights,
    /// The authorizer, the impersonation of another user.
    Impersonation,
    /// A policy or a webhook, whose message says why: no role would help.
    Admission,
}

impl Refuser {
    /// The authorizer names the resource and no cause. A ValidatingAdmissionPolicy adds a cause, and a
    /// webhook names no resource. Source: Kubernetes, apiserver, `responsewriters.Forbidden`, and
    /// `plugin/policy/validating/dispatcher.go`.
    fn of(status: &Status) -> Self {
        let details = status.details.as_ref();
        match details {
            Some(details) if !details.causes.is_empty() => Self::Admission,
            Some(details) if IMPERSONATED.contains(&details.kind.as_str()) => Self::Impersonation,
            Some(details) if !details.kind.is_empty() => Self::Rights,
            _ => Self::Admission,
        }
    }
}

/// What was being done: for the message, and for the right that it needs.
#[derive(Clone, Debug)]
pub(super) struct Doing {
    /// In words that follow "cannot", such as "list Activations".
    pub(super) what: String,
    /// The right that it needs.
    pub(super) role: Role,
    /// Where; `None` for the whole cluster.
    pub(super) namespace: Option<String>,
}

/// Why a request to the cluster failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("cannot {what}: {message}. {advice}")]
    Forbidden {
        what: String,
        message: String,
        advice: String,
    },
    #[error(
        "cannot {what}: {message}. You may not act as another user; leave out --as, or ask an administrator for the verb impersonate"
    )]
    Impersonation { what: String, message: String },
    #[error(
        "cannot {what}: the cluster does not accept your credentials; log in again, or choose another --context"
    )]
    Unauthorized { what: String },
    #[error(
        "cannot {what}: the cluster does not know this kind; install the definitions with: kubectl apply --server-side -f crds/"
    )]
    NotInstalled { what: String },
    #[error("cannot {what}: there is no such object")]
    NotFound { what: String },
    #[error("cannot {what}: the cluster does not respond; check the --context and the network")]
    NoAnswer {
        what: String,
        #[source]
        source: Box<KubeError>,
    },
    #[error("cannot {what}: {message}")]
    Api {
        what: String,
        code: u16,
        message: String,
    },
    #[error("cannot {what}")]
    Other {
        what: String,
        #[source]
        source: Box<KubeError>,
    },
}

impl Refused {
    /// The failure of a request, for a person. `user` is who sent it.
    pub(super) fn new(doing: Doing, error: KubeError, user: Option<&str>) -> Self {
        let what = doing.what;
        let status = match error {
            KubeError::Api(status) => status,
            KubeError::Service(_) | KubeError::HyperError(_) => {
                return Self::NoAnswer {
                    what,
                    source: Box::new(error),
                };
            }
            other => {
                return Self::Other {
                    what,
                    source: Box::new(other),
                };
            }
        };
        let named = status.details.as_ref();
        let named = named.is_some_and(|details| !details.name.is_empty());
        match status.code {
            401 => Self::Unauthorized { what },
            403 => {
                let message = status.message.trim_end_matches('.').to_owned();
                let user = user.unwrap_or("USER");
                match Refuser::of(&status) {
                    Refuser::Rights => Self::Forbidden {
                        what,
                        message,
                        advice: doing.role.advice(doing.namespace.as_deref(), user),
                    },
                    Refuser::Impersonation => Self::Impersonation { what, message },
                    Refuser::Admission => Self::Api {
                        what,
                        code: 403,
                        message,
                    },
                }
            }
            // Of an object that is not there the API server says its name; of a kind it does not know, none.
            404 if named => Self::NotFound { what },
            404 => Self::NotInstalled { what },
            code => Self::Api {
                what,
                code,
                message: status.message,
            },
        }
    }

    /// Whether the same request may succeed in a moment: nothing answered, the API server asks to come
    /// back later, or it has failed. Source: Kubernetes, "API Conventions", HTTP status codes.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::NoAnswer { .. } => true,
            Self::Api { code, .. } => *code == 429 || *code >= 500,
            _ => false,
        }
    }

    /// Whether there is no object of this name.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(code: u16, name: &str, namespace: Option<&str>, role: Role) -> String {
        let details = json!({"name": name, "group": "golive.dev", "kind": "activations"});
        let status = json!({"code": code, "message": "no", "details": details});
        let status: Status = serde_json::from_value(status).unwrap();
        let doing = Doing {
            what: "list Activations".to_owned(),
            role,
            namespace: namespace.map(str::to_owned),
        };
        Refused::new(doing, KubeError::Api(Box::new(status)), Some("ana")).to_string()
    }

    #[test]
    fn a_missing_right_is_named_with_the_command_that_gives_it() {
        let text = said(403, "", Some("shop"), Role::View);
        assert!(text.ends_with(
            "kubectl -n shop create rolebinding activation-view-ana --clusterrole=activation-view --user=ana"
        ), "{text}");
        let text = said(403, "", None, Role::Approver);
        assert!(
            text.contains("create clusterrolebinding activation-approver"),
            "{text}"
        );
    }

    #[test]
    fn nobody_is_advised_to_give_a_role_that_may_do_everything() {
        let text = said(403, "", None, Role::Cluster);
        assert!(
            text.ends_with("Ask an administrator for the right to read it"),
            "{text}"
        );
    }

    #[test]
    fn a_role_is_advised_only_when_it_is_a_right_that_is_missing() {
        let of = |details: serde_json::Value| {
            let status = json!({"code": 403, "message": "no", "details": details});
            Refuser::of(&serde_json::from_value(status).unwrap())
        };
        assert_eq!(of(json!({"kind": "activations"})), Refuser::Rights);
        assert_eq!(of(json!({"kind": "users"})), Refuser::Impersonation);
        let policy = json!({"kind": "activationapprovals", "causes": [{"message": "denied"}]});
        assert_eq!(of(policy), Refuser::Admission);
        assert_eq!(of(json!(null)), Refuser::Admission);
    }

    #[test]
    fn a_command_is_safe_to_copy_whatever_the_name_of_the_user_is() {
        assert_eq!(
            quoted("system:serviceaccount:ci:bot"),
            "system:serviceaccount:ci:bot"
        );
        assert_eq!(quoted("ana; rm -rf"), "'ana; rm -rf'");
        assert_eq!(quoted("o'neil"), "'o'\\''neil'");
        let advice = Role::View.advice(Some("shop"), "corp/ana");
        assert!(
            advice.contains("rolebinding activation-view-corp-ana "),
            "{advice}"
        );
        assert!(advice.ends_with("--user=corp/ana"), "{advice}");
    }

    #[test]
    fn what_may_pass_by_itself_is_told_from_what_may_not() {
        let refused = |code: u16| {
            let status = json!({"code": code, "message": "no", "details": {"name": "shop"}});
            let status: kube::core::Status = serde_json::from_value(status).unwrap();
            let doing = Doing {
                what: "read".to_owned(),
                role: Role::View,
                namespace: None,
            };
            Refused::new(doing, KubeError::Api(Box::new(status)), None)
        };
        for code in [429, 500, 503, 504] {
            assert!(refused(code).is_transient(), "{code}");
        }
        for code in [400, 401, 403, 404, 422] {
            assert!(!refused(code).is_transient(), "{code}");
        }
    }

    #[test]
    fn every_other_refusal_has_a_next_step() {
        for (code, name, part) in [
            (401, "", "log in again"),
            (404, "", "kubectl apply --server-side -f crds/"),
            (404, "shop", "there is no such object"),
            (422, "shop", "cannot list Activations: no"),
        ] {
            let text = said(code, name, None, Role::View);
            assert!(text.contains(part), "{text}");
        }
    }
}
