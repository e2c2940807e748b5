//! A store as bytes, for one ConfigMap: short, with a version and a checksum.
//!
//! Numbers are LEB128, counts that are whole take their digits alone, times are differences. What the
//! segments of one watch have in common, the bounds of buckets, is written once. A reader keeps every version
//! that was ever written; one that it does not know is refused, not guessed.

use std::collections::BTreeMap;

use super::histogram::{Buckets, MAX_BUCKETS};
use super::store::{MAX_OBJECTIVES, MAX_RELEASES, MAX_SEGMENTS, Segment, Served, Store, is_sound};
use super::tally::{Cell, Kind, Tally, Values};
use super::tracker::{Before, Key, Known, MAX_INSTANCES, Tracker};

/// What the bytes begin with.
const MAGIC: &[u8; 4] = b"GSLO";

/// The version that is written.
pub const VERSION: u8 = 1;

/// Most bytes that are written: as base64 with what the watch is about, far below the 1 MiB of a ConfigMap.
/// Three objectives take a sixth of it.
pub const MAX_STORED: usize = 256 << 10;

/// Most bytes that are read.
pub const MAX_BYTES: usize = 512 << 10;

/// Most layouts of buckets in a store.
const MAX_LAYOUTS: usize = 256;

/// Longest id of a machine. Unit: bytes.
const MAX_ID: usize = 128;

/// Why bytes are no store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeFault {
    /// They do not begin as a store does.
    #[error("these bytes are not the observations of a watch")]
    Other,
    /// A newer version of Golive wrote them.
    #[error("a newer version of Golive wrote these observations (format {0})")]
    Version(u8),
    /// They were cut off or changed.
    #[error("the observations are damaged: their checksum is wrong")]
    Checksum,
    /// They are too many.
    #[error("the observations have more than {MAX_BYTES} bytes")]
    Long,
    /// The checksum is right and the content is not.
    #[error("the observations contradict themselves")]
    Content,
}

impl Store {
    /// The store as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.signed(self.begin);
        out.unsigned(self.kinds.len() as u64);
        for kind in &self.kinds {
            out.byte(kind_code(*kind));
        }
        out.unsigned(self.segments.len() as u64);
        let mut before = self.begin;
        for segment in &self.segments {
            out.signed(segment.from - before);
            out.signed(segment.to - segment.from);
            before = segment.to;
            for cell in &segment.cells {
                out.cell(cell, segment.to - segment.from);
            }
        }
        out.unsigned(self.served.len() as u64);
        for served in &self.served {
            out.signed(served.since - self.begin);
            out.unsigned(u64::from(served.release));
        }
        out.tracker(&self.tracker, self.begin);
        out.finish()
    }

    /// The store of these bytes.
    ///
    /// # Errors
    /// When they are not a store, of a newer version, damaged, or contradict themselves.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeFault> {
        if bytes.len() > MAX_BYTES {
            return Err(DecodeFault::Long);
        }
        let rest = bytes.strip_prefix(MAGIC).ok_or(DecodeFault::Other)?;
        let (version, rest) = rest.split_first().ok_or(DecodeFault::Other)?;
        if *version != VERSION {
            return Err(DecodeFault::Version(*version));
        }
        let (body, sum) = rest.split_last_chunk::<4>().ok_or(DecodeFault::Checksum)?;
        if crc32(body) != u32::from_le_bytes(*sum) {
            return Err(DecodeFault::Checksum);
        }
        let mut reader = Reader {
            rest: body,
            layouts: Vec::new(),
        };
        let store = reader.store().ok_or(DecodeFault::Content)?;
        match reader.rest.is_empty() {
            true => Ok(store),
            false => Err(DecodeFault::Content),
        }
    }
}

fn kind_code(kind: Kind) -> u8 {
    match kind {
        Kind::Events => 1,
        Kind::Buckets => 2,
        Kind::Values => 3,
        Kind::Lines => 4,
    }
}

/// The CRC-32 of IEEE 802.3, as in gzip.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    };
    !bytes.iter().fold(!0, step)
}

