//! `api.mercadopago.com`, as far as a seller's application and its checks use it.
//!
//! Sources: mercadopago.com developers, API reference ("Get payment", "Get payment methods", "Create test
//! user"); shapes of errors as the official libraries' tests have them.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{HeaderMap, Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{MOST_TEST_USERS, MercadoPago, TestUser};
use crate::state::{Call, Shared, Vendor};

/// All that is served.
pub fn router(state: Shared) -> Router {
    Router::new()
        .route("/users/me", get(me))
        .route("/users/test_user", post(test_user))
        .route("/users/test", post(test_user))
        .route("/v1/payment_methods", get(payment_methods))
        .route("/v1/payments/{id}", get(payment))
        .fallback(
            async |State(state): State<Shared>,
                   method: Method,
                   uri: http::Uri,
                   headers: HeaderMap| {
                let path = uri.path().to_owned();
                let missing =
                    Refused::new(StatusCode::NOT_FOUND, "resource not found", "not_found");
                answer(&state, (&method, path), &headers, Err(missing))
            },
        )
        .with_state(state)
}

/// An error, as Mercado Pago writes it.
struct Refused {
    status: StatusCode,
    message: String,
    error: &'static str,
    cause: Value,
}

impl Refused {
    fn new(status: StatusCode, message: &str, error: &'static str) -> Self {
        Self {
            status,
            message: message.to_owned(),
            error,
            cause: json!([]),
        }
    }
}

type Answered = Result<(StatusCode, Value), Refused>;

fn answer(
    state: &Shared,
    (method, path): (&Method, String),
    headers: &HeaderMap,
    result: Answered,
) -> Response {
    let (status, body) = result.unwrap_or_else(|refused| {
        let body = json!({
            "message": refused.message,
            "error": refused.error,
            "status": refused.status.as_u16(),
            "cause": refused.cause,
        });
        (refused.status, body)
    });
    state.note_call(Call {
        vendor: Vendor::MercadoPago,
        method: method.to_string(),
        path,
        bearer: state.bearer(Vendor::MercadoPago, authorization(headers)),
        status: status.as_u16(),
    });
    (status, Json(body)).into_response()
}

fn authorization(headers: &HeaderMap) -> Option<&str> {
    headers.get("authorization")?.to_str().ok()
}

/// Does something for the owner of the token; the flag says whether the token is one of the sandbox.
fn with_token(
    state: &Shared,
    headers: &HeaderMap,
    act: impl FnOnce(&mut MercadoPago, bool) -> Answered,
) -> Answered {
    let mut world = state.world();
    let seller = &mut world.mercado_pago;
    if seller.failing > 0 {
        seller.failing -= 1;
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        return Err(Refused::new(
            status,
            "internal server error",
            "internal_error",
        ));
    }
    let unauthorized = |text| Refused::new(StatusCode::UNAUTHORIZED, text, "unauthorized");
    let text =
        authorization(headers).ok_or_else(|| unauthorized("authorization value not present"))?;
    let token = text
        .strip_prefix("Bearer ")
        .filter(|token| seller.tokens.iter().any(|known| known == token))
        .ok_or_else(|| unauthorized("invalid access token"))?;
    act(seller, token.starts_with("TEST-"))
}

async fn me(State(state): State<Shared>, headers: HeaderMap) -> Response {
    let result = with_token(&state, &headers, |seller, sandbox| {
        let tags: &[&str] = match sandbox {
            true => &["normal", "test_user", "user_info_verified"],
            false => &["normal", "business", "user_info_verified"],
        };
        let user = json!({
            "id": seller.user_id,
            "nickname": "SISTCABANAS",
            "registration_date": "2023-05-30T14:30:03.000-04:00",
            "country_id": "AR",
            "site_id": "MLA",
            "user_type": "normal",
            "tags": tags,
            "status": {"site_status": "active", "user_type": "simple_registration"},
        });
        Ok((StatusCode::OK, user))
    });
    answer(
        &state,
        (&Method::GET, "/users/me".to_owned()),
        &headers,
        result,
    )
}

async fn payment_methods(State(state): State<Shared>, headers: HeaderMap) -> Response {
    let result = with_token(&state, &headers, |_, _| {
        let method = |id: &str, name: &str, kind: &str| {
            json!({"id": id, "name": name, "payment_type_id": kind, "status": "active",
                "min_allowed_amount": 3, "max_allowed_amount": 5_000_000, "accreditation_time": 2880})
        };
        let all = json!([
            method("visa", "Visa", "credit_card"),
            method("master", "Mastercard", "credit_card"),
            method("account_money", "Dinero en cuenta", "account_money"),
            method("pagofacil", "Pago Fácil", "ticket"),
        ]);
        Ok((StatusCode::OK, all))
    });
    let path = "/v1/payment_methods".to_owned();
    answer(&state, (&Method::GET, path), &headers, result)
}

async fn payment(
    State(state): State<Shared>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let result = with_token(&state, &headers, |seller, sandbox| {
        let found = id.parse().ok().and_then(|id| seller.payments.get(&id));
        match found {
            Some(payment) => {
                let mut shown = json!(payment);
                shown["live_mode"] = (!sandbox).into();
                shown["currency_id"] = "ARS".into();
                Ok((StatusCode::OK, shown))
            }
            None => Err(Refused {
                cause: json!([{"code": 2000, "description": "Payment not found", "data": null}]),
                ..Refused::new(StatusCode::NOT_FOUND, "Payment not found", "not_found")
            }),
        }
    });
    let path = format!("/v1/payments/{id}");
    answer(&state, (&Method::GET, path), &headers, result)
}

#[derive(Deserialize)]
struct NewUser {
    site_id: String,
}

/// The countries that Mercado Pago works in.
const SITES: [&str; 7] = ["MLA", "MLB", "MLC", "MLM", "MLU", "MCO", "MPE"];

async fn test_user(
    State(state): State<Shared>,
    uri: http::Uri,
    headers: HeaderMap,
    body: bytes::Bytes,
) -> Response {
    let wanted = serde_json::from_slice::<NewUser>(&body).ok();
    let result = with_token(&state, &headers, |seller, _| {
        let known = wanted.is_some_and(|user| SITES.contains(&user.site_id.as_str()));
        if !known {
            return Err(Refused::new(
                StatusCode::BAD_REQUEST,
                "invalid site_id",
                "bad_request",
            ));
        }
        if seller.test_users.len() >= MOST_TEST_USERS {
            let text = "the limit of test users has been reached";
            return Err(Refused::new(StatusCode::BAD_REQUEST, text, "bad_request"));
        }
        let number = seller.test_users.len() as u64 + 1;
        let user = TestUser {
            id: 1_300_000_000 + number,
            nickname: format!("TESTUSER{number}"),
            password: format!("qatest{number:04}"),
            site_status: "active".to_owned(),
            email: format!("test_user_{number}@testuser.com"),
        };
        seller.test_users.push(user.clone());
        Ok((StatusCode::CREATED, json!(user)))
    });
    answer(
        &state,
        (&Method::POST, uri.path().to_owned()),
        &headers,
        result,
    )
}
