//! Writes the files that follow from the API types: the CRDs and the field reference.

use std::path::{Path, PathBuf};

use crate::api::crd;

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
    for (name, text) in crd::generated()? {
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    #[test]
    fn the_files_land_where_they_belong() {
        let temporary = tempfile::tempdir().unwrap();
        let written = super::write(temporary.path()).unwrap();
        assert!(written.contains(&"crds/activations.yaml"));
        for name in written {
            assert!(temporary.path().join(name).is_file(), "{name}");
        }
    }
}
