//! `kubectl golive version`: this program, the operator, the definitions in the cluster, and whether they fit.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, ResourceExt, api::ListParams};
use serde::Serialize;

use super::connect::{self, Connected, Connection};
use super::format::{self, Formatted};
use super::output::Output;
use super::refused::{Doing, Refused, Role};
use super::style::{Line, Paint, Tone};
use crate::api::{crds, fields::fields, schema};

/// Labels of the operator's Deployment in `manifests/`.
const OPERATOR: &str = "app.kubernetes.io/name=golive,app.kubernetes.io/component=controller";

/// The version in the Deployment, as the chart sets it.
const VERSION_LABEL: &str = "app.kubernetes.io/version";

/// Most fields that are named.
const MAX_NAMED: usize = 5;

/// Arguments of `version`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The operator's version is that of its image's tag, or else the label app.kubernetes.io/version of its
Deployment. The definitions are compared field by field with those of this program. What you may not read is said to
be unknown: CustomResourceDefinitions, and Deployments in the operator's namespace.

Examples:
  kubectl golive version
  kubectl golive version --client
  kubectl golive version -o json")]
pub(super) struct Args {
    /// Only this program; needs no cluster.
    #[arg(long)]
    client: bool,

    /// Namespace of the operator.
    #[arg(long, default_value = "golive-system", value_name = "NAMESPACE")]
    operator_namespace: String,

    #[command(flatten)]
    format: Formatted,

    #[command(flatten)]
    connection: Connection,
}

/// Why there is no version.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Connect(#[from] connect::Error),
    #[error(transparent)]
    Format(#[from] format::Error),
}

/// The versions.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Versions {
    client: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    operator: Option<Found<Operator>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    definitions: Vec<Found<Definition>>,
}

