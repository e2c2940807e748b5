//! Names of persons in a text.

use super::given_names::is_given_name;
use super::hash::hash;

/// Longest text of which names are looked for: bytes from its beginning.
const MAX_TEXT: usize = 4_096;

/// What looks like a name, with its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// Behind a word that says so.
    Certain,
    /// Begins with a common given name.
    Given(u64),
    /// Two to four words with capitals.
    Shape(u64),
}

/// Words and a colon before the name of a guest, in lower case without accents.
const GUEST_LABELS: [&str; 16] = [
    "guest",
    "guest name",
    "name of guest",
    "booked by",
    "huesped",
    "nombre del huesped",
    "nombre y apellido",
    "a nombre de",
    "cliente",
    "pasajero",
    "titular",
    "hospede",
    "nome do hospede",
    "reservado por",
    "reservada por",
    "gast",
];

/// Titles before the name of a person, in lower case without accents.
const TITLES: [&str; 10] = [
    "mr", "mrs", "ms", "sr", "sra", "senor", "senora", "herr", "frau", "srta",
];

/// Words that a text about a stay begins with, in lower case without accents.
const LEADS: [&str; 24] = [
    "reserva",
    "reservada",
    "reservado",
    "reserved",
    "reservation",
    "booking",
    "booked",
    "ocupado",
    "ocupada",
    "blocked",
    "bloqueado",
    "stay",
    "estadia",
    "de",
    "del",
    "para",
    "por",
    "for",
    "by",
    "of",
    "guest",
    "huesped",
    "confirmed",
    "confirmada",
];

/// Words that name a place or a channel and no person, in lower case without accents.
const PLACES: [&str; 42] = [
    "cabana",
    "cabanas",
    "casa",
    "cabin",
    "cabins",
    "room",
    "habitacion",
    "depto",
    "departamento",
    "apartment",
    "apartamento",
    "apto",
    "apart",
    "suite",
    "unidad",
    "unit",
    "lodge",
    "house",
    "villa",
    "hotel",
    "hostel",
    "hosteria",
    "posada",
    "bungalow",
    "domo",
    "dome",
    "loft",
    "studio",
    "chalet",
    "camping",
    "quinta",
    "santa",
    "san",
    "airbnb",
    "booking",
    "vrbo",
    "expedia",
    "not",
    "available",
    "closed",
    "unavailable",
    "mantenimiento",
];

/// Particles inside the name of a person, in lower case.
const PARTICLES: [&str; 11] = [
    "de", "del", "la", "los", "da", "dos", "do", "van", "von", "der", "y",
];

/// What a text has that looks like the name of a guest; the most certain of it.
pub(super) fn name(text: &str) -> Option<Named> {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut best = None;
    let mut after_label = false;
    for phrase in phrases(&text[..end]) {
        let (phrase, ends_in_colon) = match phrase.strip_suffix(':') {
            Some(phrase) => (phrase, true),
            None => (phrase, false),
        };
        let words = Words::of(phrase);
        let found = match words {
            Some(words) if after_label => labelled(&words),
            Some(words) => person_in(&words),
            None => None,
        };
        match (found, best) {
            (Some(Named::Certain), _) => return found,
            (Some(Named::Given(_)), Some(Named::Shape(_)) | None)
            | (Some(Named::Shape(_)), None) => best = found,
            _ => {}
        }
        after_label = ends_in_colon && words.is_some_and(|words| words.are_a_label());
    }
    best
}

/// Whether a property of somebody's own, such as `X-GUEST-NAME`, has the name of a guest: its own name says
/// so as a label does in a text.
pub(super) fn is_in_property(name: &[u8], value: &str) -> bool {
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    let label: Vec<&str> = name.split('-').skip(1).collect();
    let is_label = |words: &[&str]| GUEST_LABELS.contains(&words.join(" ").as_str());
    // A prefix of the program that writes it may stand before the label.
    let labels = (0..label.len()).any(|at| is_label(&label[at..]));
    let first = phrases(value).find(|phrase| !phrase.is_empty());
    let words = first.and_then(Words::of);
    labels && words.is_some_and(|words| labelled(&words).is_some())
}

/// Most words of a phrase that names a person, with those before the name.
const MAX_WORDS: usize = 8;

/// The words of a phrase.
#[derive(Clone, Copy)]
struct Words<'a> {
    words: [&'a str; MAX_WORDS],
    count: usize,
}

impl<'a> Words<'a> {
    /// None of a phrase with more words than a name has.
    fn of(phrase: &'a str) -> Option<Self> {
        let (mut words, mut count) = ([""; MAX_WORDS], 0);
        for word in phrase.split_whitespace() {
            *words.get_mut(count)? = word;
            count += 1;
        }
        Some(Self { words, count })
    }

