//! What a sender signs, and where it writes id, time and signature. One [`Scheme`] for each sender, and
//! any other one as data.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::{
    bodies,
    sign::{Algorithm, Encoding, mac, write},
};

/// A part of the signed text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The body, byte for byte.
    Body,
    /// The time, as it is sent.
    Timestamp,
    /// The sender's event id.
    Id,
    /// The path with its query.
    Path,
    /// The method, in capital letters.
    Method,
    /// Literal text.
    Text(String),
}

/// A place in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A header.
    Header(String),
    /// A JSON pointer (RFC 6901) into the body.
    Pointer(String),
}

/// The unit of a time that is counted from 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
}

/// Where the time of sending stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StampPlace {
    /// A header of its own.
    Header(String),
    /// A parameter of the signature's header, before the signature: `t=TIME,`.
    Parameter(String),
}

/// When a request says it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Where.
    pub place: StampPlace,
    /// In which unit.
    pub unit: Unit,
    /// The age from which a receiver must refuse it.
    pub tolerance: Duration,
}

/// How the key is made of the secret that the sender shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyForm {
    /// The bytes of the text.
    Text,
    /// The text has `whsec_` before the key in Base64.
    Whsec,
}

/// How a sender signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheme {
    /// The header with the signature.
    pub header: String,
    /// Text before the signature.
    pub prefix: String,
    /// The algorithm.
    pub algorithm: Algorithm,
    /// How the signature is written.
    pub encoding: Encoding,
    /// How the key is made of the secret.
    pub key: KeyForm,
    /// The signed text, part by part.
    pub signed: Vec<Part>,
    /// When it was sent. None: the sender signs no time.
    pub stamp: Option<Stamp>,
    /// Where the id of the event stands.
    pub id: Option<Place>,
    /// Where the type of the event stands.
    pub event_type: Option<Place>,
    /// Headers that the sender also sends, with their values; `None` stands for the id of the event.
    pub also: Vec<(String, Option<String>)>,
    /// A body as the sender sends it.
    pub sample: &'static str,
    /// Statuses beside 401 and 403 that the sender's own sample code answers to a wrong signature.
    pub refusals: &'static [u16],
    /// How long the sender waits for an answer.
    pub patience: Duration,
}

/// The tolerance that most senders' libraries use.
const FIVE_MINUTES: Duration = Duration::from_secs(300);

/// How long a sender that publishes no figure is taken to wait.
pub const USUAL_PATIENCE: Duration = Duration::from_secs(10);

/// Why a secret is not a key of the scheme. It has no part of the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not Base64 behind `whsec_`.
    #[error("the secret is not `whsec_` and a key in Base64")]
    NotWhsec,
}

/// One delivery, as far as its signature depends on it.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// The method, in capital letters.
    pub method: &'a str,
    /// Path with query.
    pub path: &'a str,
    /// The id of the event.
    pub id: &'a str,
    /// When it is sent, in milliseconds since 1970.
    pub millis: i64,
    /// The body.
    pub body: &'a [u8],
}

impl Scheme {
    fn named(header: &str, prefix: &str, encoding: Encoding, signed: Vec<Part>) -> Self {
        Self {
            header: header.to_owned(),
            prefix: prefix.to_owned(),
            algorithm: Algorithm::HmacSha256,
            encoding,
            key: KeyForm::Text,
            signed,
            stamp: None,
            id: None,
            event_type: None,
            also: Vec::new(),
            sample: "{}",
            refusals: &[],
            patience: USUAL_PATIENCE,
        }
    }

    /// A scheme of a sender without a name here: HMAC-SHA256 in hexadecimal digits over the body, in this
    /// header. Change what differs.
    pub fn custom(header: &str) -> Self {
        Self::named(header, "", Encoding::Hex, vec![Part::Body])
    }

    /// Meta's Graph API and WhatsApp: HMAC-SHA256 of the bytes of the body with the app secret. No time
    /// is signed.
    ///
    /// Source: developers.facebook.com, "Graph API webhooks, getting started", section "Validating
    /// payloads", as of 2026-08.
    pub fn meta() -> Self {
        Self::named(
            "X-Hub-Signature-256",
            "sha256=",
            Encoding::Hex,
            vec![Part::Body],
        )
    }

