//! A real Alertmanager on loopback that tells nobody: alerts are sent to it and read from it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use crate::process::{Process, Spec};
use crate::prometheus::request;
use crate::{Error, Result, port, write_private};

const READY: Duration = Duration::from_secs(120);

/// Attempts, each with another port, in case the chosen one is taken in the meantime.
const TRIES: usize = 5;

/// All alerts go to one receiver, which does nothing.
const CONFIG: &str = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n";

/// A running Alertmanager; ends when dropped, or with us.
#[derive(Debug)]
pub struct Alertmanager {
    _process: Process,
    port: u16,
}

impl Alertmanager {
    /// Starts one without alerts. Its files are in `dir`.
    pub async fn start(dir: &Path) -> Result<Self> {
        write_private(&dir.join("alertmanager.yml"), CONFIG)?;
        let mut tries = 0;
        loop {
            tries += 1;
            match Self::try_start(dir).await {
                Err(Error::NotReady { tail, .. })
                    if tries < TRIES && tail.contains("address already in use") => {}
                result => return result,
            }
        }
    }

    async fn try_start(dir: &Path) -> Result<Self> {
        let port = port::free()?;
        let flag = |name: &str, path: &Path| format!("--{name}={}", path.display());
        let log = dir.join("alertmanager.log");
        let mut process = Spec::new("alertmanager", "prometheus-alertmanager", log)
            .arg(flag("config.file", &dir.join("alertmanager.yml")))
            .arg(flag("storage.path", &dir.join("data")))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            // Without others of its kind.
            .arg("--cluster.listen-address=")
            .dir(dir)
            .stop_with("TERM", Duration::from_secs(10))
            .spawn()?;
        let ready = process.wait_until(READY, |_| {
            let answer = request(port, "GET", "/-/ready", "");
            Ok(answer.ok().filter(|(status, _)| *status == 200))
        });
        match ready.await {
            Ok(_) => Ok(Self {
                _process: process,
                port,
            }),
            Err(error) => {
                // 127: the shell's exit status for a missing program.
                let code = process.exited().and_then(|status| status.code());
                Err(match code {
                    Some(127) => Error::Missing {
                        program: "Alertmanager".to_owned(),
                        next: "apt-get install -y prometheus-alertmanager".to_owned(),
                    },
                    _ => error,
                })
            }
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Reads a page: the status and the body.
    pub fn get(&self, path: &str) -> Result<(u16, Vec<u8>)> {
        request(self.port, "GET", path, "").map_err(|source| Error::System {
            doing: "ask Alertmanager",
            source,
        })
    }
}
