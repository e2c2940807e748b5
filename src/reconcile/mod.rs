//! The way of an object through one pass, on one screen: read, parse, run the phases, derive the
//! status, write it.

pub mod context;
pub mod finalize;
pub mod publish;
pub mod undecodable;

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::ResourceExt;

use crate::{
    api::{
        ANNOTATION_RECONCILE, ANNOTATION_RECONCILE_FLUX, ANNOTATION_RETRY, ANNOTATION_RETRY_FROM,
        Activation, ActivationStatus, PhaseName, Reason, StepId,
        condition::{self, ConditionType},
        policy::{DriftPolicy, Mode},
        status::PhaseState,
    },
    error::Error,
    phase::{
        PHASES,
        deploy::fleet::{leases, roster},
    },
    pipeline::{Act, Cx, Memory, Origin, Owner, Recorded, memory::Read, run},
    plan::{
        self as target, Target,
        abort::{self, Abort},
        gate::{self, GateReport},
        refs::{self, Refs},
        source::{self, decide::Followed},
    },
    reconcile::{
        context::Context,
        publish::{Herald, Teller},
    },
    redact,
    status::{self, Seen, events},
    store::{finalizers as credentials, image::Stored},
};

/// Kubernetes' own annotation for why something was changed.
const ANNOTATION_CAUSE: &str = "kubernetes.io/change-cause";

/// Moves the activation one stretch towards its target, and says what it saw. Answers with the
/// time of the next look.
///
/// # Errors
/// Only when Kubernetes could not be read or written; everything about Fly.io is in the status.
pub async fn reconcile(activation: &Activation, context: &Context) -> Result<Duration, Error> {
    let owner = owner(activation)?;
    let mut held = Held {
        memory: context.memories.recall(&owner),
        context,
        owner: &owner,
        ended: false,
    };
    redact::keep(held.memory.facts.clone());
    tracing::debug!("a pass begins");
    let result = pass(activation, context, &owner, &mut held.memory).await;
    if result.is_err() {
        // What follows from a fresh read, such as the finalizer on the token, may not be done.
        held.memory.refs = None;
    }
    tracing::debug!(next = ?result.as_ref().ok(), "a pass ended");
    held.ended = true;
    held.memory.failures = if result.is_ok() {
        0
    } else {
        held.memory.failures + 1
    };
    result
}

/// What is remembered of an object, for as long as a pass has it. It is put back however the pass
/// ends: one that panics or is cut off may have sent what it announced.
struct Held<'a> {
    memory: Memory,
    context: &'a Context,
    owner: &'a Owner,
    ended: bool,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let empty = Memory::new(self.owner.uid.clone());
        let mut memory = std::mem::replace(&mut self.memory, empty);
        if !self.ended {
            memory = memory.cut_off();
        }
        self.context.memories.remember(self.owner, memory);
    }
}

