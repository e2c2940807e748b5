//! Who uses whom, and the circles in that.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::modules::Tree;
use crate::names::{Names, Target};
use crate::scan::Source;

/// One file uses items that another one defines.
#[derive(Debug)]
pub struct Arrow {
    /// Index of the file that uses.
    pub from: usize,
    /// Index of the file that defines.
    pub to: usize,
    /// What is used, each with the first line that does.
    pub names: BTreeMap<String, usize>,
    /// Whether all of it is only handed on (`pub use`). Such an arrow makes no circle: who uses
    /// the name has an arrow of its own to where it is defined. It may still lead up.
    pub only_reexports: bool,
}

pub(crate) struct Found {
    pub arrows: Vec<Arrow>,
    pub externals: Vec<BTreeMap<String, usize>>,
}

/// Collects the arrows of all modules that are not tests.
pub(crate) fn find(sources: &[Source], tree: &Tree) -> Found {
    let names = Names::new(sources, tree);
    let mut arrows = BTreeMap::new();
    let mut externals = vec![BTreeMap::new(); sources.len()];
    for id in (0..tree.nodes.len()).filter(|id| !tree.nodes[*id].is_test) {
        let module = tree.module(sources, id);
        let from = tree.nodes[id].file;
        let mut add = |path: &[String], line: usize, reexport: bool| {
            for target in names.resolve(id, path) {
                match target {
                    Target::Module(_) => {}
                    Target::External(name) => {
                        externals[from].entry(name).or_insert(line);
                    }
                    Target::Item { module, name } => {
                        let to = tree.nodes[module].file;
                        if to != from {
                            let arrow = arrows.entry((from, to)).or_insert_with(|| Arrow {
                                from,
                                to,
                                names: BTreeMap::new(),
                                only_reexports: true,
                            });
                            arrow.only_reexports &= reexport;
                            arrow.names.entry(name).or_insert(line);
                        }
                    }
                }
            }
        };
        for import in &module.uses {
            add(&import.path, import.line, import.is_exported);
        }
        let mut seen = HashSet::new();
        for path in &module.paths {
            if seen.insert(&path.segments) {
                add(&path.segments, path.line, false);
            }
        }
    }
    Found {
        arrows: arrows.into_values().collect(),
        externals,
    }
}

/// The strongly connected components of more than one file, largest first.
pub(crate) fn circles(files: usize, arrows: &[Arrow]) -> Vec<Vec<usize>> {
    let mut next = vec![Vec::new(); files];
    for arrow in arrows.iter().filter(|arrow| !arrow.only_reexports) {
        next[arrow.from].push(arrow.to);
    }
    // Each file's circle is what it reaches and is reached from. There are some hundred files:
    // the plain way is fast enough.
    let reach: Vec<BTreeSet<usize>> = (0..files).map(|file| reached(&next, file)).collect();
    let mut circles: Vec<Vec<usize>> = (0..files)
        .filter(|file| reach[*file].contains(file))
        .map(|file| {
            let back = |other: &usize| reach[*other].contains(&file);
            reach[file].iter().copied().filter(back).collect()
        })
        .collect();
    circles.sort_by_key(|circle| (usize::MAX - circle.len(), circle.clone()));
    circles.dedup();
    circles
}

/// All files that a file uses, directly or not.
fn reached(next: &[Vec<usize>], from: usize) -> BTreeSet<usize> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from];
    while let Some(file) = open.pop() {
        open.extend(next[file].iter().filter(|next| reached.insert(**next)));
    }
    reached
}
