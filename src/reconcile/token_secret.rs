//! A token's Secret that somebody deleted while it is needed: says why it does not go.

use k8s_openapi::api::core::v1::ObjectReference;

use crate::{
    plan::refs::Refs,
    reconcile::{begin::Pass, memory::Memory},
    status::events,
};

/// Reason of the event.
const IN_USE: &str = "TokenSecretInUse";

/// Publishes on the Secret and on the Activation why the Secret is still there, once for each
/// deletion.
pub fn report(pass: &Pass<'_>, memory: &mut Memory, refs: &Refs) {
    let secret = &pass.activation.spec.token_secret_ref.name;
    let deleted = refs.deleted(secret).map(str::to_owned);
    if deleted == memory.handled.token_deletion {
        return;
    }
    memory.handled.token_deletion.clone_from(&deleted);
    let Some(uid) = deleted else { return };
    let owner = pass.owner;
    let note = format!(
        "the Secret {secret} was deleted and stays until the Activation {} no longer needs its token: delete the Activation, or name another Secret in its `spec.tokenSecretRef`",
        owner.name
    );
    let event = || vec![events::warning(IN_USE, "Protect", &note)];
    let reference = ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Secret".to_owned()),
        name: Some(secret.clone()),
        namespace: Some(owner.namespace.clone()),
        uid: Some(uid),
        ..ObjectReference::default()
    };
    pass.context.publisher.publish(&reference, event());
    pass.context.publish(pass.activation, event());
}
