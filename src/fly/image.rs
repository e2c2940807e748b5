//! Image references in Docker's notation: `[domain/]repository[:tag][@digest]`.

use std::fmt;
use std::str::FromStr;

/// Fly.io's own registry.
pub const FLY_REGISTRY: &str = "registry.fly.io";

/// Registry of names without a domain.
const DOCKER_HUB: &str = "docker.io";

/// A normalized image reference: the domain defaults to Docker Hub, and the tag to `latest` when
/// there is no digest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ImageReference {
    /// Host and port of the registry.
    pub domain: String,
    /// Repository, such as `library/nginx` or `sist-cabanas-mvp`.
    pub repository: String,
    /// Tag.
    pub tag: Option<String>,
    /// Digest, `sha256:…`.
    pub digest: Option<String>,
}

/// Why a text is not an image reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an image reference: {reason}")]
pub struct ReferenceError {
    text: String,
    reason: &'static str,
}

impl FromStr for ImageReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let refuse = |reason| ReferenceError {
            text: text.chars().take(300).collect(),
            reason,
        };
        let whole = text;
        if whole.contains("://") {
            return Err(refuse("it has no scheme: remove the part up to `://`"));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        if digest.is_some_and(|digest| !is_digest(digest)) {
            return Err(refuse("the digest must be sha256:<64 hexadecimal digits>"));
        }
        // A colon before the last slash is a port.
        let slash = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[slash..].split_once(':') {
            Some((last, tag)) => (&rest[..slash + last.len()], Some(tag)),
            None => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(refuse("the tag contains an invalid character"));
        }
        let (domain, path) = match name.split_once('/') {
            Some((first, path))
                if first.contains(['.', ':']) || first == "localhost" || has_upper(first) =>
            {
                (first.to_ascii_lowercase(), path.to_owned())
            }
            _ if name.contains('/') => (DOCKER_HUB.to_owned(), name.to_owned()),
            _ => (DOCKER_HUB.to_owned(), format!("library/{name}")),
        };
        // Anything else would be another host for whoever normalizes it.
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
        // `Dock/x` is a registry, and would be read as a name of Docker Hub once it is in lower case.
        let is_clear = domain.contains(['.', ':']) || domain == "localhost";
        if !is_clear
            || !domain.bytes().all(is_host)
            || url::Url::parse(&format!("https://{domain}/")).is_err()
        {
            return Err(refuse("the registry is not a host"));
        }
        if path.len() > 255 || !path.split('/').all(is_component) {
            return Err(refuse(
                "the name may contain only lower-case letters, digits, `.`, `_`, `-` and `/`",
            ));
        }
        Ok(Self {
            domain: if domain == "index.docker.io" {
                DOCKER_HUB.to_owned()
            } else {
                domain
            },
            repository: path,
            tag: tag
                .map(str::to_owned)
                .or_else(|| digest.is_none().then(|| "latest".to_owned())),
            digest: digest.map(str::to_owned),
        })
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.domain, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl ImageReference {
    /// Whether it is in Fly.io's own registry.
    pub fn is_fly(&self) -> bool {
        self.domain == FLY_REGISTRY
    }

    /// The same image by this digest alone. Machines get this form, so that a moved tag changes
    /// nothing.
    #[must_use]
    pub fn pinned(&self, digest: &str) -> Self {
        Self {
            tag: None,
            digest: Some(digest.to_owned()),
            ..self.clone()
        }
    }

    /// What a registry is queried by: the digest if there is one, else the tag.
    pub(crate) fn wanted(&self) -> &str {
        self.digest
            .as_deref()
            .or(self.tag.as_deref())
            .unwrap_or("latest")
    }

    /// Host of the registry's API.
    pub(crate) fn host(&self) -> &str {
        if self.domain == DOCKER_HUB {
            "registry-1.docker.io"
        } else {
            &self.domain
        }
    }
}

fn has_upper(text: &str) -> bool {
    text.bytes().any(|b| b.is_ascii_uppercase())
}

pub(crate) fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == 64
            && hex
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

pub(crate) fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=128).contains(&text.len())
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

/// Lower-case letters and digits, separated by `.`, `_`, `__` or any number of `-`.
fn is_component(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends = bytes.first().copied().is_some_and(word) && bytes.last().copied().is_some_and(word);
    let joins = text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    ends && joins
        .filter(|join| !join.is_empty())
        .all(|join| matches!(join, "." | "_" | "__") || join.bytes().all(|b| b == b'-'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_registry_that_would_be_read_as_another_one_is_refused() {
        for text in [
            "Dock/cer.y:1",
            "https\u{feff}t:5000/x",
            "exämple.org/x",
            "a_b.org/x",
            "A/b",
        ] {
            assert!(text.parse::<ImageReference>().is_err(), "{text}");
        }
        for text in [
            "Docker.io/library/redis",
            "LOCALHOST:5000/x",
            "localhost/x",
            "[::1]:5000/x",
        ] {
            let shown = text.parse::<ImageReference>().unwrap().to_string();
            let again = shown.parse::<ImageReference>().unwrap();
            assert_eq!(again.to_string(), shown, "{text}");
        }
    }

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn references_are_completed_as_docker_does() {
        for (text, whole) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            (
                "flyio/postgres-flex:17.2",
                "docker.io/flyio/postgres-flex:17.2",
            ),
            (
                "index.docker.io/library/nginx",
                "docker.io/library/nginx:latest",
            ),
            (
                "registry.fly.io/a-b:deployment-01J",
                "registry.fly.io/a-b:deployment-01J",
            ),
            ("localhost:5000/x/y", "localhost:5000/x/y:latest"),
            ("localhost/x", "localhost/x:latest"),
            ("ghcr.io/a/b.c__d--e", "ghcr.io/a/b.c__d--e:latest"),
        ] {
            assert_eq!(
                text.parse::<ImageReference>().unwrap().to_string(),
                whole,
                "{text}"
            );
        }
        let by_digest: ImageReference = format!("ghcr.io/a/b@{DIGEST}").parse().unwrap();
        assert_eq!(
            (by_digest.tag.as_deref(), by_digest.wanted()),
            (None, DIGEST)
        );
        let both: ImageReference = format!("ghcr.io/a/b:1@{DIGEST}").parse().unwrap();
        assert_eq!((both.tag.as_deref(), both.wanted()), (Some("1"), DIGEST));
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        for text in [
            "",
            ":tag",
            "/x",
            "x/",
            "a//b",
            "Upper",
            "a b",
            "a:",
            "a:b:c",
            "a:-b",
            "a@sha256:12",
            "a@md5:0123456789abcdef0123456789abcdef",
            "-a",
            "a..b",
            "a___b",
            "https://ghcr.io/a/b",
            "ghcr.io/../b",
            "ghcr.io/a?b=c",
            "u:p@ghcr.io/a",
            "a.b c.d/x",
        ] {
            assert!(text.parse::<ImageReference>().is_err(), "{text}");
        }
        assert!(
            format!("a/{}", "b".repeat(300))
                .parse::<ImageReference>()
                .is_err()
        );
    }

    #[test]
    fn a_pinned_reference_has_no_tag_that_could_move() {
        let image: ImageReference = "registry.fly.io/cabanas:1.4.0".parse().unwrap();
        assert!(image.is_fly());
        assert_eq!(
            image.pinned(DIGEST).to_string(),
            format!("registry.fly.io/cabanas@{DIGEST}")
        );
    }
}
