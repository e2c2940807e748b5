//! Whether Mercado Pago accepts the access token, for whom, and which ways to pay the account has. Reads
//! only.
//!
//! Sources: mercadopago.com/developers, reference of `GET /v1/payment_methods` (a list with `id` and
//! `status`) and "Credentials" (test credentials begin with `TEST-`, those of production with
//! `APP_USR-`; those of a test user begin with `APP_USR-` as well); `GET /users/me` of Mercado Libre
//! (`site_id`, `tags[]` with `test_user`).

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::outcome::{Ended, Outcome};
use crate::net::{
    probe::ProbeError,
    vendor::{Told, Vendor},
};

/// Asks Mercado Pago.
pub async fn checks(vendor: &Vendor, token: &SecretString) -> Vec<Outcome> {
    let began = std::time::Instant::now();
    let me = vendor.get("/users/me", token).await;
    let took = began.elapsed();
    let began = std::time::Instant::now();
    let methods = vendor.get("/v1/payment_methods", token).await;
    let test_user = me.as_ref().is_ok_and(|told| is_test_user(&told.json));
    vec![
        Outcome {
            took: Some(took),
            ..account(&me)
        },
        Outcome {
            took: Some(began.elapsed()),
            ..payment_methods(&methods)
        },
        mode(Mode::of(token.expose_secret()), test_user),
    ]
}

fn outcome(id: &'static str, ended: Ended, evidence: String, change: &str) -> Outcome {
    Outcome {
        id,
        name: match id {
            "M11" => "Mercado Pago accepts the access token",
            "M12" => "the account has ways to pay",
            _ => "the access token is one for real payments",
        },
        ended,
        forgery: false,
        took: None,
        evidence,
        change: change.to_owned(),
    }
}

type Asked = Result<Told, ProbeError>;

/// What an answer other than 200 means.
fn other(id: &'static str, asked: &Asked) -> Outcome {
    let told = match asked {
        Ok(told) => told,
        Err(error) => {
            let evidence = format!("Mercado Pago was not asked: {error}");
            return outcome(id, Ended::Unknown, evidence, "");
        }
    };
    let evidence = format!("Mercado Pago answered {}", told.status);
    match told.status {
        401 | 403 => outcome(
            id,
            Ended::Failed,
            format!("{evidence}: the access token is refused"),
            "copy the access token from Your integrations, Credentials, and store it in the Secret that `accessTokenSecretRef` names",
        ),
        _ => outcome(id, Ended::Unknown, evidence, ""),
    }
}

fn account(asked: &Asked) -> Outcome {
    match asked {
        Ok(told) if told.status == 200 && told.json["id"].is_number() => {
            let site = told.json["site_id"].as_str();
            // Two or three capital letters and no more: nothing else of the answer is shown.
            let site = site.filter(|site| {
                site.len() <= 4 && site.bytes().all(|byte| byte.is_ascii_uppercase())
            });
            let user = match is_test_user(&told.json) {
                true => "a test user",
                false => "a real account",
            };
            let evidence = format!(
                "the token is that of {user} of the site {}",
                site.unwrap_or("?")
            );
            outcome("M11", Ended::Passed, evidence, "")
        }
        other => self::other("M11", other),
    }
}

fn is_test_user(me: &Value) -> bool {
    let mut tags = me["tags"].as_array().into_iter().flatten();
    tags.any(|tag| tag == "test_user")
}

fn payment_methods(asked: &Asked) -> Outcome {
    let list = match asked {
        Ok(told) if told.status == 200 => told.json.as_array(),
        _ => None,
    };
    let Some(list) = list else {
        return other("M12", asked);
    };
    let active = list
        .iter()
        .filter(|method| method["status"] == "active")
        .count();
    let evidence = format!("{active} of {} payment methods are active", list.len());
    match active {
        0 => outcome(
            "M12",
            Ended::Failed,
            evidence,
            "complete the account at Mercado Pago: without an active payment method nobody can pay",
        ),
        _ => outcome("M12", Ended::Passed, evidence, ""),
    }
}

/// What a token is for, by how it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Test,
    Production,
    Other,
}

impl Mode {
    fn of(token: &str) -> Self {
        if token.starts_with("TEST-") {
            Self::Test
        } else if token.starts_with("APP_USR-") {
            Self::Production
        } else {
            Self::Other
        }
    }
}

fn mode(mode: Mode, test_user: bool) -> Outcome {
    let change = "for real payments, store the production token of the account that sells";
    match (mode, test_user) {
        (Mode::Test, _) => outcome(
            "M13",
            Ended::Warned,
            "the token begins with TEST-: payments with it are not real".to_owned(),
            change,
        ),
        (Mode::Production, true) => outcome(
            "M13",
            Ended::Warned,
            "the token begins with APP_USR- and is that of a test user: payments with it are not real"
                .to_owned(),
            change,
        ),
        (Mode::Production, false) => {
            outcome("M13", Ended::Passed, "the token begins with APP_USR-".to_owned(), "")
        }
        (Mode::Other, _) => outcome(
            "M13",
            Ended::Warned,
            "the token begins with neither APP_USR- nor TEST-".to_owned(),
            "check that the whole access token is in the Secret, and nothing else",
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(status: u16, json: Value) -> Asked {
        Ok(Told { status, json })
    }

    #[test]
    fn a_refused_token_is_a_failure_and_an_outage_is_not() {
        let me = json!({"id": 1, "site_id": "MLA", "nickname": "PEPA", "tags": ["normal"]});
        let good = account(&told(200, me));
        assert_eq!(good.ended, Ended::Passed);
        assert_eq!(
            good.evidence,
            "the token is that of a real account of the site MLA"
        );
        assert_eq!(account(&told(401, Value::Null)).ended, Ended::Failed);
        assert_eq!(account(&told(503, Value::Null)).ended, Ended::Unknown);
        let html = account(&told(200, Value::Null));
        assert_eq!(html.ended, Ended::Unknown, "something in between answered");
        let odd = account(&told(200, json!({"id": 1, "site_id": "<b>pepa</b>"})));
        assert!(!odd.evidence.contains("pepa"));
    }

    #[test]
    fn an_account_without_a_way_to_pay_is_a_failure() {
        let list = |status: &str| json!([{"id": "visa", "status": status}]);
        assert_eq!(
            payment_methods(&told(200, list("active"))).ended,
            Ended::Passed
        );
        assert_eq!(
            payment_methods(&told(200, list("deactive"))).ended,
            Ended::Failed
        );
        assert_eq!(payment_methods(&told(200, json!([]))).ended, Ended::Failed);
        assert_eq!(
            payment_methods(&told(500, Value::Null)).ended,
            Ended::Unknown
        );
    }

    #[test]
    fn a_token_for_tests_warns_however_it_begins() {
        let of = |token: &str, test_user| mode(Mode::of(token), test_user).ended;
        assert_eq!(of("APP_USR-1", false), Ended::Passed);
        assert_eq!(of("APP_USR-1", true), Ended::Warned);
        assert_eq!(of("TEST-1", false), Ended::Warned);
        assert_eq!(of("fo1_x", false), Ended::Warned);
    }
}
