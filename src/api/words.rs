//! What the patterns of the schema require, in words.
//!
//! A pattern alone is shown to a person as a regular expression. So each pattern in a spec becomes a
//! rule with a message when the definitions are made, and is no longer part of the schema: the API
//! server would report it first. The patterns stay in the types, beside the fields.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, ValidationRule,
};

use super::duration;

/// What a pattern requires.
struct Words {
    /// The pattern, as the types have it.
    pattern: &'static str,
    /// The message. Also shown when `expression` cannot be evaluated.
    message: &'static str,
    /// A message that depends on the value `self`: an expression of CEL.
    expression: Option<&'static str>,
    /// Another condition on `self`, an expression of CEL, with the same message.
    also: Option<&'static str>,
}

const fn words(pattern: &'static str, message: &'static str) -> Words {
    Words {
        pattern,
        message,
        expression: None,
        also: None,
    }
}

impl Words {
    const fn or(mut self, expression: &'static str) -> Self {
        self.expression = Some(expression);
        self
    }

    const fn and(mut self, condition: &'static str) -> Self {
        self.also = Some(condition);
        self
    }
}

/// A region.
const REGION: &str = "^[a-z]{3}$";

/// A percentage. Written without quotes, `1` is a number and `1%` a text, so the schema accepts both
/// and the rule says which one is meant.
const PERCENT: &str = r"^[0-9]{1,2}(\.[0-9]{1,4})?%$";

/// Longest text that is compared with a pattern, where the pattern allows far fewer characters: with
/// the smaller bound the API server would report the length in place of what is required.
const ROOM: i64 = 63;

