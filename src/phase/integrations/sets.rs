//! The sets of checks: what each gets of the spec and the Secrets, and how it asks the application.

use std::time::Duration;

use hyper::Method;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

use super::{
    application::Application,
    ask::Set,
    calendar, effect, mercado_pago, mercado_pago_account, meta_account,
    outcome::{Ended, Outcome},
    probe::{Effect, Probe, Reply, Run, World},
    scheme, webhook, whatsapp,
};
use crate::{
    api::{self, integrations::WebhookMethod, reference::SecretKeyRef},
    clock::ServerClock,
    exposition::Pointer,
    net::{
        self,
        probe::{Ask, Door},
        vendor::Vendors,
    },
    redact,
};

/// Longest time of one calendar of a channel, redirects included.
const FEED: Duration = Duration::from_secs(20);

/// The application as the checks of webhooks ask it.
struct Site<'a> {
    application: &'a Application,
    effect: Option<&'a api::integrations::Effect>,
    clock: &'a ServerClock,
}

impl World for Site<'_> {
    async fn send(&self, probe: &Probe, limit: Duration) -> Reply {
        self.application.send(probe, limit).await
    }

    async fn effect(&self) -> Effect {
        match self.effect {
            None => Effect::Undeclared,
            Some(effect) => match effect::count(self.application, effect).await {
                Ok(Some(count)) => Effect::Counted(count),
                Ok(None) => Effect::Absent(effect::absent(effect)),
                Err(why) => Effect::Unread(why),
            },
        }
    }

    async fn pause(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// What a round of checks needs beside its set.
#[derive(Clone, Debug)]
pub struct Round {
    /// The application.
    pub application: Application,
    /// The vendors.
    pub vendors: Vendors,
    /// The clock that dates and signatures are written by.
    pub clock: ServerClock,
    /// What the last round of the calendar remembered.
    pub calendar: calendar::Memory,
    /// Reaches the hosts that a Secret names.
    pub strangers: net::probe::Probe,
}

/// What a round found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// One for each check.
    pub outcomes: Vec<Outcome>,
    /// What the next round of a calendar remembers.
    pub calendar: calendar::Memory,
    /// When to look again, if something is not decided yet.
    pub again: Option<Duration>,
}

/// Makes the checks of a set.
pub async fn run(set: &Set, round: Round) -> Found {
    let application = &round.application;
    let run = Run {
        number: rand::random(),
    };
    let site = |effect| Site {
        application,
        effect,
        clock: &round.clock,
    };
    let outcomes = match set {
        Set::WhatsApp {
            spec,
            verify_token,
            app_secret,
            access_token,
        } => {
            let input = whatsapp::Input {
                run,
                path: &spec.path,
                verify_token,
                app_secret,
                phone_number_id: spec.phone_number_id.as_deref(),
            };
            let site = site(spec.effect.as_ref());
            let mut outcomes = whatsapp::check(&site, &input, &whatsapp::PACE).await;
            if let Some(token) = access_token {
                let vendor = &round.vendors.meta_graph;
                outcomes.push(meta_account::check(vendor, spec, (token, app_secret)).await);
            }
            outcomes
        }
        Set::MercadoPago {
            spec,
            signing_secret,
            access_token,
        } => {
            let input = mercado_pago::Input {
                run,
                path: &spec.path,
                secret: signing_secret,
            };
            let site = site(spec.effect.as_ref());
            let mut outcomes = mercado_pago::check(&site, &input, &mercado_pago::PACE).await;
            if let Some(token) = access_token {
                let vendor = &round.vendors.mercado_pago;
                outcomes.extend(mercado_pago_account::checks(vendor, token).await);
            }
            outcomes
        }
        Set::Ical { spec, feeds } => return of_calendar(spec, feeds.as_ref(), &round).await,
        Set::Webhook { spec, secret } => {
            let scheme = scheme::of(spec);
            let pace = webhook::pace(&scheme);
            let input = webhook::Input {
                run,
                path: &spec.path,
                scheme,
                secret,
                method: method(spec.method),
                content_type: &spec.content_type,
                body: spec.body.as_deref(),
                accepted: &spec.expect.signed,
                refused: &spec.expect.unsigned,
            };
            let found = webhook::check(&site(spec.effect.as_ref()), &input, &pace).await;
            naming(found, &spec.secret_ref)
        }
    };
    Found {
        outcomes,
        ..Found::default()
    }
}

