//! The text of a rule as an expression.

use super::value::{CelError, Result, Value};

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cli) enum Expr {
    Literal(Value),
    List(Vec<Expr>),
    Name(String),
    Field(Box<Expr>, String),
    Index(Box<Expr>, Box<Expr>),
    Not(Box<Expr>),
    If(Box<Expr>, Box<Expr>, Box<Expr>),
    Binary(String, Box<Expr>, Box<Expr>),
    /// A function, or a method of the first part.
    Call(Option<Box<Expr>>, String, Vec<Expr>),
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Value(Value),
    Name(String),
    Sign(&'static str),
}

/// Signs, the longer ones first.
const SIGNS: [&str; 24] = [
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "?", ":", "(", ")", "[", "]", ".", ",", "+",
    "-", "*", "/", "%", "{", "}",
];

/// Binary operators by precedence, from the weakest.
const LEVELS: [&[&str]; 5] = [
    &["||"],
    &["&&"],
    &["==", "!=", "<", "<=", ">", ">=", "in"],
    &["+", "-"],
    &["*", "/", "%"],
];

/// Deepest nesting that is read.
const MAX_DEPTH: usize = 64;

/// Parses a rule.
///
/// # Errors
/// When it uses syntax that is not known here.
pub(in crate::cli) fn parse(rule: &str) -> Result<Expr> {
    let mut parser = Parser {
        tokens: tokens(rule)?,
        at: 0,
        depth: 0,
    };
    let expr = parser.conditional()?;
    if parser.at == parser.tokens.len() {
        Ok(expr)
    } else {
        parser.unexpected()
    }
}

fn tokens(rule: &str) -> Result<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = rule.trim_start();
    while let Some(first) = rest.chars().next() {
        let raw = ["r'", "r\""].iter().any(|start| rest.starts_with(start));
        let (token, length) = if first == '\'' || first == '"' || raw {
            text(rest, raw)?
        } else if first.is_ascii_digit() {
            number(rest)?
        } else if first.is_alphabetic() || first == '_' {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
            let word = &rest[..end.unwrap_or(rest.len())];
            (name(word), word.len())
        } else {
            let sign = SIGNS.into_iter().find(|sign| rest.starts_with(sign));
            let sign = sign.ok_or_else(|| CelError::Unsupported(first.to_string()))?;
            (Token::Sign(sign), sign.len())
        };
        tokens.push(token);
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

fn name(word: &str) -> Token {
    match word {
        "true" => Token::Value(Value::Bool(true)),
        "false" => Token::Value(Value::Bool(false)),
        "null" => Token::Value(Value::Null),
        "in" => Token::Sign("in"),
        word => Token::Name(word.to_owned()),
    }
}

fn number(rest: &str) -> Result<(Token, usize)> {
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
    let digits = &rest[..end.unwrap_or(rest.len())];
    let value = match digits.parse::<i64>() {
        Ok(number) => Value::Int(number),
        Err(_) => match digits.parse::<f64>() {
            Ok(number) => Value::Float(number),
            Err(_) => return Err(CelError::Unsupported(digits.to_owned())),
        },
    };
    Ok((Token::Value(value), digits.len()))
}

/// A quoted text and its length in the rule.
fn text(rest: &str, raw: bool) -> Result<(Token, usize)> {
    let start = usize::from(raw);
    let mut characters = rest[start..].char_indices();
    let quote = characters.next().map(|(_, quote)| quote);
    let mut text = String::new();
    while let Some((at, character)) = characters.next() {
        if Some(character) == quote {
            let length = start + at + character.len_utf8();
            return Ok((Token::Value(Value::Text(text)), length));
        }
        match (character, raw) {
            ('\\', false) => match characters.next() {
                Some((_, 'n')) => text.push('\n'),
                Some((_, 't')) => text.push('\t'),
                Some((_, other)) if !other.is_alphanumeric() => text.push(other),
                _ => return Err(CelError::Unsupported("this escape".to_owned())),
            },
            _ => text.push(character),
        }
    }
    Err(CelError::Unsupported("a text without its end".to_owned()))
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn unexpected<T>(&self) -> Result<T> {
        let what = match self.tokens.get(self.at) {
            Some(token) => format!("{token:?}"),
            None => "the end of the rule".to_owned(),
        };
        Err(CelError::Unsupported(what))
    }

    fn take(&mut self, sign: &str) -> bool {
        let found = matches!(self.tokens.get(self.at), Some(Token::Sign(s)) if *s == sign);
        self.at += usize::from(found);
        found
    }

    fn need(&mut self, sign: &str) -> Result<()> {
        if self.take(sign) {
            Ok(())
        } else {
            self.unexpected()
        }
    }

    fn conditional(&mut self) -> Result<Expr> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(CelError::Unsupported("a rule nested so deeply".to_owned()));
        }
        let condition = self.binary(0)?;
        let expr = if self.take("?") {
            let yes = self.conditional()?;
            self.need(":")?;
            let no = self.conditional()?;
            Expr::If(condition.into(), yes.into(), no.into())
        } else {
            condition
        };
        self.depth -= 1;
        Ok(expr)
    }

    fn binary(&mut self, level: usize) -> Result<Expr> {
        let Some(operators) = LEVELS.get(level) else {
            return self.unary();
        };
        let mut left = self.binary(level + 1)?;
        while let Some(operator) = operators.iter().find(|sign| self.take(sign)) {
            let right = self.binary(level + 1)?;
            left = Expr::Binary((*operator).to_owned(), left.into(), right.into());
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Expr> {
        let mut signs = Vec::new();
        while let Some(sign) = ["!", "-"].into_iter().find(|sign| self.take(sign)) {
            signs.push(sign);
        }
        let mut expr = self.member()?;
        for sign in signs.into_iter().rev() {
            expr = match sign {
                "!" => Expr::Not(expr.into()),
                _ => {
                    let zero = Expr::Literal(Value::Int(0));
                    Expr::Binary("-".to_owned(), zero.into(), expr.into())
                }
            };
        }
        Ok(expr)
    }

    fn member(&mut self) -> Result<Expr> {
        let mut expr = self.primary()?;
        loop {
            if self.take(".") {
                let Some(Token::Name(name)) = self.tokens.get(self.at).cloned() else {
                    return self.unexpected();
                };
                self.at += 1;
                expr = if self.take("(") {
                    Expr::Call(Some(expr.into()), name, self.list(")")?)
                } else {
                    Expr::Field(expr.into(), name)
                };
            } else if self.take("[") {
                let index = self.conditional()?;
                self.need("]")?;
                expr = Expr::Index(expr.into(), index.into());
            } else {
                return Ok(expr);
            }
        }
    }

    fn primary(&mut self) -> Result<Expr> {
        if self.take("(") {
            let expr = self.conditional()?;
            self.need(")")?;
            return Ok(expr);
        }
        if self.take("[") {
            return self.list("]").map(Expr::List);
        }
        match self.tokens.get(self.at).cloned() {
            Some(Token::Value(value)) => {
                self.at += 1;
                Ok(Expr::Literal(value))
            }
            Some(Token::Name(name)) => {
                self.at += 1;
                if self.take("(") {
                    return Ok(Expr::Call(None, name, self.list(")")?));
                }
                Ok(Expr::Name(name))
            }
            _ => self.unexpected(),
        }
    }

    /// Expressions up to the closing sign.
    fn list(&mut self, end: &str) -> Result<Vec<Expr>> {
        let mut items = Vec::new();
        while !self.take(end) {
            if !items.is_empty() {
                self.need(",")?;
            }
            items.push(self.conditional()?);
        }
        Ok(items)
    }
}
