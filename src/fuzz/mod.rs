//! Fuzzing: whatever comes from outside, no text makes Golive panic, takes long, or gets past a guard.
//!
//! Each target is a test that runs its corpus, `tests/fuzz/TARGET`, then what is made of it at random,
//! for `GOLIVE_FUZZ_MS` (default: [`DEFAULT`]). A failure prints the seed that repeats it. Only
//! in tests. May use everything; nothing uses it. `make fuzz` runs all targets longer.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use std::{path::PathBuf, time::Duration};

use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike,
};

mod answers;
mod net;
mod objectives;
mod plan;
mod readers;
mod redaction;
mod shown;
mod status;
mod text;

/// How long a target runs, unless `GOLIVE_FUZZ_MS` says something else.
const DEFAULT: Duration = Duration::from_secs(2);

/// Most time of the processor for one input, also in a build without optimization. Far more than any
/// takes, and far less than one that grows with the square of its input.
const LONGEST: Duration = Duration::from_secs(2);

/// Longest input that is made, in bytes.
const MAX_LEN: usize = 4096;

/// How long a target runs.
fn time() -> Duration {
    let millis = std::env::var("GOLIVE_FUZZ_MS").ok();
    let millis = millis.and_then(|millis| millis.parse().ok());
    millis.map_or(DEFAULT, Duration::from_millis)
}

/// Runs a target: `run` gets each file of the corpus, files that were changed at random, and bytes at
/// random.
macro_rules! target {
    ($name:literal, $run:expr) => {{
        let files = $crate::fuzz::corpus($name);
        let run = std::panic::AssertUnwindSafe($run);
        for file in &files {
            $crate::fuzz::bounded(|| (run.0)(file));
        }
        bolero::check!(name = $name)
            .with_max_len($crate::fuzz::MAX_LEN)
            .with_test_time($crate::fuzz::time())
            .for_each(|input: &[u8]| {
                let run = &run;
                $crate::fuzz::bounded(|| (run.0)(input));
                if let Some(changed) = $crate::fuzz::changed(&files, input) {
                    $crate::fuzz::bounded(|| (run.0)(&changed));
                }
            });
    }};
}
pub(crate) use target;

/// The files of a target's corpus.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    let folder = folder.join(name);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{folder:?}: {e}"));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{folder:?} has no file");
    let files = paths.iter().map(|path| std::fs::read(path).unwrap());
    files.collect()
}

/// Runs one input, which must not take long.
fn bounded(run: impl FnOnce()) {
    let used = || {
        let usage = getrusage(UsageWho::RUSAGE_THREAD).unwrap();
        let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
        Duration::from_micros(micros.unsigned_abs())
    };
    let before = used();
    run();
    let took = used().saturating_sub(before);
    assert!(took < LONGEST, "one input took {took:?}");
}

/// Pieces that are more likely to hurt than random bytes.
const PIECES: [&str; 28] = [
    "[",
    "]",
    "{",
    "}",
    "[[",
    "]]",
    "\"",
    "'",
    "'''",
    "\n",
    "\r\n",
    ".",
    ",",
    ":",
    "=",
    "#",
    "-",
    "\\",
    "\0",
    "null",
    "true",
    "9223372036854775808",
    "-1",
    "1e400",
    "NaN",
    "é\u{200d}\u{202e}",
    "0x7f000001",
    "\u{feff}",
];

/// One of the files, changed as the input says.
fn changed(files: &[Vec<u8>], input: &[u8]) -> Option<Vec<u8>> {
    let (first, edits) = input.split_first()?;
    let mut bytes = files[usize::from(*first) % files.len()].clone();
    for edit in edits.chunks_exact(4).take(16) {
        let at = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % (bytes.len() + 1);
        let end = (at + usize::from(edit[3] % 32)).min(bytes.len());
        match edit[2] % 7 {
            0 if at < bytes.len() => bytes[at] = edit[3],
            1 => drop(bytes.drain(at..end)),
            2 => {
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            3 => bytes.truncate(at),
            4 => {
                let other = &files[usize::from(edit[3]) % files.len()];
                let from = at % (other.len() + 1);
                let part = other[from..(from + 64).min(other.len())].to_vec();
                bytes.splice(at..at, part);
            }
            _ => {
                let piece = PIECES[usize::from(edit[3]) % PIECES.len()];
                bytes.splice(at..at, piece.bytes());
            }
        }
    }
    bytes.truncate(4 * MAX_LEN);
    Some(bytes)
}

/// Checks the document that the input is, and one of `documents` changed as the input says; what does not
/// decode is none.
fn each_json<T: serde::de::DeserializeOwned>(
    documents: &[serde_json::Value],
    input: &[u8],
    check: impl Fn(&T),
) {
    if let Ok(document) = serde_json::from_slice(input) {
        check(&document);
    }
    let Some((first, edits)) = input.split_first() else {
        return;
    };
    let document = &documents[usize::from(*first) % documents.len()];
    if let Ok(document) = serde_json::from_value(changed_json(document, edits)) {
        check(&document);
    }
}

/// A JSON document, with values changed, removed, doubled and deepened as the input says.
fn changed_json(document: &serde_json::Value, input: &[u8]) -> serde_json::Value {
    use serde_json::{Value, json};
    fn nodes(value: &Value) -> usize {
        1 + match value {
            Value::Array(items) => items.iter().map(nodes).sum::<usize>(),
            Value::Object(fields) => fields.values().map(nodes).sum(),
            _ => 0,
        }
    }
    fn visit(value: &mut Value, left: &mut usize, change: &mut dyn FnMut(&mut Value)) -> bool {
        if *left == 0 {
            change(value);
            return true;
        }
        *left -= 1;
        match value {
            Value::Array(items) => items.iter_mut().any(|item| visit(item, left, change)),
            Value::Object(fields) => fields.values_mut().any(|field| visit(field, left, change)),
            _ => false,
        }
    }
    let pool = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(i64::MAX),
        json!(u64::MAX),
        json!(1e300),
        json!(""),
        json!("\u{202e}\u{0}\n"),
        json!("x".repeat(3000)),
        json!("999999h"),
        json!("-1s"),
        json!("2030-13-45T99:99:99Z"),
        json!("9999-12-31T23:59:59Z"),
        json!([]),
        json!({}),
        json!({"name": "x", "key": "y"}),
        json!([[[[[[[[[[[[1]]]]]]]]]]]]),
    ];
    let mut document = document.clone();
    for edit in input.chunks_exact(4).take(12) {
        let mut at = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % nodes(&document).max(1);
        let mut change = |value: &mut Value| match (edit[2] % 5, &mut *value) {
            (0, Value::Object(fields)) => {
                let key = fields
                    .keys()
                    .nth(usize::from(edit[3]) % fields.len().max(1));
                if let Some(key) = key.cloned() {
                    fields.remove(&key);
                }
            }
            (1, Value::Array(items)) if !items.is_empty() => {
                let item = items[usize::from(edit[3]) % items.len()].clone();
                items.extend(vec![item; 40]);
            }
            (2, Value::String(text)) => text.push_str(PIECES[usize::from(edit[3]) % PIECES.len()]),
            (3, Value::String(text)) => {
                let keep = text.chars().count() * usize::from(edit[3]) / 256;
                *text = text.chars().take(keep).collect();
            }
            _ => *value = pool[usize::from(edit[3]) % pool.len()].clone(),
        };
        visit(&mut document, &mut at, &mut change);
    }
    document
}
