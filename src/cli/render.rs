//! `kubectl golive render`: prints the machine configurations of a manifest, offline.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::ConfigMap;
use serde::Serialize;
use serde_json::Value;

use super::manifest::{self, ManifestError, kind, name};
use super::output::Output;
use super::schema;
use crate::api::deploy::DEFAULT_PORT;
use crate::api::{self, Activation, crds};
use crate::flytoml::{self, AppConfig, Context, Machines};

/// The version of the API that this program has the rules of.
const VERSION: &str = "golive.dev/v1alpha1";

/// Arguments of `render`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The fly.toml is the Activation's own: inline, or from its ConfigMap, which must then be in one of
the files. The output lacks what is known only during a deployment: the image's digest, the tag that
`deploy.source` chooses, ids of releases and volumes, and Golive's own metadata. The rules of the
API server are applied to the Activation, except those about a change of an object that exists.

Examples:
  kubectl golive render -f activation.yaml
  kubectl golive render -f activation.yaml --config fly.toml -o json")]
pub(super) struct Args {
    /// File or directory with the Activation, and its ConfigMap if it uses one; `-` is standard
    /// input.
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,

    /// A fly.toml to use in place of the Activation's own.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// The image to show when the Activation has a `deploy.source`, whose tag depends on the
    /// registry.
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,

    /// Which Activation, when the files hold several.
    #[arg(long)]
    name: Option<String>,

    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Format::Yaml)]
    output: Format,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    #[default]
    Yaml,
    Json,
}

