//! Runs the flyctl that the variable `FLYCTL` names, with nothing of this machine but `PATH`.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use fly_sim::Sim;
use tokio::process::Command;

/// Longest time of one command.
const LIMIT: Duration = Duration::from_secs(180);

/// A flyctl with a directory and a token.
pub struct Flyctl {
    program: PathBuf,
    token: String,
    /// Where it runs.
    pub dir: PathBuf,
}

/// How one command ended.
pub struct Outcome {
    /// Whether its exit code is 0.
    pub passed: bool,
    /// All that it printed.
    pub output: String,
    /// How long it took.
    pub took: Duration,
}

impl Flyctl {
    /// The flyctl of `FLYCTL`, for the first organization of a simulator.
    pub fn new(sim: &Sim) -> Self {
        let program = std::env::var_os("FLYCTL").expect("FLYCTL names the flyctl to run");
        let dir = sim.dir().join("work");
        std::fs::create_dir_all(&dir).unwrap();
        Self {
            program: std::path::absolute(program).unwrap(),
            token: sim.org_token().unwrap(),
            dir,
        }
    }

    /// Runs one command to its end.
    pub async fn run(&self, sim: &Sim, words: Vec<String>) -> Outcome {
        let started = Instant::now();
        let base = sim.base_url();
        let mut command = Command::new(&self.program);
        command
            .args(words)
            .current_dir(&self.dir)
            .env_clear()
            .env("PATH", std::env::var("PATH").unwrap_or_default())
            .env("HOME", &self.dir)
            .env("FLY_API_BASE_URL", &base)
            .env("FLY_FLAPS_BASE_URL", &base)
            .env("FLY_UIEX_BASE_URL", &base)
            .env("FLY_REGISTRY_HOST", base.trim_start_matches("http://"))
            .env("FLY_ACCESS_TOKEN", &self.token)
            .env("FLY_CONFIG_DIR", sim.core().flyctl_dir())
            .env("FLY_SEND_METRICS", "0")
            .env("FLY_NO_UPDATE_CHECK", "1")
            .env("FLY_NO_INCIDENTS_CHECK", "1")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let (passed, output) = match tokio::time::timeout(LIMIT, command.output()).await {
            Ok(done) => {
                let done = done.expect("FLYCTL names a program that runs");
                let text = [done.stdout, done.stderr].concat();
                let text = String::from_utf8_lossy(&text).into_owned();
                (done.status.success(), text)
            }
            Err(_) => (false, format!("not done after {LIMIT:?}")),
        };
        Outcome {
            passed,
            output,
            took: started.elapsed(),
        }
    }
}
