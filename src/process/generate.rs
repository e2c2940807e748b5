//! Generates files from the API types, the CustomResourceDefinitions and the field reference, and with
//! [`packages`] what is made from other files of the repository.

use std::path::{Path, PathBuf};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use crate::api::{crds, reference_doc};
use crate::process::packages;

/// Why the generated files could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A definition cannot be written as YAML.
    #[error("cannot write a definition as YAML")]
    Yaml(#[from] serde_saphyr::ser::Error),
    /// A file that is made from others cannot be made.
    #[error(transparent)]
    Package(#[from] packages::Error),
    /// A file cannot be written.
    #[error("cannot write {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
}

/// Writes the generated files below `root`, and returns their paths from there.
///
/// # Errors
/// When a file or its folder cannot be written.
pub fn write(root: &Path) -> Result<Vec<&'static str>, Error> {
    let mut written = Vec::new();
    for (name, text) in generated(root)? {
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
fn generated(root: &Path) -> Result<Vec<(&'static str, String)>, Error> {
    let crds = crds();
    let mut files = Vec::new();
    let mut texts = Vec::new();
    for crd in &crds {
        let path = match crd.spec.names.kind.as_str() {
            "Activation" => "crds/activations.yaml",
            _ => "crds/activationapprovals.yaml",
        };
        let text = yaml(crd)?;
        texts.push(text.clone());
        files.push((path, text));
    }
    files.push(("docs/reference/activation.md", reference_doc::text(&crds)));
    files.extend(packages::generated(root, &texts)?);
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
        for (path, text) in generated(root).unwrap() {
            let found = std::fs::read_to_string(root.join(path)).unwrap_or_default();
            assert!(found == text, "{path} is not current: run `make generate`");
        }
    }

    #[test]
    fn outside_of_a_copy_of_the_repository_the_missing_source_is_named() {
        let temporary = tempfile::tempdir().unwrap();
        let error = write(temporary.path()).unwrap_err();
        let text = crate::causes::chain(&error);
        assert!(text.contains("values.schema.json"), "{text}");
    }
}
