//! Chooses a tag by a policy. Pure.

use std::cmp::Ordering;

use regex::{Regex, RegexBuilder};
use semver::{Version, VersionReq};

use crate::api::source::{NewestPolicy, Order, Policy};

/// Largest compiled pattern, in bytes. A pattern comes from a user, and a small one can compile to a
/// huge automaton.
const PATTERN_LIMIT: usize = 1 << 20;

/// A policy, parsed.
#[derive(Clone, Debug)]
pub enum Rule {
    /// One tag, resolved once.
    Pinned(String),
    /// One tag, followed.
    Tag(String),
    /// The highest version that matches one of these.
    Semver(Vec<VersionReq>),
    /// The last tag in order of those that match.
    Newest(Newest),
}

/// The last tag in order of those that match.
#[derive(Clone, Debug)]
pub struct Newest {
    pattern: Regex,
    /// Number of the capture group; 0 is the whole match.
    group: Option<usize>,
    order: Order,
}

/// The key by which tags are sorted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Version(Version),
    Text(String),
    /// Length and digits of a number without leading zeros: a longer number is a larger one.
    Number(usize, String),
}

/// The tag that was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pick<'t> {
    /// This one.
    Take(&'t str),
    /// Every matching tag is older than the held one; this is the last of them.
    Older(&'t str),
    /// No tag matches.
    Nothing,
}

impl Rule {
    /// Parses a policy.
    ///
    /// # Errors
    /// What is wrong with it, and the field.
    pub fn parse(policy: &Policy) -> Result<Self, String> {
        if let Some(pinned) = &policy.pinned {
            return Ok(Self::Pinned(pinned.tag.clone()));
        }
        if let Some(tag) = &policy.tag {
            return Ok(Self::Tag(tag.name.clone()));
        }
        if let Some(semver) = &policy.semver {
            return ranges(&semver.range).map(Self::Semver);
        }
        match &policy.newest {
            Some(newest) => newest_of(newest).map(Self::Newest),
            None => Err("the policy names no way to choose".to_owned()),
        }
    }

    /// The tag of a policy that names a single one.
    pub fn tag(&self) -> Option<&str> {
        match self {
            Self::Pinned(tag) | Self::Tag(tag) => Some(tag),
            Self::Semver(_) | Self::Newest(_) => None,
        }
    }

    /// Its name, as the spec has it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pinned(_) => "pinned",
            Self::Tag(_) => "tag",
            Self::Semver(_) => "semver",
            Self::Newest(_) => "newest",
        }
    }

    /// Whether `tag` is before `other` in the order of the policy; false when either does not match.
    pub fn is_older(&self, tag: &str, other: &str) -> bool {
        let order = |a, b| matches!((a, b), (Some(a), Some(b)) if a < b);
        match self {
            // Also when the present range matches only one of them.
            Self::Semver(_) => order(
                version(tag).map(Key::Version),
                version(other).map(Key::Version),
            ),
            _ => order(self.key(tag), self.key(other)),
        }
    }

    /// Chooses among tags. `held` was chosen by the same policy before; an older tag is never taken in
    /// its place.
    pub fn pick<'t>(&self, tags: &'t [String], held: Option<&str>) -> Pick<'t> {
        let best = tags
            .iter()
            .filter_map(|tag| Some((self.key(tag)?, tag.as_str())))
            .max_by(|a, b| match a.0.cmp(&b.0) {
                // Two tags with one key: the held one, else always the same one.
                Ordering::Equal if held == Some(a.1) => Ordering::Greater,
                Ordering::Equal if held == Some(b.1) => Ordering::Less,
                Ordering::Equal => a.1.cmp(b.1),
                order => order,
            });
        match best {
            None => Pick::Nothing,
            Some((_, tag)) if held.is_some_and(|held| self.is_older(tag, held)) => Pick::Older(tag),
            Some((_, tag)) => Pick::Take(tag),
        }
    }

    fn key(&self, tag: &str) -> Option<Key> {
        match self {
            Self::Pinned(own) | Self::Tag(own) => (own == tag).then(|| Key::Text(tag.to_owned())),
            Self::Semver(ranges) => version(tag)
                .filter(|version| ranges.iter().any(|range| range.matches(version)))
                .map(Key::Version),
            Self::Newest(newest) => newest.key(tag),
        }
    }
}

