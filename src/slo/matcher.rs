//! Which samples count: conditions on their labels, as in PromQL.

use std::borrow::Cow;

use regex::{Regex, RegexBuilder};

use crate::exposition::Labels;

/// Most memory of a compiled regular expression.
///
/// Unit: bytes.
const REGEX_SIZE: usize = 1 << 20;

/// Longest value of a condition.
///
/// Unit: bytes.
pub const MAX_VALUE: usize = 1024;

/// How a label is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `=`: the value is the same.
    Equal,
    /// `!=`: the value differs.
    NotEqual,
    /// `=~`: the regular expression matches the whole value.
    Match,
    /// `!~`: the regular expression does not match the whole value.
    NoMatch,
}

/// Why a condition cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MatcherFault {
    /// The name of the label is empty.
    #[error("a condition needs the name of a label")]
    NoName,
    /// The value is longer than [`MAX_VALUE`].
    #[error("the value of a condition has at most {MAX_VALUE} bytes")]
    Long,
    /// The value is not a regular expression, or a huge one.
    #[error("the value of a condition is not a regular expression, or one that is too large")]
    Regex,
}

/// A condition on one label. A label that a sample does not have counts as empty, as in Prometheus.
#[derive(Clone, Debug)]
pub struct Matcher {
    name: String,
    op: Op,
    value: String,
    /// None where the value is compared as it is.
    regex: Option<Regex>,
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.op, &self.value) == (&other.name, other.op, &other.value)
    }
}

impl Matcher {
    /// A condition.
    ///
    /// # Errors
    /// When the name is empty, or the value is too long or not a regular expression.
    pub fn new(
        name: impl Into<String>,
        op: Op,
        value: impl Into<String>,
    ) -> Result<Self, MatcherFault> {
        let (name, value) = (name.into(), value.into());
        if name.is_empty() {
            return Err(MatcherFault::NoName);
        }
        if value.len() > MAX_VALUE {
            return Err(MatcherFault::Long);
        }
        let is_regex = matches!(op, Op::Match | Op::NoMatch);
        let regex = match is_regex && regex::escape(&value) != value {
            // Prometheus anchors at both ends, and its dot matches a line break from version 3 on.
            true => Some(
                RegexBuilder::new(&format!("^(?s:{value})$"))
                    .size_limit(REGEX_SIZE)
                    .build()
                    .map_err(|_| MatcherFault::Regex)?,
            ),
            false => None,
        };
        Ok(Self {
            name,
            op,
            value,
            regex,
        })
    }

    /// Name of the label.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it is compared.
    #[must_use]
    pub fn op(&self) -> Op {
        self.op
    }

    /// What it is compared with.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Whether the value of the label fulfils the condition.
    #[must_use]
    pub fn holds(&self, value: &str) -> bool {
        let is_it = match &self.regex {
            Some(regex) => regex.is_match(value),
            None => self.value == value,
        };
        is_it == matches!(self.op, Op::Equal | Op::Match)
    }
}

/// Conditions that must all hold. Without one, every sample counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selector(Vec<Matcher>);

impl Selector {
    /// These conditions.
    #[must_use]
    pub fn new(matchers: Vec<Matcher>) -> Self {
        Self(matchers)
    }

    /// Labels with regular expressions that match the whole value, as in an objective of the spec.
    ///
    /// # Errors
    /// When a value is too long or not a regular expression.
    pub fn of<N: Into<String>, V: Into<String>>(
        labels: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, MatcherFault> {
        let matchers = labels.into_iter();
        let matchers = matchers.map(|(name, value)| Matcher::new(name, Op::Match, value));
        Ok(Self(matchers.collect::<Result<_, _>>()?))
    }

    /// Its conditions.
    #[must_use]
    pub fn matchers(&self) -> &[Matcher] {
        &self.0
    }

    /// These conditions and more.
    #[must_use]
    pub fn and(&self, more: &Self) -> Self {
        Self(self.0.iter().chain(&more.0).cloned().collect())
    }

    /// Whether the labels of a sample fulfil all conditions.
    #[must_use]
    pub fn holds(&self, labels: Labels<'_>) -> bool {
        self.0.iter().all(|matcher| {
            let value = labels.get(&matcher.name);
            matcher.holds(&value.unwrap_or(Cow::Borrowed("")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposition::{Entry, Format, Reader};

    fn holds(line: &str, selector: &Selector) -> bool {
        let mut reader = Reader::new(line.as_bytes(), Format::Text);
        match reader.next() {
            Some(Ok(Entry::Sample(sample))) => selector.holds(sample.labels),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_condition_compares_the_whole_value_and_a_missing_label_is_empty() {
        let line = "x{status=\"503\",kind=\"text\"} 1\n";
        for (name, op, value, expected) in [
            ("status", Op::Equal, "503", true),
            ("status", Op::Equal, "50", false),
            ("status", Op::NotEqual, "200", true),
            ("status", Op::Match, "5..", true),
            ("status", Op::Match, "5.", false),
            ("status", Op::Match, "4..|5..", true),
            ("status", Op::Match, "503", true),
            ("status", Op::NoMatch, "4..", true),
            ("status", Op::NoMatch, "5..", false),
            ("probe", Op::Equal, "", true),
            ("probe", Op::Match, ".+", false),
            ("probe", Op::NotEqual, "true", true),
        ] {
            let selector = Selector::new(vec![Matcher::new(name, op, value).unwrap()]);
            assert_eq!(holds(line, &selector), expected, "{name} {op:?} {value}");
        }
    }

    #[test]
    fn all_conditions_must_hold_and_none_holds_always() {
        let line = "x{status=\"503\",kind=\"text\"} 1\n";
        assert!(holds(line, &Selector::default()));
        let text = Selector::of([("kind", "text"), ("status", "5..")]).unwrap();
        let audio = Selector::of([("kind", "audio"), ("status", "5..")]).unwrap();
        assert!(holds(line, &text));
        assert!(!holds(line, &audio));
        assert!(!holds(line, &text.and(&audio)));
    }

    #[test]
    fn what_cannot_be_a_condition_is_refused() {
        assert_eq!(Matcher::new("", Op::Equal, "x"), Err(MatcherFault::NoName));
        assert_eq!(Matcher::new("a", Op::Match, "(x"), Err(MatcherFault::Regex));
        assert_eq!(
            Matcher::new("a", Op::Match, "(a{900}){900}"),
            Err(MatcherFault::Regex)
        );
        let long = "x".repeat(MAX_VALUE + 1);
        assert_eq!(Matcher::new("a", Op::Equal, long), Err(MatcherFault::Long));
        assert!(Matcher::new("a", Op::Equal, "(x").is_ok(), "it is a text");
    }
}
