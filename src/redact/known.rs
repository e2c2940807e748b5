//! What a redactor knows: hashes of the beginnings and of the whole of each encoding of each value.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};

use super::decode;
use super::forms::{FORMS, WINDOW, encode, is_base64, shared_characters};
use super::hash::{Key, Prefixes};
use super::strength::{SHORTEST, hideable, strong_prefix};

/// Most parts that the values of one object may have ([`super::parts`]), so that a redactor knows all of them
/// at the same time, beside what is made or read elsewhere in a pass.
pub const MOST_PARTS: usize = 3_072;

/// Parts that a redactor keeps when it forgets: all that the values of one object may have, and as many
/// as a pass meets elsewhere.
const KEPT: usize = MOST_PARTS + 1_024;

/// Most values, with their lines and passwords, that a redactor knows. Beyond it those are forgotten that
/// were not learned for the longest time, and [`KEPT`] remain: what the running pass has learned, also
/// again, is among them.
const MOST: usize = KEPT + 2_048;

/// Distance of the lengths at which the beginning of a value is recognized, up to [`FINE`] bytes.
const STEP: usize = 8;
const FINE: usize = 64;

/// One encoding of one value.
struct Needle {
    /// Hash of its first [`SHORTEST`] bytes.
    first: u64,
    /// Length in bytes.
    length: usize,
    /// Its hash.
    whole: u64,
    /// Lengths and hashes of its beginnings that are longer than the window.
    marks: Vec<(usize, u64)>,
    base64: bool,
    /// The values that it is a part of, by their hashes.
    of: Vec<u64>,
}

/// When a value was learned last, and how much is known of it.
struct Use {
    /// The number of the call that learned it.
    last: u64,
    parts: usize,
}

/// The needles of one value, and where they go in the index.
pub(super) struct Learned(Vec<((usize, u64), Needle)>);

impl Learned {
    /// The needles of a value; `None` if it is not hidden.
    pub(super) fn of(value: &[u8], key: Key) -> Option<Self> {
        hideable(value).ok()?;
        // A beginning of the value that public texts share is not enough in any encoding.
        let window = strong_prefix(value, WINDOW).unwrap_or(value.len());
        let mut seen = HashSet::new();
        let mut needles = Vec::new();
        for form in FORMS {
            let needle = encode(*form, value);
            let whole = key.append(0, &needle);
            if needle.len() < SHORTEST || !seen.insert((whole, needle.len())) {
                continue;
            }
            let window = if window > WINDOW {
                encode(*form, &value[..window]).len()
            } else {
                WINDOW
            };
            let window = window.clamp(SHORTEST, needle.len());
            let first = key.append(0, &needle[..SHORTEST]);
            let place = (window, key.append(0, &needle[..window]));
            needles.push((
                place,
                Needle {
                    first,
                    length: needle.len(),
                    whole,
                    marks: marks(&needle, window, key),
                    base64: is_base64(*form),
                    of: Vec::new(),
                },
            ));
        }
        Some(Self(needles))
    }
}

/// The beginnings of a needle by which a cut one is recognized: at short distances first, then at
/// growing ones.
fn marks(needle: &[u8], window: usize, key: Key) -> Vec<(usize, u64)> {
    let mut marks = Vec::new();
    let (mut at, mut hash) = (window, key.append(0, &needle[..window]));
    loop {
        let next = if at - window < FINE {
            at + STEP
        } else {
            at + at / 2
        };
        if next >= needle.len() {
            return marks;
        }
        hash = key.append(hash, &needle[at..next]);
        marks.push((next, hash));
        at = next;
    }
}

type First = HashMap<u64, Vec<usize>, BuildHasherDefault<AsItIs>>;

/// The hashes are random already.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        // The hash has 61 bits, and the map takes seven of its own from the top.
        self.0 = number.rotate_left(3);
    }
}

#[derive(Default)]
pub(super) struct Known {
    key: Key,
    /// By the hash of the first [`SHORTEST`] bytes: the lengths of windows that begin so.
    first: First,
    /// By length and hash of the window.
    needles: HashMap<(usize, u64), Vec<Needle>>,
    /// The values that were learned, by their hashes.
    values: HashMap<u64, Use>,
    hasher: RandomState,
    /// Number of values that were learned so far, also again.
    learned: u64,
    /// Number of parts that are known.
    parts: usize,
}

