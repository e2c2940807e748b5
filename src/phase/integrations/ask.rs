//! What the spec wants verified, with the values of its Secrets. Pure.

use secrecy::SecretString;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{
    api::{
        integrations::{Ical, Integrations, MercadoPago, Webhook, WhatsApp},
        reference::SecretKeyRef,
    },
    plan::{Target, fingerprint, missing::Missing, refs::Refs},
};

/// A Secret that is named and not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// Path of the field that names it.
    pub field: String,
    /// Why it is not there.
    pub missing: Missing,
}

/// A set of checks with all that it needs.
#[derive(Clone, Debug)]
pub enum Set {
    /// WhatsApp Cloud API.
    WhatsApp {
        /// What the spec says.
        spec: WhatsApp,
        /// The token of the handshake.
        verify_token: SecretString,
        /// Meta's app secret.
        app_secret: SecretString,
        /// The access token of the Graph API.
        access_token: Option<SecretString>,
    },
    /// Mercado Pago.
    MercadoPago {
        /// What the spec says.
        spec: MercadoPago,
        /// The secret signature.
        signing_secret: SecretString,
        /// The access token.
        access_token: Option<SecretString>,
    },
    /// Calendars.
    Ical {
        /// What the spec says.
        spec: Ical,
        /// The addresses of the calendars that the application imports.
        feeds: Option<SecretString>,
    },
    /// Any other webhook.
    Webhook {
        /// What the spec says.
        spec: Webhook,
        /// The key of the signature.
        secret: SecretString,
    },
}

/// An integration that the spec wants verified.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its name in the status.
    pub name: String,
    /// Hash of what the spec says of it and of the values of its Secrets.
    pub digest: String,
    /// Its checks; `None` while a Secret is missing without which there are none.
    pub set: Option<Set>,
    /// The Secrets that are missing.
    pub lacks: Vec<Lack>,
}

/// Reads the Secrets of one integration.
struct Reader<'a> {
    refs: &'a Refs,
    key: &'a [u8],
    hash: Sha256,
    lacks: Vec<Lack>,
    place: String,
}

impl<'a> Reader<'a> {
    fn of(refs: &'a Refs, key: &'a [u8], place: &str, spec: &impl Serialize) -> Self {
        let mut hash = Sha256::new();
        // A spec can always be written as JSON: it came as such.
        hash.update(serde_json::to_vec(spec).unwrap_or_default());
        Self {
            refs,
            key,
            hash,
            lacks: Vec::new(),
            place: place.to_owned(),
        }
    }

    fn value(&mut self, field: &str, reference: &SecretKeyRef) -> Option<SecretString> {
        self.hash.update([0]);
        self.hash.update(field);
        match self.refs.secret(&reference.name, &reference.key) {
            Ok(value) => {
                self.hash.update(fingerprint(self.key, value));
                Some(value.clone())
            }
            Err(missing) => {
                self.hash.update(missing.to_string());
                self.lacks.push(Lack {
                    field: format!("spec.integrations.{}.{field}", self.place),
                    missing,
                });
                None
            }
        }
    }

    fn optional(&mut self, field: &str, reference: Option<&SecretKeyRef>) -> Option<SecretString> {
        self.value(field, reference?)
    }

    fn end(self, name: &str, set: Option<Set>) -> Asked {
        Asked {
            name: name.to_owned(),
            digest: data_encoding::HEXLOWER.encode(&self.hash.finalize()[..16]),
            set,
            lacks: self.lacks,
        }
    }
}

/// Everything that is to be verified, in the order of the status. `key` is that of fingerprints.
pub fn all(target: &Target, refs: &Refs, key: &[u8]) -> Vec<Asked> {
    let Some(spec) = target.integrations.as_deref() else {
        return Vec::new();
    };
    let whatsapp = spec.whatsapp.as_ref().map(|spec| whatsapp(spec, refs, key));
    let mercado_pago = spec.mercado_pago.as_ref();
    let mercado_pago = mercado_pago.map(|spec| self::mercado_pago(spec, refs, key));
    let ical = spec.ical.as_ref().map(|spec| ical(spec, refs, key));
    let webhooks = spec.webhooks.iter().map(|spec| webhook(spec, refs, key));
    let known = [whatsapp, mercado_pago, ical].into_iter().flatten();
    known.chain(webhooks).collect()
}

/// Hash of what is to be verified, how often, and with which values.
pub fn digest(target: &Target, refs: &Refs, key: &[u8]) -> String {
    let mut hash = Sha256::new();
    let interval = |spec: &Integrations| spec.interval.to_string();
    hash.update(
        target
            .integrations
            .as_deref()
            .map(interval)
            .unwrap_or_default(),
    );
    for asked in all(target, refs, key) {
        hash.update([0]);
        hash.update(asked.name);
        hash.update([0]);
        hash.update(asked.digest);
    }
    data_encoding::HEXLOWER.encode(&hash.finalize()[..16])
}