/// Something in the cluster, or why it is not known.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase", untagged)]
enum Found<T> {
    Known(T),
    Unknown { cause: String },
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Operator {
    namespace: String,
    image: String,
    /// The version, if the image or the Deployment says it.
    version: Option<String>,
    ready: i32,
    wanted: i32,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Definition {
    name: String,
    versions: Vec<String>,
    /// Fields that this program knows and the cluster drops.
    missing: Vec<String>,
    /// Fields that the cluster has and this program does not know.
    unknown: Vec<String>,
}

/// Reads and prints.
pub(super) async fn run(args: &Args) -> Result<Output, Error> {
    let mut versions = Versions {
        client: env!("CARGO_PKG_VERSION").to_owned(),
        ..Versions::default()
    };
    if !args.client {
        let connected = args.connection.open().await?;
        versions.operator = Some(operator(&connected, &args.operator_namespace).await);
        for ours in crds() {
            versions
                .definitions
                .push(definition(&connected, &ours).await);
        }
    }
    let text = match args.format.document("VersionReport", &versions)? {
        Some(text) => text,
        None => Paint::of_stdout().text(&lines(&versions)),
    };
    Ok(Output::text(text))
}

async fn operator(connected: &Connected, namespace: &str) -> Found<Operator> {
    let api: Api<Deployment> = Api::namespaced(connected.kube.clone(), namespace);
    let params = ListParams::default().labels(OPERATOR);
    match api.list(&params).await {
        Ok(list) => match list.items.first() {
            Some(found) => Found::Known(described(found)),
            None => Found::Unknown {
                cause: format!(
                    "there is no Deployment of it in namespace {namespace}; name another with --operator-namespace"
                ),
            },
        },
        Err(error) => {
            let doing = Doing {
                what: format!("read the operator's Deployment in namespace {namespace}"),
                role: Role::Events,
                namespace: Some(namespace.to_owned()),
            };
            unknown(&connected.refused(doing, error).await)
        }
    }
}

fn unknown<T>(refused: &Refused) -> Found<T> {
    Found::Unknown {
        cause: crate::causes::chain(refused),
    }
}

fn described(deployment: &Deployment) -> Operator {
    let spec = &deployment.spec;
    let pod = spec.template.spec.as_ref();
    let image = pod.and_then(|pod| pod.containers.first()?.image.clone());
    let label = deployment.labels().get(VERSION_LABEL);
    let status = deployment.status.as_ref();
    Operator {
        namespace: deployment.namespace().unwrap_or_default(),
        version: version_of(
            image.as_deref().unwrap_or_default(),
            label.map(String::as_str),
        ),
        image: image.unwrap_or_default(),
        ready: status
            .and_then(|status| status.ready_replicas)
            .unwrap_or_default(),
        wanted: spec.replicas.unwrap_or(1),
    }
}

/// The version of an image: its tag, or else the label of the Deployment. The tag comes first, because who
/// only sets another image leaves the label as it was. Pure.
fn version_of(image: &str, label: Option<&str>) -> Option<String> {
    let (named, digest) = match image.split_once('@') {
        Some((named, _)) => (named, true),
        None => (image, false),
    };
    // A colon before the last slash is that of a port.
    let last = named.rsplit('/').next().unwrap_or_default();
    let tag = last.split_once(':').map(|(_, tag)| tag);
    let is_version = |text: &&str| semver(text).is_some();
    match tag.filter(is_version) {
        Some(tag) => Some(tag.to_owned()),
        // A tag that is no version, such as that of a build, is another one than the label says.
        None if tag.is_some() && !digest => None,
        None => label.filter(is_version).map(str::to_owned),
    }
}

fn semver(text: &str) -> Option<semver::Version> {
    semver::Version::parse(text.strip_prefix('v').unwrap_or(text)).ok()
}

/// How the operator's version is to that of this program. Pure.
fn difference(operator: Option<&str>, client: &str) -> (Tone, &'static str) {
    match (operator.and_then(semver), semver(client)) {
        (Some(theirs), Some(ours)) if theirs < ours => (
            Tone::Warn,
            "  older than this program; update the operator, or use its kubectl golive",
        ),
        (Some(theirs), Some(ours)) if theirs > ours => (
            Tone::Warn,
            "  newer than this program; update kubectl golive",
        ),
        (Some(_), Some(_)) => (Tone::Good, "  the same version as this program"),
        _ => (Tone::Dim, "  its version is not known"),
    }
}

async fn definition(connected: &Connected, ours: &CustomResourceDefinition) -> Found<Definition> {
    let api: Api<CustomResourceDefinition> = Api::all(connected.kube.clone());
    let name = ours.name_any();
    match api.get(&name).await {
        Ok(theirs) => Found::Known(compared(ours, &theirs)),
        Err(error) => {
            let doing = Doing {
                what: format!("read the definition {name}"),
                role: Role::Cluster,
                namespace: None,
            };
            let refused = connected.refused(doing, error).await;
            if refused.is_not_found() {
                return Found::Unknown {
                    cause: format!(
                        "{name} is not installed; install it with: kubectl apply --server-side -f crds/"
                    ),
                };
            }
            unknown(&refused)
        }
    }
}

/// The fields that only one of them has. Pure.
fn compared(ours: &CustomResourceDefinition, theirs: &CustomResourceDefinition) -> Definition {
    let fields = |crd: &CustomResourceDefinition| schema(crd).map(fields).unwrap_or_default();
    let (known, there) = (fields(ours), fields(theirs));
    let served = theirs.spec.versions.iter().filter(|version| version.served);
    Definition {
        name: theirs.name_any(),
        versions: served.map(|version| version.name.clone()).collect(),
        missing: known.difference(&there).cloned().collect(),
        unknown: there.difference(&known).cloned().collect(),
    }
}

/// The versions for people. Pure.
fn lines(versions: &Versions) -> Vec<Line> {
    let heading = |text: &str| Line::default().and(Tone::Bold, format!("{text:<12}"));
    let mut lines = vec![heading("Client").and(Tone::Plain, &versions.client)];
    match &versions.operator {
        None => {}
        Some(Found::Unknown { cause }) => {
            lines.push(heading("Operator").and(Tone::Warn, format!("unknown: {cause}")));
        }
        Some(Found::Known(operator)) => {
            let tone = if operator.ready < 1 {
                Tone::Bad
            } else {
                Tone::Plain
            };
            let ready = format!("  {}/{} ready", operator.ready, operator.wanted);
            let line = heading("Operator").and(Tone::Plain, &operator.image);
            let line = line.and(tone, ready);
            let line = line.and(Tone::Dim, format!("  in {}", operator.namespace));
            let (tone, said) = difference(operator.version.as_deref(), &versions.client);
            lines.push(line.and(tone, said));
        }
    }
    for found in &versions.definitions {
        match found {
            Found::Unknown { cause } => {
                lines.push(heading("Definition").and(Tone::Warn, format!("unknown: {cause}")));
            }
            Found::Known(definition) => lines.extend(skew(definition, heading("Definition"))),
        }
    }
    lines
}

fn skew(definition: &Definition, line: Line) -> Vec<Line> {
    let served = definition.versions.join(", ");
    let line = line.and(Tone::Plain, format!("{} {served}  ", definition.name));
    let named = |fields: &[String]| {
        let shown = fields.iter().take(MAX_NAMED).cloned().collect::<Vec<_>>();
        let more = fields.len().saturating_sub(shown.len());
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        shown.join(", ") + &more
    };
    if definition.missing.is_empty() && definition.unknown.is_empty() {
        return vec![line.and(Tone::Good, "the same as this program's")];
    }
    let mut lines = vec![line.and(Tone::Warn, "another than this program's")];
    if !definition.missing.is_empty() {
        lines.push(Line::plain(format!(
            "            it lacks {}; update it with: kubectl apply --server-side -f crds/",
            named(&definition.missing)
        )));
    }
    if !definition.unknown.is_empty() {
        lines.push(Line::plain(format!(
            "            this program does not know {}; update kubectl golive",
            named(&definition.unknown)
        )));
    }
    lines
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn text(lines: &[Line]) -> String {
        Paint(false).text(lines)
    }

    #[test]
    fn a_definition_that_is_the_same_has_no_skew() {
        for ours in crds() {
            let compared = compared(&ours, &ours);
            assert_eq!((compared.missing.len(), compared.unknown.len()), (0, 0));
            let said = text(&skew(&compared, Line::default()));
            assert!(said.contains("v1alpha1  the same"), "{said}");
        }
    }

    #[test]
    fn a_field_that_one_side_lacks_is_named_with_who_must_be_updated() {
        let ours = crds().remove(0);
        let mut theirs = ours.clone();
        let version = theirs.spec.versions.first_mut().unwrap();
        let schema = version.schema.as_mut().unwrap();
        let schema = schema.open_api_v3_schema.as_mut().unwrap();
        let spec = schema.properties.as_mut().unwrap().get_mut("spec").unwrap();
        let deploy = spec.properties.as_mut().unwrap().remove("deploy").unwrap();
        spec.properties
            .as_mut()
            .unwrap()
            .insert("later".to_owned(), deploy);
        let found = compared(&ours, &theirs);
        assert!(found.missing.contains(&"spec.deploy.image".to_owned()));
        assert!(found.unknown.contains(&"spec.later.image".to_owned()));
        let said = text(&skew(&found, Line::default()));
        assert!(said.contains("it lacks spec.deploy"), "{said}");
        assert!(said.contains("update kubectl golive"), "{said}");
    }

    #[test]
    fn the_operator_is_compared_with_this_program() {
        for (operator, said) in [
            (Some("0.1.0"), "older than this program"),
            (Some("0.3.0"), "the same version as this program"),
            (Some("v0.10.0"), "newer than this program"),
            (None, "its version is not known"),
        ] {
            let (_, found) = difference(operator, "0.3.0");
            assert!(found.contains(said), "{operator:?}: {found}");
            let versions = Versions {
                client: "0.3.0".to_owned(),
                operator: Some(Found::Known(Operator {
                    namespace: "golive-system".to_owned(),
                    image: "golive".to_owned(),
                    version: operator.map(str::to_owned),
                    ready: 1,
                    wanted: 1,
                })),
                definitions: Vec::new(),
            };
            let shown = text(&lines(&versions));
            assert!(shown.contains(said), "{shown}");
        }
    }

    #[test]
    fn the_version_of_the_operator_is_that_of_the_image_or_of_the_deployment() {
        for (image, label, version) in [
            ("ghcr.io/golive/golive:0.1.0", Some("0.3.0"), Some("0.1.0")),
            ("localhost:5000/golive:v0.1.0", None, Some("v0.1.0")),
            ("golive:0.1.0@sha256:aa", Some("0.3.0"), Some("0.1.0")),
            ("golive@sha256:aa", Some("0.3.0"), Some("0.3.0")),
            ("golive", Some("0.3.0"), Some("0.3.0")),
            ("localhost:5000/golive", None, None),
            ("golive:main", Some("0.3.0"), None),
            ("golive@sha256:aa", Some("latest"), None),
        ] {
            assert_eq!(version_of(image, label).as_deref(), version, "{image}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_unknown_and_says_why() {
        let versions = Versions {
            client: "1".to_owned(),
            operator: Some(Found::Unknown {
                cause: "no right".to_owned(),
            }),
            definitions: Vec::new(),
        };
        assert_eq!(
            text(&lines(&versions)),
            "Client      1\nOperator    unknown: no right\n"
        );
    }
}
