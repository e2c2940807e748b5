//! A real Prometheus on loopback, with series that were recorded before or are scraped.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::process::{Process, Spec};
use crate::{Error, Result, port, write_private};

const READY: Duration = Duration::from_secs(120);

/// Longest time that `promtool` may take for one file.
const BACKFILL: Duration = Duration::from_secs(300);

/// Attempts, each with another port, in case the chosen one is taken in the meantime.
const TRIES: usize = 5;

/// A running Prometheus; ends when dropped, or with us.
#[derive(Debug)]
pub struct Prometheus {
    process: Process,
    port: u16,
}

impl Prometheus {
    /// Starts a server that scrapes nothing and has the series of these texts in OpenMetrics, with times, each
    /// of its own stretch of time. Its files are in `dir`.
    pub async fn start(dir: &Path, recorded: &[String]) -> Result<Self> {
        for (number, text) in recorded.iter().enumerate() {
            let input = dir.join(format!("recorded-{number}.txt"));
            write_private(&input, text)?;
            let name = format!("promtool-{number}");
            let log = dir.join(format!("{name}.log"));
            let process = Spec::new(name, "promtool", log)
                .args(["tsdb", "create-blocks-from", "openmetrics"])
                .arg(&input)
                .arg(data(dir))
                .spawn()?;
            finished(process).await?;
        }
        Self::configured(dir, "global: {}\n", &[]).await
    }

    /// Starts a server that scrapes this address every second, and takes native histograms.
    pub async fn scraping(dir: &Path, address: SocketAddr) -> Result<Self> {
        let config = format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: one\n  \
             static_configs: [{{targets: [\"{address}\"]}}]\n"
        );
        Self::configured(dir, &config, &["--enable-feature=native-histograms"]).await
    }

    async fn configured(dir: &Path, config: &str, flags: &[&str]) -> Result<Self> {
        write_private(&dir.join("prometheus.yml"), config)?;
        let mut tries = 0;
        loop {
            tries += 1;
            match Self::try_start(dir, flags).await {
                Err(Error::NotReady { tail, .. })
                    if tries < TRIES && tail.contains("address already in use") => {}
                result => return result,
            }
        }
    }

    async fn try_start(dir: &Path, flags: &[&str]) -> Result<Self> {
        let port = port::free()?;
        let flag = |name: &str, path: &Path| format!("--{name}={}", path.display());
        let mut process = Spec::new("prometheus", "prometheus", dir.join("prometheus.log"))
            .arg(flag("config.file", &dir.join("prometheus.yml")))
            .arg(flag("storage.tsdb.path", &data(dir)))
            .arg("--storage.tsdb.retention.time=100y")
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(flags)
            .dir(dir)
            .stop_with("TERM", Duration::from_secs(10))
            .spawn()?;
        let ready = process.wait_until(READY, |_| {
            let answer = request(port, "GET", "/-/ready", "");
            Ok(answer.ok().filter(|(status, _)| *status == 200))
        });
        match ready.await {
            Ok(_) => Ok(Self { process, port }),
            Err(error) => Err(missing(&mut process).unwrap_or(error)),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Sends a form and returns the status and the body of the answer.
    pub fn post(&self, path: &str, form: &str) -> Result<(u16, Vec<u8>)> {
        request(self.port, "POST", path, form).map_err(|source| Error::System {
            doing: "ask Prometheus",
            source,
        })
    }

    /// Its version, such as `2.42.0`.
    pub fn version(&self) -> Result<String> {
        let asked = request(self.port, "GET", "/api/v1/status/buildinfo", "");
        let (_, body) = asked.map_err(|source| Error::System {
            doing: "ask Prometheus for its version",
            source,
        })?;
        let text = String::from_utf8_lossy(&body).into_owned();
        let version = text.split_once("\"version\":\"").map(|(_, rest)| rest);
        let version = version.and_then(|rest| rest.split('"').next());
        Ok(version.unwrap_or_default().to_owned())
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// The folder with the blocks.
fn data(dir: &Path) -> PathBuf {
    dir.join("data")
}

/// Waits for the end of a program that must succeed.
async fn finished(mut process: Process) -> Result<()> {
    // The end of a process is an error of the wait; what it means is in its status.
    let waited = process.wait_until(BACKFILL, |_| Ok(None::<()>)).await;
    match process.exited() {
        Some(status) if status.success() => Ok(()),
        Some(_) => match missing(&mut process) {
            Some(error) => Err(error),
            None => waited,
        },
        None => waited,
    }
}

/// 127: the shell's exit status for a missing program.
fn missing(process: &mut Process) -> Option<Error> {
    let code = process.exited().and_then(|status| status.code());
    (code == Some(127)).then(|| Error::Missing {
        program: "Prometheus".to_owned(),
        next: "apt-get install -y prometheus".to_owned(),
    })
}

/// One request by HTTP 1.0, whose answer ends with the connection.
pub(crate) fn request(
    port: u16,
    method: &str,
    path: &str,
    form: &str,
) -> std::io::Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(120)))?;
    let length = form.len();
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: localhost\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(form.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let malformed = || std::io::Error::new(std::io::ErrorKind::InvalidData, "no answer of HTTP");
    let end = end.ok_or_else(malformed)?;
    let head = String::from_utf8_lossy(&answer[..end]);
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((status.ok_or_else(malformed)?, answer.split_off(end + 4)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_knows_what_was_recorded_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let text = "# TYPE g gauge\ng{a=\"b\"} 7 1700000000\n# EOF\n".to_owned();
        let server = Prometheus::start(dir.path(), &[text]).await.unwrap();

        let form = "query=g&time=1700000001";
        let (status, body) = server.post("/api/v1/query", form).unwrap();

        assert_eq!(status, 200);
        let body = String::from_utf8(body).unwrap();
        assert!(body.contains(r#""value":[1700000001,"7"]"#), "{body}");
        assert!(server.version().unwrap().contains('.'));
        let address = server.address();
        drop(server);
        assert!(TcpStream::connect(address).is_err());
    }
}