impl Known {
    pub(super) fn key(&self) -> Key {
        self.key
    }

    pub(super) fn is_empty(&self) -> bool {
        self.needles.is_empty()
    }

    /// Whether this value is known, with its parts; if so, it counts as learned just now.
    pub(super) fn touch(&mut self, value: &[u8]) -> bool {
        let id = self.hasher.hash_one(value);
        self.learned += 1;
        let Some(known) = self.values.get_mut(&id) else {
            return false;
        };
        known.last = self.learned;
        true
    }

    /// Adds a value with its parts.
    pub(super) fn add(&mut self, value: &[u8], parts: Vec<Learned>) {
        let id = self.hasher.hash_one(value);
        if self.values.contains_key(&id) {
            // Another task has learned it in the meantime.
            return;
        }
        // One that is not hidden takes room as well: that of its hash.
        let number = parts.len().max(1);
        if self.parts + number > MOST {
            self.forget_oldest();
        }
        self.learned += 1;
        self.parts += number;
        let last = self.learned;
        self.values.insert(
            id,
            Use {
                last,
                parts: number,
            },
        );
        for (place, mut needle) in parts.into_iter().flat_map(|part| part.0) {
            Self::index(&mut self.first, needle.first, place.0);
            let same = self.needles.entry(place).or_default();
            match same.iter_mut().find(|known| known.whole == needle.whole) {
                Some(known) if known.of.contains(&id) => {}
                Some(known) => known.of.push(id),
                None => {
                    needle.of.push(id);
                    same.push(needle);
                }
            }
        }
    }

    fn index(first: &mut First, hash: u64, window: usize) {
        let windows = first.entry(hash).or_default();
        if !windows.contains(&window) {
            windows.push(window);
        }
    }

    fn forget_oldest(&mut self) {
        let mut uses: Vec<(u64, usize)> = self.values.values().map(Use::age).collect();
        uses.sort_unstable_by_key(|(last, _)| std::cmp::Reverse(*last));
        let mut parts = 0;
        let kept = uses.iter().take_while(|(_, of)| {
            parts += of;
            parts <= KEPT
        });
        let from = kept.last().map_or(u64::MAX, |(last, _)| *last);
        self.values.retain(|_, known| known.last >= from);
        self.parts = self.values.values().map(|known| known.parts).sum();
        let values = &self.values;
        self.needles.retain(|_, needles| {
            needles.retain_mut(|needle| {
                needle.of.retain(|id| values.contains_key(id));
                !needle.of.is_empty()
            });
            !needles.is_empty()
        });
        self.first.clear();
        for ((window, _), needles) in &self.needles {
            for needle in needles {
                Self::index(&mut self.first, needle.first, *window);
            }
        }
    }

    /// The ranges of known values in the text, in order and without overlap. Also those that are escaped in
    /// it in whatever way.
    pub(super) fn find(&self, text: &[u8]) -> Vec<(usize, usize)> {
        if self.first.is_empty() || text.len() < SHORTEST {
            return Vec::new();
        }
        let mut found = self.find_in(text, Reading::Original);
        let before = found.len();
        for decoded in decode::all(text) {
            let more = self.find_in(&decoded.text, Reading::Decoded);
            found.extend(more.into_iter().map(|range| decoded.original(range)));
        }
        if found.len() > before {
            found = joined(found);
        }
        found
    }

    fn find_in(&self, text: &[u8], reading: Reading) -> Vec<(usize, usize)> {
        let mut found: Vec<(usize, usize)> = Vec::new();
        if text.len() < SHORTEST {
            return found;
        }
        let prefixes = Prefixes::of(self.key, text);
        for start in 0..=text.len() - SHORTEST {
            let lengths = prefixes
                .part(start, SHORTEST)
                .and_then(|first| self.first.get(&first));
            let Some(windows) = lengths else {
                continue;
            };
            let covered = found.last().map_or(0, |last| last.1);
            let Some(end) = self.end_at(text, (start, covered), windows, (&prefixes, reading))
            else {
                continue;
            };
            match found.last_mut() {
                // Adjacent or overlapping values become one range.
                Some(last) if last.1 >= start => last.1 = last.1.max(end),
                _ => found.push((start, end)),
            }
        }
        found
    }