    fn as_slice(&self) -> &[&'a str] {
        &self.words[..self.count]
    }

    fn are_a_label(&self) -> bool {
        GUEST_LABELS.contains(&folded(self.as_slice()).as_str())
    }
}

fn is_a_place<'a>(mut folded: impl Iterator<Item = &'a str>) -> bool {
    folded.any(|word| PLACES.contains(&word))
}

/// The parts of a text between punctuation; a colon stays at the end of its part.
fn phrases(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let bytes = rest.as_bytes();
        let found = (0..bytes.len()).find_map(|at| separator(&bytes[at..]).map(|len| (at, len)));
        let (end, next) = match found {
            Some((at, 0)) => (at + 1, at + 1),
            Some((at, len)) => (at, at + len),
            None => (bytes.len(), bytes.len()),
        };
        // Separators are whole characters.
        let phrase = rest.get(..end)?;
        rest = rest.get(next..)?;
        Some(phrase.trim())
    })
}

/// Length of the punctuation that these bytes begin with; 0 for a colon, which belongs to what is before
/// it; none for anything else.
fn separator(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [b':', ..] => Some(0),
        [
            b';' | b',' | b'(' | b')' | b'/' | b'|' | b'[' | b']' | b'\n',
            ..,
        ] => Some(1),
        [b' ', b'-', b' ', ..] => Some(3),
        // `·`, `–`, `—`
        [0xc2, 0xb7, ..] => Some(2),
        [0xe2, 0x80, 0x93 | 0x94, ..] => Some(3),
        _ => None,
    }
}

/// Behind a word such as `Guest:`, one word with a capital is enough.
fn labelled(words: &Words<'_>) -> Option<Named> {
    let words = words.as_slice();
    if !is_capital(words.first()?) {
        return None;
    }
    (!is_a_place(folded(words).split(' '))).then_some(Named::Certain)
}

/// A person in a phrase, after the words that such a text begins with.
fn person_in(words: &Words<'_>) -> Option<Named> {
    let words = words.as_slice();
    // Most phrases end here: a name has two words with capitals, and nothing but letters.
    let begins = |word: &&str| word.starts_with(char::is_alphabetic);
    let capitals = words.iter().filter(|word| is_capital(word)).count();
    if capitals < 2 || !words.iter().all(begins) {
        return None;
    }
    let folded = folded(words);
    let mut names = folded.split(' ');
    let leads = folded
        .split(' ')
        .take_while(|word| LEADS.contains(word))
        .count();
    if leads > 0 {
        names.nth(leads - 1);
    }
    let words = &words[leads..];
    let first = names.clone().next()?;
    if TITLES.contains(&first) && words.get(1).is_some_and(|word| is_capital(word)) {
        return Some(Named::Certain);
    }
    let is_name = |word: &&str| is_capital(word) || PARTICLES.contains(word);
    let capitals = words.iter().filter(|word| is_capital(word)).count();
    let is_long = words.len() > 5;
    if capitals < 2 || is_long || !words.iter().all(is_name) || is_a_place(names.clone()) {
        return None;
    }
    let key = names.clone().fold(0, |key, word| hash(&(key, word)));
    Some(match is_given_name(first) {
        true => Named::Given(key),
        false => Named::Shape(key),
    })
}

/// Whether a word has letters alone and begins with a capital.
fn is_capital(word: &str) -> bool {
    let word = word.trim_end_matches('.');
    let is_letter = |c: char| c.is_alphabetic() || matches!(c, '-' | '\'' | '’');
    word.starts_with(char::is_uppercase) && word.chars().count() >= 2 && word.chars().all(is_letter)
}

/// Words in lower case, without the accents of the languages of [`is_given_name`], with a space between.
fn folded(words: &[&str]) -> String {
    let plain = |c: char| match c {
        'á' | 'à' | 'â' | 'ã' | 'ä' => 'a',
        'é' | 'è' | 'ê' | 'ë' => 'e',
        'í' | 'ì' | 'î' | 'ï' => 'i',
        'ó' | 'ò' | 'ô' | 'õ' | 'ö' => 'o',
        'ú' | 'ù' | 'û' | 'ü' => 'u',
        'ñ' => 'n',
        'ç' => 'c',
        c => c,
    };
    let mut out = String::with_capacity(words.iter().map(|word| word.len() + 1).sum());
    for (n, word) in words.iter().enumerate() {
        if n > 0 {
            out.push(' ');
        }
        let word = word.trim_matches(|c: char| !c.is_alphanumeric());
        if word.is_ascii() {
            out.push_str(word);
        } else {
            out.extend(word.chars().flat_map(char::to_lowercase).map(plain));
        }
    }
    out.make_ascii_lowercase();
    out
}
