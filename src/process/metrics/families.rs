//! Names, labels and buckets of all metrics.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::process::workqueue::Object;

/// The name of our one controller, in labels.
pub(super) const CONTROLLER: &str = "activation";

type Float = Gauge<f64, AtomicU64>;
type Histograms<L> = Family<L, Histogram, Buckets>;

/// Declares the families and registers each under its name. Counters get `_total` when encoded.
macro_rules! families {
    ($($field:ident: $type:ty = $make:expr, $name:literal, $help:literal;)*) => {
        pub(super) struct Families { $(pub(super) $field: $type),* }

        impl Families {
            pub(super) fn new(registry: &mut Registry) -> Families {
                let families = Families { $($field: $make),* };
                $(families.$field.register($name, $help, registry);)*
                families
            }
        }
    };
}

families! {
    reconciles: Family<ReconcileLabels, Counter> = Family::default(),
        "controller_runtime_reconcile", "Reconciles, by result";
    reconcile_errors: Family<ControllerLabel, Counter> = Family::default(),
        "controller_runtime_reconcile_errors", "Reconciles that failed";
    reconcile_terminal: Family<ControllerLabel, Counter> = Family::default(),
        "controller_runtime_terminal_reconcile_errors",
        "Reconciles that failed until the object, a Secret or the token changes";
    reconcile_panics: Family<ControllerLabel, Counter> = Family::default(),
        "controller_runtime_reconcile_panics", "Reconciles that panicked";
    reconcile_time: Histograms<ControllerLabel> = Family::new_with_constructor(Buckets(CALL_SECONDS)),
        "controller_runtime_reconcile_time_seconds", "Duration of one reconcile";
    max_concurrent: Family<ControllerLabel, Gauge> = Family::default(),
        "controller_runtime_max_concurrent_reconciles", "Limit of concurrent reconciles";
    active_workers: Family<ControllerLabel, Gauge> = Family::default(),
        "controller_runtime_active_workers", "Running reconciles";
    queue_depth: Family<QueueLabels, Gauge> = Family::default(),
        "workqueue_depth", "Objects that are due and not being reconciled";
    queue_adds: Family<QueueLabels, Counter> = Family::default(),
        "workqueue_adds", "Objects added to the queue";
    queue_retries: Family<QueueLabels, Counter> = Family::default(),
        "workqueue_retries", "Objects queued again after a failure";
    queue_wait: Family<KindLabel, Float> = Family::default(),
        "golive_queue_longest_wait_seconds", "Longest time that an object has been due and its reconcile has not begun, by kind of work";
    queue_duration: Histograms<QueueLabels> = Family::new_with_constructor(Buckets(CALL_SECONDS)),
        "workqueue_queue_duration_seconds", "Time from when an object was due until its reconcile began";
    work_duration: Histograms<QueueLabels> = Family::new_with_constructor(Buckets(CALL_SECONDS)),
        "workqueue_work_duration_seconds", "Duration of the work on an object";
    queue_unfinished: Family<QueueLabels, Float> = Family::default(),
        "workqueue_unfinished_work_seconds", "Sum of the ages of all running work";
    queue_longest: Family<QueueLabels, Float> = Family::default(),
        "workqueue_longest_running_processor_seconds", "Age of the oldest running work";
    kube_requests: Family<KubeLabels, Counter> = Family::default(),
        "rest_client_requests", "Requests to the Kubernetes API server, by code; error without a response";
    leader: Family<LeaseLabel, Gauge> = Family::default(),
        "leader_election_master_status", "1 when this process leads";
    resident_memory: Gauge = Gauge::default(),
        "process_resident_memory_bytes", "Resident memory of this process";
    info: PerObject<InfoLabels> = PerObject::default(),
        "golive_info", "Always 1, one series per activation";
    phase_duration: Histograms<PhaseResultLabels> = Family::new_with_constructor(Buckets(PHASE_SECONDS)),
        "golive_phase_duration_seconds", "Duration of one phase";
    phase_attempts: Family<PhaseResultLabels, Counter> = Family::default(),
        "golive_phase_attempts", "Phases that ended, by result";
    time_to_live: Histogram = Buckets(PHASE_SECONDS).new_metric(),
        "golive_time_to_live_seconds", "Time from the creation of an activation to its Go-Live";
    gate_wait: Histograms<GateLabel> = Family::new_with_constructor(Buckets(GATE_SECONDS)),
        "golive_gate_wait_seconds", "Time until a gate was decided";
    deadline: PerObject<PhaseLabel> = PerObject::default(),
        "golive_deadline_timestamp_seconds", "Deadline of a running phase";
    phase_started: PerObject<PhaseLabel> = PerObject::default(),
        "golive_phase_start_timestamp_seconds", "Start of a running phase that has a deadline";
    stalled: PerObject<ReasonLabel> = PerObject::default(),
        "golive_stalled", "Always 1: an activation that has stopped until something changes";
    gate_requested: PerObject<GateLabel> = PerObject::default(),
        "golive_gate_requested_timestamp_seconds", "Time since when a gate waits for a decision";
    preflight: PerObject<CheckLabels> = PerObject::default(),
        "golive_preflight_check_result", "1 passed, 0 failed, -1 skipped or unknown";
    integration: PerObject<IntegrationLabels> = PerObject::default(),
        "golive_integration_check", "Check of an integration: 1 passed, 0 failed, -1 not known";
    integration_verified: PerObject<IntegrationLabel> = PerObject::default(),
        "golive_integration_last_verified_timestamp_seconds", "Time when all checks of an integration passed last";
    objective_met: PerObject<ObjectiveLabel> = PerObject::default(),
        "golive_objective_met", "Whether an objective of the watch is met: 1 met, 0 not met, -1 not known";
    objective_budget: PerObject<ObjectiveLabel> = PerObject::default(),
        "golive_objective_error_budget_remaining", "What is left of the budget of an objective: 1 is all of it, less than 0 is a breach";
    objective_burn: PerObject<BurnLabels> = PerObject::default(),
        "golive_objective_burn_rate", "How fast the budget of an objective burns, by the length of the window: 1 uses it up exactly";
    probe: Histograms<KindLabel> = Family::new_with_constructor(Buckets(CALL_SECONDS)),
        "golive_probe_duration_seconds", "Duration of one smoke check";
    rollbacks: Family<RollbackLabels, Counter> = Family::default(),
        "golive_rollbacks", "Rollbacks that ended, by trigger and result";
    drift: PerObject<NoMore> = PerObject::default(),
        "golive_drift_fields", "Changes that would correct the drift; absent while unknown";
    last_observed: PerObject<NoMore> = PerObject::default(),
        "golive_last_observed_timestamp_seconds", "Time of the last pass that could observe everything that an activation has at Fly.io";
    last_reconcile: PerObject<NoMore> = PerObject::default(),
        "golive_last_reconcile_timestamp_seconds", "Time of the last reconcile of an activation";
    fly_requests: Family<FlyLabels, Counter> = Family::default(),
        "fly_api_requests", "Requests to Fly.io, by code; error without a response";
    fly_duration: Histograms<EndpointLabel> = Family::new_with_constructor(Buckets(CALL_SECONDS)),
        "fly_api_request_duration_seconds", "Duration of one request to Fly.io";
    fly_limited: Family<EndpointLabel, Counter> = Family::default(),
        "fly_api_rate_limited", "Requests delayed by the rate limits of Fly.io, by our limiter or a 429";
    notifications: Family<NotificationLabels, Counter> = Family::default(),
        "golive_notifications", "Tries to deliver a notification, by kind of receiver and result";
    notification_time: Histograms<ReceiverLabel> = Family::new_with_constructor(Buckets(CALL_SECONDS)),
        "golive_notification_duration_seconds", "Duration of one try to deliver a notification";
    notifications_given_up: Family<ReceiverLabel, Counter> = Family::default(),
        "golive_notifications_given_up", "Notifications that were refused, or not taken for an hour";
    notifications_waiting: PerObject<NoMore> = PerObject::default(),
        "golive_notifications_waiting", "Notifications that wait for their receivers";
    build_info: Family<BuildLabels, Gauge> = Family::default(),
        "golive_build_info", "Always 1, with version and revision of the binary";
}