fn whatsapp(spec: &WhatsApp, refs: &Refs, key: &[u8]) -> Asked {
    let mut reader = Reader::of(refs, key, "whatsapp", spec);
    let verify_token = reader.value("verifyTokenSecretRef", &spec.verify_token_secret_ref);
    let app_secret = reader.value("appSecretRef", &spec.app_secret_ref);
    let access_token = reader.optional("tokenSecretRef", spec.token_secret_ref.as_ref());
    let both = verify_token.zip(app_secret);
    let set = both.map(|(verify_token, app_secret)| Set::WhatsApp {
        spec: spec.clone(),
        verify_token,
        app_secret,
        access_token,
    });
    reader.end("whatsapp", set)
}

fn mercado_pago(spec: &MercadoPago, refs: &Refs, key: &[u8]) -> Asked {
    let mut reader = Reader::of(refs, key, "mercadoPago", spec);
    let signing_secret = reader.value("signingSecretRef", &spec.signing_secret_ref);
    let token = spec.access_token_secret_ref.as_ref();
    let access_token = reader.optional("accessTokenSecretRef", token);
    let set = signing_secret.map(|signing_secret| Set::MercadoPago {
        spec: spec.clone(),
        signing_secret,
        access_token,
    });
    reader.end("mercado-pago", set)
}

fn ical(spec: &Ical, refs: &Refs, key: &[u8]) -> Asked {
    let mut reader = Reader::of(refs, key, "ical", spec);
    let feeds = reader.optional("feedsSecretRef", spec.feeds_secret_ref.as_ref());
    let spec = spec.clone();
    reader.end("ical", Some(Set::Ical { spec, feeds }))
}

fn webhook(spec: &Webhook, refs: &Refs, key: &[u8]) -> Asked {
    let place = format!("webhooks[{}]", spec.name);
    let mut reader = Reader::of(refs, key, &place, spec);
    let secret = reader.value("secretRef", &spec.secret_ref);
    let set = secret.map(|secret| Set::Webhook {
        spec: spec.clone(),
        secret,
    });
    reader.end(&format!("webhook/{}", spec.name), set)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::testing::target;

    const SPEC: &str = "
integrations:
  whatsapp:
    path: /w
    verifyTokenSecretRef: {name: wa, key: token}
    appSecretRef: {name: wa, key: secret}
    tokenSecretRef: {name: graph, key: token}
    wabaId: '1'
  ical: {exportPath: /x.ics, feedsSecretRef: {name: feeds, key: list}}
  webhooks: [{name: own, path: /h, header: X-S, secretRef: {name: own, key: k}}]";

    fn asked(secrets: &[(&str, &str, &str)]) -> Vec<Asked> {
        let mut all = vec![("fly", "token", "fo1_some-token")];
        all.extend(secrets);
        let refs = Refs::of(&all, &[]);
        super::all(&target(SPEC, secrets), &refs, b"key")
    }

    const WA: [(&str, &str, &str); 2] = [
        ("wa", "token", "verify-token-1"),
        ("wa", "secret", "app-secret-1"),
    ];

    #[test]
    fn what_is_missing_is_named_by_its_field_and_holds_up_only_its_own_integration() {
        let found = asked(&WA);
        let names: Vec<&str> = found.iter().map(|asked| asked.name.as_str()).collect();
        assert_eq!(names, ["whatsapp", "ical", "webhook/own"]);
        let fields = |at: usize| -> Vec<&str> {
            let lacks = found[at].lacks.iter();
            lacks.map(|lack| lack.field.as_str()).collect()
        };
        assert!(
            found[0].set.is_some(),
            "the token of the Graph API is for one check"
        );
        assert_eq!(fields(0), ["spec.integrations.whatsapp.tokenSecretRef"]);
        assert!(found[1].set.is_some(), "the feeds are for one check");
        assert_eq!(fields(1), ["spec.integrations.ical.feedsSecretRef"]);
        assert!(found[2].set.is_none());
        assert_eq!(fields(2), ["spec.integrations.webhooks[own].secretRef"]);
    }

    #[test]
    fn another_value_is_another_digest_of_its_integration_alone() {
        let before = asked(&WA);
        let other = [WA[0], ("wa", "secret", "app-secret-2")];
        let after = asked(&other);
        assert_ne!(before[0].digest, after[0].digest);
        assert_eq!(before[1].digest, after[1].digest);
        let added = [WA[0], WA[1], ("own", "k", "own-secret-1")];
        assert_ne!(asked(&added)[2].digest, before[2].digest, "it is there now");
        let feeds = [WA[0], WA[1], ("feeds", "list", "https://h.example/a?s=1")];
        assert_ne!(asked(&feeds)[1].digest, before[1].digest);
    }
}
