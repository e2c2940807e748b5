//! The secrets of the release that serves, while the spec cannot be brought live: those that somebody
//! removed or changed at Fly.io are set again, with the values that the release got.
//!
//! A value counts if it has the fingerprint on record, wherever it is found: that of the value with which
//! the release went live, or else of the one that was set last. The values of the spec wait: they reach
//! the application with its next release. A Secret that the spec no longer names is
//! read by the next pass, and only while a value is needed from it ([`Needed`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use jiff::Timestamp;
use secrecy::SecretString;

use super::{attach_fly_postgres, attach_managed, attachment::Attachment, fallback, redis};
use crate::{
    api::{Reason, status::SecretStatus},
    fly::secrets::AppSecret,
    phase::{
        app_secrets,
        clusters::MANAGED_POSTGRES,
        names::{self, DATABASE_URL, REDIS_URL},
        release_secrets::{Prints, prints},
        wanted_secrets::{previous, set_secrets, store},
    },
    pipeline::{
        Cx, Note, PlannedChange, Step, StepChange, StepId, Verdict, Wake, Why, step::Result,
    },
    plan::{Target, fingerprint},
    store::generated::{Rotation, Stored},
};

/// Keeps the secrets of the release that serves.
pub struct KeptSecrets {
    /// The step of the spec that sets them.
    id: StepId,
    /// The only one that is kept; `None`: all.
    only: Option<&'static str>,
}

/// All of them.
pub static ALL: KeptSecrets = KeptSecrets {
    id: StepId::Secrets,
    only: None,
};

/// The address of the database alone.
pub static DATABASE: KeptSecrets = KeptSecrets {
    id: StepId::Attach,
    only: Some(DATABASE_URL),
};

/// The address of Redis alone.
pub static REDIS: KeptSecrets = KeptSecrets {
    id: StepId::Redis,
    only: Some(REDIS_URL),
};

/// Fact: the Secrets in which values of the release are looked for.
#[derive(Clone, Debug, Default)]
pub struct Needed(pub BTreeSet<String>);

/// What happened to a secret of the release at Fly.io.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    /// Fly.io does not list it.
    Removed,
    /// It has another value than the one that Golive set last.
    Changed,
}

/// The secrets of the release that are not at Fly.io as they were set.
#[derive(Debug, Default)]
pub struct Observed {
    /// Those whose values are known.
    known: BTreeSet<String>,
    /// Those whose values are not known any more.
    unknown: BTreeMap<String, Harm>,
    /// Secrets that this pass has not read.
    unread: BTreeSet<String>,
    /// Where the values would be, for people.
    places: String,
    /// The others, as they were set.
    kept: Vec<SecretStatus>,
}

/// Set these secrets again.
#[derive(Debug, PartialEq, Eq)]
pub struct SetAgain(BTreeSet<String>);

impl fmt::Display for SetAgain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.iter().map(String::as_str).collect();
        write!(f, "set the secrets {} again", names.join(", "))
    }
}

impl StepChange for SetAgain {
    fn planned(&self) -> Vec<PlannedChange> {
        let names = self.0.iter().map(String::as_str);
        set_secrets("", names).into_iter().collect()
    }
}

impl Step for KeptSecrets {
    type Observed = Observed;
    type Change = SetAgain;

    fn id(&self) -> StepId {
        self.id
    }

    fn reads(&self) -> u32 {
        0
    }

    fn reads_overview(&self) -> bool {
        true
    }

    async fn observe(&self, cx: &Cx) -> Result<Observed> {
        let Some(mut prints) = prints(cx).await? else {
            return Ok(Observed::default());
        };
        let is_kept_here = |name: &str| self.only.is_none_or(|only| only == name);
        prints.retain(|name, _| is_kept_here(name));
        let pushed = app_secrets::records(cx);
        let at_fly = app_secrets::list(cx).await?;
        let harmed = harmed(&prints, &at_fly, &pushed);
        let is_kept = |status: &&SecretStatus| {
            prints.contains_key(&status.name) && !harmed.contains_key(&status.name)
        };
        let kept = pushed.values().filter(is_kept).cloned().collect();
        if harmed.is_empty() {
            cx.facts.clear::<Needed>();
            return Ok(Observed {
                kept,
                ..Observed::default()
            });
        }
        let needed = needed(cx);
        let read = cx.refs.versions();
        let unread = needed.iter().filter(|name| !read.contains_key(*name));
        let unread = unread.cloned().collect();
        cx.facts.set(Needed(needed));
        let names = harmed.keys().cloned().collect();
        let known: BTreeSet<String> = known(cx, &names, &prints).await?.into_keys().collect();
        let unknown = harmed.into_iter().filter(|(name, _)| !known.contains(name));
        Ok(Observed {
            unknown: unknown.collect(),
            known,
            unread,
            places: places(cx),
            kept,
        })
    }

