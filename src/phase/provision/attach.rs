//! `DATABASE_URL`: a user and a database of the app's own in the cluster, and the URL as a secret
//! of the app.
//!
//! What the two kinds of clusters lack, and how it is created, is in `attach_managed` and
//! `attach_fly_postgres`.

use std::{collections::BTreeMap, fmt, time::Duration};

use jiff::Timestamp;
use secrecy::SecretString;

use super::{
    attach_fly_postgres, attach_managed,
    attachment::{Attachment, MissingParts, Part},
    fallback,
};
use crate::{
    api::{Reason, provision::Postgres as Spec, status::SecretStatus},
    error::Error,
    fly,
    phase::{
        absence::{self, Doubt},
        app_secrets::{self, Comparison},
        database::{self, Database, DatabaseUrl},
        lost,
        names::{self, DATABASE_URL, role},
        release_secrets::{self, Leads},
        wanted_secrets::set_secrets,
    },
    pipeline::{
        ChangeVerb, Cx, FieldChange, Note, PlannedChange, Step, StepChange, StepId, Verdict, Wake,
        Why, step::Result,
    },
    plan::{Target, target},
};

/// Attaches the database to the app.
pub struct Attach;

/// The kind under which a database of a cluster is missed.
const DATABASE: &str = "PostgresDatabase";

/// Failures in a row after which the declared fallback is used.
const MAX_FAILURES: u32 = 3;

/// Journal: attempts to attach that failed in a row.
#[derive(Clone, Debug, Default)]
struct Failures(u32);

/// What is known of the URL.
#[derive(Debug)]
pub enum UrlState {
    /// The spec requests no database.
    NotRequested,
    /// The app is not attached to the cluster yet.
    Incomplete(MissingParts),
    /// The database that the app has used is not in its cluster any more.
    DatabaseLost {
        /// What is missing.
        missing: MissingParts,
        /// Until two looks agree: the pause before the next one.
        again: Option<Duration>,
        /// This process has seen it there.
        was_seen: bool,
        /// What is on record of its address: without it, nobody would know that it was used.
        pushed: Option<SecretStatus>,
    },
    /// The URL is known.
    Known {
        /// Whether Fly.io has it.
        compared: Comparison,
        /// It is set by Deploy: a release with another one serves.
        waits: bool,
        /// Why the declared fallback is in use.
        fallback: Option<String>,
    },
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub enum AttachChange {
    /// Create what is missing in the cluster.
    Attach(MissingParts),
    /// Set `DATABASE_URL`.
    Push,
}

impl fmt::Display for AttachChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attach(missing) => {
                write!(f, "attach the database cluster {}", missing.cluster)?;
                if let Some(user) = missing.user.to_create() {
                    write!(f, ", with user {user}")?;
                }
                if let Some(database) = missing.database.to_create() {
                    write!(f, ", with database {database}")?;
                }
                Ok(())
            }
            Self::Push => write!(f, "set the secret {DATABASE_URL}"),
        }
    }
}

impl StepChange for AttachChange {
    fn planned(&self) -> Vec<PlannedChange> {
        match self {
            Self::Attach(missing) => {
                let attach = PlannedChange::new(ChangeVerb::Create, ATTACHMENT, &missing.cluster);
                let part = |field: &str, part: &Part| {
                    let name = part.to_create()?;
                    Some(FieldChange::new(field, None, Some(name.to_owned())))
                };
                let parts = [
                    part("user", &missing.user),
                    part("database", &missing.database),
                ];
                vec![attach.with(parts.into_iter().flatten())]
            }
            Self::Push => set_secrets("", [DATABASE_URL]).into_iter().collect(),
        }
    }
}

/// Kind of the app's user and database in a cluster, in a plan.
const ATTACHMENT: &str = "Attachment";

impl Step for Attach {
    type Observed = UrlState;
    type Change = AttachChange;

    fn id(&self) -> StepId {
        StepId::Attach
    }

