//! Token strings: their kind, scope, expiry and header. All offline: nothing is sent.
//!
//! A token is a comma-separated list. Items that start with `fm1r_`, `fm2_` (permission) or `fm1a_`
//! (discharge) are macaroons, everything else is an OAuth token. A macaroon is base64 of a msgpack
//! array `[nonce, location, caveats, tail]`; caveats are an array of alternating type and body.
//! Sources: github.com/superfly/macaroon `caveat.go`, `flyio/caveats.go`; fly-go
//! `tokens/tokens.go`.

use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use jiff::Timestamp;
use rmpv::Value;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

/// Location of the macaroons that grant permission on Fly.io.
const PERMISSION_LOCATION: &str = "https://api.fly.io/v1";

/// Caveat types that are read (superfly/macaroon `caveat.go`).
const ORGANIZATION: u64 = 0;
const APPS: u64 = 3;
const VALIDITY_WINDOW: u64 = 4;
const MACHINES: u64 = 7;
const THIRD_PARTY: u64 = 11;
const IF_PRESENT: u64 = 13;

/// Longest accepted token, in bytes; Fly.io's are below 8 kB.
const LONGEST: usize = 64 * 1024;

/// A token for Fly.io. Cheap to clone; its `Debug` shows no secret.
#[derive(Clone)]
pub struct Token {
    macaroons: SecretString,
    others: SecretString,
    fingerprint: String,
    facts: Facts,
}

/// What the text of a token contains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Its scope, as far as the text contains it.
    pub scope: Scope,
    /// When it expires; `None` if unknown.
    pub expires_at: Option<Timestamp>,
    /// When it becomes valid; `None` if unknown.
    pub valid_from: Option<Timestamp>,
    /// Whether the organization's caveat allows reading only; `None` if unknown.
    pub read_only: Option<bool>,
    /// Whether it needs third-party discharges that expire soon (a personal login). Such a token
    /// stops working while Golive runs.
    pub needs_discharge: bool,
    /// Number of macaroons that could not be read; flyctl drops them silently.
    pub unreadable: usize,
}

/// Scope of a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Unknown: an OAuth token, or a macaroon without such a caveat.
    #[default]
    Unknown,
    /// One organization, by its internal numeric id.
    Organization(u64),
    /// Some apps of one organization, by their internal numeric ids.
    Apps {
        /// The organization, if known.
        organization: Option<u64>,
        /// The apps.
        apps: Vec<u64>,
    },
    /// Some machines only.
    Machines(Vec<String>),
}

/// Why a text is not a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Empty.
    #[error("the token is empty")]
    Empty,
    /// Not usable in a header.
    #[error("the token contains invalid characters")]
    Characters,
    /// Too long.
    #[error("the token is longer than {LONGEST} bytes")]
    TooLong,
    /// Encoded in base64 once more than Kubernetes does.
    #[error("it is a token in base64, which was encoded twice")]
    Encoded,
    /// In quotes, which were stored along with it.
    #[error("it is in quotes")]
    Quoted,
    /// With the name of a variable in front.
    #[error("it has the name of a variable in front")]
    Named,
}

/// An API of Fly.io. Determines base URL and form of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Surface {
    /// The Machines API.
    Machines,
    /// GraphQL.
    Graphql,
    /// Logs and Prometheus on the GraphQL host.
    Logs,
    /// Releases, organizations and managed Postgres.
    Uiex,
    /// Fly.io's image registry.
    Registry,
}

