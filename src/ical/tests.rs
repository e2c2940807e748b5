//! A correct calendar has no complaint, each mistake has its own, and what is kept is bounded.

#![allow(clippy::unwrap_used)]

use super::*;

/// A correct export with these events.
fn export(events: &[String]) -> String {
    let begin = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//cabanas//Cabanas//ES\r\nCALSCALE:GREGORIAN\r\nMETHOD:PUBLISH\r\nX-WR-CALNAME:Cabañas\r\n";
    format!("{begin}{}END:VCALENDAR\r\n", events.concat())
}

fn event(uid: &str, start: &str, end: &str, more: &str) -> String {
    format!(
        "BEGIN:VEVENT\r\nUID:{uid}\r\nDTSTAMP:20261101T120000Z\r\nDTSTART;VALUE=DATE:{start}\r\nDTEND;VALUE=DATE:{end}\r\n{more}END:VEVENT\r\n"
    )
}

fn stay(uid: &str, more: &str) -> String {
    event(uid, "20261224", "20261227", more)
}

/// Complaints as rule, class and line.
fn found(text: impl AsRef<[u8]>) -> Vec<(Rule, Class, u32)> {
    let complaints = read(text.as_ref()).complaints.into_iter();
    complaints.map(|c| (c.rule, c.class, c.line)).collect()
}

fn rules(text: impl AsRef<[u8]>) -> Vec<Rule> {
    found(text).into_iter().map(|(rule, ..)| rule).collect()
}

/// Each of these changes of a correct export (from, to) breaks this rule of this check, and no other.
fn each_change_breaks_one_rule(text: &str, check: Check, changes: &[(&str, &str, Rule, Class)]) {
    for (from, to, rule, class) in changes {
        let changed = text.replacen(from, to, 1);
        let complaints = read(changed.as_bytes()).complaints;
        assert_eq!(complaints.len(), 1, "{from} {to}: {complaints:?}");
        let found = (&complaints[0].rule, &complaints[0].class);
        assert_eq!(found, (rule, class), "{from} {to}");
        assert_eq!(complaints[0].check(), check, "{from} {to}");
    }
}

/// Rules that an event with these lines breaks.
fn of_event(more: &str) -> Vec<Rule> {
    rules(export(&[stay("a@cabanas", more)]))
}

#[test]
fn a_correct_export_has_no_complaint() {
    let text = export(&[
        stay("a@cabanas", "SUMMARY:Reservada: Arrayán\r\nTRANSP:OPAQUE\r\n"),
        event("b@cabanas", "20261227", "20261228", "SUMMARY:Reservada: Coihue\r\n"),
        "BEGIN:VEVENT\r\nUID:c\r\nDTSTAMP:20261101T120000Z\r\nDTSTART:20261101T120000Z\r\nDURATION:PT2H\r\nBEGIN:VALARM\r\nACTION:DISPLAY\r\nDESCRIPTION:x\r\nTRIGGER:-PT15M\r\nEND:VALARM\r\nEND:VEVENT\r\n".to_owned(),
        "BEGIN:VTIMEZONE\r\nTZID:x\r\nBEGIN:STANDARD\r\nDTSTART:19671029T020000\r\nEND:STANDARD\r\nEND:VTIMEZONE\r\n".to_owned(),
    ]);
    let calendar = read(text.as_bytes());
    assert_eq!(calendar.complaints, []);
    let spans: Vec<_> = calendar
        .events
        .iter()
        .map(|event| event.end.unwrap() - event.start.unwrap())
        .collect();
    assert_eq!(spans, [3 * 86_400, 86_400, 7_200]);
    // Names and enumerated values in any case (RFC 5545 section 3.5), folds with a tab.
    let text = text
        .replace("BEGIN:VEVENT", "begin:vevent")
        .replace("SUMMARY:Res", "summary:Res\r\n\t");
    assert_eq!(found(text), []);
}

