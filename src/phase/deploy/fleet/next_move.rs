//! One move of a rollout. Plain data.

use std::{fmt, time::Duration};

use super::{readback::Difference, wanted::WantedMachine};
use crate::fly::Machine;

/// What has to happen next.
#[derive(Clone, Debug, PartialEq)]
pub enum Move {
    /// Nothing: every machine runs what it should.
    Nothing,
    /// Create these machines, all at once.
    Create(Vec<WantedMachine>),
    /// Update these machines, all at once: the machine, and what it should be.
    Update(Vec<(Machine, WantedMachine)>),
    /// Start these machines, which have the right configuration and do not run.
    Start(Vec<Machine>),
    /// Put these machines into the proxy's pool.
    Uncordon(Vec<Machine>),
    /// Take these machines out of the proxy's pool; they keep running.
    Cordon(Vec<Machine>),
    /// Stop these machines gracefully.
    Stop(Vec<Machine>),
    /// Destroy these machines, which are no longer wanted.
    Destroy(Vec<Machine>),
    /// Change nothing before the settling machines are healthy.
    Settle,
    /// Change nothing for this long, because the proxies are learning where the traffic goes.
    Pause(Duration),
    /// Change nothing before these machines have stopped.
    Await(Vec<Machine>),
}

impl Move {
    /// Whether it changes anything at Fly.io.
    pub fn changes(&self) -> bool {
        !matches!(
            self,
            Self::Nothing | Self::Settle | Self::Pause(_) | Self::Await(_)
        )
    }

    /// Ids of the existing machines that it changes.
    pub fn machine_ids(&self) -> Vec<String> {
        match self {
            Self::Update(pairs) => pairs.iter().map(|(m, _)| m.id.clone()).collect(),
            Self::Start(of)
            | Self::Uncordon(of)
            | Self::Cordon(of)
            | Self::Stop(of)
            | Self::Destroy(of) => of.iter().map(|m| m.id.clone()).collect(),
            Self::Nothing | Self::Create(_) | Self::Settle | Self::Pause(_) | Self::Await(_) => {
                Vec::new()
            }
        }
    }
}

/// The next move, and the machines whose health it waits for.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The move.
    pub next: Move,
    /// Slots of machines that were given the new configuration and are not healthy yet. One that
    /// has failed for certain stops the rollout.
    pub settling: Vec<String>,
}

impl Plan {
    /// A move that waits for no machine's health.
    pub fn of(next: Move) -> Self {
        Self {
            next,
            settling: Vec::new(),
        }
    }
}

/// A machine that is not as it was made.
#[derive(Clone, Debug, PartialEq)]
pub struct MachineDrift {
    /// Its name.
    pub name: String,
    /// The fields that differ.
    pub differences: Vec<Difference>,
}

/// Most fields of one machine that are named.
const MOST_FIELDS: usize = 8;

impl fmt::Display for MachineDrift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = self.differences.iter().take(MOST_FIELDS);
        let named: Vec<String> = named.map(ToString::to_string).collect();
        write!(f, "{}: {}", self.name, named.join(", "))?;
        match self.differences.len().saturating_sub(MOST_FIELDS) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}
