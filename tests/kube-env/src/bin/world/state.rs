//! What a world consists of right now, as its supervisor writes it down for the others.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kube_env::process::Identity;
use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::place::Place;

/// One running part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Part {
    /// For example `postgres`.
    pub name: String,
    /// The guard of its process.
    pub identity: Identity,
    /// What it prints.
    pub log: PathBuf,
    /// How it ended, if it did so by itself.
    pub ended: Option<String>,
}

/// The whole world.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    /// The process that holds all others.
    pub supervisor: Identity,
    /// What has been done so far, for whoever waits.
    pub progress: Vec<String>,
    /// Whether everything is up.
    pub ready: bool,
    /// Why it could not start.
    pub failure: Option<String>,
    /// The parts, in the order of their start.
    pub parts: Vec<Part>,
    /// The variables of the env file.
    pub env: BTreeMap<String, String>,
    /// Whether the cluster is the reader's own.
    pub own_cluster: bool,
    /// How often it was tried to start the operator again.
    #[serde(default)]
    pub restarts: u32,
}

impl Part {
    /// Name of the part that can be started again: it keeps nothing.
    pub const OPERATOR: &str = "operator";

    /// Name of the part that stands in for Meta, Mercado Pago and the channels.
    pub const VENDORS: &str = "vendors";

    /// How it ended, for a sentence.
    pub fn how(&self) -> String {
        let how = self.ended.as_ref();
        how.map(|how| format!(" ({how})")).unwrap_or_default()
    }
}

impl State {
    /// Of a world that has just begun to start.
    pub fn new(supervisor: Identity, own_cluster: bool) -> Self {
        Self {
            supervisor,
            progress: Vec::new(),
            ready: false,
            failure: None,
            parts: Vec::new(),
            env: BTreeMap::new(),
            own_cluster,
            restarts: 0,
        }
    }

    /// As written; `None` if there is none, or none that this version of the program can read.
    pub fn read(place: &Place) -> Option<Self> {
        let text = std::fs::read_to_string(place.state_file()).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// The parts that have ended by themselves.
    pub fn ended(&self) -> Vec<&Part> {
        let parts = self.parts.iter();
        parts.filter(|part| !part.identity.is_alive()).collect()
    }

    /// Whether its supervisor still runs.
    pub fn is_alive(&self) -> bool {
        self.supervisor.is_alive()
    }

    /// Writes it down; readers see the old one or the new one, never half of it.
    pub fn write(&self, place: &Place) -> Result<(), Fault> {
        let path = place.state_file();
        let part = path.with_extension("part");
        serde_json::to_vec_pretty(self)
            .map_err(std::io::Error::from)
            .and_then(|text| std::fs::write(&part, text))
            .and_then(|()| std::fs::rename(&part, &path))
            .map_err(|source| Fault::because(format!("cannot write {}", path.display()), source))
    }
}

/// Reads `export KEY=VALUE` lines, with or without `export` and single or double quotes.
pub fn parse_env(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| {
            let line = line.trim();
            let line = line.strip_prefix("export ").unwrap_or(line);
            let (key, value) = line.split_once('=')?;
            let plain =
                !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            let value = ['\'', '"']
                .iter()
                .find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote))
                .unwrap_or(value);
            plain.then(|| (key.to_owned(), value.to_owned()))
        })
        .collect()
}

/// The text of an env file, to be sourced by a shell.
pub fn render_env(env: &BTreeMap<String, String>) -> String {
    env.iter()
        .map(|(key, value)| format!("export {key}='{}'\n", value.replace('\'', r"'\''")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_rendered_is_read_back() {
        let env = parse_env("# no\nexport A=1\nB='two words'\nexport C=\"x=y\"\n\n1 D\n");
        assert_eq!(env["A"], "1");
        assert_eq!(env["B"], "two words");
        assert_eq!(env["C"], "x=y");
        assert_eq!(env.len(), 3);
        assert_eq!(parse_env(&render_env(&env)), env);
    }
}