/// What a cell begins with: its time in full, in part, and what was counted.
const FULL: u8 = 1;
const PART: u8 = 2;
const COUNTED: u8 = 4;

#[derive(Default)]
struct Writer {
    out: Vec<u8>,
    layouts: Vec<Vec<u64>>,
}

impl Writer {
    fn byte(&mut self, byte: u8) {
        self.out.push(byte);
    }

    fn unsigned(&mut self, mut number: u64) {
        while number > 0x7f {
            self.byte(number as u8 | 0x80);
            number >>= 7;
        }
        self.byte(number as u8);
    }

    fn signed(&mut self, number: i64) {
        self.unsigned(((number << 1) ^ (number >> 63)) as u64);
    }

    fn bits(&mut self, number: f64) {
        self.out.extend(number.to_bits().to_le_bytes());
    }

    /// A count: twice itself if it is whole and small enough, else 1 and its bits.
    fn count(&mut self, count: f64) {
        if count.fract() == 0.0 && (0.0..9e15).contains(&count) {
            self.unsigned((count as u64) << 1);
        } else {
            self.unsigned(1);
            self.bits(count);
        }
    }

    fn cell(&mut self, cell: &Cell, length: i64) {
        let is_full = cell.seen == length && cell.bridged == 0;
        let is_part = !is_full && (cell.seen, cell.bridged) != (0, 0);
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        let counted = flag(cell.tally.is_some(), COUNTED);
        self.byte(flag(is_full, FULL) | flag(is_part, PART) | counted);
        if is_part {
            self.unsigned(cell.seen as u64);
            self.unsigned(cell.bridged as u64);
        }
        if let Some(tally) = &cell.tally {
            self.tally(tally);
        }
    }

    fn tally(&mut self, tally: &Tally) {
        match tally {
            Tally::Events { total, bad } => {
                self.count(*total);
                self.count(*bad);
            }
            Tally::Lines(lines) => self.count(*lines),
            Tally::Values(values) => {
                self.count(values.samples);
                self.count(values.outside);
                for number in [values.low, values.high, values.last] {
                    self.bits(number);
                }
            }
            Tally::Buckets(buckets) => self.buckets(buckets),
        }
    }

    /// The number of the layout, its bounds if it is new, and what each bucket has more than the one before.
    fn buckets(&mut self, buckets: &Buckets) {
        let bounds: Vec<u64> = buckets.bounds().iter().map(|b| b.to_bits()).collect();
        let known = self.layouts.iter().position(|layout| *layout == bounds);
        let narrowed = u64::from(buckets.is_narrowed());
        // A store with very many layouts writes some of them again.
        match known {
            Some(at) => self.unsigned((((at + 1) as u64) << 1) | narrowed),
            None => {
                self.unsigned(narrowed);
                self.unsigned(bounds.len() as u64);
                for bound in &bounds {
                    self.out.extend(bound.to_le_bytes());
                }
                if self.layouts.len() < MAX_LAYOUTS {
                    self.layouts.push(bounds);
                }
            }
        }
        let mut before = 0.0;
        for count in buckets.counts() {
            // A bucket that fell is written as it is.
            let more = count - before;
            if more >= 0.0 && before + more == *count {
                self.count(more);
            } else {
                self.unsigned(3);
                self.bits(*count);
            }
            before = *count;
        }
    }

