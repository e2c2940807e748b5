//! Resolves paths to the files that define what they name.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::layers::LIBRARY;
use crate::modules::Tree;
use crate::scan::{Source, Use};

/// What a path leads to. A name can lead to several: a module and a function of the same name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A module: no use of its file by itself, what is used in it counts.
    Module(usize),
    /// A type, function, constant, macro or trait, by the module that defines it.
    Item {
        /// The module that defines it.
        module: usize,
        /// Its name.
        name: String,
    },
    /// Something outside of the source code that was read, by its first name.
    External(String),
}

/// What a name leads to from within a module: shared, since it is looked up again and again.
type Found = Rc<Vec<Target>>;

/// Resolves names; remembers what it has found.
pub struct Names<'a> {
    sources: &'a [Source],
    tree: &'a Tree,
    /// Functions and constants of a type that are not in the module of the type:
    /// the type's module and name, then theirs; the value is where they are.
    elsewhere: HashMap<(usize, String, String), usize>,
    known: RefCell<HashMap<(usize, String, bool), Found>>,
    open: RefCell<Vec<(usize, String)>>,
}

impl<'a> Names<'a> {
    /// For the modules of a tree.
    #[must_use]
    pub fn new(sources: &'a [Source], tree: &'a Tree) -> Names<'a> {
        let mut names = Names {
            sources,
            tree,
            elsewhere: HashMap::new(),
            known: RefCell::default(),
            open: RefCell::default(),
        };
        names.elsewhere = names.implementations();
        names
    }

    /// The functions and constants in `impl Type` blocks outside of the type's own module.
    fn implementations(&self) -> HashMap<(usize, String, String), usize> {
        let mut found = HashMap::new();
        for id in (0..self.tree.nodes.len()).filter(|id| !self.tree.nodes[*id].is_test) {
            for block in &self.tree.module(self.sources, id).impls {
                for target in self.resolve(id, &block.of) {
                    let Target::Item { module, name } = target else {
                        continue;
                    };
                    if module != id {
                        for function in &block.names {
                            found.insert((module, name.clone(), function.clone()), id);
                        }
                    }
                }
            }
        }
        found
    }

    /// What a path in a module leads to.
    #[must_use]
    pub fn resolve(&self, from: usize, path: &[String]) -> Vec<Target> {
        let Some(first) = path.first() else {
            return Vec::new();
        };
        let mut rest = &path[1..];
        let mut current = match first.as_str() {
            "crate" => vec![Target::Module(self.tree.nodes[from].root)],
            "self" => vec![Target::Module(from)],
            "super" => {
                let mut at = self.tree.nodes[from].parent;
                while rest.first().is_some_and(|segment| segment == "super") {
                    at = at.and_then(|at| self.tree.nodes[at].parent);
                    rest = &rest[1..];
                }
                at.map(Target::Module).into_iter().collect()
            }
            name => self.first(from, name),
        };
        while let Some((segment, after)) = rest.split_first() {
            current = self.step(&current, segment);
            rest = after;
        }
        current
    }

    /// The first segment of a path: something in scope, or a crate.
    fn first(&self, from: usize, name: &str) -> Vec<Target> {
        let found = self.lookup(from, name, true);
        if !found.is_empty() {
            return found.to_vec();
        }
        let library = self.tree.library.filter(|library| {
            // A program uses the library by its name.
            self.tree.nodes[from].root != *library && name == LIBRARY
        });
        vec![library.map_or_else(|| Target::External(name.to_owned()), Target::Module)]
    }

    fn step(&self, current: &[Target], segment: &str) -> Vec<Target> {
        let modules = current.iter().any(|t| matches!(t, Target::Module(_)));
        let mut next = Vec::new();
        for target in current {
            match target {
                Target::Module(id) => {
                    let found = self.lookup(*id, segment, false);
                    if found.is_empty() {
                        // Declared by a macro: the module's own.
                        next.push(Target::Item {
                            module: *id,
                            name: segment.to_owned(),
                        });
                    }
                    next.extend(found.iter().cloned());
                }
                // A variant, or a function of a type, which may be in another file.
                Target::Item { module, name } if !modules => {
                    let key = (*module, name.clone(), segment.to_owned());
                    next.push(target.clone());
                    if let Some(elsewhere) = self.elsewhere.get(&key) {
                        next.push(Target::Item {
                            module: *elsewhere,
                            name: format!("{name}::{segment}"),
                        });
                    }
                }
                Target::Item { .. } => {}
                Target::External(_) if !modules => next.push(target.clone()),
                Target::External(_) => {}
            }
        }
        next
    }

    /// What a name means in a module. `inside`: for code in it, which also sees the imports
    /// of its functions.
    fn lookup(&self, id: usize, name: &str, inside: bool) -> Found {
        let key = (id, name.to_owned(), inside);
        if let Some(found) = self.known.borrow().get(&key) {
            return found.clone();
        }
        let open = (id, name.to_owned());
        if self.open.borrow().contains(&open) {
            return Found::default();
        }
        self.open.borrow_mut().push(open);
        let found = Rc::new(self.search(id, name, inside));
        self.open.borrow_mut().pop();
        // What was found while another name was open may lack what that one leads to.
        if self.open.borrow().is_empty() {
            self.known.borrow_mut().insert(key, found.clone());
        }
        found
    }

    fn search(&self, id: usize, name: &str, inside: bool) -> Vec<Target> {
        let module = self.tree.module(self.sources, id);
        let mut found = Vec::new();
        if let Some(child) = self.tree.nodes[id].children.get(name) {
            found.push(Target::Module(*child));
        }
        if module.items.iter().any(|item| item.name == name) {
            found.push(Target::Item {
                module: id,
                name: name.to_owned(),
            });
        }
        let is_seen = |import: &&Use| inside || !import.is_local;
        let imports = || module.uses.iter().filter(is_seen);
        for import in imports().filter(|import| import.name.as_deref() == Some(name)) {
            found.extend(self.resolve(id, &import.path));
        }
        if found.is_empty() {
            for import in imports().filter(|import| import.is_glob) {
                for target in self.resolve(id, &import.path) {
                    if let Target::Module(from) = target {
                        found.extend(self.through_glob(id, from, name));
                    }
                }
            }
        }
        found.sort_by_key(|target| format!("{target:?}"));
        found.dedup();
        found
    }

    /// What `use from::*` in `id` brings in under a name.
    fn through_glob(&self, id: usize, from: usize, name: &str) -> Vec<Target> {
        if id == from {
            return Vec::new();
        }
        let module = self.tree.module(self.sources, from);
        let private = module
            .uses
            .iter()
            .any(|import| import.name.as_deref() == Some(name) && !import.is_exported);
        if private && !self.tree.is_within(id, from) {
            return Vec::new();
        }
        self.lookup(from, name, false).to_vec()
    }
}
