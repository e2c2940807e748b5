//! The guard of what serves. While the spec cannot be brought live (it is invalid, waits for an
//! approval, is only planned, failed or was rolled back) the release that serves is kept and proven
//! as before: its machines, addresses, certificates and secrets, the checks from the public edge, and the
//! integrations that it went live with.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::ready,
    sync::Arc,
    time::Instant,
};

use futures::FutureExt;

use crate::{
    api::{
        Activation, ActivationStatus, PhaseName, StepId,
        policy::{DriftPolicy, GatedPhase, Mode},
    },
    error::Error,
    fly,
    phase::{
        KEPT, KEPT_DATABASE, KEPT_REDIS, KEPT_SECRETS, PROOF, PROOF_FROM_OUTSIDE, VERIFIED,
        WATCHED, breach, estimate, integrations, observe,
        provision::kept_secrets::Needed,
        release_secrets,
        releases::{
            record::Record,
            records::Records,
            store::{self, Place},
        },
        roster, smoke_test,
    },
    pipeline::{
        Act, Care, Cx, Phase, State,
        advance::BoxFuture,
        announce::{Announced, Announcer},
        observations::Observations,
        report::{PhaseProgress, Report},
        run,
    },
    plan::{
        ServedSpec, ServingRelease, Target, named,
        refs::Refs,
        serving::{self, Served},
    },
    reconcile::{
        begin::{self, Pass},
        memory::Memory,
    },
    status::{self, Proof, Runs, Site, cannot_observe},
};

/// What the release that serves needs beside the pass over the spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: the pass has proven it.
    Nothing,
    /// The proof alone: the pass looks after the machines.
    Prove,
    /// To be kept, except for what the pass looks after as the spec asks now: two that ask for different
    /// hostnames or values would undo each other's work.
    Keep {
        /// Its addresses and certificates too.
        places: bool,
        /// These of its secrets too.
        secrets: Secrets,
    },
}

/// Secrets of the release that serves that the pass over the spec does not look after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrets {
    /// All.
    All,
    /// At most the addresses of the database and of Redis, which have steps of their own.
    Addresses {
        /// That of the database.
        database: bool,
        /// That of Redis.
        redis: bool,
    },
}

impl Need {
    /// Everything.
    const KEEP: Self = Self::Keep {
        places: true,
        secrets: Secrets::All,
    };
}

/// What the release that serves needs after this pass over the spec. `is_wanted` says that the spec
/// asks for the release that serves; `waiting` are the steps of Provision that leave their secrets to
/// Deploy, and `Promote` while it has secrets to remove. Pure.
pub fn need(
    report: &Report,
    is_wanted: bool,
    act: Act,
    reporting_drift: bool,
    waiting: &BTreeSet<StepId>,
) -> Need {
    let reached = |name| report.phase(name).filter(|phase| phase.is_reached());
    if report.live() || (is_wanted && reached(PhaseName::SmokeTest).is_some()) {
        return Need::Nothing;
    }
    let state = |name, id| {
        let steps = reached(name).map(|phase| phase.steps.iter());
        let mut steps = steps.into_iter().flatten();
        let record = steps.find(|(step, _)| *step == id);
        record.map_or(State::Pending, |(_, record)| record.state.clone())
    };
    let looks_after = |name, id| state(name, id) != State::Pending;
    // A step that is stopped looks after nothing: one lost value holds up all of them. Nor does one that
    // leaves its secrets to Deploy, until Deploy has set them.
    let are_set = state(PhaseName::Deploy, StepId::SetSecrets).satisfied();
    let rests = |id| {
        let state = state(PhaseName::Provision, id);
        let waits = !are_set && waiting.contains(&id);
        waits || matches!(state, State::Pending | State::Blocked)
    };
    // Those that the wanted release is without are secrets of the one that serves alone, until it serves no more.
    let has_more = waiting.contains(&StepId::Promote);
    let machines = looks_after(PhaseName::Deploy, StepId::Machines);
    let places = [StepId::Addresses, StepId::Certificates];
    let places = places.map(|id| looks_after(PhaseName::Provision, id));
    let unobservable = report.phases.iter().any(cannot_observe);
    match act {
        _ if unobservable || reporting_drift => Need::Prove,
        Act::Apply if machines => Need::Prove,
        Act::Apply => Need::Keep {
            places: places != [true, true],
            secrets: if has_more || rests(StepId::Secrets) {
                Secrets::All
            } else {
                Secrets::Addresses {
                    database: rests(StepId::Attach),
                    redis: rests(StepId::Redis),
                }
            },
        },
        Act::Plan => Need::KEEP,
    }
}

