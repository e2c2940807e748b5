//! What an Activation names in its own namespace: Secrets and ConfigMaps, with the fields that name
//! them. Pure. The one table behind what is read, what is watched, and what preflight checks.

use std::collections::BTreeSet;

use crate::api::{
    Activation, integrations::Integrations, metrics_source::Prometheus, provision::Provision,
    reference::SecretKeyRef,
};

/// The kind of an object that is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefKind {
    /// A Secret.
    Secret,
    /// A ConfigMap.
    ConfigMap,
}

/// One reference of an Activation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Path of the field that holds the reference, such as `spec.tokenSecretRef`.
    pub field: String,
    /// Kind of the object.
    pub kind: RefKind,
    /// Name of the object.
    pub name: String,
    /// The key in it; `None` for all of its keys.
    pub key: Option<String>,
    /// Whether a live application needs it. What is used only after Go-Live never blocks Go-Live.
    pub required: bool,
    /// Whether its value decides what is done, so that a new value needs a new approval.
    pub decides: bool,
}

/// What a value is used for, which decides [`Named::required`] and [`Named::decides`].
#[derive(Clone, Copy)]
enum Use {
    /// The live application is made of it.
    Application,
    /// Golive needs it to do its work, and any value of equal rights does the same.
    Access,
    /// It is used only after Go-Live, or for reading tags of an image.
    Later,
}

impl Named {
    fn new(field: String, kind: RefKind, name: &str, key: Option<&str>, purpose: Use) -> Self {
        Self {
            field,
            kind,
            name: name.to_owned(),
            key: key.map(str::to_owned),
            required: matches!(purpose, Use::Application | Use::Access),
            decides: matches!(purpose, Use::Application),
        }
    }

    fn secret(field: impl Into<String>, reference: &SecretKeyRef, purpose: Use) -> Self {
        let key = Some(reference.key.as_str());
        Self::new(field.into(), RefKind::Secret, &reference.name, key, purpose)
    }
}

/// Everything that an Activation names. The order is part of the digest of a plan
/// ([`crate::plan::digest`]): append, and never reorder what decides.
pub fn named(activation: &Activation) -> Vec<Named> {
    let spec = &activation.spec;
    let token = SecretKeyRef {
        name: spec.token_secret_ref.name.clone(),
        key: spec.token_secret_ref.key.clone(),
    };
    let mut list = vec![Named::secret("spec.tokenSecretRef", &token, Use::Access)];
    addresses(&spec.provision, &mut list);
    if let Some(integrations) = &spec.integrations {
        integration_secrets(integrations, &mut list);
    }
    later(activation, &mut list);
    application(activation, &mut list);
    list
}

/// Addresses of databases and Redis.
fn addresses(provision: &Provision, list: &mut Vec<Named>) {
    if let Some(postgres) = &provision.postgres {
        for (field, source) in [
            ("external", &postgres.external),
            ("fallback", &postgres.fallback),
        ] {
            list.extend(source.as_ref().map(|source| {
                let field = format!("spec.provision.postgres.{field}.urlSecretRef");
                Named::secret(field, &source.url_secret_ref, Use::Application)
            }));
        }
    }
    let redis = provision.redis.as_ref();
    list.extend(redis.and_then(|redis| redis.external.as_ref()).map(|url| {
        let field = "spec.provision.redis.external.urlSecretRef";
        Named::secret(field, &url.url_secret_ref, Use::Application)
    }));
}

/// The names of the Secrets of these integrations.
pub fn secrets_of(integrations: &Integrations) -> BTreeSet<String> {
    let mut list = Vec::new();
    integration_secrets(integrations, &mut list);
    list.into_iter().map(|named| named.name).collect()
}

