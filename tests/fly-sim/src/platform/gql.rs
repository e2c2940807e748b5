//! Executes GraphQL operations over a graph of plain data.
//!
//! Only what clients of Fly.io use: queries and mutations, aliases, fragments, variables with
//! defaults, `@include` and `@skip`. A field that the graph does not have is `null`, so that a
//! newer client survives; a root field that nobody knows is an error, so that no mutation seems
//! to work.

use std::collections::BTreeMap;
use std::fmt;

use futures::future::BoxFuture;
use graphql_parser::query::{
    Definition, Directive, Document, Field, FragmentDefinition, OperationDefinition, Selection,
    SelectionSet, Type, TypeCondition, Value as Literal, VariableDefinition, parse_query,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The body of `POST /graphql`.
#[derive(Debug, Deserialize)]
pub struct Request {
    /// The document.
    pub query: String,
    /// Values of its variables; absent and `null` mean none.
    #[serde(default)]
    pub variables: Option<Map<String, Value>>,
    /// Which operation of the document; needed when there are several.
    #[serde(default, rename = "operationName")]
    pub operation_name: Option<String>,
}

/// An error of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphError {
    /// The text; flyctl matches some of them.
    pub message: String,
    /// `extensions.code`: `NOT_FOUND`, `UNPROCESSABLE`, `UNAUTHORIZED`, `SERVER_ERROR`.
    pub code: &'static str,
    /// Whether the whole `data` is null, as for a root field that is not nullable.
    pub fatal: bool,
}

impl GraphError {
    /// An error that leaves its field null.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code,
            fatal: false,
        }
    }

    /// `NOT_FOUND`, with `data` null, as for an unknown app.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self {
            fatal: true,
            ..Self::new("NOT_FOUND", message)
        }
    }

    /// `UNPROCESSABLE`: validation.
    pub fn unprocessable(message: impl Into<String>) -> Self {
        Self::new("UNPROCESSABLE", message)
    }

    /// `UNAUTHORIZED`: exists, but not for this token.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new("UNAUTHORIZED", message)
    }

    /// `SERVER_ERROR`: a part of the simulator failed.
    pub fn server(message: impl Into<String>) -> Self {
        Self::new("SERVER_ERROR", message)
    }
}

/// Arguments of a field, variables filled in.
pub type Args = Map<String, Value>;

/// Computes a field that takes arguments.
pub type Compute = Box<dyn Fn(&Args) -> Result<Node, GraphError> + Send + Sync>;

/// A value of the graph.
pub enum Node {
    /// Scalars, lists and objects whose fields take no arguments. An object may say its type in
    /// the key `__typename`.
    Json(Value),
    /// An object with fields that take arguments.
    Object(Object),
    /// A list of such objects.
    List(Vec<Node>),
}

impl From<Value> for Node {
    fn from(value: Value) -> Self {
        Self::Json(value)
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(_) => f.write_str("Json"),
            Self::Object(_) => f.write_str("Object"),
            Self::List(items) => f.debug_list().entries(items).finish(),
        }
    }
}

/// An object with fields that take arguments.
#[derive(Default)]
pub struct Object {
    plain: Map<String, Value>,
    nested: BTreeMap<&'static str, Node>,
    computed: BTreeMap<&'static str, Compute>,
}

impl Object {
    /// From the fields that take no arguments.
    pub fn new(plain: Value) -> Self {
        let plain = match plain {
            Value::Object(map) => map,
            _ => Map::new(),
        };
        Self {
            plain,
            ..Self::default()
        }
    }

    /// Adds a field that is itself an object with computed fields.
    #[must_use]
    pub fn nested(mut self, name: &'static str, node: impl Into<Node>) -> Self {
        self.nested.insert(name, node.into());
        self
    }

    /// Adds a field that takes arguments.
    #[must_use]
    pub fn computed(
        mut self,
        name: &'static str,
        compute: impl Fn(&Args) -> Result<Node, GraphError> + Send + Sync + 'static,
    ) -> Self {
        self.computed.insert(name, Box::new(compute));
        self
    }
}

