//! The application's secrets: generated once and stored in Kubernetes, or taken from Secrets, and
//! pushed to the app in one call; beside a release that serves with others, by Deploy.

use std::fmt;

use jiff::Timestamp;

use crate::{
    api::{MAX_TOKEN, Reason, policy::Deletion, status::SecretStatus},
    phase::{
        app_secrets,
        lost::{self, Lost},
        release_secrets,
        wanted_secrets::{self, Push, Wanted, rotation, set_secrets, store},
    },
    pipeline::{
        ChangeKind, ChangeVerb, Cx, Note, Owner, PlannedChange, Removal, Step, StepChange, StepId,
        Verdict, Why, step::Result,
    },
    plan::{Target, missing::kubectl},
    store::generated::{ANNOTATION_ROTATE, Changes, Rests},
};

/// Generates and pushes the secrets.
pub struct Secrets;

/// What is stored, requested and at Fly.io.
#[derive(Debug)]
pub struct SecretsState {
    /// The change of the store that must come before a push.
    unsettled: Option<SecretsChange>,
    /// Generated values that the application uses and that are no longer stored.
    lost: Option<Lost>,
    /// The secrets that are at Fly.io as they were set.
    current: Vec<SecretStatus>,
    /// What must be set and removed.
    push: Push,
    /// The push waits until Deploy may begin: a release with other secrets serves.
    waits: bool,
    /// Generated values that do not exist yet.
    missing: Vec<String>,
    /// Name of the Secret with the generated values.
    stored_in: String,
    /// Number of the requested secrets whose values exist.
    count: usize,
    /// A rotation that somebody asks for is refused or rests: what a person is told.
    told: Option<Why>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum SecretsChange {
    /// Generate the values that do not exist yet.
    Generate,
    /// Replace the values, as the annotation requests.
    Replace,
    /// Replace the values that have reached their age.
    Rotate,
    /// Delete the previous values, which were stored for the overlap.
    GiveUp,
    /// Set and remove secrets at Fly.io.
    Push(Push),
}

impl fmt::Display for SecretsChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Generate => f.write_str("generate secret values and store them in Kubernetes"),
            Self::Replace => {
                f.write_str("replace the generated secret values, as the annotation requests")
            }
            Self::Rotate => {
                f.write_str("replace generated secret values that have reached their age")
            }
            Self::GiveUp => {
                f.write_str("delete the previous generated secret values, whose overlap has ended")
            }
            Self::Push(push) => push.fmt(f),
        }
    }
}

impl StepChange for SecretsChange {
    fn planned(&self) -> Vec<PlannedChange> {
        let stored = |verb, what: &str| vec![PlannedChange::new(verb, "GeneratedSecrets", what)];
        match self {
            Self::Generate => stored(ChangeVerb::Create, ""),
            Self::Replace => stored(ChangeVerb::Update, "as the annotation requests"),
            Self::Rotate => stored(ChangeVerb::Update, "that have reached their age"),
            Self::GiveUp => stored(ChangeVerb::Destroy, "whose overlap has ended"),
            Self::Push(push) => push.planned(""),
        }
    }

    fn kind(&self) -> ChangeKind {
        match self {
            Self::Replace | Self::Rotate => ChangeKind::Rotation,
            Self::GiveUp => ChangeKind::RotationEnd,
            Self::Generate | Self::Push(_) => ChangeKind::Ordinary,
        }
    }
}

/// The change that brings the store in order.
fn settling(changes: &Changes) -> SecretsChange {
    match (changes.is_by_age(), changes.rotate.is_empty()) {
        (true, true) => SecretsChange::GiveUp,
        (true, false) => SecretsChange::Rotate,
        (false, false) => SecretsChange::Replace,
        (false, true) => SecretsChange::Generate,
    }
}