    fn needs(&self) -> &'static [StepId] {
        &[StepId::App, StepId::Postgres]
    }

    fn reads(&self) -> u32 {
        0
    }

    fn reads_overview(&self) -> bool {
        true
    }

    async fn observe(&self, cx: &Cx) -> Result<UrlState> {
        if cx.target.provision.postgres.is_none() {
            release_secrets::address_waits(cx, DATABASE_URL, None);
            release_secrets::note_fallback(cx, false);
            return Ok(UrlState::NotRequested);
        }
        let known = known_url(cx)?;
        let doubted = database::is_doubted(cx) && fallback::declared_url(cx)?.is_none();
        let url = match known {
            Some(url) if !doubted => url,
            known => match attachment(cx).await? {
                Attachment::Incomplete(missing) => {
                    return Ok(incomplete(cx, missing, known.is_some()));
                }
                Attachment::Complete(url) => {
                    cx.facts.set(DatabaseUrl(url.clone()));
                    database::is_complete(cx);
                    absence::cleared(cx, Doubt::Gone, DATABASE, &subject(cx));
                    url
                }
            },
        };
        let declared = fallback::declared_url(cx)?.is_some();
        let served = release_secrets::served(cx).await?;
        let served = served.as_ref().and_then(|served| served.postgres.as_ref());
        let fell_back = release_secrets::served_by_fallback(cx).await?;
        release_secrets::note_fallback(cx, fallback::reason(cx).is_some());
        let wanted = fallback::spec(&cx.target);
        let leads = match !declared && is_same_cluster((served, fell_back), wanted) {
            true => Leads::ToTheSame,
            false => Leads::Elsewhere,
        };
        let compared = release_secrets::compare_address(cx, DATABASE_URL, url, leads);
        let (compared, waits) = compared.await?;
        Ok(UrlState::Known {
            compared,
            waits,
            fallback: fallback::reason(cx),
        })
    }

    fn diff(
        &self,
        _target: &Target,
        observed: &UrlState,
        _now: Timestamp,
    ) -> Verdict<AttachChange> {
        match observed {
            UrlState::NotRequested => {
                Verdict::Skipped(Why::new(Reason::NotRequested, "no `postgres`"))
            }
            UrlState::Incomplete(missing) => Verdict::Change(AttachChange::Attach(missing.clone())),
            UrlState::DatabaseLost {
                missing,
                again,
                was_seen,
                ..
            } => database_lost(missing, *again, *was_seen),
            UrlState::Known {
                compared, waits, ..
            } if *waits || compared.stale.is_empty() => Verdict::Done,
            UrlState::Known { .. } => Verdict::Change(AttachChange::Push),
        }
    }

    fn plan(&self, target: &Target, _: &UrlState, change: &AttachChange) -> Vec<PlannedChange> {
        let attach = matches!(change, AttachChange::Attach(_)).then(|| change.planned());
        let url = set_secrets(&target.app, [DATABASE_URL]);
        attach.into_iter().flatten().chain(url).collect()
    }

    fn expected(&self, cx: &Cx) -> Vec<PlannedChange> {
        let target = &cx.target;
        let Some(database) = target.database() else {
            return Vec::new();
        };
        let name = role(&target.app);
        let attach = match database {
            target::Database::External(_) => None,
            target::Database::Managed(_) | target::Database::FlyPostgres(_) => Some(
                PlannedChange::new(ChangeVerb::Create, ATTACHMENT, names::postgres(&target.app))
                    .set("user", &name)
                    .set("database", &name),
            ),
        };
        attach
            .into_iter()
            .chain(set_secrets(&target.app, [DATABASE_URL]))
            .collect()
    }

    fn notes(&self, target: &Target, observed: &UrlState) -> Vec<Note> {
        match observed {
            UrlState::Known {
                compared, fallback, ..
            } => {
                let mut notes = compared.notes();
                notes.extend(fallback.iter().map(|reason| fallback::note(target, reason)));
                notes
            }
            UrlState::DatabaseLost { pushed, .. } => {
                pushed.iter().cloned().map(Note::Secret).collect()
            }
            UrlState::NotRequested | UrlState::Incomplete(_) => Vec::new(),
        }
    }

    async fn act(&self, cx: &Cx, change: AttachChange) -> Result<()> {
        match change {
            AttachChange::Attach(missing) => match attach(cx, &missing).await {
                Ok(()) => {
                    cx.journal.clear::<Failures>();
                    Ok(())
                }
                Err(error) => count_failure(cx, &missing, error),
            },
            AttachChange::Push => {
                let Some(url) = known_url(cx)? else {
                    return Err(Error::NotKnown("the URL of the database"));
                };
                let value = BTreeMap::from([(DATABASE_URL.to_owned(), Some(url))]);
                app_secrets::push(cx, value).await
            }
        }
    }
}

/// What follows from these missing parts. `was_seen`: this process knows the URL of this cluster.
fn incomplete(cx: &Cx, missing: MissingParts, was_seen: bool) -> UrlState {
    let subject = subject(cx);
    if !missing.is_data_lost(was_seen) {
        absence::cleared(cx, Doubt::Gone, DATABASE, &subject);
        return UrlState::Incomplete(missing);
    }
    UrlState::DatabaseLost {
        again: absence::seen(cx, Doubt::Gone, DATABASE, &subject),
        was_seen,
        pushed: lost::pushed(cx, DATABASE_URL),
        missing,
    }
}

/// The database of the app, as it is looked at twice: one of another cluster is another one.
fn subject(cx: &Cx) -> String {
    let database = cx.facts.get::<Database>();
    let cluster = match database.as_deref() {
        Some(Database::Managed { id }) => id.as_str(),
        Some(Database::FlyPostgres { app, .. }) => app.as_str(),
        Some(Database::External) | None => "",
    };
    format!("{cluster}/{}", role(&cx.target.app))
}

