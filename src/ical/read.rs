//! Reads a calendar.

use std::collections::HashMap;

use super::hash::hash;
use super::line::Lines;
use super::privacy::Privacy;
use super::property::Property;
use super::rule::{Class, Complaint, Complaints, Rule};
use super::time::{Time, duration};

/// Largest calendar that is read.
///
/// Unit: bytes.
pub const MAX_BYTES: usize = 8 << 20;

/// Most events.
pub const MAX_EVENTS: usize = 50_000;

/// Longest line without its folds.
///
/// Unit: bytes.
pub const MAX_CONTENT: usize = 64 << 10;

/// Deepest nesting of components.
pub const MAX_DEPTH: usize = 8;

/// A calendar that was read.
#[derive(Clone, Debug, Default)]
pub struct Calendar {
    /// What a strict writer does not do, by line; empty in a correct calendar.
    pub complaints: Vec<Complaint>,
    /// The events, in the order of the file.
    pub events: Vec<Event>,
}

/// What is kept of an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Hash of its `UID`, the same in the whole process; none without one.
    pub uid: Option<u64>,
    /// Hash of its `SUMMARY`; 0 without one.
    pub summary: u64,
    /// When it begins, on the clock of its zone; none if that cannot be read.
    ///
    /// Unit: seconds since 1970.
    pub start: Option<i64>,
    /// When it ends: from `DTEND`, `DURATION`, or for a day without either, the day after.
    ///
    /// Unit: seconds since 1970.
    pub end: Option<i64>,
    /// The line of its `BEGIN`.
    pub line: u32,
    /// Whether it happens again, by `RRULE` or `RDATE`, which are not read further.
    pub recurs: bool,
}

impl Event {
    /// What stays the same while its `UID` changes.
    pub(super) fn content(&self) -> (Option<i64>, Option<i64>, u64) {
        (self.start, self.end, self.summary)
    }
}

/// Reads a calendar to its end, whatever is in it.
#[must_use]
pub fn read(bytes: &[u8]) -> Calendar {
    let mut complaints = Complaints::default();
    if bytes.len() > MAX_BYTES {
        complaints.add(Rule::Bounds, Class::Line, 1);
        return Calendar {
            complaints: complaints.into_vec(),
            events: Vec::new(),
        };
    }
    let text = bytes.strip_prefix(b"\xef\xbb\xbf");
    if text.is_some() {
        complaints.add(Rule::ByteOrderMark, Class::Line, 1);
    }
    let text = text.unwrap_or(bytes);
    let mut reader = Reader::new(std::str::from_utf8(text).is_ok(), complaints);
    let mut lines = Lines::new(text);
    while let Some(line) = lines.next(&mut reader.complaints) {
        reader.line(&line.text, line.number);
    }
    reader.finish(lines.number())
}

/// A component that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Calendar,
    Event,
    /// Another one, with the hash of its name.
    Other(u64),
}

impl Open {
    fn of(name: &[u8]) -> Self {
        if name.eq_ignore_ascii_case(b"VCALENDAR") {
            Self::Calendar
        } else if name.eq_ignore_ascii_case(b"VEVENT") {
            Self::Event
        } else {
            Self::Other(hash(&name.to_ascii_uppercase()))
        }
    }
}

/// Properties of the frame, with how often they occur.
#[derive(Debug, Default)]
struct Frame {
    prodid: u32,
    version: u32,
    calscale: u32,
    method: u32,
}

/// An event that is open.
#[derive(Debug, Default)]
struct Draft {
    event: Event,
    start: Option<Time>,
    end: Option<Time>,
    duration: Option<i64>,
    recurrence: u64,
    /// Classes of properties that occurred.
    had: Vec<Class>,
}

/// The state of the reader.
struct Reader {
    is_utf8: bool,
    complaints: Complaints,
    open: Vec<Open>,
    /// Components below the deepest level that is followed.
    below: usize,
    frame: Frame,
    /// Lines with content before the calendar, calendars, whether one has ended.
    began: bool,
    ended: bool,
    draft: Option<Draft>,
    events: Vec<Event>,
    /// Identities of events: the hash of `UID` and `RECURRENCE-ID`.
    identities: HashMap<(u64, u64), u32>,
    privacy: Privacy,
}

impl Reader {
    fn new(is_utf8: bool, complaints: Complaints) -> Self {
        Self {
            is_utf8,
            complaints,
            open: Vec::new(),
            below: 0,
            frame: Frame::default(),
            began: false,
            ended: false,
            draft: None,
            events: Vec::new(),
            identities: HashMap::new(),
            privacy: Privacy::default(),
        }
    }