/// Every pattern of a spec.
const WORDS: &[Words] = &[
    words(
        "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$",
        "must have only lower-case letters, digits and `-`, and begin and end with a letter or digit",
    )
    .or(r#"self != self.lowerAscii() || self.contains('_')
 ? "must have only lower-case letters, digits and `-`, such as `" + self.lowerAscii().replace('_', '-') + "`"
 : "must have only lower-case letters, digits and `-`, and begin and end with a letter or digit""#),
    words(
        "^[-._a-zA-Z0-9]+$",
        "must be a key of a Secret or ConfigMap: letters, digits, `-`, `_` and `.`",
    ),
    words(
        "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$",
        "must be the name of a Kubernetes object: lower-case letters, digits, `-` and `.`, and begin and end with a letter or digit",
    ),
    words(
        duration::PATTERN,
        "must be whole numbers with the units `ms`, `s`, `m` and `h`, such as `30s`, `5m` or `1h30m`",
    )
    .or(r#"self.matches('^[0-9]{1,5}d$')
 ? "has no unit for days: write hours, such as `24h` for one day or `72h` for three"
 : self.matches('^[0-9]{1,5}[.][0-9]+(s|m|h)$')
 ? "must be whole numbers, such as `1500ms` in place of `1.5s`, or `1h30m` in place of `1.5h`"
 : self.matches('^[0-9]+$')
 ? "needs a unit: `" + self + "s` for seconds, `" + self + "m` for minutes or `" + self + "h` for hours"
 : "must be whole numbers with the units `ms`, `s`, `m` and `h`, such as `30s`, `5m` or `1h30m`""#),
    words(
        r"^[a-z0-9][a-z0-9.-]*(:[0-9]+[a-z]*)?$",
        "must be a machine size, alone or with its memory, such as `shared-cpu-2x` or `shared-cpu-2x:1gb`; `fly platform vm-sizes` lists them",
    ),
    words(
        r"^[A-Za-z0-9][A-Za-z0-9._/:@-]*$",
        "must be an image, such as `registry.fly.io/my-app:1.4.0` or `ghcr.io/me/my-app@sha256:…`",
    )
    .and("!self.contains('://')")
    .or(r#"self.contains('://')
 ? "must be an image without `" + self.substring(0, self.indexOf('://') + 3) + "`, such as `registry.fly.io/my-app:1.4.0`"
 : "must be an image without blanks and quotes, such as `registry.fly.io/my-app:1.4.0` or `ghcr.io/me/my-app@sha256:…`""#),
    words(
        r"^\$?([A-Za-z_][A-Za-z0-9_]*|[0-9]{1,2})$",
        "must be a capture group of `pattern`, by its name or number, such as `ts` or `1`",
    ),
    words(
        "^[A-Za-z0-9_][A-Za-z0-9._-]*$",
        "must be a tag, without the image: letters, digits, `.`, `_` and `-`, such as `1.4.0`",
    ),
    words(
        "^[0-9A-Za-z.*+<>=~^|, -]+$",
        "must be a range of versions, such as `1.x`, `^1.4.0` or `>=1.4.0 <2.0.0`",
    ),
    words(
        r#"^/[!-"$-~]*$"#,
        "must be a path on the app itself that begins with `/`, such as `/healthz`, and has no `#`; blanks and letters outside ASCII are percent-encoded",
    )
    .or(r#"self.contains('://')
 ? "must be a path on the app itself, such as `/healthz`, and not the address of a host"
 : !self.startsWith('/')
 ? "must begin with `/`: write `/" + self + "`"
 : self.contains('#')
 ? "must have no `#`: what follows it is never sent to a server; write `" + self.split('#')[0] + "`, or `%23` for the character itself"
 : "must have no blanks and no letters outside ASCII: percent-encode them, such as `%20` for a blank""#),
    words(
        "^[a-zA-Z_:][a-zA-Z0-9_:]*$",
        "must be the name of a metric: letters, digits, `_` and `:`, such as `http_requests_total`",
    ),
    words(
        "^[A-Za-z0-9-]+$",
        "must be the name of a header: letters, digits and `-`, such as `X-Signature`",
    ),
    words(
        "^[0-9]+$",
        "must be an id of digits only, such as `102290129340398`",
    ),
    words(
        r"^(/([^/~]|~[01])*)+$",
        "must be a JSON pointer (RFC 6901), such as `/sync/age_minutes`: `/` before each step",
    )
    .or(r#"!self.startsWith('/')
 ? "must begin with `/`: write `/" + self.replace('.', '/') + "`"
 : "must be a JSON pointer (RFC 6901), such as `/sync/age_minutes`; `~` is written `~0`""#),
    words(
        PERCENT,
        "must be a percentage below 100, in quotes and with a percent sign, such as `\"1%\"` or `\"0.1%\"`",
    ),
    words(
        r#"^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[!-"$-~]*)?$"#,
        "must be an address that begins with `https://`, or with `http://` where the installation allows it, without user, password and `#`, such as `https://prometheus.example.org`",
    ),
    words(
        r"^[a-zA-Z0-9!_.*()|-]+$",
        "must be the name of a tenant, such as `team-a`: letters, digits and `!-_.*()`, several separated by `|`",
    ),
    words(
        r"^(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$",
        "must be a hostname, such as `www.example.org` or `*.example.org`",
    )
    .and("!self.matches('(^|[.])(fly[.]dev|internal|flycast|localhost|local)$')")
    .or(r#"self.contains('/')
 ? "must be a hostname alone, without `https://` and path, such as `www.example.org`"
 : self.contains(':')
 ? "must be a hostname without a port, such as `www.example.org`: Fly.io serves it on 443 and 80"
 : !self.matches('^[!-~]*$')
 ? "must be written in ASCII: international names in the form that begins with `xn--`, as `idn2 NAME` prints it, and without blanks"
 : self != self.lowerAscii()
 ? "must be in lower case: write `" + self.lowerAscii() + "`"
 : self.endsWith('.fly.dev') || self == 'fly.dev'
 ? "must be a hostname of your own: those in `fly.dev` belong to Fly.io, and the app's own one needs no entry"
 : self.matches('(^|[.])(internal|flycast|localhost|local)$')
 ? "must be a hostname of the public Internet: nobody issues a certificate for `" + self + "`"
 : !self.contains('.')
 ? "must be a whole hostname with its domain, such as `" + self + ".example.org`"
 : self.matches('^[0-9.]+$')
 ? "must be a hostname, such as `www.example.org`, and not an IP address"
 : self.contains('_')
 ? "must be a hostname, which has no `_`, such as `www.example.org`"
 : self.contains('*')
 ? "must have `*` only as its first part, such as `*.example.org`"
 : "must be a hostname, such as `www.example.org` or `*.example.org`""#),
    words(
        r"^[a-z0-9][a-z0-9.-]*$",
        "must be a machine size, such as `shared-cpu-1x`; `fly platform vm-sizes` lists them",
    ),
    words(
        "^[a-z][a-z0-9-]*$",
        "must be a plan in lower case: `basic`, `starter`, `launch`, `scale` or `performance`",
    ),
    words(
        "^[a-z0-9][a-z0-9-]*$",
        "must be a plan in lower case with dashes, such as `pay-as-you-go`; `fly redis plans` lists them",
    ),
    words(
        REGION,
        "must be the code of a region, three lower-case letters such as `eze` or `ams`; `fly platform regions` lists them",
    ),
    words(
        "^[A-Za-z_][A-Za-z0-9_]*$",
        "must be the name of an environment variable: letters, digits and `_`, and no digit first, such as `JWT_SECRET`",
    )
    .or(r#"self.matches('^[A-Za-z_][A-Za-z0-9_.-]*$')
 ? "must be the name of an environment variable, which has no `-` and no `.`: write `" + self.upperAscii().replace('-', '_').replace('.', '_') + "`"
 : "must be the name of an environment variable: letters, digits and `_`, and no digit first, such as `JWT_SECRET`""#),
    words(
        "^(sha256:)?[0-9a-f]{8,64}$",
        "must be the digest of a plan, as `status.phases[].gate.digest` of the Activation has it",
    ),
];

/// Puts words in the place of the pattern of one field of a spec.
pub fn explain(schema: &mut JSONSchemaProps) {
    let Some(words) = schema
        .pattern
        .as_deref()
        .and_then(|pattern| WORDS.iter().find(|words| words.pattern == pattern))
    else {
        return;
    };
    let own = schema.x_kubernetes_validations.take().unwrap_or_default();
    let rule = if words.pattern == PERCENT {
        // The pattern stays: it holds for texts only, and the rule cannot bound the cost of a match.
        schema.type_ = None;
        schema.x_kubernetes_int_or_string = Some(true);
        "type(self) == string && self.endsWith('%')".to_owned()
    } else {
        schema.pattern = None;
        matches(words)
    };
    if words.pattern == REGION {
        schema.max_length = Some(ROOM);
        schema.min_length = Some(1);
    }
    // A rule that cannot be evaluated would add its own error to the message.
    let own = own.into_iter().map(|other| match words.pattern {
        duration::PATTERN => ValidationRule {
            rule: format!("!({rule}) || ({})", other.rule),
            ..other
        },
        _ => other,
    });
    let mut rules = vec![ValidationRule {
        rule: rule.clone(),
        message: Some(words.message.to_owned()),
        message_expression: words.expression.map(one_line),
        ..ValidationRule::default()
    }];
    rules.extend(own);
    schema.x_kubernetes_validations = Some(rules);
}

/// Whether a field of the installed definitions is a duration.
pub fn is_duration(schema: &JSONSchemaProps) -> bool {
    let pattern = format!("r'{}'", duration::PATTERN);
    let mut rules = schema.x_kubernetes_validations.iter().flatten();
    rules.any(|rule| rule.rule.contains(&pattern))
}

/// The rule of CEL in the place of a pattern.
fn matches(words: &Words) -> String {
    let own = format!("self.matches(r'{}')", words.pattern);
    match words.also {
        Some(also) => format!("{own} && {also}"),
        None => own,
    }
}

fn one_line(expression: &str) -> String {
    expression.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::crd::{crds, schema, visit};

    #[test]
    fn no_pattern_of_a_spec_stands_alone() {
        for mut crd in crds() {
            let version = crd.spec.versions.first_mut();
            let root = version.and_then(|version| version.schema.as_mut());
            let root = root.and_then(|schema| schema.open_api_v3_schema.as_mut());
            let properties = root.and_then(|root| root.properties.as_mut());
            let spec = properties.and_then(|all| all.get_mut("spec"));
            let mut patterns = Vec::new();
            if let Some(spec) = spec {
                visit(spec, &mut |field| {
                    if field.x_kubernetes_int_or_string != Some(true) {
                        patterns.extend(field.pattern.clone());
                    }
                });
            }
            assert!(patterns.is_empty(), "needs words: {patterns:?}");
            assert!(schema(&crd).is_some());
        }
    }

    #[test]
    fn words_are_quoted_and_can_be_written_as_cel() {
        for words in WORDS {
            assert!(words.message.contains('`'), "{}", words.message);
            assert!(words.message.len() <= 200, "{}", words.message);
            assert!(!words.pattern.contains('\''), "{}", words.pattern);
        }
    }
}