/// Why rendering fails.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("there is no Activation in {0}; it is an object of golive.dev/v1alpha1")]
    NoActivation(String),
    #[error("there is no Activation {wanted}; there are {names}")]
    NoSuchActivation { wanted: String, names: String },
    #[error("there are several Activations; choose one with --name: {0}")]
    SeveralActivations(String),
    #[error("Activation {name} is not valid:\n{lines}")]
    Invalid { name: String, lines: String },
    #[error("Activation {name} has apiVersion {found}; this program knows {VERSION}")]
    Version { name: String, found: String },
    #[error("Activation {name} cannot be read")]
    Activation {
        name: String,
        source: serde_json::Error,
    },
    #[error("Activation {0} has neither deploy.image nor deploy.source; exactly one is required")]
    NoImage(String),
    #[error("Activation {0} has a config with neither configMapRef nor inline")]
    NoConfig(String),
    #[error(
        "ConfigMap {name} is not in the files; add it with another -f, or give a fly.toml with --config"
    )]
    NoConfigMap { name: String },
    #[error("ConfigMap {name} has no key {key}; it has {keys}")]
    NoKey {
        name: String,
        key: String,
        keys: String,
    },
    #[error(
        "the ConfigMap {name} has {key} in binaryData, because it is not UTF-8 text ({why}); save \
         it as UTF-8"
    )]
    Binary {
        name: String,
        key: String,
        why: String,
    },
    #[error("the fly.toml is not valid:\n{0}")]
    FlyToml(String),
    #[error("cannot build the machine configurations")]
    Convert(#[from] flytoml::ConversionError),
    #[error("cannot print the result")]
    Print(#[source] Box<dyn StdError + Send + Sync>),
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Rendered {
    activation: String,
    organization: String,
    app: String,
    machines: Vec<Machines>,
}

/// Reads the files and renders.
pub(super) fn run(args: &Args) -> Result<Output, Box<dyn StdError>> {
    let mut texts = Vec::new();
    for path in &args.files {
        texts.extend(manifest::read_all(path).map_err(Error::from)?);
    }
    let config = match &args.config {
        Some(path) => Some(manifest::read(path).map_err(Error::from)?),
        None => None,
    };
    let (rendered, warnings) = render(&texts, config, args.image.as_deref(), args.name.as_deref())?;
    let text = match args.output {
        Format::Yaml => {
            serde_saphyr::to_string(&rendered).map_err(|error| Error::Print(Box::new(error)))?
        }
        Format::Json => {
            serde_json::to_string_pretty(&rendered)
                .map_err(|error| Error::Print(Box::new(error)))?
                + "\n"
        }
    };
    Ok(Output {
        text,
        warnings,
        ..Output::default()
    })
}

/// The rendered Activation and its warnings. `texts` and `given` are names and contents.
fn render(
    texts: &[(String, String)],
    given: Option<(String, String)>,
    image: Option<&str>,
    wanted: Option<&str>,
) -> Result<(Rendered, Vec<String>), Error> {
    let objects = manifest::objects(texts)?;
    let chosen = choose(texts, &objects, wanted)?;
    let mut warnings = check(chosen)?;
    let activation = decode(chosen)?;
    let name = activation.metadata.name.clone().unwrap_or_default();
    let deploy = &activation.spec.deploy;

    let (config, more) = config(&objects, &activation, given)?;
    warnings.extend(more);
    let groups = config.process_groups();
    for group in deploy.scale.keys().filter(|group| !config.has_group(group)) {
        warnings.push(format!(
            "spec.deploy.scale names the process group {group}; the fly.toml has {}",
            groups.join(", ")
        ));
    }
    let image = match (image, &deploy.image, &deploy.source) {
        (Some(given), ..) => given.to_owned(),
        (None, Some(image), _) => image.clone(),
        (None, None, Some(source)) => format!("{}:<chosen by deploy.source>", source.image),
        (None, None, None) => return Err(Error::NoImage(name)),
    };
    let context = Context {
        image: &image,
        ..Context::default()
    };
    let machines = flytoml::first_deployment(&config, &context, &deploy.scale, &deploy.regions)?;
    let full_name = match &activation.metadata.namespace {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name,
    };
    let rendered = Rendered {
        activation: full_name,
        organization: activation.spec.organization.clone(),
        app: activation.spec.app.clone(),
        machines,
    };
    Ok((rendered, warnings))
}

/// The configuration of an Activation, bound to its app and region, and the warnings about it.
fn config(
    objects: &[Value],
    activation: &Activation,
    given: Option<(String, String)>,
) -> Result<(AppConfig, Vec<String>), Error> {
    let spec = &activation.spec;
    let mut warnings = Vec::new();
    let config = match fly_toml(objects, activation, given)? {
        None => {
            let port = spec.deploy.port.unwrap_or(DEFAULT_PORT);
            AppConfig::minimal(&spec.app, &spec.region, port)
        }
        Some((origin, text)) => {
            let place = |problem: &flytoml::Problem| format!("{origin}:{problem}");
            let mut parsed = flytoml::parse(&text).map_err(|invalid| {
                let lines: Vec<String> = invalid.problems.iter().map(place).collect();
                Error::FlyToml(lines.join("\n"))
            })?;
            parsed.bind(&spec.app, &spec.region);
            for warning in &parsed.warnings {
                warnings.push(place(warning).replacen("warning: ", "", 1));
            }
            parsed.config
        }
    };
    Ok((config, warnings))
}

/// The text of the fly.toml and its origin; `None` when the Activation has none.
fn fly_toml(
    objects: &[Value],
    activation: &Activation,
    given: Option<(String, String)>,
) -> Result<Option<(String, String)>, Error> {
    let name = activation.metadata.name.as_deref().unwrap_or_default();
    let (None, Some(config)) = (&given, &activation.spec.deploy.config) else {
        return Ok(given);
    };
    match (&config.inline, &config.config_map_ref) {
        (Some(text), _) => Ok(Some((format!("Activation {name}, inline"), text.clone()))),
        (None, Some(reference)) => {
            let namespace = activation.metadata.namespace.as_deref();
            from_config_map(objects, namespace, &reference.name, &reference.key).map(Some)
        }
        (None, None) => Err(Error::NoConfig(name.to_owned())),
    }
}

fn choose<'o>(
    texts: &[(String, String)],
    objects: &'o [Value],
    wanted: Option<&str>,
) -> Result<&'o Value, Error> {
    let ours = |object: &&Value| {
        let version = object.get("apiVersion").and_then(Value::as_str);
        kind(object) == "Activation"
            && version.is_some_and(|version| version.starts_with("golive.dev/"))
    };
    let all: Vec<&Value> = objects.iter().filter(ours).collect();
    let names = || {
        let names: Vec<&str> = all.iter().map(|object| name(object)).collect();
        names.join(", ")
    };
    if all.is_empty() {
        let paths: Vec<&str> = texts.iter().map(|(path, _)| path.as_str()).collect();
        return Err(Error::NoActivation(paths.join(", ")));
    }
    let chosen: Vec<&&Value> = all
        .iter()
        .filter(|object| wanted.is_none_or(|wanted| name(object) == wanted))
        .collect();
    match chosen[..] {
        [one] => Ok(*one),
        [] => Err(Error::NoSuchActivation {
            wanted: wanted.unwrap_or_default().to_owned(),
            names: names(),
        }),
        _ => Err(Error::SeveralActivations(names())),
    }
}

