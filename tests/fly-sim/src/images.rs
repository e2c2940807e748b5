//! Which local program an image reference stands for: `images.toml`.
//!
//! ```toml
//! [[image]]
//! name = "registry.fly.io/sist-cabanas-mvp"    # repository, or repository:tag
//! tag = "1.4.0"                                # optional: none matches every tag
//! program = "cabanas"                          # relative to this file, or to the running program
//! args = ["serve"]
//! env = { RUST_LOG = "info" }
//! labels = { "fly.version" = "v1" }
//! architecture = "amd64"
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What can go wrong with `images.toml`.
#[derive(Debug, thiserror::Error)]
pub enum ImagesError {
    /// The file cannot be read.
    #[error("read {path}: check that the file of --images exists and is readable")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what we expect.
    #[error("parse {path}: compare with the example at the top of images.rs")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: toml::de::Error,
    },
}

/// One image: a reference and the program it runs.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Repository with its registry, as in `registry.fly.io/app`; `repository:tag` is accepted.
    pub name: String,
    /// The tag; every tag matches if absent.
    #[serde(default)]
    pub tag: Option<String>,
    /// Digest (`sha256:...`); derived from name, tag, program, args and env if absent.
    #[serde(default)]
    pub digest: Option<String>,
    /// The program; relative paths are looked up beside `images.toml`, then beside the running
    /// executable and one directory above it (where `target/debug` has its programs).
    #[serde(default)]
    pub program: Option<PathBuf>,
    /// Served inside the simulator instead of by a program (see `platform::builtin`).
    #[serde(default)]
    pub builtin: Option<String>,
    /// The image's entrypoint arguments, before those of the machine.
    #[serde(default)]
    pub entrypoint: Vec<String>,
    /// Default arguments (`CMD`), replaced by `init.cmd`.
    #[serde(default)]
    pub args: Vec<String>,
    /// Environment of the image, below `config.env`.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Labels of the image.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// `amd64` unless told otherwise; a machine does not start any other.
    #[serde(default = "amd64")]
    pub architecture: String,
}

fn amd64() -> String {
    "amd64".to_owned()
}

impl Image {
    /// An image with a program.
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            tag: None,
            digest: None,
            program: Some(program.into()),
            builtin: None,
            entrypoint: Vec::new(),
            args: Vec::new(),
            env: BTreeMap::new(),
            labels: BTreeMap::new(),
            architecture: amd64(),
        }
    }

    /// With default arguments.
    #[must_use]
    pub fn args<A: Into<String>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args = args.into_iter().map(Into::into).collect();
        self
    }

    /// With a variable in its environment.
    #[must_use]
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(key.into(), value.into());
        self
    }

    /// With a label.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Its tag, if it has one: an image without a tag is there under every tag.
    pub fn own_tag(&self) -> Option<String> {
        let in_name = || match self.name.rsplit_once(':') {
            Some((_, tag)) if !tag.contains('/') => Some(tag.to_owned()),
            _ => None,
        };
        self.tag.clone().or_else(in_name)
    }

    /// The digest under a given tag.
    pub fn digest(&self, tag: &str) -> String {
        if let Some(digest) = &self.digest {
            return digest.clone();
        }
        // The digest of what the registry serves, as clients check.
        crate::platform::registry::digest_of(self, tag)
    }
}

/// A parsed image reference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reference {
    /// `registry.fly.io`, `registry-1.docker.io`, ...
    pub registry: String,
    /// `app`, `library/nginx`, ...
    pub repository: String,
    /// The tag; empty when only a digest was given.
    pub tag: String,
    /// The digest, if given.
    pub digest: Option<String>,
}

impl Reference {
    /// Parses as Docker does: a first part with a dot, a colon or `localhost` is a registry; no
    /// tag and no digest means `latest`. `None` if it is no reference.
    pub fn parse(text: &str) -> Option<Self> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let hex = digest.strip_prefix("sha256:")?;
                if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return None;
                }
                (rest, Some(digest.to_owned()))
            }
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, tag.to_owned()),
            _ if digest.is_some() => (rest, String::new()),
            _ => (rest, "latest".to_owned()),
        };
        let valid_tag = tag.len() <= 128
            && tag
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
        let (registry, repository) = match name.split_once('/') {
            // Names of Docker Hub; hosts call it by that of its registry.
            Some(("docker.io" | "index.docker.io", rest)) if rest.contains('/') => {
                ("registry-1.docker.io".to_owned(), rest.to_owned())
            }
            Some(("docker.io" | "index.docker.io", rest)) => {
                ("registry-1.docker.io".to_owned(), format!("library/{rest}"))
            }
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => {
                (first.to_owned(), rest.to_owned())
            }
            Some(_) => ("registry-1.docker.io".to_owned(), name.to_owned()),
            None => ("registry-1.docker.io".to_owned(), format!("library/{name}")),
        };
        let valid_name = !repository.is_empty()
            && repository.split('/').all(|part| {
                !part.is_empty()
                    && part.bytes().all(|b| {
                        b.is_ascii_lowercase()
                            || b.is_ascii_digit()
                            || matches!(b, b'_' | b'.' | b'-')
                    })
            });
        (valid_tag && valid_name && !name.ends_with("//")).then_some(Self {
            registry,
            repository,
            tag,
            digest,
        })
    }

    /// `registry/repository`, as `images.toml` names images.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }
}

