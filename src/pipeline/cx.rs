//! What a step gets: the target, the clients, the facts, and the limits of this pass.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;

pub use crate::{api::Owner, clock::Timing};

use super::{background::Background, facts::Facts, intent::Intents, typed_map::TypedMap};
use crate::{
    api::{
        ActivationStatus,
        status::{
            ExternalObject, FallbackUsed, IntegrationStatus, PhaseName, PhaseState, SecretStatus,
            SmokeTestResult,
        },
    },
    clock::{
        ServerClock,
        watch::{Scale, WatchClock},
    },
    fly,
    net::{prometheus, vendor::Vendors},
    plan::{
        PlanId, Target,
        refs::{Allowed, Refs},
    },
    process::{outside::Outside, turnstile::Turnstile, waker::Waker},
};

/// May this process still write to the outside? Closed on shutdown and when the leader's
/// lease has too little time left for one more call.
#[derive(Clone)]
pub struct Fence(Arc<dyn Fn() -> bool + Send + Sync>);

impl Fence {
    /// A fence that calls `open` before every write.
    pub fn new(open: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(open))
    }

    /// True while writes may start.
    pub fn open(&self) -> bool {
        (self.0)()
    }
}

impl std::fmt::Debug for Fence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Fence").field(&self.open()).finish()
    }
}

/// May steps change anything in this pass?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Yes.
    Apply,
    /// No: changes are listed in the plan.
    Plan,
}

/// Which of the two targets a run is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Care {
    /// The spec: it is brought live.
    #[default]
    Wanted,
    /// The release that serves, while the spec cannot be brought live: it is kept as it is.
    Serving,
}

/// Who last wrote the spec, and why, as far as Kubernetes records it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The field manager that last wrote the spec: `kubectl-client-side-apply`,
    /// `argocd-controller`. The API server keeps no user's name.
    pub manager: String,
    /// The annotation `kubernetes.io/change-cause`.
    pub cause: String,
    /// Who opened the gate before Deploy for this plan.
    pub approved_by: Vec<String>,
}

impl Origin {
    /// Who requested the plan: the manager, and those who approved it.
    pub fn by(&self) -> String {
        let approved = self.approved_by.join(", ");
        match (approved.is_empty(), self.manager.is_empty()) {
            (true, _) => self.manager.clone(),
            (false, true) => format!("approved by {approved}"),
            (false, false) => format!("{}, approved by {approved}", self.manager),
        }
    }
}

/// What all objects of this operator have in common.
#[derive(Clone)]
pub struct Installation {
    /// The operator's own namespace, where claims and records are stored.
    pub own_namespace: String,
    /// The namespaces that the operator watches; empty: all.
    pub watched: Vec<String>,
    /// Key of the fingerprints of secret values in status (HMAC), one per installation.
    pub fingerprint_key: Arc<[u8]>,
    /// Whether a token for the app alone is made and used.
    pub app_tokens: bool,
    /// Which Secrets of its namespace an object may use.
    pub secrets: Allowed,
    /// Places for looks at applications in the background.
    pub looks: Arc<Turnstile>,
    /// Lengths of time.
    pub timing: Timing,
    /// The clock of the API server.
    pub clock: ServerClock,
    /// How much faster the time of a watch runs.
    pub scale: Scale,
    /// The Prometheus servers that may be asked beside those on the public Internet.
    pub prometheus: prometheus::Allowed,
}

impl Installation {
    /// The clock of a watch that began at this time.
    pub fn watch_clock(&self, since: Timestamp) -> WatchClock {
        WatchClock::new(self.clock.clone(), self.scale, since)
    }
}

/// What the status recorded before this pass. Places to observe, never a proof.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// Secrets of the app that were pushed: name, Fly.io's digest and our fingerprint. A wrong
    /// entry costs one push of the same value and changes nothing.
    pub secrets: BTreeMap<String, SecretStatus>,
    /// What exists at Fly.io. A list may lag behind it.
    pub external: Vec<ExternalObject>,
    /// Declared fallbacks in use.
    pub fallbacks: Vec<FallbackUsed>,
    /// What was found of each integration.
    pub integrations: Vec<IntegrationStatus>,
    /// What was proven when this process first saw the object.
    pub earlier: EarlierProof,
}

/// What the status said when this process first saw the object. A wrong one proves nothing: it only
/// decides whether sleeping machines are woken for a proof, how long a failure is awaited, and whether
/// one list that lacks the machine of a command is believed.
#[derive(Clone, Debug, Default)]
pub struct EarlierProof {
    /// Digest and generation of the plan whose SmokeTest had succeeded. A status says that of no other plan
    /// than the one that it has (`keeps_success` in `src/status/phases.rs`).
    proven: Option<(String, Option<i64>)>,
    /// The results of the smoke checks of what serves. A spec whose own checks were made, and did not
    /// pass, has replaced them in the status: then there are none.
    results: Vec<SmokeTestResult>,
    /// When the first of them was decided, if that is known of all.
    decided: Option<Timestamp>,
    /// Deploy was planned or had begun, and had not succeeded: an earlier process, or a pass that was cut off,
    /// may have run a command.
    deploying: bool,
}