/// Applies the rules of the definition, as the API server does. Returns the warnings.
fn check(object: &Value) -> Result<Vec<String>, Error> {
    let found = object.get("apiVersion").and_then(Value::as_str);
    let found = found.unwrap_or_default();
    if found != VERSION {
        return Err(Error::Version {
            name: name(object).to_owned(),
            found: found.to_owned(),
        });
    }
    let crds = crds();
    let mut ours = crds
        .iter()
        .filter(|crd| crd.spec.names.kind == "Activation");
    let Some(schema) = ours.next().and_then(api::schema) else {
        return Ok(Vec::new());
    };
    let found = schema::check(schema, object);
    let origin = format!("Activation {}", name(object));
    if !found.errors.is_empty() {
        // A field that is unknown may be the one that is missing.
        let lines: Vec<String> = found.warnings.into_iter().chain(found.errors).collect();
        return Err(Error::Invalid {
            name: name(object).to_owned(),
            lines: lines.join("\n"),
        });
    }
    let warnings = found.warnings.into_iter();
    let left = found.left.into_iter();
    let left = left.map(|rule| format!("only the API server can check {rule}"));
    Ok(warnings
        .chain(left)
        .map(|line| format!("{origin}: {line}"))
        .collect())
}

fn decode(object: &Value) -> Result<Activation, Error> {
    serde_json::from_value(object.clone()).map_err(|source| Error::Activation {
        name: name(object).to_owned(),
        source,
    })
}

/// The text under a key of a ConfigMap among the objects, and its origin.
fn from_config_map(
    objects: &[Value],
    namespace: Option<&str>,
    wanted: &str,
    key: &str,
) -> Result<(String, String), Error> {
    let missing = || Error::NoConfigMap {
        name: wanted.to_owned(),
    };
    let map = objects
        .iter()
        .filter(|object| kind(object) == "ConfigMap" && name(object) == wanted)
        .filter_map(|object| serde_json::from_value::<ConfigMap>(object.clone()).ok())
        .find(|map| {
            // kubectl chooses the namespace of a manifest without one, so it matches any.
            let theirs = map.metadata.namespace.as_deref();
            namespace.is_none() || theirs.is_none() || theirs == namespace
        })
        .ok_or_else(missing)?;
    let binary = map.binary_data.unwrap_or_default();
    if let Some(bytes) = binary.get(key) {
        return from_binary(wanted, key, &bytes.0);
    }
    let data: BTreeMap<String, String> = map.data.unwrap_or_default();
    match data.get(key) {
        Some(text) => Ok((format!("ConfigMap {wanted}, {key}"), text.clone())),
        None => Err(Error::NoKey {
            name: wanted.to_owned(),
            key: key.to_owned(),
            keys: if data.is_empty() {
                "none".to_owned()
            } else {
                data.into_keys().collect::<Vec<_>>().join(", ")
            },
        }),
    }
}

/// kubectl puts a file that is not UTF-8 into `binaryData`.
fn from_binary(name: &str, key: &str, bytes: &[u8]) -> Result<(String, String), Error> {
    if let Some(why) = flytoml::not_utf8(bytes) {
        return Err(Error::Binary {
            name: name.to_owned(),
            key: key.to_owned(),
            why,
        });
    }
    let text = String::from_utf8_lossy(bytes).into_owned();
    Ok((format!("ConfigMap {name}, {key}"), text))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use serde_json::json;

    use super::*;

    const MINIMAL: &str = "
apiVersion: golive.dev/v1alpha1
kind: Activation
metadata: {name: cabanas}
spec:
  organization: acme
  app: cabanas-mvp
  region: eze
  deploy: {image: 'registry.fly.io/cabanas-mvp:1.4.0'}
";

    const WITH_MAP: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: config, namespace: prod}
