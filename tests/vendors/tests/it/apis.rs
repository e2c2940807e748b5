//! The APIs of the vendors: what they answer, whom they believe, and what they have seen.

use http::{Method, StatusCode};
use serde_json::{Value, json};
use vendors::channels::{Channel, Health};
use vendors::client::{Client, Outgoing};
use vendors::meta::{Mode, Token};
use vendors::state::Bearer;
use vendors::{Options, Vendors};

struct World {
    vendors: Vendors,
    client: Client,
}

impl World {
    async fn start() -> Self {
        let vendors = Vendors::start(Options::default()).await.unwrap();
        let client = Client::new(vendors.ca_pem(), None).unwrap();
        Self { vendors, client }
    }

    async fn call(&self, method: Method, url: &str, token: &str, body: &str) -> (u16, String) {
        let mut headers = vec![("content-type", "application/json".to_owned())];
        if !token.is_empty() {
            headers.push(("authorization", format!("Bearer {token}")));
        }
        let out = Outgoing {
            method,
            url: url.parse().unwrap(),
            headers,
            body: body.to_owned().into(),
        };
        let limit = std::time::Duration::from_secs(10);
        let answer = self.client.send(&out, limit).await.unwrap();
        let text = String::from_utf8(answer.body.into()).unwrap();
        (answer.status.as_u16(), text)
    }

    async fn get(&self, url: &str, token: &str) -> (u16, Value) {
        let (status, text) = self.call(Method::GET, url, token, "").await;
        (status, serde_json::from_str(&text).unwrap())
    }

    fn graph(&self, path: &str) -> String {
        format!("{}/v25.0/{path}", self.vendors.graph_url())
    }

    fn payments(&self, path: &str) -> String {
        format!("{}{path}", self.vendors.mercado_pago_url())
    }

    fn meta_token(&self) -> String {
        self.vendors.state().world().meta.tokens[0].value.clone()
    }

    fn seller_token(&self) -> String {
        self.vendors.state().world().mercado_pago.tokens[0].clone()
    }
}