impl Newest {
    fn key(&self, tag: &str) -> Option<Key> {
        let captures = self.pattern.captures(tag)?;
        let text = match self.group {
            None => tag,
            Some(group) => captures.get(group)?.as_str(),
        };
        match self.order {
            Order::Alphabetical => Some(Key::Text(text.to_owned())),
            Order::Numerical => {
                let number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
                let digits = text.trim_start_matches('0');
                number.then(|| Key::Number(digits.len(), digits.to_owned()))
            }
        }
    }
}

/// A tag as a version, with or without a `v`. Tags cannot have a `+`, so a version has no build.
fn version(tag: &str) -> Option<Version> {
    Version::parse(tag.strip_prefix('v').unwrap_or(tag)).ok()
}

/// Parses a range as npm, Helm and Flux write it: alternatives with `||`, several comparisons in a
/// row, and a lone version that matches only itself (Cargo would match all compatible ones).
fn ranges(text: &str) -> Result<Vec<VersionReq>, String> {
    text.split("||").map(|part| range(part, text)).collect()
}

fn range(part: &str, whole: &str) -> Result<VersionReq, String> {
    let mut comparators: Vec<String> = Vec::new();
    let mut operator = String::new();
    let mut tokens = part
        .split(|c: char| c == ',' || c.is_whitespace())
        .filter(|token| !token.is_empty())
        .peekable();
    while let Some(token) = tokens.next() {
        if token.bytes().all(|byte| b"<>=~^".contains(&byte)) {
            operator.push_str(token);
            continue;
        }
        let token = format!("{}{token}", std::mem::take(&mut operator));
        let bare = token.starts_with(|c: char| c.is_ascii_digit());
        if bare && tokens.peek() == Some(&"-") {
            tokens.next();
            let end = tokens.next().unwrap_or_default();
            comparators.push(format!(">={token}"));
            comparators.push(format!("<={end}"));
        } else if bare && !token.contains(['x', 'X', '*']) {
            comparators.push(format!("={token}"));
        } else {
            comparators.push(token);
        }
    }
    if comparators.is_empty() || !operator.is_empty() {
        return Err(format!("{whole:?} is no range of versions"));
    }
    VersionReq::parse(&comparators.join(", "))
        .map_err(|error| format!("{whole:?} is no range of versions ({error})"))
}

