//! The rules on small sources.

use crate::{House, report};

fn house(files: &[(&str, &str)]) -> House {
    House::of(files).expect("valid Rust")
}

/// A library of these modules, each a file in the root of `src`.
fn library(modules: &[(&'static str, &'static str)]) -> House {
    let declared: Vec<String> = modules
        .iter()
        .filter_map(|(path, _)| path.strip_suffix("/mod.rs").or(path.strip_suffix(".rs")))
        .filter(|name| !name.contains('/'))
        .map(|name| format!("pub mod {name};"))
        .collect();
    let mut files = vec![("src/lib.rs".to_owned(), declared.join("\n"))];
    let modules = modules.iter();
    files.extend(modules.map(|(path, text)| (format!("src/{path}"), (*text).to_owned())));
    House::of(&files).expect("valid Rust")
}

/// All arrows as `from -> to: names`, without `src/`.
fn arrows(house: &House) -> Vec<String> {
    let describe = |arrow: &crate::arrows::Arrow| {
        let names: Vec<&str> = arrow.names.keys().map(String::as_str).collect();
        let path = |file| house.path(file).strip_prefix("src/").unwrap_or_default();
        let (from, to) = (path(arrow.from), path(arrow.to));
        format!("{from} -> {to}: {}", names.join(", "))
    };
    house.arrows.iter().map(describe).collect()
}

fn circles(house: &House) -> Vec<Vec<&str>> {
    let circles = house.circles().into_iter();
    circles
        .map(|circle| circle.into_iter().map(|file| house.path(file)).collect())
        .collect()
}

#[test]
fn a_file_that_is_not_rust_is_named_with_the_line() {
    let error = House::of(&[("src/lib.rs", "\nfn f() {}\nfn g( {}\n")]).unwrap_err();
    assert!(error.to_string().starts_with("src/lib.rs:3: "), "{error}");
}

#[test]
fn files_that_use_each_other_are_a_circle() {
    let house = library(&[
        ("a.rs", "use crate::b::B; pub struct A;"),
        ("b.rs", "use crate::c::C; pub struct B;"),
        ("c.rs", "pub struct C; fn f(_: crate::a::A) {}"),
        ("d.rs", "use crate::a::A;"),
    ]);
    assert_eq!(circles(&house), [["src/a.rs", "src/b.rs", "src/c.rs"]]);
}

#[test]
fn an_arrow_up_shows_through_a_re_export() {
    let house = library(&[
        ("fly/mod.rs", "pub mod call; use crate::store::Claim;"),
        ("fly/call.rs", "pub struct Call;"),
        (
            "store/mod.rs",
            "pub mod claim; pub use claim::Claim; use crate::fly::call::Call;",
        ),
        ("store/claim.rs", "pub struct Claim;"),
    ]);
    let up: Vec<String> = house
        .arrows_up()
        .iter()
        .map(|arrow| house.describe(arrow))
        .collect();
    assert_eq!(up, ["src/fly/mod.rs:1 -> src/store/claim.rs: Claim"]);
}

#[test]
fn a_re_export_leads_up_but_makes_no_circle() {
    let house = library(&[
        ("redact/mod.rs", "pub use crate::fly::App; pub struct Text;"),
        ("fly/mod.rs", "use crate::redact::Text; pub struct App;"),
    ]);
    assert_eq!(house.arrows_up().len(), 1);
    assert_eq!(house.circles().len(), 0);
}

#[test]
fn what_a_barrel_uses_of_its_own_names_counts() {
    let house = library(&[
        ("a/mod.rs", "mod b; pub use b::B; pub struct A(B);"),
        ("a/b.rs", "pub struct B; fn f(_: super::A) {}"),
    ]);
    assert_eq!(circles(&house), [["src/a/mod.rs", "src/a/b.rs"]]);
}

#[test]
fn paths_in_macros_count() {
    let house = library(&[
        (
            "a.rs",
            r#"
            use crate::b;
            fn f() {
                let text = format!("{}", crate::c::text());
                tokio::select! { _ = b::wait() => {}, else => {} }
                macro_of_ours!(one => super::d::Kind::Plain);
            }
            "#,
        ),
        ("b.rs", "pub async fn wait() {}"),
        ("c.rs", "pub fn text() {}"),
        ("d.rs", "pub enum Kind { Plain }"),
    ]);
    assert_eq!(
        arrows(&house),
        [
            "a.rs -> b.rs: wait",
            "a.rs -> c.rs: text",
            "a.rs -> d.rs: Kind"
        ]
    );
}