/// Finds the change of the store that comes first, once it is known whether the secrets wait for Deploy, and whether
/// a rotation that somebody asks for rests.
async fn find_unsettled(cx: &Cx, wanted: &Wanted, state: &mut SecretsState) -> Result<()> {
    let rotation = rotation(cx);
    if wanted.changes(cx, &rotation).is_none() {
        release_secrets::note_resting(cx, false);
        return Ok(());
    }
    let rotation = release_secrets::allowed(cx, rotation).await?;
    release_secrets::note_resting(cx, rotation.rests != Rests::Nothing);
    if wanted.rests_although_asked(cx, &rotation) {
        state.told = Some(rotation_rests(&cx.owner, &state.push));
    }
    state.unsettled = wanted.changes(cx, &rotation).as_ref().map(settling);
    Ok(())
}

/// Why a requested rotation is not made at all. Pure.
fn refused_rotation(target: &Target, owner: &Owner) -> Option<Why> {
    let length = target.refused_rotation?;
    if target.provision.secrets.generate.is_empty() {
        return None;
    }
    let message = format!(
        "the requested rotation is refused: the annotation {ANNOTATION_ROTATE} has {length} bytes, and at most {MAX_TOKEN} are accepted"
    );
    let Owner {
        namespace, name, ..
    } = owner;
    Some(Why::new(Reason::RotationRefused, message).next(format!(
        "set a shorter value: `kubectl golive rotate {name} -n {namespace}`"
    )))
}

/// Why the requested rotation is not made yet. Pure.
fn rotation_rests(owner: &Owner, push: &Push) -> Why {
    let kubectl = kubectl(&owner.namespace);
    Why::new(
        Reason::RotationWaits,
        format!(
            "the requested rotation waits until a release with the present secrets serves (Deploy has to {push})"
        ),
    )
    .next(format!(
        "let Deploy go on: `{kubectl} get activation {} -o jsonpath='{{.status.nextAction}}'` says what it waits for",
        owner.name
    ))
}

/// Those of the values that are not stored, though the application has got them: they are on record, or
/// Fly.io has them. Values are stored before they are pushed, so these are lost, or were never ours.
async fn lost(cx: &Cx, missing: Vec<String>) -> Result<Option<Lost>> {
    if missing.is_empty() {
        return Ok(None);
    }
    let records = app_secrets::records(cx);
    let at_fly = app_secrets::list(cx).await?;
    let mut marks = Vec::new();
    let mut notes = Vec::new();
    let mut names = Vec::new();
    for name in missing {
        let found = at_fly.iter().find(|secret| secret.name == name);
        let print = match (records.get(&name), found) {
            (Some(record), _) => {
                notes.push(Note::Secret(record.clone()));
                &record.fingerprint
            }
            (None, Some(found)) => &found.digest,
            (None, None) => continue,
        };
        marks.push(lost::mark(&name, print));
        names.push(name);
    }
    if names.is_empty() {
        return Ok(None);
    }
    let what = names.join(", ");
    let lost = Lost::new(cx, StepId::Secrets, what, (marks, notes));
    Ok(Some(lost.surely()))
}

/// Why no new values are generated.
fn lost_text(owner: &str, what: &str, command: &str) -> Why {
    Why::new(
        Reason::GeneratedSecretLost,
        format!("the app uses {what}, and the Secret {owner} no longer holds the values"),
    )
    .next(format!(
        "restore the Secret from a backup; or have new values generated, with which old sessions and signatures end: `{command}`"
    ))
}

impl Step for Secrets {
    type Observed = SecretsState;
    type Change = SecretsChange;

    fn id(&self) -> StepId {
        StepId::Secrets
    }

