//! The world: organizations, tokens, apps and what is in them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::error::{FlyError, FlyResult};
use crate::machine::Machine;
use crate::platform::{AppPlatform, Platform};
use crate::volumes::Volume;

/// An organization.
#[derive(Clone, Debug, Serialize)]
pub struct Org {
    /// Opaque id.
    pub id: String,
    /// Number, a JSON number in REST, a JSON string in GraphQL.
    pub internal_numeric_id: u64,
    /// Slug.
    pub slug: String,
    /// Name for people.
    pub name: String,
    /// `CURRENT`, `SUSPENDED`, ...
    pub billing_status: String,
    /// Most machines it may have; `None` is no limit.
    pub machine_limit: Option<usize>,
}

/// What a token may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Everything in its organization.
    Org,
    /// Reads in its organization.
    ReadOnly,
    /// One app.
    App(String),
}

/// An access token.
#[derive(Clone, Debug, Serialize)]
pub struct Token {
    /// Opaque id.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// The organization.
    pub org_slug: String,
    /// What it may do.
    pub scope: Scope,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// Revoked: 401 from now on.
    pub revoked: bool,
}

/// An app.
#[derive(Debug)]
pub struct App {
    /// Opaque id; like on Fly equal to the name.
    pub id: String,
    /// Number.
    pub internal_numeric_id: u64,
    /// Name, unique over all organizations.
    pub name: String,
    /// Owner.
    pub org_slug: String,
    /// Network, `default` unless given.
    pub network: String,
    /// `app_role_id`: empty, or `postgres_cluster`.
    pub role: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// The key of the create call, if it had one.
    pub idempotency_key: Option<String>,
    /// Whether a machine was ever made: `deployed` from then on.
    pub deployed: bool,
    /// Machines by id, destroyed ones included.
    pub machines: BTreeMap<String, Machine>,
    /// Volumes by id.
    pub volumes: BTreeMap<String, Volume>,
    /// The platform side's part.
    pub platform: AppPlatform,
}

impl App {
    /// `pending` until the first machine, then `deployed`.
    pub fn status(&self) -> &'static str {
        if self.deployed { "deployed" } else { "pending" }
    }

    /// Machines that have not been destroyed.
    pub fn live_machines(&self) -> impl Iterator<Item = &Machine> {
        self.machines.values().filter(|machine| machine.is_live())
    }
}

/// Everything there is.
#[derive(Debug, Default)]
pub struct World {
    /// Organizations by slug.
    pub orgs: BTreeMap<String, Org>,
    /// Tokens by their text, without the scheme.
    pub tokens: BTreeMap<String, Token>,
    /// Apps by name.
    pub apps: BTreeMap<String, App>,
    /// The platform side's part.
    pub platform: Platform,
    next_number: u64,
}

/// Who calls: the tokens of the request that are good.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// Valid tokens of the request, at least one behind the door.
    pub tokens: Vec<Token>,
}

impl Caller {
    /// Whether the caller may see this organization.
    pub fn in_org(&self, slug: &str) -> bool {
        self.tokens
            .iter()
            .any(|token| token.org_slug == slug && !matches!(token.scope, Scope::App(_)))
    }

    /// Whether the caller may see this app.
    pub fn sees(&self, app: &App) -> bool {
        self.tokens.iter().any(|token| {
            token.org_slug == app.org_slug
                && match &token.scope {
                    Scope::App(name) => *name == app.name,
                    Scope::Org | Scope::ReadOnly => true,
                }
        })
    }

    /// Whether the caller may change this app.
    pub fn changes(&self, app: &App) -> bool {
        self.tokens.iter().any(|token| {
            token.org_slug == app.org_slug
                && match &token.scope {
                    Scope::App(name) => *name == app.name,
                    Scope::Org => true,
                    Scope::ReadOnly => false,
                }
        })
    }

    /// The first organization it belongs to.
    pub fn org(&self) -> Option<&str> {
        self.tokens.first().map(|token| token.org_slug.as_str())
    }
}

impl World {
    /// A number that was not used before.
    pub fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// An app that the caller may read: 404 if there is none, 403 if it is somebody else's.
    pub fn app(&self, caller: &Caller, name: &str) -> FlyResult<&App> {
        let app = self
            .apps
            .get(name)
            .ok_or_else(|| FlyError::app_not_found(name))?;
        if caller.sees(app) {
            Ok(app)
        } else {
            Err(FlyError::forbidden(format!(
                "unauthorized: you are not permitted to access app \"{name}\""
            )))
        }
    }

    /// An app that the caller may change.
    pub fn app_mut(&mut self, caller: &Caller, name: &str) -> FlyResult<&mut App> {
        self.app(caller, name)?;
        let app = self
            .apps
            .get_mut(name)
            .ok_or_else(|| FlyError::app_not_found(name))?;
        if caller.changes(app) {
            Ok(app)
        } else {
            Err(FlyError::forbidden(
                "unauthorized: this token may not change the app",
            ))
        }
    }

    /// An organization that the caller may read.
    pub fn org(&self, caller: &Caller, slug: &str) -> FlyResult<&Org> {
        match self.orgs.get(slug) {
            Some(org) if caller.in_org(slug) => Ok(org),
            Some(_) => Err(FlyError::forbidden(format!(
                "unauthorized: you are not a member of organization \"{slug}\""
            ))),
            None => Err(FlyError::not_found(format!(
                "Could not find Organization \"{slug}\""
            ))),
        }
    }
}
