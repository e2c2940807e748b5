//! The tree of modules: which file is which module.

use std::collections::BTreeMap;
use std::collections::HashMap;

use crate::scan::{Module, Source};

/// One module of a crate: a whole file or a `mod name { .. }` in one.
#[derive(Debug)]
pub struct Node {
    /// Index of the file.
    pub file: usize,
    /// Index among the modules of the file; the first is the file itself.
    pub local: usize,
    /// The module above; none for the root of a crate.
    pub parent: Option<usize>,
    /// The root of the crate.
    pub root: usize,
    /// Modules below, by name.
    pub children: BTreeMap<String, usize>,
    /// Whether it is compiled for tests only.
    pub is_test: bool,
}

/// All modules of all crates: the library and the programs.
#[derive(Debug)]
pub struct Tree {
    /// Every module; a parent comes before its children.
    pub nodes: Vec<Node>,
    /// The root of the library, which programs use by its name.
    pub library: Option<usize>,
}

impl Tree {
    /// Follows the `mod` declarations from `src/lib.rs`, `src/main.rs` and `src/bin/`.
    #[must_use]
    pub fn new(sources: &[Source]) -> Tree {
        let by_path: HashMap<&str, usize> = sources
            .iter()
            .enumerate()
            .map(|(at, source)| (source.path.as_str(), at))
            .collect();
        let mut tree = Tree {
            nodes: Vec::new(),
            library: None,
        };
        for (file, source) in sources.iter().enumerate() {
            if is_root(&source.path) {
                let (folder, _) = split(&source.path);
                let root = tree.nodes.len();
                if source.path == "src/lib.rs" {
                    tree.library = Some(root);
                }
                tree.add(
                    sources,
                    &by_path,
                    Place {
                        file,
                        local: 0,
                        parent: None,
                        root,
                        is_test: false,
                        folder: folder.to_owned(),
                    },
                );
            }
        }
        tree
    }

    /// Adds a module and all below it; returns its index.
    fn add(&mut self, sources: &[Source], by_path: &HashMap<&str, usize>, place: Place) -> usize {
        let id = self.nodes.len();
        let source = &sources[place.file];
        let module = &source.modules[place.local];
        let is_test = place.is_test || module.is_test;
        self.nodes.push(Node {
            file: place.file,
            local: place.local,
            parent: place.parent,
            root: place.root,
            children: BTreeMap::new(),
            is_test,
        });
        let inline = source.modules.iter().enumerate();
        for (local, child) in inline.filter(|(_, child)| child.parent == Some(place.local)) {
            let folder = format!("{}/{}", place.folder, child.name);
            let added = self.add(
                sources,
                by_path,
                Place {
                    file: place.file,
                    local,
                    parent: Some(id),
                    root: place.root,
                    is_test,
                    folder,
                },
            );
            self.nodes[id].children.insert(child.name.clone(), added);
        }
        for declared in &module.declared {
            let (own_folder, _) = split(&source.path);
            let candidates = match &declared.path {
                Some(path) => vec![format!("{own_folder}/{path}")],
                None => vec![
                    format!("{}/{}.rs", place.folder, declared.name),
                    format!("{}/{}/mod.rs", place.folder, declared.name),
                ],
            };
            let found = candidates
                .iter()
                .find_map(|path| by_path.get(path.as_str()));
            let Some(&file) = found else { continue };
            let folder = match split(&sources[file].path) {
                (folder, "mod") => folder.to_owned(),
                (folder, name) => format!("{folder}/{name}"),
            };
            let added = self.add(
                sources,
                by_path,
                Place {
                    file,
                    local: 0,
                    parent: Some(id),
                    root: place.root,
                    is_test: is_test || declared.is_test,
                    folder,
                },
            );
            self.nodes[id].children.insert(declared.name.clone(), added);
        }
        id
    }

    /// What was read of a module.
    #[must_use]
    pub fn module<'a>(&self, sources: &'a [Source], id: usize) -> &'a Module {
        let node = &self.nodes[id];
        &sources[node.file].modules[node.local]
    }

    /// Whether `ancestor` is `id` or lies above it.
    #[must_use]
    pub fn is_within(&self, id: usize, ancestor: usize) -> bool {
        let mut at = Some(id);
        while let Some(node) = at {
            if node == ancestor {
                return true;
            }
            at = self.nodes[node].parent;
        }
        false
    }

    pub(crate) fn unreached(&self, sources: &[Source]) -> Vec<usize> {
        let mut reached = vec![false; sources.len()];
        for node in &self.nodes {
            reached[node.file] = true;
        }
        (0..sources.len()).filter(|file| !reached[*file]).collect()
    }

    pub(crate) fn test_files(&self, sources: &[Source]) -> Vec<bool> {
        let mut tests = vec![false; sources.len()];
        for node in self.nodes.iter().filter(|node| node.local == 0) {
            tests[node.file] = node.is_test;
        }
        tests
    }

    /// Public modules in files of their own without a doc comment in either place.
    pub(crate) fn undocumented(&self, sources: &[Source]) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for (id, node) in self
            .nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| !node.is_test)
        {
            let module = self.module(sources, id);
            for declared in module.declared.iter().filter(|d| d.is_public && !d.has_doc) {
                let child = node.children.get(&declared.name);
                let file = child.map(|child| self.nodes[*child].file);
                if let Some(file) = file.filter(|file| !sources[*file].has_doc) {
                    found.push((file, format!("mod {}", declared.name)));
                }
            }
        }
        found
    }
}

/// Where a module is added.
struct Place {
    file: usize,
    local: usize,
    parent: Option<usize>,
    root: usize,
    is_test: bool,
    /// Where the files of its children are.
    folder: String,
}

/// Whether a crate begins here.
fn is_root(path: &str) -> bool {
    let program = path.strip_prefix("src/bin/");
    let is_program = program.is_some_and(|rest| {
        let depth = rest.matches('/').count();
        depth == 0 || (depth == 1 && rest.ends_with("/main.rs"))
    });
    path == "src/lib.rs" || path == "src/main.rs" || is_program
}

/// A path as folder and name without extension.
fn split(path: &str) -> (&str, &str) {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    (folder, name.strip_suffix(".rs").unwrap_or(name))
}
