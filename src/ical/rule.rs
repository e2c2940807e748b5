//! What a calendar must not do, and where it does.

/// What a rule is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Check {
    /// The bytes: UTF-8 without a byte order mark.
    Bytes,
    /// Ends of lines, their length, folds.
    Lines,
    /// The frame: one `VCALENDAR` with `PRODID` and `VERSION`.
    Frame,
    /// Identity and times of events.
    Events,
    /// What is said about guests.
    Privacy,
}

/// How much a complaint weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Works, and is risky.
    Warning,
    /// Readers go wrong, or a guest is exposed.
    Failure,
}

/// The kind of content that a complaint is about: the name of a property, never its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The file as a whole, or a line of any kind.
    Line,
    /// `BEGIN` or `END`.
    Component,
    /// `PRODID`.
    ProdId,
    /// `VERSION`.
    Version,
    /// `CALSCALE`.
    CalScale,
    /// `METHOD`.
    Method,
    /// `UID`.
    Uid,
    /// `RECURRENCE-ID`.
    RecurrenceId,
    /// `DTSTAMP`.
    DtStamp,
    /// `DTSTART`.
    DtStart,
    /// `DTEND`.
    DtEnd,
    /// `DURATION`.
    Duration,
    /// `SUMMARY`.
    Summary,
    /// `DESCRIPTION`.
    Description,
    /// `LOCATION`.
    Location,
    /// `COMMENT`.
    Comment,
    /// `CONTACT`.
    Contact,
    /// `ATTENDEE`.
    Attendee,
    /// `ORGANIZER`.
    Organizer,
    /// A property of somebody's own, `X-...`.
    Extension,
    /// Any other property.
    Other,
}

impl Class {
    /// The class of a property.
    pub(super) fn of(name: &[u8]) -> Self {
        const NAMES: [(&[u8], Class); 17] = [
            (b"DTSTART", Class::DtStart),
            (b"DTEND", Class::DtEnd),
            (b"DTSTAMP", Class::DtStamp),
            (b"UID", Class::Uid),
            (b"SUMMARY", Class::Summary),
            (b"DESCRIPTION", Class::Description),
            (b"DURATION", Class::Duration),
            (b"LOCATION", Class::Location),
            (b"COMMENT", Class::Comment),
            (b"CONTACT", Class::Contact),
            (b"ATTENDEE", Class::Attendee),
            (b"ORGANIZER", Class::Organizer),
            (b"RECURRENCE-ID", Class::RecurrenceId),
            (b"PRODID", Class::ProdId),
            (b"VERSION", Class::Version),
            (b"CALSCALE", Class::CalScale),
            (b"METHOD", Class::Method),
        ];
        if matches!(name, [b'x' | b'X', b'-', ..]) {
            return Self::Extension;
        }
        if name.eq_ignore_ascii_case(b"BEGIN") || name.eq_ignore_ascii_case(b"END") {
            return Self::Component;
        }
        let found = NAMES
            .iter()
            .find(|(known, _)| name.eq_ignore_ascii_case(known));
        found.map_or(Self::Other, |(_, class)| *class)
    }

    /// Its name for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Line => "line",
            Self::Component => "BEGIN/END",
            Self::ProdId => "PRODID",
            Self::Version => "VERSION",
            Self::CalScale => "CALSCALE",
            Self::Method => "METHOD",
            Self::Uid => "UID",
            Self::RecurrenceId => "RECURRENCE-ID",
            Self::DtStamp => "DTSTAMP",
            Self::DtStart => "DTSTART",
            Self::DtEnd => "DTEND",
            Self::Duration => "DURATION",
            Self::Summary => "SUMMARY",
            Self::Description => "DESCRIPTION",
            Self::Location => "LOCATION",
            Self::Comment => "COMMENT",
            Self::Contact => "CONTACT",
            Self::Attendee => "ATTENDEE",
            Self::Organizer => "ORGANIZER",
            Self::Extension => "X-property",
            Self::Other => "property",
        }
    }
}

