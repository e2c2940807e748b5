//! Webhooks are sent as the vendors send them, until they are taken.

use http::Method;
use vendors::mercado_pago::sender::{Casing, Notification, Unit, send as notify};
use vendors::meta::payload::Event;
use vendors::meta::sender::{HandshakeError, register, send};
use vendors::sign;
use vendors::{Options, Vendors};

use crate::receiver::Receiver;

async fn vendors() -> Vendors {
    let options = Options {
        // Pauses of milliseconds.
        scale: 1e-7,
        ..Options::default()
    };
    Vendors::start(options).await.unwrap()
}

#[tokio::test]
async fn meta_repeats_the_same_bytes_until_the_answer_is_200_and_201_is_not() {
    let vendors = vendors().await;
    let app = Receiver::start(&[503, 201, 200]).await;
    let event = Event::Text("¿Hay cabaña?".to_owned());
    let url = app.url().parse().unwrap();

    assert!(send(vendors.state(), url, "wamid.1", &event, 1).await);

    let got = app.got();
    assert_eq!(got.len(), 3);
    assert!(got.iter().all(|one| one.body == got[0].body));
    assert!(got[0].body.is_ascii());
    let body = std::str::from_utf8(&got[0].body).unwrap();
    assert!(body.contains(r"\u00bfHay caba\u00f1a?"), "{body}");
    let secret = vendors.state().world().meta.app_secret.clone();
    let signature = got[0].header("x-hub-signature-256");
    assert_eq!(signature, sign::hub_256(&secret, &got[0].body));
    assert!(got[0].header("x-hub-signature").starts_with("sha1="));
    let tries = vendors.state().world().tries.clone();
    let statuses: Vec<_> = tries.iter().map(|one| (one.number, one.status)).collect();
    assert_eq!(statuses, [(1, Some(503)), (2, Some(201)), (3, Some(200))]);
}

#[tokio::test]
async fn copies_are_delivered_side_by_side() {
    let vendors = vendors().await;
    let app = Receiver::start(&[200]).await;
    let url = app.url().parse().unwrap();
    assert!(send(vendors.state(), url, "wamid.1", &Event::Voice, 3).await);
    assert_eq!(app.got().len(), 3);
}

#[tokio::test]
async fn a_callback_is_saved_only_after_its_handshake() {
    let vendors = vendors().await;
    let refusing = Receiver::start(&[403]).await;
    let refused = register(vendors.state(), &refusing.url(), "t k").await;
    assert_eq!(refused, Err(HandshakeError::Answer(403)));
    assert_eq!(vendors.state().world().meta.callback, None);

    let app = Receiver::start(&[200]).await;
    register(vendors.state(), &app.url(), "t k").await.unwrap();
    assert_eq!(vendors.state().world().meta.callback, Some(app.url()));
    let query = app.got()[0].uri.query().unwrap().to_owned();
    assert_eq!(app.got()[0].method, Method::GET);
    assert!(
        query.starts_with("hub.mode=subscribe&hub.challenge="),
        "{query}"
    );
    assert!(query.ends_with("&hub.verify_token=t%20k"), "{query}");
}

#[tokio::test]
async fn mercado_pago_signs_the_query_and_takes_201_for_an_answer() {
    let vendors = vendors().await;
    let app = Receiver::start(&[500, 201]).await;
    let told = Notification {
        id: "ORD01JQ".to_owned(),
        casing: Casing::Lower,
        unit: Unit::Seconds,
        ..Notification::of_payment(7, 0)
    };

    assert!(notify(vendors.state(), &app.url(), &told, 1).await);

    let got = app.got();
    assert_eq!(got.len(), 2);
    assert_eq!(got[1].uri.query(), Some("data.id=ORD01JQ&type=payment"));
    let signature = got[1].header("x-signature");
    let ts = signature.split([',', '=']).nth(1).unwrap();
    assert_eq!(ts.len(), 10);
    let secret = vendors.state().world().mercado_pago.secret.clone();
    let request = got[1].header("x-request-id");
    let wanted = sign::mercado_pago(&secret, Some("ord01jq"), Some(request), ts);
    assert_eq!(signature, wanted);
    let bare = Notification {
        request_id: false,
        ..Notification::of_payment(8, 9)
    };
    assert!(notify(vendors.state(), &app.url(), &bare, 1).await);
    assert!(!app.got()[2].headers.contains_key("x-request-id"));
}

#[tokio::test]
async fn an_application_that_never_takes_it_is_given_up() {
    let vendors = vendors().await;
    let app = Receiver::start(&[500]).await;
    let told = Notification::of_payment(7, 1);
    assert!(!notify(vendors.state(), &app.url(), &told, 1).await);
    assert_eq!(app.got().len(), 12);
}
