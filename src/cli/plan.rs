//! `kubectl golive plan`: the changes that are planned or being made.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, ResourceExt};
use serde::Serialize;

use super::connect::{self, Connected, Connection};
use super::format::{self, Formatted};
use super::output::Output;
use super::refused::Role;
use super::style::{Line, Paint, Tone};
use crate::{
    api::{
        Activation,
        status::{CostPerMonth, MAX_CHANGES, PlanCounts, PlanStatus, PlannedChange, WholePlan},
    },
    plan::deletion,
    store,
};

/// Arguments of `plan`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The plan is the operator's: what it will do, or is doing, to bring the spec live. With `mode: Plan` in the
spec it does nothing of it. A gate asks about the plan with this digest. A list is not always whole: what
is not known is said below it. A plan for which the status has no room is read from the ConfigMap
that the status names.

You need the ClusterRole activation-view, and for a plan in a ConfigMap the ClusterRole view.

Examples:
  kubectl golive plan shop -n prod
  kubectl golive plan shop --deletion
  kubectl golive plan shop -o json")]
pub(super) struct Args {
    /// The Activation.
    name: String,

    /// Show what is removed from Fly.io if the Activation is deleted now.
    #[arg(long)]
    deletion: bool,

    #[command(flatten)]
    format: Formatted,

    #[command(flatten)]
    connection: Connection,
}

/// Why there is no plan to show.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Connect(#[from] connect::Error),
    #[error(transparent)]
    Format(#[from] format::Error),
    #[error("Activation {0} has no plan yet; see why with `kubectl golive status {0}`")]
    None(String),
}

/// The plan of an Activation, as a document.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Plan {
    namespace: String,
    name: String,
    digest: String,
    generation: Option<i64>,
    observed_generation: Option<i64>,
    /// Number of the release that serves.
    serves: Option<i64>,
    /// Its image.
    serves_image: Option<String>,
    /// Numbers of the changes that make, change and remove something.
    counts: PlanCounts,
    /// What the application costs a month, before and after.
    cost_per_month: Option<CostPerMonth>,
    changes: Vec<PlannedChange>,
    /// Number of changes that are not in `changes`; `None` when the operator did not count them.
    omitted: Option<usize>,
    /// Why they are not, although the operator has stored them.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_read: Option<String>,
    /// Steps of which it is not known what they would do.
    unknown: Vec<String>,
    /// Whether all that will be done up to Go-Live is known: an empty list then means that nothing is.
    known: bool,
}

/// Reads and prints.
pub(super) async fn run(args: &Args) -> Result<Output, Error> {
    let connected = args.connection.open().await?;
    let activation = connected.activation(&args.name).await?;
    let plan = match args.deletion {
        true => Some(of_deletion(&activation)),
        false => read(&connected, &activation).await,
    };
    let plan = plan.ok_or_else(|| Error::None(args.name.clone()))?;
    let text = match args.format.document("Plan", &plan)? {
        Some(text) => text,
        None => Paint::of_stdout().text(&lines(&plan)),
    };
    Ok(Output::text(text))
}

/// The plan of this object, if it has one, with all its changes: those for which the status has no room are read
/// from the ConfigMap that it names.
pub(super) async fn read(connected: &Connected, activation: &Activation) -> Option<Plan> {
    let mut shown = plan(activation)?;
    let status = activation.status.as_ref()?.plan.as_ref()?;
    let Some(whole) = &status.whole else {
        return Some(shown);
    };
    let maps: Api<ConfigMap> = Api::namespaced(connected.kube.clone(), &connected.namespace);
    let found = match maps.get_opt(&whole.config_map).await {
        Ok(found) => found,
        Err(error) => {
            let what = format!("read the whole plan in ConfigMap {}", whole.config_map);
            let doing = connected.doing(&what, Role::ConfigMaps);
            shown.not_read = Some(connected.refused(doing, error).await.to_string());
            return Some(shown);
        }
    };
    let text = found.and_then(|found| found.data?.remove(store::plan::KEY));
    shown.complete_from(whole, text.as_deref(), status);
    Some(shown)
}

