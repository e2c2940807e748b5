//! GraphQL at `POST /graphql`: mutations.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::apps;
use crate::error::FlyError;
use crate::id;
use crate::platform::addresses::{self, Type};
use crate::platform::gql::{Args, GraphError, Node};
use crate::platform::graph::{Answer, Request, by_id, error, required, text};
use crate::platform::{certificates, graph_addons, graph_app, releases, secrets, tokens};
use crate::state::Scope;

/// A legacy Postgres cluster that an app uses.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// Opaque id.
    pub id: String,
    /// The cluster's app.
    pub cluster: String,
    /// Database.
    pub database: String,
    /// User.
    pub user: String,
    /// Environment variable.
    pub variable: String,
}

impl Attachment {
    /// As GraphQL shows it.
    pub fn graph(&self) -> Value {
        json!({
            "__typename": "PostgresClusterAttachment",
            "id": self.id,
            "databaseName": self.database,
            "databaseUser": self.user,
            "environmentVariableName": self.variable,
        })
    }
}

/// Reads the argument `input`. Fields that the type does not have are refused, as on Fly.
pub fn input<T: DeserializeOwned>(args: &Args, kind: &str) -> Result<T, GraphError> {
    let mut value = args.get("input").cloned().unwrap_or_default();
    if let Value::Object(map) = &mut value {
        map.remove("clientMutationId");
    }
    serde_json::from_value(value).map_err(|error| {
        GraphError::new(
            "argumentLiteralsIncompatible",
            format!("Argument 'input' of type {kind}! was provided invalid value: {error}"),
        )
    })
}

/// Nothing where a list or an object may also be null.
pub fn or_default<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

/// One root field of a mutation.
pub async fn root(request: &Request, field: &str, args: &Args) -> Answer {
    let value = match field {
        "allocateIpAddress" => return allocate(request, args).map(Some),
        "releaseIpAddress" => return release_address(request, args).map(Some),
        "setSecrets" => set_secrets(request, args)?,
        "unsetSecrets" => unset_secrets(request, args)?,
        "createApp" => return create_app(request, args).map(Some),
        "deleteApp" => delete_app(request, args).await?,
        "createRelease" => create_release(request, args)?,
        "updateRelease" => update_release(request, args)?,
        "addCertificate" => return add_certificate(request, args).map(Some),
        "deleteCertificate" => return delete_certificate(request, args).map(Some),
        "attachPostgresCluster" => attach(request, args)?,
        "detachPostgresCluster" => detach(request, args)?,
        "enablePostgresConsul" => consul(request, args)?,
        "issueCertificate" => issue(request, args)?,
        "validateWireGuardPeers" => json!({"invalidPeerIps": []}),
        "createLimitedAccessToken" => create_token(request, args)?,
        "deleteLimitedAccessToken" => delete_token(request, args)?,
        "createAddOn" => graph_addons::create(request, args).await?,
        "updateAddOn" => graph_addons::update(request, args)?,
        "deleteAddOn" => graph_addons::delete(request, args).await?,
        "createTosAgreement" => json!({"clientMutationId": null}),
        "lockApp" => lock(request, args, true)?,
        "unlockApp" => lock(request, args, false)?,
        _ => return Ok(None),
    };
    Ok(Some(value.into()))
}

/// `{field: the app}`.
fn with_app(request: &Request, name: &str) -> Result<crate::platform::gql::Object, GraphError> {
    request
        .core
        .read(|world| {
            let app = world.app(&request.caller, name)?;
            Ok(graph_app::node(&request.core, world, app))
        })
        .map_err(error)
}

