//! A real PostgreSQL server on loopback, with its own data directory, which is removed with it.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{Uid, User, chown};

use crate::process::{Process, Spec};
use crate::{Error, Result, port, random};

const READY: Duration = Duration::from_secs(60);

/// Attempts, each with another port, in case the chosen one is taken in the meantime.
const TRIES: usize = 5;

/// A running PostgreSQL server; ends when dropped, or with us.
///
/// It listens on 127.0.0.1 and asks every client for its password (SCRAM). Its data is not
/// synced to the disk: it never outlives the server.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    port: u16,
    password: String,
    socket_dir: PathBuf,
}

impl Postgres {
    /// Starts a server with an empty cluster; its output goes to `postgres.log` in `dir`.
    ///
    /// PostgreSQL refuses to run as root: then it runs as the user `postgres` that its Debian
    /// package makes. Since that user may not be able to reach `dir`, data and socket are in a
    /// directory of their own under the system's directory for temporary files.
    pub async fn start(dir: &Path) -> Result<Self> {
        let bin = bin_dir()?;
        let user = unprivileged_user()?;
        let log = dir.join("postgres.log");
        let mut tries = 0;
        loop {
            tries += 1;
            match Self::try_start(&bin, &log, user).await {
                Err(Error::NotReady { tail, .. })
                    if tries < TRIES && tail.contains("Address already in use") => {}
                result => return result,
            }
        }
    }

    async fn try_start(bin: &Path, log: &Path, user: Option<(u32, u32)>) -> Result<Self> {
        let home = private_dir(user)?;
        let result = Self::start_in(bin, log, user, &home).await;
        if result.is_err() {
            // The guard of a started server removes it too; without a server nobody else does.
            let _ = std::fs::remove_dir_all(&home);
        }
        result
    }

    async fn start_in(
        bin: &Path,
        log: &Path,
        user: Option<(u32, u32)>,
        home: &Path,
    ) -> Result<Self> {
        let password = random::hex(16)?;
        let password_file = home.join("password");
        std::fs::write(&password_file, &password).map_err(Error::file("write", &password_file))?;
        give(&password_file, user)?;
        let data = home.join("data");
        let port = port::free()?;

        // `initdb` is quick but not instant: it must not outlive us either.
        let mut initdb = as_user(Spec::new("initdb", bin.join("initdb"), log), user)
            .args([
                "--no-sync",
                "--no-instructions",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
            ])
            .args(["--username=postgres", "--auth-local=trust"])
            .arg("--auth-host=scram-sha-256")
            .arg(format!("--pwfile={}", password_file.display()))
            .arg(format!("--pgdata={}", data.display()))
            .dir(home)
            .spawn()?;
        let status = loop {
            if let Some(status) = initdb.exited() {
                break status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        if !status.success() {
            return Err(initdb.not_ready(format!("ended with {status}")));
        }

        // Fast shutdown (SIGINT): ends sessions instead of waiting for them.
        let mut process = as_user(Spec::new("postgres", bin.join("postgres"), log), user)
            .arg("-D")
            .arg(&data)
            .arg("-p")
            .arg(port.to_string())
            .args(["-c", "listen_addresses=127.0.0.1"])
            .arg("-c")
            .arg(format!("unix_socket_directories={}", home.display()))
            .args([
                "-c",
                "fsync=off",
                "-c",
                "synchronous_commit=off",
                "-c",
                "full_page_writes=off",
            ])
            .args(["-c", "max_connections=500", "-c", "shared_buffers=32MB"])
            .dir(home)
            .stop_with("INT", Duration::from_secs(10))
            .remove_on_exit(home)
            .spawn()?;

        // The last line of this file is how `pg_ctl --wait` knows, too.
        let pid_file = data.join("postmaster.pid");
        process
            .wait_until(READY, |_| {
                let ready = std::fs::read_to_string(&pid_file)
                    .is_ok_and(|text| text.lines().nth(7).is_some_and(|l| l.trim() == "ready"));
                Ok(ready.then_some(()))
            })
            .await?;
        Ok(Self {
            process,
            port,
            password,
            socket_dir: home.to_owned(),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Password of the superuser `postgres`.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Directory of its Unix socket, where the superuser needs no password.
    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// Connection string of the superuser, with the password, for the database `postgres`.
    pub fn url(&self) -> String {
        let (password, port) = (&self.password, self.port);
        format!("postgres://postgres:{password}@127.0.0.1:{port}/postgres?sslmode=disable")
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

fn as_user(spec: Spec, user: Option<(u32, u32)>) -> Spec {
    // A developer's settings for another server must not apply here.
    let spec = ["PGDATA", "PGPORT", "PGHOST", "PGUSER", "PGPASSWORD"]
        .into_iter()
        .fold(spec, Spec::env_remove);
    match user {
        Some((uid, gid)) => spec.user(uid, gid),
        None => spec,
    }
}

/// The newest PostgreSQL of Debian's packages, else what the search path has.
fn bin_dir() -> Result<PathBuf> {
    let packaged = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version: u32 = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .filter(|(_, bin)| bin.join("initdb").exists())
        .max();
    if let Some((_, bin)) = packaged {
        return Ok(bin);
    }
    std::env::var_os("PATH")
        .iter()
        .flat_map(std::env::split_paths)
        .find(|dir| dir.join("initdb").exists() && dir.join("postgres").exists())
        .ok_or_else(|| Error::Missing {
            program: "PostgreSQL".to_owned(),
            next: "apt-get install -y postgresql".to_owned(),
        })
}

/// `None`: as we are. As root: the user that Debian's package makes.
fn unprivileged_user() -> Result<Option<(u32, u32)>> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    match User::from_name("postgres") {
        Ok(Some(user)) => Ok(Some((user.uid.as_raw(), user.gid.as_raw()))),
        Ok(None) => Err(Error::Missing {
            program: "the user postgres, as whom PostgreSQL runs when we are root,".to_owned(),
            next: "apt-get install -y postgresql".to_owned(),
        }),
        Err(errno) => Err(Error::System {
            doing: "look up the user postgres",
            source: errno.into(),
        }),
    }
}

fn private_dir(user: Option<(u32, u32)>) -> Result<PathBuf> {
    let dir = tempfile::Builder::new()
        .prefix("golive-postgres-")
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempdir()
        .map_err(Error::file("create a directory in", std::env::temp_dir()))?;
    give(dir.path(), user)?;
    Ok(dir.keep())
}

fn give(path: &Path, user: Option<(u32, u32)>) -> Result<()> {
    let Some((uid, gid)) = user else {
        return Ok(());
    };
    chown(path, Some(uid.into()), Some(gid.into()))
        .map_err(|errno| Error::file("change the owner of", path)(errno.into()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use std::process::Command;

    fn psql(server: &Postgres, password: &str) -> std::process::Output {
        Command::new(bin_dir().unwrap().join("psql"))
            .args(["-h", "127.0.0.1", "-U", "postgres", "-tAc", "select 6 * 7"])
            .arg("-p")
            .arg(server.port.to_string())
            .env("PGPASSWORD", password)
            .output()
            .unwrap()
    }

    #[tokio::test]
    async fn it_answers_asks_for_the_password_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let server = Postgres::start(dir.path()).await.unwrap();

        let right = psql(&server, server.password());
        let wrong = psql(&server, "wrong");

        assert_eq!(String::from_utf8_lossy(&right.stdout).trim(), "42");
        assert!(!wrong.status.success());
        let (home, address) = (server.socket_dir().to_owned(), server.address());
        drop(server);
        assert!(!home.exists());
        assert!(std::net::TcpStream::connect(address).is_err());
    }
}
