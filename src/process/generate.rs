//! Generates files from the API types: the CustomResourceDefinitions and the field reference.

use std::path::{Path, PathBuf};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use crate::api::{crds, reference_doc};

/// Why the generated files could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A definition cannot be written as YAML.
    #[error("cannot write a definition as YAML")]
    Yaml(#[from] serde_saphyr::ser::Error),
    /// A file cannot be written.
    #[error("cannot write {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

/// Writes the generated files below `root`, and returns their paths from there.
///
/// # Errors
/// When a file or its folder cannot be written.
pub fn write(root: &Path) -> Result<Vec<&'static str>, Error> {
    let mut written = Vec::new();
    for (name, text) in generated()? {
        let path = root.join(name);
        let file = |source| Error::File {
            path: path.clone(),
            source,
        };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(file)?;
        }
        std::fs::write(&path, text).map_err(file)?;
        written.push(name);
    }
    Ok(written)
}

/// The generated files: path from the root of the repository, and text.
fn generated() -> Result<Vec<(&'static str, String)>, serde_saphyr::ser::Error> {
    let crds = crds();
    let mut files = Vec::new();
    for crd in &crds {
        let path = match crd.spec.names.kind.as_str() {
            "Activation" => "crds/activations.yaml",
            _ => "crds/activationapprovals.yaml",
        };
        files.push((path, yaml(crd)?));
    }
    files.push(("docs/reference/activation.md", reference_doc::text(&crds)));
    Ok(files)
}

fn yaml(crd: &CustomResourceDefinition) -> Result<String, serde_saphyr::ser::Error> {
    let body = serde_saphyr::to_string(crd)?;
    Ok(format!(
        "# Generated from src/api by `make generate`.\n{body}"
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Set GOLIVE_GENERATE=1 to write the files first, as `golive generate` does.
    #[test]
    fn the_generated_files_are_current() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("GOLIVE_GENERATE").is_some() {
            write(root).unwrap();
        }
        for (path, text) in generated().unwrap() {
            let found = std::fs::read_to_string(root.join(path)).unwrap_or_default();
            assert!(found == text, "{path} is not current: run `make generate`");
        }
    }

    #[test]
    fn the_files_land_where_they_belong() {
        let temporary = tempfile::tempdir().unwrap();
        let written = write(temporary.path()).unwrap();
        assert!(written.contains(&"crds/activations.yaml"));
        for name in written {
            assert!(temporary.path().join(name).is_file(), "{name}");
        }
    }
}
