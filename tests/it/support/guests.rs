//! Guests of an application, through the edge.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::{JoinHandle, JoinSet},
};

/// Guests of a burst.
const BURST: usize = 10;

/// Guests who wait for an answer at once; more wait at the door.
const MOST: usize = 100;

/// How long a guest waits for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// The path of a voice message, for an application with `CABANAS_REHEARSAL=true`.
const AUDIO: &str = "/api/v1/rehearsal?kind=audio&milliseconds=1&status=200";

/// Guests who come in bursts, with silence between them.
pub struct Guests {
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Guests {
    /// Guests of this app. One of them in five sends a voice message, if `talk`.
    pub fn come(edge: SocketAddr, app: &str, talk: bool) -> Self {
        let stop: Arc<AtomicBool> = Arc::default();
        let (ends, host) = (stop.clone(), format!("{app}.fly.dev"));
        let task = tokio::spawn(async move {
            let mut inside = JoinSet::new();
            while !ends.load(Ordering::Relaxed) {
                for guest in 0..BURST {
                    let path = if talk && guest % 5 == 0 { AUDIO } else { "/" };
                    let asks = get(edge, host.clone(), path);
                    inside.spawn(tokio::time::timeout(PATIENCE, asks));
                }
                tokio::time::sleep(Duration::from_millis(250)).await;
                while inside.try_join_next().is_some() {}
                while inside.len() >= MOST {
                    inside.join_next().await;
                }
            }
            inside.join_all().await;
        });
        Self { stop, task }
    }

    /// They go, and those who are there are answered first.
    pub async fn go(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
    }
}

/// One request. What becomes of it, the application counts.
async fn get(edge: SocketAddr, host: String, path: &'static str) -> Option<()> {
    let mut stream = TcpStream::connect(edge).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok()?;
    Some(())
}