    /// Takes one unfolded line.
    fn line(&mut self, text: &[u8], number: u32) {
        if text.is_empty() {
            self.complaints.add(Rule::EmptyLine, Class::Line, number);
            return;
        }
        if text.len() > MAX_CONTENT {
            self.complaints.add(Rule::Bounds, Class::Line, number);
            return;
        }
        if !self.is_utf8 && std::str::from_utf8(text).is_err() {
            self.complaints.add(Rule::NotUtf8, Class::Line, number);
        }
        if has_control(text) {
            self.complaints.add(Rule::Control, Class::Line, number);
        }
        let Some(property) = Property::of(text) else {
            let rule = match self.began {
                false => Rule::NotACalendar,
                true => Rule::NoProperty,
            };
            self.began = true;
            self.complaints.add(rule, Class::Line, number);
            return;
        };
        let begins = property.name.eq_ignore_ascii_case(b"BEGIN");
        if !self.began {
            self.began = true;
            if !(begins && Open::of(property.value) == Open::Calendar) {
                self.complaints.add(Rule::NotACalendar, Class::Line, number);
            }
        } else if self.ended {
            self.complaints
                .add(Rule::AfterCalendar, Class::Line, number);
        }
        if begins {
            self.begin(Open::of(property.value), number);
        } else if property.name.eq_ignore_ascii_case(b"END") {
            self.end(Open::of(property.value), number);
        } else {
            self.property(&property, number);
        }
    }

    fn begin(&mut self, open: Open, number: u32) {
        if self.open.len() == MAX_DEPTH {
            self.complaints.add(Rule::Bounds, Class::Component, number);
            self.below = self.below.saturating_add(1);
            return;
        }
        let fits = match open {
            Open::Calendar => self.open.is_empty(),
            Open::Event => self.open.last() == Some(&Open::Calendar),
            Open::Other(_) => !self.open.is_empty(),
        };
        if !fits {
            self.complaints
                .add(Rule::Unbalanced, Class::Component, number);
        }
        if open == Open::Event {
            // An event inside of another one ends it: both are read.
            if let Some(draft) = self.draft.take() {
                self.close(draft);
            }
            let mut draft = Draft::default();
            draft.event.line = number;
            self.draft = Some(draft);
        }
        self.open.push(open);
    }

    fn end(&mut self, open: Open, number: u32) {
        if self.below > 0 {
            self.below -= 1;
            return;
        }
        match self.open.iter().rposition(|known| *known == open) {
            Some(at) => {
                if at + 1 < self.open.len() {
                    self.complaints
                        .add(Rule::Unbalanced, Class::Component, number);
                }
                self.open.truncate(at);
            }
            None => self
                .complaints
                .add(Rule::Unbalanced, Class::Component, number),
        }
        let event_is_open = self.open.contains(&Open::Event);
        if !event_is_open && let Some(draft) = self.draft.take() {
            self.close(draft);
        }
        self.ended |= open == Open::Calendar && self.open.is_empty();
    }

    fn property(&mut self, property: &Property<'_>, number: u32) {
        let class = Class::of(property.name);
        let Some(draft) = &mut self.draft else {
            match self.open.as_slice() {
                [Open::Calendar] => self.frame(class, property, number),
                // A task or a time that is taken says as much of guests as an event does.
                [Open::Calendar, ..] => {
                    self.privacy
                        .property(class, property, number, &mut self.complaints);
                }
                _ => {}
            }
            return;
        };
        let recurs = |name: &[u8]| {
            name.eq_ignore_ascii_case(b"RRULE") || name.eq_ignore_ascii_case(b"RDATE")
        };
        draft.event.recurs |= class == Class::Other && recurs(property.name);
        self.privacy
            .property(class, property, number, &mut self.complaints);
        // Properties of an alarm inside of the event are not the event's.
        if self.open.last() == Some(&Open::Event) {
            draft.property(class, property, number, &mut self.complaints);
        }
    }

    /// A property of the calendar itself.
    fn frame(&mut self, class: Class, property: &Property<'_>, number: u32) {
        let count = match class {
            Class::ProdId => &mut self.frame.prodid,
            Class::Version => &mut self.frame.version,
            Class::CalScale => &mut self.frame.calscale,
            Class::Method => &mut self.frame.method,
            _ => return,
        };
        *count += 1;
        if *count > 1 {
            self.complaints.add(Rule::Twice, class, number);
        }
        if class == Class::Version && property.value != b"2.0" {
            self.complaints.add(Rule::OtherVersion, class, number);
        }
    }

    /// Takes an event that has ended.
    fn close(&mut self, draft: Draft) {
        let event = draft.finish(&mut self.complaints);
        if self.events.len() == MAX_EVENTS {
            self.complaints
                .add(Rule::Bounds, Class::Component, event.line);
            return;
        }
        if let Some(uid) = event.uid {
            let identity = (uid, draft.recurrence);
            if self.identities.insert(identity, event.line).is_some() {
                self.complaints
                    .add(Rule::DuplicateUid, Class::Uid, event.line);
            }
        }
        self.events.push(event);
    }

