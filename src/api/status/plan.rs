//! The plan: what will be done, as data, and the one way in which it is written for people.

use std::{collections::BTreeSet, fmt};

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::external::ExternalKind;
use crate::api::enumeration::api_enum;
use crate::api::text::one_line;

/// Most changes that a status lists, by its schema.
pub const MAX_CHANGES: usize = 48;

/// Most fields of one change, by the schema.
pub const MAX_FIELDS: usize = 64;

/// Kind of the secrets of an app: the fields of the change are their names.
pub const SECRETS: &str = "Secrets";

/// Most entries about what is removed for good, by the schema.
const MAX_DESTROYED: usize = 64;

/// Longest value of a field, in bytes.
const LONGEST_VALUE: usize = 160;

/// Longest line about one change, in bytes.
const LONGEST_LINE: usize = 256;

/// The new value of what is not shown: it differs from the old one.
pub const CHANGED: &str = "changed";

api_enum! {
    /// What a change does.
    pub enum ChangeVerb, lenient, default Update {
        /// Takes a name, or something that exists already, for this Activation.
        Claim = "Claim",
        /// Makes something that does not exist.
        Create = "Create",
        /// Changes something that exists.
        Update = "Update",
        /// Starts something, or lets it serve.
        Start = "Start",
        /// Stops something, or takes it out of service. It stays.
        Stop = "Stop",
        /// Runs a command.
        Run = "Run",
        /// Sends requests to the application, and changes nothing.
        Verify = "Verify",
        /// Writes a record.
        Record = "Record",
        /// Removes something for good.
        Destroy = "Destroy",
    }
}

/// The changes that are planned or under way.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanStatus {
    /// Digest of the plan. An approval names it.
    #[schemars(length(max = 71))]
    pub digest: String,
    /// Generation of the object that the plan is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// Whether everything that will be done up to Go-Live is known and counted.
    #[serde(default)]
    pub complete: bool,
    /// The changes, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 48))]
    pub changes: Vec<PlannedChange>,
    /// Number of all changes, also those that the list has no room for.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub total: u32,
    /// Where all changes are, when the list has no room for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole: Option<WholePlan>,
    /// Numbers of the changes that make, change and remove something.
    #[serde(default, skip_serializing_if = "is_default")]
    pub counts: PlanCounts,
    /// What is removed for good: what a decision at a gate is bound to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 192)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub destroys: Vec<String>,
    /// What the application costs a month at Fly.io, as an estimate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_per_month: Option<CostPerMonth>,
    /// Steps of which it is not known what they would do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 48), inner(length(max = 64)))]
    pub unknown: Vec<String>,
}

/// The ConfigMap with all changes of a plan. It is in the namespace of the Activation and belongs to it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WholePlan {
    /// Its name.
    #[schemars(length(max = 253))]
    pub config_map: String,
    /// SHA-256 of the text under its key `plan.json`. A text with another one is not the plan.
    #[schemars(length(max = 71))]
    pub sha256: String,
}

/// The text of that ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanDocument {
    /// Digest of the plan.
    pub digest: String,
    /// Generation of the object that the plan is of.
    pub generation: Option<i64>,
    /// All changes, in order.
    pub changes: Vec<PlannedChange>,
}

impl WholePlan {
    /// The ConfigMap of this name with this text.
    pub fn of(config_map: String, text: &str) -> Self {
        use sha2::{Digest, Sha256};
        let hash = data_encoding::HEXLOWER.encode(&Sha256::digest(text));
        Self {
            config_map,
            sha256: format!("sha256:{hash}"),
        }
    }

    /// The document, if the text is the one that was written for this plan.
    pub fn open(&self, text: &str, plan: &PlanStatus) -> Option<PlanDocument> {
        if Self::of(self.config_map.clone(), text) != *self {
            return None;
        }
        let document: PlanDocument = serde_json::from_str(text).ok()?;
        let is_whole = usize::try_from(plan.total).ok() == Some(document.changes.len());
        let is_this = (document.digest == plan.digest) && document.generation == plan.generation;
        (is_whole && is_this).then_some(document)
    }
}