impl Token {
    /// Parses a token with or without `FlyV1 ` or `Bearer `, surrounded by any white space.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        if text.len() > LONGEST {
            return Err(TokenError::TooLong);
        }
        let mut rest = text.trim();
        if rest.starts_with(['"', '\'', '`']) {
            return Err(TokenError::Quoted);
        }
        if has_name(rest) {
            return Err(TokenError::Named);
        }
        if decoded(rest).is_some_and(|text| looks_like_one(&text)) {
            return Err(TokenError::Encoded);
        }
        while let Some((scheme, after)) = rest.split_once(' ') {
            if !scheme.eq_ignore_ascii_case("FlyV1") && !scheme.eq_ignore_ascii_case("Bearer") {
                break;
            }
            rest = after.trim_start();
        }
        let items: Vec<&str> = rest
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .collect();
        if items.is_empty() {
            return Err(TokenError::Empty);
        }
        if !items
            .iter()
            .all(|item| item.bytes().all(|b| b.is_ascii_graphic()))
        {
            return Err(TokenError::Characters);
        }
        let (macaroons, others): (Vec<&str>, Vec<&str>) =
            items.into_iter().partition(|item| is_macaroon(item));
        let facts = Facts::read(&macaroons, others.is_empty());
        let (macaroons, others) = (macaroons.join(","), others.join(","));
        let digest = Sha256::digest(format!("{macaroons}\n{others}").as_bytes());
        Ok(Self {
            fingerprint: data_encoding::HEXLOWER.encode(&digest),
            macaroons: macaroons.into(),
            others: others.into(),
            facts,
        })
    }

    /// No token: for an object whose token is not to be had, so that what needs none still runs.
    /// Fly.io refuses every call with it.
    pub fn none() -> Self {
        Self {
            fingerprint: String::new(),
            macaroons: String::new().into(),
            others: String::new().into(),
            facts: Facts::read(&[], false),
        }
    }

    /// The contents of its text.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Whether it contains a macaroon, which managed Postgres requires of flyctl.
    pub fn is_macaroon(&self) -> bool {
        !self.macaroons.expose_secret().is_empty()
    }

    /// Whether it is the same token.
    pub fn is_same(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }

    /// SHA-256 in hexadecimal, to compare tokens. Not for logs or status.
    pub(crate) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The value of the `Authorization` header, as fly-go sends it (`tokens/tokens.go`).
    pub(crate) fn authorization(&self, surface: Surface) -> SecretString {
        let scheme = match surface {
            Surface::Uiex => "Bearer",
            _ if self.is_macaroon() => "FlyV1",
            _ => "Bearer",
        };
        let value = match surface {
            Surface::Machines | Surface::Logs | Surface::Registry => self.password(),
            Surface::Graphql | Surface::Uiex => self.everything(),
        };
        format!("{scheme} {}", value.expose_secret()).into()
    }

    /// The password for the registry: macaroons if there are any, else the rest.
    pub(crate) fn password(&self) -> SecretString {
        if self.is_macaroon() {
            self.macaroons.clone()
        } else {
            self.others.clone()
        }
    }

    fn everything(&self) -> SecretString {
        let (macaroons, others) = (self.macaroons.expose_secret(), self.others.expose_secret());
        let items: Vec<&str> = [macaroons, others]
            .into_iter()
            .filter(|items| !items.is_empty())
            .collect();
        items.join(",").into()
    }

    /// The secret parts, for removing them from foreign text.
    pub(crate) fn secrets(&self) -> Vec<&str> {
        let (macaroons, others) = (self.macaroons.expose_secret(), self.others.expose_secret());
        macaroons
            .split(',')
            .chain(others.split(','))
            .filter(|item| !item.is_empty())
            .collect()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("facts", &self.facts)
            .finish_non_exhaustive()
    }
}

/// Whether a text is or holds a token of Fly.io, by the prefixes of its tokens.
pub fn looks_like_one(text: &str) -> bool {
    let held = |text: &str| {
        ["fm1r_", "fm1a_", "fm2_", "fo1_"].iter().any(|prefix| {
            text.match_indices(prefix).any(|(at, _)| {
                let begins = text[..at]
                    .chars()
                    .next_back()
                    .is_none_or(|before| !(before.is_alphanumeric() || "_-+/".contains(before)));
                begins && text.len() > at + prefix.len()
            })
        })
    };
    held(text) || decoded(text.trim()).is_some_and(|text| held(&text))
}

/// The text of which this is base64.
fn decoded(text: &str) -> Option<String> {
    let whole: String = text.split_whitespace().collect();
    let bytes = data_encoding::BASE64.decode(whole.as_bytes());
    let bytes = bytes.or_else(|_| data_encoding::BASE64_NOPAD.decode(whole.as_bytes()));
    String::from_utf8(bytes.ok()?).ok()
}

/// Whether the name of a variable stands in front, such as `FLY_API_TOKEN=`.
fn has_name(value: &str) -> bool {
    let value = value.strip_prefix("export").map_or(value, str::trim_start);
    let Some((name, _)) = value.split_once('=') else {
        return false;
    };
    let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    name.chars().all(is_name) && name.contains("TOKEN")
}