data:
  fly.toml: |
    app = \"other\"
    colour = \"red\"
    [processes]
    web = \"serve\"
    worker = \"work\"
    [http_service]
    internal_port = 8080
    processes = [\"web\"]
---
apiVersion: golive.dev/v1alpha1
kind: Activation
metadata: {name: cabanas, namespace: prod}
spec:
  organization: acme
  app: cabanas-mvp
  region: eze
  deploy:
    image: registry.fly.io/cabanas-mvp:1.4.0
    scale: {web: 3, nobody: 1}
    config: {configMapRef: {name: config, key: fly.toml}}
";

    fn files(texts: &[&str]) -> Vec<(String, String)> {
        let named = texts.iter().enumerate();
        named
            .map(|(index, text)| (format!("{index}.yaml"), (*text).to_owned()))
            .collect()
    }

    fn error(texts: &[&str], wanted: Option<&str>) -> String {
        let error = render(&files(texts), None, None, wanted).unwrap_err();
        crate::causes::chain(&error)
    }

    #[test]
    fn the_smallest_activation_renders_two_machines_of_the_default_configuration() {
        let (rendered, warnings) = render(&files(&[MINIMAL]), None, None, None).unwrap();
        let rendered = serde_json::to_value(rendered).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!(rendered["activation"], "cabanas");
        let machine = &rendered["machines"][0];
        assert_eq!(machine["count"], 2);
        assert_eq!(machine["region"], "eze");
        assert_eq!(
            machine["config"]["image"],
            "registry.fly.io/cabanas-mvp:1.4.0"
        );
        assert_eq!(machine["config"]["services"][0]["internal_port"], 8080);
    }

    #[test]
    fn a_config_map_in_the_same_file_is_used_and_differences_are_warnings() {
        let (rendered, warnings) = render(&files(&[WITH_MAP]), None, None, None).unwrap();
        let rendered = serde_json::to_value(rendered).unwrap();
        let counts: Vec<_> = rendered["machines"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| json!([m["process_group"], m["count"], m["skip_launch"]]))
            .collect();
        assert_eq!(
            counts,
            [
                json!(["web", 3, false]),
                json!(["worker", 1, false]),
                json!(["worker", 1, true])
            ]
        );
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        assert_eq!(
            warnings[1],
            "ConfigMap config, fly.toml:2:1: colour: unknown key, ignored"
        );
        assert!(
            warnings[0].contains("app: other has no effect"),
            "{warnings:?}"
        );
        assert!(warnings[2].contains("process group nobody"), "{warnings:?}");
    }

    #[test]
    fn a_given_fly_toml_replaces_the_activations_own() {
        let given = (
            "fly.toml".to_owned(),
            "[http_service]\ninternal_port = 1".to_owned(),
        );
        let (rendered, _) = render(&files(&[WITH_MAP]), Some(given), None, None).unwrap();
        let config = &rendered.machines[0].config;
        assert_eq!(config.services[0].internal_port, Some(1));
    }

    #[test]
    fn of_a_source_a_given_image_is_shown_or_that_the_registry_decides() {
        let follows = MINIMAL.replace(
            "image: 'registry.fly.io/cabanas-mvp:1.4.0'",
            "source: {image: registry.fly.io/cabanas-mvp, policy: {semver: {range: 1.x}}}",
        );
        let image = |given: Option<&str>| {
            let (rendered, _) = render(&files(&[&follows]), None, given, None).unwrap();
            serde_json::to_value(rendered).unwrap()["machines"][0]["config"]["image"].clone()
        };
        assert_eq!(
            image(None),
            "registry.fly.io/cabanas-mvp:<chosen by deploy.source>"
        );
        let given = "registry.fly.io/cabanas-mvp:1.5.0";
        assert_eq!(image(Some(given)), given);
        let neither = MINIMAL.replace("image: 'registry.fly.io/cabanas-mvp:1.4.0'", "port: 80");
        assert!(error(&[&neither], None).contains("spec.deploy: "));
    }

    #[test]
    fn lists_are_opened() {
        let list = format!(
            "kind: List\napiVersion: v1\nitems:\n- {}",
            MINIMAL.trim().replace('\n', "\n  ")
        );
        assert!(render(&files(&[&list]), None, None, None).is_ok());
    }

    #[test]
    fn every_mistake_says_what_to_do() {
        let broken = MINIMAL.replace("deploy: {", "deploy: {config: {inline: '[x'}, ");
        let no_map = WITH_MAP.split("---").nth(1).unwrap();
        let elsewhere = WITH_MAP.replace("config, namespace: prod", "config, namespace: test");
        let no_key = WITH_MAP.replace("key: fly.toml", "key: toml");
        let second = MINIMAL.replace("name: cabanas", "name: second");
        for (texts, wanted, said) in [
            (vec!["kind: Pod"], None, "there is no Activation in 0.yaml"),
            (vec![""], None, "there is no Activation in 0.yaml"),
            (vec!["a: [b"], None, "0.yaml:1:"),
            (vec!["a: [b"], None, "not YAML: "),
            (
                vec![MINIMAL, &second],
                None,
                "choose one with --name: cabanas, second",
            ),
            (
                vec![MINIMAL],
                Some("third"),
                "there is no Activation third; there are cabanas",
            ),
            (
                vec!["apiVersion: golive.dev/v1alpha1\nkind: Activation\nspec: {}"],
                None,
                "spec.organization: is required",
            ),
            (vec![&broken], None, "inline:1:3: not TOML"),
            (vec![no_map], None, "give a fly.toml with --config"),
            (
                vec![&elsewhere],
                None,
                "ConfigMap config is not in the files",
            ),
            (vec![&no_key], None, "has no key toml; it has fly.toml"),
        ] {
            let found = error(&texts, wanted);
            assert!(found.contains(said), "{found}\nmust say {said}");
        }
    }
}