/// What an application costs a month by Fly.io's published prices, if all machines run all the time. Without
/// traffic, snapshots and certificates.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CostPerMonth {
    /// Its currency.
    #[serde(default)]
    #[schemars(length(max = 8))]
    pub currency: String,
    /// What serves now: an amount such as `13.39`, or `unknown`.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub before: String,
    /// What the plan leads to.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub after: String,
    /// What is not in the amounts, because its price is not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 128)))]
    pub unknown: Vec<String>,
    /// The day of the prices.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 16))]
    pub prices_of: String,
}

/// Numbers of changes.
#[derive(KubeSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanCounts {
    /// What is made or taken over.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub create: u32,
    /// What is changed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub update: u32,
    /// What is removed for good.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub destroy: u32,
}

/// One change of a plan.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedChange {
    /// The phase.
    #[schemars(length(max = 64))]
    pub phase: String,
    /// The step.
    #[schemars(length(max = 64))]
    pub step: String,
    /// What it does.
    #[serde(default)]
    pub verb: ChangeVerb,
    /// What it is done to, such as `Machine`, `Volume` or `Secrets`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub kind: String,
    /// Its name, or the names of all to which the same is done.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub name: String,
    /// To how many it is done.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub count: u32,
    /// The fields that are set, changed or removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub fields: Vec<FieldChange>,
    /// The step that must be done before more is known of this change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub after: Option<String>,
    /// The same for people, in one line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256))]
    pub change: String,
}

/// One field of a change. No value that may be secret: of those, only the name is there and that it is
/// `changed`.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FieldChange {
    /// Which, such as `image` or `guest.memory_mb`.
    #[schemars(length(max = 128))]
    pub field: String,
    /// What it is now. Absent if it is not set, or its value is not shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 192))]
    pub old: Option<String>,
    /// What it will be. Absent if it is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 192))]
    pub new: Option<String>,
}

impl PlannedChange {
    /// A change of this kind to what has this name. The engine adds its step and phase.
    pub fn new(verb: ChangeVerb, kind: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            verb,
            kind: kind.into(),
            name: name.into(),
            count: 1,
            ..Self::default()
        }
    }

    /// The same change to all of these.
    pub fn of_all<'a>(
        verb: ChangeVerb,
        kind: impl Into<String>,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let names: Vec<&str> = names.into_iter().collect();
        Self {
            count: u32::try_from(names.len()).unwrap_or(u32::MAX),
            ..Self::new(verb, kind, one_line(&names.join(", "), 512))
        }
    }

    /// The same with a field that is set.
    #[must_use]
    pub fn set(self, field: &str, new: impl ToString) -> Self {
        self.field(field, None, Some(new.to_string()))
    }

    /// The same with a field that gets another value.
    #[must_use]
    pub fn turned(self, field: &str, old: impl ToString, new: impl ToString) -> Self {
        self.field(field, Some(old.to_string()), Some(new.to_string()))
    }

    /// The same with a field whose value is not shown.
    #[must_use]
    pub fn changed(self, field: &str) -> Self {
        self.set(field, CHANGED)
    }

    /// The same with a field.
    #[must_use]
    pub fn field(mut self, field: &str, old: Option<String>, new: Option<String>) -> Self {
        self.fields.push(FieldChange::new(field, old, new));
        self
    }

    /// The same with these fields.
    #[must_use]
    pub fn with(mut self, fields: impl IntoIterator<Item = FieldChange>) -> Self {
        self.fields.extend(fields);
        self
    }

    /// What it removes, each with its kind: the fields that go, if it names any, or all of its names.
    fn removed(&self) -> Vec<String> {
        let named = |name: &str| cut(&format!("{} {name}", self.kind));
        let goes = |field: &&FieldChange| field.old.is_none() && field.new.is_none();
        let fields: Vec<&FieldChange> = self.fields.iter().filter(goes).collect();
        match fields.is_empty() {
            true => self.name.split(", ").map(named).collect(),
            false => fields.iter().map(|field| named(&field.field)).collect(),
        }
    }

    /// The same within the bounds of the schema, with its line for people.
    #[must_use]
    pub fn finished(mut self) -> Self {
        if let Some(beyond) = self.fields.len().checked_sub(MAX_FIELDS).filter(|n| *n > 0) {
            self.fields.truncate(MAX_FIELDS - 1);
            let more = format!("{} more fields", beyond + 1);
            self = self.set("and", more);
        }
        self.change = one_line(&self.to_string(), LONGEST_LINE);
        self
    }

    /// What is done, and to what: the line without its fields.
    pub fn head(&self) -> String {
        // An operator of an earlier version wrote the line alone.
        if self.kind.is_empty() {
            return self.change.clone();
        }
        let verb = self.verb.as_str().to_lowercase();
        let plural = if self.count > 1 { "s" } else { "" };
        let head = format!("{verb} {}{plural} {}", words(&self.kind), self.name);
        let head = head.trim_end().to_owned();
        match &self.after {
            Some(step) => format!("{head} (after {step})"),
            None => head,
        }
    }

    /// Whether it removes something for good.
    pub fn destroys(&self) -> bool {
        self.verb == ChangeVerb::Destroy
    }
}

