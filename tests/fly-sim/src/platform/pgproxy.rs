//! Lets clients of one cluster connect to the shared PostgreSQL server under their own names.
//!
//! It reads the first message of a connection, puts the cluster's prefix before user and
//! database, and passes everything else on. Authentication still happens between client and
//! server: SCRAM does not look at the user name inside its own messages. Source: PostgreSQL
//! documentation, "Message Flow" and "SASL Authentication".

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;
const PROTOCOL_MAJOR: u32 = 3;

/// Longest first message that PostgreSQL itself accepts, in bytes.
const LONGEST_START: u32 = 10_000;

/// A listening address of one cluster; closing it ends its connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    reachable: Arc<AtomicBool>,
    _task: AbortOnDropHandle<()>,
}

impl Proxy {
    /// Listens on `bind` for the cluster with this prefix.
    pub async fn start(
        bind: SocketAddr,
        prefix: String,
        server: SocketAddr,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(bind).await?;
        let address = listener.local_addr()?;
        let reachable = Arc::new(AtomicBool::new(true));
        let open = reachable.clone();
        let task = tokio::spawn(async move {
            // Dropped with this task, and with it all connections.
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let Ok((client, _)) = accepted else { continue };
                        let (prefix, open) = (prefix.clone(), open.clone());
                        connections.spawn(async move {
                            if open.load(Ordering::Relaxed) {
                                let _ = serve(client, &prefix, server).await;
                            }
                        });
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Ok(Self {
            address,
            reachable,
            _task: AbortOnDropHandle::new(task),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether new connections are served; otherwise they are closed at once.
    pub fn set_reachable(&self, reachable: bool) {
        self.reachable.store(reachable, Ordering::Relaxed);
    }
}

async fn serve(mut client: TcpStream, prefix: &str, server: SocketAddr) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let start = loop {
        let length = client.read_u32().await?;
        if !(8..=LONGEST_START).contains(&length) {
            return Ok(());
        }
        let mut body = vec![0; length as usize - 4];
        client.read_exact(&mut body).await?;
        let (code, rest) = body.split_at(4);
        let code = u32::from_be_bytes([code[0], code[1], code[2], code[3]]);
        match code {
            // Not offered; the client goes on without.
            SSL_REQUEST | GSS_REQUEST => client.write_all(b"N").await?,
            CANCEL_REQUEST => break message(&body),
            code if code >> 16 == PROTOCOL_MAJOR => break start_message(code, rest, prefix),
            _ => return Ok(()),
        }
    };
    let mut upstream = TcpStream::connect(server).await?;
    upstream.set_nodelay(true)?;
    upstream.write_all(&start).await?;
    tokio::io::copy_bidirectional(&mut client, &mut upstream).await?;
    Ok(())
}

/// Puts the length before a message without a type.
fn message(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    let mut message = length.to_be_bytes().to_vec();
    message.extend_from_slice(body);
    message
}

fn start_message(code: u32, parameters: &[u8], prefix: &str) -> Vec<u8> {
    let mut texts = parameters.split(|byte| *byte == 0);
    let mut pairs = Vec::new();
    while let (Some(key), Some(value)) = (texts.next(), texts.next()) {
        if key.is_empty() {
            break;
        }
        pairs.push((key, value));
    }
    let find = |wanted: &[u8]| {
        pairs
            .iter()
            .find(|(key, _)| *key == wanted)
            .map(|(_, value)| *value)
            .filter(|value| !value.is_empty())
    };
    let user = find(b"user").unwrap_or_default();
    // PostgreSQL's own default.
    let database = find(b"database").unwrap_or(user);

    let mut body = code.to_be_bytes().to_vec();
    let mut push = |key: &[u8], values: &[&[u8]]| {
        body.extend_from_slice(key);
        body.push(0);
        for value in values {
            body.extend_from_slice(value);
        }
        body.push(0);
    };
    push(b"user", &[prefix.as_bytes(), user]);
    push(b"database", &[prefix.as_bytes(), database]);
    for (key, value) in &pairs {
        if !matches!(*key, b"user" | b"database") {
            push(key, &[value]);
        }
    }
    body.push(0);
    message(&body)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::platform::postgres::{Backend, Right};
    use tokio_postgres::{Client, NoTls};

    async fn connect(
        proxy: &Proxy,
        user: &str,
        password: &str,
        database: &str,
    ) -> Result<Client, tokio_postgres::Error> {
        let url = format!(
            "postgresql://{user}:{password}@{}/{database}",
            proxy.address()
        );
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    #[test]
    fn the_prefix_goes_before_user_and_database_and_nothing_else_changes() {
        let parameters = b"user\0app\0application_name\0x\0\0";
        let message = start_message(0x3_0000, parameters, "p_");
        assert_eq!(
            &message[8..],
            b"user\0p_app\0database\0p_app\0application_name\0x\0\0"
        );
        assert_eq!(usize::from(message[3]), message.len());
    }

    #[tokio::test]
    async fn clusters_have_users_and_databases_of_the_same_name_apart() {
        let dir = tempfile::tempdir().unwrap();
        let backend = Backend::default();
        let server = backend.start(dir.path(), None).await.unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut proxies = Vec::new();
        for prefix in ["a_", "b_"] {
            backend.create_namespace(prefix).await.unwrap();
            backend.create_database(prefix, "fly-db").await.unwrap();
            for (user, right) in [("fly-user", Right::SchemaAdmin), ("reader", Right::Reader)] {
                let password = format!("{prefix}{user}");
                backend
                    .create_user(prefix, user, &password, right)
                    .await
                    .unwrap();
            }
            proxies.push(Proxy::start(any, prefix.to_owned(), server).await.unwrap());
        }

        let a = connect(&proxies[0], "fly-user", "a_fly-user", "fly-db")
            .await
            .unwrap();
        a.batch_execute("CREATE TABLE t (x int); INSERT INTO t VALUES (6), (7)")
            .await
            .unwrap();
        let b = connect(&proxies[1], "fly-user", "b_fly-user", "fly-db")
            .await
            .unwrap();
        assert!(b.query("SELECT * FROM t", &[]).await.is_err());
        assert!(
            connect(&proxies[1], "fly-user", "a_fly-user", "fly-db")
                .await
                .is_err()
        );

        let reader = connect(&proxies[0], "reader", "a_reader", "fly-db")
            .await
            .unwrap();
        let rows = reader
            .query("SELECT x FROM t ORDER BY x", &[])
            .await
            .unwrap();
        assert_eq!(rows[1].get::<_, i32>(0), 7);
        assert!(
            reader
                .batch_execute("INSERT INTO t VALUES (8)")
                .await
                .is_err()
        );

        let again = backend
            .create_user("a_", "reader", "x", Right::Reader)
            .await;
        assert!(again.unwrap_err().exists());
        backend.drop_user("a_", "fly-user").await.unwrap();
        backend.drop_namespace("a_").await.unwrap();
        assert!(backend.databases("a_").await.unwrap().is_empty());
        assert_eq!(backend.databases("b_").await.unwrap(), ["fly-db"]);

        proxies[1].set_reachable(false);
        assert!(
            connect(&proxies[1], "fly-user", "b_fly-user", "fly-db")
                .await
                .is_err()
        );
    }
}
