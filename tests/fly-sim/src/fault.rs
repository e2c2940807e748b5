//! What goes wrong, where, and at which occurrence: the fault plan.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::mixture::{Mixture, Mixtures};

/// How a call goes wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Kind {
    /// 429, with this `Retry-After` or without one.
    RateLimited {
        /// Text of the header, also nonsense.
        #[serde(default)]
        retry_after: Option<String>,
    },
    /// Any status and body; with or without having done what was asked.
    Status {
        /// HTTP status.
        status: u16,
        /// JSON body; `{"error": ...}` by default.
        #[serde(default)]
        body: Option<Value>,
        /// Whether the call takes effect.
        #[serde(default)]
        applied: bool,
    },
    /// The connection ends before anything happened.
    ResetBefore,
    /// The connection ends after the effect, before an answer.
    ResetAfter,
    /// The answer ends in the middle of its body, after the effect.
    CutBody,
    /// 408 `deadline_exceeded`, though it was done.
    RequestTimeoutApplied,
    /// It is done, but no answer comes: the connection hangs, then ends.
    TimeoutApplied {
        /// How long it hangs, in ms.
        #[serde(default = "hang")]
        hang_ms: u64,
    },
    /// It is not done, and no answer comes.
    TimeoutNotApplied {
        /// How long it hangs, in ms.
        #[serde(default = "hang")]
        hang_ms: u64,
    },
    /// The request is carried out twice; the client gets the second answer.
    Duplicated,
    /// A list of machines as it was this many mutating calls (on that app) ago.
    StaleList {
        /// How many.
        mutations: usize,
    },
    /// A list comes back empty.
    EmptyList,
    /// 404 for what was created less than this long ago.
    NotFoundAfterCreate {
        /// How long, in ms.
        for_ms: u64,
    },
    /// 422 `insufficient_capacity`: no room in the region.
    Capacity,
    /// 409 `could not reserve resource for machine`: no room on the host.
    CouldNotReserve,
    /// 422 `name_taken`.
    NameTaken,
    /// 422: the organization has reached its machine limit.
    MachineLimit,
    /// A machine update is answered with success, then goes back to the version before.
    SilentRevert,
    /// A write of secrets is answered with success and changes nothing.
    SecretWithoutEffect,
    /// States, statuses and types in the answer are words nobody knows, and there are new fields.
    UnknownEnum,
    /// The machine made or updated by this call takes this much longer to boot, also when it is
    /// restarted later.
    SlowBoot {
        /// How much longer, in ms.
        ms: u64,
    },
    /// Replaces one value in the JSON answer.
    Patch {
        /// JSON pointer.
        pointer: String,
        /// New value.
        value: Value,
    },
    /// A 200 whose body never ends.
    EndlessBody,
    /// A 200 with this many bytes of JSON array.
    HugeBody {
        /// Size in bytes.
        bytes: u64,
    },
    /// A 200 whose body is not UTF-8.
    InvalidUtf8,
    /// The caller's tokens are revoked, from this call on.
    RevokedToken,
    /// Somebody deletes something just before this call: `app`, `machines`, `machine:<id>`,
    /// `volumes`, or a kind that the platform side knows.
    ExternalDeletion {
        /// What.
        target: String,
        /// In which app; that of the call if absent.
        #[serde(default)]
        app: Option<String>,
    },
    /// 503 for this long after the fault was set, whatever the occurrence.
    Down {
        /// How long, in ms.
        for_ms: u64,
    },
    /// Answers normally, this much later.
    Delay {
        /// How much, in ms.
        ms: u64,
    },
}

fn hang() -> u64 {
    120_000
}

impl Kind {
    /// Any status without effect.
    pub fn status(status: u16) -> Self {
        Self::Status {
            status,
            body: None,
            applied: false,
        }
    }