/// The plan of this object as its status has it, if it has one. Pure.
pub(super) fn plan(activation: &Activation) -> Option<Plan> {
    let status = activation.status.as_ref()?;
    let plan = status.plan.as_ref()?;
    let current = status.observed_generation == activation.metadata.generation;
    let listed = plan.changes.len();
    let total = usize::try_from(plan.total).unwrap_or(usize::MAX);
    // An operator from before `status.plan.total` did not say that there were more.
    let omitted = if total > 0 || listed < MAX_CHANGES {
        Some(total.saturating_sub(listed))
    } else {
        None
    };
    let release = status.release.as_ref();
    Some(Plan {
        omitted,
        not_read: None,
        known: current && plan.complete,
        unknown: plan.unknown.clone(),
        counts: plan.counts,
        cost_per_month: plan.cost_per_month.clone(),
        namespace: activation.namespace().unwrap_or_default(),
        name: activation.name_any(),
        digest: plan.digest.clone(),
        generation: activation.metadata.generation,
        observed_generation: status.observed_generation,
        serves: release.and_then(|release| release.number),
        serves_image: release.map(|release| release.image.clone()),
        changes: plan.changes.clone(),
    })
}

/// What is removed if this object is deleted now. Pure.
fn of_deletion(activation: &Activation) -> Plan {
    let changes = deletion::changes(activation);
    let status = activation.status.as_ref();
    let plan = status.and_then(|status| status.plan.as_ref());
    let release = status.and_then(|status| status.release.as_ref());
    Plan {
        namespace: activation.namespace().unwrap_or_default(),
        name: activation.name_any(),
        digest: plan.map(|plan| plan.digest.clone()).unwrap_or_default(),
        generation: activation.metadata.generation,
        observed_generation: status.and_then(|status| status.observed_generation),
        serves: release.and_then(|release| release.number),
        serves_image: release.map(|release| release.image.clone()),
        counts: PlanCounts::of(&changes),
        cost_per_month: None,
        changes,
        omitted: Some(0),
        not_read: None,
        unknown: Vec::new(),
        known: status.is_some(),
    }
}

/// Whether both have the same plan with the same changes. Pure.
pub(super) fn same_changes(one: &Activation, other: &Activation) -> bool {
    let plan = |of: &Activation| of.status.as_ref().and_then(|status| status.plan.clone());
    plan(one) == plan(other)
}

impl Plan {
    /// The digest that a decision names.
    pub(super) fn digest(&self) -> &str {
        &self.digest
    }

    /// Whether every change that the operator knows of is listed.
    pub(super) fn lists_all(&self) -> bool {
        self.omitted == Some(0)
    }

    /// Whether the operator knows all that will be done.
    pub(super) fn is_known(&self) -> bool {
        self.known
    }

    /// Takes all changes from the text of the ConfigMap, if it is the text that the operator wrote for this plan.
    fn complete_from(&mut self, whole: &WholePlan, text: Option<&str>, status: &PlanStatus) {
        let name = &whole.config_map;
        match text.map(|text| whole.open(text, status)) {
            Some(Some(document)) => {
                self.changes = document.changes;
                self.omitted = Some(0);
            }
            Some(None) => {
                self.not_read = Some(format!(
                    "the ConfigMap {name} does not hold this plan: somebody else has changed it, or the plan changed just now; try again in a moment"
                ));
            }
            None => {
                self.not_read = Some(format!(
                    "the ConfigMap {name} with the whole plan is gone; the operator writes it again when it next looks at the Activation"
                ));
            }
        }
    }

    /// What is missing in the list.
    fn missing(&self) -> Vec<String> {
        let mut missing = match self.omitted {
            Some(0) => Vec::new(),
            Some(more) => vec![format!("and {more} more, for which the status has no room")],
            None => vec!["and perhaps more, for which the status has no room".to_owned()],
        };
        missing.extend(self.not_read.clone());
        let steps = self.unknown.iter();
        missing.extend(steps.map(|step| format!("{step}: what it would do is not known")));
        if missing.is_empty() {
            let text = match (self.known, self.changes.is_empty()) {
                (true, true) => Some("no change"),
                (true, false) => None,
                (false, true) => Some("the changes are not known yet"),
                (false, false) => Some("what else will be done is not known yet"),
            };
            missing.extend(text.map(str::to_owned));
        }
        missing
    }
}