    fn tracker(&mut self, tracker: &Tracker, begin: i64) {
        self.signed(tracker.gap_after);
        for time in [tracker.last, tracker.since] {
            self.byte(u8::from(time.is_some()));
            self.signed(time.unwrap_or(begin) - begin);
        }
        // An id that is longer than any of Fly.io's is only kept in memory.
        let is_short = |key: &Key| !matches!(key, Key::Machine(id) if id.len() > MAX_ID);
        let instances = tracker.instances.iter();
        let instances: Vec<_> = instances.filter(|(key, _)| is_short(key)).collect();
        self.unsigned(instances.len() as u64);
        for (key, known) in instances {
            match key {
                Key::Edge => self.byte(0),
                Key::Process(start) => {
                    self.byte(1);
                    self.signed(*start);
                }
                Key::Machine(id) => {
                    self.byte(2);
                    self.unsigned(id.len() as u64);
                    self.out.extend(id.as_bytes());
                }
            }
            self.signed(known.at - begin);
            self.byte(u8::from(known.start.is_some()));
            if let Some(start) = known.start {
                self.bits(start);
            }
            self.unsigned(known.before.len() as u64);
            for before in &known.before {
                let sum = before.sum();
                self.byte(sum.as_ref().map_or(0, |sum| kind_code(sum.kind())));
                if let Some(sum) = &sum {
                    self.tally(sum);
                }
            }
        }
    }

    fn finish(self) -> Vec<u8> {
        seal(&self.out)
    }
}

/// A content between its head and its checksum.
pub(crate) fn seal(content: &[u8]) -> Vec<u8> {
    let sum = crc32(content).to_le_bytes();
    [MAGIC.as_slice(), &[VERSION], content, &sum].concat()
}

