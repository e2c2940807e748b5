//! Metrics of the operator, served at `/metrics`.
//!
//! Names and labels of the first half are those of controller-runtime, client-go and their
//! workqueue, so that existing dashboards and alerts apply. The number of label values is bounded:
//! no URL, request id or error text. Series with an object's name are removed with
//! [`Metrics::forget`] when the object is deleted. Start reading in `families.rs`, the list of all
//! metrics. Uses `clock` only.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::registry::Registry;

use self::families::*;
use crate::process::workqueue::{Job, Kind, Object, WorkQueue};

mod families;

/// The metrics of this process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    families: Arc<Families>,
    registry: Arc<Registry>,
    queue: Arc<WorkQueue>,
}

/// How one reconcile ended. controller-runtime also knows `success` and `requeue`, which never
/// happen here: every object has a time of its next reconcile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Succeeded; reconciled again later.
    RequeueAfter,
    /// Failed; retried.
    Error,
    /// Failed until the object, a Secret or the token changes.
    Terminal,
    /// Panicked. Caught, and counted on this object alone.
    Panicked,
}

impl Outcome {
    fn result(self) -> &'static str {
        match self {
            Outcome::RequeueAfter => "requeue_after",
            Outcome::Error | Outcome::Terminal | Outcome::Panicked => "error",
        }
    }
}

/// The figures of an objective.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Objective {
    /// Its name.
    pub name: String,
    /// Whether it is met, if that is known.
    pub met: Option<bool>,
    /// What is left of its budget: 1 is all of it.
    pub budget_left: Option<f64>,
    /// How fast its budget burns, by the length of the window.
    pub burn: Vec<(String, f64)>,
}

/// Labels of `golive_info`, one line per activation, for tables and joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// `status.phase`.
    pub phase: String,
    /// Status of the condition `Ready`: `True`, `False` or `Unknown`.
    pub ready: String,
    /// Status of the condition `Live`, which is about the site: `True`, `False` or `Unknown`.
    pub live: String,
    /// `spec.suspend`.
    pub suspended: bool,
    /// Name of the Fly app.
    pub app: String,
    /// Primary region.
    pub region: String,
}

/// One finished call to Fly.io.
#[derive(Clone, Copy, Debug)]
pub struct FlyCall {
    /// Method and path template of the endpoint.
    pub endpoint: &'static str,
    /// HTTP status; `None` without a response.
    pub code: Option<u16>,
    /// From sending to the last byte of the response.
    pub duration: Duration,
    /// Whether our rate limiter delayed the call, or Fly.io answered 429.
    pub limited: bool,
}

/// Counters that alerts look at begin at zero: one that appears with its first event has no increase by it.
fn begin_at_zero(families: &Families) {
    for counters in [
        &families.reconcile_errors,
        &families.reconcile_terminal,
        &families.reconcile_panics,
    ] {
        counters.get_or_create_owned(&CONTROLLED);
    }
    for trigger in ["failure", "request"] {
        for result in ["success", "failure", "held", "refused"] {
            let labels = RollbackLabels { trigger, result };
            families.rollbacks.get_or_create_owned(&labels);
        }
    }
}

impl Metrics {
    /// A new set with every family registered.
    pub fn new() -> Metrics {
        let mut registry = Registry::default();
        let families = Families::new(&mut registry);
        let build = BuildLabels {
            version: env!("CARGO_PKG_VERSION"),
            revision: env!("GOLIVE_REVISION"),
            rustc: env!("GOLIVE_RUSTC"),
        };
        families.build_info.get_or_create(&build).set(1);
        begin_at_zero(&families);
        Metrics {
            families: Arc::new(families),
            registry: Arc::new(registry),
            queue: Arc::new(WorkQueue::new(Instant::now())),
        }
    }

    /// The work queue: the dispatcher works with it, metrics and `/healthz` look at it.
    pub fn queue(&self) -> &WorkQueue {
        &self.queue
    }

