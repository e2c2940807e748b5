//! Finds code that decides by a text for people: rewording a message would change behaviour.
//!
//! The rule is about names, since the parser knows no types: a comparison counts if what is
//! compared is called like a text for people, or if it is compared with a sentence.

/// Fields, variables and methods of these names hold texts for people.
const TEXTS: &[&str] = &[
    "change",
    "changes",
    "detail",
    "line",
    "lines",
    "message",
    "messages",
    "note",
    "sentence",
    "summary",
    "text",
    "to_string",
    "format!",
];

/// Methods that compare a text.
const COMPARE: &[&str] = &[
    "contains",
    "ends_with",
    "eq",
    "eq_ignore_ascii_case",
    "find",
    "matches",
    "rfind",
    "split_once",
    "starts_with",
    "strip_prefix",
    "strip_suffix",
];

/// Methods that pass on the text that they are called on.
const PASS_ON: &[&str] = &[
    "as_bytes",
    "as_deref",
    "as_ref",
    "as_str",
    "borrow",
    "clone",
    "iter",
    "to_ascii_lowercase",
    "to_lowercase",
    "to_owned",
    "trim",
    "trim_end",
    "trim_start",
    "unwrap_or_default",
];

/// One place where a text is compared.
#[derive(Debug)]
pub struct Decision {
    /// The function that it is in.
    pub function: String,
    /// Where it is.
    pub line: usize,
    /// What is compared, by its last name.
    pub what: String,
    /// What it is compared with.
    pub with: With,
    /// Whether what is compared is called like a text.
    pub is_text: bool,
}

/// What a text is compared with.
#[derive(Debug)]
pub enum With {
    /// This literal.
    Literal(String),
    /// The constant of this name.
    Constant(String),
    /// Something else.
    Other,
}

impl std::fmt::Display for With {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            With::Literal(text) => write!(f, "{text:?}"),
            With::Constant(name) => f.write_str(name),
            With::Other => f.write_str("another text"),
        }
    }
}

/// Whether a literal is a sentence and not a token: it has words with a space between them.
#[must_use]
pub fn is_sentence(text: &str) -> bool {
    let mut words = text.split(' ');
    let word = |word: &str| word.len() > 1 && word.chars().all(char::is_alphabetic);
    text.trim().len() > 3 && words.clone().count() > 1 && words.any(word)
}

pub(crate) fn of_call(call: &syn::ExprMethodCall) -> Option<Decision> {
    let method = call.method.to_string();
    if !COMPARE.contains(&method.as_str()) {
        return None;
    }
    let argument = call.args.first()?;
    // `[FIRST, SECOND].contains(&message)` asks the same question the other way around.
    if let syn::Expr::Array(list) = strip(&call.receiver) {
        let line = call.method.span().start().line;
        return list
            .elems
            .iter()
            .find_map(|element| decision(argument, element, line));
    }
    decision(&call.receiver, argument, call.method.span().start().line)
}

pub(crate) fn of_comparison(binary: &syn::ExprBinary) -> Option<Decision> {
    let spans = match &binary.op {
        syn::BinOp::Eq(token) => token.spans,
        syn::BinOp::Ne(token) => token.spans,
        _ => return None,
    };
    let line = spans[0].start().line;
    // Two texts that are both made elsewhere: whether one has changed is no matter of its words.
    if is_variable(&binary.left) && is_variable(&binary.right) {
        return None;
    }
    decision(&binary.left, &binary.right, line)
        .or_else(|| decision(&binary.right, &binary.left, line))
}

/// A match on a text: an arm with a literal counts.
pub(crate) fn of_match(expr: &syn::ExprMatch) -> Option<Decision> {
    let patterns = expr.arms.iter().map(|arm| &arm.pat);
    let line = expr.match_token.span.start().line;
    of_patterns(&expr.expr, patterns, line)
}

/// An `if let` or a `let … else` on a text.
pub(crate) fn of_let(expr: &syn::ExprLet) -> Option<Decision> {
    let line = expr.let_token.span.start().line;
    of_patterns(&expr.expr, [&*expr.pat].into_iter(), line)
}

fn of_patterns<'a>(
    what: &syn::Expr,
    patterns: impl Iterator<Item = &'a syn::Pat>,
    line: usize,
) -> Option<Decision> {
    let literals: Vec<String> = patterns.flat_map(literals_of).collect();
    let what = last_name(what);
    let is_text = TEXTS.contains(&what.as_str());
    let sentence = literals.iter().find(|text| is_sentence(text));
    let literal = sentence.or_else(|| literals.first())?.clone();
    (is_text || is_sentence(&literal)).then(|| Decision {
        function: String::new(),
        line,
        what,
        with: With::Literal(literal),
        is_text,
    })
}