fn integration_secrets(integrations: &Integrations, list: &mut Vec<Named>) {
    if let Some(whatsapp) = &integrations.whatsapp {
        let fields = [
            (
                "verifyTokenSecretRef",
                Some(&whatsapp.verify_token_secret_ref),
            ),
            ("appSecretRef", Some(&whatsapp.app_secret_ref)),
            ("tokenSecretRef", whatsapp.token_secret_ref.as_ref()),
        ];
        let named = fields.into_iter();
        for (field, reference) in named.filter_map(|(field, of)| Some((field, of?))) {
            let field = format!("spec.integrations.whatsapp.{field}");
            list.push(Named::secret(field, reference, Use::Later));
        }
    }
    if let Some(mercado_pago) = &integrations.mercado_pago {
        let field = "spec.integrations.mercadoPago.signingSecretRef";
        let reference = &mercado_pago.signing_secret_ref;
        list.push(Named::secret(field, reference, Use::Later));
        let field = "spec.integrations.mercadoPago.accessTokenSecretRef";
        let token = mercado_pago.access_token_secret_ref.as_ref();
        list.extend(token.map(|token| Named::secret(field, token, Use::Later)));
    }
    if let Some(ical) = &integrations.ical {
        let field = "spec.integrations.ical.feedsSecretRef";
        let feeds = ical.feeds_secret_ref.as_ref();
        list.extend(feeds.map(|feeds| Named::secret(field, feeds, Use::Later)));
    }
    for webhook in &integrations.webhooks {
        let field = format!("spec.integrations.webhooks[{}].secretRef", webhook.name);
        list.push(Named::secret(field, &webhook.secret_ref, Use::Later));
    }
}

/// The token of Prometheus, and the addresses and keys of receivers of notifications.
fn later(activation: &Activation, list: &mut Vec<Named>) {
    let spec = &activation.spec;
    let observe = spec.observe.as_ref();
    let prometheus = observe.and_then(|observe| observe.source.prometheus.as_ref());
    if let Some(prometheus) = prometheus {
        of_prometheus(prometheus, list);
    }
    for (index, notification) in spec.notifications.iter().enumerate() {
        let webhook = notification.webhook.as_ref();
        let email = notification.email.as_ref();
        let fields = [
            (
                "webhook.urlSecretRef",
                webhook.map(|webhook| &webhook.url_secret_ref),
            ),
            (
                "email.urlSecretRef",
                email.map(|email| &email.url_secret_ref),
            ),
            ("keySecretRef", notification.key_secret_ref.as_ref()),
        ];
        let named = fields.into_iter();
        for (field, reference) in named.filter_map(|(field, of)| Some((field, of?))) {
            let field = format!("spec.notifications[{index}].{field}");
            list.push(Named::secret(field, reference, Use::Later));
        }
    }
}

/// The credentials of a Prometheus, and its certificates.
fn of_prometheus(prometheus: &Prometheus, list: &mut Vec<Named>) {
    let basic = prometheus.basic_auth.as_ref();
    let ca = prometheus.ca.as_ref();
    let secrets = [
        ("tokenSecretRef", prometheus.token_secret_ref.as_ref()),
        (
            "basicAuth.usernameSecretRef",
            basic.map(|basic| &basic.username_secret_ref),
        ),
        (
            "basicAuth.passwordSecretRef",
            basic.map(|basic| &basic.password_secret_ref),
        ),
        ("ca.secretRef", ca.and_then(|ca| ca.secret_ref.as_ref())),
    ];
    let secrets = secrets.into_iter();
    for (field, reference) in secrets.filter_map(|(field, of)| Some((field, of?))) {
        let field = format!("spec.observe.source.prometheus.{field}");
        list.push(Named::secret(field, reference, Use::Later));
    }
    if let Some(map) = ca.and_then(|ca| ca.config_map_ref.as_ref()) {
        list.push(Named::new(
            "spec.observe.source.prometheus.ca.configMapRef".to_owned(),
            RefKind::ConfigMap,
            &map.name,
            Some(&map.key),
            Use::Later,
        ));
    }
}

/// Secrets of the application, credentials of its registry, and its fly.toml.
fn application(activation: &Activation, list: &mut Vec<Named>) {
    let spec = &activation.spec;
    for (index, source) in spec.provision.secrets.from.iter().enumerate() {
        let field = format!("spec.provision.secrets.from[{index}].secretRef");
        let name = &source.secret_ref.name;
        let mut named = Named::new(field, RefKind::Secret, name, None, Use::Application);
        named.required = !source.optional;
        list.push(named);
    }
    let source = spec.deploy.source.as_ref();
    if let Some(credentials) = source.and_then(|source| source.credentials_secret_ref.as_ref()) {
        // A live application does not need them; without them the check on the image fails.
        list.push(Named::new(
            "spec.deploy.source.credentialsSecretRef".to_owned(),
            RefKind::Secret,
            &credentials.name,
            None,
            Use::Later,
        ));
    }
    let config = spec.deploy.config.as_ref();
    if let Some(map) = config.and_then(|config| config.config_map_ref.as_ref()) {
        list.push(Named::new(
            "spec.deploy.config.configMapRef".to_owned(),
            RefKind::ConfigMap,
            &map.name,
            Some(&map.key),
            Use::Application,
        ));
    }
}

