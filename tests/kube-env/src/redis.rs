//! A real Redis server on loopback, without persistence.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use crate::process::{Process, Spec};
use crate::{Error, Result, port, random, write_private};

const READY: Duration = Duration::from_secs(30);

/// Attempts, each with another port, in case the chosen one is taken in the meantime.
const TRIES: usize = 5;

/// A running Redis server; ends when dropped, or with us.
#[derive(Debug)]
pub struct Redis {
    process: Process,
    port: u16,
    password: String,
}

impl Redis {
    /// Starts an empty server that asks for a password; its configuration and log are in `dir`.
    pub async fn start(dir: &Path) -> Result<Self> {
        let mut tries = 0;
        loop {
            tries += 1;
            match Self::try_start(dir).await {
                Err(Error::NotReady { tail, .. })
                    if tries < TRIES && tail.contains("Address already in use") => {}
                result => return result,
            }
        }
    }

    async fn try_start(dir: &Path) -> Result<Self> {
        let password = random::hex(16)?;
        let port = port::free()?;
        // In a file, because arguments are visible to every user of the machine.
        let config = dir.join("redis.conf");
        let text = format!(
            "bind 127.0.0.1\nport {port}\nrequirepass {password}\n\
             save \"\"\nappendonly no\nmaxclients 2000\n"
        );
        write_private(&config, &text)?;
        let mut process = Spec::new("redis", "redis-server", dir.join("redis.log"))
            .arg(&config)
            .dir(dir)
            .stop_with("TERM", Duration::from_secs(5))
            .spawn()?;
        let ready = process
            .wait_until(READY, |_| Ok(answers(port).then_some(())))
            .await;
        match ready {
            Ok(()) => Ok(Self {
                process,
                port,
                password,
            }),
            // 127: the shell's exit status for a missing program.
            Err(_) if process.exited().and_then(|status| status.code()) == Some(127) => {
                Err(Error::Missing {
                    program: "Redis".to_owned(),
                    next: "apt-get install -y redis-server".to_owned(),
                })
            }
            Err(error) => Err(error),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Password of the user `default`.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Connection string with the password.
    pub fn url(&self) -> String {
        let (password, port) = (&self.password, self.port);
        format!("redis://default:{password}@127.0.0.1:{port}/")
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// Whether a Redis that asks for a password answers there.
fn answers(port: u16) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"PING\r\n")?;
        let mut reply = [0; 7];
        stream.read_exact(&mut reply)?;
        Ok::<_, std::io::Error>(reply)
    };
    ask().is_ok_and(|reply| &reply == b"-NOAUTH")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_answers_asks_for_the_password_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let server = Redis::start(dir.path()).await.unwrap();

        let mut stream = TcpStream::connect(server.address()).unwrap();
        write!(stream, "AUTH {}\r\n", server.password()).unwrap();
        let mut reply = [0; 3];
        stream.read_exact(&mut reply).unwrap();

        assert_eq!(&reply, b"+OK");
        let address = server.address();
        drop(server);
        assert!(TcpStream::connect(address).is_err());
    }
}
