//! Each classic mistake is found by the check that is made for it, and an application that makes none passes
//! all of them, every time.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cabanas::mistake::Mistake;
use futures::{StreamExt, stream};
use golive::clock;
use golive::exposition::Pointer;
use golive::phase::integrations::calendar::{self, Memory, Plan, Shown};
use golive::phase::integrations::outcome::{Ended, Outcome};
use golive::phase::integrations::probe::{Pace, Run};
use golive::phase::integrations::{mercado_pago, whatsapp};
use secrecy::SecretString;

use super::machines::{Ground, Machines, VERIFY_TOKEN, Webhook};

/// Mistakes that are tried at the same time.
const WIDTH: usize = 4;

/// Rounds against the application without mistakes, unless `GOLIVE_HEALTHY_RUNS` says another number.
const HEALTHY_RUNS: u64 = 8;

/// Longest time until a mistake shows.
const LIMIT: Duration = Duration::from_secs(90);

/// What must find a mistake: ids of checks, all of them.
fn caught_by(mistake: Mistake) -> &'static [&'static str] {
    match mistake {
        Mistake::AcceptsUnsigned => &["W4", "W5", "W6", "M2", "M3", "M4"],
        Mistake::Sha1Only => &["W3"],
        Mistake::Reserializes | Mistake::DecodesEscapes => &["W7"],
        Mistake::ComparesPrefix | Mistake::AcceptsEmptyKey | Mistake::SkipsUndecodable => {
            &["W5", "M3"]
        }
        Mistake::ProcessesRefused => &["W4", "M2"],
        Mistake::EchoesChallenge => &["W2"],
        Mistake::UsesBodyId => &["M4", "M5"],
        Mistake::RequiresRequestId => &["M6"],
        Mistake::SecondsOnly => &["M1"],
        Mistake::AcceptsOtherId => &["M4"],
        Mistake::ProcessesReplays | Mistake::RacesReplays => &["W8", "M7"],
        Mistake::AnswersLate => &["W9", "M9"],
        Mistake::AcknowledgesEarly => &["W8", "M7"],
        Mistake::UnknownEventFails => &["W10", "M1"],
        Mistake::ExportsGuests => &["C6"],
        Mistake::InclusiveEnd | Mistake::DuplicateUids => &["C4"],
        Mistake::LfLines | Mistake::FoldsCharacters => &["C2"],
        Mistake::ChangingUids => &["C5"],
        Mistake::WrongContentType | Mistake::ByteOrderMark => &["C1"],
        Mistake::FrozenImport | Mistake::AgeAlwaysZero => &["I1"],
        Mistake::ImportEmpties => &["I2"],
    }
}

/// Mistakes that let a forged request in.
fn lets_forgeries_in(mistake: Mistake) -> bool {
    use Mistake::{
        AcceptsEmptyKey, AcceptsOtherId, AcceptsUnsigned, ComparesPrefix, EchoesChallenge,
        ProcessesRefused, SkipsUndecodable, UsesBodyId,
    };
    [
        AcceptsUnsigned,
        ComparesPrefix,
        AcceptsEmptyKey,
        SkipsUndecodable,
        ProcessesRefused,
        EchoesChallenge,
        UsesBodyId,
        AcceptsOtherId,
    ]
    .contains(&mistake)
}

/// The sets that may see a mistake.
#[derive(Clone, Copy)]
struct Sets {
    whatsapp: bool,
    mercado_pago: bool,
    calendar: bool,
}

impl Sets {
    const ALL: Self = Self {
        whatsapp: true,
        mercado_pago: true,
        calendar: true,
    };

    fn of(mistake: Mistake) -> Self {
        let any = |letters: &[char]| caught_by(mistake).iter().any(|id| id.starts_with(letters));
        Self {
            whatsapp: any(&['W']),
            mercado_pago: any(&['M']),
            calendar: any(&['C', 'I']),
        }
    }
}

/// As patient as the operator with answers; the effect is read more often.
fn pace(of: Pace, effect: Duration) -> Pace {
    Pace {
        effect,
        poll: Duration::from_millis(50),
        ..of
    }
}

fn plan(max_sync_age: Duration) -> Plan {
    let metric = |name: &str| {
        Some(Shown::Metric {
            path: "/metrics".to_owned(),
            name: name.to_owned(),
            selector: Vec::new(),
        })
    };
    Plan {
        age: Some(Shown::Status {
            path: "/api/v1/ical/status".to_owned(),
            pointer: Pointer::parse("/last_sync_age_minutes").unwrap(),
        }),
        events: metric("ical_imported_events"),
        conflicts: metric("ical_double_booked_nights"),
        zero_for: Duration::from_secs(1),
        pause: Duration::from_millis(200),
        ..Plan::new("/api/v1/ical/export.ics".to_owned(), max_sync_age)
    }
}