    /// Standard Webhooks: `ID.TIMESTAMP.BODY`, the key in Base64 behind `whsec_`. The specification asks
    /// for "some allowable tolerance"; its libraries use five minutes. Senders should wait 15 to 30 s.
    ///
    /// Source: github.com/standard-webhooks/standard-webhooks, `spec/standard-webhooks.md`, 1.0.0.
    pub fn standard_webhooks() -> Self {
        Self {
            key: KeyForm::Whsec,
            stamp: Some(Stamp {
                place: StampPlace::Header("webhook-timestamp".to_owned()),
                unit: Unit::Seconds,
                tolerance: FIVE_MINUTES,
            }),
            id: Some(Place::Header("webhook-id".to_owned())),
            event_type: Some(Place::Pointer("/type".to_owned())),
            sample: bodies::STANDARD_WEBHOOKS,
            refusals: &[400],
            patience: Duration::from_secs(15),
            ..Self::named(
                "webhook-signature",
                "v1,",
                Encoding::Base64,
                vec![Part::Id, dot(), Part::Timestamp, dot(), Part::Body],
            )
        }
    }

    /// Stripe: `TIMESTAMP.BODY` with the endpoint's secret, `whsec_` included; the header is
    /// `t=TIMESTAMP,v1=HEX`. Stripe's libraries tolerate five minutes, and its samples answer 400.
    /// Stripe publishes no time limit.
    ///
    /// Source: docs.stripe.com/webhooks, section "Verify webhook signatures manually", as of 2026-08.
    pub fn stripe() -> Self {
        Self {
            stamp: Some(Stamp {
                place: StampPlace::Parameter("t".to_owned()),
                unit: Unit::Seconds,
                tolerance: FIVE_MINUTES,
            }),
            id: Some(Place::Pointer("/id".to_owned())),
            event_type: Some(Place::Pointer("/type".to_owned())),
            sample: bodies::STRIPE,
            refusals: &[400],
            ..Self::named(
                "Stripe-Signature",
                "v1=",
                Encoding::Hex,
                vec![Part::Timestamp, dot(), Part::Body],
            )
        }
    }

    /// GitHub: the body. No time is signed. GitHub waits 10 s.
    ///
    /// Source: docs.github.com, "Validating webhook deliveries" and "Best practices for using webhooks",
    /// as of 2026-08.
    pub fn github() -> Self {
        Self {
            id: Some(Place::Header("X-GitHub-Delivery".to_owned())),
            event_type: Some(Place::Header("X-GitHub-Event".to_owned())),
            also: vec![("X-GitHub-Event".to_owned(), Some("ping".to_owned()))],
            sample: bodies::GITHUB,
            patience: Duration::from_secs(10),
            ..Self::named(
                "X-Hub-Signature-256",
                "sha256=",
                Encoding::Hex,
                vec![Part::Body],
            )
        }
    }

    /// Slack: `v0:TIMESTAMP:BODY`. Requests older than five minutes are to be ignored. Slack waits 3 s.
    ///
    /// Source: api.slack.com, "Verifying requests from Slack" and "Events API", as of 2026-08.
    pub fn slack() -> Self {
        Self {
            stamp: Some(Stamp {
                place: StampPlace::Header("X-Slack-Request-Timestamp".to_owned()),
                unit: Unit::Seconds,
                tolerance: FIVE_MINUTES,
            }),
            id: Some(Place::Pointer("/event_id".to_owned())),
            event_type: Some(Place::Pointer("/event/type".to_owned())),
            sample: bodies::SLACK,
            patience: Duration::from_secs(3),
            ..Self::named(
                "X-Slack-Signature",
                "v0=",
                Encoding::Hex,
                vec![
                    Part::Text("v0:".to_owned()),
                    Part::Timestamp,
                    Part::Text(":".to_owned()),
                    Part::Body,
                ],
            )
        }
    }

    /// Shopify: the body, in Base64, with the app's client secret. No time is signed. Shopify waits 5 s.
    ///
    /// Source: shopify.dev, "HTTPS webhook delivery" and "Ignore duplicate webhooks", as of 2026-08.
    pub fn shopify() -> Self {
        let also = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
        Self {
            id: Some(Place::Header("X-Shopify-Webhook-Id".to_owned())),
            event_type: Some(Place::Header("X-Shopify-Topic".to_owned())),
            also: vec![
                also("X-Shopify-Event-Id", None),
                also("X-Shopify-Topic", Some("orders/create")),
                also("X-Shopify-Shop-Domain", Some("golive-probe.myshopify.com")),
                also("X-Shopify-API-Version", Some("2026-07")),
            ],
            sample: bodies::SHOPIFY,
            patience: Duration::from_secs(5),
            ..Self::named(
                "X-Shopify-Hmac-Sha256",
                "",
                Encoding::Base64,
                vec![Part::Body],
            )
        }
    }

