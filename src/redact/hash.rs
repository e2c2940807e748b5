//! A keyed polynomial hash, in which the hash of a part of a text follows from two prefix hashes.

/// 2^61 - 1, a prime.
const MODULUS: u64 = (1 << 61) - 1;

/// The base of the polynomial: random, so that nobody can choose texts that collide, and that a hash
/// reveals nothing about a value.
#[derive(Clone, Copy)]
pub(super) struct Key(u64);

impl Default for Key {
    fn default() -> Self {
        Self(rand::random_range(1 << 32..MODULUS))
    }
}

impl Key {
    /// The hash of this text after one whose hash is `before`.
    pub(super) fn append(self, before: u64, text: &[u8]) -> u64 {
        text.iter()
            .fold(before, |hash, byte| self.next(hash, *byte))
    }

    fn next(self, hash: u64, byte: u8) -> u64 {
        // No byte counts as nothing: the length is a part of the hash.
        reduce(u128::from(hash) * u128::from(self.0) + u128::from(byte) + 1)
    }
}

/// The prefix hashes of a text.
pub(super) struct Prefixes {
    hashes: Vec<u64>,
    powers: Vec<u64>,
}

impl Prefixes {
    pub(super) fn of(key: Key, text: &[u8]) -> Self {
        let mut hashes = Vec::with_capacity(text.len() + 1);
        let mut powers = Vec::with_capacity(text.len() + 1);
        let (mut hash, mut power) = (0, 1);
        hashes.push(hash);
        powers.push(power);
        for byte in text {
            hash = key.next(hash, *byte);
            power = reduce(u128::from(power) * u128::from(key.0));
            hashes.push(hash);
            powers.push(power);
        }
        Self { hashes, powers }
    }

    /// The hash of `length` bytes from `start`; `None` if the text ends before.
    pub(super) fn part(&self, start: usize, length: usize) -> Option<u64> {
        let end = *self.hashes.get(start.checked_add(length)?)?;
        let before = u128::from(*self.hashes.get(start)?) * u128::from(*self.powers.get(length)?);
        Some(reduce(
            u128::from(end) + u128::from(MODULUS - reduce(before)),
        ))
    }
}

fn reduce(number: u128) -> u64 {
    let modulus = u128::from(MODULUS);
    let once = (number & modulus) + (number >> 61);
    let twice = (once & modulus) + (once >> 61);
    let reduced = if twice >= modulus {
        twice - modulus
    } else {
        twice
    };
    u64::try_from(reduced).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_a_part_is_that_of_the_same_text_alone() {
        let key = Key::default();
        let text = b"\x00a text with \xff bytes, and the same: a text with";
        let prefixes = Prefixes::of(key, text);
        for start in 0..text.len() {
            for length in 0..=text.len() - start {
                let alone = key.append(0, &text[start..start + length]);
                assert_eq!(prefixes.part(start, length), Some(alone));
            }
            assert_eq!(prefixes.part(start, text.len() - start + 1), None);
        }
        assert_ne!(key.append(0, b"\0"), key.append(0, b"\0\0"));
    }
}
