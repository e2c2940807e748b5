//! `fly.toml` to machine configurations, as flyctl does it. Knows no Kubernetes, does no I/O.
//!
//! [`parse`] reads the text into an [`AppConfig`] and finds everything that is wrong with it at
//! once. [`AppConfig::machine_config`] builds what is sent to Fly.io for one machine of a process
//! group. A configuration that has been parsed converts without an error.
//!
//! What differs from flyctl on purpose is listed in `docs/fly-toml.md`.

mod address;
mod config;
mod containers;
mod decode;
mod decode_service;
mod definition;
mod groups;
mod guest;
mod health;
mod machine;
mod problem;
mod reader;
mod render;
mod size;
#[cfg(test)]
mod tests;
mod tree;
mod validate;
mod validate_service;
mod words;

pub use address::IpKind;
pub use config::{
    AppConfig, Build, Deploy, Experimental, File, HttpCheck, HttpService, MachineTest, Metrics,
    Mount, Restart, Service, Static, Strategy, TcpCheck, TopLevelCheck, Vm,
};
pub use containers::ContainerError;
pub use definition::definition;
pub use groups::{APP, FirstMachines};
pub use guest::{DEFAULT_SIZE, GuestError, SIZES, check_limits, parse_size};
pub use health::HealthCheck;
pub use machine::{
    Context, ConversionError, PROCESS_GROUP_KEY, RELEASE_COMMAND_GROUP, Release, TEST_MACHINE_GROUP,
};
pub use problem::{Invalid, Problem, Severity};
pub use render::{Machines, first_deployment};
pub use size::{memory_mb, volume_gb};
pub use words::{SplitError, split};

/// A `fly.toml` that can be deployed.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// What it says.
    pub config: AppConfig,
    /// What is probably not meant as it is written, in the order of the file.
    pub warnings: Vec<Problem>,
}

/// Reads and checks a `fly.toml`.
///
/// On failure all problems are returned, warnings among them. Only an error of the TOML syntax
/// comes alone, because after it nothing is certain.
pub fn parse(text: &str) -> Result<Parsed, Invalid> {
    let reader = reader::Reader::new(text);
    let table = match tree::read(text) {
        Ok(table) => table,
        Err(error) => {
            reader.report_at(Severity::Error, error.at, "", error.message);
            let problems = reader.into_problems();
            return Err(Invalid { problems });
        }
    };
    let config = decode::app_config(&reader, &table);
    reader.begin_rules();
    validate::check(&config, &reader);
    let problems = reader.into_problems();
    if problems
        .iter()
        .any(|problem| problem.severity == Severity::Error)
    {
        return Err(Invalid { problems });
    }
    Ok(Parsed {
        config,
        warnings: problems,
    })
}
