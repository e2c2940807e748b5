//! Receivers of webhooks over HTTP on loopback, correct ones and ones with a mistake. Only in tests.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper fails its test by a panic"
)]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{Request as Incoming, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;

use super::probe::{Effect, ID_PREFIX, Probe, Reply, World};
use crate::webhook::{
    scheme::{Delivery, Place, Scheme, StampPlace, Unit},
    sign::{Algorithm, Encoding, mac},
};

pub const VERIFY_TOKEN: &str = "a token with + and &";
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// What a receiver does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    None,
    AcceptsUnsigned,
    AcceptsAnySignature,
    Sha1Only,
    Reserializes,
    DecodesEscapes,
    ComparesPrefix,
    ComparesWhatIsGiven,
    IgnoresBody,
    EchoesChallenge,
    QuotesChallenge,
    UsesBodyId,
    RefusesOtherBodyId,
    RequiresRequestId,
    IgnoresRequestId,
    SecondsOnly,
    MillisecondsOnly,
    AcceptsOtherId,
    OriginalCaseOnly,
    ShortTolerance,
    AcceptsOld,
    ProcessesReplays,
    ReplayFails,
    RacesReplays,
    LosesRaces,
    LosesLater,
    AnswersLate,
    AcknowledgesEarly,
    NeverStores,
    UnknownEventFails,
    AnotherSecret,
    BadGateway,
    RefusesWith500,
    AcceptsEmptyKey,
    SkipsUndecodable,
    SkipsOtherVersions,
    ProcessesRefused,
    CountsRequests,
}

pub struct Receiver {
    mistake: Mistake,
    scheme: Mutex<Scheme>,
    /// Events, and whether they are being worked on.
    events: Mutex<BTreeMap<String, bool>>,
    effects: AtomicU32,
    poisoned: AtomicU32,
}

impl Receiver {
    fn is(&self, mistake: Mistake) -> bool {
        self.mistake == mistake
    }

    /// Whether a signature is right: the one that `code` makes with the key.
    fn same(&self, key: &[u8], code: impl Fn(&[u8]) -> Vec<u8>, given: Option<Vec<u8>>) -> bool {
        let right = code(key);
        let Some(given) = given else {
            return self.is(Mistake::AcceptsUnsigned);
        };
        match self.mistake {
            Mistake::AcceptsUnsigned | Mistake::AcceptsAnySignature => true,
            Mistake::ComparesPrefix => right.get(..4) == given.get(..4),
            Mistake::ComparesWhatIsGiven => right.starts_with(&given),
            Mistake::AnotherSecret => false,
            Mistake::AcceptsEmptyKey => right == given || code(b"") == given,
            _ => right == given,
        }
    }

    /// Stores an event, once.
    async fn store(self: &Arc<Self>, event: &str) {
        let known = self.events.lock().unwrap().contains_key(event);
        match self.mistake {
            Mistake::ProcessesReplays => {}
            Mistake::RacesReplays => {
                if known {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(30)).await;
                self.events.lock().unwrap().insert(event.to_owned(), false);
            }
            Mistake::LosesRaces => {
                let before = self.events.lock().unwrap().insert(event.to_owned(), true);
                if before.is_some() {
                    self.events.lock().unwrap().insert(event.to_owned(), false);
                    return;
                }
                tokio::time::sleep(Duration::from_millis(30)).await;
                if self.events.lock().unwrap().get(event) == Some(&false) {
                    return;
                }
            }
            Mistake::LosesLater => {
                let before = self.events.lock().unwrap().insert(event.to_owned(), false);
                if before.is_some() {
                    self.poisoned.store(1, Ordering::SeqCst);
                    return;
                }
                // A lock that a repeated delivery never gives back.
                let others = self.events.lock().unwrap().len();
                if self.poisoned.load(Ordering::SeqCst) == 1 && others > 1 {
                    return;
                }
            }
            Mistake::AcknowledgesEarly | Mistake::NeverStores | Mistake::CountsRequests => return,
            _ => {
                let before = self.events.lock().unwrap().insert(event.to_owned(), false);
                if before.is_some() {
                    return;
                }
            }
        }
        self.effects.fetch_add(1, Ordering::SeqCst);
    }

    fn accepted(&self, known: bool) -> Response {
        match known && self.is(Mistake::ReplayFails) {
            true => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            false => StatusCode::OK.into_response(),
        }
    }

    fn refused(&self) -> Response {
        match self.is(Mistake::RefusesWith500) {
            true => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            false => StatusCode::UNAUTHORIZED.into_response(),
        }
    }

