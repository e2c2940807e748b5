//! The measures as plain text.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::House;
use crate::arrows::Arrow;
use crate::decisions::Decision;
use crate::layers;
use crate::scan::Function;

/// Longer functions are listed. Unit: lines.
pub const LONG_FUNCTION: usize = 80;

/// Longer files are listed. Unit: lines.
pub const LONG_FILE: usize = 400;

/// How many of the longest functions and widest types are listed.
const LISTED: usize = 10;

/// A circle of more files than this shows its arrows only when all are asked for.
const SMALL_CIRCLE: usize = 12;

/// All measures. `all_arrows`: every arrow of every circle, however large.
#[must_use]
pub fn text(house: &House, all_arrows: bool) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write(house, all_arrows, &mut out);
    out
}

fn write(house: &House, all_arrows: bool, out: &mut String) -> std::fmt::Result {
    size(house, out)?;
    circles(house, all_arrows, out)?;
    up(house, out)?;
    functions(house, out)?;
    types(house, out)?;
    files(house, out)?;
    undocumented(house, out)?;
    decisions(house, out)
}

/// Every function that is no test, longest first, with the file that it is in.
#[must_use]
pub fn functions_by_length(house: &House) -> Vec<(&str, &Function)> {
    let mut functions: Vec<(&str, &Function)> = Vec::new();
    for (file, source) in house.sources.iter().enumerate() {
        if !house.is_test[file] {
            let product = source.functions.iter().filter(|f| !f.is_test);
            functions.extend(product.map(|function| (source.path.as_str(), function)));
        }
    }
    functions.sort_by_key(|(path, function)| (usize::MAX - function.lines, *path, function.line));
    functions
}

/// Public items and modules without a doc comment, as path, line and name.
#[must_use]
pub fn undocumented_items(house: &House) -> Vec<(&str, usize, &str)> {
    let mut found: Vec<(&str, usize, &str)> = Vec::new();
    for (file, name) in &house.undocumented_modules {
        found.push((house.path(*file), 1, name));
    }
    for (file, source) in house.sources.iter().enumerate() {
        if !house.is_test[file] {
            let items = source.undocumented.iter();
            found.extend(items.map(|item| (source.path.as_str(), item.line, item.name.as_str())));
        }
    }
    found.sort_unstable();
    found
}

fn size(house: &House, out: &mut String) -> std::fmt::Result {
    let lines: usize = house.sources.iter().map(|source| source.lines).sum();
    let tests = house.sources.iter().enumerate().map(|(file, source)| {
        if house.is_test[file] {
            source.lines
        } else {
            source.test_lines
        }
    });
    let tests: usize = tests.sum();
    let files = house.sources.len();
    let test_files = house.is_test.iter().filter(|is_test| **is_test).count();
    writeln!(out, "files: {files}, of which {test_files} are tests")?;
    writeln!(out, "lines: {lines}, of which {tests} are tests")?;
    for file in &house.unreached {
        writeln!(out, "  {} is part of no module", house.path(*file))?;
    }
    let root = house
        .sources
        .iter()
        .filter_map(|source| source.path.strip_prefix("src/"));
    let root = root.filter(|path| !path.contains('/')).count();
    writeln!(out, "files in the root of src: {root}")
}

fn circles(house: &House, all_arrows: bool, out: &mut String) -> std::fmt::Result {
    let circles = house.circles();
    let inside: usize = circles.iter().map(Vec::len).sum();
    let count = circles.len();
    writeln!(
        out,
        "\ncircles: {count}, {inside} files in them, {} arrows",
        house.arrows.len()
    )?;
    for circle in &circles {
        writeln!(out, "  {} files:", circle.len())?;
        for file in circle {
            writeln!(out, "    {}", house.path(*file))?;
        }
        let is_inside = |arrow: &&Arrow| {
            !arrow.only_reexports && circle.contains(&arrow.from) && circle.contains(&arrow.to)
        };
        let arrows: Vec<&Arrow> = house.arrows.iter().filter(is_inside).collect();
        if all_arrows || circle.len() <= SMALL_CIRCLE {
            for arrow in arrows {
                writeln!(out, "      {}", house.describe(arrow))?;
            }
        } else {
            writeln!(
                out,
                "      {} arrows; `cargo run -p house -- . --arrows` lists them",
                arrows.len()
            )?;
        }
    }
    Ok(())
}