/// A database that held data is not created anew: a person does that, or restores it. One look is no proof:
/// what this process has seen there still counts. Pure.
fn database_lost(
    missing: &MissingParts,
    again: Option<Duration>,
    was_seen: bool,
) -> Verdict<AttachChange> {
    let (cluster, database) = (&missing.cluster, missing.database.to_create());
    let database = database.unwrap_or_default();
    match again {
        Some(again) if was_seen => Verdict::Holds(again),
        Some(again) => Verdict::Wait {
            why: Why::new(
                Reason::ObservationUnknown,
                format!(
                    "Fly.io does not show the database {database} in the cluster {cluster}, which the app has used; Golive checks again before it treats it as gone"
                ),
            ),
            wake: Wake::After(again),
        },
        None => Verdict::Blocked(
            Why::new(
                Reason::DatabaseLost,
                format!(
                    "the database {database} in the cluster {cluster}, which the app has used, is gone at Fly.io with its data"
                ),
            )
            .next(format!(
                "restore a backup of the cluster that has it; or create an empty one yourself: `fly mpg databases create {cluster} --name {database}`"
            )),
        ),
    }
}

/// Whether both specs have the database of the app in its cluster. Each app has one, and one database in it, so
/// that their URLs differ only by the user and its password. A fallback may be what serves, if the record of the
/// release does not say otherwise (`fell_back`), or only one of them declares it. Pure.
fn is_same_cluster(
    (served, fell_back): (Option<&Spec>, Option<bool>),
    wanted: Option<&Spec>,
) -> bool {
    let (Some(served), Some(wanted)) = (served, wanted) else {
        return false;
    };
    let kind = |spec: &Spec| (spec.managed.is_some(), spec.fly_postgres.is_some());
    served.external.is_none()
        && wanted.external.is_none()
        && kind(served) == kind(wanted)
        && served.fallback == wanted.fallback
        && (served.fallback.is_none() || fell_back == Some(false))
}

/// The URL, if it is declared or was observed before.
fn known_url(cx: &Cx) -> Result<Option<SecretString>> {
    let observed = || cx.facts.get::<DatabaseUrl>().map(|url| url.0.clone());
    Ok(fallback::declared_url(cx)?.or_else(observed))
}

/// What there is of the attachment in the cluster.
async fn attachment(cx: &Cx) -> Result<Attachment> {
    match cx.facts.get::<Database>().as_deref() {
        Some(Database::Managed { id }) => attach_managed::observe(cx, id).await,
        Some(Database::FlyPostgres { app, .. }) => attach_fly_postgres::observe(cx, app).await,
        Some(Database::External) | None => Err(Error::NotKnown("the database cluster")),
    }
}

/// Creates what is missing in the cluster.
async fn attach(cx: &Cx, missing: &MissingParts) -> Result<()> {
    match cx.facts.get::<Database>().as_deref() {
        Some(Database::FlyPostgres { app, primary }) => {
            attach_fly_postgres::attach(cx, app, primary).await
        }
        _ => attach_managed::attach(cx, missing).await,
    }
}

/// True for a failure of the attachment itself, and not of the token, the rate limit or the
/// connection.
fn is_attach_failure(error: &Error) -> bool {
    match error {
        Error::Fly { source, .. } => !matches!(
            source.class(),
            fly::Class::Throttled { .. } | fly::Class::Auth { .. }
        ),
        Error::Blocked { .. } => true,
        _ => false,
    }
}