#[test]
fn the_texts_of_airbnb_and_booking_com_are_no_names_of_guests() {
    let airbnb = |n: u32, more: &str| {
        format!(
            "BEGIN:VEVENT\r\nDTEND;VALUE=DATE:202610{:02}\r\nDTSTART;VALUE=DATE:202610{n:02}\r\nUID:1418fb94e984-{n}@airbnb.com\r\n{more}END:VEVENT\r\n",
            n + 1
        )
    };
    let reserved = "SUMMARY:Reserved\r\nDESCRIPTION:Reservation URL: https://www.airbnb.com/hosting/reservations/de\r\n tails/HM2944421234\r\n";
    let events: Vec<String> = (1..20)
        .map(|n| {
            airbnb(
                n,
                if n % 2 == 0 {
                    reserved
                } else {
                    "SUMMARY:Airbnb (Not available)\r\n"
                },
            )
        })
        .collect();
    // Airbnb leaves out DTSTAMP: a strict writer does not.
    assert_eq!(found(export(&events)), [(Rule::Missing, Class::DtStamp, 7)]);
    let booking: Vec<String> = (10..30)
        .map(|n| {
            event(
                &format!("{n:032x}@booking.com"),
                &format!("202610{n}"),
                &format!("202610{}", n + 1),
                "SUMMARY:CLOSED - Not available\r\n",
            )
        })
        .collect();
    assert_eq!(
        found(export(&booking).replace(
            "PRODID:-//cabanas//Cabanas//ES",
            "PRODID:-//admin.booking.com\\, b.v.//NONSGML v1.0//EN"
        )),
        []
    );
    let phone = stay(
        "x@airbnb.com",
        "SUMMARY:Reserved\r\nDESCRIPTION:Reservation URL: https://www.airbnb.com/hosting/reservations/de\r\n tails/HM4711\\nPhone Number (Last 4 Digits): 1234\r\n",
    );
    assert_eq!(
        found(export(&[phone])),
        [(Rule::PartOfPhone, Class::Description, 13)]
    );
}

#[test]
fn bytes_and_lines_are_as_the_standard_demands() {
    let text = export(&[stay("a", "SUMMARY:Reservada\r\n")]);
    assert_eq!(
        found(text.replace("\r\n", "\n")),
        [(Rule::BareLf, Class::Line, 1)]
    );
    let one = text.replace("SUMMARY:Reservada\r\n", "SUMMARY:Reservada\n");
    assert_eq!(found(one), [(Rule::BareLf, Class::Line, 12)]);
    assert_eq!(
        found(format!("\u{feff}{text}")),
        [(Rule::ByteOrderMark, Class::Line, 1)]
    );
    let long = "x".repeat(68);
    assert_eq!(of_event(&format!("SUMMARY:{}\r\n", &long[1..])), []);
    assert_eq!(of_event(&format!("SUMMARY:{long}\r\n")), [Rule::LongLine]);
    // 75 characters are more than 75 octets.
    assert_eq!(
        of_event(&format!("SUMMARY:{}\r\n", "ñ".repeat(40))),
        [Rule::LongLine]
    );
    let latin = [text.replace("Reservada", "Caba").as_bytes(), b""].concat();
    let latin: Vec<u8> = String::from_utf8(latin)
        .unwrap()
        .replace("Caba\r\n", "Caba#as\r\n")
        .bytes()
        .map(|b| if b == b'#' { 0xf1 } else { b })
        .collect();
    assert_eq!(found(latin), [(Rule::NotUtf8, Class::Line, 12)]);
    assert_eq!(found(text.trim_end()), [(Rule::NoLineEnd, Class::Line, 14)]);
    assert_eq!(
        rules(text.replace("VERSION", "\r\nVERSION")),
        [Rule::EmptyLine]
    );
    assert_eq!(of_event("SUMMARY:a\rb\r\n"), [Rule::BareCr]);
    for control in ["\0", "\u{b}", "\u{1b}[2J", "\u{7f}"] {
        let line = format!("SUMMARY:a{control}b\r\n");
        assert_eq!(of_event(&line), [Rule::Control], "{control:?}");
    }
    assert_eq!(of_event("SUMMARY:a\tb\r\n"), [], "a tab is allowed");
}