/// After a pass over the spec: keeps and proves what serves, as far as the pass has not.
///
/// # Errors
/// When Kubernetes could not be read.
pub async fn after(
    pass: &Pass<'_>,
    memory: &mut Memory,
    (cx, report): (&Cx, &Report),
    reporting_drift: bool,
) -> Result<Option<Site>, Error> {
    if report.live() {
        memory.kept = None;
        memory.moved = false;
        memory.also_needed.clear();
        breach::forget_restored(&cx.journal);
        return Ok(None);
    }
    let records = store::load(cx).await?;
    // The spec may ask for the same release, and for other checks of it: the checks that it went
    // live with say whether the site answers.
    let served = ServedSpec::of(&cx.target);
    let is_wanted = records.is_proven_as(&served);
    let waiting = release_secrets::waiting_steps(cx);
    let need = need(report, is_wanted, cx.act, reporting_drift, &waiting);
    let machines = runs(cx, &records);
    let wanted = Some((cx, report));
    let moved = machines != Runs::Serving || was_gone(cx, memory.kept.as_ref());
    let was_moved = std::mem::replace(&mut memory.moved, moved);
    if let Some(kept) = &mut memory.kept {
        look_again(kept, moved, was_moved);
    }
    let site = guard(pass, memory, (&cx.refs, wanted), (&records, need)).await?;
    let is_gone = site
        .as_ref()
        .is_some_and(|site| site.machines == Runs::Gone);
    memory.moved |= is_gone;
    Ok(site.map(|site| Site {
        machines: if is_gone { Runs::Gone } else { machines },
        proves_wanted: is_wanted,
        ..site
    }))
}

/// Has the proof made again, however long ago the last one was, while it is one of machines that run something else
/// (`moved`). At the first pass at which the release serves again it begins anew: what had failed was another
/// release, and how often and when that was tried says nothing of this one.
fn look_again(kept: &mut Observations, moved: bool, was_moved: bool) {
    let now = Instant::now();
    for step in PROOF.iter().flat_map(|phase| phase.steps) {
        if moved && let Some(record) = kept.steps.get_mut(&step.id()) {
            record.again = record.again.map(|again| again.min(now));
        }
        if was_moved && !moved {
            kept.steps.remove(&step.id());
        }
    }
    if was_moved && !moved {
        smoke_test::look_anew(&kept.facts);
    }
}

/// Whether nothing of the application is left, before this pass looks at what serves.
fn was_gone(cx: &Cx, kept: Option<&Observations>) -> bool {
    let kept = kept.map(|kept| &*kept.facts);
    let looks = [&*cx.facts].into_iter().chain(kept);
    cx.target.proof.runs && roster::is_gone(looks, &cx.journal)
}

/// What the machines run, as the pass over the spec has observed them.
fn runs(cx: &Cx, records: &Records) -> Runs {
    let serving = records.serving_record();
    let runs = serving.and_then(|record| {
        let digest = &record.content.digest;
        roster::runs(&cx.facts, &record.key, digest)
    });
    let replaced = runs == Some(false);
    match records.latest() {
        _ if !replaced => Runs::Serving,
        Some(latest) if latest.is_left() => Runs::Another,
        _ => Runs::Replacing,
    }
}

/// Keeps and proves what serves, beside a spec that cannot be parsed.
///
/// # Errors
/// When Kubernetes could not be read.
pub async fn beside_invalid(
    pass: &Pass<'_>,
    memory: &mut Memory,
    refs: &Arc<Refs>,
) -> Result<Option<Site>, Error> {
    let place = Place {
        kube: &pass.context.kube,
        own_namespace: &pass.context.installation.own_namespace,
        uid: &pass.owner.uid,
    };
    let wanted = &memory.wanted;
    let records = store::load_at(place, &wanted.facts, &wanted.journal).await?;
    guard(pass, memory, (refs, None), (&records, Need::KEEP)).await
}