/// Something that can be registered under a name.
trait Register {
    fn register(&self, name: &str, help: &str, registry: &mut Registry);
}

impl<M: prometheus_client::registry::Metric + Clone> Register for M {
    fn register(&self, name: &str, help: &str, registry: &mut Registry) {
        registry.register(name, help, self.clone());
    }
}

/// A gauge with series per object, which can be removed together.
pub(super) struct PerObject<L: Clone + Eq + Hash> {
    family: Family<(ObjectLabels, L), Float>,
    known: Mutex<HashMap<Object, HashSet<L>>>,
}

impl<L> PerObject<L>
where
    L: Clone + Debug + Eq + Hash + EncodeLabelSet + Send + Sync + 'static,
{
    pub(super) fn set(&self, object: &Object, labels: L, value: f64) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let series = series(object, labels.clone());
        self.family.get_or_create_owned(&series).set(value);
        known.entry(object.clone()).or_default().insert(labels);
    }

    /// Sets this series and removes the object's others.
    pub(super) fn set_only(&self, object: &Object, labels: L, value: f64) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = known.entry(object.clone()).or_default();
        mine.retain(|old| {
            let stays = *old == labels;
            if !stays {
                self.family.remove(&series(object, old.clone()));
            }
            stays
        });
        mine.insert(labels.clone());
        let series = series(object, labels);
        self.family.get_or_create_owned(&series).set(value);
    }

    /// Sets these series and removes the object's others.
    pub(super) fn set_all(&self, object: &Object, values: Vec<(L, f64)>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if values.is_empty() && !known.contains_key(object) {
            return;
        }
        let mine = known.entry(object.clone()).or_default();
        let now: HashSet<L> = values.iter().map(|(labels, _)| labels.clone()).collect();
        for gone in mine.difference(&now) {
            self.family.remove(&series(object, gone.clone()));
        }
        for (labels, value) in values {
            let series = series(object, labels);
            self.family.get_or_create_owned(&series).set(value);
        }
        *mine = now;
    }

    pub(super) fn remove(&self, object: &Object, labels: &L) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mine) = known.get_mut(object) {
            mine.remove(labels);
        }
        self.family.remove(&series(object, labels.clone()));
    }

    /// Removes the object's series whose labels do not pass.
    pub(super) fn retain(&self, object: &Object, stays: impl Fn(&L) -> bool) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mine) = known.get_mut(object) else {
            return;
        };
        mine.retain(|labels| {
            let stays = stays(labels);
            if !stays {
                self.family.remove(&series(object, labels.clone()));
            }
            stays
        });
    }

    pub(super) fn forget(&self, object: &Object) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for labels in known.remove(object).unwrap_or_default() {
            self.family.remove(&series(object, labels));
        }
    }

    /// Not a metric itself, so that the family changes only through this type.
    fn register(&self, name: &str, help: &str, registry: &mut Registry) {
        registry.register(name, help, self.family.clone());
    }
}