/// What a strict writer of a calendar must not do. Sections are those of RFC 5545.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// The text is not UTF-8 (3.1.4).
    NotUtf8,
    /// The text begins with a byte order mark.
    ByteOrderMark,
    /// A line has a control character (3.1, `CONTROL`).
    Control,
    /// A line ends with LF alone (3.1).
    BareLf,
    /// A CR stands alone.
    BareCr,
    /// The last line has no end.
    NoLineEnd,
    /// A line has more than 75 octets (3.1).
    LongLine,
    /// A fold cuts a UTF-8 character (3.1).
    FoldedCharacter,
    /// A line is empty.
    EmptyLine,
    /// The text has more bytes, events, levels or longer lines than are read.
    Bounds,
    /// The text does not begin with `BEGIN:VCALENDAR` (3.4).
    NotACalendar,
    /// The text ends before `END:VCALENDAR`.
    Truncated,
    /// There is a second calendar, or other text after the first.
    AfterCalendar,
    /// A component ends that did not begin, or ends before one inside it.
    Unbalanced,
    /// A line is no property (3.1).
    NoProperty,
    /// A required property is missing.
    Missing,
    /// A property that may occur once occurs again.
    Twice,
    /// `VERSION` is not 2.0 (3.7.4).
    OtherVersion,
    /// There is no event.
    NoEvents,
    /// Two events have the same `UID` (3.8.4.7).
    DuplicateUid,
    /// A date or time cannot be read, or a date is not marked `VALUE=DATE`.
    BadTime,
    /// `DTSTAMP` is not in UTC (3.8.7.2).
    NotUtc,
    /// `DTEND` and `DURATION` in one event (3.6.1).
    EndAndDuration,
    /// `DTSTART` and `DTEND` are not both dates, or not both times (3.8.2.2).
    OtherType,
    /// The event ends before it begins, or a timed one when it begins.
    EndNotAfterStart,
    /// An all-day event ends on the day on which it begins: `DTEND` is the last day, instead of the one after
    /// it.
    InclusiveEnd,
    /// An e-mail address.
    Email,
    /// An e-mail address of the organizer or contact, or the same in every event, which may be that of the
    /// business itself.
    BusinessEmail,
    /// A telephone number.
    Phone,
    /// The same telephone number in every event, which may be that of the business itself.
    BusinessPhone,
    /// The last digits of a telephone number, or digits that may be one.
    PartOfPhone,
    /// The name of a guest.
    Name,
    /// What may be names of guests.
    PossibleName,
}

impl Rule {
    /// What it is part of, in an event.
    const fn check(self) -> Check {
        match self {
            Self::NotUtf8 | Self::ByteOrderMark | Self::Control => Check::Bytes,
            Self::BareLf
            | Self::BareCr
            | Self::NoLineEnd
            | Self::LongLine
            | Self::FoldedCharacter
            | Self::EmptyLine => Check::Lines,
            Self::Bounds
            | Self::NotACalendar
            | Self::Truncated
            | Self::AfterCalendar
            | Self::Unbalanced
            | Self::NoProperty
            | Self::OtherVersion
            | Self::NoEvents => Check::Frame,
            Self::Missing
            | Self::Twice
            | Self::DuplicateUid
            | Self::BadTime
            | Self::NotUtc
            | Self::EndAndDuration
            | Self::OtherType
            | Self::EndNotAfterStart
            | Self::InclusiveEnd => Check::Events,
            Self::Email
            | Self::BusinessEmail
            | Self::Phone
            | Self::BusinessPhone
            | Self::PartOfPhone
            | Self::Name
            | Self::PossibleName => Check::Privacy,
        }
    }

    /// How much it weighs. RFC 5545 recommends at most 75 octets; the four last digits of a telephone number
    /// identify nobody alone, and do so together with the dates of a stay.
    #[must_use]
    pub const fn weight(self) -> Weight {
        match self {
            Self::NoLineEnd
            | Self::LongLine
            | Self::EmptyLine
            | Self::NoEvents
            | Self::BusinessEmail
            | Self::BusinessPhone
            | Self::PartOfPhone
            | Self::PossibleName => Weight::Warning,
            _ => Weight::Failure,
        }
    }