#[test]
fn what_the_standard_allows_and_few_writers_use_is_no_complaint() {
    for more in [
        "SUMMARY;LANGUAGE=\"es:AR;x\";ALTREP=\"https://a.example/;b:c\":Reservada\r\n",
        "description:Check-in 15\\\r\n \\; check-out 10\\\r\n\t,\\nSin ruido\r\n",
        "SUMM\r\n ARY:Reservada\r\n",
        "SUMMARY:Reservada\r\n \r\n\t\r\n",
        "X-APPLE-TRAVEL-ADVISORY-BEHAVIOR:AUTOMATIC\r\nX-EMPTY:\r\nIANA-TOKEN;X=1:y\r\n",
        "X-GUEST:2\r\nX-GUEST-COUNT:Dos\r\nX-GUEST-NAME:\r\nX-CLIENTE:airbnb\r\n",
        "RRULE:FREQ=WEEKLY;COUNT=3\r\nEXDATE;VALUE=DATE:20261231\r\nRDATE;VALUE=PERIOD:20270101T000000Z/P1D\r\n",
        "CLASS:PRIVATE\r\nSEQUENCE:3\r\nSTATUS:CANCELLED\r\nTRANSP:TRANSPARENT\r\nPRIORITY:0\r\n",
    ] {
        assert_eq!(of_event(more), [], "{more:?}");
    }
    let zone = "BEGIN:VEVENT\r\nUID:z\r\nDTSTAMP;VALUE=DATE-TIME:20261101T120000Z\r\nDTSTART;TZID=\"America/Argentina:Salta\":20261224T150000\r\nDTEND;TZID=Etc/UTC:20261224T150000\r\nEND:VEVENT\r\n";
    let series = format!(
        "{}{}",
        stay("s", "RRULE:FREQ=DAILY\r\n"),
        stay("s", "RECURRENCE-ID;VALUE=DATE:20261231\r\n")
    );
    assert_eq!(found(export(&[zone.to_owned(), series])), []);
}

#[test]
fn a_fold_inside_a_character_is_found_and_read_over() {
    let text = export(&[stay("a", "SUMMARY:Cabañas\r\n")]);
    let at = text.find("as\r\nEND:VEVENT").unwrap();
    let mut bytes = text.clone().into_bytes();
    // Between the two bytes of `ñ`.
    bytes.splice(at - 1..at - 1, *b"\r\n ");
    assert_eq!(found(&bytes), [(Rule::FoldedCharacter, Class::Line, 13)]);
    assert_eq!(
        read(&bytes).events[0].summary,
        read(text.as_bytes()).events[0].summary
    );
    let between = text.replace("ñas\r\nEND", "ñ\r\n as\r\nEND");
    assert_eq!(found(between), []);
}

#[test]
fn the_frame_is_one_calendar_with_its_properties_once() {
    let text = export(&[stay("a", "")]);
    each_change_breaks_one_rule(
        &text,
        Check::Frame,
        &[
            (
                "PRODID:-//cabanas//Cabanas//ES\r\n",
                "",
                Rule::Missing,
                Class::ProdId,
            ),
            ("VERSION:2.0\r\n", "", Rule::Missing, Class::Version),
            (
                "VERSION:2.0",
                "VERSION:1.0",
                Rule::OtherVersion,
                Class::Version,
            ),
            (
                "VERSION:2.0",
                "VERSION:2.0\r\nVERSION:2.0",
                Rule::Twice,
                Class::Version,
            ),
            (
                "METHOD:PUBLISH",
                "METHOD:PUBLISH\r\nMETHOD:PUBLISH",
                Rule::Twice,
                Class::Method,
            ),
            ("END:VCALENDAR\r\n", "", Rule::Truncated, Class::Line),
            ("END:VEVENT\r\n", "", Rule::Unbalanced, Class::Component),
            (
                "END:VEVENT\r\n",
                "END:VEVENT\r\nEND:VEVENT\r\n",
                Rule::Unbalanced,
                Class::Component,
            ),
            ("METHOD:PUBLISH", "METHOD", Rule::NoProperty, Class::Line),
            (
                "METHOD:PUBLISH",
                "MET HOD:PUBLISH",
                Rule::NoProperty,
                Class::Line,
            ),
            ("METHOD:PUBLISH", ":PUBLISH", Rule::NoProperty, Class::Line),
        ],
    );
    assert_eq!(rules(export(&[])), [Rule::NoEvents]);
    assert_eq!(
        rules(format!("{text}{text}")).first(),
        Some(&Rule::AfterCalendar)
    );
    for page in [
        "<!doctype html>\r\n<p>x</p>\r\n",
        "",
        "{\"error\":\"x\"}\r\n",
    ] {
        assert!(rules(page).contains(&Rule::NotACalendar), "{page}");
    }
}

