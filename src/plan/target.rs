//! The target: the desired state of an application, parsed once. Pure. After this nothing reads the
//! spec.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use kube::ResourceExt;
use sha2::{Digest, Sha256};

use crate::{
    api::{
        ANNOTATION_DELETE_DATA, ANNOTATION_REPLACE_LOST, ANNOTATION_RETRY, ANNOTATION_RETRY_FROM,
        Activation, MAX_TOKEN, PhaseName, Reason,
        deploy::{DEFAULT_PORT, Deploy},
        integrations::Integrations,
        observe::Observe,
        policy::{Adoption, DeletionPolicy, Gate, Mode},
        preflight::SkippedCheck,
        provision::{FlyPostgres, ManagedPostgres, Provision, UpstashRedis},
        reference::SecretKeyRef,
        smoke_test::SmokeTest,
        status::one_line,
    },
    error::Error,
    fly,
    plan::{
        checks::{self, Proof},
        digest::{self, asked, fingerprint},
        fly_config::{self, FlyConfig},
        invalid::{ConfigInvalid, Invalid},
        missing::Missing,
        named::Named,
        plan_id::PlanId,
        refs::Refs,
        source::decide::Followed,
        token::token,
    },
    store::{generated::ANNOTATION_ROTATE, image::Choice},
};

