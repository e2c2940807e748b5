//! Reads one file: what it declares, what it imports, which paths its code names.

use syn::visit::{self, Visit};

use crate::decisions::{self, Decision};
use crate::tokens;

/// What was read of one file.
#[derive(Debug, Default)]
pub struct Source {
    /// From the root of the repository, with `/`.
    pub path: String,
    /// Number of lines.
    pub lines: usize,
    /// Lines of `#[cfg(test)] mod name { .. }` in it.
    pub test_lines: usize,
    /// Whether it begins with a doc comment of its own (`//!`).
    pub has_doc: bool,
    /// The file itself and the modules within it. The first is the file.
    pub modules: Vec<Module>,
    /// Every function.
    pub functions: Vec<Function>,
    /// Every struct.
    pub types: Vec<Type>,
    /// Public items without a doc comment.
    pub undocumented: Vec<Place>,
    /// Where code decides by comparing texts for people.
    pub decisions: Vec<Decision>,
    /// Constants that are texts, as name and value.
    pub texts: Vec<(String, String)>,
}

/// One module: a file, or `mod name { .. }`.
#[derive(Debug, Default)]
pub struct Module {
    /// Its name; empty for the file.
    pub name: String,
    /// The module around it, in this file.
    pub parent: Option<usize>,
    /// Whether it is compiled for tests only.
    pub is_test: bool,
    /// `mod name;`
    pub declared: Vec<Declared>,
    /// What it defines.
    pub items: Vec<Place>,
    /// What it imports.
    pub uses: Vec<Use>,
    /// Paths that its code names.
    pub paths: Vec<CodePath>,
    /// `impl Type { .. }`
    pub impls: Vec<Impl>,
}

/// `mod name;`
#[derive(Debug)]
pub struct Declared {
    /// Its name.
    pub name: String,
    /// Whether it is compiled for tests only.
    pub is_test: bool,
    /// Whether it is `pub`.
    pub is_public: bool,
    /// Whether the declaration has a doc comment.
    pub has_doc: bool,
    /// Where its file is, if not at the usual place.
    pub path: Option<String>,
}

/// Something with a name on a line.
#[derive(Debug)]
pub struct Place {
    /// Its name.
    pub name: String,
    /// The line where it begins.
    pub line: usize,
}

/// One imported name; a group is several.
#[derive(Debug)]
pub struct Use {
    /// What is imported.
    pub path: Vec<String>,
    /// The name in this module; none for a glob and for `as _`.
    pub name: Option<String>,
    /// Whether all names of `path` are imported.
    pub is_glob: bool,
    /// Whether other modules see the name: `pub use`, also with a restriction.
    pub is_exported: bool,
    /// Whether it stands in a function, and only counts there.
    pub is_local: bool,
    /// The line of the declaration.
    pub line: usize,
}

/// A path in code.
#[derive(Debug)]
pub struct CodePath {
    /// Its segments.
    pub segments: Vec<String>,
    /// Where it stands.
    pub line: usize,
}

/// `impl Type { .. }` without a trait.
#[derive(Debug)]
pub struct Impl {
    /// The path of the type.
    pub of: Vec<String>,
    /// Its functions and constants.
    pub names: Vec<String>,
}

/// A function or method with a body.
#[derive(Debug)]
pub struct Function {
    /// `name`, or `Type::name`.
    pub name: String,
    /// The line where its signature begins.
    pub line: usize,
    /// From its signature to its last brace.
    pub lines: usize,
    /// Whether it is compiled for tests only.
    pub is_test: bool,
}

/// A struct.
#[derive(Debug)]
pub struct Type {
    /// Its name.
    pub name: String,
    /// The line where it begins.
    pub line: usize,
    /// How many fields it has.
    pub fields: usize,
}

/// Reads one file.
///
/// # Errors
///
/// If the text is not valid Rust.
pub fn scan(path: &str, text: &str) -> syn::Result<Source> {
    let file = syn::parse_file(text)?;
    let mut scan = Scan {
        source: Source {
            path: path.to_owned(),
            lines: text.lines().count(),
            has_doc: has_doc(&file.attrs),
            modules: vec![Module {
                is_test: is_test(&file.attrs),
                ..Module::default()
            }],
            ..Source::default()
        },
        module: 0,
        function: None,
        implements: None,
        is_test: is_test(&file.attrs),
    };
    for item in &file.items {
        scan.visit_item(item);
    }
    Ok(scan.source)
}