impl From<Object> for Node {
    fn from(object: Object) -> Self {
        Self::Object(object)
    }
}

/// Answers root fields. `Ok(None)` means that there is no such field.
pub trait Root: Send + Sync {
    /// One root field of a query (`mutation` false) or of a mutation.
    fn root<'a>(
        &'a self,
        mutation: bool,
        field: &'a str,
        args: &'a Args,
    ) -> BoxFuture<'a, Result<Option<Node>, GraphError>>;
}

type Text = String;

struct Execution<'d> {
    fragments: BTreeMap<&'d str, &'d FragmentDefinition<'static, Text>>,
    variables: Map<String, Value>,
    errors: Vec<Value>,
}

/// The first root field of a request and whether it is a mutation; `None` if it is none.
pub fn operation(body: &[u8]) -> Option<(String, bool)> {
    let request: Request = serde_json::from_slice(body).ok()?;
    let document = parse_query::<Text>(&request.query).ok()?.into_static();
    let (mutation, _, set) = pick(&document, request.operation_name.as_deref()).ok()?;
    let name = set.items.iter().find_map(|item| match item {
        Selection::Field(field) => Some(field.name.clone()),
        _ => None,
    });
    Some((name.unwrap_or_else(|| "fragment".to_owned()), mutation))
}

/// Executes one request; the value is the body of the answer, whose HTTP status is always 200.
pub async fn execute(request: Request, root: &dyn Root) -> Value {
    let document = match parse_query::<Text>(&request.query) {
        Ok(document) => document.into_static(),
        Err(error) => return refused(&format!("Parse error: {error}"), "parseError"),
    };
    let (mutation, definitions, set) = match pick(&document, request.operation_name.as_deref()) {
        Ok(found) => found,
        Err(message) => return refused(&message, "undefinedOperation"),
    };
    let variables = match bind(definitions, request.variables.unwrap_or_default()) {
        Ok(variables) => variables,
        Err(message) => return refused(&message, "invalidVariables"),
    };
    let mut execution = Execution {
        fragments: document
            .definitions
            .iter()
            .filter_map(|definition| match definition {
                Definition::Fragment(fragment) => Some((fragment.name.as_str(), fragment)),
                Definition::Operation(_) => None,
            })
            .collect(),
        variables,
        errors: Vec::new(),
    };
    let kind = if mutation { "Mutations" } else { "Queries" };
    let fields = match execution.collect(set, Some(kind)) {
        Ok(fields) => fields,
        Err(error) => return refused(&error.message, "undefinedFragment"),
    };
    let mut data = Map::new();
    let mut fatal = false;
    for (key, field) in fields {
        if field.name == "__typename" {
            data.insert(key, json!(kind));
            continue;
        }
        let path = vec![key.clone()];
        let args = match execution.arguments(field) {
            Ok(args) => args,
            Err(error) => return refused(&error.message, "variableNotDefined"),
        };
        let answer = match root.root(mutation, &field.name, &args).await {
            Ok(Some(node)) => Ok(node),
            Ok(None) => {
                let message = format!("Field '{}' doesn't exist on type '{kind}'", field.name);
                return refused(&message, "undefinedField");
            }
            Err(error) => Err(error),
        };
        let value = match answer {
            Ok(node) => execution.project(&node, field, &path),
            Err(error) => {
                fatal |= error.fatal;
                execution.fail(&error, &path);
                Value::Null
            }
        };
        data.insert(key, value);
    }
    let data = if fatal {
        Value::Null
    } else {
        Value::Object(data)
    };
    if execution.errors.is_empty() {
        json!({"data": data})
    } else {
        json!({"data": data, "errors": execution.errors})
    }
}

/// A request that was not executed at all.
fn refused(message: &str, code: &str) -> Value {
    json!({"errors": [{"message": message, "path": [], "extensions": {"code": code}}]})
}