impl FieldChange {
    /// A field. A value that is too long is cut, and ends with a part of the hash of the whole, so that two
    /// different values never look alike.
    pub fn new(field: &str, old: Option<String>, new: Option<String>) -> Self {
        let bounded = |value: Option<String>| value.map(|value| cut(&value));
        Self {
            field: one_line(field, 128),
            old: bounded(old),
            new: bounded(new),
        }
    }
}

fn cut(value: &str) -> String {
    use sha2::{Digest, Sha256};

    let line = one_line(value, LONGEST_VALUE);
    if line == value {
        return line;
    }
    let hash = Sha256::digest(value);
    format!("{line} #{}", data_encoding::HEXLOWER.encode(&hash[..4]))
}

/// What these changes remove for good, each with its kind. Of more than a status has room for, the last entry
/// stands for the rest.
pub fn destroyed<'a>(changes: impl IntoIterator<Item = &'a PlannedChange>) -> BTreeSet<String> {
    let destroys = changes.into_iter().filter(|change| change.destroys());
    let mut all: BTreeSet<String> = destroys.flat_map(PlannedChange::removed).collect();
    if all.len() > MAX_DESTROYED {
        let rest: Vec<String> = all.iter().skip(MAX_DESTROYED - 1).cloned().collect();
        all = all.into_iter().take(MAX_DESTROYED - 1).collect();
        all.insert(cut(&format!("{} more: {}", rest.len(), rest.join(", "))));
    }
    all
}

impl PlanCounts {
    /// The numbers of these changes.
    pub fn of<'a>(changes: impl IntoIterator<Item = &'a PlannedChange>) -> Self {
        let mut counts = Self::default();
        for change in changes {
            let count = match change.verb {
                ChangeVerb::Claim | ChangeVerb::Create => &mut counts.create,
                ChangeVerb::Update | ChangeVerb::Start | ChangeVerb::Stop => &mut counts.update,
                ChangeVerb::Destroy => &mut counts.destroy,
                ChangeVerb::Run | ChangeVerb::Verify | ChangeVerb::Record => continue,
            };
            *count = count.saturating_add(change.count);
        }
        counts
    }
}

/// The kind in the middle of a sentence.
fn words(kind: &str) -> &str {
    match ExternalKind::parse(kind) {
        Some(ExternalKind::App) => "Fly app",
        Some(ExternalKind::Machine) => "machine",
        Some(ExternalKind::Volume) => "volume",
        Some(ExternalKind::Address) => "address",
        Some(ExternalKind::Certificate) => "certificate",
        Some(ExternalKind::ManagedPostgres) => "managed Postgres",
        Some(ExternalKind::FlyPostgres) => "Fly Postgres",
        Some(ExternalKind::UpstashRedis) => "Redis database",
        None => kind,
    }
}

impl fmt::Display for FieldChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = &self.field;
        match (&self.old, &self.new) {
            (Some(old), Some(new)) => write!(f, "{field} {old} → {new}"),
            (None, Some(new)) => write!(f, "{field} {new}"),
            (Some(old), None) => write!(f, "{field} {old} removed"),
            (None, None) => write!(f, "{field} removed"),
        }
    }
}

