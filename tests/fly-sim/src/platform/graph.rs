//! GraphQL at `POST /graphql`: queries. Mutations are in `graph_mutation`.

use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use axum::{Extension, Json, Router};
use futures::future::BoxFuture;
use http::StatusCode;
use serde_json::{Value, json};

use crate::core::{CallId, Shared};
use crate::error::{FlyError, FlyResult};
use crate::http::Injected;
use crate::images::Reference;
use crate::platform::gql::{self, Args, GraphError, Node, Object, Root};
use crate::platform::regions::Region;
use crate::platform::{addons, graph_app, graph_mutation, orgs, registry};
use crate::state::{Caller, Org, World};

/// The result of one root field.
pub type Answer = Result<Option<Node>, GraphError>;

/// One request at the door.
pub struct Request {
    /// The simulator.
    pub core: Shared,
    /// Who.
    pub caller: Caller,
    /// Which call.
    pub call: CallId,
    /// Faults to carry out.
    pub injected: Injected,
}

/// The route.
pub fn router() -> Router<Shared> {
    Router::new().route("/graphql", post(serve))
}

async fn serve(
    State(core): State<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(call): Extension<CallId>,
    Extension(injected): Extension<Injected>,
    body: Bytes,
) -> FlyResult<Json<Value>> {
    let request: gql::Request = serde_json::from_slice(&body)
        .map_err(|error| FlyError::bad_request(format!("invalid GraphQL request: {error}")))?;
    let root = Request {
        core,
        caller,
        call,
        injected,
    };
    Ok(Json(gql::execute(request, &root).await))
}

impl Root for Request {
    fn root<'a>(&'a self, mutation: bool, field: &'a str, args: &'a Args) -> BoxFuture<'a, Answer> {
        Box::pin(async move {
            if mutation {
                graph_mutation::root(self, field, args).await
            } else {
                self.query(field, args)
            }
        })
    }
}

/// A refusal of REST as an error of GraphQL.
pub fn error(error: FlyError) -> GraphError {
    let code = match error.status {
        StatusCode::NOT_FOUND => "NOT_FOUND",
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "UNAUTHORIZED",
        StatusCode::INTERNAL_SERVER_ERROR => "SERVER_ERROR",
        _ => "UNPROCESSABLE",
    };
    GraphError::new(code, error.message)
}

/// A text argument; absent and null are `None`.
pub fn text<'a>(args: &'a Args, name: &str) -> Option<&'a str> {
    args.get(name).and_then(Value::as_str)
}

/// A text argument that must be there.
pub fn required<'a>(args: &'a Args, name: &str) -> Result<&'a str, GraphError> {
    text(args, name).ok_or_else(|| {
        GraphError::new(
            "missingRequiredArguments",
            format!("Field is missing required arguments: {name}"),
        )
    })
}

/// A list as GraphQL shows it.
pub fn connection(nodes: Vec<Value>) -> Value {
    let edges: Vec<_> = nodes
        .iter()
        .enumerate()
        .map(|(at, node)| json!({"cursor": at.to_string(), "node": node}))
        .collect();
    json!({
        "totalCount": nodes.len(),
        "nodes": nodes,
        "edges": edges,
        "pageInfo": {"hasNextPage": false, "hasPreviousPage": false, "endCursor": null},
    })
}

impl Request {
    fn query(&self, field: &str, args: &Args) -> Answer {
        let core = &self.core;
        let value = match field {
            "app" => {
                let name = text(args, "name").or_else(|| text(args, "internalId"));
                let name = name.or_else(|| text(args, "id")).unwrap_or_default();
                return self.app(name).map(Some);
            }
            "apps" => return self.apps(args).map(Some),
            "organization" => return self.organization(args).map(Some),
            "organizations" => core.read(|world| {
                let all = world.orgs.values();
                connection(
                    all.filter(|org| self.caller.in_org(&org.slug))
                        .map(orgs::graph)
                        .collect(),
                )
            }),
            "personalOrganization" => core.read(|world| {
                let slug = self.caller.org().unwrap_or_default();
                world.orgs.get(slug).map_or(Value::Null, orgs::graph)
            }),
            "viewer" | "currentUser" => return Ok(Some(self.viewer())),
            "platform" => core.read(|world| {
                let regions: Vec<_> = world.platform.regions.iter().map(Region::graph).collect();
                json!({"requestRegion": super::NEAREST, "regions": regions, "vmSizes": []})
            }),
            "nearestRegion" => core.read(|world| {
                world
                    .platform
                    .known_region(super::NEAREST)
                    .map_or(Value::Null, Region::graph)
            }),
            "latestImageTag" => return self.latest_tag(required(args, "repository")?).map(Some),
            "latestImageDetails" => return self.latest_details(required(args, "image")?).map(Some),
            "canPerformBluegreenDeployment" => {
                let name = required(args, "name")?;
                core.read(|world| world.app(&self.caller, name).map(|_| json!(true)))
                    .map_err(error)?
            }
            "postgresAttachments" => {
                let name = required(args, "appName")?;
                let cluster = required(args, "postgresAppName")?;
                core.read(|world| {
                    let app = world.app(&self.caller, name)?;
                    let all = app.platform.postgres_attachments.iter();
                    Ok(connection(
                        all.filter(|attachment| attachment.cluster == cluster)
                            .map(graph_mutation::Attachment::graph)
                            .collect(),
                    ))
                })
                .map_err(error)?
            }
            "addOn" => {
                let found = addons::find(core, &self.caller, text(args, "name"), text(args, "id"));
                match found {
                    Some(add_on) => add_on.graph(core),
                    None => {
                        let name = text(args, "name").unwrap_or_default();
                        return Err(GraphError::not_found(format!(
                            "Could not find AddOn \"{name}\""
                        )));
                    }
                }
            }
            "addOns" => addons::list(core, &self.caller, None, text(args, "type")),
            "addOnPlans" => addons::plans(),
            "addOnProvider" => addons::provider(core),
            _ => return Ok(None),
        };
        Ok(Some(value.into()))
    }