    /// Adds an object to the queue: it is due in `after`.
    pub fn queued(&self, object: &Object, kind: Kind, after: Duration) {
        let now = Instant::now();
        let due = now.checked_add(after).unwrap_or(now);
        self.queue.add(object, kind, due, now);
        self.families.queue_adds.get_or_create(&QUEUE).inc();
    }

    /// Work on an object was put back after a failure.
    pub fn retried(&self, object: &Object, after: Duration) {
        self.families.queue_retries.get_or_create(&QUEUE).inc();
        self.queued(object, Kind::Retry, after);
    }

    /// How many reconciles may run at once.
    pub fn set_max_concurrent_reconciles(&self, count: u16) {
        let gauge = self
            .families
            .max_concurrent
            .get_or_create_owned(&CONTROLLED);
        gauge.set(i64::from(count));
    }

    /// The reconcile of what the queue gave out begins. Hold the result until it has ended, and call
    /// [`Reconciling::finished`].
    pub fn reconcile_started(&self, job: &Job) -> Reconciling {
        let histogram = self.families.queue_duration.get_or_create_owned(&QUEUE);
        histogram.observe(job.waited.as_secs_f64());
        Reconciling {
            metrics: self.clone(),
            object: job.object.clone(),
            started: Instant::now(),
        }
    }

    /// A reconcile of this object has ended at `now`.
    pub fn reconciled_at(&self, object: &Object, now: Timestamp) {
        let value = now.as_duration().as_secs_f64();
        self.families.last_reconcile.set(object, NO_MORE, value);
    }

    /// A pass at `now` could observe everything that this object has at Fly.io.
    pub fn observed_at(&self, object: &Object, now: Timestamp) {
        let value = now.as_duration().as_secs_f64();
        self.families.last_observed.set(object, NO_MORE, value);
    }

    /// Sets the labels of one activation, replacing earlier ones.
    pub fn set_info(&self, object: &Object, info: &Info) {
        let labels = InfoLabels {
            phase: info.phase.clone(),
            ready: info.ready.clone(),
            live: info.live.clone(),
            suspended: if info.suspended { "true" } else { "false" },
            app: info.app.clone(),
            region: info.region.clone(),
        };
        self.families.info.set_only(object, labels, 1.0);
    }

    /// Sets the deadline of a phase. `None` when it has ended or has no deadline.
    pub fn set_deadline(&self, object: &Object, phase: &'static str, at: Option<Timestamp>) {
        let labels = PhaseLabel { phase };
        match at {
            Some(at) => {
                let value = at.as_duration().as_secs_f64();
                self.families.deadline.set(object, labels, value);
            }
            None => self.families.deadline.remove(object, &labels),
        }
    }

    /// Sets when a phase with a deadline began. `None` when it has ended or has no deadline.
    pub fn set_phase_start(&self, object: &Object, phase: &'static str, at: Option<Timestamp>) {
        let labels = PhaseLabel { phase };
        let family = &self.families.phase_started;
        match at {
            Some(at) => family.set(object, labels, at.as_duration().as_secs_f64()),
            None => family.remove(object, &labels),
        }
    }

    /// Sets why an activation has stopped until something changes. `None` when it has not.
    pub fn set_stalled(&self, object: &Object, reason: Option<&str>) {
        let reason = reason.map(|reason| {
            let reason = reason.to_owned();
            (ReasonLabel { reason }, 1.0)
        });
        let reason = reason.into_iter().collect();
        self.families.stalled.set_all(object, reason);
    }

