//! The gates of one pass, and what became of the decisions of people at them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{Api, Resource, ResourceExt, api::ListParams, runtime::events::Event};
use sha2::{Digest, Sha256};

use crate::{
    api::{
        Activation, ActivationApproval, PhaseName,
        approval::{ApprovalState, DecidedOn, Decision},
        policy::{Gate, Mode},
        status::{GateState, GateStatus, HistoryOutcome},
    },
    error::Error,
    pipeline::{Cx, report::Report},
    plan::{
        Target, digest,
        gate::{self, GateReport, Question},
        votes::{self, Ballot, Subject},
    },
    reconcile::{begin::Pass, context::Context, memory::Memory},
    status::events,
    store::approvals,
};

/// Most statuses of ActivationApprovals that one pass writes.
const MAX_WRITES: usize = 16;

/// Reason of the event about a decision that does not count.
const NOT_COUNTED: &str = "ApprovalNotCounted";

/// The gates of one pass.
pub struct Gates<'a> {
    subject: Subject<'a>,
    attempt: String,
    rolled_back: bool,
    /// Fingerprint of the integrations, if there are any.
    integrations: Option<String>,
    /// Fingerprint of the watch, if there is one.
    observe: Option<String>,
    ballots: Vec<Ballot>,
    before: BTreeMap<PhaseName, &'a GateStatus>,
    now: jiff::Timestamp,
}

impl<'a> Gates<'a> {
    /// Judges the decisions about the object.
    pub fn judge(pass: &'a Pass<'_>, memory: &Memory, cx: &Cx, target: &'a Target) -> Self {
        let old = pass.old.as_ref();
        let serving = pass.serving.as_ref().and_then(|serving| serving.number);
        let shown = old.and_then(|old| old.plan.as_ref());
        let shown = shown.filter(|plan| plan.digest == target.plan().digest());
        let subject = Subject {
            uid: &pass.owner.uid,
            created: pass.activation.creation_timestamp().map(|time| time.0),
            generation: pass.owner.generation,
            written: votes::written(pass.activation),
            plan: target.plan(),
            release: serving.and_then(|number| i64::try_from(number).ok()),
            destroys: shown.map_or(&[][..], |plan| plan.destroys.as_slice()),
            gates: &target.gates,
            planned: target.mode == Mode::Plan,
        };
        let mut cast = cx.refs.votes().to_vec();
        // One about a generation that was not read yet is judged when it is.
        let later = |generation: i64| generation > subject.generation;
        cast.retain(|vote| !vote.spec.generation.is_some_and(later));
        for vote in &mut cast {
            // What this process wrote last, which may not have been read again yet.
            if let Some(known) = memory.votes.get(&vote.uid) {
                vote.status = Some(known.clone());
            }
        }
        let now = pass.now();
        let last = old.and_then(|old| old.history.first());
        let phases = old.into_iter().flat_map(|old| &old.phases);
        Self {
            ballots: votes::judge(&cast, &subject, now),
            subject,
            integrations: target.integrations.as_deref().map(digest::verified),
            observe: target.observe.as_deref().map(digest::watched),
            attempt: attempt(target),
            rolled_back: last.is_some_and(|last| last.outcome == HistoryOutcome::RolledBack),
            before: phases
                .filter_map(|phase| Some((phase.name, phase.gate.as_ref()?)))
                .collect(),
            now,
        }
    }

    /// Decides the gate before a phase, if the spec has one.
    pub fn decide(&self, phase: PhaseName) -> Option<GateReport> {
        let gate = self.gate(phase).filter(|_| self.is_asked(phase))?;
        let takes_back = matches!(phase, PhaseName::Deploy | PhaseName::SmokeTest);
        let question = Question {
            subject: self.subject,
            attempt: &self.attempt,
            about: self.about(phase),
            rolled_back: self.rolled_back && takes_back,
        };
        let before = self.before.get(&phase).copied();
        Some(gate::decide(
            gate,
            &question,
            &self.ballots,
            before,
            self.now,
        ))
    }

    /// Who opened the gate before Deploy.
    pub fn approvers(&self) -> Vec<String> {
        let deploy = self.decide(PhaseName::Deploy);
        let open = deploy.filter(|gate| gate.status.state == GateState::Approved);
        open.map(|gate| gate.status.approved_by).unwrap_or_default()
    }

    /// Whether there is anything behind the gate.
    fn is_asked(&self, phase: PhaseName) -> bool {
        match phase {
            PhaseName::Integrations => self.integrations.is_some(),
            PhaseName::Observe => self.observe.is_some(),
            PhaseName::Preflight
            | PhaseName::Provision
            | PhaseName::Deploy
            | PhaseName::SmokeTest => true,
        }
    }

    /// What is behind the gate and not part of the digest of the plan.
    fn about(&self, phase: PhaseName) -> &str {
        let behind = match phase {
            PhaseName::Integrations => self.integrations.as_deref(),
            PhaseName::Observe => self.observe.as_deref(),
            PhaseName::Preflight
            | PhaseName::Provision
            | PhaseName::Deploy
            | PhaseName::SmokeTest => None,
        };
        behind.unwrap_or_default()
    }