type Picked<'d> = (
    bool,
    &'d [VariableDefinition<'static, Text>],
    &'d SelectionSet<'static, Text>,
);

fn pick<'d>(
    document: &'d Document<'static, Text>,
    name: Option<&str>,
) -> Result<Picked<'d>, String> {
    let operations = document.definitions.iter().filter_map(|definition| {
        let Definition::Operation(operation) = definition else {
            return None;
        };
        let (label, picked): (Option<&str>, Picked<'d>) = match operation {
            OperationDefinition::SelectionSet(set) => (None, (false, &[], set)),
            OperationDefinition::Query(query) => (
                query.name.as_deref(),
                (false, &query.variable_definitions, &query.selection_set),
            ),
            OperationDefinition::Mutation(mutation) => (
                mutation.name.as_deref(),
                (
                    true,
                    &mutation.variable_definitions,
                    &mutation.selection_set,
                ),
            ),
            OperationDefinition::Subscription(_) => return None,
        };
        Some((label, picked))
    });
    let mut all: Vec<_> = operations.collect();
    match name.filter(|name| !name.is_empty()) {
        Some(name) => all
            .into_iter()
            .find(|(label, _)| *label == Some(name))
            .map(|(_, picked)| picked)
            .ok_or_else(|| format!("No operation named \"{name}\"")),
        None if all.len() == 1 => all.pop().map(|(_, picked)| picked).ok_or_default(),
        None => Err("An operation name is required".to_owned()),
    }
}

trait OrDefault<T> {
    fn ok_or_default(self) -> Result<T, String>;
}

impl<T> OrDefault<T> for Option<T> {
    fn ok_or_default(self) -> Result<T, String> {
        self.ok_or_else(|| "An operation name is required".to_owned())
    }
}