    /// Whether the signature depends on the body.
    pub fn covers_body(&self) -> bool {
        self.signed.contains(&Part::Body)
    }

    /// Whether the signature depends on the time of sending.
    pub fn covers_time(&self) -> bool {
        self.stamp.is_some() && self.signed.contains(&Part::Timestamp)
    }

    /// The key of a secret.
    ///
    /// # Errors
    /// When the secret is not in the form that the scheme has.
    pub fn key(&self, secret: &str) -> Result<Vec<u8>, KeyError> {
        match self.key {
            KeyForm::Text => Ok(secret.as_bytes().to_vec()),
            KeyForm::Whsec => {
                let key = secret.trim();
                let key = key.strip_prefix("whsec_").unwrap_or(key);
                let key = BASE64.decode(key).map_err(|_| KeyError::NotWhsec)?;
                if key.is_empty() {
                    return Err(KeyError::NotWhsec);
                }
                Ok(key)
            }
        }
    }

    /// The time of a delivery as it is sent; empty if the scheme has none.
    fn time(&self, delivery: &Delivery<'_>) -> String {
        let Some(stamp) = &self.stamp else {
            return String::new();
        };
        match stamp.unit {
            Unit::Seconds => delivery.millis.div_euclid(1000).to_string(),
            Unit::Milliseconds => delivery.millis.to_string(),
        }
    }

    /// The code of a delivery, with this key.
    pub fn code(&self, key: &[u8], delivery: &Delivery<'_>) -> Vec<u8> {
        let time = self.time(delivery);
        let parts = self.signed.iter().map(|part| match part {
            Part::Body => delivery.body,
            Part::Timestamp => time.as_bytes(),
            Part::Id => delivery.id.as_bytes(),
            Part::Path => delivery.path.as_bytes(),
            Part::Method => delivery.method.as_bytes(),
            Part::Text(text) => text.as_bytes(),
        });
        let parts: Vec<&[u8]> = parts.collect();
        mac(self.algorithm, key, &parts)
    }

    /// The headers of a delivery, with this code as the signature. Without one, the header of the
    /// signature is left out, and a time that stands in it too.
    pub fn headers(&self, delivery: &Delivery<'_>, code: Option<&[u8]>) -> Vec<(String, String)> {
        let code = code.map(|code| format!("{}{}", self.prefix, write(self.encoding, code)));
        self.headers_with(delivery, code.as_deref())
    }

    /// The headers of a delivery, with this text in the place of prefix and signature.
    pub fn headers_with(
        &self,
        delivery: &Delivery<'_>,
        signature: Option<&str>,
    ) -> Vec<(String, String)> {
        let mut headers: Vec<(String, String)> = Vec::new();
        if let Some(Place::Header(name)) = &self.id {
            headers.push((name.clone(), delivery.id.to_owned()));
        }
        for (name, value) in &self.also {
            let value = value.as_deref().unwrap_or(delivery.id);
            headers.push((name.clone(), value.to_owned()));
        }
        let mut before = String::new();
        match self.stamp.as_ref().map(|stamp| &stamp.place) {
            Some(StampPlace::Header(name)) => headers.push((name.clone(), self.time(delivery))),
            Some(StampPlace::Parameter(name)) => {
                before = format!("{name}={},", self.time(delivery));
            }
            None => {}
        }
        if let Some(signature) = signature {
            let value = format!("{before}{signature}");
            headers.push((self.header.clone(), value));
        }
        headers
    }

    /// A text that stands where the signature does, and is none in any encoding.
    pub fn malformed(&self) -> String {
        format!("{}%golive-probe%", self.prefix)
    }

    /// This code as a signature of a version that no sender has; none if the scheme names no version.
    pub fn other_version(&self, code: &[u8]) -> Option<String> {
        let sign = self.prefix.chars().last()?;
        Some(format!("v9{sign}{}", write(self.encoding, code)))
    }
}

impl Scheme {
    /// The header of the signature with the time alone, if it carries the time.
    pub fn time_only(&self, delivery: &Delivery<'_>) -> Option<(String, String)> {
        match &self.stamp.as_ref()?.place {
            StampPlace::Parameter(name) => {
                let value = format!("{name}={}", self.time(delivery));
                Some((self.header.clone(), value))
            }
            StampPlace::Header(_) => None,
        }
    }
}

