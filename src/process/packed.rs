//! Values that are rarely looked at, as compressed JSON. An object at rest takes a tenth of the memory
//! so: its structure is made of many small texts and lists, each with its own allocation.

use std::{fmt, marker::PhantomData};

use serde::{Serialize, de::DeserializeOwned};

/// A value in little memory.
pub struct Packed<T> {
    bytes: Box<[u8]>,
    of: PhantomData<fn() -> T>,
}

impl<T: Serialize> Packed<T> {
    /// Packs a value. `None`: it cannot be written as JSON.
    pub fn of(value: &T) -> Option<Self> {
        let json = serde_json::to_vec(value).ok()?;
        let bytes = lz4_flex::block::compress_prepend_size(&json);
        Some(Self {
            // Without room to grow.
            bytes: bytes.into_boxed_slice(),
            of: PhantomData,
        })
    }
}

impl<T> Packed<T> {
    /// The value, read as any type that has the same JSON. `None`: it cannot be.
    pub fn open<R: DeserializeOwned>(&self) -> Option<R> {
        let json = lz4_flex::block::decompress_size_prepended(&self.bytes).ok()?;
        serde_json::from_slice(&json).ok()
    }
}

impl<T> fmt::Debug for Packed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Packed({} bytes)", self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_read_as_it_was_and_takes_less() {
        let value: Vec<String> = (0..100)
            .map(|n| format!("the machine number {n}"))
            .collect();
        let packed = Packed::of(&value);
        let opened = packed.as_ref().and_then(Packed::open::<Vec<String>>);
        assert_eq!(opened.as_ref(), Some(&value));
        assert!(packed.is_some_and(|packed| packed.bytes.len() < 1000));
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        let packed = Packed::of(&"a text");
        assert_eq!(packed.and_then(|packed| packed.open::<u32>()), None);
    }
}