async fn pass(
    activation: &Activation,
    context: &Context,
    owner: &Owner,
    memory: &mut Memory,
) -> Result<Duration, Error> {
    if activation.metadata.deletion_timestamp.is_some() {
        return finalize::finalize(activation, context, owner, memory).await;
    }
    let old = memory.told.status().or_else(|| status::own(activation));
    let teller = Teller {
        activation,
        context,
        owner,
        told: memory.told.clone(),
    };
    if suspended(activation, (context.installation.clock)()) {
        let seen = Seen {
            suspended: true,
            ..Seen::default()
        };
        leases::let_end(&memory.journal);
        teller.write(old.as_ref(), &seen).await?;
        refuse(activation, context, memory, old.as_ref());
        return Ok(until_resumed(activation, (context.installation.clock)())
            .unwrap_or(context.installation.timing.recheck));
    }
    recall_intents(memory, old.as_ref());
    let tokens = tokens(activation);
    let requested = newly_asked(&tokens, memory.requested.as_deref(), old.as_ref());
    if let Some(word) = &requested {
        forget(activation, context, memory, word);
    }

    // Read (Kubernetes). A missing Secret is data, not an error.
    let (refs, fresh) = read(activation, context, owner, memory).await?;
    context.secret_looks.read(owner, refs.versions().clone());
    let follows = activation.spec.deploy.source.is_some();
    if follows {
        // What is chosen is kept before there is a target.
        credentials::add_finalizer(activation, &context.kube, owner).await?;
    }
    let followed = follow(activation, context, owner, memory, &refs).await?;
    let key = &context.installation.fingerprint_key;
    let parse = || Target::parse(activation, &refs, followed.as_ref(), key).map(Arc::new);
    // The same inputs are the same target.
    let known = memory.refs.as_ref().and_then(|read| read.target.clone());
    let target = match known.filter(|_| !follows).map_or_else(parse, Ok) {
        Ok(target) => target,
        Err(invalid) => {
            let seen = Seen {
                invalid: &invalid,
                requested,
                intents: memory.intents.open(),
                ..Seen::default()
            };
            teller.write(old.as_ref(), &seen).await?;
            memory.requested = Some(tokens);
            memory.forget_looks();
            return Ok(context
                .installation
                .timing
                .recheck
                .min(context.installation.timing.backoff_max)
                .min(Duration::from_secs(30)));
        }
    };
    if let Some(read) = &mut memory.refs {
        read.target = Some(target.clone());
    }
    let current = &activation.spec.token_secret_ref.name;
    for former in credentials::held(activation, &memory.protected, old.as_ref()) {
        if former != *current {
            credentials::release(&former, &context.kube, owner).await?;
        }
    }
    memory.protected = BTreeSet::from([current.clone()]);
    if memory
        .facts
        .app_token
        .is_due((context.installation.clock)())
    {
        memory.steps.remove(&StepId::AppToken);
    }
    let rollbacks = refs.rollbacks().iter();
    memory.notice_rollbacks(rollbacks.map(|request| request.uid.clone()).collect());

    // Observe, diff, act (Fly.io). Its errors are part of the report.
    let reporting_drift = reports_drift(activation, &target, old.as_ref());
    memory.pass += 1;
    let cx = cx(
        context,
        owner,
        origin(activation),
        memory,
        (target.clone(), refs),
        old.as_ref(),
        reporting_drift,
    );
    match abort::decide(
        activation,
        target.digest(),
        old.as_ref(),
        memory.abort.as_deref(),
    ) {
        Abort::None => {}
        Abort::Refuse { word, why } => {
            let event = events::warning("AbortRefused", "Abort", &why);
            context.publish(activation, vec![event]);
            memory.abort = Some(word);
        }
        Abort::Stop(invalid) => {
            // Nothing is left that would go on: no wait, and no lease on a machine.
            context.waits.forget(&owner.uid);
            leases::release(&cx).await;
            let seen = Seen {
                invalid: &[invalid],
                requested,
                intents: memory.intents.open(),
                ..Seen::default()
            };
            teller.write(old.as_ref(), &seen).await?;
            memory.requested = Some(tokens);
            memory.forget_looks();
            return Ok(context.installation.timing.recheck);
        }
    }
    let herald = Herald {
        teller: &teller,
        target: &target,
        reporting_drift,
    };
    let gate = |phase| gate(&cx, activation, old.as_ref(), phase);
    // Before anything is changed, so that what was made can be deleted.
    let finalizers = async {
        let ours = credentials::add_finalizer(activation, &context.kube, owner);
        let tokens = async {
            match fresh {
                true => credentials::protect(activation, &context.kube, owner).await,
                false => Ok(()),
            }
        };
        let (ours, tokens) = tokio::join!(ours, tokens);
        if ours
            .as_ref()
            .is_err_and(|error| error.reason() == Reason::Deleting)
        {
            // Nobody is left who would let the token go.
            credentials::release(current, &context.kube, owner).await?;
        }
        ours.and(tokens)
    };
    // What is asked for has changed: its machines are next, once the checks have passed.
    let known = memory.steps.get(&StepId::Machines);
    let updates = known.is_some_and(|known| known.digest != target.stamp());
    let first = async {
        let ahead = async {
            if updates {
                roster::ahead(&cx).await;
            }
        };
        let (put_on, ()) = tokio::join!(finalizers, ahead);
        put_on
    };
    let report = Box::pin(run::run(&cx, memory, &herald, gate, first)).await?;
    // It may have been written meanwhile.
    let old = memory.told.status().or(old);

    // What is waited for may come while the status is being written.
    let object = context::reference(owner);
    for (step, record) in &memory.steps {
        let wake = record.wake.as_ref();
        context
            .waits
            .ensure(&object, &owner.uid, *step, wake, &cx.fly, &memory.fired);
    }

    // Derive (pure), then write (Kubernetes). The only place that does.
    let seen = Seen {
        target: Some(&target),
        report: Some(&report),
        intents: memory.intents.open(),
        reporting_drift,
        requested,
        ..Seen::default()
    };
    let announced = teller.write(old.as_ref(), &seen).await?;
    let news = memory.facts.take_news();
    context.publish(activation, news.iter().map(events::news).collect());
    context.publish(activation, events::of_changes(&report.sent));
    memory.requested = Some(tokens);

    // Wake again: by a long poll, or at the time of the next look.
    if memory.intents.written(&announced) {
        return Ok(Duration::ZERO);
    }
    let mut look = run::next_look(&report, memory, &context.installation.timing);
    if let Some(due) = memory.source.due() {
        look = look.min(due.saturating_duration_since(Instant::now()));
    }
    if let Some(due) = memory.told.words_due() {
        look = look.min(due.saturating_duration_since(Instant::now()));
    }
    let told = memory.told.status();
    let drifted = told
        .as_ref()
        .is_some_and(|status| condition::is_true(&status.conditions, ConditionType::Drifted));
    if drifted && !report.sent.is_empty() {
        // What was put right is soon told to be in order again.
        look = look.min(context.installation.timing.poll);
    }
    Ok(
        match told.and_then(|status| next_instant(&status, cx.now())) {
            Some(at) => look.min(at),
            None => look,
        },
    )
}