/// Counts the failure; after the third in a row it switches to the declared fallback.
fn count_failure(cx: &Cx, missing: &MissingParts, error: Error) -> Result<()> {
    if !is_attach_failure(&error) {
        return Err(error);
    }
    let failures = cx.journal.get::<Failures>().map_or(0, |count| count.0) + 1;
    cx.journal.set(Failures(failures));
    if failures < MAX_FAILURES {
        return Err(error);
    }
    let text = format!(
        "attaching {} failed {failures} times: {}",
        missing.cluster,
        crate::causes::chain(&error)
    );
    if fallback::is_declared(&cx.target) {
        fallback::switch(cx, text);
        return Ok(());
    }
    Err(Error::Blocked {
        reason: Reason::AttachFailed,
        message: text,
        action: format!(
            "look at the cluster with {}, or declare `postgres.fallback` with a URL of your own",
            match cx.facts.get::<Database>().as_deref() {
                Some(Database::FlyPostgres { app, .. }) => format!("`fly status -a {app}`"),
                _ => format!("`fly mpg status {}`", missing.cluster),
            }
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{phase::provision::attachment::Part, plan::testing::target};

    fn next(observed: &UrlState) -> Verdict<AttachChange> {
        Attach.diff(&target(""), observed, Timestamp::UNIX_EPOCH)
    }

    fn known(stale: bool) -> UrlState {
        let stale = stale.then(|| DATABASE_URL.to_owned());
        UrlState::Known {
            compared: Comparison {
                stale: stale.into_iter().collect(),
                current: Vec::new(),
            },
            waits: false,
            fallback: None,
        }
    }

    #[test]
    fn missing_parts_are_created_before_the_url_is_pushed() {
        let missing = MissingParts {
            cluster: "c1".into(),
            user: Part::Missing("shop".into()),
            ..MissingParts::default()
        };
        let Verdict::Change(change) = next(&UrlState::Incomplete(missing)) else {
            unreachable!("a change")
        };
        assert_eq!(
            change.to_string(),
            "attach the database cluster c1, with user shop"
        );
        assert_eq!(next(&known(true)), Verdict::Change(AttachChange::Push));
        assert_eq!(next(&known(false)), Verdict::Done);
        assert!(matches!(next(&UrlState::NotRequested), Verdict::Skipped(_)));
    }

    #[test]
    fn a_database_that_was_used_is_never_created_anew_and_one_look_is_no_proof() {
        let pushed = SecretStatus {
            name: DATABASE_URL.to_owned(),
            ..SecretStatus::default()
        };
        let lost = |again, was_seen| UrlState::DatabaseLost {
            missing: MissingParts {
                cluster: "c1".into(),
                user: Part::Missing("shop".into()),
                database: Part::Missing("shop".into()),
                ..MissingParts::default()
            },
            again,
            was_seen,
            pushed: Some(pushed.clone()),
        };
        let pause = Duration::from_secs(1);
        // One stale list does not take away what this process has seen.
        let once = lost(Some(pause), true);
        assert_eq!(next(&once), Verdict::Holds(pause));
        let on_record = Note::Secret(pushed.clone());
        assert_eq!(Attach.notes(&target(""), &once), [on_record]);
        let Verdict::Wait { why, wake } = next(&lost(Some(pause), false)) else {
            unreachable!("another look")
        };
        assert_eq!(
            (why.reason, wake),
            (Reason::ObservationUnknown, Wake::After(pause))
        );
        assert!(matches!(next(&lost(None, true)), Verdict::Blocked(_)));
        let Verdict::Blocked(why) = next(&lost(None, false)) else {
            unreachable!("a person decides")
        };
        assert_eq!(why.reason, Reason::DatabaseLost);
        let command = "fly mpg databases create c1 --name shop";
        assert!(why.action.contains(command), "{}", why.action);
    }

    #[test]
    fn another_url_is_a_repair_only_of_the_same_database_in_the_same_cluster() {
        let source = |name: &str| serde_json::json!({"urlSecretRef": {"name": name, "key": "url"}});
        let spec = |value: serde_json::Value| serde_json::from_value::<Spec>(value).ok();
        let managed = spec(serde_json::json!({"managed": {}}));
        let larger = spec(serde_json::json!({"managed": {"plan": "scale"}}));
        let machines = spec(serde_json::json!({"flyPostgres": {}}));
        let external = spec(serde_json::json!({"external": source("a")}));
        let falls_back = spec(serde_json::json!({"managed": {}, "fallback": source("a")}));
        let all = [&managed, &larger, &machines, &external, &falls_back];
        assert!(all.into_iter().all(Option::is_some));
        let same = |served: &Option<Spec>, wanted: &Option<Spec>| {
            is_same_cluster((served.as_ref(), Some(false)), wanted.as_ref())
        };
        assert!(same(&managed, &managed) && same(&machines, &machines));
        assert!(same(&managed, &larger) && same(&falls_back, &falls_back));
        assert!(!same(&managed, &machines) && !same(&external, &external));
        assert!(!same(&external, &managed) && !same(&managed, &external));
        assert!(!same(&managed, &falls_back) && !same(&falls_back, &managed));
        assert!(!same(&None, &managed) && !same(&managed, &None));
        // The release that serves uses the fallback, or perhaps does: its data is there.
        for fell_back in [Some(true), None] {
            let served = (falls_back.as_ref(), fell_back);
            assert!(!is_same_cluster(served, falls_back.as_ref()));
            let served = (managed.as_ref(), fell_back);
            assert!(
                is_same_cluster(served, managed.as_ref()),
                "none is declared"
            );
        }
    }

    #[test]
    fn an_error_that_says_nothing_of_the_attachment_is_not_counted() {
        let blocked = Error::Blocked {
            reason: Reason::AttachFailed,
            message: String::new(),
            action: String::new(),
        };
        assert!(is_attach_failure(&blocked));
        assert!(!is_attach_failure(&Error::NotKnown("the database cluster")));
    }
}