    fn diff(&self, target: &Target, observed: &Observed, _now: Timestamp) -> Verdict<SetAgain> {
        if !observed.known.is_empty() {
            return Verdict::Change(SetAgain(observed.known.clone()));
        }
        let Some((first, _)) = observed.unknown.first_key_value() else {
            return Verdict::Done;
        };
        if !observed.unread.is_empty() {
            let names: Vec<&str> = observed.unread.iter().map(String::as_str).collect();
            return Verdict::Wait {
                why: Why::new(
                    Reason::Progressing,
                    format!("reads the Secrets {} of the release", names.join(", ")),
                ),
                wake: Wake::After(Duration::ZERO),
            };
        }
        let app = &target.app;
        Verdict::Blocked(
            Why::new(
                Reason::ServingSecretLost,
                format!(
                    "{}; the values with which the release went live are no longer in {}",
                    told(&observed.unknown),
                    observed.places
                ),
            )
            .next(format!(
                "put the former value back there, or set the same value with `fly secrets set {first}=VALUE --stage -a {app}`; the spec sets its own once it can go live"
            )),
        )
    }

    fn notes(&self, _target: &Target, observed: &Observed) -> Vec<Note> {
        observed.kept.iter().cloned().map(Note::Secret).collect()
    }

    async fn act(&self, cx: &Cx, SetAgain(names): SetAgain) -> Result<()> {
        let prints = prints(cx).await?.unwrap_or_default();
        let known = known(cx, &names, &prints).await?.into_iter();
        let send = known.map(|(name, value)| (name, Some(value))).collect();
        app_secrets::push(cx, send).await
    }
}

