//! What the controller shares between all objects: clients, memory, waits, and the clock.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use kube::runtime::{
    events::{Event, Recorder},
    reflector::ObjectRef,
};

use crate::{
    api::{
        Activation, ActivationStatus, FIELD_MANAGER,
        condition::{self, ConditionType},
        preflight::CheckName,
        status::{CheckResult, GateState, PhaseState, Severity},
    },
    error::Error,
    fly,
    metrics::{Info, Metrics},
    phase::{Fence, Memory, Owner, Timing},
    probe::Probe,
    wait::Waits,
};

/// Shared by all reconciles.
pub struct Context {
    /// Kubernetes.
    pub kube: kube::Client,
    /// Fly.io, without a token.
    pub fly: fly::Fly,
    /// Requests to applications.
    pub probe: Probe,
    /// Metrics of this process.
    pub metrics: Arc<Metrics>,
    /// Lengths of time.
    pub timing: Timing,
    /// The operator's own namespace.
    pub own_namespace: String,
    /// Whether this process may write to the outside.
    pub fence: Fence,
    /// Key of the fingerprints of secret values.
    pub fingerprint_key: Arc<[u8]>,
    /// The wall clock.
    pub clock: fn() -> Timestamp,
    /// Waits in the background.
    pub waits: Waits,
    /// Publishes events.
    pub recorder: Recorder,
    memories: Mutex<BTreeMap<(String, String), Memory>>,
}

/// What a context is made of.
pub struct Parts {
    /// Kubernetes.
    pub kube: kube::Client,
    /// Fly.io, without a token.
    pub fly: fly::Fly,
    /// Requests to applications.
    pub probe: Probe,
    /// Metrics of this process.
    pub metrics: Arc<Metrics>,
    /// Lengths of time.
    pub timing: Timing,
    /// The operator's own namespace.
    pub own_namespace: String,
    /// Whether this process may write to the outside.
    pub fence: Fence,
    /// Key of the fingerprints of secret values.
    pub fingerprint_key: Arc<[u8]>,
    /// The name of this process in events, such as the pod's name.
    pub instance: String,
}

impl Context {
    /// A context with nothing remembered.
    pub fn new(parts: Parts, waits: Waits) -> Self {
        let reporter = kube::runtime::events::Reporter {
            controller: format!("{}/{FIELD_MANAGER}", crate::api::GROUP),
            instance: Some(parts.instance),
        };
        Self {
            recorder: Recorder::new(parts.kube.clone(), reporter),
            kube: parts.kube,
            fly: parts.fly,
            probe: parts.probe,
            metrics: parts.metrics,
            timing: parts.timing,
            own_namespace: parts.own_namespace,
            fence: parts.fence,
            fingerprint_key: parts.fingerprint_key,
            clock: crate::clock::wall,
            waits,
            memories: Mutex::default(),
        }
    }

    /// Takes what is remembered of an object. A new object of the same name starts with nothing.
    /// While it is taken nobody else has it: the same object is never reconciled twice at once.
    pub fn recall(&self, owner: &Owner) -> Memory {
        self.memories()
            .remove(&(owner.namespace.clone(), owner.name.clone()))
            .filter(|memory| memory.uid == owner.uid)
            .unwrap_or_else(|| Memory::new(owner.uid.clone()))
    }

    /// Puts back what is remembered.
    pub fn remember(&self, owner: &Owner, memory: Memory) {
        self.memories()
            .insert((owner.namespace.clone(), owner.name.clone()), memory);
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, namespace: &str, name: &str) {
        let gone = self
            .memories()
            .remove(&(namespace.to_owned(), name.to_owned()));
        if let Some(memory) = gone {
            self.waits.forget(&memory.uid);
        }
        self.metrics
            .forget(&crate::workqueue::Object::new(namespace, name));
    }

    /// Publishes events. An event that cannot be published is logged and not tried again: events
    /// are a story for people, the status is the record.
    pub async fn publish(&self, activation: &Activation, events: Vec<Event>) {
        use kube::Resource as _;
        let reference = activation.object_ref(&());
        for event in events {
            if let Err(source) = self.recorder.publish(&event, &reference).await {
                let error = Error::kube("publish an event", source);
                tracing::warn!(error = %crate::causes::chain(&error), reason = %event.reason, "event lost");
            }
        }
    }

