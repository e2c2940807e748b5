//! GraphQL at `POST /graphql`: mutations of add-ons.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::FlyError;
use crate::platform::addons;
use crate::platform::gql::{Args, GraphError};
use crate::platform::graph::{Request, by_id, error};
use crate::platform::graph_mutation::{input, or_default};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CreateAddOn {
    organization_id: Option<String>,
    app_id: Option<String>,
    primary_region: Option<String>,
    name: Option<String>,
    plan_id: Option<String>,
    // A plan that an organization shares between its databases: flyctl sends it empty.
    #[serde(rename = "organizationPlanId")]
    _organization_plan_id: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    read_regions: Vec<String>,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    options: Value,
}

/// `createAddOn`.
pub async fn create(request: &Request, args: &Args) -> Result<Value, GraphError> {
    let wanted: CreateAddOn = input(args, "CreateAddOnInput")?;
    let org_slug = request
        .core
        .read(|world| match (&wanted.organization_id, &wanted.app_id) {
            (Some(id), _) => by_id(world, id).map(|org| org.slug.clone()),
            (None, Some(app)) => world
                .app(&request.caller, app)
                .map(|app| app.org_slug.clone())
                .map_err(error),
            (None, None) => Err(GraphError::unprocessable("organizationId is required")),
        })?;
    let add_on = addons::create(
        &request.core,
        &request.caller,
        request.call,
        addons::Wanted {
            org_slug,
            name: wanted.name.filter(|name| !name.is_empty()),
            region: wanted
                .primary_region
                .unwrap_or_else(|| crate::platform::NEAREST.to_owned()),
            read_regions: wanted.read_regions,
            plan: wanted.plan_id.filter(|plan| !plan.is_empty()),
            kind: wanted.kind,
            options: wanted.options,
        },
    )
    .await
    .map_err(error)?;
    Ok(json!({"addOn": add_on.graph(&request.core)}))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct UpdateAddOn {
    add_on_id: String,
    plan_id: Option<String>,
    read_regions: Option<Vec<String>>,
    options: Option<Value>,
    metadata: Option<Value>,
    #[serde(rename = "prodPack")]
    _prod_pack: Option<bool>,
}

/// `updateAddOn`.
pub fn update(request: &Request, args: &Args) -> Result<Value, GraphError> {
    let wanted: UpdateAddOn = input(args, "UpdateAddOnInput")?;
    let add_on = addons::update(
        &request.core,
        &request.caller,
        request.call,
        &wanted.add_on_id,
        |add_on| {
            if let Some(plan) = wanted.plan_id {
                if !addons::is_plan(&plan) {
                    return Err(FlyError::unprocessable("Validation failed: Plan not found"));
                }
                add_on.plan = plan;
            }
            if let Some(regions) = wanted.read_regions {
                add_on.read_regions = regions;
            }
            if let Some(options) = wanted.options {
                add_on.options = options;
            }
            if let Some(metadata) = wanted.metadata {
                add_on.metadata = metadata;
            }
            Ok(())
        },
    )
    .map_err(error)?;
    Ok(json!({"addOn": add_on.graph(&request.core)}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeleteAddOn {
    name: String,
    #[serde(rename = "provider")]
    _provider: Option<String>,
}

/// `deleteAddOn`.
pub async fn delete(request: &Request, args: &Args) -> Result<Value, GraphError> {
    let wanted: DeleteAddOn = input(args, "DeleteAddOnInput")?;
    let name = addons::delete(&request.core, &request.caller, request.call, &wanted.name)
        .await
        .map_err(error)?;
    Ok(json!({"deletedAddOnName": name}))
}