/// The walk through one file.
struct Scan {
    source: Source,
    /// The module around the current item.
    module: usize,
    /// The function around it.
    function: Option<String>,
    /// The type of the `impl` block or the trait around it.
    implements: Option<Vec<String>>,
    is_test: bool,
}

impl Scan {
    fn here(&mut self) -> &mut Module {
        &mut self.source.modules[self.module]
    }

    /// Notes an item of the module, and whether it lacks a doc comment.
    fn item(&mut self, name: &syn::Ident, vis: &syn::Visibility, attrs: &[syn::Attribute]) {
        if self.function.is_some() || self.is_test {
            return;
        }
        let line = name.span().start().line;
        self.undocumented(&name.to_string(), line, vis, attrs);
        let name = name.to_string();
        self.here().items.push(Place { name, line });
    }

    fn undocumented(
        &mut self,
        name: &str,
        line: usize,
        vis: &syn::Visibility,
        attrs: &[syn::Attribute],
    ) {
        if matches!(vis, syn::Visibility::Public(_)) && !has_doc(attrs) && !self.is_test {
            let name = self.qualified(name);
            self.source.undocumented.push(Place { name, line });
        }
    }

    fn qualified(&self, name: &str) -> String {
        match self.implements.as_ref().and_then(|of| of.last()) {
            Some(of) => format!("{of}::{name}"),
            None => name.to_owned(),
        }
    }

    /// Notes a function and walks through it.
    fn function(&mut self, sig: &syn::Signature, block: &syn::Block, walk: impl FnOnce(&mut Self)) {
        let line = sig.fn_token.span.start().line;
        let name = self.qualified(&sig.ident.to_string());
        self.source.functions.push(Function {
            name: name.clone(),
            line,
            lines: block.brace_token.span.close().end().line - line + 1,
            is_test: self.is_test,
        });
        let outer = self.function.clone();
        self.function.get_or_insert(name);
        walk(self);
        self.function = outer;
    }

    /// Notes a path in code. `Self` is the type of the `impl` block.
    fn path(&mut self, mut segments: Vec<String>, line: usize) {
        if self.is_test {
            return;
        }
        if segments.first().is_some_and(|first| first == "Self") {
            let Some(of) = &self.implements else { return };
            segments.splice(0..1, of.iter().cloned());
        }
        self.here().paths.push(CodePath { segments, line });
    }

    fn macro_tokens(&mut self, tokens: proc_macro2::TokenStream) {
        if !self.is_test {
            tokens::paths(tokens, &mut |run| self.path(run.segments, run.line));
        }
    }

    /// A macro in the place of an item, or the body of `macro_rules!`.
    fn item_macro(&mut self, tokens: proc_macro2::TokenStream) {
        let source = &mut self.source;
        let module = self.module;
        let is_test = self.is_test;
        tokens::declarations(tokens.clone(), &mut |declared| {
            if is_test {
                return;
            }
            let (name, line) = (declared.name, declared.line);
            if let Some(fields) = declared.fields {
                let name = name.clone();
                source.types.push(Type { name, line, fields });
            }
            source.modules[module].items.push(Place { name, line });
        });
        self.macro_tokens(tokens);
    }

    /// Walks through something that is perhaps for tests only.
    fn within(&mut self, attrs: &[syn::Attribute], walk: impl FnOnce(&mut Self)) {
        let outer = self.is_test;
        self.is_test |= is_test(attrs);
        walk(self);
        self.is_test = outer;
    }

    fn decision(&mut self, found: Option<Decision>) {
        if let Some(mut decision) = found.filter(|_| !self.is_test) {
            decision.function = self.function.clone().unwrap_or_default();
            self.source.decisions.push(decision);
        }
    }
}