#[tokio::test]
async fn meta_says_which_apps_get_the_webhooks_of_an_account() {
    let world = World::start().await;
    let url = world.graph("102290129340398/subscribed_apps");
    let token = world.meta_token();
    let (status, body) = world.get(&url, &token).await;
    assert_eq!(status, 200);
    let app = &body["data"][0]["whatsapp_business_api_data"];
    assert_eq!(app["id"], "670843887433847");

    assert_eq!(world.call(Method::DELETE, &url, &token, "").await.0, 200);
    assert_eq!(world.get(&url, &token).await.1, json!({"data": []}));
    assert_eq!(world.call(Method::POST, &url, &token, "").await.0, 200);
    assert_eq!(
        world.get(&url, &token).await.1["data"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn meta_shows_the_fields_that_were_asked_for_and_knows_no_others() {
    let world = World::start().await;
    let token = world.meta_token();
    world.vendors.state().world().meta.mode = Mode::Sandbox;
    let url = world.graph("106540352242922?fields=account_mode,platform_type");
    let (_, body) = world.get(&url, &token).await;
    let wanted = json!({
        "account_mode": "SANDBOX", "platform_type": "CLOUD_API", "id": "106540352242922",
    });
    assert_eq!(body, wanted);
    world.vendors.state().world().meta.development = true;
    for node in ["106540352242922", "102290129340398"] {
        let url = world.graph(&format!("{node}?fields=health_status"));
        let (_, body) = world.get(&url, &token).await;
        let entities = body["health_status"]["entities"].as_array().unwrap();
        let app = entities.iter().find(|one| one["entity_type"] == "APP");
        assert_eq!(app.unwrap()["can_send_message"], "BLOCKED");
    }
    let (status, body) = world
        .get(&world.graph("106540352242922?fields=mode"), &token)
        .await;
    assert_eq!((status, &body["error"]["code"]), (400, &json!(100)));
    let (_, body) = world.get(&world.graph("106540352242922"), &token).await;
    assert!(body.get("account_mode").is_none());
}

#[tokio::test]
async fn meta_refuses_in_its_own_words() {
    let world = World::start().await;
    let weak = Token {
        value: "weak".to_owned(),
        permissions: vec![],
        expired: false,
    };
    let old = Token {
        value: "old".to_owned(),
        expired: true,
        ..weak.clone()
    };
    world
        .vendors
        .state()
        .world()
        .meta
        .tokens
        .extend([weak, old]);
    let url = world.graph("102290129340398/subscribed_apps");
    for (token, status, code) in [
        ("", 400, 104),
        ("x", 401, 190),
        ("old", 401, 190),
        ("weak", 403, 200),
    ] {
        let (got, body) = world.get(&url, token).await;
        assert_eq!(
            (got, &body["error"]["code"]),
            (status, &json!(code)),
            "{token}"
        );
        assert!(body["error"]["fbtrace_id"].is_string());
    }
    let token = world.meta_token();
    let (status, body) = world.get(&world.graph("1/subscribed_apps"), &token).await;
    assert_eq!((status, &body["error"]["error_subcode"]), (400, &json!(33)));
    world.vendors.state().world().meta.throttled = 1;
    assert_eq!(world.get(&url, &token).await.1["error"]["code"], 4);
    assert_eq!(world.get(&url, &token).await.0, 200);
}

#[tokio::test]
async fn mercado_pago_says_whose_token_it_is_and_shows_payments() {
    let world = World::start().await;
    let token = world.seller_token();
    let (status, me) = world.get(&world.payments("/users/me"), &token).await;
    assert_eq!((status, &me["site_id"]), (200, &json!("MLA")));
    let methods = world
        .get(&world.payments("/v1/payment_methods"), &token)
        .await
        .1;
    assert!(
        methods
            .as_array()
            .unwrap()
            .iter()
            .any(|one| one["id"] == "visa")
    );

    let paid = world
        .vendors
        .state()
        .world()
        .mercado_pago
        .pay("FUND", 100.0, "r-1");
    let id = paid.unwrap().id;
    let (_, payment) = world
        .get(&world.payments(&format!("/v1/payments/{id}")), &token)
        .await;
    assert_eq!(payment["status_detail"], "cc_rejected_insufficient_amount");
    let (status, missing) = world.get(&world.payments("/v1/payments/1"), &token).await;
    assert_eq!((status, &missing["cause"][0]["code"]), (404, &json!(2000)));
    for token in ["", "TEST-other"] {
        let (status, body) = world.get(&world.payments("/users/me"), token).await;
        assert_eq!((status, &body["status"]), (401, &json!(401)));
    }
}

#[tokio::test]
async fn ten_users_for_trying_can_be_made_and_no_more() {
    let world = World::start().await;
    let url = world.payments("/users/test_user");
    let token = world.seller_token();
    let body = r#"{"site_id":"MLA"}"#;
    for _ in 0..10 {
        assert_eq!(world.call(Method::POST, &url, &token, body).await.0, 201);
    }
    assert_eq!(world.call(Method::POST, &url, &token, body).await.0, 400);
    let nowhere = r#"{"site_id":"XXX"}"#;
    assert_eq!(world.call(Method::POST, &url, &token, nowhere).await.0, 400);
}

#[tokio::test]
async fn a_token_that_reaches_another_vendor_is_seen() {
    let world = World::start().await;
    let (meta, seller) = (world.meta_token(), world.seller_token());
    world.get(&world.payments("/users/me"), &meta).await;
    world.get(&world.payments("/users/me"), &seller).await;
    world.get(&world.graph("102290129340398"), &seller).await;
    world.get(&world.graph("102290129340398"), "x").await;
    let calls = world.vendors.state().world().calls.clone();
    let bearers: Vec<_> = calls.iter().map(|call| call.bearer).collect();
    let wanted = [
        Bearer::OfAnother,
        Bearer::Own,
        Bearer::OfAnother,
        Bearer::Unknown,
    ];
    assert_eq!(bearers, wanted);
}

#[tokio::test]
async fn calendars_need_their_token_and_can_fail_in_silence() {
    let world = World::start().await;
    let base = world.vendors.channels_url();
    let path = |channel, listing: &str| {
        let known = world
            .vendors
            .state()
            .world()
            .channels
            .path(channel, listing);
        format!("{base}{}", known.unwrap())
    };
    for (channel, listing) in [(Channel::Airbnb, "1001"), (Channel::Booking, "2002")] {
        let url = path(channel, listing);
        let (status, text) = world.call(Method::GET, &url, "", "").await;
        assert_eq!(status, StatusCode::OK);
        assert!(text.starts_with("BEGIN:VCALENDAR\r\n"), "{text}");
        let key = (channel, listing.to_owned());
        let state = world.vendors.state();
        state.world().channels.feeds.get_mut(&key).unwrap().health = Health::Login;
        let (status, text) = world.call(Method::GET, &url, "", "").await;
        assert!(status == 200 && text.contains("<form"), "{text}");
    }
    let wrong = format!("{base}/calendar/ical/1001.ics?s=guess");
    assert_eq!(world.call(Method::GET, &wrong, "", "").await.0, 404);
    let calls = world.vendors.state().world().calls.clone();
    assert!(calls.iter().all(|call| !call.path.contains("a1b2c3d4e5f6")));
}
