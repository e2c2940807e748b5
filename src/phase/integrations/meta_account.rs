//! W11: whether Meta delivers the account's messages to an app, and whether app and number are live.
//!
//! Sources: developers.facebook.com, "Manage webhooks" of WhatsApp (`GET /<WABA>/subscribed_apps`:
//! `data[].whatsapp_business_api_data.id`), "Health status" (`health_status.entities[]`: WABA, business
//! and app of the token are always in it, each with `can_send_message` AVAILABLE, LIMITED or BLOCKED)
//! and the reference of the phone number (`account_mode`: LIVE or SANDBOX). Errors: "Handle errors" of
//! the Graph API, code 190 for a token, 10 and 200 to 299 for permissions, 4 and 80007 for rates.
//!
//! Each question carries `appsecret_proof` ("Secure Graph API Calls": the HMAC-SHA256 of the access token with
//! the app secret as the key). An app may demand it, and Meta compares it wherever it is sent: so it also
//! proves that the app secret, with which the webhooks are signed, is the one of the token's app.

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::outcome::{Ended, Outcome};
use crate::{
    api::integrations::WhatsApp,
    net::{
        probe::ProbeError,
        vendor::{Told, Vendor},
    },
    webhook::sign::{self, Algorithm, Encoding},
};

/// The version of the Graph API that is asked.
const VERSION: &str = "v25.0";

/// Asks Meta, with an access token and the app secret.
pub async fn check(
    vendor: &Vendor,
    spec: &WhatsApp,
    (token, app_secret): (&SecretString, &SecretString),
) -> Outcome {
    let began = std::time::Instant::now();
    let proof = proof(token, app_secret);
    let get = |path: String| async move { vendor.get(&path, token).await };
    let outcome = ask(get, spec, &proof).await.unwrap_or_else(|found| found);
    Outcome {
        took: Some(began.elapsed()),
        ..outcome
    }
}

/// What `appsecret_proof` must be.
fn proof(token: &SecretString, app_secret: &SecretString) -> String {
    let (token, key) = (token.expose_secret(), app_secret.expose_secret());
    let code = sign::mac(Algorithm::HmacSha256, key.as_bytes(), &[token.as_bytes()]);
    sign::write(Encoding::Hex, &code)
}

async fn ask<F, A>(get: F, spec: &WhatsApp, proof: &str) -> Result<Outcome, Outcome>
where
    F: Fn(String) -> A,
    A: Future<Output = Result<Told, ProbeError>>,
{
    let waba = spec.waba_id.as_deref().unwrap_or_default();
    let list = format!("/{VERSION}/{waba}/subscribed_apps");
    let asked = read(&get, format!("{list}?appsecret_proof={proof}")).await?;
    let apps = match is_not_taken(&asked) {
        false => answer(asked)?,
        // The same error as for an id that does not exist: the same question without the proof tells.
        true => {
            answer(read(&get, list).await?)?;
            return Err(other_secret());
        }
    };
    // Without the id of a number the account itself tells its health.
    let node = spec.phone_number_id.as_deref().unwrap_or(waba);
    let fields = match spec.phone_number_id {
        Some(_) => "account_mode,health_status",
        None => "health_status",
    };
    let health = format!("/{VERSION}/{node}?fields={fields}&appsecret_proof={proof}");
    let health = answer(read(&get, health).await?)?;
    Ok(judge(&apps, &health))
}

async fn read<F, A>(get: &F, path: String) -> Result<Told, Outcome>
where
    F: Fn(String) -> A,
    A: Future<Output = Result<Told, ProbeError>>,
{
    get(path).await.map_err(|error| {
        let evidence = format!("Meta was not asked: {error}");
        outcome(Ended::Unknown, evidence, "")
    })
}

/// Whether Meta refuses an argument of the question: an id, or the proof.
fn is_not_taken(told: &Told) -> bool {
    told.status == 400 && told.json["error"]["code"] == 100
}