impl<L: Clone + Eq + Hash> Default for PerObject<L> {
    fn default() -> PerObject<L> {
        PerObject {
            family: Family::default(),
            known: Mutex::default(),
        }
    }
}

fn series<L>(object: &Object, more: L) -> (ObjectLabels, L) {
    let labels = ObjectLabels {
        namespace: object.namespace.clone(),
        name: object.name.clone(),
    };
    (labels, more)
}

/// Creates histograms with fixed buckets, in seconds.
#[derive(Clone, Copy)]
pub(super) struct Buckets(&'static [f64]);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

/// For one call or one reconcile: 5 ms to a minute, a shorter list than controller-runtime's.
const CALL_SECONDS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0,
];

/// For a phase or a whole go-live: 1 s to an hour. The plan's deadlines are 5, 10 and 12 minutes.
const PHASE_SECONDS: &[f64] = &[
    1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 180.0, 300.0, 480.0, 600.0, 720.0, 1200.0, 1800.0, 3600.0,
];

/// For a person's decision: a minute to a day.
const GATE_SECONDS: &[f64] = &[
    60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14_400.0, 28_800.0, 86_400.0,
];

macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        pub(super) struct $name { $(pub(super) $field: $type),* }
    };
}

labels!(ControllerLabel { controller: &'static str });
labels!(ReconcileLabels { controller: &'static str, result: &'static str });
labels!(QueueLabels { name: &'static str, controller: &'static str });
labels!(ObjectLabels {
    namespace: String,
    name: String
});
labels!(KubeLabels {
    code: String,
    method: String,
    host: String
});
labels!(ReceiverLabel { receiver: &'static str });
labels!(NotificationLabels { receiver: &'static str, result: &'static str });
labels!(LeaseLabel { name: String });
labels!(InfoLabels {
    phase: String,
    ready: String,
    live: String,
    suspended: &'static str,
    app: String,
    region: String,
});
labels!(PhaseLabel { phase: &'static str });
labels!(PhaseResultLabels { phase: &'static str, result: &'static str });
labels!(CheckLabels { check: &'static str, severity: &'static str });
labels!(IntegrationLabels {
    integration: String,
    check: String
});
labels!(IntegrationLabel {
    integration: String
});
labels!(ObjectiveLabel { objective: String });
labels!(BurnLabels {
    objective: String,
    window: String
});
labels!(ReasonLabel { reason: String });
labels!(GateLabel { gate: &'static str });
labels!(KindLabel { kind: &'static str });
labels!(RollbackLabels { trigger: &'static str, result: &'static str });
labels!(EndpointLabel { endpoint: &'static str });
labels!(FlyLabels { endpoint: &'static str, code: String });
labels!(BuildLabels { version: &'static str, revision: &'static str, rustc: &'static str });

pub(super) const CONTROLLED: ControllerLabel = ControllerLabel {
    controller: CONTROLLER,
};
pub(super) const QUEUE: QueueLabels = QueueLabels {
    name: CONTROLLER,
    controller: CONTROLLER,
};

/// No further labels beside the object's.
pub(super) const NO_MORE: NoMore = [];
pub(super) type NoMore = [(&'static str, &'static str); 0];