/// The database that is requested.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Database<'a> {
    /// Fly.io's Managed Postgres.
    Managed(&'a ManagedPostgres),
    /// An unmanaged cluster of Fly machines.
    FlyPostgres(&'a FlyPostgres),
    /// A database outside Fly.io: the reference to its address.
    External(&'a SecretKeyRef),
}

/// The Redis that is requested.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Redis<'a> {
    /// Upstash Redis, created by Fly.io.
    Upstash(&'a UpstashRedis),
    /// A Redis outside Fly.io: the reference to its address.
    External(&'a SecretKeyRef),
}

/// The desired state of one application. All defaults are filled in.
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
    /// What only the preflight checks need.
    pub preflight: PreflightTarget,
    /// What the application needs around it.
    pub provision: Provision,
    /// How it is deployed. Use [`Target::config`] and [`Target::image`] instead of `config`, `image`
    /// and `source` in it, except to read names.
    pub deploy: Deploy,
    /// How the application is proven, as the spec says it. Use [`Target::proof`] for what follows
    /// from it.
    pub smoke_test: SmokeTest,
    /// How it is proven to be live.
    pub proof: Proof,
    /// The integrations that are verified after Go-Live; `None` if there is none.
    pub integrations: Option<Arc<Integrations>>,
    /// The watch after Go-Live; `None` if there is none.
    pub observe: Option<Arc<Observe>>,
    /// The phases that people must approve.
    pub gates: Vec<Gate>,
    /// Apply or plan.
    pub mode: Mode,
    /// Whether an existing app may be taken over.
    pub adoption: Adoption,
    /// What remains after deletion.
    pub deletion: DeletionPolicy,
    /// Whether somebody has confirmed by annotation that the deletion policy may delete data.
    pub data_deletion_confirmed: bool,
    /// Marks of what was lost with its data and is made anew, as a person has decided.
    pub replace_lost: BTreeSet<String>,
    /// Tokens of the annotations that request a retry: a new one lifts the hold of a release that
    /// has failed.
    pub retry: BTreeSet<String>,
    /// Token that requests new values of the generated secrets.
    pub rotation: Option<String>,
    /// Length in bytes of such a token that is refused: it is longer than [`MAX_TOKEN`], and it would be stored
    /// whole beside the values.
    pub refused_rotation: Option<usize>,
    image: ImageTarget,
    config: Result<Arc<FlyConfig>, ConfigInvalid>,
    deadlines: [(PhaseName, Option<Duration>); 5],
    identity: Identity,
}

/// What only the preflight checks need of a target.
#[derive(Clone, Debug)]
pub struct PreflightTarget {
    /// Checks that are skipped, with their justification.
    pub skips: Vec<SkippedCheck>,
    /// What is named and not available.
    pub missing: Vec<(Named, Missing)>,
    /// Time that the token must outlast: the observe window.
    pub token_lifetime: Duration,
    /// Namespace of the object, for commands in messages.
    pub namespace: String,
    /// Name of the Secret with the token.
    pub token_secret: String,
    /// Key of the token in it.
    pub token_key: String,
    /// References to the addresses of notifications.
    pub webhooks: Vec<SecretKeyRef>,
    /// Address of the Prometheus server.
    pub prometheus: Option<String>,
}

/// The image of a target.
#[derive(Clone, Debug)]
struct ImageTarget {
    reference: Result<fly::ImageReference, Invalid>,
    name: String,
    asked: String,
    followed: Option<Followed>,
}

/// What identifies a target.
#[derive(Clone, Debug)]
struct Identity {
    digest: String,
    plan: PlanId,
    stamp: String,
}

impl Target {
    /// Parses an Activation with what it names. `followed` is the image that was chosen for
    /// `deploy.source`, and `key` the key of fingerprints.
    ///
    /// # Errors
    /// On everything that makes it impossible to begin. What preflight reports is no error here.
    pub fn parse(
        activation: &Activation,
        refs: &Refs,
        followed: Option<&Followed>,
        key: &[u8],
    ) -> Result<Self, Vec<Invalid>> {
        let token = token(activation, refs).map_err(|invalid| vec![invalid])?;
        Ok(Self::parse_with(activation, refs, followed, (token, key)))
    }

    /// The same with this token.
    pub(super) fn parse_with(
        activation: &Activation,
        refs: &Refs,
        followed: Option<&Followed>,
        (token, key): (fly::Token, &[u8]),
    ) -> Self {
        let spec = &activation.spec;
        let config = fly_config::config(activation, refs);
        let annotations = activation.annotations();
        let (rotation, refused_rotation) = rotation(annotations.get(ANNOTATION_ROTATE));
        let integrations = spec.integrations.as_ref().filter(|asked| asked.any());
        let verified = integrations.map(|asked| asked.deadline.get());
        Self {
            organization: spec.organization.clone(),
            app: spec.app.clone(),
            region: spec.region.clone(),
            token,
            preflight: preflight(activation, refs),
            provision: spec.provision.clone(),
            deploy: spec.deploy.clone(),
            smoke_test: spec.smoke_test.clone(),
            proof: checks::effective(activation, config.as_deref()),
            integrations: integrations.cloned().map(Arc::new),
            observe: spec.observe.clone().map(Arc::new),
            gates: spec.gates.clone(),
            mode: spec.mode,
            adoption: spec.adoption,
            deletion: spec.deletion_policy.clone(),
            data_deletion_confirmed: annotations.get(ANNOTATION_DELETE_DATA) == Some(&spec.app),
            replace_lost: replace_lost(activation),
            retry: retry(activation),
            identity: identity(activation, refs, followed, rotation.as_deref(), key),
            rotation,
            refused_rotation,
            image: ImageTarget {
                reference: image(&spec.deploy, followed),
                name: image_name(&spec.deploy, followed),
                asked: asked(activation),
                followed: followed.cloned(),
            },
            config,
            deadlines: [
                (PhaseName::Preflight, Some(spec.preflight.deadline.get())),
                (PhaseName::Provision, Some(spec.provision.deadline.get())),
                (PhaseName::Deploy, Some(spec.deploy.deadline.get())),
                (PhaseName::SmokeTest, Some(spec.smoke_test.deadline.get())),
                (PhaseName::Integrations, verified),
            ],
        }
    }

    /// The configuration of the application, as `fly deploy` understands it.
    ///
    /// # Errors
    /// When the fly.toml cannot be used. Preflight blocks then, so later phases do not see this.
    pub fn config(&self) -> Result<Arc<FlyConfig>, Error> {
        self.config_or_invalid().map_err(|invalid| Error::Blocked {
            reason: invalid.reason,
            message: invalid.message.clone(),
            action: invalid.action.clone(),
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

    /// The image that is requested.
    ///
    /// # Errors
    /// When the text is no image reference. Preflight blocks then.
    pub fn image(&self) -> Result<&fly::ImageReference, Error> {
        self.image_or_invalid().map_err(|invalid| Error::Blocked {
            reason: invalid.reason,
            message: invalid.message.clone(),
            action: invalid.action.clone(),
        })
    }

    /// The same, for the preflight check that reports it.
    ///
    /// # Errors
    /// When the text is no image reference.
    pub fn image_or_invalid(&self) -> Result<&fly::ImageReference, &Invalid> {
        self.image.reference.as_ref()
    }

    /// The image for people: as the spec names it, or with the tag that was chosen.
    pub fn image_name(&self) -> &str {
        &self.image.name
    }

    /// The state of `deploy.source`: the image that was chosen, and why no other one was.
    pub fn followed(&self) -> Option<&Followed> {
        self.image.followed.as_ref()
    }

    /// The image that was chosen for `deploy.source`.
    pub fn choice(&self) -> Option<&Choice> {
        self.followed()?.choice.as_ref()
    }

    /// The question about the image; see [`asked`].
    pub fn asked(&self) -> &str {
        &self.image.asked
    }

    /// The database that is requested.
    pub fn database(&self) -> Option<Database<'_>> {
        let postgres = self.provision.postgres.as_ref()?;
        let external = postgres.external.as_ref();
        external
            .map(|url| Database::External(&url.url_secret_ref))
            .or_else(|| postgres.fly_postgres.as_ref().map(Database::FlyPostgres))
            .or_else(|| postgres.managed.as_ref().map(Database::Managed))
    }

    /// The address to use when attaching has failed for good.
    pub fn database_fallback(&self) -> Option<&SecretKeyRef> {
        let fallback = self.provision.postgres.as_ref()?.fallback.as_ref()?;
        Some(&fallback.url_secret_ref)
    }

    /// The Redis that is requested.
    pub fn redis(&self) -> Option<Redis<'_>> {
        let redis = self.provision.redis.as_ref()?;
        let external = redis.external.as_ref();
        external
            .map(|url| Redis::External(&url.url_secret_ref))
            .or_else(|| redis.upstash.as_ref().map(Redis::Upstash))
    }

    /// Digest of everything that decides what is done, whatever the generation. It covers values of secrets by
    /// keyed fingerprint only. What people approve is [`Target::plan`].
    pub fn digest(&self) -> &str {
        &self.identity.digest
    }

    /// The plan to bring this target live, as people approve it.
    pub fn plan(&self) -> &PlanId {
        &self.identity.plan
    }

    /// Hash of the digest and the token's fingerprint. An observation for one stamp does not count
    /// for another.
    pub fn stamp(&self) -> &str {
        &self.identity.stamp
    }

    /// The public address.
    pub fn url(&self) -> String {
        format!("https://{}.fly.dev", self.app)
    }

    /// Where people and programs reach the application over HTTP; `None` when it serves none, has no
    /// machine or no public address.
    pub fn public_url(&self) -> Option<String> {
        let config = self.config.as_ref().ok()?;
        let addresses = &self.provision.addresses;
        let public = addresses.v4 || addresses.v6 || addresses.shared_v4;
        let reachable = public && self.proof.runs;
        let url = config.app.url(&self.app).filter(|_| reachable)?;
        Some(url.trim_end_matches('/').to_owned())
    }

    /// The deadline of a phase, as a duration from its start.
    pub fn deadline(&self, phase: PhaseName) -> Option<Duration> {
        self.deadlines
            .iter()
            .find(|(name, _)| *name == phase)
            .and_then(|(_, after)| *after)
    }
}

fn preflight(activation: &Activation, refs: &Refs) -> PreflightTarget {
    let spec = &activation.spec;
    let observe = spec.observe.as_ref();
    PreflightTarget {
        skips: spec.preflight.skip.clone(),
        missing: refs.missing(activation),
        token_lifetime: observe.map_or(Duration::ZERO, |observe| observe.window.get()),
        namespace: activation.namespace().unwrap_or_default(),
        token_secret: spec.token_secret_ref.name.clone(),
        token_key: spec.token_secret_ref.key.clone(),
        webhooks: spec
            .notifications
            .iter()
            .filter_map(|notification| notification.webhook.as_ref())
            .map(|webhook| webhook.url_secret_ref.clone())
            .collect(),
        prometheus: observe
            .and_then(|observe| observe.source.prometheus.as_ref())
            .map(|prometheus| prometheus.url.clone()),
    }
}

/// What a person has decided to have made anew.
fn replace_lost(activation: &Activation) -> BTreeSet<String> {
    let marks = activation.annotations().get(ANNOTATION_REPLACE_LOST);
    let marks = marks.into_iter().flat_map(|list| list.split(','));
    let marks = marks.map(|mark| mark.trim().to_owned());
    marks.filter(|mark| !mark.is_empty()).collect()
}

fn identity(
    activation: &Activation,
    refs: &Refs,
    followed: Option<&Followed>,
    rotation: Option<&str>,
    key: &[u8],
) -> Identity {
    let choice = followed.and_then(|followed| followed.choice.as_ref());
    let chosen = choice.map(|choice| format!("{}@{}", choice.reference(), choice.digest));
    let digest = digest::of(activation, refs, chosen.as_deref(), key);
    let mut hash = Sha256::new();
    hash.update(&digest);
    hash.update(rotation.unwrap_or_default());
    for mark in replace_lost(activation) {
        hash.update(mark);
    }
    // Another reason why there is no image is reported at once.
    let without_choice = followed.filter(|followed| followed.choice.is_none());
    let failure = without_choice.and_then(|followed| followed.failure.as_ref());
    hash.update(failure.map_or("", |failure| failure.reason.as_str()));
    let reference = &activation.spec.token_secret_ref;
    if let Ok(value) = refs.token(reference) {
        hash.update(fingerprint(key, value));
    }
    let stamp = data_encoding::HEXLOWER.encode(&hash.finalize());
    let generation = activation.metadata.generation.unwrap_or_default();
    Identity {
        plan: PlanId::new(&*digest, generation),
        digest,
        stamp,
    }
}

/// The tokens that request a retry of a release that is held back.
fn retry(activation: &Activation) -> BTreeSet<String> {
    let token = |key: &str| {
        let token = activation.annotations().get(key)?;
        Some(one_line(token, MAX_TOKEN))
    };
    let from = token(ANNOTATION_RETRY_FROM)
        .filter(|token| retry_from(token).is_some_and(|phase| phase <= PhaseName::Deploy));
    token(ANNOTATION_RETRY).into_iter().chain(from).collect()
}

/// The token that requests new values of the generated secrets, or the length of one that is refused. Pure.
fn rotation(token: Option<&String>) -> (Option<String>, Option<usize>) {
    match token {
        Some(token) if token.len() > MAX_TOKEN => (None, Some(token.len())),
        token => (token.cloned(), None),
    }
}

/// Parses a value of the annotation `golive.dev/retry-from`, a phase: `Deploy`, or
/// `Deploy/<anything>` to request the same once more.
pub fn retry_from(token: &str) -> Option<PhaseName> {
    PhaseName::parse(token.split('/').next().unwrap_or_default().trim())
}

fn image(deploy: &Deploy, followed: Option<&Followed>) -> Result<fly::ImageReference, Invalid> {
    let parse = |text: &str, field| {
        text.parse::<fly::ImageReference>()
            .map_err(|error| Invalid {
                field,
                reason: Reason::InvalidSpec,
                message: error.to_string(),
                action: "write it as registry.fly.io/<app>:<tag>, or with @sha256:<digest>"
                    .to_owned(),
            })
    };
    if deploy.source.is_none() {
        let text = deploy.image.as_deref().unwrap_or_default();
        return parse(text, "spec.deploy.image");
    }
    let field = "spec.deploy.source";
    if let Some(choice) = followed.and_then(|followed| followed.choice.as_ref()) {
        let text = format!("{}@{}", choice.reference(), choice.digest);
        return parse(&text, field);
    }
    let failure = followed.and_then(|followed| followed.failure.as_ref());
    Err(match failure {
        Some(failure) => Invalid {
            field,
            reason: failure.reason,
            message: failure.message.clone(),
            action: failure.action.clone(),
        },
        None => Invalid {
            field,
            reason: Reason::Pending,
            message: "the registry has not been read yet".to_owned(),
            action: String::new(),
        },
    })
}

fn image_name(deploy: &Deploy, followed: Option<&Followed>) -> String {
    let choice = followed.and_then(|followed| followed.choice.as_ref());
    match (&deploy.source, choice) {
        (Some(_), Some(choice)) => choice.reference(),
        (Some(source), None) => source.image.clone(),
        (None, _) => deploy.image.clone().unwrap_or_default(),
    }
}
