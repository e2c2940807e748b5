//! What the tests of steps and of the engine share.

#![allow(clippy::unwrap_used, clippy::default_trait_access)]

use std::sync::Arc;

use jiff::Timestamp;

use super::{Act, Care, Cx, Fence, Installation, Origin, Owner, Timing};
use crate::{
    fly,
    net::probe::Probe,
    plan::{Target, refs::Refs},
    process::{outside::Outside, turnstile::Turnstile, waker::Waker},
};

/// What a step gets that does no I/O: nothing answers.
pub fn cx(target: Target, refs: Refs) -> Cx {
    let nobody = "http://127.0.0.1:9".to_owned();
    let endpoints = fly::Endpoints {
        machines: nobody.clone(),
        api: nobody.clone(),
        uiex: nobody.clone(),
        registry: nobody,
    };
    let kube = tower::service_fn(|_: http::Request<kube::client::Body>| async {
        Err::<http::Response<kube::client::Body>, _>(std::io::Error::other("there is none"))
    });
    Cx {
        care: Care::Wanted,
        fly: fly::Fly::new(endpoints, fly::HttpOptions::default())
            .unwrap()
            .client(target.token.clone()),
        target: target.into(),
        refs: refs.into(),
        owner: Owner {
            namespace: "n".to_owned(),
            name: "shop".to_owned(),
            uid: "u".to_owned(),
            generation: 1,
        },
        origin: Origin::default(),
        kube: kube::Client::new(kube, "n"),
        probe: Probe::new(&[], None, &crate::clock::ServerClock::of_kubernetes()).unwrap(),
        outside: Outside::new(
            Default::default(),
            Turnstile::new(8),
            "n".to_owned(),
            Waker::new(|_| {}),
        ),
        vendors: crate::net::vendor::testing::nobody(),
        facts: Default::default(),
        journal: Default::default(),
        intents: Default::default(),
        background: Default::default(),
        waker: Waker::new(|_| {}),
        installation: Arc::new(Installation {
            watched: Vec::new(),
            own_namespace: "n".to_owned(),
            fingerprint_key: b"key".to_vec().into(),
            app_tokens: false,
            secrets: crate::plan::refs::Allowed::All,
            looks: Turnstile::with_share(1, 1),
            timing: Timing::default(),
            clock: crate::clock::ServerClock::at(Timestamp::UNIX_EPOCH),
            scale: Default::default(),
            prometheus: Default::default(),
        }),
        fence: Fence::new(|| true),
        act: Act::Apply,
        ends_releases: false,
        recorded: Default::default(),
        pass: 0,
        requests: 0,
    }
}