/// Re-checks without a decision after which nothing is known of what serves.
const FORGOTTEN_AFTER: u32 = 3;

/// Whether the proof of what serves was not decided for longer than a few re-checks. Takes note of a
/// decision of this pass.
pub fn is_unproven(
    pass: &Pass<'_>,
    memory: &mut Memory,
    report: Option<&Report>,
    site: Option<&Site>,
) -> bool {
    let report = site.map(|site| &site.report).or(report);
    let smoke_test = report.and_then(|report| report.phase(PhaseName::SmokeTest));
    let made = smoke_test.filter(|phase| phase.progress != PhaseProgress::Pending);
    if made.is_some_and(|phase| status::proof(phase) != Proof::Open) {
        memory.proven_at = Instant::now();
    }
    let limit = pass.context.installation.timing.recheck * FORGOTTEN_AFTER;
    memory.proven_at.elapsed() > limit
}

async fn guard(
    pass: &Pass<'_>,
    memory: &mut Memory,
    (refs, spec): (&Arc<Refs>, Option<(&Cx, &Report)>),
    (records, need): (&Records, Need),
) -> Result<Option<Site>, Error> {
    let wanted = &memory.wanted;
    let kept = memory.kept.take();
    let Some(serving) = records.serving_record().filter(|_| need != Need::Nothing) else {
        return Ok(None);
    };
    let Some(release) = ServingRelease::of_release(&serving.status()) else {
        return Ok(None);
    };
    let mut kept = kept.unwrap_or_else(|| Observations::beside(wanted));
    store::share(&wanted.facts, &kept.facts);
    let (target, has_token) = target(pass, serving, refs);
    kept.requests = wanted.requests;
    let mut checks = target.proof.checks.iter();
    let from_outside = checks.any(|smoke| smoke.check.database.is_none());
    let cx = cx(pass, &mut kept, (target, refs.clone()));
    memory.cost = Some(estimate(&cx));
    // A record of an older version does not say how many machines there were, and where.
    let need = match serving.content.served {
        Some(_) => need,
        None => Need::Prove,
    };
    let tables = tables(need, has_token, from_outside);
    let key = &pass.context.installation.fingerprint_key;
    let asked = integrations::asked(&cx.target, refs, key);
    kept.ask(StepId::IntegrationChecks, asked);
    kept.ask(StepId::Objectives, observe::asked(&cx.target));
    let mut report = Report::default();
    for table in tables {
        add(&mut report, table, &cx, &mut kept).await?;
    }
    let of_spec = spec.map(|(cx, _)| &*cx.facts);
    let only = roster::runs_only([&*cx.facts].into_iter().chain(of_spec), &serving.key);
    let asks = may_ask(pass.activation, pass.old.as_ref(), serving.number);
    let verified = cx.target.integrations.as_deref().filter(|_| asks);
    let secrets = verified.map(named::secrets_of).unwrap_or_default();
    let asks = asks && are_read(&secrets, refs.versions());
    if let Some(machines) = of_spec.and_then(roster::last_seen) {
        observe::note_machines(&cx.journal, machines);
    }
    if only == Some(true) {
        breach::note_restored(&cx.journal, serving.number);
    }
    if asks && has_token && stands_still(only, &report, spec.map(|(_, report)| report)) {
        add(&mut report, VERIFIED, &cx, &mut kept).await?;
    }
    if has_token && cx.target.observe.is_some() && pass.activation.spec.mode != Mode::Plan {
        add(&mut report, WATCHED, &cx, &mut kept).await?;
    }
    pass.ensure_waits(&kept, Some(&memory.wanted), &cx.fly);
    let needed = kept.facts.get::<Needed>().unwrap_or_default();
    memory.also_needed = needed.0.union(&secrets).cloned().collect();
    let facts = [&*cx.facts].into_iter().chain(of_spec);
    let is_gone = cx.target.proof.runs && roster::is_gone(facts, &cx.journal);
    memory.kept = Some(kept);
    Ok(Some(Site {
        release,
        report,
        reporting_drift: cx.act == Act::Plan,
        machines: if is_gone { Runs::Gone } else { Runs::Serving },
        proves_wanted: false,
    }))
}

