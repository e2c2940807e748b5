//! `kubectl golive report`: the whole of an activation as Markdown, JSON, or one page of HTML.
//!
//! `collect` puts together what was read, with the boxes of `checklist` and the curves of `curves`. `page` makes
//! blocks of it, which `markdown` and `html` (with `svg`) write. All of them are pure.

mod checklist;
mod collect;
mod curves;
mod html;
mod markdown;
mod page;
mod svg;
mod text;

use kube::{Api, ResourceExt, api::ListParams};

use self::collect::Beside;
use super::connect::{self, Connected, Connection};
use super::format;
use super::output::Output;
use super::refused::Role;
use crate::{
    api::{Activation, ActivationApproval},
    store::watch,
};

/// Arguments of `report`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The checklist with each box, its proof, owner and time; phases against the plan's minutes; checks, releases,
integrations, objectives, incidents and approvals. The page of HTML needs nothing else and runs no script.

You need the ClusterRole activation-view. The curves of objectives are in a ConfigMap of the operator's
namespace; who may not read it gets a report without them.

Examples:
  kubectl golive report shop -n prod
  kubectl golive report shop -o html > shop.html
  kubectl golive report shop -o json | jq '.checklist[] | select(.mark != \"Done\")'")]
pub(super) struct Args {
    /// The Activation.
    name: String,

    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Format::Markdown, value_name = "FORMAT")]
    output: Format,

    /// Namespace of the operator.
    #[arg(long, default_value = "golive-system", value_name = "NAMESPACE")]
    operator_namespace: String,

    #[command(flatten)]
    connection: Connection,
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people and for pull requests.
    Markdown,
    /// A document for programs.
    Json,
    /// One page with plots.
    Html,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Connect(#[from] connect::Error),
    #[error(transparent)]
    Format(#[from] format::Error),
}

/// Reads and prints.
pub(super) async fn run(args: &Args) -> Result<Output, Error> {
    let connected = args.connection.open().await?;
    let activation = connected.activation(&args.name).await?;
    let beside = beside(&connected, &activation, &args.operator_namespace).await;
    let report = collect::report(&activation, beside, connected.now());
    let warnings = report.notes.clone();
    let text = match args.output {
        Format::Markdown => markdown::page(&report),
        Format::Json => format::json("Report", &report)?,
        Format::Html => html::page(&report),
    };
    Ok(Output {
        text,
        warnings,
        ..Output::default()
    })
}

/// What is read besides the object. What cannot be read is a note: a report without it is still one.
async fn beside(connected: &Connected, activation: &Activation, operator: &str) -> Beside {
    let mut beside = Beside::default();
    let api: Api<ActivationApproval> =
        Api::namespaced(connected.kube.clone(), &connected.namespace);
    let of_it = format!("spec.activation={}", activation.name_any());
    match api.list(&ListParams::default().fields(&of_it)).await {
        Ok(list) => beside.approvals = list.items,
        Err(error) => {
            let doing = connected.doing("list ActivationApprovals", Role::View);
            let refused = connected.refused(doing, error).await;
            beside.notes.push(crate::causes::chain(&refused));
        }
    }
    let status = activation.status.as_ref();
    let is_watched = status.is_some_and(|status| status.watch.is_some());
    let (Some(observe), Some(uid), true) = (&activation.spec.observe, activation.uid(), is_watched)
    else {
        return beside;
    };
    let read = watch::load(&connected.kube, operator, &uid).await;
    let curves = match &read {
        Ok(stored) => curves::curves(observe, stored, operator).map_err(|why| why.to_string()),
        Err(error) => Err(crate::causes::chain(error)),
    };
    match curves {
        Ok(curves) => beside.curves = curves,
        Err(why) => beside
            .notes
            .push(format!("the objectives have no curves: {why}")),
    }
    beside
}