/// The objects that an Activation names, each once: a change of one of them wakes the Activation.
pub fn watched(activation: &Activation) -> BTreeSet<(RefKind, String)> {
    let named = named(activation).into_iter();
    named.map(|named| (named.kind, named.name)).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use super::*;

    /// An Activation with this spec, in YAML.
    pub fn activation(spec: &str) -> Activation {
        let spec: serde_json::Value = serde_saphyr::from_str(spec).unwrap();
        serde_json::from_value(serde_json::json!({"metadata": {"name": "x"}, "spec": spec}))
            .unwrap()
    }

    /// A spec that names something in every place.
    pub const FULL: &str = "
        organization: o
        app: x
        region: eze
        tokenSecretRef: {name: fly}
        provision:
          postgres: {managed: {}, fallback: {urlSecretRef: {name: db, key: url}}}
          redis: {external: {urlSecretRef: {name: redis, key: url}}}
          secrets: {from: [{secretRef: {name: app}}, {secretRef: {name: db}}]}
        deploy: {image: 'x:1', config: {configMapRef: {name: config}}}
        integrations:
          whatsapp: {path: /w, verifyTokenSecretRef: {name: wa, key: a}, appSecretRef: {name: wa, key: b}}
        notifications: [{webhook: {urlSecretRef: {name: slack, key: url}}}]
    ";

    #[test]
    fn everything_that_is_named_is_watched_once() {
        let watched = watched(&activation(FULL));
        let names: Vec<&str> = watched.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(
            names,
            ["app", "db", "fly", "redis", "slack", "wa", "config"]
        );
    }

    #[test]
    fn everything_that_a_prometheus_needs_is_read_and_holds_nothing_up() {
        let of = |credentials: &str| {
            let spec = format!(
                "{FULL}
        observe: {{source: {{prometheus: {{url: 'https://p.example', {credentials}}}}}}}"
            );
            let named = named(&activation(&spec)).into_iter();
            let named = named.filter(|named| named.field.contains("prometheus"));
            let named = named.inspect(|named| assert!(!named.required && !named.decides));
            named
                .map(|named| (named.kind, named.name, named.key))
                .collect::<Vec<_>>()
        };
        let key = |key: &str| Some(key.to_owned());
        let token = "tokenSecretRef: {name: t, key: k}, ca: {configMapRef: {name: c}}";
        let wanted = [
            (RefKind::Secret, "t".to_owned(), key("k")),
            (RefKind::ConfigMap, "c".to_owned(), key("ca.crt")),
        ];
        assert_eq!(of(token), wanted);
        let basic = "basicAuth: {usernameSecretRef: {name: u, key: a}, passwordSecretRef: {name: u, key: b}}, ca: {secretRef: {name: s, key: x}}";
        let wanted = [
            (RefKind::Secret, "u".to_owned(), key("a")),
            (RefKind::Secret, "u".to_owned(), key("b")),
            (RefKind::Secret, "s".to_owned(), key("x")),
        ];
        assert_eq!(of(basic), wanted);
    }

    #[test]
    fn only_what_a_live_application_needs_is_required() {
        let named = named(&activation(FULL));
        let optional: Vec<&str> = named
            .iter()
            .filter(|named| !named.required)
            .map(|named| named.field.as_str())
            .collect();
        assert_eq!(
            optional,
            [
                "spec.integrations.whatsapp.verifyTokenSecretRef",
                "spec.integrations.whatsapp.appSecretRef",
                "spec.notifications[0].webhook.urlSecretRef",
            ]
        );
    }

    #[test]
    fn an_optional_secret_of_the_application_is_not_required_and_decides_what_runs() {
        let spec = FULL.replace(
            "{secretRef: {name: app}}",
            "{secretRef: {name: app}, optional: true}",
        );
        let named = named(&activation(&spec));
        let mut named = named.iter();
        let app = named.find(|named| named.name == "app").unwrap();
        assert!(!app.required && app.decides);
    }

    #[test]
    fn the_token_decides_nothing_and_the_order_of_what_decides_stays() {
        let named = named(&activation(FULL));
        let deciding: Vec<&str> = named
            .iter()
            .filter(|named| named.decides)
            .map(|named| named.field.as_str())
            .collect();
        assert_eq!(
            deciding,
            [
                "spec.provision.postgres.fallback.urlSecretRef",
                "spec.provision.redis.external.urlSecretRef",
                "spec.provision.secrets.from[0].secretRef",
                "spec.provision.secrets.from[1].secretRef",
                "spec.deploy.config.configMapRef",
            ]
        );
    }

    /// Every field of the definition that names an object of the namespace, such as
    /// `spec.notifications[].keySecretRef`.
    fn fields_of_the_definition() -> BTreeSet<String> {
        use kube::CustomResourceExt;
        fn walk(schema: &serde_json::Value, path: &str, found: &mut BTreeSet<String>) {
            for (name, of) in schema["properties"].as_object().into_iter().flatten() {
                let path = format!("{path}.{name}");
                let lower = name.to_lowercase();
                let keys = of["properties"].as_object().into_iter().flatten();
                let keys: Vec<&str> = keys.map(|(key, _)| key.as_str()).collect();
                // By its name, or by its form.
                if lower.ends_with("ref") || keys == ["key", "name"] {
                    found.insert(path.clone());
                }
                walk(of, &path, found);
            }
            if schema["items"].is_object() {
                walk(&schema["items"], &format!("{path}[]"), found);
            }
            if schema["additionalProperties"].is_object() {
                walk(
                    &schema["additionalProperties"],
                    &format!("{path}{{}}"),
                    found,
                );
            }
        }
        let crd = serde_json::to_value(Activation::crd()).unwrap();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let mut found = BTreeSet::new();
        walk(&schema["properties"]["spec"], "spec", &mut found);
        found
    }

    /// Without the index or the name in a list.
    fn general(field: &str) -> String {
        let mut parts = field.split('[');
        let mut general = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let rest = part.split_once(']').map_or("", |(_, rest)| rest);
            general.push_str("[]");
            general.push_str(rest);
        }
        general
    }

    const POLICY: &str = include_str!("../../manifests/base/secret-policy.yaml");

    #[test]
    fn every_field_of_the_definition_that_names_an_object_is_in_the_table() {
        let more = "
        integrations:
          whatsapp: {path: /w, verifyTokenSecretRef: {name: a, key: a}, appSecretRef: {name: a, key: b}, tokenSecretRef: {name: a, key: c}}
          mercadoPago: {path: /m, signingSecretRef: {name: a, key: d}, accessTokenSecretRef: {name: a, key: e}}
          ical: {exportPath: /i.ics, feedsSecretRef: {name: a, key: f}}
          webhooks: [{name: w, path: /x, header: X-S, secretRef: {name: a, key: g}}]
        notifications:
        - {webhook: {urlSecretRef: {name: a, key: h}}, keySecretRef: {name: a, key: i}}
        - {email: {urlSecretRef: {name: a, key: j}, from: a@example.org, to: [b@example.org]}}
        observe: {source: {prometheus: {
          url: 'https://p.example.org', tokenSecretRef: {name: a, key: k},
          basicAuth: {usernameSecretRef: {name: a, key: l}, passwordSecretRef: {name: a, key: m}},
          ca: {secretRef: {name: a, key: 'n'}, configMapRef: {name: c}}}}}
    ";
        let (first, _) = FULL.split_once("integrations:").unwrap();
        let source = "source: {image: ghcr.io/x/y, policy: {tag: {name: stable}}, credentialsSecretRef: {name: pull}}";
        let spec = format!("{}{more}", first.trim_end())
            .replace("image: 'x:1'", source)
            .replace(
                "managed: {}",
                "external: {urlSecretRef: {name: db, key: o}}",
            );
        let named = named(&activation(&spec)).into_iter();
        let fields: BTreeSet<String> = named.map(|named| general(&named.field)).collect();
        assert_eq!(fields, fields_of_the_definition());
    }

    /// What the policy does with a field is shown by a real API server: `tests/it/api/authors.rs`.
    #[test]
    fn every_field_of_the_definition_that_names_a_secret_is_in_the_policy() {
        let quoted = POLICY.split('\'').skip(1).step_by(2);
        let asked: BTreeSet<String> = quoted
            .filter(|text| text.ends_with("Ref"))
            .map(|field| format!("spec.{field}"))
            .collect();
        let fields = fields_of_the_definition().into_iter();
        let fields: BTreeSet<String> = fields
            .filter(|field| !field.ends_with("configMapRef"))
            .collect();
        assert_eq!(fields.len(), 20, "{fields:?}");
        assert_eq!(asked, fields);
    }
}