/// What was done to these secrets, for people.
fn told(unknown: &BTreeMap<String, Harm>) -> String {
    let of = |wanted: Harm| {
        let named = unknown.iter().filter(|(_, harm)| **harm == wanted);
        let names: Vec<&str> = named.map(|(name, _)| name.as_str()).collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    let removed = of(Harm::Removed).map(|names| format!("Fly.io no longer has {names}"));
    let changed = of(Harm::Changed).map(|names| format!("somebody changed {names} at Fly.io"));
    let parts: Vec<String> = [removed, changed].into_iter().flatten().collect();
    parts.join("; ")
}

/// The secrets of the release that are not at Fly.io as they were set last. One that was set with the
/// value of a later release is as it was set.
fn harmed(
    prints: &BTreeMap<String, Prints>,
    at_fly: &[AppSecret],
    pushed: &BTreeMap<String, SecretStatus>,
) -> BTreeMap<String, Harm> {
    let harm = |name: &String| {
        let Some(found) = at_fly.iter().find(|secret| secret.name == *name) else {
            return Some(Harm::Removed);
        };
        let pushed = pushed.get(name)?;
        (pushed.digest != found.digest).then_some(Harm::Changed)
    };
    let names = prints.keys();
    names
        .filter_map(|name| Some((name.clone(), harm(name)?)))
        .collect()
}

/// The values of these secrets that have the fingerprint on record.
async fn known(
    cx: &Cx,
    names: &BTreeSet<String>,
    prints: &BTreeMap<String, Prints>,
) -> Result<BTreeMap<String, SecretString>> {
    let key = &cx.installation.fingerprint_key;
    let candidates = candidates(cx, names).await?;
    Ok(with_these_prints(candidates, names, prints, key))
}

fn with_these_prints(
    candidates: Vec<(String, SecretString)>,
    names: &BTreeSet<String>,
    prints: &BTreeMap<String, Prints>,
    key: &[u8],
) -> BTreeMap<String, SecretString> {
    let mut known = BTreeMap::new();
    for (name, value) in candidates {
        let Some(prints) = prints.get(&name).filter(|_| names.contains(&name)) else {
            continue;
        };
        let print = fingerprint(key, &value);
        if print == prints.given {
            crate::redact::guard(value.clone());
            known.insert(name, value);
        } else if print == prints.last {
            crate::redact::guard(value.clone());
            known.entry(name).or_insert(value);
        }
    }
    known
}

/// Every value that a secret of the release may have now.
async fn candidates(cx: &Cx, names: &BTreeSet<String>) -> Result<Vec<(String, SecretString)>> {
    let spec = &cx.target.provision.secrets;
    let mut found = Vec::new();
    if !spec.generate.is_empty() {
        let stored = store(cx).read().await?.unwrap_or_default();
        let rotation = Rotation::new(&spec.rotation, None);
        found.extend(previous(&stored, &spec.generate, &rotation));
        found.extend(generated(&stored));
    }
    for source in &spec.from {
        // One that is gone holds no value.
        let values = cx.refs.secret_values(&source.secret_ref.name);
        let values = values.unwrap_or_default().into_iter();
        found.extend(values.map(|(name, value)| (name.to_owned(), value.clone())));
    }
    if names.contains(DATABASE_URL) {
        let url = database_url(cx).await?;
        found.extend(url.map(|url| (DATABASE_URL.to_owned(), url)));
    }
    if names.contains(REDIS_URL) {
        let url = redis::url(cx).await?;
        found.extend(url.map(|url| (REDIS_URL.to_owned(), url)));
    }
    Ok(found)
}

/// The stored values, those before the last rotation included.
fn generated(stored: &Stored) -> Vec<(String, SecretString)> {
    let values = stored.previous.iter().chain(&stored.values);
    let values = values.map(|(name, value)| (name.clone(), value.secret().clone()));
    values.collect()
}

/// The URL of the database of the release.
async fn database_url(cx: &Cx) -> Result<Option<SecretString>> {
    fallback::observe(cx);
    if let Ok(Some(declared)) = fallback::declared_url(cx) {
        return Ok(Some(declared));
    }
    let Some(spec) = fallback::spec(&cx.target).filter(|spec| spec.external.is_none()) else {
        return Ok(None);
    };
    if spec.fly_postgres.is_some() {
        let cluster = names::postgres(&cx.target.app);
        return Ok(match attach_fly_postgres::observe(cx, &cluster).await? {
            Attachment::Complete(url) => Some(url),
            Attachment::Incomplete(_) => None,
        });
    }
    let mut recorded = cx.recorded.external.iter();
    match recorded.find(|object| object.kind == MANAGED_POSTGRES) {
        Some(cluster) => attach_managed::url(cx, &cluster.id).await,
        None => Ok(None),
    }
}

/// The Secrets that the spec of the release names for the application.
fn needed(cx: &Cx) -> BTreeSet<String> {
    let provision = &cx.target.provision;
    let postgres = provision.postgres.iter();
    let urls = postgres.flat_map(|spec| [&spec.external, &spec.fallback]);
    let urls = urls.chain(provision.redis.iter().map(|spec| &spec.external));
    let urls = urls.flatten().map(|url| &url.url_secret_ref.name);
    let from = provision.secrets.from.iter();
    let from = from.map(|source| &source.secret_ref.name);
    urls.chain(from).cloned().collect()
}

/// Where the values of the release were, for people.
fn places(cx: &Cx) -> String {
    let generate = &cx.target.provision.secrets.generate;
    let generated = (!generate.is_empty()).then(|| store(cx).name());
    let names: Vec<String> = needed(cx).into_iter().chain(generated).collect();
    match names.as_slice() {
        [] => "Kubernetes".to_owned(),
        [one] => format!("the Secret {one}"),
        many => format!("the Secrets {}", many.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;
    use crate::plan::testing::target;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn next(known: &[&str], unknown: &[(&str, Harm)], unread: &[&str]) -> Verdict<SetAgain> {
        let unknown = unknown.iter();
        let observed = Observed {
            known: set(known),
            unknown: unknown
                .map(|(name, harm)| ((*name).to_owned(), *harm))
                .collect(),
            unread: set(unread),
            places: "the Secret keys".to_owned(),
            kept: Vec::new(),
        };
        ALL.diff(&target(""), &observed, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn what_is_known_is_set_again_and_what_is_not_is_told() {
        assert_eq!(next(&[], &[], &[]), Verdict::Done);
        let lost = [("B", Harm::Removed), ("C", Harm::Changed)];
        assert_eq!(
            next(&["A"], &lost, &[]),
            Verdict::Change(SetAgain(set(&["A"])))
        );
        assert!(matches!(next(&[], &lost, &["keys"]), Verdict::Wait { .. }));
        let Verdict::Blocked(why) = next(&[], &lost, &[]) else {
            unreachable!("blocked")
        };
        assert_eq!(why.reason, Reason::ServingSecretLost);
        assert_eq!(
            why.message,
            "Fly.io no longer has B; somebody changed C at Fly.io; the values with which the release went live are no longer in the Secret keys"
        );
        let command = "`fly secrets set B=VALUE --stage -a shop`";
        assert!(why.action.contains(command), "{}", why.action);
    }

    fn pushed(name: &str, digest: &str, print: &str) -> (String, SecretStatus) {
        let status = SecretStatus {
            name: name.to_owned(),
            digest: digest.to_owned(),
            fingerprint: print.to_owned(),
        };
        (name.to_owned(), status)
    }

    fn at_fly(name: &str, digest: &str) -> AppSecret {
        AppSecret {
            name: name.to_owned(),
            digest: digest.to_owned(),
            ..AppSecret::default()
        }
    }

    #[test]
    fn a_secret_is_harmed_when_it_is_gone_or_not_what_was_set_last() {
        let prints = ["A", "B", "C", "D", "E"].map(|name| (name.to_owned(), Prints::default()));
        let pushed = [
            pushed("A", "da", "p"),
            // A later release has set another value already.
            pushed("B", "db", "of the spec"),
            pushed("C", "dc", "p"),
            pushed("D", "dd", "p"),
        ];
        let at_fly = [
            at_fly("A", "da"),
            at_fly("B", "db"),
            at_fly("C", "by hand"),
            // Nothing is known of what was set.
            at_fly("E", "de"),
            // It was never a secret of the release.
            at_fly("F", "df"),
        ];
        let harmed = harmed(&prints.into(), &at_fly, &pushed.into());
        let expected = [
            ("C".to_owned(), Harm::Changed),
            ("D".to_owned(), Harm::Removed),
        ];
        assert_eq!(harmed, expected.into());
    }

    #[test]
    fn only_a_value_that_the_release_has_had_counts_and_never_that_of_the_spec() {
        let value = |text: &str| SecretString::from(text.to_owned());
        let print = |text: &str| fingerprint(b"key", &value(text));
        let prints = |given: String, last: String| Prints { given, last };
        let prints = BTreeMap::from([
            ("A".to_owned(), prints(print("a-given"), print("a-last"))),
            ("B".to_owned(), prints(print("b-given"), print("b-given"))),
            ("C".to_owned(), Prints::default()),
            ("D".to_owned(), prints(print("d-given"), print("d-last"))),
        ]);
        let candidates = vec![
            ("A".to_owned(), value("a-last")),
            ("A".to_owned(), value("a-given")),
            ("A".to_owned(), value("a-of-the-spec")),
            ("B".to_owned(), value("b-of-the-spec")),
            ("C".to_owned(), value("")),
            ("D".to_owned(), value("d-last")),
            ("X".to_owned(), value("a-given")),
        ];
        let names = set(&["A", "B", "C", "D"]);
        let known = with_these_prints(candidates, &names, &prints, b"key");
        assert_eq!(known.len(), 2, "{:?}", known.keys());
        // The one that it went live with is preferred.
        assert_eq!(known["A"].expose_secret(), "a-given");
        assert_eq!(known["D"].expose_secret(), "d-last");
    }
}
