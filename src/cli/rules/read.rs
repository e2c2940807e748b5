//! Reads the queries that other tools have for an objective, as far as an objective can say the same. Pure.
//!
//! A query is a series, the sum of one or of its rate, or the difference of two of these:
//! `sum(rate(m_bucket{le="+Inf"}[5m])) - sum(rate(m_bucket{le="3"}[5m]))`. Everything else is refused.
//! Source: prometheus/prometheus, `docs/querying/basics.md`.

use crate::slo::Op;

/// Longest query that is read. Unit: bytes.
const MAX_QUERY: usize = 4096;

/// What Sloth fills in for each window, without blanks.
const PLACEHOLDER: &str = "{{.window}}";

/// A condition on a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    /// The label.
    pub(super) label: String,
    /// How it is compared.
    pub(super) op: Op,
    /// With what.
    pub(super) value: String,
}

/// A metric and its conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Vector {
    /// Its name.
    pub(super) metric: String,
    /// Which of its series count.
    pub(super) of: Vec<Condition>,
}

/// A query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Query {
    /// The events of these series.
    Sum(Vector),
    /// The events of the first that are not among those of the second.
    Difference(Vector, Vector),
}

/// Why a query cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// It is longer than any that could be an objective.
    #[error("it has more than {MAX_QUERY} bytes")]
    Long,
    /// Something else is expected there.
    #[error(
        "at `{at}`: {wanted} is expected. An objective is a share of sum(rate(METRIC{{…}}[WINDOW])), \
         or of the difference of two of these"
    )]
    Unexpected {
        /// The rest of the query.
        at: String,
        /// What was expected.
        wanted: &'static str,
    },
}