/// The plan for people, by phases. Pure.
pub(super) fn lines(plan: &Plan) -> Vec<Line> {
    let mut lines = vec![
        Line::default()
            .and(
                Tone::Bold,
                format!("Plan of {}/{}", plan.namespace, plan.name),
            )
            .and(
                Tone::Dim,
                format!("  generation {}", plan.generation.unwrap_or_default()),
            ),
        Line::default().and(Tone::Dim, format!("  {}", plan.digest)),
    ];
    if plan.observed_generation != plan.generation {
        let line = "  of an earlier spec: the operator has not observed the current one yet";
        lines.push(Line::default().and(Tone::Warn, line));
    }
    let serves = match (plan.serves, &plan.serves_image) {
        (None, None) => "nothing on record".to_owned(),
        (number, image) => {
            let image = image.as_deref().unwrap_or_default();
            format!("release {}, {image}", number.unwrap_or_default())
        }
    };
    lines.push(Line::plain(format!("  serves now: {serves}")));
    let mut phase = "";
    for change in &plan.changes {
        if change.phase != phase {
            phase = &change.phase;
            lines.push(Line::default().and(Tone::Bold, format!("  {phase}")));
        }
        let step = Line::default().and(Tone::Dim, format!("    {:<18}", change.step));
        // What is lost for good must not be read over.
        let tone = if change.destroys() {
            Tone::Bad
        } else {
            Tone::Plain
        };
        lines.push(step.and(tone, change.head()));
        let fields = change.fields.iter();
        lines.extend(fields.map(|field| Line::plain(format!("{:24}{field}", ""))));
    }
    let PlanCounts {
        create,
        update,
        destroy,
    } = plan.counts;
    if !plan.changes.is_empty() && plan.counts != PlanCounts::default() {
        let line = Line::plain(format!("  {create} to create, {update} to update, "));
        let tone = if destroy > 0 { Tone::Bad } else { Tone::Plain };
        lines.push(line.and(tone, format!("{destroy} to destroy")));
    }
    lines.extend(plan.cost_per_month.as_ref().map(cost));
    let missing = plan.missing();
    let tone = if plan.known { Tone::Plain } else { Tone::Warn };
    lines.extend(
        missing
            .iter()
            .map(|text| Line::default().and(tone, format!("  {text}"))),
    );
    lines
}