/// One round of the sets.
async fn round(
    ground: &Ground,
    machines: &Machines,
    sets: Sets,
    number: u64,
    (effect, max_sync_age): (Duration, Duration),
    memory: &mut Memory,
) -> Vec<Outcome> {
    let run = Run { number };
    let token: SecretString = VERIFY_TOKEN.into();
    let (app_secret, signing): (SecretString, SecretString) =
        (ground.app_secret().into(), ground.signing_secret().into());
    let whatsapp = async {
        if !sets.whatsapp {
            return Vec::new();
        }
        let world = Webhook {
            machines,
            effect: "/whatsapp/effects",
        };
        let input = whatsapp::Input {
            run,
            path: "/api/v1/webhooks/whatsapp",
            verify_token: &token,
            app_secret: &app_secret,
            phone_number_id: None,
        };
        whatsapp::check(&world, &input, &pace(whatsapp::PACE, effect)).await
    };
    let mercado_pago = async {
        if !sets.mercado_pago {
            return Vec::new();
        }
        let world = Webhook {
            machines,
            effect: "/mercadopago/effects",
        };
        let input = mercado_pago::Input {
            run,
            path: "/api/v1/webhooks/mercadopago",
            secret: &signing,
        };
        mercado_pago::check(&world, &input, &pace(mercado_pago::PACE, effect)).await
    };
    let before = memory.clone();
    let calendar = async {
        if !sets.calendar {
            return None;
        }
        let plan = plan(max_sync_age);
        let fetch = |request: calendar::Request| async move {
            machines.fetch(&request.path, request.accept).await
        };
        Some(calendar::check(&plan, &before, clock::wall(), fetch).await)
    };
    let (whatsapp, mercado_pago, calendar) = tokio::join!(whatsapp, mercado_pago, calendar);
    let mut outcomes = [whatsapp, mercado_pago].concat();
    if let Some(checked) = calendar {
        *memory = checked.memory;
        outcomes.extend(checked.outcomes);
    }
    outcomes
}

/// What was found of a mistake.
struct Row {
    mistake: Mistake,
    failed: BTreeMap<&'static str, Outcome>,
    took: Duration,
}

impl Row {
    fn missing(&self) -> Vec<&'static str> {
        let wanted = caught_by(self.mistake).iter();
        wanted
            .filter(|id| !self.failed.contains_key(*id))
            .copied()
            .collect()
    }
}

/// Lets the application make the mistake, and checks it until all that should find it have: an import is
/// frozen, or empty, only some time after the start.
async fn try_out(ground: &Ground, mistake: Mistake) -> Row {
    let sync = match mistake {
        Mistake::ImportEmpties => 5,
        _ => 1,
    };
    let max_sync_age = match mistake {
        Mistake::FrozenImport => Duration::from_secs(5),
        _ => Duration::from_secs(1800),
    };
    // An effect that comes is seen at once; one that is missing is waited for.
    let effect = match mistake {
        Mistake::AcknowledgesEarly => Duration::from_secs(5),
        _ => LIMIT,
    };
    let machines = ground.application(mistake.name(), sync).await;
    let began = Instant::now();
    let mut memory = Memory::default();
    let mut row = Row {
        mistake,
        failed: BTreeMap::new(),
        took: Duration::ZERO,
    };
    let again = Sets::of(mistake).calendar;
    for number in 1.. {
        let times = (effect, max_sync_age);
        let sets = Sets::of(mistake);
        let outcomes = round(ground, &machines, sets, number, times, &mut memory).await;
        let failed = outcomes.into_iter().filter(|o| o.ended == Ended::Failed);
        row.failed
            .extend(failed.map(|outcome| (outcome.id, outcome)));
        row.took = began.elapsed();
        if row.missing().is_empty() || !again || row.took > LIMIT {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    row
}

fn print(rows: &[Row]) {
    println!("| switch | found by | evidence of the first | time |\n|---|---|---|---|");
    for row in rows {
        let ids: Vec<&str> = row.failed.keys().copied().collect();
        let first = caught_by(row.mistake)[0];
        let evidence = row
            .failed
            .get(first)
            .map_or("MISSED", |o| o.evidence.as_str());
        println!(
            "| `{}` | {} | {first}: {evidence} | {:.1} s |",
            row.mistake.name(),
            ids.join(", "),
            row.took.as_secs_f32()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_classic_mistake_is_found_by_its_check_and_none_is_missed() {
    let ground = Ground::start().await;
    let ground = &ground;
    let mut rows: Vec<Row> = stream::iter(Mistake::ALL)
        .map(|mistake| try_out(ground, mistake))
        .buffer_unordered(WIDTH)
        .collect()
        .await;
    rows.sort_by_key(|row| row.mistake);
    print(&rows);
    for row in &rows {
        let name = row.mistake.name();
        assert_eq!(
            row.missing(),
            Vec::<&str>::new(),
            "{name}: {:#?}",
            row.failed
        );
        let forged = row.failed.values().any(|outcome| outcome.forgery);
        assert_eq!(forged, lets_forgeries_in(row.mistake), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_without_mistakes_raises_no_alarm_in_any_round() {
    let runs = std::env::var("GOLIVE_HEALTHY_RUNS");
    let runs = runs
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(HEALTHY_RUNS);
    let ground = Ground::start().await;
    let machines = ground.application("", 1).await;
    let mut memory = Memory::default();
    let mut times = Vec::new();
    for number in 1..=runs {
        let began = Instant::now();
        let limits = (LIMIT, Duration::from_secs(1800));
        let outcomes = round(&ground, &machines, Sets::ALL, number, limits, &mut memory).await;
        times.push(began.elapsed());
        for outcome in outcomes {
            assert_eq!(outcome.ended, Ended::Passed, "round {number}: {outcome:#?}");
        }
    }
    times.sort_unstable();
    println!(
        "{runs} rounds without an alarm; median {:?}",
        times[times.len() / 2]
    );
}
