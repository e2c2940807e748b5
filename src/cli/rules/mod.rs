//! `kubectl golive rules`: the objectives of an Activation as rules for a Prometheus, or for Sloth, Pyrra and
//! OpenSLO; and the way back.
//!
//! `slo` reads the objectives as the watch does, `expr` writes their PromQL, `prometheus` the rules. `foreign`
//! is what the other formats share, `read` and `objective` are the way back.

mod expr;
mod foreign;
mod import;
mod objective;
mod openslo;
mod prometheus;
mod pyrra;
mod read;
mod slo;
mod sloth;

use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use self::foreign::Exported;
use super::connect::{self, Connection};
use super::manifest::{self, ManifestError};
use super::output::Output;
use crate::api::Activation;

/// Where a person reads what to do.
const RUNBOOK: &str = "https://github.com/golive/golive/blob/main/docs/tasks/watch-an-application.md#when-an-objective-is-breached";

/// Arguments of `rules`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The alerts have the windows and factors of the watch (`spec.observe.burnRates`), and go on when it has ended.
Your Prometheus must have the application's series. What a format cannot say is refused, or a warning.

With --import it is the other way: documents of Sloth, Pyrra or OpenSLO become a part of a spec.

You need the ClusterRole activation-view, unless you name files.

Examples:
  kubectl golive rules shop -n prod | kubectl apply -f -
  kubectl golive rules -f activation.yaml --format prometheus > shop.rules.yaml
  kubectl golive rules shop --format sloth --match job=shop
  kubectl golive rules --import slos.yaml")]
pub(super) struct Args {
    /// The Activation. With -f: which one of the files.
    #[arg(required_unless_present_any = ["files", "import"], conflicts_with = "import")]
    name: Option<String>,

    /// File or directory with the Activation; `-` is standard input. Needs no cluster.
    #[arg(
        short,
        long = "filename",
        value_name = "FILE",
        conflicts_with = "import"
    )]
    files: Vec<PathBuf>,

    /// File with documents of Sloth, Pyrra or OpenSLO: print the objectives that say the same. Needs no
    /// cluster.
    #[arg(long, value_name = "FILE")]
    import: Option<PathBuf>,

    /// The format.
    #[arg(long, value_enum, default_value_t = Format::PrometheusRule)]
    format: Format,

    /// An objective that is left out. Repeatable.
    #[arg(long, value_name = "OBJECTIVE")]
    except: Vec<String>,

    /// A label that every series must have, such as `job=shop`. Repeatable.
    #[arg(long = "match", value_name = "LABEL=VALUE", value_parser = label)]
    matches: Vec<(String, String)>,

    /// The address that alerts name for what to do.
    #[arg(long, value_name = "URL", default_value = RUNBOOK)]
    runbook: String,

    #[command(flatten)]
    connection: Connection,
}

/// The formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A PrometheusRule of the Prometheus Operator.
    PrometheusRule,
    /// A rule file of Prometheus.
    Prometheus,
    /// Sloth's `prometheus/v1`.
    Sloth,
    /// Pyrra's ServiceLevelObjective.
    Pyrra,
    /// OpenSLO v1.
    Openslo,
}

