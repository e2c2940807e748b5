//! What people and tools request by annotations: a reconcile, a retry, an abort.

use kube::ResourceExt;

use crate::{
    api::{
        ANNOTATION_RECONCILE, ANNOTATION_RECONCILE_FLUX, ANNOTATION_RETRY, ANNOTATION_RETRY_FROM,
        Activation, ActivationStatus, MAX_TOKEN, PhaseName, StepId, status::one_line,
    },
    phase::{PHASES, breach, integrations, observe},
    plan::{
        self, Target,
        abort::{self, Abort},
        invalid::Invalid,
        refs::Refs,
    },
    reconcile::{begin::Pass, memory::Memory},
    status::events,
};

/// The tokens of the annotations that request a reconcile, and the new one among them.
pub struct Requested {
    tokens: Vec<String>,
    new: Option<String>,
}

impl Requested {
    /// Reads the tokens; a new one has the steps that it names observe again.
    pub fn take(pass: &Pass<'_>, memory: &mut Memory) -> Self {
        let requested = Self::read(pass, memory);
        if let Some(token) = &requested.new {
            memory.wanted.requests += 1;
            forget(pass, memory, token);
        }
        requested
    }

    fn read(pass: &Pass<'_>, memory: &Memory) -> Self {
        let tokens = tokens(pass.activation);
        let new = newly_requested(&tokens, memory.handled.tokens.as_deref(), pass.old.as_ref());
        Self { tokens, new }
    }

    /// The new token, for the status. The request counts as handled once that status is written.
    pub fn new_token(&self) -> Option<String> {
        self.new.clone()
    }

    /// The status that names the token is written.
    pub fn handled(self, memory: &mut Memory) {
        memory.handled.tokens = Some(self.tokens);
    }
}

/// Publishes that a request is not handled while the object is suspended. Without that a person
/// would wait for it.
pub fn refuse_while_suspended(pass: &Pass<'_>, memory: &mut Memory) {
    let requested = Requested::read(pass, memory);
    if let Some(token) = &requested.new {
        let note = format!(
            "the activation is suspended, so the reconcile that an annotation requests ({token}) does not run; set `spec.suspend` to false, which reconciles everything"
        );
        let event = events::warning("RetryRefused", "Retry", &note);
        pass.context.publish(pass.activation, vec![event]);
    }
    requested.handled(memory);
}

/// Has steps observe again that are due: those of Deploy for a new request for a rollback, and the
/// token for the app when it expires soon.
pub fn note_due_steps(refs: &Refs, pass: &Pass<'_>, memory: &mut Memory) {
    if memory.wanted.facts.app_token.is_due(pass.context.fly.now()) {
        memory.wanted.steps.remove(&StepId::AppToken);
    }
    let by_the_watch = breach::asked(&memory.wanted.journal);
    let rollbacks = refs.rollbacks().iter().chain(&by_the_watch);
    memory.notice_rollbacks(rollbacks.map(|request| request.uid.clone()).collect());
}

/// Has the watch begin anew when the spec watches something else.
pub fn note_watch(target: &Target, memory: &mut Memory) {
    memory
        .wanted
        .ask(StepId::Objectives, observe::asked(target));
}

/// Has the integrations observe again when the spec or a Secret says something else of them.
pub fn note_integrations(target: &Target, refs: &Refs, pass: &Pass<'_>, memory: &mut Memory) {
    let key = &pass.context.installation.fingerprint_key;
    let asked = integrations::asked(target, refs, key);
    if memory.wanted.ask(StepId::IntegrationChecks, asked) {
        // The record of what serves says which integrations it has.
        memory.wanted.steps.remove(&StepId::Promote);
    }
}

/// The end of the work on this target, if the annotation `golive.dev/abort` requests it. A request
/// that stops nothing is refused by an event, once.
pub fn abort(pass: &Pass<'_>, memory: &mut Memory, target: &Target) -> Option<Invalid> {
    let decision = abort::decide(
        pass.activation,
        target.plan(),
        pass.old.as_ref(),
        memory.handled.abort.as_deref(),
    );
    match decision {
        Abort::None => None,
        Abort::Refuse { word, why } => {
            let event = events::warning("AbortRefused", "Abort", &why);
            pass.context.publish(pass.activation, vec![event]);
            memory.handled.abort = Some(word);
            None
        }
        Abort::Stop(invalid) => Some(invalid),
    }
}

/// The tokens of all annotations that request a reconcile.
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
    .map(|token| one_line(token, MAX_TOKEN))
    .collect()
}

/// Forgets observations as a new token requests: all, or those from one phase on.
fn forget(pass: &Pass<'_>, memory: &mut Memory, token: &str) {
    let annotations = pass.activation.annotations();
    let from = annotations
        .get(ANNOTATION_RETRY_FROM)
        .map(|value| one_line(value, MAX_TOKEN))
        .filter(|value| value == token);
    match from.as_deref().map(plan::retry_from) {
        None => memory.forget_observations(),
        Some(Some(phase)) => {
            memory.wanted.forget_from(PHASES, phase);
            if let Some(kept) = &mut memory.kept {
                kept.forget_from(PHASES, phase);
            }
        }
        Some(None) => {
            let phases: Vec<&str> = PhaseName::ALL.iter().map(|name| name.as_str()).collect();
            let note = format!(
                "the annotation {ANNOTATION_RETRY_FROM} names no phase: {token}; use one of {}, or PHASE/TOKEN to request the same phase again",
                phases.join(", ")
            );
            let event = events::warning("RetryRefused", "Retry", &note);
            pass.context.publish(pass.activation, vec![event]);
        }
    }
}

/// The token that was not there in the last pass. For an object that this process has not reconciled
/// yet, the status says which token was handled last.
fn newly_requested(
    tokens: &[String],
    before: Option<&[String]>,
    old: Option<&ActivationStatus>,
) -> Option<String> {
    let new = match before {
        Some(before) => tokens.iter().find(|token| !before.contains(token)),
        None => {
            let handled = |old: &ActivationStatus| {
                let both = [&old.last_handled_reconcile_at, &old.last_handled_retry];
                let mut handled = both.into_iter().flatten();
                handled.any(|handled| tokens.contains(handled))
            };
            let known = old.is_some_and(handled);
            tokens.first().filter(|_| !known)
        }
    };
    new.cloned()
}

/// Whether the annotations request something that the process that wrote this status has not handled.
pub fn is_open(activation: &Activation, old: &ActivationStatus) -> bool {
    newly_requested(&tokens(activation), None, Some(old)).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_token_of_any_annotation_asks_once_beside_old_ones() {
        let list = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let (one, both) = (list(&["a"]), list(&["a", "b"]));
        let handled = ActivationStatus {
            last_handled_reconcile_at: Some("b".to_owned()),
            ..ActivationStatus::default()
        };

        assert_eq!(newly_requested(&one, None, None).as_deref(), Some("a"));
        assert_eq!(newly_requested(&one, Some(&one), None), None);
        assert_eq!(
            newly_requested(&both, Some(&one), None).as_deref(),
            Some("b")
        );
        assert_eq!(newly_requested(&both, Some(&both), None), None);
        assert_eq!(newly_requested(&both, None, Some(&handled)), None);
        assert_eq!(newly_requested(&[], Some(&both), None), None);
    }
}
