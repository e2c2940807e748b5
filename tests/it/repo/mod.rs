//! Rules of this repository: its code, pages, manifests and tools.

mod architecture;
mod house;
mod manifests;
mod pages;
mod planted;
mod prereqs;
mod release;
mod supply;
mod tidy;

/// Whether the source has a function of this name right below a `#[test]` or `#[tokio::test]`.
fn is_a_test(source: &str, name: &str) -> bool {
    let function = format!("fn {name}(");
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let declared = lines.iter().position(|line| line.contains(&function));
    declared.is_some_and(|at| {
        let above = lines[..at].iter().rev();
        above
            .take_while(|line| line.starts_with('#') || line.starts_with("//"))
            .any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
    })
}

#[test]
fn a_function_that_is_no_test_does_not_count_as_one() {
    let source =
        "#[test]\nfn holds() {}\nfn helper() {}\n#[tokio::test]\n// why\nasync fn waits() {}";
    assert!(is_a_test(source, "holds") && is_a_test(source, "waits"));
    assert!(!is_a_test(source, "helper") && !is_a_test(source, "missing"));
}