fn payload(plain: Value, request: &Request, app: &str) -> Result<Node, GraphError> {
    let app = with_app(request, app)?;
    Ok(crate::platform::gql::Object::new(plain)
        .nested("app", app)
        .into())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Allocate {
    app_id: String,
    #[serde(rename = "type")]
    kind: Type,
    region: Option<String>,
    organization_id: Option<String>,
    network: Option<String>,
    service_name: Option<String>,
}

fn allocate(request: &Request, args: &Args) -> Result<Node, GraphError> {
    let wanted: Allocate = input(args, "AllocateIPAddressInput")?;
    let given = wanted.organization_id.filter(|id| !id.is_empty());
    let org_slug = request.core.read(|world| {
        given
            .map(|id| by_id(world, &id).map(|org| org.slug.clone()))
            .transpose()
    })?;
    let address = addresses::allocate(
        &request.core,
        &request.caller,
        request.call,
        &wanted.app_id,
        addresses::Wanted {
            kind: json!(wanted.kind).as_str().map(str::to_owned),
            region: wanted.region,
            org_slug,
            network: wanted.network,
            service_name: wanted.service_name,
        },
    )
    .map_err(error)?;
    // A shared address is not one of the app's own: it is only seen at the app.
    let own = (address.kind != Type::SharedV4).then(|| graph_app::address(&address));
    payload(json!({"ipAddress": own}), request, &wanted.app_id)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Release {
    app_id: String,
    ip_address_id: Option<String>,
    ip: Option<String>,
}

fn release_address(request: &Request, args: &Args) -> Result<Node, GraphError> {
    let wanted: Release = input(args, "ReleaseIPAddressInput")?;
    let taken = addresses::take(
        &request.core,
        &request.caller,
        request.call,
        &wanted.app_id,
        |address| {
            wanted.ip_address_id.as_ref() == Some(&address.id)
                || wanted.ip.as_ref() == Some(&address.ip)
        },
    )
    .map_err(error)?;
    if taken.is_none() {
        return Err(GraphError::new("NOT_FOUND", "Could not find IPAddress"));
    }
    payload(json!({}), request, &wanted.app_id)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretInput {
    key: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SetSecrets {
    app_id: String,
    secrets: Vec<SecretInput>,
    #[serde(default, deserialize_with = "or_default")]
    replace_all: bool,
}

fn set_secrets(request: &Request, args: &Args) -> Result<Value, GraphError> {
    let wanted: SetSecrets = input(args, "SetSecretsInput")?;
    let mut values = BTreeMap::new();
    if wanted.replace_all {
        let old = request
            .core
            .read(|world| {
                let app = world.app(&request.caller, &wanted.app_id)?;
                Ok(app.platform.secrets.digests())
            })
            .map_err(error)?;
        values.extend(old.into_keys().map(|name| (name, None)));
    }
    let new = wanted.secrets.into_iter();
    values.extend(new.map(|secret| (secret.key, Some(secret.value))));
    change_secrets(request, &wanted.app_id, values)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct UnsetSecrets {
    app_id: String,
    keys: Vec<String>,
}

fn unset_secrets(request: &Request, args: &Args) -> Result<Value, GraphError> {
    let wanted: UnsetSecrets = input(args, "UnsetSecretsInput")?;
    let values = wanted.keys.into_iter().map(|name| (name, None)).collect();
    change_secrets(request, &wanted.app_id, values)
}

fn change_secrets(
    request: &Request,
    app: &str,
    values: BTreeMap<String, Option<String>>,
) -> Result<Value, GraphError> {
    secrets::change(
        &request.core,
        &request.caller,
        request.call,
        request.injected,
        app,
        values,
    )
    .map_err(error)?;
    // Secrets are staged; no release is made for apps on machines.
    Ok(json!({"release": null}))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CreateApp {
    organization_id: String,
    name: Option<String>,
    #[serde(rename = "preferredRegion")]
    _preferred_region: Option<String>,
    #[serde(rename = "machines")]
    _machines: Option<bool>,
    #[serde(rename = "heroku")]
    _heroku: Option<bool>,
    #[serde(rename = "runtime")]
    _runtime: Option<String>,
    app_role_id: Option<String>,
    network: Option<String>,
}

fn create_app(request: &Request, args: &Args) -> Result<Node, GraphError> {
    let wanted: CreateApp = input(args, "CreateAppInput")?;
    let org_slug = request
        .core
        .read(|world| by_id(world, &wanted.organization_id).map(|org| org.slug.clone()))?;
    let name = wanted
        .name
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| format!("app-{}", id::short(8)));
    let new = apps::NewApp {
        name: name.clone(),
        org_slug,
        network: wanted.network.unwrap_or_default(),
        role: wanted.app_role_id.unwrap_or_default(),
        idempotency_key: None,
    };
    apps::make(&request.core, &request.caller, request.call, new).map_err(error)?;
    payload(json!({}), request, &name)
}

async fn delete_app(request: &Request, args: &Args) -> Result<Value, GraphError> {
    let name = match args.get("input") {
        Some(Value::Object(map)) => map.get("appId").and_then(Value::as_str),
        _ => text(args, "appId"),
    };
    let name = name.unwrap_or_default();
    let org = request
        .core
        .write(|world| {
            let slug = world.app_mut(&request.caller, name)?.org_slug.clone();
            Ok(world.orgs.get(&slug).map(crate::platform::orgs::graph))
        })
        .map_err(error)?;
    apps::remove(&request.core, request.call, name).await;
    Ok(json!({"organization": org}))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CreateRelease {
    app_id: String,
    image: String,
    strategy: String,
    #[serde(default)]
    definition: Value,
    #[serde(rename = "platformVersion")]
    _platform_version: Option<String>,
    #[serde(rename = "buildId")]
    _build_id: Option<Value>,
}

fn create_release(request: &Request, args: &Args) -> Result<Value, GraphError> {
    let wanted: CreateRelease = input(args, "CreateReleaseInput")?;
    let release = releases::record(
        &request.core,
        &request.caller,
        request.call,
        &wanted.app_id,
        &wanted.image,
        &wanted.strategy,
        wanted.definition,
    )
    .map_err(error)?;
    Ok(json!({"release": release.graph()}))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct UpdateRelease {
    release_id: String,
    status: String,
    #[serde(default)]
    metadata: Value,
}

fn update_release(request: &Request, args: &Args) -> Result<Value, GraphError> {
    let wanted: UpdateRelease = input(args, "UpdateReleaseInput")?;
    let release = releases::set_status(
        &request.core,
        &request.caller,
        request.call,
        &wanted.release_id,
        &wanted.status,
        wanted.metadata,
    )
    .map_err(error)?;
    Ok(json!({"release": release.graph()}))
}

fn add_certificate(request: &Request, args: &Args) -> Result<Node, GraphError> {
    let (app, hostname) = (required(args, "appId")?, required(args, "hostname")?);
    certificates::add(
        &request.core,
        &request.caller,
        request.call,
        app,
        hostname,
        false,
    )
    .map_err(error)?;
    let certificate = request.core.read(|world| {
        let certificates = &world.apps.get(app)?.platform.certificates;
        certificates
            .get(hostname)
            .map(certificates::Certificate::graph)
    });
    let plain = json!({"certificate": certificate, "check": null, "errors": []});
    payload(plain, request, app)
}

fn delete_certificate(request: &Request, args: &Args) -> Result<Node, GraphError> {
    let (app, hostname) = (required(args, "appId")?, required(args, "hostname")?);
    let gone =
        certificates::delete_hostname(&request.core, &request.caller, request.call, app, hostname)
            .map_err(error)?;
    payload(json!({"certificate": gone.graph()}), request, app)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Attach {
    app_id: String,
    postgres_cluster_app_id: String,
    database_name: Option<String>,
    database_user: Option<String>,
    variable_name: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    manual_entry: bool,
}

/// Notes the attachment. Database, user and secret are made by the client (`manualEntry`).
fn attach(request: &Request, args: &Args) -> Result<Value, GraphError> {
    let wanted: Attach = input(args, "AttachPostgresClusterInput")?;
    if !wanted.manual_entry {
        return Err(GraphError::unprocessable(
            "manualEntry is required: the database and its user are made by the client",
        ));
    }
    let plain_name = wanted.app_id.replace('-', "_");
    let attachment = Attachment {
        id: id::short(16),
        cluster: wanted.postgres_cluster_app_id.clone(),
        database: wanted.database_name.unwrap_or_else(|| plain_name.clone()),
        user: wanted.database_user.unwrap_or(plain_name),
        variable: wanted
            .variable_name
            .unwrap_or_else(|| "DATABASE_URL".to_owned()),
    };
    let connects = format!(
        "postgres://{}@top2.nearest.of.{}.internal:5432/{}?sslmode=disable",
        attachment.user, attachment.cluster, attachment.database
    );
    let made = attachment.clone();
    request
        .core
        .write(|world| {
            let cluster = world.app(&request.caller, &made.cluster)?;
            if cluster.role != "postgres_cluster" {
                return Err(FlyError::unprocessable(format!(
                    "App {} is not a postgres cluster",
                    made.cluster
                )));
            }
            let app = world.app_mut(&request.caller, &wanted.app_id)?;
            let known = &mut app.platform.postgres_attachments;
            let taken = known
                .iter()
                .any(|old| old.cluster == made.cluster && old.variable == made.variable);
            if taken {
                return Err(FlyError::unprocessable(format!(
                    "App {} is already attached to {} with the variable {}",
                    app.name, made.cluster, made.variable
                )));
            }
            known.push(made);
            Ok(())
        })
        .map_err(error)?;
    request.core.effect(
        request.call,
        "postgres.attach",
        Some(&wanted.app_id),
        &attachment.id,
        &attachment.cluster,
        BTreeMap::new(),
        json!({"database": attachment.database, "user": attachment.user}),
    );
    Ok(json!({
        "app": {"name": wanted.app_id},
        "postgresClusterApp": {"name": attachment.cluster},
        "environmentVariableName": attachment.variable,
        "connectionString": connects,
    }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Detach {
    app_id: String,
    postgres_cluster_id: String,
    postgres_cluster_attachment_id: String,
}

fn detach(request: &Request, args: &Args) -> Result<Value, GraphError> {
    let wanted: Detach = input(args, "DetachPostgresClusterInput")?;
    let gone = request
        .core
        .write(|world| {
            let app = world.app_mut(&request.caller, &wanted.app_id)?;
            let known = &mut app.platform.postgres_attachments;
            let at = known.iter().position(|attachment| {
                attachment.id == wanted.postgres_cluster_attachment_id
                    && attachment.cluster == wanted.postgres_cluster_id
            });
            at.map(|at| known.remove(at))
                .ok_or_else(|| FlyError::not_found("Could not find PostgresClusterAttachment"))
        })
        .map_err(error)?;
    request.core.effect(
        request.call,
        "postgres.detach",
        Some(&wanted.app_id),
        &gone.id,
        &gone.cluster,
        BTreeMap::new(),
        Value::Null,
    );
    Ok(json!({
        "app": {"name": wanted.app_id},
        "postgresClusterApp": {"name": gone.cluster},
        "clientMutationId": null,
    }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Consul {
    app_id: String,
    #[serde(rename = "region")]
    _region: Option<String>,
}

fn consul(request: &Request, args: &Args) -> Result<Value, GraphError> {
    let wanted: Consul = input(args, "EnablePostgresConsulInput")?;
    request
        .core
        .write(|world| world.app_mut(&request.caller, &wanted.app_id).map(|_| ()))
        .map_err(error)?;
    let (key, app) = (id::short(20), &wanted.app_id);
    Ok(json!({"consulUrl": format!("https://:{key}@consul.fly.internal/{app}/")}))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Issue {
    organization_id: String,
    app_names: Option<Vec<String>>,
    principals: Option<Vec<String>>,
    valid_hours: Option<u64>,
    public_key: Option<String>,
}

/// Keys of the right look; there is no SSH server here.
fn issue(request: &Request, args: &Args) -> Result<Value, GraphError> {
    let wanted: Issue = input(args, "IssueCertificateInput")?;
    request.core.read(|world| {
        let org = by_id(world, &wanted.organization_id)?;
        if request.caller.tokens.iter().any(|t| t.org_slug == org.slug) {
            Ok(())
        } else {
            Err(GraphError::unauthorized(
                "You are not a member of the organization",
            ))
        }
    })?;
    request.core.effect(
        request.call,
        "certificate.ssh",
        wanted
            .app_names
            .as_ref()
            .and_then(|names| names.first())
            .map(String::as_str),
        "",
        "",
        BTreeMap::new(),
        json!({"principals": wanted.principals, "valid_hours": wanted.valid_hours}),
    );
    let own_key = wanted.public_key.is_none().then(|| {
        let body = id::short(120);
        format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{body}\n-----END OPENSSH PRIVATE KEY-----\n")
    });
    let certificate = format!("ssh-ed25519-cert-v01@openssh.com {}", id::short(200));
    Ok(json!({"certificate": certificate, "key": own_key}))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CreateToken {
    name: String,
    organization_id: String,
    profile: String,
    #[serde(default)]
    profile_params: Value,
    expiry: Option<String>,
    #[serde(rename = "optInThirdParties")]
    _third_parties: Option<Value>,
}

fn create_token(request: &Request, args: &Args) -> Result<Value, GraphError> {
    let wanted: CreateToken = input(args, "CreateLimitedAccessTokenInput")?;
    let expires_at = tokens::expiry(wanted.expiry.as_deref().unwrap_or_default()).map_err(error)?;
    let app = wanted.profile_params.get("app_id").and_then(Value::as_str);
    let scope = match (wanted.profile.as_str(), app) {
        ("deploy", Some(app)) => Scope::App(app.to_owned()),
        ("deploy", None) => {
            return Err(GraphError::unprocessable(
                "profileParams.app_id is required",
            ));
        }
        ("deploy_organization", _) => Scope::Org,
        (profile, _) => {
            return Err(GraphError::unprocessable(format!(
                "profile {profile} is not available"
            )));
        }
    };
    let (token_id, token) = request.core.write(|world| {
        let slug = by_id(world, &wanted.organization_id)?.slug.clone();
        match &scope {
            Scope::App(app) => world
                .app_mut(&request.caller, app)
                .map(|_| ())
                .map_err(error)?,
            _ => world
                .org(&request.caller, &slug)
                .map(|_| ())
                .map_err(error)?,
        }
        let may = request
            .caller
            .tokens
            .iter()
            .any(|token| token.org_slug == slug && token.scope != Scope::ReadOnly);
        if !may {
            return Err(GraphError::unauthorized("this token may not create tokens"));
        }
        tokens::issue(world, &slug, scope, &wanted.name, Some(expires_at)).map_err(error)
    })?;
    request.core.effect(
        request.call,
        "token.create",
        app,
        &token_id,
        &wanted.name,
        BTreeMap::new(),
        json!({"profile": wanted.profile}),
    );
    Ok(json!({"limitedAccessToken": {
        "id": token_id,
        "name": wanted.name,
        "token": token,
        "tokenHeader": format!("FlyV1 {token}"),
        "expiresAt": expires_at.to_string(),
    }}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeleteToken {
    id: Option<String>,
    token: Option<String>,
}

fn delete_token(request: &Request, args: &Args) -> Result<Value, GraphError> {
    let wanted: DeleteToken = input(args, "DeleteLimitedAccessTokenInput")?;
    let bare = wanted
        .token
        .as_deref()
        .map(|text| text.trim_start_matches("FlyV1 "));
    let found = request.core.write(|world| {
        let mut all = world.tokens.iter_mut();
        all.find(|(text, token)| {
            (wanted.id.as_ref() == Some(&token.id) || bare == Some(text.as_str()))
                && request
                    .caller
                    .tokens
                    .iter()
                    .any(|t| t.org_slug == token.org_slug)
        })
        .map(|(text, token)| {
            token.revoked = true;
            (text.clone(), token.id.clone(), token.name.clone())
        })
    });
    let (text, token_id, name) =
        found.ok_or_else(|| GraphError::new("NOT_FOUND", "Could not find LimitedAccessToken"))?;
    request.core.effect(
        request.call,
        "token.delete",
        None,
        &token_id,
        &name,
        BTreeMap::new(),
        Value::Null,
    );
    Ok(json!({"token": wanted.token.is_some().then_some(text)}))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Lock {
    app_id: String,
    lock_id: Option<String>,
}

fn lock(request: &Request, args: &Args, close: bool) -> Result<Value, GraphError> {
    let kind = if close {
        "LockAppInput"
    } else {
        "UnlockAppInput"
    };
    let wanted: Lock = input(args, kind)?;
    request
        .core
        .write(|world| {
            let app = world.app_mut(&request.caller, &wanted.app_id)?;
            let held = &mut app.platform.lock;
            match (close, held.clone()) {
                (true, Some(_)) => Err(FlyError::unprocessable("App is already locked")),
                (true, None) => {
                    let id = id::short(16);
                    *held = Some(id.clone());
                    Ok(json!({"lockId": id, "expiration": null}))
                }
                (false, old) if old == wanted.lock_id => {
                    *held = None;
                    Ok(json!({"app": {"id": app.id, "name": app.name}}))
                }
                (false, _) => Err(FlyError::unprocessable("Lock not found")),
            }
        })
        .map_err(error)
}
