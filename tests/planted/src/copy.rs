//! A copy of the repository, so that a run that is cut off leaves no bug behind.

use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::Error;

/// The copy. It shares the build of the dependencies with the repository.
pub struct Copy {
    /// Its root.
    pub root: PathBuf,
    /// Where cargo builds.
    pub target: PathBuf,
}

impl Copy {
    /// Copies every file of the repository at `root` that git knows or would add, as it is now.
    ///
    /// # Errors
    /// When a file cannot be copied.
    pub fn of(root: &Path) -> Result<Self, Error> {
        let target = root.join("target");
        let to = target.join("planted");
        if to.exists() {
            fs::remove_dir_all(&to).map_err(Error::io("remove", &to))?;
        }
        let files = Command::new("git")
            .current_dir(root)
            .args([
                "ls-files",
                "-z",
                "--cached",
                "--others",
                "--exclude-standard",
            ])
            .output()
            .map_err(Error::io("list the files of", root))?;
        for name in files.stdout.split(|byte| *byte == 0) {
            let from = root.join(OsStr::from_bytes(name));
            // A file that was removed and is still in git's index.
            if name.is_empty() || !from.is_file() {
                continue;
            }
            let copied = to.join(OsStr::from_bytes(name));
            if let Some(directory) = copied.parent() {
                fs::create_dir_all(directory).map_err(Error::io("create", directory))?;
            }
            fs::copy(&from, &copied).map_err(Error::io("copy", &from))?;
        }
        Ok(Self { root: to, target })
    }
}