/// Chooses the image of `deploy.source`.
async fn follow(
    activation: &Activation,
    context: &Context,
    owner: &Owner,
    memory: &mut Memory,
    refs: &Refs,
) -> Result<Option<Followed>, Error> {
    if activation.spec.deploy.source.is_none() {
        memory.source = source::Watch::default();
        return Ok(None);
    }
    let registry = source::Registry {
        kube: &context.kube,
        own_namespace: &context.installation.own_namespace,
        fly: &context.fly,
        timing: &context.installation.timing,
        interval_min: context.source_interval_min,
        key: &context.installation.fingerprint_key,
        may_write: &|| context.fence.open(),
    };
    let records = crate::phase::deploy::release::records::known(&memory.facts, &memory.journal);
    let serving = records.as_ref().and_then(|records| records.last_good());
    let serving = serving.map(|good| good.digest.as_str());
    // Shared with the step Image, which stores what it resolves in the same place.
    let stored = memory.journal.get::<Stored>();
    memory.journal.clear::<Stored>();
    memory.source.stored = stored.map(|stored| (*stored).clone());
    let followed = source::follow(
        &registry,
        owner,
        activation,
        refs,
        &mut memory.source,
        serving,
    )
    .await;
    if let Some(stored) = memory.source.stored.take() {
        memory.journal.set(stored);
    }
    followed
}

/// How long what an object names is believed, unless something tells of a change: as long as the
/// slowest of what tells takes (`secret_looks`).
const BELIEVED: Duration = Duration::from_secs(15);

/// What the object names, and whether it was read now. It is not read again only because a step
/// looks again at Fly.io: that would be six reads for each look. Whatever tells that something
/// changed makes the next pass read.
async fn read(
    activation: &Activation,
    context: &Context,
    owner: &Owner,
    memory: &mut Memory,
) -> Result<(Arc<Refs>, bool), Error> {
    let touched = context.waits.take_touched(&context::reference(owner));
    let known = memory.refs.take().filter(|known| {
        !touched
            && known.at.elapsed() < BELIEVED
            && known.generation == activation.metadata.generation
            && known.annotations == *activation.annotations()
    });
    if let Some(known) = known {
        let refs = known.refs.clone();
        memory.refs = Some(known);
        return Ok((refs, false));
    }
    let at = Instant::now();
    let refs = Arc::new(refs::fetch(&context.kube, activation).await?);
    memory.refs = Some(Read {
        at,
        generation: activation.metadata.generation,
        annotations: activation.annotations().clone(),
        refs: refs.clone(),
        target: None,
    });
    Ok((refs, true))
}