fn up(house: &House, out: &mut String) -> std::fmt::Result {
    let outside = (house.sources.iter()).filter(|source| layers::layer(&source.path).is_none());
    let outside: Vec<&str> = outside.map(|source| source.path.as_str()).collect();
    let up = house.arrows_up();
    writeln!(out, "\narrows up: {}", up.len())?;
    for arrow in up {
        writeln!(out, "  {}", house.describe(arrow))?;
    }
    if !outside.is_empty() {
        writeln!(out, "files of no layer: {}", outside.len())?;
        for path in outside {
            writeln!(out, "  {path}")?;
        }
    }
    for (name, broken) in [
        ("arrows from one phase to another", house.between_phases()),
        ("Kubernetes in layers without it", house.kubernetes()),
    ] {
        writeln!(out, "{name}: {}", broken.len())?;
        for line in broken {
            writeln!(out, "  {line}")?;
        }
    }
    Ok(())
}

fn functions(house: &House, out: &mut String) -> std::fmt::Result {
    let functions = functions_by_length(house);
    let long = functions
        .iter()
        .filter(|(_, function)| function.lines > LONG_FUNCTION);
    let long = long.count();
    writeln!(out, "\nfunctions over {LONG_FUNCTION} lines: {long}")?;
    writeln!(out, "longest functions:")?;
    for (path, function) in functions.iter().take(LISTED.max(long)) {
        writeln!(
            out,
            "  {:4} {path}:{} {}",
            function.lines, function.line, function.name
        )?;
    }
    Ok(())
}

fn types(house: &House, out: &mut String) -> std::fmt::Result {
    let product = house
        .sources
        .iter()
        .enumerate()
        .filter(|(file, _)| !house.is_test[*file]);
    let mut types: Vec<_> = product
        .flat_map(|(_, source)| source.types.iter().map(move |found| (&source.path, found)))
        .collect();
    types.sort_by_key(|(path, found)| (usize::MAX - found.fields, *path, found.line));
    writeln!(out, "\nwidest types (fields):")?;
    for (path, found) in types.iter().take(LISTED) {
        writeln!(
            out,
            "  {:4} {path}:{} {}",
            found.fields, found.line, found.name
        )?;
    }
    Ok(())
}

fn files(house: &House, out: &mut String) -> std::fmt::Result {
    let mut long: Vec<_> = house
        .sources
        .iter()
        .filter(|source| source.lines > LONG_FILE)
        .collect();
    long.sort_by_key(|source| usize::MAX - source.lines);
    writeln!(
        out,
        "\nfiles over {LONG_FILE} lines (with their unit tests): {}",
        long.len()
    )?;
    for source in long {
        writeln!(
            out,
            "  {:4} (tests {:3}) {}",
            source.lines, source.test_lines, source.path
        )?;
    }
    Ok(())
}

fn undocumented(house: &House, out: &mut String) -> std::fmt::Result {
    let items = undocumented_items(house);
    writeln!(out, "\npublic items without docs: {}", items.len())?;
    for (path, line, name) in items {
        writeln!(out, "  {path}:{line} {name}")?;
    }
    Ok(())
}

fn decisions(house: &House, out: &mut String) -> std::fmt::Result {
    let found = house.text_decisions();
    let count = found.len();
    writeln!(
        out,
        "\ncomparisons with texts for people (parsing included): {count}"
    )?;
    let mut functions: BTreeMap<(&str, &str), Vec<&Decision>> = BTreeMap::new();
    for (path, decision) in found {
        let function = (path, decision.function.as_str());
        functions.entry(function).or_default().push(decision);
    }
    for ((path, function), decisions) in functions {
        let (first, more) = (decisions[0], decisions.len() - 1);
        let (line, what, with) = (first.line, &first.what, &first.with);
        write!(out, "  {path}:{line} {function}: `{what}` with {with}")?;
        match more {
            0 => writeln!(out)?,
            more => writeln!(out, ", and {more} more")?,
        }
    }
    Ok(())
}
