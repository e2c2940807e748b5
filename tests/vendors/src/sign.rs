//! Signatures, as the vendors document them.

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

fn hmac_sha256(secret: &str, message: &[u8]) -> String {
    match Hmac::<Sha256>::new_from_slice(secret.as_bytes()) {
        Ok(mut mac) => {
            mac.update(message);
            HEXLOWER.encode(&mac.finalize().into_bytes())
        }
        // HMAC takes keys of every length.
        Err(_) => String::new(),
    }
}

/// `X-Hub-Signature-256`: over the bytes of the body as they are sent, with the app secret.
///
/// Source: developers.facebook.com, Graph API, "Webhooks, getting started", "Validating payloads".
pub fn hub_256(app_secret: &str, body: &[u8]) -> String {
    format!("sha256={}", hmac_sha256(app_secret, body))
}

/// `appsecret_proof`: of an access token, with the app secret.
///
/// Source: developers.facebook.com, Graph API, "Secure Graph API Calls".
pub fn app_secret_proof(app_secret: &str, token: &str) -> String {
    hmac_sha256(app_secret, token.as_bytes())
}

/// `X-Hub-Signature`: the older one, which Meta still sends beside the other.
pub fn hub(app_secret: &str, body: &[u8]) -> String {
    let algorithm = ring::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY;
    let key = ring::hmac::Key::new(algorithm, app_secret.as_bytes());
    let tag = ring::hmac::sign(&key, body);
    format!("sha1={}", HEXLOWER.encode(tag.as_ref()))
}

/// `x-signature` of Mercado Pago: over the id in the query, the id of the request and the time, each left
/// out with its key when it is not sent.
///
/// Source: mercadopago/devsite-docs, guides/additional-content/your-integrations/webhooks.en.md.
pub fn mercado_pago(secret: &str, id: Option<&str>, request: Option<&str>, ts: &str) -> String {
    let mut manifest = String::new();
    if let Some(id) = id {
        manifest.push_str(&format!("id:{id};"));
    }
    if let Some(request) = request {
        manifest.push_str(&format!("request-id:{request};"));
    }
    manifest.push_str(&format!("ts:{ts};"));
    format!("ts={ts},v1={}", hmac_sha256(secret, manifest.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with Python's `hmac`.
    #[test]
    fn signatures_agree_with_an_independent_implementation() {
        assert_eq!(
            app_secret_proof("test-app-secret", "EAAG-token"),
            "f2df36be690d346817328c745b60bc22f552538a7864e4412aea934140749183"
        );
        assert_eq!(
            hub_256("test-app-secret", br#"{"a":"\u00f1"}"#),
            "sha256=9f6a9c2a5a45f2ddce8408ddff5f0787f5b0bcda966319f7c4fb99dab6ee8ec1"
        );
        assert_eq!(
            hub("test-app-secret", br#"{"a":"\u00f1"}"#),
            "sha1=e0e9643c660a25ab708c2ab57eda0ec375c4861b"
        );
        let request = "4ed4fa2b-0b31-42ec-a62f-ad793c486c59";
        let (secret, ts) = ("test-secret", "1742505638683");
        assert_eq!(
            mercado_pago(secret, Some("123456"), Some(request), ts),
            "ts=1742505638683,v1=0fc638d0e0215b360e7f1ce8d114a8182afb870bbf776b910eca266d741a0fdd"
        );
        assert_eq!(
            mercado_pago(secret, None, Some(request), ts),
            "ts=1742505638683,v1=9adab8b2193cf32770db7dc7a9ec2f3009f0ad4d865145338c583c0b8609a892"
        );
    }
}
