//! Measures the structure of a crate's source code: which file uses which, circles between files,
//! uses of a higher layer by a lower one, long functions, wide types.
//!
//! Everything is read from the text of the files by a parser; nothing is compiled. An import
//! counts as a use of the file that defines the item, however many re-exports lie between.
//! Code under `#[cfg(test)]` uses nothing in this sense.
//!
//! The order of the modules is the order of the work: [`scan`] reads one file, [`modules`] links
//! the files to a tree, [`names`] resolves paths in it, [`arrows`] collects who uses whom,
//! [`layers`] is the rule, [`report`] the text that `make house` prints.

pub mod arrows;
pub mod decisions;
pub mod layers;
pub mod modules;
pub mod names;
pub mod report;
pub mod scan;
#[cfg(test)]
mod tests;
mod tokens;

use std::path::{Path, PathBuf};

use arrows::Arrow;
use decisions::{Decision, With};
use scan::Source;

/// Why the source code cannot be measured.
#[derive(Debug)]
pub enum Error {
    /// A file or folder cannot be read.
    Read(PathBuf, std::io::Error),
    /// A file is not valid Rust.
    Parse {
        /// Its path.
        path: String,
        /// The line of the first error.
        line: usize,
        /// What the parser expected.
        message: String,
    },
    /// A thread that reads files panicked.
    Panicked,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Read(path, error) => write!(f, "cannot read {}: {error}", path.display()),
            Error::Parse {
                path,
                line,
                message,
            } => write!(f, "{path}:{line}: {message}"),
            Error::Panicked => f.write_str("a thread that reads files panicked"),
        }
    }
}

impl std::error::Error for Error {}

/// What is known of a crate's source code.
#[derive(Debug)]
pub struct House {
    /// Every file, by path.
    pub sources: Vec<Source>,
    /// Which file uses which, in order of the paths.
    pub arrows: Vec<Arrow>,
    /// Files that no `mod` declaration leads to. Indices of `sources`.
    pub unreached: Vec<usize>,
    /// Per file: whether it is compiled for tests only.
    pub is_test: Vec<bool>,
    /// Public modules without a doc comment, as file and name.
    pub undocumented_modules: Vec<(usize, String)>,
    /// Per file: the external crates (and other names from outside) that it uses.
    pub externals: Vec<std::collections::BTreeMap<String, usize>>,
}

impl House {
    /// Reads and measures `src/` below a folder.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or parsed.
    pub fn read(root: &Path) -> Result<House, Error> {
        let mut files = Vec::new();
        collect(root, &root.join("src"), &mut files)?;
        files.sort();
        House::of(&files)
    }

    /// Measures files given as path and text.
    ///
    /// # Errors
    ///
    /// If a text is not valid Rust.
    pub fn of<P: AsRef<str> + Sync, T: AsRef<str> + Sync>(
        files: &[(P, T)],
    ) -> Result<House, Error> {
        let sources = scan_all(files)?;
        let tree = modules::Tree::new(&sources);
        let found = arrows::find(&sources, &tree);
        Ok(House {
            arrows: found.arrows,
            externals: found.externals,
            unreached: tree.unreached(&sources),
            is_test: tree.test_files(&sources),
            undocumented_modules: tree.undocumented(&sources),
            sources,
        })
    }

    /// Groups of files that use each other in a circle: indices of `sources`, largest group first.
    #[must_use]
    pub fn circles(&self) -> Vec<Vec<usize>> {
        arrows::circles(self.sources.len(), &self.arrows)
    }

    /// Uses of a file in a higher layer.
    #[must_use]
    pub fn arrows_up(&self) -> Vec<&Arrow> {
        let is_up = |arrow: &&Arrow| layers::is_up(self.path(arrow.from), self.path(arrow.to));
        self.arrows.iter().filter(is_up).collect()
    }

    /// Uses of one phase's folder by another one's, or by what phases share.
    #[must_use]
    pub fn between_phases(&self) -> Vec<String> {
        let is_between =
            |arrow: &&Arrow| layers::couples_phases(self.path(arrow.from), self.path(arrow.to));
        let arrows = self.arrows.iter().filter(is_between);
        arrows.map(|arrow| self.describe(arrow)).collect()
    }