/// Why there are no rules.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Connect(#[from] connect::Error),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("{0} in the files; give one with -f, or choose one by its name")]
    Files(String),
    #[error("the Activation cannot be read")]
    Activation(#[source] serde_json::Error),
    #[error(transparent)]
    Objectives(#[from] slo::Error),
    #[error("these objectives cannot be imported, so nothing was:\n{0}")]
    Import(String),
    #[error("cannot print the result: {0}")]
    Print(String),
}

/// A label with its value.
fn label(text: &str) -> Result<(String, String), String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    match text.split_once('=') {
        Some((name, value))
            if name.starts_with(|c| is_part(c) && !c.is_ascii_digit())
                && name.chars().all(is_part) =>
        {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err("a label is written NAME=VALUE, such as job=shop".to_owned()),
    }
}

/// Reads and prints.
pub(super) async fn run(args: &Args) -> Result<Output, Error> {
    if let Some(path) = &args.import {
        return imported(&[manifest::read(path)?]);
    }
    let activation = if args.files.is_empty() {
        let name = args.name.as_deref().unwrap_or_default();
        let connected = args.connection.open().await?;
        connected.activation(name).await?
    } else {
        let mut texts = Vec::new();
        for path in &args.files {
            texts.extend(manifest::read_all(path)?);
        }
        in_files(&texts, args.name.as_deref())?
    };
    export(args, &activation)
}

/// The Activation in the files.
fn in_files(texts: &[(String, String)], wanted: Option<&str>) -> Result<Activation, Error> {
    let objects = manifest::objects(texts)?;
    let is_wanted = |object: &&Value| {
        manifest::kind(object) == "Activation"
            && wanted.is_none_or(|wanted| manifest::name(object) == wanted)
    };
    let found: Vec<&Value> = objects.iter().filter(is_wanted).collect();
    match found[..] {
        [one] => serde_json::from_value(one.clone()).map_err(Error::Activation),
        [] => Err(Error::Files("there is no such Activation".to_owned())),
        _ => Err(Error::Files(format!(
            "there are {} Activations",
            found.len()
        ))),
    }
}

fn export(args: &Args, activation: &Activation) -> Result<Output, Error> {
    let slos = slo::of(activation, &args.except, &args.matches)?;
    let exported = match args.format {
        Format::PrometheusRule => written(&prometheus::object(&slos, &args.runbook)),
        Format::Prometheus => written(&prometheus::file(&slos, &args.runbook)),
        Format::Sloth => sloth::write(&slos, &args.runbook)?,
        Format::Pyrra => pyrra::write(&slos)?,
        Format::Openslo => openslo::write(&slos)?,
    };
    if let Some(fault) = exported.fault {
        return Err(Error::Print(fault));
    }
    Ok(Output {
        text: exported.documents.join("---\n"),
        warnings: exported.warnings,
        ..Output::default()
    })
}

/// One document.
fn written(document: &impl Serialize) -> Exported {
    let mut exported = Exported::default();
    exported.add(document);
    exported
}

/// What an import prints, or says.
#[cfg(test)]
pub(crate) fn import_of(text: &str) -> Result<String, String> {
    let file = ("slos.yaml".to_owned(), text.to_owned());
    let printed = imported(&[file]).map_err(|error| error.to_string())?;
    Ok(printed.text)
}

fn imported(texts: &[(String, String)]) -> Result<Output, Error> {
    let documents = manifest::objects(texts)?;
    let read = import::read(&documents);
    if !read.refused.is_empty() {
        return Err(Error::Import(read.refused.join("\n")));
    }
    let spec = import::spec(&read.objectives);
    let text = serde_saphyr::to_string(&spec).map_err(|error| Error::Print(error.to_string()))?;
    Ok(Output {
        text,
        warnings: read.left,
        ..Output::default()
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_a_name_and_a_value() {
        assert_eq!(
            label("job=a=b").unwrap(),
            ("job".to_owned(), "a=b".to_owned())
        );
        for wrong in ["job", "=x", "1a=x", "a-b=x", "é=x"] {
            assert!(label(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_import_is_whole_or_nothing() {
        let good = "version: prometheus/v1\nservice: s\nslos:\n- name: a\n  objective: 99.9\n  sli:\n    events:\n      \
                    error_query: 'sum(rate(r{code=~\"5..\"}[{{.window}}]))'\n      total_query: sum(rate(r[{{.window}}]))\n  alerting: {}\n";
        let files = |text: &str| [("x.yaml".to_owned(), text.to_owned())];
        let read = imported(&files(good)).unwrap();
        let spec: Value = serde_saphyr::from_str(&read.text).unwrap();
        let wanted = serde_json::json!({"observe": {"objectives": [{"name": "a", "errorRate":
            {"metric": "r", "errorSelector": {"code": "5.."}, "below": "0.1%"}}]}});
        assert_eq!(spec, wanted);
        let bad = format!("{good}---\napiVersion: v1\nkind: Pod\n");
        let said = imported(&files(&bad)).unwrap_err().to_string();
        assert!(
            said.contains("nothing was:\na document: its version is v1"),
            "{said}"
        );
    }

    #[test]
    fn one_activation_is_chosen_from_the_files() {
        let text = "apiVersion: golive.dev/v1alpha1\nkind: Activation\nmetadata: {name: a}\nspec:\n  organization: o\n  app: a\n  region: eze\n  deploy: {image: 'x:1'}\n";
        let two = format!("{text}---\n{}", text.replace("name: a", "name: b"));
        let files = [("x.yaml".to_owned(), two)];
        assert!(in_files(&files, Some("b")).is_ok());
        assert!(in_files(&files, None).is_err());
        assert!(in_files(&files, Some("c")).is_err());
    }
}
