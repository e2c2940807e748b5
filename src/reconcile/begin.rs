//! The beginning of a pass: who the object is, and what every step of the pass gets.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::{Resource, ResourceExt, runtime::reflector::ObjectRef};

use crate::{
    api::{Activation, ActivationStatus, StepId, policy::Mode, status::Intent},
    error::Error,
    fly,
    pipeline::{
        Act, Care, Cx, EarlierProof, Origin, Owner, Recorded, Slot, observations::Observations,
    },
    plan::{ServingRelease, Target, refs::Refs},
    process::{outside::Outside, waker::Waker, workqueue::Kind},
    reconcile::{context::Context, memory::Memory, status_publisher::StatusPublisher},
    status,
};

/// Kubernetes' own annotation for why something was changed.
const ANNOTATION_CAUSE: &str = "kubernetes.io/change-cause";

/// One pass over one object.
pub struct Pass<'a> {
    /// The object.
    pub activation: &'a Activation,
    /// What this process shares between objects.
    pub context: &'a Context,
    /// Who the object is.
    pub owner: &'a Owner,
    /// The status before this pass.
    pub old: Option<ActivationStatus>,
    /// The release that serves, as far as it is known before this pass.
    pub serving: Option<ServingRelease>,
    /// Publishes the status, its events and metrics.
    pub publisher: StatusPublisher<'a>,
}

impl<'a> Pass<'a> {
    /// A pass over an object of which this process remembers `memory`.
    pub fn begin(
        activation: &'a Activation,
        context: &'a Context,
        owner: &'a Owner,
        memory: &Memory,
    ) -> Self {
        let published = memory.published.clone();
        published.observe(activation);
        let old = published.status().or_else(|| status::own(activation));
        let serving = memory.serving.clone();
        Self {
            activation,
            context,
            owner,
            serving: serving.or_else(|| old.as_ref().and_then(ServingRelease::of_status)),
            old,
            publisher: StatusPublisher::new(activation, context, owner, published),
        }
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        self.context.installation.clock.now()
    }

    /// Whether the object is being deleted.
    pub fn is_deleted(&self) -> bool {
        self.activation.metadata.deletion_timestamp.is_some()
    }

    /// Whether the spec suspends the object now.
    pub fn is_suspended(&self) -> bool {
        let spec = &self.activation.spec;
        let until = spec.suspend_until.as_ref();
        spec.suspend && until.is_none_or(|until| self.now() < until.0)
    }

    /// The time until `suspendUntil`.
    pub fn until_resumed(&self) -> Option<Duration> {
        let until = self.activation.spec.suspend_until.as_ref()?;
        Duration::try_from(until.0.duration_since(self.now())).ok()
    }

    /// The object as the queue knows it.
    pub fn reference(&self) -> ObjectRef<Activation> {
        ObjectRef::new(&self.owner.name).within(&self.owner.namespace)
    }

    /// Runs the long polls that the steps wait for. A fact may arrive while the status is being
    /// written. A step has one wait: the steps that wait in `first` are left out.
    pub fn ensure_waits(
        &self,
        observations: &Observations,
        first: Option<&Observations>,
        fly: &fly::Client,
    ) {
        let object = self.reference();
        let waits = |step| first.and_then(|first| first.steps.get(step)?.wake.as_ref());
        for (step, record) in &observations.steps {
            if waits(step).is_some() {
                continue;
            }
            self.context.waits.ensure(
                &object,
                &self.owner.uid,
                *step,
                record.wake.as_ref(),
                fly,
                &observations.fired,
            );
        }
    }
}

/// Who the object is.
///
/// # Errors
/// When it lacks what the API server always sets.
pub fn owner(object: &impl Resource) -> Result<Owner, Error> {
    Ok(Owner {
        namespace: object.namespace().ok_or(Error::Malformed("namespace"))?,
        name: object.name_any(),
        uid: object.uid().ok_or(Error::Malformed("uid"))?,
        generation: object.meta().generation.unwrap_or_default(),
    })
}

/// What every step of this pass gets. With `plan_only` no step changes anything.
pub fn cx(
    pass: &Pass<'_>,
    memory: &mut Memory,
    (target, refs): (Arc<Target>, Arc<Refs>),
    plan_only: bool,
) -> Cx {
    let plan_only = plan_only || target.mode == Mode::Plan;
    cx_for(pass, &mut memory.wanted, (target, refs), plan_only)
}

