//! What can be read from the arguments of a macro, which are tokens without a grammar.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A run of identifiers with `::` between them, such as `crate::fly::App`.
pub(crate) struct Run {
    pub segments: Vec<String>,
    pub line: usize,
}

/// Calls `found` for each path of two or more segments, and for each name that is not a field,
/// a method or a key: names matter where a glob or a re-export has brought them in.
pub(crate) fn paths(tokens: TokenStream, found: &mut impl FnMut(Run)) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Group(group) => paths(group.stream(), found),
            TokenTree::Ident(first) => {
                let after_dot = at > 0 && is_punct(&tokens[at - 1], '.');
                let mut run = Run {
                    segments: vec![first.to_string()],
                    line: first.span().start().line,
                };
                while let Some(TokenTree::Ident(next)) = after_colons(&tokens, at) {
                    run.segments.push(next.to_string());
                    at += 3;
                }
                let is_name = run.segments[0].starts_with(char::is_uppercase);
                if !after_dot && (run.segments.len() > 1 || is_name) {
                    found(run);
                }
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
        at += 1;
    }
}

/// The token after `::`, if that comes next.
fn after_colons(tokens: &[TokenTree], at: usize) -> Option<&TokenTree> {
    let colons = is_punct(tokens.get(at + 1)?, ':') && is_punct(tokens.get(at + 2)?, ':');
    colons.then(|| tokens.get(at + 3)).flatten()
}

fn is_punct(token: &TokenTree, wanted: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == wanted)
}

/// A type, constant or function that a macro declares.
pub(crate) struct Declared {
    pub name: String,
    pub line: usize,
    /// Number of fields, for a struct.
    pub fields: Option<usize>,
}

/// What a macro in the place of an item declares: `enum Name`, `struct Name { .. }`, `fn name`,
/// or `Name { .. }` alone.
pub(crate) fn declarations(tokens: TokenStream, found: &mut impl FnMut(Declared)) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => declarations(group.stream(), found),
            TokenTree::Ident(name) => {
                let keyword = at.checked_sub(1).and_then(|before| tokens.get(before));
                let keyword = match keyword {
                    Some(TokenTree::Ident(keyword)) => keyword.to_string(),
                    _ => String::new(),
                };
                let body = match tokens.get(at + 1) {
                    Some(TokenTree::Group(body)) if body.delimiter() == Delimiter::Brace => {
                        Some(body.stream())
                    }
                    _ => None,
                };
                let text = name.to_string();
                let alone =
                    body.is_some() && keyword.is_empty() && text.starts_with(char::is_uppercase);
                let declares = matches!(
                    keyword.as_str(),
                    "struct" | "enum" | "fn" | "const" | "static" | "type" | "trait"
                );
                if alone || declares {
                    let is_struct = alone || keyword == "struct";
                    let fields = body.filter(|_| is_struct).map(fields);
                    let line = name.span().start().line;
                    found(Declared {
                        name: text,
                        line,
                        fields,
                    });
                }
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

/// How many `name: Type` there are between the braces of a struct.
fn fields(body: TokenStream) -> usize {
    let tokens: Vec<TokenTree> = body.into_iter().collect();
    let single = |at: usize| {
        is_punct(&tokens[at], ':')
            && at > 0
            && matches!(tokens[at - 1], TokenTree::Ident(_))
            && tokens.get(at + 1).is_none_or(|next| !is_punct(next, ':'))
    };
    (0..tokens.len()).filter(|at| single(*at)).count()
}

/// Paths in string literals, as in `#[serde(with = "crate::api::duration")]`.
pub(crate) fn quoted_paths(tokens: TokenStream) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for token in tokens {
        match token {
            TokenTree::Group(group) => found.extend(quoted_paths(group.stream())),
            TokenTree::Literal(literal) => {
                let text = literal.to_string();
                let text = text.trim_matches('"');
                let is_path = text.contains("::")
                    && text
                        .chars()
                        .all(|c| c.is_alphanumeric() || c == '_' || c == ':');
                if is_path {
                    found.push(text.split("::").map(str::to_owned).collect());
                }
            }
            TokenTree::Ident(_) | TokenTree::Punct(_) => {}
        }
    }
    found
}
