//! Where a world keeps its files: `.golive/<name>/` in the repository.

use std::path::{Path, PathBuf};

use crate::fault::Fault;

/// Longest name of a world.
const LONGEST: usize = 30;

/// The files of one world.
#[derive(Clone, Debug)]
pub struct Place {
    name: String,
    root: PathBuf,
}

impl Place {
    /// Of the world of this name.
    pub fn of(name: &str) -> Result<Self, Fault> {
        let plain = name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if name.is_empty() || name.len() > LONGEST || !plain || name.starts_with('-') {
            return Err(Fault::new(format!(
                "{name:?} cannot be the name of a world: use up to {LONGEST} lower-case letters, \
                 digits and dashes"
            )));
        }
        // The checkout that this program was built from.
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let root = root
            .canonicalize()
            .map_err(|source| Fault::because(format!("cannot find {}", root.display()), source))?;
        Ok(Self {
            name: name.to_owned(),
            root,
        })
    }

    /// Name of the world.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The repository.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Everything of this world.
    pub fn dir(&self) -> PathBuf {
        self.root.join(".golive").join(&self.name)
    }

    /// What runs, for `down` and `status`.
    pub fn state_file(&self) -> PathBuf {
        self.dir().join("state.json")
    }

    /// Held while the world runs.
    pub fn lock_file(&self) -> PathBuf {
        self.root
            .join(".golive")
            .join(format!("{}.lock", self.name))
    }

    /// Variables for a shell. The first world's is at a shorter path.
    pub fn env_file(&self) -> PathBuf {
        if self.name == "default" {
            self.root.join(".golive/env")
        } else {
            self.dir().join("env")
        }
    }

    /// A path as a person in the repository would type it.
    pub fn shown(&self, path: &Path) -> String {
        path.strip_prefix(&self.root)
            .unwrap_or(path)
            .display()
            .to_string()
    }

    /// What to add to `make up` and others to mean this world.
    pub fn make_flag(&self) -> String {
        if self.name == "default" {
            String::new()
        } else {
            format!(" WORLD={}", self.name)
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_lead_out_of_the_directory() {
        for name in ["", "..", "a/b", "A", "-x", "a b"] {
            assert!(Place::of(name).is_err(), "{name:?}");
        }
        assert!(Place::of("second-2").is_ok());
    }

    #[test]
    fn worlds_share_no_file() {
        let (first, second) = (Place::of("default").unwrap(), Place::of("two").unwrap());
        assert!(!second.env_file().starts_with(first.dir()));
        assert_ne!(first.env_file(), second.env_file());
        assert_ne!(first.lock_file(), second.lock_file());
    }
}