impl EarlierProof {
    /// What a status says of the proof.
    pub fn of(status: &ActivationStatus) -> Self {
        let mut phases = status.phases.iter();
        let smoke_test = phases.find(|phase| phase.name == PhaseName::SmokeTest);
        let state = smoke_test.map(|phase| phase.state);
        let succeeded = state == Some(PhaseState::Succeeded);
        let plan = status.plan.as_ref().filter(|_| succeeded);
        let replaced = matches!(
            state,
            Some(PhaseState::Running | PhaseState::Waiting | PhaseState::Failed)
        );
        let mut phases = status.phases.iter();
        let deploy = phases.find(|phase| phase.name == PhaseName::Deploy);
        Self {
            deploying: deploy.is_some_and(|phase| match phase.state {
                PhaseState::Skipped | PhaseState::Succeeded => false,
                // Also a phase that had begun is Pending while a step before it cannot be observed.
                PhaseState::Pending
                | PhaseState::Running
                | PhaseState::Waiting
                | PhaseState::AwaitingApproval
                | PhaseState::Failed => true,
            }),
            proven: plan.map(|plan| (plan.digest.clone(), plan.generation)),
            decided: decided(&status.smoke_test),
            results: match replaced {
                true => Vec::new(),
                false => status.smoke_test.clone(),
            },
        }
    }

    /// The same after a pass that was cut off, or beside another process: it may have run a command.
    #[must_use]
    pub fn cut_off(self) -> Self {
        Self {
            deploying: true,
            ..self
        }
    }

    /// Whether it is that of a plan that leads to the same as this one, whatever the generation.
    pub fn is_of(&self, plan: &PlanId) -> bool {
        let proven = self.proven.as_ref();
        proven.is_some_and(|(digest, generation)| plan.leads_to_same(digest, *generation))
    }

    /// When what is on record of this plan was proven.
    pub fn decided(&self, plan: &PlanId) -> Option<Timestamp> {
        self.decided.filter(|_| self.is_of(plan))
    }

    /// Whether an earlier process, or a pass that was cut off, may have been in the middle of Deploy.
    pub fn was_deploying(&self) -> bool {
        self.deploying
    }

    /// The results of the checks of this target: of this plan if it is the wanted one.
    pub fn results(&self, plan: &PlanId, care: Care) -> &[SmokeTestResult] {
        match care {
            Care::Wanted if !self.is_of(plan) => &[],
            Care::Wanted | Care::Serving => &self.results,
        }
    }
}

/// When the first of these checks was decided; `None`: there are none, or one does not say so. Pure.
fn decided(results: &[SmokeTestResult]) -> Option<Timestamp> {
    let times = results.iter().map(|result| result.time.as_ref());
    let times: Option<Vec<Timestamp>> = times.map(|time| Some(time?.0)).collect();
    times?.into_iter().min()
}

impl Recorded {
    /// What a status recorded.
    pub fn of(status: &ActivationStatus) -> Self {
        let secrets = status.secrets.iter();
        Self {
            secrets: secrets
                .map(|secret| (secret.name.clone(), secret.clone()))
                .collect(),
            external: status.external.clone(),
            fallbacks: status.fallbacks.clone(),
            integrations: status.integrations.clone(),
            earlier: EarlierProof::default(),
        }
    }
}

/// Fact: the number of the last pass that was a re-check of a settled object.
#[derive(Debug)]
pub struct RecheckPass(pub u64);

/// Journal: the number of the last pass in which a change was sent.
#[derive(Debug)]
struct ChangingPass(u64);

/// What every step gets.
#[derive(Clone)]
pub struct Cx {
    /// The target of this run: what the spec asks for, or what serves (`care`).
    pub target: Arc<Target>,
    /// Which target it is.
    pub care: Care,
    /// The Secrets and ConfigMaps that the object names.
    pub refs: Arc<Refs>,
    /// The object.
    pub owner: Owner,
    /// Who requested the present spec, and why.
    pub origin: Origin,
    /// Fly.io, with the object's token.
    pub fly: fly::Client,
    /// Kubernetes, for what Golive stores there.
    pub kube: kube::Client,
    /// Requests to the application's public address.
    pub probe: crate::net::probe::Probe,
    /// Questions to servers that may answer slowly, which a pass does not wait for.
    pub outside: Outside,
    /// Questions to vendors.
    pub vendors: Vendors,
    /// What steps observed, in this pass and before.
    pub facts: Arc<Facts>,
    /// What this process has sent for the object.
    pub journal: Arc<TypedMap>,
    /// Creates that are announced before they are sent.
    pub intents: Arc<Intents>,
    /// Looks at the application that take longer than a pass.
    pub background: Arc<Background>,
    /// Wakes the object when one of them has ended.
    pub waker: Waker,
    /// What the status recorded before this pass.
    pub recorded: Arc<Recorded>,
    /// What all objects have in common.
    pub installation: Arc<Installation>,
    /// Whether this process may still write.
    pub fence: Fence,
    /// Whether steps may change anything in this pass.
    pub act: Act,
    /// Whether steps may do what a release that serves leaves to do, although drift is only reported.
    pub ends_releases: bool,
    /// The number of this pass of the object: what was listed in an earlier one is stale.
    pub pass: u64,
    /// The number of reconciles that people and tools have requested of this process so far.
    pub requests: u64,
}