#[test]
fn code_for_tests_has_no_arrows() {
    let house = library(&[
        (
            "a.rs",
            "
            #[cfg(test)] use crate::b::B;
            #[cfg(test)] mod tests { use crate::b::B; }
            #[cfg(test)] mod more;
            #[cfg(all(test, unix))] fn helper(_: crate::b::B) {}
            #[test] fn holds() { crate::b::B::new(); }
            struct S;
            impl S { #[cfg(test)] fn of() -> crate::b::B {} }
            #[cfg(not(test))] fn product(_: crate::c::C) {}
            ",
        ),
        ("a/more.rs", "use crate::b::B; mod below;"),
        ("a/more/below.rs", "use crate::b::B;"),
        ("b.rs", "pub struct B;"),
        ("c.rs", "pub struct C;"),
    ]);
    assert_eq!(arrows(&house), ["a.rs -> c.rs: C"]);
    let tests: Vec<&str> = (0..house.sources.len())
        .filter(|file| house.is_test[*file])
        .map(|file| house.path(file))
        .collect();
    assert_eq!(tests, ["src/a/more.rs", "src/a/more/below.rs"]);
}

#[test]
fn every_form_of_import_is_followed() {
    let house = library(&[
        (
            "a/mod.rs",
            "
            mod below;
            use super::{b::{self as other, One}, c::*};
            use self::below::Below as Renamed;
            use crate::d::Extension as _;
            use std::fmt;
            fn f(_: other::Two, _: Three, _: Renamed, _: Self::X) {}
            ",
        ),
        (
            "a/below.rs",
            "pub struct Below; fn f(_: super::super::e::E) {}",
        ),
        ("b.rs", "pub struct One; pub struct Two;"),
        ("c.rs", "pub struct Three; pub struct Four;"),
        ("d.rs", "pub trait Extension {}"),
        ("e.rs", "pub struct E;"),
    ]);
    assert_eq!(
        arrows(&house),
        [
            "a/mod.rs -> a/below.rs: Below",
            "a/mod.rs -> b.rs: One, Two",
            "a/mod.rs -> c.rs: Three",
            "a/mod.rs -> d.rs: Extension",
            "a/below.rs -> e.rs: E",
        ]
    );
    assert!(
        house.externals[1].contains_key("std"),
        "{:?}",
        house.externals
    );
}

#[test]
fn a_module_and_a_function_of_one_name_are_told_apart() {
    let house = library(&[
        ("a/mod.rs", "mod read; pub use read::read; pub mod user;"),
        ("a/read.rs", "pub fn read() {} pub struct Reader;"),
        ("a/user.rs", "use super::read; fn f() { read(); }"),
        ("b.rs", "use crate::a::read; fn f() { read(); }"),
    ]);
    assert_eq!(
        arrows(&house),
        [
            "a/mod.rs -> a/read.rs: read",
            "a/user.rs -> a/read.rs: read",
            "b.rs -> a/read.rs: read",
        ]
    );
}

#[test]
fn what_macros_declare_is_found() {
    let house = library(&[
        (
            "words.rs",
            "macro_rules! words { () => { use $crate::base::Base; } } pub(crate) use words;",
        ),
        ("base.rs", "pub struct Base;"),
        (
            "a.rs",
            "use crate::words::words; words! { pub enum Token { One = \"one\" } }",
        ),
        ("b.rs", "use crate::a::*; fn f(_: Token) {}"),
        ("c.rs", "fn f() { crate::a::made_by_the_macro(); }"),
    ]);
    assert_eq!(
        arrows(&house),
        [
            "words.rs -> base.rs: Base",
            "a.rs -> words.rs: words",
            "b.rs -> a.rs: Token",
            "c.rs -> a.rs: made_by_the_macro",
        ]
    );
}

#[test]
fn a_function_of_a_type_is_found_where_it_is() {
    let house = library(&[
        (
            "a.rs",
            "pub struct A; fn f() { A::made_elsewhere(); A::here(); } impl A { fn here() {} }",
        ),
        (
            "b.rs",
            "use crate::a::A; impl A { pub fn made_elsewhere() -> Self { Self::here() } }",
        ),
    ]);
    assert_eq!(
        arrows(&house),
        ["a.rs -> b.rs: A::made_elsewhere", "b.rs -> a.rs: A"]
    );
}

#[test]
fn paths_in_attributes_count() {
    let house = library(&[
        (
            "a.rs",
            r#"struct A { #[serde(with = "crate::b::form")] b: u8, #[x(crate::c::C)] c: u8 }"#,
        ),
        ("b.rs", "pub mod form { pub fn serialize() {} }"),
        ("c.rs", "pub struct C;"),
    ]);
    assert_eq!(arrows(&house), ["a.rs -> c.rs: C"]);
    let house = library(&[
        (
            "a.rs",
            r#"struct A { #[serde(default = "crate::b::form")] b: u8 }"#,
        ),
        ("b.rs", "pub fn form() {}"),
    ]);
    assert_eq!(arrows(&house), ["a.rs -> b.rs: form"]);
}

#[test]
fn a_program_uses_the_library_by_its_name() {
    let house = house(&[
        ("src/lib.rs", "pub mod a;"),
        ("src/a.rs", "pub fn run() {}"),
        (
            "src/main.rs",
            "fn main() { golive::a::run(); std::process::exit(1) }",
        ),
        ("src/alone.rs", ""),
    ]);
    assert_eq!(arrows(&house), ["main.rs -> a.rs: run"]);
    assert_eq!(house.unreached, [3]);
}

#[test]
fn phases_do_not_use_each_other() {
    let house = library(&[
        (
            "phase/mod.rs",
            "pub mod deploy; pub mod provision; pub mod shared; use deploy::D;",
        ),
        (
            "phase/deploy/mod.rs",
            "pub struct D; use crate::phase::shared::S;",
        ),
        ("phase/provision/mod.rs", "use crate::phase::deploy::D;"),
        (
            "phase/shared.rs",
            "pub struct S; fn f() { crate::phase::deploy::D; }",
        ),
    ]);
    assert_eq!(
        house.between_phases(),
        [
            "src/phase/provision/mod.rs:1 -> src/phase/deploy/mod.rs: D",
            "src/phase/shared.rs:1 -> src/phase/deploy/mod.rs: D"
        ]
    );
}

#[test]
fn layers_without_kubernetes_do_not_use_it() {
    let house = library(&[
        (
            "fly/mod.rs",
            "fn f(_: k8s_openapi::Secret) {}\n#[cfg(test)] use kube::Api;",
        ),
        ("store/mod.rs", "use kube::Client;"),
    ]);
    assert_eq!(house.kubernetes(), ["src/fly/mod.rs:1: k8s_openapi"]);
}

#[test]
fn a_function_is_as_long_as_from_its_signature_to_its_end() {
    let statements = "    f();\n".repeat(79);
    let text =
        format!("/// A comment.\n#[inline]\nfn long() {{\n{statements}}}\nfn short() {{}}\n");
    let house = house(&[("src/lib.rs", &text)]);
    let lengths: Vec<(&str, usize)> = report::functions_by_length(&house)
        .iter()
        .map(|(_, function)| (function.name.as_str(), function.lines))
        .collect();
    assert_eq!(lengths, [("long", 81), ("short", 1)]);
    assert!(report::text(&house, false).contains("functions over 80 lines: 1\n"));
}

#[test]
fn only_public_items_need_docs() {
    let house = library(&[(
        "a.rs",
        "
        pub fn bare() {}
        /// Said.
        pub fn said() {}
        pub(crate) fn inside() {}
        /// Said.
        pub struct S;
        impl S { pub fn bare(&self) {} fn private(&self) {} }
        impl Clone for S { fn clone(&self) -> S { S } }
        #[cfg(test)] pub fn for_tests() {}
        ",
    )]);
    let names: Vec<&str> = report::undocumented_items(&house)
        .iter()
        .map(|item| item.2)
        .collect();
    assert_eq!(names, ["mod a", "bare", "S::bare"]);
}

#[test]
fn the_widest_struct_is_found_also_in_a_macro() {
    let house = library(&[(
        "a.rs",
        "
        wire! { pub struct Wide { pub a: Vec<a::B>, pub b: u8 = \"x\", pub c: u8 } }
        struct Narrow { a: u8 }
        ",
    )]);
    let found: Vec<(&str, usize)> = house.sources[1]
        .types
        .iter()
        .map(|found| (found.name.as_str(), found.fields))
        .collect();
    assert_eq!(found, [("Wide", 3), ("Narrow", 1)]);
}

#[test]
fn a_decision_by_a_message_is_found() {
    let house = library(&[
        (
            "a.rs",
            r#"
            fn by_part(x: &X) -> bool { x.message.contains("restored") }
            fn by_start(change: &str) -> bool { change.starts_with(crate::b::STARTS) }
            fn by_value(x: &X) -> bool { "it has failed" == x.whatever() }
            fn by_constant(x: &X) -> bool { x.what == crate::b::STARTS }
            fn by_match(x: &X) -> u8 { match x.note.as_str() { "a" => 1, _ => 2 } }
            fn by_option(x: &X) -> u8 { match x.message.as_deref() { Some("a" | "b") => 1, _ => 2 } }
            fn by_let(x: &X) -> bool { if let Some("it has failed") = x.whatever() { true } else { false } }
            fn by_list(change: &str) -> bool { [crate::b::STARTS].contains(&change) }
            fn token(x: &X) -> bool { x.reason == "Ready" || x.kind == crate::b::TOKEN }
            fn parts(x: &X) -> bool { x.text.contains(' ') || x.notes.contains(&Note::Held) }
            fn changed(x: &X, line: &str) -> bool { x.message != *line }
            fn made(change: &str) -> bool { change == crate::b::sentence(1) }
            #[test] fn in_a_test() { assert!(x.message.contains("restored")); }
            "#,
        ),
        (
            "b.rs",
            r#"pub const STARTS: &str = "roll back to "; pub const TOKEN: &str = "token";"#,
        ),
    ]);
    let found = house.text_decisions();
    let functions: Vec<&str> = found
        .iter()
        .map(|(_, found)| found.function.as_str())
        .collect();
    assert_eq!(
        functions,
        [
            "by_part",
            "by_start",
            "by_value",
            "by_constant",
            "by_match",
            "by_option",
            "by_let",
            "by_list",
            "made"
        ]
    );
}