    /// Uses of Kubernetes, or of the types of our API, in layers that work without it.
    #[must_use]
    pub fn kubernetes(&self) -> Vec<String> {
        let (crates, folder) = layers::KUBERNETES;
        let is_without = |file: usize| {
            let mut folders = layers::NO_KUBERNETES.iter();
            folders.any(|folder| self.path(file).starts_with(folder))
        };
        let mut found = Vec::new();
        for (file, externals) in self.externals.iter().enumerate() {
            for (name, line) in externals.iter().filter(|_| is_without(file)) {
                if crates.contains(&name.as_str()) {
                    found.push(format!("{}:{line}: {name}", self.path(file)));
                }
            }
        }
        let arrows = self.arrows.iter();
        let own = arrows.filter(|a| is_without(a.from) && self.path(a.to).starts_with(folder));
        found.extend(own.map(|arrow| self.describe(arrow)));
        found
    }

    /// Where code outside of tests decides by a text for people.
    #[must_use]
    pub fn text_decisions(&self) -> Vec<(&str, &Decision)> {
        let texts = self.sources.iter().flat_map(|source| &source.texts);
        let sentences: std::collections::BTreeSet<&str> = texts
            .filter(|(_, value)| decisions::is_sentence(value))
            .map(|(name, _)| name.as_str())
            .collect();
        let counts = |decision: &&Decision| match &decision.with {
            With::Constant(name) => decision.is_text || sentences.contains(name.as_str()),
            With::Literal(_) | With::Other => true,
        };
        let product = self
            .sources
            .iter()
            .enumerate()
            .filter(|(file, _)| !self.is_test[*file]);
        product
            .flat_map(|(_, source)| {
                let found = source.decisions.iter().filter(counts);
                found.map(|decision| (source.path.as_str(), decision))
            })
            .collect()
    }

    /// The path of a file, from the root of the repository.
    #[must_use]
    pub fn path(&self, file: usize) -> &str {
        &self.sources[file].path
    }

    /// One arrow as text: where it starts, where it leads, by which names.
    #[must_use]
    pub fn describe(&self, arrow: &Arrow) -> String {
        let line = arrow.names.values().min().copied().unwrap_or_default();
        let names: Vec<&str> = arrow.names.keys().map(String::as_str).collect();
        format!(
            "{}:{line} -> {}: {}",
            self.path(arrow.from),
            self.path(arrow.to),
            names.join(", ")
        )
    }
}

/// Reads the files on two threads: a parsed file cannot leave its thread, what was read of it can.
fn scan_all<P: AsRef<str> + Sync, T: AsRef<str> + Sync>(
    files: &[(P, T)],
) -> Result<Vec<Source>, Error> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let size = files.len().div_ceil(threads).max(1);
    let scan = |part: &[(P, T)]| -> Result<Vec<Source>, Error> {
        let scanned = part.iter().map(|(path, text)| {
            // A place in a text has a meaning only in the thread that has parsed it.
            scan::scan(path.as_ref(), text.as_ref()).map_err(|error| Error::Parse {
                path: path.as_ref().to_owned(),
                line: error.span().start().line,
                message: error.to_string(),
            })
        });
        scanned.collect()
    };
    let parts: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = files
            .chunks(size)
            .map(|part| scope.spawn(move || scan(part)))
            .collect();
        threads.into_iter().map(|thread| thread.join()).collect()
    });
    let mut sources = Vec::with_capacity(files.len());
    for part in parts {
        sources.extend(part.map_err(|_| Error::Panicked)??);
    }
    Ok(sources)
}

/// All Rust files below a folder, as path from the root and text.
fn collect(root: &Path, folder: &Path, files: &mut Vec<(String, String)>) -> Result<(), Error> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| Error::Read(path, error)
    };
    for entry in std::fs::read_dir(folder).map_err(failed(folder))? {
        let path = entry.map_err(failed(folder))?.path();
        if path.is_dir() {
            collect(root, &path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).map_err(failed(&path))?;
            let name = path.strip_prefix(root).unwrap_or(&path);
            files.push((name.to_string_lossy().into_owned(), text));
        }
    }
    Ok(())
}