    /// The end of the longest known value that begins at `start`. A value that is cut off counts
    /// beyond what is covered already, and beyond whole values, only if it goes on for certain.
    fn end_at(
        &self,
        text: &[u8],
        (start, covered): (usize, usize),
        windows: &[usize],
        (prefixes, reading): (&Prefixes, Reading),
    ) -> Option<usize> {
        let mut whole = None;
        let mut beginnings = Vec::new();
        for window in windows {
            let Some(hash) = prefixes.part(start, *window) else {
                continue;
            };
            for needle in self.needles.get(&(*window, hash)).into_iter().flatten() {
                match needle.whole_end(text, start, prefixes) {
                    Some(end) => whole = whole.max(Some(end)),
                    None => {
                        let known = (prefixes, reading);
                        beginnings.push(needle.beginning(text, start, *window, known));
                    }
                }
            }
        }
        let least = whole.unwrap_or(0).max(covered);
        let beyond = beginnings
            .into_iter()
            .filter(|(certain, _)| *certain > least);
        whole.max(beyond.map(|(_, end)| end).max())
    }
}

impl Use {
    /// When it was learned last, and how much room it takes.
    fn age(&self) -> (u64, usize) {
        (self.last, self.parts)
    }
}

impl Needle {
    /// Where the whole value ends that begins at `start`.
    fn whole_end(&self, text: &[u8], start: usize, prefixes: &Prefixes) -> Option<usize> {
        if prefixes.part(start, self.length) != Some(self.whole) {
            return None;
        }
        let end = start + self.length;
        let shared = if self.base64 {
            shared_characters(&text[end..])
        } else {
            0
        };
        Some(end + shared)
    }

    /// Where the beginning of this value ends for certain, and where it ends at most. The window was
    /// found at `start`.
    fn beginning(
        &self,
        text: &[u8],
        start: usize,
        window: usize,
        (prefixes, reading): (&Prefixes, Reading),
    ) -> (usize, usize) {
        let mut certain = window;
        for (length, hash) in &self.marks {
            if prefixes.part(start, *length) != Some(*hash) {
                let end = cut(text, start + certain, start + length, reading);
                return (start + certain, end);
            }
            certain = *length;
        }
        let end = cut(text, start + certain, start + self.length, reading);
        (start + certain, end)
    }
}

/// The end of a value that was cut off between these places: at an ellipsis, or the end of the line. In a
/// text without its escapes a value that does not end so was not cut off: it has escapes itself, and is
/// found in the original.
fn cut(text: &[u8], from: usize, to: usize, reading: Reading) -> usize {
    let rest = text.get(from..to.min(text.len())).unwrap_or_default();
    let ends =
        |at: &usize| matches!(rest[*at], b'\n' | b'\r') || rest[*at..].starts_with("…".as_bytes());
    let most = match reading {
        Reading::Decoded if to <= text.len() => 0,
        Reading::Decoded | Reading::Original => rest.len(),
    };
    from + (0..rest.len()).find(ends).unwrap_or(most)
}

/// What is searched: a text, or the same without its escapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Original,
    Decoded,
}

/// The same ranges, in order and without overlap.
fn joined(mut ranges: Vec<(usize, usize)>) -> Vec<(usize, usize)> {
    ranges.sort_unstable();
    let mut joined: Vec<(usize, usize)> = Vec::with_capacity(ranges.len());
    for (start, end) in ranges {
        match joined.last_mut() {
            Some(last) if last.1 >= start => last.1 = last.1.max(end),
            _ => joined.push((start, end)),
        }
    }
    joined
}

/// Bytes that a redactor uses for its hashes, without the overhead of its maps.
#[cfg(test)]
impl Known {
    pub(super) fn bytes(&self) -> usize {
        let needles = self.needles.values().flatten();
        needles
            .map(|needle| std::mem::size_of::<Needle>() + needle.marks.len() * 16)
            .sum()
    }
}