/// The texts in a pattern: `Some("a" | "b")` has two.
fn literals_of(pattern: &syn::Pat) -> Vec<String> {
    match pattern {
        syn::Pat::Lit(lit) => text_of(&lit.lit).into_iter().collect(),
        syn::Pat::Or(or) => or.cases.iter().flat_map(literals_of).collect(),
        syn::Pat::Paren(inner) => literals_of(&inner.pat),
        syn::Pat::Reference(inner) => literals_of(&inner.pat),
        syn::Pat::TupleStruct(inner) => inner.elems.iter().flat_map(literals_of).collect(),
        _ => Vec::new(),
    }
}

/// `what` compared with `with`, if one of them is a text for people.
fn decision(what: &syn::Expr, with: &syn::Expr, line: usize) -> Option<Decision> {
    let what = last_name(what);
    let is_text = TEXTS.contains(&what.as_str());
    let with = match strip(with) {
        // A character or a number, a function that looks at characters, a variant: no text.
        syn::Expr::Lit(lit) => With::Literal(text_of(&lit.lit)?),
        syn::Expr::Closure(_) | syn::Expr::Array(_) | syn::Expr::Range(_) => return None,
        syn::Expr::Path(path) => {
            let segments = &path.path.segments;
            let last = segments.last()?.ident.to_string();
            let is_constant = !last.contains(char::is_lowercase);
            if is_constant && last.len() > 1 {
                With::Constant(last)
            } else if segments.len() > 1 || last.starts_with(char::is_uppercase) {
                return None;
            } else {
                With::Other
            }
        }
        _ => With::Other,
    };
    let counts = match &with {
        With::Literal(text) => is_text && !text.trim().is_empty() || is_sentence(text),
        // Whether its value is a sentence is known when all files are read.
        With::Constant(_) => true,
        With::Other => is_text,
    };
    counts.then(|| Decision {
        function: String::new(),
        line,
        what,
        with,
        is_text,
    })
}

/// The value of a string literal.
pub(crate) fn literal(expr: &syn::Expr) -> Option<String> {
    match strip(expr) {
        syn::Expr::Lit(lit) => text_of(&lit.lit),
        _ => None,
    }
}

fn text_of(lit: &syn::Lit) -> Option<String> {
    match lit {
        syn::Lit::Str(text) => Some(text.value()),
        _ => None,
    }
}

/// Whether an expression names a value whose text is not written here.
fn is_variable(expr: &syn::Expr) -> bool {
    match strip(expr) {
        syn::Expr::Field(_) => true,
        syn::Expr::Path(path) => {
            let last = path.path.segments.last();
            last.is_some_and(|last| last.ident.to_string().contains(char::is_lowercase))
        }
        syn::Expr::MethodCall(call) => {
            PASS_ON.contains(&call.method.to_string().as_str()) && is_variable(&call.receiver)
        }
        _ => false,
    }
}

/// Without references and parentheses.
fn strip(expr: &syn::Expr) -> &syn::Expr {
    match expr {
        syn::Expr::Reference(inner) => strip(&inner.expr),
        syn::Expr::Paren(inner) => strip(&inner.expr),
        syn::Expr::Unary(inner) => strip(&inner.expr),
        syn::Expr::Group(inner) => strip(&inner.expr),
        _ => expr,
    }
}

/// The name of what an expression is about: `message` for `&x.message.as_str()[1..]`.
fn last_name(expr: &syn::Expr) -> String {
    match strip(expr) {
        syn::Expr::Field(field) => match &field.member {
            syn::Member::Named(name) => name.to_string(),
            syn::Member::Unnamed(_) => last_name(&field.base),
        },
        syn::Expr::Path(path) => {
            let last = path.path.segments.last();
            last.map(|last| last.ident.to_string()).unwrap_or_default()
        }
        syn::Expr::MethodCall(call) => {
            let method = call.method.to_string();
            if PASS_ON.contains(&method.as_str()) {
                last_name(&call.receiver)
            } else {
                method
            }
        }
        syn::Expr::Index(index) => last_name(&index.expr),
        syn::Expr::Try(inner) => last_name(&inner.expr),
        syn::Expr::Macro(inner) => {
            let last = inner.mac.path.segments.last();
            last.map(|last| format!("{}!", last.ident))
                .unwrap_or_default()
        }
        _ => String::new(),
    }
}
