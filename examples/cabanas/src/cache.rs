//! Redis: answers to repeated requests, and a short-lived copy of the list of reservations.

use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Longest wait for Redis, for a connection as for an answer.
pub const TIMEOUT: Duration = Duration::from_secs(1);

/// How long an answer is kept for a client that asks again with the same Idempotency-Key.
///
/// Unit: seconds. A day, as the drafts of the IETF httpapi group and most payment providers have it.
pub const IDEMPOTENCY_SECONDS: u64 = 24 * 60 * 60;

/// How long a key stays reserved for a request that never ended, for example in a killed machine.
pub const CLAIM_SECONDS: u64 = 60;

/// How long a list may be served from the cache.
pub const LIST_SECONDS: u64 = 30;

const GENERATION: &str = "cabanas:reservations:generation";

/// What is known about a request with the same key.
#[derive(Debug, PartialEq, Eq)]
pub enum Claim {
    /// Nobody has used the key; it is ours now.
    New,
    /// The same request is being worked on.
    Running,
    /// The same request was answered like this.
    Answered(Answer),
    /// The key belongs to a request with another body.
    Other,
}

/// A stored answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// HTTP status code.
    pub status: u16,
    /// JSON text.
    pub body: String,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    request: String,
    answer: Option<Answer>,
}

/// The connection to Redis, opened when first needed.
#[derive(Clone)]
pub struct Cache {
    connection: ConnectionManager,
}

impl Cache {
    /// Prepares the connection. Must be called within a Tokio runtime.
    pub fn new(url: &SecretString) -> redis::RedisResult<Self> {
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(1)
            .set_max_delay(Duration::from_millis(200))
            .set_connection_timeout(Some(TIMEOUT))
            .set_response_timeout(Some(TIMEOUT));
        let client = redis::Client::open(url.expose_secret())?;
        Ok(Self {
            connection: ConnectionManager::new_lazy_with_config(client, config)?,
        })
    }

    /// Asks `PING`.
    pub async fn ping(&self) -> redis::RedisResult<()> {
        let mut connection = self.connection.clone();
        redis::cmd("PING").exec_async(&mut connection).await
    }

    /// Takes `key` for a request whose content is `request`, or says who has it.
    pub async fn claim(&self, key: &str, request: &[u8]) -> redis::RedisResult<Claim> {
        let mut connection = self.connection.clone();
        let request = digest(request);
        let entry = json(&Entry {
            request: request.clone(),
            answer: None,
        });
        // NX: of two machines that ask at once only one gets the key.
        let key = idempotency_key(key);
        let taken: Option<String> = redis::cmd("SET")
            .arg(&key)
            .arg(entry)
            .arg("NX")
            .arg("EX")
            .arg(CLAIM_SECONDS)
            .query_async(&mut connection)
            .await?;
        if taken.is_some() {
            return Ok(Claim::New);
        }
        let old: Option<String> = redis::cmd("GET")
            .arg(&key)
            .query_async(&mut connection)
            .await?;
        let Some(old) = old else {
            // It expired between the two questions; the client asks again and gets it.
            return Ok(Claim::Running);
        };
        Ok(match serde_json::from_str::<Entry>(&old) {
            Ok(entry) if entry.request != request => Claim::Other,
            Ok(Entry { answer: None, .. }) => Claim::Running,
            Ok(Entry {
                answer: Some(answer),
                ..
            }) => Claim::Answered(answer),
            Err(_) => Claim::Other,
        })
    }

    /// Keeps the answer to the request that [`Cache::claim`] took the key for.
    pub async fn keep(&self, key: &str, request: &[u8], answer: Answer) -> redis::RedisResult<()> {
        let mut connection = self.connection.clone();
        let entry = json(&Entry {
            request: digest(request),
            answer: Some(answer),
        });
        redis::cmd("SET")
            .arg(idempotency_key(key))
            .arg(entry)
            .arg("EX")
            .arg(IDEMPOTENCY_SECONDS)
            .exec_async(&mut connection)
            .await
    }

    /// Gives the key back after a failure, so that the client may try again at once.
    pub async fn release(&self, key: &str) -> redis::RedisResult<()> {
        let mut connection = self.connection.clone();
        redis::cmd("DEL")
            .arg(idempotency_key(key))
            .exec_async(&mut connection)
            .await
    }

    /// Number of the current list. A list is stored under the number that was current before the
    /// database was asked, so that a slow reader cannot store an old list over a newer booking.
    pub async fn generation(&self) -> redis::RedisResult<u64> {
        let mut connection = self.connection.clone();
        let number: Option<u64> = redis::cmd("GET")
            .arg(GENERATION)
            .query_async(&mut connection)
            .await?;
        Ok(number.unwrap_or(0))
    }

    /// Makes every stored list old.
    pub async fn invalidate(&self) -> redis::RedisResult<()> {
        let mut connection = self.connection.clone();
        redis::cmd("INCR")
            .arg(GENERATION)
            .exec_async(&mut connection)
            .await
    }

    /// The list with that number, if it is still there.
    pub async fn list(&self, generation: u64) -> redis::RedisResult<Option<String>> {
        let mut connection = self.connection.clone();
        redis::cmd("GET")
            .arg(list_key(generation))
            .query_async(&mut connection)
            .await
    }

    /// Stores the list under that number.
    pub async fn store_list(&self, generation: u64, json: &str) -> redis::RedisResult<()> {
        let mut connection = self.connection.clone();
        redis::cmd("SET")
            .arg(list_key(generation))
            .arg(json)
            .arg("EX")
            .arg(LIST_SECONDS)
            .exec_async(&mut connection)
            .await
    }
}

fn idempotency_key(key: &str) -> String {
    format!("cabanas:idempotency:{}", digest(key.as_bytes()))
}

fn list_key(generation: u64) -> String {
    format!("cabanas:reservations:list:{generation}")
}

fn digest(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(bytes))
}

fn json(entry: &Entry) -> String {
    // Strings, numbers and options only: this cannot fail, and an empty entry reads as `Other`.
    serde_json::to_string(entry).unwrap_or_default()
}