impl Cx {
    /// The time now by the API server's clock: for what is kept in Kubernetes.
    pub fn now(&self) -> Timestamp {
        self.installation.clock.now()
    }

    /// The time now by Fly.io's clock: for everything that is compared with times of Fly.io, such as
    /// those of machines, checks, logs and tokens.
    pub fn fly_now(&self) -> Timestamp {
        self.fly.now()
    }

    /// True in a re-check of an object that was settled before it, as long as nothing is changed in
    /// it: what was observed in earlier passes is then still worth a comparison.
    pub fn is_recheck(&self) -> bool {
        let rechecks = self.facts.get::<RecheckPass>();
        let changes = self.journal.get::<ChangingPass>();
        rechecks.is_some_and(|of| of.0 == self.pass) && changes.is_none_or(|of| of.0 != self.pass)
    }

    /// Notes that a change is sent in this pass. What looks at the application in the background ends:
    /// it would not know which of the two it has seen.
    pub fn note_change(&self) {
        self.journal.set(ChangingPass(self.pass));
        self.background.end();
    }

    /// The same, only looking: no step changes anything.
    #[must_use]
    pub fn looking(&self) -> Self {
        Self {
            act: Act::Plan,
            ends_releases: false,
            ..self.clone()
        }
    }

    /// True when steps may change anything in this pass.
    pub fn may_act(&self) -> bool {
        self.act == Act::Apply
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plan(target: &str, generation: i64) -> PlanId {
        PlanId::new(target, generation)
    }

    fn earlier(smoke_test: &str) -> EarlierProof {
        let status: ActivationStatus = serde_json::from_value(json!({
            "plan": {"digest": plan("sha256:a", 3).digest(), "generation": 3},
            "phases": [{"name": "SmokeTest", "state": smoke_test, "reason": "", "message": ""}],
            "smokeTest": [{"check": "homepage", "result": "Passed", "reason": "", "message": ""}],
        }))
        .unwrap();
        EarlierProof::of(&status)
    }

    #[test]
    fn an_earlier_proof_is_that_of_one_plan_and_its_results_are_of_nothing_else() {
        let proven = earlier("Succeeded");
        let (a, b, serving) = (plan("sha256:a", 3), plan("sha256:b", 3), plan("other", 3));
        // After only an owner has changed it is still proven.
        assert!(proven.is_of(&a) && proven.is_of(&plan("sha256:a", 4)) && !proven.is_of(&b));
        assert_eq!(proven.results(&a, Care::Wanted).len(), 1);
        assert!(proven.results(&b, Care::Wanted).is_empty());
        assert_eq!(proven.results(&serving, Care::Serving).len(), 1);

        // The spec cannot come so far: what is there was found of what serves.
        let waiting = earlier("Pending");
        assert!(!waiting.is_of(&a));
        assert!(waiting.results(&a, Care::Wanted).is_empty());
        assert_eq!(waiting.results(&serving, Care::Serving).len(), 1);

        // Its own checks have replaced them.
        let failed = earlier("Failed");
        assert!(failed.results(&serving, Care::Serving).is_empty());
    }

    #[test]
    fn a_command_may_have_run_before_unless_deploy_had_succeeded_or_was_not_requested() {
        let of = |deploy: &str| {
            let status: ActivationStatus = serde_json::from_value(json!({
                "phases": [{"name": "Deploy", "state": deploy, "reason": "", "message": ""}],
            }))
            .unwrap();
            EarlierProof::of(&status)
        };
        for state in [
            "Pending",
            "Running",
            "Waiting",
            "AwaitingApproval",
            "Failed",
        ] {
            assert!(of(state).was_deploying(), "{state}");
        }
        for state in ["Succeeded", "Skipped"] {
            assert!(!of(state).was_deploying(), "{state}");
            assert!(of(state).cut_off().was_deploying(), "{state}, cut off");
        }
        // A new object has no phases: nobody has run anything for it.
        assert!(!EarlierProof::of(&ActivationStatus::default()).was_deploying());
        let proven = earlier("Succeeded").cut_off();
        assert!(
            proven.is_of(&plan("sha256:a", 3)),
            "a proof is not lost by that"
        );
    }
}