/// What the application costs, in one line. Pure.
fn cost(cost: &CostPerMonth) -> Line {
    let amount = |amount: &str| match amount {
        "unknown" => amount.to_owned(),
        amount => format!("about {amount} {}", cost.currency),
    };
    let (before, after) = (amount(&cost.before), amount(&cost.after));
    let mut text = match before == after {
        true => format!("  cost a month: {after}"),
        false => format!("  cost a month: {before} now, {after} after it"),
    };
    if !cost.unknown.is_empty() {
        text.push_str(&format!("; of unknown price: {}", cost.unknown.join(", ")));
    }
    Line::plain(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The last line of a plan with so many changes of Deploy, and what it says of them.
    fn end(complete: bool, unknown: &[&str], listed: usize, total: u32) -> (String, Plan) {
        let change = json!({"phase": "Deploy", "step": "Machines", "change": "update one"});
        let object: Activation = serde_json::from_value(json!({
            "metadata": {"name": "shop", "namespace": "prod", "generation": 4},
            "spec": {"organization": "o", "app": "shop", "region": "eze", "deploy": {"image": "x:2"}},
            "status": {"observedGeneration": 4, "plan": {
                "digest": "sha256:ab", "changes": vec![change; listed], "total": total,
                "complete": complete, "unknown": unknown,
            }},
        }))
        .unwrap();
        let plan = plan(&object).unwrap();
        let last = lines(&plan).last().map(Line::text);
        (last.unwrap_or_default(), plan)
    }

    #[test]
    fn no_change_is_said_only_of_a_plan_that_is_known_to_be_whole() {
        assert_eq!(end(true, &[], 0, 0).0, "  no change");
        let not_known = "  the changes are not known yet";
        assert_eq!(end(false, &[], 0, 0).0, not_known);
        let (last, plan) = end(false, &["Volumes"], 1, 1);
        assert_eq!(last, "  Volumes: what it would do is not known");
        assert!(!plan.is_known() && plan.lists_all());
        assert_eq!(
            end(false, &[], 1, 1).0,
            "  what else will be done is not known yet"
        );
        assert!(end(true, &[], 1, 1).1.is_known());
    }

    #[test]
    fn changes_that_are_not_listed_are_counted() {
        let (last, plan) = end(true, &[], 48, 60);
        assert_eq!(last, "  and 12 more, for which the status has no room");
        assert!(!plan.lists_all());
        assert!(end(true, &[], 48, 48).1.lists_all());
        assert!(end(true, &[], 2, 0).1.lists_all());
        // An operator that does not count them.
        let (last, plan) = end(true, &[], 48, 0);
        assert_eq!(last, "  and perhaps more, for which the status has no room");
        assert!(!plan.lists_all());
    }

    #[test]
    fn changes_without_room_come_from_the_config_map_and_from_no_other_text_than_the_operators() {
        let change = |at: usize| json!({"phase": "Deploy", "step": "Machines", "change": format!("update {at}")});
        let text = json!({"digest": "sha256:ab", "generation": 4,
            "changes": (0..60).map(change).collect::<Vec<_>>()})
        .to_string();
        let whole = WholePlan::of("golive-plan-u".to_owned(), &text);
        let (_, counted) = end(true, &[], 48, 60);
        let status = PlanStatus {
            digest: "sha256:ab".to_owned(),
            generation: Some(4),
            total: 60,
            ..PlanStatus::default()
        };
        let read = |text: Option<&str>, status: &PlanStatus| {
            let (_, mut plan) = end(true, &[], 48, 60);
            plan.complete_from(&whole, text, status);
            plan
        };
        let plan = read(Some(&text), &status);
        assert!(plan.lists_all() && plan.changes.len() == 60 && plan.not_read.is_none());
        assert!(!counted.lists_all());
        // Of another plan or generation, changed by somebody, or gone.
        let other = |change: &dyn Fn(&mut PlanStatus)| {
            let mut other = status.clone();
            change(&mut other);
            other
        };
        let digest = other(&|status| status.digest = "sha256:cd".to_owned());
        let generation = other(&|status| status.generation = Some(5));
        let total = other(&|status| status.total = 61);
        let forged = text.replace("update 59", "update 00");
        for (text, status) in [
            (Some(text.as_str()), &digest),
            (Some(text.as_str()), &generation),
            (Some(text.as_str()), &total),
            (Some(forged.as_str()), &status),
            (None, &status),
        ] {
            let plan = read(text, status);
            assert!(!plan.lists_all(), "{status:?}");
            let shown: Vec<String> = lines(&plan).iter().map(Line::text).collect();
            assert!(
                shown.iter().any(|line| line.contains("golive-plan-u")),
                "{shown:?}"
            );
        }
    }

    #[test]
    fn what_is_destroyed_stands_out_and_every_field_has_a_line() {
        let object: Activation = serde_json::from_value(json!({
            "metadata": {"name": "shop", "namespace": "prod", "generation": 4},
            "spec": {"organization": "o", "app": "shop", "region": "eze", "deploy": {"image": "x:2"}},
            "status": {"observedGeneration": 4, "plan": {
                "digest": "sha256:ab", "complete": true, "total": 2,
                "counts": {"update": 1, "destroy": 1},
                "changes": [
                    {"phase": "Deploy", "step": "Machines", "verb": "Update", "kind": "Machine",
                     "name": "golive-app-0", "fields": [
                        {"field": "image", "old": "x:1", "new": "x:2"},
                        {"field": "env MODE", "new": "changed"}]},
                    {"phase": "Deploy", "step": "Machines", "verb": "Destroy", "kind": "Machine",
                     "name": "golive-app-1"},
                ],
            }},
        }))
        .unwrap();
        let plan = plan(&object).unwrap();
        let shown = lines(&plan);
        let text: Vec<String> = shown.iter().map(Line::text).collect();
        assert_eq!(
            text[3..],
            [
                "  Deploy",
                "    Machines          update machine golive-app-0",
                "                        image x:1 → x:2",
                "                        env MODE changed",
                "    Machines          destroy machine golive-app-1",
                "  0 to create, 1 to update, 1 to destroy",
            ]
        );
        let red = |at: usize| shown[at].has(Tone::Bad);
        assert!(!red(4) && red(7) && red(8));
    }

    #[test]
    fn a_plan_is_shown_by_phases_with_its_digest_and_what_serves() {
        let object: Activation = serde_json::from_value(json!({
            "metadata": {"name": "shop", "namespace": "prod", "generation": 4},
            "spec": {"organization": "o", "app": "shop", "region": "eze", "deploy": {"image": "x:2"}},
            "status": {
                "observedGeneration": 3,
                "release": {"number": 1, "image": "x:1"},
                "plan": {"digest": "sha256:ab", "changes": [
                    {"phase": "Provision", "step": "Secrets", "change": "set the secrets KEY"},
                    {"phase": "Deploy", "step": "Machines", "change": "update golive-app-0"},
                    {"phase": "Deploy", "step": "Machines", "change": "update golive-app-1"},
                ], "complete": true},
            },
        }))
        .unwrap();
        let lines: Vec<String> = lines(&plan(&object).unwrap())
            .iter()
            .map(Line::text)
            .collect();
        assert_eq!(
            lines,
            [
                "Plan of prod/shop  generation 4",
                "  sha256:ab",
                "  of an earlier spec: the operator has not observed the current one yet",
                "  serves now: release 1, x:1",
                "  Provision",
                "    Secrets           set the secrets KEY",
                "  Deploy",
                "    Machines          update golive-app-0",
                "    Machines          update golive-app-1",
                "  what else will be done is not known yet",
            ]
        );
    }
}