impl fmt::Display for PlannedChange {
    /// One line: the verb, what it is done to, what has to be done first, and the fields.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.head())?;
        for (at, field) in self.fields.iter().enumerate() {
            let before = if at == 0 { ": " } else { ", " };
            write!(f, "{before}{field}")?;
        }
        Ok(())
    }
}

fn one() -> u32 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_one(number: &u32) -> bool {
    *number == 1
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_written_from_its_data() {
        let update = PlannedChange::of_all(ChangeVerb::Update, "Machine", ["app-0", "app-1"])
            .turned("image", "shop:1", "shop:2")
            .changed("env MODE")
            .field("metrics", Some("9091".to_owned()), None)
            .finished();
        assert_eq!(
            update.change,
            "update machines app-0, app-1: image shop:1 → shop:2, env MODE changed, metrics 9091 removed"
        );
        let mut later = PlannedChange::new(ChangeVerb::Create, "Secrets", "shop");
        later.after = Some("Postgres".to_owned());
        assert_eq!(
            later.changed("DATABASE_URL").to_string(),
            "create Secrets shop (after Postgres): DATABASE_URL changed"
        );
        let former = PlannedChange {
            change: "create the Fly app shop".to_owned(),
            ..PlannedChange::default()
        };
        assert_eq!(former.to_string(), "create the Fly app shop");
    }

    #[test]
    fn two_values_that_differ_after_their_cut_do_not_look_alike() {
        let value = |end: &str| format!("{}{end}", "v".repeat(500));
        let field = |end: &str| FieldChange::new("image", None, Some(value(end)));
        assert_ne!(field("1"), field("2"));
        assert!(
            field("1")
                .new
                .is_some_and(|value| value.chars().count() <= 192)
        );
    }

    #[test]
    fn fields_beyond_the_bound_are_counted() {
        let fields = (0..MAX_FIELDS + 5).map(|n| FieldChange::new(&format!("f{n}"), None, None));
        let change = PlannedChange::new(ChangeVerb::Update, "Machine", "a");
        let change = change.with(fields).finished();
        assert_eq!(change.fields.len(), MAX_FIELDS);
        let last = change.fields.last().map(ToString::to_string);
        assert_eq!(last.as_deref(), Some("and 6 more fields"));
    }

    #[test]
    fn what_is_removed_is_named_one_by_one_and_never_beyond_the_bound() {
        let machines = |count: usize| {
            let names: Vec<String> = (0..count).map(|n| format!("m-{n:03}")).collect();
            let names = names.iter().map(String::as_str);
            names
                .map(|name| PlannedChange::new(ChangeVerb::Destroy, "Machine", name))
                .collect::<Vec<_>>()
        };
        let secrets = PlannedChange::new(ChangeVerb::Destroy, SECRETS, "shop");
        let secrets = secrets.field("OLD", None, None).field("WORSE", None, None);
        let kept = PlannedChange::new(ChangeVerb::Update, "Machine", "kept");
        let two = PlannedChange::of_all(ChangeVerb::Destroy, "Machine", ["a", "b"]);
        let all: Vec<String> = destroyed(&[secrets, kept, two]).into_iter().collect();
        assert_eq!(
            all,
            ["Machine a", "Machine b", "Secrets OLD", "Secrets WORSE"]
        );
        let many = destroyed(&machines(100));
        assert_eq!(many.len(), MAX_DESTROYED);
        assert!(
            many.iter().any(|entry| entry.starts_with("37 more: ")),
            "{many:?}"
        );
        assert_ne!(many, destroyed(&machines(101)));
    }

    #[test]
    fn what_is_made_changed_and_removed_is_counted() {
        let of =
            |verb, names: &[&str]| PlannedChange::of_all(verb, "Machine", names.iter().copied());
        let changes = [
            of(ChangeVerb::Create, &["a", "b"]),
            of(ChangeVerb::Update, &["c"]),
            of(ChangeVerb::Destroy, &["d"]),
            of(ChangeVerb::Run, &["e"]),
        ];
        let counts = PlanCounts::of(&changes);
        assert_eq!((counts.create, counts.update, counts.destroy), (2, 1, 1));
    }
}
