//! Mercado Pago: what is signed is a manifest of the id, the request id and the time, never the body.
//!
//! Source: mercadopago.com developers, "Webhooks", section "Validate the secret signature" (repository
//! mercadopago/devsite-docs), and the official libraries (mercadopago/sdk-go, `pkg/webhook`), as of
//! 2026-08.

use super::sign::{Algorithm, Encoding, mac, write};

/// The header with time and signature.
pub const SIGNATURE: &str = "x-signature";

/// The header with the id of the request.
pub const REQUEST_ID: &str = "x-request-id";

/// The signed text: the `data.id` of the query, the header `x-request-id` and the `ts` of the
/// signature's header. A value that is not sent is left out together with its key.
pub fn manifest(id: Option<&str>, request_id: Option<&str>, ts: &str) -> String {
    let part = |key: &str, value: Option<&str>| {
        value.map_or_else(String::new, |value| format!("{key}:{value};"))
    };
    [
        part("id", id),
        part("request-id", request_id),
        part("ts", Some(ts)),
    ]
    .concat()
}

/// The code of a manifest.
pub fn code(secret: &[u8], manifest: &str) -> Vec<u8> {
    mac(Algorithm::HmacSha256, secret, &[manifest.as_bytes()])
}

/// The value of the signature's header.
pub fn header(ts: &str, code: &[u8]) -> String {
    format!("ts={ts},v1={}", write(Encoding::Hex, code))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with Python 3.11: `hmac.new(b"test-secret", manifest.encode(), "sha256").hexdigest()`.
    #[test]
    fn the_manifest_and_its_code_agree_with_an_independent_implementation() {
        let request = "4ed4fa2b-0b31-42ec-a62f-ad793c486c59";
        let ts = "1742505638683";
        for (id, hex) in [
            (
                Some("123456"),
                "0fc638d0e0215b360e7f1ce8d114a8182afb870bbf776b910eca266d741a0fdd",
            ),
            (
                Some("ORD01JQ4S4KY8HWQ6NA5PXB65B3D3"),
                "dc00b2d4890058ba35039e241563359a00e0a69eac91a51b0637715c85fb313d",
            ),
            (
                Some("ord01jq4s4ky8hwq6na5pxb65b3d3"),
                "cc1a7b90c7a14ddf72f58a8ebbb5b946462bfd2adcc1d4b836cf424547e3e610",
            ),
            (
                None,
                "9adab8b2193cf32770db7dc7a9ec2f3009f0ad4d865145338c583c0b8609a892",
            ),
        ] {
            let manifest = manifest(id, Some(request), ts);
            let code = code(b"test-secret", &manifest);
            assert_eq!(write(Encoding::Hex, &code), hex, "{manifest}");
            assert_eq!(header(ts, &code), format!("ts={ts},v1={hex}"));
        }
    }

    /// Computed as above; the manifest without `x-request-id` is `id:123456;ts:1742505638;`.
    #[test]
    fn what_is_not_sent_is_left_out_with_its_key() {
        let manifest = manifest(Some("123456"), None, "1742505638");
        assert_eq!(manifest, "id:123456;ts:1742505638;");
        let hex = write(Encoding::Hex, &code(b"test-secret", &manifest));
        assert_eq!(
            hex,
            "d51a4af70fd186a0d339a3fb0fa677ebfcaf07a5c031b8fc24f810b74aa0aebc"
        );
    }
}
