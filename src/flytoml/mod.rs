//! Converts a `fly.toml` to machine configurations, as flyctl does.
//!
//! [`parse`] reads the text into an [`AppConfig`] and reports all problems at once.
//! [`AppConfig::machine_config`] builds the configuration that is sent to Fly.io for one machine of
//! a process group. A parsed configuration converts without an error.
//!
//! Intended differences from flyctl are listed in `docs/fly-toml.md`. Uses the types of `fly` only;
//! knows no Kubernetes and does no I/O. Start reading in `decode.rs` for reading and in
//! `machine.rs` for the conversion.

mod address;
mod config;
mod containers;
mod decode;
mod decode_service;
mod definition;
mod groups;
mod guest;
mod health;
mod keys;
mod machine;
mod problem;
mod reader;
mod render;
mod size;
mod stop;
#[cfg(test)]
mod tests;
mod text;
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
pub use problem::{Invalid, Problem, Severity, Topic, nearest};
pub use render::{Machines, first_deployment};
pub use size::{memory_mb, volume_gb};
pub use text::not_utf8;
pub use words::{SplitError, split};

/// A deployable `fly.toml`.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// Its contents.
    pub config: AppConfig,
    /// Warnings, in the order of the file.
    pub warnings: Vec<Problem>,
    /// Where `app` and `primary_region` stand: line and column.
    places: [Option<(usize, usize)>; 2],
}

impl Parsed {
    /// Sets app and region, which take precedence as flyctl's `-a` and `--primary-region` do, and
    /// warns where the file says something else.
    pub fn bind(&mut self, app: &str, region: &str) {
        let config = &self.config;
        let bound = [
            ("app", "app", app, &config.app),
            ("primary_region", "region", region, &config.primary_region),
        ];
        let mut found = Vec::new();
        for ((key, field, given, theirs), place) in bound.into_iter().zip(self.places) {
            if let Some(other) = theirs.as_deref().filter(|theirs| *theirs != given) {
                let (line, column) = place.unwrap_or((1, 1));
                found.push(Problem {
                    severity: Severity::Warning,
                    topic: Topic::Value,
                    line,
                    column,
                    key: key.to_owned(),
                    message: format!(
                        "{other} has no effect: the Activation's `{field}` counts, which is {given}"
                    ),
                });
            }
        }
        self.config.bind(app, region);
        self.warnings.extend(found);
        self.warnings
            .sort_by_key(|problem| (problem.line, problem.column));
    }
}

/// Parses and validates a `fly.toml`.
///
/// On failure all problems are returned, including warnings. A TOML syntax error is returned alone,
/// because the rest of the text cannot be read.
pub fn parse(text: &str) -> Result<Parsed, Invalid> {
    let text = text::without_bom(text);
    let reader = reader::Reader::new(text);
    let table = match tree::read(text) {
        Ok(table) => table,
        Err(error) => {
            reader.report_at(Severity::Error, Topic::Value, error.at, "", error.message);
            let problems = reader.into_problems();
            return Err(Invalid { problems });
        }
    };
    let config = decode::app_config(&reader, &table);
    reader.begin_rules();
    validate::check(&config, &reader);
    let places = ["app", "primary_region"].map(|key| reader.position_of(key));
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
        places,
    })
}
