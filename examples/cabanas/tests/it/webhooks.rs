//! Webhooks: the handshake, signatures, and one effect for each event.

use cabanas::webhooks::sign;
use http::StatusCode;

use crate::http::{get, metric, post};
use crate::world::World;

const WHATSAPP: &str = "/api/v1/webhooks/whatsapp";
const MERCADOPAGO: &str = "/api/v1/webhooks/mercadopago";

fn message(id: &str, kind: &str) -> String {
    format!(
        r#"{{"object":"whatsapp_business_account","entry":[{{"id":"1","changes":[{{"field":"messages","value":{{"messages":[{{"from":"549","id":"{id}","timestamp":"1749416383","type":"{kind}","text":{{"body":"\u00bfHay caba\u00f1a?"}}}}]}}}}]}}]}}"#
    )
}

fn whatsapp_signature(body: &str) -> String {
    format!(
        "sha256={}",
        sign(&"test-app-secret".into(), body.as_bytes())
    )
}

#[tokio::test]
async fn the_handshake_returns_the_challenge_to_the_right_token_only() {
    let world = World::migrated().await;
    let service = world.serve(&[]).await;
    let path = |token: &str| {
        format!("{WHATSAPP}?hub.mode=subscribe&hub.challenge=115820&hub.verify_token={token}")
    };

    let right = get(service.address(), &path("verify-canary")).await;
    let wrong = get(service.address(), &path("guess")).await;

    assert_eq!(
        (right.status, right.body.as_str()),
        (StatusCode::OK, "115820")
    );
    assert_eq!(wrong.status, StatusCode::FORBIDDEN);
    assert!(!wrong.body.contains("115820"));
}

#[tokio::test]
async fn a_message_has_one_effect_however_often_it_is_delivered() {
    let world = World::migrated().await;
    let service = world.serve(&[]).await;
    let to = service.address();
    let body = message("wamid.1", "text");
    let signature = whatsapp_signature(&body);

    for _ in 0..3 {
        let headers = [("x-hub-signature-256", signature.as_str())];
        assert_eq!(
            post(to, WHATSAPP, &headers, body.clone()).await.status,
            StatusCode::OK
        );
    }

    let count = world
        .scalar("select count(*)::text from webhook_event")
        .await;
    assert_eq!(count.as_deref(), Some("1"));
    let series =
        |outcome| format!(r#"webhook_events_total{{provider="whatsapp",outcome="{outcome}"}}"#);
    assert_eq!(metric(to, &series("processed")).await, 1.0);
    assert_eq!(metric(to, &series("duplicate")).await, 2.0);
}

#[tokio::test]
async fn a_message_without_its_own_signature_has_no_effect() {
    let world = World::migrated().await;
    let service = world.serve(&[]).await;
    let to = service.address();
    let body = message("wamid.1", "text");
    let foreign = whatsapp_signature("{}");

    let none = post(to, WHATSAPP, &[], body.clone()).await;
    let wrong = post(to, WHATSAPP, &[("x-hub-signature-256", &foreign)], body).await;

    assert_eq!(none.status, StatusCode::UNAUTHORIZED);
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    let count = world
        .scalar("select count(*)::text from webhook_event")
        .await;
    assert_eq!(count.as_deref(), Some("0"));
}

#[tokio::test]
async fn a_voice_message_is_measured_as_audio() {
    let world = World::migrated().await;
    let service = world.serve(&[]).await;
    let body = message("wamid.2", "audio");
    let signature = whatsapp_signature(&body);

    post(
        service.address(),
        WHATSAPP,
        &[("x-hub-signature-256", &signature)],
        body,
    )
    .await;

    let series =
        format!(r#"http_request_duration_seconds_count{{kind="audio",route="{WHATSAPP}"}}"#);
    assert_eq!(metric(service.address(), &series).await, 1.0);
}

#[tokio::test]
async fn a_payment_is_taken_once_by_the_id_in_the_query_and_never_unsigned() {
    let world = World::migrated().await;
    let service = world.serve(&[]).await;
    let to = service.address();
    let path = format!("{MERCADOPAGO}?data.id=123456&type=payment");
    let request = "4ed4fa2b-0b31-42ec-a62f-ad793c486c59";
    let signature =
        "ts=1742505638683,v1=0fc638d0e0215b360e7f1ce8d114a8182afb870bbf776b910eca266d741a0fdd";
    let headers = [("x-signature", signature), ("x-request-id", request)];
    // The id in the body is not the signed one, and does not matter.
    let body = r#"{"id":9,"type":"payment","action":"payment.created","data":{"id":"999"}}"#;

    for _ in 0..2 {
        assert_eq!(post(to, &path, &headers, body).await.status, StatusCode::OK);
    }
    let unsigned = post(to, &path, &[], body).await;
    let other = post(to, &path.replace("123456", "123457"), &headers, body).await;

    assert_eq!(unsigned.status, StatusCode::UNAUTHORIZED);
    assert_eq!(other.status, StatusCode::UNAUTHORIZED);
    let count = world
        .scalar("select count(*)::text from webhook_event")
        .await;
    assert_eq!(count.as_deref(), Some("1"));
}

#[tokio::test]
async fn a_webhook_without_its_secret_says_which_one_is_missing() {
    let world = World::migrated().await;
    let service = world.serve(&[("WHATSAPP_APP_SECRET", "")]).await;

    let answer = post(service.address(), WHATSAPP, &[], "{}").await;

    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        answer.body.contains("WHATSAPP_APP_SECRET"),
        "{}",
        answer.body
    );
}