#[test]
fn an_event_has_an_identity_and_times_in_order() {
    let text = export(&[stay("a", "")]);
    each_change_breaks_one_rule(
        &text,
        Check::Events,
        &[
            ("UID:a\r\n", "", Rule::Missing, Class::Uid),
            ("UID:a\r\n", "UID:\r\n", Rule::Missing, Class::Uid),
            (
                "DTSTAMP:20261101T120000Z\r\n",
                "",
                Rule::Missing,
                Class::DtStamp,
            ),
            (
                "DTSTAMP:20261101T120000Z",
                "DTSTAMP:20261101T120000",
                Rule::NotUtc,
                Class::DtStamp,
            ),
            (
                "DTSTAMP:20261101T120000Z",
                "DTSTAMP:yesterday",
                Rule::BadTime,
                Class::DtStamp,
            ),
            (
                "DTSTART;VALUE=DATE:20261224\r\n",
                "",
                Rule::Missing,
                Class::DtStart,
            ),
            (
                "DTSTART;VALUE=DATE:",
                "DTSTART:",
                Rule::BadTime,
                Class::DtStart,
            ),
            ("20261224", "20261324", Rule::BadTime, Class::DtStart),
            ("20261227", "20261223", Rule::EndNotAfterStart, Class::DtEnd),
            ("20261227", "20261224", Rule::InclusiveEnd, Class::DtEnd),
            (
                "DTEND;VALUE=DATE:20261227",
                "DTEND:20261227T100000Z",
                Rule::OtherType,
                Class::DtEnd,
            ),
            (
                "DTEND;VALUE=DATE:20261227",
                "DURATION:-P1D",
                Rule::EndNotAfterStart,
                Class::Duration,
            ),
            (
                "DTEND;VALUE=DATE:20261227",
                "DURATION:3 days",
                Rule::BadTime,
                Class::Duration,
            ),
            (
                "END:VEVENT",
                "DURATION:P3D\r\nEND:VEVENT",
                Rule::EndAndDuration,
                Class::Duration,
            ),
            ("END:VEVENT", "UID:b\r\nEND:VEVENT", Rule::Twice, Class::Uid),
        ],
    );
    let timed = |end: &str| {
        text.replace("DTSTART;VALUE=DATE:20261224", "DTSTART:20261224T150000Z")
            .replace("DTEND;VALUE=DATE:20261227", end)
    };
    assert_eq!(
        rules(timed("DTEND:20261224T150000Z")),
        [Rule::EndNotAfterStart]
    );
    // Nothing is known about the order of two zones.
    assert_eq!(rules(timed("DTEND;TZID=Asia/Tokyo:20261224T150000")), []);
}

#[test]
fn a_uid_is_unique_unless_it_is_an_instance_of_a_series() {
    let two = export(&[stay("a", ""), stay("b", ""), stay("a", ""), stay("a", "")]);
    let complaints = read(two.as_bytes()).complaints;
    assert_eq!(
        (complaints[0].rule, complaints[0].line, complaints[0].count),
        (Rule::DuplicateUid, 19, 2)
    );
    let series = export(&[
        stay("a", ""),
        stay("a", "RECURRENCE-ID;VALUE=DATE:20261225\r\n"),
    ]);
    assert_eq!(found(series), []);
}

