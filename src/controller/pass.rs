//! One pass of one object that the queue gave out, to its end: what is done with its result, and when
//! it is due again.

use std::{sync::Arc, time::Duration};

use tracing::Instrument;

use super::{guarded, intake::Watched};
use crate::{
    api::Activation,
    clock::backoff,
    error::{Error, Retry},
    process::{
        metrics::{Outcome, Reconciling},
        telemetry,
        workqueue::Object,
    },
    reconcile::{self, Next, context::Context, undecodable},
    redact,
};

/// Longest time of reporting a failed pass on its object.
const REPORT: Duration = Duration::from_secs(10);

/// One pass with its deadline. A panic is caught, counted, and reported on this object alone. What the
/// object's Secrets hold is removed from all that the pass writes.
pub(super) async fn run(key: &Object, object: &Watched, context: &Context, running: &Reconciling) {
    let redactor = context.redactors.of(&key.namespace, &key.name);
    redact::scope(redactor, redacted(key, object, context, running)).await;
}

async fn redacted(key: &Object, object: &Watched, context: &Context, running: &Reconciling) {
    let activation = match &object.0 {
        Ok(activation) => activation,
        Err(invalid) => {
            telemetry::object(&key.namespace, &key.name).in_scope(|| {
                tracing::warn!(
                    error = %invalid.error,
                    "the object cannot be decoded; it is not reconciled until it changes"
                );
            });
            let pass = undecodable::pass(object, invalid, context);
            let result = guarded::run(context.installation.timing.deadline, pass).await;
            running.finished(Outcome::Terminal);
            // Nothing changes until the object does.
            if let Err(error) = result {
                again_after(key, &error, context);
            }
            return;
        }
    };
    let span = telemetry::object(&key.namespace, &key.name);
    let pass = Box::pin(reconcile::reconcile(activation, context));
    let pass = guarded::run(context.installation.timing.deadline, pass);
    let result = pass.instrument(span.clone()).await;
    context
        .metrics
        .reconciled_at(key, context.installation.clock.now());
    match result {
        Ok(Next { after, kind }) => {
            running.finished(Outcome::RequeueAfter);
            context.metrics.queued(key, kind, after);
        }
        Err(error) => {
            let outcome = match (&error, error.retry()) {
                (Error::Panicked(_), _) => Outcome::Panicked,
                (_, Retry::OnChange) => Outcome::Terminal,
                _ => Outcome::Error,
            };
            running.finished(outcome);
            report(activation, context, &error).instrument(span).await;
            again_after(key, &error, context);
        }
    }
}

async fn report(activation: &Activation, context: &Context, error: &Error) {
    let reported = reconcile::report_failure(activation, context, error);
    if tokio::time::timeout(REPORT, reported).await.is_err() {
        tracing::warn!("the failure was not reported in time");
    }
}

/// Queues an object again after a failure of the whole pass.
fn again_after(key: &Object, error: &Error, context: &Context) {
    let failures = context.memories.failures(&key.namespace, &key.name);
    let pause = match error.retry() {
        Retry::After(time) => time,
        _ => backoff(&context.installation.timing, failures.min(6)),
    };
    telemetry::object(&key.namespace, &key.name).in_scope(|| {
        tracing::warn!(
            error = %crate::causes::chain(error), again_in = ?pause, "the reconcile failed"
        );
    });
    context.metrics.retried(key, pause);
}

/// An object that is due and does not exist: it was deleted during a pass, which stored it in memory
/// afterwards, or never existed.
pub(super) async fn of_nothing(key: &Object, context: &Arc<Context>) {
    let (namespace, name) = (&key.namespace, &key.name);
    context.forget(namespace, name);
    if let Err(error) = reconcile::gates::without_activation(context, namespace, name).await {
        let error = crate::causes::chain(&error);
        tracing::warn!(error, "approvals of no activation are not reported");
    }
}
