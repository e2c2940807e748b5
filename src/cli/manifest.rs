//! Reads objects from files, as kubectl does.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::flytoml::not_utf8;

/// Ends of the names of files that are read in a directory, as by kubectl.
const EXTENSIONS: [&str; 3] = ["json", "yaml", "yml"];

/// Most bytes that are read of one file. The API server takes objects of at most 3 MiB, and a file may
/// have several.
const MAX_BYTES: u64 = 32 << 20;

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ManifestError {
    #[error("cannot read {path}")]
    Read { path: String, source: io::Error },
    #[error("{path} is not UTF-8 text: {why}; save it as UTF-8")]
    NotText { path: String, why: String },
    #[error("{0} has more than {limit} MiB, which is more than any manifest needs", limit = MAX_BYTES >> 20)]
    TooLarge(String),
    #[error("there is no file in {0} that ends in .yaml, .yml or .json")]
    Empty(String),
    #[error("{path}{place}: {message}")]
    Yaml {
        path: String,
        place: String,
        message: String,
    },
}

/// Name and contents of a file; `-` is standard input.
pub(super) fn read(path: &Path) -> Result<(String, String), ManifestError> {
    let name = path.display().to_string();
    let read = if path.as_os_str() == "-" {
        at_most(io::stdin().lock())
    } else {
        fs::File::open(path).and_then(at_most)
    };
    let read = read.map_err(|source| ManifestError::Read {
        path: name.clone(),
        source,
    })?;
    let Some(bytes) = read else {
        return Err(ManifestError::TooLarge(name));
    };
    if let Some(why) = not_utf8(&bytes) {
        return Err(ManifestError::NotText { path: name, why });
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok((name, text))
}

/// All that there is to read, or `None` when it is more than is read: a device has no end.
fn at_most(source: impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    source.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= MAX_BYTES).then_some(bytes))
}

/// The same of a file, or of every manifest in a directory, in the order of their names.
pub(super) fn read_all(path: &Path) -> Result<Vec<(String, String)>, ManifestError> {
    if !path.is_dir() {
        return Ok(vec![read(path)?]);
    }
    let cannot = |source| ManifestError::Read {
        path: path.display().to_string(),
        source,
    };
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(path).map_err(cannot)? {
        let file = entry.map_err(cannot)?.path();
        let extension = file.extension().and_then(|extension| extension.to_str());
        if extension.is_some_and(|extension| EXTENSIONS.contains(&extension)) && file.is_file() {
            files.push(file);
        }
    }
    if files.is_empty() {
        return Err(ManifestError::Empty(path.display().to_string()));
    }
    files.sort();
    files.iter().map(|file| read(file)).collect()
}

/// All objects of all files; a `List` counts as its items.
pub(super) fn objects(texts: &[(String, String)]) -> Result<Vec<Value>, ManifestError> {
    let mut objects = Vec::new();
    for (path, text) in texts {
        // The output of a generator for a whole cluster is much larger than a configuration.
        let options = serde_saphyr::options! {
            budget: serde_saphyr::budget! {
                max_documents: 50_000,
                max_nodes: 4_000_000,
                max_events: 8_000_000,
            },
        };
        let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)
            .map_err(|error| not_yaml(path, &error))?;
        for document in documents {
            match document.get("items").and_then(Value::as_array) {
                Some(items) if kind(&document).ends_with("List") => {
                    objects.extend(items.iter().cloned());
                }
                _ => objects.push(document),
            }
        }
    }
    Ok(objects)
}

fn not_yaml(path: &str, error: &serde_saphyr::Error) -> ManifestError {
    let place = error.location().map_or(String::new(), |place| {
        format!(":{}:{}", place.line(), place.column())
    });
    let message = match error.without_snippet() {
        serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("the key {key} is there twice; remove one of them")
        }
        serde_saphyr::Error::DuplicateMappingKey { key: None, .. } => {
            "a key is there twice; remove one of them".to_owned()
        }
        other => {
            let formatter = serde_saphyr::UserMessageFormatter;
            let text = other.render_with_formatter(&formatter);
            let line = text.lines().next().unwrap_or_default();
            format!("not YAML: {line}")
        }
    };
    ManifestError::Yaml {
        path: path.to_owned(),
        place,
        message,
    }
}

/// The kind of an object.
pub(super) fn kind(object: &Value) -> &str {
    let kind = object.get("kind").and_then(Value::as_str);
    kind.unwrap_or_default()
}

/// The name of an object.
pub(super) fn name(object: &Value) -> &str {
    let name = object.pointer("/metadata/name");
    name.and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_objects_are_read_as_a_generator_writes_for_a_cluster() {
        let text = "---\nkind: Pod\n".repeat(2_000);
        let read = objects(&[("all.yaml".to_owned(), text)]);
        assert!(matches!(read, Ok(read) if read.len() == 2_000));
    }

    #[test]
    fn a_file_without_an_end_is_refused_and_not_read_until_the_memory_is_full() {
        assert!(matches!(at_most(io::repeat(b'x')), Ok(None)));
        let whole = at_most(io::repeat(b'x').take(MAX_BYTES));
        assert!(matches!(whole, Ok(Some(bytes)) if bytes.len() as u64 == MAX_BYTES));
        let error = ManifestError::TooLarge("/dev/zero".to_owned());
        assert_eq!(
            error.to_string(),
            "/dev/zero has more than 32 MiB, which is more than any manifest needs"
        );
    }
}