    fn memories(&self) -> MutexGuard<'_, BTreeMap<(String, String), Memory>> {
        self.memories.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The object of a reference, by what a reconcile knows of it.
pub fn reference(owner: &Owner) -> ObjectRef<Activation> {
    ObjectRef::new(&owner.name).within(&owner.namespace)
}

impl Context {
    /// Reconciles of this object that failed as a whole in a row, at least one.
    pub fn failures(&self, namespace: &str, name: &str) -> u32 {
        self.memories()
            .get(&(namespace.to_owned(), name.to_owned()))
            .map_or(1, |memory| memory.failures.max(1))
    }

    /// Takes a new status into the metrics.
    pub fn observe_status(
        &self,
        owner: &Owner,
        activation: &Activation,
        old: Option<&ActivationStatus>,
        new: &ActivationStatus,
        now: Timestamp,
    ) {
        let object = crate::workqueue::Object::new(&owner.namespace, &owner.name);
        let ready = condition::find(&new.conditions, ConditionType::Ready);
        self.metrics.set_info(
            &object,
            &Info {
                phase: new.phase.clone().unwrap_or_default(),
                ready: ready.map_or_else(|| "Unknown".to_owned(), |ready| ready.status.clone()),
                suspended: activation.spec.suspend,
                app: activation.spec.app.clone(),
                region: activation.spec.region.clone(),
            },
        );
        for phase in &new.phases {
            let before = old.and_then(|old| old.phases.iter().find(|p| p.name == phase.name));
            let open = phase.finished_at.is_none();
            let deadline = phase.deadline.as_ref().filter(|_| open).map(|time| time.0);
            self.metrics
                .set_deadline(&object, phase.name.as_str(), deadline);
            let ended = |state| matches!(state, PhaseState::Succeeded | PhaseState::Failed);
            if ended(phase.state)
                && before.is_none_or(|before| before.state != phase.state)
                && let Some(began) = &phase.started_at
            {
                let result = if phase.state == PhaseState::Succeeded {
                    "success"
                } else {
                    "failure"
                };
                let took = Duration::try_from(now.duration_since(began.0)).unwrap_or_default();
                self.metrics
                    .phase_finished(phase.name.as_str(), result, took);
            }
        }
        self.observe_checks(&object, new);
        self.observe_gates(old, new, now);
        if new.go_live.is_some() && old.is_none_or(|old| old.go_live.is_none()) {
            let since = activation.metadata.creation_timestamp.as_ref();
            if let Some(took) = since.and_then(|t| Duration::try_from(now.duration_since(t.0)).ok())
            {
                self.metrics.went_live(took);
            }
        }
    }

    fn observe_checks(&self, object: &crate::workqueue::Object, new: &ActivationStatus) {
        for check in &new.preflight {
            let Some(name) = CheckName::parse(&check.check) else {
                continue;
            };
            let passed = match check.result {
                CheckResult::Passed => Some(true),
                CheckResult::Failed | CheckResult::Warning => Some(false),
                CheckResult::Skipped | CheckResult::Unknown => None,
            };
            let severity = match check.severity {
                Severity::Blocking => "blocking",
                Severity::Warning => "warning",
            };
            self.metrics
                .set_preflight_check(object, name.as_str(), severity, passed);
        }
    }

    fn observe_gates(
        &self,
        old: Option<&ActivationStatus>,
        new: &ActivationStatus,
        now: Timestamp,
    ) {
        let open = |state| matches!(state, GateState::Pending | GateState::Requested);
        for phase in &new.phases {
            let before = old.and_then(|old| old.phases.iter().find(|p| p.name == phase.name));
            let was = before.and_then(|phase| phase.gate.as_ref());
            let (Some(was), Some(is)) = (was, &phase.gate) else {
                continue;
            };
            if open(was.state)
                && !open(is.state)
                && let Some(asked) = &was.requested_at
            {
                let waited = Duration::try_from(now.duration_since(asked.0)).unwrap_or_default();
                self.metrics.gate_waited(phase.name.as_str(), waited);
            }
        }
    }
}