/// What every step of this pass gets.
pub fn cx(
    context: &Context,
    owner: &Owner,
    change: Origin,
    memory: &Memory,
    (target, refs): (Arc<Target>, Arc<Refs>),
    old: Option<&ActivationStatus>,
    reporting_drift: bool,
) -> Cx {
    let plan = target.mode == Mode::Plan || reporting_drift;
    Cx {
        fly: context
            .fly
            .client(target.token.clone())
            .with_app_token(memory.facts.app_token.clone()),
        origin: change,
        target,
        refs,
        owner: owner.clone(),
        kube: context.kube.clone(),
        probe: context.probe.clone(),
        facts: memory.facts.clone(),
        journal: memory.journal.clone(),
        intents: memory.intents.clone(),
        recorded: Arc::new(old.map(Recorded::of).unwrap_or_default()),
        installation: context.installation.clone(),
        fence: context.fence.clone(),
        act: if plan { Act::Plan } else { Act::Apply },
        pass: memory.pass,
    }
}

fn gate(
    cx: &Cx,
    activation: &Activation,
    old: Option<&ActivationStatus>,
    phase: PhaseName,
) -> Option<GateReport> {
    let gate = activation
        .spec
        .gates
        .iter()
        .find(|gate| gate.before.as_str() == phase.as_str())?;
    let before = old
        .and_then(|old| old.phases.iter().find(|p| p.name == phase))
        .and_then(|phase| phase.gate.as_ref());
    Some(gate::decide(
        gate,
        cx.target.digest(),
        cx.refs.approvals(),
        before,
        cx.now(),
    ))
}

/// `drift: Report` holds once the object went live with this generation: from then on changes
/// are told and not made.
fn reports_drift(activation: &Activation, target: &Target, old: Option<&ActivationStatus>) -> bool {
    // Another image of `deploy.source` is asked for by the spec, as if it had named it.
    let chosen = |old: &ActivationStatus| {
        let before = old.source.as_ref().map(|source| source.digest.as_str());
        target
            .choice()
            .is_none_or(|choice| before == Some(choice.digest.as_str()))
    };
    activation.spec.drift == DriftPolicy::Report
        && old.is_some_and(|old| {
            old.observed_generation == activation.metadata.generation
                && chosen(old)
                && old.go_live.is_some()
                && PHASES
                    .iter()
                    .filter(|phase| phase.before_live)
                    .all(|phase| {
                        old.phases
                            .iter()
                            .any(|p| p.name == phase.id && p.state == PhaseState::Succeeded)
                    })
        })
}

/// Intents of an earlier process, from the status: their outcome is unknown.
pub fn recall_intents(memory: &Memory, old: Option<&ActivationStatus>) {
    for intent in old.iter().flat_map(|old| &old.intents) {
        let step = intent.slot.split('/').next().and_then(StepId::parse);
        if let Some(step) = step {
            memory.intents.recall(
                step,
                crate::pipeline::Slot {
                    kind: intent.kind.clone(),
                    name: intent.name.clone(),
                },
            );
        }
    }
}

/// Who the object is.
///
/// # Errors
/// When it lacks what the API server always sets.
pub fn owner(activation: &Activation) -> Result<Owner, Error> {
    Ok(Owner {
        namespace: activation
            .namespace()
            .ok_or(Error::Malformed("namespace"))?,
        name: activation.name_any(),
        uid: activation.uid().ok_or(Error::Malformed("uid"))?,
        generation: activation.metadata.generation.unwrap_or_default(),
    })
}

fn suspended(activation: &Activation, now: jiff::Timestamp) -> bool {
    activation.spec.suspend
        && activation
            .spec
            .suspend_until
            .as_ref()
            .is_none_or(|until| now < until.0)
}

fn until_resumed(activation: &Activation, now: jiff::Timestamp) -> Option<Duration> {
    let until = activation.spec.suspend_until.as_ref()?;
    Duration::try_from(until.0.duration_since(now)).ok()
}