    /// What is wrong, for people. The name of the content stands before it.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::NotUtf8 => "is not UTF-8",
            Self::ByteOrderMark => "begins with a byte order mark",
            Self::Control => "has a control character",
            Self::BareLf => "ends with LF instead of CRLF",
            Self::BareCr => "has a CR that is not part of a CRLF",
            Self::NoLineEnd => "is the last one and has no CRLF",
            Self::LongLine => "has more than 75 octets",
            Self::FoldedCharacter => "is folded inside a UTF-8 character",
            Self::EmptyLine => "is empty",
            Self::Bounds => "exceeds a limit of the reader",
            Self::NotACalendar => "is not BEGIN:VCALENDAR",
            Self::Truncated => "is the last one: END:VCALENDAR is missing",
            Self::AfterCalendar => "follows END:VCALENDAR",
            Self::Unbalanced => "does not match the component that is open",
            Self::NoProperty => "is no property: it has no name or no colon",
            Self::Missing => "is missing",
            Self::Twice => "occurs more than once",
            Self::OtherVersion => "is not 2.0",
            Self::NoEvents => "is the last one, and there was no event",
            Self::DuplicateUid => "is the same in two events",
            Self::BadTime => "is no valid date or time, or a date without VALUE=DATE",
            Self::NotUtc => "is not in UTC",
            Self::EndAndDuration => "is given together with DTEND",
            Self::OtherType => "has another value type than DTSTART",
            Self::EndNotAfterStart => "is not after DTSTART",
            Self::InclusiveEnd => "is the same day as DTSTART: the end is exclusive",
            Self::Email => "has an e-mail address",
            Self::BusinessEmail => "has an e-mail address, perhaps your own",
            Self::Phone => "has a telephone number",
            Self::BusinessPhone => "has a telephone number, perhaps your own",
            Self::PartOfPhone => "has digits that are or may be part of a telephone number",
            Self::Name => "has the name of a guest",
            Self::PossibleName => "has what may be the name of a guest",
        }
    }

    /// What to change in the program that writes the calendar.
    #[must_use]
    pub const fn change(self) -> &'static str {
        match self {
            Self::NotUtf8 => "write the calendar in UTF-8",
            Self::ByteOrderMark => "write the calendar without a byte order mark",
            Self::Control => "leave out control characters, NUL among them",
            Self::BareLf | Self::BareCr | Self::NoLineEnd => "end every line with CRLF",
            Self::LongLine => "fold lines after at most 75 octets with CRLF and a space",
            Self::FoldedCharacter => "fold between characters, and count octets",
            Self::EmptyLine => "leave out empty lines",
            Self::Bounds => "export fewer events, for example without those of the past",
            Self::NotACalendar => "answer with the calendar and nothing before it",
            Self::Truncated => "write the calendar to its end",
            Self::AfterCalendar => "write one calendar and nothing after it",
            Self::Unbalanced => "end each component where it belongs",
            Self::NoProperty => "write NAME:VALUE, and escape line breaks in a text as \\n",
            Self::Missing => "write the property in every component that needs it",
            Self::Twice => "write the property once",
            Self::OtherVersion => "write VERSION:2.0",
            Self::NoEvents => "nothing, if there is no booking yet",
            Self::DuplicateUid => "give each event its own UID, for example the booking's id",
            Self::BadTime => "write dates as ;VALUE=DATE:20261224, times as :20261224T150000Z",
            Self::NotUtc => "write DTSTAMP in UTC, with a Z at the end",
            Self::EndAndDuration => "write DTEND or DURATION, not both",
            Self::OtherType => "write DTSTART and DTEND both as dates, or both as times",
            Self::EndNotAfterStart => "write an end after the start",
            Self::InclusiveEnd => "write the day of check-out as DTEND, not the last night",
            Self::Email | Self::BusinessEmail => "leave out e-mail addresses",
            Self::Phone | Self::BusinessPhone | Self::PartOfPhone => {
                "leave out telephone numbers, and parts of them"
            }
            Self::Name | Self::PossibleName => "write a word such as Reserved instead of the guest",
        }
    }
}

/// One kind of mistake, where it is first made, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// What is wrong.
    pub rule: Rule,
    /// With which content.
    pub class: Class,
    /// The line of the first mistake, from 1 on, as an editor counts.
    pub line: u32,
    /// How many there are.
    pub count: u32,
}

impl Complaint {
    /// What it is part of: a property of the frame that is missing or double is a fault of the frame.
    #[must_use]
    pub const fn check(&self) -> Check {
        match self.class {
            Class::ProdId | Class::Version | Class::CalScale | Class::Method => Check::Frame,
            _ => self.rule.check(),
        }
    }

    /// In one line, such as `line 12: SUMMARY has a telephone number (3 times)`.
    #[must_use]
    pub fn text(&self) -> String {
        let (line, what) = (self.line, self.rule.text());
        let mut text = match self.class {
            Class::Line => format!("line {line} {what}"),
            class => format!("line {line}: {} {what}", class.name()),
        };
        if self.count > 1 {
            text.push_str(&format!(" ({} times)", self.count));
        }
        text
    }
}

/// Complaints, one for each rule and class.
#[derive(Debug, Default)]
pub(super) struct Complaints(Vec<Complaint>);

impl Complaints {
    /// Notes a mistake.
    pub(super) fn add(&mut self, rule: Rule, class: Class, line: u32) {
        self.add_all(rule, class, line, 1);
    }

    /// Notes a mistake that was made so often.
    pub(super) fn add_all(&mut self, rule: Rule, class: Class, line: u32, count: u32) {
        let same = |known: &&mut Complaint| known.rule == rule && known.class == class;
        match self.0.iter_mut().find(same) {
            Some(known) => known.count = known.count.saturating_add(count),
            None => self.0.push(Complaint {
                rule,
                class,
                line,
                count,
            }),
        }
    }

    /// All of them, in the order of their rules' first mistakes.
    pub(super) fn into_vec(mut self) -> Vec<Complaint> {
        self.0.sort_by_key(|complaint| complaint.line);
        self.0
    }
}
