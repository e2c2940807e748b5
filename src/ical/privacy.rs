//! What an export says about guests: names, telephone numbers, e-mail addresses.
//!
//! The address of an export is a secret that other channels know, and what they show of it is theirs to
//! decide: an export says which nights are taken. An e-mail address, a number with `+` or behind a word
//! such as `Tel`, and a name behind a word such as `Guest:` prove that it says more. Other names cannot be
//! told from those of a cabin by one text: names of cabins recur from event to event, names of guests hardly
//! do, which is what [`Privacy::finish`] counts. The texts of Airbnb (`Reserved`, `Airbnb (Not available)`)
//! and Booking.com (`CLOSED - Not available`) are none of these. Airbnb's `Phone Number (Last 4 Digits)` is
//! personal data (GDPR, article 4(1): indirectly identifiable) and a warning. So is an address or number that
//! is the same in ten events: it may be that of the business.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::hash::hash;
use super::names::{Named, is_in_property, name};
use super::phone::{of_a_chat, phone};
use super::property::Property;
use super::rule::{Class, Complaints, Rule};

/// Most different texts that are remembered. Beyond them a text is looked at again.
const MAX_SEEN: usize = 4_096;

/// Most different names that are counted.
const MAX_NAMES: usize = 4_096;

/// Events from which on texts that differ almost everywhere may be names.
const MANY: u32 = 5;

/// Events from which on the same address or number is that of the business.
const SAME: u32 = 10;

/// Mail hosts of persons: with one of these, even a `UID` is an e-mail address.
const MAIL_HOSTS: [&str; 12] = [
    "gmail.com",
    "googlemail.com",
    "hotmail.com",
    "outlook.com",
    "live.com",
    "yahoo.com",
    "yahoo.com.ar",
    "icloud.com",
    "proton.me",
    "protonmail.com",
    "gmx.de",
    "gmx.net",
];

/// What was found in a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Found {
    email: Option<u64>,
    phone: Option<(Rule, u64)>,
    name: Option<Named>,
}

/// How often something occurs that names somebody.
#[derive(Debug, Default)]
struct Tally {
    first: Option<(u32, Class)>,
    count: u32,
    names: HashSet<u64>,
}

impl Tally {
    fn add(&mut self, name: u64, line: u32, class: Class) {
        self.first.get_or_insert((line, class));
        self.count = self.count.saturating_add(1);
        if self.names.len() < MAX_NAMES {
            self.names.insert(name);
        }
    }

    /// Different names.
    fn distinct(&self) -> u32 {
        u32::try_from(self.names.len()).unwrap_or(u32::MAX)
    }
}

/// Looks at the texts of events.
#[derive(Debug, Default)]
pub(super) struct Privacy {
    seen: HashMap<u64, Found>,
    email: Tally,
    phone: Tally,
    given: Tally,
    shape: Tally,
}

impl Privacy {
    /// Looks at a property of an event.
    pub(super) fn property(
        &mut self,
        class: Class,
        property: &Property<'_>,
        line: u32,
        complaints: &mut Complaints,
    ) {
        match class {
            Class::Summary | Class::Description | Class::Location | Class::Comment => {}
            Class::Extension | Class::Other => {
                self.addresses(class, property, line);
                let text = || String::from_utf8_lossy(property.value);
                if class == Class::Extension && is_in_property(property.name, &text()) {
                    complaints.add(Rule::Name, class, line);
                }
                return;
            }
            Class::Attendee | Class::Contact | Class::Organizer => {
                person(class, property, line, complaints);
                return;
            }
            Class::Uid => {
                if is_of_a_person(property.value) {
                    complaints.add(Rule::Email, class, line);
                }
                return;
            }
            _ => return,
        }
        let found = self.found(property.value);
        if let Some(address) = found.email {
            self.email.add(address, line, class);
        }
        match found.phone {
            Some((Rule::Phone, number)) => self.phone.add(number, line, class),
            Some((rule, _)) => complaints.add(rule, class, line),
            None => {}
        }
        match found.name {
            Some(Named::Certain) => complaints.add(Rule::Name, class, line),
            // A description or place has names of many things.
            Some(Named::Given(name)) => self.given.add(name, line, class),
            Some(Named::Shape(name)) if class == Class::Summary => {
                self.shape.add(name, line, class);
            }
            _ => {}
        }
    }

    /// Other properties have ids and addresses of pages: of those, only what is certain counts.
    fn addresses(&mut self, class: Class, property: &Property<'_>, line: u32) {
        let text = String::from_utf8_lossy(property.value);
        if let Some(address) = email(&text) {
            self.email.add(address, line, class);
        }
        let found = match class {
            Class::Extension => phone(&text),
            _ => None,
        };
        match found.or_else(|| of_a_chat(&text)) {
            Some((Rule::Phone, number)) => self.phone.add(number, line, class),
            _ if starts_with(&text, "tel:") => self.phone.add(hash(&text), line, class),
            _ => {}
        }
    }