#[test]
fn what_identifies_a_guest_is_found_by_its_kind() {
    for (more, rule) in [
        ("SUMMARY:ana@example.org\r\n", Rule::Email),
        (
            "DESCRIPTION:Write to ana.perez+x@mail.example.com.\r\n",
            Rule::Email,
        ),
        ("X-GUEST:ana@example.org\r\n", Rule::Email),
        ("ATTENDEE:mailto:ana@example.org\r\n", Rule::Email),
        ("ATTENDEE;CN=Ana:urn:x\r\n", Rule::Name),
        ("ATTENDEE:tel:2944123456\r\n", Rule::Phone),
        (
            "ORGANIZER:mailto:hola@cabanas.example\r\n",
            Rule::BusinessEmail,
        ),
        ("DESCRIPTION:+54 9 294 412-3456\r\n", Rule::Phone),
        ("DESCRIPTION:(+5492944123456)\r\n", Rule::Phone),
        ("SUMMARY:Reservada\\nTel: 2944123456\r\n", Rule::Phone),
        ("DESCRIPTION:Teléfono 294 412 3456\r\n", Rule::Phone),
        ("X-PHONE:+5492944123456\r\n", Rule::Phone),
        ("DESCRIPTION:whatsapp: 1234\r\n", Rule::PartOfPhone),
        ("DESCRIPTION:(294) 412-3456\r\n", Rule::PartOfPhone),
        ("SUMMARY:Guest: Zoltan\r\n", Rule::Name),
        (
            "DESCRIPTION:Huésped: Ñusta Quispe\\nCabaña 3\r\n",
            Rule::Name,
        ),
        (
            "DESCRIPTION:Cabaña 3\\nNombre del huésped: Ñusta\r\n",
            Rule::Name,
        ),
        ("SUMMARY:Sra. Quispe\r\n", Rule::Name),
        ("X-GUEST:Ana Quispe\r\n", Rule::Name),
        ("x-guest-name;X=1:Ñusta\r\n", Rule::Name),
        (
            "X-CABANAS-HUESPED:Zoltan Ágoston\\, 2 personas\r\n",
            Rule::Name,
        ),
        ("SUMMARY:Reserva de Mr Smith\r\n", Rule::Name),
        ("SUMMARY:Juan Pérez\r\n", Rule::PossibleName),
        (
            "SUMMARY:Reservada: Arrayán (María José de la Fuente)\r\n",
            Rule::PossibleName,
        ),
        ("DESCRIPTION:JUAN PEREZ\r\n", Rule::PossibleName),
    ] {
        assert_eq!(of_event(more), [rule], "{more}");
    }
    let mail = export(&[stay("ana.perez@gmail.com", "")]);
    assert_eq!(found(mail), [(Rule::Email, Class::Uid, 8)]);
}

#[test]
fn guests_are_found_in_every_component_and_behind_a_link_to_a_chat() {
    for more in [
        "BEGIN:vtodo\r\nUID:t\r\nDTSTAMP:20261101T120000Z\r\nSUMMARY:Limpieza\\nHuésped: Ñusta Quispe\r\nEND:vtodo\r\n",
        "BEGIN:VJOURNAL\r\nUID:j\r\nDTSTAMP:20261101T120000Z\r\nDESCRIPTION:Sra. Quispe\r\nEND:VJOURNAL\r\n",
        "BEGIN:VFREEBUSY\r\nUID:f\r\nDTSTAMP:20261101T120000Z\r\nATTENDEE;CN=Ana Quispe:urn:x\r\nEND:VFREEBUSY\r\n",
    ] {
        let text = export(&[stay("a@cabanas", ""), more.to_owned()]);
        assert_eq!(rules(text), [Rule::Name], "{more}");
    }
    for more in [
        "DESCRIPTION:https://wa.me/5492944123456\r\n",
        "URL:https://wa.me/5492944123456?text=Hola\r\n",
        "X-CHAT:HTTPS://WA.ME/5492944123456\r\n",
    ] {
        assert_eq!(of_event(more), [Rule::Phone], "{more}");
    }
}