impl<'ast> Visit<'ast> for Scan {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        self.within(attributes(item), |scan| visit::visit_item(scan, item));
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let name = item.ident.to_string();
        let is_public = matches!(item.vis, syn::Visibility::Public(_)) && !self.is_test;
        let Some((braces, items)) = &item.content else {
            let declared = Declared {
                name,
                is_test: self.is_test,
                is_public,
                has_doc: has_doc(&item.attrs),
                path: path_attribute(&item.attrs),
            };
            self.here().declared.push(declared);
            return;
        };
        if self.is_test && !self.source.modules[self.module].is_test {
            let last = braces.span.close().end().line;
            self.source.test_lines += last - item.mod_token.span.start().line + 1;
        }
        let outer = self.module;
        self.source.modules.push(Module {
            name,
            parent: Some(outer),
            is_test: self.is_test,
            ..Module::default()
        });
        self.module = self.source.modules.len() - 1;
        for item in items {
            self.visit_item(item);
        }
        self.module = outer;
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        // An import for tests in a module that is not.
        if self.is_test && !self.source.modules[self.module].is_test {
            return;
        }
        let is_exported = !matches!(item.vis, syn::Visibility::Inherited);
        let is_local = self.function.is_some();
        let line = item.use_token.span.start().line;
        let mut found = Vec::new();
        flatten(&item.tree, &mut Vec::new(), &mut found);
        self.here().uses.extend(found.into_iter().map(|import| Use {
            is_exported,
            is_local,
            line,
            ..import
        }));
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.item(&item.sig.ident, &item.vis, &item.attrs);
        self.function(&item.sig, &item.block, |scan| {
            visit::visit_item_fn(scan, item)
        });
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.item(&item.ident, &item.vis, &item.attrs);
        if !self.is_test {
            self.source.types.push(Type {
                name: item.ident.to_string(),
                line: item.ident.span().start().line,
                fields: item.fields.len(),
            });
        }
        visit::visit_item_struct(self, item);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.item(&item.ident, &item.vis, &item.attrs);
        visit::visit_item_enum(self, item);
    }

    fn visit_item_union(&mut self, item: &'ast syn::ItemUnion) {
        self.item(&item.ident, &item.vis, &item.attrs);
        visit::visit_item_union(self, item);
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.item(&item.ident, &item.vis, &item.attrs);
        visit::visit_item_type(self, item);
    }

    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        self.item(&item.ident, &item.vis, &item.attrs);
        if let Some(text) = decisions::literal(&item.expr) {
            self.source.texts.push((item.ident.to_string(), text));
        }
        visit::visit_item_const(self, item);
    }

    fn visit_item_static(&mut self, item: &'ast syn::ItemStatic) {
        self.item(&item.ident, &item.vis, &item.attrs);
        visit::visit_item_static(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.item(&item.ident, &item.vis, &item.attrs);
        let outer = self.implements.replace(vec![item.ident.to_string()]);
        for member in &item.items {
            if let syn::TraitItem::Fn(member) = member {
                let line = member.sig.ident.span().start().line;
                let name = member.sig.ident.to_string();
                self.undocumented(&name, line, &item.vis, &member.attrs);
            }
        }
        visit::visit_item_trait(self, item);
        self.implements = outer;
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        match &item.default {
            Some(block) => self.function(&item.sig, block, |scan| {
                visit::visit_trait_item_fn(scan, item);
            }),
            None => visit::visit_trait_item_fn(self, item),
        }
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        let of = match &*item.self_ty {
            syn::Type::Path(path) => Some(segments(&path.path)),
            _ => None,
        };
        if let (None, Some(of), false) = (&item.trait_, &of, self.is_test) {
            let names = item.items.iter().filter_map(|member| match member {
                syn::ImplItem::Fn(function) => Some(function.sig.ident.to_string()),
                syn::ImplItem::Const(constant) => Some(constant.ident.to_string()),
                _ => None,
            });
            let block = Impl {
                of: of.clone(),
                names: names.collect(),
            };
            self.here().impls.push(block);
        }
        let outer = std::mem::replace(&mut self.implements, of);
        visit::visit_item_impl(self, item);
        self.implements = outer;
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.within(&item.attrs, |scan| {
            let line = item.sig.ident.span().start().line;
            let name = item.sig.ident.to_string();
            scan.undocumented(&name, line, &item.vis, &item.attrs);
            scan.function(&item.sig, &item.block, |scan| {
                visit::visit_impl_item_fn(scan, item);
            });
        });
    }

    fn visit_item_macro(&mut self, item: &'ast syn::ItemMacro) {
        if let Some(name) = &item.ident {
            let name = Place {
                name: name.to_string(),
                line: name.span().start().line,
            };
            self.here().items.push(name);
        } else {
            self.path(segments(&item.mac.path), line_of(&item.mac.path));
        }
        self.item_macro(item.mac.tokens.clone());
    }

    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        self.path(segments(&mac.path), line_of(&mac.path));
        // Arguments that are expressions are read as such; what is read of tokens stays coarse.
        let arguments = mac.parse_body_with(
            syn::punctuated::Punctuated::<syn::Expr, syn::Token![,]>::parse_terminated,
        );
        match arguments {
            Ok(arguments) => {
                for argument in &arguments {
                    self.visit_expr(argument);
                }
            }
            Err(_) => self.macro_tokens(mac.tokens.clone()),
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let found = segments(path);
        // A single name in lower case is a variable, as far as one can see.
        if found.len() > 1 || found[0].starts_with(char::is_uppercase) {
            self.path(found, line_of(path));
        }
        visit::visit_path(self, path);
    }

    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        if let syn::Expr::Path(function) = &*call.func {
            self.path(segments(&function.path), line_of(&function.path));
        }
        visit::visit_expr_call(self, call);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        self.decision(decisions::of_call(call));
        visit::visit_expr_method_call(self, call);
    }

    fn visit_expr_binary(&mut self, binary: &'ast syn::ExprBinary) {
        self.decision(decisions::of_comparison(binary));
        visit::visit_expr_binary(self, binary);
    }

    fn visit_expr_match(&mut self, expr: &'ast syn::ExprMatch) {
        self.decision(decisions::of_match(expr));
        visit::visit_expr_match(self, expr);
    }

    fn visit_expr_let(&mut self, expr: &'ast syn::ExprLet) {
        self.decision(decisions::of_let(expr));
        visit::visit_expr_let(self, expr);
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        if let syn::Meta::List(list) = &attribute.meta {
            let line = attribute.pound_token.span.start().line;
            self.macro_tokens(list.tokens.clone());
            for text in tokens::quoted_paths(list.tokens.clone()) {
                self.path(text, line);
            }
        }
    }

    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}
}