/// Runs these phases, and adds what they found to the report.
async fn add(
    report: &mut Report,
    table: &'static [Phase],
    cx: &Cx,
    kept: &mut Observations,
) -> Result<(), Error> {
    let run = run::run(cx, table, kept, &AtTheEnd, |_| None, ready(Ok(())));
    let part = Box::pin(run).await?;
    report.sent.extend(part.sent);
    report.phases.extend(part.phases);
    Ok(())
}

/// Whether signed requests may be sent to this release: not while only plans are made, and behind a gate
/// only to a release for which it was opened. Pure.
fn may_ask(activation: &Activation, old: Option<&ActivationStatus>, release: u64) -> bool {
    let spec = &activation.spec;
    let mut gates = spec.gates.iter();
    let gated = gates.any(|gate| gate.before == GatedPhase::Integrations);
    let mut entries = old.into_iter().flat_map(|old| &old.integrations);
    let number = i64::try_from(release).ok();
    let was_asked = entries.any(|entry| entry.release.is_some() && entry.release == number);
    spec.mode != Mode::Plan && (!gated || was_asked)
}

/// Whether this pass has looked for these Secrets. The spec may name others: then the next pass reads them,
/// and one that was not looked for is not missing. Pure.
fn are_read(secrets: &BTreeSet<String>, read: &BTreeMap<String, Option<String>>) -> bool {
    secrets.iter().all(|name| read.contains_key(name))
}

/// Whether a look at the application is one at the release that serves: its machines run that release and
/// no other (`only`), and neither the pass over the spec nor the guard has sent a change or could not
/// observe. Pure.
fn stands_still(only: Option<bool>, site: &Report, spec: Option<&Report>) -> bool {
    let mut reports = [Some(site), spec].into_iter().flatten();
    let still =
        |report: &Report| report.sent.is_empty() && !report.phases.iter().any(cannot_observe);
    only == Some(true) && reports.all(still)
}

/// Ends the looks at the application if neither the pass over the spec nor the guard came to the
/// integrations: something moves, or is not known.
pub fn end_looks(memory: &mut Memory, spec: Option<&Report>, site: Option<&Site>) {
    let site = site.map(|site| &site.report);
    let mut reports = [spec, site].into_iter().flatten();
    if !reports.any(integrations::are_reached) {
        memory.end_looks();
    }
}

/// What is run for this need, in this order.
fn tables(need: Need, has_token: bool, from_outside: bool) -> Vec<&'static [Phase]> {
    let (machines, around) = KEPT.split_at(1);
    match (need, has_token) {
        // Without checks from outside there is nothing that could be proven without a token.
        (_, false) if !from_outside => Vec::new(),
        (_, false) => vec![PROOF_FROM_OUTSIDE],
        (Need::Keep { places, secrets }, true) => {
            let secrets = match secrets {
                Secrets::All => [Some(KEPT_SECRETS), None],
                Secrets::Addresses { database, redis } => [
                    database.then_some(KEPT_DATABASE),
                    redis.then_some(KEPT_REDIS),
                ],
            };
            let kept = [Some(machines), places.then_some(around)];
            let kept = kept.into_iter().chain(secrets).flatten();
            kept.chain([PROOF]).collect()
        }
        _ => vec![PROOF],
    }
}

/// The target of the release that serves, and whether there is a token for it.
fn target(pass: &Pass<'_>, serving: &Record, refs: &Refs) -> (Arc<Target>, bool) {
    let content = &serving.content;
    let served = Served {
        spec: content.served.as_ref(),
        config: content.config.as_deref(),
        port: content.port,
        pinned: &content.pinned,
    };
    let key = &pass.context.installation.fingerprint_key;
    match serving::target(pass.activation, &served, refs, key) {
        Ok(target) => (Arc::new(target), true),
        Err(_) => {
            let token = (fly::Token::none(), &**key);
            let target = serving::target_with(pass.activation, &served, refs, token);
            (Arc::new(target), false)
        }
    }
}

/// What every step gets that keeps what serves.
fn cx(pass: &Pass<'_>, kept: &mut Observations, (target, refs): (Arc<Target>, Arc<Refs>)) -> Cx {
    let drift = pass.activation.spec.drift;
    let cx = begin::cx_for(pass, kept, (target, refs), drift == DriftPolicy::Report);
    Cx {
        care: Care::Serving,
        ..cx
    }
}