    /// The fixed answers among the kinds: status, body, and whether the call takes effect.
    pub fn canned(&self) -> Option<(u16, Value, bool)> {
        let answer = match self {
            Self::RateLimited { .. } => (429, json!({"error": "rate limit exceeded"}), false),
            Self::Status {
                status,
                body,
                applied,
            } => {
                let body = body
                    .clone()
                    .unwrap_or_else(|| json!({"error": format!("injected status {status}")}));
                (*status, body, *applied)
            }
            Self::RequestTimeoutApplied => (
                408,
                json!({"error": "deadline_exceeded: context deadline exceeded"}),
                true,
            ),
            Self::Capacity => (
                422,
                json!({
                    "error": "could not find a candidate host",
                    "status": "insufficient_capacity",
                }),
                false,
            ),
            Self::CouldNotReserve => (
                409,
                json!({"error": "aborted: could not reserve resource for machine: insufficient \
                    memory available to fulfill request on the current host"}),
                false,
            ),
            Self::NameTaken => (
                422,
                json!({
                    "error": "Validation failed: Name has already been taken",
                    "status": "name_taken",
                }),
                false,
            ),
            Self::MachineLimit => (
                422,
                json!({"error": "Your organization has reached its machine limit. Please contact \
                    billing@fly.io"}),
                false,
            ),
            _ => return None,
        };
        Some(answer)
    }
}

/// One entry of the plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// `METHOD template` or `METHOD path`, with `*` for any text: `POST /v1/apps/{app}/machines`,
    /// `GET /v1/apps/demo/*`, `POST /graphql#createAddOn`, `*`.
    pub endpoint: String,
    /// First and last matching call that it hits, counted from 1 when the fault is set.
    #[serde(default = "first")]
    pub occurrences: (u64, u64),
    /// What happens.
    pub kind: Kind,
}

fn first() -> (u64, u64) {
    (1, 1)
}

impl Fault {
    /// Hits the next matching call, once.
    pub fn new(endpoint: impl Into<String>, kind: Kind) -> Self {
        Self {
            endpoint: endpoint.into(),
            occurrences: first(),
            kind,
        }
    }

    /// Hits these occurrences.
    #[must_use]
    pub fn occurrences(mut self, range: RangeInclusive<u64>) -> Self {
        self.occurrences = (*range.start(), *range.end());
        self
    }

    /// Hits the n-th occurrence.
    #[must_use]
    pub fn nth(self, n: u64) -> Self {
        self.occurrences(n..=n)
    }

    /// Hits every call from now on.
    #[must_use]
    pub fn always(self) -> Self {
        self.occurrences(1..=u64::MAX)
    }
}

#[derive(Debug)]
struct Planned {
    fault: Fault,
    since: Instant,
    seen: u64,
    hit: u64,
}

/// The whole plan.
#[derive(Debug, Default)]
pub struct Faults {
    planned: Mutex<Vec<Planned>>,
    history: Mutex<BTreeMap<String, History>>,
    mixtures: Mixtures,
}

/// The lists of one app's machines after each mutating call, oldest first.
#[derive(Debug, Default)]
struct History {
    lists: Vec<Value>,
    /// The app was there before the first of them: what was listed earlier is not known.
    begins_late: bool,
}

/// A planned fault as control shows it.
#[derive(Clone, Debug, Serialize)]
pub struct Standing {
    /// The fault.
    pub fault: Fault,
    /// Matching calls since it was set.
    pub seen: u64,
    /// Calls that it hit.
    pub hit: u64,
}

impl Faults {
    fn planned(&self) -> std::sync::MutexGuard<'_, Vec<Planned>> {
        self.planned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a fault to the plan.
    pub fn add(&self, fault: Fault) {
        self.planned().push(Planned {
            fault,
            since: Instant::now(),
            seen: 0,
            hit: 0,
        });
    }