    fn found(&mut self, value: &[u8]) -> Found {
        let key = hash(&value);
        if let Some(found) = self.seen.get(&key) {
            return *found;
        }
        let text = String::from_utf8_lossy(value);
        let text = unescaped(&text);
        let found = Found {
            email: email(&text),
            phone: phone(&text),
            name: name(&text),
        };
        if self.seen.len() < MAX_SEEN {
            self.seen.insert(key, found);
        }
        found
    }

    /// Judges what looked like names, after the last event.
    pub(super) fn finish(self, events: u32, complaints: &mut Complaints) {
        let Self {
            email,
            phone,
            given,
            shape,
            ..
        } = self;
        for (tally, guest, business) in [
            (email, Rule::Email, Rule::BusinessEmail),
            (phone, Rule::Phone, Rule::BusinessPhone),
        ] {
            if let Some((line, class)) = tally.first {
                // The same in event after event is no guest's.
                let is_own = tally.distinct() == 1 && tally.count >= SAME;
                let rule = if is_own { business } else { guest };
                complaints.add_all(rule, class, line, tally.count);
            }
        }
        if let Some((line, class)) = given.first {
            let distinct = given.distinct();
            let rule = match (distinct, given.count) {
                // The same name again and again is that of a cabin.
                (1, 3..) => None,
                (1, _) => Some(Rule::PossibleName),
                (distinct, count) if distinct * 2 > count => Some(Rule::Name),
                _ => Some(Rule::PossibleName),
            };
            if let Some(rule) = rule {
                complaints.add(rule, class, line);
                return;
            }
        }
        if let Some((line, class)) = shape.first
            && events >= MANY
            && u64::from(shape.distinct()) * 5 >= u64::from(events) * 4
        {
            complaints.add(Rule::PossibleName, class, line);
        }
    }
}

/// A property that names a person.
fn person(class: Class, property: &Property<'_>, line: u32, complaints: &mut Complaints) {
    let text = String::from_utf8_lossy(property.value);
    // What is invited may be a thing of the business (RFC 5545 section 3.2.3).
    let kind = property.parameter(b"CUTYPE").unwrap_or_default();
    let things: [&[u8]; 2] = [b"ROOM", b"RESOURCE"];
    let is_thing = things.iter().any(|thing| kind.eq_ignore_ascii_case(thing));
    let is_guest = class == Class::Attendee && !is_thing;
    if email(&text).is_some() {
        let rule = if is_guest {
            Rule::Email
        } else {
            Rule::BusinessEmail
        };
        complaints.add(rule, class, line);
    }
    if is_guest
        && property
            .parameter(b"CN")
            .is_some_and(|name| !name.is_empty())
    {
        complaints.add(Rule::Name, class, line);
    }
    if is_guest && (starts_with(&text, "tel:") || phone(&text).is_some()) {
        complaints.add(Rule::Phone, class, line);
    }
}

/// The text that is meant (RFC 5545 section 3.3.11).
fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n' | 'N') => out.push('\n'),
                Some(c) => out.push(c),
                None => {}
            },
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

fn starts_with(text: &str, begin: &str) -> bool {
    let start = text.as_bytes().get(..begin.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(begin.as_bytes()))
}

/// Whether a `UID` is the e-mail address of a person: such identifiers often have the form of an address.
fn is_of_a_person(uid: &[u8]) -> bool {
    let Some(at) = uid.iter().rposition(|byte| *byte == b'@') else {
        return false;
    };
    let host = &uid[at + 1..];
    let is_known = |known: &str| host.eq_ignore_ascii_case(known.as_bytes());
    at > 0 && MAIL_HOSTS.iter().any(|known| is_known(known))
}

/// The hash of the first e-mail address in a text.
fn email(text: &str) -> Option<u64> {
    let bytes = text.as_bytes();
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|byte| *byte == b'@') {
        let at = from + at;
        from = at + 1;
        let local = bytes[..at].iter().rev().take_while(|byte| is_local(**byte));
        let begin = at - local.count();
        let host = bytes[from..].iter();
        let host =
            host.take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'));
        let host = &bytes[from..from + host.count()];
        // A full stop after the address is no part of it.
        let host = host.strip_suffix(b".").unwrap_or(host);
        let Some(dot) = host.iter().rposition(|byte| *byte == b'.') else {
            continue;
        };
        let last = &host[dot + 1..];
        let is_host = dot > 0 && last.len() >= 2 && last.iter().all(u8::is_ascii_alphabetic);
        if begin < at && is_host {
            let address = &bytes[begin..from + host.len()];
            return Some(hash(&address.to_ascii_lowercase()));
        }
    }
    None
}

fn is_local(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'%' | b'+' | b'-')
}