    /// Whether a signature that cannot be read is taken for one that need not be checked.
    fn skips(&self, header: Option<&str>, prefix: &str, given: Option<&Vec<u8>>) -> bool {
        let Some(header) = header.filter(|_| given.is_none()) else {
            return false;
        };
        match header.contains(prefix) {
            true => self.is(Mistake::SkipsUndecodable),
            false => self.is(Mistake::SkipsOtherVersions),
        }
    }

    async fn finish(self: &Arc<Self>, event: &str, is_known_type: bool) -> Response {
        if !is_known_type && self.is(Mistake::UnknownEventFails) {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
        let known = self.events.lock().unwrap().contains_key(event);
        self.store(event).await;
        self.accepted(known)
    }
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?;
    Some(value.to_str().unwrap().to_owned())
}

pub fn decoded(encoding: Encoding, text: &str) -> Option<Vec<u8>> {
    match encoding {
        Encoding::Hex => data_encoding::HEXLOWER.decode(text.as_bytes()).ok(),
        Encoding::Base64 => data_encoding::BASE64.decode(text.as_bytes()).ok(),
    }
}

fn query(path: &str, name: &str) -> Option<String> {
    let (_, query) = path.split_once('?')?;
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

async fn receive(State(receiver): State<Arc<Receiver>>, request: Incoming) -> Response {
    if receiver.is(Mistake::CountsRequests) {
        receiver.effects.fetch_add(1, Ordering::SeqCst);
    }
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    if receiver.is(Mistake::AnswersLate) {
        tokio::time::sleep(Duration::from_secs(30)).await;
    }
    if receiver.is(Mistake::BadGateway) {
        return StatusCode::BAD_GATEWAY.into_response();
    }
    let path = parts.uri.to_string();
    if path.starts_with("/wa") {
        whatsapp_receiver(
            &receiver,
            parts.method.as_str(),
            &path,
            &parts.headers,
            &body,
        )
        .await
    } else if path.starts_with("/mp") {
        mercado_pago_receiver(&receiver, &path, &parts.headers, &body).await
    } else {
        generic_receiver(&receiver, &path, &parts.headers, &body).await
    }
}

async fn whatsapp_receiver(
    receiver: &Arc<Receiver>,
    method: &str,
    path: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> Response {
    if method == "GET" {
        let challenge = query(path, "hub.challenge").unwrap();
        let right = query(path, "hub.verify_token").as_deref() == Some(VERIFY_TOKEN)
            && query(path, "hub.mode").as_deref() == Some("subscribe");
        return match receiver.mistake {
            Mistake::EchoesChallenge => challenge.into_response(),
            Mistake::QuotesChallenge if right => axum::Json(challenge).into_response(),
            _ if right => challenge.into_response(),
            _ => StatusCode::FORBIDDEN.into_response(),
        };
    }
    let json: serde_json::Value = serde_json::from_slice(body).unwrap();
    let written_again = json.to_string();
    let decoded_escapes = std::str::from_utf8(body).unwrap().replace("\\u00f1", "ñ");
    let signed: &[u8] = match receiver.mistake {
        Mistake::Reserializes => written_again.as_bytes(),
        Mistake::DecodesEscapes => decoded_escapes.as_bytes(),
        Mistake::IgnoresBody => b"",
        _ => body,
    };
    let (name, prefix, algorithm) = match receiver.mistake {
        Mistake::Sha1Only => ("x-hub-signature", "sha1=", Algorithm::HmacSha1),
        _ => ("x-hub-signature-256", "sha256=", Algorithm::HmacSha256),
    };
    let code = |key: &[u8]| mac(algorithm, key, &[signed]);
    let right = code(SECRET.as_bytes());
    let signature = header(headers, name);
    let given = signature
        .as_ref()
        .and_then(|value| decoded(Encoding::Hex, value.strip_prefix(prefix)?));
    let skips = receiver.skips(signature.as_deref(), prefix, given.as_ref());
    let right = match receiver.is(Mistake::IgnoresBody) {
        // Any signature that was made with the key for some body: as good as none.
        true => given
            .as_ref()
            .is_some_and(|given| given.len() == right.len()),
        false => receiver.same(SECRET.as_bytes(), code, given),
    };
    if !right && !skips {
        if receiver.is(Mistake::ProcessesRefused)
            && let Some(id) = json["entry"][0]["changes"][0]["value"]["messages"][0]["id"].as_str()
        {
            receiver.store(id).await;
        }
        return receiver.refused();
    }
    let change = &json["entry"][0]["changes"][0];
    let message = &change["value"]["messages"][0];
    let known = change["field"] == "messages" && message["type"] == "text";
    match message["id"].as_str() {
        Some(id) => {
            assert!(id.starts_with(ID_PREFIX), "{id}");
            receiver.finish(id, known).await
        }
        None if receiver.is(Mistake::UnknownEventFails) => {
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
        None => StatusCode::OK.into_response(),
    }
}

async fn mercado_pago_receiver(
    receiver: &Arc<Receiver>,
    path: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> Response {
    let json: serde_json::Value = serde_json::from_slice(body).unwrap();
    let in_query = query(path, "data.id").unwrap();
    let in_body = json["data"]["id"].as_str().unwrap().to_owned();
    let request_id = header(headers, "x-request-id");
    if receiver.is(Mistake::RequiresRequestId) && request_id.is_none() {
        return receiver.refused();
    }
    if receiver.is(Mistake::RefusesOtherBodyId) && in_query != in_body {
        return receiver.refused();
    }
    let signature = header(headers, "x-signature").unwrap_or_default();
    let part = |name: &str| {
        let mut parts = signature.split(',').filter_map(|part| part.split_once('='));
        parts
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.to_owned())
    };
    let ts = part("ts").unwrap_or_default();
    let given = part("v1").and_then(|hex| decoded(Encoding::Hex, &hex));
    let text = Some(signature.as_str()).filter(|text| !text.is_empty());
    let skips = receiver.skips(text, "v1=", given.as_ref());
    let mut ids = match receiver.mistake {
        Mistake::UsesBodyId => vec![in_body],
        Mistake::AcceptsOtherId => vec![in_query, in_body],
        _ => vec![in_query],
    };
    if !receiver.is(Mistake::OriginalCaseOnly) {
        ids.push(ids[0].to_lowercase());
    }
    let right = ids.iter().any(|id| {
        let request = match receiver.is(Mistake::IgnoresRequestId) {
            true => given.as_ref().map(|_| ()).map(|()| String::new()),
            false => Some(
                request_id
                    .as_ref()
                    .map_or_else(String::new, |id| format!("request-id:{id};")),
            ),
        };
        let manifest = format!("id:{id};{}ts:{ts};", request.unwrap_or_default());
        let code = |key: &[u8]| mac(Algorithm::HmacSha256, key, &[manifest.as_bytes()]);
        receiver.same(SECRET.as_bytes(), code, given.clone())
    });
    let number: i64 = ts.parse().unwrap_or_default();
    let millis = match receiver.mistake {
        Mistake::SecondsOnly => number * 1000,
        Mistake::MillisecondsOnly => number,
        _ if number >= 1_000_000_000_000 => number,
        _ => number * 1000,
    };
    let age = now().as_millisecond().saturating_sub(millis).abs();
    let in_time = match receiver.mistake {
        Mistake::SecondsOnly | Mistake::MillisecondsOnly => age < 600_000,
        Mistake::ShortTolerance => age < 120_000,
        _ => true,
    };
    let topic = json["type"].as_str().unwrap();
    let event = format!("{topic}/{}", json["id"]);
    if !(right && in_time || skips || receiver.is(Mistake::AcceptsUnsigned)) {
        if receiver.is(Mistake::ProcessesRefused) {
            receiver.store(&event).await;
        }
        return receiver.refused();
    }
    receiver
        .finish(&event, ["payment", "order"].contains(&topic))
        .await
}

async fn generic_receiver(
    receiver: &Arc<Receiver>,
    path: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> Response {
    let scheme = receiver.scheme.lock().unwrap().clone();
    let text = std::str::from_utf8(body).unwrap().to_owned();
    let json: serde_json::Value = serde_json::from_slice(body).unwrap();
    let find = |place: &Place| match place {
        Place::Header(name) => header(headers, name),
        Place::Pointer(pointer) => json.pointer(pointer).map(|value| {
            let number = || value.to_string();
            value.as_str().map_or_else(number, str::to_owned)
        }),
    };
    let id = scheme.id.as_ref().and_then(find).unwrap_or_default();
    let signature = header(headers, &scheme.header);
    let stamp = scheme.stamp.clone();
    let time = stamp.as_ref().and_then(|stamp| match &stamp.place {
        StampPlace::Header(name) => header(headers, name),
        StampPlace::Parameter(name) => {
            let first = signature.as_ref()?.split(',').next()?.to_owned();
            first.strip_prefix(&format!("{name}=")).map(str::to_owned)
        }
    });
    let time: i64 = time.unwrap_or_default().parse().unwrap_or_default();
    let millis = match stamp.as_ref().map(|stamp| stamp.unit) {
        Some(Unit::Milliseconds) => time,
        _ => time * 1000,
    };
    let text = match receiver.mistake {
        Mistake::Reserializes => json.to_string(),
        Mistake::DecodesEscapes => text.replace("\\u00f1", "ñ"),
        Mistake::IgnoresBody => String::new(),
        _ => text,
    };
    let delivery = Delivery {
        method: "POST",
        path,
        id: &id,
        millis,
        body: text.as_bytes(),
    };
    let key = scheme.key(SECRET).unwrap();
    let code = |key: &[u8]| scheme.code(key, &delivery);
    let right = code(&key);
    let given = signature.as_deref().and_then(|value| {
        let from = value.find(&scheme.prefix)? + scheme.prefix.len();
        decoded(scheme.encoding, &value[from..])
    });
    let skips = receiver.skips(signature.as_deref(), &scheme.prefix, given.as_ref());
    let is_right = match receiver.is(Mistake::IgnoresBody) {
        true => given.is_some_and(|given| given.len() == right.len()),
        false => receiver.same(&key, code, given),
    };
    let tolerance = stamp.map_or(i64::MAX, |stamp| stamp.tolerance.as_millis() as i64);
    let is_old = (now().as_millisecond() - millis).abs() > tolerance;
    let is_right = is_right || skips;
    if !is_right || is_old && !receiver.is(Mistake::AcceptsOld) {
        if receiver.is(Mistake::ProcessesRefused) {
            receiver.store(&id).await;
        }
        return receiver.refused();
    }
    let kind = scheme.event_type.as_ref().and_then(find);
    receiver
        .finish(&id, kind.as_deref() != Some("golive_probe.unknown"))
        .await
}

/// The clock of the sender and of the receiver.
fn now() -> Timestamp {
    Timestamp::from_millisecond(1_780_000_000_123).unwrap()
}

/// A receiver on loopback, as the checks see it.
pub struct Here {
    pub at: SocketAddr,
    pub receiver: Arc<Receiver>,
    pub declared: bool,
    /// Readings between two effects of other events; 0: none.
    pub others: u32,
    pub readings: AtomicU32,
    /// Whether two machines count for themselves, and take turns to answer.
    pub counts_apart: bool,
    /// Whether the effect is read under a name that nothing has.
    pub misnamed: bool,
}

impl World for Here {
    async fn send(&self, probe: &Probe, limit: Duration) -> Reply {
        let request = &probe.request;
        let exchange = async {
            let stream = tokio::net::TcpStream::connect(self.at).await.ok()?;
            let io = TokioIo::new(stream);
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.ok()?;
            tokio::spawn(connection);
            let mut builder = http::Request::builder()
                .method(request.method.clone())
                .uri(&request.path)
                .header("host", "shop.fly.dev");
            for (name, value) in &request.headers {
                builder = builder.header(name, value);
            }
            let sent = builder.body(Full::new(request.body.clone())).unwrap();
            let began = Instant::now();
            let response = sender.send_request(sent).await.ok()?;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.ok()?.to_bytes();
            Some(Reply::Answered {
                status,
                body,
                took: began.elapsed(),
            })
        };
        match tokio::time::timeout(limit, exchange).await {
            Ok(Some(reply)) => reply,
            Ok(None) => Reply::Unreachable {
                why: "cannot connect to shop.fly.dev".to_owned(),
            },
            Err(_) => Reply::Silent { after: limit },
        }
    }

    async fn effect(&self) -> Effect {
        if !self.declared {
            return Effect::Undeclared;
        }
        if self.misnamed {
            return Effect::Absent("/metrics has no such series".to_owned());
        }
        let reading = self.readings.fetch_add(1, Ordering::SeqCst);
        let own = self.receiver.effects.load(Ordering::SeqCst);
        let others = reading.checked_div(self.others).unwrap_or_default();
        if self.counts_apart && reading % 2 == 1 {
            return Effect::Counted(f64::from(own / 2));
        }
        Effect::Counted(f64::from(own + others))
    }

    async fn pause(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    fn now(&self) -> Timestamp {
        now()
    }
}

pub async fn here(mistake: Mistake, scheme: &Scheme) -> Here {
    let receiver = Arc::new(Receiver {
        mistake,
        scheme: Mutex::new(scheme.clone()),
        events: Mutex::default(),
        effects: AtomicU32::new(0),
        poisoned: AtomicU32::new(0),
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let app = Router::new()
        .fallback(receive)
        .with_state(Arc::clone(&receiver));
    tokio::spawn(async move { axum::serve(listener, app).await });
    Here {
        at,
        receiver,
        declared: true,
        others: 0,
        counts_apart: false,
        misnamed: false,
        readings: AtomicU32::new(0),
    }
}