/// Announces no create in the middle of the pass: the status at its end does.
struct AtTheEnd;

impl Announcer for AtTheEnd {
    fn announce(&self, _report: Report, _intents: Announced) -> BoxFuture<'_, Announced> {
        ready(Vec::new()).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::Reason,
        phase::PHASES,
        pipeline::{
            ChangeKind, StepRecord, change::Sent, observations::Fired, report::PhaseReport,
        },
    };

    /// A report with these phases; those that are not named come before them and are done, or come
    /// after them and are not reached.
    fn report(phase: PhaseName, progress: PhaseProgress, steps: &[(StepId, State)]) -> Report {
        let phases = PHASES.iter().map(|line| {
            let reached = match line.id {
                id if id == phase => progress,
                id if id < phase => PhaseProgress::Succeeded,
                _ => PhaseProgress::Pending,
            };
            let state = |id: StepId| {
                let named = steps.iter().find(|(step, _)| *step == id);
                match (named, reached) {
                    (Some((_, state)), _) => state.clone(),
                    (None, PhaseProgress::Succeeded) => State::Done,
                    (None, _) => State::Pending,
                }
            };
            let record = |id| StepRecord {
                state: state(id),
                reason: Reason::Waiting,
                ..StepRecord::pending("s")
            };
            PhaseReport {
                id: line.id,
                progress: reached,
                gate: None,
                steps: line
                    .steps
                    .iter()
                    .map(|s| (s.id(), record(s.id())))
                    .collect(),
            }
        });
        Report {
            sent: Vec::new(),
            phases: phases.collect(),
            ahead: Vec::new(),
            unknown: Vec::new(),
        }
    }

    #[test]
    fn what_serves_is_kept_unless_the_pass_over_the_spec_looks_after_its_machines() {
        use PhaseName::{Deploy, Preflight, Provision, SmokeTest};
        use PhaseProgress::{AwaitingApproval, Failed, Planned, Running};
        let machines = |state| [(StepId::Machines, state)];
        let image = [(StepId::Image, State::Blocked)];
        let lost_value = [
            (StepId::Addresses, State::Done),
            (StepId::Certificates, State::Done),
            (StepId::Secrets, State::Blocked),
        ];
        let no_database = [
            (StepId::Addresses, State::Done),
            (StepId::Certificates, State::Done),
            (StepId::Secrets, State::Done),
            (StepId::Redis, State::Done),
            (StepId::Attach, State::Pending),
        ];
        let machines_alone = Need::Keep {
            places: false,
            secrets: Secrets::Addresses {
                database: false,
                redis: false,
            },
        };
        let cases = [
            // A check fails, a gate waits, a plan is made, an image is not there: kept.
            (report(Preflight, Failed, &[]), Act::Apply, Need::KEEP),
            (report(Provision, Running, &[]), Act::Apply, Need::KEEP),
            (
                report(Deploy, AwaitingApproval, &machines(State::Done)),
                Act::Apply,
                machines_alone,
            ),
            // A value of the spec is lost, and its step looks after no other.
            (
                report(Provision, Running, &lost_value),
                Act::Apply,
                Need::Keep {
                    places: false,
                    secrets: Secrets::All,
                },
            ),
            (
                report(Provision, Running, &no_database),
                Act::Apply,
                Need::Keep {
                    places: false,
                    secrets: Secrets::Addresses {
                        database: true,
                        redis: false,
                    },
                },
            ),
            (
                report(Deploy, Planned, &machines(State::Planned)),
                Act::Plan,
                Need::KEEP,
            ),
            (report(Deploy, Failed, &image), Act::Apply, machines_alone),
            // An update is under way, or an earlier release is restored: proven only.
            (
                report(Deploy, Running, &machines(State::Waiting)),
                Act::Apply,
                Need::Prove,
            ),
            (
                report(Deploy, Failed, &machines(State::Done)),
                Act::Apply,
                Need::Prove,
            ),
            (report(SmokeTest, Running, &[]), Act::Apply, Need::Prove),
        ];
        for (index, (report, act, expected)) in cases.iter().enumerate() {
            let need = need(report, false, *act, false, &BTreeSet::new());
            assert_eq!(need, *expected, "case {index}");
        }
    }

    #[test]
    fn secrets_that_wait_for_deploy_are_kept_as_the_release_has_them_until_they_are_set() {
        use PhaseName::{Deploy, Provision};
        use PhaseProgress::{AwaitingApproval, Failed, Running};
        let need = |report: &Report, waiting: &[StepId]| {
            need(
                report,
                false,
                Act::Apply,
                false,
                &waiting.iter().copied().collect(),
            )
        };
        let keep = |secrets| Need::Keep {
            places: false,
            secrets,
        };
        let addresses = |database, redis| keep(Secrets::Addresses { database, redis });
        let gate = report(Deploy, AwaitingApproval, &[]);
        assert_eq!(need(&gate, &[]), addresses(false, false));
        assert_eq!(need(&gate, &[StepId::Secrets]), keep(Secrets::All));
        assert_eq!(need(&gate, &[StepId::Attach]), addresses(true, false));
        assert_eq!(need(&gate, &[StepId::Redis]), addresses(false, true));
        // Nor are they set while the image is not there, or something else of Provision is.
        let image = report(Deploy, Failed, &[(StepId::Image, State::Blocked)]);
        assert_eq!(need(&image, &[StepId::Secrets]), keep(Secrets::All));
        let done = |id| (id, State::Done);
        let steps = [StepId::Addresses, StepId::Certificates, StepId::Secrets].map(done);
        let provision = report(Provision, Running, &steps);
        assert_eq!(need(&provision, &[StepId::Secrets]), keep(Secrets::All));
        // Deploy has set them, and its release command fails.
        let steps = [
            (StepId::SetSecrets, State::Done),
            (StepId::ReleaseCommand, State::Blocked),
        ];
        let command = report(Deploy, Failed, &steps);
        assert_eq!(need(&command, &[StepId::Secrets]), addresses(false, false));
        // The spec drops one, which the release that serves needs as long as it serves.
        assert_eq!(
            need(&command, &[StepId::Secrets, StepId::Promote]),
            keep(Secrets::All)
        );
    }

    #[test]
    fn nothing_is_kept_beside_a_spec_that_is_live_or_whose_own_checks_are_made() {
        let live = report(PhaseName::Observe, PhaseProgress::NotImplemented, &[]);
        let none = BTreeSet::new();
        assert_eq!(need(&live, true, Act::Apply, false, &none), Need::Nothing);
        let failing = report(PhaseName::SmokeTest, PhaseProgress::Failed, &[]);
        assert_eq!(
            need(&failing, true, Act::Apply, false, &none),
            Need::Nothing
        );
    }

    #[test]
    fn integrations_are_verified_only_while_nothing_but_what_serves_runs_and_nothing_moves() {
        use PhaseName::{Deploy, Preflight, Provision};
        use PhaseProgress::{AwaitingApproval, Failed, Running};
        let image = [(StepId::Image, State::Blocked)];
        let lost = [(StepId::App, State::Retrying { observing: true })];
        let waits = report(Deploy, AwaitingApproval, &[]);
        let typo = report(Deploy, Failed, &image);
        let still = |only, site: &Report, spec: Option<&Report>| stands_still(only, site, spec);
        let site = report(PhaseName::SmokeTest, PhaseProgress::Succeeded, &[]);
        assert!(still(Some(true), &site, Some(&waits)));
        assert!(still(Some(true), &site, Some(&typo)));
        assert!(still(Some(true), &site, None), "the spec is invalid");
        assert!(
            !still(Some(false), &site, Some(&waits)),
            "another release runs too"
        );
        assert!(!still(None, &site, Some(&waits)), "nobody has looked");
        let unobservable = report(Provision, Running, &lost);
        assert!(!still(Some(true), &site, Some(&unobservable)));
        assert!(!still(Some(true), &unobservable, None));
        let mut moves = report(Preflight, Failed, &[]);
        moves.sent.push(Sent {
            step: StepId::Machines,
            line: "create".to_owned(),
            kind: ChangeKind::Ordinary,
        });
        assert!(
            !still(Some(true), &moves, None),
            "a machine is being replaced"
        );
    }

    #[test]
    fn what_fired_for_a_table_is_not_taken_by_another_one_that_runs_before_it() {
        let fired = Fired::default();
        fired.fire(StepId::IntegrationChecks);
        fired.fire(StepId::EdgeChecks);
        assert_eq!(fired.take(PROOF), [StepId::EdgeChecks].into());
        assert_eq!(fired.take(VERIFIED), [StepId::IntegrationChecks].into());
        fired.fire(StepId::IntegrationChecks);
        assert_eq!(fired.take(PHASES).len(), 1);
        assert!(fired.take(PHASES).is_empty());
    }

    #[test]
    fn signed_requests_go_to_what_serves_only_if_its_gate_was_opened_for_it() {
        let spec = |more: serde_json::Value| {
            let mut spec = serde_json::json!({
                "organization": "o", "app": "shop", "region": "eze", "deploy": {"image": "x:1"},
            });
            for (key, value) in more.as_object().into_iter().flatten() {
                spec[key] = value.clone();
            }
            let object = serde_json::json!({"metadata": {"name": "shop"}, "spec": spec});
            serde_json::from_value(object).unwrap_or_else(|error| unreachable!("{error}"))
        };
        let asked = |release: i64| {
            let status =
                serde_json::json!({"integrations": [{"name": "ical", "release": release}]});
            serde_json::from_value::<ActivationStatus>(status).ok()
        };
        let open: Activation = spec(serde_json::json!({}));
        assert!(may_ask(&open, None, 2));
        let planned: Activation = spec(serde_json::json!({"mode": "Plan"}));
        assert!(!may_ask(&planned, asked(2).as_ref(), 2));
        let gates = serde_json::json!({"gates": [{"before": "Integrations"}]});
        let gated: Activation = spec(gates);
        assert!(!may_ask(&gated, None, 2), "nobody has approved");
        assert!(
            !may_ask(&gated, asked(1).as_ref(), 2),
            "it was for another release"
        );
        assert!(may_ask(&gated, asked(2).as_ref(), 2));
    }

    #[test]
    fn a_secret_of_what_serves_that_the_spec_does_not_name_is_read_before_it_can_be_missing() {
        let integrations = serde_json::json!({"whatsapp": {
            "path": "/w",
            "verifyTokenSecretRef": {"name": "then", "key": "token"},
            "appSecretRef": {"name": "then", "key": "secret"},
        }, "ical": {"exportPath": "/x.ics", "feedsSecretRef": {"name": "feeds", "key": "list"}}});
        let integrations = serde_json::from_value(integrations);
        let integrations = integrations.unwrap_or_else(|error| unreachable!("{error}"));
        let secrets = named::secrets_of(&integrations);
        assert_eq!(secrets, ["feeds".to_owned(), "then".to_owned()].into());
        let version = |name: &str| (name.to_owned(), Some("7".to_owned()));
        let mut read: BTreeMap<_, _> = [version("fly"), version("feeds")].into();
        assert!(!are_read(&secrets, &read), "nobody has looked for it");
        read.insert("then".to_owned(), None);
        assert!(are_read(&secrets, &read), "it is not there");
    }

    #[test]
    fn what_failed_on_machines_of_another_release_is_looked_at_anew_once_they_are_back() {
        let later = Instant::now() + std::time::Duration::from_secs(300);
        let after = |moved, was_moved| {
            let mut kept = Observations::default();
            let failed = StepRecord {
                state: State::Blocked,
                attempts: 5,
                again: Some(later),
                ..StepRecord::pending("s")
            };
            kept.steps.insert(StepId::EdgeChecks, failed);
            look_again(&mut kept, moved, was_moved);
            kept.steps
                .get(&StepId::EdgeChecks)
                .and_then(|record| record.again)
        };
        assert_eq!(after(false, false), Some(later));
        for was_moved in [false, true] {
            let again = after(true, was_moved);
            assert!(
                again.is_some_and(|again| again < later),
                "they run another one"
            );
        }
        assert_eq!(
            after(false, true),
            None,
            "nothing is known, so it is looked at"
        );
    }

    #[test]
    fn what_cannot_be_observed_for_the_spec_is_not_asked_for_twice() {
        let lost = [(StepId::App, State::Retrying { observing: true })];
        let report = report(PhaseName::Provision, PhaseProgress::Running, &lost);
        assert_eq!(
            need(&report, true, Act::Apply, false, &BTreeSet::new()),
            Need::Prove
        );
    }
}