    fn finish(mut self, last: u32) -> Calendar {
        if !self.began {
            self.complaints.add(Rule::NotACalendar, Class::Line, last);
        }
        if let Some(draft) = self.draft.take() {
            self.close(draft);
        }
        if self.began && !self.ended {
            self.complaints.add(Rule::Truncated, Class::Line, last);
        }
        if self.frame.prodid == 0 {
            self.complaints.add(Rule::Missing, Class::ProdId, 1);
        }
        if self.frame.version == 0 {
            self.complaints.add(Rule::Missing, Class::Version, 1);
        }
        if self.events.is_empty() {
            self.complaints.add(Rule::NoEvents, Class::Line, last);
        }
        let events = u32::try_from(self.events.len()).unwrap_or(u32::MAX);
        self.privacy.finish(events, &mut self.complaints);
        Calendar {
            complaints: self.complaints.into_vec(),
            events: self.events,
        }
    }
}

/// Whether a line has a character that no property may have (RFC 5545 section 3.1, `CONTROL`). A CR has a
/// rule of its own. It looks at every byte, which is faster than an end in the middle.
fn has_control(text: &[u8]) -> bool {
    let is_control = |byte: u8| byte < b' ' && byte != b'\t' && byte != b'\r' || byte == 0x7f;
    text.iter()
        .fold(false, |found, byte| found | is_control(*byte))
}

impl Draft {
    fn property(
        &mut self,
        class: Class,
        property: &Property<'_>,
        number: u32,
        complaints: &mut Complaints,
    ) {
        let is_single = matches!(
            class,
            Class::Uid
                | Class::DtStamp
                | Class::DtStart
                | Class::DtEnd
                | Class::Duration
                | Class::Summary
                | Class::Description
                | Class::Location
                | Class::RecurrenceId
        );
        if !is_single {
            return;
        }
        if self.had.contains(&class) {
            complaints.add(Rule::Twice, class, number);
            return;
        }
        self.had.push(class);
        match class {
            Class::Uid if property.value.is_empty() => {
                complaints.add(Rule::Missing, class, number);
            }
            Class::Uid => self.event.uid = Some(hash(&property.value)),
            Class::Summary => self.event.summary = hash(&property.value),
            Class::RecurrenceId => self.recurrence = hash(&property.value),
            Class::DtStamp => match Time::of(property) {
                Some(time) if time.kind != super::time::Kind::Utc => {
                    complaints.add(Rule::NotUtc, class, number);
                }
                Some(_) => {}
                None => complaints.add(Rule::BadTime, class, number),
            },
            Class::DtStart | Class::DtEnd => {
                let time = Time::of(property);
                if !time.is_some_and(|time| time.is_marked) {
                    complaints.add(Rule::BadTime, class, number);
                }
                match class {
                    Class::DtStart => self.start = time,
                    _ => self.end = time,
                }
            }
            Class::Duration => match duration(property.value) {
                Some(seconds) => self.duration = Some(seconds),
                None => complaints.add(Rule::BadTime, class, number),
            },
            _ => {}
        }
    }

    /// Judges the event as a whole.
    fn finish(&self, complaints: &mut Complaints) -> Event {
        let mut event = self.event;
        let line = event.line;
        for class in [Class::Uid, Class::DtStamp, Class::DtStart] {
            if !self.had.contains(&class) {
                complaints.add(Rule::Missing, class, line);
            }
        }
        if self.had.contains(&Class::DtEnd) && self.had.contains(&Class::Duration) {
            complaints.add(Rule::EndAndDuration, Class::Duration, line);
        }
        let Some(start) = self.start else {
            event.end = self.end.map(|end| end.seconds);
            return event;
        };
        event.start = Some(start.seconds);
        event.end = match (self.end, self.duration) {
            (Some(end), _) => {
                self.end_against_start(start, end, complaints);
                Some(end.seconds)
            }
            (None, Some(seconds)) => {
                if seconds <= 0 {
                    complaints.add(Rule::EndNotAfterStart, Class::Duration, line);
                }
                Some(start.seconds.saturating_add(seconds))
            }
            (None, None) if start.is_date() => Some(start.seconds.saturating_add(86_400)),
            (None, None) => Some(start.seconds),
        };
        event
    }

    fn end_against_start(&self, start: Time, end: Time, complaints: &mut Complaints) {
        let line = self.event.line;
        if start.is_date() != end.is_date() {
            complaints.add(Rule::OtherType, Class::DtEnd, line);
        } else if start.kind != end.kind {
            // Two zones: nothing is known about their order.
        } else if start.is_date() && start.seconds == end.seconds {
            complaints.add(Rule::InclusiveEnd, Class::DtEnd, line);
        } else if end.seconds <= start.seconds {
            complaints.add(Rule::EndNotAfterStart, Class::DtEnd, line);
        }
    }
}