    /// Sets the gates that wait for a decision, and since when.
    pub fn set_gates(&self, object: &Object, gates: Vec<(&'static str, Timestamp)>) {
        let gates = gates.into_iter().map(|(gate, since)| {
            let since = since.as_duration().as_secs_f64();
            (GateLabel { gate }, since)
        });
        self.families
            .gate_requested
            .set_all(object, gates.collect());
    }

    /// Sets the result of one preflight check: `Some(true)` passed, `Some(false)` failed, `None`
    /// unknown or skipped.
    pub fn set_preflight_check(
        &self,
        object: &Object,
        check: &'static str,
        severity: &'static str,
        passed: Option<bool>,
    ) {
        let value = match passed {
            Some(true) => 1.0,
            Some(false) => 0.0,
            None => -1.0,
        };
        let labels = CheckLabels { check, severity };
        self.families.preflight.set(object, labels, value);
    }

    /// Sets the number of changes that would correct the drift after Go-Live. `None` while it is
    /// unknown: the series is absent then.
    pub fn set_drift(&self, object: &Object, changes: Option<u32>) {
        match changes {
            Some(changes) => self.families.drift.set(object, NO_MORE, f64::from(changes)),
            None => self.families.drift.forget(object),
        }
    }

    /// Sets what the checks of the integrations found: for each its integration, its id, and whether it
    /// passed, if that is known. Others are removed.
    pub fn set_integration_checks(
        &self,
        object: &Object,
        checks: Vec<(String, String, Option<bool>)>,
    ) {
        let values = checks.into_iter().map(|(integration, check, passed)| {
            let value = match passed {
                Some(true) => 1.0,
                Some(false) => 0.0,
                None => -1.0,
            };
            (IntegrationLabels { integration, check }, value)
        });
        self.families.integration.set_all(object, values.collect());
    }

    /// All checks of an integration passed at this time.
    pub fn integration_verified(&self, object: &Object, integration: &str, at: Timestamp) {
        let labels = IntegrationLabel {
            integration: integration.to_owned(),
        };
        let value = at.as_duration().as_secs_f64();
        self.families
            .integration_verified
            .set(object, labels, value);
    }

    /// The object has these integrations: what was said of others is removed.
    pub fn keep_integrations(&self, object: &Object, names: &[&str]) {
        let stays = |of: &IntegrationLabel| names.contains(&of.integration.as_str());
        self.families.integration_verified.retain(object, stays);
    }

    /// A try to deliver a notification to a receiver of this kind has ended.
    pub fn notified(&self, receiver: &'static str, result: &'static str, took: Duration) {
        let labels = NotificationLabels { receiver, result };
        self.families.notifications.get_or_create(&labels).inc();
        let labels = ReceiverLabel { receiver };
        let times = self.families.notification_time.get_or_create_owned(&labels);
        times.observe(took.as_secs_f64());
    }

    /// A notification for a receiver of this kind was given up.
    pub fn gave_up(&self, receiver: &'static str) {
        let labels = ReceiverLabel { receiver };
        let given_up = &self.families.notifications_given_up;
        given_up.get_or_create(&labels).inc();
    }

    /// Sets how many notifications about an object wait.
    pub fn set_notifications_waiting(&self, object: &Object, waiting: usize) {
        let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
        let family = &self.families.notifications_waiting;
        family.set(object, NO_MORE, f64::from(waiting));
    }

    /// Sets the figures of the objectives: for each its name, whether it is met if that is known, what is left
    /// of its budget, and how fast it burns by the length of the window. Others are removed.
    pub fn set_objectives(&self, object: &Object, objectives: &[Objective]) {
        let label = |objective: &Objective| ObjectiveLabel {
            objective: objective.name.clone(),
        };
        let met = objectives.iter().map(|objective| {
            let value = match objective.met {
                Some(true) => 1.0,
                Some(false) => 0.0,
                None => -1.0,
            };
            (label(objective), value)
        });
        let budgets = objectives
            .iter()
            .filter_map(|objective| Some((label(objective), objective.budget_left?)));
        let burn = objectives.iter().flat_map(|objective| {
            let rates = objective.burn.iter();
            rates.map(|(window, rate)| {
                let labels = BurnLabels {
                    objective: objective.name.clone(),
                    window: window.clone(),
                };
                (labels, *rate)
            })
        });
        let families = &self.families;
        families.objective_met.set_all(object, met.collect());
        families.objective_budget.set_all(object, budgets.collect());
        families.objective_burn.set_all(object, burn.collect());
    }

    /// Removes all series of a deleted object.
    pub fn forget(&self, object: &Object) {
        self.queue.forget(object);
        self.families.info.forget(object);
        self.families.deadline.forget(object);
        self.families.phase_started.forget(object);
        self.families.stalled.forget(object);
        self.families.gate_requested.forget(object);
        self.families.preflight.forget(object);
        self.families.drift.forget(object);
        self.families.notifications_waiting.forget(object);
        self.families.integration.forget(object);
        self.families.integration_verified.forget(object);
        self.families.objective_met.forget(object);
        self.families.objective_budget.forget(object);
        self.families.objective_burn.forget(object);
        self.families.last_reconcile.forget(object);
        self.families.last_observed.forget(object);
    }

    /// A phase has ended: `succeeded`, `failed` or another fixed result.
    pub fn phase_finished(&self, phase: &'static str, result: &'static str, took: Duration) {
        let labels = PhaseResultLabels { phase, result };
        self.families.phase_attempts.get_or_create(&labels).inc();
        let histogram = self.families.phase_duration.get_or_create_owned(&labels);
        histogram.observe(took.as_secs_f64());
    }

    /// An activation is live, `took` after it was created.
    pub fn went_live(&self, took: Duration) {
        self.families.time_to_live.observe(took.as_secs_f64());
    }

    /// A gate was decided after this time.
    pub fn gate_waited(&self, gate: &'static str, waited: Duration) {
        let histogram = self
            .families
            .gate_wait
            .get_or_create_owned(&GateLabel { gate });
        histogram.observe(waited.as_secs_f64());
    }

    /// A smoke check has ended: `http`, `metrics`, `database` or `other`.
    pub fn probed(&self, kind: &'static str, took: Duration) {
        let histogram = self.families.probe.get_or_create_owned(&KindLabel { kind });
        histogram.observe(took.as_secs_f64());
    }

    /// A rollback has ended: after a `failure` or by `request`, with `success`, `failure`, `held` or
    /// `refused`.
    pub fn rolled_back(&self, trigger: &'static str, result: &'static str) {
        let labels = RollbackLabels { trigger, result };
        self.families.rollbacks.get_or_create(&labels).inc();
    }

    /// A call to Fly.io has ended.
    pub fn fly_call(&self, call: FlyCall) {
        let endpoint = call.endpoint;
        let code = code(call.code);
        let labels = FlyLabels { endpoint, code };
        self.families.fly_requests.get_or_create(&labels).inc();
        let labels = EndpointLabel { endpoint };
        let histogram = self.families.fly_duration.get_or_create_owned(&labels);
        histogram.observe(call.duration.as_secs_f64());
        if call.limited {
            self.families.fly_limited.get_or_create(&labels).inc();
        }
    }

    /// A call to the API server has ended. `code` is `None` without a response.
    pub fn kube_call(&self, method: &http::Method, host: &str, code: Option<u16>) {
        let labels = KubeLabels {
            code: self::code(code),
            method: method.as_str().to_owned(),
            host: host.to_owned(),
        };
        self.families.kube_requests.get_or_create(&labels).inc();
    }

    /// Sets whether this process leads.
    pub fn set_leader(&self, lease: &str, leading: bool) {
        let name = lease.to_owned();
        let gauge = self
            .families
            .leader
            .get_or_create_owned(&LeaseLabel { name });
        gauge.set(i64::from(leading));
    }

    /// All metrics in the text format of Prometheus (version 0.0.4).
    pub fn prometheus(&self) -> Result<String, std::fmt::Error> {
        self.measure(Instant::now());
        let mut out = String::new();
        prometheus_text::encode(&mut out, &self.registry)?;
        Ok(out)
    }

    /// All metrics in the OpenMetrics text format (version 1.0.0).
    pub fn open_metrics(&self) -> Result<String, std::fmt::Error> {
        self.measure(Instant::now());
        let mut out = String::new();
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }

    /// Sets the gauges that are measured when they are read.
    fn measure(&self, now: Instant) {
        let families = &self.families;
        let depth = i64::try_from(self.queue.depth(now)).unwrap_or(i64::MAX);
        families.queue_depth.get_or_create(&QUEUE).set(depth);
        for (kind, waited) in self.queue.longest_waits(now) {
            let kind = kind.as_str();
            let gauge = families.queue_wait.get_or_create_owned(&KindLabel { kind });
            gauge.set(waited.as_secs_f64());
        }
        let (sum, longest) = self.queue.under_way(now);
        let gauge = families.queue_unfinished.get_or_create_owned(&QUEUE);
        gauge.set(sum.as_secs_f64());
        let gauge = families.queue_longest.get_or_create_owned(&QUEUE);
        gauge.set(longest.as_secs_f64());
        let running = i64::try_from(self.queue.running()).unwrap_or(i64::MAX);
        families
            .active_workers
            .get_or_create(&CONTROLLED)
            .set(running);
        if let Some(bytes) = resident_bytes() {
            families.resident_memory.set(bytes);
        }
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

/// A running reconcile. The queue gives its object out again once this is dropped, also without a
/// result, as by cancellation at shutdown.
pub struct Reconciling {
    metrics: Metrics,
    object: Object,
    started: Instant,
}

impl Reconciling {
    /// The reconcile has ended with this outcome.
    pub fn finished(&self, outcome: Outcome) {
        let families = &self.metrics.families;
        let labels = ReconcileLabels {
            controller: CONTROLLER,
            result: outcome.result(),
        };
        families.reconciles.get_or_create(&labels).inc();
        let took = self.started.elapsed().as_secs_f64();
        families
            .reconcile_time
            .get_or_create_owned(&CONTROLLED)
            .observe(took);
        families
            .work_duration
            .get_or_create_owned(&QUEUE)
            .observe(took);
        match outcome {
            Outcome::RequeueAfter => return,
            Outcome::Error => {}
            Outcome::Terminal => {
                families.reconcile_terminal.get_or_create(&CONTROLLED).inc();
            }
            Outcome::Panicked => {
                families.reconcile_panics.get_or_create(&CONTROLLED).inc();
            }
        }
        families.reconcile_errors.get_or_create(&CONTROLLED).inc();
    }
}

impl Drop for Reconciling {
    fn drop(&mut self) {
        self.metrics.queue.finished(&self.object, Instant::now());
    }
}

/// The code of a response, or `error` without one.
fn code(code: Option<u16>) -> String {
    code.map_or_else(|| "error".to_owned(), |code| code.to_string())
}

/// Resident memory of this process, in bytes; `None` without `/proc`.
fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn info(phase: &str) -> Info {
        Info {
            phase: phase.into(),
            ready: "Unknown".into(),
            live: "True".into(),
            suspended: false,
            app: "sist-cabanas-mvp".into(),
            region: "eze".into(),
        }
    }

    fn lines(metrics: &Metrics, word: &str) -> Vec<String> {
        let text = metrics.prometheus().unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines
            .filter(|line| line.contains(word))
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn an_activation_has_one_info_line_and_none_after_it_is_gone() {
        let metrics = Metrics::new();
        let object = Object::new("cabanas", "mvp");
        metrics.set_info(&object, &info("Provision"));
        metrics.set_info(&object, &info("Deploy"));
        metrics.set_preflight_check(&object, "TokenValid", "blocking", Some(true));
        metrics.set_deadline(&object, "Deploy", "2026-11-24T12:00:00Z".parse().ok());
        metrics.set_drift(&object, Some(2));
        metrics.reconciled_at(&object, "2026-11-24T12:00:00Z".parse().unwrap());
        let expected = "golive_info{namespace=\"cabanas\",name=\"mvp\",phase=\"Deploy\",\
            ready=\"Unknown\",live=\"True\",suspended=\"false\",app=\"sist-cabanas-mvp\",region=\"eze\"} 1";
        let found: Vec<String> = lines(&metrics, "golive_info{");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].replace(" 1.0", " 1"), expected);
        assert_eq!(lines(&metrics, "namespace=\"cabanas\"").len(), 5);

        metrics.forget(&object);

        assert_eq!(
            lines(&metrics, "namespace=\"cabanas\""),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_deadline_that_is_met_has_no_series() {
        let metrics = Metrics::new();
        let object = Object::new("cabanas", "mvp");
        metrics.set_deadline(&object, "Deploy", "2026-11-24T12:00:00Z".parse().ok());
        metrics.set_deadline(&object, "Deploy", None);
        assert_eq!(lines(&metrics, "golive_deadline").len(), 0);
    }

    #[test]
    fn counters_of_what_must_never_happen_begin_at_zero() {
        let metrics = Metrics::new();
        for (name, series) in [
            ("controller_runtime_reconcile_errors_total", 1),
            ("controller_runtime_terminal_reconcile_errors_total", 1),
            ("controller_runtime_reconcile_panics_total", 1),
            ("golive_rollbacks_total", 8),
        ] {
            let found = lines(&metrics, name);
            assert_eq!(found.len(), series, "{found:?}");
            assert!(found.iter().all(|line| line.ends_with(" 0")), "{found:?}");
        }
    }

    #[test]
    fn what_has_stopped_and_what_waits_has_a_series_only_as_long_as_it_does() {
        let metrics = Metrics::new();
        let object = Object::new("cabanas", "mvp");
        let since: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        metrics.set_stalled(&object, Some("Rejected"));
        metrics.set_stalled(&object, Some("TokenInvalid"));
        metrics.set_gates(&object, vec![("Deploy", since)]);
        metrics.set_phase_start(&object, "Deploy", Some(since));
        let stalled = lines(&metrics, "golive_stalled");
        assert_eq!(stalled.len(), 1, "{stalled:?}");
        assert!(stalled[0].contains("TokenInvalid"), "{stalled:?}");
        let others = ["golive_gate_requested", "golive_phase_start"];
        for name in others {
            assert_eq!(lines(&metrics, name).len(), 1, "{name}");
        }
        metrics.set_stalled(&object, None);
        metrics.set_gates(&object, Vec::new());
        metrics.set_phase_start(&object, "Deploy", None);
        for name in [
            "golive_stalled",
            "golive_gate_requested",
            "golive_phase_start",
        ] {
            assert_eq!(lines(&metrics, name).len(), 0, "{name}");
        }
    }

    /// The reconcile of an object that is due now.
    fn begin(metrics: &Metrics, object: &Object) -> Reconciling {
        metrics.queued(object, Kind::Change, Duration::ZERO);
        let job = metrics.queue().next(Instant::now()).unwrap();
        metrics.reconcile_started(&job)
    }

    #[test]
    fn names_are_those_that_platform_dashboards_know() {
        let metrics = Metrics::new();
        let object = Object::new("cabanas", "mvp");
        metrics.queue().open(None);
        for outcome in [Outcome::RequeueAfter, Outcome::Terminal, Outcome::Panicked] {
            begin(&metrics, &object).finished(outcome);
        }
        metrics.retried(&object, Duration::from_secs(60));
        metrics.set_max_concurrent_reconciles(16);
        metrics.kube_call(&http::Method::PATCH, "10.0.0.1:443", Some(200));
        metrics.set_leader("golive", true);
        metrics.phase_finished("Deploy", "succeeded", Duration::from_secs(90));
        metrics.fly_call(FlyCall {
            endpoint: "machines.create",
            code: Some(429),
            duration: Duration::from_millis(20),
            limited: true,
        });
        for line in [
            "controller_runtime_reconcile_total{controller=\"activation\",result=\"requeue_after\"} 1",
            "controller_runtime_reconcile_total{controller=\"activation\",result=\"error\"} 2",
            "controller_runtime_reconcile_errors_total{controller=\"activation\"} 2",
            "controller_runtime_terminal_reconcile_errors_total{controller=\"activation\"} 1",
            "controller_runtime_reconcile_panics_total{controller=\"activation\"} 1",
            "controller_runtime_reconcile_time_seconds_count{controller=\"activation\"} 3",
            "controller_runtime_max_concurrent_reconciles{controller=\"activation\"} 16",
            "controller_runtime_active_workers{controller=\"activation\"} 0",
            "workqueue_depth{name=\"activation\",controller=\"activation\"} 0",
            "workqueue_adds_total{name=\"activation\",controller=\"activation\"} 4",
            "workqueue_retries_total{name=\"activation\",controller=\"activation\"} 1",
            "workqueue_queue_duration_seconds_count{name=\"activation\",controller=\"activation\"} 3",
            "golive_queue_longest_wait_seconds{kind=\"change\"} 0.0",
            "rest_client_requests_total{code=\"200\",method=\"PATCH\",host=\"10.0.0.1:443\"} 1",
            "leader_election_master_status{name=\"golive\"} 1",
            "golive_phase_attempts_total{phase=\"Deploy\",result=\"succeeded\"} 1",
            "fly_api_requests_total{endpoint=\"machines.create\",code=\"429\"} 1",
            "fly_api_rate_limited_total{endpoint=\"machines.create\"} 1",
        ] {
            let found = lines(&metrics, line);
            assert_eq!(found, [line], "{}", metrics.prometheus().unwrap());
        }
        assert_eq!(lines(&metrics, "golive_build_info{version=").len(), 1);
    }

    #[test]
    fn work_that_is_dropped_without_an_end_is_no_longer_running() {
        let metrics = Metrics::new();
        metrics.queue().open(None);
        let running = begin(&metrics, &Object::new("cabanas", "mvp"));
        assert_eq!(
            lines(&metrics, "active_workers")[0].chars().last(),
            Some('1')
        );
        drop(running);
        assert_eq!(
            lines(&metrics, "active_workers")[0].chars().last(),
            Some('0')
        );
    }

    #[test]
    fn nothing_is_said_of_an_integration_that_is_gone() {
        let metrics = Metrics::new();
        let (object, other) = (Object::new("cabanas", "mvp"), Object::new("cabanas", "b"));
        for name in ["whatsapp", "webhook/old", "webhook/new"] {
            metrics.integration_verified(&object, name, Timestamp::UNIX_EPOCH);
            metrics.integration_verified(&other, name, Timestamp::UNIX_EPOCH);
        }
        metrics.keep_integrations(&object, &["whatsapp", "webhook/new"]);
        let family = "golive_integration_last_verified_timestamp_seconds{";
        assert_eq!(lines(&metrics, family).len(), 5);
        metrics.keep_integrations(&object, &[]);
        assert_eq!(
            lines(&metrics, family).len(),
            3,
            "those of the other object"
        );
    }

    #[test]
    fn a_label_cannot_forge_a_line() {
        let metrics = Metrics::new();
        let object = Object::new("cabanas", "mvp");
        let forged = Info {
            region: "eze\"} 1\ngolive_info{name=\"other".into(),
            ..info("Deploy")
        };
        metrics.set_info(&object, &forged);
        assert_eq!(lines(&metrics, "golive_info{").len(), 1);
        assert!(metrics.open_metrics().unwrap().ends_with("# EOF\n"));
    }
}