/// Reads a query.
///
/// # Errors
/// When it is not one of these.
pub(super) fn query(text: &str) -> Result<Query, Fault> {
    if text.len() > MAX_QUERY {
        return Err(Fault::Long);
    }
    let mut reader = Reader { rest: text };
    let read = reader.query()?;
    reader.end()?;
    Ok(read)
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn fault(&self, wanted: &'static str) -> Fault {
        let rest = self.rest.chars();
        let mut at: String = rest.take(24).collect();
        if at.is_empty() {
            "the end".clone_into(&mut at);
        }
        Fault::Unexpected { at, wanted }
    }

    fn eats(&mut self, word: &str) -> bool {
        self.blanks();
        match self.rest.strip_prefix(word) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn must(&mut self, word: &'static str) -> Result<(), Fault> {
        match self.eats(word) {
            true => Ok(()),
            false => Err(self.fault(word)),
        }
    }

    fn end(&mut self) -> Result<(), Fault> {
        self.blanks();
        match self.rest.is_empty() {
            true => Ok(()),
            false => Err(self.fault("the end")),
        }
    }

    fn query(&mut self) -> Result<Query, Fault> {
        let in_parentheses = self.eats("(");
        let first = self.sum()?;
        // An error that never happened has no series.
        let read = if self.eats("or") {
            self.must("vector")?;
            self.must("(")?;
            self.must("0")?;
            self.must(")")?;
            Query::Sum(first)
        } else if self.eats("-") {
            Query::Difference(first, self.sum()?)
        } else {
            Query::Sum(first)
        };
        if in_parentheses {
            self.must(")")?;
        }
        Ok(read)
    }

    /// `sum(rate(VECTOR[WINDOW]))`, `sum(VECTOR)` or `VECTOR`.
    fn sum(&mut self) -> Result<Vector, Fault> {
        if !self.function(&["sum"]) {
            return self.vector();
        }
        if !self.function(&["rate", "increase"]) {
            let vector = self.vector()?;
            self.must(")")?;
            return Ok(vector);
        }
        let vector = self.vector()?;
        self.must("[")?;
        self.window()?;
        self.must("]")?;
        self.must(")")?;
        self.must(")")?;
        Ok(vector)
    }

    /// One of these names and an opening parenthesis.
    fn function(&mut self, names: &[&str]) -> bool {
        let before = self.rest;
        for name in names {
            if self.eats(name) && self.eats("(") {
                return true;
            }
            self.rest = before;
        }
        false
    }

    /// A length of time, or the placeholder that a tool fills in.
    fn window(&mut self) -> Result<(), Fault> {
        self.blanks();
        let Some(end) = self.rest.find(']') else {
            return Err(self.fault("a window such as [5m]"));
        };
        let window: String = self.rest[..end].split_whitespace().collect();
        let is_length = !window.is_empty()
            && window.starts_with(|c: char| c.is_ascii_digit())
            && window.chars().all(|c| c.is_ascii_alphanumeric());
        if !is_length && window != PLACEHOLDER {
            return Err(self.fault("a window such as [5m]"));
        }
        self.rest = &self.rest[end..];
        Ok(())
    }

    fn name(&mut self, colons: bool) -> Result<String, Fault> {
        self.blanks();
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || (colons && c == ':');
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(self.fault("a name"));
        }
        self.rest = rest;
        Ok(name.to_owned())
    }

    fn vector(&mut self) -> Result<Vector, Fault> {
        let metric = self.name(true)?;
        let mut of = Vec::new();
        if self.eats("{") {
            while !self.eats("}") {
                of.push(self.condition()?);
                if !self.eats(",") {
                    self.must("}")?;
                    break;
                }
            }
        }
        Ok(Vector { metric, of })
    }

    fn condition(&mut self) -> Result<Condition, Fault> {
        let label = self.name(false)?;
        let ops = [
            ("=~", Op::Match),
            ("!~", Op::NoMatch),
            ("!=", Op::NotEqual),
            ("=", Op::Equal),
        ];
        let found = ops.into_iter().find(|(text, _)| self.eats(text));
        let (_, op) = found.ok_or_else(|| self.fault("=, !=, =~ or !~"))?;
        let value = self.literal()?;
        Ok(Condition { label, op, value })
    }

    /// A text between quotes, as Go writes it.
    fn literal(&mut self) -> Result<String, Fault> {
        self.blanks();
        let start = self.rest;
        let mut chars = start.char_indices();
        let quote = chars.next().map(|(_, c)| c);
        let Some(quote) = quote.filter(|c| matches!(c, '"' | '\'' | '`')) else {
            return Err(self.fault("a text between quotes"));
        };
        let mut text = String::new();
        while let Some((at, c)) = chars.next() {
            match c {
                c if c == quote => {
                    self.rest = &start[at + c.len_utf8()..];
                    return Ok(text);
                }
                '\\' if quote != '`' => match chars.next().map(|(_, c)| c) {
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    Some(c @ ('\\' | '"' | '\'')) => text.push(c),
                    _ => return Err(self.fault("an escape of \\\\, \\\", \\n or \\t")),
                },
                c => text.push(c),
            }
        }
        Err(self.fault("a text that ends"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn vector(metric: &str, of: &[(&str, Op, &str)]) -> Vector {
        let of = of.iter().map(|(label, op, value)| Condition {
            label: (*label).to_owned(),
            op: *op,
            value: (*value).to_owned(),
        });
        Vector {
            metric: metric.to_owned(),
            of: of.collect(),
        }
    }

    #[test]
    fn series_sums_rates_and_differences_are_read() {
        let requests = || vector("http_requests_total", &[("code", Op::Match, "5..")]);
        for text in [
            "http_requests_total{code=~\"5..\"}",
            "sum(http_requests_total{code=~'5..'})",
            " sum( rate( http_requests_total{ code =~ \"5..\" , } [ 5m ] ) ) ",
            "sum(increase(http_requests_total{code=~`5..`}[{{.window}}]))",
            "(sum(rate(http_requests_total{code=~\"5..\"}[{{ .window }}])) or vector(0))",
        ] {
            assert_eq!(query(text), Ok(Query::Sum(requests())), "{text}");
        }
        let difference = "sum(rate(a_bucket{le=\"+Inf\"}[1h])) - sum(rate(a_bucket{le=\"3\"}[1h]))";
        let all = vector("a_bucket", &[("le", Op::Equal, "+Inf")]);
        let some = vector("a_bucket", &[("le", Op::Equal, "3")]);
        assert_eq!(query(difference), Ok(Query::Difference(all, some)));
        let escaped = vector("m", &[("a", Op::NotEqual, "x\"\\\n}")]);
        assert_eq!(query(r#"m{a!="x\"\\\n}"}"#), Ok(Query::Sum(escaped)));
    }

    #[test]
    fn everything_else_is_refused_with_the_place() {
        for text in [
            "",
            "1",
            "sum(rate(m[5m])",
            "sum by (job) (rate(m[5m]))",
            "m offset 5m",
            "m[5m]",
            "m{a}",
            "m{a=b}",
            "m{a=\"b}",
            "sum(rate(m[]))",
            "sum(rate(m[$__interval]))",
            "avg(rate(m[5m]))",
            "m - n - o",
            "m or n",
            "m{a=\"\\q\"}",
            "a * b",
            "m{__name__=\"x\"",
        ] {
            assert!(
                matches!(query(text), Err(Fault::Unexpected { .. })),
                "{text}"
            );
        }
        let said = query("m * 2").unwrap_err().to_string();
        assert!(said.starts_with("at `* 2`: the end is expected"), "{said}");
        assert_eq!(query(&"m".repeat(5000)), Err(Fault::Long));
    }
}