/// The tokens of those who asked for a look now, by whatever annotation.
fn tokens(activation: &Activation) -> Vec<String> {
    let annotations = activation.annotations();
    [
        ANNOTATION_RECONCILE,
        ANNOTATION_RECONCILE_FLUX,
        ANNOTATION_RETRY,
        ANNOTATION_RETRY_FROM,
    ]
    .iter()
    .filter_map(|key| annotations.get(*key))
    .map(|token| crate::api::status::one_line(token, 256))
    .collect()
}

/// Says that what is asked for by annotation is not done while the object is suspended. Without that
/// a person would wait for it.
fn refuse(
    activation: &Activation,
    context: &Context,
    memory: &mut Memory,
    old: Option<&ActivationStatus>,
) {
    let tokens = tokens(activation);
    if let Some(word) = newly_asked(&tokens, memory.requested.as_deref(), old) {
        let note = format!(
            "the activation is suspended, so that it is not looked at although an annotation asks for it ({word}); set `spec.suspend` to false, which has everything looked at"
        );
        let event = events::warning("RetryRefused", "Retry", &note);
        context.publish(activation, vec![event]);
    }
    memory.requested = Some(tokens);
}

/// Forgets what was looked at, as a new word asks for: everything, or from one phase on.
fn forget(activation: &Activation, context: &Context, memory: &mut Memory, word: &str) {
    let annotations = activation.annotations();
    let from = annotations
        .get(ANNOTATION_RETRY_FROM)
        .map(|value| crate::api::status::one_line(value, 256))
        .filter(|value| value == word);
    match from.as_deref().map(target::retry_from) {
        None => memory.forget_looks(),
        Some(Some(phase)) => memory.forget_from(phase),
        Some(None) => {
            let phases: Vec<&str> = PhaseName::ALL.iter().map(|name| name.as_str()).collect();
            let note = format!(
                "the annotation {ANNOTATION_RETRY_FROM} names no phase: {word}; use one of {}, or one of them and `/<word>` to ask for the same once more",
                phases.join(", ")
            );
            let event = events::warning("RetryRefused", "Retry", &note);
            context.publish(activation, vec![event]);
        }
    }
}

/// Keeps of an object's managed fields who wrote the spec, without which fields: the rest is
/// large, and nobody reads it.
pub fn keep_authors(fields: &mut Vec<ManagedFieldsEntry>) {
    fields.retain_mut(|entry| {
        let written = entry.fields_v1.take();
        entry.subresource.is_none()
            && written.is_some_and(|fields| fields.0.get("f:spec").is_some())
    });
}

/// Who wrote the spec last, and why.
pub fn origin(activation: &Activation) -> Origin {
    let last = activation
        .managed_fields()
        .iter()
        .max_by_key(|entry| entry.time.as_ref().map(|time| time.0));
    Origin {
        manager: last
            .and_then(|entry| entry.manager.clone())
            .unwrap_or_default(),
        cause: activation
            .annotations()
            .get(ANNOTATION_CAUSE)
            .cloned()
            .unwrap_or_default(),
    }
}

/// The token that was not there at the last look. Of an object that this process has not looked
/// at yet, the status says which one was handled last.
fn newly_asked(
    tokens: &[String],
    before: Option<&[String]>,
    old: Option<&ActivationStatus>,
) -> Option<String> {
    let new = match before {
        Some(before) => tokens.iter().find(|token| !before.contains(token)),
        None => {
            let handled = old.and_then(|old| old.last_handled_reconcile_at.as_ref());
            let known = handled.is_some_and(|handled| tokens.contains(handled));
            tokens.first().filter(|_| !known)
        }
    };
    new.cloned()
}

/// The next instant at which the status changes by itself: a deadline, or the end of a gate.
fn next_instant(status: &ActivationStatus, now: jiff::Timestamp) -> Option<Duration> {
    let deadlines = status
        .phases
        .iter()
        .filter(|phase| matches!(phase.state, PhaseState::Running | PhaseState::Waiting))
        .filter_map(|phase| phase.deadline.as_ref());
    let gates = status
        .phases
        .iter()
        .filter(|phase| phase.state == PhaseState::AwaitingApproval)
        .filter_map(|phase| phase.gate.as_ref()?.expires_at.as_ref());
    deadlines
        .chain(gates)
        .filter_map(|time| Duration::try_from(time.0.duration_since(now)).ok())
        .min()
        .map(|wait| wait + Duration::from_millis(50))
}