/// Meta answers without the proof alone.
fn other_secret() -> Outcome {
    outcome(
        Ended::Failed,
        "Meta refuses the app secret: it is not the one of the access token's app".to_owned(),
        "copy the app secret again (App settings, Basic) into the Secret that `appSecretRef` names, or use an access token of the app that has this secret",
    )
}

fn outcome(ended: Ended, evidence: String, change: &str) -> Outcome {
    Outcome {
        id: "W11",
        name: "Meta delivers the account's messages, and the app is live",
        ended,
        forgery: false,
        took: None,
        evidence,
        change: change.to_owned(),
    }
}

/// The answer of one question, or what an error of Meta means.
fn answer(told: Told) -> Result<Value, Outcome> {
    let code = told.json["error"]["code"].as_i64();
    let evidence = match code {
        Some(code) => format!("Meta answered {} with error {code}", told.status),
        None => format!("Meta answered {}", told.status),
    };
    Err(match (told.status, code) {
        (200, None) => return Ok(told.json),
        (429 | 500.., _)
        | (_, Some(1 | 2 | 4 | 17 | 32 | 613 | 80007 | 80008))
        | (200, Some(_)) => outcome(Ended::Unknown, evidence, ""),
        (_, Some(190)) | (401, _) => outcome(
            Ended::Failed,
            format!("{evidence}: the access token is refused or has expired"),
            "make a new access token of a system user at Meta, and store it in the Secret that `tokenSecretRef` names",
        ),
        (_, Some(10 | 200..=299)) | (403, _) => outcome(
            Ended::Failed,
            format!("{evidence}: the access token may not read the account"),
            "give the token's app the permission `whatsapp_business_management` for this account, and make the token again",
        ),
        (_, Some(100)) | (404, _) => outcome(
            Ended::Failed,
            format!("{evidence}: there is no such account or number for this token"),
            "correct `wabaId` and `phoneNumberId`: Meta shows both on the page API Setup of the app; if the app demands an app secret proof, correct the app secret too",
        ),
        _ => outcome(Ended::Unknown, evidence, ""),
    })
}

/// What is wrong with the subscription of the token's app, as far as the answer shows it; otherwise how
/// many apps are subscribed.
fn subscription(apps: &Value, app: Option<&str>) -> Result<usize, Outcome> {
    let list = apps["data"].as_array();
    let subscribed: Vec<&str> = list
        .into_iter()
        .flatten()
        .filter_map(|app| app["whatsapp_business_api_data"]["id"].as_str())
        .collect();
    if app.map_or(!subscribed.is_empty(), |app| subscribed.contains(&app)) {
        return Ok(subscribed.len());
    }
    // An answer that cannot be read, or that goes on elsewhere, shows no absence.
    let is_whole =
        list.is_some_and(|list| list.len() == subscribed.len()) && apps["paging"]["next"].is_null();
    if !is_whole {
        let evidence = "Meta's answer does not show all apps that are subscribed to the account";
        return Err(outcome(Ended::Unknown, evidence.to_owned(), ""));
    }
    if subscribed.is_empty() {
        return Err(outcome(
            Ended::Failed,
            "no app is subscribed to the account, so Meta delivers none of its messages".to_owned(),
            "subscribe the app: `POST /<WABA>/subscribed_apps` with its token; the button Test of the dashboard does not do it",
        ));
    }
    // An id has digits alone: nothing else of the answer is shown.
    let is_id = |id: &&str| id.len() <= 32 && id.bytes().all(|byte| byte.is_ascii_digit());
    let app = app.filter(is_id).unwrap_or("of another id");
    Err(outcome(
        Ended::Failed,
        format!(
            "{} apps are subscribed to the account, and the token's app {app} is not",
            subscribed.len()
        ),
        "subscribe that app: `POST /<WABA>/subscribed_apps` with its token",
    ))
}

