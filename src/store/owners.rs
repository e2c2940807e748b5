//! Which Activations exist, by their UIDs: an object whose mark is found on Fly.io may live under any
//! name.

use std::collections::BTreeSet;

use kube::{Api, Client, ResourceExt, api::ListParams};

use crate::{api::Activation, error::Error};

/// Objects in one answer of the API server.
const PAGE: u32 = 500;

/// Whether an Activation with one of these UIDs exists in the namespaces that the operator watches; all
/// of them if the list is empty.
///
/// # Errors
/// When the API server refuses or cannot be reached.
pub async fn exist(
    kube: &Client,
    watched: &[String],
    uids: &BTreeSet<String>,
) -> Result<bool, Error> {
    if uids.is_empty() {
        return Ok(false);
    }
    let apis: Vec<Api<Activation>> = match watched {
        [] => vec![Api::all(kube.clone())],
        some => {
            let some = some.iter();
            some.map(|namespace| Api::namespaced(kube.clone(), namespace))
                .collect()
        }
    };
    for api in apis {
        if exist_in(&api, uids).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn exist_in(api: &Api<Activation>, uids: &BTreeSet<String>) -> Result<bool, Error> {
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = api.list_metadata(&params).await;
        let page = page.map_err(|source| Error::kube("list the Activations", source))?;
        let mut found = page.items.iter().filter_map(ResourceExt::uid);
        if found.any(|uid| uids.contains(&uid)) {
            return Ok(true);
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(false),
        }
    }
}
