//! How the sender of a webhook signs, from what the spec says. Pure.

use crate::{
    api::integrations::{
        SignatureAlgorithm, SignatureEncoding, SignedPart, SignedPartKind, TimestampUnit, Webhook,
        WebhookPlace, WebhookScheme, WebhookTimestamp,
    },
    webhook::{
        scheme::{Part, Place, Scheme, Stamp, StampPlace, Unit},
        sign::{Algorithm, Encoding},
    },
};

/// The scheme of a webhook: that of the sender that it names, or what its fields say. Where the id and
/// the type of an event stand may be said of any sender.
pub fn of(spec: &Webhook) -> Scheme {
    let mut scheme = match spec.scheme {
        WebhookScheme::StandardWebhooks => Scheme::standard_webhooks(),
        WebhookScheme::Stripe => Scheme::stripe(),
        WebhookScheme::GitHub => Scheme::github(),
        WebhookScheme::Slack => Scheme::slack(),
        WebhookScheme::Shopify => Scheme::shopify(),
        WebhookScheme::Custom => custom(spec),
    };
    if let Some(id) = spec.idempotency_key.as_ref().and_then(place) {
        scheme.id = Some(id);
    }
    if let Some(event_type) = spec.event_type.as_ref().and_then(place) {
        scheme.event_type = Some(event_type);
    }
    scheme
}

fn custom(spec: &Webhook) -> Scheme {
    let mut scheme = Scheme::custom(spec.header.as_deref().unwrap_or_default());
    scheme.prefix = spec.prefix.clone().unwrap_or_default();
    scheme.algorithm = match spec.algorithm {
        SignatureAlgorithm::HmacSha256 => Algorithm::HmacSha256,
        SignatureAlgorithm::HmacSha512 => Algorithm::HmacSha512,
        SignatureAlgorithm::HmacSha1 => Algorithm::HmacSha1,
    };
    scheme.encoding = match spec.encoding {
        SignatureEncoding::Hex => Encoding::Hex,
        SignatureEncoding::Base64 => Encoding::Base64,
    };
    scheme.stamp = spec.timestamp.as_ref().and_then(stamp);
    if let Some(parts) = &spec.signed_text {
        scheme.signed = parts.iter().filter_map(part).collect();
    }
    scheme
}

fn place(place: &WebhookPlace) -> Option<Place> {
    let header = place.header.clone().map(Place::Header);
    header.or_else(|| place.json_pointer.clone().map(Place::Pointer))
}

fn stamp(stamp: &WebhookTimestamp) -> Option<Stamp> {
    let header = stamp.header.clone().map(StampPlace::Header);
    let place = header.or_else(|| stamp.parameter.clone().map(StampPlace::Parameter));
    Some(Stamp {
        place: place?,
        unit: match stamp.unit {
            TimestampUnit::Seconds => Unit::Seconds,
            TimestampUnit::Milliseconds => Unit::Milliseconds,
        },
        tolerance: stamp.tolerance.get(),
    })
}

fn part(part: &SignedPart) -> Option<Part> {
    let kind = part.part.map(|kind| match kind {
        SignedPartKind::Body => Part::Body,
        SignedPartKind::Timestamp => Part::Timestamp,
        SignedPartKind::Id => Part::Id,
        SignedPartKind::Path => Part::Path,
        SignedPartKind::Method => Part::Method,
    });
    kind.or_else(|| part.text.clone().map(Part::Text))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;

    fn scheme(more: Value) -> Scheme {
        let mut spec =
            json!({"name": "own", "path": "/h", "secretRef": {"name": "own", "key": "k"}});
        let fields = more.as_object().unwrap().clone();
        spec.as_object_mut().unwrap().extend(fields);
        of(&serde_json::from_value(spec).unwrap())
    }

    #[test]
    fn a_sender_without_a_name_signs_as_its_fields_say() {
        let plain = scheme(json!({"header": "X-Signature"}));
        assert_eq!(plain, Scheme::custom("X-Signature"));
        let whole = scheme(json!({
            "header": "X-Sig", "prefix": "v1=", "algorithm": "HmacSha512", "encoding": "Base64",
            "timestamp": {"parameter": "t", "unit": "Milliseconds", "tolerance": "1m"},
            "signedText": [{"part": "Timestamp"}, {"text": "."}, {"part": "Id"}, {"part": "Body"}],
            "idempotencyKey": {"jsonPointer": "/id"}, "eventType": {"header": "X-Type"},
        }));
        assert_eq!(whole.prefix, "v1=");
        assert_eq!(whole.algorithm, Algorithm::HmacSha512);
        assert_eq!(whole.encoding, Encoding::Base64);
        let stamp = whole.stamp.unwrap();
        assert_eq!(stamp.place, StampPlace::Parameter("t".to_owned()));
        assert_eq!(stamp.unit, Unit::Milliseconds);
        assert_eq!(stamp.tolerance, Duration::from_secs(60));
        let dot = Part::Text(".".to_owned());
        assert_eq!(whole.signed, [Part::Timestamp, dot, Part::Id, Part::Body]);
        assert_eq!(whole.id, Some(Place::Pointer("/id".to_owned())));
        assert_eq!(whole.event_type, Some(Place::Header("X-Type".to_owned())));
    }

    #[test]
    fn a_sender_with_a_name_signs_as_it_does_and_the_place_of_the_id_may_be_another() {
        assert_eq!(scheme(json!({"scheme": "GitHub"})), Scheme::github());
        assert_eq!(scheme(json!({"scheme": "Slack"})), Scheme::slack());
        let own = scheme(json!({
            "scheme": "Stripe", "idempotencyKey": {"jsonPointer": "/data/object/id"},
        }));
        assert_eq!(own.id, Some(Place::Pointer("/data/object/id".to_owned())));
        assert_eq!(own.header, Scheme::stripe().header);
    }
}