/// Values of the declared variables. Others that the client sends are ignored, as flyctl sends
/// some that its queries do not declare.
fn bind(
    definitions: &[VariableDefinition<'static, Text>],
    mut given: Map<String, Value>,
) -> Result<Map<String, Value>, String> {
    let mut bound = Map::new();
    for definition in definitions {
        let (name, kind) = (&definition.name, &definition.var_type);
        let value = match given.remove(name) {
            Some(value) => value,
            None => match &definition.default_value {
                Some(literal) => constant(literal),
                None if matches!(kind, Type::NonNullType(_)) => Value::Null,
                None => continue,
            },
        };
        if !fits(&value, kind) {
            return Err(format!(
                "Variable ${name} of type {kind} was provided invalid value"
            ));
        }
        bound.insert(name.clone(), value);
    }
    Ok(bound)
}

/// Whether a value can be of a type; input objects and enums are checked where they are used.
fn fits(value: &Value, kind: &Type<'static, Text>) -> bool {
    match kind {
        Type::NonNullType(inner) => !value.is_null() && fits(value, inner),
        _ if value.is_null() => true,
        Type::ListType(inner) => match value {
            Value::Array(items) => items.iter().all(|item| fits(item, inner)),
            single => fits(single, inner),
        },
        Type::NamedType(name) => match name.as_str() {
            "String" => value.is_string(),
            "Int" => value.is_i64() || value.is_u64(),
            "Float" => value.is_number(),
            "Boolean" => value.is_boolean(),
            "ID" => value.is_string() || value.is_i64() || value.is_u64(),
            name if name.ends_with("Input") => value.is_object(),
            _ => true,
        },
    }
}

fn constant(literal: &Literal<'static, Text>) -> Value {
    resolve(literal, &Map::new()).unwrap_or(Value::Null)
}

/// A literal with variables filled in; the error is the name of an undeclared variable.
fn resolve(
    literal: &Literal<'static, Text>,
    variables: &Map<String, Value>,
) -> Result<Value, String> {
    Ok(match literal {
        Literal::Variable(name) => variables.get(name).cloned().unwrap_or(Value::Null),
        Literal::Int(number) => json!(number.as_i64()),
        Literal::Float(number) => json!(number),
        Literal::String(text) => json!(text),
        Literal::Boolean(flag) => json!(flag),
        Literal::Null => Value::Null,
        Literal::Enum(name) => json!(name),
        Literal::List(items) => items
            .iter()
            .map(|item| resolve(item, variables))
            .collect::<Result<_, _>>()
            .map(Value::Array)?,
        Literal::Object(fields) => fields
            .iter()
            // A variable that was not given leaves its field out.
            .filter(|(_, value)| match value {
                Literal::Variable(name) => variables.contains_key(name),
                _ => true,
            })
            .map(|(key, value)| Ok((key.clone(), resolve(value, variables)?)))
            .collect::<Result<_, String>>()
            .map(Value::Object)?,
    })
}

impl<'d> Execution<'d> {
    fn arguments(&self, field: &Field<'static, Text>) -> Result<Args, GraphError> {
        field
            .arguments
            .iter()
            .filter(|(_, value)| match value {
                Literal::Variable(name) => self.variables.contains_key(name),
                _ => true,
            })
            .map(|(key, value)| {
                resolve(value, &self.variables)
                    .map(|value| (key.clone(), value))
                    .map_err(GraphError::server)
            })
            .collect()
    }

    /// The fields of a selection set in order, fragments opened, by answer key.
    fn collect(
        &self,
        set: &'d SelectionSet<'static, Text>,
        kind: Option<&str>,
    ) -> Result<Vec<(String, &'d Field<'static, Text>)>, GraphError> {
        let mut fields = Vec::new();
        for item in &set.items {
            match item {
                Selection::Field(field) => {
                    if self.included(&field.directives) {
                        let key = field.alias.as_ref().unwrap_or(&field.name);
                        fields.push((key.clone(), field));
                    }
                }
                Selection::InlineFragment(fragment) => {
                    if self.included(&fragment.directives)
                        && applies(fragment.type_condition.as_ref(), kind)
                    {
                        fields.extend(self.collect(&fragment.selection_set, kind)?);
                    }
                }
                Selection::FragmentSpread(spread) => {
                    let name = spread.fragment_name.as_str();
                    let fragment = self.fragments.get(name).ok_or_else(|| {
                        GraphError::server(format!("Fragment {name} was used, but not defined"))
                    })?;
                    if self.included(&spread.directives)
                        && applies(Some(&fragment.type_condition), kind)
                    {
                        fields.extend(self.collect(&fragment.selection_set, kind)?);
                    }
                }
            }
        }
        Ok(fields)
    }

    fn included(&self, directives: &[Directive<'static, Text>]) -> bool {
        directives.iter().all(|directive| {
            let wanted = directive
                .arguments
                .iter()
                .find(|(name, _)| name == "if")
                .and_then(|(_, value)| resolve(value, &self.variables).ok())
                .and_then(|value| value.as_bool());
            match directive.name.as_str() {
                "include" => wanted != Some(false),
                "skip" => wanted != Some(true),
                _ => true,
            }
        })
    }

    fn fail(&mut self, error: &GraphError, path: &[String]) {
        self.errors.push(json!({
            "message": error.message,
            "path": path,
            "extensions": {"code": error.code},
        }));
    }

    fn project(&mut self, node: &Node, field: &'d Field<'static, Text>, path: &[String]) -> Value {
        match node {
            Node::Json(value) => self.project_json(value, field),
            Node::List(items) => Value::Array(
                items
                    .iter()
                    .map(|item| self.project(item, field, path))
                    .collect(),
            ),
            Node::Object(object) => self.project_object(object, field, path),
        }
    }

    fn project_json(&mut self, value: &Value, field: &'d Field<'static, Text>) -> Value {
        match value {
            Value::Array(items) => Value::Array(
                items
                    .iter()
                    .map(|item| self.project_json(item, field))
                    .collect(),
            ),
            // Without a selection set it is a JSON scalar.
            Value::Object(map) if !field.selection_set.items.is_empty() => {
                let kind = map.get("__typename").and_then(Value::as_str);
                let Ok(fields) = self.collect(&field.selection_set, kind) else {
                    return Value::Null;
                };
                let mut data = Map::new();
                for (key, field) in fields {
                    let child = map.get(&field.name).unwrap_or(&Value::Null);
                    let value = self.project_json(child, field);
                    merge(&mut data, key, value);
                }
                Value::Object(data)
            }
            other => other.clone(),
        }
    }

    fn project_object(
        &mut self,
        object: &Object,
        field: &'d Field<'static, Text>,
        path: &[String],
    ) -> Value {
        let kind = object.plain.get("__typename").and_then(Value::as_str);
        let Ok(fields) = self.collect(&field.selection_set, kind) else {
            return Value::Null;
        };
        let mut data = Map::new();
        for (key, field) in fields {
            let mut path = path.to_vec();
            path.push(key.clone());
            let name = field.name.as_str();
            let value = if let Some(compute) = object.computed.get(name) {
                let answer = self.arguments(field).and_then(|args| compute(&args));
                match answer {
                    Ok(node) => self.project(&node, field, &path),
                    Err(error) => {
                        self.fail(&error, &path);
                        Value::Null
                    }
                }
            } else if let Some(node) = object.nested.get(name) {
                self.project(node, field, &path)
            } else {
                let child = object.plain.get(name).unwrap_or(&Value::Null);
                self.project_json(child, field)
            };
            merge(&mut data, key, value);
        }
        Value::Object(data)
    }
}

/// Two selections of one key add up when both are objects.
fn merge(data: &mut Map<String, Value>, key: String, value: Value) {
    match (data.get_mut(&key), value) {
        (Some(Value::Object(old)), Value::Object(new)) => {
            for (key, value) in new {
                merge(old, key, value);
            }
        }
        (_, value) => {
            data.insert(key, value);
        }
    }
}

/// Whether a fragment is for this type. Unknown types match, so that data without a type name
/// works; interfaces match everything.
fn applies(condition: Option<&TypeCondition<'static, Text>>, kind: Option<&str>) -> bool {
    match (condition, kind) {
        (Some(TypeCondition::On(wanted)), Some(kind)) => {
            wanted == kind || matches!(wanted.as_str(), "Node" | "Principal")
        }
        _ => true,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    struct Fixture;

    impl Root for Fixture {
        fn root<'a>(
            &'a self,
            mutation: bool,
            field: &'a str,
            args: &'a Args,
        ) -> BoxFuture<'a, Result<Option<Node>, GraphError>> {
            Box::pin(async move {
                Ok(Some(match (mutation, field) {
                    (false, "app") => {
                        let name = args.get("name").cloned().unwrap_or_default();
                        if name == "nobody" {
                            return Err(GraphError::not_found("Could not find App \"nobody\""));
                        }
                        Object::new(json!({
                            "__typename": "App", "name": name, "config": {"a": {"b": 1}},
                            "role": {"name": "postgres_cluster"},
                        }))
                        .computed("image", |args| {
                            Ok(json!({"ref": args.get("ref"), "size": "12"}).into())
                        })
                        .computed("broken", |_| Err(GraphError::unprocessable("no")))
                        .into()
                    }
                    (false, "viewer") => {
                        json!({"__typename": "User", "id": "u1", "email": "a@b"}).into()
                    }
                    (true, "echo") => json!({"args": args}).into(),
                    _ => return Ok(None),
                }))
            })
        }
    }

    async fn run(query: &str, variables: Value) -> Value {
        let request = serde_json::from_value(json!({"query": query, "variables": variables}));
        execute(request.unwrap(), &Fixture).await
    }

    #[tokio::test]
    async fn aliases_name_the_answer_at_every_level() {
        let query = "query($n: String!) { appcompact: app(name: $n) {
            id name postgresAppRole: role { name } img: image(ref: \"x\") { ref } } }";
        let answer = run(query, json!({"n": "demo", "undeclared": 1})).await;
        let wanted = json!({"data": {"appcompact": {
            "id": null, "name": "demo", "postgresAppRole": {"name": "postgres_cluster"},
            "img": {"ref": "x"}}}});
        assert_eq!(answer, wanted);
    }

    #[tokio::test]
    async fn named_and_inline_fragments_apply_by_type() {
        let query = "query { viewer { ... on User { ...U } ... on Macaroon { email id } } }
            fragment U on User { id }";
        assert_eq!(
            run(query, Value::Null).await,
            json!({"data": {"viewer": {"id": "u1"}}})
        );
    }

    #[tokio::test]
    async fn json_scalars_stay_whole_and_selections_add_up() {
        let query = "{ app(name: \"a\") { config config2: config { a { c } }
            role { name } role { id } } }";
        let answer = run(query, json!({})).await;
        let app = &answer["data"]["app"];
        assert_eq!(app["config"], json!({"a": {"b": 1}}));
        assert_eq!(app["config2"], json!({"a": {"c": null}}));
        assert_eq!(app["role"], json!({"name": "postgres_cluster", "id": null}));
    }

    #[tokio::test]
    async fn errors_have_flys_shape() {
        let answer = run("{ app(name: \"nobody\") { id } }", Value::Null).await;
        let wanted = json!({"data": null, "errors": [{
            "message": "Could not find App \"nobody\"", "path": ["app"],
            "extensions": {"code": "NOT_FOUND"}}]});
        assert_eq!(answer, wanted);
        let answer = run("{ a: app(name: \"x\") { name broken { x } } }", Value::Null).await;
        assert_eq!(answer["data"]["a"]["name"], "x");
        assert_eq!(answer["errors"][0]["path"], json!(["a", "broken"]));
    }

    #[tokio::test]
    async fn missing_and_wrong_variables_are_refused_and_defaults_hold() {
        let query = "query($n: String!) { app(name: $n) { name } }";
        for variables in [Value::Null, json!({}), json!({"n": null}), json!({"n": 1})] {
            let answer = run(query, variables).await;
            assert!(answer["data"].is_null(), "{answer}");
            let text = answer["errors"][0]["message"].as_str().unwrap();
            assert!(text.contains("Variable $n of type String!"), "{text}");
        }
        let query = "query($n: String = \"d\") { app(name: $n) { name } }";
        assert_eq!(run(query, json!({})).await["data"]["app"]["name"], "d");
    }

    #[tokio::test]
    async fn an_optional_variable_that_is_not_given_leaves_its_argument_out() {
        let query = "mutation($a: Int, $b: Int) { echo(input: {a: $a, b: $b, c: ENUM}) { args } }";
        let answer = run(query, json!({"b": null})).await;
        assert_eq!(
            answer["data"]["echo"]["args"],
            json!({"input": {"b": null, "c": "ENUM"}})
        );
    }

    #[tokio::test]
    async fn an_unknown_root_field_is_an_error() {
        let answer = run("mutation { launchRocket { id } }", Value::Null).await;
        let text = answer["errors"][0]["message"].as_str().unwrap();
        assert_eq!(
            text,
            "Field 'launchRocket' doesn't exist on type 'Mutations'"
        );
        assert!(answer.get("data").is_none());
    }

    #[tokio::test]
    async fn directives_leave_fields_out() {
        let query = "query($no: Boolean!) { app(name: \"a\") { name @include(if: $no) id @skip(if: true) } }";
        assert_eq!(
            run(query, json!({"no": false})).await,
            json!({"data": {"app": {}}})
        );
    }

    #[test]
    fn the_operation_is_known_by_its_root_field() {
        let body = json!({"query": "mutation X { a: createAddOn(input: {}) { id } }"}).to_string();
        assert_eq!(
            operation(body.as_bytes()),
            Some(("createAddOn".to_owned(), true))
        );
        assert_eq!(operation(b"{}"), None);
    }
}