fn line_of(path: &syn::Path) -> usize {
    let first = path.segments.first();
    first.map_or(0, |first| first.ident.span().start().line)
}

fn segments(path: &syn::Path) -> Vec<String> {
    let segments = path.segments.iter();
    segments.map(|segment| segment.ident.to_string()).collect()
}

/// All names of an import, with the groups resolved.
fn flatten(tree: &syn::UseTree, above: &mut Vec<String>, found: &mut Vec<Use>) {
    let mut add = |path: Vec<String>, name: Option<String>, is_glob: bool| {
        found.push(Use {
            path,
            name,
            is_glob,
            is_exported: false,
            is_local: false,
            line: 0,
        });
    };
    let below = |name: &syn::Ident, above: &[String]| {
        let mut path = above.to_vec();
        // `use a::{self}` imports `a`.
        if name != "self" || path.is_empty() {
            path.push(name.to_string());
        }
        path
    };
    match tree {
        syn::UseTree::Path(tree) => {
            above.push(tree.ident.to_string());
            flatten(&tree.tree, above, found);
            above.pop();
        }
        syn::UseTree::Name(tree) => {
            let path = below(&tree.ident, above);
            let name = path.last().cloned();
            add(path, name, false);
        }
        syn::UseTree::Rename(tree) => {
            let name = Some(tree.rename.to_string()).filter(|name| name != "_");
            add(below(&tree.ident, above), name, false);
        }
        syn::UseTree::Glob(_) => add(above.clone(), None, true),
        syn::UseTree::Group(group) => {
            for tree in &group.items {
                flatten(tree, above, found);
            }
        }
    }
}

fn has_doc(attrs: &[syn::Attribute]) -> bool {
    attrs
        .iter()
        .any(|attribute| attribute.path().is_ident("doc"))
}

/// `#[path = ".."]`
fn path_attribute(attrs: &[syn::Attribute]) -> Option<String> {
    let mut values = attrs.iter().filter_map(|attribute| match &attribute.meta {
        syn::Meta::NameValue(pair) if pair.path.is_ident("path") => decisions::literal(&pair.value),
        _ => None,
    });
    values.next()
}

/// `#[test]`, `#[tokio::test]`, and `#[cfg(..)]` that names `test` and does not negate it.
fn is_test(attrs: &[syn::Attribute]) -> bool {
    attrs.iter().any(|attribute| {
        let path = attribute.path();
        if path
            .segments
            .last()
            .is_some_and(|last| last.ident == "test")
        {
            return true;
        }
        match &attribute.meta {
            syn::Meta::List(list) if path.is_ident("cfg") => {
                let text = list.tokens.to_string();
                let mut words = text.split(|c: char| !c.is_alphanumeric());
                words.any(|word| word == "test") && !text.contains("not")
            }
            _ => false,
        }
    })
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Union(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