/// The same for one of the two targets, with its observations.
pub fn cx_for(
    pass: &Pass<'_>,
    observations: &mut Observations,
    (target, refs): (Arc<Target>, Arc<Refs>),
    plan_only: bool,
) -> Cx {
    let context = pass.context;
    observations.passes += 1;
    let mut recorded = pass.old.as_ref().map(Recorded::of).unwrap_or_default();
    let earlier = observations.earlier.take();
    let earlier = earlier.or_else(|| pass.old.as_ref().map(EarlierProof::of));
    let earlier = earlier.unwrap_or_default();
    recorded.earlier = match pass.publisher.is_shared() {
        // The other one may have run a command since.
        true => earlier.cut_off(),
        false => earlier,
    };
    observations.earlier = Some(recorded.earlier.clone());
    Cx {
        care: Care::Wanted,
        fly: context
            .fly
            .client(target.token.clone())
            .with_app_token(observations.facts.app_token.clone())
            .with_claimed_app(observations.facts.claimed.clone()),
        origin: origin(pass.activation),
        target,
        refs,
        owner: pass.owner.clone(),
        kube: context.kube.clone(),
        probe: context.probe.clone(),
        outside: outside(pass, observations),
        vendors: context.vendors.clone(),
        facts: observations.facts.clone(),
        journal: observations.journal.clone(),
        intents: observations.intents.clone(),
        background: observations.background.clone(),
        waker: waker(pass, observations),
        recorded: Arc::new(recorded),
        installation: context.installation.clone(),
        fence: context.fence.clone(),
        act: if plan_only { Act::Plan } else { Act::Apply },
        ends_releases: false,
        pass: observations.passes,
        requests: observations.requests,
    }
}

/// What this pass asks servers outside with. An answer that comes after it wakes the object.
pub fn outside(pass: &Pass<'_>, observations: &Observations) -> Outside {
    Outside::new(
        observations.questions.clone(),
        pass.context.outside.clone(),
        pass.owner.namespace.clone(),
        waker(pass, observations),
    )
}

/// Wakes the object of this pass for a step of these observations.
fn waker(pass: &Pass<'_>, observations: &Observations) -> Waker {
    let (waits, object) = (pass.context.waits.clone(), pass.reference());
    let fired = observations.fired.clone();
    Waker::new(move |step| {
        if let Some(step) = step {
            fired.fire(step);
        }
        waits.wake(&object, Kind::Progress);
    })
}

/// Takes over the intents that an earlier process wrote to the status, and those that another one has
/// written meanwhile: their outcome is unknown. Their steps observe again, also those that were done:
/// only an observation ends an intent.
pub fn recall_intents(observations: &Observations, pass: &Pass<'_>) {
    for intent in pass.old.iter().flat_map(|old| &old.intents) {
        if let Some((step, slot)) = parts(intent)
            && !observations.intents.knows(&slot)
        {
            observations.intents.recall(step, slot);
            observations.fired.fire(step);
        }
    }
    for intent in pass.publisher.take_others() {
        if let Some((step, slot)) = parts(&intent) {
            observations.intents.adopt(step, slot);
            observations.fired.fire(step);
        }
    }
}

/// The step and the slot of an intent.
fn parts(intent: &Intent) -> Option<(StepId, Slot)> {
    let step = intent.slot.split('/').next().and_then(StepId::parse)?;
    let slot = Slot {
        kind: intent.kind.clone(),
        name: intent.name.clone(),
    };
    Some((step, slot))
}

/// Reduces an object's managed fields to who wrote the spec and when, and to strangers who own fields
/// of the status. The lists of fields are large, and nothing reads them.
pub fn keep_authors(fields: &mut Vec<ManagedFieldsEntry>) {
    fields.retain_mut(|entry| {
        let written = entry.fields_v1.take();
        let is_author = entry.subresource.is_none()
            && written.is_some_and(|fields| fields.0.get("f:spec").is_some());
        is_author || status::is_of_stranger(entry)
    });
}

/// Who wrote the spec last, and why.
fn origin(activation: &Activation) -> Origin {
    let last = activation
        .managed_fields()
        .iter()
        .filter(|entry| entry.subresource.is_none())
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
        approved_by: Vec::new(),
    }
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
}