#[test]
fn what_is_nobodys_is_no_complaint() {
    for more in [
        // RFC 5545, 3.2.3: a cabin may be invited as a room.
        "ATTENDEE;CUTYPE=ROOM;CN=Cabaña Arrayán:urn:x\r\n",
        "ATTENDEE;cutype=\"resource\";CN=Sauna:urn:x\r\n",
        "URL:https://x.example/wa.me/abc/5492944123456\r\n",
        "SUMMARY:Reservada: Arrayán\r\n",
        "SUMMARY:Reserved\r\n",
        "SUMMARY:CLOSED - Not available\r\n",
        "SUMMARY:Airbnb (Not available)\r\n",
        "SUMMARY:Ocupado - Cabaña San Martín\r\n",
        "SUMMARY:Cabaña Juan Bautista\r\n",
        "SUMMARY:Guest: 2 adults\r\n",
        "SUMMARY:Cliente: Booking\r\n",
        "SUMMARY:Bloqueado por mantenimiento\r\n",
        "DESCRIPTION:Follow @cabanas\\, or see https://x.example/@cabanas\r\n",
        "DESCRIPTION:Del 2026-12-24 al 2026-12-27 (3 noches)\r\n",
        "DESCRIPTION:24/12/2026 - 27/12/2026\\n15:00 a 10:00\r\n",
        "DESCRIPTION:Reserva 4123456789\\nTotal 1.234.567\\, código HMABC12345\r\n",
        "DESCRIPTION:2026-12-24 1500\r\n",
        "URL:https://x.example/r?id=+5492944123456&mail=1\r\n",
        "X-BOOKING-ID:12345678901\r\n",
        "LOCATION:Av. San Martín 1234\\, San Carlos de Bariloche\r\n",
        "DESCRIPTION:Versión 1.10.2000.1234\r\n",
        "GEO:-41.13;-71.31\r\n",
    ] {
        assert_eq!(of_event(more), [], "{more}");
    }
}

#[test]
fn names_of_guests_differ_from_event_to_event_and_names_of_cabins_recur() {
    let all = |names: &[&str]| {
        let events = names.iter().enumerate();
        let events: Vec<String> = events
            .map(|(n, name)| stay(&format!("{n}"), &format!("SUMMARY:Reservada: {name}\r\n")))
            .collect();
        rules(export(&events))
    };
    // `Martín Pescador` is a bird.
    assert_eq!(all(&["Martín Pescador"; 3]), []);
    assert_eq!(all(&["Juan Pérez", "Ana Gómez"]), [Rule::Name]);
    assert_eq!(
        all(&["Juan Pérez", "Ana Gómez", "Juan Pérez", "Ana Gómez"]),
        [Rule::PossibleName]
    );
    // Names that no list has, from five events on.
    let rare = [
        "Ñusta Quispe",
        "Aimé Painé",
        "Nahuel Huenchul",
        "Lihuen Curin",
        "Ayelen Nahuelpan",
    ];
    assert_eq!(all(&rare), [Rule::PossibleName]);
    assert_eq!(all(&rare[..4]), []);
    let cabins = [
        "Lago Azul",
        "Cerro Otto",
        "Lago Azul",
        "Cerro Otto",
        "Bosque Alto",
    ];
    assert_eq!(all(&cabins), []);
}

#[test]
fn what_every_event_has_is_the_business_and_what_differs_is_a_guest() {
    let all = |contacts: &[&str]| {
        let events = contacts.iter().enumerate();
        let events: Vec<String> = events
            .map(|(n, contact)| stay(&format!("{n}"), &format!("DESCRIPTION:{contact}\r\n")))
            .collect();
        rules(export(&events))
    };
    let own = "hola@cabanas.example o +54 294 412-3456";
    assert_eq!(all(&[own; 10]), [Rule::BusinessEmail, Rule::BusinessPhone]);
    // Few events may be those of one guest.
    assert_eq!(all(&[own; 9]), [Rule::Email, Rule::Phone]);
    let mut with_guest = [own; 11];
    with_guest[7] = "hola@cabanas.example o +54 294 412-9999";
    assert_eq!(all(&with_guest), [Rule::BusinessEmail, Rule::Phone]);
    let guests = ["a@example.org", "b@example.org", "c@example.org"];
    assert_eq!(all(&guests), [Rule::Email]);
}