    fn gate(&self, phase: PhaseName) -> Option<&'a Gate> {
        let mut gates = self.subject.gates.iter();
        gates.find(|gate| gate.before.as_str() == phase.as_str())
    }

    /// Writes what became of the decisions, after the status of the pass. A decision that cannot be
    /// written stays as it is: the gate's own status holds what it opened.
    /// Without a report the gates were not asked.
    pub async fn conclude(mut self, pass: &Pass<'_>, memory: &mut Memory, report: Option<&Report>) {
        for phase in report.iter().flat_map(|report| &report.phases) {
            if let (Some(gate), Some(decided)) = (self.gate(phase.id), &phase.gate) {
                let status = &decided.status;
                votes::note_gate(&mut self.ballots, gate, status.state, &status.approved_by);
            }
        }
        let published = memory.published.status();
        let rollback = published.as_ref().or(pass.old.as_ref());
        let rollback = rollback.and_then(|status| status.rollback.as_ref());
        votes::note_rollback(&mut self.ballots, rollback);
        let known: Vec<String> = self.ballots.iter().map(|b| b.vote.uid.clone()).collect();
        memory.votes.retain(|uid, _| known.contains(uid));
        let changed = self
            .ballots
            .into_iter()
            .filter(|ballot| ballot.vote.status.as_ref() != Some(&ballot.status));
        for ballot in changed.take(MAX_WRITES) {
            if write(pass.context, &pass.owner.namespace, &ballot).await {
                publish(pass.context, pass.activation, &ballot);
                memory.votes.insert(ballot.vote.uid, ballot.status);
            }
        }
    }
}

/// Writes what was found of one decision.
async fn write(context: &Context, namespace: &str, ballot: &Ballot) -> bool {
    if !context.leads.open() {
        return false;
    }
    let who = (ballot.vote.name.as_str(), ballot.vote.uid.as_str());
    match approvals::write_status(&context.kube, namespace, who, &ballot.status).await {
        Ok(written) => written,
        Err(error) => {
            tracing::warn!(error = %crate::causes::chain(&error), "whether an approval counts is not reported");
            false
        }
    }
}

fn publish(context: &Context, activation: &Activation, ballot: &Ballot) {
    let Some(found) = event(ballot) else { return };
    let about = reference(ballot, activation.namespace());
    context.publisher.publish(&about, vec![found]);
    let about_both = event(ballot).into_iter().collect();
    context.publish(activation, about_both);
}

fn reference(ballot: &Ballot, namespace: Option<String>) -> ObjectReference {
    ObjectReference {
        api_version: Some(ActivationApproval::api_version(&()).into_owned()),
        kind: Some(ActivationApproval::kind(&()).into_owned()),
        name: Some(ballot.vote.name.clone()),
        namespace,
        uid: Some(ballot.vote.uid.clone()),
        ..ObjectReference::default()
    }
}

/// The event about a decision that does not count. A refused rollback has an event of its own.
fn event(ballot: &Ballot) -> Option<Event> {
    let status = &ballot.status;
    match status.state {
        ApprovalState::Counts | ApprovalState::Used | ApprovalState::Refused => return None,
        ApprovalState::NotNeeded
        | ApprovalState::WrongDigest
        | ApprovalState::UnknownGate
        | ApprovalState::ActivationNotFound
        | ApprovalState::Expired
        | ApprovalState::Superseded => {}
    }
    let spec = &ballot.vote.spec;
    let what = match (spec.gate, spec.decision) {
        (DecidedOn::Rollback, _) => "request for a rollback",
        (_, Decision::Approve) => "approval",
        (_, Decision::Reject) => "rejection",
    };
    let note = format!(
        "the {what} {} by {} does not count ({}): {}",
        ballot.vote.name, spec.approver, status.state, status.message
    );
    Some(events::warning(NOT_COUNTED, spec.gate.as_str(), &note))
}

/// Reports decisions about an Activation that does not exist.
///
/// # Errors
/// When Kubernetes could not be read.
pub async fn without_activation(
    context: &Context,
    namespace: &str,
    name: &str,
) -> Result<(), Error> {
    let activations: Api<Activation> = Api::namespaced(context.kube.clone(), namespace);
    let found = activations.get_metadata_opt(name).await;
    let found = found.map_err(|source| Error::kube("read the activation", source))?;
    if found.is_some() {
        return Ok(());
    }
    let api: Api<ActivationApproval> = Api::namespaced(context.kube.clone(), namespace);
    let params = ListParams::default().fields(&format!("spec.activation={name}"));
    let found = api.list(&params).await;
    let found = found.map_err(|source| Error::kube("list the approvals", source))?;
    let now = context.installation.clock.now();
    let votes = found.items.iter().map(votes::Vote::of);
    let ballots = votes.filter_map(|vote| {
        let status = votes::of_no_activation(&vote, now)?;
        Some(Ballot { vote, status })
    });
    for ballot in ballots.take(MAX_WRITES) {
        if write(context, namespace, &ballot).await
            && let Some(event) = event(&ballot)
        {
            let reference = reference(&ballot, Some(namespace.to_owned()));
            context.publisher.publish(&reference, vec![event]);
        }
    }
    Ok(())
}

/// Fingerprint of the annotations that request another try.
fn attempt(target: &Target) -> String {
    let mut hash = Sha256::new();
    let tokens = target.retry.iter().chain(&target.rotation);
    for token in tokens {
        hash.update((token.len() as u64).to_le_bytes());
        hash.update(token);
    }
    data_encoding::HEXLOWER.encode(&hash.finalize()[..6])
}
