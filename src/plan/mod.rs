//! The target: what should be, parsed once. Pure. After this nobody looks at the spec.

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use kube::ResourceExt;
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};

use crate::{
    api::{
        ANNOTATION_RETRY, ANNOTATION_RETRY_FROM, Activation, PhaseName, Reason,
        deploy::{DEFAULT_PORT, Deploy},
        policy::{Adoption, DeletionPolicy, Gate, Mode},
        preflight::SkippedCheck,
        provision::{FlyPostgres, ManagedPostgres, Provision, UpstashRedis},
        reference::SecretKeyRef,
        smoke_test::Check,
    },
    error::Error,
    fly, flytoml,
    plan::{
        refs::{Missing, Named, Refs},
        source::decide::Followed,
    },
    store::image::Choice,
};

pub mod abort;
mod checks;
mod digest;
pub mod gate;
pub mod refs;
pub mod source;

pub use digest::{asked, fingerprint};

/// A field that cannot be used, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Path of the field, such as `spec.tokenSecretRef`.
    pub field: &'static str,
    /// One word.
    pub reason: Reason,
    /// What is wrong, and the next action.
    pub message: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// The fly.toml of the application, parsed, or why it cannot be.
#[derive(Clone, Debug)]
pub struct FlyConfig {
    /// What it says.
    pub app: flytoml::AppConfig,
    /// Unknown keys and the like: reported, and no obstacle.
    pub warnings: Vec<flytoml::Problem>,
    /// Its text; `None` when the object has none.
    pub text: Option<String>,
}

/// Why there is no usable fly.toml.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigInvalid {
    /// One word.
    pub reason: Reason,
    /// All that is wrong with it, with line and column.
    pub message: String,
}