#[test]
fn a_complaint_says_where_and_never_what() {
    let text = export(&[stay(
        "ana.perez@gmail.com",
        "SUMMARY:Guest: Zoltan\r\nDESCRIPTION:+5492944123456\\, zoltan@example.org\r\n",
    )]);
    let complaints = read(text.as_bytes()).complaints;
    assert_eq!(complaints.len(), 4);
    for complaint in complaints {
        let shown = format!(
            "{} {} {complaint:?}",
            complaint.text(),
            complaint.rule.change()
        );
        for secret in ["ana", "Zoltan", "5492944123456", "zoltan"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert!(
            shown.contains(&format!("line {}", complaint.line)),
            "{shown}"
        );
    }
}

#[test]
fn a_uid_that_changes_is_told_from_a_booking_that_comes_or_goes() {
    let events = |uids: &[&str]| -> Vec<Event> {
        let stays = uids.iter().enumerate();
        let stays: Vec<String> = stays
            .map(|(n, uid)| {
                event(
                    uid,
                    &format!("202612{:02}", n + 10),
                    &format!("202612{:02}", n + 11),
                    "SUMMARY:x\r\n",
                )
            })
            .collect();
        read(export(&stays).as_bytes()).events
    };
    let before = events(&["a", "b", "c"]);
    let changed = |after: &[Event]| changed_uids(&before, after);
    assert_eq!(
        changed(&before),
        Changed {
            kept: 3,
            renamed: 0
        }
    );
    assert_eq!(
        changed(&events(&["d", "e", "f"])),
        Changed {
            kept: 0,
            renamed: 3
        }
    );
    assert_eq!(
        changed(&events(&["a", "x", "c"])),
        Changed {
            kept: 2,
            renamed: 1
        }
    );
    // One more, one less.
    assert_eq!(
        changed(&events(&["a", "b", "c", "d"])),
        Changed {
            kept: 3,
            renamed: 0
        }
    );
    assert_eq!(
        changed(&events(&["a", "b"])),
        Changed {
            kept: 2,
            renamed: 0
        }
    );
    assert_eq!(changed(&[]), Changed::default());
}

#[test]
fn size_events_lines_and_nesting_are_bounded() {
    assert_eq!(rules(vec![b'x'; MAX_BYTES + 1]), [Rule::Bounds]);
    let many = export(
        &(0..=MAX_EVENTS)
            .map(|n| format!("BEGIN:VEVENT\r\nUID:{n}\r\nEND:VEVENT\r\n"))
            .collect::<Vec<_>>(),
    );
    let calendar = read(many.as_bytes());
    assert_eq!(calendar.events.len(), MAX_EVENTS);
    assert!(calendar.complaints.iter().any(|c| c.rule == Rule::Bounds));
    let folded = format!("SUMMARY:{}\r\n", "x\r\n ".repeat(MAX_CONTENT));
    assert_eq!(of_event(&folded), [Rule::Bounds]);
    let deep = |depth: usize| {
        export(&[
            "BEGIN:X\r\n".repeat(depth),
            "END:X\r\n".repeat(depth),
            stay("a", ""),
        ])
    };
    assert_eq!(rules(deep(MAX_DEPTH - 1)), []);
    assert_eq!(rules(deep(10_000)), [Rule::Bounds]);
    assert_eq!(read(deep(10_000).as_bytes()).events.len(), 1);
}

#[test]
fn every_rule_has_a_text_and_a_change_and_fits_in_a_line() {
    for rule in [
        Rule::NotUtf8,
        Rule::InclusiveEnd,
        Rule::PossibleName,
        Rule::FoldedCharacter,
    ] {
        let complaint = Complaint {
            rule,
            class: Class::Summary,
            line: u32::MAX,
            count: u32::MAX,
        };
        assert!(complaint.text().len() < 120, "{}", complaint.text());
        assert!(!rule.change().is_empty());
    }
}