    fn needs(&self) -> &'static [StepId] {
        &[StepId::App]
    }

    fn reads(&self) -> u32 {
        0
    }

    fn reads_overview(&self) -> bool {
        true
    }

    async fn observe(&self, cx: &Cx) -> Result<SecretsState> {
        let wanted = wanted_secrets::observe(cx).await?;
        let lost = lost(cx, wanted.missing.clone()).await?;
        let mut state = SecretsState {
            unsettled: None,
            lost,
            current: Vec::new(),
            push: Push::default(),
            waits: false,
            missing: wanted.missing.clone(),
            stored_in: store(cx).name(),
            count: wanted.values.len(),
            told: refused_rotation(&cx.target, &cx.owner),
        };
        if wanted.values.is_empty() && app_secrets::records(cx).is_empty() {
            release_secrets::secrets_wait(cx, false);
            find_unsettled(cx, &wanted, &mut state).await?;
            return Ok(state);
        }
        let compared = app_secrets::compare(cx, &wanted.values).await?;
        let at_fly = app_secrets::list(cx).await?;
        state.current = compared.current;
        state.push = Push {
            set: compared.stale,
            unset: wanted.surplus(cx, &at_fly),
        };
        state.waits = release_secrets::waits(cx, &state.push, &wanted.values).await?;
        release_secrets::secrets_wait(cx, state.waits);
        find_unsettled(cx, &wanted, &mut state).await?;
        Ok(state)
    }

    fn diff(
        &self,
        target: &Target,
        observed: &SecretsState,
        _now: Timestamp,
    ) -> Verdict<SecretsChange> {
        if let Some(change) = &observed.unsettled {
            let settle = || Verdict::Change(change.clone());
            return match &observed.lost {
                Some(lost) => {
                    let name = &observed.stored_in;
                    lost.verdict(
                        target,
                        |what, command| lost_text(name, what, command),
                        settle,
                    )
                }
                None => settle(),
            };
        }
        if !observed.push.is_empty() && !observed.waits {
            return Verdict::Change(SecretsChange::Push(observed.push.clone()));
        }
        let spec = &target.provision.secrets;
        if observed.count == 0 && spec.generate.is_empty() && spec.from.is_empty() {
            return Verdict::Skipped(Why::new(Reason::NotRequested, "no `secrets`"));
        }
        Verdict::Done
    }

    fn plan(
        &self,
        target: &Target,
        observed: &SecretsState,
        change: &SecretsChange,
    ) -> Vec<PlannedChange> {
        let stores = match change {
            SecretsChange::Push(_) => Vec::new(),
            stores => stores.planned(),
        };
        let mut push = observed.push.clone();
        push.set.extend(observed.missing.iter().cloned());
        let push = match observed.waits {
            true => Vec::new(),
            false => push.planned(&target.app),
        };
        stores.into_iter().chain(push).collect()
    }

    fn expected(&self, cx: &Cx) -> Vec<PlannedChange> {
        let generates = !cx.target.provision.secrets.generate.is_empty();
        let generates = generates.then(|| SecretsChange::Generate.planned());
        let names = wanted_secrets::requested(cx);
        let set = set_secrets(&cx.target.app, names.iter().map(String::as_str));
        generates.into_iter().flatten().chain(set).collect()
    }

    fn notes(&self, _target: &Target, observed: &SecretsState) -> Vec<Note> {
        let current = observed.current.iter().cloned();
        let mut notes: Vec<Note> = current.map(Note::Secret).collect();
        notes.extend(observed.lost.iter().flat_map(Lost::notes));
        notes.extend(observed.told.clone().map(Note::Remark));
        notes
    }

    async fn act(&self, cx: &Cx, change: SecretsChange) -> Result<()> {
        match change {
            SecretsChange::Generate
            | SecretsChange::Replace
            | SecretsChange::Rotate
            | SecretsChange::GiveUp => {
                let wanted = &cx.target.provision.secrets.generate;
                let rotation = release_secrets::allowed(cx, rotation(cx)).await?;
                store(cx).settle(wanted, &rotation, cx.now()).await?;
                Ok(())
            }
            SecretsChange::Push(push) => {
                let wanted = wanted_secrets::observe(cx).await?;
                app_secrets::push(cx, push.send(wanted.values)).await
            }
        }
    }

    async fn remove(&self, cx: &Cx) -> Result<Removal> {
        // The app's secrets are deleted with the app. This decides about the Kubernetes Secret.
        let store = store(cx);
        match cx.target.deletion.secrets {
            Deletion::Delete => {
                store.delete().await?;
                Ok(Removal::Gone)
            }
            Deletion::Retain if cx.target.provision.secrets.generate.is_empty() => {
                Ok(Removal::Gone)
            }
            Deletion::Retain => Ok(Removal::Retained(format!("the Secret {}", store.name()))),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::plan::testing::target;

    fn observed(
        unsettled: Option<SecretsChange>,
        stale: &[&str],
        surplus: &[&str],
    ) -> SecretsState {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        SecretsState {
            unsettled,
            lost: None,
            missing: Vec::new(),
            stored_in: "shop-golive".to_owned(),
            current: Vec::new(),
            push: Push {
                set: set(stale),
                unset: set(surplus),
            },
            waits: false,
            count: 1,
            told: None,
        }
    }

    fn owner() -> Owner {
        Owner {
            namespace: "ns".to_owned(),
            name: "shop".to_owned(),
            uid: "u".to_owned(),
            generation: 1,
        }
    }

    fn next(observed: &SecretsState) -> Verdict<SecretsChange> {
        Secrets.diff(&target(""), observed, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn values_are_stored_in_kubernetes_before_they_are_pushed() {
        let verdict = next(&observed(Some(SecretsChange::Generate), &["A"], &[]));
        assert_eq!(verdict, Verdict::Change(SecretsChange::Generate));
    }

    #[test]
    fn stale_secrets_are_set_and_surplus_ones_removed_in_one_call() {
        let Verdict::Change(change) = next(&observed(None, &["A", "B"], &["C"])) else {
            unreachable!("a change")
        };
        assert_eq!(change.to_string(), "set the secrets A, B; remove C");
        assert_eq!(next(&observed(None, &[], &[])), Verdict::Done);
    }

    #[test]
    fn a_requested_rotation_that_rests_is_told_with_what_it_waits_for() {
        let waiting = observed(None, &["API_KEY"], &[]);
        let rests = SecretsState {
            told: Some(rotation_rests(&owner(), &waiting.push)),
            waits: true,
            ..waiting
        };
        assert_eq!(next(&rests), Verdict::Done, "Deploy must be reached");
        let notes = Secrets.notes(&target(""), &rests);
        let why = notes.iter().find_map(Note::remark).unwrap();
        assert_eq!(why.reason, Reason::RotationWaits);
        assert!(why.message.contains("set the secrets API_KEY"), "{why:?}");
        assert!(why.message.len() <= 200, "{why:?}");
        assert!(
            why.action.contains("kubectl -n ns get activation shop"),
            "{why:?}"
        );
    }

    #[test]
    fn a_rotation_with_a_huge_token_is_refused_in_words_and_changes_nothing() {
        let target = |token: &str| {
            let object = serde_json::json!({
                "metadata": {
                    "name": "shop", "namespace": "ns", "annotations": {ANNOTATION_ROTATE: token},
                },
                "spec": {
                    "organization": "o", "app": "shop", "region": "eze",
                    "deploy": {"image": "registry.fly.io/shop:1"},
                    "provision": {"secrets": {"generate": [{"name": "JWT"}]}},
                },
            });
            let object = serde_json::from_value(object).unwrap();
            let refs = crate::plan::refs::Refs::of(&[("fly", "token", "fo1_some-token")], &[]);
            Target::parse(&object, &refs, None, b"key").unwrap()
        };
        let owner = owner();
        let longest = target(&"x".repeat(MAX_TOKEN));
        assert_eq!(longest.rotation.map(|token| token.len()), Some(MAX_TOKEN));
        assert_eq!(refused_rotation(&target("now"), &owner), None);
        let huge = target(&"x".repeat(261_900));
        assert_eq!(huge.rotation, None);
        assert_eq!(huge.digest(), target(&"y".repeat(1_000)).digest());
        let why = refused_rotation(&huge, &owner).unwrap();
        assert_eq!(why.reason, Reason::RotationRefused);
        assert!(why.message.contains("261900 bytes"), "{why:?}");
        assert!(why.message.len() <= 200, "{why:?}");
        assert!(why.action.contains("rotate shop -n ns"), "{why:?}");
    }

    #[test]
    fn what_differs_from_what_serves_waits_and_what_is_missing_is_generated_meanwhile() {
        let waits = |unsettled| SecretsState {
            waits: true,
            ..observed(unsettled, &["A"], &["C"])
        };
        assert_eq!(next(&waits(None)), Verdict::Done);
        let generate = SecretsChange::Generate;
        assert_eq!(
            next(&waits(Some(generate.clone()))),
            Verdict::Change(generate)
        );
    }
}