/// Says of what waits for a value that can be used where that stands.
fn naming(mut outcomes: Vec<Outcome>, secret: &SecretKeyRef) -> Vec<Outcome> {
    let waiting = outcomes.iter_mut();
    for outcome in waiting.filter(|outcome| outcome.ended == Ended::Waiting) {
        let place = format!(" (key {} of the Secret {})", secret.key, secret.name);
        outcome.evidence.push_str(&place);
    }
    outcomes
}

fn method(method: WebhookMethod) -> Method {
    match method {
        WebhookMethod::Post => Method::POST,
        WebhookMethod::Put => Method::PUT,
        WebhookMethod::Patch => Method::PATCH,
    }
}

async fn of_calendar(
    spec: &api::integrations::Ical,
    feeds: Option<&SecretString>,
    round: &Round,
) -> Found {
    let plan = plan(spec);
    let application = &round.application;
    let fetch = async |request: calendar::Request| application.read(&request).await;
    let mut checked = calendar::check(&plan, &round.calendar, round.clock.now(), fetch).await;
    if let Some(feeds) = feeds {
        checked.replace(of_feeds(feeds, &round.strangers).await);
    }
    Found {
        outcomes: checked.outcomes,
        calendar: checked.memory,
        again: checked.again,
    }
}

/// The calendars that the application imports, by the list of their addresses. Each is asked at its own
/// host, through the guard of addresses, without any mark or credential but its own path.
async fn of_feeds(list: &SecretString, strangers: &net::probe::Probe) -> Outcome {
    let list = match calendar::parse_feeds(list.expose_secret()) {
        Ok(list) => list,
        Err(fault) => return calendar::unreadable(fault),
    };
    for feed in list.iter().flatten() {
        redact::guard(feed.path.clone());
    }
    let fetch = async |feed: calendar::Feed, limit| {
        let ask = Ask {
            door: Door::HTTPS,
            method: Method::GET,
            path: feed.path.expose_secret(),
            limit,
            wanted: &[200],
            any_answer: false,
        };
        strangers.request(&feed.host, &ask, FEED).await
    };
    calendar::feeds(&list, fetch).await
}

/// What of a calendar is checked, and where the application shows what it imports.
fn plan(spec: &api::integrations::Ical) -> calendar::Plan {
    use calendar::Shown;
    let metric = |name: &str| Shown::Metric {
        path: spec.metrics_path.clone(),
        name: name.to_owned(),
        selector: Vec::new(),
    };
    let at = |pointer: Option<&String>| {
        Some(Shown::Status {
            path: spec.status_path.clone()?,
            pointer: Pointer::parse(pointer?).ok()?,
        })
    };
    let path = spec.export_path.clone();
    let mut plan = calendar::Plan::new(path, spec.max_sync_age.get());
    let age = at(spec.sync_age_pointer.as_ref());
    plan.age = age.or_else(|| Some(metric(&spec.sync_age_metric)));
    let events = at(spec.imported_events_pointer.as_ref());
    plan.events = events.or_else(|| spec.imported_events_metric.as_deref().map(metric));
    plan.conflicts = spec.overlaps_metric.as_deref().map(metric);
    plan
}

#[cfg(test)]
mod tests {
    use super::{super::life::tests::outcome, *};

    #[test]
    fn what_waits_for_a_value_says_which_key_of_which_secret() {
        let secret = SecretKeyRef {
            name: "stripe".to_owned(),
            key: "signing".to_owned(),
        };
        let found = vec![outcome("G1", Ended::Waiting), outcome("G2", Ended::Passed)];
        let named = naming(found, &secret);
        let place = "(key signing of the Secret stripe)";
        assert!(named[0].evidence.ends_with(place), "{named:?}");
        assert!(!named[1].evidence.contains(place));
    }
}