/// Reads what was written. Each method ends with none for what cannot be.
struct Reader<'a> {
    rest: &'a [u8],
    layouts: Vec<Vec<f64>>,
}

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*byte)
    }

    fn unsigned(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            // The tenth byte has one bit.
            if shift == 63 && part > 1 {
                return None;
            }
            number |= part << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn signed(&mut self) -> Option<i64> {
        let number = self.unsigned()?;
        Some((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    fn bits(&mut self) -> Option<f64> {
        let (bytes, rest) = self.rest.split_first_chunk::<8>()?;
        self.rest = rest;
        Some(f64::from_bits(u64::from_le_bytes(*bytes)))
    }

    fn length(&mut self, most: usize) -> Option<usize> {
        let length = usize::try_from(self.unsigned()?).ok()?;
        (length <= most).then_some(length)
    }

    /// A duration, or a time that a sum with another one cannot overflow.
    fn time(&mut self) -> Option<i64> {
        let time = self.signed()?;
        // Ten thousand years.
        (time.unsigned_abs() < 315_576_000_000_000).then_some(time)
    }

    fn count(&mut self) -> Option<f64> {
        let number = self.unsigned()?;
        match number {
            1 => self.bits(),
            number if number & 1 == 0 => Some((number >> 1) as f64),
            _ => None,
        }
    }

    fn store(&mut self) -> Option<Store> {
        let begin = self.time()?;
        let kinds = self.length(MAX_OBJECTIVES)?;
        let kinds = (0..kinds).map(|_| kind(self.byte()?));
        let kinds: Vec<Kind> = kinds.collect::<Option<_>>()?;
        let count = self.length(MAX_SEGMENTS)?;
        let mut segments: Vec<Segment> = Vec::new();
        let mut before = begin;
        for _ in 0..count {
            let hole = self.time()?;
            let length = self.time()?;
            if hole != 0 || length <= 0 {
                return None;
            }
            let (from, to) = (before, before.checked_add(length)?);
            before = to;
            let cells = kinds.iter().map(|kind| self.cell(*kind, length));
            let cells = cells.collect::<Option<Vec<Cell>>>()?;
            segments.push(Segment { from, to, cells });
        }
        let count = self.length(MAX_RELEASES)?;
        let mut served: Vec<Served> = Vec::new();
        for _ in 0..count {
            let since = begin + self.time()?;
            let release = u32::try_from(self.unsigned()?).ok()?;
            if since < begin || served.last().is_some_and(|last| last.since >= since) {
                return None;
            }
            served.push(Served { since, release });
        }
        let tracker = self.tracker(begin)?;
        Some(Store {
            begin,
            kinds,
            segments,
            served,
            tracker,
        })
    }

    fn cell(&mut self, kind: Kind, length: i64) -> Option<Cell> {
        let flags = self.byte()?;
        if flags > 7 || flags & (FULL | PART) == FULL | PART {
            return None;
        }
        let mut cell = Cell::default();
        if flags & FULL != 0 {
            cell.seen = length;
        }
        if flags & PART != 0 {
            cell.seen = i64::try_from(self.unsigned()?).ok()?;
            cell.bridged = i64::try_from(self.unsigned()?).ok()?;
        }
        if flags & COUNTED != 0 {
            cell.tally = Some(self.tally(kind)?);
        }
        is_sound(&cell, length).then_some(cell)
    }

    fn tally(&mut self, kind: Kind) -> Option<Tally> {
        let tally = match kind {
            Kind::Events => Tally::Events {
                total: self.count()?,
                bad: self.count()?,
            },
            Kind::Lines => Tally::Lines(self.count()?),
            Kind::Values => Tally::Values(Values {
                samples: self.count()?,
                outside: self.count()?,
                low: self.bits()?,
                high: self.bits()?,
                last: self.bits()?,
            }),
            Kind::Buckets => Tally::Buckets(self.buckets()?),
        };
        tally.is_sound().then_some(tally)
    }

    fn buckets(&mut self) -> Option<Buckets> {
        let head = self.unsigned()?;
        let bounds = match usize::try_from(head >> 1).ok()?.checked_sub(1) {
            Some(at) => self.layouts.get(at)?.clone(),
            None => {
                let length = self.length(MAX_BUCKETS)?;
                let bounds = (0..length).map(|_| self.bits());
                let bounds: Vec<f64> = bounds.collect::<Option<_>>()?;
                if !bounds.windows(2).all(|pair| pair[0] < pair[1]) {
                    return None;
                }
                if self.layouts.len() < MAX_LAYOUTS {
                    self.layouts.push(bounds.clone());
                }
                bounds
            }
        };
        let mut pairs = Vec::with_capacity(bounds.len());
        let mut before = 0.0;
        for bound in bounds {
            let number = self.unsigned()?;
            before = match number {
                1 => before + self.bits()?,
                3 => self.bits()?,
                number if number & 1 == 0 => before + (number >> 1) as f64,
                _ => return None,
            };
            pairs.push((bound, before));
        }
        let buckets = Buckets::new(pairs).ok()?;
        Some(buckets.narrowed(head & 1 == 1))
    }

    fn tracker(&mut self, begin: i64) -> Option<Tracker> {
        let gap_after = self.time()?;
        let mut times = [None, None];
        for time in &mut times {
            let is_there = self.flag()?;
            let since = begin + self.time()?;
            *time = is_there.then_some(since);
        }
        let count = self.length(MAX_INSTANCES)?;
        let mut instances = BTreeMap::new();
        for _ in 0..count {
            let key = match self.byte()? {
                0 => Key::Edge,
                1 => Key::Process(self.signed()?),
                2 => {
                    let length = self.length(MAX_ID)?;
                    let (id, rest) = self.rest.split_at_checked(length)?;
                    self.rest = rest;
                    Key::Machine(String::from_utf8(id.to_vec()).ok()?)
                }
                _ => return None,
            };
            let at = begin + self.time()?;
            let start = match self.flag()? {
                true => Some(self.bits()?),
                false => None,
            };
            let length = self.length(MAX_OBJECTIVES)?;
            let before = (0..length).map(|_| self.before());
            let before = before.collect::<Option<Vec<Before>>>()?;
            let known = Known { at, start, before };
            if instances.insert(key, known).is_some() {
                return None;
            }
        }
        let [last, since] = times;
        (gap_after > 0).then_some(Tracker {
            gap_after,
            last,
            since,
            instances,
        })
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn before(&mut self) -> Option<Before> {
        let code = self.byte()?;
        if code == 0 {
            return Some(Before::Nothing);
        }
        let kind = kind(code)?;
        self.tally(kind).map(Before::Sum)
    }
}

fn kind(code: u8) -> Option<Kind> {
    let kinds = [Kind::Events, Kind::Buckets, Kind::Values, Kind::Lines];
    kinds.into_iter().find(|kind| kind_code(*kind) == code)
}