    fn app(&self, name: &str) -> Result<Node, GraphError> {
        let missing = || GraphError::not_found(format!("Could not find App \"{name}\""));
        // Somebody else's app is not to be told from none.
        self.core
            .read(|world| match world.app(&self.caller, name) {
                Ok(app) => Ok(graph_app::node(&self.core, world, app)),
                Err(_) => Err(missing()),
            })
            .map(Node::from)
    }

    fn apps(&self, args: &Args) -> Result<Node, GraphError> {
        let first = args.get("first").and_then(Value::as_u64).unwrap_or(200);
        let first = usize::try_from(first).unwrap_or(usize::MAX);
        let after = text(args, "after").unwrap_or_default();
        let role = text(args, "role");
        let org_id = text(args, "organizationId");
        self.core.read(|world| {
            let org = org_id.map(|id| by_id(world, id)).transpose()?;
            let mut rest = world.apps.values().filter(|app| {
                self.caller.sees(app)
                    && app.name.as_str() > after
                    && org.is_none_or(|org| org.slug == app.org_slug)
                    && role.is_none_or(|role| role == app.role)
            });
            let shown: Vec<_> = rest.by_ref().take(first).collect();
            let more = rest.next().is_some();
            let end = shown.last().map(|app| app.name.clone());
            let nodes = shown
                .into_iter()
                .map(|app| graph_app::node(&self.core, world, app).into())
                .collect();
            let page = json!({"pageInfo": {"hasNextPage": more, "endCursor": end}});
            Ok(Object::new(page).nested("nodes", Node::List(nodes)).into())
        })
    }

    fn organization(&self, args: &Args) -> Result<Node, GraphError> {
        let wanted = text(args, "slug").or_else(|| text(args, "id"));
        let wanted = wanted.or_else(|| text(args, "name")).unwrap_or_default();
        let (core, caller) = (self.core.clone(), self.caller.clone());
        self.core.read(|world| {
            let org = world
                .orgs
                .values()
                .filter(|org| self.caller.in_org(&org.slug))
                .find(|org| org.slug == wanted || org.id == wanted)
                .ok_or_else(|| {
                    GraphError::not_found(format!("Could not find Organization \"{wanted}\""))
                })?;
            let slug = org.slug.clone();
            let tokens = limited_tokens(world, |token| token.org_slug == org.slug);
            let mut plain = orgs::graph(org);
            plain["limitedAccessTokens"] = tokens;
            Ok(Object::new(plain)
                .computed("addOns", move |args| {
                    Ok(addons::list(&core, &caller, Some(&slug), text(args, "type")).into())
                })
                .into())
        })
    }

    fn viewer(&self) -> Node {
        let token = self.caller.tokens.first();
        let id = token.map_or_else(String::new, |token| token.id.clone());
        let email = format!("{id}@tokens.fly.io");
        Object::new(json!({
            "__typename": "User",
            "id": id,
            "name": token.map(|token| token.name.clone()),
            "email": email,
            "username": null,
            "enablePaidHobby": true,
            "featureFlags": [],
        }))
        .computed("agreedToProviderTos", |_| Ok(json!(true).into()))
        .into()
    }

    /// The newest tag of a repository of Docker Hub, with its name: `flyio/postgres-flex:17.2`.
    fn latest_tag(&self, repository: &str) -> Result<Node, GraphError> {
        let wanted = Reference::parse(repository).map(|reference| reference.name());
        let newest = self
            .core
            .options
            .images
            .iter()
            .filter_map(|image| {
                let parsed = Reference::parse(&image.name)?;
                let tag = image.own_tag()?;
                (Some(parsed.name()) == wanted).then_some(tag)
            })
            .max();
        match newest {
            Some(tag) => Ok(json!(format!("{repository}:{tag}")).into()),
            None => Err(GraphError::new("NOT_FOUND", "Unknown repository")),
        }
    }

    fn latest_details(&self, image: &str) -> Result<Node, GraphError> {
        let found = registry::resolve(&self.core, image)
            .ok_or_else(|| GraphError::new("NOT_FOUND", "Unknown repository"))?;
        let reference = &found.reference;
        let version = found.image.labels.get("fly.version");
        Ok(json!({
            "__typename": "ImageVersion",
            "registry": reference.registry,
            "repository": reference.repository,
            "tag": reference.tag,
            "version": version,
            "digest": found.digest,
        })
        .into())
    }
}

/// An organization by its opaque id, or by its slug.
pub fn by_id<'w>(world: &'w World, id: &str) -> Result<&'w Org, GraphError> {
    world
        .orgs
        .values()
        .find(|org| org.id == id || org.slug == id)
        .ok_or_else(|| GraphError::new("NOT_FOUND", "Could not find Organization"))
}

/// Tokens that fit, without their text.
pub fn limited_tokens(world: &World, fits: impl Fn(&crate::state::Token) -> bool) -> Value {
    connection(
        world
            .tokens
            .values()
            .filter(|token| fits(token))
            .map(|token| {
                json!({
                    "id": token.id,
                    "name": token.name,
                    "expiresAt": token.expires_at.map(|at| at.to_string()),
                    "revokedAt": token.revoked.then_some("1970-01-01T00:00:00Z"),
                    "user": {"email": format!("{}@tokens.fly.io", token.id)},
                })
            })
            .collect(),
    )
}