/// The database that is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Database<'a> {
    /// Fly.io's Managed Postgres.
    Managed(&'a ManagedPostgres),
    /// An unmanaged cluster of Fly machines.
    FlyPostgres(&'a FlyPostgres),
    /// A database elsewhere: where its address is.
    External(&'a SecretKeyRef),
}

/// The Redis that is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Redis<'a> {
    /// Upstash Redis, made by Fly.io.
    Upstash(&'a UpstashRedis),
    /// A Redis elsewhere: where its address is.
    External(&'a SecretKeyRef),
}

/// What should be. All defaults are in.
#[derive(Clone, Debug)]
pub struct Target {
    /// Fly organization slug.
    pub organization: String,
    /// Fly app name.
    pub app: String,
    /// Primary region.
    pub region: String,
    /// The token, parsed.
    pub token: fly::Token,
    /// Checks that are left out, with their justification.
    pub skips: Vec<SkippedCheck>,
    /// What the application needs around it.
    pub provision: Provision,
    /// What runs. `config`, `image` and `source` in it are for reading names only; use
    /// [`Target::config`] and [`Target::image`].
    pub deploy: Deploy,
    /// The smoke checks: those of the spec, or the default ones; see `checks::effective`.
    pub smoke_checks: Vec<Check>,
    /// Where a person must approve.
    pub gates: Vec<Gate>,
    /// Apply or plan.
    pub mode: Mode,
    /// Whether an existing app may be taken over.
    pub adoption: Adoption,
    /// What remains after deletion.
    pub deletion: DeletionPolicy,
    /// How long the token should last at least after now: the observe window.
    pub token_lifetime: Duration,
    /// What is named and cannot be had, for the preflight check that reports it.
    pub missing: Vec<(Named, Missing)>,
    /// Words of the annotations that ask to try again what has stopped: a new one lifts the hold of
    /// a release that has failed.
    pub retry: BTreeSet<String>,
    /// Token that asks for new values of the generated secrets.
    pub rotation: Option<String>,
    /// What is known of the image that `deploy.source` asks for.
    pub source: Option<Followed>,
    /// The deadlines of the phases.
    deadlines: [(PhaseName, Duration); 4],
    config: Result<Arc<FlyConfig>, ConfigInvalid>,
    image: Result<fly::ImageReference, Invalid>,
    image_name: String,
    asked: String,
    digest: String,
    stamp: String,
}

impl Target {
    /// Parses an Activation with what it names. `key` is the key of fingerprints.
    ///
    /// # Errors
    /// All that makes it impossible to begin. What preflight reports is not among it.
    pub fn parse(activation: &Activation, refs: &Refs, key: &[u8]) -> Result<Self, Vec<Invalid>> {
        let spec = &activation.spec;
        let token = token(activation, refs).map_err(|invalid| vec![invalid])?;
        let config = config(activation, refs);
        let smoke_checks = checks::effective(activation, config.as_deref());
        let digest = digest::of(activation, refs, key);
        let rotation = activation
            .annotations()
            .get(crate::store::generated::ANNOTATION_ROTATE)
            .cloned();
        let stamp = {
            let mut hash = Sha256::new();
            hash.update(&digest);
            hash.update(rotation.as_deref().unwrap_or_default());
            // Another reason why there is no image is told at once.
            let source = refs.source().filter(|source| source.choice.is_none());
            let failure = source.and_then(|source| source.failure.as_ref());
            hash.update(failure.map_or("", |failure| failure.reason.as_str()));
            let reference = &spec.token_secret_ref;
            if let Ok(value) = refs.secret(&reference.name, &reference.key) {
                hash.update(fingerprint(key, value));
            }
            data_encoding::HEXLOWER.encode(&hash.finalize())
        };
        Ok(Self {
            organization: spec.organization.clone(),
            app: spec.app.clone(),
            region: spec.region.clone(),
            token,
            skips: spec.preflight.skip.clone(),
            provision: spec.provision.clone(),
            deploy: spec.deploy.clone(),
            smoke_checks,
            gates: spec.gates.clone(),
            mode: spec.mode,
            adoption: spec.adoption,
            deletion: spec.deletion_policy.clone(),
            token_lifetime: spec
                .observe
                .as_ref()
                .map_or(Duration::ZERO, |observe| observe.window.get()),
            deadlines: [
                (PhaseName::Preflight, spec.preflight.deadline.get()),
                (PhaseName::Provision, spec.provision.deadline.get()),
                (PhaseName::Deploy, spec.deploy.deadline.get()),
                (PhaseName::SmokeTest, spec.smoke_test.deadline.get()),
            ],
            missing: refs.missing(activation),
            retry: retry(activation),
            rotation,
            config,
            source: refs.source().cloned(),
            image: image(activation, refs),
            image_name: image_name(activation, refs),
            asked: asked(activation),
            digest,
            stamp,
        })
    }

    /// The application's configuration, as `fly deploy` understands it.
    ///
    /// # Errors
    /// When the fly.toml cannot be used. Preflight stops there, so later phases do not meet it.
    pub fn config(&self) -> Result<Arc<FlyConfig>, Error> {
        self.config_or_invalid().map_err(|invalid| Error::Blocked {
            reason: invalid.reason,
            message: invalid.message,
        })
    }

    /// The same, for the preflight check that reports it.
    ///
    /// # Errors
    /// When the fly.toml cannot be used.
    pub fn config_or_invalid(&self) -> Result<Arc<FlyConfig>, ConfigInvalid> {
        self.config.clone()
    }

    /// The text of the fly.toml, if the object has a usable one.
    pub fn config_text(&self) -> Option<&str> {
        self.config.as_ref().ok()?.text.as_deref()
    }

    /// The port that the application listens on when there is no fly.toml.
    pub fn port(&self) -> u16 {
        self.deploy.port.unwrap_or(DEFAULT_PORT)
    }

    /// The image that is asked for.
    ///
    /// # Errors
    /// When the text is no image reference. Preflight stops there.
    pub fn image(&self) -> Result<&fly::ImageReference, Error> {
        self.image_or_invalid().map_err(|invalid| Error::Blocked {
            reason: invalid.reason,
            message: invalid.message.clone(),
        })
    }

    /// The same, for the preflight check that reports it.
    ///
    /// # Errors
    /// When the text is no image reference.
    pub fn image_or_invalid(&self) -> Result<&fly::ImageReference, &Invalid> {
        self.image.as_ref()
    }

    /// The image for people: as the spec names it, or with the tag that was chosen.
    pub fn image_name(&self) -> &str {
        &self.image_name
    }

    /// The image that was chosen among those of `deploy.source`.
    pub fn choice(&self) -> Option<&Choice> {
        self.source.as_ref()?.choice.as_ref()
    }

    /// The question about the image; see [`asked`].
    pub fn asked(&self) -> &str {
        &self.asked
    }

    /// The database that is asked for.
    pub fn database(&self) -> Option<Database<'_>> {
        let postgres = self.provision.postgres.as_ref()?;
        let external = postgres.external.as_ref();
        external
            .map(|url| Database::External(&url.url_secret_ref))
            .or_else(|| postgres.fly_postgres.as_ref().map(Database::FlyPostgres))
            .or_else(|| postgres.managed.as_ref().map(Database::Managed))
    }

    /// The address that is used when attaching has failed for good.
    pub fn database_fallback(&self) -> Option<&SecretKeyRef> {
        let fallback = self.provision.postgres.as_ref()?.fallback.as_ref()?;
        Some(&fallback.url_secret_ref)
    }

    /// The Redis that is asked for.
    pub fn redis(&self) -> Option<Redis<'_>> {
        let redis = self.provision.redis.as_ref()?;
        let external = redis.external.as_ref();
        external
            .map(|url| Redis::External(&url.url_secret_ref))
            .or_else(|| redis.upstash.as_ref().map(Redis::Upstash))
    }

    /// Digest of everything that decides what is done: the plan that an approval names. Values of
    /// secrets are in it by keyed fingerprint only.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The digest, and the token's fingerprint: what was observed for one stamp is not believed
    /// for another.
    pub fn stamp(&self) -> &str {
        &self.stamp
    }

    /// The public address.
    pub fn url(&self) -> String {
        format!("https://{}.fly.dev", self.app)
    }

    /// How long a phase may take.
    pub fn deadline(&self, phase: PhaseName) -> Option<Duration> {
        self.deadlines
            .iter()
            .find(|(name, _)| *name == phase)
            .map(|(_, after)| *after)
    }
}

/// The words that ask to try again a release that is held back.
fn retry(activation: &Activation) -> BTreeSet<String> {
    let word = |key: &str| {
        let word = activation.annotations().get(key)?;
        Some(crate::api::status::one_line(word, 256))
    };
    let from = word(ANNOTATION_RETRY_FROM).filter(|word| {
        let phase = retry_from(word);
        phase.is_some_and(|phase| phase <= PhaseName::Deploy)
    });
    word(ANNOTATION_RETRY).into_iter().chain(from).collect()
}

/// The phase that a word of the annotation `golive.dev/retry-from` names: `Deploy`, or
/// `Deploy/<anything>` to ask for the same once more.
pub fn retry_from(word: &str) -> Option<PhaseName> {
    PhaseName::parse(word.split('/').next().unwrap_or_default().trim())
}

/// The Fly token.
///
/// # Errors
/// When there is none that could be one.
pub fn token(activation: &Activation, refs: &Refs) -> Result<fly::Token, Invalid> {
    let reference = &activation.spec.token_secret_ref;
    let value = refs
        .secret(&reference.name, &reference.key)
        .map_err(|missing| Invalid {
            field: "spec.tokenSecretRef",
            reason: missing.reason(),
            message: missing.to_string(),
        })?;
    fly::Token::parse(value.expose_secret()).map_err(|error| Invalid {
        field: "spec.tokenSecretRef",
        reason: Reason::TokenInvalid,
        message: format!(
            "key {} of the Secret {} is not a Fly token ({error}): put the output of `fly tokens create org` there",
            reference.key, reference.name
        ),
    })
}

fn image(activation: &Activation, refs: &Refs) -> Result<fly::ImageReference, Invalid> {
    let deploy = &activation.spec.deploy;
    let field = if deploy.source.is_some() {
        "spec.deploy.source"
    } else {
        "spec.deploy.image"
    };
    let parse = |text: &str| {
        text.parse::<fly::ImageReference>()
            .map_err(|error| Invalid {
                field,
                reason: Reason::InvalidSpec,
                message: format!(
                    "{error}: write it as registry.fly.io/<app>:<tag>, or with @sha256:<digest>"
                ),
            })
    };
    if deploy.source.is_none() {
        return parse(deploy.image.as_deref().unwrap_or_default());
    }
    let source = refs.source();
    match source.and_then(|source| source.choice.as_ref()) {
        Some(choice) => parse(&format!("{}@{}", choice.reference(), choice.digest)),
        None => {
            let failure = source.and_then(|source| source.failure.as_ref());
            Err(Invalid {
                field,
                reason: failure.map_or(Reason::Pending, |failure| failure.reason),
                message: failure.map_or_else(
                    || "the registry has not been asked yet".to_owned(),
                    |failure| failure.message.clone(),
                ),
            })
        }
    }
}

fn image_name(activation: &Activation, refs: &Refs) -> String {
    let deploy = &activation.spec.deploy;
    let choice = refs.source().and_then(|source| source.choice.as_ref());
    match (&deploy.source, choice) {
        (Some(_), Some(choice)) => choice.reference(),
        (Some(source), None) => source.image.clone(),
        (None, _) => deploy.image.clone().unwrap_or_default(),
    }
}

fn config(activation: &Activation, refs: &Refs) -> Result<Arc<FlyConfig>, ConfigInvalid> {
    let spec = &activation.spec;
    let text = match &spec.deploy.config {
        None => {
            let port = spec.deploy.port.unwrap_or(DEFAULT_PORT);
            return Ok(Arc::new(FlyConfig {
                app: flytoml::AppConfig::minimal(&spec.app, &spec.region, port),
                warnings: Vec::new(),
                text: None,
            }));
        }
        Some(config) => match (&config.config_map_ref, &config.inline) {
            (Some(reference), _) => refs
                .config_map(&reference.name, &reference.key)
                .map_err(|missing| ConfigInvalid {
                    reason: missing.reason(),
                    message: missing.to_string(),
                })?
                .to_owned(),
            (None, Some(inline)) => inline.clone(),
            (None, None) => String::new(),
        },
    };
    let parsed = flytoml::parse(&text).map_err(|invalid| ConfigInvalid {
        reason: Reason::FlyConfigInvalid,
        message: format!("the fly.toml is not valid: {invalid}"),
    })?;
    let mut app = parsed.config;
    // The object decides where the app lives; flyctl's `-a` and `--primary-region` do the same.
    app.bind(&spec.app, &spec.region);
    Ok(Arc::new(FlyConfig {
        app,
        warnings: parsed.warnings,
        text: Some(text),
    }))
}

#[cfg(test)]
mod tests;

/// Targets for the tests of others.
#[cfg(test)]
pub mod testing {
    pub use super::tests::target;
}
