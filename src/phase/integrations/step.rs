//! The step: what is to be verified, what is known of it, and which checks begin now.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{
    application::Application,
    ask::{self, Asked, Set},
    calendar,
    job::{Job, Jobs, Progress},
    life::{Known, Subject, is_requested, stands},
    report::{self, Context},
    sets::Round,
};
use crate::{
    api::{
        Duration as Interval, Reason,
        policy::Mode,
        status::{IntegrationState, IntegrationStatus},
    },
    phase::{app_secrets, names::public_host, releases::store},
    pipeline::{
        ChangeVerb, Cx, Note, PlannedChange, Step, StepId, Verdict, Wake, Why, step::Result,
    },
    plan::Target,
};

/// Verifies the integrations.
pub struct IntegrationChecks;

/// Journal: what this process knows of each integration, by its name.
#[derive(Clone, Debug, Default)]
struct Found(BTreeMap<String, Known>);

/// Journal: what the last round of the calendar remembered.
#[derive(Clone, Debug, Default)]
struct Calendar(calendar::Memory);

/// What was found of one integration.
#[derive(Debug)]
struct Seen {
    /// Its entry in the status, without times.
    entry: IntegrationStatus,
    /// When it was last verified.
    verified: Option<Timestamp>,
    /// The time until it needs a look.
    pause: Duration,
}

/// What was found of all integrations.
#[derive(Debug, Default)]
pub struct Observed {
    /// One for each.
    entries: Vec<Seen>,
    /// The time until one of them needs a look.
    pause: Duration,
}

/// The release that serves, as checks see it.
struct Serving {
    application: Application,
    /// Hash of the values that the application got.
    secrets: String,
    release: u64,
}

async fn serving(cx: &Cx) -> Result<Option<Serving>> {
    let records = store::load(cx).await?;
    let serving = records.serving_record();
    Ok(serving.map(|record| {
        let host = public_host(&cx.target.app);
        let probe = cx.probe.clone();
        Serving {
            application: Application::new(probe, host, &cx.owner.name, record.number),
            secrets: app_secrets::digest_of(&app_secrets::records(cx)),
            release: record.number,
        }
    }))
}

impl Serving {
    fn subject(&self, asked: &Asked, requests: u64) -> Subject {
        let host = self.application.host();
        let parts = [&self.secrets, host, &asked.digest];
        Subject::of(self.release, requests, &parts)
    }
}

/// The look at all integrations in this pass.
struct Look<'a> {
    cx: &'a Cx,
    serving: &'a Serving,
    interval: Interval,
    now: Instant,
}

impl Look<'_> {
    /// One integration: picks up what its checks found, and begins them when they are due.
    fn at(&self, asked: &Asked) -> Seen {
        let cx = self.cx;
        let subject = self.serving.subject(asked, cx.requests);
        let mut told = cx.recorded.integrations.iter();
        let told = told.find(|told| told.name == asked.name);
        let found = cx.journal.get::<Found>().unwrap_or_default();
        let mut known = found.0.get(&asked.name).cloned();
        let running = self.pick_up(asked, &subject, &mut known);
        let requested = is_requested(known.as_ref(), told, &subject);
        if known.is_none() && !requested && is_verified(told, &subject) {
            let uid = &cx.owner.uid;
            known = Some(Known::standing(
                subject.clone(),
                self.interval,
                uid,
                self.now,
            ));
        }
        let pause = self.begin(asked, &subject, known.as_ref(), running);
        let spec = cx.target.integrations.as_deref();
        let context = Context {
            owner: spec.and_then(|spec| spec.owner.as_deref()),
            namespace: &cx.owner.namespace,
            told,
        };
        let entry = IntegrationStatus {
            requested,
            ..report::entry(asked, known.as_ref(), &subject, context)
        };
        let same = |known: &&Known| known.subject.fingerprint == subject.fingerprint;
        let verified = known.as_ref().filter(same);
        let verified = verified.and_then(|known| known.verified);
        if let Some(known) = known {
            let name = asked.name.clone();
            cx.journal
                .change_or_default::<Found>(|found| drop(found.0.insert(name, known)));
        }
        Seen {
            entry,
            verified,
            pause,
        }
    }

    /// Begins the checks if they are due. Returns the time until the integration needs a look; a new
    /// value of a Secret and the end of checks that are under way start a pass before that.
    fn begin(
        &self,
        asked: &Asked,
        subject: &Subject,
        known: Option<&Known>,
        running: bool,
    ) -> Duration {
        let cx = self.cx;
        let timing = &cx.installation.timing;
        let Some(set) = asked.set.as_ref().filter(|_| !running) else {
            return timing.recheck;
        };
        let known = known.filter(|known| known.subject == *subject);
        let due = known.map_or(Duration::ZERO, |known| {
            known.due(self.interval, timing, self.now)
        });
        if !due.is_zero() || !cx.fence.open() {
            return due.max(timing.poll);
        }
        let calendar = cx.journal.get::<Calendar>().unwrap_or_default();
        let round = Round {
            application: self.serving.application.clone(),
            vendors: cx.vendors.clone(),
            clock: cx.installation.clock.clone(),
            calendar: calendar.0.clone(),
            strangers: cx.probe.for_strangers(),
        };
        let job = Job::start(cx, set.clone(), round, subject.clone());
        let name = asked.name.clone();
        cx.journal
            .change_or_default::<Jobs>(|jobs| drop(jobs.0.insert(name, job)));
        timing.recheck
    }

    /// Picks up what the checks found, if they have ended. Returns whether checks of this subject are
    /// under way; those of another one end.
    fn pick_up(&self, asked: &Asked, subject: &Subject, known: &mut Option<Known>) -> bool {
        let cx = self.cx;
        let jobs = cx.journal.get::<Jobs>().unwrap_or_default();
        let Some(job) = jobs.0.get(&asked.name) else {
            return false;
        };
        let same = job.subject == *subject;
        // Before it is asked how far it is: it may end in between.
        job.wake_with(cx.waker.clone());
        match job.progress() {
            Progress::Running if same => return true,
            Progress::Ended(found) if same => {
                if matches!(asked.set, Some(Set::Ical { .. })) {
                    cx.journal.set(Calendar(found.calendar));
                }
                let at = (self.now, cx.now());
                let mut after = Known::after(known.as_ref(), found.outcomes, subject.clone(), at);
                after.again = found.again;
                *known = Some(after);
            }
            Progress::Running | Progress::Ended(_) | Progress::Dropped => job.drop_it(),
        }
        cx.journal
            .change::<Jobs>(|jobs| drop(jobs.0.remove(&asked.name)));
        false
    }
}