    /// Removes all faults.
    pub fn clear(&self) {
        self.mixtures.set(None);
        self.planned().clear();
        self.history
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// The plan.
    pub fn standing(&self) -> Vec<Standing> {
        self.planned()
            .iter()
            .map(|planned| Standing {
                fault: planned.fault.clone(),
                seen: planned.seen,
                hit: planned.hit,
            })
            .collect()
    }

    /// Counts a call against every fault that matches it and returns the kinds that hit.
    pub fn hits(&self, endpoint: &str, call: &str) -> Vec<Kind> {
        let mut kinds = Vec::new();
        for planned in self.planned().iter_mut() {
            let pattern = &planned.fault.endpoint;
            if !matches(pattern, endpoint) && !matches(pattern, call) {
                continue;
            }
            planned.seen += 1;
            let hits = if let Kind::Down { for_ms } = planned.fault.kind {
                planned.since.elapsed() < Duration::from_millis(for_ms)
            } else {
                let (from, to) = planned.fault.occurrences;
                (from..=to).contains(&planned.seen)
            };
            if hits {
                planned.hit += 1;
                kinds.push(planned.fault.kind.clone());
            }
        }
        kinds
    }

    /// Lets calls go wrong at random from now on; `None` ends it.
    pub fn mix(&self, mixture: Option<Mixture>) {
        self.mixtures.set(mixture);
    }

    /// How many calls the mixtures have hit, by kind.
    pub fn mixed(&self) -> BTreeMap<String, u64> {
        self.mixtures.counts()
    }

    /// What the mixture draws for this call of an app.
    pub fn drawn(&self, endpoint: &str, app: Option<&String>) -> Option<Kind> {
        self.mixtures.draw(endpoint, app.map_or("", String::as_str))
    }

    /// Whether lists must be remembered.
    pub fn wants_history(&self) -> bool {
        if self.mixtures.running() {
            return true;
        }
        self.planned()
            .iter()
            .any(|planned| matches!(planned.fault.kind, Kind::StaleList { .. }))
    }

    /// Remembers the list of an app's machines as it is after a mutating call.
    pub fn remember(&self, app: &str, list: Value) {
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let lists = &mut history.entry(app.to_owned()).or_default().lists;
        lists.push(list);
        if lists.len() > 256 {
            lists.remove(0);
        }
    }

    /// Remembers the list of an app that is there before its history begins.
    pub fn begin_history(&self, app: &str, list: Value) {
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.entry(app.to_owned()).or_insert_with(|| History {
            lists: vec![list],
            begins_late: true,
        });
    }

    /// The list as it was `mutations` calls ago. Before the first one it was empty, or, for an app
    /// that was there already, what it is oldest known as.
    pub fn stale(&self, app: &str, mutations: usize) -> Value {
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(History { lists, begins_late }) = history.get(app) else {
            return json!([]);
        };
        let at = lists.len().checked_sub(1 + mutations);
        let known = match at {
            Some(at) => lists.get(at),
            None => lists.first().filter(|_| *begins_late),
        };
        known.cloned().unwrap_or_else(|| json!([]))
    }
}

/// Whether a text matches a pattern in which `*` stands for any text.
pub fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let mut last = None;
    for part in parts {
        if let Some(part) = last.replace(part) {
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
    }
    match last {
        Some(part) => rest.ends_with(part),
        None => rest.is_empty(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_templates_and_paths() {
        assert!(matches("*", "GET /v1/apps"));
        assert!(matches(
            "POST /v1/apps/{app}/machines",
            "POST /v1/apps/{app}/machines"
        ));
        assert!(!matches(
            "POST /v1/apps/{app}/machines",
            "POST /v1/apps/{app}/machines/{id}"
        ));
        assert!(matches("GET *machines*", "GET /v1/apps/demo/machines/1"));
        assert!(matches("* /v1/*/wait", "GET /v1/apps/a/machines/1/wait"));
        assert!(!matches("* /v1/*/wait", "GET /v1/apps/a/machines/1/waits"));
    }

    #[test]
    fn a_fault_hits_the_occurrences_it_names() {
        let faults = Faults::default();
        faults.add(Fault::new("GET /x", Kind::status(500)).occurrences(2..=3));
        let hits: Vec<bool> = (0..4)
            .map(|_| !faults.hits("GET /x", "GET /x").is_empty())
            .collect();
        assert_eq!(hits, [false, true, true, false]);
        assert_eq!(faults.standing()[0].hit, 2);
    }

    #[test]
    fn a_fault_reads_as_documented() {
        let fault: Fault = serde_json::from_value(json!({
            "endpoint": "POST /v1/apps", "occurrences": [1, 2],
            "kind": {"type": "rate_limited", "retry_after": "1"},
        }))
        .unwrap();
        assert_eq!(
            fault.kind,
            Kind::RateLimited {
                retry_after: Some("1".to_owned())
            }
        );
    }
}