/// What both answers say together.
fn judge(apps: &Value, health: &Value) -> Outcome {
    let entities = health["health_status"]["entities"].as_array();
    let entity = |kind: &str| {
        let mut all = entities.into_iter().flatten();
        all.find(|entity| entity["entity_type"] == kind)
    };
    let app = entity("APP").and_then(|app| app["id"].as_str());
    let subscribed = match subscription(apps, app) {
        Ok(subscribed) => subscribed,
        Err(found) => return found,
    };
    let blocked = |kind: &str| entity(kind).is_some_and(|of| of["can_send_message"] == "BLOCKED");
    if blocked("APP") {
        return outcome(
            Ended::Failed,
            "Meta says that the app is BLOCKED: it is in development mode, or restricted"
                .to_owned(),
            "set the app to Live in its dashboard, and resolve what Meta shows there",
        );
    }
    if health["account_mode"] == "SANDBOX" {
        return outcome(
            Ended::Failed,
            "the phone number is in the mode SANDBOX, and gets messages of test numbers only"
                .to_owned(),
            "register the number with the Cloud API, and set the app to Live",
        );
    }
    let troubled = ["PHONE_NUMBER", "WABA", "BUSINESS"];
    if let Some(kind) = troubled.into_iter().find(|kind| blocked(kind)) {
        return outcome(
            Ended::Warned,
            format!("an app is subscribed, and Meta blocks messages of the {kind}"),
            "resolve what Meta shows in the WhatsApp Manager",
        );
    }
    let mode = match health["account_mode"].as_str() {
        Some("LIVE") => "; the number is LIVE",
        _ => "",
    };
    outcome(
        Ended::Passed,
        format!("{subscribed} app subscribed and not blocked{mode}"),
        "",
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn apps(ids: &[&str]) -> Value {
        let apps: Vec<Value> = ids
            .iter()
            .map(|id| json!({"whatsapp_business_api_data": {"id": id, "name": "Cabañas"}}))
            .collect();
        json!({ "data": apps })
    }

    fn health(app: &str, mode: &str) -> Value {
        json!({
            "account_mode": mode,
            "health_status": {"can_send_message": app, "entities": [
                {"entity_type": "WABA", "id": "1", "can_send_message": "AVAILABLE"},
                {"entity_type": "APP", "id": "67", "can_send_message": app},
            ]},
        })
    }

    /// What Meta says of these requests: with a proof of another secret than `secret` an error, as of an id
    /// that does not exist. `demanded`: the app answers nothing without a proof.
    async fn asked(secret: &str, demanded: bool, waba: &str) -> Outcome {
        let spec = json!({
            "path": "/w", "wabaId": waba, "phoneNumberId": "106",
            "verifyTokenSecretRef": {"name": "a", "key": "a"},
            "appSecretRef": {"name": "a", "key": "b"},
        });
        let spec: WhatsApp = serde_json::from_value(spec).unwrap();
        let proof = proof(&"EAAG-token".into(), &secret.into());
        let get = |path: String| {
            // Computed with Python's `hmac`, with the key `test-app-secret`.
            let right =
                "appsecret_proof=f2df36be690d346817328c745b60bc22f552538a7864e4412aea934140749183";
            let has_proof = path.contains("appsecret_proof=");
            let taken = path.contains(right) || !has_proof && !demanded;
            let (status, json) = match (taken && path.contains("/102"), &path) {
                (false, _) if !path.contains("/106") || !taken => {
                    (400, json!({"error": {"code": 100}}))
                }
                (true, path) if path.contains("subscribed_apps") => (200, apps(&["67"])),
                _ => (200, health("AVAILABLE", "LIVE")),
            };
            std::future::ready(Ok(Told { status, json }))
        };
        ask(get, &spec, &proof).await.unwrap_or_else(|found| found)
    }

    #[tokio::test]
    async fn an_app_secret_that_is_not_the_one_of_the_tokens_app_is_found_and_told_from_a_wrong_id()
    {
        for demanded in [false, true] {
            let good = asked("test-app-secret", demanded, "102").await;
            assert_eq!(good.ended, Ended::Passed, "{demanded}: {good:?}");
        }
        let wrong = asked("another", false, "102").await;
        assert_eq!(wrong.ended, Ended::Failed);
        assert!(wrong.change.contains("`appSecretRef`"), "{wrong:?}");
        let no_account = asked("test-app-secret", false, "999").await;
        assert_eq!(no_account.ended, Ended::Failed);
        assert!(no_account.change.contains("`wabaId`"), "{no_account:?}");
        let either = asked("another", true, "102").await;
        assert!(either.change.contains("app secret too"), "{either:?}");
    }

    #[test]
    fn an_app_that_gets_no_messages_is_found_by_what_meta_says_of_it() {
        let ended = |apps: &Value, health: &Value| judge(apps, health).ended;
        assert_eq!(
            ended(&apps(&["67"]), &health("AVAILABLE", "LIVE")),
            Ended::Passed
        );
        assert_eq!(
            ended(&apps(&["67"]), &health("LIMITED", "LIVE")),
            Ended::Passed
        );
        assert_eq!(
            ended(&apps(&[]), &health("AVAILABLE", "LIVE")),
            Ended::Failed
        );
        assert_eq!(
            ended(&apps(&["5"]), &health("AVAILABLE", "LIVE")),
            Ended::Failed
        );
        assert_eq!(
            ended(&apps(&["67"]), &health("BLOCKED", "LIVE")),
            Ended::Failed
        );
        assert_eq!(
            ended(&apps(&["67"]), &health("AVAILABLE", "SANDBOX")),
            Ended::Failed
        );
        let told = judge(&apps(&["67"]), &health("AVAILABLE", "LIVE")).evidence;
        assert!(!told.contains("Caba"), "nothing fetched is shown: {told}");
        let mut odd = health("AVAILABLE", "LIVE");
        odd["health_status"]["entities"][1]["id"] = json!("canary\n<b>");
        let told = judge(&apps(&["5"]), &odd);
        assert_eq!(told.ended, Ended::Failed);
        assert!(!told.evidence.contains("canary"), "{told:?}");
    }

    #[test]
    fn an_answer_that_cannot_be_read_or_goes_on_elsewhere_shows_no_absence() {
        let good = health("AVAILABLE", "LIVE");
        let mut paged = apps(&["5"]);
        paged["paging"] = json!({"next": "https://graph.facebook.com/x"});
        for apps in [
            Value::Null,
            json!({}),
            json!({"data": {}}),
            json!({"data": [{"id": "67"}]}),
            paged,
        ] {
            assert_eq!(judge(&apps, &good).ended, Ended::Unknown, "{apps}");
        }
        let mut found = apps(&["67"]);
        found["paging"] = json!({"next": "https://graph.facebook.com/x"});
        assert_eq!(judge(&found, &good).ended, Ended::Passed);
    }

    #[test]
    fn an_error_of_meta_is_a_failure_only_when_it_is_about_the_token_or_the_ids() {
        let ended = |status: u16, code: i64| {
            let json = json!({"error": {"code": code, "message": "x"}});
            answer(Told { status, json }).unwrap_err().ended
        };
        assert_eq!(ended(401, 190), Ended::Failed);
        assert_eq!(ended(400, 190), Ended::Failed);
        assert_eq!(ended(403, 200), Ended::Failed);
        assert_eq!(ended(400, 100), Ended::Failed);
        assert_eq!(ended(400, 80007), Ended::Unknown);
        assert_eq!(ended(503, 2), Ended::Unknown);
        let none = Told {
            status: 502,
            json: Value::Null,
        };
        assert_eq!(answer(none).unwrap_err().ended, Ended::Unknown);
    }
}
