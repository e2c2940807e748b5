//! Sizes such as `10gb`, `512 MB`, `1GiB`, `256`.
//!
//! As in flyctl (docker/go-units), units of volumes are powers of ten and units of memory powers of
//! two, with or without an `i`. A bare number has the unit of the field.

/// A gigabyte of volume, in bytes.
const GB: f64 = 1e9;

/// A mebibyte of memory, in bytes.
const MIB: f64 = 1024.0 * 1024.0;

/// Size of a volume in GB, rounded down; `None` when it is not a size.
pub fn volume_gb(text: &str) -> Option<i64> {
    bare(text).or_else(|| Some((bytes(text, 1000.0)? / GB) as i64))
}

/// Memory in MB (of 1024 × 1024 bytes), rounded down; `None` when it is not a size.
pub fn memory_mb(text: &str) -> Option<i64> {
    bare(text).or_else(|| Some((bytes(text, 1024.0)? / MIB) as i64))
}

/// A whole number without a unit.
fn bare(text: &str) -> Option<i64> {
    text.parse().ok()
}

fn bytes(text: &str, base: f64) -> Option<f64> {
    let last = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ')?;
    let (number, unit) = text.split_at(last + 1);
    let number = number.strip_suffix(' ').unwrap_or(number);
    // Rust also parses `inf` and `nan`; as in Go, the text must end with a digit or point.
    let size: f64 = number.parse().ok()?;
    if !size.is_finite() || size < 0.0 {
        return None;
    }
    let unit = unit.to_ascii_lowercase();
    let mut letters = unit.chars();
    let power = match letters.next() {
        None => return Some(size.trunc()),
        Some('b') => return letters.next().is_none().then(|| size.trunc()),
        Some('k') => 1,
        Some('m') => 2,
        Some('g') => 3,
        Some('t') => 4,
        Some('p') => 5,
        Some(_) => return None,
    };
    matches!(letters.as_str(), "" | "b" | "ib").then(|| (size * base.powi(power)).trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_decimal_and_memory_is_binary() {
        for (text, gb) in [
            ("10", Some(10)),
            ("10gb", Some(10)),
            ("10GiB", Some(10)),
            ("1.5 TB", Some(1500)),
            ("999mb", Some(0)),
            ("-3", Some(-3)),
            ("ten", None),
            ("10xb", None),
            ("10gbb", None),
            ("", None),
            ("-3gb", None),
        ] {
            assert_eq!(volume_gb(text), gb, "{text}");
        }
        for (text, mb) in [
            ("512", Some(512)),
            ("512mb", Some(512)),
            ("1gb", Some(1024)),
            ("0.5g", Some(512)),
            ("1e3kb", Some(0)),
            ("1b", Some(0)),
            ("gb", None),
        ] {
            assert_eq!(memory_mb(text), mb, "{text}");
        }
    }
}