/// An image found for a reference.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The parsed reference.
    pub reference: Reference,
    /// The digest that the reference stands for now.
    pub digest: String,
    /// What it runs.
    pub image: Image,
    /// Absolute path of the program; `None` for a built-in one or one that is missing.
    pub program: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    image: Vec<Image>,
}

/// All images there are.
#[derive(Clone, Debug, Default)]
pub struct Images {
    images: Vec<Image>,
    dir: Option<PathBuf>,
}

impl Images {
    /// Images given in code.
    pub fn new(images: impl IntoIterator<Item = Image>) -> Self {
        Self {
            images: images.into_iter().collect(),
            dir: None,
        }
    }

    /// Reads `images.toml`.
    pub fn read(path: &Path) -> Result<Self, ImagesError> {
        let text = std::fs::read_to_string(path).map_err(|source| ImagesError::Read {
            path: path.to_owned(),
            source,
        })?;
        let file: File = toml::from_str(&text).map_err(|source| ImagesError::Parse {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            images: file.image,
            dir: path.parent().map(Path::to_owned),
        })
    }

    /// Adds an image; a later one with the same name and tag wins.
    pub fn add(&mut self, image: Image) {
        self.images.push(image);
    }

    /// Adds images that others with the same name and tag replace.
    #[must_use]
    pub fn on_top_of(mut self, base: impl IntoIterator<Item = Image>) -> Self {
        self.images.splice(0..0, base);
        self
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Image> {
        self.images.iter()
    }

    /// Finds the image for a reference: by digest if it has one, else by tag.
    pub fn resolve(&self, text: &str) -> Option<Resolved> {
        let reference = Reference::parse(text)?;
        let name = reference.name();
        for image in self.images.iter().rev() {
            let (image_name, image_tag) = match Reference::parse(&image.name) {
                Some(parsed) => {
                    let tagged = image
                        .name
                        .rsplit_once(':')
                        .is_some_and(|(_, tag)| !tag.contains('/'));
                    let tag = image
                        .tag
                        .clone()
                        .or_else(|| tagged.then(|| parsed.tag.clone()));
                    (parsed.name(), tag)
                }
                None => continue,
            };
            if image_name != name {
                continue;
            }
            let of_tag = image_tag.as_ref().is_none_or(|tag| *tag == reference.tag);
            // A digest is worked out only where it counts: there may be hundreds of tags.
            if reference.digest.is_none() && !of_tag {
                continue;
            }
            let tag = image_tag.unwrap_or_else(|| reference.tag.clone());
            let digest = image.digest(&tag);
            if reference
                .digest
                .as_ref()
                .is_none_or(|wanted| *wanted == digest)
            {
                let program = image.program.as_deref().and_then(|path| self.find(path));
                return Some(Resolved {
                    reference,
                    digest,
                    image: image.clone(),
                    program,
                });
            }
        }
        None
    }

    fn find(&self, program: &Path) -> Option<PathBuf> {
        if program.is_absolute() {
            return program.exists().then(|| program.to_owned());
        }
        let running = std::env::current_exe().ok();
        let beside = running.as_deref().and_then(Path::parent);
        [self.dir.as_deref(), beside, beside.and_then(Path::parent)]
            .into_iter()
            .flatten()
            .map(|dir| dir.join(program))
            .find(|path| path.is_file())
            .and_then(|path| path.canonicalize().ok())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_as_docker_reads_them() {
        let parsed = Reference::parse("registry.fly.io/demo:1.4.0").unwrap();
        assert_eq!(parsed.name(), "registry.fly.io/demo");
        assert_eq!(parsed.tag, "1.4.0");
        assert_eq!(
            Reference::parse("nginx").unwrap().name(),
            "registry-1.docker.io/library/nginx"
        );
        let hub = Reference::parse("docker.io/flyio/postgres-flex:17.2").unwrap();
        assert_eq!(hub, Reference::parse("flyio/postgres-flex:17.2").unwrap());
        assert!(Reference::parse("Bad Name").is_none());
        assert!(Reference::parse("demo@sha256:12").is_none());
    }

    #[test]
    fn an_image_is_found_by_tag_and_by_its_digest() {
        let mut images = Images::new([Image::new("registry.fly.io/demo:1", "/bin/sh")]);
        images.add(Image::new("registry.fly.io/demo:2", "/bin/sh"));
        let one = images.resolve("registry.fly.io/demo:1").unwrap();
        let two = images.resolve("registry.fly.io/demo:2").unwrap();
        assert_ne!(one.digest, two.digest);
        let pinned = format!("registry.fly.io/demo@{}", one.digest);
        assert_eq!(images.resolve(&pinned).unwrap().digest, one.digest);
        assert!(images.resolve("registry.fly.io/demo:3").is_none());
    }
}