fn dot() -> Part {
    Part::Text(".".to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn signed(scheme: &Scheme, secret: &str, delivery: &Delivery<'_>) -> Vec<(String, String)> {
        let key = scheme.key(secret).unwrap();
        let code = scheme.code(&key, delivery);
        scheme.headers(delivery, Some(&code))
    }

    fn value<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
        let found = headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    fn delivery<'a>(id: &'a str, seconds: i64, body: &'a str) -> Delivery<'a> {
        Delivery {
            method: "POST",
            path: "/hooks",
            id,
            millis: seconds * 1000 + 123,
            body: body.as_bytes(),
        }
    }

    /// The example of GitHub's page "Validating webhook deliveries", section "Testing the webhook
    /// payload validation"; Python 3.11 (`hmac.new(…, "sha256").hexdigest()`) computes the same.
    #[test]
    fn github_signs_the_body() {
        let headers = signed(
            &Scheme::github(),
            "It's a Secret to Everybody",
            &delivery("golive-probe-1", 0, "Hello, World!"),
        );
        assert_eq!(
            value(&headers, "X-Hub-Signature-256"),
            Some("sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17")
        );
        assert_eq!(value(&headers, "X-GitHub-Delivery"), Some("golive-probe-1"));
        assert_eq!(value(&headers, "X-GitHub-Event"), Some("ping"));
    }

    /// The example of the libraries of Standard Webhooks and Svix (`webhook_test`); Python 3.11 computes
    /// the same over `ID.TIMESTAMP.BODY` with the decoded key.
    #[test]
    fn standard_webhooks_signs_id_time_and_body() {
        let scheme = Scheme::standard_webhooks();
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let delivery = delivery(id, 1_614_265_330, "{\"test\": 2432232314}");
        let key = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        for secret in [
            format!("whsec_{key}"),
            key.to_owned(),
            format!("whsec_{key}\n"),
        ] {
            let headers = signed(&scheme, &secret, &delivery);
            assert_eq!(
                value(&headers, "webhook-signature"),
                Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
            );
            assert_eq!(value(&headers, "webhook-timestamp"), Some("1614265330"));
            assert_eq!(value(&headers, "webhook-id"), Some(id));
        }
        for wrong in ["whsec_", "", "whsec_not base64", "whsec_a"] {
            assert_eq!(scheme.key(wrong), Err(KeyError::NotWhsec), "{wrong}");
        }
    }

    /// The example of Slack's page "Verifying requests from Slack"; Python 3.11 computes the same.
    #[test]
    fn slack_signs_version_time_and_body() {
        let body = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
        let headers = signed(
            &Scheme::slack(),
            "8f742231b10e8888abcd99yyyzzz85a5",
            &delivery("", 1_531_420_618, body),
        );
        assert_eq!(
            value(&headers, "X-Slack-Signature"),
            Some("v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503")
        );
        assert_eq!(
            value(&headers, "X-Slack-Request-Timestamp"),
            Some("1531420618")
        );
    }

    /// Computed with Python 3.11: `hmac.new(b"whsec_test_secret", b"1492774577." + body,
    /// "sha256").hexdigest()`. The key is the whole secret, unlike that of Standard Webhooks.
    #[test]
    fn stripe_signs_time_and_body() {
        let body = r#"{"id":"evt_1NG8Du2eZvKYlo2CUI79vXWy","object":"event"}"#;
        let headers = signed(
            &Scheme::stripe(),
            "whsec_test_secret",
            &delivery("", 1_492_774_577, body),
        );
        assert_eq!(
            value(&headers, "Stripe-Signature"),
            Some(
                "t=1492774577,v1=1b6761630814748a32eb7d0bd3afbc14fe6479f458471ea39ddbdc88e2cda03c"
            )
        );
    }

    /// Computed with Python 3.11: `base64.b64encode(hmac.new(b"hush", body, "sha256").digest())`.
    #[test]
    fn shopify_signs_the_body_in_base64() {
        let headers = signed(
            &Scheme::shopify(),
            "hush",
            &delivery("golive-probe-1", 0, r#"{"id":820982911946154508}"#),
        );
        assert_eq!(
            value(&headers, "X-Shopify-Hmac-Sha256"),
            Some("qBvrsZF7RfB1iS6BX6IHqJTp5L911P7intnPeTPsH0I=")
        );
        for name in ["X-Shopify-Webhook-Id", "X-Shopify-Event-Id"] {
            assert_eq!(value(&headers, name), Some("golive-probe-1"), "{name}");
        }
    }

    /// Computed with Python 3.11 (`hmac` and `base64`), for each algorithm and encoding, over
    /// `POST\n/hooks/acme\ngolive-probe-1\n1700000000123\n{"a":1}`.
    #[test]
    fn any_other_sender_is_put_together_of_its_parts() {
        let line = || Part::Text("\n".to_owned());
        let scheme = Scheme {
            prefix: "sig=".to_owned(),
            signed: vec![
                Part::Method,
                line(),
                Part::Path,
                line(),
                Part::Id,
                line(),
                Part::Timestamp,
                line(),
                Part::Body,
            ],
            stamp: Some(Stamp {
                place: StampPlace::Parameter("at".to_owned()),
                unit: Unit::Milliseconds,
                tolerance: FIVE_MINUTES,
            }),
            id: Some(Place::Header("X-Event".to_owned())),
            ..Scheme::custom("X-Acme")
        };
        let delivery = Delivery {
            path: "/hooks/acme",
            ..delivery("golive-probe-1", 1_700_000_000, "{\"a\":1}")
        };
        for (algorithm, encoding, written) in [
            (
                Algorithm::HmacSha1,
                Encoding::Hex,
                "15fb4845b26e62ee0c7dcfa1a467983113f8a279",
            ),
            (
                Algorithm::HmacSha256,
                Encoding::Base64,
                "BmKTbq2gFn0dsdWzd6tsc9fmKs4Bj5i5V1Jp/Zs642k=",
            ),
            (
                Algorithm::HmacSha512,
                Encoding::Base64,
                "eYGGNjTWnAjt6zUwEoFsN9kW3E1GVY32rCf9k3ww7sWlA820MFuz+1wWbYkXVbOPyWuE85/MAQMqb92JlF9gQA==",
            ),
        ] {
            let scheme = Scheme {
                algorithm,
                encoding,
                ..scheme.clone()
            };
            let headers = signed(&scheme, "custom-secret", &delivery);
            let expected = format!("at=1700000000123,sig={written}");
            assert_eq!(value(&headers, "X-Acme"), Some(expected.as_str()));
            assert_eq!(value(&headers, "X-Event"), Some("golive-probe-1"));
        }
    }

    /// Computed with Python 3.11: `hmac.new(b"test-app-secret", body, "sha256").hexdigest()`; of the same
    /// body written again in UTF-8 it is `d69b468c40710fb2eb7992c78fced4c57f21d7ab50ca2ee2fccea0a128c0b888`.
    #[test]
    fn meta_signs_the_escaped_body() {
        let body = r#"{"object":"whatsapp_business_account","entry":[{"id":"102290129340398","changes":[{"value":{"messaging_product":"whatsapp","metadata":{"display_phone_number":"15550783881","phone_number_id":"106540352242922"},"contacts":[{"profile":{"name":"Caba\u00f1as"},"wa_id":"16505551234"}],"messages":[{"from":"16505551234","id":"wamid.PROBE0001","timestamp":"1749416383","type":"text","text":{"body":"\u00bfHay caba\u00f1a libre?"}}]},"field":"messages"}]}]}"#;
        assert_eq!(body.len(), 449);
        let sign = |body: &str| {
            let headers = signed(&Scheme::meta(), "test-app-secret", &delivery("", 0, body));
            value(&headers, "X-Hub-Signature-256").unwrap().to_owned()
        };
        assert_eq!(
            sign(body),
            "sha256=6ea9383d67c31ef26e5e271aa668a43008a610d31b4af137e0d3b2d70bfdbb48"
        );
        let written_again = body.replace("\\u00f1", "ñ").replace("\\u00bf", "¿");
        assert_eq!(
            sign(&written_again),
            "sha256=d69b468c40710fb2eb7992c78fced4c57f21d7ab50ca2ee2fccea0a128c0b888"
        );
    }

    #[test]
    fn without_a_signature_there_is_no_header_for_it() {
        for scheme in [
            Scheme::meta(),
            Scheme::standard_webhooks(),
            Scheme::stripe(),
            Scheme::github(),
            Scheme::slack(),
            Scheme::shopify(),
        ] {
            let headers = scheme.headers(&delivery("golive-probe-1", 1, "{}"), None);
            assert_eq!(value(&headers, &scheme.header), None);
            let empty = scheme.headers(&delivery("golive-probe-1", 1, "{}"), Some(&[]));
            let empty = value(&empty, &scheme.header).unwrap();
            assert!(empty.ends_with(&scheme.prefix), "{empty}");
            let time = scheme.time_only(&delivery("golive-probe-1", 1, "{}"));
            let stripe = ("Stripe-Signature".to_owned(), "t=1".to_owned());
            assert_eq!(time, (scheme.header == stripe.0).then_some(stripe));
        }
    }
}