/// Whether the status says that this very subject is verified.
fn is_verified(told: Option<&IntegrationStatus>, subject: &Subject) -> bool {
    stands(told, subject).is_some_and(|told| told.state == IntegrationState::Verified)
}

/// Forgets what is no longer asked for, and ends its checks.
fn forget_others(cx: &Cx, asked: &[Asked]) {
    let is_asked = |name: &String| asked.iter().any(|asked| asked.name == *name);
    cx.journal.change::<Jobs>(|jobs| {
        jobs.0.retain(|name, job| {
            if !is_asked(name) {
                job.drop_it();
            }
            is_asked(name)
        });
    });
    cx.journal
        .change::<Found>(|found| found.0.retain(|name, _| is_asked(name)));
}

impl Step for IntegrationChecks {
    type Observed = Observed;
    type Change = Infallible;

    fn id(&self) -> StepId {
        StepId::IntegrationChecks
    }

    /// It asks the application and vendors.
    fn reads(&self) -> u32 {
        0
    }

    fn expected(&self, cx: &Cx) -> Vec<PlannedChange> {
        let asked = ask::all(&cx.target, &cx.refs, &cx.installation.fingerprint_key);
        let names = asked.iter().map(|asked| asked.name.as_str());
        let verify = PlannedChange::of_all(ChangeVerb::Verify, "Integration", names);
        (verify.count > 0).then_some(verify).into_iter().collect()
    }

    async fn observe(&self, cx: &Cx) -> Result<Observed> {
        let asked = ask::all(&cx.target, &cx.refs, &cx.installation.fingerprint_key);
        forget_others(cx, &asked);
        let mut observed = Observed {
            pause: cx.installation.timing.recheck,
            ..Observed::default()
        };
        if cx.target.mode == Mode::Plan {
            // Those that began before send nothing more.
            cx.journal.change::<Jobs>(Jobs::end);
        }
        if cx.target.mode == Mode::Plan || asked.is_empty() {
            return Ok(observed);
        }
        let Some(serving) = serving(cx).await? else {
            return Ok(observed);
        };
        let spec = cx.target.integrations.as_deref();
        let look = Look {
            cx,
            serving: &serving,
            interval: spec.map(|spec| spec.interval).unwrap_or_default(),
            now: Instant::now(),
        };
        for asked in &asked {
            let seen = look.at(asked);
            observed.pause = observed.pause.min(seen.pause);
            observed.entries.push(seen);
        }
        Ok(observed)
    }

    fn diff(&self, target: &Target, observed: &Observed, _now: Timestamp) -> Verdict<Infallible> {
        if target.integrations.is_none() {
            return Verdict::Skipped(Why::new(Reason::NotRequested, "no `integrations`"));
        }
        if target.mode == Mode::Plan {
            return Verdict::Wait {
                why: Why::new(
                    Reason::Planned,
                    "no request is sent to the application while `mode` is Plan",
                ),
                wake: Wake::After(observed.pause),
            };
        }
        let entries: Vec<&IntegrationStatus> =
            observed.entries.iter().map(|seen| &seen.entry).collect();
        if entries.is_empty() {
            return Verdict::Wait {
                why: Why::new(Reason::Pending, "no release is on record that serves"),
                wake: Wake::Poll,
            };
        }
        report::verdict(&entries, observed.pause)
    }

    fn notes(&self, _target: &Target, observed: &Observed) -> Vec<Note> {
        let entries = observed.entries.iter();
        entries
            .map(|seen| Note::Integration(Box::new(seen.entry.clone()), seen.verified))
            .collect()
    }

    async fn act(&self, _cx: &Cx, change: Infallible) -> Result<()> {
        match change {}
    }
}
