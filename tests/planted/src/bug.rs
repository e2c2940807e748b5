//! The list of bugs.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::Error;

/// Where the list is, from the root of the repository.
const LIST: &str = "tests/planted/bugs.toml";

/// A bug that a test must catch.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bug {
    /// What is wrong with the code then.
    pub name: String,
    /// The file, from the root of the repository.
    pub file: PathBuf,
    /// The passage that is replaced. It is in the file once.
    pub find: String,
    /// What stands there instead.
    pub plant: String,
    /// The unit test that fails then, with its module path.
    pub caught_by: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    bug: Vec<Bug>,
}

/// All bugs of the repository at `root`.
///
/// # Errors
/// When the list cannot be read.
pub fn list(root: &Path) -> Result<Vec<Bug>, Error> {
    let path = root.join(LIST);
    let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    let list: List = toml::from_str(&text).map_err(|source| Error::List {
        path,
        source: Box::new(source),
    })?;
    Ok(list.bug)
}

impl Bug {
    /// The file of the repository at `root`, as it is and with the bug.
    ///
    /// # Errors
    /// When the file cannot be read, or does not have the passage exactly once.
    pub fn plant_into(&self, root: &Path) -> Result<(String, String), Error> {
        let path = root.join(&self.file);
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        let count = text.matches(&self.find).count();
        if count != 1 {
            return Err(Error::Passage {
                name: self.name.clone(),
                file: self.file.clone(),
                count,
            });
        }
        let planted = text.replacen(&self.find, &self.plant, 1);
        Ok((text, planted))
    }
}