/// Tells a pass that failed as a whole on the object itself, as far as Kubernetes can be reached.
pub async fn report_failure(activation: &Activation, context: &Context, error: &Error) {
    let Ok(owner) = owner(activation) else { return };
    let mut held = Held {
        memory: context.memories.recall(&owner),
        context,
        owner: &owner,
        ended: false,
    };
    let memory = &mut held.memory;
    let old = memory.told.status().or_else(|| status::own(activation));
    let teller = Teller {
        activation,
        context,
        owner: &owner,
        told: memory.told.clone(),
    };
    if memory.steps.is_empty() {
        // The pass may have failed before it took them over, and what is written here replaces them.
        recall_intents(memory, old.as_ref());
    }
    let seen = Seen {
        failed: Some((error.reason(), crate::causes::chain(error))),
        intents: memory.intents.open(),
        ..Seen::default()
    };
    let already = old.as_ref().is_some_and(|old| {
        condition::find(&old.conditions, ConditionType::Ready)
            .is_some_and(|ready| ready.reason == error.reason().as_str())
    });
    if !already || error.reason() == Reason::InternalError {
        let told = teller.write(old.as_ref(), &seen).await;
        if let Err(error) = told {
            tracing::warn!(error = %crate::causes::chain(&error), "the failure could not be reported");
        }
    }
    held.ended = true;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_managed_fields_stays_only_who_wrote_the_spec() {
        let entry = |manager: &str, fields: serde_json::Value, time: &str, sub: Option<&str>| {
            serde_json::from_value::<ManagedFieldsEntry>(serde_json::json!({
                "manager": manager, "operation": "Update", "time": time, "fieldsType": "FieldsV1",
                "fieldsV1": fields, "subresource": sub,
            }))
        };
        let spec = serde_json::json!({"f:spec": {"f:app": {}}});
        let meta = serde_json::json!({"f:metadata": {"f:finalizers": {}}});
        let mut fields: Vec<ManagedFieldsEntry> = [
            entry(
                "argocd-controller",
                spec.clone(),
                "2026-01-02T00:00:00Z",
                None,
            ),
            entry("kubectl-edit", spec.clone(), "2026-01-01T00:00:00Z", None),
            entry("golive-controller", meta, "2026-01-03T00:00:00Z", None),
            entry(
                "golive-controller",
                spec,
                "2026-01-04T00:00:00Z",
                Some("status"),
            ),
        ]
        .into_iter()
        .flatten()
        .collect();
        assert_eq!(fields.len(), 4);

        keep_authors(&mut fields);

        assert_eq!(fields.len(), 2);
        assert!(fields.iter().all(|entry| entry.fields_v1.is_none()));
        let object = serde_json::json!({"metadata": {"name": "x"}, "spec": {
            "organization": "o", "app": "x", "region": "eze", "deploy": {"image": "x:1"},
        }});
        let Ok(mut object) = serde_json::from_value::<Activation>(object) else {
            unreachable!("it is valid");
        };
        object.metadata.managed_fields = Some(fields);
        assert_eq!(origin(&object).manager, "argocd-controller");
    }

    #[test]
    fn a_new_token_of_any_annotation_asks_once_beside_old_ones() {
        let list = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let (one, both) = (list(&["a"]), list(&["a", "b"]));
        let handled = ActivationStatus {
            last_handled_reconcile_at: Some("b".to_owned()),
            ..ActivationStatus::default()
        };

        assert_eq!(newly_asked(&one, None, None).as_deref(), Some("a"));
        assert_eq!(newly_asked(&one, Some(&one), None), None);
        assert_eq!(newly_asked(&both, Some(&one), None).as_deref(), Some("b"));
        assert_eq!(newly_asked(&both, Some(&both), None), None);
        assert_eq!(newly_asked(&both, None, Some(&handled)), None);
        assert_eq!(newly_asked(&[], Some(&both), None), None);
    }
}