fn is_macaroon(item: &str) -> bool {
    matches!(item.split_once('_'), Some(("fm1r" | "fm1a" | "fm2", _)))
}

impl Facts {
    fn read(macaroons: &[&str], only_macaroons: bool) -> Self {
        let mut facts = Self::default();
        let mut discharges = 0;
        let mut third_parties = 0;
        for item in macaroons {
            let Some(read) = Macaroon::decode(item) else {
                facts.unreadable += 1;
                continue;
            };
            // The token expires with the first of its macaroons: without its discharge a permission
            // is void.
            for (from, until) in read.windows() {
                facts.valid_from = facts.valid_from.max(from);
                facts.expires_at = match (facts.expires_at, until) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
            }
            if read.location == PERMISSION_LOCATION {
                third_parties += read.bodies(THIRD_PARTY).count();
                facts.scope = read.scope();
                facts.read_only = read.read_only();
            } else {
                discharges += 1;
            }
        }
        facts.needs_discharge = third_parties > 0 || discharges > 0;
        if !only_macaroons {
            // An OAuth token beside it may allow more than the macaroon.
            facts.scope = Scope::Unknown;
            facts.read_only = None;
        }
        facts
    }
}

/// Deepest nesting of a macaroon that is read. Those of Fly.io have less than ten levels.
const DEEPEST: usize = 32;

/// The readable parts of one macaroon.
struct Macaroon {
    location: String,
    caveats: Vec<(u64, Value)>,
}

impl Macaroon {
    fn decode(item: &str) -> Option<Self> {
        let (_, body) = item.split_once('_')?;
        let bytes = decode_base64(body)?;
        // rmpv bounds the length by the input, and the depth by 1024, for which the stack of a thread
        // may not suffice: whoever writes a Secret could end the process.
        let value = rmpv::decode::read_value_with_max_depth(&mut bytes.as_slice(), DEEPEST).ok()?;
        let parts = value.as_array()?;
        let location = parts.get(1)?.as_str()?.to_owned();
        let caveats = caveats(parts.get(2)?, 0);
        Some(Self { location, caveats })
    }

    fn bodies(&self, kind: u64) -> impl Iterator<Item = &Value> {
        self.caveats
            .iter()
            .filter(move |(k, _)| *k == kind)
            .map(|(_, body)| body)
    }

    fn windows(&self) -> Vec<(Option<Timestamp>, Option<Timestamp>)> {
        let second = |value: Option<&Value>| {
            let second = value?.as_i64().filter(|second| *second > 0)?;
            Timestamp::from_second(second).ok()
        };
        self.bodies(VALIDITY_WINDOW)
            .map(|body| {
                let fields = body.as_array().map(Vec::as_slice).unwrap_or_default();
                (second(fields.first()), second(fields.get(1)))
            })
            .collect()
    }

    /// Access is a bit mask: read 1, write 2, create 4, delete 8, control 16 (superfly/macaroon
    /// `resset/action.go`).
    fn read_only(&self) -> Option<bool> {
        let mask = |body: &Value| body.as_array()?.get(1)?.as_u64();
        let masks: Vec<u64> = self.bodies(ORGANIZATION).filter_map(mask).collect();
        (!masks.is_empty()).then(|| masks.iter().any(|mask| mask & !1 == 0))
    }

    fn scope(&self) -> Scope {
        let field = |body: &Value| body.as_array().and_then(|fields| fields.first().cloned());
        let keys = |kind| {
            self.bodies(kind)
                .filter_map(field)
                .filter_map(|set| set.as_map().cloned())
                .flat_map(|set| set.into_iter().map(|(key, _)| key))
                .collect::<Vec<Value>>()
        };
        let organization = self
            .bodies(ORGANIZATION)
            .filter_map(field)
            .find_map(|id| id.as_u64());
        let machines: Vec<String> = keys(MACHINES)
            .iter()
            .filter_map(|key| key.as_str().map(str::to_owned))
            .collect();
        if !machines.is_empty() {
            return Scope::Machines(machines);
        }
        let apps: Vec<u64> = keys(APPS).iter().filter_map(Value::as_u64).collect();
        if !apps.is_empty() {
            return Scope::Apps { organization, apps };
        }
        organization.map_or(Scope::Unknown, Scope::Organization)
    }
}