fn newest_of(policy: &NewestPolicy) -> Result<Newest, String> {
    let pattern = RegexBuilder::new(&policy.pattern)
        .size_limit(PATTERN_LIMIT)
        .build()
        .map_err(|error| {
            let why = crate::api::status::one_line(&error.to_string(), 200);
            format!("`pattern` is no regular expression that can be used ({why})")
        })?;
    let group = match policy.extract.as_deref() {
        None => None,
        Some(name) => {
            let name = name.trim_start_matches('$');
            let by_name = pattern.capture_names().position(|own| own == Some(name));
            let by_number = name.parse().ok().filter(|n| *n < pattern.captures_len());
            let group = by_name.or(by_number);
            Some(group.ok_or_else(|| format!("`pattern` has no capture group {name}"))?)
        }
    };
    Ok(Newest {
        pattern,
        group,
        order: policy.order,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn rule(policy: &str) -> Rule {
        Rule::parse(&serde_saphyr::from_str(policy).unwrap()).unwrap()
    }

    fn wrong(policy: &str) -> String {
        Rule::parse(&serde_saphyr::from_str(policy).unwrap()).unwrap_err()
    }

    fn tags(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    fn take(policy: &str, of: &str) -> String {
        match rule(policy).pick(&tags(of), None) {
            Pick::Take(tag) => tag.to_owned(),
            Pick::Older(tag) => format!("older {tag}"),
            Pick::Nothing => "nothing".to_owned(),
        }
    }

    #[test]
    fn the_highest_version_within_the_range_is_chosen_as_a_version_and_not_as_a_text() {
        let all = "1.4.1 1.10.0 1.9.9 2.0.0 0.9.0";
        for (range, chosen) in [
            ("1.x", "1.10.0"),
            ("^1.4", "1.10.0"),
            ("~1.9", "1.9.9"),
            (">=1.4.0 <1.10.0", "1.9.9"),
            (">= 1.4.0, < 1.10.0", "1.9.9"),
            ("1.4 - 1.9.9", "1.9.9"),
            ("0.x || 2.x", "2.0.0"),
            ("*", "2.0.0"),
            ("1.4.1", "1.4.1"),
            ("1.4", "1.4.1"),
            ("3.x", "nothing"),
        ] {
            let policy = format!("semver: {{range: '{range}'}}");
            assert_eq!(take(&policy, all), chosen, "{range}");
        }
    }

    #[test]
    fn a_pre_release_is_chosen_only_if_the_range_names_one_of_its_version() {
        let all = "1.4.0 1.5.0-rc.1 1.5.0-rc.2 1.6.0-alpha";
        assert_eq!(take("semver: {range: '>=1.4.0'}", all), "1.4.0");
        assert_eq!(take("semver: {range: '>=1.5.0-rc.1'}", all), "1.5.0-rc.2");
        let released = format!("{all} 1.5.0");
        assert_eq!(take("semver: {range: '>=1.5.0-rc.1'}", &released), "1.5.0");
    }

    #[test]
    fn what_is_no_version_is_left_out_and_a_v_is_none_of_it() {
        let garbage = "latest v2 1.2 main-3f2a 1.2.3.4 01.2.3 v1.2.3 sha256-abc.sig 9999999999999999999999.0.0";
        assert_eq!(take("semver: {range: '>=0.1.0'}", garbage), "v1.2.3");
        assert_eq!(take("semver: {range: '*'}", "latest"), "nothing");
        assert_eq!(rule("semver: {range: '*'}").pick(&[], None), Pick::Nothing);
    }

    #[test]
    fn the_newest_by_pattern_is_the_last_in_its_order() {
        let all = "main-a-9 main-b-10 main-c-0011 dev-d-99 main-e";
        for (policy, chosen) in [
            (
                "newest: {pattern: '^main-[a-f]-(?P<ts>[0-9]+)$', extract: ts, order: Numerical}",
                "main-c-0011",
            ),
            (
                "newest: {pattern: '^main-[a-f]-(?P<ts>[0-9]+)$', extract: $ts}",
                "main-a-9",
            ),
            (
                "newest: {pattern: '^([a-z]+)-[a-f]-([0-9]+)$', extract: '2', order: Numerical}",
                "dev-d-99",
            ),
            ("newest: {pattern: '^main-'}", "main-e"),
            ("newest: {pattern: '^main-', order: Numerical}", "nothing"),
            ("newest: {pattern: '^nothing$'}", "nothing"),
        ] {
            assert_eq!(take(policy, all), chosen, "{policy}");
        }
        let long = "1 99999999999999999999999999999998 99999999999999999999999999999999";
        assert_eq!(
            take("newest: {pattern: '^[0-9]+$', order: Numerical}", long),
            "99999999999999999999999999999999"
        );
    }

    #[test]
    fn a_choice_does_not_depend_on_the_order_of_the_list() {
        let policy = rule("semver: {range: '*'}");
        for all in ["1.0.0 v1.0.0 0.1.0", "v1.0.0 0.1.0 1.0.0"] {
            assert_eq!(policy.pick(&tags(all), None), Pick::Take("v1.0.0"));
            assert_eq!(policy.pick(&tags(all), Some("1.0.0")), Pick::Take("1.0.0"));
        }
    }

    #[test]
    fn what_is_held_is_not_left_for_an_older_one() {
        let semver = rule("semver: {range: 1.x}");
        assert_eq!(
            semver.pick(&tags("1.4.0 1.4.1"), Some("1.5.0")),
            Pick::Older("1.4.1")
        );
        assert_eq!(
            semver.pick(&tags("1.4.1 1.6.0"), Some("1.5.0")),
            Pick::Take("1.6.0")
        );
        let newest = rule("newest: {pattern: '^[0-9]+$', order: Numerical}");
        assert_eq!(newest.pick(&tags("9"), Some("10")), Pick::Older("9"));
        assert_eq!(newest.pick(&tags("9"), Some("gone")), Pick::Take("9"));
    }

    #[test]
    fn a_policy_that_cannot_be_used_says_what_is_wrong_with_it() {
        for (policy, said) in [
            ("semver: {range: 'one'}", "no range of versions"),
            ("semver: {range: '>='}", "no range of versions"),
            ("semver: {range: '1.x ||'}", "no range of versions"),
            ("newest: {pattern: '('}", "no regular expression"),
            (
                "newest: {pattern: '(a{1000}){1000}'}",
                "no regular expression",
            ),
            (
                "newest: {pattern: '^a$', extract: ts}",
                "no capture group ts",
            ),
            (
                "newest: {pattern: '^a$', extract: '1'}",
                "no capture group 1",
            ),
        ] {
            let text = wrong(policy);
            assert!(text.contains(said), "{policy}: {text}");
        }
    }
}