/// Flattens a caveat set, including caveats inside "if present", which restrict the scope too.
fn caveats(set: &Value, depth: usize) -> Vec<(u64, Value)> {
    let mut flat = Vec::new();
    let Some(items) = set.as_array().filter(|_| depth < 4) else {
        return flat;
    };
    for pair in items.chunks_exact(2) {
        let Some(kind) = pair[0].as_u64() else {
            continue;
        };
        if kind == IF_PRESENT
            && let Some(inner) = pair[1].as_array().and_then(|fields| fields.first())
        {
            flat.extend(caveats(inner, depth + 1));
        }
        flat.push((kind, pair[1].clone()));
    }
    flat
}

fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let standard = GeneralPurpose::new(&alphabet::STANDARD, config);
    let url_safe = GeneralPurpose::new(&alphabet::URL_SAFE, config);
    standard
        .decode(text)
        .or_else(|_| url_safe.decode(text))
        .ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn macaroon(prefix: &str, location: &str, caveats: Vec<Value>) -> String {
        let nonce = Value::Array(vec![
            Value::Binary(vec![1]),
            Value::Binary(vec![0; 16]),
            Value::Boolean(false),
        ]);
        let whole = Value::Array(vec![
            nonce,
            Value::from(location),
            Value::Array(caveats),
            Value::Binary(vec![7; 32]),
        ]);
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, &whole).unwrap();
        format!(
            "{prefix}_{}",
            base64::engine::general_purpose::STANDARD.encode(bytes)
        )
    }

    fn organization(id: u64) -> Vec<Value> {
        vec![
            Value::from(ORGANIZATION),
            Value::Array(vec![Value::from(id), Value::from(31)]),
        ]
    }

    fn window(from: i64, until: i64) -> Vec<Value> {
        vec![
            Value::from(VALIDITY_WINDOW),
            Value::Array(vec![Value::from(from), Value::from(until)]),
        ]
    }

    fn apps(ids: &[u64]) -> Vec<Value> {
        let map = ids
            .iter()
            .map(|id| (Value::from(*id), Value::from(31)))
            .collect();
        vec![Value::from(APPS), Value::Array(vec![Value::Map(map)])]
    }

    fn header(token: &Token, surface: Surface) -> String {
        token.authorization(surface).expose_secret().to_owned()
    }

    #[test]
    fn schemes_blanks_and_lists_are_taken_apart() {
        let token = Token::parse(" FlyV1 bearer fm2_bad, fo1_x ,plain\n").unwrap();
        assert_eq!(header(&token, Surface::Machines), "FlyV1 fm2_bad");
        assert_eq!(header(&token, Surface::Registry), "FlyV1 fm2_bad");
        assert_eq!(
            header(&token, Surface::Graphql),
            "FlyV1 fm2_bad,fo1_x,plain"
        );
        assert_eq!(header(&token, Surface::Uiex), "Bearer fm2_bad,fo1_x,plain");
        assert_eq!(token.facts().unreadable, 1);
        let plain = Token::parse("simtoken").unwrap();
        assert_eq!(header(&plain, Surface::Machines), "Bearer simtoken");
        assert_eq!(header(&plain, Surface::Graphql), "Bearer simtoken");
    }

    #[test]
    fn what_was_stored_along_with_a_token_is_recognized() {
        let encoded = data_encoding::BASE64.encode(b"FlyV1 fm2_abc,fm2_def\n");
        for (text, error) in [
            (encoded.as_str(), TokenError::Encoded),
            ("\"FlyV1 fm2_abc\"", TokenError::Quoted),
            ("FLY_API_TOKEN=FlyV1 fm2_abc", TokenError::Named),
            ("export FLY_API_TOKEN=fo1_abc", TokenError::Named),
        ] {
            assert_eq!(Token::parse(text).unwrap_err(), error, "{text}");
        }
        for text in [
            "fm2_lJPE==",
            "FlyV1 fm2_lJPE==,fm2_x=",
            "fo1_abc",
            "Zt7vQm2rKx9pLw4s",
        ] {
            assert!(Token::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_is_no_token_is_refused() {
        assert_eq!(Token::parse(" \n").unwrap_err(), TokenError::Empty);
        assert_eq!(Token::parse("FlyV1 ,").unwrap_err(), TokenError::Empty);
        assert_eq!(
            Token::parse("a\u{7f}b").unwrap_err(),
            TokenError::Characters
        );
        assert_eq!(
            Token::parse("two words").unwrap_err(),
            TokenError::Characters
        );
        assert_eq!(
            Token::parse(&"a".repeat(LONGEST + 1)).unwrap_err(),
            TokenError::TooLong
        );
    }

    #[test]
    fn an_organization_token_tells_its_organization_and_its_end() {
        let caveats = [organization(42), window(1_700_000_000, 1_800_000_000)].concat();
        let token = Token::parse(&macaroon("fm2", PERMISSION_LOCATION, caveats)).unwrap();
        assert_eq!(token.facts().scope, Scope::Organization(42));
        assert_eq!(
            token.facts().expires_at,
            Timestamp::from_second(1_800_000_000).ok()
        );
        assert_eq!(
            token.facts().valid_from,
            Timestamp::from_second(1_700_000_000).ok()
        );
        assert!(!token.facts().needs_discharge);
        assert_eq!(token.facts().read_only, Some(false));
        let mask = Value::Array(vec![Value::from(42), Value::from(1)]);
        let narrow = macaroon(
            "fm2",
            PERMISSION_LOCATION,
            vec![Value::from(ORGANIZATION), mask],
        );
        assert_eq!(Token::parse(&narrow).unwrap().facts().read_only, Some(true));
    }

    #[test]
    fn an_app_token_tells_its_apps_even_inside_a_condition() {
        let inner = Value::Array(vec![Value::Array(apps(&[7])), Value::from(0)]);
        let caveats = [organization(42), vec![Value::from(IF_PRESENT), inner]].concat();
        let token = Token::parse(&macaroon("fm2", PERMISSION_LOCATION, caveats)).unwrap();
        assert_eq!(
            token.facts().scope,
            Scope::Apps {
                organization: Some(42),
                apps: vec![7]
            }
        );
    }

    #[test]
    fn the_shortest_life_of_all_parts_is_the_life_of_the_token() {
        let third_party = vec![Value::from(THIRD_PARTY), Value::Array(vec![])];
        let permission = macaroon(
            "fm2",
            PERMISSION_LOCATION,
            [organization(1), window(0, 2_000_000_000), third_party].concat(),
        );
        let discharge = macaroon("fm1a", "https://auth.fly.io", window(0, 1_700_000_000));
        let token = Token::parse(&format!("{permission},{discharge}")).unwrap();
        assert_eq!(
            token.facts().expires_at,
            Timestamp::from_second(1_700_000_000).ok()
        );
        assert_eq!(token.facts().valid_from, None);
        assert!(token.facts().needs_discharge);
    }

    #[test]
    fn a_macaroon_of_any_depth_is_read_without_more_of_the_stack() {
        for opening in [vec![0x91], vec![0x81, 0xa1, 0x61], vec![0x92, 0xc0]] {
            let bytes = opening.repeat(20_000);
            let text = format!(
                "FlyV1 fm2_{}",
                base64::engine::general_purpose::STANDARD.encode(bytes)
            );
            let token = Token::parse(&text[..text.len().min(LONGEST)]).unwrap();
            assert_eq!(token.facts().expires_at, None);
        }
    }

    #[test]
    fn garbage_in_a_macaroon_is_counted_and_never_fatal() {
        for garbage in ["fm2_", "fm2_!!!!", "fm2_AAAA", "fm2_3f////8=", "fm1r_kpKS"] {
            let token = Token::parse(garbage).unwrap();
            assert_eq!(token.facts().unreadable, 1, "{garbage}");
            assert_eq!(token.facts().scope, Scope::Unknown);
        }
        let odd = macaroon(
            "fm2",
            PERMISSION_LOCATION,
            vec![Value::from(4), Value::Nil, Value::Nil],
        );
        assert_eq!(Token::parse(&odd).unwrap().facts().unreadable, 0);
    }

    #[test]
    fn a_token_never_shows_itself() {
        let token = Token::parse("fo1_verysecret").unwrap();
        assert!(!format!("{token:?}").contains("secret"));
    }
}
